"""Photographs whose lesions were marked: IDRiD's "A. Segmentation", or a folder that was rendered with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2cnn.data.pairing import patient_and_eye
from m2cnn.errors import DataError
from m2cnn.photograph import read_image

SEGMENTATION, IMAGES, TRUTHS = "A. Segmentation", "1. Original Images", "2. All Segmentation Groundtruths"
KINDS = ("MA", "HE", "EX", "SE")  # microaneurysms, haemorrhages, hard and soft exudates; not the optic disc
MASKS = "masks"
NO_LESION = ("disc", "drusen", "laser_scar")  # rendered, but no lesions of diabetes


@dataclass(frozen=True)
class Marked:
    """A photograph with lesions. name: its path within the photographs of its set.  patient: who counts as one draw of
    the bootstrap.  masks: one file per kind.
    """

    path: Path
    name: str
    patient: str
    masks: tuple[Path, ...]

    def lesions(self) -> np.ndarray:
        """(H, W) bool, all kinds merged, on the pixels of the photograph's file. DataError where sizes differ."""
        merged: np.ndarray | None = None
        for path in self.masks:
            mask = read_image(path).max(axis=2) > 0
            if merged is not None and merged.shape != mask.shape:
                got = f"a mask of {mask.shape[1]} x {mask.shape[0]} px"
                raise DataError(path, got, f"{merged.shape[1]} x {merged.shape[0]} px as the others")
            merged = mask if merged is None else merged | mask
        return merged


@dataclass(frozen=True)
class MarkedSet:
    name: str
    photographs: tuple[Marked, ...]


def marked_set(folder: str | Path) -> MarkedSet:
    """What a folder has. Photographs without a single lesion are left out.

    Raises DataError for a folder of another layout, and for one without a marked photograph.
    """
    folder = Path(folder)
    home = folder / SEGMENTATION if (folder / SEGMENTATION).is_dir() else folder
    if (home / TRUTHS).is_dir():
        found = MarkedSet("idrid", tuple(_idrid(home)))
    elif (folder / MASKS).is_dir():
        found = MarkedSet(folder.name, tuple(_rendered(folder)))
    else:
        expected = f'"{TRUTHS}" (IDRiD), or "{MASKS}" (m2cnn data render --masks)'
        raise DataError(folder, "no lesion masks in it", expected, "Check the path.")
    if not found.photographs:
        raise DataError(folder, "no photograph with a lesion mask", "at least one", "Was the set copied whole?")
    return found


def marked_sets(folders: Sequence[str | Path]) -> list[MarkedSet]:
    """Of several folders; two sets of one name are named by their folders as given. Raises as `marked_set`."""
    found = [marked_set(folder) for folder in dict.fromkeys(folders)]
    names = [each.name for each in found]
    return [
        each if names.count(each.name) == 1 else replace(each, name=str(folder))
        for each, folder in zip(found, dict.fromkeys(folders), strict=True)
    ]


def _idrid(home: Path) -> list[Marked]:
    """IDRiD names no patients: each photograph is one."""
    found = []
    for path in sorted((home / IMAGES).glob("*/*.jpg")):
        truths = home / TRUTHS / path.parent.name
        masks = [mask for kind in KINDS for mask in sorted(truths.glob(f"*/{path.stem}_{kind}.tif"))]
        name = path.relative_to(home / IMAGES)
        found += [Marked(path, name.as_posix(), name.with_suffix("").as_posix(), tuple(masks))] if masks else []
    return found


def _rendered(folder: Path) -> list[Marked]:
    kinds = [kind for kind in sorted((folder / MASKS).iterdir()) if kind.is_dir() and kind.name not in NO_LESION]
    found = []
    for path in sorted(each for each in folder.iterdir() if each.suffix in (".png", ".jpeg")):
        masks = tuple(kind / f"{path.stem}.png" for kind in kinds if (kind / f"{path.stem}.png").is_file())
        found += [Marked(path, path.name, patient_and_eye(path.name)[0], masks)] if masks else []
    return found
