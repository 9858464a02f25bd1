"""The network of a row of `m2cnn.models.reformed_gamblers`: GCN, stages, tail, and the layer of soft steps.

    photograph -> normalise -> trunk (stage1, stage2, ..) -> flatten -> dropout, tail -> classif -> + 1 -> output -> - 1

The published networks predict labels 1..5, the level + 1, under DoubleThrCriterion(1, 5). Ours predict the level, 0..4,
so that a task reads them as any other network's: the score of `classif` is on 0..4, one is added before the published
output layer, whose thresholds are 1.5..4.5, and taken off behind it. The criterion is then `Regression(clipped=True)`.

Known (released code): leaky slope 0.1, convolutions from N(0, sqrt(2 / (k k c_in))) with bias 0, the tail, the bias of
the last layer at the middle label in several members (here in all), the output layers, cyclic roll and root mean square
after Dieleman et al. Reconstruction: the activation stands behind the pool of each stage (a pool of maxima commutes
with it, so the numbers are those of the other order); the fractional pool has one draw for all channels; the picture's
standard deviation is at least 0.001, so that a black one is zeros.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError, SizeError
from m2cnn.models.fractional import FixedFractionalMaxPool
from m2cnn.models.inception_resnet import scaled
from m2cnn.models.reformed_gamblers import (
    CYCLIC,
    FOUR_SIGMOID,
    FRACTIONAL,
    STEP,
    ReformedGamblers,
    Row,
    map_sizes,
    size_after_pool,
    size_before_pool,
)

SLOPE = 0.1
ROTATIONS = 4
LEAST_DEVIATION = 1e-3
LEAST_SQUARE = 1e-12
THRESHOLDS = (1.5, 2.5, 3.5, 4.5)
MIDDLE_LEVEL = 2.0


class Gcn(nn.Module):
    """Global contrast normalisation, per photograph and channel: (x - mean) / standard deviation, in floats."""

    def forward(self, x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.float()
        centred = x - x.mean((2, 3), keepdim=True)
        return centred / centred.square().mean((2, 3), keepdim=True).sqrt().clamp_min(LEAST_DEVIATION)


def cyclic_slice(x: Tensor) -> Tensor:
    """(B, C, n, n) -> (4 B, C, n, n): copy k, rotated by k quarter turns, is rows k B .. (k + 1) B."""
    return torch.cat([torch.rot90(x, turns, (2, 3)) for turns in range(ROTATIONS)])


def cyclic_roll(x: Tensor) -> Tensor:
    """(4 B, C, n, n) -> (4 B, 4 C, n, n): to copy k, all copies k, k + 1, .. turned into its frame, along channels.

    A picture rotated by a quarter turn permutes the copies and nothing else.
    """
    copies = x.unflatten(0, (ROTATIONS, -1))  # (4, B, C, n, n)
    turned = [torch.rot90(copies, -turns, (3, 4)).roll(-turns, 0) for turns in range(ROTATIONS)]
    return torch.cat(turned, 2).flatten(0, 1)


def cyclic_pool(x: Tensor) -> Tensor:
    """(4 B, C, n, n) -> (B, C, n, n): root mean square of the four copies, aligned with the first.

    Aligned, the result turns with the picture; it does not stay the same.
    """
    copies = x.unflatten(0, (ROTATIONS, -1))
    aligned = torch.stack([torch.rot90(copies[turns], -turns, (2, 3)) for turns in range(ROTATIONS)])
    return aligned.square().mean(0).clamp_min(LEAST_SQUARE).sqrt()


class Cyclic(nn.Module):
    """One of the three functions above as a layer."""

    def __init__(self, function: str):
        super().__init__()
        self.function = {"slice": cyclic_slice, "roll": cyclic_roll, "pool": cyclic_pool}[function]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def soft_steps(score: Tensor, thresholds: Tensor, alpha: Tensor | float) -> Tensor:
    """1 + sum over k of sigmoid(alpha_k (score - t_k)): a score on 1..5 drawn to the labels, of the same shape."""
    return 1 + torch.sigmoid(alpha * (score.unsqueeze(-1) - thresholds)).sum(-1)


class FourSigmoid(nn.Module):
    """Soft steps at 1.5, 2.5, 3.5, 4.5 of one fixed slope. It has no weights."""

    def __init__(self, alpha: float = 10.0):
        super().__init__()
        self.alpha = alpha
        self.register_buffer("thresholds", torch.tensor(THRESHOLDS), persistent=False)

    def forward(self, score: Tensor) -> Tensor:
        return soft_steps(score, self.thresholds, self.alpha)


class StepLayer(nn.Module):
    """Soft steps whose four thresholds and four slopes are learnt; they start as FourSigmoid's."""

    def __init__(self, alpha: float = 10.0):
        super().__init__()
        self.thresholds = nn.Parameter(torch.tensor(THRESHOLDS))
        self.alpha = nn.Parameter(torch.full((len(THRESHOLDS),), alpha))

    def forward(self, score: Tensor) -> Tensor:
        return soft_steps(score, self.thresholds, self.alpha)


