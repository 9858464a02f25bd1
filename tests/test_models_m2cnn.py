"""M2CNN: the cells, growing, the switch, the smallest input, and the laws that every network keeps."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.models import NetworkSettings, build_network
from m2cnn.models.m2cnn import ResidualCell, build_cell, first_size, inception_cell, plain_cell

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "residual_blocks": 1, "ladder": "quarter"}
CELLS = ["inception", "plain", "residual"]
FULL_SIZES = {224: (0, 5, 5), 448: (1, 12, 5), 720: (2, 21, 4)}


def slim(cells: int = 0, outputs: int = 6, **settings):
    torch.manual_seed(0)
    return build_network(SLIM | settings, outputs, cells)


def pictures(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


# --- cells ---


def test_parameters_of_the_full_cells():
    with torch.device("meta"):
        assert [count(each) for each in inception_cell(2080, 5)] == [6_908_032] + [2_035_424] * 5
        assert count(plain_cell(2080)) == 38_941_760
        assert count(ResidualCell(2080)) == 2_219_296


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("channels", [16, 130, 368, 512])
def test_a_cell_keeps_the_channels_and_reduces_the_map(kind, channels):
    cell = build_cell(NetworkSettings(cell=kind), channels)
    assert cell(torch.randn(2, channels, 12, 12)).shape == (2, channels, 5, 5)


@pytest.mark.parametrize("blocks", range(6))
def test_a_cell_has_the_asked_residual_blocks(blocks):
    cell = build_cell(NetworkSettings(residual_blocks=blocks), 32)
    assert [(each.scale, each.relu) for each in cell[1:]] == [(0.20, True)] * blocks


def test_fresh_weights_of_an_inception_cell():
    torch.manual_seed(0)
    cell = inception_cell(520)
    conv = cell[0].branch0[1].conv.weight  # (96, 64, 3, 3): He-normal has variance 2 / (64 * 9)
    assert conv.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    for block in cell[1:]:
        assert block.conv2d.weight.std().item() == pytest.approx(0.1 * (2 / 112) ** 0.5, rel=0.05)
        assert not block.conv2d.bias.any()
    for norm in (each for each in cell.modules() if isinstance(each, nn.BatchNorm2d)):
        assert norm.weight.eq(1).all()
        assert not norm.bias.any()
        assert (norm.eps, norm.momentum) == (1e-3, 0.1)


def test_a_fresh_residual_cell_is_the_max_pool_alone():
    x = torch.randn(2, 32, 11, 11)
    torch.testing.assert_close(ResidualCell(32)(x), nn.functional.max_pool2d(x, 3, 2), rtol=0, atol=0)


def test_a_residual_cell_adds_a_fifth_of_its_branch():
    cell, x = ResidualCell(32), torch.randn(2, 32, 11, 11)
    nn.init.constant_(cell.conv2d.bias, 1.0)
    torch.testing.assert_close(cell(x), nn.functional.max_pool2d(x, 3, 2) + 0.2)


def test_too_few_channels_for_an_inception_cell():
    inception_cell(13)
    with pytest.raises(SettingError, match=r'12 channels; expected at least 13 .* Use cell = "plain"'):
        inception_cell(12)


# --- growing and the switch ---


@pytest.mark.parametrize("kind", CELLS)
def test_growing_carries_every_weight_bit_equal(kind):
    network = slim(cell=kind)
    network(pictures(56))  # moves the batch-norm statistics
    for cells in (1, 2):
        before = {name: each.clone() for name, each in network.state_dict().items()}
        assert network.grow() is network
        after = network.state_dict()
        assert all(torch.equal(after[name], each) for name, each in before.items())
        fresh = set(after) - set(before)
        assert fresh
        assert all(name.startswith(f"cells.{cells - 1}.") for name in fresh)
        assert (network.stage, len(network.cells)) == (cells, cells)


def test_growing_and_building_make_the_same_names():
    assert list(slim().grow(2).state_dict()) == list(slim(cells=2).state_dict())


def test_the_switch_says_how_many_cells_run():
    network = slim(cells=2).eval()
    x = pictures(184)
    with torch.no_grad():
        for stage, side in ((0, 21), (1, 10), (2, 4)):
            network.stage = stage
            before, after = network.maps(x)
            assert (before.shape[-1], after.shape[-1]) == (21, side)
        network.stage = 0
        torch.testing.assert_close(network(x), slim().eval()(x), rtol=0, atol=0)
    with pytest.raises(SettingError, match=r"stage: got 3; expected 0\.\.2, the number of cells"):
        network.stage = 3


def test_a_new_cell_follows_precision_and_mode():
    network = slim().double().eval().grow()
    assert network.cells[0][0].branch0[0].conv.weight.dtype == torch.float64
    assert not any(each.training for each in network.modules())
    assert network(pictures(112)).dtype == torch.float64


@pytest.mark.parametrize("size", FULL_SIZES)
def test_maps_before_the_switch_and_after_the_cells(size):
    cells, before, after = FULL_SIZES[size]
    network = slim(cells, ladder="full").eval()
    with torch.no_grad():
        maps = network.maps(pictures(size, 1))
        assert [tuple(each.shape) for each in maps] == [(1, 130, before, before), (1, 130, after, after)]
        assert network(pictures(size, 1)).isfinite().all()


def test_maps_of_the_full_network():
    with torch.device("meta"), torch.no_grad():
        network = build_network({}, 6, cells=2).eval()
        maps = network.maps(torch.empty(1, 3, 720, 720))
        assert [tuple(each.shape) for each in maps] == [(1, 2080, 21, 21), (1, 2080, 4, 4)]
        assert network.features(torch.empty(1, 3, 720, 720)).shape == (1, 1536)


# --- smallest input ---


@pytest.mark.parametrize(
    ("ladder", "sizes"), [("full", (107, 203, 395)), ("half", (55, 103, 199)), ("quarter", (31, 55, 103))]
)
def test_smallest_input_of_each_stage(ladder, sizes):
    network = slim(2, ladder=ladder).eval()
    assert tuple(network.smallest_size(stage) for stage in (0, 1, 2)) == sizes
    for stage, size in enumerate(sizes):
        network.stage = stage
        assert network.smallest_size() == size
        assert network.maps(pictures(size, 1))[1].shape[-1] == 2
        with pytest.raises(
            SizeError, match=f"{size} x {size - 1} px is too small for a network with {stage} cells; .* {size} x {size}"
        ):
            network(pictures(size, 1)[..., 1:])
        with pytest.raises(SizeError, match=f"{size - 1} x {size} px is too small"):
            network(pictures(size, 1)[..., 1:, :])


def test_a_112_input_of_the_full_ladder_is_too_small_for_a_cell():
    with pytest.raises(SizeError, match="expected at least 203 x 203 px"):
        slim(1, ladder="full")(pictures(112))


@pytest.mark.parametrize("guess", [1, 2, 32, 33, 34, 700])
def test_the_first_size_is_found_from_any_guess(guess):
    for first in (1, 2, 3, 33, 100, 107, 395):
        assert first_size(lambda size, first=first: size >= first, guess) == first


def test_a_trunk_whose_map_does_not_grow_is_refused():
    network = slim()
    network.trunk.map_size = lambda size: 1
    with pytest.raises(SettingError, match="no input up to 8192 px gives a map"):
        network.smallest_size(0)


# --- laws ---


@pytest.mark.parametrize("cells", [0, 1, 2])
@pytest.mark.parametrize("kind", CELLS)
def test_every_parameter_gets_a_finite_gradient(kind, cells):
    network = slim(cells, cell=kind, dropout=0.0)
    for cell in network.cells:
        if kind == "residual":  # its last layer starts at zero and blocks the gradient of the first step
            nn.init.normal_(cell.conv2d.weight, std=0.1)
    outputs = network(pictures(184, 4))
    assert outputs.shape == (4, 6)
    outputs.square().sum().backward()
    for name, each in network.named_parameters():
        assert each.grad is not None, name
        assert each.grad.isfinite().all(), name
        assert each.grad.any(), name


@pytest.mark.parametrize("kind", CELLS)
def test_a_batch_of_two_is_two_batches_of_one(kind):
    network, x = slim(1, cell=kind), pictures(112)
    network(x)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


def test_bytes_floats_and_channels_last_are_the_same_picture():
    network, x = slim(1).eval(), pictures(112)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(network(x.float()), expected, rtol=0, atol=0)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)


def test_normalisation_is_the_first_layer():
    x = torch.tensor([0.0, 127.5, 255.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(slim().normalise(x).flatten(), torch.tensor([-1.0, 0.0, 1.0]))


def test_outputs_are_linear_in_the_features():
    network, x = slim(1).eval(), pictures(112)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.classif(network.features(x)))
        assert network.features(x).shape == (2, 96)


def test_dropout_is_the_setting_and_only_in_training():
    network, x = slim(dropout=0.9), pictures(56)
    assert network.dropout.p == 0.9
    network.eval()
    assert torch.equal(network(x), network(x))
    network.dropout.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("kind", CELLS)
def test_settings_rebuild_the_network(kind):
    network = slim(2, outputs=5, cell=kind)
    settings = json.loads(json.dumps(network.settings))
    again = build_network(settings, 5, cells=len(network.cells))
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    x = pictures(184)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network.eval()(x))


def test_the_same_seed_makes_the_same_network():
    one, two = slim(2).state_dict(), slim(2).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_network_exports_with_any_batch():
    network, x = slim(1).eval(), pictures(112)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch},)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(pictures(112, 3)), network(pictures(112, 3)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:Warning")
def test_tracing_meets_no_size_check():
    network, x = slim(1).eval(), pictures(112)
    traced = torch.jit.trace(network, x, check_trace=False)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), network(x))
