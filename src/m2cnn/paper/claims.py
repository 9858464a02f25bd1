"""The poster's claims as comparisons that can be decided, from what ablations keep and a few runs more.

What each claim says is known (poster); by which differences it is decided is ours, and stated at each function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from m2cnn.paper import published
from m2cnn.paper.ablation import ARMS, BOTH
from m2cnn.paper.decisions import Part, exactly, of_gap, over_seeds
from m2cnn.paper.evidence import Facts, evidence_of, is_kept, read_facts, read_kept
from m2cnn.paper.gradients import END, FACTOR, START, WEIGHT, Measurement, imbalance
from m2cnn.paper.grid import Cell, forward_work
from m2cnn.paper.lesions import COLUMNS, EXCESS, SMALL, lesions
from m2cnn.paper.running import Plan
from m2cnn.paper.speed import MARGIN, Reach, best_kappa, reach
from m2cnn.paper.statistics import Key, Measured
from m2cnn.part import read_history
from m2cnn.predictions import Predictions

RUNGS = ("smallest", "middle", "largest")
METRICS = {"accuracy": ("accuracy", 1), "mse": ("MSE of severity", -1), "qwk": ("kappa", 1)}  # and the claimed sign
SIZE_ALONE = (("mse", "scores"), ("ce", "prob"), ("mt", "scores"), ("mt", "prob"))


@dataclass(frozen=True)
class Source:
    """The kept evidence of a table. name: for people, unique.  replicates: of the bootstrap."""

    name: str
    out: Path
    plan: Plan
    facts: dict[str, dict[int, Facts]]  # by cell and seed
    tables: dict[Key, dict[int, Predictions]]  # of test patients
    history: dict[str, dict[int, list[dict[str, Any]]]]
    replicates: int = 2000

    @cached_property
    def measured(self) -> Measured:
        return Measured(self.tables, self.replicates)

    @cached_property
    def lesions(self) -> Measured:
        return Measured(self.tables, self.replicates, statistic=lesions, metrics=COLUMNS)

    def cell(self, arm: str, rung: int, noise: float = 0.0) -> Cell | None:
        cells = self.plan.cells
        return next((c for c in cells if (c.arm, c.rung, c.noise) == (arm, rung, noise)), None)

    def key(self, arm: str, decode: str, rung: int, noise: float = 0.0) -> Key:
        """Of an entry; one that nothing was run of where the table has no such cell."""
        cell = self.cell(arm, rung, noise)
        return (cell.name if cell else f"{arm}-{RUNGS[rung]}", decode)

    def size(self, rung: int) -> str:
        """The side of a rung's pictures, for people."""
        return next((f"{cell.size} px" for cell in self.plan.cells if cell.rung == rung), RUNGS[rung])


def read_source(name: str, out: Path, plan: Plan, replicates: int = 2000) -> Source:
    """What is there so far; runs that are not finished are not there."""
    found = Source(name, out, plan, {}, {}, {}, replicates)
    for job in plan.jobs():
        if not is_kept(out, job.name):
            continue
        found.facts.setdefault(job.cell.name, {})[job.seed] = read_facts(out, job.name)
        found.history.setdefault(job.cell.name, {})[job.seed] = read_history(evidence_of(out, job.name))
        for decode in job.cell.decodes:
            if (table := read_kept(out, job.name, decode, "test")) is not None:
                found.tables.setdefault((job.cell.name, decode), {})[job.seed] = table
    return found


def _paper(one: tuple[str, str, int], other: tuple[str, str, int]) -> float | None:
    """The poster's own difference of two kappas."""
    numbers = published.ablation(*one), published.ablation(*other)
    return None if None in numbers else round(numbers[0] - numbers[1], 3)


# --- 1: multi-task ---


