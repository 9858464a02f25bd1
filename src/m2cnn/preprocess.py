"""From a file to the picture that a network sees: read, find the round field of view, crop, resize.

Four steps, the same in training, Python, HTTP and ONNX, because all of them call this file.

Coordinates are OpenCV's: x to the right, y down, the centre of the first pixel is (0, 0). Colours are RGB, uint8.
ICC profiles are not applied: the public sets were graded, and networks are trained, on the stored values.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from m2cnn.errors import BundleError, ImageError, SettingError, did_you_mean
from m2cnn.field import MIN_SIDE, Field, check_image, find_field

__all__ = ["Field", "Preprocess", "check_image", "find_field", "read_image", "subtract_local_mean"]

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION = 258, 262, 284  # tags of TIFF
MAX_PIXELS = 80_000_000  # four times the largest fundus camera; below Pillow's own warning at 89 million
MAX_BYTES = 512 * 2**20
VERSION = 1

# --- read -------------------------------------------------------------------------------------------------------------


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Read a photograph (a path, or the bytes of a file) -> (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied; grey becomes three equal channels; palette and CMYK (plain or Adobe-inverted) become
    RGB; 16-bit values are scaled so that 65535 becomes 255. An opaque alpha channel is dropped.
    Refused with ImageError: everything that is no PNG, JPEG, TIFF or WebP, broken or cut-off files, several pages or
    frames, transparency, 12-bit values in a 16-bit file, sides under 16 px and more than 80 million pixels.
    """
    place = "<bytes>" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read_bytes(Path(source), place)
    if not data:
        raise ImageError(place, "the file is empty", _expected(), "Copy the file again from its source.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_header(picture, place)
            picture.load()
            depth = _bits_per_channel(picture, data, place)
            upright = ImageOps.exif_transpose(picture)
            image = _to_rgb(upright, depth, picture.format == "JPEG" and "adobe" not in picture.info, place)
            kind = picture.format
    except ImageError:
        raise
    except Image.UnidentifiedImageError as cause:
        raise ImageError(place, f"unreadable, begins {data[:12]!r}", _expected(), "Convert it to PNG.") from cause
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as cause:
        raise ImageError(place, "too many pixels", f"at most {MAX_PIXELS:,}", "Reduce the photograph.") from cause
    except Exception as cause:  # whatever a decoder raises on a damaged file (a dozen kinds), the file is at fault
        raise ImageError(place, f"damaged picture ({cause})", _expected(), "Copy the file again.") from cause
    if kind in ("JPEG", "MPO") and _is_grey_filled(image):
        raise ImageError(place, "its lower part is missing (flat grey)", "a whole JPEG", "Copy the file again.")
    return image


def _expected() -> str:
    return "a PNG, JPEG, TIFF or WebP photograph"


def _read_bytes(path: Path, place: str) -> bytes:
    try:
        if not path.exists():
            raise ImageError(place, "no such file", _expected(), "Check the path.")
        if not path.is_file():
            raise ImageError(place, "not a file", _expected(), "Name the photographs in it, one by one.")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(place, f"{path.stat().st_size:,} bytes", f"at most {MAX_BYTES:,}", "Reduce it.")
        return path.read_bytes()
    except (OSError, ValueError) as cause:
        if isinstance(cause, ImageError):
            raise
        raise ImageError(place, f"cannot be read ({cause})", _expected(), "Check the path and its rights.") from cause


def _check_header(picture: Image.Image, place: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(place, f"{width} x {height} pixels", f"at most {MAX_PIXELS:,}", "Reduce the photograph.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(place, f"{width} x {height} pixels", f"at least {MIN_SIDE} x {MIN_SIDE}", "Use the original.")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # in MPO, a camera's JPEG, the further frames are previews
        raise ImageError(place, f"{frames} pages or frames", "a single photograph", "Save the wanted page alone.")


def _bits_per_channel(picture: Image.Image, data: bytes, place: str) -> int:
    if picture.format == "PNG":
        return data[24]  # IHDR; Pillow itself reduces 16-bit colour to its high bytes without a word
    if picture.format == "TIFF":
        bits = np.max(picture.tag_v2.get(BITS_PER_SAMPLE, 8))
        odd = picture.tag_v2.get(PLANAR_CONFIGURATION, 1) != 1 or picture.tag_v2.get(PHOTOMETRIC, 1) == 0
        if bits == 16 and odd:  # Pillow mixes the planes up, and does not turn white and black
            raise ImageError(place, "16-bit TIFF with planes apart or white as zero", _expected(), "Save it as PNG.")
        return int(bits)
    return 8


def _to_rgb(picture: Image.Image, depth: int, plain_jpeg: bool, place: str) -> np.ndarray:
    """Any mode that a fundus camera or an editor writes -> (H, W, 3) uint8; other modes are refused."""
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        picture = _without_alpha(picture, place)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and depth == 16):
        grey = np.rint(np.asarray(picture).astype(np.float32) / 257).astype(np.uint8)
        image = np.repeat(grey[:, :, None], 3, axis=2)
    elif picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for Adobe's inverted one.
        ink = Image.fromarray(255 - np.asarray(picture), "CMYK") if plain_jpeg else picture
        image = np.array(ink.convert("RGB"))
    elif picture.mode in ("1", "L", "P", "RGB", "RGBX", "YCbCr"):
        image = np.array(picture.convert("RGB"))
    else:
        raise ImageError(place, f"pixels of kind {picture.mode}", "8- or 16-bit grey or colour", "Save it as PNG.")
    if depth == 16 and image.max() < 16:
        got = "a 16-bit file with no value above 4095 (12-bit values?)"
        raise ImageError(place, got, "values up to 65535", "Multiply the values by 16, or save it as 8-bit PNG.")
    return image


def _without_alpha(picture: Image.Image, place: str) -> Image.Image:
    rgba = picture.convert("RGBA")
    if rgba.getextrema()[3][0] < 255:
        raise ImageError(place, "transparent pixels", "an opaque photograph", "Flatten it on black.")
    return rgba.convert("RGB")


def _is_grey_filled(image: np.ndarray) -> bool:
    # libjpeg fills what a damaged file lacks, to its last corner, with 128, and Pillow does not tell. The corners of a
    # Graham-processed photograph are all grey.
    def flat(corner: np.ndarray) -> bool:
        return bool(np.abs(corner.astype(np.int16) - 128).max() <= 1)

    return flat(image[-4:, -8:]) and not flat(image[:4, :8])


# --- crop -------------------------------------------------------------------------------------------------------------

COLOURS = ("natural", "graham")
GRAHAM_KEPT = 0.9  # of the radius: at the rim the local mean is that of the black surround


@dataclass(frozen=True)
class Preprocess:
    """How a photograph becomes a square picture; `preprocess(image, size)` -> (size, size, 3) uint8 RGB.

    The square is centred on the field of view and holds its whole circle plus `margin`, a share of the radius
    (negative: a tighter crop), whether or not the photograph shows all of it: a retina has one scale, cut off or not.
    Outside the circle the picture is black.
    colour="graham" subtracts the local mean (B. Graham, Kaggle 2015), see subtract_local_mean; outside 0.9 radius the
    picture is grey 128.
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
        picture = _resized(square, size)
        radius = size / 2 / (1 + self.margin)
        if self.colour == "graham":
            return _filled(subtract_local_mean(picture, radius), GRAHAM_KEPT * radius, 128)
        return _filled(picture, radius, 0)

    @property
    def background(self) -> int:
        """The value of the picture outside the circle."""
        return 128 if self.colour == "graham" else 0

    def crop(self, image: np.ndarray, field: Field) -> np.ndarray:
        """The square around the field, not resized: (H, W[, 3]) -> (side, side[, 3]), zeros beyond the frame."""
        half = field.radius * (1 + self.margin)
        side = max(1, round(2 * half))
        left, top = round(field.x - half + 0.5), round(field.y - half + 0.5)
        height, width = image.shape[:2]
        y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
        if (y0, y1, x0, x1) == (top, top + side, left, left + side):
            return image[y0:y1, x0:x1]
        square = np.zeros((side, side, *image.shape[2:]), image.dtype)
        if y1 > y0 and x1 > x0:
            square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
        return square

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


def subtract_local_mean(image: np.ndarray, radius: float) -> np.ndarray:
    """Graham's 4 * image - 4 * GaussianBlur(image, radius / 30) + 128, clipped; (H, W, 3) uint8 -> the same."""
    return cv2.addWeighted(image, 4, cv2.GaussianBlur(image, (0, 0), radius / 30), -4, 128)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 8 <= size <= 4096:
        raise SettingError("size", repr(size), "a whole number of pixels, 8..4096", "Use the stage's size.")


def _resized(square: np.ndarray, size: int) -> np.ndarray:
    """Mean over areas when shrinking, cubic when enlarging."""
    while square.shape[0] >= 2 * size:  # exact halves: three times quicker than one step, at most 2 levels different
        half = square.shape[0] // 2
        square = cv2.resize(square[: 2 * half, : 2 * half], (half, half), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if square.shape[0] >= size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=how)


def _filled(picture: np.ndarray, radius: float, value: int) -> np.ndarray:
    """The picture with `value` outside the centred circle."""
    return np.where(_disc(picture.shape[0], radius), picture, np.uint8(value))


@lru_cache(maxsize=16)
def _disc(size: int, radius: float) -> np.ndarray:
    """(size, size, 1) bool: the pixels whose centre lies within `radius` of the middle."""
    offset = np.arange(size) - (size - 1) / 2
    return (offset[:, None] ** 2 + offset[None, :] ** 2 <= radius**2)[:, :, None]
