"""First weights by name from a local safetensors file."""

from __future__ import annotations

import pickle

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from m2cnn.errors import SettingError
from m2cnn.models import build_network
from m2cnn.models.settings import EDGETPU_OPTIONS

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1)}
EDGETPU = {"trunk": "timm:mobilenet_edgetpu_100", "trunk_options": EDGETPU_OPTIONS}


@pytest.fixture
def state():
    """A file's content: the trunk's tensors and a 1000-way classifier, which no grader can use."""
    torch.manual_seed(3)
    trunk = build_network(SLIM, 6).trunk.state_dict()
    return trunk | {"classif.weight": torch.randn(1000, 96), "classif.bias": torch.randn(1000)}


def saved(state, folder) -> str:
    save_file(state, folder / "trunk.safetensors")
    return str(folder / "trunk.safetensors")


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_weights_are_taken_by_name_without_the_classifier(state, tmp_path, prefix):
    network = build_network(SLIM | {"weights": prefix + saved(state, tmp_path)}, 6, cells=1)
    for name, each in network.trunk.state_dict().items():
        assert torch.equal(each, state[name])
    assert network.classif.weight.shape == (6, 96)
    assert network.settings["weights"] == ""


def test_batch_norm_counters_may_be_missing(state, tmp_path):
    without = {name: each for name, each in state.items() if not name.endswith("num_batches_tracked")}
    network = build_network(SLIM | {"weights": saved(without, tmp_path)}, 6)
    assert torch.equal(network.trunk.conv2d_7b.conv.weight, state["conv2d_7b.conv.weight"])


def test_what_does_not_fit_is_named(state, tmp_path):
    state["mixed_9z.weight"] = state.pop("conv2d_7b.bn.weight")
    for number in range(4):
        del state[f"mixed_7a.branch{number // 2}.{number % 2}.bn.bias"]
    state["conv2d_1a.conv.weight"] = torch.zeros(32, 3, 3, 3)
    with pytest.raises(SettingError, match="5 missing") as caught:
        build_network(SLIM | {"weights": saved(state, tmp_path)}, 6)
    assert "mixed_7a.branch0.0.bn.bias, mixed_7a.branch0.1.bn.bias, mixed_7a.branch1.0.bn.bias, ...)" in str(
        caught.value
    )
    assert "1 unexpected (mixed_9z.weight), 1 reshaped (conv2d_1a.conv.weight)" in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors here")
    (tmp_path / "pickled.pt").write_bytes(pickle.dumps({}))
    for name, message in (
        ("none.safetensors", "there is no file"),
        ("bad.safetensors", "cannot be read"),
        ("pickled.pt", "Pickled weights are not read"),
    ):
        with pytest.raises(SettingError, match=message):
            build_network(SLIM | {"weights": str(tmp_path / name)}, 6)


def test_a_timm_trunk_takes_a_file_too(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv3_small_050")
    network = build_network({"trunk": "timm:mobilenetv3_small_050", "weights": saved(theirs.state_dict(), tmp_path)}, 6)
    assert torch.equal(network.trunk.net.conv_head.weight, theirs.conv_head.weight)


@pytest.mark.real
def test_the_real_mobilenet_weights_give_timms_features(real_data):
    path = real_data / "weights" / "mobilenet_edgetpu_100.safetensors"
    network = build_network(EDGETPU | {"weights": str(path)}, 6).eval()
    theirs = timm.create_model("mobilenet_edgetpu_100", pad_type="same").eval()
    theirs.blocks[0][0].bn1.act = torch.nn.Identity()
    theirs.load_state_dict(load_file(path))
    network.normalise = torch.nn.Identity()
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(network.features(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.real
def test_the_real_mobilenet_weights_are_normalised_as_they_expect(real_data):
    path = real_data / "weights" / "mobilenet_edgetpu_100.safetensors"
    normalise = build_network(EDGETPU | {"weights": str(path)}, 6).normalise
    x = torch.tensor([0.0, 127.5, 255.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(x).flatten(), torch.tensor([-1.0, 0.0, 1.0]))
