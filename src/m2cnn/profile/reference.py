"""What the photographs that a model learned from are like, kept beside its bundle: numbers alone, no picture, no name.

reference.json (schema "m2cnn.reference/1") is no part of the bundle's hash. It has one entry for each of at most MOST
photographs, whole patients of the training split drawn at random: its measures, grade, whether it was refused, and the
number of its patient.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from m2cnn.checks import check_keys
from m2cnn.data.manifest import Manifest
from m2cnn.data.survey import survey
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import Floats, Ints
from m2cnn.profile.look import CODE, look_at_all
from m2cnn.profile.measures import MEASURES
from m2cnn.profile.table import Table, table_of
from m2cnn.tables import write_json

REFERENCE, SCHEMA = "reference.json", "m2cnn.reference/1"
MOST = 1000  # photographs
DIGITS = 5  # of a measure


@dataclass(frozen=True)
class Reference:
    """Photographs as a table has them, without the photographs. photographs: how many taught the model.

    grade: -1 for none.  refused: true or false.  measures: by name, None where there is none. All of one length.
    """

    name: str
    photographs: int
    patient_numbers: tuple[int, ...]
    grade: tuple[int, ...]
    refused: tuple[bool, ...]
    measures: dict[str, tuple[float | None, ...]]

    def __post_init__(self) -> None:
        columns = (self.patient_numbers, self.grade, self.refused, *self.measures.values())
        if len({len(column) for column in columns}) != 1 or not self.grade:
            raise SettingError("reference", "columns of different lengths, or none", "one entry for each photograph")

    def __len__(self) -> int:
        return len(self.grade)

    @cached_property
    def grades(self) -> Ints:
        return np.array(self.grade, np.int64)

    @cached_property
    def patient(self) -> NDArray[np.intp]:
        return np.unique(self.patient_numbers, return_inverse=True)[1]

    @property
    def patients(self) -> int:
        return int(self.patient.max()) + 1

    @cached_property
    def reasons(self) -> NDArray[np.str_]:
        return np.array(["refused" if each else "" for each in self.refused], dtype=str)

    def values(self, name: str) -> Floats:
        """(N,) of one measure, NaN where there is none."""
        return np.array(self.measures.get(name) or [None] * len(self), np.float64)

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        check_keys("reference", values, cls)
        columns = {name: tuple(values[name]) for name in ("patient_numbers", "grade", "refused")}
        measures = {name: tuple(column) for name, column in values["measures"].items()}
        return cls(**values | columns | {"measures": measures})


def make_reference(manifest: Manifest, name: str, memory: str | Path, workers: int = 2) -> Reference:
    """Look at at most MOST photographs of the training split. memory: a folder that remembers what was seen."""
    rows = manifest.select("train")
    some = _some_patients(rows)
    table = table_of(name, some, survey(some, look_at_all, memory, workers, CODE))
    return of_table(table, len(rows))


def _some_patients(manifest: Manifest) -> Manifest:
    patients = np.random.default_rng(0).permutation(np.unique(manifest.patients()))
    place = {patient: k for k, patient in enumerate(patients.tolist())}
    rows = sorted(manifest.rows, key=lambda row: (place[row.patient], row.image))
    if len(rows) > MOST:
        cut = max(place[rows[MOST].patient], 1)  # the patient that would be too much, and all behind
        rows = [row for row in rows if place[row.patient] < cut]
    return Manifest(tuple(rows), manifest.root)


def of_table(table: Table, photographs: int) -> Reference:
    measures = {measure.name: tuple(map(_rounded, table.values(measure.name))) for measure in MEASURES}
    return Reference(
        table.name,
        photographs,
        tuple(map(int, table.patient)),
        tuple(map(int, table.grades)),
        tuple(bool(reason) for reason in table.reasons),
        measures,
    )


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def write_reference(folder: Path, reference: Reference) -> Path:
    write_json(folder / REFERENCE, reference.to_dict())
    return folder / REFERENCE


def read_reference(folder: Path) -> Reference | None:
    """Of a bundle's folder, None where there is none; DataError for what is none."""
    path = folder / REFERENCE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        schema = values.pop("schema")
        if schema != SCHEMA:
            raise DataError(path, f"schema is {schema!r}", f'"{SCHEMA}"', "Write it again: m2cnn reference.")
        return Reference.from_dict(values)
    except (ValueError, KeyError, TypeError, AttributeError, SettingError) as cause:
        raise DataError(path, f"unusable ({cause})", SCHEMA, "Write it again: m2cnn reference.") from cause
