"""What is kept of a finished run, small enough to be committed, and enough to write the report again.

OUT/predictions/NAME-seedK/scores-val.csv scores-test.csv prob-val.csv prob-test.csv    predictions, one file per decode
OUT/predictions/NAME-seedK/metrics.csv                                                  one row per pass
OUT/predictions/NAME-seedK/own-val.csv own-test.csv metrics-MEMBER.csv                  of a whole entry
OUT/predictions/NAME-seedK/facts.json                                                   photographs, time, work, bundle
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

import m2cnn
from m2cnn.bundle import Bundle, load_bundle
from m2cnn.cuts import fit_cuts
from m2cnn.data.manifest import read_manifest
from m2cnn.grades import NUM_GRADES
from m2cnn.paper.grid import Cell, part_work, parts_of
from m2cnn.part import METRICS, name_of, read_history
from m2cnn.predictions import NO_GRADE, PREDICTIONS, Predictions, read_predictions, write_predictions
from m2cnn.tables import write_atomically, write_json
from m2cnn.tasks import ROUNDING_CUTS, Classification, Task
from m2cnn.train import ENVIRONMENT, MANIFEST

FACTS, HOME = "facts.json", "predictions"
SPLITS = ("val", "test")
OWN = "own"  # the decode of a whole entry: its grades as it gives them
WHOLE = "whole"  # the same, with its probabilities
DIGITS = 4  # of probabilities and severities that are kept; the grade itself is kept too


@dataclass(frozen=True)
class Facts:
    """What a run cost. photographs, patients: of training.  multiply_adds: passes x photographs x forward.

    seconds: of training, validation included.  images_per_second: of training, mean over the passes' seconds.
    best: validation kappa of the pass that was kept.
    after: seconds after the last pass: export, combiner, evaluation; of the process that ended the run.

    Of several members: photographs are the first one's, best is their mean, all else their sum.
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
    after: float = 0.0


def evidence_of(out: Path, run: str) -> Path:
    return out / HOME / run


def is_kept(out: Path, run: str) -> bool:
    """Whether all that the report needs of a run is there."""
    return (evidence_of(out, run) / FACTS).is_file()


def keep(out: Path, run: str, folder: Path, cell: Cell, seed: int, after: float = 0.0) -> None:
    """Copy from a finished run folder what the report needs; the facts last, so that half a copy is none."""
    bundle, home = load_bundle(folder), evidence_of(out, run)
    said = {split: folder / split / PREDICTIONS for split in SPLITS}
    tables = {split: read_predictions(path) for split, path in said.items() if path.is_file()}
    home.mkdir(parents=True, exist_ok=True)
    for decode in cell.decodes:
        task = task_of(bundle.task, decode, tables["val"], cell.recipe.fit_cuts)
        for split, table in tables.items():
            write_predictions(rounded(read_as(table, task, decode)), home / f"{decode}-{split}.csv")
    for name, part in parts_in(folder, cell).items():
        write_atomically(home / history_name(name), (part / METRICS).read_bytes())
    facts = replace(_facts(folder, bundle, cell, seed), after=round(after, 2))
    write_json(home / FACTS, vars(facts))


def parts_in(folder: Path, cell: Cell) -> dict[str, Path]:
    """Where the members of a run were trained, by name; "" for one that stands alone."""
    names = [member.name for member, _ in parts_of(cell.recipe)]
    members = folder / "members"
    return {name_of(name): members / name_of(name) for name in names} if members.is_dir() else {"": folder}


def history_name(member: str) -> str:
    return f"metrics-{member}.csv" if member else METRICS


def task_of(task: Task, decode: str, val: Predictions, fitted: bool) -> Task:
    """The task with the cuts that belong to `decode`: those of the run are of its own decode.

    val: what the run says of validation patients. Where cuts are `fitted`, another decode's are fitted on them too, so
    that no decode has an advantage.
    """
    if decode in (OWN, WHOLE, task.decode) or task.rule == "argmax" or not fitted:
        return task
    read = read_as(val, task, decode)
    known = read.gradable & (read.grade != NO_GRADE)
    return task.with_cuts(tuple(map(float, fit_cuts(read.severity[known], read.grade[known], ROUNDING_CUTS))))


def read_as(table: Predictions, task: Task, decode: str) -> Predictions:
    """The same outputs, read by another decode: "scores" is the severity that the table has, "prob" its probabilities,
    "own" the grade that it has, "whole" all that it has.

    task: the one that wrote the table; its rule and cuts hold.
    """
    if decode == WHOLE:
        return table
    if decode in (OWN, task.decode):
        # A grade and a score do not need the probabilities beside them, and the file is a third smaller.
        plain = np.full_like(table.probabilities, np.nan)
        return table if decode == "prob" else replace(table, probabilities=plain, place=None)
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
    environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    folders = list(parts_in(folder, cell).values())
    recipes = [recipe for _, recipe in parts_of(cell.recipe)]
    photographs = [load_bundle(part).settings["training"]["photographs"] for part in folders]
    drawn = [recipe.sampling.total(count) for recipe, count in zip(recipes, photographs, strict=True)]  # in a pass
    passes = [sum(stage.epochs for stage in recipe.stages) for recipe in recipes]
    work = [sum(stages) for stages in part_work(cell.recipe)]
    histories = [read_history(part) for part in folders]
    seconds = sum(row["seconds"] for history in histories for row in history)
    return Facts(
        cell.name,
        seed,
        photographs[0],
        len(set(read_manifest(folder / MANIFEST).select("train").patients())),
        sum(passes),
        sum(map(mul, work, drawn)),
        round(seconds, 2),
        round(sum(map(mul, drawn, passes)) / max(seconds, 1e-9), 2),
        float(np.mean([_best(history) for history in histories])),
        bundle.hash,
        m2cnn.__version__,
        environment["accelerator"],
        environment["threads"],
    )


def _best(history: list[dict[str, Any]]) -> float:
    """Validation kappa of the last stage's best pass."""
    last = [row["val_kappa"] for row in history if row["stage"] == history[-1]["stage"]]
    return float(np.nanmax([-1.0, *last]))


def read_facts(out: Path, run: str) -> Facts:
    values: dict[str, Any] = json.loads((evidence_of(out, run) / FACTS).read_text(encoding="utf-8"))
    return Facts(**{field.name: values[field.name] for field in fields(Facts) if field.name in values})


def read_kept(out: Path, run: str, decode: str, split: str) -> Predictions | None:
    """The predictions of a run by one decode; None where it has none for that split."""
    path = evidence_of(out, run) / f"{decode}-{split}.csv"
    return read_predictions(path) if path.is_file() else None
