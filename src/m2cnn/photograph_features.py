"""The seven numbers that Min-pooling's random forest reads of a photograph itself, beside its networks' answers.

Known (B. Graham's report and code, Kaggle 2015): which seven they are. Reconstruction: the picture is this package's,
the square around the field of view (the original scaled the whole frame); the Laplacian is signed, not clipped to
0..255.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess


def photograph_features(file: PhotographFile, radius: int = 1000) -> np.ndarray:
    """(7,) float32 of a photograph, in grey levels and px of the file.

    0  standard deviation of the picture less its local mean, its field of view `radius` px in radius (1000: published)
    1  standard deviation of the Laplacian of the central half (a quarter of the area) of that picture: noise
    2  mean red, 3 green, 4 blue of the central half of the photograph
    5  width, 6 height of that half

    Raises ImageError for what cannot be read or has no round field, ReducedError for what was prepared smaller.
    """
    graham = Preprocess("graham")
    picture = graham.read(file, 2 * radius)
    noise = cv2.Laplacian(central_half(picture), cv2.CV_32F).std()
    colours = central_half(file.at(graham.diameter(2 * radius)).image).mean(axis=(0, 1))
    header = file.header()
    return np.array([picture.std(), noise, *colours, header.width // 2, header.height // 2], np.float32)


def central_half(image: np.ndarray) -> np.ndarray:
    """(H, W[, 3]) -> (H // 2, W // 2[, 3]), the middle of it."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
