"""First weights for a trunk, by name, from a local safetensors file or from timm. No pickle is ever opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from m2cnn.errors import SettingError

FILE_PREFIX = "file:"


def read_weights(weights: str) -> dict[str, Tensor]:
    """The tensors of "PATH" or "file:PATH".

    Raises SettingError when the file is missing, damaged or of another format.
    """
    path = weights_file(weights)
    try:
        return load_file(path)
    except SafetensorError as cause:
        unread = f"{path} cannot be read ({cause})"
        raise SettingError("network.weights", unread, "a whole .safetensors file") from cause


def weights_file(weights: str) -> Path:
    """The file of "PATH" or "file:PATH". Raises SettingError when it is missing or of another format."""
    path = Path(weights.removeprefix(FILE_PREFIX)).expanduser()
    if path.suffix != ".safetensors":
        known = '"", "timm" or a .safetensors file'
        raise SettingError("network.weights", f'got "{weights}"', known, "Pickled weights are not read.")
    if not path.is_file():
        raise SettingError("network.weights", f"there is no file {path}", "a .safetensors file")
    return path


def load_weights(trunk: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into the trunk by name; the classifier of the source is left out.

    Raises SettingError, with the names, when anything else is missing, unexpected or of another shape.
    """
    target = trunk.named_state()
    heads = tuple(f"{each}." for each in trunk.classifier)
    given = {name: tensor for name, tensor in state.items() if not name.startswith(heads)}
    _refuse(
        source,
        # A counter, no weight; published files often leave it out.
        missing=[name for name in target if name not in given and not name.endswith("num_batches_tracked")],
        unexpected=[name for name in given if name not in target],
        reshaped=[name for name in given if name in target and given[name].shape != target[name].shape],
    )
    with torch.no_grad():
        for name, tensor in given.items():
            target[name].copy_(tensor)


def _refuse(source: str, **wrong: list[str]) -> None:
    found = [f"{len(names)} {what} ({_some(names)})" for what, names in wrong.items() if names]
    if found:
        raise SettingError("network.weights", f"{source}: {', '.join(found)}", "the names and shapes of this trunk")


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
