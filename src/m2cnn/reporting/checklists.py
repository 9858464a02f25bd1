"""Checklists of reporting guidelines, filled as far as the study tells, naming every item that is still to fill."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

import m2cnn
from m2cnn.bootstrap import shown
from m2cnn.bundle import Bundle
from m2cnn.calibration import REFERABLE
from m2cnn.card_page import INTENDED, in_short, source_of
from m2cnn.grades import DISCLAIMER, ENDPOINTS
from m2cnn.panel import TITLES
from m2cnn.predictions import NO_GRADE
from m2cnn.provenance import began, gone_on_from, kept
from m2cnn.reporting.document import Section, Text, table
from m2cnn.reporting.mistakes import TITLE, WORST, worst
from m2cnn.reporting.sections import HOW_INTERVALS, PACKAGES, known, warnings, was_chosen_on
from m2cnn.reporting.study import Study
from m2cnn.wording import grade_rule, word

FILLED, PARTLY, OPEN = "filled", "partly", "TO FILL"
ESTIMATES = ("qwk", "referable_auc", "referable_sensitivity", "referable_specificity")


@dataclass(frozen=True)
class Item:
    """fact: what of `facts` answers it, several with a space between, "" for none.  rest: what only the authors can
    say.
    """

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


def checklists(study: Study, maps: bool, count: int = WORST) -> list[Section]:
    """maps, count: as of `mistakes`."""
    told = facts(study, maps, count)
    return [_section(guideline, told) for guideline in guidelines()]


def state(item: Item, told: Mapping[str, str]) -> str:
    said = _said(item, told)
    if not any(said):
        return OPEN
    return FILLED if all(said) and not item.rest else PARTLY


def _said(item: Item, told: Mapping[str, str]) -> list[str]:
    return [told.get(key, "").removesuffix(".") for key in item.fact.split()]


def _section(guideline: Guideline, told: Mapping[str, str]) -> Section:
    states = [state(item, told) for item in guideline.items]
    rows = [
        (
            item.no,
            item.topic,
            each,
            "; ".join(filter(None, (*_said(item, told), item.rest and f"to say: {item.rest}"))),
        )
        for item, each in zip(guideline.items, states, strict=True)
    ]
    counts = f"{states.count(FILLED)} items filled, {states.count(PARTLY)} partly, {states.count(OPEN)} to fill."
    head = ("item", "topic", "state", "what this report says")
    return Section(
        f"Checklist: {guideline.name}",
        (Text(f"{guideline.title}. {counts} Source: {guideline.source}."), table("", head, rows, text=4)),
    )


def facts(study: Study, maps: bool, count: int = WORST) -> dict[str, str]:
    """What the study tells, by key; a key that is not there, or "", is to be filled by the authors."""
    summary, boot = study.summary, study.summary["bootstrap"]
    found = {
        "measures": "Quadratic weighted kappa, accuracy, MSE and MAE of severity; AUC, average precision, sensitivity, "
        "specificity, predictive values of three end-points"
        + ("" if np.isnan(study.scored.probabilities).any() else "; calibration error and Brier score"),
        "intervals": HOW_INTERVALS.format(**boot),
        "estimates": _estimates(study),
        "scale": "ICDR grades 0 to 4 (Wilkinson et al. 2003); "
        + ", ".join(f"{end} from grade {low}" for end, low in ENDPOINTS.items()),
        "ungradable": f"{summary['n_ungradable']} photographs were refused as not gradable. They are left out, and "
        "counted as referred in the figures that say so",
        "missing": f"{summary['n_without_grade']} photographs without a true grade are left out of every measure",
        "flow": _flow(study),
        "events": _events(study),
        "crosstab": "Section Grades, confusion matrix",
        "severity": "Section Photographs, and whether the model knew them: photographs and patients by true grade",
        "limits": " ".join((DISCLAIMER, *warnings(study, False))),
        "sources": _sources(study),
        "same_photograph": "None where the true grades were read from these photographs",
        "cutoffs": "Grades as the system gave them; referable disease from grade 2 on",
        "updating": "Nothing was updated by this evaluation",
        "audit": f"Every answer is in {study.table.name}, whose sha256 is in section How it was made",
        "code": f"m2cnn {m2cnn.__version__}, Apache-2.0, measured these predictions and wrote this report",
    }
    found |= _of_mistakes(study, maps, count) | _of_groups(study) | _of_partition(study)
    return found | (_of_model(study) if study.bundle else {})


def _estimates(study: Study) -> str:
    measured = study.summary["metrics"]
    said = "; ".join(f"{TITLES[key]} {shown(**measured[key])}" for key in ESTIMATES)
    return f"Of photographs: {said}. All others, and those of patients, in the sections before"


def _flow(study: Study) -> str:
    summary, left = study.summary, study.context.get("left_out_as_trained_on", 0)
    before = f"{left} photographs were left out because the model knew them; " if left else ""
    return (
        f"{before}{summary['n_images']} photographs of {summary['n_patients']} patients; "
        f"{summary['n_ungradable']} not gradable, {summary['n_without_grade']} without a true grade, "
        f"{summary['n_scored']} scored"
    )


def _events(study: Study) -> str:
    photographs, people = study.scored.grade, study.people.grade[study.people.grade != NO_GRADE]
    return (
        f"{(photographs >= REFERABLE).sum()} of {len(photographs)} scored photographs have referable disease, "
        f"{(people >= REFERABLE).sum()} of {len(people)} patients with a true grade"
    )


def _of_mistakes(study: Study, maps: bool, count: int) -> dict[str, str]:
    places = worst(study, count)
    found = "Section From photographs to patients: proliferative disease that was not sent on"
    return {
        "failures": f"Section {TITLE}: {len(places)} photographs. {found}" if places else found,
        "explained": f"Section {TITLE}: Grad-CAM of the severity" if maps and places else "",
    }


def _of_groups(study: Study) -> dict[str, str]:
    """Columns of two groups or more. An eye is no cluster; neither it nor a source says anything of fairness."""
    columns = [group.column for group in study.groups]
    names = {name for name in columns if columns.count(name) > 1}
    kinds = {"subgroups": names, "clusters": names - {"eye"}, "fairness": names - {"eye", "source"}}
    return {kind: f"Section Parts of the patients: {', '.join(sorted(of))}" if of else "" for kind, of in kinds.items()}


def _sources(study: Study) -> str:
    return f"Sources: {', '.join(sorted(set(study.labels['source'])))}" if "source" in study.labels else ""


def _of_partition(study: Study) -> dict[str, str]:
    context = study.context
    if "training_manifest" not in context:
        return {}
    own, flatters = context["manifest"] == context["training_manifest"], was_chosen_on(study)
    strangers = "" if flatters else "By photograph: none is one that the model learned from or was chosen by"
    split = f"Split {context['split']} of the set that the model was trained on"
    return {
        "partition": known(study),
        "disjoint": "By patient" if own else strangers,
        "internal": split + (", which it learned from or was chosen by" if flatters else "") if own else "",
        "external": "" if own else "The whole of this report: another list than the model was trained on",
    }


def _of_model(study: Study) -> dict[str, str]:
    bundle = study.bundle
    eyes = bundle.combiner is not None and bundle.combiner.joins_eyes
    probabilities = "" if np.isnan(study.scored.probabilities).any() else ", a probability of each grade"
    return {
        "intended": INTENDED[0],
        "blind": f"The model sees {'photographs' if eyes else 'the photograph'} alone",
        "predictors": "Colour photographs of both retinas of a patient"
        if eyes
        else "One colour photograph of a retina",
        "unread": "None: no person reads a predictor, the model reads the photograph itself",
        "poor": "The model refuses photographs that are not gradable and says why; such an eye is never normal",
        "system": f"{bundle.system}, model {bundle.hash}: {'; '.join(dict.fromkeys(map(in_short, bundle.networks)))}; "
        f"source: {source_of(bundle)}; all else in its card (m2cnn card)",
        "software": f"The model was made by m2cnn {bundle.settings.get('m2cnn') or '(version not recorded)'}; "
        f"{', '.join(PACKAGES)} of this report: versions in section How it was made",
        "output": f"A severity from 0 to 4, a grade{probabilities}",
        "cutoffs": _cutoffs(study),
        "preprocess": "Field of view found, cropped, resized, by the model's own code: "
        + _of_members(bundle, lambda member: json.dumps(member.preprocess.to_dict())),
        "training": _of_members(bundle, _counted),
        "chosen": _of_members(bundle, kept),
        "began": _of_members(bundle, began),
        "ensemble": _ensemble(bundle),
        "calibration": _calibration(study),
        "imbalance": _of_members(bundle, _sampling),
        "availability": f"m2cnn {bundle.settings.get('m2cnn') or ''}, Apache-2.0; weights: {bundle.terms.short}",
    }


def _cutoffs(study: Study) -> str:
    points = study.bundle.calibration.points
    rules = [f"{point.name} from severity {word(point.severity)} on (chosen for {point.target:g})" for point in points]
    when = "Set on photographs of this split" if was_chosen_on(study) else "Frozen in the model before"
    referable = "; ".join(["referable disease from grade 2 on", *rules])
    return f"Grades by {grade_rule(study.bundle.task)}; {referable}. {when}"


def _ensemble(bundle: Bundle) -> str:
    said = (
        ["One network"]
        if len(bundle.networks) == 1
        else [f"{len(bundle.networks)} networks: {', '.join(bundle.members)}"]
    )
    if any(member.views.count > 1 for member in bundle.networks):
        said.append(_of_members(bundle, lambda member: f"mean of {member.views.count} views of a photograph"))
    if bundle.combiner:
        eyes = ", which joins both eyes" if bundle.combiner.joins_eyes else ""
        said.append(f"joined by {bundle.combiner.name}{eyes}")
    return "; ".join(said)


def _of_members(bundle: Bundle, tell: Callable[[Bundle], str]) -> str:
    """What is told of the networks of a bundle, once where it is the same of all; "" where it is told of none."""
    said: dict[str, list[str]] = {}
    for name, member in (bundle.members or {"": bundle}).items():
        said.setdefault(tell(member), []).append(name)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(names)}: {text or 'nothing recorded'}" for text, names in said.items())


def _counted(member: Bundle) -> str:
    told, before = member.settings["training"], gone_on_from(member)
    if not told.get("photographs"):
        return ""
    return (
        f"{told['photographs']} photographs of {told.get('patients')} patients, {told.get('validation_patients')} for "
        f"validation{f', after those that model {before} learned from' if before else ''}; the whole recipe, and the "
        "grades, are in the card"
    )


def _sampling(member: Bundle) -> str:
    recipe = member.settings["training"].get("recipe") or {}
    sampling = recipe.get("sampling") or {}
    if sampling.get("kind") in ("all", "random"):
        return "None in training: grades are drawn as often as they are"
    weights = ", ".join(f"{weight:g}" for weight in sampling.get("final", ()))
    early = ", at first alike often" if sampling.get("kind") == "decaying" else ""
    return f"Photographs are drawn by grade in training{early}, weights {weights}" if sampling else ""


def _calibration(study: Study) -> str:
    calibration = study.bundle.calibration
    if not calibration.photographs:
        return "Not calibrated"
    counted = f"{calibration.photographs} photographs of {calibration.patients} patients"
    return f"Calibrated on {counted} that its weights did not learn from"
