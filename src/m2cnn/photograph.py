"""From a file to pixels: read a photograph, or as much of it as is needed, and find its round field of view.

Every file is read right or refused with a reason. Photographs of ten megapixels that become pictures of a few hundred
pixels are decoded at a half, a quarter or an eighth of their size, which JPEG allows at a fraction of the work.

A file that `m2cnn data prepare` wrote says where its field is, and it is not sought again; see Reduction.

Colours are RGB, uint8. ICC profiles are not applied: the public sets were graded, and networks are trained, on the
stored values.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from m2cnn.errors import ImageError, NoFieldError, ReducedError
from m2cnn.field import MIN_SIDE, THUMB, Field, find_field, no_field

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR_CONFIGURATION = 258, 262, 284  # tags of TIFF
ORIENTATION = 274  # tag of EXIF; 5 and above turn width into height
MAX_PIXELS = 80_000_000  # four times the largest fundus camera; below Pillow's own warning at 89 million
MAX_BYTES = 512 * 2**20
SCALES = (8, 4, 2)  # what a JPEG decoder reduces by, almost for free
USUAL_FRAME = 1.08  # the frame's height, in diameters of the field
START_OF_IMAGE, END_OF_IMAGE, FRAME_HEADER, SCAN_HEADER = 0xD8, 0xD9, 0xC2, 0xDA  # JPEG; the frame of progressive ones
MARKER = re.compile(rb"\xff+[\xc0-\xcf\xd8-\xfe]")  # no fill, no restart, no 0xFF within coded pixels
JPEG_KINDS = ("JPEG", "MPO")  # MPO: a camera's JPEG with previews behind it


class Header(NamedTuple):
    """What a file says of itself: width and height in px, upright, and the first table that a JPEG quantises with.

    table: 64 divisors of 1..255 (brightness), empty where there is none.
    """

    width: int
    height: int
    table: tuple[int, ...]


@dataclass(frozen=True)
class Photograph:
    """A photograph, read as large as it was needed.

    image: (H, W, 3) uint8 RGB.  field: the round field of view, in pixels of `image`.
    scale: pixels of the file along one pixel of `image`: 1, 2, 4 or 8.
    """

    image: np.ndarray
    field: Field
    scale: int

    @property
    def diameter(self) -> float:
        """Of the field of view, in pixels of the file."""
        return 2 * self.field.radius * self.scale


@dataclass(frozen=True)
class Reduction:
    """What a prepared file says of itself: a square picture with the field of view centred in it.

    side, diameter: of the picture and of the field, px of the file.  original: diameter in the photograph before, px.
    It stands in the file as a comment, with a check sum of all bytes behind it: once anything saves the picture anew,
    cropped, moved or merely compressed again, the comment is not believed any more and the field is sought.
    """

    side: int
    diameter: int
    original: float

    def comment(self, rest: bytes) -> bytes:
        """To stand in a file before `rest`, with 4 bytes between (the check sum that a PNG keeps of a comment)."""
        facts = f"side {self.side}, field {self.diameter} of {self.original:.2f} px, sum {zlib.crc32(rest):08x}"
        return COMMENT + facts.encode()

    @classmethod
    def of(cls, data: bytes) -> Reduction | None:
        """The reduction that a file tells of; None for all other files, and where the bytes are not as written."""
        start = data.find(COMMENT, 0, 100)
        told = COMMENTED.match(data, start) if start >= 0 else None
        if told is None or zlib.crc32(memoryview(data)[told.end() + 4 :]) != int(told[4], 16):
            return None
        return cls(int(told[1]), int(told[2]), float(told[3]))

    def field(self, scale: int) -> Field:
        """In pixels of the picture decoded at 1 / scale."""
        middle = self.side / 2 / scale - 0.5
        return Field(middle, middle, self.diameter / 2 / scale)


COMMENT = b"m2cnn reduced 1: "
COMMENTED = re.compile(re.escape(COMMENT) + rb"side (\d{2,5}), field (\d{1,5}) of (\d+\.\d\d) px, sum ([0-9a-f]{8})")


class PhotographFile:
    """A file's bytes, read once and decoded at each scale at most once.

    source: a path, or the bytes of a file. Raises ImageError as read_image does.
    """

    def __init__(self, source: str | Path | bytes):
        self._place, self._data = _contents(source)
        self._images: dict[int, np.ndarray] = {}
        self._found: dict[int, Photograph | None] = {}
        self.reduction = Reduction.of(self._data)

    def header(self) -> Header:
        """Of the file, whatever size it is decoded at. Raises ImageError for what is no picture."""
        with _errors_named(self._data, self._place), Image.open(io.BytesIO(self._data), formats=FORMATS) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
            width, height = picture.size[::-1] if turned else picture.size
            tables = getattr(picture, "quantization", None) or {}
            return Header(width, height, tuple(tables[min(tables)]) if tables else ())

    def at(self, diameter: float) -> Photograph:
        """The photograph with its field of view at least `diameter` px across, where the file has as many.

        JPEGs are decoded at the smallest of 1/8, 1/4, 1/2 and 1 that keeps so many; all other files whole. Raises
        ImageError as read_image and find_field do.
        """
        for scale in self._scales(diameter):
            photograph = self._photograph(scale)
            if photograph and 2 * photograph.field.radius >= diameter:
                return photograph
        if photograph is None:
            raise no_field()
        return photograph

    def _photograph(self, scale: int) -> Photograph | None:
        """At that scale; None where no field is found: a finer scale may show it."""
        if scale not in self._found:
            image = self._image(scale)
            try:
                field = self.reduction.field(scale) if self.reduction else find_field(image)
                self._found[scale] = Photograph(image, field, scale)
            except NoFieldError:
                self._found[scale] = None
        return self._found[scale]

    def check_holds(self, diameter: float) -> None:
        """Raise ReducedError when the file was prepared with a smaller field of view than `diameter` px, and the
        photograph before had more: what was taken away must not be made up."""
        have = self.reduction
        if have and have.diameter < diameter - 0.5 and have.original > have.diameter + 1:
            got = f"prepared with a field of view {have.diameter} px across"
            raise ReducedError(self._place, got, f"{diameter:.0f} px or more", "Prepare the photographs again, larger.")

    def frame(self, side: float) -> np.ndarray:
        """The whole frame, (H, W, 3) uint8 RGB, at least `side` px high and wide where the file is, field or not."""
        return self._image(self._scales(side)[0])

    def _scales(self, least: float) -> list[int]:
        """Scales to try, coarse to fine: fields are rarely wider than the frame is high, and most a little less."""
        with _errors_named(self._data, self._place), Image.open(io.BytesIO(self._data), formats=FORMATS) as picture:
            shorter = min(picture.size) if picture.format in JPEG_KINDS else 0
        least = max(least, THUMB)  # below it the search for the field would see less than it does on a large file
        # To decode once too fine costs a quarter more; to decode too coarse, and then again, twice as much.
        return [scale for scale in SCALES if shorter >= USUAL_FRAME * scale * least] + [1]

    def _image(self, scale: int) -> np.ndarray:
        if scale not in self._images:
            self._images[scale] = _decode(self._data, self._place, scale)
        return self._images[scale]


def read_photograph(source: str | Path | bytes, diameter: float) -> Photograph:
    """`PhotographFile(source).at(diameter)`, for those who need one size."""
    return PhotographFile(source).at(diameter)


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Read a photograph (a path, or the bytes of a file) -> (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied; grey becomes three equal channels; palette and CMYK (plain or Adobe-inverted) become
    RGB; 16-bit values are scaled so that 65535 becomes 255. An opaque alpha channel is dropped.
    Refused with ImageError: everything that is no PNG, JPEG, TIFF or WebP, broken or cut-off files, several pages or
    frames, transparency, 12-bit values in a 16-bit file, sides under 16 px and more than 80 million pixels.
    """
    place, data = _contents(source)
    return np.require(_decode(data, place, 1), requirements="W")


