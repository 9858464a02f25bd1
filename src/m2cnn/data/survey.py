"""One look at every photograph of a set, remembered: what was seen of a file is not looked at again.

The memory is an SQLite file, committed chunk by chunk: kill it anywhere, call it again, and it goes on. A table says
which bytes a file has (by path, length and time), another what a look saw of those bytes; the look's code counts too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from m2cnn.data.identity import code_identity, file_identity
from m2cnn.data.manifest import CHANGED, FileProblem, Manifest, Row, file_hash
from m2cnn.data.pairing import some
from m2cnn.errors import DataError, ImageError
from m2cnn.fingerprint import SIDE, planes_of_file
from m2cnn.parallel import in_chunks
from m2cnn.photograph import PhotographFile, file_bytes

MEMORY = "photographs.sqlite"
CODE = ("m2cnn.field", "m2cnn.photograph", "m2cnn.preprocess", "m2cnn.fingerprint")
CHUNK = 32
TABLES = (
    "CREATE TABLE IF NOT EXISTS files (identity TEXT PRIMARY KEY, sha256 TEXT)",
    "CREATE TABLE IF NOT EXISTS seen (sha256 TEXT, look TEXT, reason TEXT, numbers TEXT, planes BLOB, "
    "PRIMARY KEY (sha256, look))",
)


class Seen(NamedTuple):
    """What a look saw. reason: why the photograph could not be read, else "".  values: numbers by name.

    planes: the bytes of the fingerprint's planes, or empty.  sha256: of the file, empty when it could not be opened.
    """

    reason: str
    values: dict[str, float]
    planes: bytes
    sha256: str = ""


class Task(NamedTuple):
    image: str
    path: Path
    identity: str


Look = Callable[[PhotographFile], Seen]  # a function of a module: it travels to worker processes


def remembering(memory: str | Path | None) -> AbstractContextManager[str | Path]:
    """The folder that remembers what is seen, or where none is named one that is gone afterwards."""
    return nullcontext(memory) if memory else TemporaryDirectory()


def look_at_planes(file: PhotographFile) -> Seen:
    """The look that finds the same photograph again."""
    return Seen("", {}, planes_of_file(file).tobytes())


def survey(
    manifest: Manifest, look: Look, folder: str | Path, workers: int = 2, code: Sequence[str] = (), doubt: bool = False
) -> dict[str, Seen]:
    """image -> what `look` saw of it, for every photograph; what stands in FOLDER/photographs.sqlite is not seen again.

    code: modules that the look depends on besides CODE and its own: when one changes, everything is seen anew.
    doubt: files whose rows have a hash are hashed also where the memory knows them by length and time.
    A photograph that cannot be read, or has not the hash that its row says, is there with its reason. Raises DataError
    for a memory that is damaged or cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [Task(row.image, manifest.path(row), _identity(manifest, row)) for row in manifest]
    with closing(_Memory(folder / MEMORY, look, code)) as memory:
        seen = memory.recall(tasks)
        for row in manifest if doubt else ():
            if row.sha256 and row.image in seen and not _is_still(manifest.path(row), seen[row.image].sha256):
                del seen[row.image]
        missing = [task for task in tasks if task.image not in seen]
        for chunk in in_chunks(partial(look_at_chunk, look), missing, workers, CHUNK, "looking at photographs"):
            memory.keep(chunk)
            seen |= {task.image: what for task, what in chunk}
    return {row.image: _as_promised(row, seen[row.image]) for row in manifest}


def _as_promised(row: Row, seen: Seen) -> Seen:
    changed = row.sha256 and seen.sha256 and row.sha256 != seen.sha256
    return Seen(CHANGED, {}, b"", seen.sha256) if changed else seen


def _is_still(path: Path, sha256: str) -> bool:
    try:
        return file_hash(path) == sha256
    except OSError:
        return False


def problems(manifest: Manifest, seen: dict[str, Seen]) -> list[FileProblem]:
    """As `check_files`, of what a survey saw: files that cannot be opened, or are not those of the manifest."""
    numbered = [(number, row.image, seen[row.image]) for number, row in enumerate(manifest, start=2)]
    return [FileProblem(n, image, it.reason) for n, image, it in numbered if it.reason == CHANGED or not it.sha256]


