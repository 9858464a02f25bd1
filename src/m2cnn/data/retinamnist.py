"""RetinaMNIST (MedMNIST v2): the photographs are arrays in one .npz and become PNG files, which a manifest can name.

Yang et al., Scientific Data 2023;10:41. Its training and validation sets were drawn at random, 9 to 1, from DeepDRiD's
training photographs, of which a patient has up to four: a patient may stand on both sides, and nothing tells.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from m2cnn.data.imported import OWN_PATIENT, Imported, imported
from m2cnn.data.manifest import Row, row_from_cells
from m2cnn.data.pairing import only_file
from m2cnn.errors import DataError, ImageError
from m2cnn.photograph import read_image
from m2cnn.tables import write_atomically

PARTS = ("train", "val", "test")


def retinamnist(folder: str | Path, pictures: str | Path = "", npz: str | Path = "") -> Imported:
    """RetinaMNIST: retinamnist.npz (28 px) or retinamnist_{64,128,224}.npz; the official parts are the splits.

    pictures: the folder for the PNG files, by default one beside the .npz and named like it; files that are there
    already with the same picture are kept. npz: which .npz, where the folder has several. Raises DataError when the
    pictures cannot be written, or others lie there by the same names.
    """
    path = Path(npz) if npz else only_file(Path(folder), "retinamnist*.npz", "npz")
    root = Path(pictures) if pictures else path.with_suffix("")
    rows = [row for part in PARTS for row in _part(path, part, root)]
    notes = [
        f"retinamnist: photographs {OWN_PATIENT}",
        "retinamnist: a patient of DeepDRiD, whose photographs these are, may stand in train and val both",
    ]
    return imported("retinamnist", root, rows, notes)


def _part(path: Path, part: str, root: Path) -> Iterator[Row]:
    pictures, labels = _array(path, f"{part}_images"), _array(path, f"{part}_labels").reshape(-1)
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8 or 0 in pictures.shape[1:]:
        got = f"{part}_images is {pictures.dtype} {pictures.shape}"
        raise DataError(path.name, got, "uint8 (N, H, W, 3)", "Take the colour archive of MedMNIST.")
    if len(pictures) != len(labels):
        got = f"{len(pictures)} {part}_images but {len(labels)} {part}_labels"
        raise DataError(path.name, got, "one label per picture", "Download it again.")
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        name = f"{part}_{number:04d}"
        values = {"image": f"{part}/{name}.png", "patient": name, "grade": str(label), "split": part}
        row = row_from_cells(values, f"{path.name}, {part}_labels[{number}]")
        _write(root / row.image, picture)
        yield row


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            if name in arrays:
                return arrays[name]
            got = f"no array {name}; its arrays: {', '.join(arrays)}"
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as cause:
        raise DataError(path, str(cause), "an .npz of arrays", "Download it again.") from cause
    raise DataError(path.name, got, f"{name} among them", "Take the archive of MedMNIST.")


def _write(path: Path, picture: np.ndarray) -> None:
    try:
        if path.is_file():
            _check_same(path, picture)
        else:
            write_atomically(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    except OSError as cause:
        repair = "Name another folder: m2cnn data import retinamnist FOLDER pictures=FOLDER"
        raise DataError(path, cause.strerror or str(cause), "a folder that can be written", repair) from cause


def _check_same(path: Path, picture: np.ndarray) -> None:
    try:
        same = np.array_equal(read_image(path), picture)
    except ImageError:
        same = False
    if not same:
        repair = "Remove it, or name another folder: pictures=FOLDER."
        raise DataError(path, "another picture by that name", "the archive's", repair)
