"""The comparison's report from what is kept of its runs: comparison.md, .csv and .svg, orderings.csv."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from m2cnn.bootstrap import Estimate
from m2cnn.compare import markdown_table, shown_difference
from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import DISCLAIMER
from m2cnn.paper.ablation import ANSWERS
from m2cnn.paper.comparison import REFERENCE, Cost, Ordering, combiner_of, cost_of, orderings, paper_of, title_of
from m2cnn.paper.comparison_notes import notes_of, shown_count
from m2cnn.paper.evidence import OWN, Facts
from m2cnn.paper.grid import Cell, parts_of
from m2cnn.paper.page import METRICS, SPLITS, Results, digits, estimated, full, listed, read_results
from m2cnn.paper.progress import duration
from m2cnn.paper.running import Plan
from m2cnn.paper.statistics import Gap, Key
from m2cnn.plots import dots_svg
from m2cnn.systems import SYSTEMS
from m2cnn.tables import table_bytes, write_atomically

NAMES = ("comparison.md", "comparison.csv", "orderings.csv", "comparison.svg")
CSV = (
    *("system", "split", "metric", "seeds", "value", "low", "high", "each_seed", "paper"),
    *("reference", "difference", "difference_low", "difference_high", "p", "detectable"),
    *("sizes", "members", "looks", "parameters", "combiner", "training_work", "grading_work"),
    *("photographs", "multiply_adds", "seconds", "seconds_after", "images_per_second"),
)
ORDERINGS_CSV = ("split", "above", "below", "paper", "answer", "difference", "low", "high", "p", "detectable", "seeds")


@dataclass(frozen=True)
class Page:
    """What the report is written from. reference: the row that differences are to."""

    results: Results
    reference: str = REFERENCE

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.results.plan.cells

    @cached_property
    def costs(self) -> dict[str, Cost]:
        return {cell.name: cost_of(cell.recipe) for cell in self.cells}

    @cached_property
    def orderings(self) -> list[Ordering]:
        return orderings(self.results.measured, [cell.name for cell in self.cells])

    def estimate(self, name: str, split: str, metric: str = "qwk") -> Estimate:
        return self.results.measured[split].estimate((name, OWN), metric)

    def gap(self, name: str, split: str, metric: str = "qwk") -> Gap | None:
        """To the reference; None for the reference itself."""
        if name == self.reference:
            return None
        keys: tuple[Key, Key] = ((name, OWN), (self.reference, OWN))
        return self.results.measured[split].gap(*keys, metric=metric)

    def facts(self, name: str) -> list[Facts]:
        return list(self.results.facts.get(name, {}).values())


def check_reference(name: str) -> None:
    """Raises SettingError for a row that there is not."""
    if name not in SYSTEMS:
        raise SettingError("--reference", f'"{name}"', "a row", did_you_mean(name, SYSTEMS))


def write_report(out: Path, plan: Plan, replicates: int = 2000, reference: str = REFERENCE) -> Page:
    """Write all four files from what is there."""
    page = Page(read_results(out, plan, replicates), reference)
    write_atomically(out / NAMES[0], to_markdown(page).encode())
    write_atomically(out / NAMES[1], to_csv(page))
    write_atomically(out / NAMES[2], orderings_csv(page.orderings))
    write_atomically(out / NAMES[3], plot(page))
    return page


# --- Markdown ---


def to_markdown(page: Page) -> str:
    parts = ["# The comparison, beside the paper's", _lead(page)]
    parts += ["## Kappa", _kappas(page), "![Kappa on test patients](comparison.svg)"]
    parts += ["## What the rows are and what they cost", _entries(page)]
    parts += ["## The paper's orderings, here", _orderings(page.orderings)]
    parts += ["## Every metric", *(_every_metric(page, split) for split in SPLITS)]
    if page.results.failed:
        lines = [f"- {name}: {reason}" for name, reason in sorted(page.results.failed.items())]
        parts += ["## Failed", "\n".join(lines)]
    notes = "\n".join(f"- {note}" for note in notes_of(page))
    return "\n\n".join([*parts, "## How to read it", notes, DISCLAIMER]) + "\n"


def _lead(page: Page) -> str:
    results, plan = page.results, page.results.plan
    test, val = results.measured["test"], results.measured["val"]
    whole = len(plan.cells) * len(plan.seeds)
    lines = [f"{results.runs} of {whole} runs are done, {len(results.failed)} failed; seeds {listed(plan.seeds)}."]
    done = [facts for cell in page.cells for facts in page.facts(cell.name)]
    if done:
        most = max(done, key=lambda facts: facts.photographs)
        machine = most.accelerator if most.accelerator != "none" else f"the CPU, {most.threads} threads"
        lines.append(
            f"Trained on {most.photographs} photographs of {most.patients} patients; "
            f"measured on {test.photographs} test photographs of {test.patients} patients and "
            f"{val.photographs} validation photographs of {val.patients}. Training took "
            f"{duration(sum(facts.seconds for facts in done))} on {machine}, all runs together (m2cnn {most.m2cnn})."
        )
    command = f"\n\n```\n{plan.command}\n```" if plan.command else ""
    return " ".join(lines) + command


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _against(gap: Gap | None) -> list[str]:
    if gap is None or not gap.seeds:
        return ["-", "-"]
    return [shown_difference(gap), digits(gap.detectable)]


def _kappas(page: Page) -> str:
    rows = []
    for name in (cell.name for cell in page.cells):
        row = [title_of(name), listed(page.results.measured["test"].seeds((name, OWN))) or "-"]
        for split in ("test", "val"):
            row += [estimated(page.estimate(name, split)), _number(paper_of(name, split))]
        rows.append([*row, *_against(page.gap(name, "test"))])
    head = ["system", "seeds", "test", "paper's test", "val", "paper's val", f"test, minus {title_of(page.reference)}"]
    return markdown_table([*head, "detectable"], rows)


def _entries(page: Page) -> str:
    rows, recipes = [], page.results.plan.asked.get("recipes", {})
    for cell in page.cells:
        cost, done = page.costs[cell.name], page.facts(cell.name)
        row = [title_of(cell.name), recipes.get(cell.name, "-"), _passes(cell), ", ".join(map(str, cost.sizes))]
        row += [f"{cost.members}", f"{cost.looks}", combiner_of(cell)]
        row += map(shown_count, (cost.parameters, cost.training, cost.grading))
        times = [_mean(done, part) for part in ("seconds", "after")] if done else []
        rows.append([*row, *([duration(time) for time in times] or ["-", "-"])])
    head = ["system", "recipe", "passes", "input, px", "members", "networks x views", "combiner", "parameters"]
    head += ["training, multiply-adds", "a grade, multiply-adds", "time of a run", "after the last pass"]
    return markdown_table(head, rows)


def _passes(cell: Cell) -> str:
    """Of its stages; what differs from member to member, from the fewest to the most."""
    every = list(dict.fromkeys(tuple(stage.epochs for stage in own.stages) for _, own in parts_of(cell.recipe)))
    if len(every) == 1:
        return " + ".join(map(str, every[0]))
    totals = [sum(stages) for stages in every]
    return f"{min(totals)} to {max(totals)}" if min(totals) < max(totals) else f"{totals[0]}"


def _mean(done: Sequence[Facts], name: str) -> float:
    return sum(getattr(facts, name) for facts in done) / len(done)


def _orderings(found: Sequence[Ordering]) -> str:
    parts = []
    for split in ("test", "val"):
        some = [each for each in found if each.split == split]
        run = [each for each in some if each.gap.seeds]
        counts = Counter(each.answer for each in some)
        said = ", ".join(f"{counts[answer]} {answer}" for answer in ANSWERS if counts[answer])
        signs = sum((each.gap.value > 0) == (each.paper > 0) for each in run)
        alone = (
            f" By the sign of the difference alone, {signs} of the {len(run)} pairs that were run agree." if run else ""
        )
        parts.append(f"On {SPLITS[split]}, {len(some)} pairs: {said or 'none'}.{alone}")
    rows = [
        [each.claim, f"{each.paper:+.3f}", *_against(each.gap), each.answer] for each in found if each.split == "test"
    ]
    head = ["in the paper, on its test set", "paper's difference", "ours, on test patients", "detectable", "answer"]
    return "\n\n".join([*parts, markdown_table(head, rows)])


def _every_metric(page: Page, split: str) -> str:
    rows = []
    for name in (cell.name for cell in page.cells):
        row = [title_of(name)]
        for metric in METRICS:
            gap = page.gap(name, split, metric)
            row += [estimated(page.estimate(name, split, metric)), _against(gap)[0]]
        rows.append(row)
    minus = f"minus {title_of(page.reference)}"
    head = [name for title in METRICS.values() for name in (title, f"{title}, {minus}")]
    return f"On {SPLITS[split]}:\n\n{markdown_table(['system', *head], rows)}"


# --- CSV and plot ---


def to_csv(page: Page) -> bytes:
    """One line per row, split and metric; numbers in full, empty where undefined."""
    rows = [
        _csv_row(page, cell, split, metric) for cell in page.cells for split in ("val", "test") for metric in METRICS
    ]
    return table_bytes(CSV, rows)


def _csv_row(page: Page, cell: Cell, split: str, metric: str) -> list[object]:
    measured, name = page.results.measured[split], cell.name
    e, seeds, gap = page.estimate(name, split, metric), measured.seeds((name, OWN)), page.gap(name, split, metric)
    paper = paper_of(name, split) if metric == "qwk" else None
    against = [page.reference, *map(full, (gap.value, gap.low, gap.high, gap.p, gap.detectable))] if gap else [""] * 6
    cost, done = page.costs[name], page.facts(name)
    spent: Sequence[object] = [""] * 5
    if done:
        means = [full(_mean(done, part)) for part in ("seconds", "after", "images_per_second")]
        spent = [done[0].photographs, done[0].multiply_adds, *means]
    return [
        *(name, split, metric, " ".join(map(str, seeds))),
        *map(full, (e.value, e.low, e.high)),
        " ".join(full(measured.of_seed((name, OWN), seed, metric)) for seed in seeds),
        "" if paper is None else paper,
        *against,
        *(" ".join(map(str, cost.sizes)), cost.members, cost.looks, cost.parameters, combiner_of(cell)),
        *(cost.training, cost.grading, *spent),
    ]


def orderings_csv(found: Sequence[Ordering]) -> bytes:
    rows = (
        [
            *(each.split, each.above, each.below, each.paper, each.answer),
            *map(full, (each.gap.value, each.gap.low, each.gap.high, each.gap.p, each.gap.detectable)),
            listed(each.gap.seeds),
        ]
        for each in found
    )
    return table_bytes(ORDERINGS_CSV, rows)


def plot(page: Page, form: str = "svg") -> bytes:
    """Kappa of test patients with intervals, a line for each row; the paper's are hollow."""
    rows = []
    for name in (cell.name for cell in page.cells):
        e, paper = page.estimate(name, "test"), paper_of(name, "test")
        rows.append((title_of(name), (e.value, e.low, e.high), math.nan if paper is None else paper))
    return dots_svg(rows, "quadratic weighted kappa, test patients", "the paper (other data)", form)
