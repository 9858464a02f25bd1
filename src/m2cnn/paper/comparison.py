"""The paper's comparison: every row of SYSTEMS as a whole entry, each trained by a recipe of its own.

Known (poster): the eight names, and kappa of each on its val and its test set. Ours: m2cnn+blend, what the rows are
trained with in their slim recipes, and the budget that lets all of them take the same work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from m2cnn.combine import Combiner
from m2cnn.errors import M2cnnError, SettingError, did_you_mean
from m2cnn.paper.ablation import Verdict, answered
from m2cnn.paper.evidence import OWN
from m2cnn.paper.grid import Cell, part_work, parts_of, stretched, work_of
from m2cnn.paper.statistics import Measured
from m2cnn.part import precision_of
from m2cnn.recipe import Recipe, Stage, load_recipe, recipe_names
from m2cnn.systems import SYSTEMS, get
from m2cnn.work import parameters, passes

REFERENCE = "m2cnn"
# Packaged recipes that are not named as their system is.
RECIPES = {"basenet": "basenet-mse", "m2cnn+blend": "m2cnn-blend"}
SPLITS = ("val", "test")  # as System.paper has them


def comparison_cells(
    settings: Sequence[str] = (), files: Mapping[str, str] | None = None, budget: str = ""
) -> tuple[Cell, ...]:
    """A row for every system, with `settings` of all rows (KEY=VALUE) or of one (NAME:KEY=VALUE).

    files: as `recipe_files` gives them.  budget: see `budget_of`.
    Raises SettingError for a recipe or setting that there is not, and for rows that split patients differently.
    """
    files = recipe_files() if files is None else files
    common, own = _settings(settings)
    found = {name: _recipe(name, file, [*common, *own.get(name, ())]) for name, file in files.items()}
    _same_patients(found)
    if budget:
        work = budget_of(budget, found)
        found = {name: fitted_to(recipe, work) for name, recipe in found.items()}
    return tuple(Cell(name, name, 0, recipe, (OWN,)) for name, recipe in found.items())


def _settings(texts: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Settings of all rows, and of each."""
    common: list[str] = []
    own: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, colon, rest = key.partition(":")
        if colon:
            own.setdefault(_known(name, text), []).append(f"{rest}{equals}{value}")
        else:
            common.append(text)
    return common, own


def _known(name: str, place: str) -> str:
    if name not in SYSTEMS:
        raise SettingError(place, f'"{name}"', "a row", did_you_mean(name, SYSTEMS))
    return name


def recipe_files(own: Mapping[str, str] | None = None, full: bool = False) -> dict[str, str]:
    """The recipe of every system: packaged or a .toml file. own: by system; the others take the packaged slim one, or,
    with `full`, that of the published width.

    Raises SettingError for a system that there is not, and for one that has no packaged recipe.
    """
    own = own or {}
    for name in own:
        _known(name, "--recipe")
    return {name: own.get(name) or _packaged(name, full) for name in SYSTEMS}


def _recipe(name: str, file: str, settings: Sequence[str]) -> Recipe:
    plain = load_recipe(file)
    if plain.system != name:
        raise SettingError(f"recipe of {name}", f'{file} is of system "{plain.system}"', f'system = "{name}"')
    try:
        recipe = load_recipe(file, settings)
        get(name).customised(recipe)
    except M2cnnError as cause:
        raise SettingError(f"row {name}", str(cause).rstrip("."), repair="Of one row alone: NAME:KEY=VALUE.") from cause
    return recipe


def _packaged(name: str, full: bool) -> str:
    file = RECIPES.get(name, name) + ("" if full else "-slim")
    if file not in recipe_names():
        raise SettingError(f"row {name}", "it has no packaged recipe", "one", f"Give it: --recipe {name}=FILE.toml")
    return file


def _same_patients(recipes: Mapping[str, Recipe]) -> None:
    first, *others = recipes
    for name in others:
        if recipes[name].split != recipes[first].split:
            got = f"another [split] than {first}: {recipes[name].split}"
            raise SettingError(f"row {name}", got, f"{recipes[first].split}", "Set split.KEY=VALUE for all rows.")


def settled_precision(cells: Sequence[Cell], before: Sequence[Cell] = ()) -> tuple[Cell, ...]:
    """The cells with one meaning of precision "auto": that of the table so far, or measured once, with M2CNN.

    before: the cells of the plan that there is already.
    """
    if all(cell.recipe.precision != "auto" for cell in cells):
        return tuple(cells)
    known = {cell.name: cell.recipe.precision for cell in before}
    usual = next((cell for cell in cells if cell.name == REFERENCE), cells[0])
    measured = "" if known else precision_of(*parts_of(usual.recipe)[0])

    def settled(cell: Cell) -> Cell:
        if cell.recipe.precision != "auto":
            return cell
        return replace(cell, recipe=replace(cell.recipe, precision=measured or known.get(cell.name, "32")))

    return tuple(map(settled, cells))


# --- a row in words ---


def title_of(name: str) -> str:
    """As the paper prints it."""
    return SYSTEMS[name].title if name in SYSTEMS else name


