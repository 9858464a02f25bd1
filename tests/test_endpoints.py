"""One against the rest, against scikit-learn and Bayes' rule by counting."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from m2cnn import endpoints
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import confusion, sensitivity, sensitivity_per_grade, specificity


@pytest.fixture(scope="module")
def grades():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 400)
    return truth, np.clip(truth + rng.integers(-1, 3, 400), 0, 4)


def shares(truth, predicted):
    """Sensitivity, specificity, PPV, NPV and F1 by scikit-learn."""
    pairs = [(sklearn_metrics.recall_score, 1), (sklearn_metrics.recall_score, 0)]
    pairs += [(sklearn_metrics.precision_score, 1), (sklearn_metrics.precision_score, 0), (sklearn_metrics.f1_score, 1)]
    return [score(truth, predicted, pos_label=label, zero_division=np.nan) for score, label in pairs]


def as_list(rates, *index):
    return [getattr(rates, key)[index] for key in ("sensitivity", "specificity", "ppv", "npv", "f1")]


@pytest.mark.parametrize("lowest", [1, 2, 3, 4])
def test_endpoints_are_sklearns(grades, lowest):
    truth, predicted = grades
    table = confusion(truth, predicted)
    ours = endpoints.rates_of_endpoint(table, lowest)
    np.testing.assert_allclose(as_list(ours), shares(truth >= lowest, predicted >= lowest))
    assert (ours.sensitivity, ours.specificity) == (sensitivity(table, lowest), specificity(table, lowest))


def test_single_grades_are_sklearns(grades):
    truth, predicted = grades
    ours = endpoints.rates_per_grade(confusion(truth, predicted))
    for grade in range(5):
        np.testing.assert_allclose(as_list(ours, grade), shares(truth == grade, predicted == grade))
    np.testing.assert_allclose(ours.sensitivity, sensitivity_per_grade(confusion(truth, predicted)))


@pytest.mark.parametrize("absent", [(), (3,), (0, 4)])
def test_macro_f1_is_sklearns_over_the_grades_that_occur(grades, absent):
    truth, predicted = grades
    kept = ~np.isin(truth, absent) & ~np.isin(predicted, absent)
    theirs = sklearn_metrics.f1_score(truth[kept], predicted[kept], average="macro")
    assert endpoints.macro_f1(confusion(truth[kept], predicted[kept])) == pytest.approx(theirs)


def test_a_stack_is_a_stack_of_each():
    stack = np.random.default_rng(0).integers(1, 9, (3, 4, 5, 5))
    assert endpoints.rates_per_grade(stack).npv.shape == (3, 4, 5)
    assert endpoints.macro_f1(stack)[1, 2] == endpoints.macro_f1(stack[1, 2])
    assert endpoints.rates_of_endpoint(stack, 3).ppv[2, 1] == endpoints.rates_of_endpoint(stack[2, 1], 3).ppv


def test_what_cannot_be_shown_is_undefined():
    healthy = endpoints.rates_of_endpoint(confusion([0, 1], [0, 1]))
    assert np.isnan([healthy.sensitivity, healthy.ppv, healthy.f1]).all()
    assert healthy.specificity == healthy.npv == 1
    assert np.isnan(endpoints.macro_f1(np.zeros((5, 5))))
    assert np.isnan(endpoints.predictive_values(np.nan, 0.9, 0.1)).all()
    assert np.isnan(endpoints.predictive_values(0.0, 1.0, 0.1)[0])  # nobody is called ill


def test_predictive_values_are_those_of_a_set_with_that_prevalence(grades):
    truth, predicted = grades
    table = confusion(truth, predicted).astype(float)
    rarer = table * np.where(np.arange(5) >= 2, 0.2, 1)[:, None]  # a fifth of the referable
    prevalence = rarer[2:].sum() / rarer.sum()
    here, there = (endpoints.rates_of_endpoint(each) for each in (table, rarer))
    found = endpoints.predictive_values(here.sensitivity, here.specificity, prevalence)
    np.testing.assert_allclose(found, (there.ppv, there.npv))
    assert found[0] < here.ppv


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: endpoints.rates_of_endpoint(np.eye(5), 0), SettingError, r"lowest grade 0; expected 1\.\.4"),
        (lambda: endpoints.rates_of_endpoint(np.eye(5), 5), SettingError, r"lowest grade 5; expected 1\.\.4"),
        (lambda: endpoints.rates_per_grade([[np.nan]]), DataError, "a negative count or NaN"),
        (lambda: endpoints.predictive_values(0.9, 0.9, 8), SettingError, "prevalence: 8; expected between 0 and 1"),
        (lambda: endpoints.predictive_values(90, 0.9, 0.1), DataError, r"sensitivity: 90\.\.90; expected 0\.\.1"),
        (lambda: endpoints.predictive_values(0.9, [0.5, -1], 0.1), DataError, r"specificity: -1\.\.0\.5"),
    ],
)
def test_what_means_nothing_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
