"""Cells x seeds as ordinary run folders, cheap ones first: finished runs are skipped, interrupted ones go on.

OUT/plan.json             what was asked; another question needs another folder
OUT/runs/NAME-seedK/      run folders of `m2cnn train`
OUT/predictions/          what the report needs of them (m2cnn.paper.evidence)
OUT/failed.json           runs that failed, with the reason
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import m2cnn
from m2cnn.data.guard import Guarded, guard
from m2cnn.data.leaks import refuse_across_splits
from m2cnn.data.manifest import Manifest
from m2cnn.data.opening import complete
from m2cnn.data.survey import refuse_changed
from m2cnn.errors import M2cnnError, SettingError
from m2cnn.paper import evidence
from m2cnn.paper.grid import Cell, Pattern, parts_of, stage_work
from m2cnn.paper.noise import noisy
from m2cnn.paper.progress import TableBar
from m2cnn.part import precision_of
from m2cnn.recipe import Recipe
from m2cnn.systems import get
from m2cnn.tables import write_json
from m2cnn.train import DONE, LEAKS, PICTURES, RUN, resume, train, with_splits

PLAN, FAILED, RUNS = "plan.json", "failed.json", "runs"
SCHEMA = "m2cnn.table/1"
FULL = (errno.ENOSPC, errno.EDQUOT)  # a full disk fails every run: it stops the table


@dataclass(frozen=True)
class Job:
    """One run of a cell."""

    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        return f"{self.cell.name}-seed{self.seed}"

    @property
    def recipes(self) -> list[Recipe]:
        """Of the members, in the order of their training."""
        return [recipe for _, recipe in parts_of(self.cell.seeded(self.seed))]


@dataclass(frozen=True)
class Plan:
    """What a table asks. data: digest of the manifest.  command: as typed, for the report.  asked: what else the report
    of this table says of it.
    """

    table: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    data: str
    command: str = ""
    asked: dict[str, Any] = field(default_factory=dict)

    def jobs(self, cells: Sequence[Cell] | None = None, seeds: Sequence[int] | None = None) -> list[Job]:
        """Seed by seed, and cheap cells first: a table that is stopped early says the most it can."""
        work = {cell.name: sum(stage_work(cell)) for cell in self.cells}
        wanted = sorted(self.cells if cells is None else cells, key=lambda cell: work[cell.name])
        return [Job(cell, seed) for seed in (self.seeds if seeds is None else seeds) for cell in wanted]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "m2cnn": m2cnn.__version__,
            "table": self.table,
            "command": self.command,
            "data": self.data,
            "asked": self.asked,
            "seeds": list(self.seeds),
            "cells": [cell.to_dict() for cell in self.cells],
        }


def read_plan(out: Path) -> Plan:
    """Raises SettingError for a folder that is no table's."""
    try:
        values = json.loads((out / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise SettingError(out / PLAN, f"unreadable ({cause})", "the folder of a table", "Check --out.") from cause
    if values.get("schema") != SCHEMA:
        raise SettingError(out / PLAN, f"schema is {values.get('schema')!r}", f'"{SCHEMA}"', "Use the same m2cnn.")
    cells = tuple(Cell.from_dict(cell) for cell in values["cells"])
    told = (values["data"], values["command"], values.get("asked", {}))
    return Plan(values["table"], cells, tuple(values["seeds"]), *told)


def settle(out: Path, plan: Plan) -> Plan:
    """Write the plan, or check it against the one that is there. More seeds are no other plan.

    Raises SettingError where `out` holds the runs of another plan.
    """
    if (out / PLAN).is_file():
        before = read_plan(out)
        if change := _change(before, plan):
            repair = "Give the same settings to go on, or another --out."
            raise SettingError(out / PLAN, f"it was begun with another {change}", "the same plan", repair)
        plan = replace(plan, seeds=tuple(sorted({*before.seeds, *plan.seeds})))
    write_json(out / PLAN, plan.to_dict())
    return plan


def _change(before: Plan, now: Plan) -> str:
    """What differs, in words; empty where nothing does."""
    for name in ("table", "data"):
        if getattr(before, name) != getattr(now, name):
            return name
    old, new = ({cell.name: cell.to_dict() for cell in plan.cells} for plan in (before, now))
    if old.keys() != new.keys():
        return f"set of cells ({', '.join(sorted(old.keys() ^ new.keys()))})"
    for name, cell in old.items():
        if place := _first_difference(cell["recipe"], new[name]["recipe"]):
            return f"setting of {name}, {place}"
    return ""


def _first_difference(one: Any, other: Any, place: str = "") -> str:
    """Where two nested plain values differ first, and how; empty where they do not."""
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(key, one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    elif one != other:
        return f"{place}: {one} there, {other} asked for"
    return next((found for key, *pair in pairs if (found := _first_difference(*pair, f"{place}.{key}".strip(".")))), "")


def settled_precision(pattern: Pattern, out: Path) -> str:
    """What precision "auto" means for every run of this table: measured once, at the middle size, then kept."""
    if (out / PLAN).is_file():
        return read_plan(out).cells[0].recipe.precision
    member = get(pattern.recipe.system).customised(pattern.recipe).members[0]
    return precision_of(member, replace(pattern.recipe, stages=pattern.stages([(1, 0)])))


# --- running ---


@dataclass
class Table:
    """A table that is being made. after: called after every run, to write the report."""

    out: Path
    plan: Plan
    manifest: Manifest
    cache: Path | None = None
    after: Callable[[], None] = lambda: None
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def guarded(self) -> Guarded:
        """One look for leaks, for all runs. Raises DataError where one photograph stands on two sides."""
        found = guard(complete(self.manifest), self.pictures, self.out / LEAKS, self._workers)
        refuse_changed(found.seen)
        refuse_across_splits(found.manifest, found.twins, str(self.out / LEAKS))
        return found

    @property
    def pictures(self) -> Path:
        return self.cache or self.out / PICTURES

    @property
    def _workers(self) -> int:
        return max(1, *(cell.recipe.workers for cell in self.plan.cells))

    def run(self, cells: Sequence[Cell] | None = None, seeds: Sequence[int] | None = None) -> dict[str, str]:
        """Make the runs of `cells` and `seeds` (default: all) that are not there yet; the reasons of those that failed.

        KeyboardInterrupt after Ctrl-C, with the run in hand saved; the same call goes on.
        """
        self.failed = read_failed(self.out)
        jobs = [job for job in self.plan.jobs(cells, seeds) if not evidence.is_kept(self.out, job.name)]
        work = {job.cell.name: stage_work(job.cell) for job in jobs}
        if any(not (self.folder(job) / RUN).is_file() for job in jobs):
            _ = self.guarded  # what is wrong with the photographs is wrong for all of them
        with TableBar(sum(sum(work[job.cell.name]) for job in jobs), len(jobs)) as bar:
            for job in jobs:
                self._one(job, bar, work[job.cell.name])
        return self.failed

    def _one(self, job: Job, table: TableBar, work: Sequence[float]) -> None:
        bar = table.run(job.name, work, job.recipes)
        try:
            self._train(job, bar)
            evidence.keep(self.out, job.name, self.folder(job), job.cell, job.seed, bar.since())
            self.failed.pop(job.name, None)
        except (M2cnnError, MemoryError, OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            self.failed[job.name] = reason(error)
            table.say(job.name, f"failed: {self.failed[job.name]}")
        bar.close()
        write_json(self.out / FAILED, self.failed)
        self.after()

    def folder(self, job: Job) -> Path:
        return self.out / RUNS / job.name

    def _train(self, job: Job, bar: Any) -> None:
        folder = self.folder(job)
        if (folder / DONE).is_file():
            return
        if (folder / RUN).is_file():
            resume(folder, cache=self.pictures, images=self.manifest.root, bar=bar)
            return
        shutil.rmtree(folder, ignore_errors=True)  # what a run left that broke before it began
        recipe = job.cell.seeded(job.seed)
        train(recipe, self.manifest, folder, cache=self.pictures, guarded=self.given(job, recipe), bar=bar)

    def given(self, job: Job, recipe: Recipe) -> Guarded:
        """The photographs that a run is trained on, as the guard saw them."""
        if not job.cell.noise:
            return self.guarded
        split = with_splits(self.guarded.manifest, recipe, self.guarded.twins)
        return self.guarded._replace(manifest=noisy(split, job.cell.noise, job.seed))


def reason(error: Exception) -> str:
    """The first line of what went wrong."""
    text = str(error).strip().splitlines()
    return text[0] if isinstance(error, M2cnnError) and text else f"{type(error).__name__}: {text[0] if text else ''}"


def read_failed(out: Path) -> dict[str, str]:
    """The runs that failed when they were last tried."""
    path = out / FAILED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
