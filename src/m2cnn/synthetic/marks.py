"""Marks that are no diabetic lesion: drusen, and the scars of laser treatment. They know nothing of the grade."""

from __future__ import annotations

import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.spots import Lesion, as_lesions, blobs
from m2cnn.synthetic.view import UM

SPACING = 0.46  # DD between scars: a burn of 500 um and as much between two


def drusen(amount: float, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Yellow deposits below the retina, round and soft, 30 to 130 um, around the fovea."""
    count = int(8 + 70 * amount * rng.uniform(0.4, 1.0))
    at = anatomy.fovea + rng.normal(0, rng.uniform(0.5, 0.9), (count, 2))
    at = at[np.hypot(*at.T) > 0.75]
    radii = 15 * np.exp(rng.uniform(0, 1.45, len(at)) * (0.5 + 0.5 * amount)) * UM
    return as_lesions("drusen", blobs(at, radii, 0.12, rng), 0.25, 0.55, rng)


def laser_scars(amount: float, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Panretinal scars outside the arcades, or a focal group in the macula; some have a pigmented centre."""
    panretinal = rng.random() < 0.7
    at = _panretinal(amount, anatomy, rng) if panretinal else _focal(amount, anatomy, rng)
    low, high = (90, 170) if panretinal else (35, 70)
    radii = rng.uniform(low, high, len(at)) * UM
    dark = rng.random(len(at)) < 0.45
    core = blobs(at[dark] + rng.normal(0, 0.02, (int(dark.sum()), 2)), radii[dark] * 0.5, 0.3, rng)
    pale = as_lesions("laser_scar", blobs(at, radii, 0.15, rng), 0.3, 0.7, rng)
    return pale + as_lesions("laser_pigment", core, 0.4, 0.8, rng)


def _panretinal(amount: float, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """A loose grid (n, 2) that spares macula and disc."""
    x, y = np.meshgrid(np.arange(-4.5, 7.5, SPACING), np.arange(-4.5, 4.6, SPACING))
    x = x + SPACING / 2 * (np.arange(len(x)) % 2)[:, None]
    at = np.stack([x, y], -1).reshape(-1, 2)
    at = at + rng.normal(0, 0.09, at.shape)
    wide = (at - anatomy.fovea * 0.8) / (2.55, 2.05)
    kept = (np.hypot(*wide.T) > 1) & (np.hypot(*at.T) > 1.0)
    return at[kept & (rng.random(len(at)) < 0.45 + 0.5 * amount)]


def _focal(amount: float, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    count = int(8 + 20 * amount)
    angle, reach = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.4, 1.2, count)
    return anatomy.fovea + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
