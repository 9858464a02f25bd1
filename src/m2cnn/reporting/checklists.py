"""Checklists of reporting guidelines, filled as far as the study tells, naming every item that is still to fill."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from m2cnn.bundle import Bundle
from m2cnn.card_page import INTENDED
from m2cnn.grades import DISCLAIMER, ENDPOINTS
from m2cnn.reporting.document import Section, Text, table
from m2cnn.reporting.sections import HOW_INTERVALS, PACKAGES, known, was_chosen_on
from m2cnn.reporting.study import Study

FILLED, PARTLY, OPEN = "filled", "partly", "TO FILL"


@dataclass(frozen=True)
class Item:
    """fact: what of `facts` answers it, "" for none.  rest: what only the authors can say."""

    no: str
    topic: str
    fact: str = ""
    rest: str = ""


@dataclass(frozen=True)
class Guideline:
    name: str
    title: str
    source: str
    items: tuple[Item, ...]


@cache
def guidelines() -> tuple[Guideline, ...]:
    text = resources.files("m2cnn.reporting").joinpath("checklists.toml").read_text(encoding="utf-8")
    return tuple(
        Guideline(one["name"], one["title"], one["source"], tuple(Item(**item) for item in one["items"]))
        for one in tomllib.loads(text)["guideline"]
    )


def checklists(study: Study, maps: bool) -> list[Section]:
    told = facts(study, maps)
    return [_section(guideline, told) for guideline in guidelines()]


def state(item: Item, told: Mapping[str, str]) -> str:
    if not told.get(item.fact):
        return OPEN
    return PARTLY if item.rest else FILLED


def _section(guideline: Guideline, told: Mapping[str, str]) -> Section:
    states = [state(item, told) for item in guideline.items]
    rows = [
        (
            item.no,
            item.topic,
            each,
            "; ".join(filter(None, (told.get(item.fact, ""), item.rest and f"to say: {item.rest}"))),
        )
        for item, each in zip(guideline.items, states, strict=True)
    ]
    counts = f"{states.count(FILLED)} items filled, {states.count(PARTLY)} partly, {states.count(OPEN)} to fill."
    head = ("item", "topic", "state", "what this report says")
    return Section(
        f"Checklist: {guideline.name}",
        (Text(f"{guideline.title}. {counts} Source: {guideline.source}."), table("", head, rows, text=4)),
    )


def facts(study: Study, maps: bool) -> dict[str, str]:
    """What the study tells, by key; a key that is not there, or "", is to be filled by the authors."""
    summary, boot = study.summary, study.summary["bootstrap"]
    found = {
        "measures": "Quadratic weighted kappa, accuracy, MSE and MAE of severity; AUC, average precision, sensitivity, "
        "specificity, predictive values of three end-points"
        + ("" if np.isnan(study.scored.probabilities).any() else "; calibration error and Brier score"),
        "intervals": HOW_INTERVALS.format(**boot),
        "scale": "ICDR grades 0 to 4 (Wilkinson et al. 2003); "
        + ", ".join(f"{end} from grade {low}" for end, low in ENDPOINTS.items()),
        "ungradable": f"{summary['n_ungradable']} photographs were refused as not gradable. They are left out, and "
        "counted as referred in the figures that say so",
        "missing": f"{summary['n_without_grade']} photographs without a true grade are left out of every figure",
        "flow": f"{summary['n_images']} photographs of {summary['n_patients']} patients; "
        f"{summary['n_ungradable']} not gradable, {summary['n_without_grade']} without a true grade, "
        f"{summary['n_scored']} scored",
        "crosstab": "Section Grades, confusion matrix",
        "severity": "Section Severity by true grade; photographs and patients by grade",
        "failures": "Section The worst mistakes; patients with proliferative disease who were not sent on",
        "subgroups": _subgroups(study),
        "limits": DISCLAIMER,
        "software": f"{', '.join(PACKAGES)}: versions in section How it was made",
        "explained": "Section The worst mistakes: Grad-CAM of the severity" if maps else "",
        "sources": _sources(study),
        "same_photograph": "The model grades the photograph that the reference grade is of" if study.bundle else "",
        "cutoffs": "Grades as the model decodes them; referable from grade 2 on",
    }
    return found | _of_partition(study) | (_of_model(study) if study.bundle else {})


def _subgroups(study: Study) -> str:
    names = sorted({group.column for group in study.groups})
    return f"Section Parts of the patients: {', '.join(names)}" if names else ""


def _sources(study: Study) -> str:
    return f"Sources: {', '.join(sorted(set(study.labels['source'])))}" if "source" in study.labels else ""


def _of_partition(study: Study) -> dict[str, str]:
    context = study.context
    if "training_manifest" not in context:
        return {}
    own = context["manifest"] == context["training_manifest"]
    return {
        "partition": known(study),
        "internal": f"Split {context['split']} of the set that the model was trained on" if own else "",
        "external": "" if own else "The whole of this report: another list than the model was trained on",
    }


def _of_model(study: Study) -> dict[str, str]:
    bundle = study.bundle
    rules = [f"{point.name}: severity {point.severity:.2f}" for point in bundle.calibration.points]
    members = list(bundle.members) or ["one network"]
    return {
        "intended": INTENDED[0],
        "blind": "The model sees the photograph alone",
        "predictors": "One colour photograph of the retina, or both eyes' where the model joins them",
        "system": f"{bundle.system}, model {bundle.hash}: {bundle.settings.get('source') or 'source not recorded'}; "
        "all else in its card (m2cnn card)",
        "cutoffs": "; ".join(["Grades as the model decodes them", *rules])
        + (". Frozen in the model before" if rules and not was_chosen_on(study) else ""),
        "preprocess": "Field of view found, cropped, resized, by the model's own code: "
        + _of_members(bundle, lambda member: json.dumps(member.preprocess.to_dict())),
        "training": _of_members(bundle, _counted),
        "chosen": _of_members(bundle, _chosen),
        "began": _of_members(bundle, _began),
        "ensemble": f"{', '.join(members)}" + (f", joined by {bundle.combiner.name}" if bundle.combiner else ""),
        "calibration": _calibration(study),
        "imbalance": _of_members(bundle, _sampling),
        "availability": f"m2cnn {bundle.settings.get('m2cnn') or ''}, Apache-2.0; weights: {bundle.terms.short}",
    }


def _of_members(bundle: Bundle, tell: Callable[[Bundle], str]) -> str:
    """What is told of the networks of a bundle, once where it is the same of all; "" where it is told of none."""
    said: dict[str, list[str]] = {}
    for name, member in (bundle.members or {"": bundle}).items():
        said.setdefault(tell(member), []).append(name)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(names)}: {text or 'nothing recorded'}" for text, names in said.items())


def _counted(member: Bundle) -> str:
    told = member.settings["training"]
    if not told.get("photographs"):
        return ""
    return (
        f"{told['photographs']} photographs of {told.get('patients')} patients, {told.get('validation_patients')} for "
        "validation; the whole recipe is in the card"
    )


def _chosen(member: Bundle) -> str:
    asked = member.settings["training"].get("validation_patients")
    return "The pass with the best kappa on validation patients" if asked else ""


def _began(member: Bundle) -> str:
    weights = member.settings["network"].get("weights")
    return f"From {str(weights).rpartition('/')[2]}" if weights else ""


def _sampling(member: Bundle) -> str:
    recipe = member.settings["training"].get("recipe") or {}
    kind = (recipe.get("sampling") or {}).get("kind")
    return f"Sampling in training: {kind}" if kind else ""


def _calibration(study: Study) -> str:
    calibration = study.bundle.calibration
    if not calibration.photographs:
        return "Not calibrated"
    counted = f"{calibration.photographs} photographs of {calibration.patients} patients"
    return f"Calibrated on {counted} that it did not learn from"
