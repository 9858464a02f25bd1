"""Every metric of metrics.json as one statistic of how often each patient was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2cnn import endpoints, metrics, reliability
from m2cnn.bootstrap import as_confusion, confusion_by_patient, sum_by_patient
from m2cnn.grades import ENDPOINTS, NUM_GRADES
from m2cnn.metrics import Floats, Ranking, ratio
from m2cnn.predictions import NO_GRADE, Predictions

REFERABLE = ENDPOINTS["referable"]
PER_GRADE = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "f1": "F1"}
PER_ENDPOINT = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
NAMES = {"referable": "referable", "any": "any DR", "vision_threatening": "vision-threatening"}
TITLES = {
    "qwk": "QWK",
    "linear_kappa": "linear kappa",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mse": "MSE of severity",
    "mae": "MAE of severity",
    **{f"{key}_grade_{g}": f"{title}, grade {g}" for key, title in PER_GRADE.items() for g in range(NUM_GRADES)},
    **{f"{end}_{key}": f"{name}: {title}" for end, name in NAMES.items() for key, title in PER_ENDPOINT.items()},
    "ece": "calibration error (ECE), grade",
    "referable_ece": "calibration error (ECE), referable",
    "referable_brier": "referable: Brier score",
    "referable_sensitivity_ungradable_refer": "referable: sensitivity, ungradable = refer",
    "referable_specificity_ungradable_refer": "referable: specificity, ungradable = refer",
}
METRICS = tuple(TITLES)


@dataclass(frozen=True)
class Panel:
    """All metrics of one system as a statistic of how often each patient was drawn.

    patients: P.  cells: (P, 25) confusion of scored photographs.  errors: (P, 2) sums of squared and absolute error.
    referrals: (P, 4) referable photographs, those of them referred, the others, those of them not referred; ungradable
    counts as referred.  rankings: for each of NAMES, who has it and how severe the system found them, in patient
    numbers.  bins: (P, 2 B 3) per bin the number, the stated chance and what happened: of the decoded grade, of
    referable disease; (P, 0) for a system without probabilities.  brier: (P,) sums of the squared difference of the
    latter two; NaN for such a system.
    """

    patients: int
    cells: Floats
    errors: Floats
    referrals: Floats
    rankings: tuple[Ranking, ...]
    bins: Floats
    brier: Floats

    def __call__(self, counts: Floats) -> Floats:
        """counts (R, P) -> (R, K), columns as METRICS."""
        table = as_confusion(counts @ self.cells)  # (R, 5, 5)
        scored = table.sum((1, 2))
        referable, referred, other, kept = (counts @ self.referrals).T  # each (R,)
        per_grade = endpoints.rates_per_grade(table)
        columns = (
            metrics.kappa_of_confusion(table),
            metrics.kappa_of_confusion(table, "linear"),
            metrics.accuracy_of_confusion(table),
            endpoints.macro_f1(table),
            *ratio((counts @ self.errors).T, scored),
            *(column for key in PER_GRADE for column in getattr(per_grade, key).T),
            *(column for k in range(len(NAMES)) for column in self._endpoint(k, table, counts)),
            *np.abs(self.gaps(counts)).sum(-1).T,
            ratio(counts @ self.brier, scored),
            ratio(referred, referable),
            ratio(kept, other),
        )
        return np.stack(columns, axis=1)

    def _endpoint(self, number: int, table: Floats, counts: Floats) -> list[Floats]:
        """The columns of an end-point, as PER_ENDPOINT, each (R,)."""
        rates = endpoints.rates_of_endpoint(table, ENDPOINTS[tuple(NAMES)[number]])
        areas = metrics.areas_of_ranking(self.rankings[number], counts)
        return [*areas, *(getattr(rates, key) for key in tuple(PER_ENDPOINT)[2:])]

    def gaps(self, counts: Floats) -> Floats:
        """counts (R, P) -> (R, 2, B): of the decoded grade and of referable disease, what their ECE is the sum of."""
        if not self.bins.size:
            return np.full((len(counts), 2, reliability.BINS), np.nan)
        return reliability.gaps_of_bins((counts @ self.bins).reshape(len(counts), 2, reliability.BINS, 3))

    def patients_of_shares(self) -> dict[str, int]:
        """For every metric that is a share of photographs: how many patients have such photographs."""
        table = as_confusion(self.cells)  # (P, 5, 5)
        truth, said = table.sum(2), table.sum(1)  # each (P, 5)
        of = {"accuracy": truth}
        for g in range(NUM_GRADES):
            of[f"sensitivity_grade_{g}"], of[f"ppv_grade_{g}"] = truth[:, [g]], said[:, [g]]
            of[f"specificity_grade_{g}"] = np.delete(truth, g, axis=1)
        for end in NAMES:
            lowest = ENDPOINTS[end]
            of[f"{end}_sensitivity"], of[f"{end}_specificity"] = truth[:, lowest:], truth[:, :lowest]
            of[f"{end}_ppv"], of[f"{end}_npv"] = said[:, lowest:], said[:, :lowest]
        of["referable_sensitivity_ungradable_refer"] = self.referrals[:, [0]]
        of["referable_specificity_ungradable_refer"] = self.referrals[:, [2]]
        return {name: int((counts.sum(1) > 0).sum()) for name, counts in of.items()}

    def pairs_of_areas(self) -> dict[str, int]:
        """For every area under a curve: how many pairs of a patient who has it and one who has not there are with no
        patient in common."""
        found = {}
        for end, ranking in zip(NAMES, self.rankings, strict=True):
            ill, well = np.unique(ranking.positives), np.unique(ranking.negatives)
            pairs = min(len(ill), len(well), len(np.union1d(ill, well)) // 2)
            found |= {f"{end}_auc": pairs, f"{end}_average_precision": pairs}
        return found

    def values(self) -> Floats:
        """(K,) metrics of the photographs as they are: every patient drawn once."""
        return self(np.ones((1, self.patients)))[0]


def panel(predictions: Predictions, scored: NDArray[np.bool_] | None = None) -> Panel:
    """The metrics of photographs whose true grade is known; at least one is needed.

    scored: (N,) the photographs that count where a grade by the system is needed; by default all gradable ones.
    """
    graded = predictions.grade != NO_GRADE
    p = predictions.select(graded)
    scored = p.gradable if scored is None else p.gradable & scored[graded]
    names, patient = np.unique(p.patient, return_inverse=True)
    truth, who = p.grade[scored], patient[scored]
    severity = p.severity[scored].astype(np.float64)
    error = severity - truth
    bins, brier = _chances(p.select(scored), who, len(names))
    return Panel(
        len(names),
        confusion_by_patient(truth, p.decoded[scored], who, len(names)),
        sum_by_patient(np.stack([error**2, np.abs(error)], axis=1), who, len(names)),
        sum_by_patient(_referrals(p), patient, len(names)),
        # The score is the severity, which every system has; not every system has probabilities.
        tuple(metrics.rank(truth >= ENDPOINTS[name], severity).of_patients(who) for name in NAMES),
        bins,
        brier,
    )


def _chances(p: Predictions, who: NDArray[np.intp], patients: int) -> tuple[Floats, Floats]:
    """Panel.bins and Panel.brier."""
    if np.isnan(p.probabilities).any():
        return np.zeros((patients, 0)), np.full(patients, np.nan)
    grade = p.probabilities[np.arange(len(p)), p.decoded].astype(np.float64)
    referable = np.clip(p.probabilities[:, REFERABLE:].sum(axis=1, dtype=np.float64), 0, 1)
    happened = (p.decoded == p.grade, p.grade >= REFERABLE)
    bins = np.empty((patients, 2, reliability.BINS, 3))
    for number, chance in enumerate((grade, referable)):
        bins[:, number] = reliability.bins_by_patient(chance, happened[number], who, patients)
    return bins.reshape(patients, -1), np.bincount(who, (referable - happened[1]) ** 2, minlength=patients)


def _referrals(p: Predictions) -> Floats:
    referable = p.grade >= REFERABLE
    referred = ~p.gradable | (p.decoded >= REFERABLE)
    return np.stack([referable, referable & referred, ~referable, ~referable & ~referred], axis=1).astype(np.float64)
