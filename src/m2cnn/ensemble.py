"""Joining runs that are trained already: an ensemble of seeds or systems, or one model that looks at both eyes.

OUT/manifest.csv photographs.npy    those of the runs
OUT/features/                       what the members say of the photographs that the combiner is fitted on
OUT/bundle/ OUT/val/ OUT/test/      the model; its predictions and metrics
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from m2cnn.bundle import KNOWN, Bundle, load_bundle
from m2cnn.combine import Combiner
from m2cnn.data.known import Known, read_known
from m2cnn.data.manifest import Manifest, read_manifest, write_manifest
from m2cnn.data.opening import complete
from m2cnn.data.terms import Terms
from m2cnn.errors import SettingError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.export import Origin
from m2cnn.join import join
from m2cnn.lock import LOCK, alone
from m2cnn.tables import write_atomically
from m2cnn.train import FEATURES, MANIFEST, PICTURES, RUN


def combine_runs(
    runs: Sequence[str | Path],
    combiner: Combiner,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    images: str | Path | None = None,
    seed: int = 0,
) -> Bundle:
    """Fit a combiner on finished runs of one manifest and one split; evaluate it; the same call goes on where it
    stopped.

    images: where the photographs lie now, if they moved.
    Raises SettingError for no run, runs of other photographs or splits, runs that are joined already, and an `out` that
    holds anything else or in which another process works.
    """
    folders = [Path(run) for run in runs]
    manifest = _one_manifest(folders, images)
    members = _members(folders)
    out = Path(out)
    with alone(out):
        _refuse_other(out, manifest)
        write_manifest(manifest, out / MANIFEST)
        known = reduce(Known.joined, (read_known(folder / KNOWN) for folder in folders)).to_bytes()
        write_atomically(out / KNOWN, known)
        return _combined(members, combiner, manifest, out, known, cache or out / PICTURES, seed)


def _combined(
    members: dict[str, Bundle],
    combiner: Combiner,
    manifest: Manifest,
    out: Path,
    known: bytes,
    cache: str | Path,
    seed: int,
) -> Bundle:
    first = next(iter(members.values()))
    facts = first.settings["training"] | {"runs": {name: bundle.hash for name, bundle in members.items()}}
    names = sorted({bundle.system for bundle in members.values()})
    source = f"{combiner.name} of {', '.join(members)}: ours"
    terms = reduce(Terms.joined, (bundle.terms for bundle in members.values()))
    bundle = join(
        members,
        combiner,
        manifest,
        out / "bundle",
        Origin("+".join([*names, combiner.name]), source, facts, known, terms),
        features=out / FEATURES,
        cache=cache,
        seed=seed,
    )
    for split in ("val", "test"):
        if any(row.split == split and row.grade is not None for row in manifest):
            evaluate(bundle.folder, manifest, out / split, Selection((split,)))
    return bundle


def _refuse_other(out: Path, manifest: Manifest) -> None:
    """Nothing is written over but what the same call wrote."""
    held = {path.name for path in out.iterdir()} - {LOCK}
    if held and (RUN in held or MANIFEST not in held or read_manifest(out / MANIFEST).digest() != manifest.digest()):
        got = "the folder holds something else than these runs joined"
        raise SettingError(out, got, "a new folder, or that of the same call")


def _one_manifest(folders: Sequence[Path], images: str | Path | None) -> Manifest:
    if not folders:
        raise SettingError("combine", "no run", "one run or more", "m2cnn train makes one.")
    for folder in folders:
        if not (folder / RUN).is_file():
            raise SettingError(folder, "no finished run (run.json is missing)", "the folder of a run")
    root = json.loads((folders[0] / RUN).read_text(encoding="utf-8"))["images_root"]
    manifests = [complete(read_manifest(folder / MANIFEST, images or root)) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.digest() != manifests[0].digest():
            got = f"other photographs, grades or splits than {folders[0]}"
            repair = "Train them on one manifest whose split is written (m2cnn data split), or with the same [split]."
            raise SettingError(folder, got, "runs of one manifest", repair)
    return manifests[0]


def _members(folders: Sequence[Path]) -> dict[str, Bundle]:
    """The runs' bundles, by the name of their folder."""
    members: dict[str, Bundle] = {}
    for folder in folders:
        bundle, name = load_bundle(folder), folder.resolve().name
        if bundle.members:
            raise SettingError(folder, "a system that is joined already", "runs of one member each")
        if name in members:
            raise SettingError(folder, f'a second run named "{name}"', "runs with names of their own")
        members[name] = bundle
    return members
