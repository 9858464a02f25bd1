"""The verb `grade`: photographs, and folders of them."""

from __future__ import annotations

import argparse
import codecs
import csv
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from m2cnn.cli_verb import OK, UNGRADED
from m2cnn.errors import SettingError
from m2cnn.grades import DISCLAIMER, GRADES, NUM_GRADES, Grading
from m2cnn.kept import keeping
from m2cnn.packaged import DEFAULT, located, repair
from m2cnn.tables import is_device, new_table, true_or_false, writing_new

if TYPE_CHECKING:
    from m2cnn.calibration import Point


def grade_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("paths", nargs="+", help="photographs, or folders to search")
    one.add_argument("--model", help=f"bundle or run folder, or a packaged model (default: {DEFAULT})")
    one.add_argument("--backend", default="onnx", help="onnx (default) or torch")
    one.add_argument(
        "--csv",
        metavar="FILE",
        help="write a table, into a new file, there when all are graded",
    )
    one.add_argument("--json", action="store_true", help="print one JSON object per photograph")


def grade(options: argparse.Namespace) -> int:
    from m2cnn.grader import SUFFIXES, Grader, exams, find_photographs, passed_over

    if not options.model and not located(DEFAULT).is_dir():
        got = f'no model, and no "{DEFAULT}" is packaged'
        raise SettingError("grade", got, "--model BUNDLE", f"`m2cnn train` makes one. {repair(Path(DEFAULT))}")
    if options.csv and Path(options.csv).suffix.lower() in SUFFIXES:
        raise SettingError("--csv", f"{options.csv} is named like a photograph", "a .csv file to write")
    target = new_table(options.csv) or Path(os.devnull)
    photographs, others = find_photographs(options.paths)
    if others:
        print(passed_over(others), file=sys.stderr)
    grader = Grader.load(options.model or DEFAULT, options.backend)
    with nullcontext() if is_device(target) else keeping(target, grader.identity) as kept, writing_new(target) as file:
        missed = 0
        gradings = chain.from_iterable(grader.grade_exams(exams(photographs, grader.joins_eyes), kept=kept))
        for grading in _write_as_read(file, gradings, grader.calibration.points):
            print(_as_json(grading) if options.json else _as_line(grading), flush=True)
            missed += not grading.gradable
    # With --json, where every line is an object, the last line stands apart.
    print(f"{grader.bundle.to_text()}. {DISCLAIMER}", file=sys.stderr if options.json else sys.stdout)
    return UNGRADED if missed else OK


def _as_json(grading: Grading) -> str:
    return json.dumps(grading.as_dict())


def _as_line(grading: Grading) -> str:
    if not grading.gradable:
        return f"{grading.image}: not gradable: {grading.reason}"
    said = f"grade {grading.grade} ({GRADES[grading.grade].name}), severity {grading.severity:.2f}"
    caution = f" ({grading.caution})" if grading.caution else ""
    chance = "" if grading.chance is None else f", chance of referable disease {grading.chance:.2f}"
    points = "".join(f", {name}: {'refer' if yes else 'do not refer'}" for name, yes in grading.refer.items())
    return f"{grading.image}: {said}, {'referable' if grading.referable else 'not referable'}{chance}{points}{caution}"


def _write_as_read(file: BinaryIO, gradings: Iterable[Grading], points: Sequence[Point]) -> Iterable[Grading]:
    """Each row is written before the next photograph is graded, so that who reads a pipe has it at once.

    points: of the bundle.
    """
    chances = [f"p{grade}" for grade in range(NUM_GRADES)]
    plain = ["image", "grade", "severity", "referable", "gradable", "reason", "caution", "system", "model", "chance"]
    writer = csv.writer(codecs.getwriter("utf-8")(file, "backslashreplace"))
    writer.writerow([*plain, *(point.column for point in points), *chances, "note"])
    for grading in gradings:
        values = [getattr(grading, name) for name in plain] + [grading.refer.get(point.name, "") for point in points]
        values = [true_or_false(value) if isinstance(value, bool) else value for value in values]
        writer.writerow([*values, *(grading.probabilities or [""] * NUM_GRADES), DISCLAIMER])
        file.flush()
        yield grading
