"""From severity to grade: the four cuts that agree best with the graders.

A reconstruction: the M2CNN paper does not say how its regression score became a grade; rounding is the default.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.errors import DataError, SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import Floats, Ints, check_finite, check_grades, check_lengths


def fit_cuts(severity: ArrayLike, grade: ArrayLike, start: tuple[float, ...] = (0.5, 1.5, 2.5, 3.5)) -> Floats:
    """The four rising cuts, (4,), that give `severity` the highest quadratic weighted kappa with `grade`.

    A photograph's grade is the number of cuts at or below its severity: `np.searchsorted(cuts, severity, "right")`.
    The optimum is global and the same on every run: kappa is one minus a ratio of two sums with one term per cut, so
    Dinkelbach's method (Manag Sci 1967;13:492) reaches it in a few searches over all places between severities.
    A cut keeps its start value where no severity lies between the two, else it stands midway between its neighbours.
    Fit on validation patients only. Raises DataError for fewer than two different grades: kappa cannot rank cuts then.

    >>> fit_cuts([0.2, 0.6, 0.9, 1.3, 2.6, 3.9], [0, 0, 1, 1, 3, 4]).tolist()
    [0.75, 1.5, 2.5, 3.5]
    """
    value, truth = check_finite(severity, "severity"), check_grades(grade, "grade")
    check_lengths(value, truth, "severity and grade")
    if len(np.unique(truth)) < 2:
        raise DataError(
            "fit_cuts", f"{len(np.unique(truth))} different grades", "at least 2", "Use more validation patients."
        )
    ladder, place = np.unique(value, return_inverse=True)
    observed, expected = _disagreement_by_place(truth, place, len(ladder))
    starts = _check_start(start)
    chosen = np.searchsorted(ladder, starts, "left")
    while True:
        ratio = _total(observed, chosen) / _total(expected, chosen)
        # Above 1 kappa is negative, and one grade for all photographs, with kappa 0, is better already.
        better = _cheapest_places(observed - min(ratio, 1) * expected, chosen)
        if _total(observed, better) / _total(expected, better) >= ratio - 1e-12:
            return _between(ladder, chosen, starts)
        chosen = better


def _check_start(start: tuple[float, ...]) -> Floats:
    starts = np.asarray(start, np.float64)
    if starts.shape != (NUM_GRADES - 1,) or not (np.diff(starts) > 0).all():
        raise SettingError("start", f"{start}", "four increasing numbers", "Default: 0.5 1.5 2.5 3.5.")
    return starts


def _disagreement_by_place(truth: Ints, place: Ints, places: int) -> tuple[Floats, Floats]:
    """sum(w O) and sum(w E) as sums over cuts, each (4, M + 1): what cut i contributes with m of M severities below it.

    Raising cut i takes photographs of truth g from grade i + 1 to grade i, which changes their squared distance by
    (g - i)^2 - (g - i - 1)^2. What all photographs in the top grade cost is added to the last cut.
    """
    grades = np.arange(NUM_GRADES)
    below = np.zeros((NUM_GRADES, places + 1))
    below[:, 1:] = np.bincount(truth * places + place, minlength=NUM_GRADES * places).reshape(NUM_GRADES, -1).cumsum(1)
    cut = grades[:-1, None]
    change = (grades - cut) ** 2 - (grades - cut - 1) ** 2  # (4, 5)
    top = (grades - grades[-1]) ** 2
    share = below[:, -1] / len(truth)
    observed = change @ below  # (4, M + 1)
    expected = (change @ share)[:, None] * below.sum(0)
    observed[-1] += top @ below[:, -1]
    expected[-1] += top @ share * len(truth)
    return observed, expected


def _total(cost: Floats, places: NDArray[np.intp]) -> float:
    return float(cost[np.arange(len(cost)), places].sum())


def _cheapest_places(cost: Floats, preferred: NDArray[np.intp]) -> NDArray[np.intp]:
    """The cheapest place of each cut, (C, M + 1) -> (C,); ties stay near `preferred`.

    Each cut may look alone. Row i + 1 of `cost` is row i less 2 (1 - ratio) times the photographs below: with a ratio
    of at most 1 the cheapest places never fall; only rounding errors between equal places could make them.
    """
    moved = np.abs(np.arange(cost.shape[1]) - preferred[:, None])
    cost = cost + 1e-12 * np.abs(cost).max() * moved / cost.shape[1]
    return np.maximum.accumulate(cost.argmin(axis=1))


def _between(ladder: Floats, places: NDArray[np.intp], starts: Floats) -> Floats:
    """Cut values for `places`: the start values where they fit, else evenly between the neighbouring severities."""
    edges = np.concatenate([[min(ladder[0], starts[0]) - 1], ladder, [max(ladder[-1], starts[-1]) + 1]])
    cuts = starts.copy()
    for place in np.unique(places):
        mine = places == place
        low, high = edges[place], edges[place + 1]
        if not ((low < starts[mine]) & (starts[mine] <= high)).all():
            cuts[mine] = np.linspace(low, high, mine.sum() + 2)[1:-1]
    return cuts
