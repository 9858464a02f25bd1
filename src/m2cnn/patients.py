"""From photographs to eyes and patients, by declared rules; local grading schemes as explicit tables.

- An eye is as bad as its worst gradable field: it has the highest grade and the highest severity of them. It is
  ungradable where no field can be graded.
- A patient is as bad as the worse eye. An ungradable eye is never normal: where the other eye is not referred, the
  patient has no result, and is to be seen. So is, if both eyes are asked for, one of whom an eye is missing.
- Referred is who is graded 2 or worse, or, where an operating point is asked, whose severity reaches it.
- The truth of an eye or a patient is the worst grade that is known of its photographs.

Photographs whose eye nobody knows are eyes of their own. The result is a table of predictions again, one row for an eye
or a patient, which everything that measures photographs measures: `summarise(by_patient(table))`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.grades import ENDPOINTS, GRADES, NUM_GRADES
from m2cnn.predictions import NO_GRADE, Predictions

ONE_EYE = "an eye is ungradable, and the other is not referred: no normal result"
MISSING_EYE = "an eye was not photographed, and the other is not referred: no normal result"
NO_FIELD = "no field of it is gradable"
NO_EYE = "no eye is gradable"


def by_eye(photographs: Predictions) -> Predictions:
    """One row for each eye, named PATIENT/EYE (PATIENT/IMAGE where the eye is unknown); (M,) <= (N,)."""
    keys = [
        f"{patient}/{eye or image}"
        for patient, eye, image in zip(photographs.patient, photographs.eye, photographs.image, strict=True)
    ]
    return _grouped(photographs, keys, lambda rows: _of_eye(photographs, rows))


def by_patient(photographs: Predictions, both_eyes: bool = False, refer_from: float | None = None) -> Predictions:
    """One row for each patient, named by the patient.

    both_eyes: a missing eye is as bad as an ungradable one.  refer_from: the severity of an operating point.
    """
    eyes = by_eye(photographs)
    sent = referred(eyes, refer_from)
    return _grouped(eyes, eyes.patient.tolist(), lambda rows: _of_patient(eyes, rows, sent, both_eyes))


def referred(table: Predictions, refer_from: float | None = None) -> NDArray[np.bool_]:
    """(N,) who is sent on for what was seen: grade 2 or worse, or a severity of `refer_from` or more."""
    if refer_from is None:
        return table.gradable & (table.decoded >= ENDPOINTS["referable"])
    return table.gradable & (table.severity.astype(np.float64) >= refer_from)


class _Result(NamedTuple):
    """worst: the row that decides, -1 for none.  reason: why there is no result, else ""."""

    worst: int
    reason: str


def _of_eye(p: Predictions, rows: np.ndarray) -> _Result:
    worst = _worst(p, rows)
    if worst >= 0:
        return _Result(worst, "")
    return _Result(-1, p.reason[rows[0]] if len(rows) == 1 else NO_FIELD)


def _of_patient(eyes: Predictions, rows: np.ndarray, sent: np.ndarray, both_eyes: bool) -> _Result:
    worst = _worst(eyes, rows)
    if worst < 0:
        return _Result(-1, NO_EYE)
    if sent[rows].any():
        return _Result(worst, "")
    if not eyes.gradable[rows].all():
        return _Result(-1, ONE_EYE)
    if both_eyes and len(rows) < 2:
        return _Result(-1, MISSING_EYE)
    return _Result(worst, "")


def _worst(p: Predictions, rows: np.ndarray) -> int:
    """The gradable row of the highest grade, of these the most severe; -1 for none."""
    good = rows[p.gradable[rows]]
    return int(max(good, key=lambda row: (p.decoded[row], p.severity[row]))) if len(good) else -1


def _grouped(p: Predictions, keys: Sequence[str], decide: Callable[[np.ndarray], _Result]) -> Predictions:
    names, first, group = np.unique(np.array(keys, dtype=str), return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(names) else []
    results = [decide(rows) for rows in members]
    worst = np.array([result.worst for result in results], np.intp)
    has = worst >= 0
    highest = np.full(len(names), -np.inf, p.severity.dtype)
    np.maximum.at(highest, group[p.gradable], p.severity[p.gradable])
    eye = [p.eye[rows[0]] if len(set(p.eye[rows])) == 1 else "" for rows in members]
    return Predictions(
        image=names,
        patient=p.patient[first],
        eye=eye,
        split=p.split[first],
        grade=[int(p.grade[rows].max()) for rows in members],
        probabilities=np.where(has[:, None], p.probabilities[worst], np.nan).reshape(-1, NUM_GRADES),
        severity=np.where(has, highest, np.nan),
        decoded=np.where(has, p.decoded[worst], NO_GRADE),
        gradable=has,
        reason=[result.reason for result in results],
        system=p.system[first],
        bundle=p.bundle[first],
    )


@dataclass(frozen=True)
class Missed:
    """Disease that was not referred. said: the grade that the system gave."""

    image: str
    patient: str
    grade: int
    said: int
    severity: float

    def __str__(self) -> str:
        return f"{self.patient}: graded {self.said} ({GRADES[self.said].name}), severity {self.severity:.2f}"


def missed(table: Predictions, from_grade: int = NUM_GRADES - 1, refer_from: float | None = None) -> list[Missed]:
    """Rows whose true grade is at least `from_grade` and that were not referred, least severe first.

    refer_from: as of `referred`. Ungradable ones are not among them: they are to be seen.
    """
    rows = (table.grade >= from_grade) & table.gradable & ~referred(table, refer_from)
    found = [
        Missed(
            *(str(table.image[i]), str(table.patient[i])),
            int(table.grade[i]),
            int(table.decoded[i]),
            float(table.severity[i]),
        )
        for i in np.flatnonzero(rows)
    ]
    return sorted(found, key=lambda one: (one.severity, one.image))


# --- local schemes ---


@dataclass(frozen=True)
class Scheme:
    """A programme's own grades. labels: one for each ICDR grade.  ungradable: its label.  note: what it cannot say."""

    name: str
    title: str
    labels: tuple[str, ...]
    ungradable: str
    note: str
    source: str

    def label(self, grade: int) -> str:
        """Of an ICDR grade, NO_GRADE for ungradable."""
        return self.ungradable if grade == NO_GRADE else self.labels[grade]


