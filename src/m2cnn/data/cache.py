"""Pictures of the asked sizes on disk: every photograph is decoded once and stands in one memory-mapped array per size.

A store is a folder, named by a hash of what its pictures depend on (photographs, their bytes, preprocess and its code,
the size), so that nothing stale is ever read:

    <folder>/<key>-<size>/pictures.npy    (N, size, size, 3) uint8, in alphabetical order of the images
    <folder>/<key>-<size>/done.jsonl      one line [row, reason] per finished photograph; reason "" means cached

A row enters done.jsonl only after its picture is on disk: kill it anywhere, call it again, and it goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from m2cnn.data.identity import code_identity, file_identity
from m2cnn.data.manifest import Manifest, Row
from m2cnn.errors import DataError, ImageError, ReducedError, SettingError
from m2cnn.parallel import in_chunks
from m2cnn.photograph import PhotographFile

LAYOUT = 1
CODE = ("m2cnn.field", "m2cnn.photograph", "m2cnn.preprocess")
CHUNK = 16  # photographs between two flushes to disk: what a kill can cost each worker


class Preparation(Protocol):
    """What `cache_pictures` asks of a preprocess; it must also pickle."""

    def read(self, file: PhotographFile, size: int) -> np.ndarray: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Cached:
    """index: image -> row of the arrays; failed: image -> why there is no picture. No image is in both."""

    stores: dict[int, Path]
    index: dict[str, int]
    failed: dict[str, str]
    _arrays: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def pictures(self, size: int) -> np.ndarray:
        """(N, size, size, 3) uint8, memory-mapped, read-only. Rows of failed images are black: go through `index`."""
        if size not in self.stores:
            raise SettingError("cached pictures", f"size {size}", f"one of {sorted(self.stores)}", "Cache it first.")
        if size not in self._arrays:
            self._arrays[size] = np.load(self.stores[size] / "pictures.npy", mmap_mode="r")
        return self._arrays[size]

    def usable(self, manifest: Manifest) -> Manifest:
        """The photographs of a manifest that have a picture; those in `failed` are left out.

        Raises DataError for a photograph that was never cached.
        """
        for row in manifest:
            if row.image not in self.index and row.image not in self.failed:
                raise DataError(
                    f"photograph {row.image!r}", "not cached", "one of the manifest given to cache_pictures"
                )
        return Manifest(tuple(row for row in manifest if row.image in self.index), manifest.root)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}  # a memory map would travel as a copy of all its pictures


def cache_pictures(
    manifest: Manifest, preprocess: Preparation, sizes: Sequence[int], folder: str | Path, workers: int = 2
) -> Cached:
    """Read every photograph of a manifest at every size, by `workers` processes; what is there already is kept.

    Cache a whole manifest once and pick rows by `index`: another selection of photographs is another store.
    A photograph that cannot be read or has no round field is in `failed` with its reason. A script that calls this with
    more than one worker needs `if __name__ == "__main__":`. Raises DataError when the disk is too small, and
    ReducedError for photographs that were prepared for smaller pictures.
    """
    rows = sorted(manifest, key=lambda row: row.image)
    _check(rows, sizes)
    folder = Path(folder)
    key = _key(manifest, rows, preprocess)
    stores = {size: _store(folder / f"{key}-{size}", (len(rows), size, size, 3)) for size in sizes}
    done = {size: _done(store, len(rows)) for size, store in stores.items()}
    tasks = _tasks(manifest, rows, done)
    _check_space(folder, tasks)
    passing = _run(tasks, partial(cache_chunk, stores, preprocess), stores, done, workers)
    failed = {
        rows[row].image: reason for of_size in (*done.values(), passing) for row, reason in of_size.items() if reason
    }
    index = {row.image: i for i, row in enumerate(rows) if row.image not in failed}
    return Cached(stores, index, failed)


def taught(manifest: Manifest) -> Manifest:
    """The photographs that a run prepares: those of training and validation with a grade that can be trusted."""
    return Manifest(tuple(row for row in manifest.select("train", "val") if row.teaches), manifest.root)


class Task(NamedTuple):
    row: int
    path: Path
    sizes: tuple[int, ...]


class Outcome(NamedTuple):
    """lasting: another try with the same bytes must end the same; a missing file or a lost disk may come back."""

    task: Task
    reason: str
    lasting: bool = True


# What there is to do


def _check(rows: list[Row], sizes: Sequence[int]) -> None:
    if not rows:
        raise DataError("manifest", "no photographs", "at least one", "Check the selection.")
    if not sizes or min(sizes) < 1:
        raise SettingError("sizes", f"{list(sizes)}", "one or more sides in pixels", "For example 224.")


def _key(manifest: Manifest, rows: list[Row], preprocess: Preparation) -> str:
    photographs = [(row.image, *file_identity(manifest, row)) for row in rows]
    content = [LAYOUT, code_identity(CODE), preprocess.to_dict(), photographs]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _tasks(manifest: Manifest, rows: list[Row], done: dict[int, dict[int, str]]) -> list[Task]:
    wanting = ((i, tuple(size for size, of_size in done.items() if i not in of_size)) for i in range(len(rows)))
    return [Task(i, manifest.path(rows[i]), sizes) for i, sizes in wanting if sizes]


def _check_space(folder: Path, tasks: list[Task]) -> None:
    needed = sum(3 * size * size for task in tasks for size in task.sizes)
    free = shutil.disk_usage(folder).free
    if needed > free:
        got = f"{free / 1e9:.1f} GB are free"
        raise DataError(folder, got, f"{needed / 1e9:.1f} GB for the prepared pictures", "Choose another folder.")


# Stores


def _store(store: Path, shape: tuple[int, ...]) -> Path:
    """Create a store that does not exist. Renaming a folder is all or nothing, also when two processes try."""
    if store.is_dir():
        return store
    new = store.with_name(f".{store.name}.{os.getpid()}")
    new.mkdir(parents=True, exist_ok=True)
    np.lib.format.open_memmap(new / "pictures.npy", mode="w+", dtype=np.uint8, shape=shape)
    (new / "done.jsonl").touch()
    try:
        new.rename(store)
    except OSError:
        shutil.rmtree(new)
        if not store.is_dir():
            raise
    return store


def _done(store: Path, total: int) -> dict[int, str]:
    """Finished rows and their reasons. A half-written line belongs to a row that will be done again."""
    finished: dict[int, str] = {}
    for line in (store / "done.jsonl").read_text("utf-8", errors="replace").splitlines():
        try:
            row, reason = json.loads(line)
        except (ValueError, TypeError):
            continue
        if row in range(total):
            finished[row] = reason
    return finished


def _note(store: Path, outcomes: list[Outcome]) -> None:
    """Append outcomes in one write; the line break comes first, so that a torn line before it stays alone."""
    lines = "".join(f"\n{json.dumps([outcome.task.row, outcome.reason])}" for outcome in outcomes)
    with open(store / "done.jsonl", "a", encoding="utf-8") as file:
        file.write(lines)


# The work


def _run(
    tasks: list[Task], work: partial, stores: dict[int, Path], done: dict[int, dict[int, str]], workers: int
) -> dict[int, str]:
    """Do the tasks and note them in the stores and in `done`; returns the failures that are not lasting."""
    passing: dict[int, str] = {}
    for outcomes in in_chunks(work, tasks, workers, CHUNK, "caching pictures"):
        passing |= {outcome.task.row: outcome.reason for outcome in outcomes if not outcome.lasting}
        for size, store in stores.items():
            of_size = [outcome for outcome in outcomes if outcome.lasting and size in outcome.task.sizes]
            _note(store, of_size)
            done[size] |= {outcome.task.row: outcome.reason for outcome in of_size}
    return passing


def cache_chunk(stores: dict[int, Path], preprocess: Preparation, tasks: list[Task]) -> list[Outcome]:
    """Write the pictures of some photographs into the stores, flushed to disk on return."""
    # Plain writes, not a memory map: a full disk is then an error and not a crash.
    offsets = {size: np.load(store / "pictures.npy", mmap_mode="r").offset for size, store in stores.items()}
    with ExitStack() as stack:
        files = {size: stack.enter_context(open(store / "pictures.npy", "r+b")) for size, store in stores.items()}
        outcomes = []
        for task in tasks:
            pictures, outcome = _pictures(preprocess, task)
            outcomes.append(outcome)
            for size, picture in pictures.items():
                files[size].seek(offsets[size] + task.row * picture.nbytes)
                files[size].write(picture.tobytes())
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return outcomes


def _pictures(preprocess: Preparation, task: Task) -> tuple[dict[int, np.ndarray], Outcome]:
    """The pictures of one photograph by size; none of them when it cannot be read or has no field."""
    try:
        with open(task.path, "rb") as file:
            file.read(1)
    except OSError as fault:
        return {}, Outcome(task, f"cannot be opened ({fault.strerror})", lasting=False)
    try:
        file = PhotographFile(task.path)
        pictures = {size: preprocess.read(file, size) for size in task.sizes}
    except ReducedError as fault:
        # To leave these out would train, without a word, on the photographs whose fields are small.
        raise ReducedError(task.path, fault.got, fault.expected, fault.repair) from None
    except ImageError as fault:
        return {}, Outcome(task, fault.got)
    for size, picture in pictures.items():
        if picture.shape != (size, size, 3) or picture.dtype != np.uint8:
            got = f"{picture.dtype} {picture.shape}"
            raise SettingError("preprocess", got, f"uint8 ({size}, {size}, 3)", "Correct the preprocess.")
    return pictures, Outcome(task, "")
