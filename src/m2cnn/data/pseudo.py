"""Pseudo-labels: ungraded photographs teach with the grades that an earlier system gave them.

Source: Reformed Gamblers trained one member on training and test photographs labelled by an earlier ensemble (known).
Theirs were the competition's test photographs; here none of a patient who measures anything.
"""

from __future__ import annotations

from dataclasses import replace

from m2cnn.data.manifest import Manifest, Row, in_lockbox
from m2cnn.errors import DataError
from m2cnn.predictions import Predictions


def pseudo_labelled(manifest: Manifest, predictions: Predictions) -> Manifest:
    """The manifest in which ungraded photographs are training photographs with the grade that `predictions` decoded.

    A graded photograph keeps its grade; one marked ungradable, by the manifest or by the predictions, stays ungraded.
    All else stays as it was, the source too.

    Raises DataError for a photograph of a patient in val, test or the lockbox, and when nothing gets a grade.
    """
    said = {
        str(image): int(grade)
        for image, grade, gradable in zip(predictions.image, predictions.decoded, predictions.gradable, strict=True)
        if gradable
    }
    chosen = {row.image for row in manifest if row.grade is None and row.quality != "ungradable" and row.image in said}
    if not chosen:
        got = f"none of {len(said)} graded predictions is of an ungraded photograph"
        raise DataError("pseudo-labels", got, "one at least", "Do both name the images alike?")
    _refuse_measured(manifest, chosen)
    rows = (replace(row, grade=said[row.image], split="train") if row.image in chosen else row for row in manifest.rows)
    return Manifest(tuple(rows), manifest.root)


def _refuse_measured(manifest: Manifest, chosen: set[str]) -> None:
    measured = {row.patient: side for row in manifest if (side := _side(row)) not in ("", "train")}
    for row in manifest:
        if row.image in chosen and row.patient in measured:
            got = f'photograph "{row.image}" is of patient "{row.patient}" in {measured[row.patient]}'
            repair = "Leave these photographs out of the predictions."
            raise DataError("pseudo-labels", got, "patients who are in no other split than train", repair)


def _side(row: Row) -> str:
    """A row's split; "lockbox" for one without a split whose patient belongs there."""
    return "lockbox" if not row.split and in_lockbox(row.patient) else row.split
