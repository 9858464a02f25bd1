"""A member's answer is the mean over its views, whichever way the pictures came to its network."""

import numpy as np
import pytest

from m2cnn.data.augment import Augment
from m2cnn.data.views import Views, show
from m2cnn.reader import AT_ONCE, PIXELS, Reader
from m2cnn.tasks import Regression


def reader(size, count, batches=None):
    """Its network answers with the mean of a corner of each picture, and notes how many it was given."""

    def answers(pictures):
        if batches is not None:
            batches.append(len(pictures))
        corner = pictures[:, : size // 2, : size // 3].mean(axis=(1, 2, 3), keepdims=True)[:, :, 0, 0]
        return corner.astype(np.float32) / 64, np.concatenate([corner, -corner], axis=1).astype(np.float32)

    augment = Augment(rotation=180.0, flip=True)
    views = Views("random", count, 3, augment) if count > 1 else Views()
    return Reader(answers, Regression(), views, size, size)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_answers_are_those_of_each_picture_alone(count):
    pictures = np.random.default_rng(0).integers(0, 256, (7, 24, 24, 3), dtype=np.uint8)
    one = reader(24, count)
    outputs, features = one.read(pictures)
    for number, picture in enumerate(pictures):
        said, vectors = one.answers(show(picture, one.drawn, 24))
        assert outputs[number] == pytest.approx(said.mean(axis=0), abs=1e-5)
        assert features[number, :2] == pytest.approx(vectors.mean(axis=0), abs=1e-3)
        assert features[number, 2:] == pytest.approx(vectors.std(axis=0, ddof=1) if count > 1 else 0, abs=1e-3)


@pytest.mark.parametrize(("size", "at_once"), [(56, AT_ONCE), (256, AT_ONCE), (512, PIXELS // 512**2), (1600, 1)])
def test_a_network_of_large_pictures_is_given_few_at_once(size, at_once):
    batches = []
    one = reader(size, 3, batches)
    one.read(np.zeros((7, size, size, 3), np.uint8))
    assert max(batches) == one.at_once == at_once and sum(batches) == 7 * 3
