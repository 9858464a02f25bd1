"""The paper's tables: cells that differ in nothing but the named factor, runs that survive, statistics by hand."""

import errno
import io
import json
import os
import shutil
import signal
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TINY

from m2cnn.bundle import load_bundle
from m2cnn.cli import main
from m2cnn.cli_table import seeds_of
from m2cnn.data import Manifest
from m2cnn.errors import DataError, M2cnnError, SettingError
from m2cnn.grades import DISCLAIMER
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.paper import page, progress, published, running
from m2cnn.paper.ablation import ablation_cells, answered, verdicts
from m2cnn.paper.evidence import read_as, read_facts, read_kept, rounded, task_of
from m2cnn.paper.grid import chosen, forward_work, pattern, stage_work
from m2cnn.paper.running import Plan, Table, read_plan, settle
from m2cnn.paper.statistics import Gap, Measured, mean_over_seeds, seed_counts
from m2cnn.part import read_history
from m2cnn.predictions import Predictions
from m2cnn.recipe import Stage
from m2cnn.summary import read_metrics
from m2cnn.tasks import MultiTask

MULTI_TASK = ("mt", "m2cnn", "staged", "direct")
QUICK = [text for text in TINY if "epochs" not in text]


@pytest.fixture(scope="module")
def cells():
    return ablation_cells(pattern("m2cnn-slim", QUICK, passes=8))


def predictions(grade, decoded, severity=None, probabilities=None, patient=None):
    """A table of N photographs, one patient each unless told."""
    count = len(grade)
    text = np.full(count, "")
    return Predictions(
        image=np.array([f"{n}.jpg" for n in range(count)]),
        patient=np.array([f"p{n}" for n in range(count)] if patient is None else patient),
        eye=text,
        split=np.full(count, "test"),
        grade=np.asarray(grade),
        probabilities=np.full((count, 5), np.nan) if probabilities is None else probabilities,
        severity=np.asarray(decoded if severity is None else severity, float),
        decoded=np.asarray(decoded),
        gradable=np.ones(count, bool),
        reason=text,
        system=np.full(count, "s"),
        bundle=text,
    )


# --- what the paper prints ---


def test_the_papers_numbers():
    # As the poster's table reads, copied from it a second time.
    poster = """
        224 0.720 0.725 0.742 0.718 - -
        448 0.790 0.772 0.812 0.782 0.830 0.812
        720 0.835 0.751 0.841 0.826 0.844 0.842
    """
    columns = [("mse", "scores"), ("ce", "prob"), ("mt", "scores"), ("mt", "prob"), ("m2cnn", "scores")]
    columns.append(("m2cnn", "prob"))
    for rung, line in enumerate(poster.split("\n")[1:4]):
        size, *numbers = line.split()
        assert int(size) == published.SIZES[rung]
        for column, number in zip(columns, numbers, strict=True):
            assert published.ablation(*column, rung) == (None if number == "-" else float(number))
    assert list(published.ABLATION) == columns
    assert published.ablation("staged", "prob", 1) is None


# --- cells ---


def test_the_cells_are_the_papers_and_two_control_arms(cells):
    names = [cell.name for cell in cells]
    assert names == [
        *("mse-56", "ce-56", "mt-56"),
        *("mse-112", "ce-112", "mt-112", "m2cnn-112", "staged-112", "direct-112"),
        *("mse-184", "ce-184", "mt-184", "m2cnn-184", "staged-184", "direct-184"),
    ]
    steps = {cell.name: [(s.size, s.cells, s.epochs) for s in cell.recipe.stages] for cell in cells}
    assert steps["mt-184"] == [(184, 0, 8)]
    assert steps["m2cnn-112"] == [(56, 0, 4), (112, 1, 4)]
    assert steps["m2cnn-184"] == [(56, 0, 4), (112, 1, 2), (184, 2, 2)]
    assert steps["staged-184"] == [(56, 0, 4), (112, 0, 2), (184, 0, 2)]
    assert steps["direct-184"] == [(184, 2, 8)]
    # Every number of the poster has its cell, read by that decode.
    for arm, decode in published.ABLATION:
        for rung in range(3):
            there = any(cell.arm == arm and cell.rung == rung and decode in cell.decodes for cell in cells)
            assert there == (published.ablation(arm, decode, rung) is not None)


