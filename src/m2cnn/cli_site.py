"""`m2cnn site`: a clinic's photographs measured and reported; `m2cnn reference`: what a model learned from is like."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from m2cnn.cli_verb import OK, images_option, prevalence_option, prevalences, replicates_option, typed
from m2cnn.grades import DISCLAIMER

if TYPE_CHECKING:
    from m2cnn.bundle import Bundle
    from m2cnn.data import Manifest


def site_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("data", metavar="DATA", help="the clinic's photographs with grades: as for train --data")
    one.add_argument("--images", help="folder that the CSV's paths start from")
    one.add_argument("--model", required=True, help="bundle, run folder or packaged model")
    one.add_argument("--out", required=True, help="folder for everything")
    one.add_argument("--name", default="site", help="of the clinic, in what is shared (default: site)")
    one.add_argument("--groups", metavar="CSV", help="image or patient, and columns such as camera or age")
    prevalence_option(one)
    one.add_argument("--no-pictures", action="store_true", help="no photograph in the pages")
    replicates_option(one)
    one.add_argument("--workers", type=int, default=2, help="processes that look at photographs (default: 2)")


def site(options: argparse.Namespace) -> int:
    from m2cnn.profile.comparison import differences
    from m2cnn.profile.findings import findings
    from m2cnn.site import NO_DRIFT, PHOTOGRAPHS, SHAREABLE, TOO_FEW, validate_site
    from m2cnn.summary import to_text

    found = validate_site(
        options.data,
        options.model,
        options.out,
        name=options.name,
        images=options.images,
        groups=options.groups,
        prevalence=prevalences(options.prevalence),
        replicates=options.replicates,
        pictures=not options.no_pictures,
        workers=options.workers,
        command=typed(),
    )
    print(to_text(found.study.summary))
    for line in findings(found.found):
        print(f"- {line}")
    told = differences(found.drift) if found.drift else [NO_DRIFT]
    for line in told if found.drift is None or found.drift.contrasts else [TOO_FEW]:
        print(f"- {line}")
    if found.left_out:
        print(f"- {found.left_out} photographs were known to the model and are left out.")
    names = ("report.html", "report.pdf", PHOTOGRAPHS, SHAREABLE)
    print("\n".join([*(str(Path(options.out) / name) for name in names), DISCLAIMER]))
    return OK


def reference_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", help="bundle or run folder")
    one.add_argument("--data", required=True, help="what it was trained on, with its splits: the run folder itself")
    images_option(one)
    one.add_argument("--cache", help="folder that remembers what was seen of photographs")
    one.add_argument("--workers", type=int, default=2, help="processes that look at photographs (default: 2)")


def reference(options: argparse.Namespace) -> int:
    from m2cnn.bundle import load_bundle
    from m2cnn.data.opening import open_data
    from m2cnn.data.survey import remembering
    from m2cnn.errors import DataError

    bundle, manifest = load_bundle(options.model), open_data(options.data, options.images)
    if manifest.digest() != bundle.settings["training"]["manifest"]:
        got = "another manifest than the model was trained on"
        raise DataError(options.data, got, "that of its run, unchanged", "Name the run folder.")
    with remembering(options.cache) as memory:
        keep_reference(bundle, manifest, memory, options.workers)
    return OK


def keep_reference(bundle: Bundle, manifest: Manifest, memory: str | Path, workers: int = 2) -> None:
    """Write what a model learned from is like beside it, and say where. manifest: of its training."""
    from m2cnn.profile.reference import make_reference, write_reference

    found = make_reference(manifest, bundle.system, memory, workers)
    print(f"{write_reference(bundle.folder, found)}: {len(found)} of {found.photographs} photographs")
