"""Each setting moves pixels and colours as worked out by hand; the default settings draw what they always drew."""

import json
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from m2cnn.data.augment import (
    COLOUR_AXES,
    COLOUR_SD,
    COLOUR_SPREAD,
    DRAWS,
    Augment,
    View,
    apply,
    draw,
    middle,
    view_of,
)
from m2cnn.errors import SettingError
from m2cnn.recipe import recipe_from_dict

STILL = Augment(0, False, 0, 0, 0, 0)
NOISE = np.random.default_rng(7).integers(0, 256, (57, 57, 3), dtype=np.uint8)


def chosen(augment, size, frame=None, **numbers):
    """The view of numbers in -1..1 (0 where not given; flips: in 0..1) instead of drawn ones."""
    uniforms = [
        numbers[name] if "flip" in name and name in numbers else (numbers.get(name, 0) + 1) / 2 for name in DRAWS
    ]
    return view_of(augment, uniforms, size, frame)


def lands(view, x, y):
    """Where the view shows the input's point (x, y)."""
    return np.linalg.solve(view.matrix[:, :2], np.array([x, y]) - view.matrix[:, 2])


def drawn(augment, size=100, frame=None, count=400):
    rng = np.random.default_rng(5)
    return [draw(augment, size, rng, frame) for _ in range(count)]


# --- the default stream -----------------------------------------------------------------------------------------------

# Matrix, gain, offset and checksums of pictures with border 128 and 0, as drawn before the other settings existed.
GOLDEN = [
    (
        0,
        Augment(),
        "0x1.5df1d89a788e1p-1 -0x1.96effb720a328p-1 0x1.eb6fcb22110c8p+4 "
        "0x1.96effb720a328p-1 0x1.5df1d89a788e1p-1 -0x1.2db97d925c03cp+3",
        "0x1.152211e521400p+0 0x1.ff41ccbe1e095p+3",
        (3312270982, 2208520107),
    ),
    (
        1,
        Augment(),
        "0x1.d463c6639f177p-1 0x1.16d6e214b3554p-4 0x1.1482e1d4ce7b8p+1 "
        "0x1.16d6e214b3554p-4 -0x1.d463c6639f177p-1 0x1.b17df087f999ap+5",
        "0x1.f8260c8258fd0p-1 -0x1.3317506269425p+3",
        (2825136434, 4049012821),
    ),
    (
        2,
        Augment(rotation=15, flip=False, scale=0.3),
        "0x1.20f16ff5967d9p+0 0x1.2208add340b46p-3 -0x1.2856f85c2252cp+3 "
        "-0x1.2208add340b46p-3 0x1.20f16ff5967d9p+0 0x1.9ee00fc7f9600p+1",
        "0x1.0bb3c9dd90090p+0 0x1.46ba65dc050eap+2",
        (2281880692, 119250906),
    ),
]


@pytest.mark.parametrize(("seed", "augment", "matrix", "tone", "checksums"), GOLDEN)
def test_the_default_stream_is_what_it_was(seed, augment, matrix, tone, checksums):
    view = draw(augment, 57, np.random.default_rng(seed))
    assert view.matrix.ravel() == pytest.approx([float.fromhex(x) for x in matrix.split()], rel=1e-14)
    assert (view.gain, view.offset) == tuple(float.fromhex(x) for x in tone.split())
    assert tuple(zlib.crc32(apply(view, NOISE, border).tobytes()) for border in (128, 0)) == checksums


def test_a_draw_takes_the_same_numbers_whatever_is_on():
    streams = [np.random.default_rng(0) for _ in range(2)]
    draw(STILL, 57, streams[0])
    draw(Augment(zoom=1.2, crop=(0.8, 0.9), crop_apart=True, colour=0.5), 57, streams[1])
    assert streams[0].random() == streams[1].random()


# --- where pixels land ------------------------------------------------------------------------------------------------


def test_zoom_takes_each_axis_by_its_own_factor():
    view = chosen(replace(STILL, zoom=1.15), 101, zoom_x=1, zoom_y=-1)
    assert lands(view, 50 + 20, 50 + 23) == pytest.approx([50 + 23, 50 + 20])


def test_zoom_is_log_uniform():
    views = drawn(replace(STILL, zoom=1.15), count=2000)
    logs = np.log([[1 / v.matrix[0, 0], 1 / v.matrix[1, 1]] for v in views]) / np.log(1.15)
    assert np.abs(logs).max() <= 1 and np.abs(logs).max(axis=0).min() > 0.99
    assert np.abs(logs.mean(axis=0)).max() < 0.05 and logs.std(axis=0) == pytest.approx([1 / 3**0.5] * 2, rel=0.05)
    assert abs(np.corrcoef(logs.T)[0, 1]) < 0.1


