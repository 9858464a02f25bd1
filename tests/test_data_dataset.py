"""Views, order and batches: a function of seed, stage, pass and position, and of nothing else."""

from collections import Counter

import numpy as np
import pytest

from m2cnn.data.augment import Augment, apply, draw, middle
from m2cnn.data.cache import cache_pictures
from m2cnn.data.dataset import PassBatches, Pictures, every_batch, loader
from m2cnn.data.sampling import Sampling, pass_order
from m2cnn.errors import SettingError
from m2cnn.preprocess import Preprocess

STILL = Augment(0, False, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def prepared(rendered, tmp_path_factory):
    return cache_pictures(rendered, Preprocess(), [56], tmp_path_factory.mktemp("pictures"), 1)


def test_no_augmentation_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    assert np.array_equal(apply(draw(STILL, 56, np.random.default_rng(1)), picture), picture)


def test_a_quarter_turn_is_a_quarter_turn():
    picture = np.random.default_rng(0).integers(0, 256, (57, 57, 3), dtype=np.uint8)
    view = draw(STILL, 57, np.random.default_rng(1))
    turned = type(view)(np.array([[0.0, -1, 56], [1, 0, 0]]), 1.0, 0.0)
    assert np.array_equal(apply(turned, picture), np.rot90(picture))


def test_brightness_leaves_the_surround_alone():
    picture = np.zeros((56, 56, 3), np.uint8)
    picture[20:30, 20:30] = 100
    view = draw(Augment(0, False, 0, 0, brightness=0.2, contrast=0), 56, np.random.default_rng(3))
    after = apply(view, picture)
    assert after[0, 0].tolist() == [0, 0, 0]
    assert after[25, 25, 0] == round(100 + view.offset)
    assert abs(view.offset) > 1


def test_rotation_covers_the_circle_and_mirrors():
    matrices = [draw(Augment(), 100, np.random.default_rng(seed)).matrix[:, :2] for seed in range(200)]
    angles = np.array([np.arctan2(m[1, 0], m[0, 0]) for m in matrices])
    assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() > 10
    mirrored = sum(np.linalg.det(m) < 0 for m in matrices)
    assert 60 < mirrored < 140
    scales = np.array([1 / np.sqrt(abs(np.linalg.det(m))) for m in matrices])
    assert 0.9 <= scales.min() < 0.93 and 1.07 < scales.max() <= 1.1


def test_decaying_weights_are_those_of_team_o_o():
    counts = (25810, 2443, 5292, 873, 708)
    grades = np.repeat(np.arange(5), counts)
    first = Sampling("decaying").weights(grades, 0)
    places = np.cumsum((0, *counts[:-1]))
    ours = first[places] / first[0]
    theirs = np.array([1.360945, 14.378223, 6.637566, 40.235968, 49.612994])
    assert ours == pytest.approx(theirs / theirs[0], rel=1e-6)
    late = Sampling("decaying").weights(grades, 2000)[places]
    assert late / late[0] == pytest.approx([1, 2, 2, 2, 2])


def test_decaying_sampling_draws_by_weight():
    grades = np.repeat([0, 4], [900, 100])
    drawn = Counter(grades[pass_order(grades, Sampling("decaying"), (0, 0), 0)])
    assert 400 < drawn[4] < 600
    assert Counter(grades[pass_order(grades, Sampling(), (0, 0), 0)]) == {0: 900, 4: 100}


def test_passes_differ_and_repeat_exactly():
    grades = np.zeros(50, int)
    first, again, second = (pass_order(grades, Sampling(), (0, 1), epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, pass_order(grades, Sampling(), (0, 2), 0))


def test_batches_continue_where_they_stopped():
    order = np.random.default_rng(0).permutation(23)
    whole = list(PassBatches(order, 5, 2))
    assert list(PassBatches(order, 5, 2, start=2)) == whole[2:]
    assert len(PassBatches(order, 5, 2, start=2)) == 3
    assert sorted(key[0] for batch in whole for key in batch) == list(range(23))


@pytest.mark.parametrize(
    ("count", "batch", "whole", "total"), [(21, 5, True, 4), (22, 5, True, 5), (21, 5, False, 5), (1, 5, True, 1)]
)
def test_a_single_photograph_makes_no_training_batch(count, batch, whole, total):
    assert len(list(PassBatches(np.arange(count), batch, 0, whole=whole))) == total


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than a machine of one core has
def test_the_same_key_gives_the_same_view_for_any_number_of_workers(prepared, rendered):
    pictures = Pictures(prepared, rendered.rows, 56, Augment(), (3, 0))
    order = pass_order(pictures.grades, Sampling(), (3, 0), 1)
    alone, workers = (list(loader(pictures, PassBatches(order, 8, 1), n)) for n in (0, 2))
    for (first, grades), (second, same) in zip(alone, workers, strict=True):
        assert first.equal(second) and grades.equal(same)
    assert not pictures[(0, 1, 0)][0].equal(pictures[(0, 2, 0)][0])


def test_evaluation_sees_every_photograph_once_as_prepared(prepared, rendered):
    pictures = Pictures(prepared, rendered.rows, 56)
    seen = [grade for _, grades in loader(pictures, every_batch(len(pictures), 7)) for grade in grades.tolist()]
    assert seen == [row.grade for row in rendered]
    first = pictures[(0, 0, 0)][0].numpy().transpose(1, 2, 0)
    assert np.array_equal(first, prepared.pictures(56)[prepared.index[rendered.rows[0].image]])


@pytest.mark.parametrize("size", [48, 49])
def test_an_item_of_a_larger_frame_is_its_centre(prepared, rendered, size):
    pictures = Pictures(prepared, rendered.rows, size, frame=56)
    whole = prepared.pictures(56)[prepared.index[rendered.rows[2].image]]
    start = (56 - size) // 2
    centre = whole[start : start + size, start : start + size]
    assert np.array_equal(pictures[(2, 0, 0)][0].numpy().transpose(1, 2, 0), centre)
    viewed = Pictures(prepared, rendered.rows, size, frame=56, view=middle(Augment(), size, 56))
    assert viewed[(2, 0, 0)][0].equal(pictures[(2, 0, 0)][0])


def test_an_augmented_item_is_drawn_from_the_frame(prepared, rendered):
    augment = Augment(crop=(0.9, 0.9), shift=1.0, colour=0.01)
    item = Pictures(prepared, rendered.rows, 40, augment, (3, 0), border=7, frame=56)[(1, 4, 9)][0]
    whole = np.asarray(prepared.pictures(56)[prepared.index[rendered.rows[1].image]])
    view = draw(augment, 40, np.random.default_rng([3, 0, 4, 1, 9]), 56)
    assert np.array_equal(item.numpy().transpose(1, 2, 0), apply(view, whole, 7, 40))
    assert not np.array_equal(apply(view, whole, 7, 40), apply(view, whole, 0, 40))


def test_a_view_without_augmentation_is_shown_to_every_item(prepared, rendered):
    view = middle(Augment(crop=(0.8, 1.0)), 40, 56)
    pictures = Pictures(prepared, rendered.rows, 40, frame=56, view=view)
    whole = np.asarray(prepared.pictures(56)[prepared.index[rendered.rows[1].image]])
    assert np.array_equal(pictures[(1, 0, 0)][0].numpy().transpose(1, 2, 0), apply(view, whole, 0, 40))


def test_a_frame_smaller_than_the_view_is_refused(prepared, rendered):
    with pytest.raises(SettingError, match="frame: 56 px for views of 57 px"):
        Pictures(prepared, rendered.rows, 57, frame=56)
