"""The healthy eye: pigmentation, disc, cup, fovea and vessels, drawn without ever seeing the grade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.synthetic.vessels import Branches, grow_tree

# Logarithm of the median colour inside the field of natural photographs: (125, 82, 50) of 255, and the directions in
# which photographs differ from it (brightness, warm to cold, red to green), from 193 photographs of EyePACS.
MEDIAN = np.log([125.0, 82.0, 50.0])
DIRECTIONS = np.array([[0.26, 0.36, 0.52], [0.22, 0.12, -0.14], [0.06, -0.09, 0.03]])


@dataclass(frozen=True)
class Style:
    """What the two eyes of a patient share. Lengths in DD.

    colour: (3,) log of the retina's RGB in 0..255.  mottling, tessellation, macula: strengths, about 0..1.
    """

    colour: np.ndarray
    mottling: float
    tessellation: float
    macula: float
    fovea: tuple[float, float]
    disc: tuple[float, float]
    cup: float
    disc_pallor: float
    opening: float
    tortuosity: float
    vessel_width: float
    blood: float


@dataclass(frozen=True)
class Anatomy:
    """One eye. fovea (2,), disc half-axes (2,) and cup in DD, disc's centre at (0, 0).

    flush: how red the whole retina is, as a density of blood.  tree: generations of vessels.
    """

    style: Style
    fovea: np.ndarray
    disc: np.ndarray
    cup: float
    cup_at: np.ndarray
    flush: float
    tree: list[Branches]


def draw_style(rng: np.random.Generator) -> Style:
    """A patient's eyes."""
    normal = np.clip(rng.standard_normal(3), -1.8, 1.8)
    return Style(
        colour=_ruddy(MEDIAN + normal @ DIRECTIONS),
        mottling=rng.uniform(0.5, 1.3),
        tessellation=rng.choice([0.0, 0.3, 1.0], p=[0.5, 0.3, 0.2]) * rng.uniform(0.5, 1.0),
        macula=rng.uniform(0.7, 1.4),
        fovea=(rng.uniform(2.4, 2.9), rng.uniform(0.05, 0.4)),
        disc=(rng.uniform(0.44, 0.50), rng.uniform(0.49, 0.55)),
        cup=rng.uniform(0.3, 0.6),
        disc_pallor=rng.uniform(0.6, 0.9),
        opening=rng.uniform(1.65, 2.35),
        tortuosity=rng.uniform(0.10, 0.24),
        vessel_width=rng.uniform(0.85, 1.15),
        blood=rng.uniform(0.8, 1.2),
    )


def draw_anatomy(style: Style, rng: np.random.Generator) -> Anatomy:
    """One eye of a patient: the style with the small differences between two eyes, and vessels of its own."""
    fovea = np.array(style.fovea) + rng.normal(0, 0.05, 2)
    disc = np.array(style.disc) * rng.uniform(0.97, 1.03)
    cup = float(np.clip(style.cup + rng.normal(0, 0.03), 0.2, 0.7))
    cup_at = np.array([rng.uniform(0.0, 0.08), rng.uniform(-0.04, 0.04)])
    flush = float(np.clip(rng.normal(0.08, 0.09), -0.1, 0.25))
    tree = grow_tree(fovea, style.opening + rng.normal(0, 0.06), style.tortuosity, style.vessel_width, rng)
    return Anatomy(style, fovea, disc, cup, cup_at, flush, tree)


def _ruddy(log_colour: np.ndarray) -> np.ndarray:
    """No retina is green or blue: red at least 35 % above green, green 10 % above blue."""
    red, green, blue = log_colour
    green = min(green, red - 0.30)
    return np.array([red, green, min(blue, green - 0.10)])
