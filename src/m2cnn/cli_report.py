"""`m2cnn report`: a result as a page and a PDF that a clinician and a reviewer can read."""

from __future__ import annotations

import argparse
from pathlib import Path

from m2cnn.cli_verb import OK, images_option, prevalence_option, prevalences, replicates_option, typed
from m2cnn.grades import DISCLAIMER
from m2cnn.tables import new_file


def report_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("folder", metavar="DIR", help="folder of m2cnn evaluate, a run, or anyone's table of predictions")
    one.add_argument("--out", help="folder for report.html and report.pdf (default: DIR, or beside the table)")
    one.add_argument("--truth", metavar="CSV", help="true grades, where the table does not carry them")
    one.add_argument("--model", help="that graded: its operating points, terms and training; needed for --maps")
    one.add_argument("--data", help="as for train: the photographs; worst mistakes are shown, groups by source made")
    images_option(one)
    one.add_argument("--groups", metavar="CSV", help="image or patient, and columns such as camera, site or age")
    prevalence_option(one)
    one.add_argument("--worst", type=int, default=8, help="mistakes that are shown (default: 8)")
    one.add_argument("--maps", action="store_true", help="with maps of where their severity came from (needs torch)")
    one.add_argument("--no-pictures", action="store_true", help="no photograph in the report")
    replicates_option(one)


def report(options: argparse.Namespace) -> int:
    from m2cnn.reporting import HTML, PDF, write_report
    from m2cnn.reporting.mistakes import of_member
    from m2cnn.reporting.study import read_study

    study = read_study(
        options.folder,
        truth=options.truth,
        model=options.model,
        data=options.data,
        images=options.images,
        groups=options.groups,
        prevalence=prevalences(options.prevalence),
        replicates=options.replicates,
    )
    out = Path(options.out) if options.out else study.table.parent
    for name in (HTML, PDF):
        new_file(out / name)
    page, pdf = write_report(
        study,
        out,
        pictures=not options.no_pictures,
        maps=options.maps,
        worst=options.worst,
        command=typed(),
    )
    if options.maps and (told := of_member(study.bundle)):
        print(told)
    print(f"{page}\n{pdf}\n{DISCLAIMER}")
    return OK
