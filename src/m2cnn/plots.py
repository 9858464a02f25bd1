"""Plots, as bytes of SVG or PNG: the same numbers give the same bytes. Colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2cnn.grades import NUM_GRADES

# Five steps of one hue order that colour-blind readers tell apart (Okabe and Ito), from healthy to proliferative.
COLOURS = ("#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00")
TWO = ("#0072B2", "#D55E00")  # two groups in one plot, of the same palette


def curves_svg(history: Sequence[dict[str, Any]]) -> bytes:
    """Loss and validation kappa by pass; a line where a stage begins."""
    figure, (left, right) = _figure(2)
    passes = np.arange(1, len(history) + 1)
    left.plot(passes, [row["train_loss"] for row in history], "o-", ms=3, label="training")
    left.plot(passes, [row["val_loss"] for row in history], "s--", ms=3, label="validation")
    left.set(xlabel="pass", ylabel="loss")
    left.legend(frameon=False)
    right.plot(passes, [row["val_kappa"] for row in history], "o-", ms=3, color="#D55E00")
    right.set(xlabel="pass", ylabel="quadratic weighted kappa, validation", ylim=(min(0, *right.get_ylim()), 1))
    for n in range(1, len(history)):
        if history[n]["stage"] != history[n - 1]["stage"]:
            for axes in (left, right):
                axes.axvline(n + 0.5, color="0.6", lw=1)
            right.text(n + 0.6, 0.03, f"{history[n]['size']} px, {history[n]['cells']} cells", color="0.4", fontsize=8)
    return _picture(figure)


def confusion_svg(confusion: Sequence[Sequence[int]], form: str = "svg") -> bytes:
    """The confusion matrix with its counts; rows are the truth. form: svg or png."""
    figure, (axes,) = _figure(1)
    counts = np.asarray(confusion)
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1.4)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center")
    axes.set(xlabel="graded", ylabel="truth", xticks=range(NUM_GRADES), yticks=range(NUM_GRADES))
    return _picture(figure, form)


@dataclass(frozen=True)
class Line:
    """One line of `lines_svg`. places: where on the axis.  values, low, high: with their interval, NaN for none.

    reference: somebody else's values at the same places, drawn hollow.
    """

    name: str
    colour: str
    places: Sequence[float]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    reference: Sequence[float]


def lines_svg(
    panels: Sequence[tuple[str, Sequence[Line]]], ticks: Sequence[str], label: str, reference: str, form: str = "svg"
) -> bytes:
    """Lines with intervals over the same axis, in panels; `reference` names what is drawn hollow. form: svg or png."""
    figure, every = _figure(len(panels), 4.6)
    for axes, (title, lines) in zip(every, panels, strict=True):
        for number, line in enumerate(lines):
            _line(axes, line, (number - (len(lines) - 1) / 2) * 0.06)
        if reference:
            axes.plot([], [], "o", mfc="none", color="0.4", ms=7, label=reference)
        axes.set(title=title, ylabel=label, xticks=range(len(ticks)), xticklabels=ticks, xlim=(-0.4, len(ticks) - 0.6))
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    lowest = min(axes.get_ylim()[0] for axes in every)
    highest = max(axes.get_ylim()[1] for axes in every)
    for axes in every:
        axes.set_ylim(lowest, highest)
    return _picture(figure, form)


def _line(axes: Any, line: Line, aside: float) -> None:
    """A line a little aside, so that its intervals do not cover the others'."""
    places = np.asarray(line.places) + aside
    values = np.asarray(line.values, float)
    reach = np.abs(np.array([line.low, line.high], float) - values)
    style = {"color": line.colour, "mec": "0.3", "ms": 6, "capsize": 3, "lw": 1.6}
    axes.errorbar(places, values, np.nan_to_num(reach), fmt="o-", label=line.name, **style)
    axes.plot(places, line.reference, "o:", mfc="none", color=line.colour, ms=7, lw=0.8)


def dots_svg(
    rows: Sequence[tuple[str, Sequence[float], float]], label: str, reference: str, form: str = "svg"
) -> bytes:
    """A line for each (name, (value, low, high), somebody else's value), the first on top; NaN for what there is not.

    label: of the axis.  reference: names what is drawn hollow.  form: svg or png.
    """
    figure, (axes,) = _figure(1, 1.4 + 0.34 * len(rows))
    figure.set_figwidth(7)
    places = np.arange(len(rows))[::-1]
    values, low, high = np.array([numbers for _, numbers, _ in rows], float).reshape(-1, 3).T
    style = {"color": TWO[0], "mec": "0.3", "ms": 7, "capsize": 3, "lw": 1.6}
    axes.errorbar(values, places, xerr=np.nan_to_num([values - low, high - values]), fmt="o", label="here", **style)
    axes.plot([other for *_, other in rows], places, "o", mfc="none", color=TWO[1], ms=7, label=reference)
    axes.set(xlabel=label, yticks=places, yticklabels=[name for name, *_ in rows], ylim=(-0.6, len(rows) - 0.4))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return _picture(figure, form)


def curves_by_place_svg(
    panels: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[float]]]]], place: str, label: str, form: str = "svg"
) -> bytes:
    """Curves (name, colour, positive values) over 0..1, in panels with one logarithmic axis. form: svg or png."""
    figure, every = _figure(len(panels), 4.2)
    for axes, (title, curves) in zip(every, panels, strict=True):
        for name, colour, values in curves:
            axes.plot(np.linspace(0, 1, len(values)), values, color=colour, lw=1.4, label=name)
        axes.set(title=title, xlabel=place, ylabel=label, yscale="log")
        axes.grid(axis="y", color="0.9")
        if curves:
            axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    reach = [limit for axes in every if axes.lines for limit in axes.get_ylim()]
    for axes in every:
        axes.set_ylim(min(reach, default=0.1), max(reach, default=1.0))
    return _picture(figure, form)


