"""A photograph made small, that is still one: cropped around its field of view, resized, with some of its surround.

What Preprocess makes of the reduced photograph is what it makes of the photograph before:

- stored without loss, the picture of the size that it was reduced for is the same bit by bit, smaller ones nearly;
- stored as JPEG, nearly. `tests/test_data_reduce.py` holds how nearly.

It is not masked and not processed in colour, so any Preprocess reads it: with a margin below 0, or below the size it
was reduced for, as long as size / (1 + margin) is at most its field's diameter. Larger pictures are refused.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from m2cnn.field import Field
from m2cnn.photograph import Photograph, PhotographFile, Reduction
from m2cnn.preprocess import Preprocess, cut, resized

SURROUND = 0.05  # of the diameter, on each side: a search for the field still sees its edge and what lies behind
JPEG_QUALITY = 95
KINDS = ("png", "jpeg")


@dataclass(frozen=True)
class Reduced:
    """content: of the file.  field: of view, in pixels of the photograph before."""

    content: bytes
    reduction: Reduction
    field: Field


def reduce_photograph(file: PhotographFile, size: int, kind: str) -> Reduced:
    """The reduced photograph, for pictures of up to `size` px.  kind: of KINDS.

    A field of view that is smaller than `size` keeps its pixels. Raises ImageError for what cannot be read or has no
    round field, ReducedError for what was itself reduced further.
    """
    file.check_holds(size)
    photograph = file.at(Preprocess().diameter(size))
    picture, diameter = reduced_picture(photograph, size)
    original = file.reduction.original if file.reduction else photograph.diameter
    reduction = Reduction(picture.shape[0], diameter, round(original, 2))
    field, scale = photograph.field, photograph.scale
    before = Field((field.x + 0.5) * scale - 0.5, (field.y + 0.5) * scale - 0.5, field.radius * scale)
    return Reduced(_with_comment(_encoded(picture, kind), reduction), reduction, before)


def reduced_picture(photograph: Photograph, size: int) -> tuple[np.ndarray, int]:
    """(side, side, 3) uint8 RGB with the field of view in its middle, and the diameter of that in whole px."""
    left, top, side = Preprocess().square(photograph.field)
    diameter = min(size, side)
    margin = max(1, round(SURROUND * diameter))
    room = round(margin * side / diameter)
    wide = cut(photograph.image, left - room, top - room, side + 2 * room)
    if diameter == side:
        return np.ascontiguousarray(wide), diameter
    # Preprocess begins to take means at the square's corner, so the square is resized alone; its surround, roughly.
    picture = cv2.resize(wide, (diameter + 2 * margin, diameter + 2 * margin), interpolation=cv2.INTER_LINEAR)
    picture[margin:-margin, margin:-margin] = resized(wide[room:-room, room:-room], diameter)
    return picture, diameter


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    blue_first = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if kind == "png":
        return cv2.imencode(".png", blue_first)[1].tobytes()  # OpenCV's default is its quickest
    how = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", blue_first, how)[1].tobytes()


def _with_comment(encoded: bytes, reduction: Reduction) -> bytes:
    """A PNG with a tEXt chunk behind its header, or a JPEG with a comment behind its first segment."""
    if encoded.startswith(b"\x89PNG"):
        head, rest = encoded[:33], encoded[33:]
        chunk = b"tEXtComment\0" + reduction.comment(rest)
        return b"".join([head, (len(chunk) - 4).to_bytes(4), chunk, zlib.crc32(chunk).to_bytes(4), rest])
    end = 4 + int.from_bytes(encoded[4:6])
    comment = reduction.comment(encoded[end + 4 :])
    return b"".join([encoded[:end], b"\xff\xfe", (len(comment) + 2).to_bytes(2), comment, encoded[end:]])
