"""Fitting a combiner: scikit-learn and torch, ending in one ONNX file and no pickle.

Every random number comes from the seed. `combiner.splits` says on which photographs each is fitted; the caller passes
those and no others, never test patients.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m2cnn.combine import INPUT, OUTPUT, Blend, Combiner, Elastic, Forest, Mean
from m2cnn.cuts import fit_cuts
from m2cnn.errors import BundleError, DataError, SettingError, require
from m2cnn.eyes import Eyes
from m2cnn.grades import NUM_GRADES
from m2cnn.metrics import check_finite, check_grades, check_lengths, quadratic_weighted_kappa
from m2cnn.onnx_export import export_module
from m2cnn.onnx_session import open_session
from m2cnn.tasks import cut

# Added to probabilities before the logarithm; a softmax gives them back to 5e-7.
TINY = 1e-7
LEAST_PATIENTS = 2
TOLERANCE, CHECKED = 1e-4, 512  # largest difference of the ONNX file, on how many rows
TIER_1_CUTS = (1.5, 2.5, 3.5, 4.5)  # of grade + 1
MAX_ITERATIONS = 10_000
MAX_NODES = 20_000_000  # of a forest: 63 bytes each, and a file of ONNX ends at 2 GB


@dataclass(frozen=True)
class Fitted:
    """A fitted combiner.

    combiner: its settings, with its cuts.  onnx: a model from "rows" (N, D) float32 to "outputs" (N, K) float32.
    facts: plain values on the fit. `kappa` is that of the photographs it was fitted on, and says so in `kappa_on`.
    """

    combiner: Combiner
    onnx: bytes
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Model:
    """severity: (N,) on the photographs of the fit, for the cuts, NaN where there is none.  on: what that is."""

    onnx: bytes
    severity: np.ndarray
    on: str
    facts: dict[str, Any]


def fit(combiner: Combiner, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> Fitted:
    """Fit a combiner on photographs of `combiner.splits`.

    grades: (N,) 0..4.  patients: (N,) names.  A combiner with nothing to fit (no splits) takes any, also none.

    Raises DataError for what is no basis: lengths that differ, numbers that are not finite, features that were not
    computed, one grade or one patient only, an other eye of another patient; SettingError for a rate at which blend
    diverges and for a forest too large for ONNX; BundleError where ONNX Runtime disagrees.
    """
    if not combiner.splits:
        return Fitted(combiner, _fit_mean(combiner, eyes).onnx, {})
    grades, patients = _checked(combiner, eyes, grades, patients)
    model = FITS[type(combiner)](combiner, eyes, grades, patients, seed)
    known = np.isfinite(model.severity)
    severity, truth = model.severity[known], grades[known]
    if combiner.fit_cuts:
        combiner = replace(combiner, cuts=tuple(fit_cuts(severity, truth, combiner.cuts).tolist()))
    kappa = quadratic_weighted_kappa(truth, cut(severity, combiner.cuts))
    facts = {"photographs": len(grades), "patients": len(np.unique(patients)), "kappa": kappa, "kappa_on": model.on}
    return Fitted(combiner, model.onnx, facts | model.facts)


def _checked(combiner: Combiner, eyes: Eyes, grades: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place, patients = f"combiner {combiner.name}", np.asarray(patients).astype(str)
    grades = check_grades(grades, f"{place}, grades")
    check_lengths(grades, eyes.other, f"{place}, grades and eyes")
    check_lengths(patients, eyes.other, f"{place}, patients and eyes")
    if len(np.unique(grades)) < 2:
        raise DataError(place, f"{len(np.unique(grades))} different grades", "at least 2", "Use more patients.")
    if len(np.unique(patients)) < LEAST_PATIENTS:
        raise DataError(place, "one patient", f"at least {LEAST_PATIENTS}", "Use more patients.")
    if (patients[eyes.partner()] != patients).any():
        raise DataError(place, "an other eye of another patient", "of the same patient", "Check Eyes.other.")
    combiner.check(eyes)
    for values in eyes.features if combiner.uses_features else (combiner.rows(eyes),):
        check_finite(np.ravel(values), f"{place}, what the members say")
    return grades, patients


# --- torch modules to ONNX -------------------------------------------------------------------------------------------


def _exported(module: nn.Module, rows: np.ndarray) -> bytes:
    """The module as ONNX, checked against itself on these rows."""
    example = torch.from_numpy(rows[:2] if len(rows) > 1 else np.zeros((2, rows.shape[1]), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "combiner.onnx"
        export_module(module.eval(), example, path, INPUT, [OUTPUT])
        onnx = path.read_bytes()
    _check_agreement(onnx, rows, _run(module))
    return onnx


def _run(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def run(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(rows)).numpy()

    return run


def _check_agreement(onnx: bytes, rows: np.ndarray, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    session = open_session(onnx)
    rows = rows[:CHECKED]
    if not len(rows):
        return
    ours = expected(rows)
    worst = np.abs(session.run([OUTPUT], {INPUT: rows})[0] - ours).max(axis=1) / max(1, np.abs(ours).max())
    # A score within rounding of a cut may fall to either side: one row in a hundred is forgiven.
    if not np.quantile(worst, 0.99) <= TOLERANCE:
        raise BundleError("combiner", f"ONNX differs by {worst.max():.2g}", f"at most {TOLERANCE}", "Please report it.")


# --- mean ------------------------------------------------------------------------------------------------------------


class Averages(nn.Module):
    """(B, M * width) -> (B, width): the members' mean; `probabilities`: the first five become logits."""

    def __init__(self, members: int, probabilities: bool):
        super().__init__()
        self.members, self.probabilities = members, probabilities

    def forward(self, rows: Tensor) -> Tensor:
        mean = rows.unflatten(1, (self.members, -1)).mean(dim=1)
        if not self.probabilities:
            return mean
        return torch.cat([(mean[:, :NUM_GRADES] + TINY).log(), mean[:, NUM_GRADES:]], dim=1)


