"""Clinical statistics of graded photographs: pure functions of arrays, NumPy only.

A confusion matrix has the truth in its rows and the prediction in its columns. Statistics of it are vectorised over
leading dimensions, (..., 5, 5) -> (...), so that ten thousand bootstrap replicates are one call. A statistic that is
undefined on the given photographs (a grade that never occurs, nobody referable) is NaN, never 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


def check_weights(weights: ArrayLike | None, length: int) -> Floats:
    if weights is None:
        return np.ones(length)
    array = check_finite(weights, "weights")
    check_lengths(array, np.empty(length), "weights and photographs")
    if (array < 0).any():
        raise DataError("weights", f"a negative weight, {array.min():g}", "0 or more")
    return array


def check_confusion(confusion: ArrayLike) -> Floats:
    """Counts or weights (..., N, N) as float64; DataError for another shape, a negative count or NaN."""
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise DataError("confusion matrix", f"shape {counts.shape}", "(..., N, N)")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError("confusion matrix", "a negative count or NaN", "counts of 0 or more")
    return counts


def ratio(part: NDArray, whole: NDArray) -> Floats:
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
    w = None if weights is None else check_weights(weights, len(t))
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
    counts = check_confusion(confusion)
    step = np.arange(counts.shape[-1])
    distance = np.abs(step[:, None] - step)
    # 0 ** 0 is 1, so the unweighted kappa needs the diagonal cleared.
    w = np.where(distance > 0, distance ** DISAGREEMENT_POWER[weights], 0).astype(np.float64)
    observed = np.einsum("...ij,ij->...", counts, w)
    total = counts.sum((-2, -1))
    expected = ratio(np.einsum("...i,ij,...j->...", counts.sum(-1), w, counts.sum(-2)), total)
    return (1 - ratio(observed, expected))[()]


def accuracy_of_confusion(confusion: ArrayLike) -> Floats | np.float64:
    """Share of photographs with exactly the right grade, (..., N, N) -> (...); NaN when there are none.

    >>> float(accuracy_of_confusion([[2, 0, 0], [0, 0, 1], [0, 0, 1]]))
    0.75
    """
    counts = check_confusion(confusion)
    return ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))[()]


def sensitivity_per_grade(confusion: ArrayLike) -> Floats:
    """Of the photographs of each grade, the share that got it, (..., N, N) -> (..., N); NaN for a grade that is absent.

    >>> sensitivity_per_grade([[2, 0, 0], [0, 0, 1], [0, 0, 1]]).tolist()
    [1.0, 0.0, 1.0]
    """
    counts = check_confusion(confusion)
    return ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def sensitivity(confusion: ArrayLike, lowest: int = ENDPOINTS["referable"]) -> Floats | np.float64:
    """Of the photographs of grade `lowest` and above, the share graded so; (..., N, N) -> (...), NaN without any.

    >>> float(sensitivity([[2, 0, 0], [0, 0, 1], [0, 0, 1]], lowest=1))
    1.0
    """
    counts = check_confusion(confusion)
    return ratio(counts[..., lowest:, lowest:].sum((-2, -1)), counts[..., lowest:, :].sum((-2, -1)))[()]


def specificity(confusion: ArrayLike, lowest: int = ENDPOINTS["referable"]) -> Floats | np.float64:
    """Of the photographs below grade `lowest`, the share graded so; (..., N, N) -> (...), NaN without any.

    >>> round(float(specificity([[2, 0, 0], [0, 0, 1], [0, 0, 1]])), 6)
    0.666667
    """
    counts = check_confusion(confusion)
    return ratio(counts[..., :lowest, :lowest].sum((-2, -1)), counts[..., :lowest, :].sum((-2, -1)))[()]


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


# --- how well a score ranks ---


@dataclass(frozen=True)
class Ranking:
    """Who stands below whom, sorted once and then weighted many times.

    positives, negatives: (P,) and (Q,) places of the positive entries and of the others, each by rising score.
    below, upto: (P,) how many negatives score less than each positive, and less or the same.
    weaker: (P,) how many positives score less than each positive.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]
    weaker: NDArray[np.intp]

    def of_patients(self, patient: NDArray[np.intp]) -> Ranking:
        """The same ranking to be weighted by patient: `patient` (N,) has the number of each entry's patient."""
        return replace(self, positives=patient[self.positives], negatives=patient[self.negatives])


