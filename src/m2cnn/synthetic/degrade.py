"""A photograph made worse, by as much as asked: blur, darkness, haze, glare, a field that is cut off.

For the check of quality that learns from them (benchmarks/quality.py) and for curves of dose and response. Each takes
(H, W, 3) uint8 RGB, its field of view, a dose and a generator, and returns such an array.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from m2cnn.field import Field

Degrade = Callable[[np.ndarray, Field, float, np.random.Generator], np.ndarray]


def blurred(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian; dose: its sigma, in hundredths of the field's diameter."""
    return cv2.GaussianBlur(image, (0, 0), dose / 100 * 2 * field.radius)


def darkened(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """dose: the share of the light that is taken away; the camera's noise stays."""
    noise = rng.normal(0, 2, image.shape) * (image > 8)
    return (image * (1 - dose) + noise * min(1, 4 * dose)).clip(0, 255).astype(np.uint8)


def hazed(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """A veil as of a cataract: dose: the share of the contrast within the field that is taken away."""
    inside = _disc(image, field)
    mean = image[inside].mean(axis=0)
    veiled = image * (1 - dose) + mean * dose
    return np.where(inside[..., None], veiled, image).astype(np.uint8)


def glared(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """A white reflex at a random place; dose: its radius, of the field's."""
    angle, far = rng.uniform(0, 2 * np.pi), field.radius * 0.5 * rng.random() ** 0.5
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(rows - field.y - far * np.sin(angle), columns - field.x - far * np.cos(angle))
    share = 1 / (1 + np.exp((away - dose * field.radius) / (0.08 * field.radius)))
    share = share * _disc(image, field)
    return (image * (1 - share[..., None]) + 255 * share[..., None]).astype(np.uint8)


def cut(image: np.ndarray, field: Field, dose: float, rng: np.random.Generator) -> np.ndarray:
    """Black from one side on, as of a lid; dose: the share of the field's diameter."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    along = (rows - field.y) * np.sin(angle) + (columns - field.x) * np.cos(angle)
    return np.where((along > field.radius * (1 - 2 * dose))[..., None], 0, image).astype(np.uint8)


DEGRADATIONS: dict[str, Degrade] = {
    "blur": blurred,
    "darkness": darkened,
    "haze": hazed,
    "glare": glared,
    "cut field": cut,
}


def _disc(image: np.ndarray, field: Field) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.hypot(rows - field.y, columns - field.x) <= field.radius
