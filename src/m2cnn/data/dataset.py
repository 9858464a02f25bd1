"""Cached pictures as torch batches, in an order that depends on the seed, the stage and the pass alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from m2cnn.data.augment import Augment, apply, draw
from m2cnn.data.cache import Cached
from m2cnn.data.manifest import Row


class Pictures(Dataset):
    """Photographs of one size. An item is (picture (3, S, S) uint8, grade; -1 where there is none).

    Augmentation draws from a generator of (seed, pass, position), so that workers and interruptions change nothing.
    """

    def __init__(
        self,
        cached: Cached,
        rows: Sequence[Row],
        size: int,
        augment: Augment | None = None,
        seed: Sequence[int] = (0,),
        border: int = 0,
    ):
        self.cached, self.size, self.augment, self.seed, self.border = cached, size, augment, tuple(seed), border
        self.places = np.array([cached.index[row.image] for row in rows])
        self.grades = np.array([-1 if row.grade is None else row.grade for row in rows])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        row, epoch, position = key
        picture = np.asarray(self.cached.pictures(self.size)[self.places[row]])
        if self.augment is not None:
            rng = np.random.default_rng([*self.seed, epoch, 1, position])
            picture = apply(draw(self.augment, self.size, rng), picture, self.border)
        return torch.from_numpy(np.array(picture.transpose(2, 0, 1))), int(self.grades[row])


class PassBatches:
    """Batches of one pass from batch number `start` on; keys are (row, pass, position in the pass).

    whole: leave out a last batch of a single photograph, which has no batch statistics to train with.
    """

    def __init__(self, order: np.ndarray, batch: int, epoch: int, start: int = 0, whole: bool = True):
        self.order, self.batch, self.epoch, self.start = order, batch, epoch, start
        full, rest = divmod(len(order), batch)
        self.total = full + (rest > (1 if whole and full else 0))

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for number in range(self.start, self.total):
            positions = range(number * self.batch, min((number + 1) * self.batch, len(self.order)))
            yield [(int(self.order[p]), self.epoch, p) for p in positions]


def every_batch(count: int, batch: int) -> PassBatches:
    """The batches of evaluation: every photograph, as listed."""
    return PassBatches(np.arange(count), batch, 0, whole=False)


def loader(pictures: Pictures, batches: PassBatches, workers: int = 0) -> DataLoader:
    """A DataLoader over given batches; pinned memory where a GPU waits."""
    return DataLoader(
        pictures,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
