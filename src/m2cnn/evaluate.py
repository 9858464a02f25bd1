"""A bundle and a manifest -> predictions.csv and metrics.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from m2cnn.bundle import Bundle
from m2cnn.data.known import CALIBRATION, ROLES, TRAIN, VAL, Met
from m2cnn.data.lockbox import lockbox_rows
from m2cnn.data.manifest import Manifest, Row, check_files
from m2cnn.data.pairing import some
from m2cnn.data.splits import check_sides
from m2cnn.data.survey import Seen, look_at_planes, refuse_changed, remembering, survey
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.foreign import read_anyones
from m2cnn.grader import Grader, Photo
from m2cnn.grades import NUM_GRADES, Grading
from m2cnn.kept import Kept, keeping
from m2cnn.predictions import PREDICTIONS, Predictions, write_predictions
from m2cnn.summary import checked_prevalence, summarise, write_metrics
from m2cnn.truth import read_truth

METRICS = "metrics.json"
RESULT = (PREDICTIONS, METRICS)
TRAINED_ON = ("refuse", "skip")
Memory = str | Path | Mapping[str, Seen] | None

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which photographs of a manifest are measured. sources: those of these alone, all where none is named.

    lockbox: for splits=("lockbox",), the folder of the manifest's CSV, where its opening is recorded.
    """

    splits: Sequence[str] = ("test",)
    sources: Sequence[str] = ()
    lockbox: str | Path | None = None

    def of(self, manifest: Manifest) -> tuple[Manifest, dict[str, Any]]:
        """These photographs, and what is to be said of the selection beside the numbers.

        Raises SettingError for a split or a source that there is not, LockboxError for a closed lockbox.
        """
        said: dict[str, Any] = {"split": ",".join(self.splits), "manifest": manifest.digest()}
        if self.lockbox is None:
            chosen = manifest.select(*self.splits)
        else:
            chosen, said["lockbox"] = lockbox_rows(manifest, self.lockbox)
        if self.sources:
            chosen, manifest = _of_sources(chosen, self.sources), _of_sources(manifest, self.sources)
            said["sources"] = list(self.sources)
        if self.lockbox is None and "all" in self.splits and len(chosen) < len(manifest):
            said["in_the_closed_lockbox"] = len(manifest) - len(chosen)
            log.info("%d photographs are in the lockbox, which stays closed", len(manifest) - len(chosen))
        return chosen, said


