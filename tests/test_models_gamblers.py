"""Reformed Gamblers: the table, the layers against hand-worked cases, and the laws that every network keeps."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.export import export_onnx
from m2cnn.models.fractional import FixedFractionalMaxPool, starts
from m2cnn.models.reformed_gamblers import MEMBERS, ROWS, TINY, ReformedGamblers, map_sizes
from m2cnn.models.reformed_gamblers_net import (
    FourSigmoid,
    Gcn,
    StepLayer,
    cyclic_pool,
    cyclic_roll,
    cyclic_slice,
)
from m2cnn.tasks import Regression

M46_MAPS = (383, 191, 95, 47, 23, 11, 5, 2)
M51_MAPS = (447, 223, 111, 55, 27, 13, 6, 3)
# Sample size, map sizes and flattened vector as systems.md 5.2 and 5.5 print them.
PUBLISHED = {
    "m28": (480, (120, 60, 30, 14, 6, 2), 2048),
    "cyc28": (480, (120, 60, 30, 15, 7, 3), 4608),
    "m41": (385, (192, 95, 47, 23, 11, 5, 2), 2048),
    "m42": (385, (192, 95, 47, 23, 11, 5, 2), 2048),
    "m46": (767, M46_MAPS, 2048),
    "m47": (724, (512, 362, 256, 181, 128, 90, 63, 44, 31, 21, 14, 9, 6, 4, 2), 2048),
    "m51": (895, M51_MAPS, 4608),
    "m51_1": (895, M51_MAPS, 4608),
    "m52": (767, M46_MAPS, 2048),
    "m53": (767, M46_MAPS, 2048),
    "m58": (767, M46_MAPS, 3072),
}
TINY_SIZES = {
    "tiny-m41": (95, (47, 23, 11, 5, 2)),
    "tiny-m46": (95, (47, 23, 11, 5, 2)),
    "tiny-m47": (64, (45, 31, 21, 14, 9, 6, 4, 2)),
    "tiny-m53": (95, (47, 23, 11, 5, 2)),
    "tiny-cyc28": (128, (32, 16, 8, 4, 2, 1)),
}
MILLIONS = {"m28": 11.0, "m41": 24.9, "m42": 24.9, "m46": 9.3, "m47": 11.4, "m51": 9.4, "m58": 11.9}
SLIM = 1 / 16


def slim(member: str, outputs: int = 1, width: float | None = None):
    torch.manual_seed(0)
    return ReformedGamblers(member, width or (1.0 if member in TINY else SLIM)).build(outputs)


def pictures(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def turned(x: torch.Tensor, turns: int = 1) -> torch.Tensor:
    return torch.rot90(x, turns, (2, 3))


# --- the table ---


def test_every_row_is_tested():
    assert list(MEMBERS) == list(PUBLISHED)
    assert list(TINY) == list(TINY_SIZES)


@pytest.mark.parametrize("member", ROWS)
def test_map_sizes_are_the_published_ones(member):
    size, maps = TINY_SIZES[member] if member in TINY else PUBLISHED[member][:2]
    assert (ReformedGamblers(member).size, map_sizes(member)) == (size, maps)


@pytest.mark.parametrize("member", ROWS)
def test_the_network_has_the_map_sizes_of_the_table(member):
    seen = []
    with torch.device("meta"), torch.no_grad():
        network = slim(member)
        for name, stage in network.trunk.named_children():
            if name.startswith("stage"):
                stage.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
        network(torch.empty(1, 3, network.size, network.size))
    assert tuple(seen) == map_sizes(member)


@pytest.mark.parametrize("member", MEMBERS)
def test_the_flattened_vector_of_the_full_network(member):
    with torch.device("meta"), torch.no_grad():
        network = ReformedGamblers(member).build(1)
        assert network.features(torch.empty(1, 3, network.size, network.size)).shape == (1, PUBLISHED[member][2])


@pytest.mark.parametrize("member", MILLIONS)
def test_parameters_of_the_full_network(member):
    with torch.device("meta"):
        assert round(count(ReformedGamblers(member).build(1)) / 1e6, 1) == MILLIONS[member]


def test_what_an_output_layer_adds():
    with torch.device("meta"):
        counts = {member: count(ReformedGamblers(member).build(1)) for member in ("m46", "m52", "m53", "m51", "m51_1")}
    assert (counts["m52"] - counts["m46"], counts["m53"] - counts["m46"]) == (0, 8)
    assert counts["m51_1"] - counts["m51"] == 8


def test_rows_hold_what_was_published():
    facts = {name: (row.frame, row.batch, row.seed, row.output, row.alpha, row.start) for name, row in MEMBERS.items()}
    assert facts == {
        "m28": (512, 32, 0, "score", 10.0, ""),
        "cyc28": (512, 0, 0, "score", 10.0, "m28"),
        "m41": (512, 96, 12891, "score", 10.0, ""),
        "m42": (512, 96, 12891, "score", 10.0, ""),
        "m46": (1024, 64, 12891, "score", 10.0, ""),
        "m47": (1024, 48, 12891, "score", 10.0, ""),
        "m51": (1024, 56, 3431, "score", 10.0, ""),
        "m51_1": (1024, 56, 3431, "step", 5.0, "m51"),
        "m52": (1024, 0, 0, "four sigmoid", 10.0, "m46"),
        "m53": (1024, 72, 0, "step", 10.0, "m46"),
        "m58": (1024, 72, 32431, "score", 10.0, ""),
    }


# Channels into and out of each convolution of the cyclic network: a roll quadruples them.
CYCLIC_CHANNELS = [(3, 8), (8, 8), (8, 8), (8, 32), (32, 16), (64, 64), (64, 32), (128, 128), (128, 128), (128, 64)]
CYCLIC_CHANNELS += [(256, 256), (256, 256), (256, 128), (512, 512), (512, 512)]


def test_channels_of_the_cyclic_network():
    with torch.device("meta"):
        network = ReformedGamblers("cyc28").build(1)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert [(each.in_channels, each.out_channels) for each in convolutions] == CYCLIC_CHANNELS
    layers = "stage1 slice1 stage2 roll2 stage3 roll3 stage4 roll4 stage5 roll5 stage6 pool6"
    assert " ".join(network.trunk._modules) == layers


# (kernel, padding) of the convolutions, and (kernel, stride) of the pools: the last one differs in m51.
STAGES = {
    "m28": ([(3, 1)] * 3, [(4, 4), (2, 2), (2, 2), (3, 2), (3, 2), (3, 2)]),
    "cyc28": ([(3, 1)] * 3, [(4, 4)] + [(2, 2)] * 5),
    "m41": ([(4, 2), (4, 1)], [(3, 2)] * 7),
    "m46": ([(3, 1), (1, 0)], [(3, 2)] * 8),
    "m47": ([(3, 1)], []),
    "m51": ([(3, 1), (1, 0)], [(3, 2)] * 7 + [(2, 2)]),
    "m58": ([(3, 1), (1, 0)], [(3, 2)] * 8),
}


@pytest.mark.parametrize("member", STAGES)
def test_kernels_and_pools_of_the_stages(member):
    modules = list(slim(member).modules())
    kernels = [(each.kernel_size[0], each.padding[0]) for each in modules if isinstance(each, nn.Conv2d)]
    convolutions, pools = STAGES[member]
    assert kernels == (convolutions * len(map_sizes(member)))[: len(kernels)]
    assert [(each.kernel_size, each.stride) for each in modules if isinstance(each, nn.MaxPool2d)] == pools
    assert sum(isinstance(each, FixedFractionalMaxPool) for each in modules) == (15 if member == "m47" else 0)


@pytest.mark.parametrize("member", ROWS)
def test_every_convolution_has_its_activation_the_last_behind_the_pool(member):
    network = slim(member)
    for number, convolutions in enumerate(ROWS[member].stages, start=1):
        names = [type(each).__name__ for each in getattr(network.trunk, f"stage{number}")]
        pool = "FixedFractionalMaxPool" if "47" in member else "MaxPool2d"
        assert names == ["Conv2d", "LeakyReLU"] * (len(convolutions) - 1) + ["Conv2d", pool, "LeakyReLU"]


def test_fresh_weights():
    network = slim("m41", width=1.0)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    for each in convolutions[2:]:
        assert each.weight.std().item() == pytest.approx((2 / (16 * each.in_channels)) ** 0.5, rel=0.02)
        assert not each.bias.any()
    assert {each.negative_slope for each in network.modules() if isinstance(each, nn.LeakyReLU)} == {0.1}
    assert network.dropout.p == 0.5
    assert network.classif.bias.item() == 2  # 3, the middle of the labels 1..5


# --- layers ---


def test_gcn_by_hand():
    x = torch.tensor([[0, 10, 10, 0], [7, 7, 7, 7], [1, 3, 5, 7]], dtype=torch.uint8).view(1, 3, 2, 2)
    expected = torch.tensor([[-1, 1, 1, -1], [0, 0, 0, 0], [-1.3416408, -0.4472136, 0.4472136, 1.3416408]])
    expected = expected.view(1, 3, 2, 2)
    torch.testing.assert_close(Gcn()(x), expected)
    bright = (x[:, :, :, :1].float() * 20 + 9).expand(1, 3, 2, 2)  # another picture of the batch changes nothing
    torch.testing.assert_close(Gcn()(torch.cat([bright, x.float()]))[1:], expected)


def test_gcn_leaves_no_brightness_and_no_contrast():
    x = pictures(32).float() / 4
    torch.testing.assert_close(Gcn()(3 * x + 20), Gcn()(x), atol=1e-5, rtol=1e-5)


FIRST, SECOND, THIRD, FOURTH = [[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]], [[13, 14], [15, 16]]
COPIES = torch.tensor([FIRST, SECOND, THIRD, FOURTH], dtype=torch.float32).unsqueeze(1)


def test_roll_by_hand():
    rolled = cyclic_roll(COPIES)
    assert rolled.shape == (4, 4, 2, 2)
    # The next copy a quarter turn clockwise, the one behind it half a turn, the last a quarter turn the other way.
    assert rolled[0].tolist() == [FIRST, [[7, 5], [8, 6]], [[12, 11], [10, 9]], [[14, 16], [13, 15]]]
    assert rolled[3].tolist() == [FOURTH, [[3, 1], [4, 2]], [[8, 7], [6, 5]], [[10, 12], [9, 11]]]


def test_slice_by_hand():
    copies = cyclic_slice(torch.tensor(FIRST).view(1, 1, 2, 2))[:, 0].tolist()
    assert copies == [FIRST, [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_cyclic_pool_by_hand():
    assert cyclic_pool(torch.tensor([1.0, -3, 5, 7]).view(4, 1, 1, 1)).item() == pytest.approx(21**0.5)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(cyclic_pool(cyclic_slice(x)), x.abs())


def test_each_picture_of_a_batch_has_its_own_copies():
    x = torch.randn(3, 2, 4, 4)
    for function in (lambda y: cyclic_pool(cyclic_slice(y)), lambda y: cyclic_pool(cyclic_roll(cyclic_slice(y)))):
        torch.testing.assert_close(function(x), torch.cat([function(each[None]) for each in x]))


def test_a_turned_map_permutes_the_rolled_copies():
    x = torch.randn(1, 2, 5, 5)
    before, after = (cyclic_roll(cyclic_slice(y)) for y in (x, turned(x)))
    assert torch.equal(after, before.roll(-1, 0))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_cyclic_part_turns_with_its_input(turns):
    network = slim("cyc28").eval()
    x = torch.randn(2, 4, 120, 120)
    with torch.no_grad():
        maps = [network.trunk[1:](y) for y in (x, turned(x, turns))]
    assert maps[0].shape == (2, 32, 3, 3)
    torch.testing.assert_close(maps[1], turned(maps[0], turns), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(maps[1], maps[0], atol=1e-2)


def test_the_whole_cyclic_network_turns_only_with_a_first_stage_that_does():
    network = slim("cyc28").eval()
    x = pictures(480, 1)

    def maps(picture: torch.Tensor) -> torch.Tensor:
        return network.features(picture).unflatten(1, (-1, 3, 3))

    with torch.no_grad():
        assert not torch.allclose(maps(turned(x)), turned(maps(x)), atol=1e-2)
        for each in network.trunk.stage1:
            if isinstance(each, nn.Conv2d):
                each.weight.copy_(sum(turned(each.weight, turns) for turns in range(4)) / 4)
        torch.testing.assert_close(maps(turned(x)), turned(maps(x)), atol=1e-4, rtol=1e-4)


# --- the fixed draw ---


def test_starts_by_hand():
    # 9 -> 6 by steps of 7 / 5: 0.14, 1.54, 2.94, 4.34, 5.74, 7.14 and 0.98, 2.38, 3.78, 5.18, 6.58, 7.98
    assert starts(9, 6, 2, 0.1) == [0, 1, 2, 4, 5, 7]
    assert starts(9, 6, 2, 0.7) == [0, 2, 3, 5, 6, 7]
    # By steps of 3 / 2 from 1.2: the floor before the draw, 1, is taken off.
    assert starts(5, 3, 2, 0.8) == [0, 1, 3]


@pytest.mark.parametrize(("before", "after"), [(724, 512), (362, 256), (9, 6), (4, 2)])
def test_windows_stay_on_the_map_and_leave_nothing_out(before, after):
    for shift in np.random.default_rng(0).random(200):
        first = starts(before, after, 2, shift)
        assert (first[0], first[-1], len(first)) == (0, before - 2, after)
        assert set(np.diff(first)) <= {1, 2}


@pytest.mark.parametrize(("before", "after"), [(64, 45), (9, 6), (4, 2)])
def test_fractional_pooling_is_that_of_torch(before, after):
    x = torch.randn(2, 3, before, before)
    rows, columns = np.random.default_rng(3).random(2)
    ours = FixedFractionalMaxPool(2, before, after, (rows, columns))(x)
    samples = torch.tensor([columns, rows]).float().expand(2, 3, 2)
    theirs = nn.functional.fractional_max_pool2d(x, 2, output_size=after, _random_samples=samples)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def draws(network: nn.Module) -> dict[str, list[int]]:
    return {name: each.tolist() for name, each in network.named_buffers() if name.endswith(("rows", "columns"))}


def test_the_draw_is_one_and_fixed():
    torch.manual_seed(1)
    network = ReformedGamblers("m47", SLIM).build(1)
    before = draws(network)
    torch.manual_seed(2)
    assert draws(ReformedGamblers("m47", SLIM).build(6)) == before
    network(pictures(724, 1)).sum().backward()
    assert draws(network.eval()) == before
    assert len(before) == 30
    x = pictures(724, 1)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))


def test_every_axis_of_every_stage_has_its_own_draw():
    rng, side, found = np.random.default_rng(12891), 724, draws(slim("m47"))
    for stage, after in enumerate(map_sizes("m47"), start=1):
        for axis in ("rows", "columns"):
            assert found[f"trunk.stage{stage}.1.{axis}"] == starts(side, after, 2, rng.random())
        side = after


def test_the_draw_travels_with_the_weights():
    network, other = slim("tiny-m47").eval(), slim("tiny-m47").eval()
    pool = network.trunk.stage1[1]
    pool.rows.copy_(torch.tensor(starts(64, 45, 2, 0.987)))
    x = pictures(64)
    with torch.no_grad():
        assert not torch.equal(other(x), network(x))
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(x), network(x))
    assert draws(other) == draws(network)


# --- output layers and the scale ---


def test_four_sigmoids_by_hand():
    score = torch.tensor([1.5, 2.0, 2.6, 3.0, -50.0, 60.0])
    expected = torch.tensor([1.5000454, 2.0000003, 2.7311653, 3.0, 1.0, 5.0])
    torch.testing.assert_close(FourSigmoid()(score), expected, atol=1e-6, rtol=0)
    assert not list(FourSigmoid().parameters())


def test_a_step_layer_by_hand():
    layer = StepLayer(5.0)
    # sigmoid(6) + sigmoid(1) + sigmoid(-4) + sigmoid(-9)
    assert layer(torch.tensor([[2.7]])).item() == pytest.approx(1 + 0.9975274 + 0.7310586 + 0.0179862 + 0.0001234)
    with torch.no_grad():
        layer.thresholds[1] = 2.7
        layer.alpha[2] = 1.25
    # the second step is half way, the third is four times as soft: sigmoid(-1)
    assert layer(torch.tensor([[2.7]])).item() == pytest.approx(1 + 0.9975274 + 0.5 + 0.2689414 + 0.0001234)
    layer(torch.tensor([[2.7]])).sum().backward()
    assert layer.thresholds.grad[1].item() == pytest.approx(-5 / 4)
    assert layer.alpha.grad[2].item() == pytest.approx(0.2689414 * 0.7310586 * -0.8)


@pytest.mark.parametrize(("member", "alpha"), [("m52", None), ("m53", 10.0), ("m51_1", 5.0)])
def test_a_member_has_its_output_layer(member, alpha):
    layer = slim(member).output
    assert isinstance(layer, StepLayer if alpha else FourSigmoid)
    assert torch.as_tensor(layer.alpha).unique().item() == (alpha or 10)
    assert layer.thresholds.tolist() == [1.5, 2.5, 3.5, 4.5]


@pytest.mark.parametrize("member", ROWS)
def test_outputs_are_levels(member):
    network = slim(member, 2).eval()
    nn.init.zeros_(network.classif.weight)
    x = pictures(network.size, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.full((1, 2), 2.0))
        nn.init.constant_(network.classif.bias, 0.53)
        alpha = {"m52": 10, "m53": 10, "m51_1": 5, "tiny-m53": 10}.get(member)
        steps = [1 / (1 + np.exp(-alpha * (1.53 - t))) for t in (1.5, 2.5, 3.5, 4.5)] if alpha else [0.53]
        torch.testing.assert_close(network(x), torch.full((1, 2), sum(steps)))


def test_m52_is_m46_with_soft_steps():
    plain, stepped = slim("m46").eval(), slim("m52").eval()
    stepped.load_state_dict(plain.state_dict())
    x = pictures(767)
    with torch.no_grad():
        assert torch.equal(stepped(x), FourSigmoid()(plain(x) + 1) - 1)


def double_threshold(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """DoubleThrCriterion(1, 5) as the released code describes it."""
    bounded = predictions.clone()
    bounded[(labels == 1) & (predictions < 1)] = 1
    bounded[(labels == 5) & (predictions > 5)] = 5
    return ((bounded - labels) ** 2).mean()


def test_the_double_threshold_on_labels_is_the_clipped_regression_on_levels():
    labels = torch.arange(1, 6).repeat_interleave(9)
    predictions = torch.linspace(-1, 7, 9, dtype=torch.float64).repeat(5).requires_grad_()
    levels = (predictions.detach() - 1).requires_grad_()
    theirs = double_threshold(predictions, labels)
    ours = Regression(clipped=True).loss(levels[:, None], labels - 1)
    assert ours.item() == theirs.item()
    ours.backward()
    theirs.backward()
    assert torch.equal(levels.grad, predictions.grad)
    assert levels.grad[:2].tolist() == [0, 0]
    assert Regression().loss(levels[:, None], labels - 1) > ours


# --- laws ---


@pytest.mark.parametrize("member", ROWS)
def test_every_parameter_gets_a_finite_gradient(member):
    network = slim(member, 6)
    network.dropout.p = 0.0
    outputs = network(pictures(network.size))
    assert outputs.shape == (2, 6)
    outputs.square().sum().backward()
    for name, each in network.named_parameters():
        assert each.grad.isfinite().all(), name
        assert each.grad.any(), name


@pytest.mark.parametrize("member", TINY)
def test_a_black_picture_has_finite_outputs_and_gradients(member):
    network = slim(member)
    outputs = network(torch.zeros(1, 3, network.size, network.size, dtype=torch.uint8))
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert all(each.grad.isfinite().all() for each in network.parameters())


@pytest.mark.parametrize("member", TINY)
def test_a_batch_of_two_is_two_batches_of_one(member):
    network = slim(member).eval()
    x = pictures(network.size)
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("member", TINY)
def test_bytes_floats_doubles_and_channels_last_are_the_same_picture(member):
    network = slim(member).eval()
    x = pictures(network.size)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(network(x.float()), expected, rtol=0, atol=0)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.double()(x).float(), expected, atol=1e-4, rtol=1e-4)


def test_features_are_what_dropout_and_the_tail_read():
    network = slim("tiny-m46", 6).eval()
    x = pictures(95)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.classif(network.tail(network.features(x))))
        assert network.features(x).shape == (2, 128)
    network.train()
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.features(x), network.features(x))


@pytest.mark.parametrize("member", ["cyc28", "m47", "m53"])
def test_settings_rebuild_the_network(member):
    network = slim(member, 5)
    again = ReformedGamblers.from_dict(json.loads(json.dumps(network.settings))).build(5)
    assert again.settings == network.settings == {"member": member, "width": SLIM}
    again.load_state_dict(network.state_dict())
    x = pictures(network.size, 1)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network.eval()(x))


def test_width_scales_channels_and_linear_layers():
    network = slim("m46", width=0.5)
    convolutions = [each.out_channels for each in network.modules() if isinstance(each, nn.Conv2d)]
    assert convolutions == [channels for channels in (8, 16, 32, 64, 128, 192, 256, 256) for _ in range(2)]
    assert (network.tail[0].in_features, network.tail[0].out_features, network.tail[2].out_features) == (1024, 512, 512)


# --- the first stage of m28 ---


def test_the_first_stage_is_taken_and_frozen():
    source, network = slim("m28", width=0.5), slim("cyc28", width=0.5)
    nn.init.ones_(source.trunk.stage1[0].bias)
    assert network.take_first_stage(source) is network
    assert torch.equal(network.trunk.stage1[0].bias, torch.ones(4))
    network(pictures(480, 1)).sum().backward()
    assert all(each.grad is None for each in network.trunk.stage1.parameters())
    assert network.trunk.stage2[0].weight.grad.any()
    network.take_first_stage(source, frozen=False)
    network(pictures(480, 1)).sum().backward()
    assert network.trunk.stage1[0].weight.grad.any()
    assert source.trunk.stage1[0].weight.grad is None


def test_a_first_stage_of_other_shapes_is_refused():
    with pytest.raises(SettingError, match=r"m46 at width 0\.0625 does not fit cyc28 at width 0\.0625; .* one shape"):
        slim("cyc28").take_first_stage(slim("m46"))


def changed(network):
    """The network with weights that no other has."""
    with torch.no_grad():
        for each in network.parameters():
            each.add_(torch.randn_like(each))
    return network


def test_a_member_starts_from_another_up_to_its_steps():
    source, network = changed(slim("tiny-m46")), slim("tiny-m53")
    network.start_from(source)
    ours, theirs = network.state_dict(), source.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert {name for name in ours if name not in theirs} == {"output.thresholds", "output.alpha"}
    assert network.output.thresholds.tolist() == [1.5, 2.5, 3.5, 4.5]
    again = slim("tiny-m53")
    again.start_from(changed(network))
    assert torch.equal(again.classif.weight, network.classif.weight)
    assert again.output.alpha.tolist() == [10.0] * 4  # steps begin afresh
    assert all(each.requires_grad for each in network.parameters())


@pytest.mark.parametrize("name", [name for name, row in MEMBERS.items() if row.start])
def test_every_member_fits_the_one_it_starts_from(name):
    with torch.device("meta"):
        network, source = slim(name), slim(MEMBERS[name].start)
    network.start_from(source)
    assert all(p.requires_grad != (name == "cyc28") for p in network.trunk.stage1.parameters())


@pytest.mark.parametrize(("name", "other", "width"), [("tiny-m53", "tiny-m41", None), ("m52", "m46", 1 / 8)])
def test_a_start_of_another_shape_is_refused(name, other, width):
    with pytest.raises(SettingError, match=f"of {other} at width .* does not fit {name} at width"):
        slim(name).start_from(slim(other, 1, width))


# --- refusals ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"member": "m64"}, r"network\.member: got 'm64'; expected a known one\. Did you mean \"m4\d\"\? Known: cyc28"),
        ({"member": 46}, r"network\.member: got 46"),
        ({"width": 0}, r"network\.width: got 0; expected a number above 0 and at most 4"),
        ({"width": 4.5}, r"network\.width: got 4\.5"),
        ({"width": True}, r"network\.width: got True"),
        ({"width": "1"}, r"network\.width: got '1'"),
        ({"width": float("nan")}, r"network\.width: got nan"),
        ({"widht": 1}, r'network: unknown setting "widht"\. Did you mean "width"\?'),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(SettingError, match=message):
        ReformedGamblers.from_dict(settings)


def test_an_unknown_member_has_no_map_sizes():
    with pytest.raises(SettingError, match=r"network\.member: got 'm55'"):
        map_sizes("m55")


def test_cells_and_outputs_are_checked():
    with pytest.raises(SettingError, match=r"network\.cells: got 1; expected 0: these networks do not grow"):
        ReformedGamblers().build(1, cells=1)
    for outputs in (0, True, 1.0):
        with pytest.raises(SettingError, match=rf"network\.outputs: got {outputs}; expected a whole number from 1"):
            ReformedGamblers().build(outputs)


@pytest.mark.parametrize("shape", [(1, 3, 94, 95), (1, 3, 95, 96), (1, 1, 95, 95)])
def test_another_size_is_refused(shape):
    network = slim("tiny-m46")
    for call in (network, network.features):
        with pytest.raises(
            SizeError, match=f"pictures of {shape[1]} x {shape[2]} x {shape[3]}; expected 3 x 95 x 95, .* tiny-m46"
        ):
            call(torch.zeros(shape))


def test_settings_and_map_sizes_need_no_torch():
    code = "import sys; sys.modules.update(torch=None); from m2cnn.models import reformed_gamblers as r; "
    code += "assert r.ReformedGamblers('m47').size == 724 and r.map_sizes('m47')[-1] == 2"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- export ---


@pytest.mark.parametrize("member", ["tiny-m41", "tiny-m46", "tiny-m47", "tiny-m53", "m52", "cyc28"])
def test_onnx_says_the_same(member, tmp_path):
    network = slim(member, 2).eval()
    x = pictures(network.size, 3)
    export_onnx(network, network.size, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"pictures": x.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(theirs, network(x).numpy(), atol=1e-4, rtol=0)
