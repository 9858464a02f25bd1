"""What a stored result depends on: the bytes of a photograph, and the code that looked at it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from m2cnn.data.manifest import Manifest, Row


def file_identity(manifest: Manifest, row: Row) -> tuple[str | int, ...]:
    """What tells that a file is still the same: its hash when the manifest has it, else length and time."""
    if row.sha256:
        return (row.sha256,)
    try:
        facts = os.stat(manifest.path(row))
    except OSError:
        return ("missing",)
    return facts.st_size, facts.st_mtime_ns


def code_identity(modules: Sequence[str]) -> list[str]:
    """SHA-256 of the sources of imported modules: a better search for the field must not meet old results."""
    return [hashlib.sha256(Path(sys.modules[name].__file__).read_bytes()).hexdigest() for name in modules]
