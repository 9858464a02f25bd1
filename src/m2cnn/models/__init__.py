"""Networks: plain torch modules that know nothing of grades, losses or files.

The settings need no torch; what they build imports it on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from m2cnn.errors import SettingError, require
from m2cnn.models.min_pooling import MinPooling
from m2cnn.models.o_o import OOSettings
from m2cnn.models.reformed_gamblers import ReformedGamblers
from m2cnn.models.settings import INCEPTION_RESNET_V2, LADDERS, TIMM_PREFIX, NetworkSettings, PlainSettings
from m2cnn.models.zoom_in_net_settings import ZoomInNet

if TYPE_CHECKING:
    from torch import nn

    from m2cnn.models.m2cnn import M2CNN

__all__ = [
    "LADDERS",
    "MinPooling",
    "NetworkSettings",
    "OOSettings",
    "PlainSettings",
    "ReformedGamblers",
    "ZoomInNet",
    "build_network",
]


def build_network(settings: Mapping[str, Any] | NetworkSettings, outputs: int, cells: int = 0) -> M2CNN:
    """The network of `settings` (keys of NetworkSettings) with `outputs` outputs and `cells` fresh cells.

    It is in training mode. Random weights come from torch's generator: seed it for a repeatable network.

    Raises SettingError for settings that mean nothing and for weights that do not fit, MissingExtra without torch.
    """
    require("torch", "train")
    from m2cnn.models.m2cnn import M2CNN

    if not isinstance(settings, NetworkSettings):
        settings = NetworkSettings.from_dict(settings)
    for name, value, least in (("outputs", outputs, 1), ("cells", cells, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise SettingError(f"network.{name}", f"got {value!r}", f"a whole number from {least}")
    return M2CNN(_build_trunk(settings), settings, outputs, cells)


def _build_trunk(settings: NetworkSettings) -> nn.Module:
    from m2cnn.models.inception_resnet import InceptionResNetV2

    if settings.is_timm:
        require("timm", "train")
        from m2cnn.models.timm_trunk import TimmTrunk

        trunk = TimmTrunk(settings.trunk.removeprefix(TIMM_PREFIX), settings.weights == "timm", settings.trunk_options)
    else:
        trunk = InceptionResNetV2(settings.width, settings.repeats, settings.ladder)
    _load_first_weights(trunk, settings)
    return trunk


def _load_first_weights(trunk: nn.Module, settings: NetworkSettings) -> None:
    if settings.weights in ("", "timm") and (settings.is_timm or not settings.weights):
        return
    require("safetensors", "train")
    from m2cnn.models.weights import load_weights, read_weights

    if settings.weights == "timm":
        require("timm", "train")
        from m2cnn.models.timm_trunk import pretrained_weights

        return load_weights(trunk, pretrained_weights(INCEPTION_RESNET_V2), f"timm's {INCEPTION_RESNET_V2}")
    return load_weights(trunk, read_weights(settings.weights), settings.weights)