def test_cells_differ_in_nothing_but_the_named_factor(cells):
    named = {"system", "task", "stages"}
    recipes = [cell.recipe.to_dict() for cell in cells]
    for key in recipes[0].keys() - named:
        assert all(recipe[key] == recipes[0][key] for recipe in recipes), key
    # A stage differs in its size, its cells and its passes; the schedule is stretched with the passes.
    stretched = {"epochs", "size", "rung", "cells", "warmup", "drops", "decay"}
    stages = [stage for recipe in recipes for stage in recipe["stages"]]
    for key in stages[0].keys() - stretched:
        assert all(stage[key] == stages[0][key] for stage in stages), key
    for stage in stages:
        assert stage["warmup"] / stage["epochs"] == pytest.approx(1 / 20)  # one of twenty passes in m2cnn-slim
        assert stage["decay"] * stage["epochs"] == pytest.approx(0.05 * 20)
    assert {cell.passes for cell in cells} == {8}
    tasks = {cell.arm: cell.recipe.task for cell in cells}
    assert tasks == {"mse": {"name": "regression"}, "ce": {"name": "classification"}} | {arm: {} for arm in MULTI_TASK}
    systems = {cell.arm: cell.recipe.system for cell in cells}
    assert systems == {"mse": "basenet", "ce": "basenet", "mt": "basenet-mt", "m2cnn": "m2cnn"} | {
        "staged": "basenet-mt",
        "direct": "m2cnn",
    }


def test_a_seed_changes_the_run_and_not_the_patients(cells):
    one, other = cells[0].seeded(1), cells[0].seeded(2)
    assert (one.seed, other.seed) == (1, 2)
    assert one.split == other.split


def test_sampling_and_cuts_are_fair_unless_asked_otherwise():
    first = ablation_cells(pattern("m2cnn-slim", passes=4))[0].recipe  # the packaged recipe resamples and fits cuts
    assert (first.sampling.kind, first.fit_cuts) == ("all", False)
    asked = ablation_cells(pattern("m2cnn-slim", ["fit_cuts=true", "sampling.kind=decaying"], passes=4))
    assert all(cell.recipe.sampling.kind == "decaying" for cell in asked)
    assert {cell.arm for cell in asked if not cell.recipe.fit_cuts} == {"ce"}  # argmax has no cuts
    expected = ablation_cells(pattern("m2cnn-slim", ["fit_cuts=true", "task.rule=expectation"], passes=4))
    assert all(cell.recipe.fit_cuts and cell.recipe.task["rule"] == "expectation" for cell in expected)


def test_the_schedule_keeps_its_shape():
    of_m2cnn = pattern("m2cnn", passes=12)  # 60 passes, the rate falls after 30 and 50
    (stage,) = of_m2cnn.stages([(2, 2)])
    assert (stage.epochs, stage.drops, stage.lr, stage.size) == (12, (6, 10), 0.01, 720)
    assert [s.drops for s in of_m2cnn.stages([(0, 0), (1, 1)])] == [(3, 5), (3, 5)]


def test_the_weight_of_the_multi_task_loss_is_its_own():
    cells = ablation_cells(pattern("m2cnn-slim", ["task.weight=0.5"], passes=4))
    weights = {cell.arm: cell.recipe.task.get("weight") for cell in cells}
    assert weights == {"mse": None, "ce": None} | dict.fromkeys(MULTI_TASK, 0.5)


def test_another_trunk_and_other_sizes():
    cells = ablation_cells(pattern("m2cnn-slim", ["network.trunk=timm:resnet18"], sizes=(112, 224, 360), passes=4))
    assert [cell.name for cell in cells if cell.arm == "m2cnn"] == ["m2cnn-224", "m2cnn-360"]
    assert not {"width", "repeats"} & cells[0].recipe.network.keys()  # of the trunk that was replaced
    with pytest.raises(SettingError, match=r"sizes: \(224, 112, 360\); expected three rising sizes"):
        pattern("m2cnn-slim", sizes=(224, 112, 360))


def test_too_few_passes_and_a_share_that_is_none():
    with pytest.raises(SettingError, match="passes: 2 for 3 stages; expected 3 or more"):
        ablation_cells(pattern("m2cnn-slim", passes=2))
    with pytest.raises(SettingError, match="share: 1; expected between 0 and 1"):
        pattern("m2cnn-slim", share=1.0)