def evaluate(
    bundle: str | Path,
    manifest: Manifest,
    out: str | Path,
    selection: Selection = Selection(),
    *,
    backend: str = "onnx",
    replicates: int = 2000,
    trained_on: str = "refuse",
    memory: Memory = None,
    prevalence: Mapping[str, float] | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Grade the photographs of a selection and measure; writes OUT/predictions.csv and OUT/metrics.json, returns the
    latter.

    Photographs without a grade are predicted, not measured. trained_on: what happens when photographs are among those
    that the model was trained or calibrated on, or are its validation photographs under another split: "refuse", or
    "skip" them and say so.  memory: a folder that remembers what was seen of photographs, for a next time, or what
    a survey with fingerprints has seen of them.
    prevalence: as of `summarise`.  command: what was typed, kept beside the numbers.
    Raises DataError where there is nothing to measure or the model knows it, and what `Selection.of` raises.
    """
    _check_replicates(replicates)
    prevalence = checked_prevalence(prevalence or {})
    check_sides(manifest)
    chosen, said = selection.of(manifest)
    grader = Grader.load(bundle, backend)
    chosen, met = unknown_to(grader.bundle, manifest, chosen, memory, trained_on)
    if all(row.grade is None for row in chosen):
        got = "no photograph with a true grade" + (f" but {len(met)} that the model knows" if met else "")
        raise DataError(f"split {said['split']}", got, "photographs that it never saw, with their grades")
    out = Path(out)
    context = {"system": grader.bundle.system, "bundle": grader.bundle.hash} | said
    context["training_manifest"] = grader.bundle.settings["training"]["manifest"]
    context |= {"command": command} if command else {}
    context |= {"left_out_as_trained_on": len(met)} if met else {}
    with keeping(out / PREDICTIONS, grader.identity) as kept:
        return _written(predict(grader, chosen, kept), out, replicates, context, prevalence)


def evaluate_anyones(
    path: str | Path,
    out: str | Path,
    *,
    truth: str | Path | None = None,
    system: str = "",
    missing: str = "leave",
    replicates: int = 2000,
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Measure predictions that another program wrote (m2cnn.foreign); writes what `evaluate` does, in our columns.

    truth: a CSV of true grades, where the table does not carry them. context["notes"]: how the table was understood,
    and what did not match.  prevalence: as of `summarise`. Raises DataError for what cannot be understood.
    """
    _check_replicates(replicates)
    prevalence = checked_prevalence(prevalence or {})
    reading = read_anyones(path, read_truth(truth) if truth else None, system=system, missing=missing)
    if not np.any(reading.predictions.grade >= 0):
        repair = "Give the truth: --truth labels.csv, or a column gt."
        raise DataError(Path(path).name, "no photograph has a true grade", "one or more", repair)
    context = {
        "predictions": Path(path).name,
        "truth": Path(truth).name if truth else None,
        "notes": list(reading.notes),
    }
    return _written(reading.predictions, Path(out), replicates, context, prevalence)


def _check_replicates(replicates: int) -> None:
    if replicates < 1:
        raise SettingError("replicates", str(replicates), "1 or more", "2000 gives steady intervals.")


def _written(
    predictions: Predictions,
    out: Path,
    replicates: int,
    context: dict[str, Any],
    prevalence: Mapping[str, float],
) -> dict[str, Any]:
    summary = summarise(predictions, replicates, context=context, prevalence=prevalence)
    write_predictions(predictions, out / PREDICTIONS)
    write_metrics(summary, out / METRICS)
    return summary


def unknown_to(
    bundle: Bundle,
    manifest: Manifest,
    chosen: Manifest,
    memory: Memory,
    trained_on: str = "refuse",
    roles: Sequence[str] = ROLES,
) -> tuple[Manifest, list[Met]]:
    """`chosen` without the photographs that the model must not be measured on, and those.

    roles: of those that the model knows, which count.
    Raises DataError for the first of them where trained_on is "refuse", and where nothing is left.
    """
    if trained_on not in TRAINED_ON:
        raise SettingError("trained_on", f'"{trained_on}"', "a known way", did_you_mean(trained_on, TRAINED_ON))
    met = [one for one in _met(bundle, manifest, chosen, memory) if one.role in roles]
    if met and trained_on == "refuse":
        shown = some([f"{one.image} ({one.role}, {one.how})" for one in met])
        got = f"{len(met)} of {len(chosen)} photographs are known to the model: {shown}"
        repair = "Leave them out of the table (evaluate does with --trained-on skip)."
        raise DataError(f"bundle {bundle.hash}", got, "photographs it never saw", repair)
    known = {one.image for one in met}
    left = tuple(row for row in chosen if row.image not in known)
    if not left:
        raise DataError(f"bundle {bundle.hash}", "it knows all of these photographs", "photographs it never saw")
    return Manifest(left, chosen.root), met


def _met(bundle: Bundle, manifest: Manifest, chosen: Manifest, memory: Memory) -> list[Met]:
    split, known = {row.image: row.split for row in chosen}, bundle.known()
    if manifest.digest() == bundle.settings["training"]["manifest"]:
        # Its own set: training looked at every pair already, and closer than a bundle's fingerprints can.
        if changed := [problem.image for problem in check_files(chosen)]:
            got = f"{len(changed)} photographs are missing or have changed (sha256): {some(changed)}"
            raise DataError("manifest", got, "the photographs of the run", "Restore them.")
        calibration = known.digests(CALIBRATION)
        chosen_on = [row for row in chosen if row.split not in ("train", "val") and row.sha256 in calibration]
        taught = [Met(row.image, TRAIN, "same bytes") for row in chosen if row.split == "train"]
        return taught + [Met(row.image, CALIBRATION, "same bytes") for row in chosen_on]
    seen = {row.image: memory[row.image] for row in chosen} if isinstance(memory, Mapping) else _look(chosen, memory)
    refuse_changed(seen)
    # Measuring on validation photographs is what validation is; calling them a test is not.
    return [one for one in known.meet(seen) if one.role != VAL or split[one.image] != "val"]


def _look(chosen: Manifest, memory: str | Path | None) -> dict[str, Seen]:
    with remembering(memory) as folder:
        return survey(chosen, look_at_planes, folder)


def _of_sources(manifest: Manifest, sources: Sequence[str]) -> Manifest:
    have = {row.source for row in manifest}
    for name in set(sources) - have:
        raise SettingError("sources", f'"{name}"', "a source of the manifest", did_you_mean(name, have))
    rows = tuple(row for row in manifest if row.source in sources)
    return Manifest(rows, manifest.root)


def predict(grader: Grader, manifest: Manifest, kept: Kept | None = None) -> Predictions:
    """One row per photograph of the manifest, in its order; the photographs of a patient are seen together.

    kept: as of `Grader.grade_exams`.
    """
    order = sorted(range(len(manifest)), key=lambda i: manifest.rows[i].patient)
    groups = groupby(order, key=lambda i: manifest.rows[i].patient)
    exams = ([Photo(manifest.path(manifest.rows[i]), manifest.rows[i].eye) for i in rows] for _, rows in groups)
    with tqdm(desc="grading", total=len(manifest), unit="photo", disable=None, leave=False) as bar:
        said = []
        for gradings in grader.grade_exams(exams, kept=kept):
            said += gradings
            bar.update(len(gradings))
    return table(manifest.rows, [grading for _, grading in sorted(zip(order, said, strict=True), key=itemgetter(0))])


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
