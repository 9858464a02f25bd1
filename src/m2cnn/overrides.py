"""Settings as they are typed: KEY=VALUE behind a command, over plain tables."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from m2cnn.errors import SettingError


def overridden(tables: dict, overrides: Sequence[str]) -> dict:
    """Tables, changed by `key=value` texts. Raises SettingError for a text that is none."""
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SettingError("override", f'"{text}"', "key=value, as in stages.1.epochs=3")
        for place in (key, *_members_own(tables, key)):
            _assign(tables, place.split("."), parse_value(value), text)
    return tables


def _members_own(tables: dict, key: str) -> list[str]:
    """A setting of "stages.*" is one of the stages that members have of their own, too."""
    members = tables.get("members", {}) if key.startswith("stages.*.") else {}
    return [f"members.{name}.{key}" for name, own in members.items() if isinstance(own, dict) and "stages" in own]


def _assign(table: Any, keys: list[str], value: Any, text: str) -> None:
    key, *rest = keys
    if isinstance(table, list):
        places = table if key == "*" else [table[int(key)]] if key.isdigit() and int(key) < len(table) else []
        if not places or not rest:
            raise SettingError("override", f'"{text}"', f"stages.0 to stages.{len(table) - 1}, or stages.*, and a key")
        for place in places:
            _assign(place, rest, value, text)
    elif not isinstance(table, dict):
        raise SettingError("override", f'"{text}"', "a setting", f'The part before ".{key}" is not a table.')
    elif rest:
        _assign(table.setdefault(key, {}), rest, value, text)
    else:
        table[key] = value


def parse_value(text: str) -> Any:
    """A setting's value as typed in a shell. TOML-like: numbers, fractions, true/false, lists; everything else is a
    string.

    >>> parse_value("1/8"), parse_value("3"), parse_value("true"), parse_value("[1, 2]"), parse_value("timm:resnet50")
    (0.125, 3, True, [1, 2], 'timm:resnet50')
    """
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        return text
