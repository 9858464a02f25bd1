"""The predictions table: what a system said of each photograph, beside the truth.

The seam between the networks and the statistics: everything after it needs only this CSV, so another system joins a
comparison by writing one. Columns: docs/reference/predictions.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.errors import DataError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.tables import open_table, table_bytes, true_or_false, write_atomically

PREDICTIONS = "predictions.csv"  # what the table is called in a folder of results
PROBABILITY_COLUMNS = tuple(f"p{grade}" for grade in range(NUM_GRADES))
TEXTS = ("image", "patient", "eye", "split", "reason", "system", "bundle")
COLUMNS = (
    *("image", "patient", "eye", "split", "grade"),
    *PROBABILITY_COLUMNS,
    *("severity", "decoded", "gradable", "reason", "system", "bundle"),
)
NO_GRADE = -1
NUMBER_TYPES = {
    "grade": np.int64,
    "probabilities": np.float32,
    "severity": np.float32,
    "decoded": np.int64,
    "gradable": np.bool_,
}
REPEATED = ("eye", "split", "reason", "system", "bundle")  # few texts for many photographs
TYPES = {"grade": "b", "decoded": "b", "gradable": "b"}  # of array; the others are float32
PART = 10_000  # rows that are text at the same time
SUM_TOLERANCE = 1e-3  # other people's tables hold rounded probabilities

Fault = tuple[NDArray[np.bool_], Callable[[int], str], str, str]


@dataclass(frozen=True, eq=False)
class Predictions:
    """N photographs as columns; every array is made of its type below and checked. Raises DataError.

    image, patient: (N,) text, never empty; an image stands once.  eye: left, right or empty.  split: text.
    grade: (N,) int64, the truth, -1 where nobody knows it.
    probabilities: (N, 5) float32, rows that sum to 1, or NaN for a system that gives a severity alone.
    severity: (N,) float32 in 0..4, NaN exactly where ungradable.  decoded: (N,) int64, the system's grade, -1 there.
    gradable: (N,) bool.  reason: why not gradable, else empty.  system: its name.  bundle: the hash of its files.
    """

    image: NDArray[np.str_]
    patient: NDArray[np.str_]
    eye: NDArray[np.str_]
    split: NDArray[np.str_]
    grade: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    severity: NDArray[np.float32]
    decoded: NDArray[np.int64]
    gradable: NDArray[np.bool_]
    reason: NDArray[np.str_]
    system: NDArray[np.str_]
    bundle: NDArray[np.str_]
    place: InitVar[Callable[[int], str] | None] = None  # how an error names photograph i

    def __post_init__(self, place: Callable[[int], str] | None) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _column(field.name, getattr(self, field.name)))
        for field in fields(self):
            if len(getattr(self, field.name)) != len(self.image):
                got = f"{len(getattr(self, field.name))} entries beside {len(self.image)} images"
                raise DataError(f"predictions, {field.name}", got, "one entry per photograph")
        _check(self, place or (lambda i: f"predictions, photograph '{self.image[i]}'"))

    def __len__(self) -> int:
        return len(self.image)

    def select(self, rows: ArrayLike) -> Predictions:
        """The photographs of a mask or of positions, in that order."""
        rows = np.asarray(rows)
        rows = rows if rows.size else rows.astype(np.intp)  # numpy makes [] floats
        return Predictions(*(getattr(self, field.name)[rows] for field in fields(self)))


def _column(name: str, values: ArrayLike) -> NDArray:
    array = np.asarray(values, dtype=str if name in TEXTS else None)
    row = (NUM_GRADES,) if name == "probabilities" else ()
    if array.ndim < 1 or array.shape[1:] != row:
        raise DataError(f"predictions, {name}", f"shape {array.shape}", f"(N, {NUM_GRADES})" if row else "(N,)")
    if name == "gradable" and array.dtype != bool:
        raise DataError("predictions, gradable", f"an array of {array.dtype}", "true and false")
    if name in ("grade", "decoded") and array.size and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"predictions, {name}", f"an array of {array.dtype}", f"integers, {NO_GRADE} for none")
    return array if name in TEXTS else array.astype(NUMBER_TYPES[name])


# --- what a row may not say ---


def _check(p: Predictions, place: Callable[[int], str]) -> None:
    for wrong, got, expected, repair in (*_faults_of_origin(p), *_faults_of_grading(p), *_faults_of_probabilities(p)):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise DataError(place(first), got(first), expected, repair)


def _faults_of_origin(p: Predictions) -> Iterator[Fault]:
    repairs = {
        "image": "Write the photograph's path.",
        "patient": "Unknown: give each photograph a patient of its own.",
        "system": "Write the system's name.",
    }
    for name, repair in repairs.items():
        yield getattr(p, name) == "", lambda i, name=name: f"{name} is empty", "text", repair
    first_seen = np.zeros(len(p), bool)
    first_seen[np.unique(p.image, return_index=True)[1]] = True
    expected = "each photograph once"
    yield ~first_seen, lambda i: f'image "{p.image[i]}" stands above already', expected, "Remove one of the rows."
    known = np.isin(p.eye, ("left", "right", ""))
    yield ~known, lambda i: f'eye is "{p.eye[i]}"', "left, right or an empty cell", ""


def _faults_of_grading(p: Predictions) -> Iterator[Fault]:
    allowed = f"0..{NUM_GRADES - 1} (ICDR)"
    off = (p.grade < NO_GRADE) | (p.grade >= NUM_GRADES)
    yield off, lambda i: f'grade is "{p.grade[i]}"', allowed, "Unknown truth: leave the cell empty."
    off = (p.decoded < NO_GRADE) | (p.decoded >= NUM_GRADES)
    yield off, lambda i: f'decoded is "{p.decoded[i]}"', allowed, "Ungradable: leave the cell empty."
    given = p.decoded != NO_GRADE
    repair = "Write its grade, or gradable false and a reason."
    yield p.gradable & ~given, lambda i: "gradable without a decoded grade", allowed, repair
    repair = "Empty decoded, or write gradable true."
    yield ~p.gradable & given, lambda i: f"ungradable, yet decoded is {p.decoded[i]}", "an empty cell", repair
    off = p.gradable & ~((p.severity >= 0) & (p.severity <= NUM_GRADES - 1))
    repair = "A system that only grades: write the grade as severity."
    yield off, lambda i: f"severity is {p.severity[i]}", f"a number in 0..{NUM_GRADES - 1}", repair
    off = ~p.gradable & ~np.isnan(p.severity)
    yield off, lambda i: f"ungradable, yet severity is {p.severity[i]}", "an empty cell", "Empty it."
    repair = "Say why, in a few words."
    yield ~p.gradable & (p.reason == ""), lambda i: "ungradable without a reason", "a reason", repair
    off = p.gradable & (p.reason != "")
    yield off, lambda i: f'gradable, yet the reason is "{p.reason[i]}"', "an empty cell", "Empty it."


def _faults_of_probabilities(p: Predictions) -> Iterator[Fault]:
    absent = np.isnan(p.probabilities)
    some, none = ~absent.all(1), absent.any(1)
    repair = "A system without probabilities: leave all five empty."
    yield some & none, lambda i: "some of p0..p4 are empty", "all five or none", repair
    yield some & ~p.gradable, lambda i: "ungradable, yet with probabilities", "five empty cells", "Empty them."
    off = ((p.probabilities < 0) | (p.probabilities > 1)).any(1)
    yield off, lambda i: f"p0..p4 are {_shown(p, i)}", "probabilities in 0..1", "Divide percentages by 100."
    total = p.probabilities.sum(1, dtype=np.float64)
    off = some & ~none & ~(np.abs(total - 1) <= SUM_TOLERANCE)
    repair = "Divide the five by their sum, or leave them empty."
    yield off, lambda i: f"p0..p4 sum to {total[i]:.6g}", f"1 within {SUM_TOLERANCE:g}", repair


def _shown(p: Predictions, i: int) -> str:
    return " ".join(f"{value:g}" for value in p.probabilities[i])


# --- CSV ---


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write the CSV whole or not at all; numbers with the fewest digits that give the same float32 again."""
    write_atomically(Path(path), table_bytes(COLUMNS, _rows(predictions)))


