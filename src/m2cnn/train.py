"""Training a system: a run folder, its stages one after the other, and a bundle at the end.

RUN/run.json recipe.json environment.json manifest.csv    what was asked, where, on which photographs
RUN/pictures/ leaks/ photographs.npy                      what was seen of them: pictures, pairs, fingerprints
RUN/metrics.csv tensorboard/ curves.svg                   one row per pass
RUN/checkpoints/                                          last.pt (to resume), best weights of every stage
RUN/bundle/  RUN/val/ RUN/test/                           the model; its predictions and metrics
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import m2cnn
from m2cnn.bar import Bar
from m2cnn.bundle import KNOWN, Bundle, load_bundle
from m2cnn.checkpoint import Progress, best_weights, load_checkpoint, load_weights
from m2cnn.cuts import fit_cuts
from m2cnn.data.cache import Cached, cache_pictures
from m2cnn.data.dataset import Pictures, every_batch, loader
from m2cnn.data.guard import guard
from m2cnn.data.known import known_of
from m2cnn.data.leaks import Twin, refuse_across_splits
from m2cnn.data.manifest import Manifest, Row, read_manifest, write_manifest
from m2cnn.data.opening import complete
from m2cnn.data.splits import assign_splits
from m2cnn.data.survey import refuse_changed
from m2cnn.errors import DataError, SettingError
from m2cnn.evaluate import evaluate
from m2cnn.export import save_bundle
from m2cnn.fit import Fit, Interrupted, StageData, faster_precision, fit_stage
from m2cnn.models import PlainSettings
from m2cnn.recipe import Recipe, Stage, check_stages, recipe_from_dict
from m2cnn.report import curves_svg
from m2cnn.systems import Member, System, described, get
from m2cnn.tables import table_bytes, write_atomically
from m2cnn.tasks import Task

RUN, RECIPE, ENVIRONMENT, DONE = "run.json", "recipe.json", "environment.json", "done.json"
UNREADABLE = "unreadable.json"
PICTURES, LEAKS = "pictures", "leaks"  # what there may be before a run begins
MANIFEST, METRICS, CURVES = "manifest.csv", "metrics.csv", "curves.svg"


@dataclass(frozen=True)
class Run:
    """A run folder, opened: what is trained on what."""

    folder: Path
    system: System
    recipe: Recipe
    manifest: Manifest
    precision: str

    @property
    def member(self) -> Member:
        return self.system.members[0]

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def train(
    recipe: Recipe,
    manifest: Manifest,
    folder: str | Path,
    *,
    system: System | None = None,
    cache: str | Path | None = None,
) -> Bundle:
    """Train a system from the start into a new folder, and return its bundle.

    system: a row of your own; else the recipe's.  cache: where prepared pictures are kept for several runs (default: in
    the run). Raises DataError for a manifest that cannot be trained on, SettingError for a folder that is in use;
    KeyboardInterrupt after Ctrl-C, with the run saved.
    """
    folder = Path(folder)
    if folder.exists() and {path.name for path in folder.iterdir()} - {PICTURES, LEAKS}:
        raise SettingError(
            folder, "the folder is not empty", "a new folder for the run", "Continue a run with --resume."
        )
    system = (system or get(recipe.system)).customised(recipe)
    _check(system, recipe)
    _split(complete(manifest), recipe)  # what is refused without a look at the photographs, at once
    guarded = guard(manifest, cache or folder / PICTURES, folder / LEAKS, max(1, recipe.workers))
    refuse_changed(guarded.seen)
    refuse_across_splits(guarded.manifest, guarded.twins, str(folder / LEAKS))
    manifest = _split(guarded.manifest, recipe, guarded.twins)
    precision = recipe.precision if recipe.precision != "auto" else _fastest(system, recipe)
    _write_json(folder / RECIPE, recipe.to_dict())
    _write_json(folder / ENVIRONMENT, environment())
    write_manifest(manifest, folder / MANIFEST)
    write_atomically(folder / KNOWN, known_of(manifest, guarded.seen).to_bytes())
    # Last: a folder without run.json is no run yet.
    run = {
        "m2cnn": m2cnn.__version__,
        "system": system.name,
        "images_root": str(manifest.root.resolve()),
        "precision": precision,
        "members": [described(member) for member in system.members],
    }
    _write_json(folder / RUN, run)
    return _go(Run(folder, system, recipe, manifest, precision), cache)


def resume(
    folder: str | Path,
    *,
    system: System | None = None,
    cache: str | Path | None = None,
    images: str | Path | None = None,
) -> Bundle:
    """Continue an interrupted run; it ends bit-equal to one that was never interrupted (CPU). A finished run is a
    no-op.

    images: where the photographs lie now, if they moved.
    Raises SettingError for a folder that is no run and for a system that is not the one it was started with, DataError
    for photographs that are missing.
    """
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise SettingError(
            folder, "no run to resume (run.json is missing)", "the folder of a run", "Start one without --resume."
        )
    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    recipe = recipe_from_dict(json.loads((folder / RECIPE).read_text(encoding="utf-8")), str(folder / RECIPE))
    if (folder / DONE).is_file():
        return load_bundle(folder)
    manifest = complete(read_manifest(folder / MANIFEST, images or run["images_root"]))
    system = (system or get(run["system"])).customised(recipe)
    if [described(member) for member in system.members] != run["members"]:
        got = f"system {system.name} is not the one that the run began with (m2cnn {run['m2cnn']})"
        raise SettingError(folder / RUN, got, "the same members", "Pass the same system, or use the same m2cnn.")
    return _go(Run(folder, system, recipe, manifest, run["precision"]), cache)


def environment() -> dict[str, Any]:
    """What a number may depend on beside the recipe."""
    packages = ("torch", "torchvision", "timm", "lightning", "numpy", "opencv-python-headless", "onnxruntime", "pillow")
    return {
        "m2cnn": m2cnn.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "packages": {name: metadata.version(name) for name in packages},
    }


def _check(system: System, recipe: Recipe) -> None:
    """What would otherwise be found only after hours."""
    if len(system.members) != 1:
        raise SettingError(f"system {system.name}", f"{len(system.members)} members", "one member")
    task, network = system.members[0].task, system.members[0].network
    if isinstance(network, PlainSettings):
        check_stages(recipe.stages, network)
    for number, stage in enumerate(recipe.stages):
        size = getattr(_at(network, stage), "size", 0)
        if size and stage.size != size:
            got = f"{stage.size} px for a network of {size} px"
            raise SettingError(f"recipe, stages.{number}.size", got, f"{size}", "It takes no other picture.")
    if recipe.fit_cuts and not task.uses_cuts:
        got = f"task {task.name} decodes by argmax"
        raise SettingError(
            "recipe, fit_cuts", got, "a decode with cuts", "Set fit_cuts=false or task.rule=expectation."
        )


def _split(manifest: Manifest, recipe: Recipe, twins: Sequence[Twin] = ()) -> Manifest:
    """The manifest with every patient and every photograph on one side, and enough to train on."""
    split = recipe.split
    # Also where every row has a split: it refuses a patient on two sides.
    proportions = {name: part for name in ("train", "val", "test") if (part := getattr(split, name))}
    manifest = assign_splits(manifest, proportions, split.seed, split.lockbox, twins)
    for name, least in (("train", 2), ("val", 2)):
        grades = {row.grade for row in manifest.select(name) if row.grade is not None}
        if len(grades) < least:
            raise DataError(
                "manifest",
                f"{len(grades)} different grades in split {name}",
                f"at least {least}",
                "Add patients, or change [split].",
            )
    return manifest


def _fastest(system: System, recipe: Recipe) -> str:
    member, stage = system.members[0], recipe.stages[-1]
    network = _at_random(_at(member.network, stage)).build(member.task.outputs, stage.cells)
    return faster_precision(network, member.task, stage.size)


def _go(run: Run, cache: str | Path | None) -> Bundle:
    sizes = sorted({stage.size for stage in run.recipe.stages})
    seen = Manifest(tuple(row for row in run.manifest.select("train", "val") if _teaches(row)), run.manifest.root)
    cached = cache_pictures(
        seen, run.member.preprocess, sizes, cache or run.folder / PICTURES, max(1, run.recipe.workers)
    )
    _same_photographs(run.folder / UNREADABLE, cached)
    network = _train_stages(run, cached)
    final = run.recipe.stages[-1]
    member = _with_fitted_cuts(run, cached, network)
    member = replace(member, network=_at(member.network, final))
    bundle = save_bundle(
        run.folder / "bundle",
        network,
        member,
        system=run.system.name,
        source=run.system.source,
        size=final.size,
        cells=final.cells,
        training=_training_facts(run, cached),
        known=(run.folder / KNOWN).read_bytes(),
    )
    for split in ("val", "test"):
        if any(row.split == split and row.grade is not None for row in run.manifest):
            evaluate(bundle.folder, run.manifest, run.folder / split, splits=(split,))
    write_atomically(run.folder / CURVES, curves_svg(read_history(run.folder)))
    _write_json(run.folder / DONE, {"bundle": bundle.hash})
    return bundle


def _training_facts(run: Run, cached: Cached) -> dict[str, Any]:
    train, val = run.manifest.select("train"), run.manifest.select("val")
    return {
        "photographs": len(_rows(run, "train", cached)),
        "patients": len(train.patients()),
        "validation_patients": len(val.patients()),
        "sources": sorted({row.source for row in train if row.source}),
        "unreadable": dict(cached.failed),
        "manifest": run.manifest.digest(),
        "recipe": run.recipe.to_dict(),
        "precision": run.precision,
    }


def _train_stages(run: Run, cached: Cached) -> nn.Module:
    """The network with the best weights of the last stage, in evaluation mode."""
    run.checkpoints.mkdir(exist_ok=True)
    last = run.checkpoints / "last.pt"
    progress, states = load_checkpoint(last) if last.exists() else (Progress(), None)
    with Bar(run.recipe, len(_rows(run, "train", cached)), progress) as bar:
        for number in range(progress.stage, len(run.recipe.stages)):
            if number > progress.stage:
                progress = Progress(number, history=progress.history)
            network, new = network_of_stage(run.member, run.recipe, number, run.checkpoints)
            data = _stage_data(run, cached, number)
            fit = Fit(network, run.member.task, run.recipe, data, progress, run.checkpoints, new)
            if states is not None:
                fit.restore(states)
                states = None
            fit.on_step = bar.step
            fit.on_pass = lambda row, history=progress.history: (bar.finish(row), _write_history(run.folder, history))
            try:
                fit_stage(fit, run.precision, run.folder / "tensorboard")
            except Interrupted:
                raise KeyboardInterrupt from None
    load_weights(network, best_weights(run.checkpoints, len(run.recipe.stages) - 1))
    return network.eval()


def network_of_stage(
    member: Member, recipe: Recipe, number: int, checkpoints: Path
) -> tuple[nn.Module, nn.Module | None]:
    """The network as stage `number` starts, and what is new in it.

    Stage 0 starts from the settings' weights; a later one from the best weights of the stage before, grown by fresh
    cells. Where each size has a network of its own, the next one takes from the one before what fits (`start_from`).
    """
    stage, before = recipe.stages[number], recipe.stages[max(0, number - 1)]
    settings = _at(member.network, before)
    torch.manual_seed(recipe.seed)
    if number == 0:
        return _run_part(_begun(settings, member.task, stage.cells), stage, -1), None
    network = _at_random(settings).build(member.task.outputs, before.cells)
    load_weights(network, best_weights(checkpoints, number - 1, stage.begin))
    larger, added = _at(member.network, stage), stage.cells - before.cells
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


def _at(network: PlainSettings, stage: Stage) -> PlainSettings:
    """The settings of the network of a stage."""
    return network.at(stage.size) if isinstance(network, PlainSettings) else network


def _at_random(network: PlainSettings) -> PlainSettings:
    """The settings of a network whose weights are loaded next, or do not matter."""
    return network.without_weights() if isinstance(network, PlainSettings) else network


def _rows(run: Run, split: str, cached: Cached) -> list[Row]:
    """Graded, readable photographs of a split."""
    return [row for row in run.manifest.select(split) if _teaches(row) and row.image not in cached.failed]


def _teaches(row: Row) -> bool:
    """Whether a photograph has a grade that can be trusted."""
    return row.grade is not None and row.quality != "ungradable"


def _same_photographs(path: Path, cached: Cached) -> None:
    """A resumed run sees the photographs that it began with, or stops: a lost disk must not change it silently."""
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != cached.failed:
        got = f"other photographs are unreadable than when the run began: {', '.join(sorted(cached.failed)[:3])}"
        raise DataError(path, got, "the same photographs", "Are all disks there? Resume then.")
    _write_json(path, cached.failed)


def _stage_data(run: Run, cached: Cached, number: int) -> StageData:
    recipe, border, size = run.recipe, run.member.preprocess.background, run.recipe.stages[number].size
    train = Pictures(cached, _rows(run, "train", cached), size, recipe.augment, (recipe.seed, number), border)
    return StageData(train, Pictures(cached, _rows(run, "val", cached), size), recipe.sampling, recipe.workers)


def _with_fitted_cuts(run: Run, cached: Cached, network: nn.Module) -> Member:
    """The member with cuts fitted on validation patients, where the recipe asks for it."""
    task = run.member.task
    if not run.recipe.fit_cuts:
        return run.member
    final = run.recipe.stages[-1]
    pictures = Pictures(cached, _rows(run, "val", cached), final.size)
    batches = loader(pictures, every_batch(len(pictures), final.batch))
    with torch.inference_mode():
        outputs = torch.cat([network(batch).float() for batch, _ in batches]).numpy()
    cuts = fit_cuts(task.read(outputs).severity, pictures.grades, task.cuts)
    return replace(run.member, task=task.with_cuts(tuple(float(c) for c in cuts)))


def _write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """metrics.csv from the checkpoint's own history: a resumed run has no doubled and no missing row."""
    write_atomically(folder / METRICS, table_bytes(list(history[0]), [list(row.values()) for row in history]))


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.csv: one per pass."""
    whole = ("stage", "size", "cells", "epoch")
    with open(folder / METRICS, newline="", encoding="utf-8") as file:
        return [{k: int(v) if k in whole else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
