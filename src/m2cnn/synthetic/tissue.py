"""The retina without disc, vessels and lesions: pigment, choroid, nerve fibres, macula, in log reflectance.

Every pattern belongs to the retina, not to the picture: two fields of an eye show the same.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.cameras import Camera
from m2cnn.synthetic.paint import enlarge, polar_noise, retina_noise
from m2cnn.synthetic.view import View

PIGMENT = np.float32([0.55, 1.0, 1.05])  # how strongly melanin and macular pigment darken red, green, blue
SHEEN = np.float32([0.6, 1.0, 1.1])  # how much nerve fibres brighten red, green, blue: they are white
MOTTLING = ((0.7, np.float32(0.10)), (1.9, np.float32(0.05)), (6.0, np.float32(0.03)))  # bumps per DD, log density
CHOROID = (3.0, 9.0, 22.0)  # bumps per DD of the structure that only red shows: red light reaches deepest
SPECKS = np.float32(0.09)
HALF = 2  # soft patterns are drawn at half the picture's size


def tissue(anatomy: Anatomy, colour: np.ndarray, camera: Camera, view: View, rng: np.random.Generator) -> np.ndarray:
    """Log colour (3, S, S) float32 of a retina whose median is log RGB `colour` (3,) under this camera."""
    pigment, lines, sheen = _soft_layers(anatomy, view, rng)
    grain = retina_noise(rng, 24.0, view, 1)
    # Single grains are dark specks: softer than microaneurysms, and not to be told from them in a small picture.
    speckle = np.float32(0.034 * anatomy.style.mottling) * grain + SPECKS * np.maximum(grain - np.float32(1.9), 0)
    pigment = enlarge(pigment, HALF, view.size) + speckle
    blood = _flush(anatomy, view, rng) + enlarge(lines, HALF, view.size)
    sheen = enlarge(sheen, HALF, view.size)
    tints = zip(colour, PIGMENT, np.float32(camera.blood), SHEEN, strict=True)
    picture = np.stack([np.float32(c) - pigment * k - blood * b + sheen * s for c, k, b, s in tints])
    picture[0] += np.float32(camera.choroid) * sum(retina_noise(rng, cells, view, 1) for cells in CHOROID)
    return picture


def _soft_layers(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pigment, blood of the choroid's vessels, and nerve fibres, each (n, n) float32 at half the picture's size."""
    x, y = view.retina_grid(HALF)
    from_fovea = (x - np.float32(anatomy.fovea[0])) ** 2 + (y - np.float32(anatomy.fovea[1])) ** 2
    mottling = sum(amount * retina_noise(rng, cells, view, HALF) for cells, amount in MOTTLING)
    pigment = mottling * np.float32(anatomy.style.mottling) + _macula(anatomy, x, y, from_fovea)
    choroid = _choroid(anatomy, x, y, from_fovea, view, rng)
    sheen = _fibres(anatomy, x, y, rng) + _reflex(anatomy, x, y, from_fovea)
    return pigment - np.float32(0.30) * choroid, np.float32(0.22) * choroid, sheen


def _macula(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, from_fovea: np.ndarray) -> np.ndarray:
    """Extra pigment: a broad macula and a small dark foveola, less around the disc's rim."""
    dark = 0.32 * np.exp(from_fovea * np.float32(-1 / (2 * 0.50**2)))
    dark += 0.28 * np.exp(from_fovea * np.float32(-1 / (2 * 0.19**2)))
    halo = np.exp((x * x + y * y) * np.float32(-1 / (2 * 0.9**2)))
    return np.float32(anatomy.style.macula) * dark - np.float32(0.22) * halo


def _choroid(
    anatomy: Anatomy, x: np.ndarray, y: np.ndarray, from_fovea: np.ndarray, view: View, rng: np.random.Generator
) -> np.ndarray:
    """Tessellation: large choroidal vessels that run outwards, winding, and shine through where pigment is scarce.

    (n, n) float32, about -0.6 between the vessels and 0.4 on them, 0 in the macula and without tessellation.
    """
    polar = cv2.cartToPolar(x - np.float32(0.6 * anatomy.fovea[0]), y)
    winding = retina_noise(rng, 1.2, view, HALF)
    polar = polar[0], (polar[1] + np.float32(0.10) * winding) % np.float32(2 * np.pi)
    ridges = np.abs(polar_noise(rng, 34, 0.9, polar) + np.float32(0.35) * retina_noise(rng, 4.0, view, HALF))
    patchy = np.clip(np.float32(0.7) + np.float32(0.5) * retina_noise(rng, 0.5, view, HALF), 0, 1.3)
    spared = 1 - np.exp(from_fovea * np.float32(-1 / (2 * 1.1**2)))
    return np.float32(anatomy.tessellation) * patchy * spared * (np.float32(0.4) - np.minimum(ridges, 1))


def _fibres(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nerve fibres: fine bright streaks from the disc, densest above and below, and a soft sheen under them."""
    away, angle = cv2.cartToPolar(x, y)
    streaks = polar_noise(rng, 150, 1.2, (away, angle)) + polar_noise(rng, 60, 0.8, (away, angle))
    dense = np.abs(np.sin(angle)) ** np.float32(1.5) * np.exp(-away * np.float32(1 / 1.5))
    return np.float32(anatomy.sheen) * dense * (np.float32(0.6) + np.float32(0.12) * streaks)


def _reflex(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, from_fovea: np.ndarray) -> np.ndarray:
    """The young macula mirrors the flash: a ring around it and a point in the foveola."""
    ring = np.exp(-((np.sqrt(from_fovea) - np.float32(0.62)) ** 2) * np.float32(1 / (2 * 0.09**2)))
    px, py = anatomy.fovea + anatomy.reflex_at
    point = np.exp(-((x - np.float32(px)) ** 2 + (y - np.float32(py)) ** 2) * np.float32(1 / (2 * 0.03**2)))
    return np.float32(anatomy.reflex) * (np.float32(0.10) * ring + np.float32(0.35) * point)


def _flush(anatomy: Anatomy, view: View, rng: np.random.Generator) -> np.ndarray:
    """Blood in the choroid, (S, S) float32: patches, red as haemorrhages from afar, so that colour tells no grade."""
    step = max(1, view.size // 128)
    patches = retina_noise(rng, 0.4, view, step) + retina_noise(rng, 0.95, view, step)
    return enlarge(np.float32(0.06) * patches + np.float32(anatomy.flush), step, view.size)
