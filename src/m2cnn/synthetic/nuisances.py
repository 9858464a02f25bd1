"""What differs between photographs and says nothing of the grade: how often each nuisance comes, and to which patients.

Strengths are drawn from streams that never see the grade. Each nuisance draws the same numbers whether or not it is
wanted, so that one can be switched without changing another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np

from m2cnn.errors import SettingError, did_you_mean

WITH_AGE = np.array([0.5, 0.7, 0.0])  # correlation of drusen, opacity and laser with the patient's age


@dataclass(frozen=True)
class Nuisances:
    """How often each nuisance comes, 0 never, 1 always; the defaults are those of a screening clinic.

    pigmentation: no share, but the spread between patients, 1 being the natural one.
    ageing, drusen, opacity, laser: share of patients.  dust: share of visits (it stays on the lens for both eyes).
    flare, eyelash, off_centre: share of photographs.
    Raises SettingError for a number outside 0..1.
    """

    pigmentation: float = 1.0
    ageing: float = 0.40
    drusen: float = 0.12
    opacity: float = 0.15
    laser: float = 0.03
    dust: float = 0.15
    flare: float = 0.12
    eyelash: float = 0.05
    off_centre: float = 0.06

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise SettingError(f"Nuisances({field.name}=...)", f"{value!r}", "a share, 0..1")


NONE = Nuisances(**{field.name: 0.0 for field in fields(Nuisances)})


def parse_nuisances(settings: Iterable[str]) -> Nuisances:
    """From KEY=SHARE texts, the others as by default. Raises SettingError for an unknown key or no number.

    >>> parse_nuisances(["laser=0.5"]).laser
    0.5
    """
    names, shares = [field.name for field in fields(Nuisances)], {}
    for text in settings:
        key, _, value = text.partition("=")
        if key not in names:
            raise SettingError(text, f'there is no nuisance "{key}"', "KEY=SHARE", did_you_mean(key, names))
        try:
            shares[key] = float(value)
        except ValueError as cause:
            raise SettingError(text, f'"{value}" is no number', "a share, 0..1") from cause
    return Nuisances(**shares)


@dataclass(frozen=True)
class Condition:
    """What years and treatment did to a patient's eyes: strengths 0..1, 0 where there is nothing."""

    ageing: float
    drusen: float
    opacity: float
    laser: float


def draw_condition(nuisances: Nuisances, rng: np.random.Generator) -> Condition:
    """A patient; the old have drusen and opaque media more often, yet each has its share of all patients."""
    age, own = rng.standard_normal(), rng.standard_normal(3)
    normal = WITH_AGE * age + np.sqrt(1 - WITH_AGE**2) * own
    shares = (nuisances.drusen, nuisances.opacity, nuisances.laser)
    return Condition(strength(age, nuisances.ageing), *map(strength, normal, shares))


def strength(normal: float, share: float) -> float:
    """0 for most, for the uppermost `share` of standard normal numbers 0..1, evenly.

    >>> strength(0.0, 0.3), round(strength(3.0, 0.3), 2)
    (0.0, 1.0)
    """
    rank = NormalDist().cdf(normal)
    return max(0.0, (rank - 1 + share) / share) if share else 0.0
