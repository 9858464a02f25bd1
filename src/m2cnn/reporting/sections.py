"""The parts of a report, each from a study alone."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from m2cnn import plots
from m2cnn.bootstrap import shown
from m2cnn.calibration import Point, patient_rates
from m2cnn.card_groups import SHOWN as OF_A_GROUP
from m2cnn.grades import ENDPOINTS, GRADES, NUM_GRADES
from m2cnn.metrics import roc_curve
from m2cnn.panel import NAMES, PER_ENDPOINT, REFERABLE, TITLES
from m2cnn.patients import by_eye, missed
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.reliability import reliability_curve
from m2cnn.report import confusion_words
from m2cnn.reporting.document import Block, Items, Plot, Section, Text, table
from m2cnn.reporting.study import Study
from m2cnn.subgroups import SMALL
from m2cnn.summary import AT_PREVALENCE, summarise

WHOLE = ("qwk", "linear_kappa", "accuracy", "macro_f1", "mse", "mae")
OF_A_GRADE = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV"}
REFER, SPARE = (f"referable_{rate}_ungradable_refer" for rate in ("sensitivity", "specificity"))
HOW_INTERVALS = (
    "95 %, over patients, from {replicates} bootstrap samples of {patients} patients (seed {seed}): {method}"
)
PACKAGES = ("m2cnn", "numpy", "scipy", "opencv-python-headless", "onnxruntime")
MOST_REASONS = 12
INTERVAL = "value (95 % interval over patients)"


def _plot(draw: Any, *numbers: Any, alt: str, wide: bool = True) -> Plot:
    return Plot(draw(*numbers), draw(*numbers, form="png"), alt, wide)


def _percent(metric: Mapping[str, float | None]) -> str:
    if metric["value"] is None:
        return "an unknown share"
    low, high = metric["low"], metric["high"]
    reach = "" if low is None or np.isnan(low) else f" ({_hundredths(low)} to {_hundredths(high)})"
    return f"{_hundredths(metric['value'])} %{reach}"


def _hundredths(share: float) -> str:
    """Percent; shares near the ends with a digit more, and never 0 or 100 for what is not all."""
    if share in (0, 1) or 0.1 <= share <= 0.9:
        return f"{100 * share:.0f}"
    text = f"{100 * share:.1f}"
    return {"0.0": "under 0.1", "100.0": "over 99.9"}.get(text, text)


def _share(study: Study, table: Predictions, flags: np.ndarray) -> str:
    """How many are so, and their share with its interval over patients."""
    if not len(table):
        return "0 of 0"
    (value, low, high), _ = patient_rates(flags, np.ones(len(table), bool), table.patient, study.replicates)
    return f"{int(flags.sum())} of {len(table)} ({_percent({'value': value, 'low': low, 'high': high})})"


# --- in a minute ---


def lead(study: Study) -> tuple[str, ...]:
    """What a clinician must know, in a minute."""
    people, summary = study.of_people["metrics"], study.summary
    split = f", split {summary['split']}" if summary["split"] else ""
    counted = f"{summary['n_images']} photographs of {summary['n_patients']} patients{split}"
    severe, lost = int((study.people.grade == NUM_GRADES - 1).sum()), len(missed(study.people))
    return (
        f"{summary['system'] or study.name} graded {counted}.",
        f"By its grade alone, of patients with referable disease (grade {REFERABLE} or more) it sends "
        f"{_percent(people[REFER])} on; of patients without it, {_percent(people[SPARE])} are not sent on. Patients "
        "without a result are sent on.",
        f"{_share(study, study.predictions, ~study.predictions.gradable)} photographs could not be graded: a person "
        "must see those eyes.",
        f"Of {severe} patients with proliferative disease {lost} were not sent on.",
        f"Agreement with the true grades: quadratic weighted kappa {shown(**summary['metrics']['qwk'])}; 0 is chance, "
        "1 is perfect. In brackets 95 % intervals over patients: other patients of this kind may give any of it.",
    )


def warnings(study: Study, pictures: bool) -> tuple[str, ...]:
    """What nobody may overlook."""
    found, summary, ill = [], study.summary, int((study.people.grade >= REFERABLE).sum())
    graded = int((study.people.grade != NO_GRADE).sum())
    if pictures:
        found.append("This file shows photographs of patients. Keep it as you keep those.")
    if min(ill, graded - ill) < SMALL:
        found.append(
            f"Small study: {ill} patients with referable disease and {graded - ill} without. Read the intervals."
        )
    if was_chosen_on(study):
        found.append("These are photographs that the model learned from or was chosen by: the numbers flatter.")
    if summary["n_without_grade"]:
        found.append(f"{summary['n_without_grade']} photographs have no true grade and are not measured.")
    if not _checked(study):
        found.append("Nobody checked whether the model learned from these photographs: if it did, the numbers flatter.")
    return (
        *found,
        *(f"{group.column} = {group.value}: {group.warning}" for group in study.groups if not group.summary),
    )


def was_chosen_on(study: Study) -> bool:
    """Whether the model learned from such photographs, or was chosen by them."""
    return bool({"train", "val"} & set(study.summary["split"].split(", ")))


# --- the numbers ---


def grades(study: Study) -> Section:
    measured, confusion = study.summary["metrics"], np.array(study.summary["confusion"])
    each = [
        (
            f"{g.number} {g.name}",
            int(confusion[g.number].sum()),
            *_cells(measured, (f"{key}_grade_{g.number}" for key in OF_A_GRADE)),
        )
        for g in GRADES
    ]
    far = np.abs(study.scored.grade - study.scored.decoded) >= 2
    return Section(
        "Grades",
        (
            _plot(plots.confusion_svg, confusion, alt=confusion_words(confusion), wide=False),
            Text(f"Two or more grades off: {_share(study, study.scored, far)} photographs."),
            table("All grades", ("metric", INTERVAL), [(TITLES[key], shown(**measured[key])) for key in WHOLE]),
            table("Each grade against the others", ("grade", "photographs", *OF_A_GRADE.values()), each),
        ),
    )


def _cells(measured: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [shown(**measured[key]) for key in keys]


def endpoints(study: Study) -> Section:
    p, measured = study.scored, study.summary["metrics"]
    head = ("", *(f"{NAMES[end]} (grade {ENDPOINTS[end]} or more)" for end in NAMES))
    rows = [("photographs with it", *(int((p.grade >= ENDPOINTS[end]).sum()) for end in NAMES))]
    rows += [(title, *_cells(measured, (f"{end}_{key}" for end in NAMES))) for key, title in PER_ENDPOINT.items()]
    blocks: list[Block] = [table("As the severity (AUC, average precision) and the grades say", head, rows)]
    if study.prevalence:
        rows = [
            (NAMES[end], f"{share:.2%}", *_cells(measured, (f"{end}_{key}_at_prevalence" for key in AT_PREVALENCE)))
            for end, share in study.prevalence.items()
        ]
        blocks.append(table("Where another share of patients has it", ("end-point", "share", "PPV", "NPV"), rows))
    points = _points(study)
    curves = []
    for end, name in NAMES.items():
        positive = p.grade >= ENDPOINTS[end]
        if positive.any() and not positive.all():
            curves.append((f"{name}: AUC {shown(**measured[f'{end}_auc'])}", *roc_curve(positive, p.severity)))
    if curves:
        marks = [(name, 1 - spared[0], caught[0]) for name, _, caught, spared in points]
        blocks.insert(
            0, _plot(plots.roc_svg, curves, marks, alt="ROC curves of the severity: " + "; ".join(c[0] for c in curves))
        )
    if points:
        rows = [(name, f"{place:.2f}", shown(*caught), shown(*spared)) for name, place, caught, spared in points]
        head = ("operating point", "severity from which it refers", "sensitivity", "specificity")
        which = "chosen on photographs of this split" if was_chosen_on(study) else "frozen in the model before"
        blocks.append(table(f"Operating points for referable disease, {which}, on these photographs", head, rows))
    else:
        why = "the model has none" if study.bundle else "the model was not named (--model)"
        blocks.append(Text(f"Operating points that were frozen before: {why}."))
    return Section("Referable and other disease", tuple(blocks))


def _points(study: Study) -> list[tuple[str, float, Any, Any]]:
    """(name, severity, sensitivity, specificity) of each frozen point on the scored photographs."""
    p = study.scored
    rates = partial(patient_rates, referable=p.grade >= REFERABLE, patient=p.patient, replicates=study.replicates)
    return [(point.name, point.severity, *rates(p.severity >= point.severity)) for point in _frozen(study)]


def _frozen(study: Study) -> tuple[Point, ...]:
    return study.bundle.calibration.points if study.bundle else ()


def chances(study: Study) -> Section:
    p, measured = study.scored, study.summary["metrics"]
    probabilities = p.probabilities.astype(np.float64)
    title = "Do stated chances come true?"
    if np.isnan(probabilities).any():
        return Section(title, (Text("This system states no probabilities: there is nothing to check."),))
    stated = {
        "referable disease": (np.clip(probabilities[:, REFERABLE:].sum(axis=1), 0, 1), p.grade >= REFERABLE),
        "the grade given": (probabilities[np.arange(len(p)), p.decoded], p.decoded == p.grade),
    }
    panels = [
        (
            name,
            [
                (b.chance, b.happened.value, b.happened.low, b.happened.high, b.photographs)
                for b in reliability_curve(chance, right, p.patient, replicates=study.replicates)
            ],
        )
        for name, (chance, right) in stated.items()
    ]
    keys = ("referable_ece", "referable_brier", "ece")
    alt = "Share that came true by stated chance: " + "; ".join(
        f"{name}: " + ", ".join(f"{chance:.2f} stated, {happened:.2f} came true" for chance, happened, *_ in points)
        for name, points in panels
    )
    return Section(
        title,
        (
            _plot(plots.reliability_svg, panels, alt=alt),
            table("Calibration", ("metric", INTERVAL), [(TITLES[key], shown(**measured[key])) for key in keys]),
        ),
    )


def severity(study: Study) -> Section:
    p = study.scored
    groups = [p.severity[p.grade == grade] for grade in range(NUM_GRADES)]
    rows = []
    for grade, values in zip(GRADES, groups, strict=True):
        quartiles = [f"{q:.2f}" for q in np.percentile(values, (5, 25, 50, 75, 95))] if len(values) else ["-"] * 5
        rows.append((f"{grade.number} {grade.name}", len(values), *quartiles))
    lines = [(point.name, point.severity) for point in _frozen(study)]
    alt = "Severity by true grade; medians: " + ", ".join(f"grade {g}: {row[4]}" for g, row in enumerate(rows))
    return Section(
        "Severity by true grade",
        (
            _plot(plots.severity_svg, groups, lines, alt=alt),
            table("Percentiles", ("true grade", "photographs", "5th", "25th", "median", "75th", "95th"), rows),
        ),
    )


def patients(study: Study) -> Section:
    levels = {"photographs": study.predictions, "eyes": by_eye(study.predictions), "patients": study.people}
    summaries = {
        "photographs": study.summary,
        "eyes": summarise(levels["eyes"], study.replicates),
        "patients": study.of_people,
    }
    keys = (*OF_A_GROUP, REFER, SPARE)
    rows = [
        ("number", *map(len, levels.values())),
        ("without a result", *(int((~one.gradable).sum()) for one in levels.values())),
        *((TITLES[key], *(shown(**summaries[what]["metrics"][key]) for what in levels)) for key in keys),
    ]
    lost = [str(one) for one in missed(study.people)]
    blocks: list[Block] = [
        Text(
            "An eye is as bad as its worst gradable photograph, a patient as the worse eye. An ungradable eye is never "
            "normal: unless the other eye is referable, the patient has no result and is sent on. Where ungradable "
            "means referred, everybody who was photographed is counted."
        ),
        table("Who is sent on", ("", *levels), rows),
    ]
    if lost:
        blocks.append(Items(tuple(lost), "Patients with proliferative disease who were not sent on:"))
    else:
        blocks.append(Text("No patient with proliferative disease was graded as not referable."))
    return Section("From photographs to patients", tuple(blocks))


def subgroups(study: Study) -> Section:
    if not study.groups:
        return Section("Parts of the patients", (Text("Nothing told the photographs apart: --groups CSV, --data."),))
    rows = []
    for group in study.groups:
        metrics = group.summary["metrics"] if group.summary else None
        values = _cells(metrics, OF_A_GROUP) if metrics else ["-"] * len(OF_A_GROUP)
        rows.append(
            (f"{group.column} = {group.value}", group.photographs, group.patients, *values, group.warning or "-")
        )
    head = ("group", "photographs", "patients", *(TITLES[key] for key in OF_A_GROUP), "mind")
    note = (
        f"Groups of fewer than {SMALL} patients say more of the sample than of the group, and among many groups some "
        "differ by chance."
    )
    return Section("Parts of the patients", (table("", head, rows), Text(note)))


def data(study: Study) -> Section:
    p = study.predictions
    counts = [
        (f"{g.number} {g.name}", *(_counted(p, p.grade == g.number)), int(((p.grade == g.number) & ~p.gradable).sum()))
        for g in GRADES
    ]
    unknown = p.grade == NO_GRADE
    counts.append(("no true grade", *_counted(p, unknown), int((unknown & ~p.gradable).sum())))
    reasons = Counter(reason for reason in p.reason.tolist() if reason)
    blocks: list[Block] = [
        table("Photographs by true grade", ("grade", "photographs", "patients", "not gradable"), counts)
    ]
    if reasons:
        rows = reasons.most_common(MOST_REASONS)
        others = sum(reasons.values()) - sum(count for _, count in rows)
        rows += [("others", others)] if others else []
        blocks.append(table("Why photographs were not graded", ("reason", "photographs"), rows))
    return Section(
        "Photographs, and whether the model knew them",
        (*blocks, Text(known(study)), *_notes(study)),
    )


def _counted(p: Predictions, rows: np.ndarray) -> tuple[int, int]:
    return int(rows.sum()), len(np.unique(p.patient[rows]))


def _notes(study: Study) -> list[Block]:
    return [Items(study.notes, "How the table was understood:")] if study.notes else []


def _checked(study: Study) -> bool:
    return "training_manifest" in study.context


def known(study: Study) -> str:
    """What is known of leaks, in a sentence or two."""
    context = study.context
    if not _checked(study):
        return "Whether the model learned from any of these photographs was not checked: the table does not tell."
    if context["manifest"] == context["training_manifest"]:
        return (
            "Patients of the set that the model was trained on, split by patient after copies of photographs and "
            "patients under two names had been looked for; the photographs are unchanged (sha256)."
        )
    left = context.get("left_out_as_trained_on", 0)
    return (
        "Another list of photographs than the model was trained on. Every photograph was compared with the "
        f"fingerprints of those that it learned from or was chosen by: {left} were known and left out."
    )


def environment(study: Study, command: str) -> Section:
    rows = [(name, version(name)) for name in PACKAGES]
    rows += [("Python", platform.python_version()), ("system", f"{platform.system()}, {platform.machine()}")]
    rows += [("sha256 of the table", study.digest), ("model", study.summary["bundle"] or "not told")]
    if study.bundle:
        rows.append(("its terms", study.bundle.terms.short))
    boot = study.summary["bootstrap"]
    rows.append(("intervals", HOW_INTERVALS.format(**boot)))
    commands = [("predictions", study.context.get("command", "")), ("report", command)]
    rows += [(f"command of the {what}", text) for what, text in commands if text]
    return Section("How it was made", (table("", ("what", "which"), rows, text=2),))
