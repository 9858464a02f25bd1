"""Cross-validation: every patient is measured once, by a model that chose nothing on him.

Each fold is an ordinary run: trained on the other patients, its passes and cuts chosen on a part of those, measured on
the fold. Folds are of patients, or of sources: what is a model worth in a clinic that it never saw? Nested, so that the
pooled predictions are of photographs that had no say in anything.

OUT/plan.json, OUT/runs/, OUT/predictions/, OUT/failed.json    as of a table (m2cnn.paper.running)
OUT/pooled/predictions.csv, metrics.json                       all folds together
OUT/pooled/NAME/metrics.json                                   of a source, where there are several
OUT/pooled/points/NAME/metrics.json                            of an operating point, where the recipe calibrates
OUT/crossval.md                                                the page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from m2cnn.bootstrap import shown
from m2cnn.bundle import load_bundle
from m2cnn.calibration import Point
from m2cnn.data.guard import Guarded
from m2cnn.data.manifest import Manifest
from m2cnn.data.splits import free_sources, nested, without_each_source
from m2cnn.errors import SettingError
from m2cnn.grades import ENDPOINTS
from m2cnn.paper.evidence import WHOLE, read_kept
from m2cnn.paper.grid import Cell
from m2cnn.paper.running import RUNS, Job, Plan, Table
from m2cnn.predictions import NO_GRADE, PREDICTIONS, Predictions, read_predictions, told_sources, write_predictions
from m2cnn.recipe import Recipe
from m2cnn.summary import summarise, write_metrics
from m2cnn.tables import write_atomically

POOLED, POINTS, PAGE = "pooled", "points", "crossval.md"
SHOWN = ("qwk", "accuracy", "mse", "referable_auc", "referable_sensitivity", "referable_specificity")
AT_POINTS = ("referable_sensitivity", "referable_specificity", "referable_ppv", "referable_npv")
MOST = 100  # folds


def crossval_plan(recipe: Recipe, manifest: Manifest, folds: int | None = 5, command: str = "") -> Plan:
    """One cell per fold. folds: how many, or None for one fold of each source that has photographs to measure on.

    The recipe's [split] tells the rest: of the patients who are not held back, val / (train + val) are those that
    passes and cuts are chosen on. Raises SettingError for a number of folds that means nothing.
    """
    if folds is None:
        names = free_sources(manifest, recipe.split.lockbox)
    elif 2 <= folds <= MOST:
        names = [f"fold-{number}" for number in range(1, folds + 1)]
    else:
        raise SettingError("folds", f"{folds}", f"2..{MOST}", "Folds by source: --by source.")
    cells = tuple(Cell(name, "fold", 0, recipe, (WHOLE,)) for name in names)
    return Plan("crossval", cells, (recipe.seed,), manifest.digest(), command, {"folds": folds})


class CrossValidation(Table):
    """A table whose cells differ in the patients that are held back."""

    @cached_property
    def folds(self) -> dict[str, Manifest]:
        """The photographs of each fold with their splits, by its name."""
        split, folds = self.plan.cells[0].recipe.split, self.plan.asked["folds"]
        rest = (split.val / (split.train + split.val), split.seed, split.lockbox, self.guarded.twins)
        if folds is None:
            return without_each_source(self.guarded.manifest, *rest)
        names = [cell.name for cell in self.plan.cells]
        return dict(zip(names, nested(self.guarded.manifest, folds, *rest), strict=True))

    def given(self, job: Job, recipe: Recipe) -> Guarded:
        fold = self.folds[job.cell.name]
        here = {row.image for row in fold}
        twins = [twin for twin in self.guarded.twins if {twin.first, twin.second} <= here]
        return self.guarded._replace(manifest=fold, twins=twins)


# --- what they say together ---


def write_report(out: Path, plan: Plan, manifest: Manifest | None = None, replicates: int = 2000) -> dict[str, Any]:
    """Write what the folds that are there say together; returns the pooled summary, {} where no fold is done.

    manifest: tells the sources, which predictions do not name; without it, an earlier report does.
    """
    found = {job.cell.name: read_kept(out, job.name, WHOLE, "test") for job in plan.jobs()}
    done = {name: table for name, table in found.items() if table is not None}
    if not done:
        return {}
    pooled = joined(list(done.values()))
    context = {"folds": list(done), "missing": [name for name in found if name not in done], "command": plan.command}
    summary = _kept(out / POOLED, pooled, replicates, context)
    parts = {name: summarise(table, replicates) for name, table in done.items()}
    sources = {row.image: row.source for row in manifest} if manifest else told_sources(out / POOLED)
    for source, rows in _by_source(pooled, sources).items():
        parts[source] = _kept(out / POOLED / source, pooled.select(rows), replicates, context | {"source": source})
    points = _at_points(out, plan, replicates, sources)
    write_atomically(out / PAGE, _page(plan, summary, parts, points).encode())
    return summary


def decided(table: Predictions, point: Point) -> Predictions:
    """The table with an operating point's decisions as grades: 2 where it refers, else 0, so that the figures of
    referable disease are the point's."""
    refer = table.severity.astype(np.float64) >= point.severity  # as the grader compares them
    decoded = np.where(table.gradable, np.where(refer, ENDPOINTS["referable"], 0), NO_GRADE)
    return replace(table, decoded=decoded, probabilities=np.full_like(table.probabilities, np.nan), place=None)


