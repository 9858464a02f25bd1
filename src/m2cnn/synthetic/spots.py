"""What lesions look like, where they lie, and those that are spots: aneurysms, haemorrhages, exudates, cotton wool.

A lesion is a polygon on the retina. Sizes follow ETDRS report 10: microaneurysms below 125 um, haemorrhages larger.
The four quadrants are those of the field of view: above or below its centre, towards the temple or the nose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.view import UM, View


@dataclass(frozen=True)
class Lesion:
    """kind; outline (k, 2) in DD; strength 0..1, how dense it is."""

    kind: str
    outline: np.ndarray
    strength: float


@dataclass(frozen=True)
class Cover:
    """How a kind of lesion looks: as blood of a density (a full vein's is 1), or as a colour that covers the retina.

    softness: blur in DD.  over: lies before the vessels.
    """

    density: float = 1.0
    colour: tuple[float, float, float] | None = None
    softness: float = 0.006
    over: bool = False


COVERS = {
    "hard_exudate": Cover(colour=(255, 236, 120), softness=0.006),
    "microaneurysm": Cover(density=0.9, softness=0.008),
    "haemorrhage": Cover(density=1.35, softness=0.014),
    "venous_beading": Cover(density=1.0, softness=0.008),
    "irma": Cover(density=0.9, softness=0.006),
    "neovascularisation": Cover(density=1.05, softness=0.005),
    "cotton_wool": Cover(colour=(250, 240, 215), softness=0.05, over=True),
    "preretinal_haemorrhage": Cover(colour=(105, 22, 12), softness=0.02, over=True),
}
QUADRANTS = 4
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)


# Places


def scatter(
    count: int, anatomy: Anatomy, view: View, rng: np.random.Generator, gap: float, quadrant: int | None = None,
    margin: float = 0.15, taken: list | None = None,
) -> np.ndarray:
    """`count` retina points (count, 2) in the visible field, off disc and fovea, at least `gap` DD apart if possible.

    When the field is too full for the gap, the gap shrinks: a grade needs its count.
    """
    taken = [] if taken is None else taken
    first = len(taken)
    while len(taken) - first < count:
        for spot in _candidates(40 + 4 * count, anatomy, view, rng, quadrant, margin):
            if len(taken) - first == count:
                break
            if not taken or np.min(np.hypot(*(np.array(taken) - spot).T)) >= gap:
                taken.append(spot)
        gap *= 0.9
    return np.array(taken[first:]).reshape(-1, 2)


def _candidates(
    count: int, anatomy: Anatomy, view: View, rng: np.random.Generator, quadrant: int | None, margin: float
) -> np.ndarray:
    angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 1, count)) * view.radius
    offset = np.stack([np.cos(angle), np.sin(angle)], -1) * reach[:, None]
    if quadrant is not None:
        offset = np.abs(offset) * ((-1, 1)[quadrant % 2], (-1, 1)[quadrant // 2])
    pixels = offset + view.centre
    points = view.retina(pixels)
    clear = view.inside(pixels, margin * view.scale) & (np.hypot(*points.T) > 0.65)
    return points[clear & (np.hypot(*(points - anatomy.fovea).T) > 0.25)]


# Shapes


def blob(at: np.ndarray, radius: float, roughness: float, rng: np.random.Generator) -> np.ndarray:
    """A roundish outline (24, 2): a circle with its 2nd to 5th harmonics disturbed."""
    order = np.arange(2, 6)
    swing = rng.normal(0, roughness, 4) / order
    waves = (swing[:, None] * np.cos(order[:, None] * _TURN + rng.uniform(0, 6.28, 4)[:, None])).sum(0)
    distance = radius * np.maximum(1 + waves, 0.25)
    return at + distance[:, None] * np.stack([np.cos(_TURN), np.sin(_TURN)], -1)


def _flame(at: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A frayed streak (24, 2) along the nerve fibres, which run away from the disc."""
    along = at / np.hypot(*at)
    across = np.array([-along[1], along[0]])
    t = np.linspace(-1, 1, 12)
    width = length * 0.20 * np.sqrt(1 - t**2) * rng.uniform(0.6, 1.3, (2, 12))
    side = at + length / 2 * t[:, None] * along
    return np.concatenate([side + width[0, :, None] * across, (side - width[1, :, None] * across)[::-1]])


def microaneurysms(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    spots = scatter(count, anatomy, view, rng, 0.15)
    radii = rng.uniform(25, 48, count) * UM
    return tuple(
        Lesion("microaneurysm", blob(spot, radius, 0.05, rng), rng.uniform(0.75, 1.0))
        for spot, radius in zip(spots, radii, strict=True)
    )


def haemorrhages(counts: np.ndarray, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Dots, blots and flames, counts (4,) in the quadrants, apart from each other so that they can be counted."""
    taken: list = []
    for quadrant, count in enumerate(counts):
        scatter(int(count), anatomy, view, rng, 0.33, quadrant, 0.18, taken)
    lesions = []
    for spot in taken:
        if rng.random() < 0.25:
            outline = _flame(spot, rng.uniform(250, 480) * UM, rng)
        else:
            outline = blob(spot, rng.uniform(80, 190) * UM, 0.35, rng)
        lesions.append(Lesion("haemorrhage", outline, rng.uniform(0.7, 1.0)))
    return tuple(lesions)


def exudates(clusters: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Clusters of small sharp yellow deposits around the macula."""
    lesions = []
    for _ in range(clusters):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.6)
        middle = anatomy.fovea + reach * np.array([np.cos(angle), np.sin(angle)])
        for spot in middle + rng.normal(0, rng.uniform(0.12, 0.28), (rng.integers(8, 30), 2)):
            if np.hypot(*(spot - anatomy.fovea)) > 0.2 and view.inside(view.pixels(spot), 0.1 * view.scale):
                radius = rng.uniform(20, 75) * UM
                lesions.append(Lesion("hard_exudate", blob(spot, radius, 0.4, rng), rng.uniform(0.6, 0.95)))
    return tuple(lesions)


def cotton_wool(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    spots = scatter(count, anatomy, view, rng, 0.6, margin=0.3)
    return tuple(
        Lesion("cotton_wool", blob(spot, rng.uniform(160, 330) * UM, 0.5, rng), rng.uniform(0.5, 0.8)) for spot in spots
    )
