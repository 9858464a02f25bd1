"""Gradings that are kept until all of a long list are written: a call that was broken off goes on where it was.

A line of JSON for each photograph that has a grade, written as it is graded. A photograph is known again by its bytes,
by those of the others of its exam, and by what graded it; its name is not kept. Refusals are not: they cost little, and
a disk or a memory that failed once may do better.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from m2cnn.errors import ImageError, M2cnnError
from m2cnn.grades import Grading
from m2cnn.photograph import file_bytes

ENDING = ".m2cnn-graded"


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
        """Nothing where the key is empty, or there is no grade."""
        if key and grading.gradable:
            self._file.write(json.dumps([key, asdict(replace(grading, image=""))]).encode() + b"\n")
            self._file.flush()


@contextmanager
def keeping(target: str | Path, origin: Sequence[str]) -> Iterator[Kept]:
    """What was graded for the file `target`, until this context ends: in a hidden file beside it, or in the folder that
    it is. Only what breaks off (Ctrl-C, a full disk, a kill) leaves that file; a refusal does not.

    origin: what graded it.
    """
    path = Path(target).resolve()
    path = path / ENDING if path.is_dir() else path.with_name(f".{path.name}{ENDING}")
    path.parent.mkdir(parents=True, exist_ok=True)
    found, is_torn = _read(path)
    with open(path, "ab") as file:
        file.write(b"\n" * is_torn)
        try:
            yield Kept(file, found, origin)
        except M2cnnError:
            path.unlink(missing_ok=True)
            raise
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
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found, bool(content) and not content.endswith(b"\n")


def _contents(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else file_bytes(Path(source))


def _digest(values: list) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