def test_a_fraction_and_pixels_of_shift_add_up():
    view = chosen(replace(STILL, shift=0.1, shift_px=5), 50, shift_x=1, shift_y=-0.5)
    assert lands(view, 20, 20) == pytest.approx([30, 15])
    assert lands(chosen(replace(STILL, shift=30 / 843), 843, shift_x=1, shift_y=-1), 0, 100) == pytest.approx([30, 70])


def test_shifts_in_whole_pixels():
    augment = replace(STILL, shift=20 / 843, shift_px=10, whole_px=True)
    shifts = np.array([lands(view, 0, 0) for view in drawn(augment, 843, count=3000)])
    assert shifts == pytest.approx(np.rint(shifts), abs=1e-9)
    assert np.unique(np.rint(shifts[:, 0])).tolist() == list(range(-30, 31))
    assert np.bincount(np.rint(shifts[:, 1]).astype(int) + 30).min() > 20  # of 49 on average: the ends are not halved


def test_stretch_and_skew_are_grahams_matrix():
    augment = replace(STILL, rotation=180, stretch=0.1, skew=0.2)
    a, r, b = np.pi * 0.3, 0.1 * 0.7, np.pi * 0.3 + 0.2 * -0.6
    his = [[(1 + r) * np.cos(a), (1 + r) * np.sin(a)], [-(1 - r) * np.sin(b), (1 - r) * np.cos(b)]]
    view = chosen(augment, 101, angle=0.3, stretch=0.7, skew=-0.6)
    assert lands(view, 50 + 11, 50 - 4) == pytest.approx(np.array(his) @ [11, -4] + 50)


def test_one_axis_is_flipped_or_two():
    one, two = replace(STILL, flip=True, flip_axes=1), replace(STILL, flip=True)
    assert lands(chosen(one, 101, flip_x=0.49, flip_y=0.49), 10, 20) == pytest.approx([90, 20])
    assert lands(chosen(one, 101, flip_x=0.5, flip_y=0.5), 10, 20) == pytest.approx([10, 20])
    assert lands(chosen(two, 101, flip_x=0.49, flip_y=0.49), 10, 20) == pytest.approx([90, 80])
    assert lands(chosen(STILL, 101, flip_x=0.49, flip_y=0.49), 10, 20) == pytest.approx([10, 20])
    mirrored = sum(view.matrix[0, 0] < 0 for view in drawn(one))
    assert 150 < mirrored < 250 and all(view.matrix[1, 1] > 0 for view in drawn(one))


def test_a_positive_angle_turns_against_the_clock():
    view = chosen(replace(STILL, rotation=90), 101, angle=1)
    assert lands(view, 50 + 10, 50) == pytest.approx([50, 40])
    turned = apply(chosen(replace(STILL, rotation=90), 57, angle=1), NOISE)
    assert np.array_equal(turned, np.rot90(NOISE))


def test_everything_at_once_is_the_product_of_its_parts():
    augment = Augment(180, True, 0.1, 0.05, 0, 0, zoom=1.3, stretch=0.1, skew=0.2, crop=(0.5, 0.9), crop_apart=True)
    numbers = {
        "angle": 0.2,
        "scale": 0.5,
        "shift_x": 0.4,
        "shift_y": -0.8,
        "zoom_x": 0.6,
        "zoom_y": -0.1,
        "stretch": -0.5,
    }
    numbers |= {"skew": 0.7, "flip_x": 0.1, "flip_y": 0.9, "share_x": 0, "share_y": 1, "place_x": 1, "place_y": -1}
    view = chosen(augment, 80, 100, **numbers)
    a, b = np.pi * 0.2, np.pi * 0.2 + 0.14
    turned = np.array([[np.cos(a), np.sin(a)], [-np.sin(b), np.cos(b)]])
    forward = np.diag([-1, 1]) @ np.diag([1.3**0.6, 1.3**-0.1]) @ np.diag([0.95, 1.05]) @ turned * 1.05
    window, place = np.array([70, 90]) / 80, np.array([49.5 + 15, 49.5 - 5])
    point = np.array([60.0, 33.0])
    expected = forward @ ((point - place) / window) + 39.5 + np.array([0.4, -0.8]) * 4
    assert lands(view, *point) == pytest.approx(expected)


# --- frames and crops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "frame"), [(448, 512), (40, 57), (41, 57)])
def test_without_a_crop_the_view_is_the_centre_of_the_frame_px_by_px(size, frame):
    picture = np.random.default_rng(0).integers(0, 256, (frame, frame, 3), dtype=np.uint8)
    start = (frame - size) // 2
    shown = apply(middle(Augment(), size, frame), picture, size=size)
    assert np.array_equal(shown, picture[start : start + size, start : start + size])


