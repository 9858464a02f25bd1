"""Clinical statistics of graded photographs: pure functions of arrays, NumPy only.

A confusion matrix has the truth in its rows and the prediction in its columns. Statistics of it are vectorised over
leading dimensions, (..., 5, 5) -> (...), so that ten thousand bootstrap replicates are one call. A statistic that is
undefined on the given photographs (a grade that never occurs, nobody referable) is NaN, never 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.grades import ENDPOINTS, NUM_GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DISAGREEMENT_POWER = {"none": 0, "linear": 1, "quadratic": 2}


# --- the door: what comes in is checked once ---


def check_grades(values: ArrayLike, place: str, classes: int = NUM_GRADES) -> Ints:
    """`values` as (N,) int64 within 0..classes-1; DataError names the first entry that is anything else."""
    array = _vector(values, place)
    wrong = ~np.isin(array, np.arange(classes))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{place}, entry {first}",
            f"grade is {array[first]:g}",
            f"an integer in 0..{classes - 1}",
            "Leave ungraded photographs out.",
        )
    return array.astype(np.int64)


def check_finite(values: ArrayLike, place: str) -> Floats:
    """`values` as (N,) float64 without NaN or infinity; DataError names the first entry that is not finite."""
    array = _vector(values, place)
    wrong = ~np.isfinite(array)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{place}, entry {first}",
            f"value is {array[first]:g}",
            "a finite number",
            "Leave ungradable photographs out.",
        )
    return array


def _vector(values: ArrayLike, place: str) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(
            place, "entries that are no numbers", "numbers", "Leave empty or textual entries out."
        ) from cause
    if array.ndim != 1:
        raise DataError(place, f"an array of shape {array.shape}", "one dimension, (N,)")
    return array


def check_lengths(first: NDArray, second: NDArray, places: str) -> None:
    """DataError unless both have one entry per photograph."""
    if len(first) != len(second):
        raise DataError(places, f"lengths {len(first)} and {len(second)}", "one entry per photograph in both")


def _check_weights(weights: ArrayLike | None, length: int) -> Floats:
    if weights is None:
        return np.ones(length)
    array = check_finite(weights, "weights")
    check_lengths(array, np.empty(length), "weights and photographs")
    if (array < 0).any():
        raise DataError("weights", f"a negative weight, {array.min():g}", "0 or more")
    return array


def _check_confusion(confusion: ArrayLike) -> Floats:
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise DataError("confusion matrix", f"shape {counts.shape}", "(..., N, N)")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError("confusion matrix", "a negative count or NaN", "counts of 0 or more")
    return counts


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    """part / whole, NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


# --- statistics of a confusion matrix ---


def confusion(
    truth: ArrayLike, predicted: ArrayLike, classes: int = NUM_GRADES, weights: ArrayLike | None = None
) -> NDArray:
    """(N,) and (N,) grades -> (classes, classes): rows truth, columns prediction; int64 counts, or float64 weights.

    >>> confusion([0, 0, 2], [0, 1, 2], classes=3).tolist()
    [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    """
    t, p = check_grades(truth, "truth", classes), check_grades(predicted, "predicted", classes)
    check_lengths(t, p, "truth and predicted")
    w = None if weights is None else _check_weights(weights, len(t))
    return np.bincount(t * classes + p, w, classes * classes).reshape(classes, classes)


