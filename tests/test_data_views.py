"""The views of a photograph: one list for all, repeatable, quasi-random where asked, readable from system.json."""

import json

import cv2
import numpy as np
import pytest
from scipy.stats import qmc

from m2cnn.data.augment import DRAWS, Augment, View, draw
from m2cnn.data.views import PRIMES, Views, halton, show
from m2cnn.errors import SettingError
from m2cnn.recipe import load_recipe
from m2cnn.systems import get

NOISE = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)
O_O = Augment(180, True, 0, 40 / 448, 0, 0, flip_axes=1, zoom=1.15, colour=0.5)


@pytest.mark.parametrize("dimensions", [1, 2, 10, 19])
@pytest.mark.parametrize("start", [0, 1, 51, 101])
def test_halton_is_scipys(dimensions, start):
    theirs = qmc.Halton(dimensions, scramble=False)
    theirs.fast_forward(start)
    assert halton(dimensions, 50, start) == pytest.approx(theirs.random(50), abs=1e-12)


def test_there_is_a_base_for_every_draw():
    assert len(PRIMES) == len(DRAWS)
    assert halton(0, 3).shape == (3, 0)


def test_one_view_is_the_centre_unchanged():
    (shown,) = show(NOISE, Views().drawn(50, 64), 50)
    assert np.array_equal(shown, NOISE[7:57, 7:57])
    (shown,) = show(NOISE, Views(augment=O_O).drawn(64), 64)
    assert np.array_equal(shown, NOISE)


def test_quasi_random_views_take_one_dimension_for_each_draw_that_varies():
    views = Views("halton", 50, 50, O_O).drawn(448, 512)
    points = qmc.Halton(9, scramble=False)
    points.fast_forward(51)
    first = points.random(50)
    angles = np.array([np.arctan2(-view.matrix[0, 1], view.matrix[1, 1]) for view in views])
    assert np.exp(1j * angles) == pytest.approx(np.exp(1j * np.pi * (2 * first[:, 0] - 1)))
    mirrored = np.array([np.linalg.det(view.matrix[:, :2]) < 0 for view in views])
    assert np.array_equal(mirrored, first[:, 3] < 0.5)
    assert (np.array([view.colour[0] for view in views]) != 0).sum() >= 49


def test_quasi_random_views_continue_where_the_offset_says():
    whole = Views("halton", 150, 0, O_O).drawn(56, 64)
    for start in (50, 100):
        part = Views("halton", 50, start, O_O).drawn(56, 64)
        for ours, same in zip(part, whole[start:], strict=False):
            assert np.array_equal(ours.matrix, same.matrix) and ours.colour == same.colour


def test_random_views_repeat_and_differ_by_seed_and_number():
    shown = [show(NOISE, Views("random", 3, seed, O_O).drawn(56, 64), 56) for seed in (1, 1, 2)]
    assert shown[0].shape == (3, 56, 56, 3) and shown[0].dtype == np.uint8
    assert np.array_equal(shown[0], shown[1])
    assert len({view.tobytes() for views in shown for view in views}) == 6
    more = show(NOISE, Views("random", 5, 1, O_O).drawn(56, 64), 56)
    assert np.array_equal(more[:3], shown[0])


def test_random_views_are_drawn_as_in_training():
    (_, second) = Views("random", 2, 4, O_O).drawn(56, 64)
    trained = draw(O_O, 56, np.random.default_rng((4, 1)), 64)
    assert np.array_equal(second.matrix, trained.matrix) and second.colour == trained.colour


def test_a_shown_view_is_opencvs_rotation_with_its_border():
    turn = cv2.invertAffineTransform(cv2.getRotationMatrix2D((31.5, 31.5), 30, 0.8))
    shown = show(NOISE, [View(turn), View(np.eye(2, 3))], 64, border=128)
    theirs = cv2.warpAffine(
        NOISE, cv2.getRotationMatrix2D((31.5, 31.5), 30, 0.8), (64, 64), borderValue=(128, 128, 128)
    )
    assert (np.abs(shown[0].astype(int) - theirs) > 2).mean() < 0.002
    assert (shown[0][0, 0] == 128).all() and np.array_equal(shown[1], NOISE)


@pytest.mark.parametrize("views", [Views(), Views("random", 12, 3), Views("halton", 50, 100, O_O)])
def test_views_survive_json(views):
    assert Views.from_dict(json.loads(json.dumps(views.to_dict()))) == views


def test_missing_values_are_the_defaults():
    assert Views.from_dict({"kind": "random", "count": 4}) == Views("random", 4)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "randm"}, r'views.kind: \'randm\'.*Did you mean "random"'),
        ({"kind": "random", "count": 0}, r"views.count: 0; expected a whole number in 1..1000"),
        ({"kind": "random", "count": 2.0}, r"views.count: 2.0"),
        ({"kind": "random", "count": True}, r"views.count: True"),
        ({"count": 2}, r"views.count: 2; expected a whole number in 1..1"),
        ({"start": -1}, r"views.start: -1"),
        ({"augment": {"zoom": 9}}, r"augment.zoom: 9"),
        ({"augment": {"zom": 1}}, r'augment: unknown key "zom"'),
        ({"views": 3}, r'views: unknown key "views"'),
        (7, r"views: 7; expected a table"),
    ],
)
def test_senseless_views_are_refused(values, match):
    with pytest.raises(SettingError, match=match):
        Views.from_dict(values)


def test_an_augment_in_plain_values_is_not_taken_for_one():
    with pytest.raises(SettingError, match=r"views.augment: \{\}; expected an Augment"):
        Views(augment={})


def test_the_packaged_models_see_a_photograph_and_its_three_mirror_images():
    recipe = load_recipe("default")
    views = get(recipe.system).customised(recipe).members[0].views
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    shown = {view.tobytes() for view in show(picture, views.drawn(32), 32)}
    mirrored = [picture, picture[::-1], picture[:, ::-1], picture[::-1, ::-1]]
    assert shown == {each.tobytes() for each in mirrored}
