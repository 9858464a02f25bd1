"""The poster's claims: the rule on evidence made by hand, wrong labels, and one tiny table made by the command."""

import json
import math
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from sklearn.metrics import roc_auc_score
from tests.conftest import TINY
from torch import nn

from m2cnn.cli import main
from m2cnn.data import Manifest, open_data, read_manifest
from m2cnn.data.manifest import Row
from m2cnn.errors import DataError, SettingError
from m2cnn.paper import running
from m2cnn.paper.ablation import ablation_cells
from m2cnn.paper.claims import acceleration, gradients, imbalances, races, read_source
from m2cnn.paper.claims_runs import adopt, claims_plan, noise_cells, read_sources
from m2cnn.paper.decisions import FAILS, HOLDS, NOT_RUN, OPEN, Measure, Part, decided, joined, over_seeds
from m2cnn.paper.evidence import is_kept
from m2cnn.paper.gradients import END, MAP, START, WEIGHT, Measurement, imbalance, norms, read_gradients, stages
from m2cnn.paper.gradients import write_gradients as write_them
from m2cnn.paper.grid import Cell, forward_work, pattern
from m2cnn.paper.lesions import COLUMNS, EXCESS, LARGE, SMALL, lesions
from m2cnn.paper.noise import noisy
from m2cnn.paper.running import Plan, Table, read_plan, settle
from m2cnn.paper.speed import best_kappa, reach
from m2cnn.paper.statistics import Measured
from m2cnn.predictions import Predictions, write_predictions
from m2cnn.tables import read_table, table_bytes

QUICK = [text for text in TINY if "epochs" not in text]
CELLS = ablation_cells(pattern("m2cnn-slim", QUICK, passes=8))
PATIENTS = 240


def predictions(grade, severity, patient=None, gradable=None):
    """A table of N photographs without probabilities, one patient each unless told."""
    count, text = len(grade), np.full(len(grade), "")
    gradable = np.ones(count, bool) if gradable is None else np.asarray(gradable)
    severity = np.where(gradable, np.clip(severity, 0, 4), np.nan)
    return Predictions(
        image=np.array([f"{n}.jpg" for n in range(count)]),
        patient=np.array([f"p{n}" for n in range(count)] if patient is None else patient),
        eye=text,
        split=np.full(count, "test"),
        grade=np.asarray(grade),
        probabilities=np.full((count, 5), np.nan),
        severity=severity,
        decoded=np.where(gradable, np.nan_to_num(severity).round(), -1).astype(int),
        gradable=gradable,
        reason=np.where(gradable, "", "dark"),
        system=np.full(count, "s"),
        bundle=text,
    )


# --- the rule ---


def a_part(low, high, claimed=1, **more):
    return Part("1", "g", "w", "s", Measure((low + high) / 2, low, high, 0.1, (0, 1)), claimed, **more)


@pytest.mark.parametrize(
    ("low", "high", "claimed", "answer"),
    [
        (0.01, 0.05, 1, HOLDS),
        (-0.05, -0.01, 1, FAILS),
        (-0.01, 0.05, 1, OPEN),
        (0.0, 0.05, 1, OPEN),
        (-0.05, -0.01, -1, HOLDS),
        (0.01, 0.05, -1, FAILS),
        (-0.05, 0.0, -1, OPEN),
    ],
)
def test_a_part_is_decided_where_its_interval_leaves_zero_out(low, high, claimed, answer):
    assert a_part(low, high, claimed).answer == answer


def test_a_part_without_interval_or_without_runs():
    no_interval = Measure(0.3, math.nan, math.nan, math.nan, (0,))
    assert Part("1", "g", "w", "s", no_interval, 1).answer == OPEN
    assert Part("1", "g", "w", "s", replace(no_interval, value=math.nan), 1).answer == NOT_RUN


def test_a_bound_proves_nothing_but_can_refute():
    assert a_part(-0.05, -0.01, -1, bound=True).answer == OPEN
    assert a_part(0.01, 0.05, -1, bound=True).answer == FAILS


@pytest.mark.parametrize(
    ("answers", "whole"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, OPEN], OPEN),
        ([HOLDS, NOT_RUN], OPEN),
        ([HOLDS, FAILS, OPEN], FAILS),
        ([NOT_RUN, NOT_RUN], NOT_RUN),
        ([], NOT_RUN),
    ],
)
def test_a_claim_holds_only_if_all_its_parts_do(answers, whole):
    assert joined(answers) == whole


def test_what_is_told_beside_a_claim_decides_nothing():
    holds, fails = a_part(0.01, 0.05), a_part(-0.05, -0.01)
    assert decided([holds, replace(fails, decides=False)]) == HOLDS
    assert decided([holds, fails]) == FAILS
    assert decided([replace(holds, decides=False)]) == NOT_RUN


