"""The guard against leaks, and what it tells people: a table of the pairs, and a sheet that shows them side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from m2cnn.data.leaks import Twin, across_patients, across_splits, contradicting, find_twins, rows_by_image
from m2cnn.data.manifest import Manifest, Row
from m2cnn.data.pairing import TWINS, some
from m2cnn.data.survey import Seen, look_at_planes, survey, with_hashes
from m2cnn.errors import ImageError
from m2cnn.photograph import PhotographFile
from m2cnn.tables import table_bytes, write_atomically

log = logging.getLogger(__name__)

TABLE, SHEET = TWINS, "twins.jpg"
COLUMNS = ("first", "second", "how", "similarity", "patients", "splits", "grades", "leak", "grades_differ")
LOCKED = "lockbox"
SIDE, LINE, SHOWN = 260, 34, 60  # px of a photograph, px of its caption, pairs on the sheet


class Guarded(NamedTuple):
    """A manifest whose photographs were all looked at: with their hashes, the pairs among them, and what was seen."""

    manifest: Manifest
    twins: list[Twin]
    seen: dict[str, Seen]


def guard(manifest: Manifest, memory: str | Path, report: str | Path, workers: int = 2, doubt: bool = False) -> Guarded:
    """Look for photographs that stand twice; what is found goes to the log and, as table and sheet, into `report`.

    memory: the folder where what was seen is remembered.  doubt: as of `survey`.  Nothing is refused here, see
    refuse_across_splits.
    """
    seen = survey(manifest, look_at_planes, memory, workers, doubt=doubt)
    manifest = with_hashes(manifest, seen)
    twins = find_twins(manifest, seen, workers)
    for sentence in findings(manifest, twins):
        log.warning(sentence)
    write_leak_report(report, manifest, twins)
    return Guarded(manifest, twins, seen)


def write_leak_report(folder: str | Path, manifest: Manifest, twins: Sequence[Twin]) -> list[Path]:
    """FOLDER/twins.csv with every pair, FOLDER/twins.jpg with the first 60, leaks before others; [] where is none.

    What an earlier report left there goes. Of the lockbox neither picture nor grade is shown.
    """
    folder = Path(folder)
    if not twins:
        for name in (TABLE, SHEET):
            (folder / name).unlink(missing_ok=True)
        return []
    write_atomically(folder / TABLE, twins_table(manifest, twins))
    leaks = set(across_splits(manifest, twins))
    worst_first = sorted(twins, key=lambda twin: twin not in leaks)
    write_atomically(folder / SHEET, contact_sheet(manifest, worst_first[:SHOWN]))
    return [folder / TABLE, folder / SHEET]


def twins_table(manifest: Manifest, twins: Sequence[Twin]) -> bytes:
    """The pairs as CSV, one line each."""
    rows, leaks, torn = (
        rows_by_image(manifest),
        set(across_splits(manifest, twins)),
        set(contradicting(manifest, twins)),
    )

    def both(twin: Twin, column: str) -> str:
        return " | ".join(told(rows[image], column) for image in (twin.first, twin.second))

    def told(row: Row, column: str) -> str:
        value = getattr(row, column)
        return "" if value is None or (column == "grade" and row.split == LOCKED) else str(value)

    def line(twin: Twin) -> tuple:
        what = (both(twin, column) for column in ("patient", "split", "grade"))
        return *twin[:3], f"{twin.similarity:.3f}", *what, twin in leaks, twin in torn

    return table_bytes(COLUMNS, map(line, twins))


def findings(manifest: Manifest, twins: Sequence[Twin]) -> list[str]:
    """What the pairs mean, in sentences; [] where there is no pair."""
    if not twins:
        return []
    strangers, torn = across_patients(manifest, twins), contradicting(manifest, twins)
    said = [f"{len(twins)} pairs are the same photograph or the same view of one eye"]
    if strangers:
        said.append(f"{len(strangers)} of them under two patients' names: {_names(strangers)}; they stay on one side")
    if len(strangers) < len(twins):
        said.append(f"{len(twins) - len(strangers)} of them under one patient's name: is an eye there twice?")
    if torn:
        said.append(f"{len(torn)} of them with different grades: {_names(torn)}")
    return said


def _names(twins: Sequence[Twin]) -> str:
    return some([f"{t.first} = {t.second}" for t in twins])


# The sheet


def contact_sheet(manifest: Manifest, twins: Sequence[Twin]) -> bytes:
    """A JPEG: each pair side by side, with names, patients, splits and grades, two pairs in a line."""
    rows = rows_by_image(manifest)
    strips = [_strip(manifest, rows[twin.first], rows[twin.second], twin) for twin in twins]
    strips += [np.full_like(strips[0], 255)] * (len(strips) % 2)
    lines = [np.hstack(strips[i : i + 2]) for i in range(0, len(strips), 2)]
    return cv2.imencode(".jpg", np.vstack(lines)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def _strip(manifest: Manifest, one: Row, other: Row, twin: Twin) -> np.ndarray:
    """A pair with its captions, (H, W, 3) uint8."""
    gap = np.full((SIDE, 6, 3), 255, np.uint8)
    pictures = np.hstack([_small(manifest, one), gap, _small(manifest, other), gap, gap])
    caption = Image.new("RGB", (pictures.shape[1], LINE), "white")
    draw, font = ImageDraw.Draw(caption), ImageFont.load_default(11)
    for row, x in ((one, 2), (other, SIDE + 8)):
        draw.text((x, 2), _short(row.image), "black", font)
        grade = "not shown" if row.split == LOCKED else "no grade" if row.grade is None else f"grade {row.grade}"
        how = f"; {twin.how}, {twin.similarity:.2f}" if row is one else ""
        draw.text((x, 17), _short(f"{row.split or 'no split'}, {grade}{how}"), "black", font)
    return np.vstack([pictures, np.asarray(caption)])


def _short(text: str) -> str:
    """The end of a long text, which tells more of a path; the font has no signs beyond Latin ones."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    return text if len(text) <= 42 else "..." + text[-39:]


def _small(manifest: Manifest, row: Row) -> np.ndarray:
    """A photograph within SIDE x SIDE px on black; grey where it is locked, or unreadable: the sheet must not fail."""
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    try:
        picture = None if row.split == LOCKED else PhotographFile(manifest.path(row)).frame(SIDE)
    except ImageError:
        picture = None
    if picture is None:
        return square + 128
    height, width = picture.shape[:2]
    shown = [max(1, round(side * SIDE / max(height, width))) for side in (width, height)]
    picture = cv2.resize(picture, shown, interpolation=cv2.INTER_AREA)
    top, left = (SIDE - picture.shape[0]) // 2, (SIDE - picture.shape[1]) // 2
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return square
