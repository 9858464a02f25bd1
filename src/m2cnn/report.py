"""Pages that stand alone: one HTML file, no network, pictures inside. Readable on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from m2cnn.grades import DISCLAIMER, GRADES, Grading
from m2cnn.plots import COLOURS, confusion_svg, curves_svg, histogram_svg

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
    return plot(curves_svg(history), "Loss and validation kappa, pass by pass")


def confusion_plot(confusion: Sequence[Sequence[int]]) -> str:
    """The confusion matrix with its counts; rows are the truth."""
    rows = "; ".join(f"truth {n}: {list(map(int, row))}" for n, row in enumerate(confusion))
    return f'<div class="small">{plot(confusion_svg(confusion), f"Confusion matrix: {rows}")}</div>'


def histogram(groups: Sequence[tuple[str, np.ndarray]], label: str, logarithmic: bool = False, text: str = "") -> str:
    """`histogram_svg` as a picture in a page. text: what a reader who cannot see it should know."""
    return plot(histogram_svg(groups, label, logarithmic), text or label)


def plot(svg: bytes, text: str) -> str:
    """A plot in a page. text: what it shows, for who cannot see it."""
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return f'<div class="plot"><img src="{uri}" alt="{escape(text)}"></div>'
