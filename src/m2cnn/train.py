"""Training a system: a run folder, its stages one after the other, and a bundle at the end.

RUN/run.json recipe.json environment.json manifest.csv    what was asked, where, on which photographs
RUN/pictures/ leaks/ photographs.npy                      what was seen of them: pictures, pairs, fingerprints
RUN/metrics.csv tensorboard/ curves.svg                   one row per pass
RUN/checkpoints/                                          last.pt (to resume), best weights of every stage
RUN/bundle/  RUN/val/ RUN/test/                           the model; its predictions and metrics

A system with a combiner has metrics.csv, tensorboard/, curves.svg, checkpoints/ and a bundle of each member in
RUN/members/NAME/, and what the combiner was fed in RUN/features/.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import m2cnn
from m2cnn.bar import Bar
from m2cnn.bundle import KNOWN, Bundle, load_bundle
from m2cnn.data.guard import Guarded, guard
from m2cnn.data.known import known_of
from m2cnn.data.leaks import Twin, refuse_across_splits
from m2cnn.data.manifest import Manifest, read_manifest, write_manifest
from m2cnn.data.opening import complete
from m2cnn.data.pseudo import pseudo_labelled
from m2cnn.data.splits import assign_splits
from m2cnn.data.survey import refuse_changed
from m2cnn.data.terms import Terms, terms_of
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.evaluate import Selection, evaluate, predict
from m2cnn.export import Origin
from m2cnn.finetune import (
    START,
    begin,
    begun,
    combined_as_before,
    kept,
    refuse_other,
    refuse_seen,
    start_weights,
    system_of,
)
from m2cnn.grader import Grader
from m2cnn.join import join
from m2cnn.lock import LOCK, alone
from m2cnn.models import PlainSettings
from m2cnn.models.weights import weights_file
from m2cnn.part import MakeBar, Part, at, name_of, precision_of, train_part
from m2cnn.predictions import PREDICTIONS, write_predictions
from m2cnn.recalibrate import recalibrate
from m2cnn.recipe import Recipe, check_stages, recipe_from_dict
from m2cnn.systems import Member, System, described, get
from m2cnn.tables import write_atomically, write_json

log = logging.getLogger(__name__)

RUN, RECIPE, ENVIRONMENT, DONE = "run.json", "recipe.json", "environment.json", "done.json"
PICTURES, LEAKS = "pictures", "leaks"  # what there may be before a run begins
MANIFEST, FEATURES, LABELS = "manifest.csv", "features", "pseudo-labels"


@dataclass(frozen=True)
class Run:
    """A run folder, opened: what is trained on what."""

    folder: Path
    system: System
    recipe: Recipe
    manifest: Manifest
    precisions: dict[str, str]  # by the member's name
    start: Bundle | None = None  # the model that it goes on from
    command: str = ""  # that began it, as typed

    @property
    def terms(self) -> Terms:
        """Of all photographs that have a say in the weights, those of the start too."""
        terms = terms_of(row.source for row in self.manifest if row.split in ("", "train", "val"))
        return terms.joined(self.start.terms) if self.start else terms

    def part(self, member: Member) -> Part:
        """A member's own training; in a folder of its own where there is a combiner."""
        folder = self.folder / "members" / name_of(member.name) if self.system.combiner else self.folder
        recipe = self.recipe.of(member.name)
        before = next(
            (self.part(other) for other in self.system.members if member.start and other.name == member.start), None
        )
        precision = self.precisions[member.name]
        weights = start_weights(self.start, member.name) if self.start else None
        return Part(
            folder, self.system, member, recipe, self.manifest, precision, self.folder, before, weights, self.terms
        )


def train(
    recipe: Recipe,
    manifest: Manifest,
    folder: str | Path,
    *,
    system: System | None = None,
    cache: str | Path | None = None,
    guarded: Guarded | None = None,
    bar: MakeBar = Bar,
    start: str | Path | None = None,
    command: str = "",
) -> Bundle:
    """Train a system into a new folder, and return its bundle.

    system: a row of your own; else the recipe's.  cache: where prepared pictures are kept for several runs (default: in
    the run).  guarded: what the guard saw of this manifest, for several runs on it.  bar: what shows the progress.
    start: a model to go on from, whose system it then is (m2cnn.finetune).  command: kept beside its numbers.
    Raises DataError for a manifest that cannot be trained on, SettingError for a folder that is in use, or in which
    another process works; KeyboardInterrupt after Ctrl-C, with the run saved.
    """
    folder = Path(folder)
    with alone(folder):
        return _go(_begun(recipe, manifest, folder, system, cache, guarded, start, command), cache, bar)