def kappa_of_confusion(
    confusion: ArrayLike, weights: Literal["quadratic", "linear", "none"] = "quadratic"
) -> Floats | np.float64:
    """Cohen's kappa, 1 - sum(w O) / sum(w E), (..., N, N) -> (...); quadratic w_ij = (i - j)^2 / (N - 1)^2.

    O are the counts, E the outer product of their marginals scaled to the same total. N is the size of the matrix,
    so five grades count as five when one of them is absent. It is 0 for agreement by chance; it is NaN when truth and
    prediction are all of one and the same grade, or when there is nothing to count: no disagreement was expected.
    Source: Cohen, Psychol Bull 1968;70:213; Kaggle's evaluation page of the 2015 competition.

    Four photographs, truth 0 0 1 2, prediction 0 0 2 2: sum(w O) = 1 and sum(w E) = (16 + 2 + 2 + 8) / 4 = 7.

    >>> float(kappa_of_confusion([[2, 0, 0], [0, 0, 1], [0, 0, 1]])) == 1 - 1 / 7
    True
    """
    if weights not in DISAGREEMENT_POWER:
        raise SettingError(
            "weights", f'"{weights}"', "a known weighting", did_you_mean(str(weights), DISAGREEMENT_POWER)
        )
    counts = _check_confusion(confusion)
    step = np.arange(counts.shape[-1])
    distance = np.abs(step[:, None] - step)
    # 0 ** 0 is 1, so the unweighted kappa needs the diagonal cleared.
    w = np.where(distance > 0, distance ** DISAGREEMENT_POWER[weights], 0).astype(np.float64)
    observed = np.einsum("...ij,ij->...", counts, w)
    total = counts.sum((-2, -1))
    expected = _ratio(np.einsum("...i,ij,...j->...", counts.sum(-1), w, counts.sum(-2)), total)
    return (1 - _ratio(observed, expected))[()]


def accuracy_of_confusion(confusion: ArrayLike) -> Floats | np.float64:
    """Share of photographs with exactly the right grade, (..., N, N) -> (...); NaN when there are none.

    >>> float(accuracy_of_confusion([[2, 0, 0], [0, 0, 1], [0, 0, 1]]))
    0.75
    """
    counts = _check_confusion(confusion)
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))[()]


def sensitivity_per_grade(confusion: ArrayLike) -> Floats:
    """Of the photographs of each grade, the share that got it, (..., N, N) -> (..., N); NaN for a grade that is absent.

    >>> sensitivity_per_grade([[2, 0, 0], [0, 0, 1], [0, 0, 1]]).tolist()
    [1.0, 0.0, 1.0]
    """
    counts = _check_confusion(confusion)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def sensitivity(confusion: ArrayLike, lowest: int = ENDPOINTS["referable"]) -> Floats | np.float64:
    """Of the photographs of grade `lowest` and above, the share graded so; (..., N, N) -> (...), NaN without any.

    >>> float(sensitivity([[2, 0, 0], [0, 0, 1], [0, 0, 1]], lowest=1))
    1.0
    """
    counts = _check_confusion(confusion)
    return _ratio(counts[..., lowest:, lowest:].sum((-2, -1)), counts[..., lowest:, :].sum((-2, -1)))[()]


def specificity(confusion: ArrayLike, lowest: int = ENDPOINTS["referable"]) -> Floats | np.float64:
    """Of the photographs below grade `lowest`, the share graded so; (..., N, N) -> (...), NaN without any.

    >>> round(float(specificity([[2, 0, 0], [0, 0, 1], [0, 0, 1]])), 6)
    0.666667
    """
    counts = _check_confusion(confusion)
    return _ratio(counts[..., :lowest, :lowest].sum((-2, -1)), counts[..., :lowest, :].sum((-2, -1)))[()]


# --- statistics of photographs ---


