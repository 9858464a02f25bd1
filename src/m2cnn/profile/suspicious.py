"""Photographs unlike the rest of their set, and why, in words. What is rare is not wrong: somebody should look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from m2cnn.metrics import Floats
from m2cnn.profile.measures import MEASURES, Measure
from m2cnn.profile.table import Table

FAR = 6.0  # robust deviations from the median
# Suspicious in any set, however usual there. name: (lowest, highest, words for below and for above).
LIMITS = {
    "brightness": (0.08, 0.85, "very dark", "very bright"),
    "diameter": (150, np.inf, "tiny field", ""),
    "detail": (100, np.inf, "hardly any detail", ""),
    "cut": (-np.inf, 0.3, "", "much of the field hidden"),
    "clipped": (-np.inf, 0.5, "", "overexposed"),
}
ENOUGH = 20  # photographs: fewer do not say what is usual
USUAL, RARE = 0.8, 0.02  # share of photographs in the commonest frame, and in one that is unlike the rest


class Suspect(NamedTuple):
    """image, how far it is from the rest, and the reasons, the strongest first: "KIND: how much"."""

    image: str
    distance: float
    reasons: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it is above all."""
        return kind_of(self.reasons[0])


def kind_of(reason: str) -> str:
    return reason.partition(":")[0]


def suspects(table: Table) -> list[Suspect]:
    """The photographs that stand out, the farthest from the rest first."""
    found: dict[str, list[tuple[float, str]]] = {}
    for measure in MEASURES:
        for k, distance, words in _far(measure, table.values(measure.name)):
            found.setdefault(table.rows[k].image, []).append((distance, words))
    for image, words in rare_frames(table):
        found.setdefault(image, []).append((FAR, words))
    ordered = ((image, sorted(reasons, reverse=True)) for image, reasons in found.items())
    listed = [Suspect(image, reasons[0][0], tuple(words for _, words in reasons)) for image, reasons in ordered]
    return sorted(listed, key=lambda suspect: (-suspect.distance, suspect.image))


def some_of_each_kind(found: Sequence[Suspect]) -> list[Suspect]:
    """All of them, the kinds in turn: two hundred of one kind must not hide the only one of another."""
    turns: Counter[str] = Counter()
    placed = []
    for suspect in found:
        placed.append((turns[suspect.kind], len(placed), suspect))
        turns[suspect.kind] += 1
    return [suspect for *_, suspect in sorted(placed)]


def _far(measure: Measure, values: Floats) -> Iterator[tuple[int, float, str]]:
    """(photograph, how far, why) of those far from the rest, or beyond what is usual in any set."""
    distance = distances(measure, values)
    lowest, highest, below, above = LIMITS.get(measure.name, (-np.inf, np.inf, "", ""))
    usual = _usual(measure, values) if np.isfinite(values).any() else ""
    for k in np.flatnonzero((np.abs(distance) > FAR) | (values < lowest) | (values > highest)):
        much = f"{measure.title.lower()} {measure.shown(values[k])} (half of the set: {usual})"
        if abs(distance[k]) > FAR:
            how = measure.more if distance[k] > 0 else measure.less
            yield k, abs(distance[k]), f"much {how} than the rest: {much}"
        else:
            yield k, FAR, f"{below if values[k] < lowest else above}: {much}"


def _usual(measure: Measure, values: Floats) -> str:
    low, high = (measure.shown(float(value)) for value in np.nanpercentile(values, (25, 75)))
    return low if low == high else f"{low} to {high}"


def distances(measure: Measure, values: Floats) -> Floats:
    """(N,) signed robust deviations from the median; 0 where there is no value, or too few to compare with.

    The deviation is that of the middle half of the set on either side, never less than the measure's `least`.
    """
    known = np.isfinite(values)
    if known.sum() < ENOUGH:
        return np.zeros(len(values))
    scaled = measure.scaled(values[known])
    low, middle, high = np.percentile(scaled, (25, 50, 75))
    away = scaled - middle
    # A quarter of a normal distribution lies beyond 0.674 deviations, on either side.
    spread = np.where(away < 0, middle - low, high - middle) / 0.674
    result = np.zeros(len(values))
    result[known] = away / np.maximum(spread, measure.least)
    return result


def rare_frames(table: Table) -> list[tuple[str, str]]:
    """(image, words) of photographs in frames that hardly any other has, in a set where most have one frame."""
    frames = {
        row.image: (int(values["width"]), int(values["height"]))
        for row in table.rows
        if (values := table.seen[row.image].values)
    }
    times = Counter(frames.values())
    if len(frames) < ENOUGH or times.most_common(1)[0][1] < USUAL * len(frames):
        return []
    common = "{} x {}".format(*times.most_common(1)[0][0])
    return [
        (image, f"another camera or export: its frame is {frame[0]} x {frame[1]} px, most are {common}")
        for image, frame in frames.items()
        if times[frame] <= max(1, RARE * len(frames)) and frame != times.most_common(1)[0][0]
    ]