def roc_svg(
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    points: Sequence[tuple[str, float, float]] = (),
    form: str = "svg",
) -> bytes:
    """Curves (name, 1 - specificity, sensitivity), and operating points (name, 1 - specificity, sensitivity).

    form: svg or png.
    """
    figure, (axes,) = _figure(1, 3.7)
    figure.set_figwidth(7.2)
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    for (name, across, up), colour, dashes in zip(curves, (*TWO, COLOURS[1]), ("-", "--", "-."), strict=False):
        axes.plot(across, up, dashes, color=colour, lw=1.8, label=name)
    for (name, across, up), mark in zip(points, ("D", "s", "^", "v"), strict=False):
        axes.plot(across, up, mark, color="k", ms=7, label=name)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return _picture(figure, form)


def reliability_svg(
    panels: Sequence[tuple[str, Sequence[tuple[float, float, float, float, int]]]], form: str = "svg"
) -> bytes:
    """Panels of (chance that was stated, share that came true, low, high, photographs); on the diagonal, they agree.

    form: svg or png.
    """
    figure, every = _figure(len(panels), 3.9)
    for axes, (title, points) in zip(every, panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", lw=1)
        chance, happened, low, high = np.array(points, float).reshape(-1, 5).T[:4]
        reach = np.nan_to_num([happened - low, high - happened])
        axes.errorbar(chance, happened, np.maximum(reach, 0), fmt="o", color=TWO[0], capsize=3, ms=5)
        for each, *_, n in points:
            axes.text(each, -0.12, str(n), ha="center", fontsize=6, color="0.4")
        axes.set(title=title, xlabel="stated chance (below: photographs)", ylabel="came true")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.17, 1.02))
    return _picture(figure, form)


def severity_svg(
    groups: Sequence[Sequence[float]], lines: Sequence[tuple[str, float]] = (), form: str = "svg"
) -> bytes:
    """Severities of each true grade: every photograph a point, a box from quartile to quartile, its median a line.

    lines: (name, severity), drawn across.  form: svg or png.
    """
    figure, (axes,) = _figure(1, 3.6)
    figure.set_figwidth(7)
    rng = np.random.default_rng(0)
    for grade, values in enumerate(groups):
        aside = rng.uniform(-0.28, 0.28, len(values))
        axes.plot(grade + aside, values, "o", ms=2.5, color=COLOURS[grade], mec="0.4", mew=0.2, alpha=0.7)
    held = [(grade, values) for grade, values in enumerate(groups) if len(values)]
    if held:
        style = {"widths": 0.6, "showfliers": False, "medianprops": {"color": "k", "lw": 1.8}, "whis": (5, 95)}
        axes.boxplot([values for _, values in held], positions=[grade for grade, _ in held], **style)
    for (name, severity), dashes in zip(lines, ("--", ":"), strict=False):
        axes.axhline(severity, color="0.2", lw=1, ls=dashes, label=f"{name}: {severity:.2f}")
    ticks = [f"{grade}\n(n = {len(values)})" for grade, values in enumerate(groups)]
    axes.set(xlabel="true grade", ylabel="severity given", ylim=(-0.1, NUM_GRADES - 0.9))
    axes.set_xticks(range(len(groups)), ticks)
    if lines:
        figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return _picture(figure, form)


def histogram_svg(groups: Sequence[tuple[str, np.ndarray]], label: str, logarithmic: bool = False) -> bytes:
    """Shares of the values (N,) of one or two groups over their range; the outermost bars hold all that lies beyond.

    label: of the axis.  logarithmic: the axis is.
    """
    figure, (axes,) = _figure(1, 2.3)
    lowest, highest = np.percentile(np.concatenate([values for _, values in groups]), (0.5, 99.5))
    room = max(highest - lowest, 1e-3 * abs(highest), 1e-6) * 0.02
    edges = np.linspace(lowest - room, highest + room, 31)
    if logarithmic:
        edges = np.geomspace(max(lowest, 1e-3) * 0.98, max(highest, 1e-3) * 1.02, 31)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_ticks(edges))
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.minorticks_off()
    for (name, values), colour, filled in zip(groups, TWO, (True, False), strict=False):
        height = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
        axes.stairs(100 * height, edges, fill=filled, color=colour, alpha=0.6 if filled else 1, lw=2, label=name)
    axes.set(xlabel=label, ylabel="% of photographs")
    if len(groups) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    return _picture(figure)


def _ticks(edges: np.ndarray) -> Any:
    """Five round places along a logarithmic axis."""
    from matplotlib.ticker import FixedLocator

    places = np.geomspace(edges[0], edges[-1], 7)[1:-1]
    return FixedLocator(sorted({float(f"{place:.2g}") for place in places}))


def _figure(columns: int, height: float = 3.4) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def _picture(figure: Any, form: str = "svg") -> bytes:
    from matplotlib import rc_context

    file = io.BytesIO()
    # Without a date and with names that are not random: the same run gives the same picture.
    with rc_context({"svg.hashsalt": "m2cnn"}):
        figure.savefig(file, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def font_file(bold: bool = False) -> str:
    """DejaVu Sans, which matplotlib brings: Latin, Greek, Cyrillic and more."""
    from matplotlib import get_data_path

    return f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf"
