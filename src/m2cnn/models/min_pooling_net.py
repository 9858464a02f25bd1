"""The networks of `m2cnn.models.min_pooling`: grey background, dropout of maps, blocks, first weights, `rescale`."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from m2cnn.errors import SizeError
from m2cnn.models.fractional import FractionalMaxPool
from m2cnn.models.inception_resnet import scaled
from m2cnn.models.min_pooling import Fractional, Layer, MinPooling, sizes

GREY = 128.0
NEAR_GREY = 0.02  # of GREY: pixels that are no further from grey in any channel are background
SLOPE = 1 / 3
MULTIPLE = 32
LAST_FAN = 10_000.0
RESCALING = -0.1


def channels(maps: int, width: float) -> int:
    """The number of maps as the library makes it, a multiple of 32, times the width; tiny networks keep theirs.

    >>> channels(356, 1), channels(356, 1 / 16), channels(12, 1)
    (352, 22, 12)
    """
    return scaled(maps if maps < MULTIPLE else MULTIPLE * math.floor(maps / MULTIPLE + 0.5), width)


class MapDropout(nn.Module):
    """Training sets `dropped` random maps of (B, C, n, n) to zero, the same ones in the whole batch; it scales nothing.

    Evaluation multiplies by the fraction of maps that training keeps. It sits before the activation.
    """

    def __init__(self, channels: int, fraction: float):
        super().__init__()
        self.channels, self.dropped = channels, round(fraction * channels)

    def extra_repr(self) -> str:
        return f"{self.dropped} of {self.channels}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 - self.dropped / self.channels)
        mask = torch.ones(self.channels)
        mask[torch.randperm(self.channels)[: self.dropped]] = 0
        return x * mask.view(1, -1, 1, 1).to(x)


class CentreOnGrey(nn.Module):
    """uint8 or floats in 0..255 -> (x - 128) / 128, and 0 where no channel is further than 0.02 from 0.

    The second is the sparse background of the original. A part of the network, so it travels with the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grey", torch.tensor(GREY), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.to(self.grey.dtype) - self.grey) / self.grey
        return x * (x.abs().amax(1, keepdim=True) > NEAR_GREY)


class Block(nn.Module):
    """Convolution, dropout of maps, leaky ReLU, pooling: (B, C, n, n) -> (B, channels, after, after)."""

    def __init__(self, inputs: int, outputs: int, layer: Layer, sides: tuple[int, ...]):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, layer.kernel)
        self.dropout = MapDropout(outputs, layer.dropped) if layer.dropped else nn.Identity()
        self.activation = nn.LeakyReLU(SLOPE)
        self.pool = _pool(layer, sides)
        stride = layer.pool.stride if layer.pool else 1
        initialise(self.conv, (layer.kernel / stride) ** 2)

    def activate(self, x: Tensor) -> Tensor:
        """The maps before pooling."""
        return self.activation(self.dropout(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.activate(x))


def _pool(layer: Layer, sides: tuple[int, ...]) -> nn.Module:
    if layer.pool is None:
        return nn.Identity()
    if isinstance(layer.pool, Fractional):
        return FractionalMaxPool(layer.pool.kernel, *sides)
    return nn.MaxPool2d(layer.pool.kernel, int(layer.pool.stride))


def initialise(layer: nn.Conv2d | nn.Linear, fan: float) -> None:
    """First weights, uniform in -s..s with s = sqrt(6 / (inputs + fan * outputs)), from torch's generator; biases 0.

    inputs: what one output sees, kernel * kernel * channels.  fan: how many outputs one input reaches, (kernel / stride
    / pooling stride)^2; 10,000 in the last layer, whose weights so start near zero. Source: SparseConvNet (known).
    """
    bound = math.sqrt(6 / (layer.weight[0].numel() + fan * len(layer.weight)))
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)


class MinPoolingNetwork(nn.Module):
    """(B, 3, S, S) pictures, uint8 or floats in 0..255, whose background is 128 -> (B, K) outputs.

    Parameters with 5 outputs: 2,699,397, 6,104,901 and 3,009,573. For the gradient one picture keeps 0.9,
    1.6 or 1.1 GB of float32 maps (computed).

    Raises SizeError when S is not the field of the network, `settings.size`.
    """

    def __init__(self, settings: MinPooling, outputs: int):
        super().__init__()
        self.settings = settings
        counts = [3, *(channels(layer.maps, settings.width) for layer in settings.layers)]
        rows = zip(pairwise(counts), settings.layers, sizes(settings.layers)[1:], strict=True)
        self.centre = CentreOnGrey()
        self.blocks = nn.Sequential(*(Block(*pair, layer, sides) for pair, layer, sides in rows))
        self.classif = nn.Linear(counts[-1], outputs)
        initialise(self.classif, LAST_FAN)

    def features(self, x: Tensor) -> Tensor:
        """The vector (B, D) that the outputs are linear in; D = 352, 448 or 320 at width 1."""
        self._check_size(x)
        return self.blocks(self.centre(x)).flatten(1)  # (B, D, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, K), and the vector (B, D) of `features`."""
        vector = self.features(x)
        return self.classif(vector), vector

    def redraw(self) -> None:
        """Draw anew, from torch's generator, the pooling regions of evaluation: a part of each test-time view."""
        for module in self.modules():
            if isinstance(module, FractionalMaxPool):
                module.fixed = module.draw()

    @torch.no_grad()
    def rescale(self, x: Tensor) -> None:
        """Bring the activations nearer to 1, before training: the original calls it for 20 batches.

        Weights and biases of each layer but the last are multiplied by mean(|activation|) ** -0.1.
        """
        x = self.centre(x)
        for block in self.blocks:
            maps = block.activate(x)
            x = block.pool(maps)
            size = maps.abs().mean()
            factor = torch.where(size > 0, size**RESCALING, 1.0)  # a batch without any picture changes nothing
            block.conv.weight *= factor
            block.conv.bias *= factor

    def _check_size(self, x: Tensor) -> None:
        # Under jit tracing sizes are tensors, and the exporter has run the same picture before.
        if torch.jit.is_tracing():
            return
        size, (height, width) = self.settings.size, x.shape[-2:]
        if (height, width) != (size, size):
            small = " is too small" if height < size or width < size else ""
            raise SizeError(
                "input",
                f"{height} x {width} px{small} for net {self.settings.net} of Min-pooling",
                f"{size} x {size} px, the field of its last map",
                f"Prepare the photographs for {size} px.",
            )
