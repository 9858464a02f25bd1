"""Numbers in the words and the form that both pages use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from m2cnn.bootstrap import Estimate
from m2cnn.metrics import Floats
from m2cnn.profile.measures import Measure
from m2cnn.profile.statistics import Counted
from m2cnn.report import histogram

INTERVAL = "In brackets: 95 % intervals from resampled patients."
PRIVATE = (
    "This page shows eyes of patients and names of files: treat it as you treat the photographs. "
    "--no-pictures writes it without."
)
PLAIN = "Photographs are named by their row in the manifest (the header is row 1); no picture and no patient is shown."


def share(counted: Counted) -> str:
    """A share with its interval, as "3.1 % (2.5 to 3.8)"."""
    e = counted.estimate
    return f"{_percent(e.value)} %" + _bracket(e, _percent)


def number(counted: Counted) -> str:
    """A correlation, kappa or area with its interval, as "0.31 (0.28 to 0.35)"."""
    return f"{counted.estimate.value:.2f}" + _bracket(counted.estimate, "{:.2f}".format)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if value < 0.1 else f"{100 * value:.0f}"


def _bracket(e: Estimate, form) -> str:
    return "" if math.isnan(e.low) else f" ({form(e.low)} to {form(e.high)})"


def many(count: int, singular: str, plural: str = "") -> str:
    """A count with its noun.

    >>> many(1, "photograph"), many(1200, "photograph")
    ('1 photograph', '1,200 photographs')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def listed(sentences: Sequence[str]) -> str:
    """Plain sentences as a list."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def middle(measure: Measure, values: Floats) -> str:
    """Median and the range of nine photographs in ten, of the (N,) values that are numbers."""
    low, median, high = (measure.shown(float(v)) for v in np.nanpercentile(values, (5, 50, 95)))
    return f"median {median}, nine in ten {low} to {high}"


def card(measure: Measure, groups: Sequence[tuple[str, Floats]], says: Sequence[str] = ()) -> str:
    """One measure: its plot, its quantiles, what it is, and what is to be said."""
    known = [(name, values[np.isfinite(values)]) for name, values in groups]
    known = [(name, values) for name, values in known if len(values)]
    if not known:
        return ""
    one = len(groups) == 1
    quantiles = [f"{'' if one else name + ': '}{middle(measure, v)} (n = {len(v):,})" for name, v in known]
    plot = _plot(measure, known, f"{measure.title}: {'; '.join(quantiles)}")
    lines = "".join(f"<p>{escape(line)}</p>" for line in quantiles)
    strong = "".join(f"<p><strong>{escape(line)}</strong></p>" for line in says)
    meaning = f"<p><small>{escape(measure.meaning)}.</small></p>"
    return f"<div><h3>{escape(measure.title)}</h3>{plot}{strong}{lines}{meaning}</div>"


def _plot(measure: Measure, groups: Sequence[tuple[str, Floats]], text: str) -> str:
    factor, unit = (100, " in %") if measure.unit == "%" else (1, f" in {measure.unit}" if measure.unit else "")
    scaled = [(f"{name} (n = {len(values):,})", factor * values) for name, values in groups]
    return histogram(scaled, measure.title + unit, measure.logarithmic, text)
