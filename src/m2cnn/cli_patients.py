"""`m2cnn patients`: what predictions of photographs say of eyes and patients."""

from __future__ import annotations

import argparse
from pathlib import Path

from m2cnn.bootstrap import shown
from m2cnn.cli_verb import OK
from m2cnn.grades import DISCLAIMER, ENDPOINTS
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.tables import new_table, table_bytes, writing_new

BY_GRADE = (
    "referred here is who has grade 2 or worse, by the grade alone: operating points (refer_... of m2cnn grade) are "
    "not asked, and may send more patients on"
)


def patients_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("table", metavar="DIR", help="folder of m2cnn evaluate, a run (its test), or anyone's table")
    one.add_argument("--truth", metavar="CSV", help="true grades, where the table does not carry them")
    one.add_argument("--both-eyes", action="store_true", help="a missing eye is as bad as an ungradable one")
    one.add_argument("--scheme", help="english, scottish, etdrs, or FILE.toml: labels beside the grades")
    one.add_argument("--groups", metavar="CSV", help="image or patient, and columns such as camera, site or age")
    one.add_argument("--csv", metavar="FILE", help="write a row for each patient, into a new file")
    one.add_argument("--replicates", type=int, default=2000, help="bootstrap replicates (default: 2000)")


def patients(options: argparse.Namespace) -> int:
    from m2cnn.compare import read_run
    from m2cnn.patients import by_eye, by_patient, scheme_named
    from m2cnn.truth import read_truth

    scheme = scheme_named(options.scheme) if options.scheme else None
    target = new_table(options.csv)
    _, reading = read_run(options.table, read_truth(options.truth) if options.truth else None)
    photographs = reading.predictions
    people = by_patient(photographs, options.both_eyes)
    for note in reading.notes:
        print(note)
    for what, table in (("eyes", by_eye(photographs)), ("patients", people)):
        _print_level(what, table, options.replicates)
    print(BY_GRADE)
    _print_missed(people)
    if options.groups:
        _print_groups(options.groups, photographs, options.replicates)
    if scheme:
        _print_scheme(scheme, people)
    if target:
        _write(target, people, scheme)
    print(DISCLAIMER)
    return OK


def _print_level(what: str, table: Predictions, replicates: int) -> None:
    from m2cnn.summary import TITLES, summarise

    print(f"{len(table)} {what}: {int(table.gradable.sum())} with a result, {int((~table.gradable).sum())} without")
    if (table.grade == NO_GRADE).all():
        return
    metrics = summarise(table, replicates)["metrics"]
    names = ("qwk", "referable_auc", "referable_sensitivity", "referable_specificity")
    for name in (*names, "referable_sensitivity_ungradable_refer", "referable_specificity_ungradable_refer"):
        print(f"  {TITLES[name]}: {shown(**metrics[name])}")


def _print_missed(people: Predictions) -> None:
    from m2cnn.patients import missed

    if (people.grade == NO_GRADE).all():
        print("nobody's true grade is known: whether proliferative disease was missed, nobody can tell (--truth CSV)")
        return
    found = missed(people)
    print(f"{len(found)} patients with proliferative disease were not referred" + (":" if found else ""))
    for one in found:
        print(f"  {one}")


def _print_groups(path: str, photographs: Predictions, replicates: int) -> None:
    from m2cnn.subgroups import groups_of, read_groups

    for group in groups_of(photographs, read_groups(path, photographs), replicates):
        values = group.summary["metrics"] if group.summary else {}
        said = ", ".join(f"{name} {shown(**values[name])}" for name in ("qwk", "referable_auc") if values)
        warning = f" ({group.warning})" if group.warning else ""
        counted = f"{group.photographs} photographs, {group.patients} patients{warning}"
        print(f"{group.column} = {group.value}: {counted} {said}")


def _print_scheme(scheme, people: Predictions) -> None:
    print(f"{scheme.title}. {scheme.note} Source: {scheme.source}.")
    labels = [scheme.label(int(grade)) for grade in people.decoded]
    for label in dict.fromkeys([*scheme.labels, scheme.ungradable]):
        print(f"  {label}: {labels.count(label)} patients")


def _write(path: Path, people: Predictions, scheme) -> None:
    columns = [
        "patient",
        "grade",
        "severity",
        "referable",
        "gradable",
        "reason",
        *([scheme.name] if scheme else []),
        "note",
    ]
    rows = []
    for i in range(len(people)):
        good, grade = bool(people.gradable[i]), int(people.decoded[i])
        plain = (
            [grade, f"{people.severity[i]:.4f}", str(grade >= ENDPOINTS["referable"]).lower()] if good else ["", "", ""]
        )
        local = [scheme.label(grade)] if scheme else []
        rows.append([people.patient[i], *plain, str(good).lower(), people.reason[i], *local, DISCLAIMER])
    with writing_new(path) as file:
        file.write(table_bytes(columns, rows))
