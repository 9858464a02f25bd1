"""Comma-separated tables with a header, read with row numbers, and files written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from m2cnn.errors import DataError


def read_table(path: str | Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Any comma-separated file with a header: its columns, and (row number in the file, cells by column) pairs.

    Cells and column names are stripped; blank lines and nameless empty columns are passed over; the header is row 1.
    Raises DataError: no such file, not UTF-8, another delimiter, a doubled column, cells without a column.
    """
    columns, body = open_table(path)
    return columns, list(body)


def open_table(path: str | Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """As `read_table`, one row at a time: for tables of millions."""
    path = Path(path)
    columns, body = _opened(path)
    named = ((number, _by_column(path, number, columns, cells)) for number, cells in body)
    return [name for name in columns if name], named


def header_of(path: str | Path) -> list[str]:
    """The columns of a CSV that have a name. Raises DataError: as `read_table`, and for a file without a row."""
    columns, body = _opened(Path(path))
    if next(body, None) is None:
        raise DataError(Path(path).name, "no row behind the header", "a row or more")
    return [name for name in columns if name]


def _opened(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    body = ((number, cells) for number, cells in _cells(path) if any(cells))
    first = next(body, None)
    if first is None:
        raise DataError(path.name, "the file is empty", "a header and rows", "Check the path.")
    _check_header(path, first[1])
    return first[1], body


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark. Raises DataError: unreadable, or not UTF-8."""
    return "".join(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file with their ends, without a byte order mark. Errors: as `read_text`."""
    before = 0
    try:
        with path.open("rb") as file:
            for line in file:
                yield from io.StringIO(line.decode("utf-8" if before else "utf-8-sig"), newline="")
                before += len(line)
    except UnicodeDecodeError as cause:
        place = before + cause.start
        raise DataError(path.name, f"byte {place} is not UTF-8", "UTF-8", 'Save it as "CSV UTF-8".') from cause
    except OSError as cause:
        raise DataError(path, cause.strerror or str(cause), "a readable CSV file", "Check the path.") from cause


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_lines(path), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as cause:
        place = f"{path.name}, row {reader.line_num}"
        raise DataError(place, str(cause), "comma-separated cells", "Check the quotes.") from cause


def _check_header(path: Path, columns: list[str]) -> None:
    if len(columns) == 1 and (other := re.search("[;\t|]", columns[0])):
        raise DataError(path.name, f"cells are separated by {other[0]!r}", "commas", 'Save it again as "CSV (comma)".')
    doubled = [name for name, times in Counter(filter(None, columns)).items() if times > 1]
    if doubled:
        raise DataError(path.name, f'column "{doubled[0]}" stands twice', "each column once", "Remove one of them.")


def _by_column(path: Path, number: int, columns: list[str], cells: list[str]) -> dict[str, str]:
    homeless = [cell for i, cell in enumerate(cells) if cell and (i >= len(columns) or not columns[i])]
    if homeless or len(cells) < len(columns):
        expected = f"{len(columns)} ({', '.join(filter(None, columns))})"
        repair = "Put cells that have commas inside in double quotes; write an empty cell as nothing between commas."
        raise DataError(f"{path.name}, row {number}", f"{len(cells)} cells", expected, repair)
    return {name: cell for name, cell in zip(columns, cells, strict=False) if name}


def table_bytes(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV of `columns` and `rows` as UTF-8 bytes, lines ending in a line feed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


HALF = ".m2cnn-"  # in the name of what is not yet whole: .NAME.m2cnn-PID


def is_half(name: str) -> bool:
    """Whether a file is what a killed write_atomically left behind."""
    return bool(re.fullmatch(rf"\..+{re.escape(HALF)}\d+", name))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content`; a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise DataError(path, "a folder or a device", "a file to write", "Name a file.")
    path = path.resolve()  # through a link, so that the file behind it is the new one too
    half = path.with_name(f".{path.name}{HALF}{os.getpid()}")
    try:
        with open(half, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def write_json(path: Path, values: object) -> None:
    """Plain values as an indented JSON file, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
