"""The numbers of a model card as lines of Markdown: each with its interval, its photographs and its command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from m2cnn.bootstrap import shown
from m2cnn.card import NUMBERS, Evidence
from m2cnn.card_groups import KINDS, SHOWN
from m2cnn.grades import GRADES, NUM_GRADES
from m2cnn.summary import TITLES

NOT_MEASURED = "not measured"
FEW = 30  # patients, below which a group's numbers say little


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def evidence_lines(one: Evidence, model: str) -> list[str]:
    """How, on whom and with what result; model: the hash of the one that the card is of."""
    summary = one.summary
    metrics = [(title, _shown(summary["metrics"].get(name))) for name, title in TITLES.items()]
    head = ("true, graded as", *(str(grade) for grade in range(NUM_GRADES)))
    confusion = [(truth, *counts) for truth, counts in enumerate(summary["confusion"])]
    return [
        *table(("", ""), _facts(one, model)),
        "",
        *table(("metric", "value (95 % interval over patients)"), metrics),
        "",
        *table(head, confusion),
        "",
        *_points(one, model),
    ]


def _facts(one: Evidence, model: str) -> list[tuple[str, object]]:
    summary = one.summary
    boot, context = summary.get("bootstrap") or {}, summary.get("context") or {}
    command = f"`{context['command']}`" if context.get("command") else "not recorded"
    facts = [
        ("graded by", _grader(summary["bundle"], model)),
        ("split", summary["split"] or "not recorded"),
        ("photographs", f"{summary['n_images']} of {summary['n_patients']} patients"),
        ("refused as not gradable", summary["n_ungradable"]),
        ("scored", summary["n_scored"]),
        ("intervals", _how(boot)),
        ("command", command),
    ]
    if context.get("left_out_as_trained_on"):
        facts.append(("left out, the model knew them", context["left_out_as_trained_on"]))
    if context.get("lockbox"):
        facts.append(("the lockbox was opened", f"{len(context['lockbox'])} times, on record"))
    return facts


def _how(bootstrap: dict[str, Any]) -> str:
    """How the intervals came about."""
    if not bootstrap:
        return "not recorded"
    return f"{bootstrap['replicates']} bootstrap samples of patients: {bootstrap['method']}"


def _grader(bundles: str, model: str) -> str:
    if bundles == model:
        return f"this model ({model})"
    return f"**other models than this one**, of the same system: {bundles or 'not recorded'}"


def _points(one: Evidence, model: str) -> list[str]:
    # A model that was calibrated again has other points, and took its card with it.
    if one.points is None or one.summary["bundle"] != model:
        return [f"This model's operating points on these photographs: {NOT_MEASURED}."]
    rates = ("sensitivity", "specificity")
    rows = [(name, *(_with_interval(*point[rate]) for rate in rates)) for name, point in one.points.items()]
    return table(("operating point, frozen before", *rates), rows)


def group_lines(one: Evidence) -> list[str]:
    """One row for each group; a kind that nobody could tell says so."""
    head = ("by", "group", "photographs", "patients", *(TITLES[metric] for metric in SHOWN), "mind")
    rows: list[Sequence[object]] = []
    for kind in KINDS:
        found = [group for group in one.groups if group.by == kind]
        for group in found:
            few = f"**fewer than {FEW} patients: says little**" if group.patients < FEW else "-"
            values = [_shown(group.metrics.get(metric)) for metric in SHOWN]
            rows.append((kind, group.name, group.photographs, group.patients, *values, few))
        if not found:
            rows.append((kind, *[NOT_MEASURED] * (3 + len(SHOWN)), "-"))
    return table(head, rows)


def failure_lines(one: Evidence) -> list[str]:
    """The worst mistakes in words."""
    return [f"- {line}" for line in (*_severe(one.severe), *_far_off(one.summary["confusion"]))]


def _severe(severe: dict[str, Any] | None) -> list[str]:
    if not severe:
        return [f"Grades 3 and 4 that were not referred: {NOT_MEASURED}."]
    lines = []
    for grade, counts in severe["grades"].items():
        name = GRADES[int(grade)].name
        if not counts["photographs"]:
            lines.append(f"Grade {grade} ({name}): no photograph, so {NOT_MEASURED}.")
            continue
        lines.append(
            f"Grade {grade} ({name}): of {counts['photographs']} photographs {counts['not_referred']} were graded 0 or "
            f"1 and so not referred, {counts['refused']} were refused as not gradable."
        )
    rate = [severe["referred"][key] for key in NUMBERS]
    return [*lines, f"Share of gradable grades 3 and 4 that was referred: {_with_interval(*rate)}."]


def _far_off(confusion: Sequence[Sequence[int]]) -> list[str]:
    cells = [(truth, graded, n) for truth, row in enumerate(confusion) for graded, n in enumerate(row)]
    total = sum(n for _, _, n in cells)
    far = sum(n for truth, graded, n in cells if abs(truth - graded) >= 2)
    feared = sum(n for truth, graded, n in cells if truth == 0 and graded >= 3)
    mild = sum(n for truth, graded, n in cells if truth == 1 and graded == 0)
    return [
        f"Two or more grades off: {far} of {total} scored photographs.",
        f"Healthy eyes graded 3 or 4: {feared} of {sum(confusion[0])}.",
        f"Grade 1 (microaneurysms only) graded 0: {mild} of {sum(confusion[1])}.",
    ]


def _shown(estimate: dict[str, float | None] | None) -> str:
    return _with_interval(*(estimate[key] for key in NUMBERS)) if estimate else NOT_MEASURED


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A number with its interval, or the reason why there is none."""
    if value is None:
        return NOT_MEASURED
    return shown(value, low, high) + ("" if low is not None else " (no interval can be told)")
