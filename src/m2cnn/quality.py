"""Is this picture a fundus photograph that can be graded? Rules with measured limits; a refusal says why.

Conservative: of 6,645 photographs of EyePACS and IDRiD, of all qualities, 34 are refused (0 of IDRiD; about half of the
34 show no retina to speak of). Acceptance does not say that a photograph is good enough for a clinician.

The last rule is a linear score of a few measurements of texture and colour. Its weights are fitted by
`benchmarks/quality.py`, which also prints how many photographs, and how many other pictures cut to a round field, are
refused.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from m2cnn.errors import ImageError
from m2cnn.field import Field, check_image, find_field
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess

SIZE = 256  # px, the picture on which everything is measured
MIN_DIAMETER = 96  # px; vessels and the disc are still seen at this size, lesions are not

# name: (lowest, highest, reason); behind it the range in 6,645 real photographs, of which four lie outside a limit.
LIMITS = {
    "surround": (0.0, 100.0, "no dark surround"),  # 0..42 grey levels
    "litter": (0.0, 0.5, "no plain dark surround"),  # 0..0.43 of the surround, stretched noise
    "light": (25.0, 256.0, "too dark"),  # 23..255, 95th percentile
    "glare": (0.0, 0.4, "too bright: glare"),  # 0..0.50 of the retina
    "colour": (0.02, 9.0, "no colour: a retina is red and orange"),  # 0.05..0.99 of the brightness
    "green_red": (-6.0, 60.0, "colour is not that of a retina"),  # -3.9..54, a of Lab
    "blue_yellow": (-12.0, 80.0, "colour is not that of a retina"),  # -16..65, b of Lab
    "detail": (0.004, 9.0, "no detail: blurred, or no retina"),  # 0.006..0.15 of the brightness
}

# The score is CONSTANT plus the weighted sum; a retina scores above 0.
WEIGHTS = {
    "band_1_blue": 0.6438,
    "band_2_green": -0.6368,
    "detail": -4.4295,
    "dark_98_red": -0.7877,
    "dark_98_green": 1.6574,
    "dark_98_blue": -0.7533,
    "dark_90_green": 1.0537,
    "bright_90_red": 0.1403,
    "slope": -1.6072,
    "spread_blue": 0.2394,
    "kurtosis": 0.7026,
    "red_with_green": 0.2278,
}
CONSTANT = -2.6239
STRUCTURE = "its structure is not that of a retina"


def check_fundus(image: np.ndarray, field: Field | None = None) -> str:
    """Return "" for a gradable fundus photograph, else the reason why it is refused, such as "too dark".

    image: (H, W, 3) uint8 RGB.  field: its field of view where known, else it is sought.
    Raises ImageError when `image` is no such array.
    """
    check_image(image)
    try:
        field = find_field(image) if field is None else field
    except ImageError as cause:
        return cause.got
    diameter = round(2 * field.radius)
    if diameter < MIN_DIAMETER:
        return f"too small: the field of view is {diameter} px across, {MIN_DIAMETER} are needed"
    return judge(measure(image, field))


def check_file(file: PhotographFile) -> str:
    """`check_fundus` of a file, read as large as the check needs. Raises ImageError for what cannot be read."""
    photograph = file.at(Preprocess().diameter(SIZE))
    return check_fundus(photograph.image, photograph.field)


def judge(measured: dict[str, float]) -> str:
    """The reason why these measurements are not those of a fundus photograph, or ""."""
    for name, (lowest, highest, reason) in LIMITS.items():
        if not lowest <= measured[name] <= highest:
            return reason
    return "" if score(measured) > 0 else STRUCTURE


def score(measured: dict[str, float]) -> float:
    """How much the texture and colour are those of a retina; above 0: it may be one."""
    return CONSTANT + sum(weight * measured[name] for name, weight in WEIGHTS.items())


def measure(image: np.ndarray, field: Field) -> dict[str, float]:
    """Measurements of the surround and of the retina of (H, W, 3) uint8 RGB, by name; all are numbers."""
    picture = Preprocess()(image, SIZE, field)
    seen = _seen(image, field, picture)
    pixels = picture[seen].astype(np.float32)
    brightest, faintest = pixels.max(axis=1), pixels.min(axis=1)  # over the channels
    mean = float(brightest.mean())
    return {
        **_surround(image, field),
        "light": float(np.percentile(brightest, 95)),
        "glare": float((faintest >= 250).mean()),
        "colour": float((brightest - faintest).mean()) / (mean + 1),
        **_tissue(picture, seen, mean),
    }


def _seen(image: np.ndarray, field: Field, picture: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) bool: the inner 90 % of the circle that lies within the frame and not in a black border."""
    frame = Preprocess().crop(np.ones(image.shape[:2], np.uint8), field)
    inside = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0
    offset = np.arange(SIZE) - (SIZE - 1) / 2
    inside &= offset[:, None] ** 2 + offset[None, :] ** 2 < (0.45 * SIZE) ** 2
    black = (cv2.blur(picture.max(axis=2), (9, 9)) < 6).astype(np.uint8)
    lit = inside & (cv2.dilate(black, np.ones((9, 9), np.uint8)) == 0)
    return lit if lit.sum() > 0.05 * inside.sum() else inside


