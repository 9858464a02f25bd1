"""What is measured of a picture to tell a fundus photograph that can be graded: light, colour, sharpness, vessels.

Everything is measured on a picture of 256 px, prepared as for a network, so that the photograph's own size hardly
matters. A band of k px is what a Gaussian mean of k px leaves of one of a finer step.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from m2cnn.field import Field
from m2cnn.preprocess import Preprocess

SIZE = 256  # px, the picture on which everything is measured
TILES = 6  # a side: where parts of a field are blurred, the middle of all hides it


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
        **_parts(picture, seen),
        **_tissue(picture, seen, mean),
    }


def _parts(picture: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    """How light is spread over the field, and how much of the field there is: shares of 0..1, grey levels."""
    soft, brightest = cv2.GaussianBlur(picture, (0, 0), 3), picture.max(axis=2)[seen]
    levels = {f"light_{share}": float(np.percentile(brightest, share)) for share in (5, 25, 50, 75)}
    return {
        "visible": float(seen.sum() / _circle().sum()),
        "dim": float((soft.max(axis=2)[seen] < 40).mean()),
        "flare": float((soft.min(axis=2)[seen] > 215).mean()),
        "flare_green": float((soft[..., 1][seen] > 235).mean()),
        **levels,
    }


def _circle() -> np.ndarray:
    """(SIZE, SIZE) bool: the inner 90 % of the field."""
    offset = np.arange(SIZE) - (SIZE - 1) / 2
    return offset[:, None] ** 2 + offset[None, :] ** 2 < (0.45 * SIZE) ** 2


def _seen(image: np.ndarray, field: Field, picture: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) bool: the inner 90 % of the circle that lies within the frame and not in a black border."""
    frame = Preprocess().crop(np.ones(image.shape[:2], np.uint8), field)
    inside = cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0
    inside &= _circle()
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
    least, fine, middling, mid = (_smooth(layers, weight, sigma) for sigma in (0.7, 1, 2, 4))
    wide = _wide(layers, weight)
    core = cv2.erode(seen.astype(np.uint8), np.ones((9, 9), np.uint8))
    core = core if core.any() else seen.astype(np.uint8)
    slope = cv2.magnitude(cv2.Sobel(fine[..., 1], cv2.CV_32F, 1, 0), cv2.Sobel(fine[..., 1], cv2.CV_32F, 0, 1))
    _, green_red, blue_yellow, _ = cv2.mean(cv2.cvtColor(mid / 255, cv2.COLOR_RGB2LAB), core)
    bands = {"0": layers - least, "0.7": least - fine, "1": fine - middling, "2": middling - mid, "4": mid - wide}
    return {
        "green_red": green_red,
        "blue_yellow": blue_yellow,
        "detail": max(_spread(mid - wide, core)) / (mean + 1),
        "band_1_blue": _log(_spread(layers - fine, core)[2]),
        "spread_blue": _log(_spread(fine, core)[2]),
        "slope": _log(np.percentile(slope[core > 0], 95) / 8),
        **{f"band_{name}_red": _log(_spread(band, core)[0]) for name, band in bands.items()},
        **{f"band_{name}_green": _log(_spread(band, core)[1]) for name, band in bands.items()},
        **_tiles((fine - mid)[..., 1], core),
        **_ridges(_smooth(layers, weight, 2.5), core),
        **_shape(fine - _smooth(layers, weight, 6), core),
    }


def _wide(layers: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A Gaussian mean of 8 px, made on a quarter of the size."""
    small, least = (cv2.resize(a, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for a in (layers, weight))
    return cv2.resize(_smooth(small, least, 2), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _tiles(band: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """How sharp the least, a quarter, half and the sharpest of the field's tiles are."""
    step = SIZE // TILES
    places = [slice(n * step, (n + 1) * step) for n in range(TILES)]
    cells = [(band[rows, columns], where[rows, columns] > 0) for rows in places for columns in places]
    found = [_log(values[inside].std()) for values, inside in cells if inside.mean() > 0.5] or [_log(0)]
    shares = {"tile_0": 0, "tile_25": 25, "tile_50": 50, "tile_100": 100}
    return {name: float(np.percentile(found, share)) for name, share in shares.items()}


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
