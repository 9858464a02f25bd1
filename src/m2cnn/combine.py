"""The combiners: what joins members, their views and the two eyes of a patient into one answer for each eye.

    mean      the members' answers averaged, with a share of the other eye's where that is asked for
    forest    Min-pooling's (B. Graham, first in the Kaggle competition of 2015): a random forest over 24 numbers
    blend     o_O's (Antony and Brueggemann, second): a small network over the networks' own features of both eyes
    elastic   Reformed Gamblers' (Xu, Dunavent, Kainkaryam, third): two tiers of elastic nets over both eyes' scores

A combiner is settings, as plain checked values; fitted (m2cnn.combine_fit, which needs the extra "train") it is the
same settings with their cuts, and an ONNX file from "rows" (N, D) to "outputs" (N, K). Here is what the base install
needs to apply one: `combiner.task.read(session.run(None, {"rows": combiner.rows(eyes)})[0])`. Any system takes any
combiner.

The defaults are the published values (known: the teams' reports and code), and a slim setting differs by numbers alone.

Reconstruction: one rule for all where the other eye is missing or unreadable, see `Eyes.partner`; `mean`; and what the
classes below call so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from m2cnn.checks import is_number
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.eyes import Eyes
from m2cnn.grades import NUM_GRADES
from m2cnn.tasks import ROUNDING_CUTS, Classification, MultiTask, Regression, Task

INPUT, OUTPUT = "rows", "outputs"
PHOTOGRAPH_FEATURES = 7
ANSWERS = {"severity": Regression, "probabilities": Classification, "both": MultiTask}


@dataclass(frozen=True)
class Combiner:
    """Settings that every combiner shares.

    cuts: four increasing severities.  fit_cuts: whether fitting moves them to the best kappa (m2cnn.cuts).

    joins_eyes: whether it looks at the other eye.  uses_features, uses_photograph: what of `Eyes` it reads; reads: the
    same in words.
    splits: the photographs that it is fitted on, () where there is nothing to fit.
    """

    cuts: tuple[float, ...] = ROUNDING_CUTS
    fit_cuts: bool = False
    name: ClassVar[str]
    joins_eyes: ClassVar[bool] = True
    uses_features: ClassVar[bool] = False
    uses_photograph: ClassVar[bool] = False
    reads: ClassVar[str]

    def __post_init__(self) -> None:
        cuts = tuple(self.cuts) if isinstance(self.cuts, list | tuple) else ()
        rising = len(cuts) == NUM_GRADES - 1 and all(map(is_number, cuts)) and all(np.diff(cuts) > 0)
        self._check(rising, "cuts", "four increasing numbers")
        object.__setattr__(self, "cuts", tuple(map(float, cuts)))
        self._check(isinstance(self.fit_cuts, bool), "fit_cuts", "true or false")

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train",)

    @property
    def task(self) -> Task:
        """What reads the outputs of the fitted combiner; the cuts live there."""
        return Regression(cuts=self.cuts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `combiner_from_dict` reads them back."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"name": self.name} | plain

    def rows(self, eyes: Eyes, chosen: np.ndarray | None = None) -> np.ndarray:
        """What the fitted combiner reads, (N, D) float32. chosen: (n,) rows of `eyes`, default all of them.

        Raises DataError as `check` does.
        """
        self.check(eyes)
        return self._rows(eyes, np.arange(len(eyes)) if chosen is None else chosen).astype(np.float32)

    def check(self, eyes: Eyes) -> None:
        """Raise DataError where something that this combiner reads was not computed."""
        place = f"combiner {self.name}"
        if self.uses_features and len(eyes.features) != len(eyes.decoded):
            got = f"features of {len(eyes.features)} of {len(eyes.decoded)} members"
            raise DataError(place, got, "those of every member", "Compute the networks' features.")
        if self.uses_photograph and np.shape(eyes.photograph) != (len(eyes), PHOTOGRAPH_FEATURES):
            got = f"photograph features of shape {np.shape(eyes.photograph)}"
            raise DataError(place, got, f"({len(eyes)}, {PHOTOGRAPH_FEATURES})", "Compute m2cnn.photograph_features.")

    def _rows(self, eyes: Eyes, chosen: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _check(self, fine: bool, setting: str, expected: str) -> None:
        if not fine:
            raise SettingError(f"combiner {self.name}, {setting}", repr(getattr(self, setting)), expected)

    def _check_count(self, setting: str, least: int = 1) -> None:
        value = getattr(self, setting)
        fine = isinstance(value, int) and not isinstance(value, bool) and value >= least
        self._check(fine, setting, f"a whole number, {least} or more")

    def _check_share(self, setting: str) -> None:
        value = getattr(self, setting)
        self._check(is_number(value) and 0 < value <= 1, setting, "a number above 0, at most 1")

    def _check_amount(self, setting: str) -> None:
        value = getattr(self, setting)
        self._check(is_number(value) and value >= 0, setting, "a number, 0 or more")


@dataclass(frozen=True)
class Mean(Combiner):
    """The members' answers averaged: an ensemble of seeds, or one member with both eyes. Our own.

    other: weight of the patient's other eye in the answer, up to 0.5; 0 looks at this eye alone.
    answer: "severity" (mean severity, cut), "probabilities" (mean probabilities, the likeliest grade) or "both" (mean
    probabilities beside the mean severity, which is cut). The latter two are refused for members without probabilities.
    """

    answer: str = "severity"
    other: float = 0.0
    name: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer not in ANSWERS:
            repair = did_you_mean(str(self.answer), ANSWERS)
            raise SettingError("combiner mean, answer", f'"{self.answer}"', f"one of {', '.join(ANSWERS)}", repair)
        self._check(is_number(self.other) and 0 <= self.other <= 0.5, "other", "a share, 0 to 0.5")
        object.__setattr__(self, "other", float(self.other))
        self._check(not self.fit_cuts or self.answer != "probabilities", "fit_cuts", "false: the likeliest has no cuts")

    @property
    def joins_eyes(self) -> bool:
        return self.other > 0

    @property
    def reads(self) -> str:
        share = f", with a share of {self.other:g} of that for the other eye" if self.other else " alone"
        return f"every member's answer for this eye{share}"

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val",) if self.fit_cuts else ()

    @property
    def task(self) -> Task:
        return ANSWERS[self.answer](cuts=self.cuts)

    def _rows(self, eyes: Eyes, chosen: np.ndarray) -> np.ndarray:
        parts = []  # per member: (N, 5) probabilities, (N, 1) severity
        for decoded in eyes.decoded:
            if self.answer != "severity" and decoded.probabilities is None:
                repair = 'Use answer = "severity".'
                raise DataError("combiner mean", "a member without probabilities", "probabilities of all", repair)
            parts += [] if self.answer == "severity" else [decoded.probabilities]
            parts += [] if self.answer == "probabilities" else [np.asarray(decoded.severity)[:, None]]
        return self.mixed(np.concatenate(parts, axis=1), eyes)[chosen]

    def mixed(self, said: np.ndarray, eyes: Eyes) -> np.ndarray:
        """What is said of this eye with its share of what is said of the other, (N, ...) -> the same."""
        return (1 - self.other) * said + self.other * said[eyes.partner()]


@dataclass(frozen=True)
class Forest(Combiner):
    """Min-pooling's random forest over 24 numbers: 12 of this eye, then 12 of the other.

    The 12: the sum over the members of the five probabilities, and the seven of `m2cnn.photograph_features`.
    Its answer is the expected grade of the forest's probabilities, cut at fixed cuts.

    Known: all of that, 1,000 trees, the forest's other settings left at scikit-learn's defaults, the cuts, and that it
    is fitted on the training photographs, although the networks have seen them: the author calls it risky.
    How the cuts were found is not shown. Reconstruction: `fit_cuts` finds them on out-of-bag answers, because the
    forest knows its own rows by heart; members without probabilities, see Eyes.probabilities.

    trees, leaf: of the forest; leaf is the fewest rows of a leaf (larger: a smaller file).
    radius: of the field of view, in px, in the picture that the seven numbers describe; 1000 as published. Smaller for
    photographs that were prepared smaller.
    """

    cuts: tuple[float, ...] = (0.56923337, 1.3709647, 2.30468216, 3.11985482)
    trees: int = 1000
    leaf: int = 1
    radius: int = 1000
    name: ClassVar[str] = "forest"
    reads: ClassVar[str] = "the members' probabilities, summed, and seven numbers of the photograph, of both eyes"
    uses_photograph: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("trees")
        self._check_count("leaf")
        self._check_count("radius", 8)
        self._check(self.radius <= 2048, "radius", "at most 2048 px")

    @property
    def task(self) -> Task:
        return Classification(rule="expectation", cuts=self.cuts)

    def _rows(self, eyes: Eyes, chosen: np.ndarray) -> np.ndarray:
        mine = np.concatenate([eyes.probabilities().sum(axis=0), eyes.photograph], axis=1)  # (N, 12)
        return np.concatenate([mine[chosen], mine[eyes.partner()[chosen]]], axis=1)  # (n, 24)


@dataclass(frozen=True)
class Blend(Combiner):
    """o_O's blend: per member a small network over its features of both eyes; their mean is the severity.

    A member's input is [this eye's mean and deviation over the views, the other eye's, 1 for a right eye]: 4 D + 1
    numbers, 8193 for the published networks. dense 32 ReLU, maxout to 16, dense 32 ReLU, maxout to 16, dense 1.

    Known: that, the standardised features, and every default below; fitted on the training photographs. In the code a
    batch is class-balanced with probability 0.2, drawn uniformly with 0.3, else the next in order (the report: 0.5).
    Reconstruction: what "per patient" means for a batch (whole patients, drawn or in order together, the order drawn
    anew in each pass; the balance is that of the photograph for which the patient is drawn); biases carry no penalty.

    units: of the dense layers before maxout halves them, even.  epochs: passes.  rate, drops: Adam's, a tenth from each
    of these passes on.  batch: photographs.  balanced, uniform: probabilities.  l1: on the absolute weights of the
    first layer.  l2: on the squares of all weights.
    """

    units: int = 32
    epochs: int = 100
    rate: float = 5e-4
    drops: tuple[int, ...] = (60, 80, 90)
    batch: int = 128
    balanced: float = 0.2
    uniform: float = 0.3
    l1: float = 2e-5
    l2: float = 0.005
    name: ClassVar[str] = "blend"
    reads: ClassVar[str] = "every member's features, mean and deviation over its views, of both eyes, and the side"
    uses_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("units", "epochs", "batch"):
            self._check_count(setting)
        self._check(self.units % 2 == 0, "units", "an even number: maxout takes pairs")
        self._check_share("rate")
        drops = tuple(self.drops) if isinstance(self.drops, list | tuple) else (0,)
        whole = all(isinstance(drop, int) and not isinstance(drop, bool) and drop >= 1 for drop in drops)
        self._check(whole and all(np.diff(drops) > 0), "drops", "increasing numbers of passes")
        object.__setattr__(self, "drops", drops)
        for setting in ("balanced", "uniform", "l1", "l2"):
            self._check_amount(setting)
        self._check(self.balanced + self.uniform <= 1, "balanced", "at most 1 together with uniform")

    def _rows(self, eyes: Eyes, chosen: np.ndarray) -> np.ndarray:
        # Of all of EyePACS they would be 1.2 GB for each member: whoever has many photographs chooses some at a time.
        partner, side = eyes.partner()[chosen], eyes.side[chosen]
        return np.concatenate([blend_rows(f[chosen], f[partner], side) for f in eyes.features], axis=1)


def blend_rows(mine: np.ndarray, others: np.ndarray, side: np.ndarray) -> np.ndarray:
    """One member's input of `Blend`: (N, 2 D) of this eye and of the other, (N,) -> (N, 4 D + 1)."""
    return np.concatenate([mine, others, side[:, None].astype(mine.dtype)], axis=1)