def test_a_crop_shows_its_share_from_corner_to_corner():
    view = chosen(replace(STILL, crop=(0.8, 0.95)), 480, 512, share_x=1, place_x=-1, place_y=1)
    assert lands(view, -0.5, 511.5) == pytest.approx([-0.5, 479.5])  # corner of the frame, corner of the view
    assert lands(view, 0.95 * 512 - 0.5, 0.05 * 512 - 0.5) == pytest.approx([479.5, -0.5])


def test_crops_stay_in_the_frame_and_vary_as_asked():
    views = drawn(replace(STILL, crop=(0.8, 0.95)), 48, 64, 2000)
    shares = np.array([view.matrix[0, 0] * 48 / 64 for view in views])
    assert all(view.matrix[0, 0] == view.matrix[1, 1] for view in views)
    assert 0.8 <= shares.min() < 0.801 and 0.949 < shares.max() <= 0.95 and abs(shares.mean() - 0.875) < 0.004
    corners = np.array([view.matrix @ [[-0.5, 47.5], [-0.5, 47.5], [1, 1]] for view in views])
    assert corners.min() >= -0.5 - 1e-9 and corners.max() <= 63.5 + 1e-9
    spare = (1 - shares) * 64
    places = (corners[:, :, 0] + 0.5) / spare[:, None]
    assert places.min() < 0.01 and places.max() > 0.99 and abs(np.corrcoef(places.T)[0, 1]) < 0.1


def test_crops_apart_stretch():
    views = drawn(replace(STILL, crop=(0.8, 1.1), crop_apart=True), 48, 64, 2000)
    x, y = np.array([[view.matrix[0, 0], view.matrix[1, 1]] for view in views]).T
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1
    assert np.array([x.max(), y.max()]) * 48 / 64 == pytest.approx([1.1, 1.1], abs=0.003)


def test_the_middle_of_a_crop_is_its_mean_share_at_the_centre():
    view = middle(Augment(crop=(0.8, 0.95)), 385, 512)
    assert view.matrix[:, :2] == pytest.approx(np.eye(2) * 0.875 * 512 / 385)
    assert lands(view, 255.5, 255.5) == pytest.approx([192, 192])
    assert (view.gain, view.offset, view.colour) == (1, 0, (0, 0, 0))


def test_the_border_fills_what_lies_beyond():
    view = chosen(replace(STILL, shift_px=10), 57, shift_x=1)
    shown = apply(view, NOISE, border=128)
    assert (shown[:, :10] == 128).all() and np.array_equal(shown[:, 10:], NOISE[:, :-10])


@pytest.mark.parametrize(
    ("name", "flag"), [("linear", cv2.INTER_LINEAR), ("nearest", cv2.INTER_NEAREST), ("cubic", cv2.INTER_CUBIC)]
)
def test_interpolation_is_opencvs(name, flag):
    view = chosen(replace(STILL, rotation=180, interpolation=name), 57, angle=0.1)
    # OpenCV turns the other way round: from input to output.
    turn = cv2.getRotationMatrix2D((28, 28), 18, 1)
    expected = cv2.warpAffine(NOISE, turn, (57, 57), flags=flag)
    assert (np.abs(apply(view, NOISE).astype(int) - expected) > 2).mean() < 0.002


# --- colour -----------------------------------------------------------------------------------------------------------


def test_colour_moves_along_the_axes_by_a_normal_number():
    augment = replace(STILL, colour=0.5)
    view = chosen(augment, 57, colour_1=2 * 0.8413447460685429 - 1)  # the normal's quantile of 0.841 is 1
    by_hand = [-0.5654 * 0.5 * 1.65513 * 70.539, -0.5989 * 0.5 * 1.65513 * 51.715, -0.5669 * 0.5 * 1.65513 * 43.034]
    assert view.colour == pytest.approx(by_hand, abs=1e-6)
    picture = np.full((8, 8, 3), (100, 90, 80), np.uint8)
    assert apply(replace(view, matrix=np.eye(2, 3)), picture)[4, 4].tolist() == [67, 64, 60]


def test_colours_spread_as_stated():
    moves = np.array([view.colour for view in drawn(replace(STILL, colour=0.25), 8, count=4000)])
    along = (moves / COLOUR_SD) @ np.linalg.inv(COLOUR_AXES).T / COLOUR_SPREAD
    assert np.abs(along.mean(axis=0)).max() < 0.02
    assert along.std(axis=0) == pytest.approx([0.25] * 3, rel=0.05)
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.06


def test_the_axes_are_orthonormal():
    products = COLOUR_AXES.T @ COLOUR_AXES
    assert products == pytest.approx(np.eye(3), abs=5e-4)


