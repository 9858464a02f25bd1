"""The command line: one short function per verb. Errors are one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import m2cnn
from m2cnn.cli_card import card, card_options
from m2cnn.cli_data import data_options, data_prepare, data_render
from m2cnn.cli_explain import explain, explain_options, explain_score, score_options
from m2cnn.cli_grade import grade, grade_options
from m2cnn.cli_patients import patients, patients_options
from m2cnn.cli_report import report, report_options
from m2cnn.cli_site import keep_reference, reference, reference_options, site, site_options
from m2cnn.cli_systems import systems_options
from m2cnn.cli_table import (
    crossval,
    crossval_options,
    network_options,
    short_settings,
    table_ablation,
    table_comparison,
    table_options,
)
from m2cnn.cli_verb import (
    INTERRUPTED,
    OK,
    REFUSED,
    check_values,
    images_option,
    prevalence_option,
    prevalences,
    replicates_option,
    typed,
    verb,
)
from m2cnn.errors import M2cnnError, SettingError, require
from m2cnn.grades import DISCLAIMER
from m2cnn.tables import new_file, new_table, writing_new


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 some photograph has no grade, 2 refused, 130 interrupted."""
    options = parse(arguments)
    # A name that is not valid text is shown escaped: it must not stop the others.
    sys.stdout.reconfigure(errors="backslashreplace") if hasattr(sys.stdout, "reconfigure") else None
    try:
        check_values(options)
        return options.run(options) or OK
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has read enough
        return INTERRUPTED
    except M2cnnError as error:
        print(f"m2cnn: {error}", file=sys.stderr)
        return REFUSED
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(f"m2cnn: {what}; expected a place to read or write. Check path, rights and space.", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"m2cnn: interrupted{RESUME.get(options.run, '')}", file=sys.stderr)
        return INTERRUPTED


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of one command. KEY=VALUE settings may stand anywhere behind a verb that takes them."""
    options, rest = parser().parse_known_args(arguments)
    foreign = [text for text in rest if text.startswith("-") or "=" not in text]
    if foreign or (rest and not hasattr(options, "settings")):
        options.parser.error(f"unrecognised arguments: {' '.join(foreign or rest)}")
    if rest:
        options.settings = [*options.settings, *rest]
    return options


def parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    top = argparse.ArgumentParser("m2cnn", description="Diabetic retinopathy grading (M2CNN).", epilog=DISCLAIMER)
    top.add_argument("--version", action="version", version=f"m2cnn {m2cnn.__version__}")
    verbs = top.add_subparsers(title="verbs", required=True, metavar="VERB")
    grade_options(verb(verbs, "grade", grade, "grade photographs"))
    _train_options(verb(verbs, "train", train, "train a system, stage by stage"))
    crossval_options(verb(verbs, "crossval", crossval, "measure a recipe on every patient, each held back once"))
    _combine_options(verb(verbs, "combine", combine, "join trained runs: an ensemble, or both eyes of a patient"))
    _calibrate_options(verb(verbs, "calibrate", calibrate, "fit probabilities and operating points of a bundle"))
    _evaluate_options(verb(verbs, "evaluate", evaluate, "measure a bundle on a labelled set"))
    _compare_options(verb(verbs, "compare", compare, "systems side by side, with paired differences"))
    patients_options(verb(verbs, "patients", patients, "what predictions of photographs say of eyes and patients"))
    report_options(verb(verbs, "report", report, "what predictions are worth, as a page and a PDF"))
    site_options(verb(verbs, "site", site, "a clinic's photographs: checked, graded, compared, reported"))
    reference_options(verb(verbs, "reference", reference, "keep what a model learned from is like, for other sites"))
    card_options(verb(verbs, "card", card, "a model card: what a model is, for whom, and what was measured of it"))
    explain_options(verb(verbs, "explain", explain, "maps of where a grade comes from"))
    score_options(verb(verbs, "explain-score", explain_score, "what such maps are worth, beside marked lesions"))
    systems_options(verb(verbs, "systems", None, "the systems, and what they are made of"))
    data_options(verb(verbs, "data", None, "import, check, look at, split, prepare and render photographs"))
    table_options(verb(verbs, "table", None, "the paper's tables, trained again and set beside its own numbers"))
    demo_options = verb(verbs, "demo", demo, "render photographs, train a slim M2CNN, measure it, write a page")
    demo_options.add_argument("--out", default="demo", help="folder for everything (default: demo)")
    return top


# train


def _train_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("recipe", nargs="?", help="a packaged recipe (m2cnn systems recipes) or a .toml file")
    one.set_defaults(settings=[])
    one.epilog = "KEY=VALUE changes any setting of the recipe: stages.1.epochs=3 task.weight=0.5. " + DISCLAIMER
    one.add_argument("--from", dest="start", metavar="MODEL", help="go on from this bundle or run, instead of a recipe")
    one.add_argument("--data", help="manifest CSV, run folder, NAME:FOLDER, or the folder of a known dataset")
    images_option(one)
    one.add_argument("--out", required=True, help="run folder")
    one.add_argument("--resume", action="store_true", help="continue the run in --out, with its own recipe and data")
    one.add_argument("--cache", help="folder for prepared pictures, shared by runs")
    network_options(one)
    one.add_argument("--seed", help="short for seed=...")


def train(options: argparse.Namespace) -> None:
    require("torch", "train")
    require("lightning", "train")
    from m2cnn.bundle import load_bundle
    from m2cnn.data import open_data
    from m2cnn.finetune import recipe_of
    from m2cnn.profile.reference import REFERENCE
    from m2cnn.recipe import load_recipe
    from m2cnn.train import PICTURES, resume
    from m2cnn.train import train as fit

    if options.resume:
        if options.recipe or options.start or options.data or _short_settings(options):
            raise SettingError("train --resume", "a recipe, data or settings", "only --out RUN", "A run keeps its own.")
        bundle = resume(options.out, cache=options.cache, images=options.images)
    else:
        if options.start and "=" in (options.recipe or ""):  # the first setting, where a recipe would stand
            options.settings, options.recipe = [options.recipe, *options.settings], None
        if bool(options.recipe) == bool(options.start) or not options.data:
            got = "a recipe and --from" if options.recipe and options.start else "no recipe or no --data"
            raise SettingError("train", got, "m2cnn train RECIPE --data DATA --out RUN, or --from MODEL for RECIPE")
        settings = [*_short_settings(options), *options.settings]
        model = load_bundle(options.start) if options.start else None
        recipe = recipe_of(model, settings) if model else load_recipe(options.recipe, settings)
        manifest = open_data(options.data, options.images)
        bundle = fit(recipe, manifest, options.out, cache=options.cache, start=options.start, command=typed())
    _print_run(Path(options.out), bundle.hash)
    if not (bundle.folder / REFERENCE).is_file():  # what `m2cnn site` tells a drift by
        taught, memory = open_data(options.out, options.images), options.cache or Path(options.out) / PICTURES
        keep_reference(bundle, taught, memory)


def _short_settings(options: argparse.Namespace) -> list[str]:
    return short_settings(options) + ([] if options.seed is None else [f"seed={options.seed}"])


def _print_run(run: Path, digest: str) -> None:
    from m2cnn.summary import read_metrics, to_text

    for split in ("val", "test"):
        if (run / split / "metrics.json").is_file():
            print(to_text(read_metrics(run / split / "metrics.json")))
    print(f"{run / 'bundle'} ({digest})")


# combine


def _combine_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("runs", nargs="+", metavar="RUN", help="finished runs of one member each, on one manifest")
    one.set_defaults(settings=[])
    one.epilog = "KEY=VALUE changes a setting of the combiner: epochs=50 fit_cuts=true. " + DISCLAIMER
    one.add_argument("--combiner", default="mean", help="mean (default), forest, blend or elastic")
    one.add_argument("--out", required=True, help="folder for the bundle and what is measured of it")
    images_option(one)
    one.add_argument("--cache", help="folder for prepared pictures, shared by runs")
    one.add_argument("--seed", type=int, default=0, help="of the fit (default: 0)")


def combine(options: argparse.Namespace) -> None:
    for package in ("torch", "sklearn"):
        require(package, "train")
    from m2cnn.combine import combiner_from_dict
    from m2cnn.ensemble import combine_runs
    from m2cnn.overrides import overridden

    combiner = combiner_from_dict({"name": options.combiner} | overridden({}, options.settings))
    places = {"cache": options.cache, "images": options.images, "seed": options.seed}
    bundle = combine_runs(options.runs, combiner, options.out, **places)
    _print_run(Path(options.out), bundle.hash)


# calibrate


def _calibrate_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("bundle", help="bundle or run folder")
    one.add_argument("--data", required=True, help="as for train; photographs that the model was not trained on")
    images_option(one)
    one.add_argument("--out", required=True, help="new folder for the bundle")
    one.add_argument(
        "--split", default="val", help="val (default), or others joined by commas; all (but the closed lockbox)"
    )
    one.add_argument("--sensitivity", type=float, default=0.95, help="target of the sensitive point (default: 0.95)")
    one.add_argument("--specificity", type=float, default=0.95, help="target of the specific point (default: 0.95)")
    one.add_argument("--cache", help="folder that remembers what was seen of photographs")


def calibrate(options: argparse.Namespace) -> None:
    from m2cnn.data import open_data
    from m2cnn.evaluate import Selection
    from m2cnn.recalibrate import recalibrate
    from m2cnn.summary import not_measured

    targets = {"sensitivity": options.sensitivity, "specificity": options.specificity, "memory": options.cache}
    manifest, splits = open_data(options.data, options.images), tuple(options.split.split(","))
    bundle = recalibrate(options.bundle, manifest, options.out, splits=splits, **targets)
    for line in not_measured(Selection(splits).of(manifest)[1]):
        print(line)
    print(bundle.calibration.to_text())
    print(f"{bundle.folder} ({bundle.hash}). {DISCLAIMER}")


# evaluate and compare


def _evaluate_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("bundle", nargs="?", help="bundle or run folder")
    one.add_argument("--data", help="as for train")
    images_option(one)
    one.add_argument("--out", required=True, help="folder for predictions.csv and metrics.json; none may be there yet")
    one.add_argument("--predictions", metavar="CSV", help="anyone's predictions, instead of a bundle and --data")
    one.add_argument("--truth", metavar="CSV", help="their true grades, where the table does not carry them")
    one.add_argument("--system", help="what the system of --predictions is called (default: the file)")
    one.add_argument(
        "--missing",
        default="leave",
        help="what a photograph without a prediction is: leave (default) out, or ungradable",
    )
    one.add_argument(
        "--split", default="test", help="train, val, test (default), all but the closed lockbox, or the opened lockbox"
    )
    one.add_argument("--backend", default="onnx", help="onnx (default) or torch")
    one.add_argument("--source", action="append", default=[], help="only photographs of this source; may be repeated")
    one.add_argument("--trained-on", default="refuse", help="photographs the model knows: refuse (default) or skip")
    one.add_argument("--cache", help="folder that remembers what was seen of photographs")
    replicates_option(one)
    prevalence_option(one)


def evaluate(options: argparse.Namespace) -> None:
    from m2cnn.data import open_data
    from m2cnn.evaluate import RESULT, Selection
    from m2cnn.evaluate import evaluate as measure

    for name in RESULT:
        new_file(Path(options.out) / name)
    if options.predictions:
        if options.bundle or options.data:
            raise SettingError("evaluate", "--predictions beside a bundle or --data", "one of them")
        return _evaluate_anyones(options)
    if not options.bundle or not options.data:
        expected = "m2cnn evaluate BUNDLE --data DATA --out DIR, or --predictions CSV for BUNDLE and --data"
        raise SettingError("evaluate", "no bundle or no --data", expected)
    manifest = open_data(options.data, options.images)
    home = Path(options.data)
    lockbox = (home.parent if home.is_file() else home) if options.split == "lockbox" else None
    selection = Selection(tuple(options.split.split(",")), options.source, lockbox)
    settings = {"backend": options.backend, "replicates": options.replicates, "memory": options.cache}
    settings |= {"trained_on": options.trained_on, "prevalence": prevalences(options.prevalence), "command": typed()}
    _print_result(measure(options.bundle, manifest, options.out, selection, **settings), options.out)


def _evaluate_anyones(options: argparse.Namespace) -> None:
    from m2cnn.evaluate import evaluate_anyones

    settings = {"system": options.system or "", "missing": options.missing, "replicates": options.replicates}
    settings["prevalence"] = prevalences(options.prevalence)
    summary = evaluate_anyones(options.predictions, options.out, truth=options.truth, **settings)
    for note in summary["context"]["notes"]:
        print(note)
    _print_result(summary, options.out)


def _print_result(summary: dict[str, Any], out: str) -> None:
    from m2cnn.evaluate import RESULT
    from m2cnn.summary import to_text

    print(f"{to_text(summary)}{Path(out)}: {', '.join(RESULT)}")


def _compare_options(one: argparse.ArgumentParser) -> None:
    told = "folders of m2cnn evaluate, runs (their test), or anyone's tables; the first is the reference"
    one.add_argument("folders", nargs="+", metavar="DIR", help=told)
    one.add_argument("--truth", metavar="CSV", help="true grades, for tables that do not carry them")
    one.add_argument("--csv", metavar="FILE", help="also write the table as CSV, into a new file")


def compare(options: argparse.Namespace) -> None:
    from m2cnn.compare import compare_folders

    target = new_table(options.csv)
    comparison, notes = compare_folders(options.folders, truth=options.truth)
    for note in notes:
        print(note, file=sys.stderr)
    if target:
        with writing_new(target) as file:
            file.write(comparison.to_csv().encode())
    print(comparison.to_markdown())


RESUME = {
    grade: "; only with --csv, the same command continues",
    train: "; m2cnn train --resume --out RUN continues",
    combine: "; the same command continues",
    calibrate: "; the same command continues",
    evaluate: "; the same command continues",
    site: "; the same command continues",
    data_prepare: "; the same command continues",
    data_render: "; the same command continues",
    crossval: "; the same command continues",
    explain_score: "; the same command continues",
    table_ablation: "; the same command continues",
    table_comparison: "; the same command continues",
}


# demo


def demo(options: argparse.Namespace) -> None:
    require("torch", "train")
    from m2cnn.demo import run

    run(Path(options.out))
