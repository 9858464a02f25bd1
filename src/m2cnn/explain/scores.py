"""What a map is worth, in NumPy: beside lesions that were marked, and by what hiding its places does to the answer.

pointing game         whether the highest place lies on a lesion, or within TOLERANCE (Zhang et al., IJCV 2018)
mass                  share of the map's positive part that lies on lesions; chance level: their share of the area
deletion, insertion   area under the answer's curve as places are hidden, or shown, highest first (Petsiuk et al., 2018)
rank correlation      with the map of the same network at random weights (Adebayo et al., NeurIPS 2018)

A blank map points nowhere: no hit, no mass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from m2cnn.explain.shown import Shown

TOLERANCE = 1 / 24  # of the picture's side: 15 px of 360, the 15 px that Zhang et al. allow on photographs of that size
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the retina, hidden or shown


@dataclass(frozen=True)
class Beside:
    """A map beside lesions. hit: 1 or 0.  mass: 0..1.  Their chance levels: of a place, or a mass, spread evenly."""

    hit: float
    hit_chance: float
    mass: float
    mass_chance: float


def beside_lesions(heat: np.ndarray, lesions: np.ndarray, inside: np.ndarray) -> Beside:
    """heat: (S, S) float.  lesions, inside: (S, S) bool; only what lies inside the field counts."""
    heat, lesions = np.where(inside, np.maximum(heat, 0), 0.0).astype(np.float64), lesions & inside
    near = _within(lesions, TOLERANCE * len(heat)) & inside
    area, total = inside.sum(), heat.sum()
    hit = bool(total) and near.flat[heat.argmax()]
    mass = heat[lesions].sum() / total if total else 0.0
    return Beside(float(hit), float(near.sum() / area), float(mass), float(lesions.sum() / area))


def _within(lesions: np.ndarray, distance: float) -> np.ndarray:
    """(S, S) bool: at most `distance` px from a lesion."""
    if not lesions.any():
        return lesions
    return cv2.distanceTransform((~lesions).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= distance


def curves(
    answer: Callable[[np.ndarray], np.ndarray], shown: Shown, heat: np.ndarray, ends: tuple[float, float]
) -> tuple[float, float]:
    """Deletion and insertion: areas under the answer over the share of the retina that is hidden, or shown.

    answer: (N, S, S, 3) uint8 -> (N,) in 0..1.  ends: its answers to the picture, and to the plain one.
    """
    rank = _places(heat, shown.inside)
    first = [rank < share * shown.inside.sum() for share in SHARES[1:-1]]
    hidden = [np.where(places[..., None], shown.plain, shown.picture) for places in first]
    bared = [np.where(places[..., None], shown.picture, shown.plain) for places in first]
    answers = answer(np.stack(hidden + bared)).astype(np.float64)
    whole, plain = ends
    down, up = answers[: len(first)], answers[len(first) :]
    return _area([whole, *down, plain]), _area([plain, *up, whole])


def _places(heat: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(S, S) rank of each place of the retina, 0 the highest; outside it S * S. Equal ones in a random order."""
    by_chance = np.random.default_rng(0).permutation(heat.size)
    order = np.lexsort((by_chance, -heat.ravel()))
    order = order[inside.ravel()[order]]
    rank = np.full(heat.size, heat.size)
    rank[order] = np.arange(len(order))
    return rank.reshape(heat.shape)


def _area(values: list[float]) -> float:
    """Under a curve over SHARES, by trapezoids."""
    values, steps = np.asarray(values), np.diff(SHARES)
    return float(((values[1:] + values[:-1]) / 2 * steps).sum())


def rank_correlation(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> float:
    """Spearman's, over the places of the retina; NaN where one of the maps is the same everywhere, as a blank one is.

    >>> places = np.ones((1, 3), bool)
    >>> rank_correlation(np.array([[1, 2, 3]]), np.array([[1, 5, 9]]), places)
    1.0
    """
    first, second = (_ranks(each[inside]) for each in (one, other))
    spread = first.std() * second.std()
    if spread < 1e-9:
        return float("nan")
    return float(round(((first - first.mean()) * (second - second.mean())).mean() / spread, 12))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of (N,) values, from 1; equal ones share their mean.

    >>> _ranks(np.array([7, 3, 7])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place]
