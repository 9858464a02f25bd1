"""What a map explains: the grade that was given, or the severity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES
from m2cnn.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

GRADE, SEVERITY = "grade", "severity"
TARGETS = (GRADE, SEVERITY)


@dataclass(frozen=True)
class Target:
    """kind: GRADE, the logit of `grade` in 0..4; SEVERITY, the score, or the expected grade, as the task reads it."""

    kind: str
    task: Task
    grade: int = 0

    @property
    def name(self) -> str:
        return f"{GRADE} {self.grade}" if self.kind == GRADE else SEVERITY

    def of(self, outputs: Tensor) -> Tensor:
        """(N, K) outputs -> (N,), with a gradient everywhere: neither rounded nor cut off at the ends of the scale."""
        if self.kind == GRADE:
            return outputs[:, self.grade]
        if self.task.decode == "scores":
            return outputs[:, -1]
        probabilities = outputs[:, :NUM_GRADES].softmax(dim=1)
        return probabilities @ probabilities.new_tensor(range(NUM_GRADES))

    def height(self, outputs: np.ndarray) -> np.ndarray:
        """(N, K) outputs -> (N,) in 0..1: the probability of the grade, or severity / 4."""
        decoded = self.task.read(outputs)
        if self.kind == GRADE:
            return decoded.probabilities[:, self.grade]
        return decoded.severity / (NUM_GRADES - 1)


def targets_of(task: Task, kinds: Sequence[str], grade: int) -> list[Target]:
    """The targets that a network of this task has. Of a score alone the grade is a cut of the severity: no own map.

    Raises SettingError where none is left.
    """
    found = [Target(kind, task, grade) for kind in kinds if kind == SEVERITY or task.outputs >= NUM_GRADES]
    if not found:
        got = f'"{GRADE}" of a model that gives a severity alone'
        raise SettingError("--targets", got, SEVERITY, "Its grade is the severity, cut.")
    return found


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Raises SettingError for an unknown one, or none."""
    for kind in kinds or [""]:
        if kind not in TARGETS:
            raise SettingError("--targets", f'"{kind}"', "grade, severity or both", did_you_mean(kind, TARGETS))
    return tuple(dict.fromkeys(kinds))