def refuse_changed(seen: dict[str, Seen]) -> None:
    """DataError where a file is not the one that the manifest was written for: its grade may be another's."""
    changed = [image for image, what in seen.items() if what.reason == CHANGED]
    if changed:
        got = f"{len(changed)} of {len(seen)} photographs are not those of the manifest (sha256): {some(changed)}"
        raise DataError("manifest", got, "the bytes that its hashes say", "Restore them, or import the set again.")


def planes_of(seen: dict[str, Seen]) -> tuple[list[str], np.ndarray]:
    """The images that could be read, and their planes (N, 2, 64, 64) uint8: of the field, and of the box."""
    images = [image for image, what in seen.items() if what.planes]
    flat = np.frombuffer(b"".join(seen[image].planes for image in images), np.uint8)
    return images, flat.reshape(-1, 2, SIDE, SIDE)


def with_hashes(manifest: Manifest, seen: dict[str, Seen]) -> Manifest:
    """The manifest with the hashes that a survey found, where it had none."""
    rows = (row if row.sha256 else replace(row, sha256=seen[row.image].sha256) for row in manifest)
    return Manifest(tuple(rows), manifest.root)


def look_at_chunk(look: Look, tasks: list[Task]) -> list[tuple[Task, Seen]]:
    """What is seen of each file."""
    return [(task, _look(look, task.path)) for task in tasks]


def _look(look: Look, path: Path) -> Seen:
    nothing = Seen("", {}, b"")
    try:
        data = file_bytes(path)
    except ImageError as fault:
        return nothing._replace(reason=fault.got)
    digest = hashlib.sha256(data).hexdigest()
    try:
        return look(PhotographFile(data))._replace(sha256=digest)
    except ImageError as fault:
        return nothing._replace(reason=fault.got, sha256=digest)


def _identity(manifest: Manifest, row: Row) -> str:
    # Two files of one length may have been written in one instant: the path tells them apart.
    place = [str(manifest.path(row).absolute()), *file_identity(manifest, replace(row, sha256=""))]
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()


class _Memory:
    """The SQLite file of a folder, for one look."""

    def __init__(self, path: Path, look: Look, code: Sequence[str]):
        identity = [look.__module__, look.__qualname__, code_identity(sorted({*CODE, *code, look.__module__}))]
        self.look = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        self.path = path
        with self._errors():
            self.database = sqlite3.connect(path, timeout=60)
            for table in TABLES:
                self.database.execute(table)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as cause:  # locked, full, not ours to write: hours of looking may stand in it
            repair = "Wait for the other process, check rights and space, or choose another folder."
            raise DataError(self.path, str(cause), "a memory that can be written", repair) from cause
        except (sqlite3.DatabaseError, ValueError) as cause:
            raise DataError(self.path, f"damaged ({cause})", "what m2cnn saw of photographs", "Remove it.") from cause

    def recall(self, tasks: Iterable[Task]) -> dict[str, Seen]:
        """image -> what was seen of its file."""
        query = "SELECT reason, numbers, planes, sha256 FROM seen WHERE look = ?"
        with self._errors():
            files = dict(self.database.execute("SELECT identity, sha256 FROM files"))
            digests = {task.image: digest for task in tasks if (digest := files.get(task.identity))}
            wanted = set(digests.values())
            rows = self.database.execute(query, (self.look,))
            found = {row[3]: Seen(row[0], json.loads(row[1]), row[2], row[3]) for row in rows if row[3] in wanted}
        return {image: found[digest] for image, digest in digests.items() if digest in found}

    def keep(self, chunk: list[tuple[Task, Seen]]) -> None:
        """What could be opened; a missing file or a lost disk may come back."""
        read = [(task, what) for task, what in chunk if what.sha256]
        files = [(task.identity, what.sha256) for task, what in read]
        seen = [(what.sha256, self.look, what.reason, json.dumps(what.values), what.planes) for _, what in read]
        with self._errors(), self.database:
            self.database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", files)
            self.database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)", seen)

    def close(self) -> None:
        self.database.close()
