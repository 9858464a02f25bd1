"""Going on from a trained model: its networks, cuts, views and combiner, taught a little more by other photographs.

A start that nothing improves on is kept: the model is judged on the new validation patients before the first step, and
a pass counts only where it is better there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2cnn.bundle import MEMBERS, WEIGHTS, Bundle, load_bundle
from m2cnn.data.guard import Guarded
from m2cnn.data.manifest import Manifest
from m2cnn.data.pairing import some
from m2cnn.errors import BundleError, DataError
from m2cnn.recipe import Recipe, Stage, overridden, recipe_from_dict
from m2cnn.systems import Member, System, network_kinds

START = "start"  # the folder of a run that holds the model it goes on from
RATE, PASSES = 0.1, 5  # of the last stage's rate; of the new photographs
CARRIED = ("ema", "precision", "optimiser", "augment")  # of the model's own recipe


def system_of(bundle: Bundle) -> System:
    """The system of a bundle as it was trained to be: a member for each of its networks.

    Raises BundleError for a network that this package did not define.
    """
    networks = bundle.members or {"": bundle}
    members = tuple(_member(name, each) for name, each in networks.items())
    return System(bundle.system, bundle.system, members, f"gone on from {bundle.hash}", combiner=bundle.combiner)


def _member(name: str, bundle: Bundle) -> Member:
    kind, kinds = bundle.settings["network_kind"], network_kinds()
    if kind not in kinds:
        raise BundleError(bundle.folder, f"its network is {kind}", "one that m2cnn defines", "Train it anew.")
    network = kinds[kind].from_dict(bundle.settings["network"]).without_weights()
    return Member(network, bundle.task, bundle.preprocess, name, bundle.views, bundle.frame)


def recipe_of(bundle: Bundle, overrides: Sequence[str] = ()) -> Recipe:
    """How to go on: the last stage of each network once more, five passes at a tenth of its rate, batch norms fixed.

    overrides: KEY=VALUE, as of load_recipe. Cuts and calibration stay the model's unless asked for.
    """
    networks = bundle.members or {"": bundle}
    tables = {name: _tables(each) for name, each in networks.items()}
    first = dict(next(iter(tables.values())))
    members = {name: own for name, own in tables.items() if name}
    recipe = recipe_from_dict(overridden(first | {"system": bundle.system, "members": members}, overrides))
    for name in members:
        recipe.of(name)
    return recipe


def _tables(bundle: Bundle) -> dict[str, Any]:
    told = recipe_from_dict(bundle.settings["training"]["recipe"], str(bundle.folder))
    plain, last = told.to_dict(), told.stages[-1]
    stage = Stage(
        PASSES,
        size=last.size,
        cells=last.cells,
        part=last.part,
        carried_lr=last.carried_lr,
        lr=RATE * last.lr,
        schedule="cosine",
        frozen_norm=True,
        batch=last.batch,
        accumulate=last.accumulate,
    )
    return {key: plain[key] for key in CARRIED} | {"stages": [asdict(stage)]}


def begin(model: str | Path, folder: Path) -> Bundle:
    """Copy the model into a new run's folder, so that the run can go on whatever becomes of the model."""
    bundle = load_bundle(model)
    shutil.rmtree(folder / START, ignore_errors=True)
    shutil.copytree(bundle.folder, folder / START)
    return load_bundle(folder / START)


def begun(folder: Path) -> Bundle | None:
    """The model that a run goes on from; None for one that began from nothing."""
    return load_bundle(folder / START) if (folder / START).is_dir() else None


def refuse_seen(bundle: Bundle, manifest: Manifest, guarded: Guarded) -> None:
    """DataError where photographs to choose or measure by are among those that the model learned from."""
    split = {row.image: row.split for row in manifest}
    met = [one for one in bundle.known().meet(guarded.seen) if split.get(one.image) in ("val", "test", "lockbox")]
    met = [one for one in met if one.split == "train" or split[one.image] != "val"]
    if met:
        shown = some([f"{one.image} ({split[one.image]}, {one.how})" for one in met])
        got = f"{len(met)} photographs of validation or test are known to the model: {shown}"
        repair = "Give their patients split train, or leave them out."
        raise DataError(f"bundle {bundle.hash}", got, "photographs it never saw", repair)


def start_weights(folder: Path, member: str) -> Path | None:
    """Where a member's first weights are; None in a run that began from nothing."""
    place = folder / START
    if not place.is_dir():
        return None
    return (place / MEMBERS / member if member else place) / WEIGHTS
