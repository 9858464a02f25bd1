"""The verbs of `m2cnn data`: one short function each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from m2cnn.cli_verb import OK, UNGRADED, images_option, verb
from m2cnn.errors import SettingError
from m2cnn.grades import DISCLAIMER
from m2cnn.tables import new_file

if TYPE_CHECKING:
    from m2cnn.data import Manifest
    from m2cnn.data.guard import Guarded


def data_options(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(required=True, metavar="VERB")
    imports = verb(verbs, "import", data_import, "write the manifest of a dataset")
    imports.add_argument("name", help="one of the datasets below")
    imports.add_argument("folder", help="the dataset's folder; for table also the CSV, for retinamnist the .npz")
    imports.set_defaults(settings=[])
    imports.formatter_class = argparse.RawDescriptionHelpFormatter
    imports.format_help = lambda: _import_help(imports)
    imports.add_argument("--out", help="manifest CSV to write (default: manifest.csv beside the photographs)")
    merges = verb(verbs, "merge", data_merge, "several sets as one manifest")
    merges.add_argument("data", nargs="+", metavar="DATA", help="as for train --data")
    merges.add_argument("--images", nargs="+", default=[], help="folder that a manifest's paths start from, per set")
    merges.add_argument("--out", required=True, help="manifest CSV to write")
    _split_options(verb(verbs, "split", data_split, "assign splits by patient, the lockbox first"))
    _kfold_options(verb(verbs, "kfold", data_kfold, "k manifests by patient, the lockbox first; each fold is val once"))
    _check_options(
        verb(verbs, "check", data_check, "is every file there and unchanged, and does no photograph stand twice")
    )
    _prepare_options(
        verb(verbs, "prepare", data_prepare, "decode once: photographs cropped to their field, made small")
    )
    box = verb(verbs, "open-lockbox", data_open_lockbox, "open the lockbox; that it was opened is recorded for good")
    box.add_argument("manifest")
    box.add_argument("--by", required=True, help="who opens it")
    box.add_argument("--reason", required=True, help="why: both are recorded for good")
    _render_options(verb(verbs, "render", data_render, "render synthetic photographs with their manifest"))
    _profile_options(verb(verbs, "profile", data_profile, "write a page: what a set is like, or how two differ"))


def _split_options(split: argparse.ArgumentParser) -> None:
    _data_to_split(split)
    split.add_argument("--train", type=float, default=0.8, help="share of the other patients (default: 0.8)")
    split.add_argument("--val", type=float, default=0.1, help="share of the other patients (default: 0.1)")
    split.add_argument("--test", type=float, default=0.1, help="share of the other patients (default: 0.1)")
    split.add_argument("--lockbox", type=float, default=0.1, help="share of patients set aside first (default: 0.1)")
    split.add_argument("--seed", type=int, default=0, help="other numbers deal otherwise (default: 0)")
    split.add_argument("--out", help="manifest CSV to write (default: in place)")
    split.add_argument("--cache", help="folder that remembers what was seen of photographs")


def _kfold_options(folds: argparse.ArgumentParser) -> None:
    _data_to_split(folds)
    folds.add_argument("--k", type=int, default=5, help="number of folds (default: 5)")
    folds.add_argument("--out", required=True, help="folder for fold-1.csv, fold-2.csv, ...")
    folds.add_argument("--lockbox", type=float, default=0.1, help="share of patients set aside first (default: 0.1)")
    folds.add_argument("--seed", type=int, default=0, help="other numbers deal otherwise (default: 0)")
    folds.add_argument("--cache", help="folder that remembers what was seen of photographs")


def _data_to_split(one: argparse.ArgumentParser) -> None:
    one.add_argument("manifest", help="manifest CSV, NAME:FOLDER, or the folder of a known dataset")
    images_option(one)


def _check_options(check: argparse.ArgumentParser) -> None:
    check.add_argument("manifest", help="manifest CSV, run folder, NAME:FOLDER, or the folder of a known dataset")
    images_option(check)
    check.add_argument("--out", default="check", help="folder for twins.csv and twins.jpg (default: check)")
    check.add_argument("--cache", help="folder that remembers what was seen of photographs (default: the --out folder)")
    check.add_argument("--without-leaks", metavar="FILE", help="write a manifest whose training stands nowhere else")
    check.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def _render_options(render: argparse.ArgumentParser) -> None:
    render.add_argument("folder", help="folder to write; behind it KEY=SHARE, see below")
    render.add_argument("--patients", type=int, default=100, help="number of patients, two eyes each (default: 100)")
    render.add_argument("--size", type=int, default=720, help="px of the square photographs (default: 720)")
    render.add_argument("--seed", type=int, default=0, help="other photographs for each (default: 0)")
    render.add_argument("--no-lesions", action="store_true", help="the same photographs without lesions")
    render.add_argument("--masks", action="store_true", help="also masks/KIND/NAME.png, white where a lesion is drawn")
    render.add_argument("--fields", type=int, default=1, help="photographs of each eye: 1, or 2 (second at the disc)")
    render.add_argument("--cameras", help="comma-separated; default: all (eyepacs,idrid,handheld)")
    render.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    render.set_defaults(settings=[])
    render.epilog = "KEY=SHARE sets how often a nuisance comes: laser=0 drusen=0.2 flare=1. " + DISCLAIMER


def _profile_options(profile: argparse.ArgumentParser) -> None:
    profile.add_argument("data", nargs="+", metavar="DATA", help="one set, or two to compare; as for train --data")
    profile.add_argument("--out", required=True, metavar="PAGE.html")
    profile.add_argument("--images", nargs="+", default=[], help="folder that a manifest's paths start from, per set")
    profile.add_argument("--cache", help="folder that remembers what was seen (default: .m2cnn-cache beside the page)")
    profile.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    profile.add_argument("--no-pictures", action="store_true", help="no thumbnails; row numbers in place of names")


def _import_help(one: argparse.ArgumentParser) -> str:
    """The help of `data import`: the datasets come from IMPORTERS, which only this page needs to load."""
    from m2cnn.data import IMPORTERS
    from m2cnn.data.importers import options_of

    lines = []
    for name, importer in IMPORTERS.items():
        options = "".join(f" {option}=" for option in options_of(name))
        about = (("known by ", importer.layout), ("terms: ", importer.terms), ("options", options))
        lines += [f"  {name:<12} {importer.title}", *(f"{'':<15}{what}{text}" for what, text in about if text)]
    one.epilog = "\n".join(["datasets:", *lines, "", "Options stand behind the folder as KEY=VALUE.", DISCLAIMER])
    return argparse.ArgumentParser.format_help(one)


def data_import(options: argparse.Namespace) -> None:
    from m2cnn.data import import_dataset, write_manifest

    pairs = dict(text.partition("=")[::2] for text in options.settings)
    folder = Path(options.folder)
    if folder.is_file():
        pairs, folder = {"npz" if folder.suffix == ".npz" else "csv": folder} | pairs, folder.parent
    if taken := {"name", "folder"} & pairs.keys():
        raise SettingError("data import", f'option "{taken.pop()}"', "a column, such as image=FILE_COLUMN")
    imported = import_dataset(options.name, folder, **pairs)
    out = new_file(Path(options.out) if options.out else imported.manifest.root / "manifest.csv")
    write_manifest(imported.manifest, out)
    print("\n".join(imported.notes))
    print(f"{out}: {len(imported.manifest)} photographs{_elsewhere(out, imported.manifest.root)}")


def data_merge(options: argparse.Namespace) -> None:
    from m2cnn.data import open_data, write_manifest
    from m2cnn.data.merge import merge

    roots = options.images or [None] * len(options.data)
    if len(roots) != len(options.data):
        raise SettingError("--images", f"{len(roots)} for {len(options.data)} sets", "one folder for each set, or none")
    merged = merge([open_data(spec, root) for spec, root in zip(options.data, roots, strict=True)])
    out = new_file(Path(options.out))
    write_manifest(merged, out)
    print(f"{out}: {len(merged)} photographs{_elsewhere(out, merged.root)}")


def _elsewhere(out: Path, root: Path) -> str:
    """How to use a manifest that does not lie beside its photographs."""
    return "" if out.parent.resolve() == root.resolve() else f"; use it with --images {root}"


def data_split(options: argparse.Namespace) -> None:
    from m2cnn.data import assign_splits, open_data, write_manifest

    proportions = {name: getattr(options, name) for name in ("train", "val", "test")}
    manifest = open_data(options.manifest, options.images)
    out = new_file(Path(options.out)) if options.out else _in_place(options.manifest)
    # What is refused without a look at the photographs, at once.
    assign_splits(manifest, proportions, options.seed, options.lockbox)
    guarded = _guarded(manifest, options, out.with_name(out.stem + "-leaks"))
    manifest = assign_splits(guarded.manifest, proportions, options.seed, options.lockbox, guarded.twins)
    write_manifest(manifest, out)
    for name in ("train", "val", "test", "lockbox"):
        rows = [row for row in manifest if row.split == name]
        print(f"{name}: {len(rows)} photographs of {len({row.patient for row in rows})} patients")
    print(f"{out}{_elsewhere(out, manifest.root)}")


def _in_place(data: str) -> Path:
    """The CSV that a set's splits are written into. Raises SettingError for a set that has none yet."""
    path = Path(data) / "manifest.csv" if Path(data).is_dir() else Path(data)
    if not path.is_file():
        raise SettingError("data split", f"{data} has no manifest", "--out FILE", "Name the manifest to write.")
    return path


