"""The verbs of `m2cnn table`: the paper's tables, trained again; and `m2cnn crossval`, which is made like one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2cnn.cli_verb import OK, UNGRADED, images_option, names_in, replicates_option, typed, verb
from m2cnn.errors import SettingError, require
from m2cnn.grades import DISCLAIMER
from m2cnn.lock import alone
from m2cnn.overrides import parse_value

if TYPE_CHECKING:
    from m2cnn.data import Manifest
    from m2cnn.paper.grid import Pattern
    from m2cnn.paper.running import Plan, Table

SHORT = ("width", "ladder", "trunk", "cell", "weights")  # of network.*


def table_options(one: argparse.ArgumentParser) -> None:
    verbs = one.add_subparsers(required=True, metavar="VERB")
    _comparison_options(verb(verbs, "comparison", table_comparison, "the systems as whole entries, side by side"))
    _ablation_options(verb(verbs, "ablation", table_ablation, "loss, decode, size and cells, each alone, and controls"))
    _claims_options(verb(verbs, "claims", table_claims, "the poster's claims: holds, does not hold, undecided"))


def shared_options(one: argparse.ArgumentParser) -> None:
    """The options of every table."""
    one.add_argument("--data", help="as for train")
    images_option(one)
    one.add_argument("--out", required=True, help="folder of the table; the same command goes on where it stopped")
    one.add_argument("--only", "--cells", metavar="NAME,NAME", help="only these cells or arms")
    one.add_argument("--cache", help="folder for prepared pictures (default: in --out)")
    one.add_argument("--report", action="store_true", help="train nothing: write the report of what is kept")
    replicates_option(one)
    one.set_defaults(settings=[])


def _seeds_option(one: argparse.ArgumentParser) -> None:
    one.add_argument("--seeds", default="3", help="how many, or which: 3 is 0,1,2 (default: 3)")


def _ablation_options(one: argparse.ArgumentParser) -> None:
    shared_options(one)
    _seeds_option(one)
    one.add_argument("--recipe", default="m2cnn-slim", help="its first stage is the pattern (default: m2cnn-slim)")
    one.add_argument("--passes", type=int, default=0, help="of every run, over its stages (default: the pattern's)")
    one.add_argument("--share", default="0.5", help="of the passes left, what each stage but the last takes (0.5)")
    one.add_argument("--sizes", help="three sizes in px instead of the ladder's, such as 112,224,360")
    network_options(one)
    one.epilog = "KEY=VALUE changes any setting, of all cells alike: stages.0.lr=0.002 fit_cuts=true. " + DISCLAIMER


def _comparison_options(one: argparse.ArgumentParser) -> None:
    shared_options(one)
    _seeds_option(one)
    named = "a row's recipe, packaged or FILE.toml; may be repeated (default: the packaged slim one of the system)"
    one.add_argument("--recipe", action="append", default=[], metavar="NAME=RECIPE", help=named)
    one.add_argument("--full", action="store_true", help="the recipes of published width instead of the slim ones")
    same = "multiply-adds of a photograph over a whole training, or a row: all get about that (default: the recipes')"
    one.add_argument("--budget", metavar="NUMBER|NAME", help=same)
    one.add_argument("--reference", default="m2cnn", help="the row that differences are to (default: m2cnn)")
    one.epilog = (
        "KEY=VALUE changes a setting of all rows, NAME:KEY=VALUE of one: split.seed=1 min-pooling:stages.*.epochs=3. "
        + DISCLAIMER
    )


def table_comparison(options: argparse.Namespace) -> int:
    require("torch", "train")
    from m2cnn.paper.comparison import comparison_cells, recipe_files, settled_precision
    from m2cnn.paper.comparison_page import NAMES, check_reference, write_report
    from m2cnn.paper.running import PLAN, Plan, read_plan

    out, seeds = Path(options.out), seeds_of(options.seeds)
    check_reference(options.reference)

    def planned(manifest: Manifest) -> Plan:
        files = recipe_files(dict(map(_named, options.recipe)), options.full)
        cells = comparison_cells(options.settings, files, options.budget or "")
        before = read_plan(out).cells if (out / PLAN).is_file() else ()
        asked = {"recipes": files, "budget": options.budget or ""}
        command = typed()
        return Plan("comparison", settled_precision(cells, before), seeds, manifest.digest(), command, asked)

    def report(plan: Plan) -> object:
        return write_report(out, plan, options.replicates, options.reference)

    return made(options, planned, report, out / NAMES[0])


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise SettingError("--recipe", f'"{text}"', "NAME=RECIPE, such as o-o=mine.toml")
    return name, value


def table_ablation(options: argparse.Namespace) -> int:
    from m2cnn.paper.ablation import ablation_cells
    from m2cnn.paper.page import NAMES, write_report
    from m2cnn.paper.running import Plan

    require("torch", "train")
    out, seeds = Path(options.out), seeds_of(options.seeds)

    def planned(manifest: Manifest) -> Plan:
        cells = ablation_cells(_pattern(options, out))
        return Plan("ablation", cells, seeds, manifest.digest(), typed())

    return made(options, planned, lambda plan: write_report(out, plan, options.replicates), out / NAMES[0])


def _claims_options(one: argparse.ArgumentParser) -> None:
    shared_options(one)
    _seeds_option(one)
    one.add_argument("--ablation", action="append", required=True, metavar="DIR", help="a table's folder; may repeat")
    one.add_argument("--shares", default="0.05,0.2", help="of training labels that are made wrong (default: 0.05,0.2)")
    one.epilog = "--data is of the first --ablation; without it no network is trained. " + DISCLAIMER


def table_claims(options: argparse.Namespace) -> int:
    from m2cnn.data import open_data
    from m2cnn.paper.claims_page import NAMES
    from m2cnn.paper.claims_runs import Claims, claims_plan, read_sources

    require("torch", "train")
    if options.settings:
        raise SettingError("table claims", f'"{options.settings[0]}"', "no settings", "They are the ablation's.")
    out, seeds = Path(options.out), seeds_of(options.seeds)
    sources = read_sources([Path(folder) for folder in options.ablation], options.replicates)
    asked = claims_plan(sources[0], _shares(options.shares), seeds, typed())
    claims = Claims(out, sources, asked, Path(options.cache) if options.cache else None)
    if options.report:
        claims.report()
    else:
        require("lightning", "train")
        with alone(out):
            if options.data:
                claims.run(open_data(options.data, options.images), names_in(options.only))
            claims.look(options.images)
            claims.report()
    return _told(out, out / NAMES[0])


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(",") if share)
    except ValueError as cause:
        raise SettingError("--shares", f'"{text}"', "numbers with commas", "For example 0.05,0.2.") from cause


def made(
    options: argparse.Namespace,
    planned: Callable[[Manifest], Plan],
    report: Callable[[Plan], object],
    page: Path,
    kind: type[Table] | None = None,
) -> int:
    """Make a table, whichever: plan or go on, train what is missing, write the report after every run.

    Raises SettingError where another process makes it.
    """
    from m2cnn.data import open_data
    from m2cnn.paper.grid import chosen
    from m2cnn.paper.running import Table, read_plan, settle

    out = Path(options.out)
    if options.report:
        report(read_plan(out))
    else:
        require("lightning", "train")
        if not options.data:
            raise SettingError("table", "no --data", "--data DATA --out OUT")
        manifest = open_data(options.data, options.images)
        with alone(out):
            plan = planned(manifest)
            cells = chosen(plan.cells, names_in(options.only))
            seeds, plan = plan.seeds, settle(out, plan)
            cache = Path(options.cache) if options.cache else None
            (kind or Table)(out, plan, manifest, cache, after=lambda: report(plan)).run(cells, seeds)
            report(plan)
    return _told(out, page)


def _told(out: Path, page: Path) -> int:
    """Name what failed, and the page; the exit code."""
    from m2cnn.paper.running import read_failed

    failed = read_failed(out)
    for name, reason in failed.items():
        print(f"m2cnn: {name} failed: {reason}", file=sys.stderr)
    print(page)
    return UNGRADED if failed else OK


def network_options(one: argparse.ArgumentParser) -> None:
    """Short forms of settings of the network."""
    for name in SHORT:
        one.add_argument(f"--{name}", help=f"short for network.{name}=...")


def short_settings(options: argparse.Namespace) -> list[str]:
    """The settings that `network_options` gave."""
    return [f"network.{name}={getattr(options, name)}" for name in SHORT if getattr(options, name) is not None]


def _pattern(options: argparse.Namespace, out: Path) -> Pattern:
    from m2cnn.paper.grid import pattern
    from m2cnn.paper.running import settled_precision

    found = pattern(
        options.recipe,
        [*short_settings(options), *options.settings],
        sizes=_numbers("sizes", options.sizes) if options.sizes else (),
        passes=options.passes,
        share=_share(options.share),
    )
    if found.recipe.precision != "auto":
        return found
    return replace(found, recipe=replace(found.recipe, precision=settled_precision(found, out)))


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds that "3" or "0,1,2" names."""
    numbers = _numbers("seeds", text)
    seeds = numbers if "," in text else tuple(range(numbers[0]))
    if not seeds or len(set(seeds)) < len(seeds):
        raise SettingError("--seeds", f'"{text}"', "how many, or different numbers such as 0,1,2")
    return seeds


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",") if number)
    except ValueError as cause:
        raise SettingError(f"--{name}", f'"{text}"', "whole numbers with commas") from cause


