"""Fractional max-pooling: overlapping windows at pseudo-random places, shared by all samples and channels.

Source: Graham 2014 (Fractional max-pooling), as SparseConvNet and Torch have it. torch.nn.FractionalMaxPool2d follows
the same sequence rule but draws for each sample and channel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LARGEST_DRAW = 10_000
FIXED_DRAW = (0.5, 0.5)


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
        draws = self.draw() if self.training else self.fixed
        first = [torch.tensor(starts(self.before, self.after, self.kernel, u), device=x.device) for u in draws]
        return windows_maxima(x, self.kernel, *first)


class FixedFractionalMaxPool(nn.Module):
    """(B, C, before, before) -> (B, C, after, after), always at the places of one draw for rows and columns.

    The places are buffers: they travel with the weights.
    """

    def __init__(self, kernel: int, before: int, after: int, draw: tuple[float, float]):
        super().__init__()
        self.kernel = kernel
        for name, u in zip(("rows", "columns"), draw, strict=True):
            self.register_buffer(name, torch.tensor(starts(before, after, kernel, u)))

    def forward(self, x: Tensor) -> Tensor:
        return windows_maxima(x, self.kernel, self.rows, self.columns)


def windows_maxima(x: Tensor, kernel: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Maxima of kernel x kernel windows that begin at each of `rows` and `columns`: (B, C, rows, columns)."""
    for axis, first in ((2, rows), (3, columns)):  # (B, C, after, before), (B, C, after, after)
        largest = x.index_select(axis, first)
        for offset in range(1, kernel):
            largest = torch.maximum(largest, x.index_select(axis, first + offset))
        x = largest
    return x
