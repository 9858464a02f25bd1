"""Numbers of patients against statsmodels, and by simulating the studies that were planned."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import samplesize_confint_proportion

from m2cnn import planning as plan
from m2cnn.bootstrap import kappa_replicates
from m2cnn.errors import DataError, SettingError
from m2cnn.metrics import kappa_of_confusion
from m2cnn.simulated import Population, Reader

CLINIC = Population((0.35, 0.15, 0.27, 0.13, 0.1))


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("expected", "half_width"), [(0.9, 0.05), (0.8, 0.1), (0.97, 0.02)])
def test_strangers_are_those_of_statsmodels(expected, half_width, level):
    photographs = samplesize_confint_proportion(expected, half_width, 1 - level)
    found = plan.patients_for_sensitivity(expected, half_width, 0.2, plan.ONE_EYE, level)
    assert found == math.ceil(photographs / 0.2)
    found = plan.patients_for_specificity(expected, half_width, 0.2, plan.ONE_EYE, level)
    assert found == math.ceil(photographs / 0.8)


def beta_binary(shape, mean, correlation, rng):
    """(S, P, 2) true and false: each with chance `mean`, and that correlation within a patient."""
    same, common = rng.random(shape[:2]) < correlation, rng.random(shape[:2]) < mean
    return np.where(same[..., None], common[..., None], rng.random(shape) < mean)


@pytest.mark.parametrize(("disease", "answer"), [(0.7, 0.5), (0.0, 1.0), (1.0, 1.0), (0.3, 0.0)])
def test_planned_studies_of_two_eyes_are_as_wide_as_wanted(disease, answer):
    eyes = plan.Eyes(2, disease, answer)
    patients = plan.patients_for_sensitivity(0.85, 0.06, 0.3, eyes)
    rng = np.random.default_rng(2)
    ill = beta_binary((2000, patients, 2), 0.3, disease, rng)
    right = ill & beta_binary((2000, patients, 2), 0.85, answer, rng)
    sensitivity = right.sum((1, 2)) / ill.sum((1, 2))
    assert 1.959964 * sensitivity.std() == pytest.approx(0.06, rel=0.05)


def test_design_effects_at_the_ends():
    assert plan.Eyes(2, disease=1, answer=1).design_effect(0.1) == 2
    assert plan.Eyes(2, disease=0, answer=1).design_effect(0.1) == pytest.approx(1.1)  # seldom both eyes
    assert plan.Eyes(2, disease=1, answer=0).design_effect(0.1) == 1
    assert plan.Eyes(4, disease=1, answer=0.5).design_effect(0.1) == 2.5
    assert plan.ONE_EYE.design_effect(0.5) == 1


def test_scaling_a_standard_error():
    replicates = np.random.default_rng(0).normal(0.8, 0.02, 100_000)
    assert plan.patients_for_half_width(replicates, 400, 0.02) == pytest.approx(400 * 1.959964**2, rel=0.01)
    assert plan.patients_for_half_width(replicates, 400, 0.02, 0.9) == pytest.approx(400 * 1.644854**2, rel=0.01)


@pytest.mark.parametrize("power", [0.8, 0.9])
def test_patients_to_detect_are_those_of_statsmodels(power):
    replicates = np.random.default_rng(0).normal(0, 0.02, 100_000)
    # The standard deviation of one patient's part is 0.02 sqrt(400).
    theirs = normal_sample_size_one_tail(0.03, power, 0.025, std_null=0.4)
    assert plan.patients_to_detect(replicates, 400, -0.03, power) == pytest.approx(theirs, rel=0.01)


def test_a_pilot_plans_a_study_that_is_as_wide_as_wanted():
    rng = np.random.default_rng(1)
    liability = CLINIC.draw(400, rng)
    truth, graded = (CLINIC.grades(x).ravel() for x in (liability, Reader().read(liability, rng)))
    replicates = kappa_replicates(truth, graded, np.repeat(np.arange(400), 2), 1000)
    patients = plan.patients_for_half_width(replicates, 400, 0.015)
    wide = 1.959964 * plan.simulated_kappas(CLINIC, (Reader(),), patients, 500, seed=3).std()
    assert wide == pytest.approx(0.015, rel=0.15)  # what one pilot knows of its own spread


def test_simulated_plans_are_as_wide_as_wanted():
    first, second = Reader(), Reader(noise=0.5)
    patients = plan.patients_for_kappa(CLINIC, first, 0.02)
    drawn = plan.simulated_kappas(CLINIC, (first,), patients, 1000, seed=8)
    assert 1.959964 * drawn.std() == pytest.approx(0.02, rel=0.07)
    paired = plan.patients_for_kappa_difference(CLINIC, first, second, 0.02)
    drawn = plan.simulated_kappas(CLINIC, (first, second), paired, 1000, seed=8)
    assert 1.959964 * (drawn[:, 1] - drawn[:, 0]).std() == pytest.approx(0.02, rel=0.07)
    alone = plan.patients_for_kappa(CLINIC, second, 0.02)
    assert paired < alone + patients  # the same patients for both: less than two separate studies tell


def test_two_alike_eyes_tell_less_than_two_strangers():
    strangers, twins = (plan.patients_for_kappa(Population(alike=a), Reader(alike=a), 0.03) for a in (0, 1))
    assert twins / strangers == pytest.approx(2, rel=0.1)


def test_the_design_effect_of_a_metric():
    rng = np.random.default_rng(4)
    liability = Population(alike=1).draw(1000, rng)
    truth = CLINIC.grades(liability).ravel()
    graded = CLINIC.grades(Reader(alike=1).read(liability, rng)).ravel()
    drawn = [kappa_replicates(truth, graded, who, 1000) for who in (np.arange(2000) // 2, np.arange(2000))]
    assert plan.design_effect(*drawn) == pytest.approx(2, rel=0.15)


def test_simulated_kappas_are_kappas():
    drawn = plan.simulated_kappas(CLINIC, (Reader(noise=1e-9), Reader(noise=100)), 200, 50)
    assert drawn.shape == (50, 2)
    assert (drawn[:, 0] == 1).all() and abs(drawn[:, 1].mean()) < 0.05
    linear = plan.simulated_kappas(CLINIC, (Reader(),), 200, 50, kappa=lambda t: kappa_of_confusion(t, "linear"))
    assert linear.mean() < plan.simulated_kappas(CLINIC, (Reader(),), 200, 50).mean()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plan.patients_for_sensitivity(1, 0.05, 0.2), SettingError, "expected: 1; expected between 0 and 1"),
        (lambda: plan.patients_for_sensitivity(0.9, 0, 0.2), SettingError, "half-width: 0; expected between 0 and 1"),
        (lambda: plan.patients_for_sensitivity(0.9, 5, 0.2), SettingError, "half-width: 5"),
        (lambda: plan.patients_for_specificity(0.9, 0.05, 20), SettingError, "prevalence: 20"),
        (lambda: plan.patients_for_specificity(0.9, 0.05, 0.2, level=95), SettingError, "level: 95"),
        (lambda: plan.Eyes(0), SettingError, "eyes: 0; expected 1 or more"),
        (lambda: plan.Eyes(2, answer=1.5), SettingError, r"eyes, answer: 1\.5; expected 0\.\.1"),
        (lambda: plan.patients_for_half_width([0.8], 9, 0.1), DataError, "replicates: values that do not vary"),
        (lambda: plan.patients_for_half_width([1.0, 1.0], 9, 0.1), DataError, "replicates: values that do not vary"),
        (lambda: plan.patients_for_half_width([0.8, np.nan], 9, 0.1), DataError, "replicates, entry 1: value is nan"),
        (lambda: plan.patients_for_half_width([0.8, 0.9], 1, 0.1), DataError, "pilot: 1 patients"),
        (lambda: plan.patients_to_detect([0.8, 0.9], 9, 0), SettingError, "difference: 0"),
        (lambda: plan.patients_to_detect([0.8, 0.9], 9, 0.1, 0.3), SettingError, r"power: 0\.3"),
    ],
)
def test_what_cannot_be_planned_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
