"""Min-pooling: its three published networks, the shared draw, the dropout, first weights, and the laws of networks."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.export import export_onnx
from m2cnn.models.fractional import FractionalMaxPool, starts
from m2cnn.models.min_pooling import MinPooling, sizes
from m2cnn.models.min_pooling_net import MapDropout, channels, initialise

# systems.md 3.3; c: after a convolution, p: after pooling.
PUBLISHED_SIZES = {
    1: "843-c839-p466-c464-p258-c256-p142-c140-p78-c76-p42-c40-p22-c20-p11-c9-p5-c3-p2-c1",
    2: "820-c816-p544-c542-p361-c359-p239-c237-p158-c156-p104-c102-p68-c66-p44-c42-p28-c26-p17-c15-p10-c8-p5-c3-p2-c1",
    3: "1019-c1017-c1015-p507-c505-c503-p251-c249-c247-p123-c121-c119-p59-c57-c55-p27-c25-c23-p11-c9-c7-p3-c2-c1",
}
PARAMETERS = {1: 2_699_397, 2: 6_104_901, 3: 3_009_573}
FIELDS = {1: 843, 2: 820, 3: 1019}
GIGA_MULTIPLY_ADDS = {1: 13, 2: 31, 3: 38}  # dense; the report's 5, 14 and 26 leave out what background cannot change
FEATURES = {1: 352, 2: 448, 3: 320}
ALL = [MinPooling(net, tiny=tiny, width=1 if tiny else 1 / 32) for tiny in (True, False) for net in (1, 2, 3)]
TINY = ALL[:3]


def named(settings: MinPooling) -> str:
    return f"{'tiny' if settings.tiny else 'net'}{settings.net}"


every_net = pytest.mark.parametrize("settings", ALL, ids=named)
tiny_nets = pytest.mark.parametrize("settings", TINY, ids=named)


def build(settings: MinPooling, outputs: int = 5) -> nn.Module:
    """Its last layer starts near zero; here it says something, and no bias is zero."""
    torch.manual_seed(0)
    network = settings.build(outputs)
    nn.init.normal_(network.classif.weight)
    for block in network.blocks:
        nn.init.uniform_(block.conv.bias, -0.1, 0.1)
    return network


def pictures(settings: MinPooling, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, settings.size, settings.size), generator=generator, dtype=torch.uint8)


# --- as published ---


@pytest.mark.parametrize("net", [1, 2, 3])
def test_map_sizes(net):
    (field,), *rows = sizes(MinPooling(net).layers)
    assert rows.pop() == (1,)  # the 1x1 before the last keeps the map and is not listed
    line = "-".join([str(field), *(f"{'cp'[number]}{side}" for row in rows for number, side in enumerate(row))])
    assert line == PUBLISHED_SIZES[net]


@every_net
def test_the_maps_have_the_computed_sizes(settings):
    network = build(settings).eval()
    x, (field, *rows) = network.centre(pictures(settings, 1)), sizes(settings.layers)
    assert field == (settings.size,)
    with torch.no_grad():
        for block, row in zip(network.blocks, rows, strict=True):
            sides = [block.activate(x).shape[2:], block(x).shape[2:]]
            assert sides == [(row[0], row[0]), (row[-1], row[-1])]
            x = block(x)


@pytest.mark.parametrize("net", [1, 2, 3])
def test_parameters_and_work(net):
    with torch.device("meta"):
        network = MinPooling(net).build(5)
    assert sum(each.numel() for each in network.parameters()) == PARAMETERS[net]
    assert network.classif.in_features == FEATURES[net]
    sides = [row[0] for row in sizes(MinPooling(net).layers)[1:]]
    work = sum(b.conv.weight.numel() * side**2 for b, side in zip(network.blocks, sides, strict=True))
    assert round(work / 1e9) == GIGA_MULTIPLY_ADDS[net]


@pytest.mark.parametrize("net", [1, 2, 3])
def test_width_changes_channels_only(net):
    for width in (1, 0.5, 1 / 32):
        assert MinPooling(net, width).size == FIELDS[net]
    half = [(b.conv.in_channels, b.conv.out_channels) for b in MinPooling(net, 0.5).build(5).blocks]
    whole = [(b.conv.in_channels, b.conv.out_channels) for b in MinPooling(net).build(5).blocks]
    assert [each for _, each in half] == [each // 2 for _, each in whole]


def test_maps_are_multiples_of_32_at_full_width_and_at_least_4():
    assert [channels(maps, 1) for maps in (356, 352, 48, 47, 32)] == [352, 352, 64, 32, 32]
    assert (channels(32, 1 / 32), channels(12, 1)) == (4, 12)


@pytest.mark.parametrize("net", [1, 2, 3])
def test_dropped_maps(net):
    with torch.device("meta"):
        blocks = MinPooling(net).build(5).blocks
    got = [each.dropout.dropped for each in blocks if isinstance(each.dropout, MapDropout)]
    assert got == {1: [32, 32, 64, 64], 2: [32, 32, 64, 64], 3: []}[net]
    last = [isinstance(each.dropout, MapDropout) for each in blocks[-4:]]
    assert last == [net != 3] * 4


def test_each_convolution_is_valid_with_bias_and_a_leaky_relu_of_a_third_behind():
    for settings in ALL:
        for block, layer in zip(build(settings).blocks, settings.layers, strict=True):
            assert block.conv.kernel_size == (layer.kernel, layer.kernel)
            assert (block.conv.stride, block.conv.padding) == ((1, 1), (0, 0))
            assert block.conv.bias is not None
            torch.testing.assert_close(block.activation(torch.tensor([-3.0, 6.0])), torch.tensor([-1.0, 6.0]))


# --- the input ---


def test_grey_is_zero_and_near_grey_is_background():
    values = torch.tensor([[128, 0, 255], [130, 126, 128], [131, 129, 128], [128, 128, 125]])  # pixels x channels
    centred = build(TINY[0]).centre(values.T.reshape(1, 3, 2, 2).to(torch.uint8)).reshape(3, 4).T
    expected = torch.tensor([[0, -1, 127 / 128], [0, 0, 0], [3 / 128, 1 / 128, 0], [0, 0, -3 / 128]])
    torch.testing.assert_close(centred, expected, rtol=0, atol=0)


@tiny_nets
def test_bytes_floats_and_channels_last_are_the_same_picture(settings):
    network, x = build(settings).eval(), pictures(settings)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(network(x.float()), expected, rtol=0, atol=0)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)


def test_the_network_has_the_precision_it_is_given():
    assert build(TINY[0]).double()(pictures(TINY[0])).dtype == torch.float64


@every_net
@pytest.mark.parametrize(("rows", "columns"), [(-1, 0), (0, -1)])
def test_an_input_smaller_than_the_field(settings, rows, columns):
    size = settings.size
    height, width = size + rows, size + columns
    message = (
        f"input: {height} x {width} px is too small for net {settings.net} of Min-pooling; expected {size} x {size} px"
    )
    with pytest.raises(SizeError, match=message):
        settings.build(5)(torch.zeros(1, 3, height, width))


def test_an_input_larger_than_the_field():
    with pytest.raises(SizeError, match="input: 28 x 27 px for net 1 of Min-pooling; expected 27 x 27 px"):
        TINY[0].build(5)(torch.zeros(1, 3, 28, 27))


# --- fractional max-pooling ---


def reference_starts(before: int, after: int, kernel: int, u: float) -> list[int]:
    a = np.float64(before - kernel) / (after - 1)
    rows = np.floor((np.arange(after) + u) * a) - np.floor(u * a)
    rows[-1] = before - kernel
    return [int(each) for each in rows]


def reference_pool(x: torch.Tensor, after: int, kernel: int, draw: torch.Tensor) -> np.ndarray:
    rows, columns = (reference_starts(x.shape[-1], after, kernel, float(u)) for u in draw)
    picture = x.numpy()
    return np.stack(
        [np.stack([picture[..., r : r + kernel, c : c + kernel].max((2, 3)) for c in columns], -1) for r in rows], 2
    )


POOLS = [(3, 23, 13), (3, 839, 466), (3, 816, 544), (3, 8, 5), (2, 3, 2), (3, 4, 2), (3, 3, 2)]


@pytest.mark.parametrize(("kernel", "before", "after"), POOLS)
def test_starts_obey_the_rule(kernel, before, after):
    draws = random.Random(0)
    for _ in range(200):
        u = draws.uniform(0, 10_000)
        got = starts(before, after, kernel, u)
        assert got == reference_starts(before, after, kernel, u)
        assert (got[0], got[-1], len(got)) == (0, before - kernel, after)
        assert got == sorted(got)


def test_the_last_start_is_forced_where_rounding_misses_it():
    u, step = 0.5999999999999999, (23 - 3) / 12
    assert math.floor((12 + u) * step) - math.floor(u * step) == 21
    assert starts(23, 13, 3, u)[-1] == 20


def test_training_draws_once_for_each_axis_and_shares_it():
    x = torch.randn(3, 4, 142, 142)
    pool = FractionalMaxPool(3, 142, 78)
    torch.manual_seed(5)
    got = pool(x)
    torch.manual_seed(5)
    draw = 10_000 * torch.rand(2, dtype=torch.float64)
    np.testing.assert_array_equal(got.numpy(), reference_pool(x, 78, 3, draw))
    assert reference_starts(142, 78, 3, float(draw[0])) != reference_starts(142, 78, 3, float(draw[1]))


def test_the_same_plane_pools_alike_in_all_samples_and_channels():
    pool, plane = FractionalMaxPool(3, 142, 78), torch.randn(142, 142)
    seen = set()
    for _ in range(5):
        pooled = pool(plane.expand(3, 4, -1, -1))
        assert pooled.eq(pooled[:1, :1]).all()
        seen.add(pooled[0, 0].sum().item())
    assert len(seen) == 5


def test_it_is_the_pooling_of_torch_with_expanded_samples():
    """torch's order of samples is columns, rows."""
    x = torch.randn(2, 3, 44, 44, dtype=torch.float64)
    pool = FractionalMaxPool(3, 44, 28).eval()
    for u, v in ((0.125, 0.75), (0.5, 0.0), (0.9, 0.3)):
        pool.fixed = (u, v)
        ours = x.clone().requires_grad_()
        theirs = x.clone().requires_grad_()
        samples = torch.tensor([v, u], dtype=torch.float64).expand(2, 3, 2)
        expected = nn.functional.fractional_max_pool2d(theirs, 3, 28, _random_samples=samples)
        got = pool(ours)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        weights = torch.randn_like(got)
        (got * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_layers_draw_independently():
    network = build(TINY[0])
    pools = [each for each in network.modules() if isinstance(each, FractionalMaxPool)]
    network.redraw()
    assert len({draw for pool in pools for draw in pool.fixed}) == 6


# --- dropout ---


def test_training_drops_whole_maps_for_the_whole_batch_and_scales_nothing():
    dropout, x = MapDropout(20, 4 / 20), torch.randn(3, 20, 5, 5)
    dropped = set()
    for _ in range(20):
        y = dropout(x)
        kept = [c for c in range(20) if y[:, c].any()]
        assert len(kept) == 16
        assert torch.equal(y[:, kept], x[:, kept])
        dropped |= set(range(20)) - set(kept)
    assert len(dropped) > 10


def test_evaluation_scales_the_preactivations():
    x = torch.randn(3, 20, 5, 5)
    torch.testing.assert_close(MapDropout(20, 4 / 20).eval()(x), 0.8 * x)
    block = build(TINY[0]).eval().blocks[3]
    x = torch.randn(2, 16, 2, 2)
    expected = nn.functional.leaky_relu((1 - 2 / 16) * block.conv(x), 1 / 3)
    torch.testing.assert_close(block(x), expected)


def test_a_narrow_layer_scales_by_what_it_really_drops():
    dropout, x = MapDropout(4, 32 / 256), torch.randn(1, 4, 2, 2)
    assert dropout.dropped == 0
    assert torch.equal(dropout(x), x)
    assert torch.equal(dropout.eval()(x), x)


# --- first weights ---


def test_first_weights_are_uniform_as_the_rule_says():
    torch.manual_seed(0)
    network = MinPooling(1).build(5)
    fans = [(5 / 1.8) ** 2, *[(3 / 1.8) ** 2] * 7, (3 / 1.5) ** 2, 4, 1]
    for block, fan in zip(network.blocks, fans, strict=True):
        outputs, inputs, kernel, _ = block.conv.weight.shape
        bound = (6 / (inputs * kernel**2 + outputs * fan)) ** 0.5
        assert block.conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert block.conv.weight.abs().max() <= bound
        assert block.conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not block.conv.bias.any()
    assert network.classif.weight.abs().max().item() == pytest.approx((6 / (352 + 50_000)) ** 0.5, rel=0.01)
    assert not network.classif.bias.any()


def test_the_stride_of_an_ordinary_pooling_counts():
    torch.manual_seed(0)
    conv = MinPooling(3).build(5).blocks[-4].conv  # 3x3-224 before the last 3x3 stride-2 pooling
    assert conv.weight.abs().max().item() == pytest.approx((6 / (9 * 224 + 224 * 2.25)) ** 0.5, rel=0.01)


def test_a_dense_layer_and_a_1x1_convolution_start_alike():
    dense, conv = nn.Linear(64, 32), nn.Conv2d(64, 32, 1)
    for layer in (dense, conv):
        torch.manual_seed(0)
        initialise(layer, 1.0)
    assert torch.equal(dense.weight, conv.weight.flatten(1))


def test_rescaling_brings_activations_to_one():
    network, x = build(TINY[2]), pictures(TINY[2], 4)

    def strengths():
        x_, found = network.centre(x), []
        for block in network.blocks:
            found.append(block.activate(x_).abs().mean().item())
            x_ = block(x_)
        return found

    before, first, last = strengths(), network.blocks[0].conv, network.classif.weight.clone()
    weight, bias = first.weight.clone(), first.bias.clone()
    network.rescale(x)
    torch.testing.assert_close(first.weight, weight * before[0] ** -0.1)
    torch.testing.assert_close(first.bias, bias * before[0] ** -0.1)
    for _ in range(100):
        network.rescale(x)
    assert max(abs(each - 1) for each in strengths()) < 0.01 < max(abs(each - 1) for each in before)
    assert torch.equal(network.classif.weight, last)


def test_rescaling_survives_an_empty_picture():
    network = TINY[0].build(5)
    before = network.blocks[0].conv.weight.clone()
    network.rescale(torch.full((1, 3, 27, 27), 128, dtype=torch.uint8))
    assert torch.equal(network.blocks[0].conv.weight, before)


# --- laws ---


@every_net
def test_every_parameter_gets_a_finite_gradient(settings):
    network = build(settings)
    outputs = network(pictures(settings))
    assert outputs.shape == (2, 5)
    outputs.square().sum().backward()
    for name, each in network.named_parameters():
        assert each.grad is not None, name
        assert each.grad.isfinite().all(), name
        assert each.grad.any(), name


@tiny_nets
def test_evaluation_is_repeatable_and_uses_no_draw(settings):
    network, x = build(settings).eval(), pictures(settings)
    torch.manual_seed(3)
    expected_next = torch.rand(1)
    with torch.no_grad():
        torch.manual_seed(3)
        once = network(x)
        assert torch.equal(torch.rand(1), expected_next)
        assert torch.equal(once, network(x))
        again = build(settings).eval()
        assert torch.equal(again(x), once)


@pytest.mark.parametrize("settings", TINY[:2], ids=named)
def test_training_draws_and_a_seed_repeats_it(settings):
    network, x = build(settings), pictures(settings)
    torch.manual_seed(3)
    once, other = network(x), network(x)
    assert not torch.equal(once, other)
    torch.manual_seed(3)
    assert torch.equal(network(x), once)


@pytest.mark.parametrize("settings", TINY[:2], ids=named)
def test_redrawing_makes_another_view_that_stays(settings):
    network, x = build(settings).eval(), pictures(settings)
    with torch.no_grad():
        first = network(x)
        network.redraw()
        second = network(x)
        assert not torch.equal(first, second)
        assert torch.equal(network(x), second)


@tiny_nets
def test_a_batch_of_two_is_two_batches_of_one(settings):
    network, x = build(settings).eval(), pictures(settings)
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


@tiny_nets
def test_outputs_are_linear_in_the_features(settings):
    network, x = build(settings, 3).eval(), pictures(settings)
    with torch.no_grad():
        assert network.features(x).shape == (2, settings.layers[-1].maps)
        torch.testing.assert_close(network(x), network.classif(network.features(x)))


@tiny_nets
def test_settings_and_weights_rebuild_the_network(settings):
    network, x = build(settings).eval(), pictures(settings)
    again = MinPooling.from_dict(json.loads(json.dumps(settings.to_dict()))).build(5)
    assert again.settings == settings
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


# --- export ---


def onnx_outputs(path, x: torch.Tensor) -> torch.Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"pictures": x.numpy()})[0])


