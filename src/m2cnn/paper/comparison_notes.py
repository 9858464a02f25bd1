"""What a reader of the comparison must know, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from m2cnn.paper.comparison import budget_of, combiner_in, title_of
from m2cnn.paper.grid import parts_of
from m2cnn.paper.running import Plan

if TYPE_CHECKING:
    from m2cnn.paper.comparison_page import Page

OFF = 1.1  # a row's work further than this from the budget, up or down, is told


def shown_count(value: int) -> str:
    """A large number for people; "-" for what could not be counted.

    >>> shown_count(4_190_000_000), shown_count(12), shown_count(0)
    ('4.19 G', '12', '-')
    """
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value}" if value else "-"


def notes_of(page: Page) -> list[str]:
    plan, test = page.results.plan, page.results.measured["test"]
    notes = [
        "Every row is a whole entry: its members, their views and its combiner; graded as it grades, by its own decode "
        "and cuts, and each trained by its own recipe on the same patients.",
        "Kappa is quadratic weighted, of each run over its whole set, then the mean over seeds. Intervals are 95 % "
        f"over patients{' and seeds' if len(plan.seeds) > 1 else ' (one seed: how much seeds differ is not in them)'}: "
        f"{test.replicates} bootstrap samples, the same for all rows; differences are paired. "
        "p is not corrected for several comparisons. Only photographs that every row graded count.",
        "detectable: the smallest true difference that these patients and seeds would show (two-sided 5 %) with 80 % "
        "probability: 2.8 standard errors of the paired difference. An answer is decided only where the interval "
        "leaves zero out; the paper's differences have no interval, and its ties are no pairs.",
        "Beside the paper's: the numbers of its table are known; its first five rows equal those that the Zoom-in-Net "
        "paper prints, and Min-pooling's, o_O's and Reformed Gamblers' are the teams' scores on the leaderboard of the "
        "Kaggle competition of 2015: quoted, not trained again there (inferred). They learned from 35,126 photographs "
        "of EyePACS; val is its Public part (10,906 photographs), test its Private one (42,670) (inferred). Here "
        "photographs and passes are others, with slim recipes the widths too: compare orderings, not values.",
        *_notes_on_recipes(plan),
        *_notes_on_budget(page),
        *_notes_on_validation(plan),
        "passes: of each stage; where members differ, of the fewest and the most. training: passes x photographs x one "
        "forward pass, of one photograph, all stages and members; training costs about three times that. a grade: "
        "views x one forward pass of every set of weights; where both eyes are looked at, each is graded once. "
        "parameters: of every set of weights in the bundle. after the last pass: what members say of the photographs, "
        "fitting the combiner, export and evaluation.",
    ]
    if test.collapsed:
        notes.append(f"One grade for every test photograph, so kappa 0: {'; '.join(test.collapsed)}.")
    return notes


def _notes_on_recipes(plan: Plan) -> list[str]:
    by_name = {cell.name: cell.recipe.to_dict() for cell in plan.cells}
    notes = []
    family = [name for name in ("basenet", "basenet-mt", "m2cnn") if name in by_name]
    if len(family) > 1:
        first = by_name[family[0]]
        other = sorted({key for name in family[1:] for key in first if by_name[name][key] != first[key]})
        titles = ", ".join(map(title_of, family))
        notes.append(f"The recipes of {titles} differ in {_words(other)}, and in nothing else.")
    if any(file.endswith("-slim") for file in plan.asked.get("recipes", {}).values()):
        notes.append("Slim recipes: widths, rates and passes are our own, a reconstruction for a short training.")
    if any(cell.recipe.sampling.kind != "all" and len(cell.recipe.stages) > 1 for cell in plan.cells):
        notes.append("Resampling begins again in each stage: rows with stages see rare grades more often.")
    return notes


def _words(keys: Sequence[str]) -> str:
    """Settings in words; a system brings its loss with it."""
    return " and ".join({"system": "system (the loss, the cells)"}.get(key, key) for key in keys)


def _notes_on_budget(page: Page) -> list[str]:
    asked = page.results.plan.asked.get("budget")
    if not asked:
        return ["Rows take the passes of their recipes, so unequal work: --budget gives all about the same."]
    budget = budget_of(asked, {cell.name: cell.recipe for cell in page.cells})
    notes = [
        f"All rows were given {shown_count(int(budget))} multiply-adds for a photograph ({asked}): their recipes' "
        "passes, all multiplied by one number, each stage one pass or more. A pass shows as many photographs as there "
        "are."
    ]
    for cell in page.cells:
        work = page.costs[cell.name].training
        least = all(stage.epochs == 1 for _, own in parts_of(cell.recipe) for stage in own.stages)
        if work and not 1 / OFF <= work / budget <= OFF:
            why = "one pass of each stage is the least there is" if least and work > budget else "passes are whole"
            notes.append(f"{title_of(cell.name)} takes {work / budget:.2f} times the budget: {why}.")
    return notes


def _notes_on_validation(plan: Plan) -> list[str]:
    fitted = []
    for cell in plan.cells:
        combiner = combiner_in(cell)
        cuts = cell.recipe.fit_cuts or (combiner is not None and combiner.fit_cuts)
        if cuts or (combiner is not None and "val" in combiner.splits):
            fitted.append(title_of(cell.name))
    said = f", and cuts or combiner of {', '.join(fitted)} are fitted on them" if fitted else ""
    return [
        f"Validation patients choose the pass that is kept{said}, so validation numbers flatter, not all rows alike; "
        "test patients chose nothing."
    ]
