"""The verbs of `m2cnn systems`: the rows of the table, and what they are made of."""

from __future__ import annotations

import argparse
import json

from m2cnn.cli_verb import verb
from m2cnn.errors import require
from m2cnn.grades import DISCLAIMER

SHORT = ("width", "ladder", "trunk", "cell")  # of network.*


def systems_options(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(required=True, metavar="VERB")
    verb(verbs, "list", systems_list, "the systems of the table")
    verb(verbs, "recipes", systems_recipes, "the packaged recipes")
    verb(verbs, "models", systems_models, "the packaged models: hash, size, and who may use them")
    show = verb(verbs, "show", systems_show, "members, combiner, costs; one member's layers with their sources")
    show.add_argument("name", help="a system, such as m2cnn")
    show.add_argument("--member", help="whose layers (default: the first member's)")
    show.add_argument("--size", type=int, help="input side in px (default: what it grades with; BaseNet, M2CNN: 224)")
    show.add_argument("--cells", type=int, help="cells that run (default: what the ladder has at that size)")
    show.add_argument("--part", type=int, default=-1, help="Zoom-in-Net: 0 M-Net, 1 and A-Net, 2 and C-Net")
    for name in SHORT:
        show.add_argument(f"--{name}", help=f"network.{name}, of every member")
    show.add_argument("--json", action="store_true")


def systems_list(options: argparse.Namespace) -> None:
    from m2cnn.entry import list_systems

    print(f"paper: its kappa, val / test. {DISCLAIMER}\n\n{list_systems()}", end="")


def systems_recipes(options: argparse.Namespace) -> None:
    from m2cnn.recipe import recipe_names

    print("\n".join(recipe_names()))


def systems_models(options: argparse.Namespace) -> None:
    from m2cnn.bundle import load_bundle
    from m2cnn.packaged import HOME, names

    bundles = {name: load_bundle(HOME / name) for name in names()}
    for name, bundle in bundles.items():
        print(f"{name}: {bundle.system}, {bundle.hash}, {bundle.bytes / 1e6:.1f} MB. {bundle.terms.text}")
    print(DISCLAIMER if bundles else "this copy of m2cnn holds no model; `m2cnn train` makes one")


def systems_show(options: argparse.Namespace) -> None:
    require("torch", "train")
    from m2cnn.entry import show
    from m2cnn.overrides import parse_value

    given = {name: getattr(options, name) for name in SHORT}
    settings = {name: parse_value(value) for name, value in given.items() if value is not None}
    entry = show(options.name, options.member or "", options.size, options.cells, options.part, settings)
    print(json.dumps(entry.to_json(), indent=1) if options.json else entry.to_text())
