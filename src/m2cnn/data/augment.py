"""Random views of a prepared picture: the numbers are drawn in `draw`, applied in `apply`.

Defaults are a reconstruction, common to the systems of the paper's table: rotation 0-360 degrees, both flips, scale
0.9-1.1, shift +-5 %, brightness and contrast +-0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augment:
    """Half-widths of uniform draws; 0 switches a part off.

    rotation: degrees.  flip: mirror with probability 1/2, both ways.  scale: fraction around 1.
    shift: fraction of the picture's side.  brightness: fraction of 255.  contrast: fraction around 1.
    """

    rotation: float = 180.0
    flip: bool = True
    scale: float = 0.1
    shift: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1


@dataclass(frozen=True)
class View:
    """One draw: `matrix` (2, 3) maps output to input pixels; grey' = gain * (grey - 127.5) + 127.5 + offset."""

    matrix: np.ndarray
    gain: float
    offset: float


def draw(augment: Augment, size: int, rng: np.random.Generator) -> View:
    """A random view of a (size, size) picture. Always takes the same number of draws from `rng`."""
    angle, scale, dx, dy, offset, gain = rng.uniform(-1, 1, 6)
    mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0) if augment.flip else np.ones(2)
    turn = np.deg2rad(angle * augment.rotation)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / (1 + scale * augment.scale)
    linear = turned * mirror
    centre = np.full(2, (size - 1) / 2)
    origin = centre - linear @ (centre + np.array([dx, dy]) * augment.shift * size)
    return View(np.column_stack([linear, origin]), 1 + gain * augment.contrast, offset * augment.brightness * 255)


def apply(view: View, picture: np.ndarray, border: int = 0) -> np.ndarray:
    """(S, S, 3) uint8 -> (S, S, 3) uint8; outside the picture is `border`, which no brightness changes."""
    size = picture.shape[:2][::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # Brightness first: the border stays what a photograph has outside its field of view.
    levels = (np.arange(256) - 127.5) * view.gain + 127.5 + view.offset
    levels[border] = border
    toned = cv2.LUT(picture, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    return cv2.warpAffine(toned, view.matrix, size, flags=flags, borderValue=(border,) * 3)
