"""The claims' plots: what is told from what by size, kappa by wrong labels, gradients layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from m2cnn.bootstrap import Estimate
from m2cnn.paper.ablation import ARMS
from m2cnn.paper.claims import RUNGS, SIZE_ALONE, Source, shares
from m2cnn.paper.gradients import END, START, WEIGHT, Measurement
from m2cnn.paper.lesions import SMALL
from m2cnn.plots import COLOURS, Line, curves_by_place_svg, lines_svg

DISTINCT = (COLOURS[0], COLOURS[1], COLOURS[4], COLOURS[3])  # without the yellow one
PAINT = dict(zip(SIZE_ALONE, DISTINCT, strict=True))
CURVES = (("mt", 0), ("mt", 2), ("direct", 2), ("m2cnn", 2))  # arm, rung


def lesions_plot(sources: Sequence[Source], form: str = "svg") -> bytes:
    """AUC of grade 1 against 0 by size, a panel for each table."""
    panels, ticks = [], [f"{name}\nsize" for name in RUNGS]
    for source in sources:
        lines = []
        for arm, decode in SIZE_ALONE:
            every = [source.lesions.estimate(source.key(arm, decode, rung), SMALL) for rung in range(3)]
            lines.append(_line(arm, decode, every))
        panels.append((source.name, lines))
    if len(sources) == 1:
        ticks = [sources[0].size(rung) for rung in range(3)]
    return lines_svg(panels, ticks, "AUC of grade 1 against 0", "", form)


def noise_plot(table: Source, form: str = "svg") -> bytes:
    """Kappa of test patients by the share of wrong labels."""
    every = (0.0, *shares(table))
    lines = [
        _line(arm, decode, [table.measured.estimate(table.key(arm, decode, 0, share)) for share in every])
        for arm, decode in SIZE_ALONE
    ]
    ticks = [f"{100 * share:g} % wrong" for share in every]
    return lines_svg([(f"{table.name}, {table.size(0)}", lines)], ticks, "quadratic weighted kappa", "", form)


def _line(arm: str, decode: str, every: Sequence[Estimate]) -> Line:
    nothing = [math.nan] * len(every)
    values, low, high = ([getattr(e, name) for e in every] for name in ("value", "low", "high"))
    return Line(f"{ARMS[arm]}, {decode}", PAINT[arm, decode], range(len(every)), values, low, high, nothing)


def gradients_plot(sources: Sequence[Source], measured: Sequence[Measurement], form: str = "svg") -> bytes:
    """Relative gradient norms of the weight layers, from the input to the outputs: start and end, run by run."""
    panels = []
    for source in sources:
        for when in (START, END):
            curves = []
            for colour, (arm, rung) in zip(DISTINCT, CURVES, strict=True):
                values = _by_layer(measured, source, arm, rung, when)
                curves += [(f"{ARMS[arm]}, {source.size(rung)}", colour, values)] if values else []
            title = "at the start" if when == START else "after training"
            panels.append((f"{source.name}, {title}", curves))
    return curves_by_place_svg(panels, "layer: share of the way", "gradient norm / weight norm", form)


def _by_layer(measured: Sequence[Measurement], source: Source, arm: str, rung: int, when: str) -> list[float]:
    """Of a run's last stage: geometric means over seeds, layer by layer."""
    cell = source.cell(arm, rung)
    if cell is None:
        return []
    last, places = len(cell.recipe.stages) - 1, {}
    for one in measured:
        where = (one.source, one.cell, one.stage, one.when, one.kind)
        if where == (source.name, cell.name, last, when, WEIGHT) and one.relative > 0:
            places.setdefault(one.place, []).append(math.log(one.relative))
    return [math.exp(np.mean(places[place])) for place in sorted(places)]
