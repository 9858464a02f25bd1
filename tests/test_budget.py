"""The referral budget against plain sorting, scikit-learn's area under the same curve, and simulated studies."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from m2cnn.bootstrap import interval
from m2cnn.budget import budget_curve
from m2cnn.errors import DataError, SettingError
from m2cnn.simulated import Population, Reader


@pytest.fixture(scope="module")
def eyes():
    rng = np.random.default_rng(9)
    truth = rng.integers(0, 5, 80)
    return truth, truth + rng.normal(0, 1.5, 80), np.repeat(np.arange(40), 2)


def found_by_sorting(truth, severity, share):
    referred = np.argsort(-severity)[: round(share * len(truth))]
    return (truth[referred] >= 2).sum() / (truth >= 2).sum()


def test_values_and_intervals_are_those_of_sorting_copied_photographs(eyes):
    truth, severity, patient = eyes
    shares = (0.1, 0.25, 0.5, 1.0)
    curve = budget_curve(truth, severity, patient, shares, replicates=30, seed=2)
    assert [b.found.value for b in curve] == [found_by_sorting(truth, severity, share) for share in shares]
    rng, loop = np.random.default_rng(2), []
    for _ in range(30):
        rows = np.concatenate([[2 * who, 2 * who + 1] for who in rng.integers(0, 40, 40, dtype=np.uint32)])
        # Copies of a photograph are equally severe; the budget of 20 that cuts them takes its part of each kind.
        loop.append(np.mean([found_by_sorting(truth[r], severity[r], 0.25) for r in orders(rows, severity)]))
    assert (curve[1].found.low, curve[1].found.high) == pytest.approx(interval(loop), abs=0.01)


def orders(rows, severity):
    """The rows in 40 orders, so that ties are broken by chance."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        shuffled = rng.permutation(rows)
        yield shuffled[np.argsort(-severity[shuffled], kind="stable")]


def test_the_area_under_the_curve_is_that_of_the_roc():
    """Area = (1 - prevalence) AUC + prevalence / 2, ties counting half in both."""
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 5, 300)
    severity = np.round(truth + rng.normal(0, 1, 300))
    shares = np.linspace(0.0005, 0.9995, 1000)
    curve = budget_curve(truth, severity, np.arange(300), tuple(shares), replicates=1)
    prevalence = (truth >= 2).mean()
    expected = (1 - prevalence) * roc_auc_score(truth >= 2, severity) + prevalence / 2
    assert np.mean([b.found.value for b in curve]) == pytest.approx(expected, abs=1e-4)


def test_of_equal_severities_each_has_the_same_chance():
    (half,) = budget_curve([0, 2, 2, 0], [1, 1, 1, 1], list("abcd"), (0.5,), replicates=5)
    assert half.found.value == 0.5


def test_a_patient_is_as_severe_as_his_worst_eye():
    truth, severity, patient = [0, 3, 0, 0, 2, 2], [0.1, 3, 2, 2, 1, 0.5], list("aabbcc")
    by_patient = budget_curve(truth, severity, patient, (1 / 3, 2 / 3, 1), unit="patient", replicates=5)
    assert [b.found.value for b in by_patient] == [0.5, 0.5, 1]
    by_eye = budget_curve(truth, severity, patient, (1 / 6, 4 / 6, 1), replicates=5)
    assert [b.found.value for b in by_eye] == pytest.approx([1 / 3, 2 / 3, 1])


def test_nobody_referable_is_undefined():
    (b,) = budget_curve([0, 1], [0.5, 2], ["a", "b"], (0.5,), replicates=5)
    assert np.isnan([b.found.value, b.found.low, b.found.high]).all()


def test_coverage_on_alike_eyes():
    """A smaller one of benchmarks/coverage.py: 300 studies of 300 patients."""
    population, reader = Population((0.35, 0.15, 0.27, 0.13, 0.1)), Reader()
    rng = np.random.default_rng(0)
    liability = population.draw(300, rng, 300)
    truth, severity = population.grades(liability), reader.severity(population, reader.read(liability, rng))
    patient = np.repeat(np.arange(300), 2)
    many = population.draw(400_000, rng)
    true = found_by_sorting(population.grades(many).ravel(), reader.read(many, rng).ravel(), 0.3)
    held = 0
    for study in range(300):
        (b,) = budget_curve(truth[study].ravel(), severity[study].ravel(), patient, (0.3,), replicates=200, seed=study)
        held += b.found.low <= true <= b.found.high
    assert 0.91 <= held / 300 <= 0.98


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shares": (10,)}, SettingError, "budget: 10; expected above 0, at most 1"),
        ({"unit": "eye"}, SettingError, 'unit: "eye"; expected photograph or patient'),
        ({"severity": [np.nan, 1]}, DataError, "severity, entry 0: value is nan"),
        ({"severity": [1]}, DataError, "truth and severity: lengths 2 and 1"),
        ({"patient": ["a"]}, DataError, "truth and patient: lengths 2 and 1"),
        ({"truth": [5, 1]}, DataError, "truth, entry 0: grade is 5"),
        ({"truth": [], "severity": [], "patient": []}, DataError, "bootstrap: 0 patients"),
    ],
)
def test_what_cannot_be_budgeted_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        budget_curve(**({"truth": [2, 1], "severity": [2.0, 1.0], "patient": ["a", "b"]} | changes))
