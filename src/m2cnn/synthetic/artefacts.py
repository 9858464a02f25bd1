"""What lies between the eye and the sensor: dust, flare, lashes; and a camera that is pointed beside the aim."""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.nuisances import Nuisances
from m2cnn.synthetic.paint import enlarge, soften
from m2cnn.synthetic.view import View

STEP = 2  # the maps are drawn at half the picture's size: nothing here is sharp
FLARES = np.array([[255, 235, 215], [150, 190, 255], [255, 190, 120], [170, 230, 220]], np.float32)


def off_centre(nuisances: Nuisances, rng: np.random.Generator) -> np.ndarray:
    """How far (2,) in DD the camera is off its aim; zeros for most."""
    wanted, angle, far = rng.random(), rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    return float(wanted < nuisances.off_centre) * far * np.array([np.cos(angle), np.sin(angle)])


def dust(nuisances: Nuisances, view: View, rng: np.random.Generator) -> np.ndarray | None:
    """Log darkening (S, S) of 2 to 9 specks on the lens, out of focus; None for a clean one.

    `rng` is of the visit: the specks stay where they are in the frame of the next photograph.
    """
    wanted, count = rng.random(), rng.integers(2, 10)
    at, wide = rng.uniform(-0.9, 0.9, (count, 2)), rng.uniform(0.006, 0.022, count)
    dark, softness = rng.uniform(0.06, 0.30, count), rng.uniform(0.15, 0.5)
    if wanted >= nuisances.dust:
        return None
    shade = _blank(view)
    for place, radius, depth in zip(at, wide, dark, strict=True):
        _spot(shade, view, place, radius, depth)
    return -enlarge(soften(shade, softness * 0.012 * view.radius), STEP, view.size)


def flare(nuisances: Nuisances, view: View, rng: np.random.Generator) -> np.ndarray | None:
    """Grey levels (3, S, S) of reflections in the lens: round ghosts, and often a bright crescent; None for most."""
    wanted, count, angle = rng.random(), rng.integers(1, 4), rng.uniform(0, 2 * np.pi)
    reach, wide = rng.uniform(-0.6, 0.6, count), rng.uniform(0.02, 0.09, count)
    tints, power = rng.integers(0, len(FLARES), count), rng.uniform(15, 80, count)
    crescent = rng.uniform(30, 130) * (rng.random() < 0.6)
    if wanted >= nuisances.flare:
        return None
    along = np.array([np.cos(angle), np.sin(angle)])
    whole = np.zeros((3, view.size, view.size), np.float32)
    for far, radius, tint, level in zip(reach, wide, tints, power, strict=True):
        ghost = _blank(view)
        _spot(ghost, view, along * far, radius, level)
        _add(whole, ghost, FLARES[tint], 0.012, view)
    x, y = view.grid(STEP)
    off = np.hypot(x - 0.20 * along[0], y - 0.20 * along[1])
    edge = crescent * np.clip((off - 0.98) / 0.2, 0, 1) ** 1.5
    _add(whole, edge.astype(np.float32), FLARES[tints[0]], 0.01, view)
    return whole


def eyelash(nuisances: Nuisances, view: View, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Log darkening (S, S) by a lid, and grey levels (3, S, S) of lashes before it; None for most."""
    wanted, top, depth = rng.random(), rng.random() < 0.35, rng.uniform(0.05, 0.32)
    count = int(rng.integers(3, 10))
    roots, lean = rng.uniform(-0.8, 0.8, count), rng.normal(0, 0.25, count)
    length, thick, power = rng.uniform(0.12, 0.4, count), rng.uniform(0.002, 0.009, count), rng.uniform(30, 110, count)
    if wanted >= nuisances.eyelash:
        return None
    sign = -1.0 if top else 1.0
    edge = view.cut / view.radius if view.cut < view.radius else 1.0
    x, y = view.grid(STEP)
    lid = np.clip((y * sign - (edge - depth) + 0.10 * x * x) / 0.35, 0, 1) ** 1.5 * np.ones_like(x)
    lashes = _blank(view)
    for root, slope, long, radius, level in zip(roots, lean, length, thick, power, strict=True):
        ends = np.array([[root, sign * edge], [root + slope * long, sign * (edge - long)]])
        pixels = (ends * view.radius + view.centre) / STEP
        width = max(1, round(2 * radius * view.radius / STEP))
        cv2.line(lashes, *[tuple(int(v) for v in end) for end in pixels], float(level), width)
    glow = np.zeros((3, view.size, view.size), np.float32)
    _add(glow, lashes, FLARES[0], 0.014, view)
    return -1.6 * enlarge(lid.astype(np.float32), STEP, view.size), glow


def _blank(view: View) -> np.ndarray:
    n = -(-view.size // STEP)
    return np.zeros((n, n), np.float32)


def _spot(canvas: np.ndarray, view: View, place: np.ndarray, radius: float, level: float) -> None:
    """A disc at `place` (2,), in field radii from the field's centre; sixteenths of a pixel count."""
    x, y = (place * view.radius + view.centre) / STEP * 16
    reach = max(16, round(radius * view.radius / STEP * 16))
    cv2.circle(canvas, (round(x), round(y)), reach, float(level), -1, cv2.LINE_8, 4)


def _add(whole: np.ndarray, levels: np.ndarray, colour: np.ndarray, blur: float, view: View) -> None:
    """Add light (n, n) of a colour to (3, S, S), out of focus by `blur` field radii."""
    soft = enlarge(soften(levels, blur * view.radius / STEP), STEP, view.size)
    for plane, share in zip(whole, colour / 255, strict=True):
        plane += soft * share
