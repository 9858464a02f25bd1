"""o_O: networks A ("5x5") and B ("4x4") of Antony and Brueggemann, second in the Kaggle competition of 2015.

    photograph -> normalise -> layers (convolutions, max pools, one RMS pool) -> two maxout layers -> classif -> ReLU

Known (the team's report and code, sveitser/kaggle_diabetic): all of the tables below and of the tail, the first weights
of the layers that the code gives them, the statistics of the input. conv = convolution, untied bias, leaky ReLU 0.01:

     #   channels   net A         map at 448 224 112   net B        map at 448 224 112
     1         32   conv 5x5 s2 p2       224 112  56   conv 4x4 s2 p1      224 112  56
     2         32   conv 3x3 p1          224 112  56   conv 4x4 p2         225 113  57
     3         32   max 3x3 s2           111  55  27   max 3x3 s2          112  56  28
     4         64   conv 5x5 s2 p2        56  28  14   conv 4x4 s2 p1       56  28  14
     5         64   conv 3x3 p1           56  28  14   conv 4x4 p2          57  29  15
     6         64   conv 3x3 p1           56  28  14   conv 4x4 p1          56  28  14
     7         64   max 3x3 s2            27  13   6   max 3x3 s2           27  13   6
     8        128   conv 3x3 p1           27  13   6   conv 4x4 p2          28  14   7
     9        128   conv 3x3 p1           27  13   6   conv 4x4 p1          27  13   6
    10        128   conv 3x3 p1           27  13   6   conv 4x4 p2          28  14   7
    11        128   max 3x3 s2            13   6   2*  max 3x3 s2           13   6   3*
    12        256   conv 3x3 p1           13   6       conv 4x4 p2          14   7
    13        256   conv 3x3 p1           13   6       conv 4x4 p1          13   6
    14        256   conv 3x3 p1           13   6       conv 4x4 p2          14   7
    15        256   max 3x3 s2             6   2*      max 3x3 s2            6   3*
    16        512   conv 3x3 p1            6           conv 4x4 p1           5
    17        512   conv 3x3 p1            6           -
    18        512   RMS 3x3 s3             2           RMS 3x3 s2            2

    * the last pool of a smaller network is its RMS pool.  # is the report's number.
    tail: 2 x (dropout 0.5, dense 1024, leaky ReLU, maxout over pairs -> 512), dense 1, ReLU

Computed: the map sizes (row 6 of net B follows its neighbours; the report prints 57).
Reconstruction: ReLU on the output, Glorot-uniform weights and bias 0 of the last layer. The final code declares that
layer with its number of units alone, so the defaults of its library (Lasagne) hold; another revision of the same file
writes the ReLU out. Reconstruction: that biases do not pass from one size to the next, see `copy_kernels`.
Reconstruction: outputs other than one; width and dense, for a slim twin: OOSettings(width=1 / 8, dense=32).

No torch here, so that a system can name the networks; they themselves are in `m2cnn.models.o_o_net`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from m2cnn.errors import SettingError, require
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
    from m2cnn.models.o_o_net import OO


class Layer(NamedTuple):
    """A row of the table: `kind` is "conv", "max" or "rms"; a pool keeps its channels."""

    kind: str
    kernel: int
    stride: int = 1
    padding: int = 0
    channels: int = 0

    def side(self, side: int) -> int:
        """Side of the map after this layer."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


# The report's number -> layer, at width 1.
CONVOLUTIONS = {
    "a": {
        1: Layer("conv", 5, 2, 2, 32),
        2: Layer("conv", 3, 1, 1, 32),
        4: Layer("conv", 5, 2, 2, 64),
        **dict.fromkeys((5, 6), Layer("conv", 3, 1, 1, 64)),
        **dict.fromkeys((8, 9, 10), Layer("conv", 3, 1, 1, 128)),
        **dict.fromkeys((12, 13, 14), Layer("conv", 3, 1, 1, 256)),
        **dict.fromkeys((16, 17), Layer("conv", 3, 1, 1, 512)),
    },
    "b": {
        1: Layer("conv", 4, 2, 1, 32),
        2: Layer("conv", 4, 1, 2, 32),
        4: Layer("conv", 4, 2, 1, 64),
        5: Layer("conv", 4, 1, 2, 64),
        6: Layer("conv", 4, 1, 1, 64),
        8: Layer("conv", 4, 1, 2, 128),
        9: Layer("conv", 4, 1, 1, 128),
        10: Layer("conv", 4, 1, 2, 128),
        12: Layer("conv", 4, 1, 2, 256),
        13: Layer("conv", 4, 1, 1, 256),
        14: Layer("conv", 4, 1, 2, 256),
        16: Layer("conv", 4, 1, 1, 512),
    },
}
MAX_POOLS = dict.fromkeys((3, 7, 11, 15), Layer("max", 3, 2))
RMS_POOL = {"a": Layer("rms", 3, 3), "b": Layer("rms", 3, 2)}
# Input size in px -> number of the RMS pool, the last layer.
LAST = {112: 11, 224: 15, 448: 18}


