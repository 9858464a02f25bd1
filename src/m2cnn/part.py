"""Training one member of a system: its stages one after the other, and a bundle of each snapshot at the end."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from m2cnn.bar import Bar
from m2cnn.bundle import KNOWN, SETTINGS, Bundle, answers_of, framed, load_bundle
from m2cnn.checkpoint import SNAPSHOTS, Progress, best_weights, load_checkpoint, load_weights
from m2cnn.cuts import fit_cuts
from m2cnn.data.augment import middle
from m2cnn.data.cache import Cached, cache_pictures, taught
from m2cnn.data.dataset import Pictures
from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.terms import Terms
from m2cnn.errors import DataError
from m2cnn.export import Origin, save_bundle
from m2cnn.fit import Fit, Interrupted, StageData, fit_stage
from m2cnn.grades import NUM_GRADES
from m2cnn.half import round_to_half
from m2cnn.models import PlainSettings
from m2cnn.plots import curves_svg
from m2cnn.precision import faster_precision
from m2cnn.reader import Reader
from m2cnn.recipe import Recipe, Stage
from m2cnn.systems import Member, System
from m2cnn.tables import table_bytes, write_atomically, write_json
from m2cnn.tasks import Task

UNREADABLE = "unreadable.json"
METRICS, CURVES = "metrics.csv", "curves.svg"

MakeBar = Callable[[Recipe, int, Progress], Bar]  # of a recipe, how many photographs, and where the run is


def name_of(name: str) -> str:
    """What a member of that name is called on disk; "member" where it is the only one and has none."""
    return name or "member"


@dataclass(frozen=True)
class Part:
    """One member of a run: trained by its own recipe in its own folder.

    root: the run's folder.  start: the member whose trained weights it starts from.  weights: those of the model that
    the run goes on from.  terms: of all photographs of the run.
    """

    folder: Path
    system: System
    member: Member
    recipe: Recipe
    manifest: Manifest
    precision: str
    root: Path
    start: Part | None = None
    weights: Path | None = None
    terms: Terms = Terms()

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def bundle(self, snapshot: str) -> Path:
        """Where the bundle with the weights of that snapshot is written."""
        return self.folder / ("bundle" if snapshot == self.member.snapshots[0] else f"bundle-{snapshot}")


def train_part(part: Part, cache: str | Path, bar: MakeBar) -> dict[str, Bundle]:
    """The member's bundles by name: one of each snapshot."""
    kept = part.member.snapshots
    names = {name: name_of(part.member.name) + ("" if name in kept[:1] else f"-{name}") for name in kept}
    if all((part.bundle(snapshot) / SETTINGS).is_file() for snapshot in names):
        return {name: load_bundle(part.bundle(snapshot)) for snapshot, name in names.items()}
    part.folder.mkdir(parents=True, exist_ok=True)
    cached = _cached(part, cache)
    network = _train_stages(part, cached, bar)
    last = len(part.recipe.stages) - 1
    bundles = {}
    for snapshot, name in names.items():
        load_weights(network, best_weights(part.checkpoints, last, snapshot))
        bundles[name] = _save(part, cached, network.eval(), snapshot)
    write_atomically(part.folder / CURVES, curves_svg(read_history(part.folder)))
    return bundles


def _cached(part: Part, cache: str | Path) -> Cached:
    cached = pictures_of(part, cache)
    _same_photographs(part.folder / UNREADABLE, cached)
    return cached


def pictures_of(part: Part, cache: str | Path) -> Cached:
    """The pictures of training and validation at every size of the recipe, prepared where `cache` lacks them."""
    sizes = sorted({framed(stage.size, part.member.frame) for stage in part.recipe.stages})
    return cache_pictures(taught(part.manifest), part.member.preprocess, sizes, cache, max(1, part.recipe.workers))


