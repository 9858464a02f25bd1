"""What a member says of prepared pictures: it is shown its views of each, and their answers are averaged. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from m2cnn.data.augment import View
from m2cnn.data.views import Views, show
from m2cnn.tasks import Task

# (N, S, S, 3) uint8 pictures -> outputs (N, K) and features (N, D), float32.
Answers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
AT_ONCE = 16  # pictures that a network is given at once,
PIXELS = 2**20  # or as many as have so many pixels: an ensemble at 900 px keeps the memory of each of its sessions
KEPT = 64  # prepared pictures in memory


@dataclass(frozen=True)
class Reader:
    """A member, ready to be shown pictures.

    answers: its network.  size: side in px of what that sees.  frame: side in px of the prepared picture.
    border: the value outside the field of view.
    """

    answers: Answers
    task: Task
    views: Views
    size: int
    frame: int
    border: int = 0
    drawn: list[View] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", self.views.drawn(self.size, self.frame))

    @property
    def at_once(self) -> int:
        """Pictures that the network is given in one call."""
        return max(1, min(AT_ONCE, PIXELS // self.size**2))

    def read_some(self, store: np.ndarray, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """`read` of these rows of a store of pictures, a few at a time in memory."""
        starts = range(0, len(places), KEPT)
        parts = [self.read(store[list(places[start : start + KEPT])]) for start in starts]
        outputs, features = zip(*parts, strict=True)
        return np.concatenate(outputs), np.concatenate(features)

    def read(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, frame, frame, 3) uint8 -> outputs (N, K) that read as the mean of the views', features (N, 2 D).

        The features are the mean and the standard deviation (n - 1; 0 of a single view) over the views.
        """
        views = len(self.drawn)
        shown = (view for picture in pictures for view in show(picture, self.drawn, self.size, self.border))
        parts = [self.answers(batch) for batch in _batches(shown, self.at_once)]
        outputs, features = (np.concatenate(each) for each in zip(*parts, strict=True))
        outputs = outputs.reshape(len(pictures), views, -1)  # (N, V, K)
        features = features.reshape(len(pictures), views, -1)  # (N, V, D)
        spread = features.std(axis=1, ddof=1) if views > 1 else np.zeros_like(features[:, 0])
        return self.task.mean(outputs.swapaxes(0, 1)), np.concatenate([features.mean(axis=1), spread], axis=1)


def _batches(shown: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """(S, S, 3) after (S, S, 3) -> `count` of them in one array, the last one shorter."""
    while waiting := list(itertools.islice(shown, count)):
        yield np.stack(waiting)
