"""Anyone's table of predictions, whatever its columns are called, beside anyone's table of the truth.

A competition's `image,level`, a notebook's `image_id,dr0..dr4,gt`, scores or grades alone, the table of `m2cnn grade`,
or our own: each becomes Predictions, and what was understood, and what did not match, is said in sentences. Nothing is
guessed where two readings are possible: that is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2cnn.data.pairing import patient_and_eye, patients_of
from m2cnn.errors import DataError
from m2cnn.foreign_cells import (
    EITHER_OF,
    NAMES,
    PROBABILITY,
    eye_of,
    grade_of,
    meaning_of,
    name_of,
    normal,
    number_of,
    place_of,
    placed,
    refuse_doubles,
)
from m2cnn.grades import NUM_GRADES
from m2cnn.predictions import COLUMNS, NO_GRADE, SUM_TOLERANCE, Predictions, read_predictions
from m2cnn.tables import header_of
from m2cnn.truth import NO_PREDICTION, Truth, with_truth

OWN = {"grade", "severity", "gradable", "model"}  # of the table that `m2cnn grade --csv` writes
MISSING = ("leave", "ungradable")
FEW = 20  # so many values within 0..1 may be grades or scores; more are told
FURTHEST = 1.0  # a score this far outside 0..4 is moved to the end; beyond, it is on another scale


@dataclass(frozen=True)
class Reading:
    """What was read. notes: how it was understood, and what did not match, in sentences."""

    predictions: Predictions
    notes: tuple[str, ...]


def read_anyones(path: str | Path, truth: Truth | None = None, *, system: str = "", missing: str = "leave") -> Reading:
    """Predictions of a CSV. truth: of `read_truth`, for a table that does not carry it.  system: its name, default the
    file's.  missing: what photographs of the truth without a prediction are: left out ("leave"), or "ungradable".

    Raises DataError for columns that cannot be understood or mean two things, for cells that are no grade, score or
    probabilities, and where no name of a photograph is in both.
    """
    path = Path(path)
    if missing not in MISSING:
        raise DataError("missing", f'"{missing}"', " or ".join(MISSING))
    if set(header_of(path)) == set(COLUMNS):
        table, notes = read_predictions(path), []
    else:
        table, notes = _understood(path, truth is not None, system or path.resolve().stem)
    if truth is not None:
        table, more = with_truth(table, truth, missing)
        notes += more
    true = table.grade[table.grade != NO_GRADE]
    if len(true) > FEW and true.max() <= 1:
        notes.append("no true grade is above 1: if they are yes and no (referable or not), they are no grades of 0..4")
    return Reading(table, tuple(notes))


# --- which column means what ---


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of each kind, None where there is none; probabilities: five, or ()."""

    image: str
    truth: str | None
    grade: str | None
    score: str | None
    probabilities: tuple[str, ...]
    others: Mapping[str, str]


def _columns(path: Path, told: bool) -> _Columns:
    """told: whether the truth is given apart."""
    names = header_of(path)
    found = {kind: [name for name in names if meaning_of(name) == kind] for kind in NAMES}
    either = [name for name in names if normal(name) in EITHER_OF]
    probabilities = _probabilities(names, path)
    if set(map(normal, names)) >= OWN or told or not (probabilities or found["grade"] or found["score"]):
        found["grade"] += either  # its own grades
    else:
        found["truth"] += either
    for kind, several in found.items():
        if len(several) > 1:
            got = f"columns {' and '.join(several)} may both be the {kind}"
            raise DataError(path.name, got, "one of them", "Rename or remove the other.")
    one = {kind: several[0] for kind, several in found.items() if several}
    if "image" not in one:
        raise DataError(path.name, f"columns {', '.join(names)}", "a column of photographs, such as image")
    if not (probabilities or "grade" in one or "score" in one):
        expected = "probabilities (p0..p4), a grade (pred) or a score of 0..4 (score)"
        raise DataError(path.name, f"columns {', '.join(names)}", expected, "Rename the column.")
    others = {
        kind: one[kind] for kind in ("patient", "eye", "gradable", "reason", "split", "system", "bundle") if kind in one
    }
    return _Columns(one["image"], one.get("truth"), one.get("grade"), one.get("score"), probabilities, others)


