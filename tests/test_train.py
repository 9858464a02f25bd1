"""Training: what it learns from, that it survives interruption bit-equal, and what it leaves behind."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from m2cnn.bundle import load_bundle
from m2cnn.checkpoint import Progress, best_weights, load_checkpoint, save_checkpoint, save_weights
from m2cnn.data import Manifest, read_manifest
from m2cnn.errors import BundleError, DataError, M2cnnError, SettingError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.fit import Fit
from m2cnn.grader import Grader
from m2cnn.models import OOSettings
from m2cnn.optimiser import make_optimiser, parameter_groups
from m2cnn.part import network_of_stage, read_history
from m2cnn.predictions import read_predictions
from m2cnn.recipe import Optimiser, Sampling, load_recipe, recipe_from_dict
from m2cnn.systems import Member, System, get
from m2cnn.tasks import MultiTask, Regression
from m2cnn.train import resume, train

WEIGHTS = "bundle/weights.safetensors"


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def test_a_run_leaves_everything_behind(tiny_run, tiny_recipe, rendered):
    assert recipe_from_dict(json.loads((tiny_run / "recipe.json").read_text())) == tiny_recipe
    environment = json.loads((tiny_run / "environment.json").read_text())
    assert environment["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert read_manifest(tiny_run / "manifest.csv", rendered.root) == rendered
    rows = read_history(tiny_run)
    assert [(r["stage"], r["size"], r["cells"], r["epoch"]) for r in rows] == [
        (0, 56, 0, 0),
        (0, 56, 0, 1),
        (1, 112, 1, 0),
        (1, 112, 1, 1),
    ]
    predictions = read_predictions(tiny_run / "test" / "predictions.csv")
    assert set(predictions.image) == {row.image for row in rendered.select("test")}
    assert set(predictions.bundle) == {load_bundle(tiny_run).hash}
    assert b"<svg" in (tiny_run / "curves.svg").read_bytes()
    for folder in ("stage0", "stage1"):
        assert list((tiny_run / "tensorboard" / folder).glob("events*"))


def test_no_lockbox_patient_is_ever_seen(tiny_run, rendered):
    boxed = {row.image for row in rendered if row.split == "lockbox"}
    assert boxed
    seen = {
        image for split in ("val", "test") for image in read_predictions(tiny_run / split / "predictions.csv").image
    }
    trained = load_bundle(tiny_run).settings["training"]["photographs"]
    assert not boxed & seen
    assert trained == len(rendered.select("train"))


def test_the_best_pass_is_kept(tiny_run):
    best = max(row["val_kappa"] for row in read_history(tiny_run) if row["stage"] == 1)
    measured = json.loads((tiny_run / "val" / "metrics.json").read_text())["metrics"]["qwk"]["value"]
    assert measured == pytest.approx(best, abs=1e-9)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from m2cnn.data import read_manifest
from m2cnn.fit import Fit
from m2cnn.recipe import recipe_from_dict
from m2cnn.train import train, resume
import json
folder, recipe, manifest, stage, epoch, batch, signal_number, again = sys.argv[1:]
torch.set_num_threads(1)
after = Fit.on_train_batch_end
def die(self, *rest):
    after(self, *rest)
    if (self.progress.stage, self.progress.epoch, self.progress.batch) == (int(stage), int(epoch), int(batch)):
        os.kill(os.getpid(), int(signal_number))
Fit.on_train_batch_end = die
if again == "again":
    resume(folder)
else:
    train(recipe_from_dict(json.loads(recipe)), read_manifest(manifest), folder)
"""


def run_until_killed(folder, recipe, rendered, place, number=signal.SIGKILL, again=False) -> int:
    """Train in a process of its own that dies after batch `place` = (stage, pass, batches done)."""
    words = [
        json.dumps(recipe.to_dict()),
        rendered.root / "manifest.csv",
        *place,
        int(number),
        "again" if again else "first",
    ]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, folder, *map(str, words)], capture_output=True
    ).returncode


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def careful(tiny_recipe):
    """Everything that has state: averaged weights, accumulation, decaying sampling; saved at every step."""
    stages = tuple(replace(stage, accumulate=2, batch=4) for stage in tiny_recipe.stages)
    return replace(tiny_recipe, stages=stages, ema=0.9, sampling=Sampling("decaying"), checkpoint_minutes=0.0)


@pytest.fixture(scope="session")
def undisturbed(careful, rendered, once):
    torch.set_num_threads(1)
    return once("undisturbed", lambda folder: train(replace(careful, checkpoint_minutes=60.0), rendered, folder))


