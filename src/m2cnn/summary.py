"""metrics.json: what a table of predictions is worth, every value with its interval over patients.

Schema m2cnn.metrics/1, documented in docs/reference/metrics-json.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2cnn import metrics
from m2cnn.bootstrap import LEVEL, METHOD, Estimate, bootstrap, interval, number, score_interval, share_interval, shown
from m2cnn.endpoints import check_prevalence, predictive_values
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.grades import DISCLAIMER, NUM_GRADES
from m2cnn.metrics import Floats
from m2cnn.panel import METRICS, NAMES, TITLES, Panel, panel
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.reliability import ece_bounds
from m2cnn.tables import write_atomically
from m2cnn.wording import counted

SCHEMA = "m2cnn.metrics/1"
BIASED = ("ece", "referable_ece")  # resampling raises them; see `ece_bounds`
SCORED = ("macro_f1", *(name for name in METRICS if name.startswith("f1_")), "referable_brier")  # 0..1, but no shares


# What people are told; the other figures of single grades are in the file.
TOLD = {key: title for key, title in TITLES.items() if not key.startswith(("specificity_grade", "ppv_grade", "f1_"))}
AT_PREVALENCE = ("ppv", "npv")
NOT_MEASURED = {  # in the context, how many
    "in_the_closed_lockbox": "of the lockbox, which stays closed, took no part",
    "left_out_as_trained_on": "that the model knows took no part",
}

Gaps = tuple[Floats, Floats]  # (2, B) as `Panel.gaps` of the photographs as they are, and (R, 2, B) replicates


def gaps_of(statistic: Panel, replicates: int, seed: int) -> Gaps:
    """What the calibration errors are the sums of; the replicates are on the resamples of the same seed."""
    own = statistic.gaps(np.ones((1, statistic.patients)))[0]
    return own, bootstrap(statistic.gaps, statistic.patients, replicates, seed)


def estimates(statistic: Panel, drawn: Floats, gaps: Gaps) -> dict[str, Estimate]:
    """An estimate for every metric; drawn: (R, K) replicates."""
    values = dict(zip(METRICS, statistic.values().tolist(), strict=True))
    replicates = dict(zip(METRICS, drawn.T, strict=True))
    bounds = {name: _percentiles(replicates[name]) for name in METRICS}
    for name in SCORED:
        bounds[name] = score_interval(values[name], replicates[name])
    for name, patients in statistic.patients_of_shares().items():
        bounds[name] = share_interval(values[name], replicates[name], patients)
    for name, pairs in statistic.pairs_of_areas().items():
        exact = pairs if name.endswith("auc") else 0  # of an average precision of 1 no bound is known
        bounds[name] = share_interval(values[name], replicates[name], exact, pairs - 1)
    for kind, name in enumerate(BIASED):
        bounds[name] = ece_bounds(gaps[0][kind], gaps[1][:, kind])
    return {name: Estimate(values[name], *bounds[name]) for name in METRICS}


def _percentiles(replicates: Floats) -> tuple[float, float]:
    """NaN where the replicates do not differ, as of a kappa of 1: that tells nothing."""
    low, high = interval(replicates)
    return (low, high) if low < high else (float("nan"), float("nan"))


def summarise(
    predictions: Predictions,
    replicates: int = 2000,
    seed: int = 0,
    context: dict | None = None,
    prevalence: Mapping[str, float] | None = None,
) -> dict:
    """The content of metrics.json: plain values, None where undefined.

    context: anything that JSON holds, kept under "context" (the command, the recipe, the data's hash).
    prevalence: of end-points, such as {"referable": 0.08}: their predictive values are given there too.
    Raises DataError for photographs of more than one system, and when there is no photograph; SettingError as
    `checked_prevalence`.
    """
    prevalence = checked_prevalence(prevalence or {})
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
            "method": METHOD,
            "level": LEVEL,
            "patients": len(np.unique(p.patient[graded])),
            "replicates": replicates,
            "seed": seed,
        },
        "prevalence": prevalence,
        "metrics": _measured(p, replicates, seed, prevalence),
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


def checked_prevalence(prevalence: Mapping[str, float]) -> dict[str, float]:
    """The same as plain numbers; SettingError for what is no end-point and for a share outside 0..1."""
    for name, share in prevalence.items():
        if name not in NAMES:
            raise SettingError("prevalence", f'"{name}"', "an end-point", did_you_mean(name, NAMES))
        check_prevalence(share)
    return {name: float(share) for name, share in prevalence.items()}


def _measured(p: Predictions, replicates: int, seed: int, prevalence: Mapping[str, float]) -> dict:
    if not (p.grade != NO_GRADE).any():
        elsewhere = [_at(name, key) for name in prevalence for key in AT_PREVALENCE]
        return dict.fromkeys((*METRICS, *elsewhere), _plain(None))
    statistic = panel(p)
    drawn = bootstrap(statistic, statistic.patients, replicates, seed)
    found = estimates(statistic, drawn, gaps_of(statistic, replicates, seed))
    for name, share in prevalence.items():
        found |= estimates_at(statistic, drawn, name, share)
    return {name: _plain(estimate) for name, estimate in found.items()}


def _at(name: str, key: str) -> str:
    return f"{name}_{key}_at_prevalence"


def estimates_at(statistic: Panel, drawn: Floats, name: str, prevalence: float) -> dict[str, Estimate]:
    """Predictive values of an end-point at a prevalence that is not the photographs' own; drawn: as of `estimates`."""
    shares = [f"{name}_{key}" for key in ("sensitivity", "specificity")]
    columns, patients = [METRICS.index(share) for share in shares], statistic.patients_of_shares()
    values = statistic.values()[columns]
    sides = [
        _sides(value, drawn[:, k], patients[share]) for value, k, share in zip(values, columns, shares, strict=True)
    ]
    here = predictive_values(*values, prevalence)
    lows, highs = (predictive_values(*side, prevalence) for side in zip(*sides, strict=True))
    return {
        _at(name, key): Estimate(float(value), interval(low)[0], interval(high)[1])
        for key, value, low, high in zip(AT_PREVALENCE, here, lows, highs, strict=True)
    }


def _sides(value: float, drawn: Floats, patients: int) -> tuple[Floats, Floats]:
    """(R,) replicates of a share for the low, and for the high bound of what rises with it.

    Of a share that none or all have, no replicate differs: the bounds of its own interval stand for them.
    """
    if value not in (0.0, 1.0):
        return drawn, drawn
    low, high = share_interval(float(value), drawn, patients)
    return np.full(len(drawn), low), np.full(len(drawn), high)


def _plain(estimate: Estimate | None) -> dict[str, float | None]:
    found = (estimate.value, estimate.low, estimate.high) if estimate else (np.nan,) * 3
    return {key: number(value) for key, value in zip(("value", "low", "high"), found, strict=True)}


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
    titles = {name: title for name, title in (TOLD | _titles_elsewhere(s)).items() if name in s["metrics"]}
    width = max(map(len, titles.values()), default=0)
    where = f" on {s['split']}" if s["split"] else ""
    head = f"{s['system']}{where}: {s['n_images']} photographs of {s['n_patients']} patients"
    left_out = f"{s['n_ungradable']} ungradable, {s['n_without_grade']} without a true grade, {s['n_scored']} scored"
    unit = f"{boot['level']:.0%} intervals: {boot['replicates']} bootstrap samples of {boot['patients']} patients"
    lines = [f"{title:{width}}  {shown(**s['metrics'][name])}" for name, title in titles.items()]
    heading = "true \\ graded" + "".join(f"{grade:>8}" for grade in range(NUM_GRADES))
    table = [f"{truth:>13}" + "".join(f"{n:>8}" for n in row) for truth, row in enumerate(s["confusion"])]
    told = [head, left_out, *not_measured(s.get("context", {})), unit]
    return "\n".join([*told, "", *lines, "", heading, *table, "", s["disclaimer"], ""])


def not_measured(context: Mapping[str, Any]) -> list[str]:
    """In words, the photographs of a data set that take no part, as the context of a summary counts them."""
    return [f"{counted(context[key], 'photograph')} {why}" for key, why in NOT_MEASURED.items() if context.get(key)]


def _titles_elsewhere(summary: dict) -> dict[str, str]:
    return {
        _at(name, key): f"{NAMES[name]}: {key.upper()} where {share:.2%} have it"
        for name, share in summary.get("prevalence", {}).items()
        for key in AT_PREVALENCE
    }
