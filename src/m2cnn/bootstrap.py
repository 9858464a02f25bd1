"""Intervals over patients: the bootstrap that resamples whole patients, vectorised.

Both eyes of a patient are alike, so photographs are no independent draws; patients are. A replicate draws as many
patients as there are, with replacement, and is stored as how often each was drawn: counts (R, P). A statistic is
computed from counts by matrix products with sums per patient, never by copying photographs.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from m2cnn.errors import DataError, SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import Floats, check_grades, check_lengths, kappa_of_confusion

Interval = tuple[float, float]
Statistic = Callable[[Floats], Floats]  # counts (R, P) of how often each patient was drawn -> values (R, K)

LEVEL = 0.95
# How the intervals of metrics.json come about, for those who read them; see `interval`, `score_interval`, and
# m2cnn.reliability for the bounds.
METHOD = (
    "percentiles for kappas and errors of the severity, Wilson's score with the samples' standard error for shares, "
    "areas under curves, F1 and Brier score, exact binomial ones where a share is 0 or 1, bounds for calibration errors"
)
CHUNK_CELLS = 1 << 20  # 8 MiB of counts at a time, whatever the number of replicates
MOST_UNDEFINED = 0.1  # of the replicates; see `interval`


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN where undefined."""

    value: float
    low: float
    high: float


def number(value: float) -> float | None:
    """JSON has no NaN: None for it."""
    return None if np.isnan(value) else float(value)


