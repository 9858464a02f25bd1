"""What a network is asked: how many outputs it has, its loss, and how outputs become a grade.

The multi-task loss is the poster's L = L1 + L2 (Zhou et al., 2018): softmax cross-entropy over the five grades plus the
squared error of one scalar on the grade. Decoding is NumPy, so that the base install grades without torch.

Two decodes, the poster's: `prob` reads the softmax, `scores` reads the scalar. The rule of `prob` (argmax or expected
grade) and the cuts of `scores` are reconstructions: the paper gives neither.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from m2cnn.errors import SettingError, did_you_mean
from m2cnn.grades import NUM_GRADES

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING_CUTS = (0.5, 1.5, 2.5, 3.5)
# Mean grade of the 35,126 training photographs of EyePACS (Kaggle 2015): where an untrained score starts.
MEAN_GRADE = 0.53


@dataclass(frozen=True)
class Decoded:
    """probabilities: (N, 5) rows that sum to 1, or None.  severity: (N,) in 0..4.  grade: (N,) in 0..4."""

    probabilities: np.ndarray | None
    severity: np.ndarray
    grade: np.ndarray


def cut(severity: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    """The number of cuts at or below each severity.

    >>> cut(np.array([0.49, 0.5, 3.2]), ROUNDING_CUTS).tolist()
    [0, 1, 3]
    """
    return np.searchsorted(np.asarray(cuts), severity, side="right")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row-wise softmax of (N, 5) logits, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Task:
    """Settings that every task shares.

    decode: "scores" (severity cut at `cuts`) or "prob" (softmax).
    rule: how `prob` becomes a grade: "argmax", or "expectation" (expected grade, cut at `cuts`).
    cuts: four increasing severities.
    """

    decode: str = "scores"
    rule: str = "argmax"
    cuts: tuple[float, ...] = ROUNDING_CUTS
    name: ClassVar[str]
    outputs: ClassVar[int]
    decodes: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        _choice(self.name, "decode", self.decode, self.decodes)
        _choice(self.name, "rule", self.rule, ("argmax", "expectation"))
        cuts = tuple(_number(self.name, "cuts", c) for c in self.cuts)
        if len(cuts) != NUM_GRADES - 1 or not np.all(np.diff(cuts) > 0):
            raise SettingError(
                f"task {self.name}, cuts", f"{cuts}", "four increasing numbers", "Default: 0.5 1.5 2.5 3.5."
            )
        object.__setattr__(self, "cuts", cuts)

    def to_dict(self) -> dict:
        return {"name": self.name} | asdict(self) | {"cuts": list(self.cuts)}

    def with_cuts(self, cuts: tuple[float, ...]) -> Task:
        return replace(self, cuts=tuple(cuts))

    def read(self, outputs: np.ndarray) -> Decoded:
        """(N, outputs) network outputs -> grade, probabilities, severity.

        Raises SettingError for another number of columns.
        """
        outputs = np.asarray(outputs)
        if outputs.ndim != 2 or outputs.shape[1] != self.outputs:
            raise SettingError(f"task {self.name}", f"outputs of shape {outputs.shape}", f"(N, {self.outputs})")
        probabilities, severity = self._parts(outputs)
        if self.decode == "prob" and self.rule == "argmax":
            return Decoded(probabilities, severity, probabilities.argmax(axis=1))
        return Decoded(probabilities, severity, cut(severity, self.cuts))

    def mean(self, outputs: np.ndarray) -> np.ndarray:
        """(V, N, outputs) of V views or networks -> (N, outputs) that read as their mean: probabilities, and score.

        One view stays as it is.
        """
        outputs = np.asarray(outputs)
        return outputs[0] if len(outputs) == 1 else self._mean(outputs.astype(np.float64)).astype(np.float32)

    @property
    def uses_cuts(self) -> bool:
        """Whether the grade depends on `cuts`, so that fitting them means something."""
        return self.decode == "scores" or self.rule == "expectation"

    def initial_bias(self) -> list[float]:
        """The bias of the last layer before training: logits 0, score at the mean grade."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, grades: Tensor) -> Tensor:
        """(B, outputs) float, (B,) int 0..4 -> scalar, mean over the batch."""
        raise NotImplementedError

    def _parts(self, outputs: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        raise NotImplementedError

    def _mean(self, outputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _mean_logits(logits: np.ndarray) -> np.ndarray:
    """(V, N, 5) -> (N, 5) logits whose softmax is the mean of the V softmaxes."""
    mean = np.mean([softmax(each) for each in logits], axis=0)
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny))


