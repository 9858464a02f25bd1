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

No torch here, so that a system can name the networks; they themselves are in `m2cnn.models.min_pooling_net`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from m2cnn.errors import require
from m2cnn.models.settings import (
    PlainSettings,
    Source,
    check,
    check_width,
    checked_outputs,
    differing,
    is_count,
)

if TYPE_CHECKING:
    from m2cnn.models.min_pooling_net import MinPoolingNetwork


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


@dataclass(frozen=True)
class MinPooling(PlainSettings):
    """Which of the three networks, and how wide.

    net: 1, 2 or 3.  width: factor on every channel count, above 0 and at most 4; 1 is as published, none falls below 4.
    tiny: a few layers of the same kinds for an input of 27, 30 or 59 px. A reconstruction, for tests only.

    Raises SettingError for a value that means nothing.
    """

    batch_norm: ClassVar[bool] = False
    rescales: ClassVar[bool] = True

    net: int = 1
    width: float = 1.0
    tiny: bool = False

    def __post_init__(self) -> None:
        check(is_count(self.net, 3) and self.net in NETS, "net", self.net, "1..3")
        check_width(self.width)
        check(isinstance(self.tiny, bool), "tiny", self.tiny, "true or false")
        object.__setattr__(self, "width", float(self.width))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers before the last 1x1, with the published numbers of maps."""
        return (TINY_NETS if self.tiny else NETS)[self.net]

    @property
    def size(self) -> int:
        """Side in px of the one input that the network takes: 843, 820 or 1019 at any width."""
        return sizes(self.layers)[0][0]

    def sources(self) -> dict[str, Source]:
        grey = "known: the grey background of the sparse original (code)"
        layers = (
            "known: layers, valid convolutions, leaky ReLU 1/3 before the pool (report and code); computed: map sizes"
        )
        if self.net != 3:
            layers += "; reconstruction: exactly so many maps are dropped, regions drawn once for grading"
        last = "known: five outputs (report and code)"
        return {
            "centre": Source(grey, "(x - 128) / 128, 0 near 128"),
            "blocks.*": Source(layers),
            "classif": Source(last),
        }

    def notes(self) -> tuple[str, ...]:
        return differing(self, "net")

    def build(self, outputs: int, cells: int = 0) -> MinPoolingNetwork:
        """The network in training mode, with random weights from torch's generator.

        Raises SettingError for cells, which it cannot have, and for no outputs; MissingExtra without torch.
        """
        check(cells == 0, "cells", cells, "0: Min-pooling takes one input size and does not grow")
        require("torch", "train")
        from m2cnn.models.min_pooling_net import MinPoolingNetwork

        return MinPoolingNetwork(self, checked_outputs(outputs))
