"""Lesions of the vessels: beading, IRMA, new vessels, and the bleeding from them before the retina."""

from __future__ import annotations

import numpy as np

from m2cnn.synthetic.anatomy import Anatomy
from m2cnn.synthetic.paint import strips
from m2cnn.synthetic.spots import Lesion, blobs, scatter
from m2cnn.synthetic.view import UM, View


def venous_beading(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Sausage-like bulges on the large veins, in 2 to 4 quadrants (fewer where a quadrant shows no large vein)."""
    trunks = anatomy.tree[0]
    points, radii = trunks.points[trunks.vein], trunks.radii[trunks.vein]
    pixels = view.pixels(points)
    usable = view.inside(pixels, 0.2 * view.scale) & (np.hypot(*np.moveaxis(points, -1, 0)) > 0.8) & (radii > 0.022)
    below, right = pixels[..., 1] > view.centre[1], pixels[..., 0] > view.centre[0]
    lesions: tuple[Lesion, ...] = ()
    for quadrant in rng.permutation(4)[: rng.integers(2, 5)]:
        here = usable & (below == bool(quadrant // 2)) & (right == bool(quadrant % 2))
        lesions += _beads(points, radii, here, rng)
    return lesions


def _beads(points: np.ndarray, radii: np.ndarray, here: np.ndarray, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Bulges half as wide again as the vein, along its longest usable stretch, about 0.2 DD apart."""
    if not here.any():
        return ()
    vein = int(np.argmax(here.sum(1)))
    path, width = points[vein][here[vein]], radii[vein][here[vein]]
    walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    stops = np.arange(0.08, walked[-1], rng.uniform(0.17, 0.23))
    spots = np.stack([np.interp(stops, walked, path[:, axis]) for axis in (0, 1)], -1)
    swell = np.interp(stops, walked, width) * rng.uniform(1.5, 1.8)
    return tuple(Lesion("venous_beading", outline, 1.0) for outline in blobs(spots, swell, 0.05, rng))


def irma(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Intraretinal microvascular abnormalities: small flat patches of winding capillaries."""
    lesions: tuple[Lesion, ...] = ()
    for spot in scatter(count, anatomy, view, rng, 1.0, margin=0.4):
        lesions += _tangle("irma", spot, rng.integers(7, 13), rng.uniform(0.35, 0.55), (9, 15), rng)
    return lesions


def new_vessels(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """One to three nets of fine new vessels: at the disc, or on a vein elsewhere."""
    places = _on_veins(rng.integers(0, 3), anatomy, view, rng)
    if not places or rng.random() < 0.3:
        places.append(rng.uniform(-0.35, 0.35, 2))
    lesions: tuple[Lesion, ...] = ()
    for place in places:
        lesions += _tangle("neovascularisation", place, rng.integers(55, 80), rng.uniform(0.9, 1.25), (10, 17), rng)
    return lesions


def _on_veins(count: int, anatomy: Anatomy, view: View, rng: np.random.Generator) -> list[np.ndarray]:
    trunks = anatomy.tree[0]
    points = trunks.points[trunks.vein].reshape(-1, 2)
    seen = view.inside(view.pixels(points), 0.7 * view.scale) & (np.hypot(*points.T) > 1.2)
    return list(rng.permutation(points[seen])[:count])


def _tangle(
    kind: str, at: np.ndarray, strands: int, length: float, radius_um: tuple[float, float], rng: np.random.Generator
) -> tuple[Lesion, ...]:
    """Strands that leave a point and curl, of `length` DD about; each one a lesion polygon."""
    t = np.linspace(0, 1, 20)
    curl = rng.uniform(-4.5, 4.5, (strands, 1)) * t**2
    wriggle = rng.uniform(0.3, 0.9, (strands, 1)) * np.sin(
        2 * np.pi * rng.uniform(1.5, 4, (strands, 1)) * t + rng.uniform(0, 6.28, (strands, 1))
    )
    course = rng.uniform(0, 2 * np.pi, (strands, 1)) + curl + wriggle
    step = length * rng.uniform(0.6, 1.3, (strands, 1)) / len(t)
    walk = np.cumsum(np.stack([np.cos(course), np.sin(course)], -1) * step[..., None], 1)
    points = at + rng.normal(0, 0.14 * length, (strands, 1, 2)) + walk
    radii = np.repeat(rng.uniform(*radius_um, (strands, 1)) * UM, len(t), 1)
    return tuple(Lesion(kind, outline, rng.uniform(0.65, 1.0)) for outline in strips(points, radii))


def preretinal(anatomy: Anatomy, view: View, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """A boat: blood before the retina sinks, so its top is level and its bottom round."""
    place = scatter(1, anatomy, view, rng, 0.0, margin=0.75)[0]
    width = rng.uniform(1.2, 2.2)
    depth = width * rng.uniform(0.38, 0.55)
    hull = _boat(width, depth, rng)
    # Red cells settle: the lower part is denser.
    bilge = hull * (0.86, 0.62) + (0, 0.32 * depth)
    pair = ((hull, rng.uniform(0.80, 0.88)), (bilge, 0.95))
    return tuple(Lesion("preretinal_haemorrhage", place - (0, depth / 2) + part, strength) for part, strength in pair)


def _boat(width: float, depth: float, rng: np.random.Generator) -> np.ndarray:
    """Outline (40, 2): a level top at y = 0, not quite straight, and a rounded bottom."""
    angle = np.linspace(0, np.pi, 28)
    rough = 1 + 0.05 * np.sin(angle * rng.integers(3, 7) + rng.uniform(0, 6)) * np.sin(angle)
    bottom = np.stack([width / 2 * np.cos(angle) * rough, depth * np.sin(angle) ** 0.8 * rough], -1)
    t = np.linspace(-1, 1, 14)[1:-1]
    top = np.stack([width / 2 * t, 0.06 * width * (1 - t**2) * rng.uniform(0.3, 1.2, 12)], -1)
    return np.concatenate([bottom, top])
