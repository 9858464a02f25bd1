"""The manifest: one CSV that says which photographs there are, whose they are, and what is known of them.

| column  | values                             | meaning                                                       |
|---------|------------------------------------|---------------------------------------------------------------|
| image   | relative posix path                | required; doubled images are refused                          |
| patient | text                               | required; photographs of a patient never stand on two sides   |
| eye     | left, right or empty               |                                                               |
| grade   | 0..4 (ICDR) or empty               | empty: not graded, or not gradable                            |
| dme     | 0..2 or empty                      | risk of macular oedema, as IDRiD counts it                    |
| quality | gradable, ungradable or empty      |                                                               |
| split   | train, val, test, lockbox or empty |                                                               |
| sha256  | 64 hexadecimal digits or empty     | of the file's bytes                                           |
| source  | text                               | the dataset it came from                                      |
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from m2cnn.errors import DataError, LockboxError, SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.tables import read_table, table_bytes, write_atomically

SPLITS = ("train", "val", "test", "lockbox")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}(\.0*)?")  # pandas writes 3 as 3.0 when another cell of the column is empty


@dataclass(frozen=True, slots=True)
class Row:
    """One photograph. Raises DataError when a value means nothing."""

    image: str
    patient: str
    eye: str = ""
    grade: int | None = None
    dme: int | None = None
    quality: str = ""
    split: str = ""
    sha256: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for fault in _faults(self._values()):
            raise DataError(f"photograph {self.image!r}", *fault[1:])

    def _values(self) -> dict[str, Any]:
        return {column: getattr(self, column) for column in COLUMNS}

    @property
    def teaches(self) -> bool:
        """Whether it has a grade that can be trusted."""
        return self.grade is not None and self.quality != "ungradable"


COLUMNS = tuple(field.name for field in fields(Row))
DEFAULTS = {field.name: field.default for field in fields(Row)}
REQUIRED = ("image", "patient")


class _Fault(NamedTuple):
    column: str
    got: str
    expected: str
    repair: str


def _faults(values: Mapping[str, Any]) -> Iterator[_Fault]:
    """What is wrong with the values of a row."""
    for column in REQUIRED:
        if not values[column]:
            repair = "No patient ids: give each photograph its own." if column == "patient" else "Remove the row."
            yield _Fault(column, f"{column} is empty", "a value", repair)
    for column in ("image", "patient", "source"):
        value = values[column]
        if not value.isprintable() or value != value.strip():
            yield _Fault(column, f"{column} is {value!r}", "no hidden character and no space at the ends", "Retype it.")

    def of(column: str, expected: str, repair: str) -> _Fault:
        return _Fault(column, f'{column} is "{values[column]}"', expected, repair)

    if not _is_inside(values["image"]):
        yield of("image", "a path with / below the folder of photographs", "Give that folder as root.")
    if values["grade"] not in (None, *range(NUM_GRADES)):
        yield of("grade", f"0..{NUM_GRADES - 1} (ICDR)", "Ungradable images: leave the cell empty.")
    if values["dme"] not in (None, 0, 1, 2):
        yield of("dme", "0..2 (risk of macular oedema)", "Unknown: leave the cell empty.")
    for column, allowed in (("eye", ("left", "right")), ("quality", ("gradable", "ungradable")), ("split", SPLITS)):
        if values[column] not in ("", *allowed):
            yield of(column, f"{', '.join(allowed)} or empty", did_you_mean(values[column], allowed))
    if not re.fullmatch(r"([0-9a-f]{64})?", values["sha256"]):
        yield of("sha256", "64 hexadecimal digits or empty", "Empty the column and fill it again.")


def _is_inside(image: str) -> bool:
    path = PurePosixPath(image)
    return str(path) == image and not path.is_absolute() and not re.search(r"\\|^\w:|^\.$|(^|/)\.\.(/|$)", image)


OPEN_LOCKBOX = "m2cnn data open-lockbox MANIFEST --by WHO --reason WHY"
LOCKBOX = 0.1  # the share of patients that is set aside


def in_lockbox(patient: str, fraction: float = LOCKBOX) -> bool:
    """Whether a patient belongs to the lockbox: the SHA-256 of the id, read as a number in [0, 1), is below `fraction`.

    It depends on nothing else, so a patient stays where he is when the dataset grows, is split again, or meets another.
    """
    return draw_of(patient) < fraction


def draw_of(text: str) -> float:
    """A number in [0, 1) that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


