"""One process at a time in a folder, by a lock of the operating system: it ends with the process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from m2cnn.errors import SettingError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".m2cnn-lock"  # holds the number of the process; what a killed one leaves of it keeps nobody out


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process has the folder to itself meanwhile. One that was not there is made, and goes again where nothing
    was written into it.

    Raises SettingError where another process has it. Where the system or the disk has no such locks, nobody is refused.
    """
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    held = _taken(folder) if fcntl else None
    try:
        yield
    finally:
        if held is not None:
            (folder / LOCK).unlink(missing_ok=True)
            os.close(held)
        if fresh:
            with suppress(OSError):
                folder.rmdir()


def _taken(folder: Path) -> int:
    """The descriptor of the lock's file: the lock is held while it is open."""
    while True:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 20).decode() or "just begun"
            os.close(file)
            repair = "Wait for it or end it, then the same command goes on; or name another folder."
            got, expected = f"another process works in it ({holder})", "one process at a time in a folder"
            raise SettingError(folder, got, expected, repair) from None
        except OSError:  # a disk without locks
            return file
        if _is(file, folder / LOCK):
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            return file
        os.close(file)  # whoever held it has just taken it away


def _is(file: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False
