"""Imagined studies have the frequencies, the likeness of eyes and the chances that they were asked for."""

import numpy as np
import pytest
from scipy.stats import norm

from m2cnn.errors import SettingError
from m2cnn.metrics import auc
from m2cnn.reliability import expected_calibration_error
from m2cnn.simulated import Population, Reader

POPULATION = Population((0.35, 0.15, 0.27, 0.13, 0.1), alike=0.8)


@pytest.fixture(scope="module")
def liability():
    return POPULATION.draw(50_000, np.random.default_rng(0))


def test_grades_are_as_frequent_and_eyes_as_alike_as_asked(liability):
    share = np.bincount(POPULATION.grades(liability).ravel()) / liability.size
    np.testing.assert_allclose(share, POPULATION.mix, atol=0.006)
    assert np.corrcoef(liability[0].T)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert liability.std() == pytest.approx(1, abs=0.02)
    misread = Reader(noise=0.5, alike=0.3).read(liability, np.random.default_rng(1)) - liability
    assert misread.std() == pytest.approx(0.5, abs=0.01)
    assert np.corrcoef(misread[0].T)[0, 1] == pytest.approx(0.3, abs=0.02)


def test_severity_keeps_the_order_and_rounds_to_the_grade(liability):
    reader = Reader()
    reading = reader.read(liability, np.random.default_rng(1))
    severity = reader.severity(POPULATION, reading)
    np.testing.assert_array_equal(np.rint(severity), POPULATION.grades(reading))
    positive = POPULATION.grades(liability).ravel() >= 2
    assert auc(positive, severity.ravel()) == pytest.approx(auc(positive, reading.ravel()), abs=1e-4)


def test_chances_come_true_unless_it_is_too_sure(liability):
    truth = POPULATION.grades(liability).ravel()
    for confidence, smallest, largest in ((1, 0, 0.01), (2, 0.04, 1)):
        reader = Reader(noise=0.5, confidence=confidence)
        chances = reader.probabilities(POPULATION, reader.read(liability, np.random.default_rng(2))).reshape(-1, 5)
        np.testing.assert_allclose(chances.sum(1), 1)
        sure = chances.argmax(1)
        error = expected_calibration_error(np.clip(chances.max(1), 0, 1), sure == truth)
        assert smallest <= error <= largest
    at = np.array([0.3])
    m, s = 0.3 / 1.25, np.sqrt(0.25 / 1.25) / 2
    assert reader.probabilities(POPULATION, at)[0, 4] == pytest.approx(norm.sf(POPULATION.cuts()[3], m, s))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Population((0.5, 0.5)), "population, mix: .*; expected 5 shares above 0 that sum to 1"),
        (lambda: Population((0.5, 0.5, 0, 0, 0)), "population, mix"),
        (lambda: Population((0.5, 0.4, 0.3, 0.2, 0.1)), "population, mix"),
        (lambda: Population(eyes=0), "population, eyes: 0"),
        (lambda: Population(alike=-0.1), r"population, alike: -0\.1; expected 0\.\.1"),
        (lambda: Reader(noise=0), "reader, noise: 0; expected above 0"),
        (lambda: Reader(confidence=float("nan")), "reader, confidence: nan"),
        (lambda: Reader(alike=2), "reader, alike: 2"),
    ],
)
def test_what_cannot_be_imagined_is_refused(call, message):
    with pytest.raises(SettingError, match=message):
        call()
