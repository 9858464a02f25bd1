"""The bootstrap against a plain loop that copies photographs, and against what statistics says of it."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from m2cnn import bootstrap as b
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import auc_of_ranking, rank


@pytest.fixture(scope="module")
def eyes():
    """Truth, prediction, severity and patient number of 24 patients with one to three photographs."""
    rng = np.random.default_rng(7)
    patient = np.repeat(np.arange(24), rng.integers(1, 4, 24))
    truth = rng.integers(0, 5, len(patient))
    severity = np.round(np.clip(truth + rng.normal(0, 1, len(patient)), 0, 4), 1)
    return truth, np.rint(severity).astype(np.int64), severity, patient


def draws(patients, replicates, seed):
    """The same resamples as lists of patients, one replicate at a time."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, patients, patients, dtype=np.uint32) for _ in range(replicates)]


def photographs(draw, patient):
    return np.concatenate([np.flatnonzero(patient == who) for who in draw])


def test_kappa_replicates_are_those_of_a_plain_loop(eyes):
    truth, predicted, _, patient = eyes
    loop = []
    for draw in draws(24, 40, seed=3):
        rows = photographs(draw, patient)
        loop.append(cohen_kappa_score(truth[rows], predicted[rows], weights="quadratic", labels=range(5)))
    names = np.array([f"patient {n:02}" for n in patient])
    np.testing.assert_allclose(b.kappa_replicates(truth, predicted, names, 40, seed=3), loop)


def test_auc_replicates_are_those_of_a_plain_loop(eyes):
    truth, _, severity, patient = eyes
    order = rank(truth >= 2, severity).of_patients(patient)
    ours = b.bootstrap(lambda counts: auc_of_ranking(order, counts)[:, None], 24, 40, seed=5)[:, 0]
    rows = [photographs(draw, patient) for draw in draws(24, 40, seed=5)]
    np.testing.assert_allclose(ours, [roc_auc_score(truth[r] >= 2, severity[r]) for r in rows])


def test_sums_by_patient(eyes):
    truth, predicted, severity, patient = eyes
    sums = b.sum_by_patient(np.stack([truth, severity], 1).astype(float), patient, 24)
    cells = b.as_confusion(b.confusion_by_patient(truth, predicted, patient, 24))
    for who in range(24):
        mine = patient == who
        np.testing.assert_allclose(sums[who], [truth[mine].sum(), severity[mine].sum()])
        assert cells[who].sum() == mine.sum()
        for t, p in zip(truth[mine], predicted[mine], strict=True):
            assert cells[who, t, p] >= 1


def test_draws_are_patients_with_replacement_and_the_same_in_any_chunks(monkeypatch):
    whole = np.concatenate(list(b.draw_counts(10, 300, seed=1)))
    assert whole.shape == (300, 10)
    assert (whole.sum(1) == 10).all()
    # Multinomial: mean 1, variance 1 - 1/P.
    assert whole.var() == pytest.approx(0.9, abs=0.05)
    monkeypatch.setattr(b, "CHUNK_CELLS", 35)
    chunks = list(b.draw_counts(10, 300, seed=1))
    assert {len(chunk) for chunk in chunks} == {3}
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    assert (np.concatenate(list(b.draw_counts(10, 300, seed=2))) != whole).any()


def test_doubling_every_photograph_of_a_patient_adds_no_certainty(eyes):
    truth, predicted, _, patient = eyes
    once = b.interval(b.kappa_replicates(truth, predicted, patient, 300))
    twice = b.interval(b.kappa_replicates(*(np.tile(column, 2) for column in (truth, predicted, patient)), 300))
    np.testing.assert_allclose(once, twice)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # 200 studies of 60 patients; the share of right grades is 0.7 for each patient on average.
    rng = np.random.default_rng(11)
    covered = 0
    for study in range(200):
        right = rng.binomial(2, rng.beta(7, 3, 60))
        replicates = b.bootstrap(lambda counts, right=right: (counts @ right / 120)[:, None], 60, 300, seed=study)
        low, high = b.interval(replicates[:, 0])
        covered += low <= 0.7 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_percentiles_by_hand():
    assert b.interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
    assert b.interval([2.0]) == (2.0, 2.0)


def test_the_score_interval_of_independent_patients_is_wilsons():
    rng = np.random.default_rng(3)
    for share, patients in ((0.5, 30), (0.9, 50), (0.98, 200)):
        drawn = rng.binomial(patients, share, 400_000) / patients
        ours, wilson = b.score_interval(share, drawn), proportion_confint(share * patients, patients, method="wilson")
        assert ours == pytest.approx(wilson, abs=5e-4)
    few = b.score_interval(0.9, drawn, freedom=4)
    wide = b.score_interval(0.9, drawn)
    assert few[0] < wide[0] and few[1] > wide[1]
    assert b.score_interval(0.9, drawn, level=0.99)[0] < wide[0]