def test_calibration_would_favour_a_decode():
    with pytest.raises(SettingError, match="ablation, calibrate: true; expected false"):
        ablation_cells(pattern("m2cnn-slim", ["calibrate=true"], passes=4))


def test_work_counts_every_stage(cells):
    by_name = {cell.name: cell for cell in cells}
    staged = by_name["m2cnn-112"].recipe
    forward = [forward_work(staged, stage) for stage in staged.stages]
    assert stage_work(by_name["m2cnn-112"]) == [4 * forward[0], 4 * forward[1]]
    assert forward[0] < forward[1] / 3
    assert forward_work(staged, Stage(1, size=8)) == 0  # too small: its run will say so


def test_cells_by_name_or_arm(cells):
    assert [cell.name for cell in chosen(cells, ["mse-56", "m2cnn"])] == ["mse-56", "m2cnn-112", "m2cnn-184"]
    assert chosen(cells, []) == list(cells)
    with pytest.raises(SettingError, match=r'only: "m2cnn-113".*Did you mean "m2cnn-112"'):
        chosen(cells, ["m2cnn-113"])


def test_seeds_are_a_number_or_a_list():
    assert (seeds_of("3"), seeds_of("4,1"), seeds_of("7,")) == ((0, 1, 2), (4, 1), (7,))
    for text in ("0", "1,1", "x"):
        with pytest.raises(SettingError, match=f'--seeds: "{text}"'):
            seeds_of(text)


# --- one network, two decodes ---


def test_a_run_is_read_by_both_decodes():
    rng = np.random.default_rng(0)
    outputs = np.concatenate([rng.normal(0, 2, (50, 5)), rng.uniform(-0.5, 4.5, (50, 1))], axis=1)
    for rule in ("argmax", "expectation"):
        task = MultiTask(rule=rule, cuts=(0.6, 1.5, 2.5, 3.5))
        said = task.read(outputs)
        table = predictions(np.zeros(50, int), said.grade, said.severity, said.probabilities)
        other = MultiTask(decode="prob", rule=rule, cuts=task.cuts).read(outputs)
        by_probability = read_as(table, task, "prob")
        assert np.array_equal(by_probability.decoded, other.grade)
        assert np.allclose(by_probability.severity, other.severity, atol=1e-5)
        by_score = read_as(table, task, "scores")
        assert np.array_equal(by_score.decoded, said.grade)
        assert np.isnan(by_score.probabilities).all()


