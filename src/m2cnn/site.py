"""A clinic's own photographs: looked at, compared with those that the model learned from, graded, measured, reported.

`OUT/photographs.html` (what the set is like), `OUT/result` (predictions.csv, metrics.json), `OUT/report.html` and
`.pdf`, and `OUT/shareable.json` (schema "m2cnn.site/1"): numbers alone, without a picture, a path, or the name of a
photograph or a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import m2cnn
from m2cnn.bootstrap import number
from m2cnn.bundle import load_bundle
from m2cnn.data.leaks import find_twins
from m2cnn.data.manifest import Manifest
from m2cnn.data.opening import open_data
from m2cnn.data.survey import refuse_changed, survey
from m2cnn.disclosure import Groups
from m2cnn.errors import DataError, SettingError
from m2cnn.evaluate import evaluate
from m2cnn.grades import DISCLAIMER, NUM_GRADES
from m2cnn.predictions import NO_GRADE
from m2cnn.profile.comparison import Comparison, differences, reasons_to_fail, refusals
from m2cnn.profile.findings import Profile, findings, profile
from m2cnn.profile.look import CODE, look_at_all
from m2cnn.profile.page import profile_page
from m2cnn.profile.reference import Reference, read_reference
from m2cnn.profile.statistics import FEW, contrasts
from m2cnn.profile.table import table_of
from m2cnn.quality import KNOWN_REASONS
from m2cnn.reporting import write_report
from m2cnn.reporting.document import Block, Items, Section, Text, table
from m2cnn.reporting.study import Study, read_study
from m2cnn.subgroups import Group, read_groups, rows_by_value
from m2cnn.summary import checked_prevalence
from m2cnn.tables import write_atomically, write_json

SCHEMA, SHAREABLE, PHOTOGRAPHS, RESULT, CACHE = (
    "m2cnn.site/1",
    "shareable.json",
    "photographs.html",
    "result",
    ".m2cnn-cache",
)
UNREADABLE = "could not be read, or shows no round field that is large enough"
FEWEST = 10  # patients whose numbers are shared
TOO_FEW = f"Too few photographs to compare: {FEW} that can be read are needed here and where it learned."
NO_DRIFT = "The model does not say what it learned from: m2cnn reference MODEL --data ITS-RUN, where it was trained."


@dataclass(frozen=True)
class Site:
    """study: the graded photographs.  found: what they are like.  drift: beside those that the model learned from, None
    where its bundle does not tell.  left_out: photographs that the model knew.
    """

    name: str
    study: Study
    found: Profile
    drift: Comparison | None
    left_out: int


def validate_site(
    data: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    name: str = "site",
    images: str | Path | None = None,
    groups: str | Path | None = None,
    prevalence: Mapping[str, float] | None = None,
    replicates: int = 2000,
    pictures: bool = True,
    workers: int = 2,
    command: str = "",
) -> Site:
    """Everything of the module's docstring; a second call looks only at new photographs.

    data, images: as of open_data; every photograph counts as a test photograph unless a split says otherwise.  name: of
    the clinic, in what is shared.  groups: a CSV as of read_groups.  pictures: photographs in the pages.
    Raises DataError for photographs that are missing or changed, or of which none has a grade; BundleError.
    """
    bundle, out = load_bundle(model), Path(out)
    if not name.strip() or not name.isprintable():
        raise SettingError("--name", repr(name), "a name that can be shared", "Such as clinic-a.")
    prevalence = checked_prevalence(prevalence or {})
    whole = _as_test(open_data(data, images))
    manifest = whole.select("test")
    if groups is not None:  # before hours of grading
        read_groups(groups, [row.image for row in manifest], [row.patient for row in manifest])
    seen = survey(manifest, look_at_all, out / CACHE, workers, CODE)
    refuse_changed(seen)
    rows = {row.image: number for number, row in enumerate(whole, start=2)}  # as in the CSV
    found = profile(replace(table_of(name, manifest, seen), numbers=rows), partial(find_twins, workers=workers))
    reference = read_reference(bundle.folder)
    drift = _drift(reference, found) if reference else None
    asked = {"replicates": replicates, "prevalence": prevalence}
    summary = evaluate(model, whole, out / RESULT, trained_on="skip", memory=seen, command=command, **asked)
    write_atomically(out / PHOTOGRAPHS, profile_page(found, pictures).encode("utf-8", "backslashreplace"))
    study = read_study(out / RESULT, model=model, groups=groups, **asked)
    study = replace(study, manifest=manifest if pictures else None)
    site = Site(name, study, found, drift, summary["context"].get("left_out_as_trained_on", 0))
    write_report(study, out, pictures=pictures, command=command, more=_sections(site))
    write_json(out / SHAREABLE, shareable(site))
    return site


def _as_test(manifest: Manifest) -> Manifest:
    rows = tuple(replace(row, split=row.split or "test") for row in manifest)
    if not any(row.split == "test" and row.grade is not None for row in rows):
        raise DataError("the site's photographs", "none has a grade", "true grades of some", "Grade a sample first.")
    return Manifest(rows, manifest.root)


def _drift(reference: Reference, found: Profile) -> Comparison:
    # Photographs that both have are found by fingerprints when they are graded; patients' names are not kept.
    return Comparison(reference, found.table, contrasts(reference, found.table), [], set())


# --- in the report ---


def _sections(site: Site) -> tuple[Section, ...]:
    stands_out = tuple(findings(site.found)) or ("Nothing.",)
    pages = f"More in {PHOTOGRAPHS}: copies, refusals, sizes, colours, photographs unlike the rest."
    check = Section("What stands out in the photographs", (Items(stands_out), Text(pages)))
    return check, Section("Beside the photographs that the model learned from", _compared(site))


def _compared(site: Site) -> tuple[Block, ...]:
    if site.drift is None:
        return (Text(NO_DRIFT),)
    drift = site.drift
    if not drift.contrasts:
        return (Text(TOO_FEW),)
    fail = reasons_to_fail(drift)
    lead = "Why the model may fail here:" if fail else ""
    rows = [
        (
            c.measure.title,
            c.measure.shown(c.first),
            c.measure.shown(c.second),
            f"{c.auc.estimate.value:.2f} ({c.auc.estimate.low:.2f} to {c.auc.estimate.high:.2f})",
        )
        for c in drift.contrasts
    ]
    head = ("measure", "where it learned (median)", "here (median)", "AUC that tells them apart")
    note = (
        f"{len(drift.one)} photographs of {drift.one.patients} patients, of {drift.one.photographs} that it learned "
        "from. An AUC of 0.5: alike; of 0 or 1: told apart without fail. Where photographs differ, grades may be worth "
        "less."
    )
    return (
        Items(tuple(fail or ["Nothing that is known to harm stands out."]), lead),
        Items(tuple(differences(drift) or ["No measure differs clearly."]), "What is seen to differ:"),
        table("", head, rows),
        Text(note),
    )


# --- to be shared ---


def shareable(site: Site) -> dict[str, Any]:
    """Numbers alone. Groups of fewer than FEWEST patients, and those that would give them away, are only counted."""
    study, p = site.study, site.study.predictions
    told = groups_to_tell(study)
    keys = (
        "n_images",
        "n_patients",
        "n_ungradable",
        "n_without_grade",
        "n_scored",
        "bootstrap",
        "metrics",
        "confusion",
    )
    return {
        "schema": SCHEMA,
        "m2cnn": m2cnn.__version__,
        "site": site.name,
        "system": study.bundle.system,
        "model": study.bundle.hash,
        "photographs": {key: study.summary[key] for key in keys} | {"prevalence": study.summary["prevalence"]},
        "patients": {key: study.of_people[key] for key in keys},
        "grades": {str(grade): int((p.grade == grade).sum()) for grade in (*range(NUM_GRADES), NO_GRADE)},
        "refused": dict(Counter(_plain(reason) for reason in p.reason.tolist() if reason)),
        "known_to_the_model": site.left_out,
        "pairs_of_the_same_photograph": len(site.found.twins),
        "groups": [
            {
                "column": group.column,
                "value": group.value,
                "photographs": group.photographs,
                "patients": group.patients,
                "patients_measured": group.measured,
                "metrics": group.summary["metrics"] if group.summary else None,
            }
            for group in told
        ],
        "groups_of_few_left_out": len(study.groups) - len(told),
        "drift": _shared_drift(site.drift),
        "disclaimer": DISCLAIMER,
    }


def groups_to_tell(study: Study) -> list[Group]:
    """The groups of a study that are large enough, and from which no smaller one follows by subtraction."""
    p, groups = study.predictions, study.groups
    rows = [rows_by_value(study.labels[group.column])[group.value] for group in groups]
    if not rows:
        return []
    column, graded = np.array([group.column for group in groups]), p.grade != NO_GRADE
    hidden = Groups(column, np.array(rows), p.patient, (graded, graded & p.gradable), FEWEST).to_hide()
    return [group for group, left_out in zip(groups, hidden, strict=True) if not left_out]


def _plain(reason: str) -> str:
    """Why a photograph was refused, without what tells which: an unreadable one may be told by its bytes."""
    return reason if reason in KNOWN_REASONS else UNREADABLE


def _shared_drift(drift: Comparison | None) -> dict[str, Any] | None:
    if drift is None:
        return None
    return {
        "refused": [refusals(each).estimate.value for each in (drift.one, drift.other)],
        "measures": {
            c.measure.name: {
                "there": c.first,
                "here": c.second,
                "auc": c.auc.estimate.value,
                "low": number(c.auc.estimate.low),
                "high": number(c.auc.estimate.high),
                "matters": c.matters,
            }
            for c in drift.contrasts
        },
    }
