"""Where the camera looks: retina coordinates and their pixels, and the visible part of the field of view.

Retina coordinates are disc diameters (1 DD is about 1600 um): the disc's centre is (0, 0), x points to the temple,
y down. So both eyes share one anatomy, and `flip` makes the left or the right eye of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UM = 1 / 1600  # one micrometre in disc diameters


@dataclass(frozen=True)
class View:
    """One photograph's geometry, in px; a pixel's centre has whole coordinates.

    centre, radius: of the field of view.  scale: px per DD.  aim: the retina point, in DD, at the field's centre.
    cut: the rows further than this from the field's centre are black (at least the radius: a full round field).
    turn: the camera's tilt in radians.  flip: 1 when the temple is at the right (a left eye), else -1.
    """

    size: int
    centre: tuple[float, float]
    radius: float
    cut: float
    scale: float
    aim: tuple[float, float]
    turn: float
    flip: int

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Retina (..., 2) in DD -> picture (..., 2) in px."""
        return (np.asarray(points) - self.aim) @ self._axes() * self.scale + self.centre

    def retina(self, pixels: np.ndarray) -> np.ndarray:
        """Picture (..., 2) in px -> retina (..., 2) in DD; the inverse of `pixels`."""
        return (np.asarray(pixels) - self.centre) / self.scale @ np.linalg.inv(self._axes()) + self.aim

    def inside(self, pixels: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Which of (..., 2) px lie in the visible field, at least `margin` px from its edge."""
        dx, dy = np.moveaxis(np.asarray(pixels) - self.centre, -1, 0)
        return (np.hypot(dx, dy) < self.radius - margin) & (np.abs(dy) < self.cut - margin)

    def grid(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres of step x step pixel blocks, in field radii from the field's centre: x (1, n), y (n, 1), float32."""
        at = (np.arange(-(-self.size // step), dtype=np.float32) + 0.5) * step - 0.5
        x, y = (at - self.centre[0]) / self.radius, (at - self.centre[1]) / self.radius
        return x[None, :], y[:, None]

    def affine(self, step: int) -> np.ndarray:
        """(2, 3): retina = affine @ (column, row, 1) for the centres of step x step pixel blocks."""
        middle = (step - 1) / 2
        corner, right, down = self.retina(np.array([[0, 0], [step, 0], [0, step]]) + middle)
        return np.stack([right - corner, down - corner, corner], -1)

    def retina_grid(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Retina coordinates x, y of the centres of step x step pixel blocks, two (n, n) float32 in DD."""
        n = np.arange(-(-self.size // step), dtype=np.float32)
        (ax, bx, cx), (ay, by, cy) = self.affine(step).astype(np.float32)
        return ax * n[None, :] + bx * n[:, None] + cx, ay * n[None, :] + by * n[:, None] + cy

    def _axes(self) -> np.ndarray:
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[self.flip * c, self.flip * s], [-s, c]])