def test_replicates_that_tell_nothing_give_no_score_interval():
    for value, replicates in ((0.5, [0.5] * 9), (1.0, [1.0, 0.9]), (0.5, []), (0.5, [0.4, 0.6, *[np.nan] * 5])):
        assert np.isnan(b.score_interval(value, replicates)).all()
    assert np.isnan(b.score_interval(0.5, [0.4, 0.6], freedom=0)).all()  # one pair of patients


def test_where_nearly_nobody_is_wrong_the_score_interval_holds_and_percentiles_do_not():
    """400 studies of 150 patients with two alike eyes, of which 2.4 % are called wrongly."""
    rng, held = np.random.default_rng(5), np.zeros(2)
    true = 1 - 0.03 * 0.8
    for study in range(400):
        wrong = rng.binomial(2, 0.8 * (rng.random(150) < 0.03)) / 2
        drawn = b.bootstrap(lambda counts, wrong=wrong: (1 - counts @ wrong / 150)[:, None], 150, 200, study)[:, 0]
        value = float(1 - wrong.mean())
        bounds = [b.interval(drawn), b.share_interval(value, drawn, 150)]
        held += [low <= true <= high for low, high in bounds]
    percentiles, score = held / 400
    assert percentiles < 0.92 < 0.93 <= score <= 0.98


def test_an_area_of_one_is_no_certainty():
    """Who ranks a pair rightly with a chance of 0.9 has an area of 0.9; of 8 ill and 8 well all are right too often."""
    low, high = b.share_interval(1.0, [1.0] * 50, 8, freedom=7)
    assert (low, high) == (pytest.approx(0.025 ** (1 / 8)), 1.0)
    assert b.share_interval(0.0, [0.0] * 50, 8, freedom=7) == pytest.approx((0.0, 1 - 0.025 ** (1 / 8)))
    # With the area at that bound, all pairs are ranked rightly in no more than 2.5 % of studies.
    rng, apart = np.random.default_rng(0), 2**0.5 * special.ndtri(low)
    ill, well = rng.normal(apart, 1, (20_000, 8)), rng.normal(0, 1, (20_000, 8))
    assert 0 < (ill.min(1) > well.max(1)).mean() <= 0.025


def test_undefined_replicates_are_left_out_up_to_a_tenth():
    values = np.arange(101.0)
    assert b.interval([*values, *[np.nan] * 11]) == b.interval(values)
    assert np.isnan(b.interval([*values, *[np.nan] * 12])).all()
    assert np.isnan(b.two_sided_p([*values, *[np.nan] * 12]))
    assert np.isnan(b.interval([])).all()


def test_a_single_patient_has_no_interval():
    assert np.isnan(b.kappa_replicates([0, 1], [0, 1], ["a", "a"], 10)).all()


def test_paired_difference_by_hand():
    first, second = np.zeros(99), np.linspace(-0.02, 0.96, 99)
    found = b.paired_difference((0.5, 0.9), (first, second), level=0.9)
    assert found.value == pytest.approx(0.4)
    np.testing.assert_allclose((found.low, found.high), np.quantile(second, (0.05, 0.95)))
    assert found.p == 2 * (1 + 3) / 100  # -0.02, -0.01 and 0.00
    assert b.two_sided_p(-second) == found.p


def test_pairing_sees_what_separate_intervals_cannot(eyes):
    truth, predicted, _, patient = eyes
    better = np.where(np.arange(len(truth)) % 4 == 0, truth, predicted)
    first, second = (b.kappa_replicates(truth, p, patient, 500) for p in (predicted, better))
    paired = b.paired_difference((0.0, 0.0), (first, second))
    assert paired.low > 0
    assert paired.p < 0.05
    low, high = b.interval(second - b.kappa_replicates(truth, predicted, patient, 500, seed=1))
    assert paired.high - paired.low < high - low


def test_no_difference_has_p_one():
    same = np.random.default_rng(0).random(50)
    found = b.paired_difference((0.5, 0.5), (same, same))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: b.kappa_replicates([], [], [], 5), DataError, "bootstrap: 0 patients; expected at least one"),
        (lambda: b.kappa_replicates([1], [1], ["a"], 0), SettingError, "replicates: 0; expected at least 1"),
        (lambda: b.kappa_replicates([1], [1, 2], ["a"], 5), DataError, "truth and predicted: lengths 1 and 2"),
        (lambda: b.kappa_replicates([1], [1], ["a", "b"], 5), DataError, "truth and patient: lengths 1 and 2"),
        (lambda: b.interval([1.0], level=95), SettingError, "level: 95; expected between 0 and 1"),
        (
            lambda: b.paired_difference((0, 0), (np.ones(2), np.ones(3))),
            DataError,
            "replicates of two systems: lengths 2",
        ),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
