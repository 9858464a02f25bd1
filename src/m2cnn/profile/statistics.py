"""Numbers of a set with their intervals over patients: shares, correlations with the grade, agreement of two eyes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2cnn.bootstrap import Estimate, bootstrap, interval, kappa_replicates, share_interval, sum_by_patient
from m2cnn.metrics import Floats, auc_of_ranking, quadratic_weighted_kappa, rank
from m2cnn.profile.measures import MEASURES, Measure
from m2cnn.profile.table import Table

REPLICATES = 1000
VISIBLE = 0.65  # area under the curve from which on a difference is worth a word
FEW = 20  # photographs: with fewer, nothing is said of a measure


@dataclass(frozen=True)
class Counted:
    """A number with its interval and the photographs, or pairs, that it is of."""

    estimate: Estimate
    n: int


def shares(flags: Sequence[NDArray[np.bool_]], patient: NDArray[np.intp]) -> list[Counted]:
    """The share of photographs with each flag (N,).

    Where none or all have it, resampling says nothing: the interval is then the exact one of a binomial over patients.
    """
    patients = int(patient.max()) + 1
    columns = np.stack([*flags, np.ones(len(patient))], axis=1).astype(np.float64)
    sums = sum_by_patient(columns, patient, patients)

    def statistic(counts: Floats) -> Floats:
        drawn = counts @ sums
        return drawn[:, :-1] / drawn[:, -1:]

    drawn = bootstrap(statistic, patients, REPLICATES)
    values = [float(flag.mean()) for flag in flags]
    return [
        Counted(Estimate(value, *share_interval(value, drawn[:, k], patients)), len(patient))
        for k, value in enumerate(values)
    ]


def eye_agreement(table: Table) -> Counted | None:
    """Quadratic weighted kappa of the grades of left and right eyes; None for less than two patients with both.

    A patient with several photographs of an eye counts with the first of each.
    """
    eyes: dict[str, dict[str, int]] = defaultdict(dict)
    for row in table.rows:
        if row.eye and row.grade is not None:
            eyes[row.patient].setdefault(row.eye, row.grade)
    pairs = [(one["left"], one["right"]) for one in eyes.values() if len(one) == 2]
    if len(pairs) < 2:
        return None
    left, right = np.array(pairs).T
    drawn = kappa_replicates(left, right, np.arange(len(pairs)), REPLICATES)
    return Counted(Estimate(quadratic_weighted_kappa(left, right), *interval(drawn)), len(pairs))


# Does a measure tell the grade?


def grade_correlations(table: Table) -> list[tuple[Measure, Counted]]:
    """Spearman's correlation of each measure with the grade, the strongest first.

    Ranks are those of the whole set, also in the resamples. Measures that are alike in nine photographs of ten, or have
    fewer than FEW photographs with a grade, are left out.
    """
    found = []
    for measure in MEASURES:
        values = table.values(measure.name)
        known = np.isfinite(values) & (table.grades >= 0)
        if known.sum() >= FEW and _varies(measure, values[known]) and np.ptp(table.grades[known]) > 0:
            found.append((measure, _spearman(values[known], table.grades[known], table.patient[known])))
    return sorted(found, key=lambda pair: -abs(pair[1].estimate.value))


def _varies(measure: Measure, values: Floats) -> bool:
    low, high = np.percentile(measure.scaled(values), (5, 95))
    return bool(high - low >= measure.least)


def _spearman(x: Floats, y: NDArray, patient: NDArray[np.intp]) -> Counted:
    a, b = _ranks(x), _ranks(y)
    names, number = np.unique(patient, return_inverse=True)
    columns = np.stack([np.ones(len(a)), a, b, a * a, b * b, a * b], axis=1)
    sums = sum_by_patient(columns, number, len(names))
    drawn = bootstrap(lambda counts: _pearson(counts @ sums)[:, None], len(names), REPLICATES)
    value = float(_pearson(columns.sum(axis=0)[None])[0])
    return Counted(Estimate(value, *interval(drawn[:, 0])), len(a))


def _ranks(values: NDArray) -> Floats:
    """Centred ranks (N,) of -0.5..0.5; equal values share their mean rank."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(times) - (times + 1) / 2
    return (middle[place] - (len(values) - 1) / 2) / len(values)


def _pearson(sums: Floats) -> Floats:
    """(R, 6) sums of 1, a, b, aa, bb, ab -> (R,) correlation; NaN where one of the two does not vary."""
    n, a, b, aa, bb, ab = sums.T
    spread = (n * aa - a * a) * (n * bb - b * b)
    return np.divide(n * ab - a * b, np.sqrt(np.maximum(spread, 0)), out=np.full(len(n), np.nan), where=spread > 1e-9)


# Two sets


@dataclass(frozen=True)
class Contrast:
    """How well one measure tells photographs of set B from those of A. auc: above 0.5, B's are higher.

    first, second: the medians.
    """

    measure: Measure
    auc: Counted
    first: float
    second: float

    @property
    def size(self) -> float:
        """0.5..1, whichever is higher."""
        return max(self.auc.estimate.value, 1 - self.auc.estimate.value)

    @property
    def how(self) -> str:
        """How photographs of B look beside those of A."""
        return self.measure.more if self.auc.estimate.value > 0.5 else self.measure.less

    @property
    def harm(self) -> str:
        """Why a network of A may fail on B for it, or ""."""
        return self.measure.harm_more if self.auc.estimate.value > 0.5 else self.measure.harm_less

    @property
    def matters(self) -> bool:
        """Whether it is more than chance, and large enough to be seen."""
        e, pair = self.auc.estimate, self.measure.scaled(np.array([self.first, self.second]))
        chance = e.low <= 0.5 <= e.high or np.isnan(e.low)
        return not chance and self.size >= VISIBLE and bool(abs(pair[1] - pair[0]) >= self.measure.least)


def contrasts(one: Table, other: Table) -> list[Contrast]:
    """Every measure that both sets have, the one that tells them apart best first."""
    found = []
    for measure in MEASURES:
        pair = [table.values(measure.name) for table in (one, other)]
        if min(np.isfinite(values).sum() for values in pair) >= FEW:
            auc = _auc_between(*pair, one, other)
            found.append(Contrast(measure, auc, *(float(np.nanmedian(values)) for values in pair)))
    return sorted(found, key=lambda contrast: -contrast.size)


def _auc_between(first: Floats, second: Floats, one: Table, other: Table) -> Counted:
    """Patients of both sets are resampled together; those of one set are never those of the other."""
    values = np.concatenate([first, second])
    known = np.isfinite(values)
    patient = np.concatenate([one.patient, one.patients + other.patient])[known]
    names, number = np.unique(patient, return_inverse=True)
    ranking = rank(np.repeat([0, 1], [len(first), len(second)])[known], values[known])
    drawn = bootstrap(lambda counts: auc_of_ranking(ranking, counts[:, number])[:, None], len(names), REPLICATES // 2)
    value = float(auc_of_ranking(ranking, np.ones(len(number))))
    pairs = min(len(np.unique(each.patient[np.isfinite(v)])) for each, v in ((one, first), (other, second)))
    return Counted(Estimate(value, *share_interval(value, drawn[:, 0], pairs, pairs - 1)), int(known.sum()))
