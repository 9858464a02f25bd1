"""bf16 on a CPU: which convolutions stay in float32, and that the trainer has it so."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from m2cnn.checkpoint import Progress
from m2cnn.data.sampling import Sampling
from m2cnn.fit import Fit, StageData, fit_stage
from m2cnn.models import NetworkSettings
from m2cnn.precision import DepthwiseInFloat, depthwise_in_float
from m2cnn.recipe import Recipe, Stage
from m2cnn.tasks import MultiTask

TRUNK = {"trunk": "timm:mobilenetv2_035", "ladder": "quarter"}


@pytest.fixture(scope="module")
def layers():
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, stride=2, groups=8)


def test_only_grouped_convolutions_under_autocast_stay_in_float(layers):
    dense, depthwise = layers
    x = torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert depthwise(x).dtype == torch.bfloat16
        with DepthwiseInFloat():
            assert dense(x).dtype == torch.bfloat16
            assert torch.equal(depthwise(x.bfloat16()), depthwise.float()(x.bfloat16().float()))
            assert depthwise(x).dtype == torch.float32
            assert torch.nn.functional.conv2d(x, depthwise.weight, groups=8).dtype == torch.float32
        assert depthwise(x).dtype == torch.bfloat16  # the mode ends with its block


def test_without_autocast_nothing_changes(layers):
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    for layer in layers:
        with DepthwiseInFloat():
            assert layer.double()(x).dtype == torch.float64
        layer.float()


def test_it_is_entered_only_under_autocast_on_a_cpu():
    assert isinstance(depthwise_in_float(), nullcontext)
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(depthwise_in_float(), DepthwiseInFloat)
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert isinstance(depthwise_in_float(), nullcontext)


class Grey:
    """Pictures of one grey with grades 0..4."""

    grades = torch.arange(10).numpy() % 5

    def __len__(self):
        return len(self.grades)

    def __getitem__(self, key):
        return torch.full((3, 56, 56), 100, dtype=torch.uint8), int(self.grades[key[0]])


@pytest.fixture
def trained(tmp_path):
    """What trains a small network with depthwise convolutions for a pass: of the network and the precision."""

    def train(network, precision):
        recipe = Recipe("own", (Stage(1, size=56, batch=5),))
        data = StageData(Grey(), Grey(), Sampling())
        fit_stage(Fit(network, MultiTask(), recipe, data, Progress(), tmp_path, None), precision, tmp_path)

    return train


@pytest.fixture
def network():
    return NetworkSettings.from_dict(NetworkSettings().to_dict() | TRUNK).build(6, 0)


def test_a_run_in_float_never_enters_it(network, trained, monkeypatch):
    entered = []
    monkeypatch.setattr(DepthwiseInFloat, "__enter__", lambda mode: entered.append(mode))
    trained(network, "32")
    assert not entered


def test_training_and_validation_have_it_so(network, trained):
    seen = set()
    for each in network.modules():
        if isinstance(each, nn.Conv2d):
            each.register_forward_hook(lambda conv, _, y: seen.add((conv.groups > 1, network.training, y.dtype)))
    trained(network, "bf16")
    kinds = {(True, torch.float32), (False, torch.bfloat16)}
    assert seen == {(grouped, training, kind) for grouped, kind in kinds for training in (True, False)}
