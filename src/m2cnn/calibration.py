"""What a grade's probabilities mean, and where to refer: fitted on validation patients, frozen in the bundle.

- Probabilities are those of the network at a temperature, with a bias for each grade: p' ~ p^(1 / T) exp(b). The bias
  undoes what resampling taught of how frequent the grades are. Bias-corrected temperature scaling: Guo et al., ICML
  2017 (the temperature); Alexandari et al., ICML 2020 (the bias).
- A system without probabilities has the chance of referable disease by isotonic regression on its severity.
- Operating points are severities from which a photograph is referred: the one of high sensitivity is the highest whose
  sensitivity reaches its target on validation patients, the one of high specificity the lowest whose specificity does.

The grade itself stays as its task decodes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.optimize import isotonic_regression

from m2cnn.bootstrap import bootstrap, number, share_interval, shown, sum_by_patient
from m2cnn.checks import check_keys
from m2cnn.errors import DataError, SettingError, did_you_mean
from m2cnn.grades import ENDPOINTS, NUM_GRADES
from m2cnn.metrics import Floats
from m2cnn.predictions import NO_GRADE, Predictions
from m2cnn.tasks import Decoded, softmax

REFERABLE = ENDPOINTS["referable"]
HIGH_SENSITIVITY, HIGH_SPECIFICITY = "high-sensitivity", "high-specificity"
LEAST = 10  # referable photographs, and others, without which no point can be chosen
COLDEST, HOTTEST = 0.05, 20.0  # temperatures
RIDGE = 1.0  # on the biases, as if each had been seen near 0 once: a grade that validation lacks has no infinite one


@dataclass(frozen=True)
class Point:
    """An operating point for referable disease. severity: refer from here on.  target: what it was chosen for.

    sensitivity, specificity: (value, low, high) on the patients that it was chosen on, so they flatter a little.
    """

    name: str
    severity: float
    target: float
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]

    @property
    def column(self) -> str:
        """Of a table, for what it says.

        >>> Point("high-sensitivity", 0.84, 0.95, (0.95, 0.9, 0.98), (0.5, 0.4, 0.6)).column
        'refer_high_sensitivity'
        """
        return f"refer_{self.name}".replace("-", "_")


@dataclass(frozen=True)
class Calibration:
    """temperature, bias: of systems with probabilities.  severities, chances: the steps of the isotonic regression of a
    system without; () where there are probabilities.  points: see Point; () where validation had too few patients.
    photographs, patients: that it was fitted on.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = (0.0,) * NUM_GRADES
    severities: tuple[float, ...] = ()
    chances: tuple[float, ...] = ()
    points: tuple[Point, ...] = ()
    photographs: int = 0
    patients: int = 0

    def __post_init__(self) -> None:
        if not COLDEST <= self.temperature <= HOTTEST:
            raise SettingError("calibration, temperature", f"{self.temperature}", f"{COLDEST:g}..{HOTTEST:g}")
        if len(self.bias) != NUM_GRADES or not np.isfinite(self.bias).all():
            raise SettingError("calibration, bias", f"{self.bias}", f"{NUM_GRADES} numbers")
        if len(self.severities) != len(self.chances) or np.any(np.diff(self.severities) <= 0):
            raise SettingError("calibration, severities", f"{self.severities}", "rising, one for each chance")

    def decoded(self, plain: Decoded) -> Decoded:
        """The same grades and severities with calibrated probabilities."""
        return replace(plain, probabilities=self.probabilities(plain.probabilities))

    def probabilities(self, plain: np.ndarray | None) -> np.ndarray | None:
        """(N, 5) -> (N, 5); None stays None."""
        return None if plain is None else softmax(_logs(plain) / self.temperature + np.array(self.bias))

    def chance(self, decoded: Decoded) -> np.ndarray | None:
        """(N,) probability of referable disease of what `decoded` gave; None where nobody fitted it."""
        if not self.photographs:
            return None
        if decoded.probabilities is not None:
            return decoded.probabilities[:, REFERABLE:].sum(axis=1)
        return np.interp(decoded.severity, self.severities, self.chances)

    def refer(self, severity: float) -> dict[str, bool]:
        """What each operating point says of a severity."""
        return {point.name: bool(severity >= point.severity) for point in self.points}

    def point(self, name: str) -> Point:
        """SettingError where there is none of that name."""
        for point in self.points:
            if point.name == name:
                return point
        known = [point.name for point in self.points]
        repair = did_you_mean(name, known) if known else "m2cnn calibrate chooses them."
        raise SettingError("operating point", f'"{name}"', "one of the model's", repair)

    def to_text(self) -> str:
        """What was fitted, in lines."""
        lines = [f"fitted on {self.photographs} photographs of {self.patients} patients"]
        if self.severities:
            lines.append(f"chance of referable disease: {len(self.severities)} isotonic steps on the severity")
        else:
            lines.append(f"temperature {self.temperature:.3f}, bias {' '.join(f'{b:+.2f}' for b in self.bias)}")
        for point in self.points:
            rates = " ".join(f"{key} {shown(*getattr(point, key))}" for key in ("sensitivity", "specificity"))
            lines.append(f"{point.name}: refer from severity {point.severity:.3f}; {rates}")
        if not self.points:
            lines.append(f"no operating point: it takes {LEAST} referable photographs and {LEAST} others")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no NaN: None for it."""
        rates = ("sensitivity", "specificity")
        points = [asdict(p) | {key: [number(v) for v in getattr(p, key)] for key in rates} for p in self.points]
        lists = {key: list(getattr(self, key)) for key in ("bias", "severities", "chances")}
        return asdict(self) | lists | {"points": points}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of to_dict; SettingError for an unknown key or a bad value."""
        check_keys("calibration", values, cls)
        points = []
        for point in values.get("points", ()):
            check_keys("calibration, points", point, Point)
            rates = {key: tuple(map(_number, point[key])) for key in ("sensitivity", "specificity")}
            points.append(Point(**point | rates))
        lists = {key: tuple(values[key]) for key in ("bias", "severities", "chances") if key in values}
        return cls(**values | lists | {"points": tuple(points)})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


