"""Recipes: how a system is trained, stage by stage. TOML files, packaged or the user's own; every key is known.

A recipe names a row of `systems.py`; its [network], [task], [preprocess] and [views] tables change that row's members,
[combiner] its combiner. [members.NAME] holds what is different for one member: any table above, or all stages. `base`
names another recipe, of which only what stands here is changed.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from m2cnn.data.augment import Augment
from m2cnn.data.sampling import KINDS, Sampling
from m2cnn.errors import SettingError, did_you_mean
from m2cnn.models import LADDERS, PlainSettings
from m2cnn.overrides import overridden


@dataclass(frozen=True)
class Optimiser:
    """name: "sgd" (Nesterov) or "adamw".  clip: global gradient norm, 0 for none.  Decay spares biases and norms."""

    name: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0


@dataclass(frozen=True)
class Stage:
    """One step of the ladder. `rung` chooses the size (0, 1, 2 -> 224, 448, 720 px on the full ladder) unless `size`
    does.

    cells: cells of the network in this stage.  part: how much of a network with parts runs, 0 the first of them alone;
    -1 for all of it.  frozen: submodules that do not learn, by name.  frozen_norm: batch norms keep their statistics.
    begin: which weights of the stage before it starts from: "kappa", "loss" (the best pass by that) or "last".
    rescale: batches on which the network's activations are brought near 1 before the first step.

    drops: passes after which the rate falls by `drop`, for schedule "steps"; "cosine" falls to 0; "exponential" falls
    by exp(-`decay`) after each pass.  warmup: passes of linear rise.  new_lr: factor on the rate of what this stage
    added, for `new_epochs` passes.  carried_lr: factor on the rate of the parts that an earlier stage trained.
    weight_decay: below 0 for the optimiser's.  accumulate: batches per optimiser step.
    """

    epochs: int
    rung: int = 0
    size: int = 0
    cells: int = 0
    part: int = -1
    frozen: tuple[str, ...] = ()
    frozen_norm: bool = False
    begin: str = "kappa"
    rescale: int = 0
    lr: float = 0.01
    schedule: str = "steps"
    drops: tuple[int, ...] = ()
    drop: float = 0.1
    decay: float = 0.05
    warmup: float = 0.0
    new_lr: float = 1.0
    new_epochs: int = 0
    carried_lr: float = 0.1
    weight_decay: float = -1.0
    batch: int = 32
    accumulate: int = 1

    def rate(self, progress: float) -> float:
        """The learning rate after `progress` passes (fractions count)."""
        warm = min(1.0, progress / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return self.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress / self.epochs)))
        if self.schedule == "exponential":
            return self.lr * warm * math.exp(-self.decay * math.floor(progress))
        return self.lr * warm * self.drop ** sum(progress >= d for d in self.drops)

    def factor(self, progress: float, new: bool, carried: bool) -> float:
        """On the rate, for what this stage added and for what it carries on."""
        if carried:
            return self.carried_lr
        return self.new_lr if new and progress < self.new_epochs else 1.0

    def optimiser(self, settings: Optimiser) -> Optimiser:
        """The recipe's, with this stage's weight decay."""
        return settings if self.weight_decay < 0 else dataclasses.replace(settings, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Split:
    """Proportions of patients, for rows that have no split yet; `lockbox` is set aside first, by a hash."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1
    lockbox: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """precision: "auto" (bf16 where this machine is measured faster with it), "bf16" or "32".  ema: decay of the
    averaged weights, 0 for none.  fit_cuts: cuts of the grade fitted on validation patients.  calibrate: probabilities
    and operating points too (m2cnn.calibration).  norm_batches: of training pictures, on which batch norms are measured
    anew before each validation; 0 keeps their running averages, which lag behind in short runs.
    half: the large weights are rounded to float16 before cuts are fitted and anything is measured, and stored so.
    checkpoint_minutes: how often the run is saved within a pass.  workers: loading processes.  members: by a member's
    name, tables that replace the recipe's own for it.
    """

    system: str
    stages: tuple[Stage, ...]
    seed: int = 0
    ema: float = 0.0
    precision: str = "auto"
    fit_cuts: bool = False
    calibrate: bool = False
    norm_batches: int = 0
    half: bool = False
    checkpoint_minutes: float = 3.0
    workers: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    combiner: dict[str, Any] = field(default_factory=dict)
    optimiser: Optimiser = Optimiser()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    split: Split = Split()
    members: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _choose("precision", self.precision, ("auto", "bf16", "32"))
        _choose("optimiser.name", self.optimiser.name, ("sgd", "adamw"))
        _check_sampling(self.sampling)
        if self.norm_batches < 0:
            raise SettingError("recipe, norm_batches", str(self.norm_batches), "0 or more", "0: running averages.")
        if not 0 <= self.ema < 1:
            raise SettingError("recipe, ema", str(self.ema), "at least 0, below 1", "0: no averaged weights.")
        if not self.stages:
            raise SettingError("recipe", "it has no stage", "one [[stages]] table or more")
        for number, stage in enumerate(self.stages):
            _check_stage(number, stage, self.stages[number - 1] if number else None)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def of(self, member: str) -> Recipe:
        """The recipe of one member: its [members.NAME] over the common tables, itself where there is none.

        Raises SettingError for a key or value that no recipe has.
        """
        own, tables = self.members.get(member, {}), self.to_dict()
        if not isinstance(own, dict):
            raise SettingError(f"recipe, members.{member}", f"{own!r}", "a table of settings")
        return _resolve_sizes(recipe_from_dict(_over(own, tables) | {"members": {}}, f"recipe, members.{member}"))