def _save(part: Part, cached: Cached, network: nn.Module, snapshot: str) -> Bundle:
    final, member = part.recipe.stages[-1], part.member
    if part.recipe.half:
        round_to_half(network)
    # Sets of weights with the same quasi-random views would see no more than one of them.
    views = replace(member.views, start=member.views.start + member.snapshots.index(snapshot) * member.views.count)
    member = _with_fitted_cuts(replace(part, member=replace(member, views=views)), cached, network)
    facts = _training_facts(part, cached) | {"snapshot": snapshot}
    return save_bundle(
        part.bundle(snapshot),
        network,
        replace(member, network=at(member.network, final)),
        Origin(part.system.name, part.system.source, facts, (part.root / KNOWN).read_bytes(), part.terms),
        size=final.size,
        cells=final.cells,
        half=part.recipe.half,
    )


def precision_of(member: Member, recipe: Recipe) -> str:
    """What a member is trained in, of the recipe's choice or measured here."""
    if recipe.precision != "auto":
        return recipe.precision
    stage = recipe.stages[-1]
    network = _at_random(at(member.network, stage)).build(member.task.outputs, stage.cells)
    return faster_precision(network, member.task, stage.size, min(stage.batch, 16))


def _training_facts(part: Part, cached: Cached) -> dict[str, Any]:
    train, val = part.manifest.select("train"), part.manifest.select("val")
    return {
        "photographs": len(_rows(part, "train", cached)),
        "patients": len(set(train.patients())),
        "validation_patients": len(set(val.patients())),
        "sources": sorted({row.source for row in train if row.source}),
        "counts": part.manifest.counts(),
        "unreadable": dict(cached.failed),
        "manifest": part.manifest.digest(),
        "recipe": part.recipe.to_dict(),
        "precision": part.precision,
        "start": part.member.start,
    }


def _train_stages(part: Part, cached: Cached, make_bar: MakeBar) -> nn.Module:
    """The network as the last stage left it."""
    part.checkpoints.mkdir(exist_ok=True)
    last = part.checkpoints / "last.pt"
    progress, states = load_checkpoint(last) if last.exists() else (Progress(), None)
    with make_bar(part.recipe, len(_rows(part, "train", cached)), progress) as bar:
        for number in range(progress.stage, len(part.recipe.stages)):
            if number > progress.stage:
                progress = Progress(number, history=progress.history)
            network, new = network_of_stage(part.member, part.recipe, number, part.checkpoints)
            if number == 0 and part.start:
                network.start_from(_trained(part.start))
            if number == 0 and part.weights:
                load_weights(network, part.weights)
            data = stage_data(part, cached, number)
            snapshots = part.member.snapshots if number == len(part.recipe.stages) - 1 else SNAPSHOTS[:1]
            begun, where = part.weights is not None, part.checkpoints
            fit = Fit(network, part.member.task, part.recipe, data, progress, where, new, snapshots, begun)
            if states is not None:
                fit.restore(states)
                states = None
            elif number == 0 and part.weights:
                fit.judge_start()
            fit.on_step = bar.step
            fit.on_pass = lambda row, history=progress.history: (bar.finish(row), _write_history(part.folder, history))
            try:
                fit_stage(fit, part.precision, part.folder / "tensorboard")
            except Interrupted:
                raise KeyboardInterrupt from None
    return network


def _trained(part: Part) -> nn.Module:
    """The network of a member that is trained."""
    final = part.recipe.stages[-1]
    network = _at_random(at(part.member.network, final)).build(part.member.task.outputs, final.cells)
    load_weights(network, best_weights(part.checkpoints, len(part.recipe.stages) - 1))
    return network


def network_of_stage(
    member: Member, recipe: Recipe, number: int, checkpoints: Path
) -> tuple[nn.Module, nn.Module | None]:
    """The network as stage `number` starts, and what is new in it.

    Stage 0 starts from the settings' weights; a later one from the best weights of the stage before, grown by fresh
    cells. Where each size has a network of its own, the next one takes from the one before what fits (`start_from`).
    """
    stage, before = recipe.stages[number], recipe.stages[max(0, number - 1)]
    settings = at(member.network, before)
    torch.manual_seed(recipe.seed)
    if number == 0:
        return _run_part(_begun(settings, member.task, stage.cells), stage, -1), None
    network = _at_random(settings).build(member.task.outputs, before.cells)
    load_weights(network, best_weights(checkpoints, number - 1, stage.begin))
    larger, added = at(member.network, stage), stage.cells - before.cells
    torch.manual_seed(int(np.random.SeedSequence([recipe.seed, number]).generate_state(1)[0]))
    if larger != settings:
        next_one = _begun(_at_random(larger), member.task, stage.cells)
        next_one.start_from(network)
        return next_one, None
    if not added:
        return _run_part(network, stage, before.part), None
    network.grow(added)
    return network, network.cells[before.cells :]


