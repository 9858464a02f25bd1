"""The ablation's report from what is kept of its runs: ablation.md, ablation.csv, verdicts.csv, ablation.svg."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2cnn.bootstrap import Estimate, shown
from m2cnn.compare import markdown_table, shown_difference
from m2cnn.grades import DISCLAIMER
from m2cnn.paper import published
from m2cnn.paper.ablation import ANSWERS, ARMS, BASELINE, BOTH, Verdict, verdicts
from m2cnn.paper.evidence import Facts, is_kept, read_facts, read_kept
from m2cnn.paper.grid import Cell
from m2cnn.paper.progress import duration
from m2cnn.paper.running import Plan, read_failed
from m2cnn.paper.statistics import Gap, Key, Measured
from m2cnn.plots import COLOURS, Line, lines_svg
from m2cnn.tables import table_bytes, write_atomically

METRICS = {"qwk": "kappa", "accuracy": "accuracy", "mse": "MSE of severity"}
SPLITS = {"test": "test patients", "val": "validation patients"}
CSV = (
    *("cell", "arm", "rung", "size", "decode", "split", "metric", "seeds", "value", "low", "high", "each_seed"),
    *("paper", "reference", "difference", "difference_low", "difference_high", "p", "detectable"),
    *("passes", "photographs", "multiply_adds", "seconds", "images_per_second"),
)
VERDICTS_CSV = ("claim", "paper", "answer", "difference", "low", "high", "p", "detectable", "seeds")
NAMES = ("ablation.md", "ablation.csv", "verdicts.csv", "ablation.svg")


@dataclass(frozen=True)
class Results:
    """What is known of a table so far."""

    plan: Plan
    facts: dict[str, dict[int, Facts]]  # by cell and seed
    measured: dict[str, Measured]  # by split
    failed: dict[str, str]

    @property
    def runs(self) -> int:
        return sum(map(len, self.facts.values()))


def read_results(out: Path, plan: Plan, replicates: int = 2000) -> Results:
    """From OUT/predictions alone: run folders are not needed."""
    facts: dict[str, dict[int, Facts]] = {}
    tables: dict[str, dict[Key, dict[int, object]]] = {split: {} for split in SPLITS}
    for job in plan.jobs():
        if not is_kept(out, job.name):
            continue
        facts.setdefault(job.cell.name, {})[job.seed] = read_facts(out, job.name)
        for split, by_key in tables.items():
            for decode in job.cell.decodes:
                if (table := read_kept(out, job.name, decode, split)) is not None:
                    by_key.setdefault((job.cell.name, decode), {})[job.seed] = table
    measured = {split: Measured(by_key, replicates) for split, by_key in tables.items()}
    return Results(plan, facts, measured, read_failed(out))


def write_report(out: Path, plan: Plan, replicates: int = 2000) -> Results:
    """Write all four files from what is there."""
    results = read_results(out, plan, replicates)
    found = verdicts(results.measured["test"], plan.cells)
    write_atomically(out / "ablation.md", to_markdown(results, found).encode())
    write_atomically(out / "ablation.csv", to_csv(results))
    write_atomically(out / "verdicts.csv", verdicts_csv(found))
    write_atomically(out / "ablation.svg", plot(results))
    return results


def entries(plan: Plan) -> list[tuple[Cell, str]]:
    """The lines of the table: every cell by every decode, size by size."""
    return [(cell, decode) for cell in plan.cells for decode in cell.decodes]


def baseline(plan: Plan, cell: Cell, decode: str) -> Key | None:
    """What a line is compared with: the same size and decode, see ablation.BASELINE; None for multi-task itself."""
    arm = BASELINE.get(cell.arm)
    return next(((c.name, decode) for c in plan.cells if c.arm == arm and c.rung == cell.rung), None)


def _gap(results: Results, split: str, cell: Cell, decode: str, metric: str) -> tuple[str, Gap] | None:
    other = baseline(results.plan, cell, decode)
    if other is None:
        return None
    return " ".join(other), results.measured[split].gap((cell.name, decode), other, metric=metric)


# --- Markdown ---


def to_markdown(results: Results, found: Sequence[Verdict]) -> str:
    parts = ["# The ablation, beside the paper's", _lead(results)]
    parts += ["## Kappa on test patients", _matrix(results), "![Kappa by size](ablation.svg)"]
    parts += ["## What the paper's table says, and what ours says", _verdicts(found)]
    parts += ["## Every cell", *(_every_cell(results, split) for split in SPLITS)]
    parts += ["## What it cost", _costs(results)]
    if results.failed:
        lines = [f"- {name}: {reason}" for name, reason in sorted(results.failed.items())]
        parts += ["## Failed", "\n".join(lines)]
    return "\n\n".join([*parts, "## How to read it", _notes(results), DISCLAIMER]) + "\n"


def _lead(results: Results) -> str:
    plan, test, val = results.plan, results.measured["test"], results.measured["val"]
    whole = len(plan.cells) * len(plan.seeds)
    done = [facts for by_seed in results.facts.values() for facts in by_seed.values()]
    lines = [f"{results.runs} of {whole} runs are done, {len(results.failed)} failed; seeds {listed(plan.seeds)}."]
    if done:
        one = done[0]
        lines.append(
            f"Trained on {one.photographs} photographs of {one.patients} patients, {one.passes} passes each; "
            f"measured on {test.photographs} test photographs of {test.patients} patients and "
            f"{val.photographs} validation photographs of {val.patients}."
        )
        machine = one.accelerator if one.accelerator != "none" else f"the CPU, {one.threads} threads"
        total = duration(sum(facts.seconds for facts in done))
        lines.append(f"Training took {total} on {machine}, all runs together (m2cnn {one.m2cnn}).")
    command = f"\n\n```\n{plan.command}\n```" if plan.command else ""
    return " ".join(lines) + command


def listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _matrix(results: Results) -> str:
    """The paper's own layout: sizes down, loss and decode across; ours with its interval, the paper's behind it."""
    keys = [*published.ABLATION, *((arm, decode) for arm in ("staged", "direct") for decode in BOTH)]
    cells = {(cell.arm, cell.rung): cell for cell in results.plan.cells}
    rows = []
    for rung in range(3):
        row = [f"{cells['mt', rung].size} ({published.SIZES[rung]})"]
        for arm, decode in keys:
            cell, paper = cells.get((arm, rung)), published.ablation(arm, decode, rung)
            ours = "-" if cell is None else estimated(results.measured["test"].estimate((cell.name, decode)))
            row.append(ours if paper is None else f"{ours}; paper {paper:.3f}")
        rows.append(row)
    return markdown_table(["px (paper)", *(f"{ARMS[arm]}, {decode}" for arm, decode in keys)], rows)


def estimated(estimate: Estimate) -> str:
    return "not run" if math.isnan(estimate.value) else shown(estimate.value, estimate.low, estimate.high)


def _verdicts(found: Sequence[Verdict]) -> str:
    rows = [
        [
            v.claim,
            f"{v.paper:+.3f}",
            "-" if not v.gap.seeds else shown_difference(v.gap),
            digits(v.gap.detectable),
            v.answer,
        ]
        for v in found
    ]
    counts = Counter(v.answer for v in found)
    said = ", ".join(f"{counts[answer]} {answer}" for answer in ANSWERS if counts[answer])
    table = markdown_table(["the paper's table", "paper's difference", "ours", "detectable", "answer"], rows)
    return f"{said}.\n\n{table}"


def digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _every_cell(results: Results, split: str) -> str:
    rows = []
    for cell, decode in entries(results.plan):
        estimates = [results.measured[split].estimate((cell.name, decode), metric) for metric in METRICS]
        gap = _gap(results, split, cell, decode, "qwk")
        against = ["-", "-", "-"] if gap is None else [gap[0], "-", "-"]
        if gap is not None and gap[1].seeds:
            against = [gap[0], shown_difference(gap[1]), digits(gap[1].detectable)]
        paper = published.ablation(cell.arm, decode, cell.rung)
        seeds = listed(results.measured[split].seeds((cell.name, decode))) or "-"
        rows.append(
            [cell.name, decode, seeds, *map(estimated, estimates), "-" if paper is None else f"{paper:.3f}", *against]
        )
    head = [
        "cell",
        "decode",
        "seeds",
        *METRICS.values(),
        "paper's kappa",
        "against",
        "difference in kappa",
        "detectable",
    ]
    return f"On {SPLITS[split]}:\n\n{markdown_table(head, rows)}"


def _costs(results: Results) -> str:
    rows = []
    for cell in results.plan.cells:
        done = list(results.facts.get(cell.name, {}).values())
        path = ", ".join(f"{s.epochs} at {s.size} px with {s.cells}" for s in cell.recipe.stages)
        if not done:
            rows.append([cell.name, ARMS[cell.arm], path, "-", "-", "-"])
            continue
        speed = sum(f.images_per_second for f in done) / len(done)
        seconds = sum(f.seconds for f in done) / len(done)
        rows.append(
            [cell.name, ARMS[cell.arm], path, f"{done[0].multiply_adds:.3g}", f"{speed:.1f}", duration(seconds)]
        )
    head = ["cell", "what", "passes, size and cells", "multiply-adds (forward)", "images/s", "time of a run"]
    return markdown_table(head, rows)


def _reading(results: Results) -> str:
    """How outputs become grades, in words."""
    every = [cell.recipe for cell in results.plan.cells]
    fitted = any(recipe.fit_cuts for recipe in every)
    cut = "cut where validation patients agree best" if fitted else "rounded"
    expected = any(recipe.task.get("rule") == "expectation" for recipe in every)
    chance = f"the expected grade, {cut}" if expected else "the likeliest grade"
    return f"scores: the score, {cut}; prob: {chance}."


def _notes(results: Results) -> str:
    test = results.measured["test"]
    recipe = results.plan.cells[0].recipe
    seeds = len(results.plan.seeds)
    notes = [
        "Kappa is quadratic weighted, of each run over its whole set, then the mean over seeds. Intervals are 95 % "
        f"over patients{' and seeds' if seeds > 1 else ' (one seed: how much seeds differ is not in them)'}: "
        f"{test.replicates} bootstrap samples, the same for all cells; differences are paired. "
        "p is not corrected for several comparisons.",
        "detectable: the smallest true difference that these patients and seeds would show (two-sided 5 %) with 80 % "
        "probability: 2.8 standard errors of the paired difference.",
        "An answer is decided only where the interval leaves zero out. Differences of the paper have no interval.",
        f"One network is read by both decodes. {_reading(results)} "
        "The pass that is kept is the one with the best validation kappa, for the multi-task loss by its scores, so "
        "validation numbers flatter; test patients chose nothing.",
        "Cells differ in nothing but their arm and size: same patients, sampling, augmentation, batch, optimiser, "
        "peak rate, shape of the schedule in each stage, and passes in all. Control arms: the same stages without "
        "cells, and the same cells without stages.",
        "multiply-adds: passes x photographs x one forward pass of each stage's network; training costs about three "
        "times that.",
        "Beside the paper's: it trained on 35,126 photographs of EyePACS and read 10,906 others; the sizes in brackets "
        "are its. Losses, decodes, sizes and numbers are known; rates, passes, augmentation and what a cell holds are "
        "a reconstruction. It gives one run each and no interval; that its table is of the validation set is inferred.",
        "The paper's own table is not monotone: multi-task read by probability loses to CE at 224 px (0.718, 0.725), "
        "and CE at 720 px loses to CE at 448 px (0.751, 0.772). Its text calls multi-task and larger input better.",
    ]
    if test.collapsed:
        notes.append(f"One grade for every test photograph, so kappa 0: {'; '.join(test.collapsed)}.")
    if recipe.sampling.kind != "all":
        notes.append("Resampling begins again in each stage: staged runs see rare grades more often than direct ones.")
    return "\n".join(f"- {note}" for note in notes)


# --- CSV and plot ---


def to_csv(results: Results) -> bytes:
    """One line per cell, decode, split and metric; numbers in full, empty where undefined."""
    rows = []
    for cell, decode in entries(results.plan):
        for split in SPLITS:
            for metric in METRICS:
                rows.append(_csv_row(results, cell, decode, split, metric))
    return table_bytes(CSV, rows)


def _csv_row(results: Results, cell: Cell, decode: str, split: str, metric: str) -> list[object]:
    measured, key = results.measured[split], (cell.name, decode)
    e, seeds, against = measured.estimate(key, metric), measured.seeds(key), _gap(results, split, cell, decode, metric)
    done = list(results.facts.get(cell.name, {}).values())
    paper = published.ablation(cell.arm, decode, cell.rung) if metric == "qwk" else None
    gap = [""] * 6
    if against is not None and against[1].seeds:
        d = against[1]
        gap = [against[0], *map(full, (d.value, d.low, d.high, d.p, d.detectable))]
    cost = [""] * 4
    if done:
        cost = [done[0].photographs, done[0].multiply_adds]
        cost += [full(sum(getattr(f, name) for f in done) / len(done)) for name in ("seconds", "images_per_second")]
    return [
        *(cell.name, cell.arm, cell.rung, cell.size, decode, split, metric, " ".join(map(str, seeds))),
        *map(full, (e.value, e.low, e.high)),
        " ".join(full(measured.of_seed(key, seed, metric)) for seed in seeds),
        "" if paper is None else paper,
        *gap,
        cell.passes,
        *cost,
    ]


def full(value: float) -> str:
    """A number with all its digits, empty where undefined."""
    return "" if math.isnan(value) else repr(float(value))


def verdicts_csv(found: Sequence[Verdict]) -> bytes:
    rows = (
        [
            v.claim,
            v.paper,
            v.answer,
            *map(full, (v.gap.value, v.gap.low, v.gap.high, v.gap.p, v.gap.detectable)),
            listed(v.gap.seeds),
        ]
        for v in found
    )
    return table_bytes(VERDICTS_CSV, rows)


PAINT = {
    "mse": COLOURS[0],
    "ce": COLOURS[0],
    "mt": COLOURS[1],
    "m2cnn": COLOURS[4],
    "staged": COLOURS[3],
    "direct": COLOURS[2],
}


def plot(results: Results, form: str = "svg") -> bytes:
    """Kappa of test patients by size, a panel for each decode and a line for each arm; the paper's are hollow."""
    sizes = {cell.rung: cell.size for cell in results.plan.cells}
    ticks = [f"{sizes[rung]} px\n(paper: {published.SIZES[rung]})" for rung in range(3)]
    panels = [(f"read by {decode}", [line for arm in ARMS if (line := _line(results, arm, decode))]) for decode in BOTH]
    return lines_svg(panels, ticks, "quadratic weighted kappa", "the paper (other data)", form)


def _line(results: Results, arm: str, decode: str) -> Line | None:
    cells = [cell for cell in results.plan.cells if cell.arm == arm and decode in cell.decodes]
    if not cells:
        return None
    found = [results.measured["test"].estimate((cell.name, decode)) for cell in cells]
    paper = [published.ablation(arm, decode, cell.rung) for cell in cells]
    return Line(
        ARMS[arm],
        PAINT[arm],
        [cell.rung for cell in cells],
        [e.value for e in found],
        [e.low for e in found],
        [e.high for e in found],
        [math.nan if number is None else number for number in paper],
    )
