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
caption { text-align: left; font-size: .9rem; padding: .3rem 0 }
nav ul { columns: 14rem; padding-left: 1.2rem }
figcaption { font-size: .9rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left }
.bar { display: flex; height: .6rem; margin-top: .2rem; border: 1px solid var(--line) }
.bar span { display: block }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem }
.cards h3 { margin: 0; overflow-wrap: anywhere }
.cards p { margin: .3rem 0 }
.thumbs { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
.thumbs figcaption { overflow-wrap: anywhere }
.pair { display: flex; gap: .3rem }
.pair > * { flex: 1; min-width: 0 }
.text { text-align: left }
td.number { white-space: nowrap }
@media print {
  body { max-width: none }
  figure, .cards > div, .plot { break-inside: avoid }
  h2, h3, caption { break-after: avoid }
  nav { display: none }
  .scroll { overflow: visible }
}
"""


def page(
    title: str,
    lead: str | Sequence[str],
    sections: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
    contents: bool = False,
) -> str:
    """A whole HTML page; `sections` are (heading, HTML), `notes` are sentences that nobody may overlook.

    contents: with a list of the sections on top.
    """
    body = "".join(
        f'<section id="s{n}"><h2>{escape(heading)}</h2>{html}</section>' for n, (heading, html) in enumerate(sections)
    )
    links = "".join(f'<li><a href="#s{n}">{escape(heading)}</a></li>' for n, (heading, _) in enumerate(sections))
    listed = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if contents else ""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    warnings = "".join(f'<p class="note"><strong>{escape(text)}</strong></p>' for text in (*notes, DISCLAIMER))
    leads = "".join(f'<p class="lead">{escape(line)}</p>' for line in ([lead] if isinstance(lead, str) else lead))
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{leads}{warnings}{listed}{body}</main></body></html>\n"
    )


def jpeg(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture whose longer side is `side` px, or the same where it is not longer."""
    scale = side / max(picture.shape[:2])
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def jpeg_uri(data: bytes) -> str:
    """A JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def data_uri(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a JPEG data URI."""
    return jpeg_uri(jpeg(picture))


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


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1, caption: str = "") -> str:
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
    over = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{over}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


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
    return plot(confusion_svg(confusion), confusion_words(confusion), "plot small")


def confusion_words(confusion: Sequence[Sequence[int]]) -> str:
    """The confusion matrix for who cannot see it."""
    rows = "; ".join(f"truth {n}: {list(map(int, row))}" for n, row in enumerate(confusion))
    return f"Confusion matrix: {rows}"


def histogram(groups: Sequence[tuple[str, np.ndarray]], label: str, logarithmic: bool = False, text: str = "") -> str:
    """`histogram_svg` as a picture in a page. text: what a reader who cannot see it should know."""
    return plot(histogram_svg(groups, label, logarithmic), text or label)


def plot(svg: bytes, text: str, look: str = "plot") -> str:
    """A plot in a page. text: what it shows, for who cannot see it.  look: its classes."""
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return f'<div class="{look}"><img src="{uri}" alt="{escape(text)}"></div>'
