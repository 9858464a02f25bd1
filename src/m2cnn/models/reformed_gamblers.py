"""Reformed Gamblers: the members of the team's networks as rows of one table. No torch, so that a system can name them.

Source: the released solution of Xu, Dunavent and Kainkaryam (Kaggle Diabetic Retinopathy 2015, third place). A row is
data: frame -> sample size, the convolutions and the pool of each stage, the layer behind the last one. All rows share

    GCN -> stages (convolutions with leaky 0.1, pool) -> dropout 0.5 -> flatten -> FC 1024 -> FC 1024 -> FC outputs

Known (their code): every row but those that follow. Reconstruction: m46, m51 and m58, laid out as the files that
descend from them; which of m41 and m42 is the file that was seen, and that both are alike; which id the two files on
m46's weights carry (m52 four sigmoids, m53 steps); a seed or batch that was not seen is 0, and m47's seed, which draws
its pools here, is that of m46; the weights of the linear layers start as Torch's do. Computed: every map size. m55 was
not seen and has no row. The rows named "tiny-..." are ours, one of each kind on small samples, for tests only.

The networks themselves are in `m2cnn.models.reformed_gamblers_net`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from m2cnn.errors import require
from m2cnn.models.settings import (
    PlainSettings,
    Source,
    check,
    check_choice,
    check_width,
    checked_outputs,
    differing,
)

if TYPE_CHECKING:
    from m2cnn.models.reformed_gamblers_net import GamblersNet

FRACTION = 1.414
FRACTIONAL = (2, 0)  # a pool of 2 x 2 without a stride: fractional, by FRACTION

# (kernel, padding) of the convolutions of one stage.
BLOCKS = {
    "3x3 triple": ((3, 1), (3, 1), (3, 1)),
    "4x4": ((4, 2), (4, 1)),
    "3x3+1x1": ((3, 1), (1, 0)),
    "3x3": ((3, 1),),
}
CYCLIC = "cyclic"  # 3x3 alone, as many as a stage has features; all stages but the first see four rotations
SCORE, FOUR_SIGMOID, STEP = "score", "four sigmoid", "step"


@dataclass(frozen=True)
class Row:
    """One network.

    frame, size: side in px of the prepared photograph, and of the sample of it that the network takes.
    features: channels of each stage; for the cyclic network, of each convolution of each stage.
    block: a key of BLOCKS, or CYCLIC.  pools: (kernel, stride) of each stage, or FRACTIONAL.
    output: SCORE, FOUR_SIGMOID or STEP, with the slope `alpha` of its steps.
    batch, seed: as they trained; 0 where it is not known.  start: the row whose weights it started from.
    linear: width of the two hidden linear layers.
    """

    frame: int
    size: int
    features: tuple[int | tuple[int, ...], ...]
    block: str
    pools: tuple[tuple[int, int], ...]
    output: str = SCORE
    alpha: float = 10.0
    batch: int = 0
    seed: int = 0
    start: str = ""
    linear: int = 1024

    @property
    def stages(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """(channels, kernel, padding) of each convolution of each stage."""
        if self.block == CYCLIC:
            return tuple(tuple((channels, 3, 1) for channels in stage) for stage in self.features)
        return tuple(tuple((channels, *shape) for shape in BLOCKS[self.block]) for channels in self.features)


_M41 = Row(512, 385, (32, 64, 128, 256, 384, 512, 512), "4x4", ((3, 2),) * 7, batch=96, seed=12891)
_M46 = Row(1024, 767, (16, 32, 64, 128, 256, 384, 512, 512), "3x3+1x1", ((3, 2),) * 8, batch=64, seed=12891)
_M47_FEATURES = (16, 32, 32, 64, 64, 128, 128, 192, 192, 256, 256, 384, 384, 512, 512)
_M51_FEATURES = (16, 32, 64, 96, 128, 256, 384, 512)
_M58_FEATURES = (16, 32, 64, 128, 256, 384, 512, 768)
_CYC28_FEATURES = ((8, 8, 8), (32, 16), (64, 32), (128, 128, 64), (256, 256, 128), (512, 512))
_M28_POOLS = ((4, 4), (2, 2), (2, 2), (3, 2), (3, 2), (3, 2))
_M51_POOLS = ((3, 2),) * 7 + ((2, 2),)
_CYC28_POOLS = ((4, 4),) + ((2, 2),) * 5
_TINY = replace(_M46, frame=128, size=95, features=(4, 4, 8, 16, 32), pools=((3, 2),) * 5, linear=32, batch=8)

MEMBERS = {
    "m28": Row(512, 480, (8, 32, 64, 128, 256, 512), "3x3 triple", _M28_POOLS, batch=32),
    "cyc28": Row(512, 480, _CYC28_FEATURES, CYCLIC, _CYC28_POOLS, start="m28"),
    "m41": _M41,
    "m42": _M41,
    "m46": _M46,
    "m47": Row(1024, 724, _M47_FEATURES, "3x3", (FRACTIONAL,) * 15, batch=48, seed=12891),
    "m51": Row(1024, 895, _M51_FEATURES, "3x3+1x1", _M51_POOLS, batch=56, seed=3431),
    "m51_1": Row(1024, 895, _M51_FEATURES, "3x3+1x1", _M51_POOLS, STEP, 5.0, batch=56, seed=3431, start="m51"),
    "m52": replace(_M46, output=FOUR_SIGMOID, batch=0, seed=0, start="m46"),
    "m53": replace(_M46, output=STEP, batch=72, seed=0, start="m46"),
    "m58": replace(_M46, features=_M58_FEATURES, batch=72, seed=32431),
}
TINY = {
    "tiny-m41": replace(_TINY, features=(4, 8, 16, 32, 48), block="4x4"),
    "tiny-m46": _TINY,
    "tiny-m47": replace(_TINY, size=64, features=(4, 4, 4, 8, 8, 16, 16, 24), block="3x3", pools=(FRACTIONAL,) * 8),
    "tiny-m53": replace(_TINY, output=STEP, start="tiny-m46"),
    "tiny-cyc28": replace(
        _TINY,
        size=128,
        features=((4, 4, 4), (4, 4), (8, 4), (16, 16, 8), (32, 32, 16), (64, 64)),
        block=CYCLIC,
        pools=_CYC28_POOLS,
    ),
}
ROWS = MEMBERS | TINY

_SEEN = "known: the member's file (released code)"
LEAKY = "known: leaky ReLU 0.1; reconstruction: it stands behind the pool of maxima, with the same numbers"
# How sure we are of the stages of a row.
STAGES = dict.fromkeys(MEMBERS, _SEEN) | dict.fromkeys(TINY, "reconstruction: small, for tests")
STAGES |= dict.fromkeys(("m41", "m42"), "known: the file of one of m41, m42; reconstruction: that both are alike")
STAGES |= dict.fromkeys(("m46", "m51", "m58"), "reconstruction: laid out as the released files that descend from it")
STAGES |= dict.fromkeys(("m52", "m53"), f"{_SEEN}; reconstruction: which of the two files is which member")
STAGES["m47"] = f"{_SEEN}; reconstruction: one draw of the regions for all channels, and its seed"


def map_sizes(member: str) -> tuple[int, ...]:
    """Side of the map after each stage.

    >>> map_sizes("m46")
    (383, 191, 95, 47, 23, 11, 5, 2)

    Raises SettingError for an unknown member.
    """
    row = _row(member)
    sizes = [row.size]
    for stage, pool in zip(row.stages, row.pools, strict=True):
        sizes.append(size_after_pool(size_before_pool(sizes[-1], stage), pool))
    return tuple(sizes[1:])


def size_before_pool(size: int, stage: tuple[tuple[int, int, int], ...]) -> int:
    """Side of the map after the convolutions of a stage.

    >>> size_before_pool(385, ((32, 4, 2), (32, 4, 1)))
    385
    """
    return size + sum(2 * padding - kernel + 1 for _, kernel, padding in stage)


def size_after_pool(size: int, pool: tuple[int, int]) -> int:
    """Side of the map after a pool.

    >>> size_after_pool(47, (3, 2)), size_after_pool(15, (2, 2)), size_after_pool(724, FRACTIONAL)
    (23, 7, 512)
    """
    kernel, stride = pool
    return int(size / FRACTION) if pool == FRACTIONAL else (size - kernel) // stride + 1


@dataclass(frozen=True)
class ReformedGamblers(PlainSettings):
    """One network of the team, as plain checked values.

    member: a key of MEMBERS, or of TINY in tests.
    width: factor on the channels of every convolution and hidden linear layer, above 0 and at most 4; no count falls
        below 4; 1 is as published.

    Raises SettingError for a value that means nothing.
    """

    batch_norm: ClassVar[bool] = False
    own_bias: ClassVar[bool] = True

    member: str = "m46"
    width: float = 1.0

    def __post_init__(self) -> None:
        _row(self.member)
        check_width(self.width)
        object.__setattr__(self, "width", float(self.width))

    @property
    def row(self) -> Row:
        return ROWS[self.member]

    @property
    def size(self) -> int:
        """Side in px of the only picture that the network takes."""
        return self.row.size

    def sources(self) -> dict[str, Source]:
        known = "known: released code"
        contrast = f"{known}; reconstruction: a deviation of at least 0.001"
        rotations = f"{known}, after Dieleman et al."
        steps = Source(f"{known}; computed: moved from labels 1..5 to levels 0..4", "1 + sum of four sigmoids")
        return {
            "normalise": Source(contrast, "(x - mean) / std of each picture and channel"),
            "trunk.stage*": Source(f"{STAGES[self.member]}; computed: map sizes; {LEAKY}"),
            "trunk.slice*": Source(rotations, "the four rotations of a picture"),
            "trunk.roll*": Source(rotations, "the four turned into each one's frame, side by side"),
            "trunk.pool*": Source(rotations, "root mean square of the four, turned back"),
            "dropout": Source(known),
            "tail.0": Source(known, "{}, leaky ReLU"),
            "tail.2": Source(known, "{}, leaky ReLU"),
            "classif": Source(f"{known}; reconstruction: its bias starts at the middle level in every member"),
        } | ({} if self.row.output == SCORE else {"output": steps})

    def notes(self) -> tuple[str, ...]:
        return differing(self, "member")

    def build(self, outputs: int, cells: int = 0) -> GamblersNet:
        """The network with random weights from torch's generator, in training mode.

        Raises SettingError for any cell and for less than one output, MissingExtra without torch.
        """
        check(cells == 0, "cells", cells, "0: these networks do not grow")
        require("torch", "train")
        from m2cnn.models.reformed_gamblers_net import GamblersNet

        return GamblersNet(self, checked_outputs(outputs))


def _row(member: str) -> Row:
    check_choice("member", member, ROWS)
    return ROWS[member]