def multi_task(source: Source) -> list[Part]:
    """Multi-task against the single loss that is read alike (CE by probability, MSE by score), at each size: accuracy
    up, squared error of the severity down, kappa up. Beside it: larger pictures, with CE."""
    parts = []
    for metric, (title, claimed) in METRICS.items():
        for rung in range(3):
            for other, decode in (("ce", "prob"), ("mse", "scores")):
                keys = [source.key(arm, decode, rung) for arm in ("mt", other)]
                what = f"multi-task minus {ARMS[other]}, {decode}, {source.size(rung)}"
                paper = _paper(("mt", decode, rung), (other, decode, rung)) if metric == "qwk" else None
                gap = of_gap(source.measured.gap(*keys, metric=metric))
                parts.append(Part("1", title, what, source.name, gap, claimed, paper=paper))
    keys = [source.key("ce", "prob", rung) for rung in (2, 1)]
    what = f"CE, prob, {source.size(2)} minus {source.size(1)}"
    gap = of_gap(source.measured.gap(*keys))
    paper = _paper(("ce", "prob", 2), ("ce", "prob", 1))
    return [*parts, Part("1", "kappa", what, source.name, gap, 1, decides=False, paper=paper)]


# --- 2: wrong labels ---


def shares(source: Source) -> list[float]:
    """The shares of wrong labels that a table has, rising."""
    return sorted({cell.noise for cell in source.plan.cells if cell.noise})


def robustness(source: Source) -> list[Part]:
    """At the smallest size: with wrong labels MSE loses kappa, more than CE does and more than multi-task does, by
    either decode. Beside it: what the others lose."""
    parts = []
    for share in shares(source):
        loss = {entry: _loss(source, *entry, share) for entry in SIZE_ALONE}
        wrong = f"{100 * share:g} % wrong labels"
        for (arm, decode), weights in loss.items():
            measure = of_gap(source.measured.contrast(weights))
            what = f"kappa that {ARMS[arm]}, {decode}, loses by {wrong}"
            parts.append(Part("2", "MSE loses kappa", what, source.name, measure, 1, decides=arm == "mse"))
        for arm, decode in SIZE_ALONE[1:]:
            weights = loss["mse", "scores"] | {key: -weight for key, weight in loss[arm, decode].items()}
            what = f"loss of MSE minus loss of {ARMS[arm]}, {decode}, {wrong}"
            group = f"MSE loses more than {ARMS[arm]}"
            parts.append(Part("2", group, what, source.name, of_gap(source.measured.contrast(weights)), 1))
    return parts


def _loss(source: Source, arm: str, decode: str, share: float) -> dict[Key, float]:
    """Clean minus noisy, as weights of entries."""
    return {source.key(arm, decode, 0): 1.0, source.key(arm, decode, 0, share): -1.0}


# --- 3: small lesions ---


def small_lesions(source: Source) -> list[Part]:
    """The AUC of grade 1 against 0 is higher with the largest pictures than with the smallest, for each loss and
    decode. Beside it: the middle size, and whether it rises by more than that of grades 2 to 4 against 0."""
    parts = []
    for arm, decode in SIZE_ALONE:
        for rung in (2, 1):
            weights = {source.key(arm, decode, rung): 1.0, source.key(arm, decode, 0): -1.0}
            sizes = f"{source.size(rung)} minus {source.size(0)}"
            gap = of_gap(source.lesions.contrast(weights, SMALL))
            what = f"{ARMS[arm]}, {decode}, {sizes}"
            parts.append(Part("3", "AUC of grade 1 against 0", what, source.name, gap, 1, decides=rung == 2))
            if rung == 2:
                more = of_gap(source.lesions.contrast(weights, EXCESS))
                what = f"{what}: beyond the AUC of grades 2 to 4 against 0"
                parts.append(Part("3", "most where lesions are small", what, source.name, more, 1, decides=False))
    return parts


# --- 4: cost and gradients ---


def costs(source: Source) -> list[Part]:
    """BaseNet with both losses: multiply-adds and seconds of a photograph in training, against the smallest size."""
    parts, small = [], source.cell("mt", 0)
    for rung in (1, 2):
        cell = source.cell("mt", rung)
        if not cell or not small:
            continue
        work = [forward_work(one.recipe, one.recipe.stages[-1]) for one in (cell, small)]
        times = [seconds_each(source, one) for one in (cell, small)]
        sizes = f"{source.size(rung)} over {source.size(0)}"
        measures = {
            "multiply-adds": exactly(math.log(work[0] / work[1]), ratio=True) if all(work) else over_seeds({}, True),
            "seconds": over_seeds({s: math.log(times[0][s] / times[1][s]) for s in times[0].keys() & times[1]}, True),
        }
        for name, measure in measures.items():
            what = f"{name} of a photograph, {sizes}"
            parts.append(Part("4", "costs more", what, source.name, measure, 1))
    return parts