def _begun(
    recipe: Recipe,
    manifest: Manifest,
    folder: Path,
    system: System | None,
    cache: str | Path | None,
    guarded: Guarded | None,
    start: str | Path | None,
    command: str,
) -> Run:
    """A new run, its photographs looked at and all that it was asked written down. Arguments and errors: as `train`."""
    if {path.name for path in folder.iterdir()} - {PICTURES, LEAKS, START, LOCK}:
        raise SettingError(
            folder, "the folder is not empty", "a new folder for the run", "Continue a run with --resume."
        )
    shutil.rmtree(folder / START, ignore_errors=True)
    begun_with = begin(start, folder) if start else None
    system = (system_of(begun_with) if begun_with else system or get(recipe.system)).customised(recipe)
    _check(system, recipe)
    if begun_with:
        refuse_other(begun_with, system, recipe)
    else:
        for member in system.members:
            _check_first_weights(member.network)
    # What is refused without a look at the photographs, at once.
    with_splits(complete(guarded.manifest if guarded else manifest), recipe)
    if guarded is None:
        guarded = guard(manifest, cache or folder / PICTURES, folder / LEAKS, max(1, recipe.workers))
    refuse_changed(guarded.seen)
    refuse_across_splits(guarded.manifest, guarded.twins, str(folder / LEAKS))
    manifest = with_splits(guarded.manifest, recipe, guarded.twins)
    known = known_of(manifest, guarded.seen)
    if begun_with:
        refuse_seen(begun_with, manifest, guarded)
        known = known.joined(begun_with.known())
    precisions = {member.name: precision_of(member, recipe.of(member.name)) for member in system.members}
    write_json(folder / RECIPE, recipe.to_dict())
    write_json(folder / ENVIRONMENT, environment())
    write_manifest(manifest, folder / MANIFEST)
    write_atomically(folder / KNOWN, known.to_bytes())
    # Last: a folder without run.json is no run yet.
    run = {
        "m2cnn": m2cnn.__version__,
        "system": system.name,
        "images_root": str(manifest.root.resolve()),
        "precisions": precisions,
        "start": begun_with.hash if begun_with else None,
        "command": command,
        **_described(system),
    }
    write_json(folder / RUN, run)
    return Run(folder, system, recipe, manifest, precisions, begun_with, command)


def resume(
    folder: str | Path,
    *,
    system: System | None = None,
    cache: str | Path | None = None,
    images: str | Path | None = None,
    bar: MakeBar = Bar,
) -> Bundle:
    """Continue an interrupted run; it ends bit-equal to one that was never interrupted (CPU). A finished run is a
    no-op.

    images: where the photographs lie now, if they moved.
    Raises SettingError for a folder that is no run or in which another process works, and for a system that is not the
    one it was started with, DataError for photographs that are missing.
    """
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise SettingError(
            folder, "no run to resume (run.json is missing)", "the folder of a run", "Start one without --resume."
        )
    if (folder / DONE).is_file():
        return load_bundle(folder)
    with alone(folder):
        return _go(open_run(folder, system=system, images=images), cache, bar)


def open_run(folder: Path, *, system: System | None = None, images: str | Path | None = None) -> Run:
    """A run folder as it was begun, finished or not. Arguments and errors: as `resume`."""
    run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    recipe = recipe_from_dict(json.loads((folder / RECIPE).read_text(encoding="utf-8")), str(folder / RECIPE))
    manifest = complete(read_manifest(folder / MANIFEST, images or run["images_root"]))
    model = begun(folder, run["start"]) if run.get("start") else None
    system = (system_of(model) if model else system or get(run["system"])).customised(recipe)
    if _described(system) != {key: run[key] for key in ("members", "combiner")}:
        got = f"system {system.name} is not the one that the run began with (m2cnn {run['m2cnn']})"
        raise SettingError(folder / RUN, got, "the same members", "Pass the same system, or use the same m2cnn.")
    return Run(folder, system, recipe, manifest, run["precisions"], model, run.get("command", ""))


def _described(system: System) -> dict[str, Any]:
    combiner = system.combiner.to_dict() if system.combiner else None
    return {"members": [described(member) for member in system.members], "combiner": combiner}


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
    names = [member.name for member in system.members]
    if system.combiner is None and (len(names) != 1 or len(system.members[0].snapshots) != 1):
        raise SettingError(
            f"system {system.name}", "several sets of weights, no combiner", "a combiner that joins them"
        )
    if len(set(names)) < len(names):
        raise SettingError(f"system {system.name}", f"members {', '.join(names)}", "a name of its own for each")
    for number, member in enumerate(system.members):
        if member.start and member.start not in names[:number]:
            got = f"{member.name} starts from {member.start}"
            raise SettingError(f"system {system.name}", got, "a member before it", did_you_mean(member.start, names))
        _check_member(member, recipe.of(member.name))


