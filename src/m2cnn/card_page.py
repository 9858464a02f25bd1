"""A model card in Markdown: what a bundle says of itself, and what its card.json says was measured of it.

Nothing is guessed: what no file tells is "not measured", or "not recorded".
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from m2cnn.bundle import WEIGHTS, Bundle, load_bundle
from m2cnn.card import Card, Evidence, read_card
from m2cnn.card_evidence import NOT_MEASURED, evidence_lines, failure_lines, group_lines, table
from m2cnn.data.manifest import file_hash
from m2cnn.data.terms import CODE, RESEARCH, UNKNOWN
from m2cnn.grades import DISCLAIMER, ENDPOINTS, GRADES
from m2cnn.packaged import is_packaged
from m2cnn.provenance import began, kept
from m2cnn.systems import SYSTEMS
from m2cnn.weights_header import stored_numbers
from m2cnn.wording import grade_rule, words

NOT_RECORDED = "not recorded"
INTENDED = (
    "Research on grading diabetic retinopathy (ICDR 0 to 4) from colour photographs of the retina of adults with "
    "diabetes: posterior pole, about 45 degrees, one photograph at a time or both eyes where the model joins them.",
    "A first reading in studies in which a trained grader reads every photograph too.",
    "A start for a model of your own patients: `m2cnn train --from`, `m2cnn calibrate`.",
)
FORBIDDEN = (
    "Diagnosis, treatment or the decision not to refer anybody. It is research software, not a medical device.",
    "Macular oedema: it does not see it. Published end-points of referable disease count it; here none does.",
    "Any use on patients without validation on photographs of those patients, cameras and graders beforehand.",
    "Children, other diseases of the eye, ultra-widefield, red-free, angiography, OCT or external photographs: a "
    "photograph that is refused has no grade, but not everything that should be refused is.",
    "Whoever is not in the data below: nobody knows what it does there.",
)
GAPS = (
    *("age", "sex", "ethnicity", "type and duration of diabetes", "dilation of the pupil", "camera model"),
    *("handheld cameras", "repeatability (the same eye twice)", "agreement between human graders on these photographs"),
    "macular oedema",
)


def model_card(model: str | Path, beside: str | Path | None = None) -> str:
    """The card of a bundle, a run or a packaged model. beside: the folder in which the page will lie, for its pictures.

    Raises BundleError for a model, DataError for a card.json that cannot be trusted.
    """
    bundle = load_bundle(model)
    card = read_card(bundle.folder)
    sections = {
        "What it is": _what(bundle),
        "Uses": _uses(),
        "Who may use it": _terms(bundle),
        "Data": _data(bundle),
        "Procedure": _procedure(bundle),
        "Calibration and operating points": _calibration(bundle),
        "What was measured": _each(card, lambda one: evidence_lines(one, bundle.hash)),
        "Parts of the patients": _each(card, group_lines),
        "Known failures": [*_each(card, failure_lines), *_pictures(card, bundle.folder, beside)],
        "Not measured by anybody": [*table(("what", "result"), [(what, NOT_MEASURED) for what in GAPS])],
        "Files": _files(bundle),
    }
    body = [line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)]
    return "\n".join([f"# Model card: {_name(bundle)}", "", f"**{DISCLAIMER}**", *body, ""])


def _name(bundle: Bundle) -> str:
    return f"{bundle.folder.name} ({bundle.system})" if is_packaged(bundle.folder) else bundle.system


def _each(card: Card, said: Callable[[Evidence], list[str]]) -> list[str]:
    """What is said of every piece of evidence, below its name."""
    if not card.evidence:
        return [f"{NOT_MEASURED.capitalize()}: no evidence was added (`m2cnn card MODEL --add NAME=FOLDER`)."]
    return [line for one in card.evidence for line in ("", f"### {one.name}", "", *said(one))][1:]


# --- what the bundle says ---


def _what(bundle: Bundle) -> list[str]:
    settings, joined = bundle.settings, bundle.combiner
    rows = [
        ("system", bundle.system),
        ("network", "; ".join(dict.fromkeys(map(in_short, bundle.networks)))),
        ("source", source_of(bundle)),
        ("model", f"{bundle.hash} (sha256 of its system.json, which covers every file below)"),
        ("made by", f"m2cnn {settings.get('m2cnn') or NOT_RECORDED}"),
        ("gives", "grade 0..4, severity 0..4, probabilities where the task has them, or the reason why not gradable"),
        ("grades by", grade_rule(bundle.task)),
        ("joined by", f"{joined.name}: {joined.reads}" if joined else "nothing: one network"),
        ("size", f"{bundle.bytes / 1e6:.1f} MB in all files"),
    ]
    grades = [(grade.number, grade.name, grade.definition) for grade in GRADES]
    points = ", ".join(f"{name}: grade {lowest} or more" for name, lowest in ENDPOINTS.items())
    return [
        *table(("", ""), rows),
        "",
        *table(("grade (ICDR)", "name", "definition"), grades),
        "",
        f"End-points by grade alone: {points}.",
    ]


def in_short(network: Bundle) -> str:
    """A network in a few words."""
    cells = network.settings["cells"]
    return f"{_trunk_or_kind(network)}, {network.size} px" + (f", {cells} cell{'s' * (cells > 1)}" if cells else "")


def _trunk_or_kind(network: Bundle) -> str:
    """What a network is: its trunk where it has one to choose, else its kind."""
    return network.settings["network"].get("trunk") or network.settings["network_kind"]


def source_of(bundle: Bundle) -> str:
    """Where its description comes from. What a row of the table says of its networks is not true of others."""
    told, row = bundle.settings.get("source") or NOT_RECORDED, SYSTEMS.get(bundle.system)
    if row is None or told != row.source:
        return told
    theirs = {getattr(member.network, "trunk", type(member.network).__name__) for member in row.members}
    own = dict.fromkeys(map(_trunk_or_kind, bundle.networks))
    if own.keys() <= theirs:
        return told
    return f"ours: the row {bundle.system} of the table with {', '.join(own)} in place of {', '.join(sorted(theirs))}"


def _uses() -> list[str]:
    return ["Meant for:", "", *_list(INTENDED), "", "Not for:", "", *_list(FORBIDDEN)]


def _terms(bundle: Bundle) -> list[str]:
    terms = bundle.terms
    lines = [f"**Weights: {terms.short}.** {CODE}"]
    if terms.use == RESEARCH:
        named = ", ".join(source.name for source in terms.sources if source.use == RESEARCH)
        lines += [f"They learned from {named}, which may be used for research only; so may the weights."]
    if terms.use == UNKNOWN:
        lines += ["m2cnn does not know the terms of all of them: ask whoever holds the photographs."]
    rows = [(source.name, source.use, source.terms) for source in terms.sources]
    return [*lines, "", *(table(("source", "use", "its publisher says"), rows) if rows else [NOT_RECORDED])]


def _data(bundle: Bundle) -> list[str]:
    told = bundle.settings["training"]
    rows = [
        ("photographs that taught it", told.get("photographs")),
        ("their patients", told.get("patients")),
        ("patients of validation", told.get("validation_patients")),
        ("photographs that could not be read", len(told["unreadable"]) if "unreadable" in told else None),
        ("sha256 of the manifest", told.get("manifest") or None),
    ]
    counts = list(_counts(told.get("counts") or {}))
    head = ("split", "source", "photographs", "patients", *(f"grade {grade.number}" for grade in GRADES), "no grade")
    return [
        *table(("", ""), [(what, NOT_RECORDED if value is None else value) for what, value in rows]),
        "",
        *(table(head, counts) if counts else [f"Counts per grade: {NOT_RECORDED}."]),
        "",
        "A patient counts once; where a set names no patients (IDRiD), each photograph counts as one. Cuts and "
        "calibration are chosen on validation patients; the lockbox has no say.",
    ]


def _counts(counts: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    for split, sources in counts.items():
        for source, of in sources.items():
            grades = of.get("grades", ["closed"] * len(GRADES))
            ungraded = of.get("ungraded", "closed")
            yield split or "none", source or "unnamed", of["photographs"], of["patients"], *grades, ungraded


def _procedure(bundle: Bundle) -> list[str]:
    lines: list[str] = []
    for name, network in (bundle.members or {"": bundle}).items():
        lines += [*([f"### Member {name}", ""] if name else []), *table(("", ""), _network(network)), ""]
    recipe = json.dumps(_without_places(bundle.settings["training"].get("recipe") or {}), indent=1)
    return [*lines, "<details><summary>The whole recipe</summary>", "", "```json", recipe, "```", "", "</details>"]


def _network(bundle: Bundle) -> list[tuple[str, object]]:
    settings, told = bundle.settings, bundle.settings["training"]
    recipe, network = told.get("recipe") or {}, _without_places(settings["network"])
    numbers = ", ".join(f"{count:,} as {kind}" for kind, count in stored_numbers(bundle.folder / WEIGHTS).items())
    return [
        ("network", f"{settings['network_kind']}: {words(network)}"),
        ("began", began(bundle) + (" (their terms apply too)" if network.get("weights") else "") or NOT_RECORDED),
        ("weights kept", kept(bundle) or NOT_RECORDED),
        ("numbers stored", numbers),
        ("input", f"{bundle.size} px of a prepared picture of {bundle.prepared} px"),
        ("preprocess", words(bundle.preprocess.to_dict())),
        ("views of a photograph", f"{bundle.views.count} ({bundle.views.kind})"),
        ("task", words(bundle.task.to_dict())),
        ("its own cuts", "fitted on validation patients" if recipe.get("fit_cuts") else "the task's own"),
        ("stages", "; ".join(map(_stage, recipe.get("stages", ()))) or NOT_RECORDED),
        ("trained in", told.get("precision") or NOT_RECORDED),
        ("rounded to float16", "before anything was measured" if recipe.get("half") else "no"),
        ("seed", recipe.get("seed", NOT_RECORDED)),
    ]


def _stage(stage: Mapping[str, Any]) -> str:
    return f"{stage['epochs']} passes at {stage['size']} px, {stage['cells']} cells, rate {stage['lr']:g}"


def _calibration(bundle: Bundle) -> list[str]:
    calibration = bundle.calibration
    if not calibration.photographs:
        return ["Not calibrated: it gives no chance of referable disease and has no operating point."]
    kept = "frozen in the bundle. Rates on the patients that a point was chosen on flatter a little."
    return [
        f"On photographs that its weights did not learn from, {kept}",
        "",
        *_list(calibration.to_text().splitlines()),
        *_list(f"{point.name} was chosen for a target of {point.target:g}" for point in calibration.points),
    ]


def _files(bundle: Bundle) -> list[str]:
    rows = [(name, f"{path.stat().st_size:,}", file_hash(path)) for name, path in bundle.files.items()]
    return table(("file", "bytes", "sha256"), rows)


# --- pictures and words ---


def _pictures(card: Card, folder: Path, beside: str | Path | None) -> list[str]:
    if not card.pictures:
        return []
    start = os.path.relpath(folder, beside) if beside is not None else "."
    shown = [f"![{one.caption}]({Path(start, one.file).as_posix()})" for one in card.pictures]
    pairs = [
        ("", picture, "", f"*{one.caption} (rendered)*") for picture, one in zip(shown, card.pictures, strict=True)
    ]
    return ["", "Rendered photographs; no patient's.", *(line for pair in pairs for line in pair)]


def _list(items: Iterable[str]) -> list[str]:
    return [f"- {item}" for item in items]


def _without_places(values: Any) -> Any:
    """Plain values with files of weights by their names alone: a folder of whoever trained it is nobody's business."""
    if isinstance(values, Mapping):
        named = {key: Path(value).name for key, value in values.items() if key == "weights" and isinstance(value, str)}
        return {key: _without_places(value) for key, value in values.items()} | named
    return [_without_places(each) for each in values] if isinstance(values, list | tuple) else values
