"""Is this the same photograph? Also under another name, size, compression, crop, or colour processing.

All fundus photographs look alike: a bright disc, a dark macula, arcades between them. What tells two apart is where the
vessels run. So a photograph becomes two planes, the green channel of its round field, and of all that is lit, at 64 px;
a plane becomes a map of local contrast, in which no colour, brightness or shade is left; and two maps are compared

- by their codes, vectors whose product is fast to compute for all pairs of a large set and finds the few nearest, and
- those few by `similarity`: one is moved onto the other (the fields are not found, and not cut, equally) and the
  correlation of what both show is taken.

The same eye photographed twice, or two photographs through a lens with the same dirt, can look the same too.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from m2cnn.errors import NoFieldError
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess

SIDE = 64  # px of a plane
GRID = 24  # px of a code
KEPT = 0.9  # of the radius: the rim shows how a field was cut, not whose it is
FINE, COARSE = 0.5, 2.0  # px, deviations of the Gaussians whose difference keeps the vessels
CODE_FINE, CODE_COARSE = 0.75, 3.0
SAME = 0.70  # similarity: 154 reprocessed copies have 0.79 or more, the most alike of 14.6 million strangers 0.65
SAME_BOX = 0.82  # of the boxes, which show the rims: strangers through one camera have up to 0.78, squeezed copies 0.99
TERNARY_SAME = 0.70  # likeness: 147 of the 154 have more; of the strangers the highest, 0.67
CLIP = 2.5  # deviations of local contrast: a lamp's reflex must not outweigh the vessels
SHIFT = 8  # px of a plane, the largest displacement that is sought
WORTH_MOVING = 0.45  # of 154 reprocessed copies the least alike have 0.61 here; of 100 strangers 99 have less
UNTIL = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-4)
Contrast = tuple[np.ndarray, np.ndarray]  # a map (S, S) float32, and where it is known, 0 or 1
LEAST_SEEN = 0.2  # of the plane: less proves nothing


def planes_of_file(file: PhotographFile) -> np.ndarray:
    """The two planes of a photograph, (2, 64, 64) uint8: of its round field, zeros where it shows none, and of its box.

    The box is what is lit, whatever its shape, stretched to a square: a copy that was squeezed has the same box.
    Raises ImageError for what cannot be read.
    """
    try:
        circle = Preprocess().read(file, SIDE)[..., 1]
    except NoFieldError:
        circle = np.zeros((SIDE, SIDE), np.uint8)
    return np.stack([circle, _box(file.frame(2 * SIDE))])


def _box(frame: np.ndarray) -> np.ndarray:
    """The green channel of the frame's lit part at 64 x 64 px."""
    red, green, blue = cv2.split(frame)  # numpy's max over the channels takes five times as long
    light = cv2.blur(cv2.max(cv2.max(red, green), blue), (5, 5))
    lit = light > max(15, 0.15 * np.percentile(light, 95))
    rows, columns = (_extent(lit.mean(axis=axis)) for axis in (1, 0))
    return cv2.resize(green[rows, columns], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _extent(share: np.ndarray) -> slice:
    """From the first to the last line of which a twentieth is lit; all where none is."""
    lines = np.flatnonzero(share > 0.05)
    return slice(lines[0], lines[-1] + 1) if len(lines) else slice(None)


def codes(planes: np.ndarray) -> np.ndarray:
    """Planes (N, 64, 64) uint8 -> unit vectors (N, D) float32; the product of two is near 1 for the same photograph."""
    inside = _disc(GRID) > 0
    rows = [_contrast_map(plane, CODE_FINE, CODE_COARSE, GRID)[inside] for plane in planes]
    return _unit_rows(np.array(rows, np.float32).reshape(-1, int(inside.sum())))


def embedded(box: np.ndarray, share: float) -> np.ndarray:
    """The field's plane of a photograph whose box shows the middle of the field alone, `share` of its diameter."""
    side = round(share * SIDE)
    start = (SIDE - side) // 2
    plane = np.zeros((SIDE, SIDE), np.uint8)
    inner = slice(start, start + side)
    plane[inner, inner] = cv2.resize(box, (side, side), interpolation=cv2.INTER_AREA)
    return plane


def ternary_codes(planes: np.ndarray) -> np.ndarray:
    """Planes (N, 64, 64) uint8 -> (N, D) int8 of -1, 0, 1: finer and smaller than `codes`, for a bundle to carry.

    From them nothing but this can be told: whether a photograph at hand is one of them, see `ternary_likeness`.
    """
    half = SIDE // 2
    inside = _disc(half) > 0
    rows = [_ternary(_contrast_map(plane, FINE, COARSE, half)[inside]) for plane in planes]
    return np.array(rows, np.int8).reshape(-1, TERNARY_LENGTH)


def ternary_likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines (N, M) float32 of ternary codes (N, D) and (M, D); TERNARY_SAME or more: the same photograph."""
    return _unit_rows(one) @ _unit_rows(other).T


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """How much two planes show the same once one is moved onto the other: about 0..0.6 for strangers, 1 at most.

    The movement is affine, for the fields of two copies may be found a little apart, larger or flatter. Planes that no
    mere shift brings near each other are not moved further.
    """
    maps = [_fine_contrast(plane.tobytes()) for plane in (one, other)]
    if min(seen.mean() for _, seen in maps) < LEAST_SEEN:
        return 0.0
    likeness, shift = _shift(maps[0][0], maps[1][0])
    if likeness < WORTH_MOVING:
        return likeness
    starts = (shift, np.eye(2, 3, dtype=np.float32))
    fit, move = max((_aligned(*maps, start) for start in starts), key=lambda found: found[0])
    if fit < 0:
        return likeness
    moved, shared = (_moved(layer, move) for layer in maps[1])
    return _correlation(maps[0][0], moved, (shared * maps[0][1]) > 0.99)


def _contrast_map(plane: np.ndarray, fine: float, coarse: float, side: int) -> np.ndarray:
    return cv2.resize(_contrast(plane, fine, coarse)[0], (side, side), interpolation=cv2.INTER_AREA)


def _ternary(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((values - values.mean()) / (values.std() + 1e-6)), -1, 1)


@lru_cache(maxsize=64)
def _fine_contrast(plane: bytes) -> Contrast:
    """Remembered, for the candidates of one photograph come one after another."""
    return _contrast(np.frombuffer(plane, np.uint8).reshape(SIDE, SIDE), FINE, COARSE)


def _contrast(plane: np.ndarray, fine: float, coarse: float) -> Contrast:
    """Difference of two Gaussian means over its own local deviation, (S, S) float32, and where it is known, 0 or 1."""
    grey = plane.astype(np.float32, order="C")
    seen = _disc(plane.shape[0]) * (plane > 4)
    band = _mean(grey, seen, fine) - _mean(grey, seen, coarse)
    deviation = np.sqrt(_mean(band * band, seen, 1.5 * coarse) + 0.5)
    return np.clip(band / deviation, -CLIP, CLIP) * seen, seen


def _mean(layer: np.ndarray, seen: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over the seen pixels only."""
    return cv2.GaussianBlur(layer * seen, (0, 0), sigma) / (cv2.GaussianBlur(seen, (0, 0), sigma) + 1e-6)


def _shift(one: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray]:
    """The displacement (2, 3) of `other` at which the middle of `one` fits best, behind the correlation there."""
    middle = one[SHIFT:-SHIFT, SHIFT:-SHIFT]
    _, likeness, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED))
    return likeness, np.array([[1, 0, x - SHIFT], [0, 1, y - SHIFT]], np.float32)


def _aligned(one: Contrast, other: Contrast, start: np.ndarray) -> tuple[float, np.ndarray]:
    """`start` improved so that `other` fits onto `one`, behind their correlation; -1 where nothing holds on to it."""
    seen = (other[1] * 255).astype(np.uint8)
    try:
        return cv2.findTransformECC(one[0], other[0], start.copy(), cv2.MOTION_AFFINE, UNTIL, seen, 1)
    except cv2.error:
        return -1.0, start


def _moved(layer: np.ndarray, move: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(layer, move, layer.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    if where.mean() < LEAST_SEEN:
        return 0.0
    return float(_unit(one[where] - one[where].mean()) @ _unit(other[where] - other[where].mean()))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) + 1e-6)


@lru_cache(maxsize=4)
def _disc(size: int) -> np.ndarray:
    """(size, size) float32: 1 within KEPT of the radius, else 0."""
    offset = np.arange(size) - (size - 1) / 2
    return (offset[:, None] ** 2 + offset[None, :] ** 2 < (KEPT * size / 2) ** 2).astype(np.float32)


TERNARY_LENGTH = int(_disc(SIDE // 2).sum())  # numbers of a ternary code