def too_long(length: int) -> str:
    return f"{length:,} bytes, more than {MAX_BYTES:,}"


def _contents(source: str | Path | bytes) -> tuple[str, bytes]:
    """What to call a source in an error, and its bytes."""
    place = "<bytes>" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else file_bytes(Path(source))
    if not data:
        raise ImageError(place, "the file is empty", _expected(), "Copy the file again from its source.")
    return place, data


def _decode(data: bytes, place: str, scale: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file's bytes, not always writable; scale above 1 is for JPEG alone."""
    with _errors_named(data, place), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        _check_header(picture, place)
        if scale > 1:
            picture.draft(None, (picture.width // scale, picture.height // scale))
        picture.load()
        depth = _bits_per_channel(picture, data, place)
        kind = picture.format
        if kind in JPEG_KINDS:
            _check_whole(picture, data, place)
        ImageOps.exif_transpose(picture, in_place=True)  # without a copy where there is nothing to turn
        image = _to_rgb(picture, depth, kind == "JPEG" and "adobe" not in picture.info, place)
    return image


@contextmanager
def _errors_named(data: bytes, place: str) -> Iterator[None]:
    """Whatever a decoder raises becomes an ImageError that names the place."""
    try:
        yield
    except ImageError:
        raise
    except Image.UnidentifiedImageError as cause:
        raise ImageError(place, f"unreadable, begins {data[:12]!r}", _expected(), "Convert it to PNG.") from cause
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as cause:
        raise ImageError(place, "too many pixels", f"at most {MAX_PIXELS:,}", "Reduce the photograph.") from cause
    except Exception as cause:  # whatever a decoder raises on a damaged file (a dozen kinds), the file is at fault
        raise ImageError(place, f"damaged picture ({cause})", _expected(), "Copy the file again.") from cause


def _expected() -> str:
    return "a PNG, JPEG, TIFF or WebP photograph"


def file_bytes(path: Path) -> bytes:
    """Of a photograph's file. Raises ImageError for what is no file, cannot be read, or is longer than MAX_BYTES."""
    place = str(path)
    try:
        if not path.exists():
            raise ImageError(place, "no such file", _expected(), "Check the path.")
        if not path.is_file():
            raise ImageError(place, "not a file", _expected(), "Name the photographs in it, one by one.")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(place, too_long(path.stat().st_size), _expected(), "Reduce it.")
        return path.read_bytes()
    except (OSError, ValueError) as cause:
        if isinstance(cause, ImageError):
            raise
        raise ImageError(place, f"cannot be read ({cause})", _expected(), "Check the path and its rights.") from cause


def _check_header(picture: Image.Image, place: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(place, f"{width} x {height} pixels", f"at most {MAX_PIXELS:,}", "Reduce the photograph.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(place, f"{width} x {height} pixels", f"at least {MIN_SIDE} x {MIN_SIDE}", "Use the original.")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # in MPO, a camera's JPEG, the further frames are previews
        raise ImageError(place, f"{frames} pages or frames", "a single photograph", "Save the wanted page alone.")


def _bits_per_channel(picture: Image.Image, data: bytes, place: str) -> int:
    if picture.format == "PNG":
        return data[24]  # IHDR; Pillow itself reduces 16-bit colour to its high bytes without a word
    if picture.format == "TIFF":
        bits = np.max(picture.tag_v2.get(BITS_PER_SAMPLE, 8))
        odd = picture.tag_v2.get(PLANAR_CONFIGURATION, 1) != 1 or picture.tag_v2.get(PHOTOMETRIC, 1) == 0
        if bits == 16 and odd:  # Pillow mixes the planes up, and does not turn white and black
            raise ImageError(place, "16-bit TIFF with planes apart or white as zero", _expected(), "Save it as PNG.")
        return int(bits)
    return 8


def _to_rgb(picture: Image.Image, depth: int, plain_jpeg: bool, place: str) -> np.ndarray:
    """Any mode that a fundus camera or an editor writes -> (H, W, 3) uint8; other modes are refused."""
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        picture = _without_alpha(picture, place)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and depth == 16):
        grey = np.rint(np.asarray(picture).astype(np.float32) / 257).astype(np.uint8)
        image = np.repeat(grey[:, :, None], 3, axis=2)
    elif picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for Adobe's inverted one.
        ink = Image.fromarray(255 - np.asarray(picture), "CMYK") if plain_jpeg else picture
        image = np.array(ink.convert("RGB"))
    elif picture.mode == "RGB":
        image = np.asarray(picture)  # of ten megapixels, every further copy costs as much as a quarter of the decoding
    elif picture.mode in ("1", "L", "P", "RGBX", "YCbCr"):
        image = np.array(picture.convert("RGB"))
    else:
        raise ImageError(place, f"pixels of kind {picture.mode}", "8- or 16-bit grey or colour", "Save it as PNG.")
    if depth == 16 and image.max() < 16:
        got = "a 16-bit file with no value above 4095 (12-bit values?)"
        raise ImageError(place, got, "values up to 65535", "Multiply the values by 16, or save it as 8-bit PNG.")
    return image


def _without_alpha(picture: Image.Image, place: str) -> Image.Image:
    rgba = picture.convert("RGBA")
    if rgba.getextrema()[3][0] < 255:
        raise ImageError(place, "transparent pixels", "an opaque photograph", "Flatten it on black.")
    return rgba.convert("RGB")


def _check_whole(picture: Image.Image, data: bytes, place: str) -> None:
    """Raises ImageError for a JPEG, as stored and not yet turned, that lost its end: libjpeg and Pillow do not tell."""
    if _is_grey_filled(picture):
        raise ImageError(place, "its lower part is missing (flat grey)", "a whole JPEG", "Copy the file again.")
    if picture.info.get("progressive") and not _has_all_scans(data):
        raise ImageError(place, "its last scans are missing: it is blurred", "a whole JPEG", "Copy the file again.")


def _is_grey_filled(picture: Image.Image) -> bool:
    # libjpeg fills what a damaged file lacks, to its last corner, with 128 in every channel. The corners of a
    # Graham-processed photograph are all grey.
    def flat(left: int, top: int) -> bool:
        corner = np.asarray(picture.crop((left, top, left + 8, top + 4)))
        return bool(np.abs(corner.astype(np.int16) - 128).max() <= 1)

    return flat(picture.width - 8, picture.height - 4) and not flat(0, 0)


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans of a progressive JPEG (ITU-T T.81, annex G) bring every coefficient to its last bit."""
    components, low_bit = 0, {}
    for marker, head in _segments(data):
        if marker == FRAME_HEADER:
            components = head[5]
        elif marker == SCAN_HEADER:
            names, (start, end, bits) = head[1 : 1 + 2 * head[0] : 2], head[1 + 2 * head[0] :][:3]
            low_bit |= {(name, place): bits & 15 for name in names for place in range(start, end + 1)}
    return len(low_bit) == 64 * components and not any(low_bit.values())


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of a JPEG's segments up to its end; the coded pixels between them are passed over."""
    place = 0
    while found := MARKER.search(data, place):
        marker, place = found[0][-1], found.end()
        if marker == END_OF_IMAGE:
            return
        if marker != START_OF_IMAGE:
            length = int.from_bytes(data[place : place + 2])
            yield marker, data[place + 2 : place + length]
            place += length
