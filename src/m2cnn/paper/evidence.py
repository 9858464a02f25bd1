"""What is kept of a finished run, small enough to be committed, and enough to write the report again.

OUT/predictions/NAME-seedK/scores-val.csv scores-test.csv prob-val.csv prob-test.csv    predictions, one file per decode
OUT/predictions/NAME-seedK/metrics.csv                                                  one row per pass
OUT/predictions/NAME-seedK/facts.json                                                   photographs, time, work, bundle
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import m2cnn
from m2cnn.bundle import Bundle, load_bundle
from m2cnn.cuts import fit_cuts
from m2cnn.data.manifest import read_manifest
from m2cnn.grades import NUM_GRADES
from m2cnn.paper.grid import Cell, stage_work
from m2cnn.part import METRICS, read_history
from m2cnn.predictions import NO_GRADE, Predictions, read_predictions, write_predictions
from m2cnn.tables import write_atomically
from m2cnn.tasks import ROUNDING_CUTS, Classification, Task
from m2cnn.train import ENVIRONMENT, MANIFEST

FACTS, HOME = "facts.json", "predictions"
SPLITS = ("val", "test")
DIGITS = 4  # of probabilities and severities that are kept; the grade itself is kept too


@dataclass(frozen=True)
class Facts:
    """What a run cost. photographs, patients: of training.  multiply_adds: passes x photographs x forward.

    seconds: of training, validation included.  images_per_second: of training, mean over the passes' seconds.
    best: validation kappa of the pass that was kept.
    """

    cell: str
    seed: int
    photographs: int
    patients: int
    passes: int
    multiply_adds: int
    seconds: float
    images_per_second: float
    best: float
    bundle: str
    m2cnn: str
    accelerator: str
    threads: int


def evidence_of(out: Path, run: str) -> Path:
    return out / HOME / run


def is_kept(out: Path, run: str) -> bool:
    """Whether all that the report needs of a run is there."""
    return (evidence_of(out, run) / FACTS).is_file()


def keep(out: Path, run: str, folder: Path, cell: Cell, seed: int) -> None:
    """Copy from a finished run folder what the report needs; the facts last, so that half a copy is none."""
    bundle, home = load_bundle(folder), evidence_of(out, run)
    said = {split: folder / split / "predictions.csv" for split in SPLITS}
    tables = {split: read_predictions(path) for split, path in said.items() if path.is_file()}
    home.mkdir(parents=True, exist_ok=True)
    for decode in cell.decodes:
        task = task_of(bundle.task, decode, tables["val"], cell.recipe.fit_cuts)
        for split, table in tables.items():
            write_predictions(rounded(read_as(table, task, decode)), home / f"{decode}-{split}.csv")
    write_atomically(home / METRICS, (folder / METRICS).read_bytes())
    facts = json.dumps(vars(_facts(folder, bundle, cell, seed)), indent=1)
    write_atomically(home / FACTS, facts.encode() + b"\n")


def task_of(task: Task, decode: str, val: Predictions, fitted: bool) -> Task:
    """The task with the cuts that belong to `decode`: those of the run are of its own decode.

    val: what the run says of validation patients. Where cuts are `fitted`, another decode's are fitted on them too, so
    that no decode has an advantage.
    """
    if decode == task.decode or task.rule == "argmax" or not fitted:
        return task
    read = read_as(val, task, decode)
    known = read.gradable & (read.grade != NO_GRADE)
    return task.with_cuts(tuple(map(float, fit_cuts(read.severity[known], read.grade[known], ROUNDING_CUTS))))


def read_as(table: Predictions, task: Task, decode: str) -> Predictions:
    """The same outputs, read by another decode: "scores" is the severity that the table has, "prob" its probabilities.

    task: the one that wrote the table; its rule and cuts hold.
    """
    if decode == task.decode:
        # A score does not need the probabilities beside it, and the file is a third smaller.
        plain = np.full_like(table.probabilities, np.nan)
        return replace(table, probabilities=plain, place=None) if decode == "scores" else table
    logits = np.log(np.maximum(table.probabilities[table.gradable], np.finfo(np.float32).tiny))
    read = Classification(rule=task.rule, cuts=task.cuts).read(logits.reshape(-1, NUM_GRADES))
    severity, decoded = table.severity.copy(), table.decoded.copy()
    severity[table.gradable], decoded[table.gradable] = read.severity, read.grade
    return replace(table, severity=severity, decoded=decoded, place=None)


def rounded(table: Predictions) -> Predictions:
    """The table with few digits; its grades stay those of the full numbers."""
    few = {name: getattr(table, name).round(DIGITS) for name in ("probabilities", "severity")}
    return replace(table, **few, place=None)


def _facts(folder: Path, bundle: Bundle, cell: Cell, seed: int) -> Facts:
    training = bundle.settings["training"]
    history = read_history(folder)
    environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    photographs, seconds = training["photographs"], sum(row["seconds"] for row in history)
    drawn = cell.recipe.sampling.total(photographs)  # in a pass
    last = [row["val_kappa"] for row in history if row["stage"] == history[-1]["stage"]]
    return Facts(
        cell.name,
        seed,
        photographs,
        len(set(read_manifest(folder / MANIFEST).select("train").patients())),
        cell.passes,
        sum(stage_work(cell)) * drawn,
        round(seconds, 2),
        round(drawn * cell.passes / max(seconds, 1e-9), 2),
        float(np.nanmax([-1.0, *last])),
        bundle.hash,
        m2cnn.__version__,
        environment["accelerator"],
        environment["threads"],
    )


def read_facts(out: Path, run: str) -> Facts:
    values: dict[str, Any] = json.loads((evidence_of(out, run) / FACTS).read_text(encoding="utf-8"))
    return Facts(**{field.name: values[field.name] for field in fields(Facts)})


def read_kept(out: Path, run: str, decode: str, split: str) -> Predictions | None:
    """The predictions of a run by one decode; None where it has none for that split."""
    path = evidence_of(out, run) / f"{decode}-{split}.csv"
    return read_predictions(path) if path.is_file() else None
