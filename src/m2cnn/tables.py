"""Comma-separated tables with a header, read with row numbers, and files written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from m2cnn.errors import DataError, SettingError


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


def true_or_false(value: bool) -> str:
    """A cell of a table: true or false."""
    return "true" if value else "false"


def table_bytes(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV of `columns` and `rows` as UTF-8 bytes, lines ending in a line feed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def new_file(path: Path) -> Path:
    """Raises SettingError for a file that is there already: what it holds would be lost."""
    if path.exists():
        raise SettingError(path, "it exists", "a file that is not there yet", "Name another, or remove it yourself.")
    return path


def new_table(asked: str | None) -> Path | None:
    """As `new_file`, None where none is asked for; a pipe or a device, such as /dev/stdout, loses nothing and may be
    there.
    """
    if not asked:
        return None
    return Path(asked) if is_device(Path(asked)) else new_file(Path(asked))


def is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


HALF = ".m2cnn-"  # in the name of what is not yet whole: .NAME.m2cnn-PID


def is_half(name: str) -> bool:
    """Whether a file is what a killed process had not yet written whole."""
    return bool(re.fullmatch(rf"\..+{re.escape(HALF)}\d+", name))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content`; a reader sees the old file or the new one, never half of it."""
    if path.exists() and not path.is_file():
        raise DataError(path, "a folder or a device", "a file to write", "Name a file.")
    with _half(path, os.replace) as file:
        file.write(content)


@contextmanager
def writing_new(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which has its name once it is whole; where writing breaks off there is none.

    Pipes and devices are written at once. Raises SettingError, as `new_file`, also for a file that came meanwhile.
    """
    if is_device(path):
        with open(path, "wb") as file:
            yield file
        return
    with _half(new_file(path), _name_new) as file:
        yield file


@contextmanager
def _half(path: Path, name: Callable[[Path, Path], None]) -> Iterator[BinaryIO]:
    """A file beside `path` that is given its name when it is whole, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()  # through a link, so that the file behind it is the new one too
    half = path.with_name(f".{path.name}{HALF}{os.getpid()}")
    try:
        with open(half, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        name(half, path)
    finally:
        half.unlink(missing_ok=True)


def _name_new(half: Path, path: Path) -> None:
    try:
        os.link(half, path)  # unlike a renamed file, a link never takes the place of another file
    except FileExistsError:
        new_file(path)
    except OSError:  # a file system without links, such as a memory stick's
        os.replace(half, new_file(path))


def write_json(path: Path, values: object) -> None:
    """Plain values as an indented JSON file, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
