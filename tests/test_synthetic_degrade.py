"""Photographs made worse: shape and surround stay, more is worse, and a dose of nothing changes nothing that counts."""

import cv2
import numpy as np
import pytest

from m2cnn.field import find_field
from m2cnn.synthetic import render
from m2cnn.synthetic.degrade import DEGRADATIONS

RISING = (0.1, 0.4, 0.7, 0.95)


@pytest.fixture(scope="module")
def eye():
    image = render(3, 2, size=320).image
    return image, find_field(image)


def made(kind, eye, dose):
    dose = 5 * dose if kind == "blur" else dose
    return DEGRADATIONS[kind](*eye, dose, np.random.default_rng(1))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_more_is_worse_and_the_surround_stays(kind, eye):
    image, field = eye
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(rows - field.y, columns - field.x)
    changes = []
    for dose in RISING:
        worse = made(kind, eye, dose)
        assert worse.shape == image.shape and worse.dtype == np.uint8
        changes.append(np.abs(worse.astype(float) - image)[away < field.radius].mean())
        assert np.abs(worse.astype(float) - image)[away > 1.2 * field.radius].max() < 12
    assert changes == sorted(changes) and changes[-1] > 3 * changes[0]


@pytest.mark.parametrize("kind", ["darkness", "haze", "cut field"])
def test_nothing_is_nothing(kind, eye):
    image, field = eye
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = np.hypot(rows - field.y, columns - field.x) < 0.98 * field.radius
    assert np.abs(made(kind, eye, 0.0).astype(int) - image)[inside].max() <= 1


def test_what_each_takes_away(eye):
    image, field = eye
    inside = cv2.circle(np.zeros(image.shape[:2], np.uint8), (round(field.x), round(field.y)), 100, 1, -1) > 0

    def spread(picture):
        return picture[inside][:, 1].std()

    assert spread(made("blur", eye, 0.4)) < 0.9 * spread(image)
    assert made("darkness", eye, 0.9)[inside].mean() == pytest.approx(0.1 * image[inside].mean(), abs=1.5)
    assert spread(made("haze", eye, 0.9)) == pytest.approx(0.1 * spread(image), abs=1)
    assert (made("glare", eye, 0.5).min(axis=2)[inside] > 250).mean() > 0.05
    lost = (made("cut field", eye, 0.5).max(axis=2) == 0)[inside].mean() - (image.max(axis=2) == 0)[inside].mean()
    assert 0.4 < lost < 0.6


def test_a_place_is_drawn(eye):
    one, other = (DEGRADATIONS["glare"](*eye, 0.3, np.random.default_rng(seed)) for seed in (1, 2))
    assert (one != other).any()
