"""A report as blocks, whatever it is written to: HTML (reporting.html) or PDF (reporting.pdf)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences; lead: what stands above it."""

    items: tuple[str, ...]
    lead: str = ""


@dataclass(frozen=True)
class Table:
    """head, rows: plain text; the first cell of a row heads it. text: how many first columns are words."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: int = 1


@dataclass(frozen=True)
class Plot:
    """A plot twice: as SVG and as PNG. alt: what it shows, for who cannot see it.  wide: it takes the whole width."""

    svg: bytes
    png: bytes
    alt: str
    wide: bool = True


@dataclass(frozen=True)
class Shot:
    """A photograph. lines: what is to be said of it.  picture: JPEG, b"" where there is none to show.  alt: of what."""

    title: str
    lines: tuple[str, ...]
    picture: bytes = b""
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    shots: tuple[Shot, ...]


Block = Text | Items | Table | Plot | Gallery


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """lead: sentences at the top.  notes: warnings that nobody may overlook."""

    title: str
    lead: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]


def table(caption: str, head: Sequence[Any], rows: Sequence[Sequence[Any]], text: int = 1) -> Table:
    """Of anything that `str` makes a text of."""
    return Table(caption, tuple(map(str, head)), tuple(tuple(map(str, row)) for row in rows), text)
