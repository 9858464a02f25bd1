"""One look at a photograph for the profile of its set: size, field, cut, colour, light, sharpness, true detail.

All but the sizes is measured on a picture of one field diameter, so that photographs of different sizes compare.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from m2cnn.data.survey import Seen
from m2cnn.errors import NoFieldError
from m2cnn.fingerprint import planes_of_file
from m2cnn.photograph import Photograph, PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.profile.detail import LARGEST, resolved
from m2cnn.quality import check_file

CODE = ("m2cnn.quality", "m2cnn.profile.detail")  # what this look depends on, besides what every survey does
SIZE = 256  # px, the picture on which colour, light and sharpness are measured
WHOLE = 0.97  # of the radius: the circle is found a little too large or too small
DARK, FULL = 6, 253  # grey levels: nothing was recorded, and more was not recorded
MEAN_AT_50 = 57.625  # of the brightness table K.1 of ITU-T T.81, which the IJG's quality scale multiplies


def look_at_all(file: PhotographFile) -> Seen:
    """All that the profile shows of a photograph. reason: why it is not gradable, else "".

    Without a round field it has no values. Raises ImageError for what cannot be read.
    """
    planes = planes_of_file(file).tobytes()
    try:
        return Seen(check_file(file), _values(file), planes)
    except NoFieldError as fault:
        return Seen(fault.got, {}, planes)


def look_at_style(file: PhotographFile) -> Seen:
    """Diameter of the field in px and stretch of the colours, as `look_at_all` has them, in a seventh of its time.

    Raises ImageError for what cannot be read, and where there is no round field.
    """
    large = file.at(LARGEST)
    picture, lit = _picture(file, large)
    lowest, highest = np.percentile(picture[_measured(lit)].astype(np.float32), (1, 99), axis=0)
    return Seen("", {"diameter": large.diameter, "stretch": _stretch(lowest, highest)}, b"")


def _values(file: PhotographFile) -> dict[str, float]:
    header, large = file.header(), file.at(LARGEST)
    picture, lit = _picture(file, large)
    detail = resolved(np.ascontiguousarray(Preprocess().crop(large.image, large.field)[..., 1]))
    return {
        "width": float(header.width),
        "height": float(header.height),
        "diameter": large.diameter,
        "reach": large.diameter / min(header.width, header.height),
        "cut": 1 - float(lit.sum()) / float(_disc(SIZE).sum()),
        "detail": detail,
        "kept": min(1.0, detail / min(2 * large.field.radius, LARGEST)),
        **({"jpeg": jpeg_quality(header.table)} if header.table else {}),
        **_appearance(picture, _measured(lit)),
    }


def _picture(file: PhotographFile, large: Photograph) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, SIZE, 3) uint8 of one field diameter, and (SIZE, SIZE) bool, what of it is lit."""
    # Not `Preprocess.read`: it refuses what was prepared for smaller pictures.
    small = file.at(Preprocess().diameter(SIZE))
    picture = Preprocess()(small.image, SIZE, small.field)
    return picture, _lit(large, picture)


def jpeg_quality(table: tuple[int, ...]) -> float:
    """The quality 1..100, on the IJG's scale, whose brightness table is on the whole as coarse as this one.

    >>> jpeg_quality((1,) * 64) > 99, jpeg_quality((115,) * 64)
    (True, 25.054347826086957)
    """
    percent = 100 * float(np.mean(table)) / MEAN_AT_50
    return (200 - percent) / 2 if percent <= 100 else 5000 / percent


@lru_cache(maxsize=2)
def _disc(size: int) -> np.ndarray:
    offset = np.arange(size) - (size - 1) / 2
    return offset[:, None] ** 2 + offset[None, :] ** 2 < (WHOLE * size / 2) ** 2


def _lit(photograph: Photograph, picture: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) bool: what of the circle lies within the frame and is not black."""
    frame = Preprocess().crop(np.ones(photograph.image.shape[:2], np.uint8), photograph.field)
    inside = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0
    return inside & _disc(SIZE) & (cv2.blur(picture.max(axis=2), (5, 5)) >= DARK)


def _measured(lit: np.ndarray) -> np.ndarray:
    """Where colour and light are measured: what is lit, or the whole circle where nothing is."""
    return lit if lit.any() else _disc(SIZE)


def _stretch(lowest: np.ndarray, highest: np.ndarray) -> float:
    """The share of its range that the least stretched channel spans."""
    return float((highest - lowest).min()) / 255


def _appearance(picture: np.ndarray, lit: np.ndarray) -> dict[str, float]:
    """Colour, light and sharpness of the lit part."""
    pixels = picture[lit].astype(np.float32)
    brightest, faintest = pixels.max(axis=1), pixels.min(axis=1)  # over the channels
    lowest, middle, highest = np.percentile(pixels, (1, 50, 99), axis=0)
    return {
        "brightness": float(pixels.mean(axis=0) @ (0.299, 0.587, 0.114)) / 255,
        "redness": float(middle[0] / (middle.sum() + 1e-3)),
        "blueness": float(middle[2] / (middle.sum() + 1e-3)),
        "saturation": float(((brightest - faintest) / (brightest + 1)).mean()),
        "stretch": _stretch(lowest, highest),
        "clipped": float((brightest >= FULL).mean()),
        **_texture(picture[..., 1].astype(np.float32), lit),
    }


def _texture(green: np.ndarray, lit: np.ndarray) -> dict[str, float]:
    """Contrast and sharpness of vessels, and how unevenly the light falls; free of brightness, or of contrast too."""
    mean = float(green[lit].mean())
    filled = np.where(lit, green, np.float32(mean))
    core = cv2.erode(lit.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    core = core if core.any() else lit
    fine, middling, coarse, shade = (cv2.GaussianBlur(filled, (0, 0), sigma)[core] for sigma in (1, 2, 8, 24))
    vessels = float((middling - coarse).std())
    return {
        "contrast": vessels / (mean + 1),
        "sharpness": float((fine - middling).std()) / (vessels + 0.1),
        "unevenness": float(shade.std()) / (mean + 1),
    }
