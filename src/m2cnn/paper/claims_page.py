"""The claims' report: claims.md, claims.csv, and the plots of m2cnn.paper.claims_plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2cnn.bootstrap import shown
from m2cnn.compare import markdown_table
from m2cnn.grades import DISCLAIMER
from m2cnn.paper.ablation import ARMS
from m2cnn.paper.claims import SIZE_ALONE, Source, every_part, imbalances, races, seconds_each, shares
from m2cnn.paper.claims_plots import gradients_plot, lesions_plot, noise_plot
from m2cnn.paper.decisions import Measure, Part, decided
from m2cnn.paper.gradients import BATCHES, FACTOR, MAP, WEIGHT, Measurement
from m2cnn.paper.grid import forward_work
from m2cnn.paper.lesions import LARGE, SMALL
from m2cnn.paper.running import read_failed
from m2cnn.paper.speed import MARGIN
from m2cnn.tables import table_bytes, write_atomically

NAMES = ("claims.md", "claims.csv", "lesions.svg", "noise.svg", "gradients.svg")
CSV = (
    *("claim", "group", "source", "what", "decides", "claimed", "answer", "scale", "value", "low", "high"),
    *("detectable", "paper", "seeds", "note"),
)
TITLES = {
    "1": "Multi-task learning improves accuracy and the discrepancy between truth and prediction",
    "2": "Mean squared error alone is not robust",
    "3": "Small pictures lose small lesions",
    "4": "Large pictures bring cost, and vanishing or exploding gradients",
    "5": "Multi-cell accelerates training and improves accuracy",
}
POSTER = {
    "1": '"We propose a Multi-Task Learning strategy to simultaneously improves the classification accuracy and '
    'discrepancy between ground-truth and predicted label." In the poster itself multi-task read by probability loses '
    "to CE at 224 px (0.718, 0.725), and CE at 720 px loses to CE at 448 px (0.751, 0.772).",
    "2": '"Mean Square Error (MSE) loss is not robust for classification task." The poster measures nothing for it.',
    "3": '"Small resolution image often leads to information loss especially when the lesion is small." The poster '
    "measures kappa alone, which rises with the size but for CE from 448 to 720 px.",
    "4": '"Large resolution image will introduce more computational costs and lead to the gradient vanishing/exploding '
    'problem in optimization." The poster measures neither.',
    "5": '"A Multi-Cell CNN architecture which not only accelerates the training procedure, but also improves the '
    'classification accuracy." The poster gives kappa, and no time.',
}


@dataclass(frozen=True)
class Findings:
    """All that the report says. noise: the claims' own table.  command: as typed."""

    sources: Sequence[Source]
    noise: Source
    measured: Sequence[Measurement]
    parts: Sequence[Part]
    failed: dict[str, str]
    command: str


def write_report(
    out: Path, sources: Sequence[Source], noise: Source, measured: Sequence[Measurement], command: str
) -> Findings:
    """Write all files from what is there."""
    found = Findings(sources, noise, measured, every_part(sources, noise, measured), read_failed(out), command)
    write_atomically(out / "claims.md", to_markdown(found).encode())
    write_atomically(out / "claims.csv", to_csv(found.parts))
    write_atomically(out / "lesions.svg", lesions_plot(sources))
    write_atomically(out / "noise.svg", noise_plot(noise))
    write_atomically(out / "gradients.svg", gradients_plot(sources, measured))
    return found


# --- Markdown ---


def to_markdown(found: Findings) -> str:
    evidence = {"2": _noise_table, "3": _lesion_tables, "4": _cost_and_gradient_tables, "5": _race_tables}
    parts = ["# The poster's claims, decided", _lead(found), _answers(found)]
    for claim, title in TITLES.items():
        own = [part for part in found.parts if part.claim == claim]
        parts += [f"## {claim}. {title}: {decided(own)}", POSTER[claim], _table(own)]
        parts += evidence[claim](found) if claim in evidence else []
    if found.failed:
        parts += ["## Failed", "\n".join(f"- {name}: {reason}" for name, reason in sorted(found.failed.items()))]
    return "\n\n".join([*parts, "## How to read it", _notes(found), DISCLAIMER]) + "\n"


