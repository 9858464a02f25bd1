"""BaseNet: the trunk of Inception-ResNet-v2, with width, repeats and ladder as settings.

Known: Inception-ResNet-v2 (Szegedy et al., arXiv 1602.07261; layout of Cadene's and timm's weights, whose names the
submodules have). Computed: that the paper's BaseNet is this network, the only common trunk whose maps are 5 / 12 / 21
at 224 / 448 / 720. Reconstruction: width, repeats and the half and quarter ladders, for small photographs and
processors.

conv = convolution without bias, batch norm (eps 1e-3, momentum 0.1), ReLU; no padding unless "p". At width 1:

    layer        operation                                                     channels   map at 224   448   720
    conv2d_1a    conv 3x3 s2 (s1 on the half and quarter ladders)                    32          111   223   359
    conv2d_2a    conv 3x3                                                            32          109   221   357
    conv2d_2b    conv 3x3 p1                                                         64          109   221   357
    maxpool_3a   max 3x3 s2 (s1 on the quarter ladder)                               64           54   110   178
    conv2d_3b    conv 1x1                                                            80           54   110   178
    conv2d_4a    conv 3x3                                                           192           52   108   176
    maxpool_5a   max 3x3 s2                                                         192           25    53    87
    mixed_5b     1x1 | 1x1, 5x5p | 1x1, 3x3p, 3x3p | mean 3x3p, 1x1                 320           25    53    87
    repeat       10 x Block35: x = relu(x + 0.17 f(x))                              320           25    53    87
    mixed_6a     3x3 s2 | 1x1, 3x3p, 3x3 s2 | max 3x3 s2                           1088           12    26    43
    repeat_1     20 x Block17: x = relu(x + 0.10 f(x))                             1088           12    26    43
    mixed_7a     1x1, 3x3 s2 | 1x1, 3x3 s2 | 1x1, 3x3p, 3x3 s2 | max 3x3 s2        2080            5    12    21
    repeat_2     9 x Block8: x = relu(x + 0.20 f(x))                               2080            5    12    21
    block8       Block8 with scale 1 and no final ReLU                             2080            5    12    21
    -- the switch of M2CNN is here --
    conv2d_7b    conv 1x1                                                          1536            5    12    21
    mean over the map                                                              1536            1     1     1
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]

FULL_CHANNELS = 2080
LEAST_CHANNELS = 4

# Stride of conv2d_1a and of maxpool_3a.
STEM_STRIDES = {"full": (2, 2), "half": (1, 2), "quarter": (1, 1)}


def scaled(channels: int, width: float) -> int:
    """A channel count at a width: rounded, at least 4.

    >>> scaled(192, 1), scaled(192, 1 / 16), scaled(32, 1 / 16)
    (192, 12, 4)
    """
    return max(LEAST_CHANNELS, round(channels * width))


def map_sizes(size: int, ladder: str = "full") -> dict[str, int]:
    """Side of the map after each layer that changes it, for a square input of `size` px; 0 where nothing is left.

    >>> list(map_sizes(224).values())
    [111, 109, 54, 52, 25, 12, 5]
    """
    conv_stride, pool_stride = STEM_STRIDES[ladder]
    strides = {"conv2d_1a": conv_stride, "conv2d_2a": 1, "maxpool_3a": pool_stride, "conv2d_4a": 1}
    sizes = {}
    for layer, stride in (strides | {"maxpool_5a": 2, "mixed_6a": 2, "mixed_7a": 2}).items():
        size = max(0, (size - 3) // stride + 1)  # every one of them is 3x3 without padding
        sizes[layer] = size
    return sizes


class ConvBnReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int | Pair, stride: int = 1, padding: int | Pair = 0):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3, momentum=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def branch(channels: int, width: float, *layers: tuple) -> nn.Module:
    """ConvBnReLU after ConvBnReLU; each of `layers` is (channels out at width 1, kernel[, stride[, padding]])."""
    convs = []
    for out, *geometry in layers:
        convs.append(ConvBnReLU(channels, scaled(out, width), *geometry))
        channels = scaled(out, width)
    return convs[0] if len(convs) == 1 else nn.Sequential(*convs)


def out_channels(module: nn.Module, channels: int) -> int:
    """Channels that a branch gives for an input of `channels`: those of its last convolution; a pool keeps them."""
    convs = [each for each in module.modules() if isinstance(each, nn.Conv2d)]
    return convs[-1].out_channels if convs else channels


class Concat(nn.Module):
    """Branches side by side, joined along the channels: (B, `channels`, H, W) -> (B, `out_channels`, H', W')."""

    def __init__(self, channels: int, *branches: nn.Module):
        super().__init__()
        self.count = len(branches)
        self.out_channels = sum(out_channels(each, channels) for each in branches)
        for number, each in enumerate(branches):
            self.add_module(f"branch{number}", each)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([getattr(self, f"branch{number}")(x) for number in range(self.count)], dim=1)


class Residual(Concat):
    """relu(x + scale * linear 1x1(concat of the branches)); the last Block8 has no ReLU."""

    def __init__(self, channels: int, *branches: nn.Module, scale: float, relu: bool = True):
        super().__init__(channels, *branches)
        self.conv2d = nn.Conv2d(self.out_channels, channels, 1)
        self.out_channels, self.scale, self.relu = channels, scale, relu

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.conv2d(super().forward(x))
        return F.relu(x) if self.relu else x


def mixed_5b(channels: int, width: float) -> Concat:
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return Concat(
        channels,
        branch(channels, width, (96, 1)),
        branch(channels, width, (48, 1), (64, 5, 1, 2)),
        branch(channels, width, (64, 1), (96, 3, 1, 1), (96, 3, 1, 1)),
        nn.Sequential(pool, branch(channels, width, (64, 1))),
    )


def mixed_6a(channels: int, width: float) -> Concat:
    return Concat(
        channels,
        branch(channels, width, (384, 3, 2)),
        branch(channels, width, (256, 1), (256, 3, 1, 1), (384, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


def reduction_branches(channels: int, width: float) -> list[nn.Module]:
    """The three convolutional branches of mixed_7a, which the inception cell has too."""
    return [
        branch(channels, width, (256, 1), (384, 3, 2)),
        branch(channels, width, (256, 1), (288, 3, 2)),
        branch(channels, width, (256, 1), (288, 3, 1, 1), (320, 3, 2)),
    ]


def mixed_7a(channels: int, width: float) -> Concat:
    return Concat(channels, *reduction_branches(channels, width), nn.MaxPool2d(3, stride=2))


def block35(channels: int, width: float) -> Residual:
    return Residual(
        channels,
        branch(channels, width, (32, 1)),
        branch(channels, width, (32, 1), (32, 3, 1, 1)),
        branch(channels, width, (32, 1), (48, 3, 1, 1), (64, 3, 1, 1)),
        scale=0.17,
    )


def block17(channels: int, width: float) -> Residual:
    return Residual(
        channels,
        branch(channels, width, (192, 1)),
        branch(channels, width, (128, 1), (160, (1, 7), 1, (0, 3)), (192, (7, 1), 1, (3, 0))),
        scale=0.10,
    )


def block8(channels: int, width: float, scale: float = 0.20, relu: bool = True) -> Residual:
    return Residual(
        channels,
        branch(channels, width, (192, 1)),
        branch(channels, width, (192, 1), (224, (1, 3), 1, (0, 1)), (256, (3, 1), 1, (1, 0))),
        scale=scale,
        relu=relu,
    )


def initialise(module: nn.Module, last_linear: float = 1.0) -> None:
    """He-normal convolutions, batch norm gamma 1 and beta 0, biases 0, in place.

    last_linear: factor on the linear 1x1 convolution that ends each residual block (0.1 in a fresh cell).
    Source: reconstruction.
    """
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            nn.init.kaiming_normal_(each.weight, nonlinearity="relu")
            if each.bias is not None:
                nn.init.zeros_(each.bias)
        elif isinstance(each, nn.BatchNorm2d):
            each.reset_parameters()
    for each in module.modules():
        if isinstance(each, Residual):
            with torch.no_grad():
                each.conv2d.weight.mul_(last_linear)


class InceptionResNetV2(nn.Module):
    """The trunk: normalised picture (B, 3, S, S) -> map (B, `channels`, n, n) -> `head`: vector (B, `head_channels`).

    `mean` and `std`, of pixel values in 0..1, are those of the ImageNet weights. `multiple` divides every input size.
    """

    mean = std = (0.5, 0.5, 0.5)
    multiple = 1
    classifier = ("classif",)

    def __init__(self, width: float = 1.0, repeats: tuple[int, int, int] = (10, 20, 9), ladder: str = "full"):
        super().__init__()
        self.ladder = ladder
        conv_stride, pool_stride = STEM_STRIDES[ladder]
        c32, c64, c80, c192 = (scaled(each, width) for each in (32, 64, 80, 192))
        self.conv2d_1a = ConvBnReLU(3, c32, 3, conv_stride)
        self.conv2d_2a = ConvBnReLU(c32, c32, 3)
        self.conv2d_2b = ConvBnReLU(c32, c64, 3, 1, 1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=pool_stride)
        self.conv2d_3b = ConvBnReLU(c64, c80, 1)
        self.conv2d_4a = ConvBnReLU(c80, c192, 3)
        self.maxpool_5a = nn.MaxPool2d(3, stride=2)
        self.mixed_5b = mixed_5b(c192, width)
        channels = self.mixed_5b.out_channels
        self.repeat = nn.Sequential(*(block35(channels, width) for _ in range(repeats[0])))
        self.mixed_6a = mixed_6a(channels, width)
        channels = self.mixed_6a.out_channels
        self.repeat_1 = nn.Sequential(*(block17(channels, width) for _ in range(repeats[1])))
        self.mixed_7a = mixed_7a(channels, width)
        self.channels = self.mixed_7a.out_channels
        self.repeat_2 = nn.Sequential(*(block8(self.channels, width) for _ in range(repeats[2])))
        self.block8 = block8(self.channels, width, scale=1.0, relu=False)
        self.head_channels = scaled(1536, width)
        self.conv2d_7b = ConvBnReLU(self.channels, self.head_channels, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))  # (B, 64, 109, 109) at width 1 and 224 px
        x = self.conv2d_3b(self.maxpool_3a(x))  # (B, 80, 54, 54)
        x = self.maxpool_5a(self.conv2d_4a(x))  # (B, 192, 25, 25)
        x = self.repeat(self.mixed_5b(x))  # (B, 320, 25, 25)
        x = self.repeat_1(self.mixed_6a(x))  # (B, 1088, 12, 12)
        x = self.repeat_2(self.mixed_7a(x))  # (B, 2080, 5, 5)
        return self.block8(x)

    def head(self, x: Tensor) -> Tensor:
        """Map (B, `channels`, n, n), with or without cells behind it -> vector (B, `head_channels`)."""
        return self.pool(self.conv2d_7b(x)).flatten(1)  # (B, 1536)

    def map_size(self, size: int) -> int:
        """Side of the map for a square input of `size` px; 0 where nothing is left."""
        return map_sizes(size, self.ladder)["mixed_7a"]

    def named_state(self) -> dict[str, Tensor]:
        """The tensors under the names that files of weights have."""
        return self.state_dict()
