"""Brushes: polygons and strips in retina coordinates onto single-channel canvases, and smooth noise."""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.view import View

FINE = 2  # canvases are drawn at twice the picture's size and averaged down: anti-aliasing
_SHIFT = 4  # cv2 reads coordinates as fixed-point numbers with so many fractional bits


def canvas(view: View) -> np.ndarray:
    """An empty canvas of FINE x the picture's size, uint8."""
    return np.zeros((view.size * FINE, view.size * FINE), np.uint8)


def coverage(fine: np.ndarray) -> np.ndarray:
    """A canvas averaged down to the picture's size, float32 in 0..1."""
    size = fine.shape[0] // FINE
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)


def fill(fine: np.ndarray, view: View, outlines: np.ndarray, levels: np.ndarray) -> None:
    """Fill closed outlines (n, k, 2) in DD with levels (n,) in 0..1; a later one covers an earlier one."""
    corners = view.pixels(outlines)
    visible = (corners.max(1) >= 0).all(1) & (corners.min(1) < view.size).all(1)
    values = np.clip(np.asarray(levels) * _painted_share(corners) * 255, 0, 255).round().astype(int)
    fixed = _fixed_point(corners)
    for i in np.flatnonzero(visible):
        cv2.fillPoly(fine, [fixed[i]], int(values[i]), cv2.LINE_8, _SHIFT)


def _painted_share(corners: np.ndarray) -> np.ndarray:
    """True area over painted area (n,): cv2 paints the outline's own pixels too, so what is thin must be paler."""
    onward = np.roll(corners, -1, 1)
    area = np.abs((corners[..., 0] * onward[..., 1] - corners[..., 1] * onward[..., 0]).sum(1)) / 2 * FINE**2
    border = np.hypot(*np.moveaxis(onward - corners, -1, 0)).sum(1) * FINE
    return area / (area + border / 2 + 1)


def strips(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outlines (n, 2k, 2) of bands along points (n, k, 2) with half-widths radii (n, k)."""
    ahead = np.gradient(points, axis=1)
    ahead /= np.maximum(np.hypot(ahead[..., :1], ahead[..., 1:]), 1e-9)
    across = np.stack([-ahead[..., 1], ahead[..., 0]], -1) * radii[..., None]
    return np.concatenate([points + across, (points - across)[:, ::-1]], 1)


def soften(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; sigma in px, below 0.3 px nothing is done."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma >= 0.3 else image


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> np.ndarray:
    """(size, size) float32 noise of mean 0 and deviation about 1, with `cells` bumps along each side."""
    grid = rng.standard_normal((cells + 3, cells + 3), np.float32)
    step = cells / size
    turn = np.float32([[step, 0, 1], [0, step, 1]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grid, turn, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)


def _fixed_point(pixels: np.ndarray) -> np.ndarray:
    # A pixel's centre is at its integer coordinate for cv2, and FINE x FINE canvas cells make one pixel.
    return np.round(((pixels + 0.5) * FINE - 0.5) * (1 << _SHIFT)).astype(np.int32)
