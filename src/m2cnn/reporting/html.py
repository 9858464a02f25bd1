"""A document as one HTML file: no network, no script; for a phone, the dark, paper, a screen reader."""

from __future__ import annotations

from html import escape

from m2cnn import report
from m2cnn.reporting.document import Block, Document, Gallery, Items, Plot, Section, Shot, Table, Text


def to_html(document: Document) -> str:
    sections = [(section.title, _section(section)) for section in document.sections]
    return report.page(document.title, document.lead, sections, document.notes, contents=True)


def _section(section: Section) -> str:
    return "".join(map(_block, section.blocks))


def _block(block: Block) -> str:
    match block:
        case Text():
            return f"<p>{escape(block.text)}</p>"
        case Items():
            lead = f"<p>{escape(block.lead)}</p>" if block.lead else ""
            return f"{lead}<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>"
        case Table():
            return report.table(block.head, block.rows, block.text, block.caption)
        case Plot():
            return report.plot(block.svg, block.alt, "plot" if block.wide else "plot small")
        case Gallery():
            return f'<div class="cards">{"".join(map(_shot, block.shots))}</div>'


def _shot(shot: Shot) -> str:
    picture = f'<img src="{report.jpeg_uri(shot.picture)}" alt="{escape(shot.alt)}">' if shot.picture else ""
    lines = "".join(f"<p>{escape(line)}</p>" for line in shot.lines)
    return f"<div><h3>{escape(shot.title)}</h3><figure>{picture}</figure>{lines}</div>"