def seconds_each(source: Source, cell: Cell) -> dict[int, float]:
    """Seconds of a photograph in training, of a cell with one stage, by seed: the median over the passes."""
    each = {
        seed: [1 / row["images_per_second"] for row in rows if row["images_per_second"] > 0]
        for seed, rows in source.history.get(cell.name, {}).items()
    }
    return {seed: float(np.median(seconds)) for seed, seconds in each.items() if seconds}


Imbalances = dict[tuple[str, int, int, str], float]  # (cell, seed, stage, when)


def imbalances(source: Source, measured: Iterable[Measurement], kind: str = WEIGHT) -> Imbalances:
    """The imbalance of every network that was looked at, from the lines of gradients.csv; of weights, or of maps."""
    found: dict[tuple[str, int, int, str], list[tuple[int, float]]] = {}
    for one in measured:
        if one.source == source.name and one.kind == kind:
            value = one.relative if kind == WEIGHT else one.gradient
            found.setdefault((one.cell, one.seed, one.stage, one.when), []).append((one.place, value))
    return {where: imbalance([value for _, value in sorted(each)]) for where, each in found.items()}


def gradients(source: Source, found: Imbalances) -> list[Part]:
    """Trained directly at the largest size, as a run starts and as it ends: the imbalance of gradients (one way or the
    other) is beyond FACTOR, and it is worse than at the smallest size. Beside it: staging makes it milder."""
    parts = []
    for when, title in ((START, "at the start"), (END, "after training")):
        large, small = (_tilt(source, found, "mt", rung, when) for rung in (2, 0))
        beyond = over_seeds({seed: tilt - math.log(FACTOR) for seed, tilt in large.items()}, True)
        what = f"imbalance over {FACTOR:g}, multi-task, {source.size(2)}, {title}"
        parts.append(Part("4", "gradients vanish or explode", what, source.name, beyond, 1))
        worse = over_seeds({seed: large[seed] - small[seed] for seed in large.keys() & small}, True)
        what = f"imbalance, multi-task, {source.size(2)} over {source.size(0)}, {title}"
        parts.append(Part("4", "worse with larger pictures", what, source.name, worse, 1))
        direct, staged = (_tilt(source, found, arm, 2, when) for arm in ("direct", "m2cnn"))
        milder = over_seeds({seed: direct[seed] - staged[seed] for seed in direct.keys() & staged}, True)
        what = f"imbalance, direct over staged, same network, {source.size(2)}, {title} of the last stage"
        parts.append(Part("4", "staging makes it milder", what, source.name, milder, 1, decides=False))
    return parts


def _tilt(source: Source, found: Imbalances, arm: str, rung: int, when: str) -> dict[int, float]:
    """|ln imbalance| of the last stage by seed: 0 is even, whichever way it leans."""
    cell = source.cell(arm, rung)
    if cell is None:
        return {}
    last = len(cell.recipe.stages) - 1
    return {
        seed: abs(math.log(value))
        for (name, seed, stage, at), value in found.items()
        if (name, stage, at) == (cell.name, last, when) and np.isfinite(value)
    }


# --- 5: multi-cell ---


@dataclass(frozen=True)
class Race:
    """M2CNN against a direct run of the same seed: what each took to the direct run's best validation kappa minus
    MARGIN, the target. Where that is no better than chance the direct run learned nothing, and the race does not count:
    a network that says anything would win it."""

    rung: int
    arm: str
    seed: int
    target: float
    multi_cell: Reach
    direct: Reach

    @property
    def counts(self) -> bool:
        return self.target > 0


