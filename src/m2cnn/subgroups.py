"""What a system is worth on parts of the photographs: each with its interval, and a warning where it is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2cnn.data.manifest import Manifest
from m2cnn.errors import DataError
from m2cnn.foreign_cells import meaning_of
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.summary import summarise
from m2cnn.tables import read_table
from m2cnn.truth import matched

SMALL = 100  # patients, below which an interval says more of the sample than of the group
UNKNOWN = "(unknown)"


@dataclass(frozen=True)
class Group:
    """One value of one column. measured: patients with a photograph that was graded and whose true grade is known.

    summary: as of `summarise`, None where nothing of it can be measured.
    """

    column: str
    value: str
    photographs: int
    patients: int
    measured: int
    summary: dict[str, Any] | None

    @property
    def warning(self) -> str:
        if self.summary is None:
            return "no graded photograph"
        if self.measured >= SMALL:
            return ""
        return f"fewer than {SMALL} patients{' measured' * (self.patients >= SMALL)}"


def rows_by_value(values: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """A column's texts of N photographs -> by value, (N,) which photographs are of it; "" is UNKNOWN."""
    named = np.array([value or UNKNOWN for value in values], dtype=str)
    return {str(value): named == value for value in np.unique(named)}


def groups_of(table: Predictions, labels: Mapping[str, Sequence[str]], replicates: int = 2000) -> list[Group]:
    """labels: by column, one text for each photograph; "" is a group of its own, (unknown)."""
    scored = (table.grade != NO_GRADE) & table.gradable
    found = []
    for column, values in labels.items():
        if len(values) != len(table):
            raise DataError(f"group {column}", f"{len(values)} values", f"{len(table)}, one for each photograph")
        for value, rows in rows_by_value(values).items():
            part = table.select(rows)
            summary = summarise(part, replicates) if (part.grade != NO_GRADE).any() else None
            counts = len(part), len(np.unique(part.patient)), len(np.unique(table.patient[rows & scored]))
            found.append(Group(column, value, *counts, summary))
    return found


def graded_rows(manifest: Manifest, predictions: Predictions, place: str | Path) -> Manifest:
    """The rows of a manifest whose photographs were graded; DataError, naming `place`, where there are none."""
    wanted = set(predictions.image.tolist())
    rows = tuple(row for row in manifest if row.image in wanted)
    if not rows:
        got = "it has none of the photographs that were graded"
        raise DataError(place, got, "their manifest", "Name it by --data.")
    return Manifest(rows, manifest.root)


def read_groups(path: str | Path, images: Sequence[str], patients: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a CSV with a column of photographs or of patients: the value for each of the photographs.

    images, patients: of each. Photographs are found as those of the truth are, also where folders and endings differ.
    Raises DataError where neither is there, a key stands twice, or none of them is in it.
    """
    columns, body = read_table(path)
    place = Path(path).name
    keys = [name for name in columns if meaning_of(name) in ("image", "patient")]
    if len(keys) != 1:
        got = f"columns {', '.join(columns)}"
        raise DataError(place, got, "one column of photographs (image) or of patients (patient), and the groups")
    by_image = meaning_of(keys[0]) == "image"
    wanted = list(map(str, images if by_image else patients))
    rows: dict[str, dict[str, str]] = {}
    for number, cells in body:
        if cells[keys[0]] in rows:
            raise DataError(f"{place}, row {number}", f'"{cells[keys[0]]}" stands above already', "each once")
        rows[cells[keys[0]]] = cells
    names, asked = list(rows), set(wanted)
    found = matched(wanted, names)[0] if by_image else {key: n for n, key in enumerate(names) if key in asked}
    if not found:
        raise DataError(
            place, f"no {keys[0]} of the photographs is in it", f"{keys[0]} written alike", f"Such as {wanted[0]}."
        )
    values = [rows[names[found[key]]] if key in found else {} for key in wanted]
    return {name: [cells.get(name, "") for cells in values] for name in columns if name != keys[0]}
