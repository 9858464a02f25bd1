"""Opening whatever the user names: a manifest, a run, or a dataset's folder."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

from m2cnn.data.imported import AS_PUBLISHED, Imported
from m2cnn.data.importers import IMPORTERS, import_dataset
from m2cnn.data.manifest import Manifest, missing_files, read_manifest
from m2cnn.errors import DataError, SettingError

log = logging.getLogger(__name__)


def open_data(spec: str | Path, images: str | Path | None = None) -> Manifest:
    """`read_data`, with every photograph there. Raises DataError also when some of a CSV or a run are missing."""
    return complete(read_data(spec, images))


def read_data(spec: str | Path, images: str | Path | None = None) -> Manifest:
    """The manifest of a CSV, a run folder, "NAME:FOLDER" (NAME of IMPORTERS), or a folder recognised by its layout.

    images: the folder that a CSV's or a run's image paths start from, if it is another than written; a dataset's are
    in its own. Notes of importers go to the log. Raises DataError when nothing fits, and where there is no folder
    `images`, SettingError for `images` beside a dataset's folder.
    """
    if images and not Path(images).is_dir():
        raise DataError(images, "no such folder", "the folder that the image paths start from", "Check --images.")
    path = Path(spec)
    if path.is_file():
        return read_manifest(path, images)
    if (path / "manifest.csv").is_file():
        return read_manifest(path / "manifest.csv", images or _images_root(path))
    name, _, folder = str(spec).partition(":")
    if not path.is_dir():
        if not folder:
            kinds = f"a manifest CSV, a run folder, a dataset's folder or NAME:FOLDER ({', '.join(IMPORTERS)})"
            raise DataError(spec, "no such file or folder", kinds, "Check the path.")
    else:
        name, folder = recognise(path), str(path)
    if images and Path(images).resolve() != Path(folder).resolve():
        made = f"m2cnn data import {name} {shlex.quote(folder)} --out NEW.csv"
        repair = f"Leave --images out, or write the dataset's manifest first, where they may lie elsewhere: {made}."
        raise SettingError("--images", f"{images} for {spec}", f"no other folder than that of {name}", repair)
    return _logged(import_dataset(name, folder))


def recognise(folder: Path) -> str:
    """The name of the one importer whose layout a folder has. Raises DataError with what was looked for."""
    found = [name for name, importer in IMPORTERS.items() if importer.fits(folder)]
    if len(found) == 1:
        return found[0]
    got = f"fits {' and '.join(found)}" if found else "no dataset recognised"
    known = (f"{importer.layout} ({name})" for name, importer in IMPORTERS.items() if importer.layout)
    expected = f"manifest.csv or {', '.join(known)}"
    made = f"m2cnn data import table {shlex.quote(str(folder))} csv=CSV image=COLUMN grade=COLUMN"
    way = "" if found else f", or make a manifest of a table of grades: {made}"
    raise DataError(folder, got, expected, f"Say which, as NAME:{folder}{way}")


def _logged(imported: Imported) -> Manifest:
    counts, *findings = imported.notes
    log.info(counts)
    for note in findings:
        log.log(logging.INFO if note.endswith(AS_PUBLISHED) else logging.WARNING, note)
    return imported.manifest


def _images_root(run: Path) -> Path:
    """Where the photographs of a run lie; beside the manifest when no run.json tells."""
    if not (run / "run.json").is_file():
        return run
    try:
        return run / json.loads((run / "run.json").read_text("utf-8"))["images_root"]  # an absolute path replaces `run`
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError(
            run / "run.json", "no images_root", "JSON with it", "Give the folder of photographs."
        ) from cause


def complete(manifest: Manifest) -> Manifest:
    """The manifest itself. Raises DataError when photographs are missing."""
    missing = missing_files(manifest)
    if missing:
        got = f"{len(missing)} of {len(manifest)} photographs are missing, the first is {missing[0]}"
        raise DataError(manifest.root, got, "all of them", "Give the folder that the image paths start from.")
    return manifest
