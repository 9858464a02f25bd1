"""Whether stated chances come true: calibration error, Brier score and the reliability curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2cnn.bootstrap import LEVEL, Difference, Estimate, bootstrap, interval, share_interval, two_sided_p
from m2cnn.errors import DataError
from m2cnn.metrics import Floats, Ints, check_finite, check_grades, check_lengths, ratio

BINS = 15


def expected_calibration_error(chance: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """How far stated chances are from what happened: |mean chance - share that was right| in bins of equal width.

    The mean over the bins, weighted by their photographs; NaN without photographs. Small samples raise it: of a perfect
    system too it is above 0. Source: Naeini et al., AAAI 2015; Guo et al., ICML 2017 (15 bins).

    chance: (N,) probabilities.  right: (N,) true or false. In two bins, |0.2 - 0| and |0.9 - 0.5| weigh the same:

    >>> round(expected_calibration_error([0.1, 0.3, 0.8, 1.0], [0, 0, 1, 0], bins=2), 6)
    0.3
    """
    c, r = _checked(chance, right)
    return float(ece_of_bins(in_bins(c, r, bins).sum(0)))


def brier_score(chance: ArrayLike, right: ArrayLike) -> float:
    """Mean squared difference of a chance and what happened (0 or 1); NaN without photographs.

    >>> round(brier_score([0.1, 0.8], [0, 1]), 6)
    0.025
    """
    c, r = _checked(chance, right)
    return float(np.mean((c - r) ** 2)) if len(c) else float("nan")


def _checked(chance: ArrayLike, right: ArrayLike) -> tuple[Floats, Ints]:
    c, r = check_finite(chance, "chance"), check_grades(right, "right", classes=2)
    check_lengths(c, r, "chance and right")
    if ((c < 0) | (c > 1)).any():
        raise DataError("chance", f"{c.min():g}..{c.max():g}", "probabilities in 0..1", "Divide percentages by 100.")
    return c, r


def bin_of(chance: Floats, bins: int = BINS) -> Ints:
    """(N,) probabilities -> (N,) numbers of bins of equal width; 1 is in the last."""
    return np.minimum((chance * bins).astype(np.int64), bins - 1)


def in_bins(chance: Floats, right: NDArray, bins: int = BINS) -> Floats:
    """(N,) chances and what happened -> (N, B, 3): 1, the chance and what happened, in its own bin."""
    cells = np.zeros((len(chance), bins, 3))
    cells[np.arange(len(chance)), bin_of(chance, bins)] = np.stack([np.ones(len(chance)), chance, right], axis=1)
    return cells


def bins_by_patient(
    chance: Floats, right: NDArray, patient: NDArray[np.intp], patients: int, bins: int = BINS
) -> Floats:
    """(N,) chances, what happened and patient numbers 0..P-1 -> (P, B, 3): sums of `in_bins`, without its zeros."""
    cell, sums = patient * bins + bin_of(chance, bins), np.empty((patients, bins, 3))
    for number, values in enumerate((None, chance, right)):
        sums[..., number] = np.bincount(cell, values, minlength=patients * bins).reshape(patients, bins)
    return sums


def ece_of_bins(sums: Floats) -> Floats | np.float64:
    """Sums of 1, chance and right in each bin, (..., B, 3) -> (...); NaN where there is nothing."""
    return np.abs(gaps_of_bins(sums)).sum(-1)[()]


def gaps_of_bins(sums: Floats) -> Floats:
    """(..., B, 3) -> (..., B): by how much each bin says too much, as its part of the whole error."""
    return ratio(sums[..., 1] - sums[..., 2], sums[..., 0].sum(-1)[..., None])


def ece_bounds(gaps: Floats, replicates: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a calibration error from (B,) gaps and their (R, B) bootstrap replicates; covers `level` or more.

    The error is a sum of |gap|, which noise raises, most where the true gaps are 0: there an ordinary bootstrap, also
    a mirrored one, finds errors of systems without any. But sum |gap| is above the truth by sum |noise| at most, and
    below it by the noise along the gaps' signs at most (both by the triangle inequality). So the interval is wide for
    a system with errors, and holds 0 as often as it says for one without.
    """
    noise, value = replicates - gaps, np.abs(gaps).sum()
    low = value - interval(np.abs(noise).sum(-1), level)[1]
    high = value - interval((np.sign(gaps) * noise).sum(-1), level)[0]
    return float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))


def ece_difference(gaps: Floats, replicates: Floats, level: float = LEVEL) -> Difference:
    """The second system's calibration error minus the first's, of (2, B) gaps and their (2, R, B) replicates on the
    same resamples; covers `level` or more.

    Chance raises the two errors by different amounts, the more the truer a system's chances are: percentiles of the
    difference miss it. In each bin, what noise may have added to one error and taken from the other is bounded as in
    `ece_bounds`, and also by the noise of the difference of the gaps; the nearer bound counts, so that a system does
    not differ from itself.
    """
    (first, second), (noise, other) = np.abs(gaps), replicates - gaps[:, None]
    signs, apart = np.sign(gaps), np.abs(gaps[1] - gaps[0]) + np.abs(other - noise)
    change = second - first
    low = np.maximum(change - np.abs(other) + signs[0] * noise, -apart).sum(-1)
    high = np.minimum(change + np.abs(noise) - signs[1] * other, apart).sum(-1)
    low, high = np.clip(low, -1, 1), np.clip(high, -1, 1)
    return Difference(float(change.sum()), interval(low, level)[0], interval(high, level)[1], two_sided_p(low, high))


# --- the curve ---


@dataclass(frozen=True)
class Bin:
    """A point of the reliability curve: photographs whose chance was in low..high (in the last bin, 1 too).

    chance: their mean.  happened: the share that came true, with its interval over patients.
    """

    low: float
    high: float
    photographs: int
    chance: float
    happened: Estimate


def reliability_curve(
    chance: ArrayLike,
    right: ArrayLike,
    patient: ArrayLike,
    bins: int = 10,
    replicates: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Bin, ...]:
    """The bins that are not empty, of (N,) chances, what happened and ids of patients.

    A system whose chances come true has every point on the diagonal. Bounds are NaN where more than a tenth of the
    resamples leave a bin empty, unless all of its photographs came true or none did: those bounds are exact.
    """
    c, r = _checked(chance, right)
    names, who = np.unique(np.asarray(patient), return_inverse=True)
    check_lengths(c, who, "chance and patient")
    sums = bins_by_patient(c, r, who, len(names), bins).reshape(len(names), 3 * bins)
    drawn = bootstrap(lambda counts: _happened(counts @ sums, bins), len(names), replicates, seed)
    edges, total = np.linspace(0, 1, bins + 1), sums.sum(0).reshape(bins, 3)
    patients = (sums[:, ::3] > 0).sum(0)
    return tuple(
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            int(total[b, 0]),
            float(total[b, 1] / total[b, 0]),
            _estimate(total[b], drawn[:, b], int(patients[b]), level),
        )
        for b in np.flatnonzero(total[:, 0])
    )


def _happened(sums: Floats, bins: int) -> Floats:
    """(R, 3 B) sums -> (R, B) shares that came true."""
    each = sums.reshape(len(sums), bins, 3)
    return ratio(each[..., 2], each[..., 0])


def _estimate(total: Floats, drawn: Floats, patients: int, level: float) -> Estimate:
    value = float(total[2] / total[0])
    return Estimate(value, *share_interval(value, drawn, patients, level=level))
