"""A set as a table: what the manifest says and what was seen, one entry per photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.survey import Seen
from m2cnn.errors import DataError
from m2cnn.metrics import Floats, Ints


@dataclass(frozen=True)
class Table:
    """name: how the page calls the set.  rows: its N photographs without those of the lockbox.

    locked: photographs of the lockbox, which nobody looks at.  numbers: image -> its row in the manifest's CSV (the
    header is row 1).  seen: image -> what was seen of it.
    """

    name: str
    manifest: Manifest
    locked: int
    numbers: dict[str, int]
    seen: dict[str, Seen]

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.manifest.rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def grades(self) -> Ints:
        """(N,), -1 where there is no grade."""
        return self.manifest.grades()

    @cached_property
    def patient(self) -> NDArray[np.intp]:
        """(N,) patient numbers 0..P-1."""
        return np.unique(self.manifest.patients(), return_inverse=True)[1]

    @property
    def patients(self) -> int:
        return int(self.patient.max()) + 1

    @cached_property
    def reasons(self) -> NDArray[np.str_]:
        """(N,) why not gradable, or unreadable, else ""."""
        return np.array([self.seen[row.image].reason for row in self.rows], dtype=str)

    @cached_property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) whether it was measured: it could be read, and has a round field."""
        return np.array([bool(self.seen[row.image].values) for row in self.rows])

    def values(self, name: str) -> Floats:
        """(N,) of one measure, NaN where there is none."""
        return np.array([self.seen[row.image].values.get(name, np.nan) for row in self.rows], np.float64)


def table_of(name: str, manifest: Manifest, seen: dict[str, Seen]) -> Table:
    """The table of a set; `seen` holds every photograph outside the lockbox."""
    opened = without_lockbox(manifest)
    numbers = {row.image: number for number, row in enumerate(manifest, start=2)}
    return Table(name, opened, len(manifest) - len(opened), numbers, seen)


def without_lockbox(manifest: Manifest) -> Manifest:
    """The photographs that may be looked at. Raises DataError when there are none."""
    try:
        return manifest.select("all")
    except DataError:
        got = f"no photograph outside the lockbox ({len(manifest)} in all)"
        raise DataError("manifest", got, "photographs to look at", "Give a set with other splits.") from None