def rank(positive: ArrayLike, score: ArrayLike) -> Ranking:
    """`positive` (N,) true or false and `score` (N,), higher for likelier positive -> Ranking for the two below."""
    label = check_grades(positive, "positive", classes=2).astype(bool)
    value = check_finite(score, "score")
    check_lengths(label, value, "positive and score")
    order = np.argsort(value, kind="stable")
    positives, negatives = order[label[order]], order[~label[order]]
    mine = value[positives]
    below, upto = (np.searchsorted(value[negatives], mine, side) for side in ("left", "right"))
    return Ranking(positives, negatives, below, upto, np.searchsorted(mine, mine))


def auc_of_ranking(ranking: Ranking, weights: ArrayLike) -> Floats | np.float64:
    """Area under the curve with weights (..., N) -> (...); NaN where positives or negatives have no weight."""
    return areas_of_ranking(ranking, weights)[0]


def average_precision_of_ranking(ranking: Ranking, weights: ArrayLike) -> Floats | np.float64:
    """Average precision with weights (..., N) -> (...); NaN where positives have no weight."""
    return areas_of_ranking(ranking, weights)[1]


def areas_of_ranking(ranking: Ranking, weights: ArrayLike) -> tuple[Floats | np.float64, Floats | np.float64]:
    """Both of the above, which share most of their work."""
    weights = np.asarray(weights, np.float64)
    positive = weights.take(ranking.positives, -1)
    reached, found = _cumulated(weights.take(ranking.negatives, -1)), _cumulated(positive)
    below, total = reached.take(ranking.below, -1), found[..., -1]
    twice = below + reached.take(ranking.upto, -1)
    area = ratio(np.einsum("...p,...p->...", positive, twice), 2 * total * reached[..., -1])
    found = total[..., None] - found.take(ranking.weaker, -1)
    # A positive of weight 0 may have nobody at its score and above, and then no precision either.
    referred = np.maximum(found + reached[..., -1:] - below, np.finfo(float).tiny)
    return area[()], ratio(np.einsum("...p,...p->...", positive, found / referred), total)[()]


def _cumulated(values: Floats) -> Floats:
    """(..., Q) -> (..., Q + 1): sums of the first 0..Q."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, -1, out=sums[..., 1:])
    return sums


def auc(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties counting half; NaN without both kinds.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    ranking = rank(positive, score)
    return float(auc_of_ranking(ranking, check_weights(weights, len(ranking.positives) + len(ranking.negatives))))


def average_precision(positive: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean over the positives of the precision at their own score; NaN without positives.

    The precision at a score: the share of positives among the entries that score as high or higher. Positives alone
    have 1; a score that says nothing has their share of all.

    >>> average_precision([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.8])
    0.8333333333333333
    """
    ranking = rank(positive, score)
    every = check_weights(weights, len(ranking.positives) + len(ranking.negatives))
    return float(average_precision_of_ranking(ranking, every))


def roc_curve(positive: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """1 - specificity and sensitivity (M,) at every score from which an entry can be called positive, both from 0 to 1.

    Raises DataError where there are no positives or nothing else. Of scores 1, 2 (positive), 3:

    >>> [list(map(float, axis)) for axis in roc_curve([0, 1, 0], [1, 2, 3])]
    [[0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    label, value = check_grades(positive, "positive", classes=2).astype(bool), check_finite(score, "score")
    check_lengths(label, value, "positive and score")
    if label.all() or not label.any():
        raise DataError("roc_curve", "one class alone", "positives and others", "Measure on both.")
    order = np.argsort(-value, kind="stable")
    last = np.append(np.flatnonzero(np.diff(value[order])), len(value) - 1)  # equal scores are called together
    caught, wrong = np.cumsum(label[order])[last], np.cumsum(~label[order])[last]
    return np.append(0.0, wrong / (~label).sum()), np.append(0.0, caught / label.sum())