def shown(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A value with its interval for people.

    >>> shown(0.8123, 0.77, 0.8512)
    '0.812 (0.770 to 0.851)'
    >>> shown(0.5), shown(None)
    ('0.500', 'undefined')
    """
    if value is None or np.isnan(value):
        return "undefined"
    if low is None or high is None or np.isnan(low) or np.isnan(high):
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference with its interval, and the two-sided p-value of no difference."""

    p: float


def draw_counts(patients: int, replicates: int, seed: int, kind: NDArray[np.intp] | None = None) -> Iterator[Floats]:
    """Chunks (r, P) of `replicates` multinomial draws of P patients, as float64 for the matrix products.

    A seed gives the same draws whatever the chunks; two systems on the same patients meet the same resamples.
    kind: (P,) numbers 0..K-1 of patients that are alike; the chunks (r, K) then say how often each kind was drawn.
    """
    if patients < 1:
        raise DataError("bootstrap", f"{patients} patients", "at least one patient", "Give photographs with a grade.")
    if replicates < 1:
        raise SettingError("replicates", f"{replicates}", "at least 1", "Default: 2000.")
    rng = np.random.default_rng(seed)
    columns = patients if kind is None else int(kind.max()) + 1
    rows = max(1, CHUNK_CELLS // columns)
    for done in range(0, replicates, rows):
        counts = np.empty((min(rows, replicates - done), columns))
        for row in counts:
            # Indices, then counts: ten times quicker than numpy's multinomial, which draws a binomial per patient.
            drawn = rng.integers(0, patients, patients, dtype=np.uint32)
            row[:] = np.bincount(drawn if kind is None else kind.take(drawn), minlength=columns)
        yield counts


def bootstrap(
    statistic: Statistic,
    patients: int,
    replicates: int = 2000,
    seed: int = 0,
    kind: NDArray[np.intp] | None = None,
) -> Floats:
    """Replicates (R, K) of a statistic of patient counts; all NaN for a single patient, who cannot vary.

    kind: as of `draw_counts`, where the statistic is one of counts of kinds.
    """
    values = np.concatenate([statistic(counts) for counts in draw_counts(patients, replicates, seed, kind)])
    return values if patients > 1 else np.full_like(values, np.nan)


def sum_by_patient(values: Floats, patient: NDArray[np.intp], patients: int) -> Floats:
    """(N, C) values of photographs and (N,) patient numbers 0..P-1 -> (P, C) sums."""
    sums = np.zeros((patients, values.shape[1]))
    np.add.at(sums, patient, values)
    return sums


def confusion_by_patient(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], patient: NDArray[np.intp], patients: int
) -> Floats:
    """(N,) grades and patient numbers -> (P, 25) counts, row-major as `metrics.confusion`."""
    cells = NUM_GRADES**2
    cell = patient * cells + truth * NUM_GRADES + predicted
    return np.bincount(cell, minlength=patients * cells).reshape(patients, cells).astype(np.float64)


def as_confusion(cells: Floats) -> Floats:
    """(..., 25) -> (..., 5, 5)."""
    return cells.reshape(*cells.shape[:-1], NUM_GRADES, NUM_GRADES)


def interval(replicates: ArrayLike, level: float = LEVEL) -> Interval:
    """Percentile interval of (R,) replicates, of those that are defined.

    A replicate is NaN when its resample cannot show the statistic, as when no patient of a rare grade was drawn. Such
    replicates are left out; when they are more than a tenth, as with one or two such patients, the interval is NaN.
    """
    check_level(level)
    defined = _defined(replicates)
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def score_interval(value: float, replicates: ArrayLike, freedom: float = np.inf, level: float = LEVEL) -> Interval:
    """Wilson's interval of a value between 0 and 1 whose standard error the (R,) replicates tell.

    Percentiles are too narrow and too near the middle where nearly nobody is wrong or few are ill. Here the value is
    taken for a share of as many independent patients as would vary that much: the effective number, Kish, Survey
    Sampling, 1965; with Wilson's interval, Franco et al., J Surv Stat Methodol 2019;7:334.
    freedom: degrees of freedom of the error (Student's t), where it is estimated from few.
    NaN where too many replicates are undefined, as of `interval`, and where they do not differ: that tells nothing.

    >>> drawn = np.random.default_rng(0).binomial(50, 0.9, 100_000) / 50  # 50 patients: Wilson has 0.786 to 0.957
    >>> [round(bound, 2) for bound in score_interval(0.9, drawn)]
    [0.79, 0.96]
    """
    spread = float(np.std(defined, ddof=1)) if len(defined := _defined(replicates)) > 1 else 0.0
    if not (0 < value < 1 and spread > 1e-12 and freedom > 0):
        check_level(level)
        return float("nan"), float("nan")
    reach = normal_quantile(level) if np.isinf(freedom) else float(special.stdtrit(freedom, (1 + level) / 2))
    low, high = score_bounds(value, value * (1 - value) / spread**2, reach)
    return float(low), float(high)


def score_bounds(share: ArrayLike, number: ArrayLike, reach: float) -> tuple[Floats, Floats]:
    """Wilson's score interval of shares (...) of numbers (...); reach: standard errors to either side."""
    p, n, z2 = np.asarray(share, np.float64), np.asarray(number, np.float64), reach**2
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (p + z2 / n / 2) / (1 + z2 / n)
        half = np.sqrt(z2 / n * (p * (1 - p) + z2 / n / 4)) / (1 + z2 / n)
    return np.clip(middle - half, 0, 1)[()], np.clip(middle + half, 0, 1)[()]


def share_interval(
    value: float, replicates: ArrayLike, patients: int, freedom: float = np.inf, level: float = LEVEL
) -> Interval:
    """The interval of a share of the photographs that `patients` patients have: `score_interval`.

    Where none or all have it, every resample says the same, which is no certainty: the interval is then the exact one
    of a binomial over those patients (Clopper-Pearson), as if the photographs of a patient were one.
    An area under the ROC curve is a share too, of the pairs of an ill and a healthy photograph that are ranked
    rightly. Then `patients` is the number of pairs of patients that have none in common: that all of them are ranked
    rightly is likelier than that all pairs are, so the interval at 0 and 1 is never too narrow. freedom: pairs less 1.

    >>> [round(bound, 3) for bound in share_interval(1.0, [1.0, 1.0], 15)]
    [0.782, 1.0]
    """
    if value not in (0.0, 1.0) or not patients:
        return score_interval(value, replicates, freedom, level)
    check_level(level)
    reach = 1 - ((1 - level) / 2) ** (1 / patients)
    return (0.0, reach) if value == 0.0 else (1 - reach, 1.0)


def normal_quantile(level: float) -> float:
    """Standard errors to either side that hold a share `level` of a normal distribution.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    check_level(level)
    return float(special.ndtri((1 + level) / 2))


def check_level(level: float) -> None:
    """SettingError unless it is between 0 and 1."""
    if not 0 < level < 1:
        raise SettingError("level", f"{level:g}", "between 0 and 1", "Default: 0.95.")


def _defined(replicates: ArrayLike) -> Floats:
    """The replicates that are no NaN, or none when too many are."""
    values = np.asarray(replicates, np.float64)
    undefined = np.isnan(values)
    return values[~undefined] if undefined.sum() <= MOST_UNDEFINED * len(values) else values[:0]


def two_sided_p(differences: ArrayLike, highest: ArrayLike | None = None) -> float:
    """Twice the smaller share of (R,) differences on one side of 0, each counted with itself: never 0, at most 1.

    The p-value that belongs to the percentile interval: below 0.05 about when the 95 % interval excludes 0.
    highest: (R,) those that the high bound is of, where `differences` are those of the low one alone.

    >>> two_sided_p([0.1] * 99)
    0.02
    >>> two_sided_p([0.0] * 99), two_sided_p([-0.1] * 99, [0.1] * 99)
    (1.0, 1.0)
    """
    low = _defined(differences)
    high = low if highest is None else _defined(highest)
    if not (len(low) and len(high)):
        return float("nan")
    fewer = min((low <= 0).sum(), (high >= 0).sum())
    return float(min(1.0, 2 * (1 + fewer) / (1 + len(low))))


def paired_difference(
    values: tuple[float, float], replicates: tuple[Floats, Floats], level: float = LEVEL
) -> Difference:
    """Second minus first system: two values and their (R,) replicates on the same resamples of the same patients."""
    first, second = replicates
    check_lengths(first, second, "replicates of two systems")
    change = second - first
    return Difference(values[1] - values[0], *interval(change, level), two_sided_p(change))


def kappa_replicates(
    truth: ArrayLike, predicted: ArrayLike, patient: ArrayLike, replicates: int = 2000, seed: int = 0
) -> Floats:
    """(R,) bootstrap replicates of the quadratic weighted kappa of (N,) grades; `patient`: (N,) any ids."""
    t, d = check_grades(truth, "truth"), check_grades(predicted, "predicted")
    check_lengths(t, d, "truth and predicted")
    names, number = np.unique(np.asarray(patient), return_inverse=True)
    check_lengths(t, number, "truth and patient")
    # Patients with the same cells are one kind, of which there are a few hundred however many patients: a tenth of the
    # products.
    kinds, kind = np.unique(confusion_by_patient(t, d, number, len(names)), axis=0, return_inverse=True)
    return bootstrap(
        lambda counts: kappa_of_confusion(as_confusion(counts @ kinds))[:, None], len(names), replicates, seed, kind
    )[:, 0]
