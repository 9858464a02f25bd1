"""Wrong labels on purpose: a share of the training photographs with another grade, so that losses can be compared.

Ours: the poster says that squared error alone is not robust, and does not say against what.
"""

from __future__ import annotations

from dataclasses import replace

from m2cnn.data.manifest import Manifest, Row, draw_of
from m2cnn.errors import DataError, SettingError
from m2cnn.grades import NUM_GRADES


def noisy(manifest: Manifest, share: float, seed: int) -> Manifest:
    """The manifest in which `share` of the training photographs have another grade, each of the other four alike.

    share: 0..1, of the photographs in split train that teach; exact to the nearest photograph. Validation and test keep
    the truth, and so does whoever does not teach. Which photographs, and which grade they get, is a function of the
    seed and the photograph's name: the same for every loss and on every machine, and what 5 % change, 20 % change too.

    Raises SettingError for another share, DataError for a manifest without a split.
    """
    if not 0 <= share <= 1:
        raise SettingError("noise", f"{share:g}", "a share between 0 and 1", "0.05 are five of a hundred labels.")
    teaching = [row.image for row in manifest if row.split == "train" and row.teaches]
    if not teaching:
        raise DataError("noise", "no graded photograph in split train", "a manifest with splits", "Split it first.")
    order = sorted(teaching, key=lambda image: draw_of(f"noise {seed} {image}"))
    wrong = set(order[: round(share * len(order))])
    return Manifest(tuple(_wrong(row, seed) if row.image in wrong else row for row in manifest), manifest.root)


def _wrong(row: Row, seed: int) -> Row:
    further = 1 + int((NUM_GRADES - 1) * draw_of(f"grade {seed} {row.image}"))  # 1..4
    return replace(row, grade=(row.grade + further) % NUM_GRADES)