def _check_sampling(sampling: Sampling) -> None:
    _choose("sampling.kind", sampling.kind, KINDS)
    for key, least in {"draws": 0, "rounds": 1}.items():
        value = getattr(sampling, key)
        if value < least:
            raise SettingError(f"recipe, sampling.{key}", str(value), f"{least} or more")
        if sampling.kind != "random" and value != least:
            raise SettingError(f"recipe, sampling.{key}", f'{value} for kind "{sampling.kind}"', 'kind "random"')


# The least that a number of a stage may be.
LEAST = {"epochs": 1, "batch": 1, "accumulate": 1, "cells": 0, "part": -1, "rescale": 0, "decay": 0, "carried_lr": 0}


def _check_stage(number: int, stage: Stage, before: Stage | None) -> None:
    place = f"stages.{number}"
    _choose(f"{place}.schedule", stage.schedule, ("steps", "cosine", "exponential"))
    _choose(f"{place}.begin", stage.begin, ("kappa", "loss", "last"))
    for key, least in LEAST.items():
        if not getattr(stage, key) >= least:
            raise SettingError(f"{place}.{key}", str(getattr(stage, key)), f"{least} or more")
    if not 0 <= stage.rung < 3:
        raise SettingError(f"{place}.rung", str(stage.rung), "0, 1 or 2", "A size of your own: set size, in pixels.")
    if before and stage.cells < before.cells:
        raise SettingError(f"{place}.cells", str(stage.cells), f"{before.cells} or more", "A network only grows.")
    if before and (stage.part < before.part or min(stage.part, before.part) < 0 <= stage.part):
        expected = "-1 as before" if before.part < 0 else f"{before.part} or more"
        raise SettingError(f"{place}.part", str(stage.part), expected, "Parts are trained one after the other.")


def check_stages(stages: Sequence[Stage], network: PlainSettings) -> None:
    """Raises SettingError where a stage asks for what the network does not have."""
    network.check_parts([stage.part for stage in stages])
    for number, stage in enumerate(stages):
        place, kind = f"recipe, stages.{number}", type(network).__name__
        if stage.batch < 2 and network.batch_norm:
            raise SettingError(f"{place}.batch", f"1 for {kind}", "2 or more: it has batch norms")
        if stage.rescale and not network.rescales:
            raise SettingError(f"{place}.rescale", f"{stage.rescale} for {kind}", "0: its activations need none")


def _choose(place: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(
            f"recipe, {place}", f'"{value}"', f"one of {', '.join(choices)}", did_you_mean(value, choices)
        )


def recipe_names() -> list[str]:
    """The packaged recipes."""
    files = resources.files("m2cnn.recipes").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A packaged recipe by name, or a TOML file, with `key=value` overrides such as "stages.1.epochs=3".

    Raises SettingError for an unknown name, key or value.
    """
    recipe = _resolve_sizes(recipe_from_dict(overridden(_read(name), overrides), str(name)))
    for member in recipe.members:
        recipe.of(member)
    return recipe


def recipe_from_dict(tables: dict, place: str = "recipe") -> Recipe:
    """A recipe from plain tables, as TOML or `Recipe.to_dict` give them."""
    return _build(Recipe, tables, place)


def _read(name: str | Path) -> dict:
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SettingError(path, "no such file", "a recipe", f"Packaged: {', '.join(recipe_names())}.")
        text = path.read_text(encoding="utf-8")
    elif str(name) in recipe_names():
        text = (resources.files("m2cnn.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise SettingError(
            "recipe", f'"{name}"', "a packaged recipe or a .toml file", did_you_mean(str(name), recipe_names())
        )
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise SettingError(name, f"not valid TOML ({cause})", "a recipe") from cause
    base = tables.pop("base", "")
    if not isinstance(base, str) or base == str(name):
        raise SettingError(f"{name}, base", f"{base!r}", "another recipe")
    return _over(tables, _read(base)) if base else tables


def _over(own: dict, tables: dict) -> dict:
    """`tables` with what `own` says otherwise: a table by its keys, anything else as a whole."""
    both = {key for key, value in own.items() if isinstance(value, dict) and isinstance(tables.get(key), dict)}
    return tables | own | {key: tables[key] | own[key] for key in both}


def _build(kind: type, table: dict, place: str) -> Any:
    """A settings dataclass from a table; every key known, every value of its type."""
    if not isinstance(table, dict):
        raise SettingError(place, f"{table!r}", "a table of settings")
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise SettingError(place, f'unknown key "{key}"', f"a setting of {kind.__name__}", did_you_mean(key, hints))
    for needed in (f.name for f in dataclasses.fields(kind) if _is_required(f)):
        if needed not in table:
            raise SettingError(place, f'no "{needed}"', f"{kind.__name__} with {needed}")
    return kind(**{key: _convert(hints[key], value, f"{place}.{key}") for key, value in table.items()})


def _is_required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, place)
    origin = get_origin(hint) or hint
    if origin is tuple and isinstance(value, (list, tuple)):
        item = get_args(hint)[0]
        return tuple(_convert(item, v, f"{place}.{n}") for n, v in enumerate(value))
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # precision=32, as typed in a shell
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise SettingError(place, f"{value!r}", getattr(hint, "__name__", str(hint)))
    return value


def _resolve_sizes(recipe: Recipe) -> Recipe:
    """Every stage's size in pixels, from its rung on the network's ladder."""
    ladder = recipe.network.get("ladder", "full")
    if ladder not in LADDERS:
        raise SettingError("recipe.network.ladder", f'"{ladder}"', "a ladder", did_you_mean(str(ladder), LADDERS))
    sizes = LADDERS[ladder]
    stages = tuple(s if s.size else dataclasses.replace(s, size=sizes[s.rung]) for s in recipe.stages)
    return dataclasses.replace(recipe, stages=stages)