def test_colour_moves_the_background_and_the_border_alike():
    view = View(np.array([[1.0, 0, -3], [0, 1, 0]]), 1.5, 20.0, (10.0, -10.0, 300.0))
    shown = apply(view, np.zeros((8, 8, 3), np.uint8), border=0)
    assert (shown == (10, 0, 255)).all()


def test_a_uniform_zero_has_a_colour_too():
    assert np.isfinite(view_of(Augment(colour=0.5), np.zeros(len(DRAWS)), 8).colour).all()


# --- settings ---------------------------------------------------------------------------------------------------------

EVERY = Augment(10, False, 0.2, 0.3, 0.4, 0.5, 1, 40, True, 1.15, 0.1, 0.2, (0.8, 0.95), True, 0.25, "nearest")


def test_what_varies_is_named_in_the_order_of_the_draws():
    assert STILL.varied == ()
    o_o = Augment(180, True, 0, 40 / 448, 0, 0, flip_axes=1, zoom=1.15, colour=0.5)
    colours = ("colour_1", "colour_2", "colour_3")
    assert o_o.varied == ("angle", "shift_x", "shift_y", "flip_x", "zoom_x", "zoom_y", *colours)
    assert replace(STILL, shift_px=4).varied == ("shift_x", "shift_y")
    assert replace(STILL, crop=(0.9, 0.9)).varied == ("place_x", "place_y")
    assert replace(STILL, crop=(0.8, 0.9)).varied == ("share_x", "place_x", "place_y")
    assert set(DRAWS) - set(replace(EVERY, flip=True, flip_axes=2).varied) == set()


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_that_does_not_vary_changes_nothing(name):
    before, changed = np.full(len(DRAWS), 0.5), np.full(len(DRAWS), 0.5)
    changed[DRAWS.index(name)] = 0.2
    for augment in (STILL, Augment(), EVERY, replace(EVERY, flip=True, flip_axes=2)):
        views = [view_of(augment, numbers, 57, 64) for numbers in (before, changed)]
        same = all(np.array_equal(getattr(views[0], key), getattr(views[1], key)) for key in vars(views[0]))
        assert same == (name not in augment.varied)


@pytest.mark.parametrize("augment", [Augment(), STILL, EVERY])
def test_settings_survive_json_and_recipes(augment):
    plain = json.loads(json.dumps(augment.to_dict()))
    assert Augment.from_dict(plain) == augment
    recipe = recipe_from_dict({"system": "m2cnn", "stages": [{"epochs": 1}], "augment": plain})
    assert recipe.augment == augment
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"zoom": 0.9}, r"augment.zoom: 0.9; expected a number in 1..4"),
        ({"rotation": float("nan")}, r"augment.rotation: nan; expected a number in 0..360"),
        ({"shift": -0.1}, r"augment.shift: -0.1"),
        ({"shift_px": "4"}, r"augment.shift_px: '4'"),
        ({"scale": True}, r"augment.scale: True"),
        ({"scale": 1}, r"augment.scale: 1; expected a number in 0..0.9"),
        ({"stretch": 1}, r"augment.stretch: 1"),
        ({"skew": 2}, r"augment.skew: 2"),
        ({"colour": -1}, r"augment.colour: -1"),
        ({"contrast": 1.5}, r"augment.contrast: 1.5"),
        ({"brightness": 2}, r"augment.brightness: 2"),
        ({"flip": 1}, r"augment.flip: 1; expected true or false"),
        ({"whole_px": "no"}, r"augment.whole_px: 'no'"),
        ({"crop_apart": 0}, r"augment.crop_apart: 0"),
        ({"flip_axes": 3}, r"augment.flip_axes: 3; expected 1 or 2"),
        ({"flip_axes": True}, r"augment.flip_axes: True"),
        ({"crop": [0.9, 0.8]}, r"augment.crop: \[0.9, 0.8\]; expected lowest and highest share"),
        ({"crop": [0.9]}, r"augment.crop: \[0.9\]"),
        ({"crop": 0.9}, r"augment.crop: 0.9"),
        ({"crop": [0, 1]}, r"augment.crop: \[0, 1\]"),
        ({"crop": [0.8, 3]}, r"augment.crop: \[0.8, 3\]"),
        ({"crop": ["a", "b"]}, r"augment.crop: \['a', 'b'\]"),
        ({"interpolation": "nearst"}, r'augment.interpolation: \'nearst\'.*Did you mean "nearest"'),
        ({"interpolation": ["linear"]}, r"augment.interpolation: \['linear'\]"),
        ({"zom": 1.1}, r'augment: unknown key "zom".*Did you mean "zoom"'),
        (["zoom"], r"augment: \['zoom'\]; expected a table"),
    ],
)
def test_senseless_settings_are_refused(settings, match):
    with pytest.raises(SettingError, match=match):
        Augment.from_dict(settings)