def _probabilities(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The five columns with a common name and 0..4 behind it; ()."""
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        if match := PROBABILITY.fullmatch(normal(name)):
            groups.setdefault(match["prefix"], {})[int(match["grade"])] = name
    whole = [group for group in groups.values() if len(group) == NUM_GRADES]
    if len(whole) > 1:
        got = f"several sets of five columns: {whole[0][0]}.. and {whole[1][0]}.."
        raise DataError(path.name, got, "one set of probabilities", "Remove the other.")
    return tuple(whole[0][grade] for grade in range(NUM_GRADES)) if whole else ()


# --- from cells to predictions ---


def _understood(path: Path, told: bool, system: str) -> tuple[Predictions, list[str]]:
    columns = _columns(path, told)
    texts: dict[str, list[str]] = {key: [] for key in ("image", *columns.others)}
    rows, truth, grade, score, chances = array("q"), array("b"), array("b"), array("d"), array("d")
    for number, place, cells in placed(path):
        rows.append(number)
        texts["image"].append(name_of(cells[columns.image], place, columns.image))
        for kind, name in columns.others.items():
            texts[kind].append(eye_of(cells[name], place) if kind == "eye" else cells[name])
        truth.append(grade_of(cells[columns.truth], place, columns.truth) if columns.truth else NO_GRADE)
        grade.append(grade_of(cells[columns.grade], place, columns.grade) if columns.grade else NO_GRADE)
        score.append(number_of(cells[columns.score], place, columns.score) if columns.score else np.nan)
        chances.extend(number_of(cells[name], place, name) for name in columns.probabilities)
    refuse_doubles(texts["image"], path.name)
    chance, more = np.full((len(truth), NUM_GRADES), np.nan), []
    if columns.probabilities:
        chance, more = _checked(np.array(chances).reshape(-1, NUM_GRADES), path, lambda i: place_of(path, rows[i]))
    score, few = _scores(np.array(score), path, lambda i: place_of(path, rows[i]))
    severity, decoded = _decided(np.array(grade, np.int64), score, chance)
    texts["patient"], whose = patients_of(texts["image"], texts.get("patient", [""] * len(rows)), path.name)
    table = _table(texts, np.array(truth, np.int64), severity, decoded, chance, system)
    return table, [_said(columns, path), *more, *few, *whose]


def _said(columns: _Columns, path: Path) -> str:
    parts = {"photographs": columns.image, "truth": columns.truth, "grade": columns.grade, "score": columns.score}
    said = [f"{what} from {name}" for what, name in parts.items() if name]
    said += (
        [f"probabilities from {columns.probabilities[0]}..{columns.probabilities[-1]}"] if columns.probabilities else []
    )
    said += [f"{kind} from {name}" for kind, name in columns.others.items()]
    how = "the grade is its own"
    if not columns.grade:
        how = "the grade is the score, rounded" if columns.score else "the grade is the likeliest"
    return f"{path.name}: {', '.join(said)}; {how}"


def _checked(chance: np.ndarray, path: Path, place: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """(N, 5) probabilities that sum to 1, or none of a row; percentages are divided. place: how a row is named."""
    absent = np.isnan(chance)
    if (partly := absent.any(axis=1) & ~absent.all(axis=1)).any():
        got = f"some of the five probabilities are empty (such rows: {int(partly.sum())})"
        repair = "A photograph that was not graded: empty all."
        raise DataError(place(int(np.flatnonzero(partly)[0])), got, "all five, or none", repair)
    total = chance.sum(axis=1)
    given, notes = ~np.isnan(total), []
    if given.any() and (np.abs(total[given] - 100) <= 100 * SUM_TOLERANCE).all():
        chance, total, notes = (
            chance / 100,
            total / 100,
            [f"{path.name}: probabilities are percentages, divided by 100"],
        )
    faults = {
        "a probability is negative": (chance < 0).any(axis=1),
        "probabilities do not sum to 1": given & ~(np.abs(total - 1) <= SUM_TOLERANCE),
    }
    for what, wrong in faults.items():
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            got = f"{what}: {' '.join(f'{v:g}' for v in chance[first])} (such rows: {int(wrong.sum())})"
            repair = "Logits: write their softmax. Counts: divide by their sum."
            raise DataError(place(first), got, f"five of 0..1 that sum to 1 ({SUM_TOLERANCE:g})", repair)
    return chance, notes


def _scores(score: np.ndarray, path: Path, place: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """Scores within 0..4; those a little outside are moved to the end, and counted. place: how a row is named."""
    highest = NUM_GRADES - 1
    off = (score < -FURTHEST) | (score > highest + FURTHEST)
    if off.any():
        first = int(np.flatnonzero(off)[0])
        repair = "Scale it: 0 is no retinopathy, 4 proliferative."
        raise DataError(place(first), f"score is {score[first]:g}", f"0..{highest}", repair)
    outside = int(((score < 0) | (score > highest)).sum())
    notes = [f"{path.name}: {outside} scores outside 0..{highest} were moved to its ends"] if outside else []
    known = score[~np.isnan(score)]
    if len(known) > FEW and known.max() <= 1:
        notes.append(f"{path.name}: all scores are within 0..1; if they are chances, they are no severities of 0..4")
    return np.clip(score, 0, highest), notes


def _decided(grade: np.ndarray, score: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Severity (NaN for none) and grade (NO_GRADE for none): its own, else of the score, else of the chances."""
    own, likely = grade != NO_GRADE, np.isfinite(chance).all(axis=1)
    expected = np.where(likely, np.nan_to_num(chance) @ np.arange(NUM_GRADES), np.where(own, grade, np.nan))
    severity = np.where(np.isnan(score), expected, score)
    rounded = np.floor(np.nan_to_num(score) + 0.5).astype(np.int64)
    likeliest = np.where(likely, np.nan_to_num(chance).argmax(axis=1), NO_GRADE)
    return severity, np.where(own, grade, np.where(np.isnan(score), likeliest, rounded))


def _table(
    texts: dict[str, list[str]],
    truth: np.ndarray,
    severity: np.ndarray,
    decoded: np.ndarray,
    chance: np.ndarray,
    system: str,
) -> Predictions:
    count = len(texts["image"])
    empty = [""] * count
    refused = np.array([cell.lower() in ("false", "0", "no") for cell in texts.get("gradable", empty)], bool)
    gradable = (decoded != NO_GRADE) & ~refused
    reasons = zip(gradable, texts.get("reason", empty), strict=True)
    told = zip(texts["image"], texts.get("eye", empty), strict=True)
    return Predictions(
        image=texts["image"],
        patient=texts["patient"],
        eye=[cell or patient_and_eye(image)[1] for image, cell in told],
        split=texts.get("split", empty),
        grade=truth,
        probabilities=np.where(gradable[:, None], chance, np.nan),
        severity=np.where(gradable, severity, np.nan),
        decoded=np.where(gradable, decoded, NO_GRADE),
        gradable=gradable,
        reason=["" if good else (reason or NO_PREDICTION) for good, reason in reasons],
        system=[name or system for name in texts.get("system", empty)],
        bundle=texts.get("bundle", empty),
    )
