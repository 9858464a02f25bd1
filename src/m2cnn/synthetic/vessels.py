"""The vessel tree: arteries and veins leave the disc, arch around the fovea, and branch by Murray's law.

Murray (1926): the cubes of the radii are kept at a branching, r^3 = r1^3 + r2^3.
All branches of one generation grow together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEPS = 28  # points on a branch
SIDES = (6, 4, 3)  # side branches tried on each branch of generations 0, 1, 2
THINNEST = 0.006  # DD; capillaries below are not seen in a photograph


@dataclass(frozen=True)
class Branches:
    """One generation of vessels: points (n, STEPS, 2) and radii (n, STEPS) in DD; vein (n,) bool."""

    points: np.ndarray
    radii: np.ndarray
    vein: np.ndarray


@dataclass(frozen=True)
class Seeds:
    """Where branches start: start (n, 2) DD, heading (n,) rad, radius and length (n,) DD, vein (n,) bool.

    arch (n, 3): (p, a, b) of an arcade, which keeps to the curve x = a |y|^p and, behind the fovea, turns b rad
    inwards; zeros for other branches.
    pull (n, 2): a direction to which the other branches bend, or zero.
    """

    start: np.ndarray
    heading: np.ndarray
    radius: np.ndarray
    length: np.ndarray
    arch: np.ndarray
    pull: np.ndarray
    vein: np.ndarray


def grow_tree(
    fovea: np.ndarray, opening: float, bend: float, tortuosity: float, width: float, rng: np.random.Generator
) -> list[Branches]:
    """Generations of branches, thickest first. opening: the arcades' distance from the fovea in DD; width: factor.

    bend: how far in rad the arcades turn to the horizontal line behind the fovea.
    """
    seeds = _trunks(fovea, opening, bend, width, rng)
    tree = []
    for sides in (*SIDES, 0):
        paths = _paths(seeds, tortuosity, rng)
        radii, children = _divide(seeds, paths, sides, fovea, rng)
        tree.append(Branches(_keep_off(paths, fovea), radii, seeds.vein))
        seeds = children
    return tree


def _trunks(fovea: np.ndarray, opening: float, bend: float, width: float, rng: np.random.Generator) -> Seeds:
    """An artery and a vein to each of four quadrants, and small vessels from the disc towards macula and nose."""
    up = np.repeat([-1.0, 1.0, -1.0, 1.0], 2)
    temporal = np.repeat([True, True, False, False], 2)
    vein = np.tile([False, True], 4)
    lean = np.where(temporal, rng.uniform(80, 100, 8), rng.uniform(110, 155, 8))
    exponent = rng.uniform(1.9, 2.5, 8)
    height = opening * rng.uniform(0.9, 1.1, 8) + 0.12 * np.where(vein, 1, -1)
    turn = bend * rng.uniform(0.5, 1.5, 8)
    arch = np.stack([exponent, fovea[0] / height**exponent, turn], -1) * temporal[:, None]
    radius = np.where(vein, 0.044, 0.032) * np.where(temporal, 1, 0.7) * rng.uniform(0.85, 1.15, 8)
    start = np.stack([rng.uniform(-0.12, 0.02, 8), up * rng.uniform(0.0, 0.15, 8)], -1)
    small = rng.integers(2, 6)
    angle = np.where(rng.random(small) < 0.7, rng.uniform(-55, 55, small), rng.uniform(150, 215, small))
    return Seeds(
        np.concatenate([start, rng.uniform(-0.15, 0.15, (small, 2))]),
        np.deg2rad(np.concatenate([lean * up, angle])),
        np.concatenate([radius, rng.uniform(0.009, 0.015, small)]) * width,
        np.concatenate([np.where(temporal, 7.0, 3.6), rng.uniform(1.0, 2.0, small)]),
        np.concatenate([arch, np.zeros((small, 3))]),
        np.zeros((8 + small, 2)),
        np.concatenate([vein, rng.random(small) < 0.5]),
    )


def _paths(seeds: Seeds, tortuosity: float, rng: np.random.Generator) -> np.ndarray:
    """Points (n, STEPS, 2) along each branch. The wriggle is two sines, so that it never drifts."""
    n = len(seeds.radius)
    waves = rng.uniform([1.0, 3.0], [3.0, 7.0], (n, 2)) * np.maximum(seeds.length, 0.5)[:, None] / 3
    phase = rng.uniform(0, 2 * np.pi, (n, 2))
    thin = np.clip(0.03 / seeds.radius, 0.8, 2.8)[:, None]  # thin vessels wind more
    swing = tortuosity * thin * rng.uniform(0.5, 1.5, (n, 2)) * (1.0, 0.75)
    t = np.linspace(0, 1, STEPS)
    wriggle = (swing[..., None] * np.sin(2 * np.pi * waves[..., None] * t + phase[..., None])).sum(1)  # (n, STEPS)
    wriggle *= np.minimum(1.0, np.arange(STEPS) / 4)
    points = _walk(seeds.start, _bend(seeds, t) + wriggle, seeds.length / (STEPS - 1))
    arched = seeds.arch[:, 0] > 0
    if arched.any():
        points[arched] = _follow_arch(Seeds(*(part[arched] for part in vars(seeds).values())), wriggle[arched])
    return points


def _walk(start: np.ndarray, course: np.ndarray, step: np.ndarray) -> np.ndarray:
    """From start (n, 2) along course (n, STEPS) in steps (n,) of DD -> (n, STEPS, 2)."""
    moves = np.stack([np.cos(course), np.sin(course)], -1) * step[:, None, None]
    return np.cumsum(np.concatenate([start[:, None], moves[:, :-1]], 1), 1)


def _bend(seeds: Seeds, t: np.ndarray) -> np.ndarray:
    """Headings (n, STEPS): the way from the first one to the pull's direction is left by 1/e per DD or so."""
    strength = 1.1 * np.hypot(*seeds.pull.T)
    turn = _between(np.arctan2(seeds.pull[:, 1], seeds.pull[:, 0]) - seeds.heading)
    done = 1 - np.exp(-(strength * seeds.length)[:, None] * t)
    return seeds.heading[:, None] + turn[:, None] * done