def _check_first_weights(network: Any) -> None:
    """A file that is not there is told before hours of looking; so is another library's trunk that knows nothing."""
    weights = getattr(network, "weights", "")
    if weights not in ("", "timm"):
        weights_file(weights)
    if getattr(network, "is_timm", False) and not weights:
        log.warning("%s begins at random: --weights FILE gives it what ImageNet taught", network.trunk)


def _check_member(member: Member, recipe: Recipe) -> None:
    task = member.task
    if isinstance(member.network, PlainSettings):
        check_stages(recipe.stages, member.network)
    for number, stage in enumerate(recipe.stages):
        size = getattr(at(member.network, stage), "size", 0)
        if size and stage.size != size:
            got = f"{stage.size} px for a network of {size} px"
            raise SettingError(f"recipe, stages.{number}.size", got, f"{size}", "It takes no other picture.")
    if recipe.fit_cuts and not task.uses_cuts:
        got = f"task {task.name} decodes by argmax"
        raise SettingError(
            "recipe, fit_cuts", got, "a decode with cuts", "Set fit_cuts=false or task.rule=expectation."
        )


def with_splits(manifest: Manifest, recipe: Recipe, twins: Sequence[Twin] = ()) -> Manifest:
    """The manifest with every patient and every photograph on one side, and enough to train on."""
    split = recipe.split
    # Also where every row has a split: it refuses a patient on two sides.
    proportions = {name: part for name in ("train", "val", "test") if (part := getattr(split, name))}
    manifest = assign_splits(manifest, proportions, split.seed, split.lockbox, twins)
    for name, least in (("train", 2), ("val", 2)):
        grades = {row.grade for row in manifest if row.split == name and row.grade is not None}
        if len(grades) < least:
            raise DataError(
                "manifest",
                f"{len(grades)} different grades in split {name}",
                f"at least {least}",
                "Add patients, or change [split].",
            )
    return manifest


def _go(run: Run, cache: str | Path | None, bar: MakeBar) -> Bundle:
    cache = cache or run.folder / PICTURES
    done: dict[str, Bundle] = {}
    for number, member in enumerate(run.system.members, start=1):
        if run.system.combiner:
            log.info("%s: member %s, %d of %d", run.system.name, name_of(member.name), number, len(run.system.members))
        part = run.part(member)
        part = replace(part, manifest=_with_pseudo_labels(run, part, done, cache)) if member.pseudo else part
        bundles = train_part(part, cache, bar)
        done |= bundles if member.joins else {}
    bundle = _joined(run, done, cache) if run.system.combiner else next(iter(done.values()))
    if run.recipe.calibrate:
        bundle = recalibrate(bundle.folder, run.manifest, bundle.folder, memory=cache)
    elif run.start:
        bundle = kept(run.start, bundle)
    for split in ("val", "test"):
        if any(row.split == split and row.grade is not None for row in run.manifest):
            evaluate(bundle.folder, run.manifest, run.folder / split, Selection((split,)), command=run.command)
    write_json(run.folder / DONE, {"bundle": bundle.hash})
    return bundle


def _joined(run: Run, members: dict[str, Bundle], cache: str | Path) -> Bundle:
    """The bundle of the whole system: its combiner fitted on what the members say of the photographs."""
    one = next(iter(members.values()))
    facts = one.settings["training"] | {"recipe": run.recipe.to_dict(), "precisions": run.precisions}
    origin = Origin(run.system.name, run.system.source, facts, (run.folder / KNOWN).read_bytes(), run.terms)
    if run.start:
        return combined_as_before(run.start, members, run.folder / "bundle", origin)
    return join(
        members,
        run.system.combiner,
        run.manifest,
        run.folder / "bundle",
        origin,
        features=run.folder / FEATURES,
        cache=cache,
        seed=run.recipe.seed,
    )


def _with_pseudo_labels(run: Run, part: Part, before: dict[str, Bundle], cache: str | Path) -> Manifest:
    """The manifest in which photographs without a grade have that of the members before this one, joined."""
    ungraded = tuple(row for row in run.manifest if row.grade is None and row.split in ("", "train"))
    if not ungraded:
        log.info("%s: no photograph without a grade, so no pseudo-label", part.member.name)
        return run.manifest
    first = replace(run, folder=part.folder / LABELS)
    first.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(first.folder / KNOWN, (run.folder / KNOWN).read_bytes())
    grader = Grader.load(_joined(first, before, cache).folder)
    said = predict(grader, Manifest(ungraded, run.manifest.root))
    write_predictions(said, first.folder / PREDICTIONS)
    return pseudo_labelled(run.manifest, said)
