"""o_O: both tables of maps, parameter counts, the layers by hand, the step-wise copy, and the laws."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.export import TOLERANCE, export_onnx
from m2cnn.models.o_o import Layer, OOSettings, map_sizes
from m2cnn.models.o_o_net import FIRST_BIAS, MEAN, STD, RMSPool, UntiedConv, copy_kernels, maxout
from m2cnn.optimiser import parameter_groups
from m2cnn.recipe import Optimiser

# Every row of the report's tables: number -> side of the map.
MAPS_A = {
    448: {1: 224, 2: 224, 3: 111, 4: 56, 5: 56, 6: 56, 7: 27, 8: 27, 9: 27, 10: 27, 11: 13, 12: 13, 13: 13, 14: 13}
    | {15: 6, 16: 6, 17: 6, 18: 2},
    224: {1: 112, 2: 112, 3: 55, 4: 28, 5: 28, 6: 28, 7: 13, 8: 13, 9: 13, 10: 13, 11: 6, 12: 6, 13: 6, 14: 6, 15: 2},
    112: {1: 56, 2: 56, 3: 27, 4: 14, 5: 14, 6: 14, 7: 6, 8: 6, 9: 6, 10: 6, 11: 2},
}
MAPS_B = {
    448: {1: 224, 2: 225, 3: 112, 4: 56, 5: 57, 6: 56, 7: 27, 8: 28, 9: 27, 10: 28, 11: 13, 12: 14, 13: 13, 14: 14}
    | {15: 6, 16: 5, 18: 2},
    224: {1: 112, 2: 113, 3: 56, 4: 28, 5: 29, 6: 28, 7: 13, 8: 14, 9: 13, 10: 14, 11: 6, 12: 7, 13: 6, 14: 7, 15: 3},
    112: {1: 56, 2: 57, 3: 28, 4: 14, 5: 15, 6: 14, 7: 6, 8: 7, 9: 6, 10: 7, 11: 3},
}
MAPS = {("a", size): each for size, each in MAPS_A.items()} | {("b", size): each for size, each in MAPS_B.items()}
CHANNELS = dict.fromkeys((1, 2, 3), 32) | dict.fromkeys((4, 5, 6, 7), 64) | dict.fromkeys((8, 9, 10, 11), 128)
CHANNELS |= dict.fromkeys((12, 13, 14, 15), 256) | dict.fromkeys((16, 17, 18), 512)
FEATURES = {("a", 448): 2048, ("a", 224): 1024, ("a", 112): 512, ("b", 448): 2048, ("b", 224): 2304, ("b", 112): 1152}
COPIED = {(112, 224): [1, 2, 4, 5, 6, 8, 9, 10], (224, 448): [1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]}


def slim(net: str = "a", size: int = 112, outputs: int = 1, seed: int = 0):
    """A twin of n = 4 whose outputs start well above 0, where the last ReLU has a gradient."""
    torch.manual_seed(seed)
    network = OOSettings(net, size, 1 / 8, 32).build(outputs)
    nn.init.constant_(network.classif.bias, 2.0)
    return network


def pictures(size: int = 112, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def convolutions(network: nn.Module) -> dict[int, UntiedConv]:
    named = network.layers.named_children()
    return {int(name.removeprefix("conv_")): each for name, each in named if name.startswith("conv_")}


# --- the tables ---


@pytest.mark.parametrize(("net", "size"), MAPS)
def test_map_sizes_are_those_of_the_report(net, size):
    assert map_sizes(net, size) == MAPS[net, size]


@pytest.mark.parametrize(("net", "size"), MAPS)
def test_the_full_network_has_these_maps_channels_and_features(net, size):
    with torch.device("meta"), torch.no_grad():
        network = OOSettings(net, size).build(1)
        x, shapes = network.normalise(torch.empty(1, 3, size, size)), {}
        for name, layer in network.layers.named_children():
            x = layer(x)
            shapes[int(name.split("_")[1])] = tuple(x.shape)
        assert shapes == {each: (1, CHANNELS[each], side, side) for each, side in MAPS[net, size].items()}
        assert network.features(torch.empty(3, 3, size, size)).shape == (3, FEATURES[net, size])
        assert network(torch.empty(3, 3, size, size)).shape == (3, 1)


@pytest.mark.parametrize(("net", "size"), MAPS)
def test_the_slim_twin_has_the_true_maps(net, size):
    network = slim(net, size).eval()
    with torch.no_grad():
        assert network.features(pictures(size)).shape == (2, FEATURES[net, size] // 8)
    sides = {number: conv.bias.shape[-1] for number, conv in convolutions(network).items()}
    assert sides.items() <= MAPS[net, size].items()


def test_kernels_of_both_networks():
    with torch.device("meta"):
        networks = [OOSettings(net).build(1) for net in "ab"]
    kernels = [{number: conv.conv.kernel_size for number, conv in convolutions(each).items()} for each in networks]
    assert kernels[0] == dict.fromkeys(kernels[0], (3, 3)) | {1: (5, 5), 4: (5, 5)}
    assert kernels[1] == dict.fromkeys(kernels[1], (4, 4))


@pytest.mark.parametrize(("net", "size"), MAPS)
def test_the_last_pool_moves_by_three_in_net_a_and_by_two_in_net_b(net, size):
    network, step = slim(net, size).eval(), {"a": 3, "b": 2}[net]
    *before, last = network.layers
    with torch.no_grad():
        x = nn.Sequential(*before)(network.normalise(pictures(size)))
        window = x[0, 0, step : step + 3, :3]
        torch.testing.assert_close(last(x)[0, 0, 1, 0], window.square().mean().sqrt())


@pytest.mark.parametrize(("net", "kernels", "biases"), [("a", "5.52", "4.26"), ("b", "5.56", "4.29")])
def test_parameters_at_448(net, kernels, biases):
    with torch.device("meta"):
        network = OOSettings(net).build(1)
    convs = convolutions(network).values()
    dense = [parameter for name, parameter in network.named_parameters() if not name.startswith("layers.")]
    sets = [[each.conv.weight for each in convs], [each.bias for each in convs], dense]
    assert [f"{sum(each.numel() for each in part) / 1e6:.2f}" for part in sets] == [kernels, biases, "2.62"]
    assert sum(each.numel() for part in sets for each in part) == sum(each.numel() for each in network.parameters())


# --- the parts, by hand ---


def test_rms_pooling_by_hand():
    x = torch.zeros(1, 2, 6, 6)
    x[0, 0, :3, :3] = torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0], [7.0, 8.0, -9.0]])  # squares sum to 285
    x[0, 0, 3:, 3:] = -2.0
    x[0, 1, 0, 5] = 3.0
    expected = torch.tensor([[[(285 / 9) ** 0.5, 1e-6], [1e-6, 2.0]], [[1e-6, 1.0], [1e-6, 1e-6]]])[None]
    torch.testing.assert_close(RMSPool(3, 3)(x), expected, rtol=1e-6, atol=1e-9)


def test_rms_pooling_of_zeros_has_a_gradient_of_zero():
    x = torch.zeros(1, 1, 5, 5, requires_grad=True)
    RMSPool(3, 2)(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, 1, 5, 5))


def test_maxout_takes_neighbours():
    x = torch.tensor([[1.0, 2.0, 5.0, -1.0, -3.0, -4.0], [0.0, 0.0, 1.0, 9.0, 8.0, 7.0]])
    assert maxout(x).tolist() == [[2.0, 5.0, -3.0], [0.0, 9.0, 8.0]]


def test_an_untied_bias_belongs_to_a_channel_and_a_position():
    conv = UntiedConv(3, 4, 5, Layer("conv", 3, 1, 1, 4))
    assert conv.bias.shape == (4, 5, 5)
    assert conv.bias.eq(FIRST_BIAS).all()
    x = torch.randn(2, 3, 5, 5)
    before = conv(x)
    with torch.no_grad():
        conv.bias[1, 2, 3] += 100.0
    changed = (conv(x) != before).nonzero().tolist()
    assert changed == [[0, 1, 2, 3], [1, 1, 2, 3]]


def test_an_untied_convolution_ends_in_a_leak_of_a_hundredth():
    conv = UntiedConv(1, 1, 2, Layer("conv", 3, 1, 1, 1))
    nn.init.zeros_(conv.conv.weight)
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([[[1.0, -1.0], [-200.0, 0.0]]]))
    torch.testing.assert_close(conv(torch.randn(1, 1, 2, 2)), torch.tensor([[[[1.0, -0.01], [-2.0, 0.0]]]]))


def test_standardisation_is_the_first_layer():
    network = slim()
    x = torch.tensor([MEAN, [m + s for m, s in zip(MEAN, STD, strict=True)], [255.0] * 3]).view(3, 3, 1, 1)
    expected = torch.tensor(
        [[0.0] * 3, [1.0] * 3, [(255 - 108.646) / 70.539, (255 - 75.869) / 51.715, 200.66 / 43.034]]
    )
    torch.testing.assert_close(network.normalise(x).flatten(1), expected, atol=1e-5, rtol=1e-5)


def test_the_tail_by_hand():
    network, x = slim(outputs=2).eval(), pictures()
    with torch.no_grad():
        v = network.features(x).numpy()
        for dense in (network.dense_1, network.dense_2):
            v = v @ dense.weight.numpy().T + dense.bias.numpy()
            v = np.where(v > 0, v, 0.01 * v)
            v = np.maximum(v[:, 0::2], v[:, 1::2])
        v = np.maximum(0, v @ network.classif.weight.numpy().T + network.classif.bias.numpy())
        assert v.min() > 0
        np.testing.assert_allclose(network(x).numpy(), v, rtol=1e-5, atol=1e-5)
    assert [dense.out_features for dense in (network.dense_1, network.dense_2)] == [32, 32]
    assert [dense.in_features for dense in (network.dense_2, network.classif)] == [16, 16]


def test_both_dense_layers_are_behind_a_dropout_of_one_half():
    network = slim()
    assert network.dropout.p == 0.5
    seen = []
    network.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    network(pictures())
    assert seen == [64, 16]
    assert not torch.equal(network(pictures()), network(pictures()))
    assert torch.equal(network.eval()(pictures()), network(pictures()))


def test_no_output_is_below_zero():
    network = slim(outputs=8).eval()
    nn.init.zeros_(network.classif.bias)
    with torch.no_grad():
        outputs = network(pictures(batch=4))
        assert outputs.min() == 0
        assert outputs.max() > 0
        nn.init.constant_(network.classif.bias, -1e6)
        assert network(pictures()).eq(0).all()


def test_first_weights_are_orthogonal_and_biases_a_twentieth():
    torch.manual_seed(0)
    network = OOSettings("b", 112, 1 / 4, 64).build(1)
    weights = [conv.conv.weight.flatten(1) for conv in convolutions(network).values()]
    for weight in (*weights, network.dense_1.weight, network.dense_2.weight):
        few = weight if weight.shape[0] <= weight.shape[1] else weight.T
        torch.testing.assert_close(few @ few.T, torch.eye(len(few)), atol=1e-5, rtol=0)
    biases = [conv.bias for conv in convolutions(network).values()] + [network.dense_1.bias, network.dense_2.bias]
    assert all(each.eq(0.05).all() for each in biases)
    assert network.classif.bias.eq(0).all()
    bound = (6 / (32 + 1)) ** 0.5  # Glorot-uniform
    assert 0.8 * bound < network.classif.weight.abs().max() <= bound


def test_biases_are_spared_from_weight_decay():
    network = slim()
    groups = parameter_groups(network, Optimiser(weight_decay=0.001), None)
    spared = {id(each) for group in groups if group["weight_decay"] == 0 for each in group["params"]}
    assert all((id(each) in spared) == name.endswith(".bias") for name, each in network.named_parameters())
    assert all(id(conv.bias) in spared for conv in convolutions(network).values())


# --- step-wise initialisation ---


@pytest.mark.parametrize("mean_biases", [False, True])
@pytest.mark.parametrize(("sizes", "numbers"), COPIED.items())
@pytest.mark.parametrize("net", ["a", "b"])
def test_kernels_are_copied_bit_equal_and_the_rest_stays(net, sizes, numbers, mean_biases):
    small, large = slim(net, sizes[0], seed=1), slim(net, sizes[1], seed=2)
    for conv in convolutions(small).values():
        nn.init.normal_(conv.bias)
    before = {name: each.clone() for name, each in large.state_dict().items()}
    given = {name: each.clone() for name, each in small.state_dict().items()}
    assert copy_kernels(small, large, mean_biases=mean_biases) == numbers
    after = large.state_dict()
    kernels = {f"layers.conv_{number}.conv.weight" for number in numbers}
    biases = {f"layers.conv_{number}.bias" for number in numbers} if mean_biases else set()
    for name in kernels:
        assert torch.equal(after[name], given[name]), name
        assert not torch.equal(before[name], given[name]), name
    for name in biases:
        mean = given[name].mean((1, 2))
        assert all(torch.equal(row, mean) for row in after[name].flatten(1).T), name
    assert all(torch.equal(after[name], each) for name, each in before.items() if name not in kernels | biases)
    assert all(torch.equal(small.state_dict()[name], each) for name, each in given.items())


def test_a_copy_is_no_view():
    small, large = slim(size=112), slim(size=224)
    copy_kernels(small, large)
    nn.init.zeros_(small.layers.conv_1.conv.weight)
    assert large.layers.conv_1.conv.weight.any()
    assert large.layers.conv_1.conv.weight.requires_grad


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (
            OOSettings("a", 112, 1 / 8, 32),
            OOSettings("b", 224, 1 / 8, 32),
            "from net a, 112 px, width 0.125 into net b",
        ),
        (OOSettings("a", 112, 1 / 8, 32), OOSettings("a", 224, 1 / 4, 32), "expected the same net and width"),
        (OOSettings("a", 224, 1 / 8, 32), OOSettings("a", 112, 1 / 8, 32), "and a larger size"),
        (OOSettings("a", 112, 1 / 8, 32), OOSettings("a", 112, 1 / 8, 32), "and a larger size"),
    ],
)
def test_kernels_of_another_network_are_refused(small, large, message):
    with pytest.raises(SettingError, match=message):
        copy_kernels(small.build(1), large.build(1))


# --- laws ---


@pytest.mark.parametrize(("net", "size"), MAPS)
def test_every_parameter_gets_a_finite_gradient(net, size):
    network = slim(net, size, outputs=2)
    outputs = network(pictures(size, 4))
    assert outputs.shape == (4, 2)
    outputs.square().sum().backward()
    for name, each in network.named_parameters():
        assert each.grad is not None, name
        assert each.grad.isfinite().all(), name
        assert each.grad.any(), name


@pytest.mark.parametrize("net", ["a", "b"])
def test_a_batch_of_two_is_two_batches_of_one(net):
    network, x = slim(net).eval(), pictures()
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]), atol=1e-5, rtol=1e-5)


def test_bytes_floats_and_channels_last_are_the_same_picture():
    network, x = slim().eval(), pictures()
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(network(x.float()), expected, rtol=0, atol=0)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("net", "size"), [("a", 112), ("b", 224)])
def test_onnx_says_the_same(net, size, tmp_path):
    network, x = slim(net, size, outputs=2).eval(), pictures(size, 3)
    export_onnx(network, size, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = network(x).numpy()
    assert ours.min() > 0
    assert np.abs(session.run(None, {"pictures": x.numpy()})[0] - ours).max() < TOLERANCE


@pytest.mark.filterwarnings("ignore:.*torch.jit:Warning")
def test_tracing_meets_no_size_check():
    network, x = slim().eval(), pictures()
    traced = torch.jit.trace(network, x, check_trace=False)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), network(x))


def test_settings_rebuild_the_network():
    network = slim("b", 112, outputs=2).eval()
    again = OOSettings.from_dict(json.loads(json.dumps(network.settings))).build(2).eval()
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(pictures()), network(pictures()))


def test_the_same_seed_makes_the_same_network():
    one, two = slim().state_dict(), slim().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- refusals ---


@pytest.mark.parametrize("shape", [(111, 112), (112, 113), (224, 224), (56, 56)])
def test_only_its_own_size_is_taken(shape):
    network, x = slim(), torch.zeros(1, 3, *shape)
    message = f"input: {shape[0]} x {shape[1]} px for a network of 112 px; expected 112 x 112 px"
    for call in (network, network.features):
        with pytest.raises(SizeError, match=message):
            call(x)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net": "c"}, r"network.net: got 'c'; expected \"a\" \(5x5\) or \"b\" \(4x4\)"),
        ({"net": ["a"]}, "network.net"),
        ({"size": 256}, "network.size: got 256; expected 112, 224 or 448 px"),
        ({"size": 112.0}, "network.size"),
        ({"width": 0}, "network.width: got 0; expected a number above 0 and at most 4"),
        ({"width": 4.5}, "network.width"),
        ({"width": True}, "network.width"),
        ({"width": "1/8"}, "network.width"),
        ({"dense": 31}, "network.dense: got 31; expected an even number"),
        ({"dense": 0}, "network.dense"),
        ({"dense": 32.0}, "network.dense"),
        ({"nett": "a"}, 'network: unknown setting "nett". Did you mean "net"'),
    ],
)
def test_a_setting_that_means_nothing_is_refused(values, message):
    with pytest.raises(SettingError, match=message):
        OOSettings.from_dict(values)


def test_settings_survive_a_round_trip():
    settings = OOSettings("b", 224, 1, 64)
    again = OOSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings
    assert isinstance(again.width, float)
    assert OOSettings() == OOSettings("a", 448, 1.0, 1024)


@pytest.mark.parametrize("cells", [1, 2])
def test_cells_are_refused(cells):
    with pytest.raises(SettingError, match=f"network.cells: got {cells}; expected 0: o_O has no cells. .*copy_kernels"):
        OOSettings(size=112).build(1, cells)


@pytest.mark.parametrize("outputs", [0, True, 1.0])
def test_outputs_are_a_whole_number(outputs):
    with pytest.raises(SettingError, match=r"network\.outputs: got .* expected a whole number from 1"):
        OOSettings(size=112).build(outputs)
