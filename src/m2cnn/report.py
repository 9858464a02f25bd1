"""Pages that stand alone: one HTML file, no network, pictures inside. Readable on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np

from m2cnn.errors import MissingExtra, require
from m2cnn.grades import DISCLAIMER, GRADES, NUM_GRADES, Grading

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --accent: #b3541e }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem }
h1 { margin-bottom: 0 }
.lead { font-size: 1.15rem }
.note { border-left: 4px solid var(--accent); padding: .3rem .8rem; background: var(--soft) }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem }
figure { margin: 0 }
figure img, .plot img { width: 100%; height: auto; border-radius: 6px }
.plot img { background: #fff; max-width: 46rem }
.small img { max-width: 22rem }
figcaption { font-size: .9rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left }
.bar { display: flex; height: .6rem; margin-top: .2rem; border: 1px solid var(--line) }
.bar span { display: block }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem }
.cards h3 { margin: 0 }
.cards p { margin: .3rem 0 }
.thumbs { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
.thumbs figcaption { overflow-wrap: anywhere }
.pair { display: flex; gap: .3rem }
.pair > * { flex: 1; min-width: 0 }
.text { text-align: left }
td.number { white-space: nowrap }
@media print { body { max-width: none } figure, .cards > div { break-inside: avoid } }
"""
# Five steps of one hue order that colour-blind readers tell apart (Okabe and Ito), from healthy to proliferative.
COLOURS = ("#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00")
TWO = ("#0072B2", "#D55E00")  # two groups in one plot, of the same palette


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], notes: Sequence[str] = ()) -> str:
    """A whole HTML page; `sections` are (heading, HTML), `notes` are sentences that nobody may overlook."""
    body = "".join(f"<section><h2>{escape(heading)}</h2>{html}</section>" for heading, html in sections)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    warnings = "".join(f'<p class="note"><strong>{escape(text)}</strong></p>' for text in (*notes, DISCLAIMER))
    note = f'<p class="lead">{escape(lead)}</p>{warnings}'
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{note}{body}</body></html>\n"
    )


def data_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a JPEG data URI."""
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def graded_figure(picture: np.ndarray, grading: Grading, truth: int | None) -> str:
    """A photograph with what was said of it."""
    if grading.gradable:
        said = f"<strong>grade {grading.grade}</strong> ({GRADES[grading.grade].name}), severity {grading.severity:.2f}"
        said += _probability_bar(grading.probabilities) if grading.probabilities else ""
    else:
        said = f"<strong>not gradable</strong>: {escape(grading.reason)}"
    true = "" if truth is None else f"<br>truth: {truth} ({GRADES[truth].name})"
    name = escape(grading.image)
    return (
        f'<figure><img src="{data_uri(picture)}" alt="photograph {name}"><figcaption>{said}{true}</figcaption></figure>'
    )


def _probability_bar(probabilities: tuple[float, ...]) -> str:
    return grade_bar(probabilities, "probabilities of the grades")


def grade_bar(shares: Sequence[float], what: str) -> str:
    """Five shares that sum to 1 as one bar in the colours of the grades."""
    parts = zip(shares, COLOURS, strict=True)
    spans = "".join(f'<span style="width:{100 * p:.1f}%;background:{colour}"></span>' for p, colour in parts)
    text = ", ".join(f"{grade}: {p:.0%}" for grade, p in enumerate(shares))
    return f'<div class="bar" role="img" aria-label="{escape(what)} {text}" title="{text}">{spans}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> str:
    """A table of plain text, the first cell of a row heads it; the first `text` columns are words, the rest numbers."""

    def cell(kind: str, column: int, content: str, scope: str = "") -> str:
        look = "text" if column < text else "number"
        return f'<{kind}{scope} class="{look}">{escape(content)}</{kind}>'

    top = "".join(cell("th", k, name, ' scope="col"') for k, name in enumerate(head))
    lines = (
        cell("th", 0, row[0], ' scope="row"') + "".join(cell("td", k, one) for k, one in enumerate(row[1:], 1))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def metrics_table(summary: dict[str, Any], titles: dict[str, str]) -> str:
    """The metrics of a summary, each with its interval."""
    rows = []
    for key, title in titles.items():
        measured = summary["metrics"].get(key)
        if measured and measured["value"] is not None:
            interval = "" if measured["low"] is None else f"{measured['low']:.3f} to {measured['high']:.3f}"
            rows.append(f"<tr><td>{escape(title)}</td><td>{measured['value']:.3f}</td><td>{interval}</td></tr>")
    head = "<tr><th>metric</th><th>value</th><th>95 % interval, over patients</th></tr>"
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def legend() -> str:
    """The five grades with their colours and definitions."""
    rows = (
        f'<tr><td><span aria-hidden="true" style="background:{colour}">&emsp;</span> {g.number}</td>'
        f'<td style="text-align:left">{g.name}</td><td style="text-align:left">{g.definition}</td></tr>'
        for g, colour in zip(GRADES, COLOURS, strict=True)
    )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def curves(history: Sequence[dict[str, Any]]) -> str:
    """`curves_svg` as a picture in a page."""
    return _plot(curves_svg(history), "Loss and validation kappa, pass by pass")


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
    return _svg(figure)


def confusion_plot(confusion: Sequence[Sequence[int]]) -> str:
    """The confusion matrix with its counts; rows are the truth."""
    figure, (axes,) = _figure(1)
    counts = np.asarray(confusion)
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1.4)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center")
    axes.set(xlabel="graded", ylabel="truth", xticks=range(NUM_GRADES), yticks=range(NUM_GRADES))
    rows = "; ".join(f"truth {n}: {list(map(int, row))}" for n, row in enumerate(counts))
    return f'<div class="small">{_plot(_svg(figure), f"Confusion matrix: {rows}")}</div>'


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


def can_plot() -> bool:
    """Whether matplotlib is installed; the plots of this file need it."""
    try:
        require("matplotlib", "train")
    except MissingExtra:
        return False
    return True


def histogram(groups: Sequence[tuple[str, np.ndarray]], label: str, logarithmic: bool = False, text: str = "") -> str:
    """Shares of the values (N,) of one or two groups over their range; the outermost bars hold all that lies beyond.

    label: of the axis.  logarithmic: the axis is.  text: what a reader who cannot see it should know.
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
    return _plot(_svg(figure), text or label)


def _ticks(edges: np.ndarray) -> Any:
    """Five round places along a logarithmic axis."""
    from matplotlib.ticker import FixedLocator

    places = np.geomspace(edges[0], edges[-1], 7)[1:-1]
    return FixedLocator(sorted({float(f"{place:.2g}") for place in places}))


def _figure(columns: int, height: float = 3.4) -> tuple[Any, Sequence[Any]]:
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def _svg(figure: Any) -> bytes:
    return _picture(figure, "svg")


def _picture(figure: Any, form: str) -> bytes:
    from matplotlib import rc_context

    file = io.BytesIO()
    # Without a date and with names that are not random: the same run gives the same picture.
    with rc_context({"svg.hashsalt": "m2cnn"}):
        figure.savefig(file, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _plot(svg: bytes, text: str) -> str:
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return f'<div class="plot"><img src="{uri}" alt="{escape(text)}"></div>'
