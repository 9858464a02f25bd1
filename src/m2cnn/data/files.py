"""Files in a folder, by path or by URL: read whole, written whole or not at all. The one home of fsspec.

A URL is anything that fsspec knows: s3://, gs://, http://, zip://::archive.zip, memory:// ... file:// is a path here.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from m2cnn.errors import DataError, require
from m2cnn.tables import is_half, write_atomically

CHANGES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created", "date_time", "CRC")
LOCK = ".lock"


class Folder(Protocol):
    """A place with files in it. Names are relative, with "/". Errors are DataErrors that show no password.

    shown: the place, for people.
    """

    shown: str

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None: ...

    def stamp(self, name: str) -> list[Any] | None:
        """What changes when a file is written anew: its length, then what else is known. None for no such file."""

    def names(self, below: str) -> list[str]:
        """The files directly in a sub-folder, sorted; [] when it does not exist."""

    def remove(self, below: str) -> None:
        """A sub-folder with all that is in it; nothing when it does not exist."""

    def free(self) -> int | None:
        """Bytes that may still be written; None where nobody knows."""

    def alone(self) -> Any:
        """A context in which no other process is. Raises DataError when another is; object stores have no such lock."""

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""


def is_url(place: object) -> bool:
    return "://" in str(place)


def open_folder(place: str | Path) -> Folder:
    """Raises MissingExtra without fsspec, DataError for a protocol that it does not know."""
    if re.match(r"(file|local)://", str(place)):
        place = re.sub(r"^(file|local)://", "", str(place))
    if not is_url(place):
        return LocalFolder(Path(place))
    _system(str(place))
    return RemoteFolder(str(place))


def split(place: str) -> tuple[str, str]:
    """The folder of a file's URL, and the file's name there.

    >>> split("s3://bucket/set/manifest.csv"), split("zip://manifest.csv::set.zip")
    (('s3://bucket/set', 'manifest.csv'), ('zip://::set.zip', 'manifest.csv'))
    """
    first, tail = _tail(place)
    folder, _, name = first.rpartition("/")
    return folder + "/" * folder.endswith("/") + tail, name


def _tail(place: str) -> tuple[str, str]:
    """A URL without, and then, what must stay at its end: the query of http, and the archive that it lies in.

    >>> _tail("zip://a/b::s3://c"), _tail("https://a/b?signature=c/d")
    (('zip://a/b', '::s3://c'), ('https://a/b', '?signature=c/d'))
    """
    end = re.search(r"\?|::" if place.startswith("http") else "::", place)
    return (place[: end.start()], place[end.start() :]) if end else (place, "")


def without_secrets(text: object) -> str:
    """A URL, or words with URLs in them, without user:password@ and ?query.

    >>> without_secrets("cannot open s3://me:sec/r@et@host/a.csv?signature=123 twice")
    'cannot open s3://host/a.csv twice'
    """
    part = r"(?:(?!::|\w+://)[^\s?])*"  # of one URL
    text = re.sub(rf"(\w+://)(?:{part}:{part}@|[^/\s@]*@)|[^/\s@:'\"]+:[^/\s@]+@", r"\1", str(text))
    # Of http everything behind "?"; elsewhere, where "?" may stand in a name, what has "=".
    return re.sub(r"(https?://[^\s?]*)\?(?:(?!::)\S)*|\?[^\s]*=(?:(?!::)\S)*", r"\1", text)


class LocalFolder:
    def __init__(self, path: Path):
        self.path, self.shown = path, str(path)

    def read(self, name: str) -> bytes:
        try:
            if (self.path / name).exists() and not (self.path / name).is_file():
                raise _unreadable(self.path / name, "not a file")
            return (self.path / name).read_bytes()
        except OSError as cause:
            raise _unreadable(self.path / name, cause.strerror or str(cause)) from cause

    def write(self, name: str, content: bytes) -> None:
        try:
            write_atomically(self.path / name, content)
        except OSError as cause:
            raise _unwritable(self.path / name, cause.strerror or str(cause)) from cause

    def stamp(self, name: str) -> list[Any] | None:
        try:
            facts = (self.path / name).stat()
        except OSError:
            return None
        return [facts.st_size, facts.st_mtime_ns]

    def names(self, below: str) -> list[str]:
        folder = self.path / below
        return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def remove(self, below: str) -> None:
        if (self.path / below).is_dir():
            shutil.rmtree(self.path / below)

    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    @contextmanager
    def alone(self) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = sqlite3.connect(self.path / LOCK, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as cause:
            raise _unwritable(self.path, str(cause)) from cause
        with closing(lock):
            try:
                lock.execute("PRAGMA journal_mode = MEMORY")  # no second file
                lock.execute("BEGIN EXCLUSIVE")  # a lock on every system, and gone with its process
            except sqlite3.Error as cause:
                got = "another process is writing to it" if "locked" in str(cause) else f"cannot be locked ({cause})"
                raise DataError(self.shown, got, "one at a time", "Wait for it, or choose another folder.") from cause
            yield

    def sweep(self) -> None:
        for path in self.path.rglob(".*"):
            if is_half(path.name) and path.is_file():
                path.unlink(missing_ok=True)


class RemoteFolder:
    """Holds the URL alone, so that it travels to worker processes, which connect by themselves."""

    def __init__(self, url: str):
        self.url, self.shown = url, without_secrets(url)

    def read(self, name: str) -> bytes:
        return self._call("cat_file", name, _unreadable)

    def write(self, name: str, content: bytes) -> None:
        try:
            self._call("pipe_file", name, _unwritable, content)
        except _Gone:  # the folder; object stores have none
            self._call("makedirs", name.rpartition("/")[0], _unwritable, exist_ok=True)
            self._call("pipe_file", name, _unwritable, content)

    def stamp(self, name: str) -> list[Any] | None:
        try:
            facts = self._call("info", name, _unreadable)
        except _Gone:
            return None
        return [facts.get("size"), *(str(facts[key]) for key in CHANGES if facts.get(key))]

    def names(self, below: str) -> list[str]:
        _system(self.url)[0].invalidate_cache()
        try:
            entries = self._call("ls", below, _unreadable, detail=True)
        except _Gone:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def remove(self, below: str) -> None:
        with suppress(_Gone):
            self._call("rm", below, _unwritable, recursive=True)

    def free(self) -> None:
        return None

    def alone(self) -> Any:
        return nullcontext()

    def sweep(self) -> None:
        pass  # a put is whole or not at all

    def _call(self, method: str, name: str, error: Any, *arguments: Any, **options: Any) -> Any:
        """A method of the file system. Its errors are of any kind, and may hold the URL with its secrets."""
        system, base = _system(self.url)
        start, end = _tail(self.shown)
        place = f"{start.rstrip('/')}/{name}{end}"
        start, end = _tail(base)
        try:
            return getattr(system, method)(f"{start}/{name}{end}" if start else name, *arguments, **options)
        except FileNotFoundError:
            raise _Gone(place, "no such file", "a file", "Check the URL.") from None
        except Exception as cause:
            raise error(place, f"{type(cause).__name__}: {without_secrets(cause)}") from None


class _Gone(DataError):
    """There is no such file."""


@lru_cache(maxsize=8)
def _system(url: str) -> tuple[Any, str]:
    """The file system of a folder's URL, and the folder's path in it."""
    fsspec = require("fsspec", "remote")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except Exception as cause:
        got = f"{type(cause).__name__}: {without_secrets(cause)}"
        repair = "Check the URL; s3:// needs s3fs, gs:// gcsfs, http:// aiohttp."
        raise DataError(without_secrets(url), got, "a URL that fsspec can open", repair) from None
    return system, path.rstrip("/")


def _unreadable(place: object, why: str) -> DataError:
    return DataError(place, f"cannot be opened ({why})", "a readable file", "Check the path and its rights.")


def _unwritable(place: object, why: str) -> DataError:
    return DataError(place, f"cannot be written ({why})", "a place to write to", "Check its rights and its space.")
