"""Min-pooling: the three networks of Ben Graham, first place of the Kaggle competition of 2015.

    photograph -> centre on grey -> blocks (convolution, dropout, leaky ReLU, pooling) ... -> classif

    net 1, 843 px: 5x5-32, 3x3-64, 96, 128, 160, 192, 224, 256, each + FMP 3x3 / 1.8; 3x3-288 + FMP 2x2 / 1.5;
                   2x2-320; 1x1-352
    net 2, 820 px: 5x5-32, 3x3-64, 96, 128, 160, 192, 224, 256, 288, 320, each + FMP 3x3 / 1.5; 3x3-352 + FMP 3x3 / 1.6;
                   3x3-384 + FMP 2x2 / 1.5; 2x2-416; 1x1-448
    net 3, 1019 px: 3x3-n, 3x3-n, max pool 3x3 stride 2 for n = 32, 64 .. 224; 2x2-288, 2x2-288; 1x1-320

Known (the competition report and its code for SparseConvNet, 2015): the layers, valid convolutions, leaky ReLU of slope
1/3 before pooling, fractional max-pooling (FMP) with one draw per layer, axis and batch, the fractions of dropped maps,
the uniform first weights, the grey background. Computed: the input fields and map sizes, from the last layer backwards.
Reconstruction: that exactly the stated number of maps is dropped; that the alpha of an FMP counts as its stride in the
first weights; that `rescale` measures after the leaky ReLU and spares the last layer; the fixed draw of evaluation (the
original draws again for every view: `redraw`); and every tiny network. The networks are dense here, not sparse: the
same numbers by more work, 13, 31 and 38 thousand million multiply-adds for a picture (computed; the report's 5, 14 and
26 leave the background out). What the outputs mean is the task's affair; the original has five and a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError, SizeError, did_you_mean
from m2cnn.models.inception_resnet import scaled

GREY = 128.0
NEAR_GREY = 0.02  # of GREY: pixels that are no further from grey in any channel are background
SLOPE = 1 / 3
LARGEST_DRAW = 10_000
FIXED_DRAW = (0.5, 0.5)
MULTIPLE = 32
LAST_FAN = 10_000.0
RESCALING = -0.1


@dataclass(frozen=True)
class Fractional:
    """Fractional max-pooling: overlapping kernels at pseudo-random distances of `stride` px on average."""

    kernel: int
    stride: float

    def size_before(self, after: int) -> int:
        """Side of the map that is pooled to `after`.

        >>> Fractional(3, 1.8).size_before(466)
        839
        """
        return math.floor(self.stride * after + 0.5)

    def build(self, before: int, after: int) -> nn.Module:
        return FractionalMaxPool(self.kernel, before, after)


@dataclass(frozen=True)
class Strided:
    """Ordinary max-pooling."""

    kernel: int = 3
    stride: float = 2

    def size_before(self, after: int) -> int:
        """Side of the map that is pooled to `after`.

        >>> Strided().size_before(507)
        1015
        """
        return self.kernel + int(self.stride) * (after - 1)

    def build(self, before: int, after: int) -> nn.Module:
        return nn.MaxPool2d(self.kernel, int(self.stride))


@dataclass(frozen=True)
class Layer:
    """A valid convolution, the pooling behind it if any, and the fraction of its maps that training drops."""

    kernel: int
    maps: int
    pool: Fractional | Strided | None = None
    dropped: float = 0.0


_WIDE, _NARROW, _LAST = Fractional(3, 1.8), Fractional(3, 1.5), Fractional(2, 1.5)
_NET_1 = (
    Layer(5, 32, _WIDE),
    *(Layer(3, maps, _WIDE) for maps in range(64, 225, 32)),
    Layer(3, 256, _WIDE, 32 / 256),
    Layer(3, 288, _LAST, 32 / 288),
    Layer(2, 320, None, 64 / 320),
    Layer(1, 356, None, 64 / 352),  # the code's number; the library makes it 352
)
_NET_2 = (
    Layer(5, 32, _NARROW),
    *(Layer(3, maps, _NARROW) for maps in range(64, 321, 32)),
    Layer(3, 352, Fractional(3, 1.6), 32 / 352),
    Layer(3, 384, _LAST, 32 / 384),
    Layer(2, 416, None, 64 / 416),
    Layer(1, 448, None, 64 / 448),
)
_NET_3 = (
    *(Layer(3, maps, pool) for maps in range(32, 225, 32) for pool in (None, Strided())),
    Layer(2, 288),
    Layer(2, 288),
    Layer(1, 320),
)
NETS = {1: _NET_1, 2: _NET_2, 3: _NET_3}

# For tests on a CPU: the same parts, 27, 30 and 59 px.
TINY_NETS = {
    1: (
        Layer(5, 8, _WIDE),
        Layer(3, 12, _WIDE),
        Layer(3, 16, _WIDE, 2 / 16),
        Layer(2, 16, None, 2 / 16),
        Layer(1, 16, None, 4 / 16),
    ),
    2: (
        Layer(5, 8, _NARROW),
        Layer(3, 12, _NARROW),
        Layer(3, 16, _NARROW, 2 / 16),
        Layer(3, 20, _LAST, 2 / 20),
        Layer(2, 24, None, 4 / 24),
        Layer(1, 24, None, 4 / 24),
    ),
    3: (
        *(Layer(3, maps, pool) for maps in (8, 16, 24) for pool in (None, Strided())),
        Layer(2, 32),
        Layer(2, 32),
        Layer(1, 32),
    ),
}


def sizes(layers: tuple[Layer, ...]) -> tuple[tuple[int, ...], ...]:
    """Sides of the maps: the input's, then of each layer after its convolution and, where it has one, its pooling.

    Computed backwards from a last map of 1 x 1: there is exactly one input size.

    >>> sizes(TINY_NETS[1])
    ((27,), (23, 13), (11, 6), (4, 2), (1,), (1,))
    """
    rows, side = [], 1
    for layer in reversed(layers):
        row = (side,)
        if layer.pool:
            side = layer.pool.size_before(side)
            row = (side, *row)
        rows.append(row)
        side += layer.kernel - 1
    return ((side,), *reversed(rows))


def channels(maps: int, width: float) -> int:
    """The number of maps as the library makes it, a multiple of 32, times the width; tiny networks keep theirs.

    >>> channels(356, 1), channels(356, 1 / 16), channels(12, 1)
    (352, 22, 12)
    """
    return scaled(maps if maps < MULTIPLE else MULTIPLE * math.floor(maps / MULTIPLE + 0.5), width)


@dataclass(frozen=True)
class MinPooling:
    """Which of the three networks, and how wide.

    net: 1, 2 or 3.  width: factor on every channel count, above 0 and at most 4; 1 is as published, none falls below 4.
    tiny: a few layers of the same kinds for an input of 27, 30 or 59 px. A reconstruction, for tests only.

    Raises SettingError for a value that means nothing.
    """

    net: int = 1
    width: float = 1.0
    tiny: bool = False

    def __post_init__(self) -> None:
        _check(
            isinstance(self.net, int) and not isinstance(self.net, bool) and self.net in NETS, "net", self.net, "1..3"
        )
        number = isinstance(self.width, Real) and not isinstance(self.width, bool)
        _check(number and 0 < self.width <= 4, "width", self.width, "a number above 0 and at most 4")
        _check(isinstance(self.tiny, bool), "tiny", self.tiny, "true or false")
        object.__setattr__(self, "width", float(self.width))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers before the last 1x1, with the published numbers of maps."""
        return (TINY_NETS if self.tiny else NETS)[self.net]

    @property
    def size(self) -> int:
        """Side in px of the one input that the network takes: 843, 820 or 1019 at any width."""
        return sizes(self.layers)[0][0]

    def build(self, outputs: int, cells: int = 0) -> MinPoolingNetwork:
        """The network in training mode, with random weights from torch's generator.

        Raises SettingError for cells, which it cannot have, and for no outputs.
        """
        _check(cells == 0, "cells", cells, "0: Min-pooling takes one input size and does not grow")
        whole = isinstance(outputs, int) and not isinstance(outputs, bool)
        _check(whole and outputs > 0, "outputs", outputs, "a whole number from 1")
        return MinPoolingNetwork(self, outputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MinPooling:
        """Raises SettingError for an unknown key."""
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise SettingError("network", f'unknown setting "{key}"', repair=did_you_mean(key, known))
        return cls(**values)


def _check(good: bool, key: str, value: object, expected: str) -> None:
    if not good:
        raise SettingError(f"network.{key}", f"got {value!r}", expected)


def starts(before: int, after: int, kernel: int, draw: float) -> list[int]:
    """First rows of the `after` pooling regions in a map of `before` rows, ascending from 0 to before - kernel.

    start_i = floor((i + u) a) - floor(u a) with a = (before - kernel) / (after - 1) and u the draw; the last is forced.
    Source: SparseConvNet (known).

    >>> starts(11, 6, 3, draw=0.0), starts(11, 6, 3, draw=0.5)
    ([0, 1, 3, 4, 6, 8], [0, 2, 4, 5, 7, 8])
    """
    step = (before - kernel) / max(1, after - 1)
    first = math.floor(draw * step)
    return [math.floor((number + draw) * step) - first for number in range(after - 1)] + [before - kernel]


class FractionalMaxPool(nn.Module):
    """(B, C, before, before) -> (B, C, after, after): one draw for each axis, shared by all samples and channels.

    In training every call draws from torch's generator, 0..10,000; in evaluation the draw is `fixed`, so that the same
    picture gets the same outputs. torch.nn.FractionalMaxPool2d draws for each sample and channel.
    """

    def __init__(self, kernel: int, before: int, after: int):
        super().__init__()
        self.kernel, self.before, self.after = kernel, before, after
        self.fixed = FIXED_DRAW

    def extra_repr(self) -> str:
        return f"{self.kernel}, {self.before} -> {self.after}"

    def draw(self) -> tuple[float, float]:
        """Fresh numbers for rows and columns."""
        rows, columns = (LARGEST_DRAW * torch.rand(2, dtype=torch.float64, device="cpu")).tolist()
        return rows, columns

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.draw() if self.training else self.fixed
        return self._pool(self._pool(x, 2, rows), 3, columns)  # (B, C, after, before), (B, C, after, after)

    def _pool(self, x: Tensor, axis: int, draw: float) -> Tensor:
        first = torch.tensor(starts(self.before, self.after, self.kernel, draw), device=x.device)
        largest = x.index_select(axis, first)
        for offset in range(1, self.kernel):
            largest = torch.maximum(largest, x.index_select(axis, first + offset))
        return largest


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
        self.pool = layer.pool.build(*sides) if layer.pool else nn.Identity()
        stride = layer.pool.stride if layer.pool else 1
        initialise(self.conv, (layer.kernel / stride) ** 2)

    def activate(self, x: Tensor) -> Tensor:
        """The maps before pooling."""
        return self.activation(self.dropout(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.activate(x))


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
        return self.classif(self.features(x))

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