def _fit_mean(combiner: Mean, eyes: Eyes, *_: object) -> _Model:
    rows = combiner.rows(eyes)
    onnx = _exported(Averages(len(eyes.decoded), combiner.answer != "severity"), rows)
    return _Model(onnx, combiner.mixed(eyes.severities().mean(axis=0), eyes), "the validation photographs", {})


# --- forest ----------------------------------------------------------------------------------------------------------


def _fit_forest(combiner: Forest, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> _Model:
    ensemble = require("sklearn.ensemble", "train")
    # float32 before fitting: a threshold lies between two values that ONNX Runtime can tell apart.
    rows = combiner.rows(eyes)
    forest = ensemble.RandomForestClassifier(
        combiner.trees,
        min_samples_leaf=combiner.leaf,
        oob_score=True,
        random_state=int(np.random.default_rng(seed).integers(2**32)),
        n_jobs=-1,  # changes the time, not the forest
    )
    with warnings.catch_warnings():
        # In a forest of few trees some rows were in every bag; they are left out below.
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores", UserWarning)
        forest.fit(rows, grades)
    onnx = _forest_onnx(forest)
    place = np.eye(NUM_GRADES)[forest.classes_]  # (C, 5): grades that do not occur stay at 0
    _check_agreement(onnx, rows, lambda some: np.log(forest.predict_proba(some) @ place + TINY))
    outside = forest.oob_decision_function_ @ place
    severity = np.where(outside.sum(axis=1) > 0.5, outside @ np.arange(NUM_GRADES), np.nan)
    return _Model(onnx, severity, "the training photographs, each by the trees that did not see it", {})


def _forest_onnx(forest: Any) -> bytes:
    """rows -> log(probabilities + TINY) of all five grades, so that a task's softmax gives them back."""
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    if nodes > MAX_NODES:
        repair = "Fewer trees, or a larger leaf."
        raise SettingError("combiner forest, trees", f"{nodes:,} nodes", f"at most {MAX_NODES:,}", repair)
    skl2onnx, onnx = require("skl2onnx", "train"), require("onnx", "train")
    kind = skl2onnx.common.data_types.FloatTensorType([None, forest.n_features_in_])
    model = skl2onnx.to_onnx(forest, initial_types=[(INPUT, kind)], options={id(forest): {"zipmap": False}})
    graph, helper, array = model.graph, onnx.helper, onnx.numpy_helper.from_array
    place = np.eye(NUM_GRADES, dtype=np.float32)[forest.classes_]
    graph.initializer.extend([array(place, "place"), array(np.float32(TINY), "tiny")])
    graph.node.extend(
        [
            helper.make_node("MatMul", [graph.output[1].name, "place"], ["of_all_grades"]),
            helper.make_node("Add", ["of_all_grades", "tiny"], ["above_zero"]),
            helper.make_node("Log", ["above_zero"], [OUTPUT]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [None, NUM_GRADES]))
    onnx.checker.check_model(model)
    return model.SerializeToString()


# --- blend -----------------------------------------------------------------------------------------------------------


def _fit_blend(combiner: Blend, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> _Model:
    from m2cnn.blend_net import train_blends

    blends = train_blends(combiner, eyes, grades, patients, seed)
    parts = np.array_split(np.arange(len(eyes)), -(-len(eyes) // CHECKED))
    outputs = np.concatenate([_run(blends)(combiner.rows(eyes, part)) for part in parts])
    onnx = _exported(blends, combiner.rows(eyes, parts[0]))
    return _Model(onnx, combiner.task.read(outputs).severity, "the training photographs", {})


# --- elastic ---------------------------------------------------------------------------------------------------------


class TwoTiers(nn.Module):
    """(B, M * F) -> (B, 1). A hard grade is the number of cuts at or below a score; tier 2 adds a step for each."""

    def __init__(self, weights: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.members = len(weights)
        self.register_buffer("weights", torch.from_numpy(weights).float())  # (M, F)
        self.register_buffer("bias", torch.from_numpy(bias).float())  # (M,)
        self.register_buffer("cuts", torch.zeros(self.members, NUM_GRADES - 1))
        self.register_buffer("steps", torch.zeros(self.members, NUM_GRADES - 1))
        self.register_buffer("base", torch.zeros(()))

    def scores(self, rows: Tensor) -> Tensor:
        """Tier 1: (B, M)."""
        return (rows.unflatten(1, (self.members, -1)) * self.weights).sum(dim=2) + self.bias

    def forward(self, rows: Tensor) -> Tensor:
        reached = (self.scores(rows)[:, :, None] >= self.cuts).float()  # (B, M, 4)
        return ((reached * self.steps).sum(dim=(1, 2)) + self.base)[:, None]


def _fit_elastic(combiner: Elastic, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> _Model:
    rows, members = combiner.rows(eyes), len(eyes.decoded)
    folds = _folds(patients, combiner.folds, np.random.default_rng(seed))
    parts = np.split(rows.astype(np.float64), members, axis=1)
    nets = [_elastic_net(combiner, part, grades + 1.0, folds, combiner.l1_ratio) for part in parts]
    tiers = TwoTiers(np.stack([net.weights for net in nets]), np.array([net.bias for net in nets]))
    scores = tiers.scores(torch.from_numpy(rows)).numpy().astype(np.float64)  # (N, M)
    cuts = np.stack([fit_cuts(score, grades, TIER_1_CUTS) for score in scores.T])
    hard = np.stack([cut(score, own) for score, own in zip(scores.T, cuts, strict=True)], axis=1)  # (N, M)
    one_hot = np.eye(NUM_GRADES)[hard].reshape(len(rows), -1)  # (N, M * 5)
    final = _elastic_net(combiner, one_hot, grades.astype(float), folds, combiner.final_l1_ratio)
    worth = final.weights.reshape(members, NUM_GRADES)
    tiers.cuts = torch.from_numpy(cuts).float()
    tiers.steps = torch.from_numpy(np.diff(worth, axis=1)).float()
    tiers.base = torch.tensor(final.bias + worth[:, 0].sum()).float()
    onnx = _exported(tiers, rows)
    facts = {"folds": len(folds), "tier_1": [net.facts() for net in nets], "tier_2": final.facts()}
    facts |= {"tier_1_cuts": cuts.tolist(), "tier_1_kappa": [quadratic_weighted_kappa(grades, g) for g in hard.T]}
    severity = combiner.task.read(_run(tiers)(rows)).severity
    return _Model(onnx, severity, "the validation photographs", facts)


@dataclass(frozen=True)
class _Line:
    """weights, bias: of the rows as they are.  penalty, error: chosen, and its mean squared error in the other folds.

    converged: whether every fit of the path ended before the limit of iterations.
    """

    weights: np.ndarray
    bias: float
    penalty: float
    error: float
    converged: bool

    def facts(self) -> dict[str, Any]:
        plain = {"weights": self.weights.tolist(), "bias": self.bias, "penalty": self.penalty}
        return plain | {"squared_error": self.error, "converged": self.converged}


def _folds(patients: np.ndarray, most: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit, rows to try) of each fold; all rows of a patient stand in one."""
    names, owner = np.unique(patients, return_inverse=True)
    count = min(most, len(names))
    fold = (rng.permutation(len(names)) % count)[owner]
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(count)]


def _elastic_net(
    combiner: Elastic, rows: np.ndarray, target: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], l1_ratio: float
) -> _Line:
    """glmnet's: standardised columns, penalties from the least that leaves no weight down to eps of it."""
    centre, deviation = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, 1)
    standard = np.where(deviation > 1e-9, (rows - centre) / scale, 0)
    largest = np.abs(standard.T @ (target - target.mean())).max() / (len(rows) * l1_ratio)
    if largest < 1e-12:  # the members say the same of every photograph
        return _Line(np.zeros(rows.shape[1]), float(target.mean()), 0.0, float(target.var()), True)
    linear_model, exceptions = require("sklearn.linear_model", "train"), require("sklearn.exceptions", "train")
    penalties = np.geomspace(largest, largest * combiner.eps, combiner.lambdas)
    net = linear_model.ElasticNetCV(l1_ratio=l1_ratio, alphas=penalties, cv=folds, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", exceptions.ConvergenceWarning)
        net.fit(standard, target)
    converged = not any(issubclass(each.category, exceptions.ConvergenceWarning) for each in told)
    weights = net.coef_ / scale
    error = float(net.mse_path_.mean(axis=-1).min())
    return _Line(weights, float(net.intercept_ - weights @ centre), float(net.alpha_), error, converged)


FITS: dict[type[Combiner], Callable[..., _Model]] = {
    Mean: _fit_mean,
    Forest: _fit_forest,
    Blend: _fit_blend,
    Elastic: _fit_elastic,
}