def crossval_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("recipe", help="a packaged recipe (m2cnn systems recipes) or a .toml file")
    shared_options(one)
    one.add_argument("--folds", type=int, help="of patients (default: 5)")
    one.add_argument("--by", choices=("patient", "source"), default="patient", help="source: one fold of each source")
    network_options(one)
    one.epilog = "KEY=VALUE changes any setting of the recipe, of all folds alike. " + DISCLAIMER


def crossval(options: argparse.Namespace) -> int:
    require("torch", "train")
    from m2cnn.crossval import PAGE, CrossValidation, crossval_plan, write_report
    from m2cnn.data import open_data
    from m2cnn.paper.comparison import settled_precision
    from m2cnn.paper.running import PLAN, read_plan
    from m2cnn.recipe import load_recipe
    from m2cnn.summary import to_text

    if options.by == "source" and options.folds is not None:
        raise SettingError("crossval", "--folds beside --by source", "one of them", "A source is a fold.")
    out, folds = Path(options.out), 5 if options.folds is None else options.folds
    seen = [open_data(options.data, options.images)] if options.report and options.data else []

    def planned(manifest: Manifest) -> Plan:
        seen.append(manifest)
        recipe = load_recipe(options.recipe, [*short_settings(options), *options.settings])
        asked = None if options.by == "source" else folds
        plan = crossval_plan(recipe, manifest, asked, typed())
        before = read_plan(out).cells if (out / PLAN).is_file() else ()
        return replace(plan, cells=settled_precision(plan.cells, before))

    said: dict[str, Any] = {}

    def report(plan: Plan) -> None:
        said.update(write_report(out, plan, seen[0] if seen else None, options.replicates))

    code = made(options, planned, report, out / PAGE, CrossValidation)
    if said and not said["context"]["missing"]:
        print(to_text(said))
    return code


def _share(text: str) -> float:
    value = parse_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError("--share", f'"{text}"', "a number between 0 and 1")
    return float(value)
