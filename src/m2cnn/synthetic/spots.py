"""What lesions look like, where they lie, and those that are spots: aneurysms, haemorrhages, exudates, cotton wool.

A lesion is a polygon on the retina. Sizes follow ETDRS report 10: microaneurysms below 125 um, haemorrhages larger.
The four quadrants are those of the field of view: above or below its centre, left or right of it.
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
    "hard_exudate": Cover(colour=(255, 232, 130), softness=0.010),
    "microaneurysm": Cover(density=2.3, softness=0.002),
    "haemorrhage": Cover(density=2.4, softness=0.026),
    "venous_beading": Cover(density=1.15, softness=0.008),
    "irma": Cover(density=1.1, softness=0.006),
    "neovascularisation": Cover(density=1.6, softness=0.008),
    "cotton_wool": Cover(colour=(250, 240, 210), softness=0.075, over=True),
    "preretinal_haemorrhage": Cover(colour=(72, 12, 9), softness=0.045, over=True),
    # No lesions of diabetes:
    "drusen": Cover(colour=(240, 205, 125), softness=0.018),
    "laser_scar": Cover(colour=(228, 190, 130), softness=0.03),
    "laser_pigment": Cover(colour=(48, 30, 22), softness=0.02),
}
QUADRANTS = 4
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)


# Places


def scatter(
    count: int,
    anatomy: Anatomy,
    view: View,
    rng: np.random.Generator,
    gap: float,
    quadrant: int | None = None,
    margin: float = 0.15,
    taken: list | None = None,
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


def visible(lesions: tuple[Lesion, ...], view: View) -> tuple[Lesion, ...]:
    """Those of which some part lies in the visible field."""
    return tuple(one for one in lesions if view.inside(view.pixels(one.outline)).any())


# Shapes


def blobs(at: np.ndarray, radii: np.ndarray, roughness: float, rng: np.random.Generator) -> np.ndarray:
    """Roundish outlines (n, 24, 2) at (n, 2) with radii (n,): circles with their 2nd to 5th harmonics disturbed."""
    order = np.arange(2, 6)[:, None]
    swing = rng.normal(0, roughness, (len(radii), 4, 1)) / order
    waves = (swing * np.cos(order * _TURN + rng.uniform(0, 2 * np.pi, (len(radii), 4, 1)))).sum(1)
    distance = radii[:, None] * np.maximum(1 + waves, 0.25)
    return at[:, None] + distance[..., None] * np.stack([np.cos(_TURN), np.sin(_TURN)], -1)


def _flame(at: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A frayed streak (24, 2) along the nerve fibres, which run away from the disc."""
    along = at / np.hypot(*at)
    across = np.array([-along[1], along[0]])
    t = np.linspace(-1, 1, 12)
    width = length * 0.20 * np.sqrt(1 - t**2) * rng.uniform(0.6, 1.3, (2, 12))
    side = at + length / 2 * t[:, None] * along
    return np.concatenate([side + width[0, :, None] * across, (side - width[1, :, None] * across)[::-1]])


def as_lesions(
    kind: str, outlines: np.ndarray, low: float, high: float, rng: np.random.Generator
) -> tuple[Lesion, ...]:
    """One lesion for each of (n, k, 2) outlines, strengths drawn from low..high."""
    strengths = rng.uniform(low, high, len(outlines))
    return tuple(Lesion(kind, *pair) for pair in zip(outlines, strengths, strict=True))


def microaneurysms(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Red dots of 24 to 36 um: about 2 px of a 720 px photograph, a third of one of 224 px."""
    spots = scatter(count, anatomy, view, rng, 0.15)
    return as_lesions("microaneurysm", blobs(spots, rng.uniform(12, 18, count) * UM, 0.05, rng), 0.85, 1.0, rng)


def haemorrhages(counts: np.ndarray, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Dots, blots and flames, counts (4,) in the quadrants, apart from each other so that they can be counted."""
    taken: list = []
    for quadrant, count in enumerate(counts):
        scatter(int(count), anatomy, view, rng, 0.33, quadrant, 0.18, taken)
    spots = np.array(taken).reshape(-1, 2)
    outlines = blobs(spots, 60 * np.exp(1.15 * rng.uniform(0, 1, len(spots)) ** 1.3) * UM, 0.40, rng)
    for i in np.flatnonzero(rng.random(len(spots)) < 0.25):
        outlines[i] = _flame(spots[i], rng.uniform(250, 480) * UM, rng)
    return as_lesions("haemorrhage", outlines, 0.55, 1.0, rng)


def exudates(clusters: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Clusters of small sharp yellow deposits around the macula."""
    lesions: tuple[Lesion, ...] = ()
    for _ in range(clusters):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.6)
        middle = anatomy.fovea + reach * np.array([np.cos(angle), np.sin(angle)])
        spots = middle + rng.normal(0, rng.uniform(0.12, 0.28), (rng.integers(18, 60), 2))
        clear = np.hypot(*(spots - anatomy.fovea).T) > 0.2
        spots = spots[clear & view.inside(view.pixels(spots), 0.1 * view.scale)]
        radii = 13 * np.exp(1.7 * rng.uniform(0, 1, len(spots)) ** 1.5) * UM
        lesions += as_lesions("hard_exudate", blobs(spots, radii, 0.5, rng), 0.6, 0.95, rng)
    return lesions


def cotton_wool(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Pale fluffy spots of 0.15 to 0.35 DD."""
    spots = scatter(count, anatomy, view, rng, 0.6, margin=0.3)
    return as_lesions("cotton_wool", blobs(spots, rng.uniform(130, 270, count) * UM, 0.3, rng), 0.6, 0.9, rng)