def test_fitted_cuts_are_fitted_for_each_decode():
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, 300)
    probabilities = np.full((300, 5), 0.05)
    probabilities[np.arange(300), np.clip(grade // 2 + rng.integers(0, 2, 300), 0, 4)] = 0.8  # far too low: 0, 1 or 2
    val = predictions(grade, grade, grade, probabilities)
    task = MultiTask(rule="expectation", cuts=(0.1, 0.2, 0.3, 0.4))  # fitted for the scores
    assert task_of(task, "scores", val, True) is task
    assert task_of(task, "prob", val, False) is task
    assert task_of(replace(task, rule="argmax"), "prob", val, True).cuts == task.cuts
    refitted = task_of(task, "prob", val, True)
    before, after = (read_as(val, one, "prob").decoded for one in (MultiTask(rule="expectation"), refitted))
    assert quadratic_weighted_kappa(grade, after) > quadratic_weighted_kappa(grade, before) + 0.1


def test_few_digits_change_no_grade():
    table = predictions([0, 1], [0, 1], [0.499999, 0.5])
    kept = rounded(table)
    assert kept.severity.tolist() == [0.5, 0.5]
    assert kept.decoded.tolist() == [0, 1]


# --- statistics ---


def test_two_seeds_by_hand():
    truth = np.array([0, 1, 2, 3, 4, 0])
    wrong = (truth + 1) % 5
    measured = Measured({("a", "scores"): {0: predictions(truth, truth), 1: predictions(truth, wrong)}})
    # Accuracy is 1 for one seed and 0 for the other, whoever is drawn; of two seeds one is drawn.
    accuracy = measured.estimate(("a", "scores"), "accuracy")
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.5, 0.0, 1.0)
    # Kappa is of each run, then the mean: not of the twelve predictions together.
    kappa = measured.estimate(("a", "scores"))
    assert kappa.value == pytest.approx((1 + quadratic_weighted_kappa(truth, wrong)) / 2)
    together = quadratic_weighted_kappa(np.tile(truth, 2), np.concatenate([truth, wrong]))
    assert kappa.value != pytest.approx(together, abs=1e-3)


def test_three_seeds_vary_as_much_as_their_mean_does():
    truth = np.array([0, 1, 2, 3, 4, 0])
    wrong = (truth + 1) % 5
    seeds = {0: predictions(truth, truth), 1: predictions(truth, truth), 2: predictions(truth, wrong)}
    still = dict.fromkeys(range(3), predictions(truth, truth))
    measured = Measured({("a", "scores"): seeds, ("b", "scores"): still}, replicates=20000)
    gap = measured.gap(("a", "scores"), ("b", "scores"), metric="accuracy")
    # 1, 1, 0: variance 1/3, of the mean of three 1/9. Drawing three of three would give 2/27.
    assert gap.value == pytest.approx(-1 / 3)
    assert gap.detectable == pytest.approx(2.8016 / 3, rel=0.03)


def test_seeds_are_drawn_one_fewer_and_an_undrawn_nan_is_none():
    counts = seed_counts(3, 1000, 0)
    assert (counts.sum(1) == 2).all()
    assert np.array_equal(counts, seed_counts(3, 1000, 0))
    assert (seed_counts(1, 10, 0) == 1).all()
    drawn = [np.full((2, 1), 1.0), np.full((2, 1), np.nan)]
    assert mean_over_seeds(drawn, np.array([[1.0, 0.0], [1.0, 1.0]]))[:, 0].tolist()[0] == 1.0


def test_differences_are_paired_over_patients_and_seeds():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 200)
    noisy = {s: predictions(truth, np.clip(truth + rng.integers(-2, 3, 200), 0, 4)) for s in range(2)}
    measured = Measured({("a", "scores"): noisy, ("b", "scores"): dict(noisy)})
    gap = measured.gap(("a", "scores"), ("b", "scores"))
    assert (gap.value, gap.low, gap.high, gap.detectable) == (0, 0, 0, 0)  # the same predictions: no noise is left
    assert measured.estimate(("a", "scores")).high - measured.estimate(("a", "scores")).low > 0.05


def test_the_best_of_several_and_only_common_seeds():
    truth = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    far, near = (truth + 2) % 5, np.clip(truth + 1, 0, 4)
    measured = Measured(
        {
            ("mt", "scores"): {0: predictions(truth, far), 1: predictions(truth, truth)},
            ("mse", "scores"): {1: predictions(truth, near)},
            ("ce", "prob"): {1: predictions(truth, far), 2: predictions(truth, truth)},
        }
    )
    gap = measured.gap(("mt", "scores"), ("mse", "scores"), ("ce", "prob"))
    assert gap.seeds == (1,)
    assert gap.value == pytest.approx(1 - quadratic_weighted_kappa(truth, near))
    nothing = measured.gap(("mt", "scores"), ("m2cnn", "scores"))
    assert nothing.seeds == ()
    assert np.isnan(nothing.value)


def test_runs_that_say_one_grade_are_named():
    truth = np.array([0, 1, 2, 3])
    measured = Measured({("a", "prob"): {4: predictions(truth, np.zeros(4, int))}})
    assert measured.collapsed == ["a prob seed 4"]
    assert measured.estimate(("a", "prob")).value == 0


def test_tables_of_other_patients_are_refused():
    truth = [0, 1, 2]
    with pytest.raises(DataError, match="one patient"):
        Measured(
            {("a", "prob"): {0: predictions(truth, truth), 1: predictions(truth, truth, patient=["x", "p1", "p2"])}}
        )


# --- verdicts ---


@pytest.mark.parametrize(
    ("paper", "low", "high", "said"),
    [
        (0.02, 0.01, 0.05, "same sign"),
        (0.02, -0.05, -0.01, "opposite"),
        (-0.02, -0.05, -0.01, "same sign"),
        (-0.02, 0.01, 0.05, "opposite"),
        (0.02, -0.01, 0.05, "undecided"),
        (0.02, np.nan, np.nan, "undecided"),
    ],
)
def test_an_answer_needs_an_interval_without_zero(paper, low, high, said):
    assert answered(paper, Gap((low + high) / 2, low, high, 0.1, 0.1, (0,))) == said
    assert answered(paper, Gap(*[np.nan] * 5, ())) == "not run"


