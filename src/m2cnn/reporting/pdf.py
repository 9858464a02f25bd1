"""A document as a PDF: A4, with bookmarks, page numbers and the disclaimer on every page.

One font is drawn in, wherever it is made: it has Latin, Greek and Cyrillic letters. Of others, such as Chinese ones or
those of Hindi, a PDF would show boxes, and right-to-left ones in the wrong order: they are spelt by their numbers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import partial
from html import escape
from typing import Any
from unicodedata import bidirectional

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, ListFlowable, LongTable, Paragraph, SimpleDocTemplate, Spacer

from m2cnn.grades import DISCLAIMER
from m2cnn.plots import font_file
from m2cnn.reporting.document import Block, Document, Gallery, Items, Plot, Shot, Table, Text

MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
HIGH = 62 * mm  # of a photograph
FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
LONG = 34  # characters of a word, or half of a text, that may decide how wide its column is
LETTER, PADDING = 4.6, 14.0  # points
RIGHT_TO_LEFT = ("R", "AL")
SPELT = (
    "This PDF has no letters for some characters: they stand as their Unicode numbers, such as \\u4e2d. The HTML "
    "report shows them."
)


def to_pdf(document: Document) -> bytes:
    """The same document gives the same bytes."""
    file = io.BytesIO()
    template = _Template(file, document.title)
    style = _styles()
    spelt = _spelt(document)
    document = spelt if spelt == document else replace(spelt, notes=(SPELT, *spelt.notes))
    story: list[Any] = [Paragraph(escape(document.title), style["Title"])]
    story += [Paragraph(escape(line), style["Lead"]) for line in document.lead]
    story += [Paragraph(escape(note), style["Note"]) for note in (*document.notes, DISCLAIMER)]
    for section in document.sections:
        story.append(_Heading(escape(section.title), style["Heading2"]))
        for block in section.blocks:
            story += _block(block, style)
    footer = partial(_footer, title=document.title)
    template.build(story, onFirstPage=footer, onLaterPages=footer)
    return file.getvalue()


def _spelt(what: Any) -> Any:
    """A document, or a part of it, with every text as the font can draw it."""
    if isinstance(what, str):
        return "".join(each if _drawable(each) else each.encode("unicode_escape").decode() for each in what)
    if isinstance(what, tuple):
        return tuple(map(_spelt, what))
    if is_dataclass(what):
        return replace(what, **{field.name: _spelt(getattr(what, field.name)) for field in fields(what)})
    return what


def _drawable(character: str) -> bool:
    known = all(ord(character) in pdfmetrics.getFont(font).face.charToGlyph for font in (FONT, BOLD))
    return character.isspace() or (known and bidirectional(character) not in RIGHT_TO_LEFT)


class _Heading(Paragraph):
    """A heading that is a bookmark too."""


class _Template(SimpleDocTemplate):
    def __init__(self, file: io.BytesIO, title: str):
        super().__init__(
            file,
            pagesize=A4,
            **dict.fromkeys(("leftMargin", "rightMargin", "topMargin"), MARGIN),
            bottomMargin=MARGIN + 6 * mm,
            title=title,
            author="m2cnn",
            subject=DISCLAIMER,
            lang="en",
            invariant=1,
        )

    def afterFlowable(self, flowable: Any) -> None:  # noqa: N802 - reportlab's name
        if isinstance(flowable, _Heading):
            key = f"section-{self.canv.getPageNumber()}-{flowable.text}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(flowable.getPlainText(), key, 0)


def _footer(canvas: Any, template: Any, title: str) -> None:
    canvas.saveState()
    canvas.setFont(FONT, 7)
    canvas.setFillGray(0.35)
    canvas.drawString(MARGIN, 12 * mm, DISCLAIMER)
    canvas.drawRightString(A4[0] - MARGIN, 12 * mm, f"{title}, page {canvas.getPageNumber()}")
    canvas.restoreState()


def _styles() -> dict[str, ParagraphStyle]:
    pdfmetrics.registerFont(TTFont(FONT, font_file()))
    pdfmetrics.registerFont(TTFont(BOLD, font_file(bold=True)))
    sheet = getSampleStyleSheet()
    body = ParagraphStyle("Body", sheet["BodyText"], fontName=FONT, fontSize=8.5, leading=12)
    kept = {"keepWithNext": 1}
    framed = {"borderColor": colors.HexColor("#b3541e"), "borderWidth": 1, "borderPadding": 4}
    return {
        "Title": ParagraphStyle("Title", sheet["Title"], fontName=BOLD, alignment=0, fontSize=17, leading=22),
        "Heading2": ParagraphStyle(
            "Heading2", sheet["Heading2"], fontName=BOLD, fontSize=12, spaceBefore=14, keepWithNext=1
        ),
        "Heading3": ParagraphStyle("Heading3", sheet["Heading4"], fontName=BOLD, fontSize=9, **kept),
        "Body": body,
        "Lead": ParagraphStyle("Lead", body, fontSize=10, leading=14),
        "Note": ParagraphStyle("Note", body, **framed, spaceBefore=7, spaceAfter=7),
        "Caption": ParagraphStyle(
            "Caption", body, fontSize=7.5, textColor=colors.Color(0.25, 0.25, 0.25), keepWithNext=1
        ),
        "Cell": ParagraphStyle("Cell", body, fontSize=7, leading=9),
        "Number": ParagraphStyle("Number", body, fontSize=7, leading=9, alignment=2),
        "Head": ParagraphStyle("Head", body, fontSize=7, leading=9, fontName=BOLD),
        "NumberHead": ParagraphStyle("NumberHead", body, fontSize=7, leading=9, fontName=BOLD, alignment=2),
    }


def _block(block: Block, style: dict[str, ParagraphStyle]) -> Iterator[Any]:
    match block:
        case Text():
            yield Paragraph(escape(block.text), style["Body"])
        case Items():
            if block.lead:
                yield Paragraph(escape(block.lead), style["Body"])
            yield ListFlowable(
                [Paragraph(escape(item), style["Body"]) for item in block.items], bulletType="bullet", start="•"
            )
        case Table():
            yield from _table(block, style)
        case Plot():
            yield _picture(block.png, WIDTH if block.wide else WIDTH / 2)
        case Gallery():
            for shot in block.shots:
                yield KeepTogether(list(_shot(shot, style)))


def _table(block: Table, style: dict[str, ParagraphStyle]) -> Iterator[Any]:
    if block.caption:
        yield Paragraph(escape(block.caption), style["Caption"])
    looks = ["Head" if k < block.text else "NumberHead" for k in range(len(block.head))]
    head = [Paragraph(escape(cell), style[look]) for cell, look in zip(block.head, looks, strict=True)]
    rows = [
        [Paragraph(escape(cell), style["Cell" if k < block.text else "Number"]) for k, cell in enumerate(row)]
        for row in block.rows
    ]
    lines = [("LINEBELOW", (0, 0), (-1, -1), 0.3, colors.HexColor("#b0b0b0")), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    yield LongTable([head, *rows], _widths(block), repeatRows=1, style=lines, hAlign="LEFT")
    yield Spacer(0, 4 * mm)


def _widths(block: Table) -> list[float]:
    """Of the columns: no word is broken, and what is left goes to those with more text."""
    columns = list(zip(block.head, *block.rows, strict=True))
    words = [max((len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    need = [min(word, LONG) * LETTER + PADDING for word in words]
    want = [
        max(min(max(map(len, column)), 2 * LONG) * LETTER + PADDING - each, 1)
        for column, each in zip(columns, need, strict=True)
    ]
    left = WIDTH - sum(need)
    if left < 0:
        return [WIDTH * each / sum(need) for each in need]
    return [each + min(more, left * more / sum(want)) for each, more in zip(need, want, strict=True)]


def _shot(shot: Shot, style: dict[str, ParagraphStyle]) -> Iterator[Any]:
    yield Paragraph(escape(shot.title), style["Heading3"])
    if shot.picture:
        across, down = ImageReader(io.BytesIO(shot.picture)).getSize()
        yield _picture(shot.picture, min(WIDTH, HIGH * across / down))
    for line in shot.lines:
        yield Paragraph(escape(line), style["Body"])


def _picture(data: bytes, width: float) -> Image:
    across, down = ImageReader(io.BytesIO(data)).getSize()
    return Image(io.BytesIO(data), width, width * down / across, hAlign="LEFT")