def _lead(found: Findings) -> str:
    lines = []
    for source in found.sources:
        runs = sum(map(len, source.facts.values()))
        whole = len(source.plan.cells) * len(source.plan.seeds)
        lines.append(
            f"- {source.name}: {runs} of {whole} runs of its ablation are done; {source.measured.photographs} test "
            f"photographs of {source.measured.patients} patients."
        )
    jobs = found.noise.plan.jobs()
    done = sum(map(len, found.noise.facts.values()))
    lines.append(f"- wrong labels, on {found.noise.name}: {done} of {len(jobs)} runs are done.")
    return "\n".join(lines) + (f"\n\n```\n{found.command}\n```" if found.command else "")


def _answers(found: Findings) -> str:
    """Claim by claim and group by group: the answer of each table, and of all together."""
    rows = []
    names = [source.name for source in found.sources]
    for claim, title in TITLES.items():
        own = [part for part in found.parts if part.claim == claim]
        rows.append([f"**{claim}. {title}**", *(_of(own, name) for name in names), f"**{decided(own)}**"])
        for group in dict.fromkeys(part.group for part in own if part.decides):
            mine = [part for part in own if part.group == group]
            rows.append([f"{claim}. {group}", *(_of(mine, name) for name in names), decided(mine)])
    return markdown_table(["claim", *names, "all"], rows)


def _of(parts: Sequence[Part], source: str) -> str:
    mine = [part for part in parts if part.source == source]
    return decided(mine) if mine else "-"


def _table(parts: Sequence[Part]) -> str:
    rows = [
        [
            part.group if part.decides else f"(beside it: {part.group})",
            part.source,
            part.what,
            _measure(part.measure),
            _detectable(part.measure),
            "-" if part.paper is None else f"{part.paper:+.3f}",
            f"{part.answer} ({part.note})" if part.note else part.answer,
        ]
        for part in parts
    ]
    head = ["says", "table", "what", "difference or ratio", "detectable", "the poster's", "answer"]
    return markdown_table(head, rows) if rows else "Nothing was run for it."


def _measure(m: Measure) -> str:
    if math.isnan(m.value):
        return "-"
    number = _ratio if m.ratio else _signed
    if math.isnan(m.low):
        return f"{number(m.value)} (no interval)"
    return number(m.value) if m.low == m.high and not m.seeds else f"{number(m.value)} ({_ends(m, number)})"


def _ends(m: Measure, number) -> str:
    return f"{number(m.low)} to {number(m.high)}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _ratio(value: float) -> str:
    return f"x {_exp(value):.3g}"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _detectable(m: Measure) -> str:
    if math.isnan(m.detectable) or m.detectable == 0:
        return "-"
    return _ratio(m.detectable) if m.ratio else f"{m.detectable:.3f}"


def _noise_table(found: Findings) -> list[str]:
    rows, table = [], found.noise
    for arm, decode in SIZE_ALONE:
        every = [table.measured.estimate(table.key(arm, decode, 0, share)) for share in (0.0, *shares(table))]
        rows.append([f"{ARMS[arm]}, {decode}", *(shown(e.value, e.low, e.high) for e in every)])
    head = ["loss, decode", *(f"{100 * share:g} % wrong" for share in (0.0, *shares(table)))]
    return [f"Kappa on test patients, {table.size(0)}:", markdown_table(head, rows), "![Kappa](noise.svg)"]


def _lesion_tables(found: Findings) -> list[str]:
    parts = []
    for source in found.sources:
        rows = []
        for cell in source.plan.cells:
            for decode in cell.decodes:
                every = [source.lesions.estimate((cell.name, decode), name) for name in (SMALL, LARGE)]
                if not math.isnan(every[0].value):
                    rows.append([cell.name, decode, *(shown(e.value, e.low, e.high) for e in every)])
        head = ["cell", "decode", "AUC of grade 1 against 0", "AUC of grades 2 to 4 against 0"]
        parts += [f"{source.name}:", markdown_table(head, rows)] if rows else []
    return [*parts, "![AUC by size](lesions.svg)"]


def _cost_and_gradient_tables(found: Findings) -> list[str]:
    parts = []
    for source in found.sources:
        rows = []
        for rung in range(3):
            if cell := source.cell("mt", rung):
                seconds = list(seconds_each(source, cell).values())
                work = forward_work(cell.recipe, cell.recipe.stages[-1])
                time = f"{1000 * np.mean(seconds):.3g} ms" if seconds else "-"
                rows.append([source.size(rung), f"{work:.3g}", time])
        head = ["multi-task at", "multiply-adds of a photograph (forward)", "its time in training"]
        parts += [f"{source.name}:", markdown_table(head, rows)]
        tilted, maps = (imbalances(source, found.measured, kind) for kind in (WEIGHT, MAP))
        rows = [
            [
                f"{cell}, seed {seed}, stage {stage + 1}, {when}",
                f"{value:.3g}",
                _said(value),
                f"{maps.get((cell, seed, stage, when), math.nan):.3g}",
            ]
            for (cell, seed, stage, when), value in tilted.items()
        ]
        if rows:
            head = ["run", "imbalance of weight layers", "gradients", "gradient of the first map over that of the last"]
            parts.append(markdown_table(head, rows))
    return [*parts, "![Gradients layer by layer](gradients.svg)"]


