"""Closed intervals against statsmodels, SciPy, SAS's published example and simulated studies."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from m2cnn import intervals
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import auc

METHODS = {"wilson": intervals.wilson, "beta": intervals.clopper_pearson}


# --- proportions ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_proportions_are_those_of_statsmodels_and_scipy(method, level):
    totals = [1, 2, 7, 100, 5000]
    pairs = np.array([(k, n) for n in totals for k in sorted({0, 1, n // 3, n - 1, n})])
    ours = METHODS[method](pairs[:, 0], pairs[:, 1], level)
    theirs = proportion_confint(pairs[:, 0], pairs[:, 1], 1 - level, method)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    name = {"wilson": "wilson", "beta": "exact"}[method]
    scipys = [stats.binomtest(k, n).proportion_ci(level, name) for k, n in pairs.tolist()]
    np.testing.assert_allclose(np.transpose(ours), scipys, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_coverage_of_proportions_in_2000_studies(method):
    """Of 300 patients, one eye each. The mean over proportions, as Wilson's covers more or less by where it is."""
    rng = np.random.default_rng(0)
    chances = np.linspace(0.5, 0.97, 12)
    count = rng.binomial(300, chances[:, None], (12, 2000))
    low, high = METHODS[method](count, 300)
    held = ((low <= chances[:, None]) & (chances[:, None] <= high)).mean(1)
    if method == "beta":
        assert held.min() > 0.945  # at least 95 %, within two standard errors of 2,000 studies
        assert 0.95 < held.mean() < 0.97
    else:
        assert held.min() > 0.93 and held.max() < 0.97
        assert held.mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_counted_has_no_interval(method):
    assert np.isnan(METHODS[method](0, 0)).all()
    low, high = METHODS[method]([0, 5], [0, 5])
    assert np.isnan([low[0], high[0]]).all()
    assert high[1] == 1


def test_several_comparisons_are_those_of_statsmodels():
    p = np.random.default_rng(2).random(40) ** 3
    np.testing.assert_allclose(intervals.holm(p), multipletests(p, method="holm")[1])
    gap = np.insert(p, 3, np.nan)
    np.testing.assert_allclose(np.delete(intervals.holm(gap), 3), intervals.holm(p))
    assert np.isnan(intervals.holm(gap)[3]) and len(intervals.holm([])) == 0


# --- AUC ---

# DeLong et al.'s own data, the 43 patients with all three tests: albumin, total protein, Krebs-Goplerud score (10 minus
# it), and whether surgery helped. SAS/STAT User's Guide, "Comparing Receiver Operating Characteristic Curves".
OVARY = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1
3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1
3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1
3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


@pytest.fixture(scope="module")
def ovary():
    albumin, protein, score, helped = np.array(OVARY.split(), float).reshape(-1, 4).T
    return helped, {"albumin": albumin, "score": 10 - score, "protein": protein}


def test_delong_is_that_of_sas_on_delongs_own_data(ovary):
    helped, tests = ovary
    areas, covariance = intervals.delong_covariance(helped, list(tests.values()))
    np.testing.assert_allclose(areas, [0.7366, 0.7258, 0.6478], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.0927, 0.1028, 0.1000], atol=5e-5)
    for name, expected in {
        "albumin": (0.0108, -0.1761, 0.1976, 0.9102),
        "protein": (-0.0780, -0.2830, 0.1271, 0.4561),
    }.items():
        d = intervals.delong_difference(helped, tests["score"], tests[name])
        np.testing.assert_allclose((d.value, d.low, d.high, d.p), expected, atol=5e-5)


def test_components_by_counting_pairs(ovary):
    helped, tests = ovary
    scores = list(tests.values())
    sums = np.zeros((3, 3))
    wins = [np.sign(s[helped == 1][:, None] - s[helped == 0]) / 2 + 0.5 for s in scores]
    for axis in (1, 0):
        means = np.array([w.mean(axis) for w in wins])
        sums += np.cov(means) / means.shape[1]
    areas, covariance = intervals.delong_covariance(helped, scores)
    np.testing.assert_allclose(covariance, sums)
    np.testing.assert_allclose(areas, [auc(helped, s) for s in scores])