@pytest.mark.usefixtures("one_thread")
def test_kill_9_in_mid_pass_then_resume_is_bit_equal(careful, rendered, undisturbed, tmp_path):
    folder = tmp_path / "run"
    # Twice: in the first stage, and, going on from there, in the second.
    assert run_until_killed(folder, careful, rendered, (0, 1, 3)) == -signal.SIGKILL
    assert not (folder / "bundle").exists()
    assert run_until_killed(folder, careful, rendered, (1, 0, 2), again=True) == -signal.SIGKILL
    progress, _ = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert (progress.stage, progress.epoch, progress.batch) == (1, 0, 2)
    resume(folder)
    assert same_weights(folder, undisturbed)
    ours, theirs = (
        [{key: value for key, value in row.items() if "second" not in key} for row in read_history(run)]
        for run in (folder, undisturbed)
    )
    assert ours == theirs
    assert len(ours) == 4


@pytest.mark.usefixtures("one_thread")
def test_ctrl_c_saves_at_the_next_step_and_resumes_bit_equal(tiny_recipe, careful, rendered, undisturbed, tmp_path):
    folder, slow = tmp_path / "run", replace(careful, checkpoint_minutes=60.0)
    code = run_until_killed(folder, slow, rendered, (0, 0, 1), signal.SIGINT)
    assert code in (1, -signal.SIGINT, 130)
    progress, _ = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert (progress.stage, progress.epoch, progress.batch) == (0, 0, 2)  # two batches make a step
    resume(folder)
    assert same_weights(folder, undisturbed)


def test_resuming_a_finished_run_trains_nothing(tiny_run, monkeypatch):
    monkeypatch.setattr("m2cnn.train._go", lambda *rest: pytest.fail("it trained"))
    assert resume(tiny_run).hash == load_bundle(tiny_run).hash


class Bait:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_malicious_checkpoint_runs_nothing(tiny_run, tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"progress": Bait(str(tmp_path / "ran")), "network": {}}, path)
    with pytest.raises(BundleError, match="not a checkpoint of m2cnn"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Bait(str(tmp_path / "ran")), protocol=2))
    with pytest.raises(BundleError, match="not a checkpoint of m2cnn"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "ran").exists()  # the bait was live


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    save_checkpoint(tmp_path / "last.pt", Progress(), {"network": {"w": torch.ones(1000)}})
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_folder_in_use_is_not_written_into(tiny_run, tiny_recipe, rendered, tmp_path):
    with pytest.raises(SettingError, match="--resume"):
        train(tiny_recipe, rendered, tiny_run)
    with pytest.raises(SettingError, match=r"run\.json is missing"):
        resume(tmp_path)


def test_a_set_that_teaches_nothing_is_refused(tiny_recipe, rendered, tmp_path):
    healthy = Manifest(tuple(replace(row, grade=0) for row in rendered), rendered.root)
    with pytest.raises(DataError, match="1 different grades in split train"):
        train(tiny_recipe, healthy, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_patient_on_two_sides_is_refused_even_when_every_row_has_its_split(tiny_recipe, rendered, tmp_path):
    sides = {"left": "train", "right": "val"}
    leaking = Manifest(tuple(replace(row, split=sides[row.eye]) for row in rendered), rendered.root)
    with pytest.raises(DataError, match="on two sides"):
        train(tiny_recipe, leaking, tmp_path / "run")
    with pytest.raises(DataError, match="on two sides"):
        evaluate(tmp_path, leaking, tmp_path / "out", Selection(("val",)))


def test_missing_photographs_are_refused_at_the_start(tiny_recipe, rendered, tmp_path):
    with pytest.raises(DataError, match="photographs are missing"):
        train(tiny_recipe, Manifest(rendered.rows, tmp_path), tmp_path / "run")


def unfinished(run, tmp_path):
    """A copy of a run as it was before its bundle was written."""
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "done.json").unlink()
    shutil.rmtree(copy / "bundle")
    return copy


def test_a_resumed_run_is_the_run_that_began(tiny_run, tmp_path):
    copy = unfinished(tiny_run, tmp_path)
    own = System("m2cnn", "Another", (Member(task=MultiTask(decode="prob")),), "ours")
    with pytest.raises(SettingError, match="not the one that the run began with"):
        resume(copy, system=own)
    with pytest.raises(DataError, match="photographs are missing"):
        resume(copy, images=tmp_path)
    (copy / "unreadable.json").write_text('{"s5-p00000_left.jpeg": "gone"}')
    with pytest.raises(DataError, match="other photographs are unreadable"):
        resume(copy)


def test_photographs_marked_ungradable_teach_nothing(rendered):
    assert not replace(rendered.rows[0], quality="ungradable").teaches
    assert not replace(rendered.rows[0], grade=None).teaches
    assert replace(rendered.rows[0], quality="gradable").teaches


