"""Where the retina is in a photograph: the round field of view, a circle, whether or not the frame shows all of it.

Found on a copy of at most 256 px in three steps: the region that differs from the background, a circle through the
region's edge (RANSAC, then least squares), and the circle moved to the steepest fall of brightness along its radii.

Coordinates are OpenCV's: x to the right, y down, the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from m2cnn.errors import ImageError, NoFieldError

PLACE = "photograph"
MIN_SIDE = 16
THUMB = 256  # px, long side of the copy on which the field is sought
LEVELS = (4, 8, 16, 32, 64)  # grey levels above the background: dark fields need the low ones, flares the high ones
NOISY_LEVELS = (48, 80, 112)  # on a blurred copy, for contrast-stretched photographs whose background is noise
TOLERANCE = 0.015  # of the radius: how far the edge of a true field strays from a circle
MIN_ARC = 60.0  # degrees of the circle that must be seen

Circle = tuple[float, float, float]  # x, y, radius in pixels of the copy


@dataclass(frozen=True)
class Field:
    """The round field of view: centre (x, y) and radius in pixels of the photograph; parts may lie outside it."""

    x: float
    y: float
    radius: float


def find_field(image: np.ndarray) -> Field:
    """Find the round field of view in (H, W, 3) uint8 RGB, also where the frame or a black border cuts it.

    The background is the median of the corners: black, grey or noisy. Edges inside the circle (cuts, shadows) do not
    count against it, bright parts outside do. Deterministic; about 5 ms, whatever the size of the photograph.
    Raises NoFieldError when there is none.
    """
    check_image(image)
    thumb, scale = _thumbnail(image)
    contrast = cv2.medianBlur(_contrast(thumb), 5)
    circle = _best_circle(contrast, LEVELS) or _best_circle(cv2.GaussianBlur(contrast, (0, 0), 4), NOISY_LEVELS)
    if circle is None:
        raise no_field()
    x, y, radius = _snap(contrast, circle) or circle
    return Field(x=(x + 0.5) / scale - 0.5, y=(y + 0.5) / scale - 0.5, radius=radius / scale)


def no_field() -> NoFieldError:
    return NoFieldError(PLACE, "no round field of view", "a round retina on a plain background", "Check the file.")


def check_image(image: np.ndarray) -> None:
    """Raise ImageError unless `image` is a (H, W, 3) uint8 array with sides of 16 px or more."""
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        got = f"{getattr(image, 'shape', type(image).__name__)} {getattr(image, 'dtype', '')}".strip()
        raise ImageError(PLACE, got, "an array (H, W, 3) of uint8, RGB", "Use read_image.")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(PLACE, f"{width} x {height} pixels", f"sides of {MIN_SIDE} or more", "Use the original.")


# --- the copy and what differs from its background --------------------------------------------------------------------


def _thumbnail(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The photograph at most THUMB px long, and its scale. Large ones lose rows and columns first: it is quicker."""
    height, width = image.shape[:2]
    scale = min(1.0, THUMB / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    stride = max(1, min(max(height, width) // (2 * THUMB), height, width))
    offset = stride // 2  # keeps the copy centred on the photograph
    return cv2.resize(image[offset::stride, offset::stride], size, interpolation=cv2.INTER_AREA), scale


def _contrast(thumb: np.ndarray) -> np.ndarray:
    """Largest channel difference from the background, (h, w) uint8; the background is the median of the corners."""
    k = max(2, min(thumb.shape[:2]) // 25)
    corners = [thumb[rows, columns] for rows in (slice(k), slice(-k, None)) for columns in (slice(k), slice(-k, None))]
    background = np.median(np.concatenate(corners).reshape(-1, 3), axis=0)
    red, green, blue = (np.abs(thumb[..., i] - background[i]) for i in range(3))
    return np.maximum(np.maximum(red, green), blue).astype(np.uint8)


# --- a circle through the edge ----------------------------------------------------------------------------------------


def _best_circle(contrast: np.ndarray, levels: tuple[int, ...]) -> Circle | None:
    fits = [fit for level in levels if (fit := _fit_level(contrast, level)) is not None]
    return max(fits)[1] if fits else None


def _fit_level(contrast: np.ndarray, level: int) -> tuple[float, Circle] | None:
    """Score and circle of the largest region above `level`, or None."""
    mask = cv2.morphologyEx((contrast > level).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    edge = max(contours, key=cv2.contourArea).reshape(-1, 2).astype(np.float64)
    height, width = mask.shape
    inner = edge[((edge >= 2) & (edge <= (width - 3, height - 3))).all(axis=1)]
    circle = _fit_circle(inner, *_radii(mask))
    return None if circle is None else _judge(circle, edge, inner)


def _radii(copy: np.ndarray) -> tuple[float, float]:
    """Smallest and largest radius that a field may have in this frame."""
    return 0.15 * min(copy.shape), 0.75 * max(copy.shape)


def _fit_circle(points: np.ndarray, smallest: float, largest: float) -> Circle | None:
    """RANSAC over points (N, 2), then least squares over the inliers -> circle or None."""
    points = points[:: max(1, len(points) // 160)]
    if len(points) < 12:
        return None
    circles = _through(points[(_triples() * len(points)).astype(int)])
    circles = circles[(circles[:, 2] >= smallest) & (circles[:, 2] <= largest)]
    if not len(circles):
        return None
    circle = circles[np.argmax(_votes(points, circles))]
    for _ in range(3):
        near = np.abs(np.hypot(*(points - circle[:2]).T) / circle[2] - 1) < TOLERANCE
        if near.sum() < 12:
            return None
        circle = _least_squares(points[near])
    return (float(circle[0]), float(circle[1]), float(circle[2])) if smallest <= circle[2] <= largest else None


def _votes(points: np.ndarray, circles: np.ndarray) -> np.ndarray:
    """Points (N, 2) on each circle (n, 3), less those outside it, within TOLERANCE -> (n,)."""
    x, y, radius = (circles[:, i : i + 1] for i in range(3))
    # Squares spare a root for each of 30,000 pairs; most of the search's time was spent here.
    square = (points[:, 0] - x) ** 2 + (points[:, 1] - y) ** 2  # (circles, points)
    within = np.count_nonzero(square < (radius * (1 + TOLERANCE)) ** 2, axis=1)
    deep = np.count_nonzero(square <= (radius * (1 - TOLERANCE)) ** 2, axis=1)
    return 2 * within - deep  # on: within - deep; outside: N - within; N is the same for all


@lru_cache(maxsize=1)
def _triples() -> np.ndarray:
    # (192, 3) places along the edge as fractions of its length; fixed, so that a photograph has one field.
    return np.random.default_rng(0).random((192, 3))


def _through(triples: np.ndarray) -> np.ndarray:
    """Circles (n, 3) as x, y, radius through triples (N, 3, 2) of points; triples on a line are left out."""
    a, b, c = triples[:, 0], triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0]
    cross = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    bent = np.abs(cross) > 1e-6
    a, b, c, cross = a[bent], b[bent], c[bent], cross[bent]
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    x = (c[:, 1] * bb - b[:, 1] * cc) / cross
    y = (b[:, 0] * cc - c[:, 0] * bb) / cross
    return np.stack([a[:, 0] + x, a[:, 1] + y, np.hypot(x, y)], axis=1)


def _least_squares(points: np.ndarray) -> np.ndarray:
    """Kåsa's algebraic circle fit to points (N, 2) -> x, y, radius."""
    middle = points.mean(axis=0)
    p = points - middle
    (x, y, k), *_ = np.linalg.lstsq(np.c_[2 * p, np.ones(len(p))], (p**2).sum(axis=1), rcond=None)
    return np.array([x + middle[0], y + middle[1], math.sqrt(max(k + x * x + y * y, 0.0))])


def _judge(circle: Circle, edge: np.ndarray, inner: np.ndarray) -> tuple[float, Circle] | None:
    """Score a circle against all of the region's edge; None if too little of it is seen or too much lies outside."""
    x, y, radius = circle
    slack = max(TOLERANCE * radius, 1.0)
    away = np.hypot(inner[:, 0] - x, inner[:, 1] - y) - radius
    on = inner[np.abs(away) < slack]
    sectors = np.unique(np.arctan2(on[:, 1] - y, on[:, 0] - x) // math.radians(5))
    arc = 5.0 * len(sectors)
    outside = float(np.mean(np.hypot(edge[:, 0] - x, edge[:, 1] - y) > radius + 2 * slack))
    share = len(on) / len(inner)
    if arc < MIN_ARC or outside > 0.15 or share < 0.25:
        return None
    # The region's last pixels end half a pixel further out.
    return share + arc / 360 - 3 * outside, (x, y, radius + 0.5)


# --- the steepest fall ------------------------------------------------------------------------------------------------


def _snap(contrast: np.ndarray, circle: Circle) -> Circle | None:
    """Move a circle to the steepest fall of `contrast` within 8 % of its radius; None where too few radii show one.

    A level alone takes the glow around a bright field for a part of it.
    """
    x, y, radius = circle
    angles = np.arange(0, 2 * np.pi, np.pi / 90)[:, None]
    r = radius + np.arange(-0.08 * radius, 0.08 * radius, 0.5)[None, :]
    rows, columns = (y + r * np.sin(angles)).astype(np.float32), (x + r * np.cos(angles)).astype(np.float32)
    light = cv2.remap(contrast, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    fall = light[:, :-4] - light[:, 4:]  # over 2 px, (rays, steps); beyond the frame it is zero
    steepest = fall.argmax(axis=1)
    depth = fall.max(axis=1)
    ray = np.flatnonzero(depth > max(3.0, 0.25 * np.percentile(depth, 90)))
    points = np.c_[columns[ray, steepest[ray] + 2], rows[ray, steepest[ray] + 2]].astype(np.float64)
    return _fit_circle(points, *_radii(contrast))
