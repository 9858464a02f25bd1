"""Every kind of file is read right or refused with a reason; every retina is cropped to one scale."""

import io
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m2cnn.errors import BundleError, ImageError, SettingError
from m2cnn.field import Field
from m2cnn.photograph import read_image
from m2cnn.preprocess import Preprocess, graham, stretch_channels, subtract_local_mean
from m2cnn.synthetic import render

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:60, :80]
COLOUR = np.stack([COLUMNS * 3, ROWS * 4, ROWS + COLUMNS], axis=2).astype(np.uint8)
GREY = COLOUR[..., 0]
DETAILED = np.kron(COLOUR, np.ones((4, 4, 1), np.uint8)) + RNG.integers(0, 9, (240, 320, 3), dtype=np.uint8)


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def cut(data, share):
    return data[: int(len(data) * share)]


def deep(picture, kind):
    """16-bit colour file, by OpenCV: Pillow writes none."""
    return cv2.imencode(kind, np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()


def without_adobe_marker(jpeg):
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


# --- files that are read ----------------------------------------------------------------------------------------------

INK = np.asarray(Image.fromarray(COLOUR).convert("CMYK"))
GREY_3 = np.repeat(GREY[..., None], 3, axis=2)
BEST = {"quality": 98, "subsampling": 0}
READ_RIGHT = {
    "png": (lambda: encoded(COLOUR, "PNG"), COLOUR, 0),
    "jpeg": (lambda: encoded(COLOUR, "JPEG", **BEST), COLOUR, 6),
    "progressive jpeg": (lambda: encoded(COLOUR, "JPEG", progressive=True, **BEST), COLOUR, 6),
    "tiff": (lambda: encoded(COLOUR, "TIFF"), COLOUR, 0),
    "tiff, lzw": (lambda: encoded(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR, 0),
    "webp": (lambda: encoded(COLOUR, "WEBP", lossless=True), COLOUR, 0),
    "grey png": (lambda: encoded(GREY, "PNG"), GREY_3, 0),
    "grey jpeg": (lambda: encoded(GREY, "JPEG", quality=98), GREY_3, 4),
    "16-bit grey png": (lambda: encoded(GREY.astype(np.uint16) * 257, "PNG"), GREY_3, 0),
    "16-bit grey tiff": (lambda: encoded(GREY.astype(np.uint16) * 257, "TIFF"), GREY_3, 0),
    "16-bit colour png": (lambda: deep(COLOUR.astype(np.uint16) * 257, ".png"), COLOUR, 0),
    "16-bit colour tiff": (lambda: deep(COLOUR.astype(np.uint16) * 257, ".tiff"), COLOUR, 0),
    "cmyk jpeg, Adobe's inverted": (lambda: encoded(Image.fromarray(INK, "CMYK"), "JPEG", **BEST), COLOUR, 6),
    "cmyk jpeg, plain": (
        lambda: without_adobe_marker(encoded(Image.fromarray(255 - INK, "CMYK"), "JPEG", **BEST)),
        COLOUR,
        6,
    ),
    "cmyk tiff": (lambda: encoded(Image.fromarray(INK, "CMYK"), "TIFF"), COLOUR, 0),
    "opaque alpha": (lambda: encoded(Image.fromarray(COLOUR).convert("RGBA"), "PNG"), COLOUR, 0),
    "grey with opaque alpha": (lambda: encoded(Image.fromarray(GREY).convert("LA"), "PNG"), GREY_3, 0),
    "palette": (
        lambda: encoded(Image.fromarray(COLOUR // 64 * 64).convert("P", palette=1), "PNG"),
        COLOUR // 64 * 64,
        9,
    ),
    "camera's jpeg with preview": (
        lambda: encoded(
            Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[Image.fromarray(COLOUR[::2, ::2])]
        ),
        COLOUR,
        9,
    ),
}


@pytest.mark.parametrize("kind", READ_RIGHT)
def test_files_are_read_right(kind):
    make, expected, tolerance = READ_RIGHT[kind]
    image = read_image(make())
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance


def test_16_bit_values_are_scaled_to_the_full_range():
    steps = np.linspace(0, 65535, 256, dtype=np.uint16).repeat(16).reshape(64, 64)
    assert np.array_equal(np.unique(read_image(encoded(steps, "PNG"))), np.arange(256))


def _turned(orientation):
    """What a viewer shows of COLOUR when the camera wrote this EXIF orientation (EXIF 2.3, 4.6.4)."""
    flips = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    flips |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90}
    return flips[orientation](COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = read_image(encoded(COLOUR, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {"quality": 98})))
    expected = _turned(orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < (4 if kind == "JPEG" else 1e-9)


def test_paths_may_be_text_paths_or_unicode(tmp_path):
    path = tmp_path / "œil gauche — 左眼.png"
    path.write_bytes(encoded(COLOUR, "PNG"))
    assert np.array_equal(read_image(path), COLOUR)
    assert np.array_equal(read_image(str(path)), COLOUR)


# --- files that are refused -------------------------------------------------------------------------------------------


def _transparent(mode="RGBA"):
    picture = Image.fromarray(COLOUR).convert(mode)
    picture.putpixel((3, 3), (1, 2, 3, 0))
    return picture


def _tiff_16(**tags):
    info = {262: 1, 284: 1} | {int(key[1:]): value for key, value in tags.items()}
    buffer = io.BytesIO()
    Image.fromarray(GREY.astype(np.uint16) * 257).save(buffer, "TIFF", tiffinfo=info)
    return buffer.getvalue()


REFUSED = {
    "empty": (lambda: b"", "the file is empty; expected a PNG"),
    "text": (lambda: b"Dear doctor, the picture is lost.", "begins b'Dear doctor"),
    "gif": (lambda: encoded(COLOUR, "GIF"), "begins b'GIF"),
    "only a signature": (lambda: b"\xff\xd8", "unreadable"),
    "png cut off": (lambda: cut(encoded(DETAILED, "PNG"), 0.8), "damaged picture"),
    "jpeg cut off": (lambda: cut(encoded(DETAILED, "JPEG"), 0.6), "damaged picture"),
    "jpeg cut off by a little": (lambda: encoded(DETAILED, "JPEG")[:-40], "damaged picture"),
    "tiff cut off": (lambda: cut(encoded(DETAILED, "TIFF"), 0.5), "damaged picture"),
    "webp cut off": (lambda: cut(encoded(DETAILED, "WEBP"), 0.7), r"damaged picture|unreadable"),
    "jpeg cut off and closed": (lambda: cut(encoded(DETAILED, "JPEG"), 0.5) + b"\xff\xd9", "lower part is missing"),
    "jpeg with its last block lost": (
        lambda: cut(encoded(DETAILED, "JPEG"), 0.97) + b"\xff\xd9",
        "lower part is missing",
    ),
    "two pages": (
        lambda: encoded(Image.fromarray(COLOUR), "TIFF", save_all=True, append_images=[Image.fromarray(COLOUR)]),
        "2 pages or frames; expected a single photograph",
    ),
    "animation": (
        lambda: encoded(Image.fromarray(COLOUR), "WEBP", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
        "2 pages or frames",
    ),
    "transparent": (lambda: encoded(_transparent(), "PNG"), "transparent pixels; expected an opaque"),
    "transparent webp": (lambda: encoded(_transparent(), "WEBP"), "transparent pixels"),
    "transparent colour": (lambda: encoded(COLOUR, "PNG", transparency=(0, 0, 0)), "transparent pixels"),
    "12 bits in 16, grey": (lambda: encoded(GREY.astype(np.uint16) * 16, "PNG"), r"12-bit values\?"),
    "12 bits in 16, colour": (lambda: deep(COLOUR.astype(np.uint16) * 16, ".png"), "Multiply the values by 16"),
    "16-bit, white is zero": (lambda: _tiff_16(t262=0), "white as zero"),
    "floating point": (lambda: encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "pixels of kind F"),
    "lab": (lambda: encoded(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "pixels of kind LAB"),
    "tiny": (lambda: encoded(COLOUR[:8, :8], "PNG"), "8 x 8 pixels; expected at least 16 x 16"),
    "too large": (
        lambda: encoded(Image.new("1", (9000, 9000)), "PNG"),
        "9000 x 9000 pixels; expected at most 80,000,000",
    ),
    "far too large": (lambda: encoded(Image.new("1", (20000, 10000)), "PNG"), "too many pixels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_are_refused_with_their_reason(kind, tmp_path):
    make, match = REFUSED[kind]
    path = tmp_path / "eye.jpg"
    path.write_bytes(make())
    with pytest.raises(ImageError, match=match) as caught:
        read_image(path)
    assert caught.value.place == str(path)
    assert caught.value.expected
    assert caught.value.repair


def test_places_without_a_file_are_refused(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "lost.jpg")
    with pytest.raises(ImageError, match="not a file"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"no such file|cannot be read"):
        read_image("a\0b.jpg")


def test_huge_files_are_not_loaded(tmp_path, monkeypatch):
    path = tmp_path / "eye.png"
    path.write_bytes(encoded(COLOUR, "PNG"))
    monkeypatch.setattr("m2cnn.photograph.MAX_BYTES", 100)
    with pytest.raises(ImageError, match="150 bytes, more than 100"):
        read_image(path)


def test_a_file_without_rights_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "eye.png"
    path.write_bytes(b"")
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda self: (_ for _ in ()).throw(PermissionError("denied")))
    with pytest.raises(ImageError, match=r"cannot be read \(denied\)"):
        read_image(path)


def test_a_grey_surround_is_no_damage():
    photograph = np.full((128, 160, 3), 128, np.uint8)  # Graham-processed: grey in every corner
    photograph[30:100, 30:130] = 90
    assert read_image(encoded(photograph, "JPEG")).shape == (128, 160, 3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_a_picture_or_a_reason(kind, changes):
    data = bytearray(encoded(COLOUR, kind))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    try:
        image = read_image(bytes(data))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


# --- crop -------------------------------------------------------------------------------------------------------------


def eye(height=480, width=640, x=320.0, y=240.0, radius=200.0, spot=(60.0, -50.0)):
    """A retina with a white spot at a known place relative to its centre."""
    rows, columns = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    image[np.hypot(columns - x, rows - y) <= radius] = (180, 100, 60)
    image[np.hypot(columns - x - spot[0], rows - y - spot[1]) <= 12] = 255
    return image


def spot_of(picture):
    rows, columns = np.nonzero(picture[..., 2] > 150)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize(
    "frame",
    [{}, {"height": 300, "y": 150.0}, {"x": 250.5, "y": 260.0}, {"x": 500.0}, {"width": 401, "x": 200.0}],
    ids=["whole", "cut at top and bottom", "off-centre", "cut at a side", "tight"],
)
def test_a_retina_has_one_scale_however_it_is_cut(frame):
    picture = Preprocess()(eye(**frame), 224)
    x, y = spot_of(picture)
    assert abs(x - (111.5 + 60 * 112 / 200)) < 1.5
    assert abs(y - (111.5 - 50 * 112 / 200)) < 1.5


@pytest.mark.parametrize("size", [64, 97, 224, 400, 401, 512])
def test_every_size_shows_the_same(size):
    picture = Preprocess()(eye(), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    x, y = spot_of(picture)
    assert abs((x + 0.5) / size - 0.65) < 0.01
    assert abs((y + 0.5) / size - 0.375) < 0.01


def test_outside_the_field_it_is_black():
    image = eye()
    image[~image.any(axis=2)] = (0, 0, 9)
    image[60:100, 460:520] = 200  # a notch
    picture = Preprocess()(image, 128)
    rows, columns = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(rows, columns) > 64
    assert not picture[outside].any()
    assert picture[~outside].mean() > 90


def test_margin_leaves_room_or_crops():
    wide, tight = Preprocess(margin=0.25)(eye(), 250), Preprocess(margin=-0.2)(eye(), 160)
    assert np.flatnonzero(wide.any(axis=(1, 2))).tolist() == list(range(25, 225))
    assert tight[80].all()
    assert tight[0, 80].all()


def test_graham_subtracts_the_local_mean():
    image = eye()
    field = Field(320, 240, 200)
    picture = Preprocess(colour="graham")(image, 400, field)
    rows, columns = np.mgrid[:400, :400] - 199.5
    radius = np.hypot(rows, columns)
    assert (picture[radius > 0.9 * 200] == 128).all()
    flat = (radius < 150) & (np.hypot(columns - 60, rows + 50) > 40)
    assert np.abs(picture[flat].astype(int) - 128).max() <= 4
    assert picture[149, 259].min() > 180  # the spot stands out
    square = Preprocess().crop(image, field).astype(np.float64)
    expected = 4 * square - 4 * cv2.GaussianBlur(square, (0, 0), 200 / 30) + 128
    inside = radius < 175
    assert np.abs(picture[inside] - expected.clip(0, 255)[inside]).max() < 5  # the blur is rounded to whole levels


def test_local_mean_of_a_flat_picture_is_128():
    assert (subtract_local_mean(np.full((64, 64, 3), 77, np.uint8), 32) == 128).all()


@pytest.mark.parametrize(("radius", "side"), [(300, 843), (300, 820), (500, 1019), (30, 84)])
def test_grahams_retina_has_its_radius_in_its_field(radius, side):
    assert side / 2 / (1 + graham(radius, side).margin) == pytest.approx(radius, abs=1e-9)


def test_graham_against_a_case_worked_by_hand():
    # A retina of 30 px, left half 50, right half 200. The blur of sigma 30 / 30 = 1 has the weights 0.3991, 0.2420,
    # 0.0540, 0.0044 to each side, so next to the step the local mean is 95, 59, 51 on the left and 155, 191, 199 on the
    # right (rounded), and 4 * grey - 4 * mean + 128 is -52 (saturated to 0), 92, 124 and 308 (255), 164, 132.
    rows, columns = np.mgrid[:100, :120]
    image = np.where(columns[..., None] < 60, 50, 200).astype(np.uint8).repeat(3, axis=2)
    image[np.hypot(columns - 59.5, rows - 49.5) > 30] = 0
    picture = graham(30, 84)(image, 84, Field(59.5, 49.5, 30))  # px by px: 84 = 2 * 30 * 1.4
    expected = np.full(84, 128)
    expected[39:45] = 124, 92, 0, 255, 164, 132
    within = np.hypot(*(np.mgrid[:84, :84] - 41.5)) <= 27
    assert np.array_equal(picture, np.where(within, expected, 128)[..., None].repeat(3, axis=2))


def test_graham_agrees_with_plain_numpy_on_noise_and_at_the_rim():
    image = np.random.default_rng(3).integers(0, 256, (85, 85, 3), dtype=np.uint8)
    weights = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    blurred = np.pad(image.astype(float), ((3, 3), (3, 3), (0, 0)), "reflect")
    for axis in (0, 1):
        blurred = np.apply_along_axis(np.convolve, axis, blurred, weights / weights.sum(), "valid")
    expected = np.clip(4 * image.astype(int) - 4 * np.rint(blurred) + 128, 0, 255)
    picture = graham(30, 85)(image, 85, Field(42, 42, 30))
    within = np.hypot(*(np.mgrid[:85, :85] - 42.0)) <= 27
    different = np.abs(picture - expected)[within]
    assert different.max() <= 4 and (different == 0).mean() > 0.95  # 4: a local mean of nearly x.5, rounded
    assert {0, 255} <= set(picture[within].ravel().tolist())
    assert (picture[~within] == 128).all()
    assert (picture[42, [15, 69]] != 128).any(axis=1).all() and (picture[42, [14, 70]] == 128).all()


def test_masks_follow_the_photograph():
    image = eye(height=300, y=150.0)
    mask = image[..., 2] == 255
    preprocess = Preprocess(margin=0.1)
    field = Field(320, 150, 200)
    picture, lesion = preprocess(image, 224, field), preprocess.apply_to_mask(mask, field, 224)
    assert lesion.dtype == bool
    assert lesion[picture[..., 2] > 64].all()
    assert lesion.sum() < 1.5 * (picture[..., 2] > 150).sum()


@pytest.mark.parametrize("size", [32, 224, 700])
def test_the_smallest_lesion_survives(size):
    mask = np.zeros((480, 640), np.uint8)
    mask[240, 320] = 1
    assert Preprocess().apply_to_mask(mask, Field(320, 240, 200), size).any()


def test_a_field_outside_the_frame_is_black():
    assert not Preprocess()(eye(), 64, Field(-900, -900, 200)).any()


def test_crop_keeps_the_pixels():
    image = eye()
    square = Preprocess().crop(image, Field(320.0, 240.0, 200.0))
    assert square.shape == (400, 400, 3)
    assert np.array_equal(square, image[40:440, 120:520]) or np.array_equal(square, image[41:441, 121:521])


def test_settings_survive_json():
    for preprocess in (Preprocess(), Preprocess("graham", -0.1)):
        assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"version": 1, "color": "natural"}, BundleError, 'unknown key "color".*Did you mean "colour"'),
        ({"version": 2, "colour": "natural"}, BundleError, "version 2; expected version 1"),
        ({"colour": "natural"}, BundleError, "version None"),
        ({"version": 1, "colour": "grahm"}, SettingError, 'Did you mean "graham"'),
        ({"version": 1, "margin": 7}, SettingError, r"preprocess.margin: 7; expected -0.5..1"),
        ({"version": 1, "margin": True}, SettingError, "preprocess.margin: True"),
    ],
)
def test_unknown_settings_are_refused(values, error, match):
    with pytest.raises(error, match=match):
        Preprocess.from_dict(values)


@pytest.mark.parametrize("size", [0, 7, 5000, 224.0, True, "224"])
def test_senseless_sizes_are_refused(size):
    with pytest.raises(SettingError, match=r"size: .*expected a whole number of pixels, 8..4096"):
        Preprocess()(eye(), size)


@pytest.mark.real
def test_real_photographs_fill_their_circle(real_data):
    paths = [
        *sorted((real_data / "idrid").rglob("*.jpg"))[::60],
        *sorted((real_data / "eyepacs_fullres" / "train").iterdir())[:2],
    ]
    middle = np.hypot(*(np.mgrid[:224, :224] - 111.5)) < 60
    for path in paths:
        picture = Preprocess()(read_image(path), 224)
        assert picture[middle].mean() > 25, path.name
        assert not picture[0, 0].any()


# --- stretched --------------------------------------------------------------------------------------------------------


def test_stretched_channels_take_their_whole_range():
    picture = Preprocess("stretched")(rendered_eye(), 200)
    inside = disc(200, 0.9)
    assert all(picture[..., channel][inside].min() < 12 for channel in range(3))
    assert all(picture[..., channel][inside].max() == 255 for channel in range(3))
    assert (picture[~disc(200, 1.02)] == 0).all()


@pytest.mark.parametrize("factors", [(0.7, 1, 1), (1, 0.6, 0.8), (0.5, 0.5, 0.5)])
def test_a_tint_and_an_exposure_vanish(factors):
    """What bridges cameras: natural pictures differ by tens of grey levels, stretched ones hardly."""
    tinted = (rendered_eye() * np.array(factors)).astype(np.uint8)
    inside = disc(200, 0.9)

    def apart(colour):
        one, other = (Preprocess(colour)(image, 200).astype(float)[inside] for image in (rendered_eye(), tinted))
        return np.abs(one - other).mean()

    assert apart("stretched") < 3 < 10 < apart("natural")


def test_a_stretched_photograph_stays_as_it_is():
    once = Preprocess("stretched")(rendered_eye(), 200)
    twice = stretch_channels(once, 100)
    assert np.abs(once.astype(int) - twice)[disc(200, 0.9)].mean() < 3


def test_darkness_is_not_stretched():
    dark = np.zeros((100, 100, 3), np.uint8)
    assert (stretch_channels(dark, 50) == 0).all()


def rendered_eye():
    return render(4, 2, size=400).image


def disc(size, share):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(rows, columns) < share * size / 2
