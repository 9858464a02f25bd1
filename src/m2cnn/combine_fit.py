"""Fitting a combiner: scikit-learn and torch, ending in one ONNX file and no pickle.

Every random number comes from the seed. What is fitted on which photographs is `combiner.splits`; the caller passes those
and no others, never test patients.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from m2cnn.combine import INPUT, OUTPUT, Combiner, Eyes
from m2cnn.cuts import fit_cuts
from m2cnn.errors import BundleError, DataError
from m2cnn.metrics import check_grades, check_lengths, quadratic_weighted_kappa
from m2cnn.onnx_export import export_module
from m2cnn.tasks import cut

# Added to probabilities before the logarithm; a softmax gives them back to 5e-7.
TINY = 1e-7
LEAST_PATIENTS = 2
TOLERANCE, CHECKED = 1e-4, 512  # largest difference of the ONNX file, on how many rows
TIER_1_CUTS = (1.5, 2.5, 3.5, 4.5)  # of grade + 1
MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class Fitted:
    """A fitted combiner.

    combiner: its settings, with its cuts.  onnx: a model from "rows" (N, D) float32 to "outputs" (N, K) float32.
    facts: plain values on the fit. `kappa` is that of the photographs it was fitted on, and says so in `kappa_on`.
    """

    combiner: Combiner
    onnx: bytes
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Model:
    """severity: (N,) on the photographs of the fit, for the cuts, NaN where there is none.  on: what that is."""

    onnx: bytes
    severity: np.ndarray
    on: str
    facts: dict[str, Any]


def fit(combiner: Combiner, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> Fitted:
    """Fit a combiner on photographs of `combiner.splits`.

    grades: (N,) 0..4.  patients: (N,) names.  A combiner with nothing to fit (no splits) takes any, also none.

    Raises DataError for what is no basis: lengths that differ, numbers that are not finite, features that were not
    computed, one grade or one patient only, an other eye of another patient; BundleError where ONNX Runtime disagrees.
    """
    if not combiner.splits:
        return Fitted(combiner, _fit_mean(combiner, eyes).onnx, {})
    grades, patients = _checked(combiner, eyes, grades, patients)
    model = FITS[type(combiner)](combiner, eyes, grades, patients, seed)
    known = np.isfinite(model.severity)
    severity, truth = model.severity[known], grades[known]
    if combiner.fit_cuts:
        combiner = replace(combiner, cuts=tuple(fit_cuts(severity, truth, combiner.cuts).tolist()))
    kappa = quadratic_weighted_kappa(truth, cut(severity, combiner.cuts))
    facts = {"photographs": len(grades), "patients": len(np.unique(patients)), "kappa": kappa, "kappa_on": model.on}
    return Fitted(combiner, model.onnx, facts | model.facts)


def _checked(combiner: Combiner, eyes: Eyes, grades: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place, patients = f"combiner {combiner.name}", np.asarray(patients).astype(str)
    grades = check_grades(grades, f"{place}, grades")
    check_lengths(grades, eyes.other, f"{place}, grades and eyes")
    check_lengths(patients, eyes.other, f"{place}, patients and eyes")
    if len(np.unique(grades)) < 2:
        raise DataError(place, f"{len(np.unique(grades))} different grades", "at least 2", "Use more patients.")
    if len(np.unique(patients)) < LEAST_PATIENTS:
        raise DataError(place, "one patient", f"at least {LEAST_PATIENTS}", "Use more patients.")
    if (patients[eyes.partner()] != patients).any():
        raise DataError(place, "an other eye of another patient", "of the same patient", "Check Eyes.other.")
    first = np.unique(eyes.partner(), return_index=True)[1][:1]
    combiner.rows(Eyes(eyes.decoded, eyes.features, eyes.photograph, eyes.side, eyes.other) if len(first) else eyes)
    return grades, patients


# --- torch modules to ONNX -------------------------------------------------------------------------------------------


def _exported(module: nn.Module, rows: np.ndarray) -> bytes:
    """The module as ONNX, checked against itself on these rows."""
    example = torch.from_numpy(rows[:2] if len(rows) > 1 else np.zeros((2, rows.shape[1]), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "combiner.onnx"
        export_module(module.eval(), example, path, INPUT, [OUTPUT])
        onnx = path.read_bytes()
    _check_agreement(onnx, rows, _run(module))
    return onnx


def _run(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def run(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(rows)).numpy()

    return run


def _check_agreement(onnx: bytes, rows: np.ndarray, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    rows = rows[:CHECKED]
    if not len(rows):
        return
    ours = expected(rows)
    worst = np.abs(session.run([OUTPUT], {INPUT: rows})[0] - ours).max(axis=1) / max(1, np.abs(ours).max())
    # A score within rounding of a cut may fall to either side: one row in a hundred is forgiven.
    if not np.quantile(worst, 0.99) <= TOLERANCE:
        raise BundleError("combiner", f"ONNX differs by {worst.max():.2g}", f"at most {TOLERANCE}", "Please report it.")
