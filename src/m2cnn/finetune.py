"""Going on from a trained model: its networks, cuts, views and combiner, taught a little more by other photographs.

A start that nothing improves on is kept: the model is judged on the new validation patients before the first step, and
a pass counts only where it is better there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from m2cnn.bundle import COMBINER, MEMBERS, WEIGHTS, Bundle, copy_bundle, load_bundle, with_calibration
from m2cnn.data.guard import Guarded
from m2cnn.data.known import TRAIN
from m2cnn.data.manifest import Manifest
from m2cnn.data.pairing import some
from m2cnn.errors import BundleError, DataError, SettingError
from m2cnn.export import Origin, save_combined
from m2cnn.overrides import overridden
from m2cnn.part import at
from m2cnn.recipe import Recipe, recipe_from_dict
from m2cnn.systems import GONE_ON, Member, System, network_kinds

log = logging.getLogger(__name__)

START = "start"  # the folder of a run that holds the model it goes on from
RATE, PASSES = 0.1, 5  # of the last stage's rate; of the new photographs
CARRIED = ("ema", "precision", "optimiser", "augment")  # of the model's own recipe


def system_of(bundle: Bundle) -> System:
    """The system of a bundle as it was trained to be: a member for each of its networks.

    Raises BundleError for a network that this package did not define.
    """
    networks = bundle.members or {"": bundle}
    members = tuple(_member(name, each) for name, each in networks.items())
    return System(bundle.system, bundle.system, members, f"{GONE_ON}{bundle.hash}", combiner=bundle.combiner)


def _member(name: str, bundle: Bundle) -> Member:
    kind, kinds = bundle.settings["network_kind"], network_kinds()
    if kind not in kinds:
        raise BundleError(bundle.folder, f"its network is {kind}", "one that m2cnn defines", "Train it anew.")
    network = kinds[kind].from_dict(bundle.settings["network"]).without_weights()
    return Member(network, bundle.task, bundle.preprocess, name, bundle.views, bundle.frame)


def recipe_of(bundle: Bundle, overrides: Sequence[str] = ()) -> Recipe:
    """How to go on: the last stage of each network once more, five passes at a tenth of its rate, batch norms fixed.

    overrides: KEY=VALUE, as of load_recipe; of several networks, for all of them. Cuts and calibration stay the
    model's unless asked for (fit_cuts=true, calibrate=true); a combiner stays the model's.
    """
    networks = bundle.members or {"": bundle}
    # Of several networks each has tables of its own: what is asked of all of them is said in each.
    common = [text for text in overrides if text.partition("=")[0].partition(".")[0] in (*CARRIED, "stages")]
    members = {name: overridden(_tables(each), common) for name, each in networks.items() if name}
    first = _tables(next(iter(networks.values()))) | {"system": bundle.system, "members": members}
    recipe = recipe_from_dict(overridden(first, overrides))
    for name in members:
        recipe.of(name)
    return recipe


def _tables(bundle: Bundle) -> dict[str, Any]:
    told = recipe_from_dict(bundle.settings["training"]["recipe"], str(bundle.folder))
    plain, last = told.to_dict(), told.stages[-1]
    once_more = {"epochs": PASSES, "lr": RATE * last.lr, "schedule": "cosine", "warmup": 0.0, "drops": ()}
    # Nothing is new in it, and batch norms have learned of more photographs than these.
    stage = replace(last, **once_more, rescale=0, new_epochs=0, frozen_norm=True)
    return {key: plain[key] for key in CARRIED} | {"stages": [asdict(stage)]}


def begin(model: str | Path, folder: Path) -> Bundle:
    """Copy the model into a new run's folder, so that the run can go on whatever becomes of the model."""
    bundle = load_bundle(model)
    shutil.rmtree(folder / START, ignore_errors=True)
    return load_bundle(copy_bundle(bundle, folder / START))


def begun(folder: Path, known_as: str) -> Bundle:
    """The model that a run goes on from. known_as: its hash when the run began. BundleError where it is another."""
    bundle = load_bundle(folder / START)
    if bundle.hash != known_as:
        repair = "Restore the folder, or begin a new run."
        raise BundleError(folder / START, f"bundle {bundle.hash}", f"{known_as}, as the run began", repair)
    return bundle


def refuse_other(bundle: Bundle, system: System, recipe: Recipe) -> None:
    """SettingError where the recipe asks for another network, task, depth or combiner than the model has."""
    own = system_of(bundle)
    if system.combiner != own.combiner:
        raise SettingError(
            "train --from, combiner", "another combiner", "the model's, which stays as it is", "m2cnn combine fits one."
        )
    for before, after in zip(own.members, system.members, strict=True):
        settings, place = (bundle.members or {"": bundle})[before.name].settings, f"train --from, {before.name}"
        place = place.rstrip(", ")
        if (after.network, after.task.name) != (before.network, before.task.name):
            raise SettingError(place, "another network or task than the model's", "the same", "Train a new one.")
        stages = recipe.of(before.name).stages
        if len(stages) != 1 or stages[0].cells != settings["cells"] or at(after.network, stages[0]) != before.network:
            got = ", ".join(f"{stage.size} px and {stage.cells} cells" for stage in stages)
            expected = f"one stage of {settings['cells']} cells at a size that its network takes"
            raise SettingError(f"{place}, stages", got, expected, "Train a new one.")


def kept(start: Bundle, bundle: Bundle) -> Bundle:
    """The taught bundle with the calibration and operating points of the model that it began as."""
    if not start.calibration.photographs:
        return bundle
    log.warning("the operating points are those of model %s: m2cnn calibrate fits them to your patients", start.hash)
    return with_calibration(bundle, start.calibration)


def refuse_seen(bundle: Bundle, manifest: Manifest, guarded: Guarded) -> None:
    """DataError where photographs to choose or measure by are among those that the model learned from."""
    split = {row.image: row.split for row in manifest}
    met = [one for one in bundle.known().meet(guarded.seen) if split.get(one.image) in ("val", "test", "lockbox")]
    met = [one for one in met if one.role == TRAIN or split[one.image] != "val"]
    if met:
        shown = some([f"{one.image} ({split[one.image]}, {one.how})" for one in met])
        got = f"{len(met)} photographs of validation or test are known to the model: {shown}"
        repair = "Give their patients split train, or leave them out."
        raise DataError(f"bundle {bundle.hash}", got, "photographs it never saw", repair)


def start_weights(start: Bundle, member: str) -> Path:
    """Where a member's first weights are."""
    return (start.folder / MEMBERS / member if member else start.folder) / WEIGHTS


def combined_as_before(start: Bundle, members: dict[str, Bundle], folder: Path, origin: Origin) -> Bundle:
    """The taught members, joined by the combiner of the model as it is: a few photographs do not fit one anew."""
    facts = origin.training | {"combiner": start.settings["training"].get("combiner")}
    onnx = (start.folder / COMBINER).read_bytes()
    return save_combined(folder, members, start.combiner, onnx, replace(origin, training=facts))