def quadratic_weighted_kappa(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Quadratic weighted kappa of two lists of grades 0..4; see `kappa_of_confusion` for 0, NaN and absent grades.

    >>> quadratic_weighted_kappa([0, 0, 1, 2], [0, 0, 2, 2]) == 1 - 1 / 7
    True
    >>> quadratic_weighted_kappa([0, 4], [4, 0])
    -1.0
    """
    return float(kappa_of_confusion(confusion(truth, predicted)))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of photographs with exactly the right grade; NaN without photographs."""
    return float(accuracy_of_confusion(confusion(truth, predicted)))


def mean_squared_error(truth: ArrayLike, severity: ArrayLike) -> float:
    """Mean of (severity - grade)^2, in grades squared; NaN without photographs.

    >>> mean_squared_error([0, 4], [1.0, 4.0])
    0.5
    """
    return _mean(_error(truth, severity) ** 2)


def mean_absolute_error(truth: ArrayLike, severity: ArrayLike) -> float:
    """Mean of |severity - grade|, in grades; NaN without photographs.

    >>> mean_absolute_error([0, 4], [1.0, 4.0])
    0.5
    """
    return _mean(np.abs(_error(truth, severity)))


def _error(truth: ArrayLike, severity: ArrayLike) -> Floats:
    t, s = check_grades(truth, "truth"), check_finite(severity, "severity")
    check_lengths(t, s, "truth and severity")
    return s - t


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


# --- calibration ---

BINS = 15


def expected_calibration_error(chance: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """How far stated chances are from what happened: |mean chance - share that was right| in bins of equal width.

    The mean over the bins, weighted by their photographs; NaN without photographs. Small samples raise it: of a perfect
    system too it is above 0. Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017 (15 bins).

    chance: (N,) probabilities.  right: (N,) true or false. In two bins, |0.2 - 0| and |0.9 - 0.5| weigh the same:

    >>> round(expected_calibration_error([0.1, 0.3, 0.8, 1.0], [0, 0, 1, 0], bins=2), 6)
    0.3
    """
    c, r = check_finite(chance, "chance"), check_grades(right, "right", classes=2)
    check_lengths(c, r, "chance and right")
    if ((c < 0) | (c > 1)).any():
        raise DataError("chance", f"{c.min():g}..{c.max():g}", "probabilities in 0..1", "Divide percentages by 100.")
    sums = np.zeros((bins, 3))
    np.add.at(sums, bin_of(c, bins), np.stack([np.ones(len(c)), c, r], axis=1))
    return float(ece_of_bins(sums))


def bin_of(chance: Floats, bins: int = BINS) -> Ints:
    """(N,) probabilities -> (N,) numbers of bins of equal width; 1 is in the last."""
    return np.minimum((chance * bins).astype(np.int64), bins - 1)


def ece_of_bins(sums: Floats) -> Floats | np.float64:
    """Sums of 1, chance and right in each bin, (..., B, 3) -> (...); NaN where there is nothing."""
    return _ratio(np.abs(sums[..., 1] - sums[..., 2]).sum(-1), sums[..., 0].sum(-1))[()]


# --- area under the receiver operating characteristic ---


@dataclass(frozen=True)
class Ranking:
    """Who stands below whom, sorted once and then weighted many times.

    positives: (P,) places of the positive entries.  negatives: (Q,) places of the others, by rising score.
    below, upto: (P,) how many negatives score less than each positive, and less or the same.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]


def rank(positive: ArrayLike, score: ArrayLike) -> Ranking:
    """`positive` (N,) true or false and `score` (N,), higher for likelier positive -> Ranking for `auc_of_ranking`."""
    label = check_grades(positive, "positive", classes=2).astype(bool)
    value = check_finite(score, "score")
    check_lengths(label, value, "positive and score")
    positives, negatives = np.flatnonzero(label), np.flatnonzero(~label)
    negatives = negatives[np.argsort(value[negatives], kind="stable")]
    ladder = value[negatives]
    below, upto = (np.searchsorted(ladder, value[positives], side) for side in ("left", "right"))
    return Ranking(positives, negatives, below, upto)


def auc_of_ranking(ranking: Ranking, weights: ArrayLike) -> Floats | np.float64:
    """Area under the curve with weights (..., N) -> (...); NaN where positives or negatives have no weight."""
    weights = np.asarray(weights, np.float64)
    positive = weights.take(ranking.positives, -1)
    reached = np.zeros((*weights.shape[:-1], len(ranking.negatives) + 1))
    np.cumsum(weights.take(ranking.negatives, -1), -1, out=reached[..., 1:])
    twice = reached.take(ranking.below, -1) + reached.take(ranking.upto, -1)
    return _ratio(np.einsum("...p,...p->...", positive, twice), 2 * positive.sum(-1) * reached[..., -1])[()]


def auc(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties counting half; NaN without both kinds.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    ranking = rank(positive, score)
    return float(auc_of_ranking(ranking, _check_weights(weights, len(ranking.positives) + len(ranking.negatives))))