def races(source: Source) -> list[Race]:
    """Of every seed that has both runs. Direct: multi-task at that size from the start, and M2CNN without stages."""
    found = []
    for rung in (1, 2):
        for arm in ("mt", "direct"):
            runs = [_runs(source, source.cell(name, rung)) for name in ("m2cnn", arm)]
            for seed in sorted(runs[0].keys() & runs[1]):
                target = best_kappa(runs[1][seed][0]) - MARGIN
                if np.isfinite(target):
                    reached = [reach(*each[seed], target) for each in runs]
                    found.append(Race(rung, arm, seed, target, *reached))
    return found


def _runs(source: Source, cell: Cell | None) -> dict[int, tuple[list[dict[str, Any]], list[float]]]:
    """Histories by seed, with the multiply-adds of a pass by stage."""
    if cell is None:
        return {}
    forward = [forward_work(cell.recipe, stage) for stage in cell.recipe.stages]
    found = {}
    for seed, history in source.history.get(cell.name, {}).items():
        drawn = cell.recipe.sampling.total(source.facts[cell.name][seed].photographs)
        found[seed] = (history, [drawn * work for work in forward])
    return found


def acceleration(source: Source) -> list[Part]:
    """M2CNN takes less time, and fewer multiply-adds, until its validation kappa is the direct run's best minus MARGIN.

    The geometric mean of the ratio over seeds. A run that never gets there counts with all that it took, which is less
    than it would need: then the claim cannot hold, and is undecided at best.
    """
    parts, every = [], races(source)
    for name in ("seconds", "multiply_adds"):
        for rung in (2, 1):
            for arm in ("mt", "direct"):
                mine = [race for race in every if (race.rung, race.arm) == (rung, arm)]
                ratios = {race.seed: _ratio(race, name) for race in mine if race.counts}
                never = [race.seed for race in mine if race.counts and not race.multi_cell.reached]
                what = f"{name.replace('_', '-')} to the kappa, M2CNN over {ARMS[arm]}, {source.size(rung)}"
                measure = over_seeds(ratios, True)
                note = _told(never, [race.seed for race in mine if not race.counts])
                parts.append(Part("5", "trains faster", what, source.name, measure, -1, note=note, bound=bool(never)))
    return parts


def _told(never: Sequence[int], nothing: Sequence[int]) -> str:
    notes = [
        f"never reached by seed {', '.join(map(str, never))}: a lower bound" if never else "",
        f"the direct run of seed {', '.join(map(str, nothing))} learned nothing" if nothing else "",
    ]
    return "; ".join(filter(None, notes))


def _ratio(race: Race, name: str) -> float:
    one, other = getattr(race.multi_cell, name), getattr(race.direct, name)
    return math.log(one / other) if one > 0 and other > 0 else math.nan


def multi_cell(source: Source) -> list[Part]:
    """M2CNN against multi-task of the same size and decode, and against both control arms: kappa, which is the poster's
    own measure, and accuracy."""
    parts = []
    for metric in ("qwk", "accuracy"):
        title, claimed = METRICS[metric]
        for rung in (1, 2):
            for other in ("mt", "staged", "direct"):
                for decode in BOTH:
                    keys = [source.key(arm, decode, rung) for arm in ("m2cnn", other)]
                    paper = _paper(("m2cnn", decode, rung), (other, decode, rung)) if metric == "qwk" else None
                    what = f"M2CNN minus {ARMS[other]}, {decode}, {source.size(rung)}"
                    gap = of_gap(source.measured.gap(*keys, metric=metric))
                    parts.append(Part("5", f"better {title}", what, source.name, gap, claimed, paper=paper))
    return parts


# --- all of them ---


def every_part(sources: Sequence[Source], noise: Source, measured: Sequence[Measurement]) -> list[Part]:
    """The parts of all five claims, claim by claim. noise: the claims' own table, named as the source it belongs to."""
    parts = [part for source in sources for part in multi_task(source)] + robustness(noise)
    for source in sources:
        parts += small_lesions(source) + costs(source) + gradients(source, imbalances(source, measured))
        parts += acceleration(source) + multi_cell(source)
    return sorted(parts, key=lambda part: part.claim)
