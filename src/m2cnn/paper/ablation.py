"""The paper's ablation: which loss, which decode, which size, and whether cells help; with two control arms.

Known (poster): BaseNet trained with squared error, cross-entropy and both, and M2CNN, at 224, 448 and 720 px, read by
score or probability; 0, 1 and 2 cells. Ours: the control arms, which tell staging from cells; the same passes for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from m2cnn.errors import SettingError
from m2cnn.paper import published
from m2cnn.paper.grid import Cell, Pattern
from m2cnn.paper.statistics import Gap, Measured

ARMS = {
    "mse": "MSE",
    "ce": "CE",
    "mt": "multi-task",
    "m2cnn": "M2CNN",
    "staged": "staged without cells",
    "direct": "cells without staging",
}
BOTH = ("scores", "prob")
BASELINE = {"mse": "mt", "ce": "mt", "m2cnn": "mt", "staged": "m2cnn", "direct": "m2cnn"}
Ladder = Sequence[tuple[int, int]]  # (rung, cells) of each stage


def ablation_cells(pattern: Pattern) -> tuple[Cell, ...]:
    """Every cell of the ablation; they differ in nothing but what their arm and their size say."""
    if pattern.recipe.calibrate:
        repair = "It would change what one decode says and not the other; m2cnn calibrate does it to a finished run."
        raise SettingError("ablation, calibrate", "true", "false", repair)
    cells = []
    for rung in range(3):
        straight: Ladder = [(rung, 0)]
        cells += [
            _cell(pattern, "mse", rung, straight, "basenet", {"name": "regression"}, ("scores",)),
            _cell(pattern, "ce", rung, straight, "basenet", {"name": "classification"}, ("prob",)),
            _cell(pattern, "mt", rung, straight, "basenet-mt", None, BOTH),
        ]
        if rung:  # with zero cells M2CNN is BaseNet with the multi-task loss
            grown: Ladder = [(step, step) for step in range(rung + 1)]
            cells += [
                _cell(pattern, "m2cnn", rung, grown, "m2cnn", None, BOTH),
                _cell(pattern, "staged", rung, [(step, 0) for step, _ in grown], "basenet-mt", None, BOTH),
                _cell(pattern, "direct", rung, [(rung, rung)], "m2cnn", None, BOTH),
            ]
    return tuple(cells)


def _cell(
    pattern: Pattern, arm: str, rung: int, ladder: Ladder, system: str, task: dict | None, decodes: tuple[str, ...]
) -> Cell:
    recipe = pattern.recipe
    # What the base recipe says of its task holds for the multi-task loss, which alone has settings.
    asked = {key: value for key, value in recipe.task.items() if key not in ("name", "decode")}
    rule = {key: value for key, value in asked.items() if key == "rule"}
    task = asked if task is None else task | rule
    recipe = replace(recipe, system=system, stages=pattern.stages(ladder), task=task)
    if decodes == ("prob",) and rule != {"rule": "expectation"}:
        recipe = replace(recipe, fit_cuts=False)  # argmax has no cuts
    return Cell(f"{arm}-{pattern.sizes[rung]}", arm, rung, recipe, decodes)


# --- what the paper says, and what we find ---


ANSWERS = ("same sign", "opposite", "undecided", "not run")


@dataclass(frozen=True)
class Verdict:
    """One comparison in the paper's table. paper: its difference.  gap: ours.  answer: one of ANSWERS."""

    claim: str
    paper: float
    gap: Gap
    answer: str


def answered(paper: float, gap: Gap) -> str:
    """Ours against the paper's sign: decided only where the interval leaves zero out."""
    if not gap.seeds:
        return "not run"
    if not (gap.low > 0 or gap.high < 0):
        return "undecided"
    return "same sign" if (gap.value > 0) == (paper > 0) else "opposite"


def verdicts(measured: Measured, cells: Sequence[Cell]) -> list[Verdict]:
    """Every statement of the poster's table, answered from our runs."""
    size = {cell.rung: cell.size for cell in cells}
    found = []

    def ask(claim: str, one: tuple[str, str, int], *others: tuple[str, str, int]) -> None:
        numbers = [published.ablation(*each) for each in (one, *others)]
        if None in numbers:
            return
        keys = [(f"{arm}-{size[rung]}", decode) for arm, decode, rung in (one, *others)]
        gap, paper = measured.gap(*keys), numbers[0] - max(numbers[1:])
        found.append(Verdict(claim, round(paper, 3), gap, answered(paper, gap)))

    for rung in range(3):
        at = f"{size[rung]} px (the paper's {published.SIZES[rung]})"
        ask(
            f"multi-task, scores, against the better of MSE and CE at {at}",
            ("mt", "scores", rung),
            ("mse", "scores", rung),
            ("ce", "prob", rung),
        )
        ask(f"multi-task, prob, against CE at {at}", ("mt", "prob", rung), ("ce", "prob", rung))
        for decode in BOTH:
            ask(f"M2CNN against multi-task, {decode}, at {at}", ("m2cnn", decode, rung), ("mt", decode, rung))
    for arm, decode in published.ABLATION:
        for rung in (1, 2):
            steps = f"{size[rung]} px against {size[rung - 1]} px"
            ask(f"{ARMS[arm]}, {decode}: {steps}", (arm, decode, rung), (arm, decode, rung - 1))
    return found