@pytest.mark.parametrize("settings", [*TINY, ALL[3]], ids=named)
def test_onnx_agrees(settings, tmp_path):
    pytest.importorskip("onnxscript")
    network, x = build(settings), pictures(settings, 3)
    export_onnx(network, settings.size, tmp_path / "net.onnx")
    with torch.no_grad():
        torch.testing.assert_close(onnx_outputs(tmp_path / "net.onnx", x), network(x), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@tiny_nets
def test_the_older_exporter_agrees(settings, tmp_path):
    pytest.importorskip("onnx")
    network, x, path = build(settings).eval(), pictures(settings, 3), tmp_path / "net.onnx"
    names = {"input_names": ["pictures"], "output_names": ["outputs"], "dynamic_axes": {"pictures": {0: "batch"}}}
    torch.onnx.export(network, (x[:2],), path, dynamo=False, **names)
    with torch.no_grad():
        torch.testing.assert_close(onnx_outputs(path, x), network(x), atol=1e-4, rtol=1e-4)


# --- settings ---


def test_settings():
    assert MinPooling() == MinPooling(net=1, width=1.0)
    assert MinPooling(2, 1).to_dict() == {"net": 2, "width": 1.0, "tiny": False}
    assert [each.size for each in TINY] == [27, 30, 59]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net": 0}, r"network\.net: got 0; expected 1\.\.3"),
        ({"net": 4}, r"network\.net: got 4; expected 1\.\.3"),
        ({"net": "1"}, r"network\.net: got '1'"),
        ({"net": True}, r"network\.net: got True"),
        ({"net": [1]}, r"network\.net: got \[1\]"),
        ({"width": 0}, r"network\.width: got 0; expected a number above 0 and at most 4"),
        ({"width": 5}, r"network\.width: got 5"),
        ({"width": float("nan")}, r"network\.width: got nan"),
        ({"width": "1"}, r"network\.width: got '1'"),
        ({"width": True}, r"network\.width: got True"),
        ({"tiny": 1}, r"network\.tiny: got 1; expected true or false"),
        ({"nets": 1}, r'network: unknown setting "nets"\. Did you mean "net"\?'),
    ],
)
def test_settings_that_mean_nothing(values, message):
    with pytest.raises(SettingError, match=message):
        MinPooling.from_dict(values)


def test_it_has_no_cells():
    with pytest.raises(SettingError, match=r"network\.cells: got 1; expected 0: Min-pooling takes one input size"):
        MinPooling().build(5, cells=1)


@pytest.mark.parametrize("outputs", [0, -1, 2.0, True])
def test_outputs_that_mean_nothing(outputs):
    with pytest.raises(SettingError, match=r"network\.outputs: got .*; expected a whole number from 1"):
        MinPooling(tiny=True).build(outputs)
