"""Photographs on the page: by thumbnail and name, or by row number alone where nobody may be recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

import cv2
import numpy as np

from m2cnn.data.manifest import Row
from m2cnn.errors import ImageError
from m2cnn.photograph import PhotographFile, read_image
from m2cnn.profile.table import Table
from m2cnn.report import data_uri

SIDE = 160  # px, the longer side of a thumbnail
MOST = 60  # thumbnails of one kind
NAMED = 500  # photographs without a thumbnail that are still named


@dataclass(frozen=True)
class Gallery:
    """The photographs of a set. pictures: whether they may be shown and named."""

    table: Table
    pictures: bool

    @cached_property
    def _files(self) -> Counter[str]:
        return Counter(_file(row) for row in self.table.rows)

    def name(self, row: Row) -> str:
        """How a photograph is called on the page, as plain text: by its file, where no other is called so."""
        if not self.pictures:
            return f"row {self.table.numbers[row.image]}"
        return _file(row) if self._files[_file(row)] == 1 else row.image

    def what(self, row: Row) -> str:
        """What the manifest says of it, as plain text; no patient where nobody may be recognised."""
        grade = "no grade" if row.grade is None else f"grade {row.grade}"
        patient = f"patient {row.patient}" if self.pictures else ""
        return ", ".join(filter(None, (grade, row.eye, row.split, patient)))

    def figure(self, row: Row, says: Sequence[str] = ()) -> str:
        """A thumbnail with its name, what is known of it, and what is to be said of it."""
        lines = [f"<strong>{escape(self.name(row))}</strong>", escape(self.what(row)), *map(escape, says)]
        return f"<figure>{self._picture(row)}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"

    def _picture(self, row: Row) -> str:
        if not self.pictures:
            return ""
        thumbnail = read_thumbnail(self.table, row)
        if thumbnail is None:
            return "<em>no picture</em>"
        return f'<img src="{data_uri(thumbnail)}" alt="photograph {escape(row.image)}" loading="lazy">'

    def figures(self, rows: Sequence[tuple[Row, Sequence[str]]]) -> str:
        """At most MOST of (row, what is to be said of it), and the names of those that follow."""
        shown = "".join(self.figure(row, says) for row, says in rows[:MOST])
        return f'<div class="grid thumbs">{shown}</div>{self._rest([row for row, _ in rows[MOST:]])}'

    def _rest(self, rows: Sequence[Row]) -> str:
        if not rows:
            return ""
        more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
        names = ", ".join(escape(self.name(row)) for row in rows[:NAMED])
        return f"<details><summary>{len(rows):,} more</summary><p>{names}{more}</p></details>"


def _file(row: Row) -> str:
    return row.image.rpartition("/")[2]


def read_thumbnail(table: Table, row: Row) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, at most SIDE px; None for what cannot be read."""
    path = table.manifest.path(row)
    try:
        image = PhotographFile(path).at(SIDE).image if table.seen[row.image].values else read_image(path)
    except ImageError:
        return None
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