def _rows(p: Predictions) -> Iterator[tuple[str, ...]]:
    """As text; a part at a time, since a million rows of fifteen texts are a gigabyte."""
    for start in range(0, len(p), PART):
        yield from zip(*(_cells(p, name, slice(start, start + PART)) for name in COLUMNS), strict=True)


def _cells(p: Predictions, name: str, part: slice) -> list[str]:
    if name in TEXTS:
        return getattr(p, name)[part].tolist()
    if name == "gradable":
        return [true_or_false(value) for value in p.gradable[part]]
    if name in ("grade", "decoded"):
        return ["" if value == NO_GRADE else str(value) for value in getattr(p, name)[part]]
    values = p.severity if name == "severity" else p.probabilities[:, PROBABILITY_COLUMNS.index(name)]
    return ["" if np.isnan(value) else str(value) for value in values[part]]


def read_predictions(path: str | Path) -> Predictions:
    """Read and check a table of predictions.

    Raises DataError that names file, row (the header is row 1) and repair.
    """
    path = Path(path)
    columns, body = open_table(path)
    _check_columns(path, columns)
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    numbers = {name: array(TYPES.get(name, "f")) for name in COLUMNS if name not in TEXTS}
    rows, shared = array("q"), {}
    for row, cells in body:
        rows.append(row)
        for name, column in texts.items():
            column.append(shared.setdefault(cells[name], cells[name]) if name in REPEATED else cells[name])
        for name, column in numbers.items():
            column.append(_parsed(name, cells[name], path, row))
    probabilities = np.stack([np.array(numbers.pop(name)) for name in PROBABILITY_COLUMNS], axis=1)
    gradable = np.array(numbers.pop("gradable"), dtype=bool)
    own = {name: np.array(column) for name, column in numbers.items()} | texts
    return Predictions(
        **own, gradable=gradable, probabilities=probabilities, place=lambda i: f"{path.name}, row {rows[i]}"
    )


