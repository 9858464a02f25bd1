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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m2cnn.errors import SettingError, SizeError, did_you_mean
from m2cnn.models.inception_resnet import scaled
from m2cnn.models.m2cnn import Normalise

# Per channel, of the training photographs as RGB in 0..255.
MEAN = (108.646, 75.869, 54.340)
STD = (70.539, 51.715, 43.034)
LEAK = 0.01
FIRST_BIAS = 0.05
DROPOUT = 0.5
RMS_EPSILON = 1e-12


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
class OOSettings:
    """Which of o_O's networks, as plain checked values.

    net: "a" (first kernels 5x5, then 3x3) or "b" (all 4x4).  size: side of the pictures, 112, 224 or 448 px.
    width: factor on every channel count, above 0 and at most 4; no count falls below 4; 1 is as published (n = 32).
    dense: units of the two dense layers before maxout halves them, even; 1024 as published.

    Raises SettingError for a value that means nothing.
    """

    net: str = "a"
    size: int = 448
    width: float = 1.0
    dense: int = 1024

    def __post_init__(self) -> None:
        if not isinstance(self.net, str) or self.net not in CONVOLUTIONS:
            _refuse("net", self.net, '"a" (5x5) or "b" (4x4)')
        if not _is_whole(self.size) or self.size not in LAST:
            _refuse("size", self.size, "112, 224 or 448 px")
        if not isinstance(self.width, Real) or isinstance(self.width, bool) or not 0 < self.width <= 4:
            _refuse("width", self.width, "a number above 0 and at most 4")
        if not _is_whole(self.dense) or self.dense < 2 or self.dense % 2:
            _refuse("dense", self.dense, "an even number of units: maxout takes pairs")
        object.__setattr__(self, "width", float(self.width))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return asdict(self)

    def build(self, outputs: int, cells: int = 0) -> OO:
        """The network in training mode, with random weights from torch's generator.

        Raises SettingError for cells: this network grows by `copy_kernels`.
        """
        if not _is_whole(outputs) or outputs < 1:
            _refuse("outputs", outputs, "a whole number from 1")
        if cells != 0:
            _refuse("cells", cells, "0: o_O has no cells", "Build the next size, and copy_kernels into it.")
        return OO(self, outputs)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OOSettings:
        """Raises SettingError for an unknown key."""
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise SettingError("network", f'unknown setting "{key}"', repair=did_you_mean(key, known))
        return cls(**values)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(key: str, value: object, expected: str, repair: str = "") -> None:
    raise SettingError(f"network.{key}", f"got {value!r}", expected, repair)


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
        x = self.features(x)  # (B, 2048) at 448 px
        for dense in (self.dense_1, self.dense_2):
            x = maxout(F.leaky_relu(dense(self.dropout(x)), LEAK))  # (B, 512)
        return F.relu(self.classif(x))

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
