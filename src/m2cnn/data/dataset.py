"""Cached pictures as torch batches, in an order that depends on the seed, the stage and the pass alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from m2cnn.data.augment import Augment, View, apply, draw
from m2cnn.data.cache import Cached
from m2cnn.data.manifest import Row
from m2cnn.errors import SettingError


class Pictures(Dataset):
    """Photographs of one size. An item is (picture (3, S, S) uint8, grade; -1 where there is none).

    Augmentation draws from a generator of (seed, pass, position), so that workers and interruptions change nothing.
    border: the value of a picture outside the field of view.  frame: side of the prepared pictures, default `size`.
    view: what every item shows without augmentation; default, the centre of the frame as it is.
    """

    def __init__(
        self,
        cached: Cached,
        rows: Sequence[Row],
        size: int,
        augment: Augment | None = None,
        seed: Sequence[int] = (0,),
        border: int = 0,
        frame: int | None = None,
        view: View | None = None,
    ):
        self.cached, self.size, self.augment, self.seed, self.border = cached, size, augment, tuple(seed), border
        self.frame = size if frame is None else frame
        self.view = view
        if self.frame < size:
            raise SettingError(
                "frame", f"{self.frame} px for views of {size} px", "no less", "Prepare larger pictures."
            )
        self.places = np.array([cached.index[row.image] for row in rows])
        self.grades = np.array([-1 if row.grade is None else row.grade for row in rows])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        row, epoch, position = key
        picture = np.asarray(self.cached.pictures(self.frame)[self.places[row]])
        view = self.view if self.augment is None else self._drawn(epoch, position)
        shown = self._centre(picture) if view is None else apply(view, picture, self.border, self.size)
        return torch.from_numpy(np.array(shown.transpose(2, 0, 1))), int(self.grades[row])

    def _centre(self, picture: np.ndarray) -> np.ndarray:
        start = (self.frame - self.size) // 2  # as `middle` has it, without a warp
        return picture[start : start + self.size, start : start + self.size]

    def _drawn(self, epoch: int, position: int) -> View:
        rng = np.random.default_rng([*self.seed, epoch, 1, position])
        return draw(self.augment, self.size, rng, self.frame)


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
