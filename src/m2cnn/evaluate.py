"""A bundle and a manifest -> predictions.csv and metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from m2cnn.bundle import Bundle
from m2cnn.data.lockbox import lockbox_rows
from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.splits import check_sides
from m2cnn.errors import DataError, SettingError
from m2cnn.grader import Grader
from m2cnn.grades import NUM_GRADES, Grading
from m2cnn.predictions import Predictions, write_predictions
from m2cnn.summary import summarise, write_metrics

PREDICTIONS, METRICS = "predictions.csv", "metrics.json"


def evaluate(
    bundle: str | Path,
    manifest: Manifest,
    out: str | Path,
    *,
    splits: Sequence[str] = ("test",),
    backend: str = "onnx",
    replicates: int = 2000,
    seed: int = 0,
    lockbox: str | Path | None = None,
) -> dict[str, Any]:
    """Grade the photographs of `splits` and measure; writes OUT/predictions.csv and OUT/metrics.json, returns the
    latter.

    Photographs without a grade are predicted, not measured. lockbox: for splits=("lockbox",), the folder of the
    manifest's CSV, where its opening is recorded. Raises DataError where there is nothing to measure, LockboxError for
    a lockbox that is not open.
    """
    if replicates < 1:
        raise SettingError("replicates", str(replicates), "1 or more", "2000 gives steady intervals.")
    check_sides(manifest)
    chosen, records = (manifest.select(*splits), None) if lockbox is None else lockbox_rows(manifest, lockbox)
    grader = Grader.load(bundle, backend)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    predictions = predict(grader, chosen)
    if not np.any(predictions.grade >= 0):
        raise DataError(f"split {', '.join(splits)}", "no photograph with a grade", "graded photographs to measure on")
    summary = summarise(predictions, replicates, seed, _context(grader.bundle, manifest, splits, records))
    write_predictions(predictions, out / PREDICTIONS)
    write_metrics(summary, out / METRICS)
    return summary


def predict(grader: Grader, manifest: Manifest) -> Predictions:
    """One row per photograph of the manifest, in its order."""
    gradings = grader.grade_all(manifest.path(row) for row in manifest)
    return table(manifest.rows, list(tqdm(gradings, "grading", len(manifest), unit="photo", disable=None, leave=False)))


def table(rows: Sequence[Row], gradings: Sequence[Grading]) -> Predictions:
    """The predictions table of photographs and what was said of them."""
    nothing = (np.nan,) * NUM_GRADES
    return Predictions(
        image=np.array([row.image for row in rows]),
        patient=np.array([row.patient for row in rows]),
        eye=np.array([row.eye for row in rows]),
        split=np.array([row.split for row in rows]),
        grade=np.array([-1 if row.grade is None else row.grade for row in rows]),
        probabilities=np.array([g.probabilities or nothing for g in gradings]),
        severity=np.array([np.nan if g.severity is None else g.severity for g in gradings]),
        decoded=np.array([-1 if g.grade is None else g.grade for g in gradings]),
        gradable=np.array([g.gradable for g in gradings]),
        reason=np.array([g.reason for g in gradings]),
        system=np.array([g.system for g in gradings]),
        bundle=np.array([g.model for g in gradings]),
    )


def _context(bundle: Bundle, manifest: Manifest, splits: Sequence[str], records: list[dict] | None) -> dict[str, Any]:
    context = {"system": bundle.system, "bundle": bundle.hash, "split": ",".join(splits), "manifest": manifest.digest()}
    context["training_manifest"] = bundle.settings["training"]["manifest"]
    return context | ({"lockbox": records} if records else {})