@dataclass(frozen=True)
class Elastic(Combiner):
    """Reformed Gamblers' two tiers of elastic nets.

    Tier 1, per member: an elastic net on this eye's score, the other's, the side, the larger and the smaller of both
    and all pairwise products (15 numbers; target: grade + 1, scores on that scale too), then four cuts of the best
    kappa: a hard grade. Tier 2: an elastic net on the one-hot hard grades of all members; target: grade; four more
    cuts.

    Known: that, and every default below (glmnet's names: alpha is l1_ratio); fitted on the validation photographs.
    The original's ScanKappa searches cuts coarsely on a sample, then locally; m2cnn.cuts finds the global optimum.
    The cuts of both tiers are found on the very patients that the nets were fitted on: a kappa there is optimistic.
    Reconstruction: folds by patient (the original's are glmnet's, by photograph), the penalty of the smallest error
    (not one standard error above it).

    folds: of the cross-validation, fewer where there are fewer patients.  lambdas, eps: how many penalties are tried,
    and the smallest as a share of the largest.
    """

    cuts: tuple[float, ...] = (0.7, 1.3487674, 1.8685806, 2.5627728)
    fit_cuts: bool = True
    l1_ratio: float = 0.5
    final_l1_ratio: float = 0.01
    folds: int = 30
    lambdas: int = 300
    eps: float = 0.001
    name: ClassVar[str] = "elastic"
    reads: ClassVar[str] = "every member's severity for both eyes, and the side"

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("l1_ratio", "final_l1_ratio", "eps"):
            self._check_share(setting)
        self._check_count("folds", 2)
        self._check_count("lambdas", 2)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("val",)

    def _rows(self, eyes: Eyes, chosen: np.ndarray) -> np.ndarray:
        partner, side, scores = eyes.partner()[chosen], eyes.side[chosen], eyes.severities() + 1
        return np.concatenate([elastic_rows(s[chosen], s[partner], side) for s in scores], axis=1)


