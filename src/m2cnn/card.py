"""What was measured of a model, kept beside its bundle in card.json: the evidence of its model card (m2cnn.card_page).

A model is frozen before it is measured, so card.json is no part of the bundle's hash; every number in it says of which
model it is. Schema m2cnn.card/1, documented in docs/reference/model-card.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from m2cnn.bootstrap import number
from m2cnn.bundle import Bundle, load_bundle
from m2cnn.calibration import Calibration, patient_rates
from m2cnn.card_groups import Group, groups_of
from m2cnn.checks import check_keys
from m2cnn.data.manifest import file_hash, read_manifest
from m2cnn.errors import DataError, SettingError
from m2cnn.evaluate import METRICS
from m2cnn.grades import ENDPOINTS
from m2cnn.predictions import NO_GRADE, PREDICTIONS, Predictions, read_predictions
from m2cnn.summary import SCHEMA as SUMMARY_SCHEMA
from m2cnn.summary import read_metrics
from m2cnn.synthetic.dataset import SOURCE
from m2cnn.tables import write_atomically, write_json

CARD, SCHEMA, PICTURES = "card.json", "m2cnn.card/1", "pictures"
SEVERE = ENDPOINTS["vision_threatening"]
NUMBERS = ("value", "low", "high")


@dataclass(frozen=True)
class Evidence:
    """What one folder of `m2cnn evaluate`, of a run or of a cross-validation said of the model.

    summary: its metrics.json.  groups: parts of its photographs.  points: rates of the model's own operating points on
    these photographs, where this very model graded them.  severe: of the photographs of grade 3 and 4, by grade, how
    many there are, were not referred, were refused; and the share of both that was referred, with its interval.
    """

    name: str
    summary: dict[str, Any]
    groups: tuple[Group, ...] = ()
    points: dict[str, dict[str, list[float | None]]] | None = None
    severe: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        check_keys("evidence", values, cls)
        return cls(**values | {"groups": tuple(Group.from_dict(group) for group in values["groups"])})


@dataclass(frozen=True)
class Picture:
    """A rendered photograph of the card. file: below the bundle's folder."""

    file: str
    caption: str
    sha256: str


@dataclass(frozen=True)
class Card:
    evidence: tuple[Evidence, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA} | asdict(self)


def read_card(folder: Path) -> Card:
    """The card.json of a bundle's folder; an empty card where there is none. DataError for what is none."""
    path = folder / CARD
    if not path.is_file():
        return Card()
    try:
        values = json.loads(path.read_bytes())
    except ValueError as cause:
        raise DataError(path, f"not JSON ({cause})", SCHEMA, "Remove it, and add the evidence again.") from cause
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise DataError(path, f"schema is {schema!r}", f'"{SCHEMA}"', "A newer card needs a newer m2cnn.")
    try:
        pictures = tuple(Picture(**picture) for picture in values["pictures"])
        card = Card(tuple(Evidence.from_dict(each) for each in values["evidence"]), pictures)
        for each in card.evidence:
            _check_summary(each.summary)
    except (KeyError, TypeError, AttributeError, SettingError) as cause:
        raise DataError(path, f"unusable ({cause})", f"the keys of {SCHEMA}", "Add the evidence again.") from cause
    return card


def _check_summary(summary: Mapping[str, Any]) -> None:
    if summary["schema"] != SUMMARY_SCHEMA:
        raise KeyError(f"summary of schema {summary['schema']!r}")
    for key in ("system", "bundle", "split", "n_images", "n_patients", "n_ungradable", "n_scored", "confusion"):
        summary[key]
    for name, estimate in summary["metrics"].items():
        if set(estimate) != set(NUMBERS):
            raise KeyError(f"{name} without its interval")


# --- adding ---


def add_evidence(
    model: str | Path,
    name: str,
    folder: str | Path,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    memory: str | Path | None = None,
    replicates: int = 2000,
) -> Card:
    """Keep what FOLDER/metrics.json and predictions.csv say in the model's card.json; a name that is there is replaced.

    data, images: as of open_data: the manifest and photographs that were graded, which tell source, colour and size of
    the field.  memory: a folder that remembers what was seen of photographs, for a next time.
    Raises DataError for files that do not belong together, SettingError for those of another system.
    """
    bundle, folder = load_bundle(model), Path(folder)
    if not name.strip() or not name.isprintable():
        raise SettingError("card --add", f"a name {name!r}", "NAME=FOLDER, such as test=runs/m2cnn/test")
    summary, predictions = read_metrics(folder / METRICS), read_predictions(folder / PREDICTIONS)
    _check_belong(bundle, folder, summary, predictions)
    groups = groups_of(predictions, folder, data, images, memory, replicates)
    points = _points(bundle, predictions, replicates)
    fresh = Evidence(name, summary, groups, points, _severe(predictions, replicates))
    card = read_card(bundle.folder)
    others = tuple(each for each in card.evidence if each.name != name)
    return _kept(bundle, replace(card, evidence=(*others, fresh)))


