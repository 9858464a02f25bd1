"""One look at every photograph of a set, remembered: what was seen of a file is not looked at again.

The memory is an SQLite file, keyed by the photograph's identity and by the code of the look, committed chunk by chunk:
kill it anywhere, call it again, and it goes on.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from m2cnn.data.identity import code_identity, file_identity
from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.parallel import in_chunks
from m2cnn.errors import DataError, ImageError
from m2cnn.fingerprint import SIDE, plane_of
from m2cnn.photograph import PhotographFile

MEMORY = "photographs.sqlite"
CODE = ("m2cnn.field", "m2cnn.photograph", "m2cnn.preprocess", "m2cnn.fingerprint")
CHUNK = 32


class Seen(NamedTuple):
    """What a look saw. reason: why the photograph could not be read, else "".  values: numbers by name.

    plane: the bytes of the fingerprint's plane, or empty.
    """

    reason: str
    values: dict[str, float]
    plane: bytes


class Task(NamedTuple):
    key: str
    path: Path


Look = Callable[[PhotographFile], Seen]  # a function of a module: it travels to worker processes


def look_at_plane(file: PhotographFile) -> Seen:
    """The look that finds the same photograph again."""
    return Seen("", {}, plane_of(file).tobytes())


def survey(
    manifest: Manifest, look: Look, folder: str | Path, workers: int = 2, code: Sequence[str] = ()
) -> dict[str, Seen]:
    """image -> what `look` saw of it, for every photograph; what stands in FOLDER/photographs.sqlite is not seen again.

    code: modules that the look depends on besides CODE and its own: when one changes, everything is seen anew.
    A photograph that cannot be read is there with its reason. Raises DataError for a damaged memory.
    """
    hashes = code_identity(sorted({*CODE, *code, look.__module__}))
    keys = {row.image: _key(manifest, row, [look.__module__, look.__qualname__, hashes]) for row in manifest}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(_open(folder / MEMORY)) as memory:
        seen = _remembered(memory, set(keys.values()))
        tasks = {keys[row.image]: Task(keys[row.image], manifest.path(row)) for row in manifest}
        missing = [task for key, task in tasks.items() if key not in seen]
        for chunk in in_chunks(partial(look_at_chunk, look), missing, workers, CHUNK, "looking at photographs"):
            seen |= {key: what for key, what, _ in chunk}
            _remember(memory, [(key, what) for key, what, lasting in chunk if lasting])
    return {image: seen[key] for image, key in keys.items()}


def planes_of(seen: dict[str, Seen]) -> tuple[list[str], np.ndarray]:
    """The images that have a plane, and their planes (N, 64, 64) uint8."""
    images = [image for image, what in seen.items() if what.plane]
    flat = np.frombuffer(b"".join(seen[image].plane for image in images), np.uint8)
    return images, flat.reshape(-1, SIDE, SIDE)


def look_at_chunk(look: Look, tasks: list[Task]) -> list[tuple[str, Seen, bool]]:
    """(key, what was seen, whether it lasts): a missing file or a lost disk may come back."""
    return [(task.key, *_look(look, task.path)) for task in tasks]


def _look(look: Look, path: Path) -> tuple[Seen, bool]:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as fault:
        return Seen(f"cannot be opened ({fault.strerror})", {}, b""), False
    try:
        return look(PhotographFile(path)), True
    except ImageError as fault:
        return Seen(fault.got, {}, b""), True


def _key(manifest: Manifest, row: Row, look: list) -> str:
    # Without a hash, two files of one length may have been written in one instant: the path tells them apart.
    place = "" if row.sha256 else str(manifest.path(row).absolute())
    return hashlib.sha256(json.dumps([look, place, *file_identity(manifest, row)]).encode()).hexdigest()


# The memory


def _open(path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(path, timeout=60)
    try:
        memory.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, reason TEXT, numbers TEXT, plane BLOB)")
    except sqlite3.DatabaseError as cause:
        memory.close()
        raise DataError(path, f"damaged ({cause})", "what m2cnn remembers of photographs", "Remove it.") from cause
    return memory


def _remembered(memory: sqlite3.Connection, keys: set[str]) -> dict[str, Seen]:
    rows: Iterator = memory.execute("SELECT key, reason, numbers, plane FROM seen")
    return {key: Seen(reason, json.loads(numbers), plane) for key, reason, numbers, plane in rows if key in keys}


def _remember(memory: sqlite3.Connection, rows: list[tuple[str, Seen]]) -> None:
    with memory:
        values = [(key, what.reason, json.dumps(what.values), what.plane) for key, what in rows]
        memory.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", values)
