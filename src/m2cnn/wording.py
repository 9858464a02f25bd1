"""Counts and settings in words and columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from m2cnn.tasks import ROUNDING_CUTS, Task


def counted(number: int, thing: str) -> str:
    """A count with its noun.

    >>> counted(1, "patient"), counted(20, "patient")
    ('1 patient', '20 patients')
    """
    return f"{number} {thing}{'s' * (number != 1)}"


def words(values: Mapping[str, Any], *left_out: str) -> str:
    """Settings as "key value, key value", without those that are empty and those left out."""
    kept = {key: value for key, value in values.items() if key not in left_out and value not in ("", None, {}, [], ())}
    return ", ".join(f"{key} {word(value)}" for key, value in kept.items())


def word(value: object) -> str:
    """One setting: floats to four figures, "yes" and "no", lists with strokes between."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " / ".join(map(word, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def grade_rule(task: Task) -> str:
    """How a severity becomes a grade; where networks are joined, of the combiner's task, whatever theirs were."""
    if not task.uses_cuts:
        return "the likeliest grade"
    return f"severity, cut at {word(task.cuts)}" + ("" if task.cuts == ROUNDING_CUTS else ": not a rounded severity")


def table(names: list[str], rows: list[list[str]], left: int = 2) -> str:
    """Plain text columns: the first `left` aligned left, the rest right."""
    widths = [max(len(row[column]) for row in [names, *rows]) for column in range(len(names))]
    lines = []
    for row in [names, *rows]:
        cells = [text.ljust(width) for text, width in zip(row[:left], widths, strict=False)]
        cells += [text.rjust(width) for text, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
