"""The networks of `m2cnn.models.o_o`: untied biases, RMS pool, maxout, and the step-wise copy of kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2cnn.errors import SettingError, SizeError
from m2cnn.models.inception_resnet import scaled
from m2cnn.models.m2cnn import Normalise
from m2cnn.models.o_o import LAST, Layer, OOSettings, layer_table, map_sizes

# Per channel, of the training photographs as RGB in 0..255.
MEAN = (108.646, 75.869, 54.340)
STD = (70.539, 51.715, 43.034)
LEAK = 0.01
FIRST_BIAS = 0.05
DROPOUT = 0.5
RMS_EPSILON = 1e-12


def maxout(x: Tensor) -> Tensor:
    """The larger of each pair of neighbours: (B, 2 D) -> (B, D).

    >>> maxout(torch.tensor([[1.0, 2.0, -3.0, -4.0]])).tolist()
    [[2.0, -3.0]]
    """
    return x.unflatten(1, (-1, 2)).amax(dim=2)


class RMSPool(nn.Module):
    """Root of the mean square under a window: sqrt(mean(x^2) + 1e-12), without padding."""

    def __init__(self, kernel: int, stride: int):
        super().__init__()
        self.mean = nn.AvgPool2d(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.mean(x.square()) + RMS_EPSILON).sqrt()


class UntiedConv(nn.Module):
    """Convolution, a bias per channel and position, leaky ReLU: (B, `channels`, H, W) -> (B, `out`, `side`, `side`).

    It serves one size of map only.
    """

    def __init__(self, channels: int, out: int, side: int, layer: Layer):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, layer.kernel, layer.stride, layer.padding, bias=False)
        self.bias = nn.Parameter(torch.full((out, side, side), FIRST_BIAS))
        nn.init.orthogonal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) + self.bias, LEAK)


def _build_layers(settings: OOSettings) -> nn.Sequential:
    """The rows of the table, named as "conv_1", "max_3", "rms_18"."""
    layers, channels = nn.Sequential(), 3
    sides = map_sizes(settings.net, settings.size)
    for number, layer in layer_table(settings.net, settings.size).items():
        if layer.kind == "conv":
            out = scaled(layer.channels, settings.width)
            module: nn.Module = UntiedConv(channels, out, sides[number], layer)
            channels = out
        else:
            module = (nn.MaxPool2d if layer.kind == "max" else RMSPool)(layer.kernel, layer.stride)
        layers.add_module(f"{layer.kind}_{number}", module)
    return layers


def _dense(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight)
    nn.init.constant_(linear.bias, FIRST_BIAS)
    return linear


class OO(nn.Module):
    """(B, 3, S, S) pictures, uint8 or floats in 0..255, S = `settings.size` -> (B, K) outputs, none below 0.

    settings: plain values; `OOSettings.from_dict(net.settings).build(outputs)` makes the same network again, with
        random weights.

    Raises SizeError for pictures of any other size: an untied bias belongs to one position.
    """

    def __init__(self, settings: OOSettings, outputs: int):
        super().__init__()
        self.settings: dict[str, Any] = settings.to_dict()
        self.normalise = Normalise(tuple(each / 255 for each in MEAN), tuple(each / 255 for each in STD))
        self.layers = _build_layers(settings)
        self.dropout = nn.Dropout(DROPOUT)
        self.dense_1 = _dense(self._count_features(settings), settings.dense)
        self.dense_2 = _dense(settings.dense // 2, settings.dense)
        self.classif = nn.Linear(settings.dense // 2, outputs)
        nn.init.xavier_uniform_(self.classif.weight)
        nn.init.zeros_(self.classif.bias)

    def features(self, x: Tensor) -> Tensor:
        """The RMS pool's output, flattened: (B, D), D = 2048 at 448 px and width 1; what the blend net is fed."""
        self._check_size(x)
        return self.layers(self.normalise(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, K), and the vector (B, D) of `features`."""
        vector = x = self.features(x)  # (B, 2048) at 448 px
        for dense in (self.dense_1, self.dense_2):
            x = maxout(F.leaky_relu(dense(self.dropout(x)), LEAK))  # (B, 512)
        return F.relu(self.classif(x)), vector

    def start_from(self, smaller: OO) -> None:
        """Take the trained kernels of the network of a smaller size, see `copy_kernels`."""
        copy_kernels(smaller, self)

    @staticmethod
    def _count_features(settings: OOSettings) -> int:
        channels = max(each.channels for each in layer_table(settings.net, settings.size).values())
        side = map_sizes(settings.net, settings.size)[LAST[settings.size]]
        return scaled(channels, settings.width) * side**2

    def _check_size(self, x: Tensor) -> None:
        # Under jit tracing sizes are tensors, and the exporter has run the same picture before.
        if torch.jit.is_tracing():
            return
        size, (height, width) = self.settings["size"], x.shape[-2:]
        if (height, width) != (size, size):
            got = f"{height} x {width} px for a network of {size} px"
            repair = "Each position has its own bias: resize the photographs, or build another size."
            raise SizeError("input", got, f"{size} x {size} px", repair)


@torch.no_grad()
def copy_kernels(small: OO, large: OO, mean_biases: bool = False) -> list[int]:
    """o_O's step-wise initialisation, 112 -> 224 -> 448 px: the trained kernels of `small` go into a fresh `large`.

    Every convolution that both have, by the report's number, is copied; these numbers are returned. All else in `large`
    stays as it is. mean_biases: the copied layers also take the small ones' biases, averaged over positions.
    Source: known, kernels of layers 1..11 and 1..15 (report). Reconstruction: untied biases and the first dense layer
    do not fit the next size and start fresh; `mean_biases` is ours.

    Raises SettingError unless both are the same net at the same width and `large` is of a larger size.
    """
    same = all(small.settings[key] == large.settings[key] for key in ("net", "width"))
    if not same or small.settings["size"] >= large.settings["size"]:
        got = f"from {_named(small)} into {_named(large)}"
        raise SettingError("copy_kernels", got, "the same net and width, and a larger size")
    copied = []
    for name, source in small.layers.named_children():
        if isinstance(source, UntiedConv):
            target = large.layers.get_submodule(name)
            target.conv.weight.copy_(source.conv.weight)
            if mean_biases:
                target.bias.copy_(source.bias.mean(dim=(1, 2), keepdim=True).expand_as(target.bias))
            copied.append(int(name.removeprefix("conv_")))
    return copied


def _named(network: OO) -> str:
    return "net {net}, {size} px, width {width:g}".format_map(network.settings)
