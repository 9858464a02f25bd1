"""Cuts against trying every cut there is."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from m2cnn.cuts import fit_cuts
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import quadratic_weighted_kappa

ROUNDING = np.array([0.5, 1.5, 2.5, 3.5])


def kappa_with(cuts, severity, grade):
    return quadratic_weighted_kappa(grade, np.searchsorted(cuts, severity, "right"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=3, max_size=9))
def test_no_other_cuts_agree_better(photographs):
    grade = np.array([g for g, _ in photographs])
    severity = np.clip(grade + np.array([e for _, e in photographs]) * 0.4, 0, 4)
    assume(len(set(grade)) > 1)
    cuts = fit_cuts(severity, grade)
    ladder = np.unique(severity)
    candidates = [-1, *(ladder[1:] + ladder[:-1]) / 2, 5]
    best = max(kappa_with(c, severity, grade) for c in combinations_with_replacement(candidates, 4))
    assert kappa_with(cuts, severity, grade) == pytest.approx(best, abs=1e-9)
    assert (np.diff(cuts) > 0).all()


def test_cuts_find_a_shifted_scale():
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, 3000)
    severity = np.clip(0.6 * grade + 0.3 + rng.normal(0, 0.1, grade.size), 0, 4)
    cuts = fit_cuts(severity, grade)
    np.testing.assert_allclose(cuts, 0.6 * ROUNDING + 0.3, atol=0.1)
    assert kappa_with(cuts, severity, grade) > kappa_with(ROUNDING, severity, grade) + 0.1
    np.testing.assert_array_equal(cuts, fit_cuts(severity, grade))


def test_severity_that_runs_backwards_ends_at_kappa_zero():
    severity, grade = [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]
    assert kappa_with(ROUNDING, severity, grade) == -1
    assert kappa_with(fit_cuts(severity, grade), severity, grade) == 0


def test_start_values_stay_where_they_are_as_good_as_any():
    assert fit_cuts([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]).tolist() == ROUNDING.tolist()
    assert fit_cuts([0, 4], [0, 4], start=(0.1, 0.2, 0.3, 0.4)).tolist() == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("grade", [[2, 2], []])
def test_cuts_need_two_grades(grade):
    with pytest.raises(DataError, match=f"fit_cuts: {len(set(grade))} different grades; expected at least 2"):
        fit_cuts([1.0] * len(grade), grade)


@pytest.mark.parametrize("start", [(1, 2, 3), (0.5, 1.5, 1.5, 3.5), (0.5, 1.5, 2.5, float("nan"))])
def test_start_must_rise(start):
    with pytest.raises(SettingError, match=r"start: .*expected four increasing numbers"):
        fit_cuts([0.0, 1.0], [0, 1], start)