def elastic_rows(mine: np.ndarray, others: np.ndarray, side: np.ndarray) -> np.ndarray:
    """One member's input of `Elastic`: (N,) scores of this eye and of the other, (N,) -> (N, 15).

    >>> elastic_rows(np.array([3.0]), np.array([2.0]), np.array([1.0])).astype(int).tolist()
    [[3, 2, 1, 3, 2, 6, 3, 9, 6, 2, 6, 4, 3, 2, 6]]
    """
    plain = np.stack([mine, others, side, np.maximum(mine, others), np.minimum(mine, others)])  # (5, N)
    products = np.stack([plain[i] * plain[j] for i, j in combinations(range(5), 2)])  # (10, N)
    return np.concatenate([plain, products]).T


COMBINERS = {combiner.name: combiner for combiner in (Mean, Forest, Blend, Elastic)}


def combiner_from_dict(settings: dict[str, Any]) -> Combiner:
    """The combiner that `to_dict` wrote, or that a recipe names. Raises SettingError for an unknown name or setting."""
    settings = dict(settings)
    name = settings.pop("name", "")
    if name not in COMBINERS:
        raise SettingError(
            "combiner", f'name is "{name}"', "the name of a combiner", did_you_mean(str(name), COMBINERS)
        )
    known = [each.name for each in fields(COMBINERS[name])]
    for key in settings:
        if key not in known:
            repair = did_you_mean(key, known)
            raise SettingError(f"combiner {name}", f'unknown setting "{key}"', "a setting of that combiner", repair)
    return COMBINERS[name](**settings)