def test_every_comparison_of_the_papers_table_is_answered(cells):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 150)

    def spoiled(width):
        return np.clip(truth + rng.integers(-width, width + 1, 150), 0, 4)

    better = {"mt-56": truth, "mse-56": spoiled(3), "ce-56": spoiled(4), "ce-112": spoiled(4), "ce-184": truth}
    tables = {}
    for name, decoded in better.items():
        for decode in next(cell.decodes for cell in cells if cell.name == name):
            tables[name, decode] = {0: predictions(truth, decoded)}
    found = {v.claim: v for v in verdicts(Measured(tables), cells)}
    # 3 x multi-task against the better, 3 x prob against CE, 2 x 2 M2CNN, two steps of four arms, one of two.
    assert len(found) == 3 + 3 + 4 + 2 * 4 + 2
    best = found["multi-task, scores, against the better of MSE and CE at 56 px (the paper's 224)"]
    assert (best.paper, best.answer) == (0.017, "same sign")
    assert best.gap.value == pytest.approx(1 - quadratic_weighted_kappa(truth, better["mse-56"]))
    # Where the poster's multi-task loses, winning is the opposite; so it is with CE at 720 px.
    by_probability = found["multi-task, prob, against CE at 56 px (the paper's 224)"]
    assert (by_probability.paper, by_probability.answer) == (-0.007, "opposite")
    larger = found["CE, prob: 184 px against 112 px"]
    assert (larger.paper, larger.answer) == (-0.021, "opposite")
    assert found["M2CNN against multi-task, prob, at 184 px (the paper's 720)"].answer == "not run"


# --- plans ---


def a_plan(passes=8, seeds=(0,), data="d"):
    return Plan("ablation", ablation_cells(pattern("m2cnn-slim", QUICK, passes=passes)), seeds, data)


def test_a_changed_plan_is_refused_and_more_seeds_are_no_change(tmp_path):
    settle(tmp_path, a_plan())
    assert settle(tmp_path, a_plan(seeds=(2, 1))).seeds == (0, 1, 2)
    assert read_plan(tmp_path).cells == a_plan().cells
    with pytest.raises(SettingError, match=r"another setting of mse-56, stages\.0\.epochs: 8 there, 9 asked for"):
        settle(tmp_path, a_plan(passes=9))
    with pytest.raises(SettingError, match="another data; expected the same plan"):
        settle(tmp_path, a_plan(data="other"))
    fewer = Plan("ablation", a_plan().cells[1:], (0,), "d")
    with pytest.raises(SettingError, match=r"another set of cells \(mse-56\)"):
        settle(tmp_path, fewer)


def test_a_folder_that_is_no_table(tmp_path):
    with pytest.raises(SettingError, match=r"plan.json: unreadable .*the folder of a table"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text('{"schema": "m2cnn.table/9"}')
    with pytest.raises(SettingError, match=r"m2cnn\.table/9"):
        read_plan(tmp_path)


def test_cheap_cells_come_first_seed_by_seed():
    jobs = a_plan(seeds=(0, 1)).jobs()
    assert [job.seed for job in jobs] == [0] * 15 + [1] * 15
    work = [sum(stage_work(job.cell)) for job in jobs[:15]]
    assert work == sorted(work)
    assert jobs[0].name == "mse-56-seed0"


# --- running ---


def fake_table(tmp_path, monkeypatch, error):
    """A table whose every training breaks with `error`."""

    def broken(*given, **named):
        raise error

    monkeypatch.setattr(running, "train", broken)
    table = Table(tmp_path, a_plan(), Manifest((), tmp_path))
    table.__dict__["guarded"] = None
    return table


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (M2cnnError("stage 0", "the training diverged"), "stage 0: the training diverged."),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("out of memory\nmore"), "RuntimeError: out of memory"),
        (FileNotFoundError(2, "gone"), "FileNotFoundError: [Errno 2] gone"),
    ],
)
def test_a_failed_run_is_named_and_the_rest_goes_on(tmp_path, monkeypatch, error, reason):
    calls = []
    table = fake_table(tmp_path, monkeypatch, error)
    table.after = lambda: calls.append(1)
    failed = table.run(chosen(table.plan.cells, ["mse"]))
    assert failed == {f"mse-{size}-seed0": reason for size in (56, 112, 184)}
    assert len(calls) == 3
    assert running.read_failed(tmp_path) == failed