def test_a_run_that_diverges_stops_and_says_so(tiny_recipe, rendered, tmp_path):
    wild = replace(tiny_recipe.stages[0], lr=1e18, schedule="steps", drops=(), warmup=0.0)
    recipe = replace(tiny_recipe, stages=(wild,), optimiser=Optimiser("sgd", clip=0.0))
    with pytest.raises(M2cnnError, match="the training diverged"):
        train(recipe, rendered, tmp_path / "run")


def test_a_planted_checkpoint_stops_a_resumed_run(tiny_run, tmp_path):
    copy = unfinished(tiny_run, tmp_path)
    torch.save({"progress": Bait(str(tmp_path / "ran"))}, copy / "checkpoints" / "last.pt")
    with pytest.raises(BundleError, match="not a checkpoint of m2cnn"):
        resume(copy)
    assert not (tmp_path / "ran").exists()


def test_growing_carries_every_weight(tiny_run, tiny_recipe):
    member = get("m2cnn").customised(tiny_recipe).members[0]
    network, new = network_of_stage(member, tiny_recipe, 1, tiny_run / "checkpoints")
    before = load_file(tiny_run / "checkpoints" / "stage0.safetensors")
    after = network.state_dict()
    assert all(np.array_equal(before[name], after[name].numpy()) for name in before)
    assert set(after) - set(before) == {f"cells.0.{name}" for name in new[0].state_dict()}


def test_the_score_starts_at_the_mean_grade(tiny_recipe, tmp_path):
    member = get("m2cnn").customised(tiny_recipe).members[0]
    network, new = network_of_stage(member, tiny_recipe, 0, tmp_path)
    assert new is None
    assert network.classif.bias.tolist() == pytest.approx([0, 0, 0, 0, 0, 0.53])


