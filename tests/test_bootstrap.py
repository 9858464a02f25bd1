"""The bootstrap against a plain loop that copies photographs, and against what statistics says of it."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

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