NONE = Calibration()


# --- fitting ---


def calibrate(
    predictions: Predictions, sensitivity: float = 0.95, specificity: float = 0.95, replicates: int = 2000
) -> Calibration:
    """Fitted on the graded photographs of a table that was read without calibration.

    sensitivity, specificity: the targets of the two operating points.
    Raises SettingError for a target outside 0..1, DataError for fewer than two different grades.
    """
    for name, target in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 < target < 1:
            raise SettingError(f"calibrate, {name}", f"{target}", "between 0 and 1", "0.95 is usual.")
    p = predictions.select(predictions.gradable & (predictions.grade != NO_GRADE))
    if len(np.unique(p.grade)) < 2:
        raise DataError("calibrate", f"{len(np.unique(p.grade))} different grades", "two or more", "More patients.")
    severity = p.severity.astype(np.float64)
    fitted = {"photographs": len(p), "patients": len(np.unique(p.patient))}
    if np.isnan(p.probabilities).any():
        referable = p.grade >= REFERABLE
        if referable.all() or not referable.any():
            got = "referable photographs alone" if referable.all() else "no referable photograph"
            raise DataError("calibrate", got, "referable photographs and others", "More patients.")
        fitted["severities"], fitted["chances"] = _steps(severity, referable)
    else:
        fitted["temperature"], fitted["bias"] = fit_temperature(p.probabilities, p.grade)
    points = _points(severity, p.grade >= REFERABLE, p.patient, (sensitivity, specificity), replicates)
    return Calibration(points=points, **fitted)


