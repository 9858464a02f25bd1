"""How many patients does a study need? For a wanted half-width of an interval, or to find a difference.

Both eyes of a patient are alike, so n patients with two eyes tell less than 2 n photographs of strangers. How much less
is the design effect, the variance over that of as many independent photographs: 1 for independent eyes, 2 for two
that always agree.

Sensitivity and specificity have a formula. Kappa, AUC and paired differences have a standard error to be scaled, which
falls with the square root of the patients: that of a pilot (its bootstrap replicates), or of a simulated study.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m2cnn.bootstrap import LEVEL, as_confusion, normal_quantile
from m2cnn.endpoints import check_prevalence
from m2cnn.errors import DataError, SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import Floats, Ints, check_finite, kappa_of_confusion
from m2cnn.simulated import Population, Reader

PILOT, STUDIES = 500, 1000  # patients and number of simulated studies: their standard error is known to about 2 %


@dataclass(frozen=True)
class Eyes:
    """Photographs of a patient that count, and how alike they are.

    disease: correlation of the eyes having the end-point.  answer: correlation of the system being right, where both
    have it.  0 and 0, or a single eye: independent photographs.
    """

    number: int = 2
    disease: float = 0.7
    answer: float = 0.5

    def __post_init__(self) -> None:
        if self.number < 1:
            raise SettingError("eyes", f"{self.number}", "1 or more")
        for name in ("disease", "answer"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"eyes, {name}", f"{getattr(self, name)}", "0..1")

    def design_effect(self, share: float) -> float:
        """Variance of a proportion among the eyes of one kind, a share `share` of all, over that of as many strangers.

        1 + (number - 1) P(another eye is of that kind | this one is) answer: the first two moments of a ratio of sums
        over patients. Source: Rao and Scott, Biometrics 1992;48:577, with the other eye's chance put in.

        >>> round(Eyes(2, disease=0.7, answer=0.5).design_effect(0.2), 3)
        1.38
        """
        return 1 + (self.number - 1) * (share + self.disease * (1 - share)) * self.answer


ONE_EYE = Eyes(1, 0, 0)


def patients_for_sensitivity(
    expected: float, half_width: float, prevalence: float, eyes: Eyes | None = None, level: float = LEVEL
) -> int:
    """Patients of whom enough photographs have the disease for a sensitivity of +- half_width.

    eyes: default, two that are alike. Source: Buderer, Acad Emerg Med 1996;3:895 (independent photographs).

    >>> patients_for_sensitivity(0.9, 0.05, prevalence=0.2, eyes=ONE_EYE)
    692
    >>> patients_for_sensitivity(0.9, 0.05, prevalence=0.2)
    478
    """
    check_prevalence(prevalence)
    return _patients_for_share(expected, half_width, prevalence, eyes or Eyes(), level)


def patients_for_specificity(
    expected: float, half_width: float, prevalence: float, eyes: Eyes | None = None, level: float = LEVEL
) -> int:
    """Patients of whom enough photographs are free of the disease for a specificity of +- half_width."""
    check_prevalence(prevalence)
    return _patients_for_share(expected, half_width, 1 - prevalence, eyes or Eyes(), level)


def _patients_for_share(expected: float, half_width: float, share: float, eyes: Eyes, level: float) -> int:
    if not 0 < expected < 1:
        raise SettingError("expected", f"{expected:g}", "between 0 and 1", "At 0 or 1 nothing varies; try 0.99.")
    _check_half_width(half_width)
    alone = normal_quantile(level) ** 2 * expected * (1 - expected) / half_width**2
    return _up(alone * eyes.design_effect(share) / (share * eyes.number))


# --- by scaling a standard error ---


def patients_for_half_width(replicates: ArrayLike, patients: int, half_width: float, level: float = LEVEL) -> int:
    """Patients for +- half_width, from (R,) bootstrap replicates of a pilot of `patients` patients of the same kind.

    Of a metric, or of a paired difference: replicates of the second system minus those of the first.
    """
    _check_half_width(half_width)
    return _up(patients * (normal_quantile(level) * _standard_error(replicates, patients) / half_width) ** 2)


def patients_to_detect(
    replicates: ArrayLike, patients: int, difference: float, power: float = 0.8, level: float = LEVEL
) -> int:
    """Patients of whom a true `difference` is found (its interval leaves out 0) with chance `power`, from (R,)
    replicates of that paired difference in a pilot of `patients` patients."""
    if not abs(difference) > 0:
        raise SettingError("difference", f"{difference:g}", "another than 0")
    if not 0.5 < power < 1:
        raise SettingError("power", f"{power:g}", "between 0.5 and 1", "Default: 0.8.")
    errors = normal_quantile(level) + normal_quantile(2 * power - 1)
    return _up(patients * (errors * _standard_error(replicates, patients) / difference) ** 2)


def design_effect(by_patient: ArrayLike, by_photograph: ArrayLike) -> float:
    """Of a metric: the variance of its replicates over patients, over that over photographs as if independent."""
    return float(np.var(_defined(by_patient), ddof=1) / np.var(_defined(by_photograph), ddof=1))


def _standard_error(replicates: ArrayLike, patients: int) -> float:
    if patients < 2:
        raise DataError("pilot", f"{patients} patients", "two or more", "One patient cannot vary.")
    return float(np.std(_defined(replicates), ddof=1))


def _defined(replicates: ArrayLike) -> Floats:
    values = check_finite(replicates, "replicates")
    if len(values) < 2 or not np.ptp(values) > 0:
        raise DataError("replicates", "values that do not vary", "bootstrap replicates of a pilot", "More patients.")
    return values


# --- by simulation ---


def simulated_kappas(
    population: Population,
    readers: tuple[Reader, ...],
    patients: int = PILOT,
    studies: int = STUDIES,
    seed: int = 0,
    kappa: Callable[[Floats], Floats] = kappa_of_confusion,
) -> Floats:
    """(S, systems) kappas of simulated studies, in each the same patients for all systems.

    kappa: of (S, 5, 5) confusion; any other statistic of it will do.
    """
    rng = np.random.default_rng(seed)
    liability = population.draw(patients, rng, studies)
    truth = population.grades(liability)
    graded = [population.grades(reader.read(liability, rng)) for reader in readers]
    return np.stack([kappa(_confusions(truth, one)) for one in graded], axis=1)


def _confusions(truth: Ints, graded: Ints) -> Floats:
    """(S, P, E) and (S, P, E) -> (S, 5, 5)."""
    cells, studies = NUM_GRADES**2, len(truth)
    cell = (np.arange(studies)[:, None, None] * cells + truth * NUM_GRADES + graded).ravel()
    return as_confusion(np.bincount(cell, minlength=studies * cells).reshape(studies, cells).astype(np.float64))


def patients_for_kappa(
    population: Population, reader: Reader, half_width: float, level: float = LEVEL, seed: int = 0
) -> int:
    """Patients for a quadratic weighted kappa of +- half_width, of a system that reads so in such a population."""
    drawn = simulated_kappas(population, (reader,), seed=seed)[:, 0]
    return patients_for_half_width(drawn, PILOT, half_width, level)


def patients_for_kappa_difference(
    population: Population, first: Reader, second: Reader, half_width: float, level: float = LEVEL, seed: int = 0
) -> int:
    """Patients for a paired difference of two systems' quadratic weighted kappas of +- half_width."""
    drawn = simulated_kappas(population, (first, second), seed=seed)
    return patients_for_half_width(drawn[:, 1] - drawn[:, 0], PILOT, half_width, level)


def _check_half_width(half_width: float) -> None:
    if not 0 < half_width < 1:
        raise SettingError("half-width", f"{half_width:g}", "between 0 and 1", "Half of the interval's width.")


def _up(patients: float) -> int:
    return math.ceil(patients - 1e-9)
