"""Imagined studies: patients with two eyes that are alike, graded by a system of stated quality.

To see how wide an interval would be before a study is made (`planning`), and whether intervals hold the truth as often
as they say (benchmarks/coverage.py). Disease is a normal liability, shared in part by the eyes of a patient and cut
into grades by their frequencies; a system reads it with an error that is shared in part too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from m2cnn.errors import SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import Floats, Ints

TAIL = 4.0  # liabilities beyond the outer cuts that severities 0 and 4 stand for


@dataclass(frozen=True)
class Population:
    """mix: share of each grade among eyes; default: EyePACS.  eyes: of each patient.  alike: correlation of the
    liabilities of his eyes."""

    mix: tuple[float, ...] = (0.735, 0.07, 0.15, 0.025, 0.02)
    eyes: int = 2
    alike: float = 0.85

    def __post_init__(self) -> None:
        if len(self.mix) != NUM_GRADES or min(self.mix) <= 0 or abs(sum(self.mix) - 1) > 1e-6:
            raise SettingError("population, mix", f"{self.mix}", f"{NUM_GRADES} shares above 0 that sum to 1")
        if self.eyes < 1:
            raise SettingError("population, eyes", f"{self.eyes}", "1 or more")
        _check_correlation("population, alike", self.alike)

    def cuts(self) -> Floats:
        """(4,) liabilities from which the next grade begins."""
        return ndtri(np.cumsum(self.mix)[:-1])

    def draw(self, patients: int, rng: np.random.Generator, studies: int = 1) -> Floats:
        """(S, P, E) liabilities."""
        return _shared((studies, patients, self.eyes), self.alike, rng)

    def grades(self, liability: Floats) -> Ints:
        """Grades 0..4 of liabilities, same shape."""
        return np.searchsorted(self.cuts(), liability, side="right")


@dataclass(frozen=True)
class Reader:
    """noise: standard deviation of what it misreads of the liability, whose own is 1.  alike: correlation of that
    between the eyes of a patient.  confidence: 1 states true chances, more is too sure of itself."""

    noise: float = 0.35
    alike: float = 0.4
    confidence: float = 1.0

    def __post_init__(self) -> None:
        for name in ("noise", "confidence"):
            if not getattr(self, name) > 0:
                raise SettingError(f"reader, {name}", f"{getattr(self, name)}", "above 0")
        _check_correlation("reader, alike", self.alike)

    def read(self, liability: Floats, rng: np.random.Generator) -> Floats:
        """(S, P, E) liabilities as the system sees them."""
        return liability + self.noise * _shared(liability.shape, self.alike, rng)

    def severity(self, population: Population, reading: Floats) -> Floats:
        """0..4; rounded, it is the grade that the cuts give."""
        cuts = population.cuts()
        places = [cuts[0] - TAIL, *cuts, cuts[-1] + TAIL]
        return np.interp(reading, places, [0, *np.arange(NUM_GRADES - 1) + 0.5, NUM_GRADES - 1])

    def probabilities(self, population: Population, reading: Floats) -> Floats:
        """(..., 5): the liability given the reading is normal, here with a spread divided by the confidence."""
        shrink = 1 / (1 + self.noise**2)
        spread = self.noise * np.sqrt(shrink) / self.confidence
        below = ndtr((population.cuts() - reading[..., None] * shrink) / spread)
        edges = [np.zeros((*reading.shape, 1)), below, np.ones((*reading.shape, 1))]
        return np.diff(np.concatenate(edges, axis=-1), axis=-1)


def _shared(shape: tuple[int, ...], correlation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, P, E) standard normal numbers, correlated over the last axis."""
    own, common = rng.standard_normal(shape), rng.standard_normal((*shape[:-1], 1))
    return np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own


def _check_correlation(place: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SettingError(place, f"{value}", "0..1")