def _guarded(manifest: Manifest, options: argparse.Namespace, report: Path) -> Guarded:
    """The manifest with the photographs in it that are the same, and so belong on one side."""
    from m2cnn.data.guard import guard
    from m2cnn.data.survey import refuse_changed, remembering

    with remembering(options.cache) as memory:
        guarded = guard(manifest, memory, report)
    refuse_changed(guarded.seen)
    return guarded


def data_kfold(options: argparse.Namespace) -> None:
    from m2cnn.data import kfold, open_data, write_manifest
    from m2cnn.data.manifest import manifest_bytes

    manifest = open_data(options.manifest, options.images)
    kfold(manifest, options.k, options.seed, options.lockbox)
    guarded = _guarded(manifest, options, Path(options.out) / "leaks")
    folds = kfold(guarded.manifest, options.k, options.seed, options.lockbox, guarded.twins)
    paths = [Path(options.out) / f"fold-{number}.csv" for number in range(1, len(folds) + 1)]
    for path, fold in zip(paths, folds, strict=True):
        if not (path.is_file() and path.read_bytes() == manifest_bytes(fold)):  # of a call that was killed
            new_file(path)
    for path, fold in zip(paths, folds, strict=True):
        write_manifest(fold, path)
        held = [row for row in fold if row.split == "val"]
        patients = len({row.patient for row in held})
        print(f"{path}: val has {len(held)} photographs of {patients} patients{_elsewhere(path, fold.root)}")


