"""From a photograph to the picture that a network sees: crop to the round field of view, resize.

The same in training, Python, HTTP and ONNX, because all of them call this file, on what photograph.py reads.

Coordinates are OpenCV's: x to the right, y down, the centre of the first pixel is (0, 0). Colours are RGB, uint8.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from m2cnn.errors import BundleError, SettingError, did_you_mean
from m2cnn.field import Field, check_image, find_field
from m2cnn.photograph import PhotographFile

VERSION = 1
# Decoded px per px of the picture. On photographs of 5 to 16 megapixels the picture of the whole decode differs by 0.6
# grey levels on average (1.3 at most), 5 in one px of a hundred (13 at most); half of it is where the field is found.
OVERSAMPLED = 1.5

COLOURS = ("natural", "graham", "stretched")
STRETCHED_FROM = (0.5, 99.5)  # percentiles of each channel that become 0 and 255
GRAHAM_KEPT = 0.9  # of the radius: at the rim the local mean is that of the black surround


@dataclass(frozen=True)
class Preprocess:
    """How a photograph becomes a square picture; `preprocess(image, size)` -> (size, size, 3) uint8 RGB.

    The square is centred on the field of view and holds its whole circle plus `margin`, a share of the radius
    (negative: a tighter crop), whether or not the photograph shows all of it: a retina has one scale, cut off or not.
    Outside the circle the picture is black.
    colour="graham" subtracts the local mean (B. Graham, Kaggle 2015), see subtract_local_mean; outside 0.9 radius the
    picture is grey 128. colour="stretched" gives each channel its whole range, see stretch_channels: cameras, and sets
    that were stretched before they were published, look alike.
    """

    colour: str = "natural"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.colour not in COLOURS:
            repair = did_you_mean(str(self.colour), COLOURS)
            raise SettingError("preprocess.colour", repr(self.colour), "a known colour", repair)
        if isinstance(self.margin, bool) or not isinstance(self.margin, int | float) or not -0.5 <= self.margin <= 1:
            raise SettingError("preprocess.margin", repr(self.margin), "-0.5..1, a share of the radius", "Use 0.")

    def __call__(self, image: np.ndarray, size: int, field: Field | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (size, size, 3) uint8 RGB; `field` spares the search.

        Raises ImageError (no round field, no such array) and SettingError (size outside 8..4096).
        """
        check_image(image)
        _check_size(size)
        square = self.crop(image, find_field(image) if field is None else field)
        picture = resized(square, size)
        if self.colour == "graham":
            picture = subtract_local_mean(picture, size / 2 / (1 + self.margin))
        if self.colour == "stretched":
            picture = stretch_channels(picture, size / 2 / (1 + self.margin))
        return np.where(self.circle(size)[..., None], picture, np.uint8(self.background))

    def read(self, file: PhotographFile, size: int) -> np.ndarray:
        """The picture of a file, (size, size, 3) uint8 RGB: what training, grading and every export see.

        Raises ImageError for what cannot be read or has no round field, ReducedError for what was prepared for smaller
        pictures.
        """
        file.check_holds(size / (1 + self.margin))
        photograph = file.at(self.diameter(size))
        return self(photograph.image, size, photograph.field)

    def diameter(self, size: int) -> float:
        """How wide a field of view must be read, in px, for a picture of `size`.

        Reading more changes the picture by less than a grey level on average, and costs several times the work.
        """
        return OVERSAMPLED * size / (1 + self.margin)

    @property
    def background(self) -> int:
        """The value of the picture outside the circle."""
        return 128 if self.colour == "graham" else 0

    def circle(self, size: int) -> np.ndarray:
        """(size, size) bool: where a picture of `size` px shows the retina; beyond it is the background."""
        kept = GRAHAM_KEPT if self.colour == "graham" else 1.0
        return _disc(size, kept * size / 2 / (1 + self.margin))

    def crop(self, image: np.ndarray, field: Field) -> np.ndarray:
        """The square around the field, not resized: (H, W[, 3]) -> (side, side[, 3]), zeros beyond the frame."""
        return cut(image, *self.square(field))

    def square(self, field: Field) -> tuple[int, int, int]:
        """Left, top and side of the square around the field, in whole pixels; parts may lie outside the frame."""
        half = field.radius * (1 + self.margin)
        return round(field.x - half + 0.5), round(field.y - half + 0.5), max(1, round(2 * half))

    def apply_to_mask(self, mask: np.ndarray, field: Field, size: int) -> np.ndarray:
        """A lesion mask (H, W) of the photograph -> (size, size) bool, on the pixels of `self(image, size, field)`.

        A pixel is set when a lesion covers any part of it, so that the smallest microaneurysm survives.
        """
        _check_size(size)
        square = self.crop((mask > 0).astype(np.float32), field)
        shrinks = square.shape[0] >= size
        share = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        return share > 1e-6

    def to_dict(self) -> dict[str, Any]:
        """Plain values for system.json, with the version of this format."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """The inverse of to_dict; BundleError for another version or unknown keys, SettingError for bad values."""
        known = {f.name for f in fields(cls)}
        if values.get("version") != VERSION:
            got = f"version {values.get('version')!r}"
            raise BundleError("preprocess", got, f"version {VERSION}", "Use the m2cnn that wrote the bundle.")
        for key in values.keys() - known - {"version"}:
            raise BundleError("preprocess", f'unknown key "{key}"', "known keys", did_you_mean(str(key), known))
        return replace(cls(), **{key: value for key, value in values.items() if key != "version"})


def cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The square (side, side[, 3]) of (H, W[, 3]) from (left, top) on, zeros beyond the frame."""
    height, width = image.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    if (y0, y1, x0, x1) == (top, top + side, left, left + side):
        return image[y0:y1, x0:x1]
    square = np.zeros((side, side, *image.shape[2:]), image.dtype)
    if y1 > y0 and x1 > x0:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return square


