"""The true grades of photographs, from anyone's table of labels, and how predictions find them."""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2cnn.data.pairing import patient_and_eye, patients_of, some, stem_of
from m2cnn.errors import DataError
from m2cnn.foreign_cells import EITHER_OF, eye_of, grade_of, meaning_of, name_of, normal, placed, refuse_doubles
from m2cnn.grades import NUM_GRADES
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.tables import header_of
from m2cnn.wording import counted

NO_PREDICTION = "no prediction"


@dataclass(frozen=True)
class Truth:
    """The true grade of each photograph, NO_GRADE where unknown; patient and eye "" where not told."""

    images: tuple[str, ...]
    grade: np.ndarray
    patient: tuple[str, ...]
    eye: tuple[str, ...]
    place: str


def read_truth(path: str | Path) -> Truth:
    """True grades of a CSV: a column of photographs, one of grades; patient and eye where there are such columns."""
    path = Path(path)
    meaning = {name: meaning_of(name) for name in header_of(path)}
    columns = {kind: name for name, kind in meaning.items() if kind}
    grades = [name for name, kind in meaning.items() if kind == "truth" or normal(name) in EITHER_OF]
    if "image" not in columns or len(grades) != 1:
        got = f"columns {', '.join(meaning)}"
        repair = "Name them image and grade."
        raise DataError(path.name, got, "one column of photographs and one of true grades", repair)
    images, patients, eyes, values = [], [], [], array("b")
    for _, place, cells in placed(path):
        images.append(name_of(cells[columns["image"]], place, columns["image"]))
        values.append(grade_of(cells[grades[0]], place, grades[0]))
        patients.append(cells.get(columns.get("patient", ""), ""))
        eyes.append(eye_of(cells.get(columns.get("eye", ""), ""), place))
    refuse_doubles(images, path.name)
    return Truth(tuple(images), np.array(values, np.int64), tuple(patients), tuple(eyes), path.name)


def with_truth(table: Predictions, truth: Truth, missing: str) -> tuple[Predictions, list[str]]:
    """The table with the names, grades, patients and eyes of the truth, and what did not match.

    missing: as of `read_anyones`. Raises DataError where nothing matches, and where both name another truth.
    """
    place, how = matched(table.image.tolist(), truth.images)
    found = np.array([place.get(image, -1) for image in table.image], np.intp)
    met = found >= 0
    doubtful = _doubtful(table.image[~met].tolist(), truth)
    if not met.any():
        ours, theirs = some(table.image.tolist()), some(list(truth.images))
        got = f"no photograph of the predictions is in it: {ours} against {theirs}"
        repair = "Names may differ in folder and ending, in nothing else."
        repair = "Names stand in several folders: write these in both tables alike." if doubtful else repair
        raise DataError(truth.place, got, "the same photographs", repair)
    _refuse_other_truth(table, truth, found)
    image, patient, eye, grade = table.image.tolist(), table.patient.tolist(), table.eye.tolist(), table.grade.copy()
    for row in np.flatnonzero(met):
        image[row] = truth.images[found[row]]  # so that several tables write it alike
        patient[row] = truth.patient[found[row]] or patient[row]
        eye[row] = truth.eye[found[row]] or eye[row]
        grade[row] = truth.grade[found[row]]
    table = replace(table, image=image, patient=patient, eye=eye, grade=grade, place=None)
    notes = [f"{truth.place}: {int(met.sum())} of {counted(len(table), 'photograph')} matched by {how}"]
    if not met.all():
        unmet = some(table.image[~met].tolist())
        notes.append(f"{counted(int((~met).sum()), 'prediction')} without a true grade, not scored: {unmet}")
    notes += [doubtful] if doubtful else []
    rest = sorted(set(range(len(truth.images))) - set(found[met].tolist()))
    rest = [number for number in rest if truth.grade[number] != NO_GRADE]
    if rest:
        what = "counted as ungradable" if missing == "ungradable" else "left out"
        names = some([truth.images[number] for number in rest])
        notes.append(f"{counted(len(rest), 'photograph')} with a true grade, but no prediction, {what}: {names}")
    return (_joined(table, truth, rest) if rest and missing == "ungradable" else table), notes


