"""Which photographs a pass of training draws, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2cnn.grades import NUM_GRADES


@dataclass(frozen=True)
class Sampling:
    """kind "all": every photograph once a pass.  kind "decaying": with replacement, class weights as team o_O's

    w(t) = r^t * balanced + (1 - r^t) * final, where t is the pass, counted from 0.
    """

    kind: str = "all"
    decay: float = 0.975
    final: tuple[float, ...] = (1.0, 2.0, 2.0, 2.0, 2.0)

    def weights(self, grades: np.ndarray, epoch: int) -> np.ndarray:
        """(N,) grades -> (N,) probabilities of being drawn in that pass."""
        counts = np.bincount(grades, minlength=NUM_GRADES)
        balanced = len(grades) / np.maximum(counts, 1)
        fading = self.decay**epoch
        per_class = fading * balanced + (1 - fading) * np.asarray(self.final)
        weights = per_class[grades]
        return weights / weights.sum()


def pass_order(grades: np.ndarray, sampling: Sampling, seed: Sequence[int], epoch: int) -> np.ndarray:
    """The photographs of one pass, in order: (N,) row numbers."""
    rng = np.random.default_rng([*seed, epoch, 0])
    if sampling.kind == "decaying":
        return rng.choice(len(grades), len(grades), p=sampling.weights(grades, epoch))
    return rng.permutation(len(grades))