def _expected(probabilities: np.ndarray) -> np.ndarray:
    return probabilities @ np.arange(NUM_GRADES)


def _squared_error(score: Tensor, grades: Tensor, clipped: bool) -> Tensor:
    # Clipped: below 0 for grade 0, or above 4 for grade 4, is no error (Reformed Gamblers' double threshold).
    error = score - grades.to(score.dtype)
    if clipped:
        beyond = ((grades == 0) & (error < 0)) | ((grades == NUM_GRADES - 1) & (error > 0))
        error = error.masked_fill(beyond, 0.0)
    return error.square().mean()


@dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy over five grades (the poster's L1). Its severity is the expected grade."""

    decode: str = "prob"
    name: ClassVar[str] = "classification"
    outputs: ClassVar[int] = NUM_GRADES
    decodes: ClassVar[tuple[str, ...]] = ("prob",)

    def initial_bias(self) -> list[float]:
        return [0.0] * NUM_GRADES

    def loss(self, outputs: Tensor, grades: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, grades)

    def _parts(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = softmax(outputs)
        return probabilities, _expected(probabilities)

    def _mean(self, outputs: np.ndarray) -> np.ndarray:
        return _mean_logits(outputs)


@dataclass(frozen=True)
class Regression(Task):
    """Mean squared error of one scalar on the grade (the poster's L2); clipped: no error beyond the ends."""

    clipped: bool = False
    name: ClassVar[str] = "regression"
    outputs: ClassVar[int] = 1
    decodes: ClassVar[tuple[str, ...]] = ("scores",)

    def initial_bias(self) -> list[float]:
        return [MEAN_GRADE]

    def loss(self, outputs: Tensor, grades: Tensor) -> Tensor:
        return _squared_error(outputs[:, 0], grades, self.clipped)

    def _parts(self, outputs: np.ndarray) -> tuple[None, np.ndarray]:
        return None, np.clip(outputs[:, 0].astype(np.float64), 0, NUM_GRADES - 1)

    def _mean(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.mean(axis=0)


@dataclass(frozen=True)
class MultiTask(Task):
    """L = L1 + weight * L2 (the poster: weight 1). Outputs: five logits, then the score.

    With decode "prob" the severity is the expected grade, with "scores" the clipped score.
    """

    weight: float = 1.0
    clipped: bool = False
    name: ClassVar[str] = "multitask"
    outputs: ClassVar[int] = NUM_GRADES + 1
    decodes: ClassVar[tuple[str, ...]] = ("scores", "prob")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _number(self.name, "weight", self.weight) >= 0:
            raise SettingError("task multitask, weight", f"{self.weight}", "a number >= 0", "The poster's is 1.")

    def initial_bias(self) -> list[float]:
        return [0.0] * NUM_GRADES + [MEAN_GRADE]

    def loss(self, outputs: Tensor, grades: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        squared = _squared_error(outputs[:, NUM_GRADES], grades, self.clipped)
        return cross_entropy(outputs[:, :NUM_GRADES], grades) + self.weight * squared

    def _parts(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = softmax(outputs[:, :NUM_GRADES])
        if self.decode == "prob":
            return probabilities, _expected(probabilities)
        return probabilities, np.clip(outputs[:, NUM_GRADES].astype(np.float64), 0, NUM_GRADES - 1)

    def _mean(self, outputs: np.ndarray) -> np.ndarray:
        logits = _mean_logits(outputs[:, :, :NUM_GRADES])
        return np.column_stack([logits, outputs[:, :, NUM_GRADES].mean(axis=0)])


TASKS = {task.name: task for task in (Classification, Regression, MultiTask)}


def task_from_dict(settings: dict) -> Task:
    """The task that `Task.to_dict` wrote, or that a recipe's [task] table names.

    Raises SettingError for an unknown name or setting.
    """
    settings = dict(settings)
    name = settings.pop("name", "")
    if name not in TASKS:
        raise SettingError("task", f'name is "{name}"', "the name of a task", did_you_mean(name, TASKS))
    known = [f.name for f in fields(TASKS[name])]
    for key in settings:
        if key not in known:
            raise SettingError(
                f"task {name}", f'unknown setting "{key}"', "a setting of that task", did_you_mean(key, known)
            )
    return TASKS[name](**settings)


def _number(task: str, setting: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"task {task}, {setting}", repr(value), "a number")
    return float(value)


def _choice(task: str, setting: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(
            f"task {task}, {setting}", f'"{value}"', f"one of {', '.join(choices)}", did_you_mean(value, choices)
        )
