"""Intervals in closed form, for entries that are independent: one photograph of each patient, or patients.

Both eyes of a patient are alike, and then these are too narrow: use `bootstrap`, which resamples patients. Where an
interval cannot be known, it is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from m2cnn.bootstrap import LEVEL, Difference, Estimate, check_level, normal_quantile, score_bounds
from m2cnn.errors import DataError
from m2cnn.metrics import Floats, check_finite, check_grades, check_lengths

# --- proportions ---


def wilson(count: ArrayLike, total: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's score interval of count / total, (...) and (...) -> low (...), high (...); NaN where total is 0.

    Its coverage is about `level` on average, below it for some proportions. Source: Wilson, JASA 1927;22:209.

    >>> [round(float(bound), 4) for bound in wilson(81, 263)]  # Newcombe, Stat Med 1998;17:857, table I
    [0.2553, 0.3662]
    """
    k, n = _counts(count, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        return score_bounds(k / n, n, normal_quantile(level))


def clopper_pearson(count: ArrayLike, total: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The exact interval of count / total, (...) and (...) -> low (...), high (...); NaN where total is 0.

    Its coverage is never below `level`, and so above it mostly. Source: Clopper and Pearson, Biometrika 1934;26:404.

    >>> [round(float(bound), 4) for bound in clopper_pearson(81, 263)]  # Newcombe, Stat Med 1998;17:857, table I
    [0.2527, 0.3676]
    """
    check_level(level)
    k, n = _counts(count, total)
    tail = (1 - level) / 2
    low = np.where(k == 0, 0.0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return np.where(n > 0, low, np.nan)[()], np.where(n > 0, high, np.nan)[()]


def _counts(count: ArrayLike, total: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(total, np.float64))
    if not ((k >= 0) & (k <= n) & (k == np.floor(k)) & (n == np.floor(n)) & np.isfinite(n)).all():
        raise DataError("proportion", "counts that cannot be", "whole numbers, 0 <= count <= total", "No shares here.")
    return k, n


def holm(p: ArrayLike) -> Floats:
    """(M,) p-values of several comparisons -> (M,) adjusted, so that a false finding among them is as rare as said.

    NaN stays NaN and does not count. Source: Holm, Scand J Stat 1979;6:65.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    adjusted, known = np.full(values.shape, np.nan), np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


# --- area under the receiver operating characteristic ---


def delong(positive: ArrayLike, score: ArrayLike, level: float = LEVEL) -> Estimate:
    """AUC of (N,) independent entries, its interval by DeLong's variance: logit scale, Student's t.

    The plain interval, +- 1.96 standard errors, passes 1 and covers 91 % at 0.98 with 75 positives. The scale mends
    most; the t, with degrees of freedom of the rarer kind less one, that the variance is itself estimated from few.
    NaN bounds for an area of 0 or 1, whose variance is 0 and tells nothing, and for fewer than two of a kind.
    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837; Pepe, The Statistical Evaluation of Medical
    Tests, 2003, section 5.2.5 (the scale).
    """
    check_level(level)
    label = check_grades(positive, "positive", classes=2)
    areas, covariance = delong_covariance(label, [score])
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not 0 < area < 1 or not variance > 0:
        return Estimate(area, float("nan"), float("nan"))
    rarer = min(label.sum(), len(label) - label.sum())
    t = float(special.stdtrit(rarer - 1, (1 + level) / 2))
    middle, half = special.logit(area), t * math.sqrt(variance) / (area * (1 - area))
    return Estimate(area, float(special.expit(middle - half)), float(special.expit(middle + half)))


def delong_difference(positive: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Difference:
    """Second AUC minus first on the same (N,) independent entries, with DeLong's normal interval and two-sided p-value.

    NaN bounds and p where the variance is 0: two systems that rank alike, or both without a fault.
    """
    areas, covariance = delong_covariance(positive, [first, second])
    change = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    z = normal_quantile(level)
    # Components are ranks over counts: what is left of equal ones is rounding.
    error = math.sqrt(variance) if variance > 1e-14 else float("nan")
    return Difference(change, change - z * error, change + z * error, float(2 * special.ndtr(-abs(change) / error)))


def delong_covariance(positive: ArrayLike, scores: Sequence[ArrayLike]) -> tuple[Floats, Floats]:
    """(N,) true or false and S scores (N,) -> AUCs (S,) and their covariance (S, S).

    A positive's component is the share of negatives that score less, a negative's the share of positives that score
    more, ties counting half; the area is their mean, and its variance that of the two means. By sorting, not by pairs:
    Sun and Xu, IEEE Signal Processing Letters 2014;21:1389. NaN without two of each kind.
    """
    label = check_grades(positive, "positive", classes=2).astype(bool)
    parts = [_components(label, _score(score, label)) for score in scores]
    above, under = (np.array(part) for part in zip(*parts, strict=True))  # (S, P), (S, Q)
    nothing = np.full((len(parts), len(parts)), np.nan)
    if min(above.shape[1], under.shape[1]) < 1:
        return nothing[0], nothing
    if min(above.shape[1], under.shape[1]) < 2:
        return above.mean(1), nothing
    covariance = np.atleast_2d(np.cov(above)) / above.shape[1] + np.atleast_2d(np.cov(under)) / under.shape[1]
    return above.mean(1), covariance


def _score(score: ArrayLike, label: NDArray[np.bool_]) -> Floats:
    value = check_finite(score, "score")
    check_lengths(label, value, "positive and score")
    return value


def _components(label: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """(P,) and (Q,) components of positives and negatives."""
    positives, negatives = score[label], score[~label]
    return _share_below(positives, negatives), 1 - _share_below(negatives, positives)


def _share_below(values: Floats, others: Floats) -> Floats:
    """(A,) and (B,) -> (A,): the share of the others that are less, ties counting half."""
    ladder = np.sort(others)
    twice = sum(np.searchsorted(ladder, values, side) for side in ("left", "right"))
    return twice / (2 * max(1, len(ladder)))
