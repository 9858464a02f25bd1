"""Photographs are decoded as small as allowed, and never smaller; what is found of them holds at every scale."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from m2cnn.errors import ImageError, NoFieldError
from m2cnn.grader import Grader, Photo
from m2cnn.photograph import PhotographFile, read_image, read_photograph
from m2cnn.preprocess import Preprocess
from m2cnn.synthetic import render

LARGE = 1600


@pytest.fixture(scope="module")
def large():
    """A rendered eye of 1600 px, and its JPEG."""
    picture = render(3, 2, size=LARGE).image
    return picture, cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.mark.parametrize(("diameter", "scale"), [(100, 4), (350, 4), (500, 2), (735, 2), (810, 1), (9999, 1)])
def test_the_scale_is_the_smallest_that_keeps_the_field(large, diameter, scale):
    photograph = read_photograph(large[1], diameter)
    assert photograph.scale == scale
    assert max(photograph.image.shape) == LARGE // scale
    assert 2 * photograph.field.radius >= min(diameter, 1450)
    assert photograph.diameter == pytest.approx(2 * read_photograph(large[1], 9999).field.radius, rel=0.01)


def test_a_field_much_smaller_than_the_frame_is_read_larger(large):
    picture = np.zeros((3200, 3200, 3), np.uint8)
    picture[1000:2100, 1000:2100] = cv2.resize(large[0], (1100, 1100), interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    photograph = read_photograph(data, 350)
    assert photograph.scale == 2 and 2 * photograph.field.radius >= 350


def test_other_files_are_read_whole(large):
    png = cv2.imencode(".png", large[0][..., ::-1])[1].tobytes()
    assert read_photograph(png, 100).scale == 1
    assert np.array_equal(read_photograph(png, 100).image, large[0])


@pytest.mark.parametrize("size", [112, 224, 448, 720])
def test_a_picture_of_a_scaled_decode_is_that_of_the_whole(large, size):
    """The tolerance that Preprocess.diameter promises."""
    file = PhotographFile(large[1])
    whole = file.at(9999)
    away = np.abs(Preprocess().read(file, size).astype(int) - Preprocess()(whole.image, size, whole.field))
    assert away.mean() < 1.0 and np.percentile(away, 99) <= 8
    # A rendered eye has no detail that fine: what real ones need is asked for in so many words.
    assert file.at(Preprocess().diameter(size)).field.radius >= 1.4 * size / 2


def test_each_scale_is_decoded_once(large, monkeypatch):
    import m2cnn.photograph as module

    calls = []
    decode = module._decode
    monkeypatch.setattr(module, "_decode", lambda data, place, scale: calls.append(scale) or decode(data, place, scale))
    file = PhotographFile(large[1])
    for size in (720, 448, 224, 112, 448):
        Preprocess().read(file, size)
    file.frame(128)
    assert sorted(calls) == sorted(set(calls))


def test_orientation_holds_at_every_scale(large, tmp_path):
    picture = Image.fromarray(large[0])
    exif = picture.getexif()
    exif[274] = 6
    picture.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    for diameter in (100, 9999):
        image = read_photograph(tmp_path / "turned.jpg", diameter).image
        upright = cv2.resize(np.rot90(large[0], 3), image.shape[:2][::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(int) - upright).mean() < 4


@pytest.mark.parametrize("diameter", [100, 9999])
def test_damage_is_refused_at_every_scale(large, diameter):
    with pytest.raises(ImageError, match=r"damaged|missing"):
        read_photograph(large[1][: len(large[1]) // 2], diameter)


LOST = {
    "turned by half": {"exif": 3},
    "turned by a quarter": {"exif": 6},
    "CMYK": {"mode": "CMYK"},
    "progressive": {"progressive": True},
    "progressive, CMYK": {"progressive": True, "mode": "CMYK"},
}


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_jpeg_that_lost_its_end_is_refused(large, kind, share):
    """Cut off and closed again, as some programs that save what they got do: libjpeg fills in grey, or blurs."""
    options = dict(LOST[kind])
    picture = Image.fromarray(large[0]).convert(options.pop("mode", "RGB"))
    exif = picture.getexif()
    exif[274] = options.pop("exif", 1)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, exif=exif, **options)
    whole = file.getvalue()
    assert read_photograph(whole, 100).image.shape[2] == 3
    for diameter in (100, 9999):
        with pytest.raises(ImageError, match=r"lower part is missing|last scans are missing"):
            read_photograph(whole[: int(share * len(whole))] + b"\xff\xd9", diameter)


def test_no_field_is_said(tmp_path):
    file = PhotographFile(cv2.imencode(".png", np.full((300, 300, 3), 9, np.uint8))[1].tobytes())
    with pytest.raises(NoFieldError, match="no round field of view"):
        file.at(100)
    assert file.frame(100).shape == (300, 300, 3)


def test_grading_and_training_see_the_same_picture(large, tiny_run):
    grader = Grader.load(tiny_run)
    (picture,) = grader._prepare(Photo(large[1]), 0).pictures
    assert np.array_equal(picture, grader.bundle.preprocess.read(PhotographFile(large[1]), grader.bundle.size))


def test_real_photographs_keep_the_tolerance(real_data):
    for path in sorted((real_data / "eyepacs_fullres" / "train").iterdir()):
        file = PhotographFile(path)
        whole = file.at(99999)
        for size in (224, 448, 720):
            away = np.abs(Preprocess().read(file, size).astype(int) - Preprocess()(whole.image, size, whole.field))
            assert away.mean() < 1.5 and np.percentile(away, 99) <= 16
        assert np.array_equal(whole.image, read_image(path))