def schemes() -> dict[str, Scheme]:
    """The packaged schemes, by name."""
    text = (resources.files("m2cnn") / "schemes.toml").read_text(encoding="utf-8")
    return _schemes(text, "schemes.toml")


def scheme_named(name: str) -> Scheme:
    """A packaged scheme, or the only one of a TOML file. SettingError for another name, DataError for a bad file."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise SettingError("scheme", f"no file {name}", "a TOML file of one scheme")
        (found,) = _schemes(path.read_text(encoding="utf-8"), path.name).values()
        return found
    known = schemes()
    if name not in known:
        raise SettingError("scheme", f'"{name}"', f"one of {', '.join(known)}, or FILE.toml", did_you_mean(name, known))
    return known[name]


def _schemes(text: str, place: str) -> dict[str, Scheme]:
    try:
        tables: Mapping[str, dict] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise DataError(place, f"not valid TOML ({cause})", "a table for each scheme") from cause
    return {name: _scheme(name, table, place) for name, table in tables.items()}


def _scheme(name: str, table: dict, place: str) -> Scheme:
    keys = {"title", "labels", "ungradable", "note", "source"}
    if not isinstance(table, dict) or set(table) != keys:
        got = f"keys {', '.join(sorted(table))}" if isinstance(table, dict) else repr(table)
        raise DataError(f"{place}, {name}", got, ", ".join(sorted(keys)))
    labels = table["labels"]
    if not isinstance(labels, list) or len(labels) != NUM_GRADES or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{place}, {name}, labels", f"{labels!r}", f"{NUM_GRADES} texts, one for each ICDR grade")
    return Scheme(name, table["title"], tuple(labels), table["ungradable"], table["note"], table["source"])