def _said(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return "vanish" if value < 1 / FACTOR else "explode" if value > FACTOR else "neither"


def _race_tables(found: Findings) -> list[str]:
    parts = []
    for source in found.sources:
        rows = []
        for race in races(source):
            against = f"{ARMS[race.arm]}, {source.size(race.rung)}, seed {race.seed}"
            row = [against, f"{race.target:.3f}"]
            for one in (race.multi_cell, race.direct):
                where = f"pass {one.passes}, stage {one.stage + 1}" if one.reached else f"never; best {one.best:.3f}"
                row += [where, f"{one.seconds:.3g} s", f"{one.multiply_adds:.3g}"]
            if not race.counts:
                row[1] += " (no better than chance: not counted)"
            rows.append(row)
        head = ["direct run", "target", "M2CNN there at", "time", "multiply-adds", "direct there at", "time"]
        parts += [f"{source.name}:", markdown_table([*head, "multiply-adds"], rows)] if rows else []
    return parts


def _notes(found: Findings) -> str:
    replicates = found.sources[0].replicates
    notes = [
        "A part holds where its 95 % interval leaves zero out in the claimed direction (for a ratio: one), does not "
        "hold where it leaves it out in the other, else it is undecided. A claim holds only if all its deciding parts "
        "do, in every table, and does not hold if one of them does not. Nothing is corrected for several comparisons: "
        "of forty true nothings one is refuted by chance, so look at how far from zero a refuting interval is.",
        "detectable: the smallest true difference that would be found with 80 % probability (two-sided 5 %).",
        f"Kappa, accuracy, MSE and AUC: of each run over its whole set of test photographs, then the mean over seeds; "
        f"intervals over patients and seeds, {replicates} bootstrap samples, paired. Times and gradients: one number "
        "per seed, Student's interval over seeds; one seed has none, and decides nothing.",
        "Wrong labels: a share of the training photographs with one of the other four grades, each alike; the same "
        "photographs for every loss. Validation and test patients keep the truth, so the pass that is kept is chosen "
        "by true labels.",
        "AUC: the severity of grade 1 (or 2 to 4) above that of grade 0, over photographs of these grades alone.",
        f"Time to the kappa: all stages, until the validation kappa of a pass, in whatever stage, is the direct run's "
        f"best (same seed) minus {MARGIN:g}; validation included. Where that is no better than chance nothing counts. "
        "Numbers that are equal for all seeds have an interval without width. multiply-adds: forward passes of "
        "training. A run that was stopped and went on lacks the time of the pass that it was stopped in. Times of a "
        "busy machine are upper bounds.",
        f"Gradients: over the first {BATCHES} training batches of a stage. imbalance: relative gradient norm of the "
        f"first tenth of the weight layers over that of the last; they vanish below 1/{FACTOR:g} and explode above "
        f"{FACTOR:g}; the poster gives no rule, this one is ours. In the table of parts it is taken as its distance "
        "from 1, whichever way.",
        "The poster's claims are known. By which differences they are decided, the shares of wrong labels, the margin "
        "and the rule of gradients are ours.",
    ]
    return "\n".join(f"- {note}" for note in notes)


# --- CSV ---


def to_csv(parts: Sequence[Part]) -> bytes:
    """One line per part, numbers in full; ratios are logarithms no more."""
    return table_bytes(CSV, [_csv_row(part) for part in parts])


def _csv_row(part: Part) -> list[object]:
    m = part.measure
    numbers = [_exp(v) if m.ratio and not math.isnan(v) else v for v in (m.value, m.low, m.high, m.detectable)]
    return [
        *(part.claim, part.group, part.source, part.what, part.decides, part.claimed, part.answer),
        "ratio" if m.ratio else "difference",
        *("" if math.isnan(number) else repr(float(number)) for number in numbers),
        "" if part.paper is None else part.paper,
        " ".join(map(str, m.seeds)),
        part.note,
    ]