def add_picture(model: str | Path, file: str | Path, caption: str) -> Card:
    """Keep a rendered photograph with a caption in the model's folder.

    Raises SettingError for a photograph that a manifest beside it does not name as rendered by m2cnn: no patient's
    photograph belongs in a card.
    """
    bundle, file = load_bundle(model), Path(file)
    if not file.is_file():
        raise SettingError("card --picture", f'no file "{file}"', "FILE=CAPTION, FILE a rendered photograph")
    digest = file_hash(file)
    if not _is_rendered(file, digest):
        got = f"{file} is not known to be rendered"
        expected = "a photograph that `m2cnn data render` wrote, its manifest.csv beside it"
        raise SettingError("card --picture", got, expected, "A patient's photograph has no place in a card.")
    picture = Picture(f"{PICTURES}/{digest[:16]}{file.suffix.lower()}", caption, digest)
    write_atomically(bundle.folder / picture.file, file.read_bytes())
    card = read_card(bundle.folder)
    others = tuple(each for each in card.pictures if each.sha256 != digest)
    return _kept(bundle, replace(card, pictures=(*others, picture)))


def _is_rendered(file: Path, digest: str) -> bool:
    path = file.parent / "manifest.csv"
    rows = read_manifest(path).rows if path.is_file() else ()
    return any((row.image, row.source, row.sha256) == (file.name, SOURCE, digest) for row in rows)


def _kept(bundle: Bundle, card: Card) -> Card:
    write_json(bundle.folder / CARD, card.to_dict())
    return read_card(bundle.folder)


def _check_belong(bundle: Bundle, folder: Path, summary: Mapping[str, Any], predictions: Predictions) -> None:
    if summary["system"] != bundle.system:
        got = f"numbers of system {summary['system']}"
        raise SettingError(folder, got, f"of {bundle.system}, as the model is", "Name a folder that measured it.")
    known = predictions.grade != NO_GRADE
    counts = (len(predictions), int((known & predictions.gradable).sum()))
    if counts != (summary["n_images"], summary["n_scored"]):
        got = f"{PREDICTIONS} has {counts[0]} photographs, {counts[1]} scored; {METRICS} says otherwise"
        raise DataError(folder, got, "files of one evaluation", "Evaluate again.")
    if not counts[1]:
        raise DataError(folder, "no photograph was scored", "photographs with a grade", "Add another folder.")


def _points(bundle: Bundle, predictions: Predictions, replicates: int) -> dict[str, Any] | None:
    """Rates of each operating point of the model, None where another model graded."""
    calibration: Calibration = bundle.calibration
    if set(predictions.bundle) != {bundle.hash} or not calibration.points:
        return None
    p = predictions.select((predictions.grade != NO_GRADE) & predictions.gradable)
    referable = p.grade >= ENDPOINTS["referable"]
    found = {}
    for point in calibration.points:
        rates = patient_rates(p.severity >= point.severity, referable, p.patient, replicates)
        found[point.name] = {
            key: list(map(number, rate)) for key, rate in zip(("sensitivity", "specificity"), rates, strict=True)
        }
    return found


def _severe(predictions: Predictions, replicates: int) -> dict[str, Any]:
    p = predictions.select(predictions.grade >= SEVERE)
    missed = p.gradable & (p.decoded < ENDPOINTS["referable"])
    grades = {
        str(grade): {
            "photographs": int((p.grade == grade).sum()),
            "not_referred": int(missed[p.grade == grade].sum()),
            "refused": int((~p.gradable)[p.grade == grade].sum()),
        }
        for grade in (3, 4)
    }
    scored = p.select(p.gradable)
    referred = (None,) * 3
    if len(scored):
        everyone = np.ones(len(scored), bool)
        rate, _ = patient_rates(scored.decoded >= ENDPOINTS["referable"], everyone, scored.patient, replicates)
        referred = tuple(map(number, rate))
    return {"grades": grades, "referred": dict(zip(NUMBERS, referred, strict=True))}
