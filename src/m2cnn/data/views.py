"""The views of a photograph that a grade is the mean of: a fixed list, the same for every photograph.

Known: Min-pooling averages 12 / 12 / 6 random views, Reformed Gamblers up to 64, o_O takes mean and standard deviation
over 50 points of a Halton sequence. Reconstruction: the seeds of the random ones; which base of the Halton sequence
serves which draw (here: primes in the order of DRAWS, for the draws that change anything); that its first point, zeros
alone, is left out (a normal number has no quantile there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from m2cnn.checks import check_keys
from m2cnn.data.augment import DRAWS, Augment, View, apply, view_of
from m2cnn.errors import SettingError, did_you_mean

KINDS = ("one", "random", "halton")
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67)


@dataclass(frozen=True)
class Views:
    """kind: "one" is the centre, nothing changed; "random" and "halton" are `count` views drawn from `augment`.

    count: 1..1000.  start: seed of the random views, or how many points of the Halton sequence are passed over.

    Raises SettingError for a value that means nothing.
    """

    kind: str = "one"
    count: int = 1
    start: int = 0
    augment: Augment = Augment()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingError("views.kind", repr(self.kind), "a known kind", did_you_mean(str(self.kind), KINDS))
        _check_whole("count", self.count, 1, 1 if self.kind == "one" else 1000)
        _check_whole("start", self.start, 0, 2**31)
        if not isinstance(self.augment, Augment):
            raise SettingError("views.augment", repr(self.augment), "an Augment")

    def drawn(self, size: int, frame: int | None = None) -> list[View]:
        """The views of `size` px of a (frame, frame) picture (default: size)."""
        return [view_of(self.augment, numbers, size, frame) for numbers in self._numbers()]

    def _numbers(self) -> np.ndarray:
        """(count, draws) in [0, 1)."""
        if self.kind == "random":
            # A generator for each view: neither more views nor draws that a later version adds change one.
            return np.array([np.random.default_rng((self.start, n)).random(len(DRAWS)) for n in range(self.count)])
        numbers = np.full((self.count, len(DRAWS)), 0.5)
        if self.kind == "halton":
            varied = [DRAWS.index(name) for name in self.augment.varied]
            numbers[:, varied] = halton(len(varied), self.count, self.start + 1)
        return numbers

    def to_dict(self) -> dict[str, Any]:
        """Plain values for system.json."""
        return {"kind": self.kind, "count": self.count, "start": self.start, "augment": self.augment.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of to_dict; SettingError for an unknown key or a bad value."""
        check_keys("views", values, cls)
        augment = Augment.from_dict(values["augment"]) if "augment" in values else Augment()
        return cls(**{**values, "augment": augment})


def show(picture: np.ndarray, views: Sequence[View], size: int, border: int = 0) -> np.ndarray:
    """(F, F, 3) uint8 -> (V, size, size, 3) uint8; outside the picture is `border`."""
    return np.stack([apply(view, picture, border, size) for view in views])


def halton(dimensions: int, count: int, start: int = 0) -> np.ndarray:
    """Points `start`, `start` + 1 ... of the Halton sequence, (count, dimensions) in [0, 1).

    >>> halton(2, 3, start=1).round(3).tolist()
    [[0.5, 0.333], [0.25, 0.667], [0.75, 0.111]]
    """
    places = np.arange(start, start + count)
    return np.array([_mirrored_digits(places, base) for base in PRIMES[:dimensions]]).reshape(dimensions, count).T


def _mirrored_digits(numbers: np.ndarray, base: int) -> np.ndarray:
    """Each number's digits in `base`, written backwards behind the point."""
    result, share = np.zeros(len(numbers)), 1 / base
    while numbers.any():
        result += numbers % base * share
        numbers, share = numbers // base, share / base
    return result


def _check_whole(key: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingError(f"views.{key}", repr(value), f"a whole number in {low}..{high}")
