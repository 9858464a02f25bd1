"""Rendered photographs as a dataset: files and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m2cnn.data.manifest import Manifest, Row
from m2cnn.synthetic import Rendering, render_dataset


def render_manifest(
    folder: str | Path, patients: int, seed: int, size: int, *, workers: int = 2, **settings: Any
) -> Manifest:
    """Render both eyes of `patients` into `folder`. settings: the others of `Rendering`.

    lesions=False: the same photographs without a lesion, with the same grades.
    """
    rows = render_dataset(folder, patients, Rendering(seed, size, **settings), workers)
    return Manifest(
        tuple(Row(**{key: value for key, value in row.items() if value != ""}) for row in rows), Path(folder)
    )
