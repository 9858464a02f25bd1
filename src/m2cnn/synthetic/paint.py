"""Brushes: polygons and strips in retina coordinates onto single-channel canvases, and smooth noise."""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.view import View

FINE = 2  # canvases are drawn at twice the picture's size and averaged down: anti-aliasing
RETINA = ((-5.0, -5.0), (8.0, 5.0))  # DD: two corners of what any view may show
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


def rounded(paths: np.ndarray, times: int = 3) -> np.ndarray:
    """Points (n, k, ...) with `times` - 1 more between any two, on a Catmull-Rom curve: (n, times (k-1) + 1, ...)."""
    t = (np.arange(times) / times)[:, None]
    weights = np.concatenate(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1
    )  # of the four points around
    padded = np.concatenate([2 * paths[:, :1] - paths[:, 1:2], paths, 2 * paths[:, -1:] - paths[:, -2:-1]], 1)
    around = np.stack([padded[:, i : padded.shape[1] - 3 + i] for i in range(4)], 2)  # (n, k - 1, 4, ...)
    between = np.einsum("tw,nkw...->nkt...", weights / 2, around)
    whole = between.reshape(len(paths), times * (paths.shape[1] - 1), *paths.shape[2:])
    return np.concatenate([whole, paths[:, -1:]], 1)


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


def retina_noise(rng: np.random.Generator, per_dd: float, view: View, step: int) -> np.ndarray:
    """Noise as of `smooth_noise`, but of the retina: another view of the eye shows the same. `per_dd` bumps per DD.

    (n, n) float32 for step x step pixel blocks, n = ceil(size / step). Beyond RETINA it repeats mirrored.
    """
    (left, top), (right, bottom) = RETINA
    cells = int((bottom - top) * per_dd) + 3, int((right - left) * per_dd) + 3
    grid = rng.standard_normal(cells, np.float32)
    n = -(-view.size // step)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    turn = (view.affine(step) - np.array([[0, 0, left], [0, 0, top]])) * per_dd
    return cv2.warpAffine(grid, turn, (n, n), flags=flags, borderMode=cv2.BORDER_REFLECT)


def polar_noise(
    rng: np.random.Generator, spokes: int, per_dd: float, polar: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Noise along spokes: `spokes` bumps around, `per_dd` bumps outwards. polar: (distance in DD, angle), float32."""
    away, angle = polar
    grid = rng.standard_normal((int(12 * per_dd) + 4, spokes), np.float32)
    grid = np.concatenate([grid[:, -2:], grid, grid[:, :3]], 1)  # a full turn joins up
    columns = angle * np.float32(spokes / (2 * np.pi)) + np.float32(2)
    return cv2.remap(grid, columns, away * np.float32(per_dd) + np.float32(1), cv2.INTER_CUBIC)


def enlarge(coarse: np.ndarray, step: int, size: int) -> np.ndarray:
    """A map of step x step pixel blocks at the picture's size."""
    whole = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(whole[:size, :size])


def _fixed_point(pixels: np.ndarray) -> np.ndarray:
    # A pixel's centre is at its integer coordinate for cv2, and FINE x FINE canvas cells make one pixel.
    return np.round(((pixels + 0.5) * FINE - 0.5) * (1 << _SHIFT)).astype(np.int32)