def fit_temperature(probabilities: np.ndarray, grade: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Temperature and five biases, which sum to 0, of the least cross-entropy; (N, 5) and (N,) grades.

    Newton's method: the cross-entropy is convex in 1 / T and the biases.
    """
    logs, truth = _logs(probabilities), np.eye(NUM_GRADES)[grade]
    logs = logs - logs.mean(axis=1, keepdims=True)
    theta = np.array([1.0, *[0.0] * NUM_GRADES])  # 1 / T, then the biases
    for _ in range(100):
        step = _newton_step(theta, logs, truth)
        before = _cross_entropy(theta, logs, truth)
        scale = 1.0
        while scale > 1e-6 and _cross_entropy(_bounded(theta - scale * step), logs, truth) > before:
            scale /= 2
        moved = _bounded(theta - scale * step)
        done = np.abs(moved - theta).max() < 1e-9
        theta = moved
        if done:
            break
    bias = theta[1:] - theta[1:].mean()
    return float(1 / theta[0]), tuple(float(b) for b in bias)


def _bounded(theta: Floats) -> Floats:
    return np.array([np.clip(theta[0], 1 / HOTTEST, 1 / COLDEST), *theta[1:]])


def _cross_entropy(theta: Floats, logs: Floats, truth: Floats) -> float:
    chances = softmax(theta[0] * logs + theta[1:])
    return float(-np.log(np.maximum((chances * truth).sum(axis=1), 1e-300)).sum() + RIDGE / 2 * (theta[1:] ** 2).sum())


def _newton_step(theta: Floats, logs: Floats, truth: Floats) -> Floats:
    chances = softmax(theta[0] * logs + theta[1:])
    # d z / d theta, (N, 5, 6): the logits' own values, then one column for each bias.
    slopes = np.concatenate([logs[:, :, None], np.broadcast_to(np.eye(NUM_GRADES), (len(logs), 5, 5))], axis=2)
    gradient = np.einsum("nk,nkj->j", chances - truth, slopes)
    weighted = chances[:, :, None] * slopes
    mean = weighted.sum(axis=1)
    hessian = np.einsum("nki,nkj->ij", weighted, slopes) - mean.T @ mean
    ridge = RIDGE * np.array([0.0, *[1.0] * NUM_GRADES])
    gradient[1:] += RIDGE * theta[1:]
    return np.linalg.solve(hessian + np.diag(ridge + 1e-9), gradient)


def _steps(severity: Floats, referable: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Middles of the blocks of an isotonic regression, and their chances: between them a line."""
    # One place for each severity: photographs that are equally severe have one chance.
    ladder, place, count = np.unique(severity, return_inverse=True, return_counts=True)
    fitted = isotonic_regression(np.bincount(place, referable) / count, weights=count)
    middles = [np.average(ladder[low:high], weights=count[low:high]) for low, high in pairwise(fitted.blocks)]
    return tuple(map(float, middles)), tuple(float(fitted.x[low]) for low in fitted.blocks[:-1])


def _points(
    severity: Floats, referable: np.ndarray, patient: np.ndarray, targets: tuple[float, float], replicates: int
) -> tuple[Point, ...]:
    if min(referable.sum(), (~referable).sum()) < LEAST:
        return ()
    ladder = np.unique(severity)
    places = np.concatenate([[0.0], (ladder[1:] + ladder[:-1]) / 2])  # midway: no photograph stands on one
    caught = np.array([(severity[referable] >= place).mean() for place in places])
    spared = np.array([(severity[~referable] < place).mean() for place in places])
    sensitive = places[np.flatnonzero(caught >= targets[0])[-1]]
    enough = np.flatnonzero(spared >= targets[1])
    chosen = {HIGH_SENSITIVITY: (float(sensitive), targets[0])}
    if len(enough):
        chosen[HIGH_SPECIFICITY] = (float(places[enough[0]]), targets[1])
    return tuple(
        Point(name, place, target, *patient_rates(severity >= place, referable, patient, replicates))
        for name, (place, target) in chosen.items()
    )


def patient_rates(referred: np.ndarray, referable: np.ndarray, patient: np.ndarray, replicates: int) -> tuple[Any, Any]:
    """(value, low, high) of sensitivity and of specificity, over patients."""
    names, who = np.unique(patient, return_inverse=True)
    cells = np.stack([referable & referred, referable, ~referable & ~referred, ~referable], axis=1).astype(np.float64)
    sums = sum_by_patient(cells, who, len(names))

    def statistic(counts: Floats) -> Floats:
        caught, ill, spared, well = (counts @ sums).T
        with np.errstate(invalid="ignore"):
            return np.stack([caught / ill, spared / well], axis=1)

    values = statistic(np.ones((1, len(names))))[0]
    drawn = bootstrap(statistic, len(names), replicates, 0)
    patients = [int((sums[:, k] > 0).sum()) for k in (1, 3)]  # who has such photographs
    return tuple((float(values[k]), *share_interval(float(values[k]), drawn[:, k], patients[k])) for k in range(2))


def _logs(probabilities: np.ndarray) -> Floats:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12))
