"""When a claim holds: the rule, and the numbers it needs.

A part of a claim is one difference with a 95 % interval. It holds where the interval leaves zero out in the claimed
direction, does not hold where it leaves zero out in the other, else it is undecided, and `detectable` says how large a
difference would have been found. A claim holds only if all its deciding parts do, and does not hold if one of them does
not. Nothing is corrected for several comparisons: of twenty parts, one excludes zero by chance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from m2cnn.paper.statistics import Gap

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "undecided", "not run"
LEVEL, POWER = 0.975, 0.8


@dataclass(frozen=True)
class Measure:
    """A difference over patients and seeds, or over seeds alone. ratio: its numbers are natural logarithms of ratios,
    so that zero is "alike".  NaN: `value` where nothing was run, the rest where nothing can vary."""

    value: float
    low: float
    high: float
    detectable: float
    seeds: tuple[int, ...]
    ratio: bool = False


@dataclass(frozen=True)
class Part:
    """One comparison that a claim stands or falls with.

    source: name of the table it is read from.  claimed: 1 where the claim says that the value is positive, -1 negative.
    decides: False for what is told beside it.  paper: the poster's own difference.  bound: the value is no more than a
    bound in the claimed direction, as of runs that never arrive, so that it cannot prove the claim.
    """

    claim: str
    group: str
    what: str
    source: str
    measure: Measure
    claimed: int
    decides: bool = True
    paper: float | None = None
    note: str = ""
    bound: bool = False

    @property
    def answer(self) -> str:
        m = self.measure
        if math.isnan(m.value):
            return NOT_RUN
        if self.claimed * m.low > 0 and self.claimed * m.high > 0:
            return OPEN if self.bound else HOLDS
        return FAILS if self.claimed * m.low < 0 and self.claimed * m.high < 0 else OPEN


def joined(answers: Collection[str]) -> str:
    """The answer of a claim from those of its parts."""
    if set(answers) <= {NOT_RUN}:
        return NOT_RUN
    if FAILS in answers:
        return FAILS
    return HOLDS if set(answers) == {HOLDS} else OPEN


def decided(parts: Sequence[Part]) -> str:
    """The answer of those parts that decide."""
    return joined([part.answer for part in parts if part.decides])


def of_gap(gap: Gap) -> Measure:
    """A paired difference over patients and seeds."""
    return Measure(gap.value, gap.low, gap.high, gap.detectable, gap.seeds)


def exactly(value: float, ratio: bool = False) -> Measure:
    """What is computed, not measured: it has no error."""
    return Measure(value, value, value, 0.0, (), ratio)


def over_seeds(values: dict[int, float], ratio: bool = False) -> Measure:
    """The mean of one number per seed with Student's interval; without one for a single seed, which cannot vary.

    detectable: (t(0.975) + t(0.8)) standard errors, two-sided 5 % with power 80 %.
    """
    values = {seed: value for seed, value in values.items() if np.isfinite(value)}
    if not values:
        return Measure(*[math.nan] * 4, (), ratio)
    mean, count = float(np.mean(list(values.values()))), len(values)
    seeds = tuple(sorted(values))
    if count == 1:
        return Measure(mean, math.nan, math.nan, math.nan, seeds, ratio)
    error = float(np.std(list(values.values()), ddof=1)) / math.sqrt(count)
    reach = student(LEVEL, count - 1) * error
    found = (student(LEVEL, count - 1) + student(POWER, count - 1)) * error
    return Measure(mean, mean - reach, mean + reach, found, seeds, ratio)


def student(p: float, freedom: int) -> float:
    """Quantile of Student's t.

    >>> round(student(0.975, 1), 3), round(student(0.975, 2), 3), round(student(0.975, 9), 3)
    (12.706, 4.303, 2.262)
    """
    return float(stats.t.ppf(p, freedom))