class GamblersNet(nn.Module):
    """(B, 3, S, S) pictures, uint8 or floats in 0..255 -> (B, K) outputs on the scale of levels, 0..4.

    settings: plain values; `ReformedGamblers.from_dict(net.settings).build(outputs)` makes the same network again, with
        random weights and the same draw.

    Raises SizeError for a picture of another size than the member's.
    """

    def __init__(self, settings: ReformedGamblers, outputs: int):
        super().__init__()
        row, width = settings.row, settings.width
        self.settings: dict[str, Any] = settings.to_dict()
        self.size, self.is_cyclic = settings.size, row.block == CYCLIC
        self.normalise = Gcn()
        self.trunk, channels = _trunk(row, width)
        linear = scaled(row.linear, width)
        first = nn.Linear(channels * map_sizes(settings.member)[-1] ** 2, linear)
        self.dropout = nn.Dropout(0.5)
        self.tail = nn.Sequential(first, nn.LeakyReLU(SLOPE), nn.Linear(linear, linear), nn.LeakyReLU(SLOPE))
        self.classif = nn.Linear(linear, outputs)
        nn.init.constant_(self.classif.bias, MIDDLE_LEVEL)
        self.output = _output_layer(row)

    def features(self, x: Tensor) -> Tensor:
        """The flattened last map (B, D); D = 2048, 4608 (cyc28, m51) or 3072 (m58) at width 1.

        That of cyc28 turns with the map of its first stage, which itself knows no rotations.
        """
        self._check_size(x)
        return self.trunk(self.normalise(x).to(self.classif.weight.dtype)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, K), and the vector (B, D) of `features`."""
        vector = self.features(x)
        level = self.classif(self.tail(self.dropout(vector)))
        return self.output(level + 1) - 1, vector

    def take_first_stage(self, other: GamblersNet, frozen: bool = True) -> GamblersNet:
        """Copy the first stage of `other`, as cyc28 does of m28; frozen: it is not trained. Returns the network itself.

        Raises SettingError when the two stages differ.
        """
        ours, theirs = self.trunk.stage1, other.trunk.stage1
        shapes = [[tuple(each.shape) for each in stage.parameters()] for stage in (ours, theirs)]
        if shapes[0] != shapes[1]:
            names = [f"{net.settings['member']} at width {net.settings['width']:g}" for net in (self, other)]
            raise SettingError(
                "first stage", f"that of {names[1]} does not fit {names[0]}", "convolutions of one shape"
            )
        ours.load_state_dict(theirs.state_dict())
        ours.requires_grad_(not frozen)
        return self

    def start_from(self, other: GamblersNet) -> None:
        """Take the weights of a trained network: cyc28 the first stage, which it does not train; the others all that
        both have, so that an output layer of soft steps starts fresh behind the score it steps.

        Raises SettingError when a weight of the other has another shape, or no place.
        """
        if self.is_cyclic:
            self.take_first_stage(other)
            return
        taken = {name: value for name, value in other.state_dict().items() if not name.startswith("output.")}
        ours = self.state_dict()
        for name, value in taken.items():
            if name not in ours or ours[name].shape != value.shape:
                members = [f"{net.settings['member']} at width {net.settings['width']:g}" for net in (self, other)]
                got = f"{name} of {members[1]} does not fit {members[0]}"
                raise SettingError("start_from", got, "networks that differ in their output layer alone")
        self.load_state_dict(taken, strict=False)

    def _check_size(self, x: Tensor) -> None:
        # Under jit tracing sizes are tensors, and the exporter has run the same picture before.
        if torch.jit.is_tracing():
            return
        if tuple(x.shape[1:]) != (3, self.size, self.size):
            got = " x ".join(str(side) for side in x.shape[1:])
            member = self.settings["member"]
            raise SizeError("input", f"pictures of {got}", f"3 x {self.size} x {self.size}, the sample of {member}")


def _trunk(row: Row, width: float) -> tuple[nn.Sequential, int]:
    """The stages of a row, and the channels of the last map."""
    cyclic, rng = row.block == CYCLIC, np.random.default_rng(row.seed)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = 3, row.size
    for number, (stage, pool) in enumerate(zip(row.stages, row.pools, strict=True), start=1):
        convolutions = _convolutions(stage, channels, width)
        before = size_before_pool(side, stage)
        side = size_after_pool(before, pool)
        if pool == FRACTIONAL:
            pooled: nn.Module = FixedFractionalMaxPool(pool[0], before, side, (rng.random(), rng.random()))
        else:
            pooled = nn.MaxPool2d(*pool)
        layers[f"stage{number}"] = nn.Sequential(*convolutions, pooled, nn.LeakyReLU(SLOPE))
        channels = convolutions[-1].out_channels
        if cyclic:
            what = "slice" if number == 1 else "pool" if number == len(row.stages) else "roll"
            layers[f"{what}{number}"] = Cyclic(what)
            channels *= ROTATIONS if what == "roll" else 1
    return nn.Sequential(layers), channels


def _convolutions(stage: tuple[tuple[int, int, int], ...], channels: int, width: float) -> list[nn.Module]:
    """The convolutions of a stage with an activation between each two."""
    layers: list[nn.Module] = []
    for features, kernel, padding in stage:
        conv = nn.Conv2d(channels, scaled(features, width), kernel, padding=padding)
        nn.init.normal_(conv.weight, std=(2 / (kernel * kernel * channels)) ** 0.5)
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.LeakyReLU(SLOPE)]
        channels = conv.out_channels
    return layers[:-1]


def _output_layer(row: Row) -> nn.Module:
    layers = {STEP: StepLayer, FOUR_SIGMOID: FourSigmoid}
    return layers[row.output](row.alpha) if row.output in layers else nn.Identity()
