"""Columns and cells of anyone's table: what a column's name means, and what a cell may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from m2cnn.errors import DataError
from m2cnn.grades import NUM_GRADES
from m2cnn.predictions import NO_GRADE
from m2cnn.tables import open_table

# What columns are called, in lower case, with "_" for anything else than letters and digits.
NAMES = {
    "image": "image image_id image_name image_path img img_id id id_code filename file_name file filepath path name "
    "photo photograph",
    "truth": "gt truth true label y_true target ground_truth true_grade true_label reference adjudicated_dr_grade "
    "retinopathy_grade",
    "grade": "pred preds prediction predicted y_pred predicted_grade grade_pred pred_grade pred_level predicted_level "
    "pred_label predicted_label decoded",
    "score": "score scores severity regression pred_score predicted_score continuous y_score",
    "patient": "patient patient_id subject subject_id person",
    "eye": "eye laterality side",
    "gradable": "gradable",
    "reason": "reason",
    "split": "split usage set",
    "system": "system",
    "bundle": "bundle model",
}
# The truth in a table of labels, the grade in one of predictions.
EITHER_OF = frozenset(["level", "diagnosis", "grade", "dr", "dr_grade", "class", "icdr"])
NAME_OF = {text: name for name, texts in NAMES.items() for text in texts.split()}
EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right", "": ""}
NOTHING = {"", "nan", "na", "none", "null"}
PROBABILITY = re.compile(rf"(?P<prefix>.*?)_?(?P<grade>[0-{NUM_GRADES - 1}])")


def normal(name: str) -> str:
    """A column's name in lower case, with "_" for all that is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def meaning_of(name: str) -> str:
    """The key of NAMES that a column's name says; ""."""
    return NAME_OF.get(normal(name), "")


def placed(path: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Every row: its number, how an error names it, and its cells."""
    for number, cells in open_table(path)[1]:
        yield number, place_of(path, number), cells


def place_of(path: Path, number: int) -> str:
    """How an error names a row."""
    return f"{path.name}, row {number}"


def name_of(cell: str, place: str, column: str) -> str:
    """A photograph's name. DataError for an empty cell."""
    if not cell:
        raise DataError(place, f"{column} is empty", "the name of a photograph", "Write it, or remove the row.")
    return cell


def grade_of(cell: str, place: str, name: str) -> int:
    """0..4, NO_GRADE for an empty cell. DataError for anything else."""
    if cell.lower() in NOTHING:
        return NO_GRADE
    value = number_of(cell, place, name)
    if value not in range(NUM_GRADES):
        repair = "Scores go into a column named score." if value % 1 else "Ungradable: leave the cell empty."
        raise DataError(place, f'{name} is "{cell}"', f"0..{NUM_GRADES - 1} (ICDR)", repair)
    return int(value)


def number_of(cell: str, place: str, name: str) -> float:
    """A finite number, NaN for an empty cell. DataError for anything else."""
    if cell.lower() in NOTHING:
        return np.nan
    try:
        value = float(cell)
    except ValueError as cause:
        raise DataError(place, f'{name} is "{cell}"', "a number or an empty cell") from cause
    if not np.isfinite(value):
        raise DataError(place, f'{name} is "{cell}"', "a finite number or an empty cell")
    return value


def eye_of(cell: str, place: str) -> str:
    """left, right or "". DataError for anything else."""
    if cell.lower() not in EYES:
        raise DataError(place, f'eye is "{cell}"', "left, right, OD, OS or an empty cell")
    return EYES[cell.lower()]


def refuse_doubles(images: Sequence[str], place: str) -> None:
    """DataError where a photograph stands twice."""
    names, count = np.unique(np.array(images, dtype=str), return_counts=True)
    if len(names) and count.max() > 1:
        double = str(names[count.argmax()])
        raise DataError(place, f'"{double}" stands {count.max()} times', "each photograph once", "Remove the others.")
