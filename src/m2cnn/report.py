"""Pages that stand alone: one HTML file, no network, pictures inside. Readable on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from m2cnn.errors import require
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
@media print { body { max-width: none } }
"""
# Five steps of one hue order that colour-blind readers tell apart (Okabe and Ito), from healthy to proliferative.
COLOURS = ("#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00")


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole HTML page; `sections` are (heading, HTML)."""
    body = "".join(f"<section><h2>{escape(heading)}</h2>{html}</section>" for heading, html in sections)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    note = f'<p class="lead">{escape(lead)}</p><p class="note"><strong>{escape(DISCLAIMER)}</strong></p>'
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
    parts = zip(probabilities, COLOURS, strict=True)
    shares = "".join(f'<span style="width:{100 * p:.1f}%;background:{colour}"></span>' for p, colour in parts)
    text = ", ".join(f"{grade}: {p:.0%}" for grade, p in enumerate(probabilities))
    return f'<div class="bar" role="img" aria-label="probabilities of the grades {text}" title="{text}">{shares}</div>'


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


def _figure(columns: int) -> tuple[Any, Sequence[Any]]:
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.4), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))


def _svg(figure: Any) -> bytes:
    file = io.BytesIO()
    # Without a date: the same run gives the same picture.
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _plot(svg: bytes, text: str) -> str:
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return f'<div class="plot"><img src="{uri}" alt="{escape(text)}"></div>'
