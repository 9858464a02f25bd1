"""A folder of rendered photographs, and the manifest's rows for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from m2cnn.errors import SettingError
from m2cnn.synthetic.render import EYES, draw_grades, render

SOURCE = "m2cnn synthetic"
FORMATS = ("jpeg", "png")


def render_dataset(
    folder: str | Path,
    patients: int,
    seed: int,
    size: int = 720,
    *,
    lesions: bool = True,
    workers: int = 2,
    grades: tuple[float, ...] = (1, 1, 1, 1, 1),
    file_format: str = "jpeg",
    progress: bool = False,
) -> list[dict]:
    """Write both eyes of `patients` patients into `folder`; one row per photograph, in the manifest's columns.

    The same arguments give the same bytes, for any number of workers. JPEG has quality 95. The rows' images are
    relative to `folder`; dme, quality and split stay empty.
    Raises SettingError for an unknown format, or fewer than one patient or worker.
    """
    if file_format not in FORMATS:
        raise SettingError("render_dataset(file_format=...)", f"{file_format!r}", " or ".join(FORMATS))
    if patients < 1 or workers < 1:
        raise SettingError("render_dataset", f"patients={patients}, workers={workers}", "at least 1 of each")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw_grades(seed, 0, grades)  # a wrong distribution is refused here, not in a worker
    job = partial(_write_patient, str(folder), seed, size, lesions, grades, file_format)
    done = tqdm(_run(job, patients, workers), total=patients, unit="patient", disable=not progress)
    return [row for rows in done for row in rows]


def _run(job: partial, patients: int, workers: int) -> Iterator[list[dict]]:
    if workers == 1:
        yield from map(job, range(patients))
        return
    # Workers start clean (spawn): a fork of a process with torch's threads may hang.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(job, range(patients), chunksize=4)


def _write_patient(
    folder: str, seed: int, size: int, lesions: bool, grades: tuple[float, ...], file_format: str, patient: int
) -> list[dict]:
    rows = []
    for eye, grade in zip(EYES, draw_grades(seed, patient, grades), strict=True):
        picture = render(seed, grade, eye=eye, size=size, lesions=lesions, patient=patient).image
        name = f"s{seed}-p{patient:05d}_{eye}.{file_format}"
        data = encode(picture, file_format)
        (Path(folder) / name).write_bytes(data)
        rows.append(_row(name, f"s{seed}-p{patient:05d}", eye, grade, data))
    return rows


def encode(picture: np.ndarray, file_format: str) -> bytes:
    """(H, W, 3) uint8 RGB -> the bytes of a PNG, or of a JPEG of quality 95."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if file_format == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode("." + file_format, picture[..., ::-1], options)[1].tobytes()


def _row(image: str, patient: str, eye: str, grade: int, data: bytes) -> dict:
    return {
        "image": image,
        "patient": patient,
        "eye": eye,
        "grade": grade,
        "dme": "",
        "quality": "",
        "split": "",
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": SOURCE,
    }
