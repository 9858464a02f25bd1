"""The verbs of explanations: `m2cnn explain` draws maps, `m2cnn explain-score` says what they are worth."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from m2cnn.cli_verb import OK, UNGRADED, names_in, replicates_option
from m2cnn.errors import SettingError, require
from m2cnn.grades import DISCLAIMER

TABLE = "explanations"


def _shared_options(one: argparse.ArgumentParser) -> None:
    named = "joined by commas: grad-cam, grad-cam-fine, integrated-gradients, occlusion, attention (default: all)"
    one.add_argument("--methods", metavar="NAME,NAME", help=named)
    one.add_argument("--targets", default="grade,severity", help="grade, severity or both (default)")
    one.add_argument("--out", required=True, help="folder for what is written")


def explain_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", help="bundle or run folder")
    one.add_argument("paths", nargs="+", metavar="PHOTOGRAPH", help="photographs, or folders to search")
    _shared_options(one)


def explain(options: argparse.Namespace) -> int:
    require("torch", "train")
    require("lightning", "train")
    from m2cnn.explain.explaining import INDEX, explain_photographs
    from m2cnn.grader import passed_over

    settings = {"methods": names_in(options.methods), "targets": names_in(options.targets)}
    index = explain_photographs(options.model, options.paths, options.out, **settings)
    if others := index["passed_over"]:
        print(passed_over([Path(name) for name in others]), file=sys.stderr)
    for each in index["refused"]:
        print(f"{each['photograph']}: no map: {each['reason']}")
    for each in index["checks"]:
        if each["warning"]:
            of = f" (member {each['member']})" if each["member"] else ""
            print(f"{each['method']} of {each['target']}{of}: {each['warning']}")
    members = list(dict.fromkeys(each["member"] for each in index["maps"]))
    if len(members) > 1:
        print(f"each map is of one member alone ({', '.join(members)}), as its picture says; the grade is that of all")
    print(f"{len(index['maps'])} maps: {Path(options.out) / INDEX} (model {index['model']}). {DISCLAIMER}")
    return UNGRADED if index["refused"] else OK


def score_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("models", nargs="+", metavar="MODEL", help="bundles or run folders")
    marked = "IDRiD's folder, or one of m2cnn data render --masks; may be repeated"
    one.add_argument("--masks", action="append", required=True, metavar="FOLDER", help=marked)
    one.add_argument("--most", type=int, default=0, metavar="N", help="of a set, spread evenly over it (default: all)")
    costs = "of these, with curves and the check with random weights, which cost most (default: all)"
    one.add_argument("--costly", type=int, default=0, metavar="N", help=costs)
    replicates_option(one)
    _shared_options(one)


def explain_score(options: argparse.Namespace) -> None:
    require("torch", "train")
    require("lightning", "train")
    from m2cnn.explain.scoring import score_models
    from m2cnn.explain.table import lines, to_csv, to_markdown
    from m2cnn.tables import write_atomically

    for name, number in (("--most", options.most), ("--costly", options.costly)):
        if number < 0:
            raise SettingError(name, str(number), "0 (all) or more")
    settings = {"methods": names_in(options.methods), "targets": names_in(options.targets)}
    settings |= {"most": options.most, "costly": options.costly}
    scores = score_models(options.models, options.masks, options.out, **settings)
    rows = lines(scores, options.replicates)
    text = f"{to_markdown(rows, [each for each in scores if each.reason])}\n{DISCLAIMER}\n"
    write_atomically(Path(options.out) / f"{TABLE}.csv", to_csv(rows))
    write_atomically(Path(options.out) / f"{TABLE}.md", text.encode())
    print(text, end="")
