"""Rendered photographs as a dataset: files and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m2cnn.data.manifest import Manifest, Row
from m2cnn.synthetic import render_dataset


def render_manifest(
    folder: str | Path, patients: int, seed: int, size: int, *, lesions: bool = True, workers: int = 2, **options: Any
) -> Manifest:
    """Render both eyes of `patients` into `folder`; lesions=False: the same ones without a lesion, same grades.

    options: fields, cameras, nuisances, grades, file_format and masks, as `render_dataset` takes them.
    """
    rows = render_dataset(folder, patients, seed, size, lesions=lesions, workers=workers, **options)
    return Manifest(
        tuple(Row(**{key: value for key, value in row.items() if value != ""}) for row in rows), Path(folder)
    )
