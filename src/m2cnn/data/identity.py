"""What a stored result depends on: the bytes of a photograph, and the code that looked at it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL

import m2cnn
from m2cnn.data.manifest import Manifest, Row, file_hash
from m2cnn.onnx_session import runtime_version


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
    return [file_hash(sys.modules[name].__file__) for name in modules]


def package_identity() -> list[str]:
    """SHA-256 of all code and constants of this package, and the versions of what reads and weighs pictures."""
    home = Path(m2cnn.__file__).parent
    sources = sorted(path for end in ("py", "json", "toml") for path in home.rglob(f"*.{end}"))
    own = [f"{path.relative_to(home).as_posix()} {file_hash(path)}" for path in sources]
    # The modules' own versions: the distributions are called otherwise where a GPU or conda brought them.
    versions = [np.__version__, cv2.__version__, PIL.__version__, runtime_version()]
    return [hashlib.sha256("\n".join(own).encode()).hexdigest(), *versions]
