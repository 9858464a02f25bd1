"""From a public dataset, as its archive unpacks, to a manifest: one small function per layout.

A new dataset is one function here and one line in IMPORTERS. Nothing is copied or changed; image paths start from the
folder that was given. What does not fit together (labels without a photograph, photographs without a label) is left out
and counted in the notes; what cannot be understood is a DataError.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from m2cnn.data.manifest import Manifest, Row, row_from_cells
from m2cnn.data.pairing import (
    Matching,
    need_columns,
    patient_and_eye,
    photographs_below,
    photographs_in,
    subfolders,
    twin_notes,
    with_hashes_of_twins,
)
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.tables import read_table

EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}
OWN_PATIENT = "without a patient's id; each counts as its own patient: say so beside every result"
GRADE_FOLDERS = {
    0: ("no_dr", "nodr", "no_apparent_retinopathy", "no_retinopathy", "normal", "healthy"),
    1: ("mild", "mild_dr", "mild_npdr"),
    2: ("moderate", "moderate_dr", "moderate_npdr"),
    3: ("severe", "severe_dr", "severe_npdr"),
    4: ("proliferate_dr", "proliferative_dr", "proliferative", "proliferate", "pdr"),
}
GRADE_OF_NAME = {name: grade for grade, names in GRADE_FOLDERS.items() for name in names}


@dataclass(frozen=True)
class Imported:
    """A manifest and what the user should know of it; the first note has the counts."""

    manifest: Manifest
    notes: tuple[str, ...]


# The datasets


def eyepacs(folder: str | Path) -> Imported:
    """Kaggle 2015: trainLabels.csv (image, level) and train/<patient>_<left|right>.jpeg.

    Without train/ the photographs lie beside the CSV. With retinopathy_solution.csv and test/ the official test set
    joins as split "test".
    """
    folder = Path(folder)
    rows, notes = _eyepacs_part(folder, "trainLabels.csv", "train", "")
    if (folder / "retinopathy_solution.csv").is_file():
        test_rows, test_notes = _eyepacs_part(folder, "retinopathy_solution.csv", "test", "test")
        rows, notes = rows + test_rows, notes + test_notes
    return _imported("eyepacs", folder, rows, notes)


def _eyepacs_part(folder: Path, labels: str, subfolder: str, split: str) -> tuple[list[Row], list[str]]:
    columns, table = read_table(folder / labels)
    need_columns(labels, columns, ("image", "level"))
    photographs = photographs_in(folder, subfolder if (folder / subfolder).is_dir() else "")
    rows: list[Row] = []
    matching = Matching(labels, photographs)
    for place, cells, image in matching.pairs(table, "image"):
        patient, eye = patient_and_eye(image)
        if not eye:
            got = f'image is "{cells["image"]}"'
            raise DataError(place, got, "<patient>_left or <patient>_right", 'Other names: use the importer "table".')
        values = {"image": image, "patient": patient, "eye": eye, "grade": cells["level"], "split": split}
        rows.append(row_from_cells(values, place))
    return rows, matching.notes()


def idrid(folder: str | Path) -> Imported:
    """IDRiD's "B. Disease Grading", itself or the folder that has it. The official testing set is split "test"."""
    folder = Path(folder)
    inner = "B. Disease Grading/" if (folder / "B. Disease Grading").is_dir() else ""
    rows: list[Row] = []
    notes = [f"idrid: photographs {OWN_PATIENT}"]
    for part, kind, split in (("a. Training Set", "Training", ""), ("b. Testing Set", "Testing", "test")):
        images = f"{inner}1. Original Images/{part}"
        labels = sorted((folder / inner / "2. Groundtruths").glob(f"*{kind}*.csv"))
        if labels and (folder / images).is_dir():
            part_rows, part_notes = _idrid_part(folder, labels[0], images, split)
            rows, notes = rows + part_rows, notes + part_notes
        else:
            notes.append(f'idrid: the {kind.lower()} set is absent ("{images}" and its labels)')
    return _imported("idrid", folder, rows, notes)


def _idrid_part(folder: Path, labels: Path, images: str, split: str) -> tuple[list[Row], list[str]]:
    columns, table = read_table(labels)
    need_columns(labels.name, columns, ("Image name", "Retinopathy grade", "Risk of macular edema"))
    matching = Matching(labels.name, photographs_in(folder, images))
    rows = []
    for place, cells, image in matching.pairs(table, "Image name"):
        # Both sets count from IDRiD_001: without the prefix two strangers would be one patient.
        patient = ("testing_" if split else "") + cells["Image name"]
        grade, dme = cells["Retinopathy grade"], cells["Risk of macular edema"]
        values = {"image": image, "patient": patient, "grade": grade, "dme": dme, "split": split}
        rows.append(row_from_cells(values, place))
    return rows, matching.notes()


