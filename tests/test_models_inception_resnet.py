"""BaseNet against the published network: map sizes, parameters, and timm's definition as second author."""

from __future__ import annotations

import pytest
import timm
import torch

from m2cnn.models import build_network
from m2cnn.models.inception_resnet import InceptionResNetV2, block8, block17, block35, map_sizes
from m2cnn.models.settings import FULL_REPEATS

PAPER_MAPS = {
    224: (111, 109, 54, 52, 25, 12, 5),
    256: (127, 125, 62, 60, 29, 14, 6),
    299: (149, 147, 73, 71, 35, 17, 8),
    448: (223, 221, 110, 108, 53, 26, 12),
    492: (245, 243, 121, 119, 59, 29, 14),
    720: (359, 357, 178, 176, 87, 43, 21),
}
LADDER_MAPS = {
    ("half", 112): (110, 108, 53, 51, 25, 12, 5),
    ("half", 224): (222, 220, 109, 107, 53, 26, 12),
    ("half", 360): (358, 356, 177, 175, 87, 43, 21),
    ("quarter", 56): (54, 52, 50, 48, 23, 11, 5),
    ("quarter", 112): (110, 108, 106, 104, 51, 25, 12),
    ("quarter", 184): (182, 180, 178, 176, 87, 43, 21),
}


def count(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def scrambled_timm_network() -> torch.nn.Module:
    """timm's network with random batch-norm statistics, so that no layer is an identity by chance."""
    torch.manual_seed(0)
    network = timm.create_model("inception_resnet_v2", pretrained=False).eval()
    for each in network.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.normal_(0, 0.2)
            each.running_var.uniform_(0.1, 0.4)
            each.weight.data.uniform_(0.5, 1.5)
            each.bias.data.normal_(0, 0.2)
    return network


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return InceptionResNetV2()


@pytest.mark.parametrize("size", PAPER_MAPS)
def test_map_sizes_are_those_of_the_paper(size):
    assert tuple(map_sizes(size).values()) == PAPER_MAPS[size]


@pytest.mark.parametrize("key", LADDER_MAPS, ids=str)
def test_map_sizes_of_the_smaller_ladders(key):
    ladder, size = key
    assert tuple(map_sizes(size, ladder).values()) == LADDER_MAPS[key]


@pytest.mark.parametrize(("side", "first", "last"), [(5, 203, 234), (8, 299, 330), (12, 427, 458), (21, 715, 746)])
def test_input_ranges_of_each_map(side, first, last):
    assert [size for size in range(107, 800) if map_sizes(size)["mixed_7a"] == side] == [*range(first, last + 1)]


@pytest.mark.parametrize("ladder", ["full", "half", "quarter"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_layer_gives_the_map_that_is_computed(ladder, stage):
    network = build_network({"width": 1 / 16, "repeats": (1, 1, 1), "ladder": ladder}, 6)
    size = {"full": (224, 448, 720), "half": (112, 224, 360), "quarter": (56, 112, 184)}[ladder][stage]
    seen = {}
    for name, module in network.trunk.named_children():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.shape[-1]}))
    with torch.no_grad(), torch.device("meta"):
        network.to("meta").eval()(torch.empty(1, 3, size, size))
    expected = map_sizes(size, ladder)
    assert {name: seen[name] for name in expected} == expected
    assert seen["conv2d_2b"] == expected["conv2d_2a"]
    assert seen["conv2d_3b"] == expected["maxpool_3a"]
    assert seen["mixed_5b"] == seen["repeat"] == expected["maxpool_5a"]
    assert seen["repeat_1"] == expected["mixed_6a"]
    assert seen["block8"] == seen["repeat_2"] == seen["conv2d_7b"] == (5, 12, 21)[stage]


def test_parameters_are_those_of_the_published_network(full):
    assert count(full) == 54_306_464
    with torch.device("meta"):
        assert count(build_network({}, 1000)) == 55_843_464
        assert count(build_network({}, 6).classif) == 9_222
    assert full.channels == 2080
    assert full.head_channels == 1536


def test_channels_of_each_layer(full):
    for name, channels in {"mixed_5b": 320, "mixed_6a": 1088, "mixed_7a": 2080, "block8": 2080}.items():
        assert getattr(full, name).out_channels == channels
    assert [len(each) for each in (full.repeat, full.repeat_1, full.repeat_2)] == [*FULL_REPEATS]


@pytest.mark.parametrize(
    ("block", "scale"), [(block35(8, 1), 0.17), (block17(8, 1), 0.10), (block8(8, 1), 0.20)], ids=["35", "17", "8"]
)
def test_a_block_adds_its_scaled_residual_and_cuts_at_zero(block, scale):
    torch.nn.init.zeros_(block.conv2d.weight)
    torch.nn.init.constant_(block.conv2d.bias, 1.0)
    x = torch.tensor([-3.0, 0.0, 2.0]).view(3, 1, 1, 1).expand(3, 8, 7, 7)
    torch.testing.assert_close(block(x)[:, 0, 0, 0], torch.tensor([0.0, scale, 2.0 + scale]))


def test_the_last_block_has_scale_one_and_no_relu(full):
    assert (full.block8.scale, full.block8.relu) == (1.0, False)
    assert all((each.scale, each.relu) == (0.20, True) for each in full.repeat_2)


def test_same_output_as_timm_with_its_weights_by_name(monkeypatch):
    theirs = scrambled_timm_network()
    monkeypatch.setattr("m2cnn.models.timm_trunk.pretrained_weights", lambda name: theirs.state_dict())
    ours = build_network({"weights": "timm"}, 1000).eval()
    ours.classif.load_state_dict(theirs.classif.state_dict())
    pictures = torch.randint(0, 256, (2, 3, 235, 235), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs((pictures / 255 - 0.5) / 0.5)
        found = ours(pictures)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_slim_networks_keep_the_proportions():
    with torch.device("meta"):
        slim = InceptionResNetV2(1 / 16, (1, 1, 1))
    assert (slim.mixed_5b.out_channels, slim.mixed_6a.out_channels, slim.channels, slim.head_channels) == (
        20,
        68,
        130,
        96,
    )
    assert min(each.out_channels for each in slim.modules() if isinstance(each, torch.nn.Conv2d)) == 4
