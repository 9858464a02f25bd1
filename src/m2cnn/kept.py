"""Gradings that are kept until all of a long list are written: a call that was broken off goes on where it was.

A line of JSON for each photograph, written as it is graded. A photograph is known again by its bytes, by those of the
others of its exam, and by what graded it; its name is not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from m2cnn.errors import ImageError
from m2cnn.grades import Grading
from m2cnn.photograph import file_bytes


class Kept:
    """found: what earlier calls graded, by key."""

    def __init__(self, file: BinaryIO, found: dict[str, Grading], origin: Sequence[str]):
        self.found, self._file, self._origin = found, file, origin

    def keys(self, exam: Sequence[tuple[str | Path | bytes, str]]) -> list[str]:
        """What each photograph (a path or bytes, and its eye) of an exam is known by.

        All empty where one of them cannot be read: it may be there the next time, and the others' grades hang on it.
        """
        try:
            eyes = [[eye, hashlib.sha256(_contents(source)).hexdigest()] for source, eye in exam]
        except ImageError:
            return [""] * len(exam)
        return [_digest([*self._origin, eyes, number]) for number in range(len(exam))]

    def keep(self, key: str, grading: Grading) -> None:
        """Nothing where the key is empty."""
        if key:
            self._file.write(json.dumps([key, asdict(replace(grading, image=""))]).encode() + b"\n")
            self._file.flush()


@contextmanager
def keeping(target: str | Path, origin: Sequence[str]) -> Iterator[Kept]:
    """What was graded for the file `target`: in a hidden file beside it, until this context ends without an error.

    origin: what graded it.
    """
    path = Path(target).absolute()
    path = path.with_name(f".{path.name}.m2cnn-graded")
    path.parent.mkdir(parents=True, exist_ok=True)
    found, is_torn = _read(path)
    with open(path, "ab") as file:
        file.write(b"\n" * is_torn)
        yield Kept(file, found, origin)
    path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Grading], bool]:
    """What is kept there, and whether the last line is torn. What cannot be understood is graded again."""
    content = path.read_bytes() if path.exists() else b""
    found = {}
    for line in content.splitlines():
        try:
            key, said = json.loads(line)
            chances = said["probabilities"]
            found[key] = Grading(**said | {"probabilities": chances and tuple(chances)})
        except (ValueError, TypeError, KeyError):
            continue
    return found, bool(content) and not content.endswith(b"\n")


def _contents(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else file_bytes(Path(source))


def _digest(values: list) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
