"""One against the rest: what a yes-or-no answer is worth, for a grade or for an end-point.

A confusion matrix, rows truth and columns prediction, is cut in four: found, missed, false alarms, spared. As in
`metrics`, all is vectorised over leading dimensions, and what the photographs cannot show is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m2cnn.errors import DataError, SettingError
from m2cnn.grades import ENDPOINTS
from m2cnn.metrics import Floats, check_confusion, ratio


@dataclass(frozen=True)
class Rates:
    """Shares of photographs, each (...). ppv, npv: positive and negative predictive value, at the prevalence of the
    photographs themselves; see `predictive_values` for another.  f1: 2 found / (2 found + missed + false alarms).
    """

    sensitivity: Floats
    specificity: Floats
    ppv: Floats
    npv: Floats
    f1: Floats


def rates(found: ArrayLike, missed: ArrayLike, false_alarms: ArrayLike, spared: ArrayLike) -> Rates:
    """Counts or weights (...) of the four kinds of photographs -> Rates.

    >>> r = rates(found=8, missed=2, false_alarms=4, spared=86)
    >>> [round(float(v), 3) for v in (r.sensitivity, r.specificity, r.ppv, r.npv, r.f1)]
    [0.8, 0.956, 0.667, 0.977, 0.727]
    """
    hit, miss, alarm, rest = (np.asarray(count, np.float64) for count in (found, missed, false_alarms, spared))
    return Rates(
        sensitivity=ratio(hit, hit + miss),
        specificity=ratio(rest, rest + alarm),
        ppv=ratio(hit, hit + alarm),
        npv=ratio(rest, rest + miss),
        f1=ratio(2 * hit, 2 * hit + miss + alarm),
    )


def rates_of_endpoint(confusion: ArrayLike, lowest: int = ENDPOINTS["referable"]) -> Rates:
    """Grades `lowest` and above against those below: (..., N, N) -> Rates of (...).

    >>> float(rates_of_endpoint([[2, 0, 0], [0, 0, 1], [0, 0, 1]], lowest=2).ppv)
    0.5
    """
    counts = check_confusion(confusion)
    if not 1 <= lowest < counts.shape[-1]:
        raise SettingError("end-point", f"lowest grade {lowest}", f"1..{counts.shape[-1] - 1}", "Referable: 2.")
    ill, well = counts[..., lowest:, :], counts[..., :lowest, :]
    cut = [half.sum((-2, -1)) for kind in (ill, well) for half in (kind[..., lowest:], kind[..., :lowest])]
    return rates(*cut)


def rates_per_grade(confusion: ArrayLike) -> Rates:
    """Each grade against all others: (..., N, N) -> Rates of (..., N).

    >>> rates_per_grade([[2, 0, 0], [0, 0, 1], [0, 0, 1]]).specificity.round(3).tolist()
    [1.0, 1.0, 0.667]
    """
    counts = check_confusion(confusion)
    found = np.diagonal(counts, axis1=-2, axis2=-1)
    missed, false_alarms = counts.sum(-1) - found, counts.sum(-2) - found
    return rates(found, missed, false_alarms, counts.sum((-2, -1))[..., None] - found - missed - false_alarms)


def macro_f1(confusion: ArrayLike) -> Floats | np.float64:
    """Mean F1 of the grades that occur, in truth or in prediction: (..., N, N) -> (...); NaN without photographs.

    F1 of grades 0, 1 and 2 is 1, 0 and 2 / 3:

    >>> round(float(macro_f1([[2, 0, 0], [0, 0, 1], [0, 0, 1]])), 6)
    0.555556
    """
    f1 = rates_per_grade(confusion).f1
    occurs = ~np.isnan(f1)
    return ratio(np.where(occurs, f1, 0).sum(-1), occurs.sum(-1))[()]


def predictive_values(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float
) -> tuple[Floats | np.float64, Floats | np.float64]:
    """Positive and negative predictive value where a share `prevalence` of the photographs is ill; Bayes' rule.

    What a test set enriched with disease would be worth where it is rarer. It takes for granted that sensitivity and
    specificity are the same there, which a milder mix of grades makes untrue. NaN where one is, or nobody is called.

    >>> [round(float(v), 4) for v in predictive_values(0.9, 0.8, prevalence=0.1)]
    [0.3333, 0.9863]
    """
    check_prevalence(prevalence)
    found, spared = (
        _share(values, name) for values, name in ((sensitivity, "sensitivity"), (specificity, "specificity"))
    )
    hit, rest = prevalence * found, (1 - prevalence) * spared
    return ratio(hit, hit + 1 - prevalence - rest)[()], ratio(rest, rest + prevalence - hit)[()]


def check_prevalence(prevalence: float) -> None:
    """SettingError unless it is between 0 and 1."""
    if not 0 < prevalence < 1:
        raise SettingError("prevalence", f"{prevalence:g}", "between 0 and 1", "Divide percentages by 100.")


def _share(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if ((array < 0) | (array > 1)).any():
        raise DataError(name, f"{np.nanmin(array):g}..{np.nanmax(array):g}", "0..1", "Divide percentages by 100.")
    return array