def told_sources(folder: Path) -> dict[str, str]:
    """The source of each photograph that a cross-validation measured, from the folder that it keeps of each source."""
    pages = {path.parent.name: read_predictions(path) for path in folder.glob("*/predictions.csv")}
    return {str(image): name for name, table in pages.items() for image in table.image}


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            repair = did_you_mean(name, COLUMNS)
            raise DataError(path.name, f'unknown column "{name}"', "the columns of a predictions table", repair)
    for name in COLUMNS:
        if name not in columns:
            repair = "Add it; cells may be empty where docs/reference/predictions.md says so."
            raise DataError(path.name, f'no column "{name}"', ", ".join(COLUMNS), repair)


def _parsed(name: str, cell: str, path: Path, row: int) -> float:
    try:
        return PARSERS.get(name, _number)(cell)
    except (ValueError, KeyError) as cause:
        expected, repair = EXPECTED.get(name, ("a number or an empty cell", ""))
        raise DataError(f"{path.name}, row {row}", f'{name} is "{cell}"', expected, repair) from cause


EXPECTED = {
    "gradable": ("true or false", ""),
    "grade": (f"0..{NUM_GRADES - 1} (ICDR)", "Unknown truth: leave the cell empty."),
    "decoded": (f"0..{NUM_GRADES - 1} (ICDR)", "Ungradable: leave the cell empty."),
}


TRUTHS = {"true": True, "1": True, "false": False, "0": False}
# pandas writes 3 as 3.0 when another cell of the column is empty.
GRADE_CELLS = {"": NO_GRADE} | {f"{g}{end}": g for g in range(NUM_GRADES) for end in ("", ".0")}


def _truth(cell: str) -> bool:
    return TRUTHS[cell.lower()]


def _grade(cell: str) -> int:
    return GRADE_CELLS[cell]


def _number(cell: str) -> float:
    value = float(cell) if cell else np.nan
    if cell and not abs(value) < 1e9:  # also refuses nan; float32 could not hold much more
        raise ValueError(cell)
    return value


PARSERS = {"gradable": _truth, "grade": _grade, "decoded": _grade}  # the other numbers: _number