def data_check(options: argparse.Namespace) -> int:
    from m2cnn.data import check_sides, write_manifest
    from m2cnn.data.guard import guard
    from m2cnn.data.leaks import across_splits
    from m2cnn.data.manifest import missing_files
    from m2cnn.data.opening import read_data
    from m2cnn.data.splits import without_leaks
    from m2cnn.data.survey import problems

    manifest = read_data(options.manifest, options.images)
    if options.without_leaks:
        new_file(Path(options.without_leaks))
    if len(missing_files(manifest)) == len(manifest):
        where = f"none of {len(manifest)} photographs is in {manifest.root}"
        raise SettingError("data check", where, "their folder", "Name it with --images.")
    _, twins, seen = guard(manifest, options.cache or options.out, options.out, options.workers, doubt=True)
    bad = problems(manifest, seen)
    hashed = sum(bool(row.sha256) for row in manifest)
    fine = f"all {len(manifest)} photographs are there; the manifest has the hashes of {hashed}, and they hold"
    print("\n".join(map(str, bad)) or fine)
    known = {problem.image for problem in bad}
    blind = {image: what.reason for image, what in seen.items() if what.reason and image not in known}
    for image, reason in blind.items():
        print(f"{image}: {reason}; only its bytes were compared")
    leaks = across_splits(manifest, twins)
    where = f"; see {options.out}" if twins else ""
    print(f"{len(twins)} pairs of the same photograph, {len(leaks)} of them on two sides{where}")
    if options.without_leaks:
        write_manifest(kept := without_leaks(manifest, twins), options.without_leaks)
        print(f"{options.without_leaks}: {len(kept)} of {len(manifest)} photographs")
    else:
        check_sides(manifest)
    return UNGRADED if bad or blind or leaks else OK


def _prepare_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("data", help="as for train, or the URL of a manifest CSV")
    one.add_argument("--out", required=True, help="folder or URL for manifest.csv and the pictures")
    one.add_argument("--size", type=int, required=True, help="px, what the model grades at: the last of its recipe")
    one.add_argument("--format", default="png", help="png (default: no loss) or jpeg (a quarter the length)")
    one.add_argument("--images", help="folder or URL that the manifest's paths start from")
    one.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def data_prepare(options: argparse.Namespace) -> int:
    from m2cnn.data.prepare import open_source, prepare

    manifest, images = open_source(options.data, options.images)
    done = prepare(manifest, options.out, options.size, options.format, images, options.workers)
    for image, reason in done.unreadable.items():
        print(f"{image}: {reason}")
    print(f"{done.place}: {len(done.manifest)} of {len(manifest)} photographs, {done.fresh} looked at now")
    return UNGRADED if done.unreadable else OK


def data_open_lockbox(options: argparse.Namespace) -> None:
    from m2cnn.data import open_lockbox, read_manifest

    print(json.dumps(open_lockbox(read_manifest(options.manifest), options.manifest, options.by, options.reason)))


def data_render(options: argparse.Namespace) -> None:
    from m2cnn.data import write_manifest
    from m2cnn.data.manifest import manifest_bytes
    from m2cnn.data.rendered import render_manifest
    from m2cnn.synthetic import CAMERAS, parse_nuisances

    folder = Path(options.folder)
    manifest = render_manifest(
        folder,
        options.patients,
        options.seed,
        options.size,
        lesions=not options.no_lesions,
        workers=options.workers,
        fields=options.fields,
        cameras=options.cameras.split(",") if options.cameras is not None else tuple(CAMERAS),
        nuisances=parse_nuisances(options.settings),
        masks=options.masks,
    )
    path = folder / "manifest.csv"
    if not (path.is_file() and path.read_bytes() == manifest_bytes(manifest)):  # splits in it would be lost
        write_manifest(manifest, new_file(path))
    print(f"{folder / 'manifest.csv'}: {len(manifest)} photographs of {options.patients} patients")


def data_profile(options: argparse.Namespace) -> None:
    from m2cnn.profile import write_profile

    settings = {"images": options.images, "cache": options.cache, "workers": options.workers}
    print(write_profile(options.data, options.out, pictures=not options.no_pictures, **settings))