def _run_part(network: nn.Module, stage: Stage, before: int) -> nn.Module:
    """The network with the parts of a stage running; C-Net begins as the trained M-Net."""
    if stage.part >= 0:
        network.stage = stage.part
    if stage.part == 2 and before != 2:
        network.start_c_net()
    return network


def _begun(settings: PlainSettings, task: Task, cells: int) -> nn.Module:
    """A network whose outputs begin at the mean grade, unless it has a beginning of its own."""
    network = settings.build(task.outputs, cells)
    if not getattr(settings, "own_bias", False):
        with torch.no_grad():
            network.classif.bias.copy_(torch.tensor(task.initial_bias()))
    return network


def at(network: PlainSettings, stage: Stage) -> PlainSettings:
    """The settings of the network of a stage."""
    return network.at(stage.size) if isinstance(network, PlainSettings) else network


def _at_random(network: PlainSettings) -> PlainSettings:
    """The settings of a network whose weights are loaded next, or do not matter."""
    return network.without_weights() if isinstance(network, PlainSettings) else network


def _rows(part: Part, split: str, cached: Cached) -> list[Row]:
    """Graded, readable photographs of a split; of training patients, those whose eyes differ by no more than `gap`."""
    rows = [row for row in part.manifest.select(split) if row.teaches and row.image not in cached.failed]
    if split != "train" or part.member.gap >= NUM_GRADES - 1:
        return rows
    grades: dict[str, list[int]] = {}
    for row in rows:
        grades.setdefault(row.patient, []).append(row.grade)
    return [row for row in rows if max(grades[row.patient]) - min(grades[row.patient]) <= part.member.gap]


def _same_photographs(path: Path, cached: Cached) -> None:
    """A resumed run sees the photographs that it began with, or stops: a lost disk must not change it silently."""
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != cached.failed:
        got = f"other photographs are unreadable than when the run began: {', '.join(sorted(cached.failed)[:3])}"
        raise DataError(path, got, "the same photographs", "Are all disks there? Resume then.")
    write_json(path, cached.failed)


def stage_data(part: Part, cached: Cached, number: int) -> StageData:
    """What a stage trains on, and is judged on."""
    recipe, size = part.recipe, part.recipe.stages[number].size
    shape = {"border": part.member.preprocess.background, "frame": framed(size, part.member.frame)}
    train = Pictures(cached, _rows(part, "train", cached), size, recipe.augment, (recipe.seed, number), **shape)
    shape["view"] = middle(recipe.augment, size, shape["frame"]) if recipe.augment.crop else None
    return StageData(
        train, Pictures(cached, _rows(part, "val", cached), size, **shape), recipe.sampling, recipe.workers
    )


def _with_fitted_cuts(part: Part, cached: Cached, network: nn.Module) -> Member:
    """The member with cuts fitted on validation patients, where the recipe asks for it."""
    member, size = part.member, part.recipe.stages[-1].size
    if not part.recipe.fit_cuts:
        return member
    frame = framed(size, member.frame)
    reader = Reader(answers_of(network), member.task, member.views, size, frame, member.preprocess.background)
    rows = _rows(part, "val", cached)
    outputs, _ = reader.read_some(cached.pictures(frame), [cached.index[row.image] for row in rows])
    cuts = fit_cuts(member.task.read(outputs).severity, [row.grade for row in rows], member.task.cuts)
    return replace(member, task=member.task.with_cuts(tuple(float(c) for c in cuts)))


def _write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """metrics.csv from the checkpoint's own history: a resumed run has no doubled and no missing row."""
    write_atomically(folder / METRICS, table_bytes(list(history[0]), [list(row.values()) for row in history]))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.csv: one per pass."""
    whole = ("stage", "size", "cells", "epoch")
    with open(folder / METRICS, newline="", encoding="utf-8") as file:
        return [{k: int(v) if k in whole else float(v) for k, v in row.items()} for row in csv.DictReader(file)]