def _at_points(out: Path, plan: Plan, replicates: int, sources: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each operating point -> what it is worth on the folds of the runs that are there, each by its own bundle; also
    of each source."""
    said: dict[str, dict[str, Predictions]] = {}
    for job in plan.jobs():
        run = out / RUNS / job.name
        if not (run / "test" / PREDICTIONS).is_file() or not (run / "bundle").is_dir():
            continue
        table, bundle = read_predictions(run / "test" / PREDICTIONS), load_bundle(run)
        if set(table.bundle.tolist()) <= {bundle.hash}:  # else calibrated anew, on who knows whom
            for point in bundle.calibration.points:
                said.setdefault(point.name, {})[job.cell.name] = decided(table, point)
    found = {}
    for name, tables in said.items():
        table, folder = joined(list(tables.values())), out / POOLED / POINTS / name
        context = {"folds": list(tables), "command": plan.command, "point": name}
        found[name] = _kept(folder, table, replicates, context)
        for source, rows in _by_source(table, sources).items():
            found[f"{name}, {source}"] = summarise(table.select(rows), replicates)
    return found


def joined(tables: Sequence[Predictions]) -> Predictions:
    """Several tables as one; DataError for a photograph that stands twice."""
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in _COLUMNS}
    return Predictions(**columns)


_COLUMNS = [field.name for field in fields(Predictions)]


def _kept(folder: Path, table: Predictions, replicates: int, context: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(table, replicates, context=context)
    write_predictions(replace(table, place=None), folder / PREDICTIONS)
    write_metrics(summary, folder / "metrics.json")
    return summary


def _by_source(pooled: Predictions, source: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The rows of each source; {} where there is one alone, or nobody knows."""
    names = np.array([source.get(image, "") for image in pooled.image])
    found = {str(name): np.flatnonzero(names == name) for name in np.unique(names) if name}
    return found if len(found) > 1 else {}


def _page(
    plan: Plan, summary: dict[str, Any], parts: dict[str, dict[str, Any]], points: dict[str, dict[str, Any]]
) -> str:
    head = _columns("of", SHOWN)
    lines = [_line(name, part) for name, part in {"**all**": summary, **parts}.items()]
    missing = summary["context"]["missing"]
    return "\n".join(
        [
            "# Cross-validation",
            "",
            f"`{plan.command}`" if plan.command else "",
            "",
            "Every photograph is measured by the model of the fold that held its patient back; passes and cuts were "
            f"chosen on other patients. 95 % intervals from {summary['bootstrap']['replicates']} bootstrap samples of "
            "patients; they do not hold what another training would change.",
            f"**Not done yet: {', '.join(missing)}.**" if missing else "",
            "",
            *head,
            *lines,
            "",
            *_points_section(points),
            summary["disclaimer"],
            "",
        ]
    )


def _points_section(points: dict[str, dict[str, Any]]) -> list[str]:
    if not points:
        return []
    told = [f"{name} of {', '.join(part['context']['folds'])}" for name, part in points.items() if part["context"]]
    lead = f"Each photograph by the point of its own fold, fitted on validation patients: {'; '.join(told)}."
    head = ["## Operating points", "", lead]
    lines = [_line(name, part, AT_POINTS) for name, part in points.items()]
    return [*head, "", *_columns("point", AT_POINTS), *lines, ""]


def _columns(first: str, metrics: Sequence[str]) -> list[str]:
    return [f"| {first} | photographs | patients | {' | '.join(metrics)} |", "|---" * (3 + len(metrics)) + "|"]


def _line(name: str, summary: dict[str, Any], metrics: Sequence[str] = SHOWN) -> str:
    cells = [shown(**summary["metrics"][metric]) for metric in metrics]
    return f"| {name} | {summary['n_scored']} | {summary['n_patients']} | " + " | ".join(cells) + " |"
