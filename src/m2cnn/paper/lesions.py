"""How well grade 1 is told from grade 0: what separates them is a few microaneurysms, the smallest lesions there are.

The area under the curve of the severity needs no cut, so that a system that grades too high is not called blind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2cnn import metrics
from m2cnn.metrics import Floats, Ranking
from m2cnn.predictions import NO_GRADE, Predictions

SMALL, LARGE, EXCESS = "auc_0_1", "auc_0_2", "excess"
COLUMNS = (SMALL, LARGE, EXCESS)


@dataclass(frozen=True)
class Lesions:
    """Columns of `counts` (R, P), how often each patient was drawn: AUC of grade 0 against 1, of 0 against 2 and more,
    and the first minus the second. NaN where a resample lacks one of the two kinds."""

    patients: int
    small: Ranking
    large: Ranking

    def __call__(self, counts: Floats) -> Floats:
        small, large = (metrics.auc_of_ranking(order, counts) for order in (self.small, self.large))
        return np.stack([small, large, small - large], axis=1)

    def values(self) -> Floats:
        return self(np.ones((1, self.patients)))[0]


def lesions(predictions: Predictions, scored: np.ndarray) -> Lesions:
    """The statistic of a table. scored: (N,) the photographs that count."""
    names, patient = np.unique(predictions.patient, return_inverse=True)
    known = scored & predictions.gradable & (predictions.grade != NO_GRADE)
    rankings = [_ranking(predictions, patient, known, wanted) for wanted in ((1,), (2, 3, 4))]
    return Lesions(len(names), *rankings)


def _ranking(p: Predictions, patient: np.ndarray, known: np.ndarray, wanted: tuple[int, ...]) -> Ranking:
    """Grades `wanted` against grade 0, in patient numbers."""
    rows = np.flatnonzero(known & np.isin(p.grade, (0, *wanted)))
    order = metrics.rank(p.grade[rows] > 0, p.severity[rows].astype(np.float64))
    return order.of_patients(patient[rows])