def test_a_full_disk_stops_the_table(tmp_path, monkeypatch):
    table = fake_table(tmp_path, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        table.run()
    assert running.read_failed(tmp_path) == {}


@dataclass
class Story:
    """A table of two runs: the first failed, the second was interrupted, and the same command made both whole."""

    command: list[str]
    out: Path
    codes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    looks: int = 0
    started: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)

    def run(self):
        with redirect_stderr(io.StringIO()) as said:
            self.codes.append(main(self.command))
        self.said.append(said.getvalue())
        self.reports.append((self.out / "ablation.md").read_text())

    def broken(self, patch):
        """Memory runs out in the first run; Ctrl-C comes in the second stage of the second one."""
        train, guard, step = running.train, running.guard, progress.RunBar.step

        def memory_runs_out(recipe, manifest, folder, **named):
            self.started.append(folder.name)
            if folder.name == "mse-56-seed0":
                raise MemoryError("no more")
            return train(recipe, manifest, folder, **named)

        def look(*given, **named):
            self.looks += 1
            return guard(*given, **named)

        def interrupting(bar, place):
            step(bar, place)
            if (place.stage, place.epoch, place.batch) == (1, 0, 2):
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(running, "train", memory_runs_out)
        patch.setattr(running, "guard", look)
        patch.setattr(import_module("m2cnn.train"), "guard", look)
        patch.setattr(progress.RunBar, "step", interrupting)

    def whole(self, patch):
        resume = running.resume

        def noting(folder, **named):
            self.resumed.append(folder.name)
            return resume(folder, **named)

        patch.setattr(running, "resume", noting)


@pytest.fixture(scope="module")
def story(rendered, tmp_path_factory):
    out = tmp_path_factory.mktemp("table") / "out"
    options = ["--seeds", "1", "--passes", "3", "--only", "mse-56,m2cnn-112", "--replicates", "50"]
    told = Story(["table", "ablation", "--data", str(rendered.root), "--out", str(out), *options, *QUICK], out)
    for change in (told.broken, told.whole):
        with pytest.MonkeyPatch.context() as patch:
            change(patch)
            told.run()
    return told


def test_one_run_fails_and_one_is_interrupted(story):
    assert story.codes[0] == 130
    assert "m2cnn: interrupted; the same command continues" in story.said[0]
    assert story.started == ["mse-56-seed0", "m2cnn-112-seed0"]
    assert story.looks == 1  # the guard looks once for all runs
    assert "- mse-56-seed0: MemoryError: no more" in story.reports[0]
    assert "0 of 15 runs are done, 1 failed" in story.reports[0]


def test_the_same_command_makes_the_rest(story):
    assert story.codes[1] == 0
    assert story.resumed == ["m2cnn-112-seed0"]
    assert "2 of 15 runs are done, 0 failed" in story.reports[1]
    lines = [line for line in story.said[1].splitlines() if line.startswith("[")]
    assert lines[0].startswith("[1/2, ")
    assert "mse-56-seed0: 56 px, 0 cells, pass 1/3" in lines[0]
    assert lines[-1].startswith("[2/2, 100 %, 0 s left] m2cnn-112-seed0: 112 px, 1 cells, pass 1/1")
    assert "images/s" in lines[-1]
    # The first stage was whole already.
    assert not any("m2cnn-112-seed0: 56 px" in line for line in lines)


def test_the_runs_are_ordinary_runs_of_the_same_patients(story):
    folders = [story.out / "runs" / name for name in ("mse-56-seed0", "m2cnn-112-seed0")]
    assert len({(folder / "manifest.csv").read_bytes() for folder in folders}) == 1
    assert all(load_bundle(folder).system in ("basenet", "m2cnn") for folder in folders)
    one, other = (json.loads((folder / "recipe.json").read_text()) for folder in folders)
    assert {key for key in one if one[key] != other[key]} == {"system", "task", "stages"}


def test_the_report_of_what_is_kept(story, tmp_path, capsys):
    """The evidence alone gives the same report, and what it says is what the runs said."""
    first = {name: (story.out / name).read_bytes() for name in page.NAMES}
    moved = tmp_path / "moved"
    shutil.copytree(story.out, moved, ignore=shutil.ignore_patterns("runs", "pictures", *page.NAMES))
    assert main(["table", "ablation", "--out", str(moved), "--report", "--replicates", "50"]) == 0
    assert {name: (moved / name).read_bytes() for name in page.NAMES} == first
    assert capsys.readouterr().out.strip() == str(moved / "ablation.md")