def subtract_local_mean(image: np.ndarray, radius: float) -> np.ndarray:
    """Graham's 4 * image - 4 * GaussianBlur(image, radius / 30) + 128, clipped; (H, W, 3) uint8 -> the same."""
    return cv2.addWeighted(image, 4, cv2.GaussianBlur(image, (0, 0), radius / 30), -4, 128)


def stretch_channels(image: np.ndarray, radius: float) -> np.ndarray:
    """Each channel's 0.5th and 99.5th percentile within 0.95 of the radius, where there is light, become 0 and 255;
    (H, W, 3) uint8 -> the same. A tint, a white balance and an exposure, which are a factor and an offset for each
    channel, leave the result as it is but for rounding and clipping.
    """
    within = image[_disc(image.shape[0], 0.95 * radius)]
    lit = within[within.max(axis=1) > 8]
    if len(lit) < 16:
        return image
    low, high = np.percentile(lit, STRETCHED_FROM, axis=0)
    levels = (np.arange(256)[:, None] - low) / np.maximum(high - low, 1) * 255
    return cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None])


def graham(radius: float, side: int) -> Preprocess:
    """Graham's preparation with a retina of `radius` px in the middle of a field of `side` px.

    Known (his code): the radius (300 or 500), the local mean, the mask, the grey 128; computed: the fields of his three
    networks, 843, 820 and 1019 px. Reconstruction: our search of the field instead of one row's brightness, the mean
    over areas instead of a bilinear resize, and black where the photograph ends instead of its mirror image.

    >>> round(graham(300, 843).margin, 6)
    0.405
    """
    return Preprocess("graham", side / 2 / radius - 1)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 8 <= size <= 4096:
        raise SettingError("size", repr(size), "a whole number of pixels, 8..4096", "Use the stage's size.")


def resized(square: np.ndarray, size: int) -> np.ndarray:
    """Mean over areas when shrinking, cubic when enlarging."""
    while square.shape[0] >= 2 * size:  # exact halves: three times quicker than one step, at most 2 levels different
        half = square.shape[0] // 2
        square = cv2.resize(square[: 2 * half, : 2 * half], (half, half), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if square.shape[0] >= size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=how)


@lru_cache(maxsize=16)
def _disc(size: int, radius: float) -> np.ndarray:
    """(size, size) bool: the pixels whose centre lies within `radius` of the middle."""
    offset = np.arange(size) - (size - 1) / 2
    return offset[:, None] ** 2 + offset[None, :] ** 2 <= radius**2