def test_weight_decay_spares_norms_and_biases_and_new_parts_are_known():
    network = (
        get("m2cnn")
        .customised(load_recipe("m2cnn", ["network.width=1/16", "network.repeats=[1,1,1]"]))
        .members[0]
        .network.build(6, 1)
    )
    groups = parameter_groups(network, Optimiser(weight_decay=0.1), network.cells)
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    named = {id(p): name for name, p in network.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = named[id(parameter)]
            assert group["new"] == name.startswith("cells.")
            assert (group["weight_decay"] == 0) == (name.endswith("bias") or parameter.ndim == 1)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimisers(name, kind):
    assert isinstance(make_optimiser(torch.nn.Linear(2, 2), Optimiser(name), None), kind)


class Plain(torch.nn.Module):
    """A user's own network."""

    def __init__(self, outputs):
        super().__init__()
        self.classif = torch.nn.Linear(3, outputs)

    def forward(self, x):
        return self.classif(x.float().mean(dim=(2, 3)) / 255)


class Mean:
    """Its settings."""

    def build(self, outputs, cells=0):
        return Plain(outputs)

    def to_dict(self):
        return {"kind": "mean colour"}


def test_a_system_of_your_own_trains_and_exports(rendered, tiny_recipe, tmp_path):
    own = System("mean-colour", "Mean colour", (Member(network=Mean(), task=MultiTask(decode="prob")),), "ours")
    first = replace(tiny_recipe.stages[0], frozen_norm=True, epochs=1)
    recipe = replace(tiny_recipe, system="mean-colour", precision="auto", stages=(first, replace(first, size=64)))
    with pytest.raises(SettingError, match="none for a network of your own"):
        train(recipe, rendered, tmp_path / "run", system=own)
    bundle = train(replace(recipe, network={}), rendered, tmp_path / "run", system=own)
    assert Grader.load(bundle.folder).grade(rendered.path(rendered.rows[0])).gradable
    with pytest.raises(BundleError, match="its network is Mean"):
        Grader.load(bundle.folder, "torch")
    with pytest.raises(SettingError, match="several sets of weights, no combiner"):
        train(replace(recipe, network={}), rendered, tmp_path / "two", system=replace(own, members=own.members * 2))


def test_another_network_of_the_package_trains_and_comes_back_from_its_bundle(rendered, tiny_recipe, tmp_path):
    member = Member(OOSettings("b", 112, 1 / 8, 32), Regression(clipped=True))
    own = System("o-o-112", "o_O, 112 px", (member,), "ours")
    stage = replace(tiny_recipe.stages[0], size=112, epochs=1)
    recipe = replace(tiny_recipe, system="o-o-112", network={}, stages=(stage,))
    with pytest.raises(SettingError, match=r"stages.0.size: 64 px for a network of 112 px; expected 112"):
        train(replace(recipe, stages=(replace(stage, size=64),)), rendered, tmp_path / "small", system=own)
    bundle = train(recipe, rendered, tmp_path / "run", system=own)
    photograph = rendered.path(rendered.rows[0])
    by_onnx, by_torch = (Grader.load(bundle.folder, backend).grade(photograph) for backend in ("onnx", "torch"))
    assert by_onnx.severity == pytest.approx(by_torch.severity, abs=1e-4)
    larger = replace(stage, size=224)
    two = train(replace(recipe, stages=(stage, larger)), rendered, tmp_path / "two", system=own)
    assert two.size == 224 and two.settings["network"]["size"] == 224
    assert Grader.load(two.folder, "torch").grade(photograph).gradable
    narrow = own.customised(replace(recipe, network={"width": 1 / 4}))
    assert narrow.members[0].network == OOSettings("b", 112, 1 / 4, 32)
    with pytest.raises(SettingError, match='unknown setting "ladder"'):
        own.customised(replace(recipe, network={"ladder": "half"}))


def test_a_network_of_the_next_size_starts_from_the_kernels_before(tmp_path, tiny_recipe):
    member = Member(OOSettings("a", 112, 1 / 8, 32), Regression())
    stages = tuple(replace(tiny_recipe.stages[0], size=size) for size in (112, 224, 448))
    recipe = replace(tiny_recipe, stages=stages)
    before, _ = network_of_stage(member, recipe, 0, tmp_path)
    for number in (1, 2):
        with torch.no_grad():
            for parameter in before.parameters():
                parameter.add_(torch.randn_like(parameter))
        save_weights(before, best_weights(tmp_path, number - 1))
        network, new = network_of_stage(member, recipe, number, tmp_path)
        assert new is None and network.settings["size"] == (224, 448)[number - 1]
        copied = [name for name, _ in before.layers.named_children() if name.startswith("conv")]
        for name, layer in network.layers.named_children():
            if name.startswith("conv"):
                kernel = layer.conv.weight
                same = name in copied and torch.equal(kernel, before.layers.get_submodule(name).conv.weight)
                assert same == (name in copied) and (layer.bias == 0.05).all()
        assert network.classif.bias.tolist() == pytest.approx(member.task.initial_bias())
        before = network


def test_fitted_cuts_come_from_validation_patients(rendered, tiny_recipe, tmp_path):
    from m2cnn.cuts import fit_cuts

    recipe = replace(tiny_recipe, fit_cuts=True, stages=(replace(tiny_recipe.stages[0], epochs=1),))
    bundle = train(recipe, rendered, tmp_path / "run")
    predictions = read_predictions(tmp_path / "run" / "val" / "predictions.csv")
    assert bundle.task.cuts == pytest.approx(tuple(fit_cuts(predictions.severity, predictions.grade)), abs=1e-3)
    assert bundle.task.cuts != MultiTask().cuts


def test_cuts_of_an_argmax_are_refused_before_training(rendered, tiny_recipe, tmp_path):
    recipe = replace(
        tiny_recipe, fit_cuts=True, task={"name": "classification"}, stages=(replace(tiny_recipe.stages[0], epochs=1),)
    )
    with pytest.raises(SettingError, match="decodes by argmax"):
        train(recipe, rendered, tmp_path / "run")


def test_rates_rise_for_what_is_new(tiny_recipe):
    fit = Fit.__new__(Fit)
    torch.nn.Module.__init__(fit)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    fit.stage = replace(tiny_recipe.stages[1], lr=0.1, warmup=0, new_lr=10.0, new_epochs=1)
    fit.optimiser = make_optimiser(network, Optimiser(), network[1])
    fit.seed, fit.batches = (0, 1), type("B", (), {"total": 4})
    for epoch, boost in ((0, 10.0), (1, 1.0)):
        fit.progress = Progress(1, epoch)
        fit.on_train_batch_start(None, 0)
        assert {g["lr"] for g in fit.optimiser.param_groups if g["new"]} == {0.1 * boost}
        assert {g["lr"] for g in fit.optimiser.param_groups if not g["new"]} == {0.1}


def test_a_missing_file_of_weights_is_told_before_anything_is_looked_at(rendered, tmp_path):
    recipe = load_recipe("mobilenet-mt", [f"network.weights={tmp_path}/none.safetensors"])
    with pytest.raises(SettingError, match="there is no file"):
        train(recipe, rendered, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_trunk_without_weights_is_no_secret(rendered, tmp_path, caplog):
    recipe = load_recipe("mobilenet-mt", ["split.train=1.0", "split.val=0.0", "split.test=0.0"])
    unsplit = Manifest(tuple(replace(row, split="") for row in rendered), rendered.root)
    with pytest.raises(DataError, match="0 different grades in split val"):
        train(recipe, unsplit, tmp_path / "run")
    assert "timm:mobilenet_edgetpu_100 begins at random" in caplog.text
