"""Settings in words: for a card, a report's checklists and `m2cnn systems show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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
