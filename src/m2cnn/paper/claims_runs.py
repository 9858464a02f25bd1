"""What `m2cnn table claims` runs itself: the losses with wrong labels, and a look at the gradients of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from m2cnn.data.manifest import Manifest
from m2cnn.errors import M2cnnError, SettingError
from m2cnn.paper.claims import Source, read_source
from m2cnn.paper.claims_page import write_report
from m2cnn.paper.evidence import FACTS, evidence_of, is_kept
from m2cnn.paper.gradients import of_run, read_gradients, write_gradients
from m2cnn.paper.grid import Cell, chosen
from m2cnn.paper.running import FAILED, PLAN, RUNS, Job, Plan, Table, read_failed, read_plan, reason, settle
from m2cnn.tables import write_atomically, write_json
from m2cnn.train import DONE, PICTURES

GRADIENTS = "gradients.csv"
LOSSES = ("mse", "ce", "mt")
LOOKED_AT = (("mt", 0), ("mt", 1), ("mt", 2), ("direct", 2), ("m2cnn", 2))  # arm, rung


def noise_cells(cells: Sequence[Cell], shares: Sequence[float]) -> tuple[Cell, ...]:
    """The three losses at the smallest size of an ablation, clean under its names and with each share of wrong labels.

    Raises SettingError for shares that are none.
    """
    if not shares or len(set(shares)) < len(shares) or not all(0 < share <= 1 for share in shares):
        raise SettingError("--shares", f"{list(shares)}", "different shares above 0, up to 1", "For example 0.05,0.2.")
    small = [cell for cell in cells if cell.rung == 0 and cell.arm in LOSSES]
    wrong = [replace(cell, name=f"{cell.name}-noise{100 * s:g}", noise=s) for s in shares for cell in small]
    return (*small, *wrong)


def claims_plan(ablation: Source, shares: Sequence[float], seeds: Sequence[int], command: str) -> Plan:
    """The claims' own table, on the ablation's data."""
    return Plan("claims", noise_cells(ablation.plan.cells, shares), tuple(seeds), ablation.plan.data, command)


def adopt(out: Path, plan: Plan, ablation: Source) -> list[str]:
    """Copy the clean runs that the ablation has already; their names. The facts last: half a copy is none."""
    done = []
    for job in plan.jobs():
        theirs = evidence_of(ablation.out, job.name)
        if job.cell.noise or is_kept(out, job.name) or not is_kept(ablation.out, job.name):
            continue
        mine = evidence_of(out, job.name)
        mine.mkdir(parents=True, exist_ok=True)
        for file in sorted(theirs.iterdir(), key=lambda path: path.name == FACTS):
            write_atomically(mine / file.name, file.read_bytes())
        done.append(job.name)
    return done


def read_sources(folders: Sequence[Path], replicates: int = 2000) -> list[Source]:
    """The ablations, named by their folders, or by their paths as given where two have the same name.

    Raises SettingError for a folder of another table.
    """
    names = [folder.resolve().name for folder in folders]
    unique = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    sources = []
    for name, folder in zip(unique, folders, strict=True):
        plan = read_plan(folder)
        if plan.table != "ablation":
            raise SettingError(folder, f"table {plan.table}", "an ablation", "Make one: m2cnn table ablation.")
        sources.append(read_source(name, folder, plan, replicates))
    return sources


@dataclass
class Claims:
    """The claims of some ablations, in `out`. plan: of the runs with wrong labels, as asked for.  cache: for prepared
    pictures of the first ablation's photographs (default: where the ablation has them)."""

    out: Path
    sources: Sequence[Source]
    plan: Plan
    cache: Path | None = None

    def run(self, manifest: Manifest, only: Sequence[str] = ()) -> None:
        """Train what is missing with wrong labels. Raises SettingError for other photographs than the ablation's."""
        first = self.sources[0]
        if manifest.digest() != self.plan.data:
            expected = f"those of {first.out}"
            raise SettingError("--data", "other photographs than the ablation's", expected, "It comes first.")
        seeds, self.plan = self.plan.seeds, settle(self.out, self.plan)
        adopt(self.out, self.plan, first)
        cells = chosen(self.plan.cells, only)
        Table(self.out, self.plan, manifest, self._pictures(first), after=self.report).run(cells, seeds)

    def _pictures(self, source: Source) -> Path:
        return self.cache if self.cache and source is self.sources[0] else source.out / PICTURES

    def look(self, images: str | Path | None = None) -> None:
        """Measure the gradients of every run that is there and was not looked at; gradients.csv keeps them.

        images: where the first ablation's photographs are now, if they moved. What fails is named in failed.json, and
        the rest goes on; a run folder that is gone is passed over, for what was kept is kept.
        """
        measured, failed = read_gradients(self.out / GRADIENTS), read_failed(self.out)
        seen = {(one.source, one.cell, one.seed) for one in measured}
        for source in self.sources:
            for job in _looked_at(source):
                folder, name = source.out / RUNS / job.name, f"gradients of {source.name}, {job.name}"
                if (source.name, job.cell.name, job.seed) in seen or not (folder / DONE).is_file():
                    continue
                print(f"m2cnn: {name}", file=sys.stderr, flush=True)
                moved = images if source is self.sources[0] else None
                try:
                    measured += of_run(folder, source.name, job.cell.name, job.seed, self._pictures(source), moved)
                    failed.pop(name, None)
                except (M2cnnError, MemoryError, OSError, RuntimeError) as error:
                    failed[name] = reason(error)
                write_gradients(self.out / GRADIENTS, measured)
                write_json(self.out / FAILED, failed)

    def report(self) -> None:
        """Write the report of what is there."""
        plan = read_plan(self.out) if (self.out / PLAN).is_file() else self.plan
        noise = read_source(self.sources[0].name, self.out, plan, self.sources[0].replicates)
        write_report(self.out, self.sources, noise, read_gradients(self.out / GRADIENTS), plan.command)


def _looked_at(source: Source) -> list[Job]:
    return source.plan.jobs([cell for arm, rung in LOOKED_AT if (cell := source.cell(arm, rung))])
