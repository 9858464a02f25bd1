"""Maps of networks whose answer is known to come from one place, and scores worked by hand."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from m2cnn.errors import SettingError
from m2cnn.explain import maps
from m2cnn.explain.overlay import overlay
from m2cnn.explain.sanity import check
from m2cnn.explain.scores import SHARES, beside_lesions, curves, rank_correlation
from m2cnn.explain.scoring import edges, noise
from m2cnn.explain.shown import Shown, _plain
from m2cnn.explain.targets import Target, targets_of
from m2cnn.models import MinPooling, OOSettings, ReformedGamblers, ZoomInNet
from m2cnn.preprocess import Preprocess
from m2cnn.tasks import Classification, MultiTask, Regression

SIZE, SPOT = 96, (slice(18, 24), slice(60, 66))
TASK = MultiTask()


class BlueSpots(nn.Module):
    """Only blue raises grade 3 and the score; vessels, drawn in red and green, it sees and ignores."""

    def __init__(self, upward=1.0):
        super().__init__()
        self.colours = nn.Conv2d(3, 4, 1)  # 0: blue above 100; 1: red; 2: green
        self.mix, self.pool = nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(4)
        self.classif = nn.Linear(4, 6)
        with torch.no_grad():
            for each in self.parameters():
                each.zero_()
            self.colours.weight[:3, :, 0, 0] = torch.eye(3)[[2, 0, 1]] / 255
            self.colours.bias[0] = -100 / 255
            self.mix.weight[:, :, 1, 1] = torch.eye(4)
            self.classif.weight[[3, 5], 0] = upward * torch.tensor([50.0, 100.0])
            self.classif.bias[5] = 1 if upward > 0 else 2

    def forward(self, x):
        maps = self.pool(self.colours(x.float()).relu())  # (B, 4, 24, 24)
        maps = self.pool(self.mix(maps).relu_())  # (B, 4, 6, 6); in place, as many networks do it
        return self.classif(maps.mean(dim=(2, 3)))


def spotted(blue=255):
    rng = np.random.default_rng(0)
    picture = np.full((SIZE, SIZE, 3), (150, 90, 30), np.uint8)
    picture[..., :2] += rng.integers(0, 30, (SIZE, SIZE, 2), dtype=np.uint8)
    picture[40:44, 10:80] = (90, 20, 30)  # a vessel
    picture[SPOT] = (150, 90, blue)
    inside = Preprocess().circle(SIZE)
    picture[~inside] = 0
    return Shown(picture, inside, _plain(picture, inside), np.eye(3)[:2])


@pytest.fixture(scope="module")
def network():
    return maps.ready(BlueSpots())


def at_spot(heat, reach):
    """Whether the highest place is the spot, give or take `reach` px."""
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return abs(row - 20.5) <= 3 + reach and abs(column - 62.5) <= 3 + reach


# How far a method can be wrong on 96 px: half a cell of the 6 x 6 and 24 x 24 maps, nothing, half a window.
REACH = {"grad-cam": 8, "grad-cam-fine": 2, "integrated-gradients": 0, "occlusion": 8}


@pytest.mark.parametrize("method", REACH)
@pytest.mark.parametrize("target", targets_of(TASK, ("grade", "severity"), 3), ids=lambda each: each.kind)
def test_the_place_that_makes_the_answer_is_found(network, method, target):
    (heat,) = maps.explain(network, spotted(), [target], method)
    assert heat.shape == (SIZE, SIZE) and heat.dtype == np.float32
    assert at_spot(heat, REACH[method])
    assert heat[60:, :40].max() < 0.2 * heat.max()
    assert (heat[~spotted().inside] == 0).all()


@pytest.mark.parametrize("method", REACH)
def test_a_place_that_lowers_the_answer_does_not_raise_it(method):
    (heat,) = maps.explain(maps.ready(BlueSpots(-1.0)), spotted(), [Target("severity", TASK)], method)
    assert heat.max() < 1e-4
    if method in ("integrated-gradients", "occlusion"):  # signed
        assert at_spot(-heat, REACH[method])


@pytest.mark.parametrize("method", REACH)
def test_what_the_answer_does_not_depend_on_gives_a_blank_map(network, method):
    (heat,) = maps.explain(network, spotted(), [Target("grade", TASK, 1)], method)
    assert not heat.any()


def test_the_fine_map_is_finer(network):
    coarse, fine = (maps.explain(network, spotted(), [Target("severity", TASK)], m)[0] for m in list(REACH)[:2])
    assert (fine > 0.5 * fine.max()).sum() < 0.5 * (coarse > 0.5 * coarse.max()).sum()


def test_integrated_gradients_sum_to_what_the_detail_changes():
    network = BlueSpots()
    nn.init.zeros_(network.colours.bias)  # without a kink on the way, which twelve steps would miss by a little
    network, shown, target = maps.ready(network), spotted(), Target("severity", TASK)
    (heat,) = maps.integrated_gradients(network, shown, [target])
    whole, plain = target.of(torch.from_numpy(maps.answer(network, np.stack([shown.picture, shown.plain]))))
    assert heat.sum() == pytest.approx(float(whole - plain), rel=0.02)


def test_the_same_call_gives_the_same_map(network):
    for method in REACH:
        first, second = (maps.explain(network, spotted(), [Target("severity", TASK)], method)[0] for _ in range(2))
        assert np.array_equal(first, second)


def test_unknown_methods_and_targets_are_refused(network):
    with pytest.raises(SettingError, match=r'"gradcam"; expected known methods\. Did you mean "grad-cam"'):
        maps.methods_of(network, ["gradcam"])
    assert "attention" not in maps.methods_of(network, ["grad-cam", "attention"])
    with pytest.raises(SettingError, match="a severity alone"):
        targets_of(Regression(), ("grade",), 2)
    assert [each.kind for each in targets_of(Regression(), ("grade", "severity"), 2)] == ["severity"]
    flat = maps.ready(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 6)))
    with pytest.raises(SettingError, match="no layer that gives a map"):
        maps.explain(flat, spotted(), [Target("severity", TASK)], "grad-cam")


def test_targets_read_outputs_as_the_task_does():
    outputs = np.array([[0, 0, 0, 0, 0, 2.5], [0, 0, 0, 9, 0, -1.0]], np.float32)
    tensor = torch.from_numpy(outputs)
    assert Target("severity", TASK).of(tensor).tolist() == [2.5, -1.0]
    assert Target("severity", TASK).height(outputs).tolist() == [2.5 / 4, 0]
    assert Target("grade", TASK, 3).of(tensor).tolist() == [0, 9]
    assert Target("grade", TASK, 3).height(outputs) == pytest.approx([0.2, 0.9995], abs=1e-4)
    assert Target("severity", Classification()).of(tensor).tolist() == pytest.approx([2, 3], abs=1e-2)


KINDS = [MinPooling(1, tiny=True), OOSettings("a", 112, 1 / 8, 32)]
KINDS += [ReformedGamblers(member, 1 / 16) for member in ("m46", "cyc28")]


@pytest.mark.parametrize("settings", KINDS, ids=lambda each: type(each).__name__)
def test_every_kind_of_network_has_maps(settings):
    torch.manual_seed(0)
    size = settings.size
    network, task = maps.ready(settings.build(1)), Regression()
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    shown = Shown(picture, np.ones((size, size), bool), picture // 2, np.eye(3)[:2])
    for method in ("grad-cam", "grad-cam-fine", "integrated-gradients"):
        (heat,) = maps.explain(network, shown, [Target("severity", task)], method)
        assert heat.shape == (size, size) and np.isfinite(heat).all()


# --- a Zoom-in-Net's own attention ---


class Planted(nn.Module):
    """A-Net that has found one place, of grade 2 and of grade 4."""

    def forward(self, x):
        gated = torch.zeros(len(x), 5, *x.shape[2:])
        gated[:, 2, 1, 3], gated[:, 4, 4, 0] = 5.0, 0.01
        return gated


@pytest.fixture(scope="module")
def zoom():
    torch.manual_seed(0)
    settings = ZoomInNet(parts="ma", width=1 / 16, repeats=(1, 1, 1), ladder="quarter", patch=96)
    network = settings.build()
    network.a_net = Planted()
    return maps.ready(network)


def test_attention_is_the_networks_own(zoom):
    picture = np.full((128, 128, 3), 90, np.uint8)
    shown = Shown(picture, np.ones((128, 128), bool), picture, np.eye(3)[:2])
    targets = [Target("grade", Classification(), 2), Target("grade", Classification(), 4), Target("severity", TASK)]
    assert maps.methods_of(zoom) == tuple(maps.METHODS)
    second, fourth, severity = maps.explain(zoom, shown, targets, "attention")
    cell = 128 / zoom.trunk.map_size(128)
    for heat, (row, column) in ((second, (1, 3)), (fourth, (4, 0)), (severity, (1, 3))):
        place = np.unravel_index(heat.argmax(), heat.shape)
        assert np.abs(np.array(place) + 0.5 - (np.array([row, column]) + 0.5) * cell).max() <= cell / 2
    framed = maps.boxes(zoom, shown)
    assert len(framed) == 4
    top, left, bottom, right = framed[0]
    assert top <= 1.5 * cell <= bottom and left <= 3.5 * cell <= right
    zoom.stage = 0
    assert "attention" not in maps.methods_of(zoom) and maps.boxes(zoom, shown) == []
    zoom.stage = 1


def test_grad_cam_of_a_zoom_in_net_reads_the_whole_picture(zoom):
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    shown = Shown(picture, np.ones((128, 128), bool), picture, np.eye(3)[:2])
    sides = [side for _, side in maps._layers(zoom, shown)]
    assert sides[-1] == zoom.trunk.map_size(128)


# --- scores, by hand ---

ALL = np.ones((4, 4), bool)


def test_pointing_and_mass_by_hand():
    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3], heat[1, 1] = 3, 1, -5  # what lowers the answer does not count
    lesions = np.zeros((4, 4), bool)
    lesions[3, 3] = True
    found = beside_lesions(heat, lesions, ALL)
    assert (found.hit, found.mass, found.mass_chance) == (0, 0.25, 1 / 16)
    lesions[0, 0] = True
    found = beside_lesions(heat, lesions, ALL)
    assert (found.hit, found.hit_chance, found.mass, found.mass_chance) == (1, 2 / 16, 1, 2 / 16)


def test_the_tolerance_of_pointing():
    heat, lesions = np.zeros((48, 48)), np.zeros((48, 48), bool)
    lesions[10, 10] = True
    for column, hit in ((12, 1), (13, 0)):  # 1/24 of 48 px is 2 px
        heat[:] = 0
        heat[10, column] = 1
        assert beside_lesions(heat, lesions, np.ones((48, 48), bool)).hit == hit
    assert beside_lesions(heat, lesions, np.ones((48, 48), bool)).hit_chance == 13 / 48**2  # a disc of 2 px


def test_what_lies_outside_the_field_does_not_count():
    heat, inside = np.ones((4, 4)), ALL.copy()
    inside[0] = False
    heat[0] = 9
    found = beside_lesions(heat, ~inside | (np.arange(4) == 0), inside)
    assert found.mass == found.mass_chance == 3 / 12


def test_a_blank_map_scores_nothing():
    found = beside_lesions(np.zeros((4, 4)), ALL, ALL)
    assert (found.hit, found.mass) == (0, 0)


def test_deletion_and_insertion_by_hand():
    """100 places; the answer is whether the one that matters is shown."""
    picture, plain = np.full((10, 10, 3), 9, np.uint8), np.zeros((10, 10, 3), np.uint8)
    shown = Shown(picture, np.ones((10, 10), bool), plain, np.eye(3)[:2])

    def answer(pictures):
        return pictures[:, 4, 7, 0] / 9

    right = np.zeros((10, 10))
    right[4, 7] = 1
    first = SHARES[1] / 2  # it falls, or rises, within the first step
    assert curves(answer, shown, right, (1, 0)) == pytest.approx((first, 1 - first))
    last = (1 - SHARES[-2]) / 2
    assert curves(answer, shown, -right, (1, 0)) == pytest.approx((1 - last, last))


def test_rank_correlation_by_hand():
    one = np.array([[1.0, 2, 3, 4]])
    here = np.ones((1, 4), bool)
    assert rank_correlation(one, one**3, here) == 1
    assert rank_correlation(one, -one, here) == -1
    assert rank_correlation(one, np.array([[2, 1, 4, 3]]), here) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)
    assert np.isnan(rank_correlation(one, np.zeros((1, 4)), here))


def test_the_check_flags_what_the_weights_do_not_change():
    shown = spotted()
    same = [rank_correlation(edges(shown), edges(shown), shown.inside)] * 3
    assert "fails the check with random weights" in check(same).warning
    assert check([0.2, -0.3, 0.1]).warning == ""
    assert check([0.9, -0.9]).warning  # a sign that turns is not another map
    assert check([0.6, np.nan]).warning  # a blank map says nothing: it does not help to pass
    for none in ([], [np.nan]):
        assert check(none).correlation is None and "not checked" in check(none).warning


def test_the_controls_are_what_they_say():
    shown = spotted()
    assert 38 <= np.unravel_index(edges(shown).argmax(), (SIZE, SIZE))[0] <= 45  # the vessel's edge
    assert np.array_equal(noise(shown), noise(shown))
    other = noise(spotted(blue=200))
    assert abs(rank_correlation(noise(shown), other, shown.inside)) < 0.5


def test_noise_peaks_anywhere_in_the_field():
    shown = spotted()
    yy, xx = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    rim = yy**2 + xx**2 > (0.8 * SIZE / 2) ** 2
    peaks = []
    for number in range(150):
        heat = noise(replace(shown, picture=shown.picture + np.uint8(number)))
        peaks.append(rim.flat[np.where(shown.inside, heat, -1).argmax()])
    assert np.mean(peaks) == pytest.approx(rim[shown.inside].mean(), abs=0.12)  # three standard errors


# --- the picture for people ---


def test_an_overlay_shows_the_map_where_it_is():
    shown, heat = spotted(), np.zeros((SIZE, SIZE), np.float32)
    heat[SPOT] = 2
    page = np.asarray(Image.open(io.BytesIO(overlay(shown, heat, ["words"], "")))).astype(int)
    right = page[12:492, 504:984]
    coloured = right.max(axis=2) - right.min(axis=2) > 60
    rows, columns = np.nonzero(coloured)
    assert abs(rows.mean() / 5 - 20.5) < 1 and abs(columns.mean() / 5 - 62.5) < 1
    # Without a map the right half is grey: nothing is coloured that is not in the map.
    blank = np.asarray(Image.open(io.BytesIO(overlay(shown, 0 * heat, ["words"], "")))).astype(int)[12:492, 504:984]
    assert (blank.max(axis=2) == blank.min(axis=2)).all()


def test_an_overlay_prints_its_warning():
    shown, heat = spotted(), np.ones((SIZE, SIZE), np.float32)
    plain, warned = (overlay(shown, heat, ["words"], text) for text in ("", "fails the check"))
    first, second = (np.asarray(Image.open(io.BytesIO(each))) for each in (plain, warned))
    assert len(second) > len(first)  # a line more

    def red(page):
        return int(((page[500:, :, 0] > 150) & (page[500:, :, 2] < 60)).sum())

    assert red(first) == 0 and red(second) > 50
    assert overlay(shown, heat, ["words"], "") == plain
