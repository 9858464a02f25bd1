"""The same photograph is known again, however it was copied; strangers are not."""

import cv2
import numpy as np
import pytest

from m2cnn.errors import ImageError
from m2cnn.fingerprint import (
    SAME,
    SAME_BOX,
    TERNARY_LENGTH,
    TERNARY_SAME,
    codes,
    embedded,
    planes_of_file,
    similarity,
    ternary_codes,
    ternary_likeness,
)
from m2cnn.photograph import PhotographFile
from m2cnn.synthetic import render

SIDE = 448


def planes(picture):
    return planes_of_file(PhotographFile(cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()))


EYES = ("left", "right")


@pytest.fixture(scope="module")
def rendered_eyes():
    """Both eyes of six patients."""
    return [render(21, patient % 5, patient=patient, eye=eye, size=SIDE) for patient in range(6) for eye in EYES]


@pytest.fixture(scope="module")
def eyes(rendered_eyes):
    """Their photographs."""
    return [eye.image for eye in rendered_eyes]


def stretched(picture):
    low, high = np.percentile(picture, (2, 98), axis=(0, 1))
    return ((picture - low) / (high - low + 1) * 255).clip(0, 255).astype(np.uint8)


def graham(picture):
    lit = picture.max(axis=2, keepdims=True) > 20
    return np.where(lit, cv2.addWeighted(picture, 4, cv2.GaussianBlur(picture, (0, 0), 8), -4, 128), 0).astype(np.uint8)


def jpeg(picture, quality):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def middle(eye, share):
    """The square in the middle of the field, `share` of its diameter."""
    half = share * eye.view.radius
    rows, columns = (slice(round(at - half), round(at + half)) for at in reversed(eye.view.centre))
    return eye.image[rows, columns]


COPIES = {
    "smaller": lambda p: cv2.resize(p, (180, 180), interpolation=cv2.INTER_AREA),
    "larger, blurred": lambda p: cv2.resize(p, (800, 800), interpolation=cv2.INTER_CUBIC),
    "bad jpeg": lambda p: jpeg(p, 25),
    "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "stretched": stretched,
    "graham": graham,
    "darker": lambda p: (p * 0.4).astype(np.uint8),
    "other colours": lambda p: p[..., ::-1],
    "cut at top and bottom": lambda p: p[40:-40],
    "cut at one side": lambda p: p[:, 50:],
    "with a wide border": lambda p: cv2.copyMakeBorder(p, 60, 60, 200, 90, cv2.BORDER_CONSTANT),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_known_again(eyes, name):
    found = [similarity(planes(eye)[0], planes(COPIES[name](eye))[0]) for eye in eyes[:6]]
    assert min(found) > SAME


def test_a_squeezed_copy_is_known_by_its_box(eyes):
    found = [similarity(planes(eye)[1], planes(cv2.resize(eye, (300, 448)))[1]) for eye in eyes[:6]]
    assert min(found) > SAME_BOX


def test_strangers_are_not(eyes):
    fields = [planes(eye)[0] for eye in eyes]
    alike = [similarity(fields[a], fields[b]) for a in range(len(eyes)) for b in range(a)]
    assert max(alike) < SAME - 0.1


def test_the_nearest_code_is_the_copys(eyes):
    one = codes(np.array([planes(eye)[0] for eye in eyes]))
    other = codes(np.array([planes(COPIES["stretched"](COPIES["smaller"](eye)))[0] for eye in eyes]))
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-4)
    assert ((one @ other.T).argmax(axis=1) == np.arange(len(eyes))).all()


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7])
def test_a_crop_without_a_rim_is_a_part_of_the_field(rendered_eyes, eyes, share):
    crops = [embedded(planes(middle(eye, share))[1], share) for eye in rendered_eyes[:6]]
    found = [similarity(crop, planes(eye)[0]) for crop, eye in zip(crops, eyes, strict=False)]
    strangers = [similarity(crop, planes(eye)[0]) for crop, eye in zip(crops, eyes[1:], strict=False)]
    assert min(found) > SAME and max(strangers) < SAME - 0.1


@pytest.mark.parametrize("name", ["smaller", "grey", "stretched", "darker", "cut at top and bottom"])
def test_a_bundles_codes_know_a_copy_and_no_stranger(eyes, name):
    known = ternary_codes(np.array([planes(eye)[0] for eye in eyes]))
    assert known.shape == (len(eyes), TERNARY_LENGTH) and set(np.unique(known)) == {-1, 0, 1}
    copies = ternary_codes(np.array([planes(COPIES[name](eye))[0] for eye in eyes]))
    likeness = ternary_likeness(known, copies)
    assert likeness.diagonal().min() > TERNARY_SAME
    assert likeness[~np.eye(len(eyes), dtype=bool)].max() < TERNARY_SAME - 0.1


def test_without_a_field_there_is_still_a_box():
    page = np.full((300, 200, 3), 200, np.uint8)
    page[50:60] = 0
    field, box = planes(page)
    assert not field.any() and box.any()


def test_nothing_at_all_is_like_nothing():
    black = np.zeros((64, 64), np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    assert similarity(black, black) < SAME
    assert similarity(black, noise) < SAME
    assert not codes(black[None]).any()
    assert codes(np.empty((0, 64, 64), np.uint8)).shape[0] == 0


def test_what_cannot_be_read_has_no_planes():
    with pytest.raises(ImageError, match="unreadable"):
        planes_of_file(PhotographFile(b"no photograph"))
