"""Is this picture a fundus photograph that can be graded? Rules with measured limits; a refusal says why.

Conservative: a limit refuses only what no photograph of EyePACS and IDRiD (6,645, of all qualities) comes near, except
for frames that are nearly black. It does not say that a photograph is good enough for a clinician.

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
from m2cnn.preprocess import Preprocess

SIZE = 256  # px, the picture on which everything is measured
MIN_DIAMETER = 96  # px; vessels and the disc are still seen at this size, lesions are not

# name: (lowest, highest, reason); the range of 6,645 real photographs in the comment.
LIMITS = {
    "surround": (0.0, 100.0, "no dark surround"),
    "litter": (0.0, 0.5, "no plain dark surround"),
    "light": (30.0, 256.0, "too dark"),
    "glare": (0.0, 0.4, "too bright: glare"),
    "colour": (0.02, 9.0, "no colour: a retina is red and orange"),
    "green_red": (-6.0, 60.0, "colour is not that of a retina"),
    "blue_yellow": (-12.0, 80.0, "colour is not that of a retina"),
    "detail": (0.004, 9.0, "no detail: blurred, or no retina"),
}


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


def judge(measured: dict[str, float]) -> str:
    """The reason why these measurements are not those of a fundus photograph, or ""."""
    for name, (lowest, highest, reason) in LIMITS.items():
        if not lowest <= measured[name] <= highest:
            return reason
    return ""


def measure(image: np.ndarray, field: Field) -> dict[str, float]:
    """Measurements of the surround and of the retina of (H, W, 3) uint8 RGB, by name; all are numbers."""
    picture = Preprocess()(image, SIZE, field)
    seen = _seen(image, field, picture)
    pixels = picture[seen].astype(np.float32)
    brightest, faintest = pixels.max(axis=1), pixels.min(axis=1)
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
    fine, mid = _smooth(layers, weight, 1), _smooth(layers, weight, 4)
    small, least = (cv2.resize(a, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for a in (layers, weight))
    wide, wider, widest = (_smooth(small, least, sigma) for sigma in (2, 4, 8))  # 8, 16, 32 px of the picture
    core = cv2.erode(seen.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    core = core if core.any() else seen
    coarse = least > 0.99 if (least > 0.99).any() else least > 0
    detail = (fine - _smooth(layers, weight, 6))[core]  # vessels, lesions
    band_8 = (mid - cv2.resize(wide, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR))[core].std(axis=0)
    spread = fine[core].std(axis=0)
    slope = cv2.Sobel(fine[..., 1], cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(fine[..., 1], cv2.CV_32F, 0, 1) ** 2
    hue = cv2.cvtColor(mid / 255, cv2.COLOR_RGB2LAB)[core]
    return {
        "green_red": float(hue[:, 1].mean()),
        "blue_yellow": float(hue[:, 2].mean()),
        "detail": float(band_8.max()) / (mean + 1),
        "band_8_red": _log(band_8[0]),
        "band_32_red": _log((wider - widest)[coarse].std(axis=0)[0]),
        "slope": _log(np.sqrt(np.median(slope[core])) / 8),
        "spread_green": _log(spread[1]),
        "spread_blue": _log(spread[2]),
        "shade_blue": _log(widest[coarse].std(axis=0)[2]),
        **_shape(detail),
    }


def _shape(detail: np.ndarray) -> dict[str, float]:
    """Vessels make the fine detail of the green channel rare (kurtosis) and dark (skewness), and grey in blue alike."""
    deviation = detail - detail.mean(axis=0)
    scale = deviation.std(axis=0) + 1e-3
    green = deviation[:, 1] / scale[1]
    return {
        "kurtosis": _log((green**4).mean()),
        "skewness": float((green**3).mean()),
        "green_with_blue": float((green * deviation[:, 2]).mean() / scale[2]),
    }


def _log(value: Any) -> float:
    return float(np.log(value + 0.3))  # 0.3 grey levels: what rounding to whole levels leaves
