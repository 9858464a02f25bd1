"""A table is a grid of cells. A cell is a recipe, and the decodes by which its one network is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from m2cnn.errors import M2cnnError, SettingError, did_you_mean
from m2cnn.models import LADDERS
from m2cnn.recipe import Recipe, Stage, load_recipe, recipe_from_dict
from m2cnn.systems import Member, get
from m2cnn.work import multiply_adds

# Before the user's own settings. No resampling: it would start again in each stage and so tell staged runs from direct
# ones. Cuts by rounding, as the paper's decodes are read.
FAIR = ("sampling.kind=all", "fit_cuts=false")
APART = 100_003  # between the seeds of two runs of a member that has its own


@dataclass(frozen=True)
class Cell:
    """One entry of a table. name: of its runs, unique.  arm: its row or column in the paper.  rung: 0, 1 or 2, of the
    ladder.

    decodes: how its outputs become grades; one run is read by each.  noise: share of wrong labels that it learns from
    (m2cnn.paper.noise).
    """

    name: str
    arm: str
    rung: int
    recipe: Recipe
    decodes: tuple[str, ...]
    noise: float = 0.0

    def seeded(self, seed: int) -> Recipe:
        """The recipe of one run. The split keeps its own seed: every run has the same patients.

        A member with a seed of its own gets another in every run, and never that of its fellows.
        """
        members = {
            name: table | {"seed": table["seed"] + APART * seed} if "seed" in table else table
            for name, table in self.recipe.members.items()
        }
        return replace(self.recipe, seed=seed, members=members)

    @property
    def size(self) -> int:
        """Side in px of the picture that is graded."""
        return self.recipe.stages[-1].size

    @property
    def passes(self) -> int:
        """How often training sees each photograph, over all stages."""
        return sum(stage.epochs for stage in self.recipe.stages)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "arm": self.arm,
            "rung": self.rung,
            "decodes": list(self.decodes),
            "recipe": self.recipe.to_dict(),
            **({"noise": self.noise} if self.noise else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cell:
        recipe = recipe_from_dict(values["recipe"], f"cell {values['name']}")
        noise = values.get("noise", 0.0)
        return cls(values["name"], values["arm"], values["rung"], recipe, tuple(values["decodes"]), noise)


def parts_of(recipe: Recipe) -> list[tuple[Member, Recipe]]:
    """The members of a recipe's system in the order of their training, each with its own recipe."""
    return [(member, recipe.of(member.name)) for member in get(recipe.system).customised(recipe).members]


def forward_work(recipe: Recipe, stage: Stage) -> int:
    """Multiply-adds of one photograph through the first member's network of a stage; 0 where it cannot be built."""
    return work_of(parts_of(recipe)[0][0], stage)


def work_of(member: Member, stage: Stage) -> int:
    """Multiply-adds of one photograph through a member's network of a stage; 0 where it cannot be built."""
    try:
        return multiply_adds(member, stage)
    except M2cnnError:  # its run will say why
        return 0


def part_work(recipe: Recipe) -> list[list[int]]:
    """Multiply-adds of one photograph in each stage of each member: all passes, forward alone (training costs about
    three times).
    """
    return [[stage.epochs * work_of(member, stage) for stage in own.stages] for member, own in parts_of(recipe)]


def stage_work(cell: Cell) -> list[int]:
    """The same of all members, one after the other."""
    return [work for part in part_work(cell.recipe) for work in part]


# --- the pattern that all cells share ---


@dataclass(frozen=True)
class Pattern:
    """What cells have in common. recipe: its first stage is the pattern of every stage.  sizes: px of the three rungs.

    passes: of each run, over all its stages.  share: of the passes left, what each stage but the last takes: 0.5 gives
    halves for two stages and 1/2, 1/4, 1/4 for three.
    """

    recipe: Recipe
    sizes: tuple[int, int, int]
    passes: int
    share: float = 0.5

    def stages(self, cells: Sequence[tuple[int, int]]) -> tuple[Stage, ...]:
        """One stage for each (rung, cells), with the passes divided among them."""
        parts = divided(self.passes, len(cells), self.share)
        return tuple(self._stage(rung, count, part) for (rung, count), part in zip(cells, parts, strict=True))

    def _stage(self, rung: int, cells: int, passes: int) -> Stage:
        first = stretched(self.recipe.stages[0], passes)
        return replace(first, rung=rung, size=self.sizes[rung], cells=cells, new_lr=1.0, new_epochs=0)


def stretched(stage: Stage, passes: int) -> Stage:
    """The stage over more or fewer passes; its schedule keeps its shape."""
    factor = passes / stage.epochs
    return replace(
        stage,
        epochs=passes,
        drops=tuple(max(1, round(drop * factor)) for drop in stage.drops),
        warmup=stage.warmup * factor,
        decay=stage.decay / factor,
        new_epochs=stage.new_epochs and max(1, round(stage.new_epochs * factor)),
    )


def pattern(
    base: str,
    overrides: Sequence[str] = (),
    *,
    sizes: Sequence[int] = (),
    passes: int = 0,
    share: float = 0.5,
) -> Pattern:
    """The pattern of a packaged recipe or a .toml file with `key=value` overrides.

    sizes: default, the ladder's.  passes: default, those of the recipe's first stage.
    Raises SettingError for a setting that means nothing.
    """
    recipe = load_recipe(base, [*FAIR, *overrides])
    network = dict(recipe.network)
    if str(network.get("trunk", "")).startswith("timm:"):
        given = {text.partition("=")[0] for text in overrides}
        for key in {"width", "repeats"} - {key.removeprefix("network.") for key in given}:
            network.pop(key, None)  # the base recipe's, of the trunk that was replaced
    three = tuple(sizes) or LADDERS[network.get("ladder", "full")]
    if len(three) != 3 or list(three) != sorted(set(three)) or min(three) < 1:
        raise SettingError("sizes", f"{sizes}", "three rising sizes in px, such as 112,224,360")
    if not 0 < share < 1:
        raise SettingError("share", f"{share:g}", "between 0 and 1", "0.5 halves what is left at each stage.")
    return Pattern(replace(recipe, network=network), three, passes or recipe.stages[0].epochs, share)


def divided(passes: int, stages: int, share: float) -> list[int]:
    """Whole passes of each stage; they sum to `passes`.

    >>> divided(20, 1, 0.5), divided(20, 2, 0.5), divided(20, 3, 0.5), divided(3, 3, 0.5)
    ([20], [10, 10], [10, 5, 5], [1, 1, 1])
    """
    if passes < stages:
        raise SettingError("passes", f"{passes} for {stages} stages", f"{stages} or more", "Each stage needs one.")
    left, parts = passes, []
    for later in range(stages - 1, 0, -1):  # stages that come after this one
        parts.append(min(max(1, round(left * share)), left - later))
        left -= parts[-1]
    return [*parts, left]


def chosen(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells of those names or arms; all where none is named. Raises SettingError for an unknown one."""
    known = {cell.name for cell in cells} | {cell.arm for cell in cells}
    for name in only:
        if name not in known:
            raise SettingError("only", f'"{name}"', "a cell or an arm", did_you_mean(name, known))
    return [cell for cell in cells if not only or cell.name in only or cell.arm in only]