def matched(images: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int], str]:
    """Image -> its place among `names`, by the first way of writing them that finds any; and that way.

    Where some names are the same, those that differ in a folder are other photographs.
    """
    for how, key in WAYS.items():
        theirs, ours = _keyed(names, key), _keyed(images, key)
        if both := {images[row]: theirs[name] for name, row in ours.items() if name in theirs}:
            return both, how
    return {}, "name"


def _bare(name: str) -> str:
    return stem_of(re.split(r"[/\\]", name)[-1]).lower()


WAYS: dict[str, Callable[[str], str]] = {
    "name": lambda name: name,
    "name without ending": stem_of,
    "name without folder and ending": _bare,
}


def _doubtful(unmet: Sequence[str], truth: Truth) -> str:
    """A sentence on those of `unmet` that the truth has too, but for folder and ending; "" for none."""
    theirs = set(map(_bare, truth.images)) if len(unmet) else set()
    found = [image for image in unmet if _bare(image) in theirs]
    if not found:
        return ""
    what = "Not matched, though there are photographs of the same name in another folder or with another ending"
    return f"{truth.place}: {what} ({len(found)}): {some(found)}"


def _keyed(images: Sequence[str], key: Callable[[str], str]) -> dict[str, int]:
    """Key -> row; a key that two photographs have is nobody's."""
    found: dict[str, int] = {}
    doubles: set[str] = set()
    for row, image in enumerate(images):
        name = key(image)
        doubles |= {name} & found.keys()
        found[name] = row
    return {name: row for name, row in found.items() if name not in doubles}


def _refuse_other_truth(table: Predictions, truth: Truth, found: np.ndarray) -> None:
    theirs = np.where(found >= 0, truth.grade[found], NO_GRADE)
    other = (table.grade != NO_GRADE) & (theirs != NO_GRADE) & (table.grade != theirs)
    if other.any():
        row = int(np.flatnonzero(other)[0])
        got = f"true grade of {table.image[row]} is {theirs[row]}, and {table.grade[row]} in the predictions"
        raise DataError(truth.place, got, "one truth", "Remove the column of the truth from the predictions.")


def _joined(table: Predictions, truth: Truth, rest: Sequence[int]) -> Predictions:
    """The table and photographs without a prediction, as ungradable."""
    images = [truth.images[number] for number in rest]
    patient = _patients_of_rest(table, truth, rest)
    eye = [truth.eye[number] or patient_and_eye(image)[1] for number, image in zip(rest, images, strict=True)]
    count, nothing = len(rest), np.full(len(rest), np.nan)
    more = {
        **{"image": images, "patient": patient, "eye": eye, "grade": truth.grade[list(rest)]},
        **{"severity": nothing, "decoded": np.full(count, NO_GRADE), "gradable": np.zeros(count, bool)},
        **{"probabilities": np.full((count, NUM_GRADES), np.nan), "reason": [NO_PREDICTION] * count},
        **{"system": [str(table.system[0])] * count, "split": [""] * count, "bundle": [""] * count},
    }
    return Predictions(**{name: np.concatenate([getattr(table, name), values]) for name, values in more.items()})


def _patients_of_rest(table: Predictions, truth: Truth, rest: Sequence[int]) -> list[str]:
    """Whose the photographs without a prediction are: by the truth's own names, in the words of the table where that
    has another photograph of the same person.
    """
    theirs = patients_of(truth.images, truth.patient, truth.place)[0]
    place = {image: number for number, image in enumerate(truth.images)}
    ours: dict[str, set[str]] = defaultdict(set)
    for image, patient in zip(table.image.tolist(), table.patient.tolist(), strict=True):
        if image in place:
            ours[theirs[place[image]]].add(patient)
    taken, found = set(table.patient.tolist()), []
    for name in (theirs[number] for number in rest):
        known = ours.get(name, set())
        free = name if name not in taken or name in known else f"{name} ({truth.place})"
        found.append(next(iter(known)) if len(known) == 1 else free)
    return found
