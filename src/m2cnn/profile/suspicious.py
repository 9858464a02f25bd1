"""Photographs unlike the rest of their set, and why, in words. What is rare is not wrong: somebody should look."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from m2cnn.metrics import Floats
from m2cnn.profile.measures import MEASURES, Measure
from m2cnn.profile.table import Table

FAR = 6.0  # robust deviations from the median
ENOUGH = 20  # photographs: fewer do not say what is usual
USUAL, RARE = 0.8, 0.02  # share of photographs in the commonest frame, and in one that is unlike the rest


class Suspect(NamedTuple):
    """image, how far it is from the rest, and the reasons, the strongest first."""

    image: str
    distance: float
    reasons: tuple[str, ...]


def suspects(table: Table) -> list[Suspect]:
    """The photographs that stand out, the farthest from the rest first."""
    images = np.array([row.image for row in table.rows])
    found: dict[str, list[tuple[float, str]]] = {}
    for measure in MEASURES:
        values = table.values(measure.name)
        distance = distances(measure, values)
        usual = [measure.shown(float(v)) for v in np.nanpercentile(values, (25, 75))] if np.any(distance) else []
        for k in np.flatnonzero(np.abs(distance) > FAR):
            found.setdefault(images[k], []).append((abs(distance[k]), _words(measure, values[k], distance[k], usual)))
    for image, words in rare_frames(table):
        found.setdefault(image, []).append((FAR, words))
    ordered = ((image, sorted(reasons, reverse=True)) for image, reasons in found.items())
    listed = [Suspect(image, reasons[0][0], tuple(words for _, words in reasons)) for image, reasons in ordered]
    return sorted(listed, key=lambda suspect: (-suspect.distance, suspect.image))


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


def _words(measure: Measure, value: float, distance: float, usual: list[str]) -> str:
    how = measure.more if distance > 0 else measure.less
    between = usual[0] if usual[0] == usual[1] else f"{usual[0]} to {usual[1]}"
    return f"much {how} than the rest: {measure.title.lower()} {measure.shown(value)}, half of the set has {between}"


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
