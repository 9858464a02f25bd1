"""DeepDRiD's regular fundus photographs: two fields per eye, grades per eye and per patient, quality.

Liu et al., Patterns 2022;3:100512. Every row of the CSV has the grade of one eye, in that eye's column; some file names
say the other eye. The photographs of the evaluation set have their labels in spreadsheets, which are read once they are
saved as CSV.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from m2cnn.data.imported import Imported, absent, check_parts, imported, ungradable_notes
from m2cnn.data.manifest import Row, row_from_cells
from m2cnn.data.pairing import Matching, need_columns, patient_and_eye, photographs_by_name, some
from m2cnn.errors import DataError
from m2cnn.tables import read_table

PARTS = {"regular-fundus-training": "train", "regular-fundus-validation": "val"}
EVALUATION = "Online-Challenge1&2-Evaluation"
GRADE_OF_EYE = {"left": "left_eye_DR_Level", "right": "right_eye_DR_Level"}
COLUMNS = ("patient_id", "image_id", "Overall quality", *GRADE_OF_EYE.values(), "patient_DR_Level")
QUALITY = {"0": "ungradable", "1": "gradable"}
UNGRADABLE = "5"


def deepdrid(folder: str | Path) -> Imported:
    """DeepDRiD: regular_fundus_images/regular-fundus-{training,validation}/, each with its CSV and Images/.

    The folder itself, or the one that has it. Training, validation and evaluation are splits train, val and test.
    Overall quality 0 ("not good enough for the diagnosis of retinal diseases") and grade 5 are ungradable; a photograph
    of quality 0 keeps its grade. Raises DataError for a patient in two parts.
    """
    folder = Path(folder)
    inner = "regular_fundus_images/" if (folder / "regular_fundus_images").is_dir() else ""
    rows: list[Row] = []
    notes: list[str] = []
    for part, split in PARTS.items():
        labels = folder / inner / part / f"{part}.csv"
        if labels.is_file():
            part_rows, part_notes = _part(folder, labels, f"{inner}{part}", split)
            rows, notes = rows + part_rows, notes + part_notes
        else:
            notes.append(absent("deepdrid", split, f"{inner}{part}/{part}.csv"))
    test_rows, test_notes = _evaluation(folder, f"{inner}{EVALUATION}")
    rows, notes = rows + test_rows, notes + test_notes
    check_parts(folder, rows)
    if (folder / "ultra-widefield_images").is_dir():
        notes.append("deepdrid: the ultra-widefield photographs are of another kind, left out")
    return imported("deepdrid", folder, rows, notes + ungradable_notes("deepdrid", rows))


def _part(folder: Path, labels: Path, images: str, split: str) -> tuple[list[Row], list[str]]:
    columns, table = read_table(labels)
    need_columns(labels.name, columns, COLUMNS)
    matching = Matching(labels.name, photographs_by_name(folder, images))
    pairs = [(cells, _row(place, cells, image, split)) for place, cells, image in matching.pairs(table, "image_id")]
    notes = [*matching.notes(), *_crossed_note(labels.name, pairs), *_patient_note(labels.name, pairs)]
    return [row for _, row in pairs], notes


def _row(place: str, cells: dict[str, str], image: str, split: str) -> Row:
    graded = _graded_eye(place, cells)
    named = patient_and_eye(image)[1]
    grade = cells[GRADE_OF_EYE[graded]] if graded else ""
    # Name and column contradict each other: nobody knows which eye it is, but the grade is this photograph's.
    eye = "" if named and named != graded else graded
    return _graded(place, image, cells["patient_id"], eye, grade, cells["Overall quality"], split)


def _graded_eye(place: str, cells: dict[str, str]) -> str:
    """The eye whose column has the grade; the eye of the name where both columns or none have one."""
    filled = [eye for eye, column in GRADE_OF_EYE.items() if cells[column]]
    named = patient_and_eye(cells["image_id"])[1]
    if len(filled) == 1:
        return filled[0]
    if filled and not named:
        raise DataError(place, "grades of both eyes", "the eye in image_id", "Empty the column of the other eye.")
    return named


def _graded(place: str, image: str, patient: str, eye: str, grade: str, quality: str, split: str) -> Row:
    quality, grade = quality.removesuffix(".0"), grade.removesuffix(".0")
    values = {"image": image, "patient": patient, "eye": eye, "grade": grade, "split": split}
    values["quality"] = QUALITY.get(quality, quality)
    if grade == UNGRADABLE:
        values |= {"grade": "", "quality": "ungradable"}
    return row_from_cells(values, place)


def _crossed_note(labels: str, pairs: list[tuple[dict[str, str], Row]]) -> list[str]:
    crossed = [cells["image_id"] for cells, row in pairs if not row.eye]
    what = "photographs whose name says one eye and whose grade stands in the other's column; their eye is left empty"
    return [f"{labels}: {len(crossed)} {what}: {some(crossed)}"] if crossed else []


def _patient_note(labels: str, pairs: list[tuple[dict[str, str], Row]]) -> list[str]:
    """Where patient_DR_Level is not the higher grade of the patient's eyes."""
    said, eyes = defaultdict(set), defaultdict(set)
    for cells, row in pairs:
        said[row.patient].add(cells["patient_DR_Level"].removesuffix(".0"))
        eyes[row.patient] |= {row.grade} - {None}
    odd = [patient for patient, grades in eyes.items() if grades and said[patient] != {str(max(grades))}]
    what = "patients whose patient_DR_Level is not the higher grade of their eyes; the manifest has the eyes' grades"
    return [f"{labels}: {len(odd)} {what}: {some(odd)}"] if odd else []


def _evaluation(folder: Path, part: str) -> tuple[list[Row], list[str]]:
    """The official test set, where its spreadsheets were saved as CSV: Challenge1 has grades, Challenge2 quality."""
    labels = folder / part / "Challenge1_labels.csv"
    if not labels.is_file():
        if labels.with_suffix(".xlsx").is_file():
            how = "save Challenge1_labels.xlsx and Challenge2_labels.xlsx as CSV beside them to have it"
            return [], [f"deepdrid: the test set is left out, its labels are spreadsheets: {how}"]
        return [], [absent("deepdrid", "test", f"{part}/Challenge1_labels.csv")]
    columns, table = read_table(labels)
    need_columns(labels.name, columns, ("image_id", "DR_Levels"))
    quality = _qualities(labels.with_name("Challenge2_labels.csv"))
    matching = Matching(labels.name, photographs_by_name(folder, part))
    rows = []
    for place, cells, image in matching.pairs(table, "image_id"):
        patient, eye = patient_and_eye(image)
        rows.append(_graded(place, image, patient, eye, cells["DR_Levels"], quality.get(cells["image_id"], ""), "test"))
    return rows, matching.notes()


def _qualities(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    columns, table = read_table(path)
    need_columns(path.name, columns, ("image_id", "Overall quality"))
    return {cells["image_id"]: cells["Overall quality"] for _, cells in table}