def _surround(image: np.ndarray, field: Field) -> dict[str, float]:
    """How bright the frame is outside the circle (0..255), and the share of it that differs from its median."""
    step = max(1, max(image.shape[:2]) // SIZE)
    copy = image[step // 2 :: step, step // 2 :: step]
    rows, columns = np.ogrid[: copy.shape[0], : copy.shape[1]]
    x, y = columns * step + step // 2 - field.x, rows * step + step // 2 - field.y
    outside = copy[x * x + y * y > (1.06 * field.radius) ** 2].astype(np.float32)
    if len(outside) < 20:
        return {"surround": 0.0, "litter": 0.0}
    median = np.median(outside, axis=0)
    return {"surround": float(median.max()), "litter": float((np.abs(outside - median).max(axis=1) > 40).mean())}


def _smooth(layers: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over the seen pixels only; layers (S, S, 3) float32, already zero where weight is."""
    return cv2.GaussianBlur(layers, (0, 0), sigma) / (cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-6)[..., None]


def _tissue(picture: np.ndarray, seen: np.ndarray, mean: float) -> dict[str, float]:
    """Texture and colour of the seen retina: band k is what a Gaussian mean of k px removes from one of k / 2."""
    weight = seen.astype(np.float32)
    layers = picture * weight[..., None]
    fine, middling, mid = (_smooth(layers, weight, sigma) for sigma in (1, 2, 4))
    small, least = (cv2.resize(a, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for a in (layers, weight))
    wide = cv2.resize(_smooth(small, least, 2), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)  # 8 px of the picture
    core = cv2.erode(seen.astype(np.uint8), np.ones((9, 9), np.uint8))
    core = core if core.any() else seen.astype(np.uint8)
    slope = cv2.magnitude(cv2.Sobel(fine[..., 1], cv2.CV_32F, 1, 0), cv2.Sobel(fine[..., 1], cv2.CV_32F, 0, 1))
    _, green_red, blue_yellow, _ = cv2.mean(cv2.cvtColor(mid / 255, cv2.COLOR_RGB2LAB), core)
    return {
        "green_red": green_red,
        "blue_yellow": blue_yellow,
        "detail": max(_spread(mid - wide, core)) / (mean + 1),
        "band_1_blue": _log(_spread(layers - fine, core)[2]),
        "band_2_green": _log(_spread(fine - middling, core)[1]),
        "spread_blue": _log(_spread(fine, core)[2]),
        "slope": _log(np.percentile(slope[core > 0], 95) / 8),
        **_ridges(_smooth(layers, weight, 2.5), core),
        **_shape(fine - _smooth(layers, weight, 6), core),
    }


def _ridges(layers: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """How strong dark lines (vessels) and bright lines are: percentiles of the curvature across them, grey levels."""
    across = [_curvatures(layers[..., channel], where) for channel in range(3)]
    (red, red_bright), (green, _), (blue, _) = across
    return {
        "dark_98_red": _log(np.percentile(red, 98)),
        "dark_98_green": _log(np.percentile(green, 98)),
        "dark_98_blue": _log(np.percentile(blue, 98)),
        "dark_90_green": _log(np.percentile(green, 90)),
        "bright_90_red": _log(np.percentile(red_bright, 90)),
    }


def _curvatures(layer: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest upward and downward curvature (the eigenvalues of the Hessian, times sigma squared) of the set pixels."""
    xx, yy, xy = (cv2.Sobel(layer, cv2.CV_32F, x, y)[where > 0] * 6.25 for x, y in ((2, 0), (0, 2), (1, 1)))
    middle, radius = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return np.maximum(middle + radius, 0), np.maximum(radius - middle, 0)


def _spread(layers: np.ndarray, where: np.ndarray) -> list[float]:
    """Standard deviation of each channel over the pixels where the mask is set."""
    return cv2.meanStdDev(layers, mask=where)[1].ravel().tolist()


def _shape(detail: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Vessels are few (kurtosis of green) and unlike in red and green."""
    red, green = (_standardised(detail[..., channel][where > 0]) for channel in (0, 1))
    square = green * green
    return {
        "kurtosis": _log(np.dot(square, square) / len(green)),
        "red_with_green": float(np.dot(red, green) / len(green)),
    }


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / (values.std() + 1e-3)


def _log(value: Any) -> float:
    return float(np.log(value + 0.3))  # 0.3 grey levels: what rounding to whole levels leaves