@dataclass(frozen=True)
class Manifest:
    """Rows and the folder that their image paths start from. Raises DataError when an image stands twice."""

    rows: tuple[Row, ...]
    root: Path

    def __post_init__(self) -> None:
        if len({row.image for row in self.rows}) < len(self.rows):
            image, times = Counter(row.image for row in self.rows).most_common(1)[0]
            raise DataError(
                "manifest", f'image "{image}" stands {times} times', "each photograph once", "Remove the others."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def path(self, row: Row) -> Path:
        return self.root / row.image

    def patients(self) -> np.ndarray:
        """(N,) patient ids in the order of the rows."""
        return np.array([row.patient for row in self.rows], dtype=str)

    def grades(self) -> np.ndarray:
        """(N,) int64, 0..4, or -1 where there is no grade."""
        return np.array([-1 if row.grade is None else row.grade for row in self.rows], dtype=np.int64)

    def graded(self) -> Manifest:
        """Only the photographs with a grade."""
        return Manifest(tuple(row for row in self.rows if row.grade is not None), self.root)

    def select(self, *splits: str) -> Manifest:
        """The photographs of one or several splits; "all" is everything but the lockbox, assigned or not.

        Raises LockboxError for "lockbox", SettingError for an unknown name, DataError when nothing is selected.
        """
        wanted = _wanted(splits)
        locked = {row.image for row in self.rows if not row.split and in_lockbox(row.patient)}
        rows = tuple(row for row in self.rows if row.split in wanted and row.image not in locked)
        if not rows:
            counts = Counter(row.split or "(no split)" for row in self.rows)
            have = ", ".join(f"{name}: {count}" for name, count in counts.items())
            got = f"no photograph in {' or '.join(splits)}"
            repair = "Measure on all (--split all), or split first (data split)."
            raise DataError("manifest", got, f"one of its splits ({have})", repair)
        return Manifest(rows, self.root)

    def counts(self) -> dict[str, dict[str, Any]]:
        """By split and source: patients, photographs of each grade, and those without one; of the lockbox, how many."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.split, row.source), []).append(row)
        found: dict[str, dict[str, Any]] = {}
        for (split, source), rows in sorted(groups.items()):
            grades = Counter(row.grade for row in rows)
            counts = {"photographs": len(rows), "patients": len({row.patient for row in rows})}
            if split != "lockbox":
                counts |= {"grades": [grades[grade] for grade in range(NUM_GRADES)], "ungraded": grades[None]}
            found.setdefault(split, {})[source] = counts
        return found

    def digest(self) -> str:
        """SHA-256 of the canonical CSV: `sha256sum` of the file that write_manifest writes."""
        return hashlib.sha256(manifest_bytes(self)).hexdigest()


def _wanted(splits: tuple[str, ...]) -> set[str]:
    if "lockbox" in splits:
        repair = f"Open it: {OPEN_LOCKBOX}; then m2cnn evaluate --split lockbox."
        raise LockboxError("manifest", "the lockbox is closed", "train, val, test or all", repair)
    for name in splits:
        if name not in ("all", *SPLITS):
            raise SettingError("split", f'"{name}"', "a split", did_you_mean(name, ("all", "train", "val", "test")))
    return {"", "train", "val", "test"} if "all" in splits else set(splits)


# Reading and writing


def read_manifest(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Read and check a manifest; image paths start from `root`, by default the folder of the CSV.

    Raises DataError that names file, row and repair.
    """
    path = Path(path)
    columns, body = read_table(path)
    _check_columns(path, columns)
    rows: dict[str, Row] = {}
    for number, cells in body:
        place = f"{path.name}, row {number}"
        row = row_from_cells(cells, place)
        if row.image in rows:
            raise DataError(
                place, f'image "{row.image}" stands above already', "each photograph once", "Remove one row."
            )
        rows[row.image] = row
    if not rows:
        raise DataError(path.name, "no photographs", "a row for each", "Is it the right file?")
    return Manifest(tuple(rows.values()), path.parent if root is None else Path(root))


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            way = f"m2cnn data import table FOLDER csv={shlex.quote(str(path))} --out NEW.csv"
            repair = f"{did_you_mean(name, COLUMNS)} Remove the column, or have a manifest made without it: {way}."
            raise DataError(path.name, f'unknown column "{name}"', "the columns of a manifest", repair)
    for name in REQUIRED:
        if name not in columns:
            raise DataError(
                path.name, f'no column "{name}"', "image and patient", f"Its columns: {', '.join(columns)}."
            )


def row_from_cells(cells: dict[str, str], place: str, ways: Mapping[str, str] | None = None) -> Row:
    """A row from text; DataError names `place`. ways: by column, another way out where its cell is refused."""
    values: dict = dict(cells)
    for column in ("grade", "dme"):
        values[column] = _whole(values.get(column, ""))
    if cells["image"]:
        values["image"] = str(PurePosixPath(cells["image"]))  # ./a.jpg and a.jpg are one photograph
    try:
        return Row(**values)
    except DataError:
        column, got, expected, repair = next(_faults(DEFAULTS | values))
        way = (ways or {}).get(column)
        raise DataError(place, got, expected, f"{repair} {way}" if way else repair) from None


def _whole(cell: str) -> int | str | None:
    """A whole number, None for an empty cell; anything else stays text, for Row to refuse."""
    if not cell:
        return None
    return int(float(cell)) if WHOLE_NUMBER.fullmatch(cell) else cell


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write the CSV whole or not at all: UTF-8, all columns, one line per photograph in the order of the rows."""
    write_atomically(Path(path), manifest_bytes(manifest))


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical CSV of a manifest."""

    def cells(row: Row) -> tuple[str, ...]:
        numbers = ("" if n is None else str(int(n)) for n in (row.grade, row.dme))
        return row.image, row.patient, row.eye, *numbers, row.quality, row.split, row.sha256, row.source

    return table_bytes(COLUMNS, map(cells, manifest.rows))


# Files


CHANGED = "its bytes have changed (sha256)"


@dataclass(frozen=True)
class FileProblem:
    """`row`: its number in the file that write_manifest writes (the header is row 1)."""

    row: int
    image: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.image}: {self.reason}"


def check_files(manifest: Manifest, hashes: bool = True) -> list[FileProblem]:
    """Photographs that are missing or, with `hashes`, whose bytes are not those of the manifest; [] if none."""
    missing = set(missing_files(manifest))
    problems = []
    for number, row in enumerate(manifest.rows, start=2):
        if row.image in missing:
            problems.append(FileProblem(number, row.image, "no such file"))
        elif hashes and row.sha256 and (reason := _differs(manifest.path(row), row.sha256)):
            problems.append(FileProblem(number, row.image, reason))
    return problems


def _differs(path: Path, sha256: str) -> str:
    """Why a file is not the one with that hash, else ""."""
    try:
        return "" if file_hash(path) == sha256 else CHANGED
    except OSError as fault:
        return f"cannot be read ({fault.strerror})"


def missing_files(manifest: Manifest) -> list[str]:
    """Images without a file. Lists each folder once: a question per file takes minutes on network disks."""
    folders = {PurePosixPath(row.image).parent for row in manifest.rows}
    present = {str(folder / name) for folder in folders for name in _file_names(manifest.root / folder)}
    return [row.image for row in manifest.rows if row.image not in present]


def _file_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
