"""A reduced photograph gives the picture of the photograph before, and is believed only as it was written."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from m2cnn.data.importers import import_dataset
from m2cnn.data.reduce import KINDS, reduce_photograph, reduced_picture
from m2cnn.errors import ReducedError
from m2cnn.field import find_field
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import check_file
from m2cnn.synthetic import render
from m2cnn.synthetic.dataset import encode

WAYS = [Preprocess(), Preprocess("graham"), Preprocess(margin=0.25), Preprocess("graham", 0.1), Preprocess(margin=-0.1)]


@pytest.fixture(scope="module")
def photograph():
    """A JPEG of 1200 px, rendered."""
    return encode(render(3, 3, size=1200).image, "jpeg")


def cut_off(photograph):
    """The same with the field's top and bottom outside the frame, as many cameras write it."""
    image = cv2.imdecode(np.frombuffer(photograph, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpeg", image[170:-170])[1].tobytes()


def reduced(data, size, kind="png"):
    return PhotographFile(reduce_photograph(PhotographFile(data), size, kind).content)


def apart(one, other):
    """Mean and 99th percentile of the differences, grey levels."""
    difference = np.abs(one.astype(int) - other)
    return difference.mean(), np.percentile(difference, 99)


@pytest.mark.parametrize("colour", ["natural", "graham"])
@pytest.mark.parametrize("size", [96, 224, 333, 720])
@pytest.mark.parametrize("cut", [False, True])
def test_the_picture_of_the_largest_size_is_the_same_bit_by_bit(photograph, size, colour, cut):
    data = cut_off(photograph) if cut else photograph
    preprocess = Preprocess(colour)
    expected = preprocess.read(PhotographFile(data), size)
    assert np.array_equal(preprocess.read(reduced(data, size), size), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preprocess", WAYS, ids=str)
def test_other_pictures_are_nearly_the_same(photograph, preprocess, kind):
    """As docs/how-to/prepare.md says. Graham's colours are differences times four."""
    file = reduced(photograph, 448, kind)
    times = 3 if preprocess.colour == "graham" else 1
    for size in (112, 224, 320, 400):
        mean, most = apart(preprocess.read(PhotographFile(photograph), size), preprocess.read(file, size))
        assert mean < 2 * times and most < 12 * times, (size, mean, most)


@pytest.mark.parametrize("kind", KINDS)
def test_it_looks_like_a_photograph_to_those_who_seek_its_field(photograph, kind):
    file = reduced(photograph, 400, kind)
    known = file.at(400).field
    assert file.at(400).image.shape == (440, 440, 3)
    assert (known.x, known.y, known.radius) == (219.5, 219.5, 200)
    found = find_field(file.at(400).image)
    assert np.hypot(found.x - known.x, found.y - known.y) < 2
    assert found.radius == pytest.approx(200, rel=0.01)
    assert check_file(file) == check_file(PhotographFile(photograph)) == ""


def test_a_jpeg_is_read_at_a_part_of_its_size_with_its_field(photograph):
    file = reduced(photograph, 1000, "jpeg")
    quarter = file.at(400)
    assert quarter.scale == 2
    found = find_field(quarter.image)
    assert quarter.field.x == pytest.approx(found.x, abs=1.5)
    assert quarter.field.radius == 250


def test_small_fields_keep_their_pixels(photograph):
    file, before = reduced(photograph, 4000), PhotographFile(photograph)
    assert file.reduction.diameter == round(before.at(4000).diameter)
    for size in (224, 500, 1300):
        whole = before.at(4000)
        assert np.array_equal(Preprocess().read(file, size), Preprocess()(whole.image, size, whole.field))


def test_what_was_taken_away_is_not_made_up(photograph):
    file = reduced(photograph, 224)
    with pytest.raises(ReducedError, match=r"field of view 224 px across; expected 448 px or more\. Prepare"):
        Preprocess().read(file, 448)
    with pytest.raises(ReducedError, match="expected 249 px"):
        Preprocess(margin=-0.1).read(file, 224)
    with pytest.raises(ReducedError, match="expected 300 px"):
        reduce_photograph(file, 300, "png")
    assert Preprocess(margin=0.25).read(file, 280).shape == (280, 280, 3)


def test_it_can_be_reduced_again(photograph):
    twice = PhotographFile(reduce_photograph(reduced(photograph, 500), 200, "png").content)
    assert twice.reduction.diameter == 200
    assert twice.reduction.original == pytest.approx(PhotographFile(photograph).at(4000).diameter, rel=0.01)
    mean, most = apart(Preprocess().read(twice, 200), Preprocess().read(PhotographFile(photograph), 200))
    assert mean < 2 and most < 12


@pytest.mark.parametrize("kind", KINDS)
def test_saved_anew_its_comment_is_not_believed(photograph, kind):
    """A picture moved by 20 px and saved with its comment must not be read with the old field."""
    file = reduced(photograph, 400, kind)
    content = file._data
    picture = Image.open(io.BytesIO(content))
    comment = picture.info["Comment" if kind == "png" else "comment"]
    moved, out = Image.fromarray(np.roll(np.asarray(picture), 12, axis=1)), io.BytesIO()
    if kind == "png":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("Comment", comment)
        moved.save(out, "PNG", pnginfo=text)
    else:
        moved.save(out, "JPEG", quality=95, comment=comment)
    assert b"m2cnn reduced 1: side 440" in out.getvalue()
    again = PhotographFile(out.getvalue())
    assert again.reduction is None
    assert again.at(400).field.x == pytest.approx(219.5 + 12, abs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_other_programs_read_the_file(photograph, kind):
    content = reduced(photograph, 300, kind)._data
    ours = PhotographFile(content).at(300).image
    theirs = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(theirs.astype(int) - ours).max() <= (0 if kind == "png" else 1)
    if kind == "jpeg":  # colour is as fine as light: microaneurysms are red on red
        assert [layer[1:3] for layer in Image.open(io.BytesIO(content)).layer] == [(1, 1)] * 3
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 255
    assert PhotographFile(bytes(damaged)).reduction is None


def test_the_surround_is_that_of_the_photograph(photograph):
    """Grey stays grey, and beyond the frame it is black."""
    whole = PhotographFile(cut_off(photograph)).at(4000)
    picture, diameter = reduced_picture(whole, 300)
    assert (diameter, picture.shape) == (300, (330, 330, 3))
    assert not picture[:10].any() and not picture[-10:].any()
    grey = np.where(whole.image.max(axis=2, keepdims=True) < 8, 60, whole.image).astype(np.uint8)
    wide, _ = reduced_picture(type(whole)(grey, whole.field, 1), 300)
    assert np.median(wide[165, 9:13]) == 60


@pytest.mark.real
@pytest.mark.parametrize("name", ["eyepacs_fullres", "idrid"])
@pytest.mark.parametrize("kind", KINDS)
def test_real_photographs(real_data, name, kind):
    manifest = import_dataset("eyepacs" if name == "eyepacs_fullres" else name, real_data / name).manifest
    for row in manifest.rows[:: max(1, len(manifest) // 6)]:
        data = manifest.path(row).read_bytes()
        file = reduced(data, 448, kind)
        for size in (224, 448):
            mean, most = apart(Preprocess().read(PhotographFile(data), size), Preprocess().read(file, size))
            assert (mean, most) == (0, 0) if (size, kind) == (448, "png") else mean < 2 and most < 16, row.image
        assert check_file(file) == check_file(PhotographFile(data))
