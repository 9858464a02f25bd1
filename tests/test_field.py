"""The round field of view: known circles in every disguise, and photographs of real cameras."""

import time

import cv2
import numpy as np
import pytest

from m2cnn.errors import ImageError
from m2cnn.field import Field, check_image, find_field


def disc(height=480, width=640, x=320.0, y=240.0, radius=200.0, colour=(190, 110, 60), background=(0, 0, 0)):
    """A field with a brighter middle and some dark lines, at a known place; edges are smooth."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(columns - x, rows - y)
    inside = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    tissue = np.array(colour) * (1 - 0.4 * (distance / radius) ** 2).clip(0.2)[..., None]
    tissue = tissue * np.where(np.sin(columns / 9 + rows / 31) > 0.97, 0.7, 1.0)[..., None]
    return np.rint(inside * tissue + (1 - inside) * np.array(background)).astype(np.uint8)


def assert_near(field, x, y, radius, tolerance):
    assert abs(field.x - x) < tolerance
    assert abs(field.y - y) < tolerance
    assert abs(field.radius - radius) < tolerance


PLACES = {
    "whole": {},
    "cut at top and bottom": {"height": 300, "y": 150.0},
    "cut at one side": {"x": 500.0},
    "touching all sides": {"height": 256, "width": 256, "x": 127.5, "y": 127.5, "radius": 128.0},
    "cut on all sides": {"height": 380, "width": 380, "x": 189.5, "y": 189.5, "radius": 215.0},
    "off-centre": {"x": 260.0, "y": 260.5},
    "small": {"radius": 90.0},
    "large": {"height": 900, "width": 1200, "x": 600.0, "y": 420.0, "radius": 432.0},
    "dark": {"colour": (26, 14, 8)},
    "cyan": {"colour": (60, 190, 200)},
    "on grey": {"background": (128, 128, 128)},
    "on white": {"background": (255, 255, 255)},
}


@pytest.mark.parametrize("place", PLACES)
def test_known_circle_is_found(place):
    settings = {"x": 320.0, "y": 240.0, "radius": 200.0} | PLACES[place]
    image = disc(**settings)
    tolerance = 0.012 * settings["radius"] + 0.5
    assert_near(find_field(image), settings["x"], settings["y"], settings["radius"], tolerance)


def test_cut_by_a_black_border_inside_the_frame():
    image = disc()
    image[:110] = 0
    image[370:] = 0
    assert_near(find_field(image), 320, 240, 200, 3)


def test_noise_around_the_field():
    noise = np.random.default_rng(1).integers(0, 90, (480, 640, 1), dtype=np.uint8)
    image = np.where(disc().any(axis=2, keepdims=True), disc(), noise)
    assert_near(find_field(image), 320, 240, 200, 4)


def test_notch_and_text_do_not_move_it():
    image = disc()
    cv2.rectangle(image, (440, 70), (500, 130), (200, 190, 180), -1)  # a notch on the rim
    cv2.putText(image, "OD 45", (5, 470), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    assert_near(find_field(image), 320, 240, 200, 3)


def test_glow_around_the_field_is_no_part_of_it():
    # Where the field is dark, the glow is the rounder of the two; the steepest fall is still at the field.
    image = disc()
    image[:, :260] //= 8
    assert_near(find_field(np.maximum(image, disc(radius=210.0, colour=(14, 14, 14)))), 320, 240, 200, 3)


def test_dark_crescent_does_not_move_it():
    image = disc()
    image[:, :200] //= 12
    assert_near(find_field(image), 320, 240, 200, 4)


def test_graham_subtracted_photograph_on_grey():
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (480, 640, 3)), (0, 0), 3)
    image = np.clip(128 + 30 * texture / texture.std(), 0, 255).astype(np.uint8)
    image[~disc().any(axis=2)] = 128
    assert_near(find_field(image), 320, 240, 200, 5)


def test_the_same_photograph_has_one_field_at_every_size():
    image = disc(height=900, width=1200, x=592.0, y=458.0, radius=412.0)
    whole = find_field(image)
    half = find_field(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert_near(half, (whole.x + 0.5) / 2 - 0.5, (whole.y + 0.5) / 2 - 0.5, whole.radius / 2, 2)


def test_it_is_deterministic():
    assert find_field(disc()) == find_field(disc())


def _document():
    page = np.full((600, 450, 3), 255, np.uint8)
    for line in range(20):
        cv2.putText(page, "Lorem ipsum dolor", (20, 40 + 27 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 20), 1)
    return page


NO_FIELD = {
    "black": np.zeros((300, 400, 3), np.uint8),
    "white": np.full((300, 400, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
    "gradient": np.repeat(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], 300, axis=0).repeat(3, axis=2),
    "document": _document(),
    "rectangle": cv2.rectangle(np.zeros((300, 400, 3), np.uint8), (50, 60), (330, 220), (190, 110, 60), -1),
    "thin line": cv2.line(np.zeros((300, 400, 3), np.uint8), (5, 5), (390, 280), (255, 255, 255), 8),
}


@pytest.mark.parametrize("kind", NO_FIELD)
def test_pictures_without_a_round_field_are_refused(kind):
    with pytest.raises(ImageError, match="no round field of view"):
        find_field(NO_FIELD[kind])


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((40, 40), np.uint8), r"\(40, 40\) uint8; expected an array \(H, W, 3\)"),
        (np.zeros((40, 40, 3), np.float32), "float32"),
        (np.zeros((40, 40, 4), np.uint8), r"\(40, 40, 4\)"),
        (np.zeros((10, 40, 3), np.uint8), "40 x 10 pixels; expected sides of 16"),
        ("eye.png", "str; expected an array"),
    ],
)
def test_what_is_no_picture_is_refused(image, match):
    with pytest.raises(ImageError, match=match):
        check_image(image)


def test_large_photographs_are_searched_on_a_copy():
    image = cv2.resize(disc(), (4000, 3000))
    start = time.process_time()
    find_field(image)
    assert time.process_time() - start < 0.25  # about 0.01 when nothing else runs


@pytest.mark.real
def test_real_photographs_have_a_field(real_data):
    from m2cnn.photograph import read_image

    paths = [
        *sorted((real_data / "eyepacs256" / "train").iterdir())[::200],
        *sorted((real_data / "eyepacs1024" / "train").iterdir())[::50],
        *sorted((real_data / "idrid").rglob("*.jpg"))[::40],
    ]
    for path in paths:
        image = read_image(path)
        field = find_field(image)
        width = image.shape[1]
        assert isinstance(field, Field)
        assert 0.28 * width < field.radius < 0.62 * width, path.name


@pytest.mark.real
def test_idrid_circles_agree_with_the_camera(real_data):
    # One camera took all of IDRiD: the radius is the same in every photograph, although all are cut at top and bottom.
    from m2cnn.photograph import read_image

    paths = sorted((real_data / "idrid").rglob("*.jpg"))[::20]
    radii = np.array([find_field(read_image(path)).radius for path in paths])
    assert np.ptp(radii) / np.median(radii) < 0.03
