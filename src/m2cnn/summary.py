"""metrics.json: what a table of predictions is worth, every value with its interval over patients.

Schema m2cnn.metrics/1, documented in docs/reference/metrics-json.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2cnn import metrics
from m2cnn.bootstrap import (
    LEVEL,
    Estimate,
    as_confusion,
    bootstrap,
    confusion_by_patient,
    interval,
    shown,
    sum_by_patient,
)
from m2cnn.errors import DataError
from m2cnn.grades import DISCLAIMER, ENDPOINTS, NUM_GRADES
from m2cnn.metrics import Floats, Ranking
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.tables import write_atomically

SCHEMA = "m2cnn.metrics/1"
TITLES = {
    "qwk": "QWK",
    "accuracy": "accuracy",
    "mse": "MSE of severity",
    "mae": "MAE of severity",
    **{f"sensitivity_grade_{grade}": f"sensitivity, grade {grade}" for grade in range(NUM_GRADES)},
    "referable_auc": "referable: AUC",
    "referable_sensitivity": "referable: sensitivity",
    "referable_specificity": "referable: specificity",
    "ece": "calibration error (ECE), grade",
    "referable_ece": "calibration error (ECE), referable",
    "referable_brier": "referable: Brier score",
    "referable_sensitivity_ungradable_refer": "referable: sensitivity, ungradable = refer",
    "referable_specificity_ungradable_refer": "referable: specificity, ungradable = refer",
}
METRICS = tuple(TITLES)
BIASED = ("ece", "referable_ece")  # their intervals are those of the basic bootstrap


@dataclass(frozen=True)
class Panel:
    """All metrics of one system as a statistic of how often each patient was drawn.

    patients: P.  cells: (P, 25) confusion of scored photographs.  errors: (P, 2) sums of squared and absolute error.
    referrals: (P, 4) referable photographs, those of them referred, the others, those of them not referred; ungradable
    counts as referred.  ranking: who is referable and how severe the system found them, in patient numbers.
    bins: (P, 2 B 3) per bin the number, the stated chance and what happened: of the decoded grade, of referable
    disease.  brier: (P,) sums of the squared difference of the latter two; both NaN for a system without probabilities.
    """

    patients: int
    cells: Floats
    errors: Floats
    referrals: Floats
    ranking: Ranking
    bins: Floats
    brier: Floats

    def __call__(self, counts: Floats) -> Floats:
        """counts (R, P) -> (R, K), columns as METRICS."""
        table = as_confusion(counts @ self.cells)  # (R, 5, 5)
        error = counts @ self.errors / _or_nan(table.sum((1, 2)))[:, None]  # (R, 2)
        referable, referred, other, kept = (counts @ self.referrals).T  # each (R,)
        bins = (counts @ self.bins).reshape(len(counts), 2, metrics.BINS, 3)
        columns = (
            metrics.kappa_of_confusion(table),
            metrics.accuracy_of_confusion(table),
            *error.T,
            *metrics.sensitivity_per_grade(table).T,
            metrics.auc_of_ranking(self.ranking, counts),
            metrics.sensitivity(table),
            metrics.specificity(table),
            *metrics.ece_of_bins(bins).T,
            counts @ self.brier / _or_nan(table.sum((1, 2))),
            referred / _or_nan(referable),
            kept / _or_nan(other),
        )
        return np.stack(columns, axis=1)

    def values(self) -> Floats:
        """(K,) metrics of the photographs as they are: every patient drawn once."""
        return self(np.ones((1, self.patients)))[0]


def _or_nan(total: Floats) -> Floats:
    return np.where(total > 0, total, np.nan)


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
    # The score is the severity, which every system has; not every system has probabilities.
    order = metrics.rank(truth >= ENDPOINTS["referable"], severity)
    bins, brier = _chances(p.select(scored))
    return Panel(
        len(names),
        confusion_by_patient(truth, p.decoded[scored], who, len(names)),
        sum_by_patient(np.stack([error**2, np.abs(error)], axis=1), who, len(names)),
        sum_by_patient(_referrals(p), patient, len(names)),
        Ranking(who[order.positives], who[order.negatives], order.below, order.upto),
        sum_by_patient(bins, who, len(names)),
        sum_by_patient(brier, who, len(names))[:, 0],
    )


def _chances(p: Predictions) -> tuple[Floats, Floats]:
    """(N, 2 B 3) and (N, 1): what Panel.bins and Panel.brier are sums of."""
    rows, probabilities = np.arange(len(p)), p.probabilities.astype(np.float64)
    known = not np.isnan(probabilities).any()
    grade = probabilities[rows, p.decoded] if known else np.zeros(len(p))
    referable = np.clip(probabilities[:, ENDPOINTS["referable"] :].sum(axis=1), 0, 1) if known else np.zeros(len(p))
    happened = (p.decoded == p.grade, p.grade >= ENDPOINTS["referable"])
    bins = np.zeros((len(p), 2, metrics.BINS, 3))
    for kind, (chance, right) in enumerate(zip((grade, referable), happened, strict=True)):
        bins[rows, kind, metrics.bin_of(chance)] = np.stack([np.ones(len(p)), chance, right], axis=1)
    brier = (referable - happened[1]) ** 2
    nothing = 1.0 if known else np.nan
    return bins.reshape(len(p), 6 * metrics.BINS) * nothing, brier[:, None] * nothing


def _referrals(p: Predictions) -> Floats:
    referable = p.grade >= ENDPOINTS["referable"]
    referred = ~p.gradable | (p.decoded >= ENDPOINTS["referable"])
    return np.stack([referable, referable & referred, ~referable, ~referable & ~referred], axis=1).astype(np.float64)


def estimates(values: Floats, replicates: Floats) -> dict[str, Estimate]:
    """(K,) values and (R, K) replicates -> an estimate for every metric."""
    return {name: _estimate(name, float(values[k]), replicates[:, k]) for k, name in enumerate(METRICS)}


def _estimate(name: str, value: float, replicates: Floats) -> Estimate:
    low, high = interval(replicates)
    if name not in BIASED:
        return Estimate(value, low, high)
    # A sample raises it, a sample of the sample once more: mirrored at the value, as the basic bootstrap has it.
    return Estimate(value, *np.clip([2 * value - high, 2 * value - low], 0, 1).tolist())


def summarise(predictions: Predictions, replicates: int = 2000, seed: int = 0, context: dict | None = None) -> dict:
    """The content of metrics.json: plain values, None where undefined.

    context: anything that JSON holds, kept under "context" (the command, the recipe, the data's hash).
    Raises DataError for photographs of more than one system, and when there is no photograph.
    """
    p = predictions
    if not len(p):
        raise DataError("predictions", "no photograph", "at least one", "Check the split that was asked for.")
    check_one_system(p)
    graded = p.grade != NO_GRADE
    scored = graded & p.gradable
    return {
        "schema": SCHEMA,
        "system": _joined(p.system),
        "bundle": _joined(p.bundle),
        "split": _joined(p.split),
        "n_images": len(p),
        "n_patients": len(np.unique(p.patient)),
        "n_ungradable": int((~p.gradable).sum()),
        "n_without_grade": int((~graded).sum()),
        "n_scored": int(scored.sum()),
        "bootstrap": {
            "unit": "patient",
            "method": "percentile",
            "level": LEVEL,
            "patients": len(np.unique(p.patient[graded])),
            "replicates": replicates,
            "seed": seed,
        },
        "metrics": _measured(p, replicates, seed) if graded.any() else dict.fromkeys(METRICS, _plain(None)),
        "confusion": metrics.confusion(p.grade[scored], p.decoded[scored]).tolist(),
        "context": context or {},
        "disclaimer": DISCLAIMER,
    }


def check_one_system(predictions: Predictions) -> None:
    """DataError when the photographs were graded by more than one system: their mixture has no kappa."""
    if len(np.unique(predictions.system)) > 1:
        got = f"systems {_joined(predictions.system)}"
        raise DataError("predictions", got, "one system", "One table per system; compare joins them.")


def _joined(texts: NDArray[np.str_]) -> str:
    return ", ".join(np.unique(texts[texts != ""]).tolist())


def _measured(p: Predictions, replicates: int, seed: int) -> dict:
    statistic = panel(p)
    found = estimates(statistic.values(), bootstrap(statistic, statistic.patients, replicates, seed))
    return {name: _plain(estimate) for name, estimate in found.items()}


def _plain(estimate: Estimate | None) -> dict[str, float | None]:
    found = (estimate.value, estimate.low, estimate.high) if estimate else (np.nan,) * 3
    return {key: number(value) for key, value in zip(("value", "low", "high"), found, strict=True)}


def number(value: float) -> float | None:
    """JSON has no NaN: None for it."""
    return None if np.isnan(value) else float(value)


# --- JSON and text ---


def write_metrics(summary: dict, path: str | Path) -> None:
    """Write metrics.json whole or not at all."""
    try:
        text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as cause:
        raise DataError(path, str(cause), "values that JSON can hold", "Look at the context.") from cause
    write_atomically(Path(path), text.encode() + b"\n")


def read_metrics(path: str | Path) -> dict:
    """Read what `write_metrics` wrote; DataError for another file or a newer schema."""
    path = Path(path)
    try:
        summary = json.loads(path.read_bytes())
    except OSError as cause:
        raise DataError(path, cause.strerror or str(cause), "a readable metrics.json", "Check the path.") from cause
    except ValueError as cause:
        raise DataError(path.name, f"no JSON ({cause})", "a metrics.json", "Write it again: m2cnn evaluate.") from cause
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema != SCHEMA:
        raise DataError(path.name, f"schema is {schema!r}", f'"{SCHEMA}"', "Write it again with this version of m2cnn.")
    return summary


def to_text(summary: dict) -> str:
    """A summary as a table for the terminal, with the disclaimer."""
    s, boot = summary, summary["bootstrap"]
    width = max(map(len, TITLES.values()))
    where = f" on {s['split']}" if s["split"] else ""
    head = f"{s['system']}{where}: {s['n_images']} photographs of {s['n_patients']} patients"
    left_out = f"{s['n_ungradable']} ungradable, {s['n_without_grade']} without a true grade, {s['n_scored']} scored"
    unit = f"{boot['level']:.0%} intervals: {boot['replicates']} bootstrap samples of {boot['patients']} patients"
    lines = [f"{title:{width}}  {shown(**s['metrics'][name])}" for name, title in TITLES.items()]
    heading = "true \\ graded" + "".join(f"{grade:>8}" for grade in range(NUM_GRADES))
    table = [f"{truth:>13}" + "".join(f"{n:>8}" for n in row) for truth, row in enumerate(s["confusion"])]
    return "\n".join([head, left_out, unit, "", *lines, "", heading, *table, "", s["disclaimer"], ""])
