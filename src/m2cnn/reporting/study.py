"""What a report is made from: predictions with the truth, and whatever else is there to tell about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from m2cnn.bundle import Bundle, load_bundle
from m2cnn.compare import measured, read_run, table_of
from m2cnn.data.manifest import Manifest, file_hash
from m2cnn.data.opening import read_data
from m2cnn.errors import DataError, SettingError
from m2cnn.evaluate import METRICS
from m2cnn.patients import by_patient
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.subgroups import Group, graded_rows, groups_of, read_groups
from m2cnn.summary import check_one_system, read_metrics, summarise
from m2cnn.truth import read_truth


@dataclass(frozen=True)
class Study:
    """name: of the folder.  notes: how anyone's table was understood.  context: of metrics.json, {} without one.

    bundle: the model that graded, None where it was not named.  manifest: of the photographs, None where not named.
    labels: columns by which photographs are told apart, one text for each.
    """

    name: str
    table: Path
    predictions: Predictions
    replicates: int
    notes: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None
    manifest: Manifest | None = None
    labels: Mapping[str, list[str]] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Of photographs."""
        return summarise(self.predictions, self.replicates, prevalence=self.prevalence)

    @cached_property
    def people(self) -> Predictions:
        return by_patient(self.predictions)

    @cached_property
    def of_people(self) -> dict[str, Any]:
        """Of patients."""
        return summarise(self.people, self.replicates, prevalence=self.prevalence)

    @cached_property
    def scored(self) -> Predictions:
        """Gradable photographs with a true grade."""
        p = self.predictions
        return p.select(p.gradable & (p.grade != NO_GRADE))

    @cached_property
    def groups(self) -> list[Group]:
        return groups_of(self.predictions, self.labels, self.replicates)

    @cached_property
    def digest(self) -> str:
        return file_hash(self.table)


def read_study(
    folder: str | Path,
    *,
    truth: str | Path | None = None,
    model: str | Path | None = None,
    data: str | Path | None = None,
    images: str | Path | None = None,
    groups: str | Path | None = None,
    prevalence: Mapping[str, float] | None = None,
    replicates: int = 2000,
) -> Study:
    """A folder of `m2cnn evaluate`, a run that was evaluated, or anyone's table.

    model: that graded.  data, images: as of read_data, the photographs.  groups: a CSV as of read_groups.
    Raises DataError for what cannot be measured, SettingError for a model that did not grade these photographs.
    """
    folder = measured(Path(folder))
    name, reading = read_run(folder, read_truth(truth) if truth else None)
    predictions = reading.predictions
    check_one_system(predictions)
    metrics = folder / METRICS
    context = read_metrics(metrics)["context"] if folder.is_dir() and metrics.is_file() else {}
    if not np.any((predictions.grade != NO_GRADE) & predictions.gradable):
        knew = context.get("left_out_as_trained_on")
        got = "no photograph has a grade and a true grade"
        got += f"; {knew} were left out as known to the model" if knew else ""
        repair = "Give photographs that the model never saw." if knew else "Give the truth: --truth labels.csv."
        raise DataError(folder, got, "one or more", repair)
    bundle = load_bundle(model) if model else None
    if bundle is not None and set(predictions.bundle) != {bundle.hash}:
        got = f"graded by {', '.join(sorted(set(predictions.bundle) - {''})) or 'nobody knows which model'}"
        raise SettingError("report --model", got, f"photographs that model {bundle.hash} graded", "Name that model.")
    manifest = graded_rows(read_data(data, images), predictions, data) if data else None
    labels = _labels(predictions, manifest)
    labels |= read_groups(groups, predictions.image, predictions.patient) if groups else {}
    return Study(
        *(name, table_of(folder), predictions, replicates, tuple(reading.notes), context, bundle, manifest, labels),
        dict(prevalence or {}),
    )


def _labels(predictions: Predictions, manifest: Manifest | None) -> dict[str, list[str]]:
    """What is known of every photograph without asking: the eye, and the source where a manifest tells it."""
    labels = {"eye": predictions.eye.tolist()} if (predictions.eye != "").any() else {}
    if manifest is not None:
        source = {row.image: row.source for row in manifest}
        if any(source.values()):
            labels["source"] = [source.get(image, "") for image in predictions.image.tolist()]
    return labels
