"""A referral budget: where only so many can be referred, what share of the referable is among them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.bootstrap import LEVEL, Estimate, bootstrap, share_interval
from m2cnn.errors import SettingError
from m2cnn.grades import ENDPOINTS
from m2cnn.metrics import Floats, check_finite, check_grades, check_lengths

BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Budget:
    """share: of all that is referred, the most severe first.  found: of the referable, the share among them."""

    share: float
    found: Estimate


def budget_curve(
    truth: ArrayLike,
    severity: ArrayLike,
    patient: ArrayLike,
    shares: Sequence[float] = BUDGETS,
    unit: Literal["photograph", "patient"] = "photograph",
    lowest: int = ENDPOINTS["referable"],
    replicates: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Budget, ...]:
    """What a budget finds, with intervals over patients; NaN where nobody is referable.

    truth, severity: (N,) grades 0..4 and severities, of which only the order counts.  patient: (N,) ids.
    unit: what is referred. A patient is as severe as his worst photograph, and referable if one of them is.
    Of equal severities that the budget cuts, each has the same chance: the curve is a line between them.
    """
    t, s = check_grades(truth, "truth"), check_finite(severity, "severity")
    check_lengths(t, s, "truth and severity")
    names, who = np.unique(np.asarray(patient), return_inverse=True)
    check_lengths(t, who, "truth and patient")
    for share in shares:
        if not 0 < share <= 1:
            raise SettingError("budget", f"{share:g}", "above 0, at most 1", "Divide percentages by 100.")
    if unit not in ("photograph", "patient"):
        raise SettingError("unit", f'"{unit}"', "photograph or patient")
    positive = (t >= lowest).astype(np.float64)
    if unit == "patient":
        positive, s, who = _worst(positive, who, len(names)), _worst(s, who, len(names)), np.arange(len(names))
    statistic = _Found(positive, s, who, np.asarray(shares, np.float64))
    drawn = bootstrap(statistic, len(names), replicates, seed)
    values, ill = statistic(np.ones((1, len(names))))[0], len(np.unique(who[positive > 0]))
    return tuple(
        Budget(float(share), _found(share, float(values[k]), drawn[:, k], ill, level)) for k, share in enumerate(shares)
    )


def _found(share: float, value: float, drawn: Floats, ill: int, level: float) -> Estimate:
    """Who refers all finds all: no estimate, so no interval but that."""
    return Estimate(value, *((value, value) if share == 1 else share_interval(value, drawn, ill, level=level)))


def _worst(values: Floats, who: NDArray[np.intp], patients: int) -> Floats:
    worst = np.full(patients, -np.inf)
    np.maximum.at(worst, who, values)
    return worst


class _Found:
    """counts (R, P) -> (R, B): the share of the positive entries among the first of each budget."""

    def __init__(self, positive: Floats, severity: Floats, who: NDArray[np.intp], shares: Floats):
        order = np.argsort(-severity, kind="stable")
        self.positive, self.who, self.shares = positive[order], who[order], shares
        # The places after which another severity comes.
        self.ends = np.flatnonzero(np.append(np.diff(severity[order]) != 0, True)[: len(order)])

    def __call__(self, counts: Floats) -> Floats:
        weights = counts.take(self.who, 1)
        referred = np.cumsum(weights, 1).take(self.ends, 1)
        found = np.cumsum(weights * self.positive, 1).take(self.ends, 1)
        return np.array([self._shares(*each) for each in zip(referred, found, strict=True)])

    def _shares(self, referred: Floats, found: Floats) -> Floats:
        if not len(found) or found[-1] == 0:
            return np.full(len(self.shares), np.nan)
        along, upward = np.append(0.0, referred), np.append(0.0, found)
        return np.interp(self.shares * referred[-1], along, upward) / found[-1]
