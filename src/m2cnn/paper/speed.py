"""How much a run takes until its validation kappa is where another run's was: time, and multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MARGIN = 0.01  # of kappa, below the other run's best


@dataclass(frozen=True)
class Reach:
    """What a run took to a target. Where it never got there (`reached` is False): all that it took, a lower bound.

    passes: of all stages together.  stage: where it got there.  seconds: validation included.
    multiply_adds: forward.  best: its own best validation kappa, NaN where it has none.
    """

    reached: bool
    stage: int
    passes: int
    seconds: float
    multiply_adds: float
    best: float


def best_kappa(history: Sequence[dict[str, Any]]) -> float:
    """The best validation kappa of a run, whatever the stage; NaN where every pass said one grade for all."""
    defined = [row["val_kappa"] for row in history if not np.isnan(row["val_kappa"])]
    return max(defined, default=float("nan"))


def reach(history: Sequence[dict[str, Any]], work: Sequence[float], target: float) -> Reach:
    """The first pass, of any stage, with a validation kappa of `target` or more.

    history: rows of metrics.csv in order.  work: multiply-adds of a whole pass, by stage.
    """
    seconds, done, best = 0.0, 0.0, best_kappa(history)
    for number, row in enumerate(history, 1):
        seconds, done = seconds + row["seconds"], done + work[row["stage"]]
        if row["val_kappa"] >= target:  # False for NaN
            return Reach(True, row["stage"], number, seconds, done, best)
    return Reach(False, history[-1]["stage"], len(history), seconds, done, best)
