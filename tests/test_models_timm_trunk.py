"""timm's networks as trunks: each builds, grows a cell, trains a step; what is no CNN is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.models import build_network
from m2cnn.models.settings import EDGETPU_OPTIONS
from m2cnn.models.timm_trunk import TimmTrunk, pretrained_weights

TRUNKS = [
    "resnet18",
    "resnext50_32x4d",
    "densenet121",
    "efficientnet_b0",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenet_edgetpu_100",
    "regnetx_002",
    "regnety_002",
    "convnext_atto",
    "repvgg_a0",
    "inception_v3",
    "legacy_xception",
]


def network_of(name: str, cells: int = 0, **settings):
    torch.manual_seed(0)
    return build_network({"trunk": f"timm:{name}", "residual_blocks": 1} | settings, 6, cells)


def pictures(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_grows_a_cell_and_trains_a_step(name):
    network = network_of(name)
    before = {key: each.clone() for key, each in network.state_dict().items()}
    network.grow()
    assert all(torch.equal(network.state_dict()[key], each) for key, each in before.items())

    size = network.smallest_size()
    x = pictures(size)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4)
    network(x).square().mean().backward()
    for key, each in network.named_parameters():
        assert each.grad is not None, key
        assert each.grad.isfinite().all(), key
    optimiser.step()

    with torch.no_grad():
        maps = network.eval().maps(x)
        assert [tuple(each.shape[1:]) for each in maps] == [(network.trunk.channels, side, side) for side in (5, 2)]
        outputs = network(x)
    assert outputs.shape == (2, 6)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_without_cells_the_features_are_timms_own(name):
    torch.manual_seed(0)
    network = network_of(name).eval()
    theirs = network.trunk.net
    config = theirs.pretrained_cfg
    x = pictures(107)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features((x / 255 - mean) / std), pre_logits=True)
        scale = expected.abs().max()
        torch.testing.assert_close(network.features(x) / scale, expected / scale, atol=1e-4, rtol=1e-4)


def test_the_smallest_size_follows_the_network_and_leaves_its_modes():
    network = network_of("inception_v3")
    network.trunk.net.Conv2d_1a_3x3.bn.eval()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    assert [network.smallest_size(stage) for stage in (0, 1, 2)] == [107, 203, 395]
    assert network.trunk.map_size(10) == 0
    assert not network.trunk.net.Conv2d_1a_3x3.bn.training
    assert network.trunk.net.Conv2d_2a_3x3.bn.training
    assert all(torch.equal(network.state_dict()[name], each) for name, each in before.items())


def test_a_trunk_that_takes_multiples_of_32_says_so():
    network = network_of("hrnet_w18_small").eval()
    assert [network.smallest_size(stage) for stage in (0, 1)] == [64, 160]
    with torch.no_grad():
        assert network(pictures(64, 1)).isfinite().all()
        with pytest.raises(SizeError, match="got 80 x 80 px; expected multiples of 32 px"):
            network(pictures(80, 1))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "coat_tiny"])
def test_a_transformer_is_refused(name):
    with pytest.raises(SettingError, match=f'"timm:{name}" gives no map .* a convolutional network'):
        network_of(name)


def test_a_network_whose_map_has_channels_last_is_refused():
    with pytest.raises(SettingError, match="gives no map of channels x height x width"):
        network_of("mambaout_femto")


@pytest.mark.parametrize(
    ("name", "message"), [("resnet5", "Did you mean resnet50"), ("qqqq", r"See timm\.list_models")]
)
def test_an_unknown_name_is_refused(name, message):
    with pytest.raises(SettingError, match=message):
        network_of(name)


def test_an_unknown_tag_of_weights_is_refused():
    with pytest.raises(SettingError, match=r"timm refuses resnet18\.nonsense \(Invalid pretrained tag"):
        network_of("resnet18.nonsense")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 5}, r"network\.trunk_options\.num_classes: M2CNN sets this itself"),
        ({"pad_typ": "same"}, "resnet18 refuses .*pad_typ"),
        ({"mean": 0.5}, r"network\.trunk_options\.mean: got 0\.5; expected three numbers"),
        ({"std": [0.2, 0, 0.2]}, r"network\.trunk_options\.std"),
        ({"std": [0.2, 0.2]}, r"network\.trunk_options\.std"),
        ({"linear_first_block": True}, r"linear_first_block: resnet18 has no such block"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(SettingError, match=message):
        network_of("resnet18", trunk_options=options)


def test_options_reach_the_network_and_its_settings():
    options = EDGETPU_OPTIONS
    network = network_of("mobilenet_edgetpu_100", trunk_options=options)
    assert (network.trunk.mean, network.trunk.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert isinstance(network.trunk.net.blocks[0][0].bn1.act, nn.Identity)
    assert type(network.trunk.net.conv_stem).__name__ == "Conv2dSame"
    assert network.settings["trunk_options"] == options
    assert not isinstance(network_of("mobilenet_edgetpu_100").trunk.net.blocks[0][0].bn1.act, nn.Identity)


def test_pretrained_weights_come_from_timm(monkeypatch):
    asked = []
    create = timm.create_model

    def offline(name, pretrained, **options):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr("m2cnn.models.timm_trunk.timm.create_model", offline)
    assert "conv1.weight" in pretrained_weights("resnet18")
    network = network_of("resnet18", weights="timm")
    assert network.settings["weights"] == ""
    assert asked == [("resnet18", True), ("resnet18", True)]


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("no connection")

    monkeypatch.setattr("m2cnn.models.timm_trunk.timm.create_model", fail)
    with pytest.raises(SettingError, match=r"could not fetch the weights of resnet18 .* Give a local file"):
        TimmTrunk("resnet18", pretrained=True)