@dataclass(frozen=True)
class OOSettings(PlainSettings):
    """Which of o_O's networks, as plain checked values.

    net: "a" (first kernels 5x5, then 3x3) or "b" (all 4x4).  size: side of the pictures, 112, 224 or 448 px.
    width: factor on every channel count, above 0 and at most 4; no count falls below 4; 1 is as published (n = 32).
    dense: units of the two dense layers before maxout halves them, even; 1024 as published.

    Raises SettingError for a value that means nothing.
    """

    batch_norm: ClassVar[bool] = False

    net: str = "a"
    size: int = 448
    width: float = 1.0
    dense: int = 1024

    def __post_init__(self) -> None:
        check(isinstance(self.net, str) and self.net in CONVOLUTIONS, "net", self.net, '"a" (5x5) or "b" (4x4)')
        check(is_count(self.size, max(LAST)) and self.size in LAST, "size", self.size, "112, 224 or 448 px")
        check_width(self.width)
        even = is_count(self.dense, 65536) and self.dense >= 2 and self.dense % 2 == 0
        check(even, "dense", self.dense, "an even number of units: maxout takes pairs")
        object.__setattr__(self, "width", float(self.width))

    @property
    def fixed_sizes(self) -> tuple[int, ...]:
        return tuple(LAST)

    def usual_size(self, part: int = -1) -> int:
        return self.size

    def sources(self) -> dict[str, Source]:
        known = "known: report and code"
        statistics = Source("known: mean and deviation of the training photographs (code)", "(x - mean) / std")
        last = "known: one unit (code); reconstruction: the ReLU on it, its first weights, outputs other than one"
        return {
            "normalise": statistics,
            "layers.conv_*": Source(f"{known}; computed: map sizes", "{}, untied bias, leaky ReLU"),
            "layers.rms_*": Source(f"{known}; computed: map sizes", "root of {} of squares"),
            "layers.*": Source(f"{known}; computed: map sizes"),
            "dropout": Source(known, "{}, before both dense layers"),
            "dense_*": Source(known, "{}, leaky ReLU; then maxout over pairs"),
            "classif": Source(last, "{}, ReLU"),
        }

    def notes(self) -> tuple[str, ...]:
        return differing(self, "net", "size")

    def at(self, size: int) -> OOSettings:
        """The network of the same letter for another size; these settings where there is none."""
        return replace(self, size=size) if size in LAST else self

    def build(self, outputs: int, cells: int = 0) -> OO:
        """The network in training mode, with random weights from torch's generator.

        Raises SettingError for cells: this network grows by `copy_kernels`; MissingExtra without torch.
        """
        if cells != 0:
            repair = "Build the next size, and copy_kernels into it."
            raise SettingError("network.cells", f"got {cells!r}", "0: o_O has no cells", repair)
        require("torch", "train")
        from m2cnn.models.o_o_net import OO

        return OO(self, checked_outputs(outputs))


def layer_table(net: str, size: int) -> dict[int, Layer]:
    """The layers of net "a" or "b" for pictures of 112, 224 or 448 px by the report's number, in order."""
    last = LAST[size]
    before = {number: each for number, each in (CONVOLUTIONS[net] | MAX_POOLS).items() if number < last}
    return dict(sorted(before.items())) | {last: RMS_POOL[net]}


def map_sizes(net: str, size: int) -> dict[int, int]:
    """Side of the map after each layer, by the report's number.

    >>> map_sizes("b", 112)
    {1: 56, 2: 57, 3: 28, 4: 14, 5: 15, 6: 14, 7: 6, 8: 7, 9: 6, 10: 7, 11: 3}
    """
    sizes = {}
    for number, layer in layer_table(net, size).items():
        size = layer.side(size)
        sizes[number] = size
    return sizes
