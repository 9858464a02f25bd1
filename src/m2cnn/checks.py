"""Questions that every table of settings is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from numbers import Real

from m2cnn.errors import SettingError, did_you_mean


def is_number(value: object) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def check_keys(place: str, values: object, kind: type) -> None:
    """Whether plain values are a table of settings of a dataclass; SettingError names an unknown key."""
    if not isinstance(values, Mapping):
        raise SettingError(place, repr(values), "a table of settings")
    known = [each.name for each in fields(kind)]
    for key in values:
        if key not in known:
            raise SettingError(place, f'unknown key "{key}"', "known keys", did_you_mean(str(key), known))
