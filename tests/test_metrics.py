"""Clinical statistics against second authors (sklearn, torchmetrics) and against numbers worked by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_cohen_kappa

from m2cnn import metrics
from m2cnn.errors import DataError, SettingError

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60)
repeatable = settings(derandomize=True, deadline=None, max_examples=50)
WEIGHTINGS = ["quadratic", "linear", "none"]


def split(pairs):
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


# --- kappa ---


@pytest.mark.parametrize("weights", WEIGHTINGS)
@repeatable
@given(pairs=pairs.filter(lambda p: len({v for pair in p for v in pair}) > 1))
def test_kappa_is_sklearns(weights, pairs):
    truth, predicted = split(pairs)
    theirs = sklearn_metrics.cohen_kappa_score(
        truth, predicted, weights=None if weights == "none" else weights, labels=range(5)
    )
    assert metrics.kappa_of_confusion(metrics.confusion(truth, predicted), weights) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("weights", WEIGHTINGS)
def test_kappa_is_torchmetrics(weights):
    rng = np.random.default_rng(4)
    for size in (5, 50, 500):
        truth, predicted = rng.integers(0, 5, (2, size))
        theirs = multiclass_cohen_kappa(torch.tensor(predicted), torch.tensor(truth), num_classes=5, weights=weights)
        ours = metrics.kappa_of_confusion(metrics.confusion(truth, predicted), weights)
        assert ours == pytest.approx(float(theirs), abs=1e-5)


def test_kappa_counts_five_grades_when_one_is_absent():
    # Unlike the weights of a 3 x 3 table, those of grades 0, 1 and 4 know that 4 is far from 1.
    truth, predicted = [0, 1, 4, 4], [0, 1, 4, 1]
    assert metrics.quadratic_weighted_kappa(truth, predicted) == 1 - 9 / ((18 + 10 + 68) / 4)


def test_kappa_of_a_stack_is_the_stack_of_kappas():
    stack = np.random.default_rng(0).integers(0, 9, (3, 4, 5, 5))
    each = [[metrics.kappa_of_confusion(table) for table in row] for row in stack]
    assert metrics.kappa_of_confusion(stack).shape == (3, 4)
    np.testing.assert_allclose(metrics.kappa_of_confusion(stack), each)


@pytest.mark.parametrize("grade", range(5))
def test_kappa_of_a_single_grade_is_undefined(grade):
    assert np.isnan(metrics.quadratic_weighted_kappa([grade] * 3, [grade] * 3))


def test_kappa_of_nothing_is_undefined_and_of_two_constants_zero():
    assert np.isnan(metrics.quadratic_weighted_kappa([], []))
    assert metrics.quadratic_weighted_kappa([1, 1], [3, 3]) == 0


@repeatable
@given(pairs=pairs)
def test_kappa_is_symmetric_and_at_most_one(pairs):
    truth, predicted = split(pairs)
    kappa = metrics.quadratic_weighted_kappa(truth, predicted)
    if not np.isnan(kappa):
        assert kappa == pytest.approx(metrics.quadratic_weighted_kappa(predicted, truth))
        assert kappa == pytest.approx(metrics.quadratic_weighted_kappa(4 - truth, 4 - predicted))
        assert -1 - 1e-12 <= kappa <= 1


def test_unknown_weighting_is_refused():
    with pytest.raises(SettingError, match=r'weights: "quadratc".*Did you mean "quadratic"'):
        metrics.kappa_of_confusion(np.eye(5), "quadratc")


# --- statistics of a confusion matrix and of photographs ---


def test_weighted_confusion_is_that_of_repeated_photographs():
    truth, predicted, times = np.array([0, 3, 4]), np.array([1, 3, 0]), np.array([2, 0, 5])
    weighted = metrics.confusion(truth, predicted, weights=times)
    repeated = metrics.confusion(np.repeat(truth, times), np.repeat(predicted, times))
    assert repeated.dtype == np.int64
    np.testing.assert_array_equal(weighted, repeated)


@repeatable
@given(pairs=pairs)
def test_shares_are_sklearns(pairs):
    truth, predicted = split(pairs)
    table = metrics.confusion(truth, predicted)
    np.testing.assert_array_equal(table, sklearn_metrics.confusion_matrix(truth, predicted, labels=range(5)))
    assert metrics.accuracy(truth, predicted) == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    recall = sklearn_metrics.recall_score(truth, predicted, labels=range(5), average=None, zero_division=np.nan)
    np.testing.assert_allclose(metrics.sensitivity_per_grade(table), recall)
    for lowest in (1, 2, 3):
        positive, called = truth >= lowest, predicted >= lowest
        for ours, label in ((metrics.sensitivity, True), (metrics.specificity, False)):
            theirs = sklearn_metrics.recall_score(positive, called, pos_label=label, zero_division=np.nan)
            np.testing.assert_allclose(ours(table, lowest), theirs)


def test_errors_of_severity_by_hand():
    assert metrics.mean_squared_error([0, 2, 4], [0.5, 2, 2]) == pytest.approx((0.25 + 0 + 4) / 3)
    assert metrics.mean_absolute_error([0, 2, 4], [0.5, 2, 2]) == pytest.approx((0.5 + 0 + 2) / 3)
    assert np.isnan(metrics.mean_squared_error([], []))
    assert np.isnan(metrics.accuracy([], []))


# --- AUC and average precision ---


@repeatable
@given(
    scores=arrays(np.int64, st.integers(2, 50), elements=st.integers(0, 6)),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
)
def test_auc_is_sklearns_with_ties_and_weights(scores, seed, weighted):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, len(scores)).astype(bool)
    label[:2] = True, False
    weights = rng.random(len(scores)) + 0.01 if weighted else None
    theirs = sklearn_metrics.roc_auc_score(label, scores, sample_weight=weights)
    assert metrics.auc(label, scores / 7, weights) == pytest.approx(theirs, abs=1e-9)


def test_auc_of_one_kind_is_undefined():
    assert np.isnan(metrics.auc([True, True], [0.1, 0.2]))
    assert np.isnan(metrics.auc([False, True], [0.1, 0.2], weights=[0, 1]))


def test_stacked_weights():
    ranking = metrics.rank([0, 1, 1, 0], [0.3, 0.3, 0.9, 0.5])
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [1, 2, 0, 1]])
    np.testing.assert_allclose(metrics.auc_of_ranking(ranking, weights), [2.5 / 4, 1.0, 0.25])
    np.testing.assert_allclose(metrics.average_precision_of_ranking(ranking, weights), [0.75, 1.0, 0.5])


@repeatable
@given(
    scores=arrays(np.int64, st.integers(2, 50), elements=st.integers(0, 6)),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
)
def test_average_precision_is_sklearns_with_ties_and_weights(scores, seed, weighted):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, len(scores)).astype(bool)
    label[0] = True
    weights = rng.integers(0, 3, len(scores)) + np.arange(len(scores)) % 2 if weighted else None
    if weighted and not (weights * label).any():
        assert np.isnan(metrics.average_precision(label, scores, weights))
        return
    theirs = sklearn_metrics.average_precision_score(label, scores, sample_weight=weights)
    assert metrics.average_precision(label, scores / 7, weights) == pytest.approx(theirs, abs=1e-9)


def test_average_precision_of_one_kind():
    assert metrics.average_precision([True, True], [0.1, 0.2]) == 1
    assert np.isnan(metrics.average_precision([False, False], [0.1, 0.2]))
    assert np.isnan(metrics.average_precision([], []))


def test_a_ranking_of_patients_takes_their_weights():
    ranking = metrics.rank([0, 1, 1, 0], [0.3, 0.3, 0.9, 0.5])
    by_patient = ranking.of_patients(np.array([0, 0, 1, 1]))
    for measure in (metrics.auc_of_ranking, metrics.average_precision_of_ranking):
        assert measure(by_patient, [2, 1]) == measure(ranking, [2, 2, 1, 1])


# --- the door ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.confusion([0, 5], [0, 0]), r"truth, entry 1: grade is 5; expected an integer in 0\.\.4"),
        (lambda: metrics.confusion([0, 1], [0, -1]), "predicted, entry 1: grade is -1"),
        (lambda: metrics.confusion([0, np.nan], [0, 0]), "truth, entry 1: grade is nan"),
        (lambda: metrics.confusion([0, 1.5], [0, 0]), r"truth, entry 1: grade is 1\.5"),
        (lambda: metrics.confusion([0, 1], [0]), "truth and predicted: lengths 2 and 1"),
        (lambda: metrics.confusion(["mild"], [0]), "truth: entries that are no numbers"),
        (lambda: metrics.confusion([[0]], [0]), r"truth: an array of shape \(1, 1\)"),
        (lambda: metrics.confusion([0], [0], weights=[-1]), "weights: a negative weight, -1"),
        (lambda: metrics.confusion([0], [0], weights=[1, 1]), "weights and photographs: lengths 2 and 1"),
        (lambda: metrics.kappa_of_confusion(np.ones((5, 4))), r"confusion matrix: shape \(5, 4\)"),
        (lambda: metrics.kappa_of_confusion(-np.eye(5)), "confusion matrix: a negative count or NaN"),
        (lambda: metrics.accuracy_of_confusion([[np.nan]]), "confusion matrix: a negative count or NaN"),
        (lambda: metrics.mean_squared_error([0], [np.nan]), "severity, entry 0: value is nan"),
        (lambda: metrics.mean_absolute_error([0, 1], [0.0]), "truth and severity: lengths 2 and 1"),
        (lambda: metrics.auc([0, 2], [0.1, 0.2]), r"positive, entry 1: grade is 2; expected an integer in 0\.\.1"),
        (lambda: metrics.auc([0, 1], [0.1, np.inf]), "score, entry 1: value is inf"),
        (lambda: metrics.auc([0, 1], [0.1]), "positive and score: lengths 2 and 1"),
        (lambda: metrics.average_precision([0, 1], [0.1, 0.2], [1]), "weights and photographs: lengths 1 and 2"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