def test_the_numbers_are_those_of_the_runs(story):
    text, rows = story.reports[1], csv_rows((story.out / "ablation.csv").read_bytes())
    assert DISCLAIMER in text
    for decode, paper in (("scores", "0.83"), ("prob", "0.812")):
        said = read_kept(story.out, "m2cnn-112-seed0", decode, "test")
        value, there = rows["m2cnn-112", decode, "qwk"]
        assert float(value) == pytest.approx(quadratic_weighted_kappa(said.grade, said.decoded))
        assert there == paper
    summary = read_metrics(story.out / "runs" / "m2cnn-112-seed0" / "test" / "metrics.json")
    assert float(rows["m2cnn-112", "scores", "qwk"][0]) == pytest.approx(summary["metrics"]["qwk"]["value"])
    assert (story.out / "ablation.svg").read_bytes().count(b"<!-- M2CNN -->") == 2


def test_every_run_has_the_same_passes_and_its_work_is_counted(story):
    cells = {cell.name: cell for cell in read_plan(story.out).cells}
    facts = [read_facts(story.out, f"{name}-seed0") for name in ("mse-56", "m2cnn-112")]
    assert {one.passes for one in facts} == {3}
    assert len({one.photographs for one in facts}) == 1
    assert facts[0].patients < facts[0].photographs  # two eyes each
    for one in facts:
        assert one.multiply_adds == one.photographs * sum(stage_work(cells[one.cell]))
        history = read_history(story.out / "predictions" / f"{one.cell}-seed0")
        assert len(history) == 3
        assert one.seconds == pytest.approx(sum(row["seconds"] for row in history), abs=0.01)
        assert one.images_per_second == pytest.approx(3 * one.photographs / one.seconds, rel=0.01)


def csv_rows(content):
    """(cell, decode, metric) of the test patients -> value, and what the paper has."""
    head, *lines = [line.split(",") for line in content.decode().splitlines()]
    lines = [dict(zip(head, line, strict=True)) for line in lines]
    return {
        (line["cell"], line["decode"], line["metric"]): (line["value"], line["paper"])
        for line in lines
        if line["split"] == "test"
    }


def test_a_finished_table_trains_nothing(story, monkeypatch):
    monkeypatch.setattr(running, "train", None)
    monkeypatch.setattr(running, "guard", None)
    before = (story.out / "ablation.csv").read_bytes()
    (story.out / "runs").rename(story.out / "deleted")  # what is kept of them is enough
    assert main(story.command) == 0
    (story.out / "deleted").rename(story.out / "runs")
    assert (story.out / "ablation.csv").read_bytes() == before


def test_what_the_command_refuses(story, tmp_path, capsys):
    out = str(tmp_path / "new")
    assert main(["table", "ablation", "--out", out]) == 2
    assert "no --data" in capsys.readouterr().err
    assert main([*story.command, "--passes", "4"]) == 2
    assert "another setting of mse-56, stages.0.epochs: 3 there, 4 asked for" in capsys.readouterr().err
    assert main([*story.command, "--share", "x"]) == 2
    assert '--share: "x"' in capsys.readouterr().err


# --- progress ---


def test_the_time_left_counts_what_was_done_today(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.TableBar(100, 2)
    first = bar.run("a", [20.0, 40.0])
    assert bar.left() == "time left unknown"
    first(a_plan().cells[6].recipe, 16, Place(0, 2, 0))  # resumed after two of the first stage's four passes
    assert bar.done == bar.skipped == 10
    now[0] = 30.0
    first.step(Place(1, 0, 1))  # half a pass of four, of the second stage: 20 + 5
    assert bar.done == 25
    assert bar.left() == "2 min left"  # 15 in 30 s, so 75 in 150 s
    first.close()
    assert (bar.done, bar.skipped) == (60, 45)
    bar.say("b", "c")
    assert capsys.readouterr().err.startswith("[1/2, 60 %, 80 s left] b: c")


class Place:
    def __init__(self, stage, epoch, batch):
        self.stage, self.epoch, self.batch = stage, epoch, batch
