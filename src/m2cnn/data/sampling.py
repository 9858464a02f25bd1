"""Which photographs a pass of training draws, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2cnn.grades import NUM_GRADES

KINDS = ("all", "random", "weighted", "decaying")


@dataclass(frozen=True)
class Sampling:
    """kind "all": every photograph once a pass.  kind "random": `rounds` rounds of `draws` random photographs.

    kind "weighted": as many photographs as there are, with replacement, class weights `final`.
    kind "decaying": so too, with class weights as team o_O's: w(t) = r^t * balanced + (1 - r^t) * final, where t is the
    pass of the stage, from 0.

    draws: 0 for as many as there are. A round takes no photograph twice; where it asks for more than there are, each
    comes equally often but for the rest. Min-pooling's pass is 3 rounds of 12,000 (known).
    """

    kind: str = "all"
    decay: float = 0.975
    final: tuple[float, ...] = (1.0, 2.0, 2.0, 2.0, 2.0)
    draws: int = 0
    rounds: int = 1

    def total(self, count: int) -> int:
        """How many photographs a pass shows, of a set of `count`."""
        return self.rounds * (self.draws or count) if self.kind == "random" else count

    def weights(self, grades: np.ndarray, epoch: int) -> np.ndarray:
        """(N,) grades -> (N,) probabilities of being drawn in that pass."""
        counts = np.bincount(grades, minlength=NUM_GRADES)
        balanced = len(grades) / np.maximum(counts, 1)
        fading = self.decay**epoch if self.kind == "decaying" else 0.0
        per_class = fading * balanced + (1 - fading) * np.asarray(self.final)
        weights = per_class[grades]
        return weights / weights.sum()


def pass_order(grades: np.ndarray, sampling: Sampling, seed: Sequence[int], epoch: int) -> np.ndarray:
    """The photographs of one pass, in order: (sampling.total(N),) row numbers."""
    rng = np.random.default_rng([*seed, epoch, 0])
    if sampling.kind in ("weighted", "decaying"):
        return rng.choice(len(grades), len(grades), p=sampling.weights(grades, epoch))
    if sampling.kind == "random":
        return np.concatenate([_round(len(grades), sampling.draws, rng) for _ in range(sampling.rounds)])
    return rng.permutation(len(grades))


def _round(count: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    draws = draws or count
    return np.concatenate([rng.permutation(count) for _ in range(-(-draws // count))])[:draws]
