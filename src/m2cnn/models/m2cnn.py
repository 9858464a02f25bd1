"""M2CNN: a trunk, the switch with its cells, and one linear layer. With no cell it is BaseNet.

    photograph -> normalise -> trunk -> cells[0] .. cells[stage - 1] -> head (conv2d_7b, mean) -> dropout -> classif

Known (poster, arXiv 1808.10564): depth and resolution grow together in steps; the map sizes before and after the cells.
Computed: one 3x3 stride-2 reduction without padding per cell gives 12 -> 5 and 21 -> 10 -> 4, so there are 0 / 1 / 2
cells at 224 / 448 / 720. Reconstruction: all else, that is what a cell holds, where it sits (after the last Block8,
before conv2d_7b), and that all weights are carried when the network grows while the new cell starts fresh.

The two heads of the paper, five logits and one score, are rows of one linear layer on the shared vector: K = 6 outputs
are the same numbers as Linear(5) and Linear(1) side by side. What the outputs mean is the task's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.models.inception_resnet import (
    FULL_CHANNELS,
    Concat,
    ConvBnReLU,
    block8,
    branch,
    initialise,
    out_channels,
    reduction_branches,
    scaled,
)
from m2cnn.models.settings import NetworkSettings

LEAST_MAP = 2
LARGEST_SIZE = 8192
USUAL_STRIDE = 32


def inception_cell(channels: int, residual_blocks: int = 2) -> nn.Sequential:
    """Reduction and `residual_blocks` Block8 (scale 0.20, ReLU): (B, C, n, n) -> (B, C, (n - 3) // 2 + 1, same).

    The reduction is mixed_7a with its pool branch projected, so that the channels stay C. Widths follow C / 2080; the
    projection takes what the other branches leave. 6,908,032 parameters and 2,035,424 per Block8 at C = 2080.
    Source: reconstruction.

    Raises SettingError when C is too small for four branches of at least 4 channels.
    """
    width = channels / FULL_CHANNELS
    branches = reduction_branches(channels, width)
    rest = channels - sum(out_channels(each, channels) for each in branches)
    if rest < 1:
        few = f"a trunk map of {channels} channels"
        raise SettingError("network.cell", few, "at least 13 for an inception cell", 'Use cell = "plain".')
    projected = nn.Sequential(nn.MaxPool2d(3, stride=2), ConvBnReLU(channels, rest, 1))
    reduction = Concat(channels, *branches, projected)
    cell = nn.Sequential(reduction, *(block8(channels, width) for _ in range(residual_blocks)))
    initialise(cell, last_linear=0.1)
    return cell


def plain_cell(channels: int) -> ConvBnReLU:
    """One 3x3 stride-2 convolution C -> C: the reading of the size table that assumes least; 38.9 M parameters at 2080.

    Source: reconstruction.
    """
    cell = ConvBnReLU(channels, channels, 3, 2)
    initialise(cell)
    return cell


class ResidualCell(nn.Module):
    """max 3x3 s2 of x + 0.2 f(x), f = 1x1, 3x3 s2, linear 1x1 whose weights start at zero.

    A fresh cell is thus the max pool alone and hardly changes the function: the easiest one to train.
    Source: reconstruction.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = channels / FULL_CHANNELS
        self.pool = nn.MaxPool2d(3, stride=2)
        self.branch = branch(channels, width, (256, 1), (384, 3, 2))
        self.conv2d = nn.Conv2d(scaled(384, width), channels, 1)
        initialise(self)
        nn.init.zeros_(self.conv2d.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) + 0.2 * self.conv2d(self.branch(x))


def build_cell(settings: NetworkSettings, channels: int) -> nn.Module:
    """A fresh cell for a trunk map of `channels`."""
    if settings.cell == "inception":
        return inception_cell(channels, settings.residual_blocks)
    return plain_cell(channels) if settings.cell == "plain" else ResidualCell(channels)


def size_after_cell(size: int) -> int:
    """Side of the map after one cell; every kind of cell has the same 3x3 stride-2 reduction.

    >>> size_after_cell(12), size_after_cell(21), size_after_cell(10)
    (5, 10, 4)
    """
    return max(0, (size - 3) // 2 + 1)


def first_size(enough: Callable[[int], bool], guess: int) -> int:
    """The smallest size that is `enough`, which all larger ones are too; a good `guess` costs two calls.

    >>> first_size(lambda size: size >= 107, guess=33)
    107

    Raises SettingError when no size up to 8192 is enough.
    """
    low, high, step = 0, guess, 1  # low is too small, high is enough
    if enough(guess):
        while guess > step and enough(guess - step):
            high, step = guess - step, 2 * step
        low = max(0, guess - step)
    else:
        while not enough(guess + step):
            low, step = guess + step, 2 * step
            if low > LARGEST_SIZE:
                few = f"no input up to {LARGEST_SIZE} px gives a map that is large enough"
                raise SettingError("network.trunk", few, "a trunk whose map grows with its input")
        low, high = max(low, guess), guess + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class Normalise(nn.Module):
    """uint8 or floats in 0..255 -> (x / 255 - mean) / std; a part of the network, so it travels with the weights."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        mean, std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("factor", 1 / (255 * std))
        self.register_buffer("offset", -mean / std)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.factor.dtype) * self.factor + self.offset


class M2CNN(nn.Module):
    """(B, 3, S, S) pictures, uint8 or floats in 0..255 -> (B, K) outputs.

    stage: how many of `cells` run, 0..len(cells); assign it to throw the switch.
    settings: plain values; `build_network(net.settings, outputs, cells=len(net.cells))` makes the same network again,
        with random weights.

    Raises SizeError when the picture is too small for the stage: the map after the cells must be at least 2 x 2; and
    when a trunk such as timm's hrnet takes multiples of 32 px only and the picture has another size.
    """

    def __init__(self, trunk: nn.Module, settings: NetworkSettings, outputs: int, cells: int = 0):
        super().__init__()
        # Where the first weights came from is the recipe's to remember: a network is rebuilt without that file.
        self.settings: dict[str, Any] = settings.to_dict() | {"weights": ""}
        self.normalise = Normalise(trunk.mean, trunk.std)
        self.trunk = trunk
        self.cells = nn.ModuleList()
        self.dropout = nn.Dropout(settings.dropout)
        self.classif = nn.Linear(trunk.head_channels, outputs)
        self.stage = 0
        self.grow(cells)

    @property
    def stage(self) -> int:
        return self._stage

    @stage.setter
    def stage(self, stage: int) -> None:
        if not 0 <= stage <= len(self.cells):
            raise SettingError(
                "stage", f"got {stage}", f"0..{len(self.cells)}, the number of cells", "Add one: grow()."
            )
        self._stage = stage
        self._smallest = self.smallest_size(stage)

    def grow(self, cells: int = 1) -> M2CNN:
        """Add fresh cells and run them; every other weight stays bit-equal. Returns the network itself.

        Optimisers made before do not know the new parameters.
        """
        for _ in range(cells):
            cell = build_cell(NetworkSettings.from_dict(self.settings), self.trunk.channels)
            self.cells.append(cell.to(self.classif.weight).train(self.training))
        self.stage = len(self.cells)
        return self

    def smallest_size(self, stage: int | None = None) -> int:
        """Side in px of the smallest square picture that `stage` (default: the present one) takes."""
        least = LEAST_MAP
        for _ in range(self.stage if stage is None else stage):
            least = 2 * least + 1  # the inverse of size_after_cell
        guess = 33 if least == LEAST_MAP else self.smallest_size(0) + USUAL_STRIDE * (least - LEAST_MAP)
        return first_size(lambda size: self.trunk.map_size(size) >= least, guess)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps before the switch and after the cells: (B, C, n, n) and (B, C, m, m); the same one at stage 0."""
        self._check_size(x)
        before = after = self.trunk(self.normalise(x))  # (B, 2080, 5 / 12 / 21, same) at width 1
        for cell in self.cells[: self.stage]:
            after = cell(after)  # 12 -> 5, 21 -> 10 -> 4
        return before, after

    def features(self, x: Tensor) -> Tensor:
        """The vector (B, D) that the outputs are linear in."""
        return self.trunk.head(self.maps(x)[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, K), and the vector (B, D) of `features`."""
        vector = self.features(x)
        return self.classif(self.dropout(vector)), vector

    def _check_size(self, x: Tensor) -> None:
        # Under jit tracing sizes are tensors, and the exporter has run the same picture before.
        if torch.jit.is_tracing():
            return
        height, width = x.shape[-2:]
        if height < self._smallest or width < self._smallest:
            raise SizeError(
                "input",
                f"{height} x {width} px is too small for a network with {self.stage} cells",
                f"at least {self._smallest} x {self._smallest} px",
                "Enlarge the photographs, run fewer cells, or choose a smaller ladder.",
            )
        multiple = self.trunk.multiple
        if height % multiple or width % multiple:
            raise SizeError("input", f"got {height} x {width} px", f"multiples of {multiple} px with this trunk")
