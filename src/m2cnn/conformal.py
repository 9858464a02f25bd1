"""Sets of grades that hold the truth as often as promised: split conformal prediction over patients.

Fitted on calibration patients whom the system did not learn from, a set of neighbouring grades is given to each
photograph of a new patient, so that with a chance of at least `level`

- covers="patient": the sets of all his photographs hold their true grades, all at once;
- covers="photograph": the set of one of his photographs, drawn at random, does.

Why this holds: patients are exchangeable, photographs are not, since both eyes of a patient are alike. Each photograph
has a misfit, which says how far down the system had its true grade. For "patient", a patient's misfit is the worst of
his photographs; the new patient's is equally likely to stand at each place among the n of calibration, so that it is at
most the one in place ceil((n + 1) level) with a chance of `level` or more (Vovk et al., Algorithmic Learning in a
Random World, 2005; Angelopoulos and Bates, arXiv:2107.07511). For "photograph", each patient's photographs weigh 1 /
their number, together one patient; the new one weighs as much at infinity (Lee, Barber and Willett, arXiv:2306.06342).
No distribution, size or independence of eyes is assumed, nor a system that is any good: of a poor one the sets are
large. The chance is over calibration and new patients together, of the same kind: with few calibration patients the
coverage that one gets varies, and with another clinic nothing is promised. It is of all patients, not of those of each
grade.

Sets are contiguous. With probabilities, a set grows from the likeliest grade to the likelier of its two neighbours, and
a grade's misfit is the probability of the set before it came in (ordinal prediction sets: Lu, Angelopoulos and
Pomerantz, MICCAI 2022). Without, it is the distance of the grade from the severity. Any misfit is valid that is fixed
before calibration; one whose sets grow as intervals gives intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.bootstrap import LEVEL, Estimate, bootstrap, check_level, share_interval
from m2cnn.errors import DataError, SettingError
from m2cnn.grades import NUM_GRADES
from m2cnn.intervals import clopper_pearson
from m2cnn.metrics import Floats, check_finite, check_lengths
from m2cnn.predictions import NO_GRADE, Predictions

Covers = Literal["patient", "photograph"]


@dataclass(frozen=True)
class GradeSets:
    """level: the promise, and covers what.  threshold: the largest misfit of a grade in a set; infinite where the
    calibration patients are too few for the level, and then every set is all grades.

    by: "probabilities" or "severity".  patients: of calibration.
    """

    level: float
    covers: Covers
    threshold: float
    by: str
    patients: int

    def of(self, predictions: Predictions) -> NDArray[np.bool_]:
        """(N, 5): which grades each photograph may have; one that the system refused may have any."""
        sets = np.ones((len(predictions), NUM_GRADES), bool)
        graded = predictions.gradable
        misfits = misfit(predictions.select(graded), self.by)
        likeliest = misfits == misfits.min(axis=1, keepdims=True)  # no set is empty
        sets[graded] = (misfits <= self.threshold) | likeliest
        return sets


@dataclass(frozen=True)
class Measured:
    """covered: share of patients whose sets all held the truth, with the interval of Clopper and Pearson; for
    "photograph", the mean over patients of the share of their sets that did, bootstrapped.  size: mean number of grades
    in a set.  patients: that it is of.
    """

    covered: Estimate
    size: float
    patients: int


def fit_grade_sets(predictions: Predictions, level: float = 0.9, covers: Covers = "patient") -> GradeSets:
    """Calibrated on the photographs that have a true grade and were graded.

    Raises DataError without one, SettingError for a level outside 0..1 or another promise.
    """
    check_level(level)
    if covers not in ("patient", "photograph"):
        raise SettingError("covers", f'"{covers}"', "patient or photograph")
    p = _known(predictions)
    by = "severity" if np.isnan(p.probabilities).any() else "probabilities"
    own = misfit(p, by)[np.arange(len(p)), p.grade]
    threshold = conformal_threshold(own, p.patient, level, covers)
    return GradeSets(level, covers, threshold, by, len(np.unique(p.patient)))


def measure_grade_sets(sets: GradeSets, predictions: Predictions) -> Measured:
    """What the sets hold of other patients, whose true grades are known."""
    p = _known(predictions)
    given = sets.of(p)
    held = given[np.arange(len(p)), p.grade]
    names, who = np.unique(p.patient, return_inverse=True)
    each = np.bincount(who, held) / np.bincount(who)
    if sets.covers == "photograph":
        value, drawn = float(each.mean()), bootstrap(lambda counts: counts @ each[:, None] / len(names), len(names))
        covered = Estimate(value, *share_interval(value, drawn[:, 0], len(names)))
    else:
        low, high = clopper_pearson(int((each == 1).sum()), len(names), LEVEL)
        covered = Estimate(float((each == 1).mean()), float(low), float(high))
    return Measured(covered, float(given.sum(1).mean()), len(names))


def conformal_threshold(misfit: ArrayLike, patient: ArrayLike, level: float, covers: Covers = "patient") -> float:
    """The largest misfit that a set allows, from (N,) misfits of true grades and (N,) ids of calibration patients.

    Nine patients of one photograph each promise 90 % with the largest misfit, eight with none:

    >>> conformal_threshold(range(9), range(9), 0.9), conformal_threshold(range(8), range(8), 0.9)
    (8.0, inf)
    """
    value = check_finite(misfit, "misfit")
    names, who = np.unique(np.asarray(patient), return_inverse=True)
    check_lengths(value, who, "misfit and patient")
    if covers == "patient":
        worst = np.full(len(names), -np.inf)
        np.maximum.at(worst, who, value)
        place = _ceil((len(names) + 1) * level)
        return float(np.sort(worst)[place - 1]) if place <= len(names) else math.inf
    order = np.argsort(value, kind="stable")
    reached = np.cumsum(1 / np.bincount(who)[who][order])
    enough = np.flatnonzero(reached >= (len(names) + 1) * level - 1e-9)
    return float(value[order][enough[0]]) if len(enough) else math.inf


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)  # 10 * 0.9 is not a hair above 9


def misfit(predictions: Predictions, by: str = "probabilities") -> Floats:
    """(N, 5): how far down the system has each grade of photographs that it graded; see above."""
    if by == "severity":
        return np.abs(predictions.severity.astype(np.float64)[:, None] - np.arange(NUM_GRADES))
    if np.isnan(predictions.probabilities).any():
        raise DataError("grade sets", "photographs without probabilities", "p0..p4, as in calibration")
    return mass_before(predictions.probabilities.astype(np.float64))


def mass_before(probabilities: Floats) -> Floats:
    """(N, 5) -> (N, 5): the probability of the set that grows from the likeliest grade, before each grade comes in.

    >>> mass_before(np.array([[0.1, 0.5, 0.25, 0.15, 0.0]])).round(2).tolist()
    [[0.9, 0.0, 0.5, 0.75, 1.0]]
    """
    n, grades = probabilities.shape
    rows, padded = np.arange(n), np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)
    low = high = probabilities.argmax(axis=1)  # the set's ends
    mass, before = probabilities[rows, low], np.zeros((n, grades))
    for _ in range(grades - 1):
        down = padded[rows, low] >= padded[rows, high + 2]  # its neighbours, one place on in `padded`
        new = np.where(down, low - 1, high + 1)
        before[rows, new] = mass
        mass = mass + probabilities[rows, new]
        low, high = np.minimum(low, new), np.maximum(high, new)
    return before


def _known(predictions: Predictions) -> Predictions:
    known = predictions.select(predictions.gradable & (predictions.grade != NO_GRADE))
    if not len(known):
        raise DataError("grade sets", "no graded photograph with a true grade", "at least one", "Look at the split.")
    return known