def folders(folder: str | Path) -> Imported:
    """A folder per grade: 0..4, a name of GRADE_FOLDERS in any spelling ("No DR"), or both ("0 - No DR")."""
    folder = Path(folder)
    rows = []
    for subfolder in subfolders(folder):
        photographs = photographs_in(folder, subfolder)
        grade = grade_of_folder(subfolder)
        if photographs and grade is None:
            expected = "0..4 or a grade's name"
            raise DataError(folder / subfolder, "not a grade", expected, did_you_mean(_plain(subfolder), GRADE_OF_NAME))
        for image in photographs.values():
            patient, eye = patient_and_eye(image)
            rows.append(Row(image, patient, eye, grade))
    taken = {row.image for row in rows}
    left = [image for image in photographs_below(folder).values() if image not in taken and not image.startswith(".")]
    notes = [f"folders: {len(left)} photographs outside the folders of grades, left out"] if left else []
    return _imported("folders", folder, rows, notes + _own_patient_note("folders", rows))


def grade_of_folder(name: str) -> int | None:
    """The grade that a folder's name says, None when it says none.

    >>> [grade_of_folder(name) for name in ("3", "No_DR", "0 - No DR", "Proliferate_DR", "masks")]
    [3, 0, 0, 4, None]

    Raises DataError when number and name contradict each other.
    """
    number, words = re.fullmatch(r"([0-4]?)(.*)", _plain(name)).groups()
    words = words.strip("_")
    named = GRADE_OF_NAME.get(words)
    if not number or not words:
        return int(number) if number else named
    if named is not None and named != int(number):
        raise DataError(name, f"number {number} but the name of grade {named}", "one grade", "Rename the folder.")
    return named


def table(
    folder: str | Path,
    csv: str | Path | None = None,
    image: str = "image",
    patient: str = "",
    eye: str = "",
    grade: str = "",
    dme: str = "",
    quality: str = "",
    split: str = "",
) -> Imported:
    """Any CSV, its columns given by name; `folder` has the photographs, image cells may lack the extension.

    csv: by default the only CSV in the folder. An option left empty is a column that the table does not have. Without
    `patient`, patient and eye come from <patient>_<left|right>, else each photograph is its own patient.
    """
    folder = Path(folder)
    path = Path(csv) if csv is not None else _only_csv(folder)
    names = {"patient": patient, "eye": eye, "grade": grade, "dme": dme, "quality": quality, "split": split}
    names = {ours: theirs for ours, theirs in names.items() if theirs}
    columns, body = read_table(path)
    need_columns(path.name, columns, (image, *names.values()))
    matching = Matching(path.name, photographs_below(folder))
    rows = []
    for place, cells, name in matching.pairs(body, image):
        from_name = dict(zip(("patient", "eye"), patient_and_eye(name), strict=True)) if not patient else {}
        values = {"image": name, **from_name, **{ours: cells[theirs] for ours, theirs in names.items()}}
        values["eye"] = EYES.get(values.get("eye", "").lower(), values.get("eye", ""))
        rows.append(row_from_cells(values, place))
    return _imported("table", folder, rows, matching.notes() + ([] if patient else _own_patient_note("table", rows)))


def _only_csv(folder: Path) -> Path:
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        got = f"{len(found)} CSV files" + (f" ({', '.join(path.name for path in found)})" if found else "")
        raise DataError(folder, got, "one, or the option csv", "Give csv=PATH.")
    return found[0]


IMPORTERS: dict[str, Callable[..., Imported]] = {"eyepacs": eyepacs, "idrid": idrid, "folders": folders, "table": table}


def import_dataset(name: str, folder: str | Path, **options: str | Path) -> Imported:
    """Import the dataset `name` (a key of IMPORTERS) from its folder; `options` are those of its function.

    Raises SettingError for an unknown name or option, DataError for a folder that does not fit.
    """
    if name not in IMPORTERS:
        raise SettingError("dataset", f'"{name}"', "an importer", did_you_mean(name, IMPORTERS))
    known = list(inspect.signature(IMPORTERS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            repair = did_you_mean(option, known) if known else f"{name} has no options."
            raise SettingError(f"dataset {name}", f'option "{option}"', "one of its options", repair)
    if not Path(folder).is_dir():
        raise DataError(folder, "no such folder", f"the folder of {name}", "Check the path.")
    return IMPORTERS[name](folder, **options)


# What all of them share


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _own_patient_note(name: str, rows: list[Row]) -> list[str]:
    alone = sum(not row.eye for row in rows)
    return [f"{name}: {alone} of {len(rows)} photographs {OWN_PATIENT}"] if alone else []


def _imported(source: str, folder: Path, rows: list[Row], notes: list[str]) -> Imported:
    if not rows:
        raise DataError(folder, "no photograph with a label", f"the layout of {source}", "; ".join(notes))
    manifest = Manifest(tuple(replace(row, source=source) for row in rows), folder)
    manifest = with_hashes_of_twins(manifest)
    return Imported(manifest, (counts(manifest), *notes, *twin_notes(source, manifest)))


def counts(manifest: Manifest) -> str:
    """One line: photographs, patients, and photographs per grade."""
    per_grade = Counter(row.grade for row in manifest)
    grades = "/".join(str(per_grade[grade]) for grade in range(5))
    patients = len({row.patient for row in manifest})
    rest = f", {per_grade[None]} without grade" if per_grade[None] else ""
    return f"{len(manifest)} photographs of {patients} patients, grades 0/1/2/3/4: {grades}{rest}"
