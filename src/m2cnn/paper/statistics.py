"""Cells side by side over the same patients and seeds: means over seeds, intervals, paired differences.

Kappa is of one run over its whole set, never of batches; a cell's kappa is the mean over its seeds. A bootstrap sample
draws patients and, independently, seeds, and is the same for all cells, so that differences are paired. Of S seeds
S - 1 are drawn with replacement: drawing S would make the variance of their mean too small by the factor (S - 1) / S,
much for three (McCarthy and Snowden, The bootstrap and finite population sampling, 1985; Rao and Wu, JASA 1988;83:231).
One seed cannot vary: its intervals are over patients alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m2cnn.bootstrap import Difference, Estimate, bootstrap, interval, two_sided_p
from m2cnn.compare import aligned
from m2cnn.metrics import Floats
from m2cnn.panel import METRICS, panel
from m2cnn.predictions import Predictions

Key = tuple[str, str]  # cell, decode
DETECTABLE = 1.959964 + 0.841621  # standard errors: two-sided 5 %, power 80 %


@dataclass(frozen=True)
class Gap(Difference):
    """A paired difference over common seeds. detectable: the smallest true difference that would be found (two-sided
    5 %) in 80 % of studies of this size: 2.8 standard errors."""

    detectable: float
    seeds: tuple[int, ...]


def seed_counts(seeds: int, replicates: int, seed: int) -> Floats:
    """(R, S) how often each seed is drawn; rows sum to S - 1, or to 1 for a single seed."""
    rng = np.random.default_rng([seed, 1])
    return rng.multinomial(max(1, seeds - 1), [1 / seeds] * seeds, replicates).astype(np.float64)


def mean_over_seeds(drawn: Sequence[Floats], counts: Floats) -> Floats:
    """(R, K) replicates of each of S seeds, and (R, S) counts -> (R, K) their means as drawn."""
    total = np.zeros_like(drawn[0])
    for values, count in zip(drawn, counts.T, strict=True):
        # A seed that was not drawn must not spoil the mean with its NaN.
        total += np.where(count[:, None] > 0, count[:, None] * values, 0.0)
    return total / counts.sum(1, keepdims=True)


class Measured:
    """Tables of predictions of one split, by (cell, decode) and seed, measured on the photographs that all share.

    statistic: of a table and its scored photographs, as m2cnn.summary.panel is.  metrics: the names of its columns.
    photographs, patients: of those that all share.

    Raises DataError for tables that disagree on the truth or the patient.
    """

    def __init__(
        self,
        tables: Mapping[Key, Mapping[int, Predictions]],
        replicates: int = 2000,
        seed: int = 0,
        statistic: Callable[[Predictions, np.ndarray], Any] = panel,
        metrics: Sequence[str] = METRICS,
    ):
        named = [((*key, s), table) for key, by_seed in tables.items() for s, table in by_seed.items()]
        shared = aligned([(" ".join(map(str, name)), table) for name, table in named]) if named else []
        gradable = np.logical_and.reduce([table.gradable for table in shared]) if shared else np.zeros(0, bool)
        self.replicates, self.seed, self.photographs, self.patients = replicates, seed, int(gradable.sum()), 0
        self.metrics = tuple(metrics)
        self.values: dict[Key, dict[int, Floats]] = {}
        self.drawn: dict[Key, dict[int, Floats]] = {}
        self.collapsed: list[str] = []  # runs that said the same grade of every photograph
        if not named:
            return
        panels = [statistic(table, gradable) for table in shared]
        self.patients = panels[0].patients
        # One stream of resamples for all tables, side by side: (R, tables * K).
        drawn = bootstrap(
            lambda counts: np.concatenate([p(counts) for p in panels], axis=1), self.patients, replicates, seed
        )
        each = zip(named, shared, panels, np.split(drawn, len(panels), axis=1), strict=True)
        for ((cell, decode, s), _), table, measured, replicated in each:
            self.values.setdefault((cell, decode), {})[s] = measured.values()
            self.drawn.setdefault((cell, decode), {})[s] = replicated
            if len(np.unique(table.decoded[gradable])) == 1:
                self.collapsed.append(f"{cell} {decode} seed {s}")

    def seeds(self, *keys: Key) -> tuple[int, ...]:
        """The seeds that all of them have."""
        each = [set(self.values.get(key, ())) for key in keys]
        return tuple(sorted(set.intersection(*each)))

    def of_seed(self, key: Key, seed: int, metric: str = "qwk") -> float:
        """The value of one run."""
        return float(self.values[key][seed][self.metrics.index(metric)])

    def estimate(self, key: Key, metric: str = "qwk") -> Estimate:
        """The mean over the cell's seeds with its interval; NaN where there is no run."""
        seeds = self.seeds(key)
        if not seeds:
            return Estimate(*[float("nan")] * 3)
        return Estimate(self._value(key, seeds, metric), *interval(self._replicates(key, seeds, metric)))

    def gap(self, key: Key, *others: Key, metric: str = "qwk") -> Gap:
        """`key` minus the best of `others`, on the seeds that all have; the best is sought in each replicate anew."""
        seeds = self.seeds(key, *others)
        if not seeds:
            return Gap(*[float("nan")] * 5, ())
        value = self._value(key, seeds, metric) - max(self._value(other, seeds, metric) for other in others)
        best = np.max([self._replicates(other, seeds, metric) for other in others], axis=0)
        change = self._replicates(key, seeds, metric) - best
        return Gap(value, *interval(change), two_sided_p(change), DETECTABLE * _spread(change), seeds)

    def contrast(self, weights: Mapping[Key, float], metric: str = "qwk") -> Gap:
        """The weighted sum of several entries, on the seeds that all have: 1 and -1 is a difference of two."""
        seeds = self.seeds(*weights)
        if not seeds:
            return Gap(*[float("nan")] * 5, ())
        value = sum(weight * self._value(key, seeds, metric) for key, weight in weights.items())
        change = sum(weight * self._replicates(key, seeds, metric) for key, weight in weights.items())
        return Gap(value, *interval(change), two_sided_p(change), DETECTABLE * _spread(change), seeds)

    def _value(self, key: Key, seeds: Sequence[int], metric: str) -> float:
        return float(np.mean([self.of_seed(key, s, metric) for s in seeds]))

    def _replicates(self, key: Key, seeds: Sequence[int], metric: str) -> Floats:
        column = self.metrics.index(metric)
        drawn = [self.drawn[key][s][:, column : column + 1] for s in seeds]
        return mean_over_seeds(drawn, seed_counts(len(seeds), self.replicates, self.seed))[:, 0]


def _spread(values: Floats) -> float:
    """The standard error: the standard deviation of the replicates that are defined."""
    return float(np.nanstd(values, ddof=1)) if np.isfinite(values).sum() > 1 else float("nan")
