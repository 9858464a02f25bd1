"""What a member says of prepared pictures: it is shown its views of each, and their answers are averaged. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from m2cnn.data.augment import View
from m2cnn.data.views import Views, show
from m2cnn.tasks import Task

# (N, S, S, 3) uint8 pictures -> outputs (N, K) and features (N, D), float32.
Answers = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
AT_ONCE = 16  # pictures that a network is given at once
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
        shown = (show(picture, self.drawn, self.size, self.border) for picture in pictures)
        parts = [self.answers(batch) for batch in _batches(shown, max(1, AT_ONCE // views))]
        outputs, features = (np.concatenate(each) for each in zip(*parts, strict=True))
        outputs = outputs.reshape(len(pictures), views, -1)  # (N, V, K)
        features = features.reshape(len(pictures), views, -1)  # (N, V, D)
        spread = features.std(axis=1, ddof=1) if views > 1 else np.zeros_like(features[:, 0])
        return self.task.mean(outputs.swapaxes(0, 1)), np.concatenate([features.mean(axis=1), spread], axis=1)


def _batches(shown: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """(V, S, S, 3) after (V, S, S, 3) -> `count` of them in one array, the last one shorter."""
    waiting: list[np.ndarray] = []
    for each in shown:
        waiting.append(each)
        if len(waiting) == count:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
