"""Grade sets: the threshold by its definition, contiguous sets, and the promise kept in 2,000 simulated studies."""

import math
from dataclasses import replace

import numpy as np
import pytest

from m2cnn import conformal as c
from m2cnn.errors import DataError, SettingError
from m2cnn.predictions import Predictions
from m2cnn.simulated import Population, Reader

POPULATION, READER = Population((0.35, 0.15, 0.27, 0.13, 0.1)), Reader(noise=0.5, confidence=2)


def table(patients, seed, **columns):
    rng = np.random.default_rng(seed)
    liability = POPULATION.draw(patients, rng)
    reading = READER.read(liability, rng)
    severity, n = READER.severity(POPULATION, reading).ravel(), 2 * patients
    content = {
        "image": np.arange(n).astype(str),
        "patient": (np.arange(n) // 2).astype(str),
        "grade": POPULATION.grades(liability).ravel(),
        "probabilities": READER.probabilities(POPULATION, reading).reshape(n, 5),
        "severity": severity,
        "decoded": np.rint(severity).astype(int),
        "gradable": np.full(n, True),
        "system": np.full(n, "simulated"),
    }
    content |= dict.fromkeys(("eye", "split", "reason", "bundle"), np.full(n, ""))
    return Predictions(**(content | columns))


def bare(predictions):
    return replace(predictions, probabilities=np.full((len(predictions), 5), np.nan), place=None)


# --- the threshold ---


def test_patient_threshold_is_the_inverted_quantile_of_worst_eyes():
    rng = np.random.default_rng(1)
    for patients in (20, 99, 300):
        patient = rng.integers(0, patients, 2 * patients)
        misfit = rng.random(2 * patients).round(2)
        worst = [misfit[patient == who].max() for who in np.unique(patient)]
        for level in (0.5, 0.8, 0.9):
            share = math.ceil((len(worst) + 1) * level) / len(worst)
            expected = np.quantile(worst, min(share, 1), method="inverted_cdf") if share <= 1 else math.inf
            assert c.conformal_threshold(misfit, patient, level) == expected


def test_photograph_threshold_weighs_each_patient_once():
    # Patient a has one photograph, b four of which the third is reached: (1 + 3 / 4) / 3 >= 0.58 first there.
    misfit, patient = [0.1, 0.2, 0.3, 0.4, 0.5], list("abbbb")
    assert c.conformal_threshold(misfit, patient, 0.58, "photograph") == 0.4
    assert c.conformal_threshold(misfit, patient, 0.66, "photograph") == 0.5
    assert c.conformal_threshold(misfit, patient, 0.67, "photograph") == math.inf
    # One eye each: both promises are the same.
    alone = np.random.default_rng(0).random(57)
    each = [c.conformal_threshold(alone, range(57), 0.9, covers) for covers in ("patient", "photograph")]
    assert each[0] == each[1]


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("covers", ["patient", "photograph"])
def test_the_promise_is_kept_in_2000_studies(level, covers):
    """60 calibration patients with one to three alike eyes; 20 new ones of the same kind. Level 0.95 of 60 patients is
    58 of 61 places, so that the coverage is between the level and 1 / 61 more; for eyes, between the two and more."""
    rng = np.random.default_rng(3)
    shape = (2000, 80, 3)
    misfit = np.abs(rng.standard_normal((*shape[:2], 1)) + 0.5 * rng.standard_normal(shape))
    seen = np.arange(3) < rng.integers(1, 4, shape[:2])[..., None]
    # Patients with more eyes are worse: neither eyes nor numbers of eyes are alike.
    misfit *= seen.sum(-1, keepdims=True)
    held = []
    for own, there in zip(misfit, seen, strict=True):
        patient = np.broadcast_to(np.arange(60)[:, None], (60, 3))[there[:60]]
        limit = c.conformal_threshold(own[:60][there[:60]], patient, level, covers)
        inside = (own[60:] <= limit) & there[60:]
        share = inside.sum(1) / there[60:].sum(1)
        held.append((share == 1).mean() if covers == "patient" else share.mean())
    error = np.std(held) / math.sqrt(2000)
    assert level - 2 * error <= np.mean(held) <= level + 1 / 61 + 2 * error


# --- sets ---


def test_sets_grow_from_the_likeliest_grade_to_the_likelier_neighbour():
    before = c.mass_before(np.array([[0.4, 0.35, 0.1, 0.15, 0.0], [0.0, 0.1, 0.1, 0.2, 0.6]]))
    np.testing.assert_allclose(before[0], [0, 0.4, 0.75, 0.85, 1])
    np.testing.assert_allclose(before[1], [1, 0.9, 0.8, 0.6, 0], atol=1e-12)


@pytest.mark.parametrize("strip", [False, True])
def test_sets_are_contiguous_hold_the_likeliest_and_grow_with_the_level(strip):
    calibration, other = table(200, 1), table(300, 2)
    if strip:
        calibration, other = bare(calibration), bare(other)
    sizes = []
    for level in (0.5, 0.8, 0.95, 0.999):
        sets = c.fit_grade_sets(calibration, level)
        given = sets.of(other)
        assert ((np.diff(np.pad(given, ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1) == 1).all()
        likeliest = other.decoded if strip else other.probabilities.argmax(1)
        assert given[np.arange(len(other)), likeliest].all()
        sizes.append(given.sum(1).mean())
    assert sets.by == ("severity" if strip else "probabilities")
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 5  # 200 patients cannot promise 99.9 %


def test_no_set_is_empty_however_right_calibration_was():
    right = bare(table(20, 1))
    right = replace(right, severity=right.grade, decoded=right.grade, place=None)
    sets = c.fit_grade_sets(right, 0.5)
    assert sets.threshold == 0
    between = replace(right, severity=np.full(40, 1.4), decoded=np.full(40, 1), place=None)
    assert sets.of(between).tolist() == [[False, True, False, False, False]] * 40


@pytest.mark.parametrize("covers", ["patient", "photograph"])
def test_measured_coverage_is_that_of_a_loop(covers):
    sets, other = c.fit_grade_sets(table(150, 1), 0.8, covers), table(400, 2)
    given = sets.of(other)
    each = [given[other.patient == who, other.grade[other.patient == who]].mean() for who in np.unique(other.patient)]
    found = c.measure_grade_sets(sets, other)
    expected = np.mean(np.array(each) == 1) if covers == "patient" else np.mean(each)
    assert found.covered.value == pytest.approx(expected)
    assert found.covered.low < expected < found.covered.high
    assert (found.size, found.patients) == (pytest.approx(given.sum(1).mean()), 400)


def test_all_eyes_at_once_needs_larger_sets_than_one():
    calibration = table(500, 1)
    assert (
        c.fit_grade_sets(calibration, 0.9).threshold > c.fit_grade_sets(calibration, 0.9, covers="photograph").threshold
    )


def test_a_refused_photograph_may_have_any_grade_and_calibrates_nothing():
    whole = table(100, 1)
    gone = np.arange(200) % 7 == 0
    refused = table(
        100,
        1,
        gradable=~gone,
        reason=np.where(gone, "dark", ""),
        severity=np.where(gone, np.nan, whole.severity),
        decoded=np.where(gone, -1, whole.decoded),
        probabilities=np.where(gone[:, None], np.nan, whole.probabilities),
    )
    sets = c.fit_grade_sets(refused, 0.8)
    assert sets == c.fit_grade_sets(whole.select(~gone), 0.8)
    assert sets.of(refused)[gone].all() and not sets.of(refused)[~gone].all(1).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: c.fit_grade_sets(table(5, 0), 90), SettingError, "level: 90; expected between 0 and 1"),
        (lambda: c.fit_grade_sets(table(5, 0), covers="eye"), SettingError, 'covers: "eye"'),
        (lambda: c.fit_grade_sets(table(5, 0, grade=np.full(10, -1))), DataError, "no graded photograph with a true"),
        (lambda: c.fit_grade_sets(table(20, 0)).of(bare(table(5, 1))), DataError, "photographs without probabilities"),
        (lambda: c.conformal_threshold([np.nan], ["a"], 0.9), DataError, "misfit, entry 0: value is nan"),
        (lambda: c.conformal_threshold([1, 2], ["a"], 0.9), DataError, "misfit and patient: lengths 2 and 1"),
    ],
)
def test_what_cannot_be_promised_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