def paper_of(name: str, split: str) -> float | None:
    """The paper's kappa on its val or test set; None for a row that it lacks."""
    paper = SYSTEMS[name].paper if name in SYSTEMS else None
    return paper[SPLITS.index(split)] if paper else None


def combiner_of(cell: Cell) -> str:
    """The name of what joins its members."""
    combiner = combiner_in(cell)
    return combiner.name if combiner else "none"


def combiner_in(cell: Cell) -> Combiner | None:
    """What joins the members of a row."""
    return get(cell.recipe.system).customised(cell.recipe).combiner


# --- what a row costs ---


@dataclass(frozen=True)
class Cost:
    """Of one row. sizes: px of the pictures that its members grade, without repetition.  members: networks that are
    trained.  looks: networks x views that one grade takes.  parameters: of every set of weights in the bundle.

    training: multiply-adds of one photograph over all passes of all stages and members, forward alone (training costs
    about three times).  grading: of the grade of one photograph.  0: a network that cannot be built.
    """

    sizes: tuple[int, ...]
    members: int
    looks: int
    parameters: int
    training: int
    grading: int


def cost_of(recipe: Recipe) -> Cost:
    """What a recipe's system costs."""
    parts = [(member, own.stages[-1]) for member, own in parts_of(recipe)]
    speaking = [(member, last) for member, last in parts if member.joins]
    return Cost(
        tuple(dict.fromkeys(last.size for _, last in speaking)),
        len(parts),
        sum(passes(member) for member, _ in speaking),
        sum(_parameters(member, last) * len(member.snapshots) for member, last in speaking),
        training_work(recipe),
        sum(work_of(member, last) * passes(member) for member, last in speaking),
    )


def _parameters(member: Any, stage: Stage) -> int:
    try:
        return parameters(member, stage)
    except M2cnnError:  # its run will say why
        return 0


def training_work(recipe: Recipe) -> int:
    """Multiply-adds of one photograph over all passes of all stages and members, forward alone."""
    return sum(map(sum, part_work(recipe)))


# --- the same work for all rows ---


def budget_of(text: str, recipes: Mapping[str, Recipe]) -> float:
    """Multiply-adds of one photograph over the whole training: a number, or what the row of that name takes."""
    if text in recipes:
        return float(training_work(recipes[text]))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingError("--budget", f'"{text}"', "multiply-adds for a photograph, such as 4e9, or the name of a row")
    return value


def fitted_to(recipe: Recipe, budget: float) -> Recipe:
    """The recipe with all passes multiplied by one number, so that training takes as nearly `budget` as whole passes
    allow: each stage keeps its share, no stage has less than one pass, schedules keep their shape.

    A pass of fixed draws becomes one of every photograph.
    """
    recipe = replace(recipe, sampling=replace(recipe.sampling, draws=0, rounds=1))
    passes = [(stage.epochs, work_of(member, stage)) for member, own in parts_of(recipe) for stage in own.stages]

    def work(factor: float) -> int:
        return sum(_times(factor, epochs) * each for epochs, each in passes)

    if not work(1):
        return recipe  # a network that cannot be built: its run will say why
    low, high = 0.0, 2 * budget / work(1) + 1  # `high` is above the budget
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if work(middle) <= budget else (low, middle)
    return multiplied(recipe, min(low, high, key=lambda factor: abs(work(factor) - budget)))


def _times(factor: float, passes: int) -> int:
    return max(1, round(passes * factor))


def multiplied(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with `factor` times the passes in every stage of every member, one at least."""

    def stages(every: Iterable[Stage]) -> tuple[Stage, ...]:
        return tuple(stretched(stage, _times(factor, stage.epochs)) for stage in every)

    def table(name: str, own: dict[str, Any]) -> dict[str, Any]:
        if "stages" not in own:
            return own
        # Plain values, as TOML gives them.
        return own | {"stages": json.loads(json.dumps([asdict(stage) for stage in stages(recipe.of(name).stages)]))}

    members = {name: table(name, own) for name, own in recipe.members.items()}
    return replace(recipe, stages=stages(recipe.stages), members=members)


# --- the paper's orderings ---


@dataclass(frozen=True)
class Ordering(Verdict):
    """One pair of the paper's table: `above` has the higher kappa there. split: val or test, here as there."""

    split: str
    above: str
    below: str


def orderings(measured: Mapping[str, Measured], names: Iterable[str]) -> list[Ordering]:
    """Every pair of the paper's rows that are not equal there, on val and on test, answered from our runs."""
    found = []
    rows = [SYSTEMS[name] for name in names if name in SYSTEMS and SYSTEMS[name].paper]
    for number, split in enumerate(SPLITS):
        for one, other in combinations(rows, 2):
            above, below = sorted((one, other), key=lambda row: -row.paper[number])
            paper = round(above.paper[number] - below.paper[number], 3)
            if not paper:
                continue
            gap = measured[split].gap((above.name, OWN), (below.name, OWN))
            claim = f"{above.title} above {below.title}"
            found.append(Ordering(claim, paper, gap, answered(paper, gap), split, above.name, below.name))
    return found
