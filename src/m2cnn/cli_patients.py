"""`m2cnn patients`: what predictions of photographs say of eyes and patients."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2cnn.bootstrap import shown
from m2cnn.cli_verb import OK, replicates_option
from m2cnn.errors import DataError, SettingError
from m2cnn.grades import DISCLAIMER, ENDPOINTS, NUM_GRADES
from m2cnn.packaged import DEFAULT
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.tables import new_table, table_bytes, true_or_false, writing_new
from m2cnn.wording import counted

BY_GRADE = (
    "referred here is who has grade 2 or worse, by the grade alone: operating points (refer_... of m2cnn grade) are "
    "not asked, and may send more patients on (--point NAME asks one)"
)


def patients_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("table", metavar="DIR", help="folder of m2cnn evaluate, a run (its test), or anyone's table")
    one.add_argument("--truth", metavar="CSV", help="true grades, where the table does not carry them")
    one.add_argument("--both-eyes", action="store_true", help="a missing eye is as bad as an ungradable one")
    one.add_argument("--point", metavar="NAME", help="refer by this operating point of the model, or from a severity")
    one.add_argument("--model", help=f"that graded, for --point: bundle, run or packaged (default: {DEFAULT})")
    one.add_argument("--scheme", help="english, scottish, etdrs, or FILE.toml: labels beside the grades")
    one.add_argument("--groups", metavar="CSV", help="image or patient, and columns such as camera, site or age")
    one.add_argument("--csv", metavar="FILE", help="write a row for each patient, into a new file")
    replicates_option(one)


def patients(options: argparse.Namespace) -> int:
    from m2cnn.compare import read_run
    from m2cnn.patients import by_eye, by_patient, scheme_named
    from m2cnn.subgroups import read_groups
    from m2cnn.truth import read_truth

    if options.model and not options.point:
        raise SettingError("--model", "no --point", "the point of it that refers", "Such as --point high-sensitivity.")
    scheme = scheme_named(options.scheme) if options.scheme else None
    target = new_table(options.csv)
    _, reading = read_run(options.table, read_truth(options.truth) if options.truth else None)
    photographs = reading.predictions
    labels = read_groups(options.groups, photographs.image, photographs.patient) if options.groups else {}
    rule = _rule(options.point, options.model, photographs) if options.point else Rule()
    people = by_patient(photographs, options.both_eyes, rule.refer_from)
    for note in (*reading.notes, *_unknown_eyes(photographs)):
        print(note)
    for what, table in (("eye", by_eye(photographs)), ("patient", people)):
        _print_level(what, table, rule, options.replicates)
    print(rule.said)
    _print_missed(people, rule)
    _print_groups(labels, photographs, options.replicates)
    if scheme:
        _print_scheme(scheme, people)
    if target:
        _write(target, people, scheme, rule)
    print(DISCLAIMER)
    return OK


# --- who is referred ---


@dataclass(frozen=True)
class Rule:
    """refer_from: as of `m2cnn.patients.referred`, None for the grade alone.  said: the rule in words.

    column: of the table of patients, "" for the grade alone.
    """

    refer_from: float | None = None
    said: str = BY_GRADE
    column: str = ""


def _rule(point: str, model: str | None, photographs: Predictions) -> Rule:
    """Of a severity, or of a model's point (default: the packaged one's). DataError where another model graded."""
    from m2cnn.bundle import load_bundle

    try:
        severity = float(point)
    except ValueError:
        model = model or DEFAULT
        bundle = load_bundle(model)
        graded = sorted(set(photographs.bundle.tolist()))
        if graded != [bundle.hash]:
            got = f"graded by {', '.join(filter(None, graded)) or 'nobody knows which model'}"
            repair = "Name the model that graded: --model. Or give the severity itself: --point 1.5."
            raise DataError("--point", got, f"photographs that {model} ({bundle.hash}) graded", repair) from None
        chosen = bundle.calibration.point(point)
        told = f"the operating point {point} of {model} ({bundle.hash})"
        return Rule(chosen.severity, _by_severity(f"{chosen.severity:.3f}", told), chosen.column)
    if not 0 <= severity <= NUM_GRADES - 1:
        raise SettingError("--point", point, f"the name of a point, or a severity of 0..{NUM_GRADES - 1}")
    if model:
        raise SettingError("--model", f"--point {point}, a severity", "no model beside it", "A severity needs none.")
    # As a table keeps it: a score of 1.4 reaches 1.4.
    return Rule(float(np.float32(severity)), _by_severity(f"{severity:g}", "as asked"), f"refer_from_{severity:g}")


def _by_severity(severity: str, whose: str) -> str:
    return f"referred here is who has a severity of {severity} or more in a field that can be graded: {whose}"


def _unknown_eyes(photographs: Predictions) -> Iterator[str]:
    if unknown := int((photographs.eye == "").sum()):
        shown = counted(len(photographs), "photograph")
        yield f"{unknown} of {shown}: nobody knows which eye, each is an eye of its own"


# --- what is printed ---


def _print_level(what: str, table: Predictions, rule: Rule, replicates: int) -> None:
    from m2cnn.summary import TITLES, summarise

    good = int(table.gradable.sum())
    print(f"{counted(len(table), what)}: {good} with a result, {len(table) - good} without")
    if (table.grade == NO_GRADE).all():
        return
    metrics = summarise(table, replicates)["metrics"]
    if rule.refer_from is not None:
        metrics |= _at_point(table, rule.refer_from, replicates)
    names = ("qwk", "referable_auc", "referable_sensitivity", "referable_specificity")
    for name in (*names, "referable_sensitivity_ungradable_refer", "referable_specificity_ungradable_refer"):
        print(f"  {TITLES[name]}: {shown(**metrics[name])}")


def _at_point(table: Predictions, refer_from: float, replicates: int) -> dict[str, dict[str, float]]:
    """The figures of summarise that depend on who is referred, for those from a severity on."""
    from m2cnn.calibration import patient_rates
    from m2cnn.patients import referred

    sent, known = referred(table, refer_from), table.grade != NO_GRADE
    found = {}
    for rows, refer, end in ((known & table.gradable, sent, ""), (known, sent | ~table.gradable, "_ungradable_refer")):
        truth, patient = table.grade[rows] >= ENDPOINTS["referable"], table.patient[rows]
        nothing = ((np.nan,) * 3,) * 2
        rates = patient_rates(refer[rows], truth, patient, replicates) if rows.any() else nothing
        for name, rate in zip(("sensitivity", "specificity"), rates, strict=True):
            found[f"referable_{name}{end}"] = dict(zip(("value", "low", "high"), rate, strict=True))
    return found


def _print_missed(people: Predictions, rule: Rule) -> None:
    from m2cnn.patients import missed

    if (people.grade == NO_GRADE).all():
        print("nobody's true grade is known: whether proliferative disease was missed, nobody can tell (--truth CSV)")
        return
    found = missed(people, refer_from=rule.refer_from)
    what = f"{counted(len(found), 'patient')} with proliferative disease {'was' if len(found) == 1 else 'were'}"
    print(f"{what} not referred" + (":" if found else ""))
    for one in found:
        print(f"  {one}")


def _print_groups(labels: dict[str, list[str]], photographs: Predictions, replicates: int) -> None:
    from m2cnn.subgroups import groups_of

    for group in groups_of(photographs, labels, replicates):
        values = group.summary["metrics"] if group.summary else {}
        said = ", ".join(f"{name} {shown(**values[name])}" for name in ("qwk", "referable_auc") if values)
        warning = f" ({group.warning})" if group.warning else ""
        counts = f"{counted(group.photographs, 'photograph')}, {counted(group.patients, 'patient')}{warning}"
        print(f"{group.column} = {group.value}: {counts} {said}")


def _print_scheme(scheme, people: Predictions) -> None:
    print(f"{scheme.title}. {scheme.note} Source: {scheme.source}.")
    labels = [scheme.label(int(grade)) for grade in people.decoded]
    for label in dict.fromkeys([*scheme.labels, scheme.ungradable]):
        print(f"  {label}: {counted(labels.count(label), 'patient')}")


def _write(path: Path, people: Predictions, scheme, rule: Rule) -> None:
    from m2cnn.patients import referred

    point = [rule.column] if rule.column else []
    local = [scheme.name] if scheme else []
    columns = ["patient", "grade", "severity", "referable", *point, "gradable", "reason", *local, "note"]
    sent, rows = referred(people, rule.refer_from), []
    for i in range(len(people)):
        good, grade = bool(people.gradable[i]), int(people.decoded[i])
        said = (
            [grade, f"{people.severity[i]:.4f}", true_or_false(grade >= ENDPOINTS["referable"])] if good else [""] * 3
        )
        said += [true_or_false(bool(sent[i])) if good else ""] if point else []
        local = [scheme.label(grade)] if scheme else []
        rows.append([people.patient[i], *said, true_or_false(good), people.reason[i], *local, DISCLAIMER])
    with writing_new(path) as file:
        file.write(table_bytes(columns, rows))
