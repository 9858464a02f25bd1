"""Any convolutional network of timm as the trunk of M2CNN; the only file that imports timm.

The map before the switch is timm's `forward_features`, the vector its `forward_head(map, pre_logits=True)`: pooling,
and what the network does between pooling and its classifier (mobilenetv3's conv_head, convnext's norm, vgg's hidden
layer). The classifier itself is not built. Source: reconstruction; the poster says only that multi-cell
fits other architectures.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError
from m2cnn.models.settings import TIMM_PREFIX

FIRST_BLOCK_OPTION = "linear_first_block"

COMMON_STRIDE = 32

# What M2CNN decides itself; each would change what the network takes or gives.
OWN_OPTIONS = ("checkpoint_path", "features_only", "global_pool", "in_chans", "num_classes", "pretrained", "scriptable")


class TimmTrunk(nn.Module):
    """Normalised picture (B, 3, S, S) -> map (B, `channels`, n, n); `head` makes the vector (B, `head_channels`).

    name: of `timm.list_models()`, with or without a tag of weights ("resnet50", "resnet50.a1_in1k").
    pretrained: take the ImageNet weights that timm downloads.
    options: NetworkSettings.trunk_options.

    Raises SettingError for an unknown name or option, and for a network that is not convolutional.
    """

    def __init__(self, name: str, pretrained: bool = False, options: Mapping[str, Any] | None = None):
        super().__init__()
        options = dict(options or {})
        own = {key: options.pop(key) for key in (FIRST_BLOCK_OPTION, "mean", "std") if key in options}
        self.net = _create(name, pretrained, options)
        if own.get(FIRST_BLOCK_OPTION):
            _make_first_block_linear(self.net, name)
        config = self.net.pretrained_cfg
        self.mean, self.std = (_three(key, own.get(key) or config[key]) for key in ("mean", "std"))
        self.classifier = _names(config["classifier"])
        self._map_sizes: dict[int, int] = {}
        self.channels, self.head_channels = self._channels(name)
        # A network that fuses maps of several scales (hrnet) takes only sizes that all its strides divide.
        self.multiple = 1 if self._map_of(max(config["input_size"][1:]) + 1) else COMMON_STRIDE

    def forward(self, x: Tensor) -> Tensor:
        return self.net.forward_features(x)

    def head(self, x: Tensor) -> Tensor:
        """Map (B, `channels`, n, n) -> vector (B, `head_channels`)."""
        return self.net.forward_head(x, pre_logits=True)

    def named_state(self) -> dict[str, Tensor]:
        """The tensors under timm's names, which files of weights have."""
        return self.net.state_dict()

    def map_size(self, size: int) -> int:
        """Side of the map for a square input of `size` px, from shapes alone; 0 where the network cannot take it."""
        size -= size % self.multiple
        if size not in self._map_sizes:
            self._map_sizes[size] = self._map_of(size)
        return self._map_sizes[size]

    def _map_of(self, size: int) -> int:
        try:
            return self._shapes(size)[0][-1]
        except RuntimeError:  # what torch raises when a kernel or the maps of two scales do not fit
            return 0

    def _shapes(self, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the map and of the vector of one picture of `size` px, from a run on shapes alone."""
        modes = [(each, each.training) for each in self.modules()]
        tensors = dict(self.named_parameters()) | dict(self.named_buffers())
        state = {f"trunk.{name}": torch.empty_like(each, device="meta") for name, each in tensors.items()}
        x = torch.empty(1, 3, size, size, device="meta", dtype=next(self.parameters()).dtype)
        try:
            with torch.no_grad():
                return torch.func.functional_call(_Shapes(self.eval()), state, (x,))
        finally:
            for each, training in modes:  # a batch norm may be frozen by itself
                each.training = training

    def _channels(self, name: str) -> tuple[int, int]:
        config = self.net.pretrained_cfg
        if not config.get("fixed_input_size"):
            map_shape, vector_shape = self._shapes(max(config["input_size"][1:]))
            if len(map_shape) == 4 and map_shape[1] == self.net.num_features and map_shape[2] == map_shape[3]:
                return map_shape[1], vector_shape[1]
        raise SettingError(
            "network.trunk",
            f'"{TIMM_PREFIX}{name}" gives no map of channels x height x width for every input size',
            "a convolutional network (CNN), no transformer",
            f'For example "{TIMM_PREFIX}resnet50".',
        )


class _Shapes(nn.Module):
    """The two shapes as a module's output, so that functional_call can put shape-only weights under it."""

    def __init__(self, trunk: TimmTrunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        features = self.trunk(x)
        if not isinstance(features, Tensor) or features.dim() != 4:
            return (0,), (0,)
        return tuple(features.shape), tuple(self.trunk.head(features).shape)


def pretrained_weights(name: str) -> dict[str, Tensor]:
    """The ImageNet weights that timm downloads for `name`."""
    return _create(name, True, {}).state_dict()


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    for key in options:
        if key in OWN_OPTIONS:
            place = f"network.trunk_options.{key}"
            raise SettingError(place, "M2CNN sets this itself", "other arguments of timm.create_model")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        repair = f"Did you mean {' or '.join(near)}?" if near else "See timm.list_models()."
        raise SettingError(
            "network.trunk", f'timm {timm.__version__} has no network "{name}"', "a name of timm", repair
        )
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except TypeError as cause:
        refused = f"{name} refuses {options} ({cause})"
        raise SettingError("network.trunk_options", refused, "options that it knows") from cause
    except RuntimeError as cause:  # an unknown tag of weights, or weights that timm does not have
        raise SettingError(
            "network.trunk", f"timm refuses {name} ({cause})", "a network and weights that it has"
        ) from cause
    except OSError as cause:  # the errors of the download are all of this kind
        raise SettingError(
            "network.weights",
            f"timm could not fetch the weights of {name} ({type(cause).__name__})",
            "a connection to huggingface.co",
            'Give a local file instead: weights = "PATH.safetensors".',
        ) from cause


def _make_first_block_linear(net: nn.Module, name: str) -> None:
    try:
        net.blocks[0][0].bn1.act = nn.Identity()
    except (AttributeError, IndexError, TypeError) as cause:
        place = f"network.trunk_options.{FIRST_BLOCK_OPTION}"
        raise SettingError(place, f"{name} has no such block", "an EfficientNet-like network of timm") from cause


def _three(key: str, values: object) -> tuple[float, float, float]:
    numbers = isinstance(values, (list, tuple)) and all(isinstance(each, (int, float)) for each in values)
    if not numbers or len(values) != 3 or (key == "std" and min(values) <= 0):
        raise SettingError(
            f"network.trunk_options.{key}", f"got {values!r}", "three numbers, one per colour, for pixel values in 0..1"
        )
    return tuple(float(each) for each in values)


def _names(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