def test_the_interval_over_seeds_is_students():
    values = {0: 0.2, 1: 0.5, 4: 0.4}
    measure = over_seeds(values | {5: math.nan})
    theirs = stats.ttest_1samp(list(values.values()), 0).confidence_interval(0.95)
    assert (measure.low, measure.high) == pytest.approx((theirs.low, theirs.high), rel=1e-3)
    assert measure.seeds == (0, 1, 4)
    error = stats.sem(list(values.values()))
    assert measure.detectable == pytest.approx((stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)) * error)
    one = over_seeds({3: 0.7})
    assert (one.value, one.seeds) == (0.7, (3,))
    assert math.isnan(one.low)
    assert math.isnan(over_seeds({}).value)


# --- wrong labels ---


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    splits = ["train"] * 7 + ["val", "test", "lockbox"]
    rows = [Row(f"{n}.jpg", f"p{n // 2}", grade=n % 5, split=splits[n // 2 % 10]) for n in range(2000)]
    rows += [Row("none.jpg", "q", split="train"), Row("bad.jpg", "r", grade=3, quality="ungradable", split="train")]
    return Manifest(tuple(rows), tmp_path_factory.mktemp("labelled"))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
def test_only_training_labels_are_changed_and_exactly_so_many(labelled, share):
    changed = noisy(labelled, share, 3)
    different = [(old, new) for old, new in zip(labelled, changed, strict=True) if old != new]
    assert len(different) == round(share * 1400)
    for old, new in different:
        assert old.split == "train"
        assert old.teaches
        assert replace(new, grade=old.grade) == old  # nothing else changed
        assert new.grade in range(5)
        assert new.grade != old.grade
    assert changed.root == labelled.root


def test_wrong_labels_are_a_function_of_the_seed_and_the_name(labelled):
    def grades(manifest):
        return {row.image: row.grade for row in manifest}

    few, many = noisy(labelled, 0.05, 3), noisy(labelled, 0.2, 3)
    assert grades(noisy(labelled, 0.05, 3)) == grades(few)
    backwards = Manifest(labelled.rows[::-1], labelled.root)
    assert grades(noisy(backwards, 0.2, 3)) == grades(many)

    def wrong_in(manifest):
        return {image for image, grade in grades(manifest).items() if grade != grades(labelled)[image]}

    wrong = wrong_in(few)
    other = wrong_in(noisy(labelled, 0.05, 4))
    assert len(wrong & other) < len(wrong) / 2
    both = wrong_in(noisy(labelled, 1.0, 3)) & wrong_in(noisy(labelled, 1.0, 4))
    assert any(grades(noisy(labelled, 1.0, 3))[i] != grades(noisy(labelled, 1.0, 4))[i] for i in both)
    assert all(grades(many)[image] == grades(few)[image] for image in wrong)


def test_each_other_grade_is_as_likely(labelled):
    counts = np.zeros(5)
    for seed in range(10):
        for old, new in zip(labelled, noisy(labelled, 1.0, seed), strict=True):
            if old != new:
                counts[(new.grade - old.grade) % 5] += 1
    expected = counts.sum() / 4
    assert counts[0] == 0
    assert np.abs(counts[1:] - expected).max() < 4 * math.sqrt(expected * 0.75)


def test_a_share_that_is_none_and_a_manifest_without_splits(labelled):
    for share in (-0.1, 1.5, math.nan):
        with pytest.raises(SettingError, match="a share between 0 and 1"):
            noisy(labelled, share, 0)
    with pytest.raises(DataError, match="no graded photograph in split train"):
        noisy(Manifest((Row("a.jpg", "a", grade=1),), labelled.root), 0.1, 0)


def test_the_cells_with_wrong_labels():
    cells = noise_cells(CELLS, (0.05, 0.2))
    names = ["mse-56", "ce-56", "mt-56"]
    assert [cell.name for cell in cells] == [*names, *(f"{n}-noise{s}" for s in (5, 20) for n in names)]
    for cell in cells[3:]:
        assert replace(cell, name=cell.name.partition("-noise")[0], noise=0.0) in CELLS  # nothing else differs
    assert Cell.from_dict(cells[-1].to_dict()) == cells[-1]
    assert "noise" not in cells[0].to_dict()  # plans of ablations stay as they were
    for shares in ((), (0.1, 0.1), (0.0,), (1.2,)):
        with pytest.raises(SettingError, match="--shares"):
            noise_cells(CELLS, shares)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_run_learns_from_the_noisy_manifest_of_its_seed(labelled, tmp_path, monkeypatch, share):
    rows = tuple(row for row in labelled if row.split != "lockbox" and row.image != "none.jpg")
    manifest, seen = Manifest(rows, labelled.root), []

    def train(recipe, given, folder, *, guarded, **named):
        seen.append(guarded.manifest)
        raise MemoryError

    cell = replace(CELLS[0], noise=share)
    monkeypatch.setattr(running, "train", train)
    monkeypatch.setattr(running, "with_splits", lambda manifest, recipe, twins: manifest)
    table = Table(tmp_path, Plan("claims", (cell,), (7,), "d"), manifest)
    table.__dict__["guarded"] = running.Guarded(manifest, [], {})
    table.run()
    assert seen == [noisy(manifest, share, 7)]


# --- small lesions ---


def test_the_auc_of_grade_one_against_zero_is_sklearns():
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, 300)
    severity = np.round(grade * 0.4 + rng.normal(1, 0.8, 300), 1)  # with ties
    gradable = rng.random(300) > 0.1
    table = predictions(grade, severity, [f"p{n // 2}" for n in range(300)], gradable)
    severity = np.clip(severity, 0, 4)
    counts = rng.integers(0, 3, (4, 150)).astype(float)
    said = lesions(table, np.ones(300, bool))
    _, patient = np.unique(table.patient, return_inverse=True)
    for row, weights in ((said.values(), np.ones(300)), *zip(said(counts), counts[:, patient], strict=True)):
        for column, wanted in ((SMALL, grade == 1), (LARGE, grade >= 2)):
            rows = gradable & (wanted | (grade == 0))
            theirs = roc_auc_score(grade[rows] > 0, severity[rows].astype(np.float32), sample_weight=weights[rows])
            assert row[COLUMNS.index(column)] == pytest.approx(theirs)
        assert row[COLUMNS.index(EXCESS)] == pytest.approx(row[0] - row[1])
    left_out = lesions(table, np.arange(300) < 100)
    rows = gradable & (grade <= 1) & (np.arange(300) < 100)
    assert left_out.values()[0] == pytest.approx(roc_auc_score(grade[rows], severity[rows].astype(np.float32)))


def test_an_auc_without_one_of_the_grades_is_undefined():
    assert np.isnan(lesions(predictions([0, 0, 2], [0, 1, 2]), np.ones(3, bool)).values()[[0, 2]]).all()


def test_a_contrast_is_a_weighted_sum_over_common_seeds():
    truth = np.array([0, 1, 2, 3, 4, 0])
    right, wrong = predictions(truth, truth), predictions(truth, (truth + 1) % 5)
    keys = [(name, "scores") for name in "abc"]
    measured = Measured({keys[0]: {0: right, 1: right}, keys[1]: {1: wrong}, keys[2]: {1: right, 2: wrong}}, 50)
    found = measured.contrast({keys[0]: 1.0, keys[1]: -2.0, keys[2]: 0.5}, "accuracy")
    assert (found.value, found.low, found.high, found.seeds) == (1.5, 1.5, 1.5, (1,))
    assert measured.contrast({keys[0]: 1.0, ("d", "scores"): -1.0}).seeds == ()


# --- time to the kappa ---


def history(*passes):
    """Rows of (stage, validation kappa, seconds)."""
    return [{"stage": s, "val_kappa": k, "seconds": t, "images_per_second": 100 / t} for s, k, t in passes]


def test_the_first_pass_at_the_target_counts_with_all_stages_before_it():
    rows = history((0, 0.1, 2.0), (0, math.nan, 3.0), (1, 0.39, 5.0), (1, 0.4, 7.0), (1, 0.6, 11.0))
    found = reach(rows, [10, 100], 0.4)
    assert (found.reached, found.stage, found.passes) == (True, 1, 4)
    assert (found.seconds, found.multiply_adds) == (17.0, 220)
    assert found.best == best_kappa(rows) == 0.6
    early = reach(rows, [10, 100], 0.1)
    assert (early.stage, early.passes, early.seconds, early.multiply_adds) == (0, 1, 2.0, 10)


def test_a_run_that_never_gets_there_has_taken_all_that_it_took():
    rows = history((0, 0.1, 2.0), (1, 0.3, 5.0))
    found = reach(rows, [10, 100], 0.31)
    assert (found.reached, found.passes, found.seconds, found.multiply_adds) == (False, 2, 7.0, 110)
    assert math.isnan(best_kappa(history((0, math.nan, 1.0))))


# --- gradients ---


class TwoLayers(nn.Module):
    """Defined last to first; they run first to last."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 1, bias=False)
        self.first = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
            self.last.weight.copy_(torch.tensor([[1.0, 2.0]]))

    def forward(self, x):
        return self.last(self.first(x))


def test_gradient_norms_by_hand():
    """x = (1, 2): h = (3, 8), y = 19. Loss y: d/dlast = h, d/dh = (1, 2), d/dfirst = (1, 2) outer x."""
    task = SimpleNamespace(loss=lambda outputs, grades: (outputs[:, 0] * grades).mean())
    network = TwoLayers()
    x = torch.tensor([[1.0, 2.0]])
    first, last, *maps = norms(network, task, [(x, torch.tensor([1])), (x, torch.tensor([3]))])
    # The second batch counts three times, so that means are twice the first.
    assert (first.kind, first.layer, last.layer) == (WEIGHT, "first", "last")
    assert first.gradient == pytest.approx(2 * 5)
    assert first.relative == pytest.approx(2 * 5 / 5)
    assert last.gradient == pytest.approx(2 * math.sqrt(73))
    assert last.relative == pytest.approx(2 * math.sqrt(73) / math.sqrt(5))
    assert [(one.kind, one.layer, pytest.approx(one.gradient)) for one in maps] == [
        (MAP, "first", 2 * math.sqrt(5)),
        (MAP, "last", 2.0),
    ]
    assert all(math.isnan(one.relative) for one in maps)
    assert imbalance([first.relative, last.relative]) == pytest.approx(5 / math.sqrt(73) / math.sqrt(5))
    assert all(p.grad is None for p in network.parameters())
    assert not network.first._forward_hooks


def test_the_imbalance_is_of_the_first_and_the_last_tenth():
    relative = [1.0, 4.0, *[100.0] * 16, 8.0, 2.0]
    assert imbalance(relative) == pytest.approx(math.sqrt(4) / math.sqrt(16))
    assert imbalance([math.nan, 3.0, 0.0, 1.5]) == pytest.approx(2.0)
    assert math.isnan(imbalance([1.0]))


def test_a_zero_weight_has_no_relative_gradient():
    network = TwoLayers()
    nn.init.zeros_(network.first.weight)
    task = SimpleNamespace(loss=lambda outputs, grades: outputs.mean())
    first, *_ = norms(network, task, [(torch.ones(1, 2), torch.tensor([1]))])
    assert math.isnan(first.relative)


def measurement(cell, seed, when, values, stage=0, source="a"):
    return [
        Measurement(source, cell, seed, stage, 184, 0, when, WEIGHT, n, f"l{n}", v, v) for n, v in enumerate(values)
    ]


def test_gradients_are_kept(tmp_path):
    lines = [*measurement("mt-184", 1, END, [0.125, 2.0]), Measurement("a", "b", 0, 1, 9, 2, START, MAP, 0, "m", 3, 0)]
    write_them(tmp_path / "g.csv", lines)
    assert read_gradients(tmp_path / "g.csv") == lines
    assert read_gradients(tmp_path / "none.csv") == []


# --- evidence made by hand ---


def keep(out, cell, seed, spread, rows=None):
    """The kept evidence of a run. spread: by decode, how far its severities lie from the truth."""
    home = out / "predictions" / f"{cell.name}-seed{seed}"
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, PATIENTS)
    for decode in cell.decodes:
        said = grade + spread[decode] * np.random.default_rng(seed).normal(0, 1, PATIENTS)
        write_predictions(predictions(grade, said), home / f"{decode}-test.csv")
    rows = rows or history(*((s, 0.5, 1.0) for s in range(len(cell.recipe.stages))))
    whole = [{"size": cell.size, "cells": 0, "epoch": n} | row for n, row in enumerate(rows)]
    (home / "metrics.csv").write_bytes(table_bytes(list(whole[0]), [list(row.values()) for row in whole]))
    facts = {"cell": cell.name, "seed": seed, "photographs": 100, "patients": 50, "passes": 8, "multiply_adds": 1}
    facts |= {"seconds": 1.0, "images_per_second": 1.0, "best": 0.5, "bundle": "b", "m2cnn": "0", "accelerator": "none"}
    (home / "facts.json").write_text(json.dumps(facts | {"threads": 1}))


def an_ablation(out, spread, rows=lambda cell, seed: None, seeds=(0, 1, 2), table="ablation"):
    """A whole ablation. spread: (arm, decode, rung) -> how far its severities lie from the truth."""
    plan = settle(out, Plan(table, CELLS, tuple(seeds), "d"))
    for cell in CELLS:
        for seed in seeds:
            keep(out, cell, seed, {d: spread(cell.arm, d, cell.rung) for d in cell.decodes}, rows(cell, seed))
    return plan


def good(arm, decode, rung):
    """As the poster has it: multi-task better than either loss, cells better still, larger pictures better."""
    return {"mse": 1.5, "ce": 1.4, "mt": 0.9, "m2cnn": 0.25}.get(arm, 0.9) - 0.2 * rung * (arm != "m2cnn")


def as_the_poster(cell, seed):
    """M2CNN gets there in a third of the time."""
    if cell.arm == "m2cnn":
        return history(*((s, 0.3 + 0.2 * s, 1.0 + 0.1 * seed) for s in range(len(cell.recipe.stages))))
    return history(*((0, 0.1 * n, (4.0, 8.0, 16.0)[cell.rung] + 0.1 * seed) for n in range(1, 5)))


def report(tmp_path, out="claims", ablations=("a",)):
    """The command on evidence alone: what claims.csv says, by source and what."""
    folders = [text for name in ablations for text in ("--ablation", str(tmp_path / name))]
    asked = ["table", "claims", *folders, "--out", str(tmp_path / out), "--report", "--replicates", "200"]
    assert main(asked) == 0
    rows = [cells for _, cells in read_table(tmp_path / out / "claims.csv")[1]]
    return rows, (tmp_path / out / "claims.md").read_text()


@pytest.fixture(scope="module")
def claimed(tmp_path_factory):
    """Two ablations: one as the poster claims, one where multi-task is worse at the largest size."""
    folder = tmp_path_factory.mktemp("claimed")
    plan = an_ablation(folder / "a", good, as_the_poster)

    def spoilt(arm, decode, rung):
        return 2.5 if (arm, decode, rung) == ("mt", "prob", 2) else good(arm, decode, rung)

    an_ablation(folder / "b", spoilt, as_the_poster)
    out = folder / "claims"
    (source,) = read_sources([folder / "a"])
    settle(out, claims_plan(source, (0.05, 0.2), (0, 1, 2), "the command"))
    adopt(out, read_plan(out), source)
    loss = {"mse": 3.0, "ce": 0.2, "mt": 0.1}
    for cell in noise_cells(plan.cells, (0.05, 0.2))[3:]:
        for seed in range(3):
            keep(out, cell, seed, {d: good(cell.arm, d, 0) + loss[cell.arm] * cell.noise * 5 for d in cell.decodes})
    even, steep = [1.0, 1.1, 1.0], [1e-4, 0.1, 1.0]
    lines = []
    for seed in range(3):
        for when in (START, END):
            tilt = 1 + 0.1 * seed
            lines += measurement("mt-56", seed, when, [tilt * v for v in even[:1]] + even[1:])
            lines += measurement("mt-184", seed, when, [tilt * v for v in steep[:1]] + steep[1:])
            lines += measurement("direct-184", seed, when, [tilt * 100 * v for v in steep[:1]] + steep[1:])
            lines += measurement("m2cnn-184", seed, when, even, stage=2)
    write_them(out / "gradients.csv", lines)
    return folder, *report(folder, ablations=("a", "b"))


def answers(rows, source, claim, group=None):
    mine = [row for row in rows if (row["source"], row["claim"]) == (source, claim) and row["decides"] == "True"]
    return {row["answer"] for row in mine if group in (None, row["group"])}


def test_claims_that_hold(claimed):
    _, rows, _ = claimed
    assert answers(rows, "a", "1") == {HOLDS}
    assert answers(rows, "a", "2") == {HOLDS}
    assert answers(rows, "a", "3") == {HOLDS}
    assert answers(rows, "a", "4", "costs more") == {HOLDS}
    assert answers(rows, "a", "4", "gradients vanish or explode") == {HOLDS}
    assert answers(rows, "a", "4", "worse with larger pictures") == {HOLDS}
    assert answers(rows, "a", "5") == {HOLDS}


def test_one_part_that_fails_refutes_its_claim_in_its_table_alone(claimed):
    _, rows, text = claimed
    wrong = {row["what"] for row in rows if row["claim"] == "1" and row["answer"] == FAILS and row["decides"] == "True"}
    assert wrong == {"multi-task minus CE, prob, 184 px"}
    assert {row["source"] for row in rows if row["claim"] == "1" and row["answer"] == FAILS} == {"b"}
    heading = "1. Multi-task learning improves accuracy and the discrepancy between truth and prediction"
    assert f"| **{heading}** | holds | does not hold | **does not hold** |" in text
    assert f"## {heading}: does not hold" in text
    assert "| 1. MSE of severity | holds | does not hold | does not hold |" in text


def test_the_posters_own_numbers_stand_beside_ours(claimed):
    _, rows, text = claimed
    paper = {row["what"]: row["paper"] for row in rows if (row["source"], row["group"]) == ("a", "kappa")}
    assert paper["multi-task minus CE, prob, 56 px"] == "-0.007"
    assert paper["multi-task minus MSE, scores, 112 px"] == "0.022"
    assert paper["CE, prob, 184 px minus 112 px"] == "-0.021"
    assert "multi-task read by probability loses to CE at 224 px (0.718, 0.725)" in text
    assert "CE at 720 px loses to CE at 448 px (0.751, 0.772)" in text


def test_the_numbers_of_the_report(claimed):
    folder, rows, text = claimed
    by_what = {row["what"]: row for row in rows if row["source"] == "a"}
    mine = by_what["kappa that MSE, scores, loses by 20 % wrong labels"]
    noise = read_source("a", folder / "claims", read_plan(folder / "claims"), 200)
    clean, wrong = (noise.measured.estimate((name, "scores")).value for name in ("mse-56", "mse-56-noise20"))
    assert float(mine["value"]) == pytest.approx(clean - wrong)
    assert mine["seeds"] == "0 1 2"
    of_ce = by_what["kappa that CE, prob, loses by 20 % wrong labels"]
    assert of_ce["decides"] == "False"
    both = by_what["loss of MSE minus loss of CE, prob, 20 % wrong labels"]
    assert float(both["value"]) == pytest.approx(float(mine["value"]) - float(of_ce["value"]))
    work = by_what["multiply-adds of a photograph, 184 px over 56 px"]
    small, large = (cell for cell in CELLS if cell.name in ("mt-56", "mt-184"))
    forward = [forward_work(cell.recipe, cell.recipe.stages[-1]) for cell in (large, small)]
    assert (work["scale"], float(work["value"])) == ("ratio", pytest.approx(forward[0] / forward[1]))
    time = by_what["seconds of a photograph, 184 px over 56 px"]
    ratios = [(16 + 0.1 * seed) / (4 + 0.1 * seed) for seed in range(3)]
    assert float(time["value"]) == pytest.approx(np.exp(np.mean(np.log(ratios))))
    tilt = by_what["imbalance over 100, multi-task, 184 px, at the start"]
    assert float(tilt["value"]) == pytest.approx(1e4 / 100 / np.prod([1, 1.1, 1.2]) ** (1 / 3), rel=1e-3)
    assert "| mt-184, seed 0, stage 1, start | 0.0001 | vanish | nan |" in text
    assert "| mt-56, seed 0, stage 1, start | 1 | neither | nan |" in text


def test_the_report_is_whole(claimed):
    folder, _, text = claimed
    assert "wrong labels, on a: 27 of 27 runs are done" in text
    assert "the command" in text
    assert "Does not detect macular oedema" in text
    for name in ("lesions", "noise", "gradients"):
        assert f"({name}.svg)" in text
        assert (folder / "claims" / f"{name}.svg").read_bytes().startswith(b"<?xml")


def test_clean_runs_are_taken_from_the_ablation(claimed, tmp_path):
    folder, *_ = claimed
    (source,) = read_sources([folder / "a"])
    plan = claims_plan(source, (0.2,), (0, 7), "")
    assert adopt(tmp_path, plan, source) == ["mse-56-seed0", "ce-56-seed0", "mt-56-seed0"]
    assert adopt(tmp_path, plan, source) == []
    assert is_kept(tmp_path, "mt-56-seed0")
    copied = tmp_path / "predictions" / "mt-56-seed0"
    for file in copied.iterdir():
        assert file.read_bytes() == (folder / "a" / "predictions" / "mt-56-seed0" / file.name).read_bytes()


def test_partial_evidence_is_not_run_and_undecided(tmp_path):
    plan = Plan("ablation", CELLS, (0,), "d")
    settle(tmp_path / "a", plan)
    keep(tmp_path / "a", next(cell for cell in CELLS if cell.name == "mt-56"), 0, {"scores": 0.5, "prob": 0.6})
    rows, text = report(tmp_path)
    assert {row["answer"] for row in rows if row["what"].startswith(("multi-task minus", "M2CNN minus"))} == {NOT_RUN}
    assert "1 of 15 runs of its ablation are done" in text
    assert "## 5. Multi-cell accelerates training and improves accuracy: not run" in text


def timed(tmp_path, target, mine, seeds=(0, 1, 2)):
    """A source of direct runs that take 10 s, 20 s ... and M2CNN runs that are `mine` (kappas by seed), 1 s a pass."""
    top = {cell.arm: cell for cell in CELLS if cell.rung == 2}
    settle(tmp_path, Plan("ablation", CELLS, seeds, "d"))
    for seed in seeds:
        spread = {"scores": 0.5, "prob": 0.5}
        keep(tmp_path, top["mt"], seed, spread, history((0, target / 2, 10.0), (0, target, 10.0 + seed)))
        keep(tmp_path, top["m2cnn"], seed, spread, history(*((n, k, 1.0) for n, k in enumerate(mine[seed]))))
    return read_source("a", tmp_path, read_plan(tmp_path), 50)


def test_time_to_the_direct_runs_kappa(tmp_path):
    source = timed(tmp_path, 0.5, dict.fromkeys(range(3), (0.1, 0.49, 0.6)))
    seconds = next(part for part in acceleration(source) if part.what.startswith("seconds"))
    assert seconds.what == "seconds to the kappa, M2CNN over multi-task, 184 px"
    expected = np.mean([math.log(2 / (20 + seed)) for seed in range(3)])  # at 0.49, a hundredth below, in two passes
    assert seconds.measure.value == pytest.approx(expected)
    assert (seconds.answer, seconds.note) == (HOLDS, "")
    work = next(part for part in acceleration(source) if part.what.startswith("multiply-adds"))
    cell, direct = source.cell("m2cnn", 2), source.cell("mt", 2)
    mine = sum(forward_work(cell.recipe, stage) for stage in cell.recipe.stages[:2])
    theirs = 2 * forward_work(direct.recipe, direct.recipe.stages[0])
    assert work.measure.value == pytest.approx(math.log(mine / theirs))


def test_a_run_that_never_gets_there_is_told_and_proves_nothing(tmp_path):
    kappas = {0: (0.1, 0.2, 0.6), 1: (0.1, 0.2, 0.3), 2: (0.1, 0.2, 0.6)}
    source = timed(tmp_path, 0.5, kappas)
    seconds = next(part for part in acceleration(source) if part.what.startswith("seconds"))
    assert seconds.measure.seeds == (0, 1, 2)
    assert (seconds.answer, seconds.note) == (OPEN, "never reached by seed 1: a lower bound")
    _, text = report(tmp_path.parent, tmp_path.name + "-claims", (tmp_path.name,))
    assert "| multi-task, 184 px, seed 1 | 0.490 | never; best 0.300 | 3 s |" in text


def test_a_direct_run_that_learned_nothing_is_no_race(tmp_path):
    source = timed(tmp_path, 0.0, dict.fromkeys(range(3), (0.1, 0.2, 0.3)))
    assert [race.counts for race in races(source)] == [False] * 3
    seconds = next(part for part in acceleration(source) if part.what.startswith("seconds"))
    assert (seconds.answer, seconds.note) == (NOT_RUN, "the direct run of seed 0, 1, 2 learned nothing")


def test_gradients_that_are_even_do_not_vanish(tmp_path):
    source = read_source("a", tmp_path, Plan("ablation", CELLS, (0, 1), "d"))
    lines = []
    for seed in (0, 1):
        lines += measurement("mt-56", seed, START, [3.0 + seed / 100, 1.0])
        lines += measurement("mt-184", seed, START, [1.0, 3.0 - seed / 100])  # the other way, as far from 1
        lines += measurement("mt-184", seed, START, [1e-9, 1.0], source="another")
    parts = {part.group: part for part in gradients(source, imbalances(source, lines)) if "at the start" in part.what}
    assert parts["gradients vanish or explode"].answer == FAILS
    assert parts["worse with larger pictures"].answer == OPEN
    assert parts["staging makes it milder"].answer == NOT_RUN


# --- the command ---


@pytest.fixture(scope="module")
def story(rendered, tiny_run, tmp_path_factory):
    """An ablation of one run whose folder is there, and its claims, which need one run more."""
    folder = tmp_path_factory.mktemp("story")
    cells = ablation_cells(pattern("m2cnn-slim", QUICK, passes=3))
    settle(folder / "a", Plan("ablation", cells, (0,), open_data(rendered.root).digest()))
    shutil.copytree(tiny_run, folder / "a" / "runs" / "m2cnn-112-seed0")
    command = ["table", "claims", "--ablation", str(folder / "a"), "--data", str(rendered.root), "--seeds", "1"]
    command += ["--out", str(folder / "claims"), "--replicates", "50"]
    command += ["--shares", "0.2", "--only", "mse-56-noise20"]
    with redirect_stderr(StringIO()) as said, pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2cnn.paper.claims_runs.LOOKED_AT", (("m2cnn", 1),))
        code = main(command)
    return SimpleNamespace(folder=folder, out=folder / "claims", command=command, code=code, said=said.getvalue())


def test_the_command_trains_with_wrong_labels(story):
    assert story.code == 0
    assert "[1/1" in story.said
    run = story.out / "runs" / "mse-56-noise20-seed0"
    clean = read_manifest(story.folder / "a" / "runs" / "m2cnn-112-seed0" / "manifest.csv")
    assert {row.image: row for row in read_manifest(run / "manifest.csv")} == {
        row.image: row for row in noisy(clean, 0.2, 0)
    }
    assert is_kept(story.out, run.name)
    assert read_plan(story.out).cells[-1].noise == 0.2


def test_the_command_looks_at_the_gradients_of_every_stage(story):
    lines = read_gradients(story.out / "gradients.csv")
    assert {(one.source, one.cell, one.stage, one.size, one.when) for one in lines} == {
        ("a", "m2cnn-112", stage, size, when) for stage, size in ((0, 56), (1, 112)) for when in (START, END)
    }
    grown = [one for one in lines if (one.stage, one.when) == (1, START)]
    weights = [one.layer for one in grown if one.kind == WEIGHT]
    assert weights[0] == "trunk.conv2d_1a.conv"
    assert weights[-2:] == ["trunk.conv2d_7b.conv", "classif"]  # after the cell, as they run
    assert "cells.0" in [one.layer for one in grown if one.kind == MAP]
    assert all(one.gradient > 0 for one in grown)
    # A stage starts from what the one before ended with, and ends with its own best weights.
    checkpoints = story.folder / "a" / "runs" / "m2cnn-112-seed0" / "checkpoints"
    for when, stage in ((START, 0), (END, 1)):
        first = next(one for one in lines if (one.stage, one.when, one.layer) == (1, when, weights[0]))
        weight = load_file(checkpoints / f"stage{stage}.safetensors")[f"{weights[0]}.weight"]
        assert first.gradient / first.relative == pytest.approx(float(weight.norm()), rel=1e-3)
    assert story.said.count("m2cnn: gradients of a, m2cnn-112-seed0") == 1


def test_the_same_command_does_nothing_twice_and_needs_no_runs(story, tmp_path, monkeypatch):
    names = ("claims.md", "claims.csv", "gradients.csv", "lesions.svg", "gradients.svg")
    before = {name: (story.out / name).read_bytes() for name in names}
    monkeypatch.setattr(running, "train", None)
    monkeypatch.setattr("m2cnn.paper.claims_runs.of_run", None)
    monkeypatch.setattr("m2cnn.paper.claims_runs.LOOKED_AT", (("m2cnn", 1),))
    assert main(story.command) == 0
    for folder in ("a", "claims"):
        gone = shutil.ignore_patterns("runs", "pictures")
        shutil.copytree(story.folder / folder, tmp_path / folder, ignore=gone)
    moved = ["table", "claims", "--ablation", str(tmp_path / "a"), "--out", str(tmp_path / "claims")]
    assert main([*moved, "--replicates", "50"]) == 0
    for out in (story.out, tmp_path / "claims"):
        assert {name: (out / name).read_bytes() for name in names} == before


def test_gradients_that_cannot_be_measured_are_named(story, tmp_path, monkeypatch, capsys):
    shutil.copytree(story.folder / "a", tmp_path / "a")
    (tmp_path / "a" / "runs" / "m2cnn-112-seed0" / "checkpoints" / "stage0.safetensors").unlink()
    monkeypatch.setattr("m2cnn.paper.claims_runs.LOOKED_AT", (("m2cnn", 1),))
    asked = ["table", "claims", "--ablation", str(tmp_path / "a"), "--out", str(tmp_path / "c"), "--replicates", "20"]
    assert main(asked) == 1
    assert "gradients of a, m2cnn-112-seed0 failed: " in capsys.readouterr().err
    assert "- gradients of a, m2cnn-112-seed0: " in (tmp_path / "c" / "claims.md").read_text()


def test_the_ablations_run_folder_stays_as_it_was(story, tiny_run):
    run = story.folder / "a" / "runs" / "m2cnn-112-seed0"
    files = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert files == {path.relative_to(tiny_run): path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}


def test_what_the_command_refuses(story, rendered, tmp_path, capsys):
    other = tmp_path / "data"
    shutil.copytree(rendered.root, other)
    lines = (other / "manifest.csv").read_text().splitlines(keepends=True)
    (other / "manifest.csv").write_text("".join(lines[:-1]))
    place = story.command.index("--data") + 1
    assert main([*story.command[:place], str(other), *story.command[place + 1 :]]) == 2
    assert "other photographs than the ablation's" in capsys.readouterr().err
    assert main([*story.command, "stages.0.lr=1"]) == 2
    assert "They are the ablation's" in capsys.readouterr().err
    assert main([*story.command, "--shares", "x"]) == 2
    assert '--shares: "x"' in capsys.readouterr().err
    assert main(["table", "claims", "--ablation", str(story.out), "--out", str(tmp_path / "o")]) == 2
    assert "table claims; expected an ablation" in capsys.readouterr().err


def test_a_trunk_of_timm_has_stages_too():
    part = nn.Sequential(nn.Conv2d(3, 4, 1))
    trunk = nn.Module()
    trunk.net = nn.Module()
    trunk.net.stem = part
    network = nn.Module()
    network.trunk, network.cells = trunk, nn.ModuleList([nn.Identity()])
    assert [name for name, _ in stages(network)] == ["stem", "cells.0"]
    assert [name for name, _ in stages(TwoLayers())] == ["last", "first"]
