"""What one network of a bundle sees of a photograph, and where its pixels lie in the photograph. No torch.

A network that is shown several views of a photograph is explained on their middle one, which nothing turns or mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from m2cnn.bundle import Bundle
from m2cnn.data.augment import View, apply, middle
from m2cnn.field import Field
from m2cnn.photograph import Photograph, PhotographFile

PLAIN_SIGMA = 1 / 12  # of the picture's side: a retina without detail, whose light and colour stay


@dataclass(frozen=True)
class Shown:
    """picture: (S, S, 3) uint8, what the network sees.  inside: (S, S) bool, where that is retina.

    plain: (S, S, 3) uint8, the same retina without detail: what a hidden place is filled with.
    to_photograph: (2, 3), [x, y] of the photograph's file = to_photograph @ [x, y, 1] of the picture; centres of pixels
        are whole numbers, EXIF orientation applied.
    """

    picture: np.ndarray
    inside: np.ndarray
    plain: np.ndarray
    to_photograph: np.ndarray


def show(network: Bundle, file: PhotographFile) -> Shown:
    """What the network of a bundle of one sees. Raises ImageError for what cannot be read or has no round field."""
    preprocess, frame = network.preprocess, network.prepared
    view = _view(network)
    picture = apply(view, preprocess.read(file, frame), preprocess.background, network.size)
    photograph = file.at(preprocess.diameter(frame))
    inside = _through(view, preprocess.circle(frame), network.size)
    return Shown(picture, inside, _plain(picture, inside), _to_photograph(network, view, photograph))


def lesions_shown(network: Bundle, file: PhotographFile, mask: np.ndarray) -> np.ndarray:
    """A lesion mask (H, W) of the photograph's file -> (S, S) bool on the pixels that the network sees."""
    frame = network.prepared
    field = _field_of_file(file.at(network.preprocess.diameter(frame)))
    return _through(_view(network), network.preprocess.apply_to_mask(mask, field, frame), network.size)


def _view(network: Bundle) -> View:
    return middle(network.views.augment, network.size, network.prepared)


def _through(view: View, mask: np.ndarray, size: int) -> np.ndarray:
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask.astype(np.uint8), view.matrix, (size, size), flags=flags) > 0


def _plain(picture: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The local mean of the retina within the field; the rest of the picture as it is."""
    weight = inside.astype(np.float32)
    sigma = PLAIN_SIGMA * len(picture)
    summed = cv2.GaussianBlur(picture * weight[..., None], (0, 0), sigma)
    mean = summed / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-6)[..., None]
    return np.where(inside[..., None], np.clip(np.rint(mean), 0, 255).astype(np.uint8), picture)


def _field_of_file(photograph: Photograph) -> Field:
    """The field in pixels of the file, of which the photograph may be a reduced copy."""
    field, scale = photograph.field, photograph.scale
    x, y = ((centre + 0.5) * scale - 0.5 for centre in (field.x, field.y))
    return Field(x, y, field.radius * scale)


def _to_photograph(network: Bundle, view: View, photograph: Photograph) -> np.ndarray:
    left, top, side = network.preprocess.square(photograph.field)
    step = side / network.prepared * photograph.scale  # pixels of the file along one of the prepared picture
    corner = np.array([left, top]) * photograph.scale
    matrix = step * np.asarray(view.matrix, np.float64)
    matrix[:, 2] += step / 2 + corner - 0.5
    return matrix
