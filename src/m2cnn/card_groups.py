"""Parts of what was measured: by source, eye, style of colour and size of the field, as far as anybody can tell.

Predictions tell the eye, a cross-validation or a manifest the source; colour and field are looked at in the
photographs themselves, where they are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from m2cnn import subgroups
from m2cnn.checks import check_keys
from m2cnn.data.manifest import Manifest
from m2cnn.data.opening import read_data
from m2cnn.data.survey import Seen, remembering, survey
from m2cnn.predictions import NO_GRADE, Predictions, told_sources
from m2cnn.profile.findings import STRETCHED
from m2cnn.profile.look import CODE, look_at_style
from m2cnn.subgroups import graded_rows

KINDS = ("source", "eye", "colour", "field")
SHOWN = ("qwk", "referable_auc", "referable_sensitivity", "referable_specificity")
EDGES = (0, 350, 700, 1400)  # px, of the field's diameter


@dataclass(frozen=True)
class Group:
    """by: one of KINDS.  photographs, patients: with a true grade.  metrics: those of SHOWN, as in metrics.json."""

    by: str
    name: str
    photographs: int
    patients: int
    metrics: dict[str, dict[str, float | None]]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        check_keys("group", values, cls)
        return cls(**values)


def groups_of(
    predictions: Predictions,
    folder: Path,
    data: str | Path | None,
    images: str | Path | None,
    memory: str | Path | None,
    replicates: int,
) -> tuple[Group, ...]:
    """The groups of what FOLDER holds; a kind of which nobody can tell a single photograph is left out.

    Raises DataError for data of other photographs.
    """
    p = predictions.select(predictions.grade != NO_GRADE)
    labels = {"eye": dict(zip(p.image, p.eye, strict=True)), "source": _sources(folder)}
    if data is not None:
        labels |= _labels_of(graded_rows(read_data(data, images), p, data), memory)
    columns = {by: [labels.get(by, {}).get(image, "") for image in p.image] for by in KINDS}
    told = {by: values for by, values in columns.items() if any(values)}
    return tuple(map(_kept, sorted(subgroups.groups_of(p, told, replicates), key=_order)))


def _sources(folder: Path) -> dict[str, str]:
    """What lies around tells: the run that a folder is of, or the folder that a cross-validation keeps of a source."""
    if (folder.parent / "manifest.csv").is_file():
        return {row.image: row.source for row in read_data(folder.parent)}
    return told_sources(folder)


def _labels_of(manifest: Manifest, memory: str | Path | None) -> dict[str, dict[str, str]]:
    there = tuple(row for row in manifest if manifest.path(row).is_file())
    seen: dict[str, Seen] = {}
    if there:
        with remembering(memory) as folder:
            seen = survey(Manifest(there, manifest.root), look_at_style, folder, code=CODE)
    values = {image: one.values for image, one in seen.items() if one.values}
    return {
        "source": {row.image: row.source for row in manifest},
        "colour": {image: _colour(each["stretch"]) for image, each in values.items()},
        "field": {image: field_class(each["diameter"]) for image, each in values.items()},
    }


def _colour(stretch: float) -> str:
    return "stretched" if stretch > STRETCHED else "natural"


def field_class(diameter: float) -> str:
    """The class of a field of that many px.

    >>> field_class(349.6), field_class(350), field_class(3000)
    ('0 to 349 px', '350 to 699 px', '1400 px or more')
    """
    place = int(np.searchsorted(EDGES, int(diameter), side="right"))
    low = EDGES[place - 1]
    return f"{low} px or more" if place == len(EDGES) else f"{low} to {EDGES[place] - 1} px"


def _kept(group: subgroups.Group) -> Group:
    metrics = {metric: group.summary["metrics"][metric] for metric in SHOWN}
    return Group(group.column, group.value, group.photographs, group.patients, metrics)


def _order(group: subgroups.Group) -> tuple[int, bool, int, str]:
    first = group.value.partition(" ")[0]
    number = int(first) if first.isdigit() else 0
    return KINDS.index(group.column), group.value == subgroups.UNKNOWN, number, group.value