def _follow_arch(seeds: Seeds, wriggle: np.ndarray) -> np.ndarray:
    """Arcades (n, STEPS, 2): step by step back to the curve, whose tangent is (p x, y)."""
    p, a, inward = seeds.arch.T
    step = seeds.length / (STEPS - 1)
    at, heading = seeds.start.copy(), seeds.heading.copy()
    points = np.empty((len(p), STEPS, 2))
    for i in range(STEPS):
        points[:, i] = at
        x, y = at.T
        ideal = a * np.minimum(np.abs(y), 3.0) ** p
        wish = np.arctan2(y, p * ideal + 1.5 * (ideal - x) * (x < 3))
        behind = np.clip((x - 1.7) / 1.6, 0, 1)
        wish = (1 - behind) * wish - behind * inward * np.sign(y)
        heading += 2.5 * np.minimum(step, 0.3) * _between(wish - heading)
        course = heading + wriggle[:, i]
        at = at + step[:, None] * np.stack([np.cos(course), np.sin(course)], -1)
    return points


def _between(angle: np.ndarray) -> np.ndarray:
    """An angle brought to -pi..pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _divide(
    seeds: Seeds, paths: np.ndarray, sides: int, fovea: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Seeds | None]:
    """Radii (n, STEPS) of the branches, thinner after each side branch, and the side branches (None for no sides)."""
    n = len(seeds.radius)
    radius, radii = seeds.radius.copy(), np.empty((n, STEPS))
    marks = np.sort(rng.uniform(0.08, 0.97, (n, sides)), 1) * (STEPS - 1)
    marks = marks.astype(int)
    share = rng.uniform(0.26, 0.66, (n, sides))
    exists = rng.random((n, sides)) < 0.8
    born, last = [], np.zeros(n, int)
    for side in range(sides):
        at = marks[:, side]
        _fill(radii, last, at, radius)
        child = radius * share[:, side]
        wanted = exists[:, side] & (child > THINNEST)
        born.append(_side_seeds(seeds, paths, at, child, wanted, fovea, rng))
        radius = np.where(wanted, np.cbrt(radius**3 - child**3), radius)
        last = at
    _fill(radii, last, np.full(n, STEPS), radius)
    taper = np.linspace(1.0, 0.72, STEPS)
    return radii * taper, _join(born) if born else None


def _fill(radii: np.ndarray, first: np.ndarray, stop: np.ndarray, radius: np.ndarray) -> None:
    columns = np.arange(STEPS)
    radii[:] = np.where((columns >= first[:, None]) & (columns < stop[:, None]), radius[:, None], radii)


def _side_seeds(
    seeds: Seeds,
    paths: np.ndarray,
    at: np.ndarray,
    radius: np.ndarray,
    wanted: np.ndarray,
    fovea: np.ndarray,
    rng: np.random.Generator,
) -> Seeds:
    """Side branches at step `at` (n,) of each path; those towards the macula bend to the fovea, as in life."""
    rows = np.flatnonzero(wanted)
    here = paths[rows, at[rows]]
    ahead = here - paths[rows, np.maximum(at[rows] - 1, 0)]
    ahead[at[rows] == 0] = 0
    along = np.where(np.any(ahead != 0, 1), np.arctan2(ahead[:, 1], ahead[:, 0]), seeds.heading[rows])
    sign = np.where(rng.random(len(rows)) < 0.5, -1, 1)
    heading = along + sign * np.deg2rad(rng.uniform(38, 80, len(rows)))
    to_fovea = fovea - here
    near = np.hypot(*to_fovea.T)[:, None]
    inner = (np.cos(heading) * to_fovea[:, 0] + np.sin(heading) * to_fovea[:, 1]) / near[:, 0] > 0.3
    outward = here / np.maximum(np.hypot(*here.T)[:, None], 0.3)
    pull = np.where((inner & (near[:, 0] < 3.2))[:, None], to_fovea / near, outward)
    length = radius[rows] * rng.uniform(55, 100, len(rows)) + rng.uniform(0.1, 0.5, len(rows))
    return Seeds(here, heading, radius[rows], length, np.zeros((len(rows), 3)), pull, seeds.vein[rows])


def _join(parts: list[Seeds]) -> Seeds:
    names = ("start", "heading", "radius", "length", "arch", "pull", "vein")
    return Seeds(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _keep_off(paths: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """End every branch where it would enter the avascular zone: later points repeat the last one outside."""
    clear = np.hypot(*np.moveaxis(paths - fovea, -1, 0)) > 0.30
    last = np.where(clear.all(1), STEPS - 1, np.maximum(np.argmin(clear, 1) - 1, 0))
    return np.take_along_axis(paths, np.minimum(np.arange(STEPS), last[:, None])[..., None], 1)