def test_the_interval_is_symmetric_on_the_logit_scale(ovary):
    helped, tests = ovary
    e = intervals.delong(helped, tests["albumin"], level=0.9)
    logit = np.log(np.array([e.low, e.value, e.high]) / (1 - np.array([e.low, e.value, e.high])))
    error = 0.09269435 / (e.value * (1 - e.value))
    rarer = (helped == 0).sum()
    np.testing.assert_allclose(np.diff(logit), [stats.t.ppf(0.95, rarer - 1) * error] * 2, rtol=1e-6)


def studies(number, size, quality, seed):
    """Independent entries, a quarter of them positive, and two scores of each."""
    rng = np.random.default_rng(seed)
    positive = rng.random((number, size)) < 0.25
    shared = rng.standard_normal((number, size))
    scores = [quality * positive + 0.6 * shared + 0.8 * rng.standard_normal((number, size)) for _ in range(2)]
    return zip(positive, *scores, strict=True)


@pytest.mark.parametrize("quality", [0.7, 1.8, 2.8])
def test_coverage_of_delong_in_2000_studies(quality):
    true = stats.norm.cdf(quality / np.sqrt(2))
    held = plain = apart = rejected = 0
    for positive, first, second in studies(2000, 300, quality, seed=5):
        e = intervals.delong(positive, first)
        held += e.low <= true <= e.high
        plain += abs(e.value - true) <= 1.959964 * np.sqrt(intervals.delong_covariance(positive, [first])[1][0, 0])
        d = intervals.delong_difference(positive, first, second)
        apart += d.low <= 0 <= d.high
        rejected += d.p < 0.05
    assert 0.93 <= held / 2000 <= 0.97
    assert plain < held  # why the interval is not the plain one
    assert 0.93 <= apart / 2000 <= 0.97
    assert rejected == 2000 - apart


def test_areas_without_variance_have_no_interval():
    assert intervals.delong([0, 0, 1, 1], [1, 2, 3, 4]).value == 1
    perfect = intervals.delong_difference([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 5])
    same = intervals.delong_difference([0, 1, 0, 1] * 20, np.arange(80), 2 * np.arange(80))
    for e in (intervals.delong([0, 0, 1, 1], [1, 2, 3, 4]), perfect, same):
        assert np.isnan([e.low, e.high]).all()
    assert np.isnan([perfect.p, same.p]).all() and perfect.value == same.value == 0
    one = intervals.delong([0, 0, 0, 1], [1, 2, 4, 3])
    assert one.value == pytest.approx(2 / 3) and np.isnan([one.low, one.high]).all()
    assert np.isnan(intervals.delong([1, 1], [1, 2]).value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: intervals.wilson(3, 2), DataError, "proportion: counts that cannot be; expected whole numbers"),
        (lambda: intervals.wilson(-1, 2), DataError, "counts that cannot be"),
        (lambda: intervals.clopper_pearson(0.5, 2), DataError, "counts that cannot be"),
        (lambda: intervals.clopper_pearson(np.nan, 2), DataError, "counts that cannot be"),
        (lambda: intervals.wilson(1, 2, 95), SettingError, "level: 95; expected between 0 and 1"),
        (lambda: intervals.clopper_pearson(1, 2, 0), SettingError, "level: 0"),
        (lambda: intervals.delong([0, 2], [1, 2]), DataError, "positive, entry 1: grade is 2"),
        (lambda: intervals.delong([0, 1], [1, np.nan]), DataError, "score, entry 1: value is nan"),
        (lambda: intervals.delong_difference([0, 1], [1, 2], [1]), DataError, "positive and score: lengths 2 and 1"),
    ],
)
def test_what_cannot_be_known_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
