"""Going on from a trained model: what is carried, what is refused, and a start that nothing improves on is kept."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from m2cnn.bundle import COMBINER, WEIGHTS, load_bundle, with_calibration
from m2cnn.calibration import Calibration
from m2cnn.cli import main
from m2cnn.combine import Mean
from m2cnn.data import Manifest, assign_splits, write_manifest
from m2cnn.data.known import Known
from m2cnn.data.rendered import render_manifest
from m2cnn.ensemble import combine_runs
from m2cnn.errors import BundleError, SettingError
from m2cnn.finetune import PASSES, START, recipe_of, system_of
from m2cnn.part import read_history
from m2cnn.recipe import recipe_from_dict
from m2cnn.train import RUN, open_run, resume, train


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Photographs of another place: other patients than those of `rendered`."""
    folder = tmp_path_factory.mktemp("clinic")
    manifest = render_manifest(folder, 16, 77, 224, workers=1)
    manifest = assign_splits(manifest, {"train": 0.5, "val": 0.25, "test": 0.25}, lockbox=0)
    write_manifest(manifest, folder / "manifest.csv")
    return manifest


def words(model, clinic, out, *settings):
    return ["train", "--from", str(model), "--data", str(clinic.root), "--out", str(out), *settings]


def test_the_recipe_is_the_last_stage_once_more(tiny_run, tiny_recipe):
    recipe, last = recipe_of(load_bundle(tiny_run), ["stages.0.epochs=2"]), tiny_recipe.stages[-1]
    (stage,) = recipe.stages
    assert (stage.epochs, stage.size, stage.cells, stage.batch) == (2, last.size, last.cells, last.batch)
    assert stage.lr == pytest.approx(last.lr / 10) and stage.frozen_norm
    assert recipe_of(load_bundle(tiny_run)).stages[0].epochs == PASSES
    assert recipe.optimiser == tiny_recipe.optimiser and not recipe.fit_cuts
    (member,) = system_of(load_bundle(tiny_run)).members
    assert member.task == load_bundle(tiny_run).task  # its cuts, too


def test_a_model_goes_on_with_photographs_of_another_place(tiny_run, clinic, rendered, tmp_path):
    out = tmp_path / "run"
    assert main(words(tiny_run, clinic, out, "stages.0.epochs=2", "stages.0.lr=0.01", "precision=32")) == 0
    before, after = load_bundle(tiny_run), load_bundle(out)
    assert after.system == before.system and after.task == before.task and after.size == before.size
    assert len(read_history(out)) == 2
    # Whoever measures it is told of both sets.
    known = {bytes(digest): str(split) for digest, split in zip(after.known().sha256, after.known().role, strict=True)}
    for manifest in (clinic, rendered):
        seen = [row for row in manifest if row.split in ("train", "val")]
        assert all(known[bytes.fromhex(row.sha256)] == row.split for row in seen)
    assert (
        main(["evaluate", str(out), "--data", str(rendered.root), "--out", str(tmp_path / "e"), "--split", "train"])
        == 2
    )
    metrics = json.loads((out / "test/metrics.json").read_text())
    assert metrics["n_images"] == len(clinic.select("test"))


@pytest.mark.parametrize(("judged", "kept"), [((0.9, 0.1), True), ((0.1, 0.9), False), ((float("nan"), 0.0), False)])
def test_where_no_pass_is_better_the_start_is_kept(judged, kept, tiny_run, clinic, tmp_path, monkeypatch):
    kappas = iter(judged)  # of the start, then of the only pass
    monkeypatch.setattr("m2cnn.fit.Fit._judge", lambda *rest: next(kappas))
    out = tmp_path / "run"
    assert main(words(tiny_run, clinic, out, "stages.0.epochs=1", "stages.0.lr=0.01", "precision=32", "ema=0")) == 0
    one, other = (load_file(load_bundle(folder).folder / WEIGHTS) for folder in (tiny_run, out))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one) == kept
    # Batch norms keep their statistics: fifty photographs have none.
    assert all((one[name] == other[name]).all() for name in one if "running_" in name)


def test_an_interrupted_run_goes_on_without_the_model(tiny_run, clinic, tmp_path, monkeypatch):
    from m2cnn import part

    model, settings = tmp_path / "model", ("stages.0.epochs=2", "stages.0.lr=0.01", "precision=32")
    shutil.copytree(load_bundle(tiny_run).folder, model)
    assert main(words(model, clinic, tmp_path / "whole", *settings)) == 0
    fit_stage = part.fit_stage

    def interrupted(fit, *rest):
        fit.on_step = lambda progress: setattr(fit, "stop", progress.epoch == 1)
        fit_stage(fit, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(part, "fit_stage", interrupted)
        assert main(words(model, clinic, tmp_path / "cut", *settings)) == 130
    shutil.rmtree(model)
    resume(tmp_path / "cut")
    one, other = (load_file(tmp_path / name / "bundle" / WEIGHTS) for name in ("whole", "cut"))
    assert all((one[name] == other[name]).all() for name in one)


def test_of_a_joined_model_every_network_goes_on_and_the_combiner_stays(tiny_run, clinic, tmp_path):
    runs = [shutil.copytree(tiny_run, tmp_path / name) for name in ("one", "two")]
    before = combine_runs(runs, Mean(), tmp_path / "joined")
    before = with_calibration(before, Calibration(severities=(1.0, 3.0), chances=(0.2, 0.9), photographs=9, patients=5))
    out = tmp_path / "run"
    words_ = words(tmp_path / "joined", clinic, out, "stages.0.epochs=2", "stages.0.lr=0.01", "precision=32")
    assert main(words_) == 0
    after = load_bundle(out)
    assert after.combiner == before.combiner and after.calibration == before.calibration
    assert (after.folder / COMBINER).read_bytes() == (before.folder / COMBINER).read_bytes()
    for name in ("one", "two"):
        assert len(read_history(out / "members" / name)) == 2  # what is asked is asked of each
        assert after.members[name].hash != before.members[name].hash
    with pytest.raises(SettingError, match="another combiner"):
        train(replace(recipe_of(before), combiner={"name": "forest"}), clinic, tmp_path / "x", start=before.folder)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.width=1/8", "another network or task"),
        ("task.name=regression", "another network or task"),
        ("stages.0.cells=0", "one stage of 1 cells"),
    ],
)
def test_another_network_does_not_go_on(setting, message, tiny_run, clinic, tmp_path, capsys):
    assert main(words(tiny_run, clinic, tmp_path / "run", setting)) == 2
    assert message in capsys.readouterr().err


def test_a_start_that_nobody_asked_for_begins_nothing(tiny_run, clinic, tiny_recipe, tmp_path):
    """What a refused call left in the folder is not what the next run goes on from; another start is found out."""
    out = tmp_path / "run"
    assert main(words(tiny_run, clinic, out, "stages.0.cells=0")) == 2
    assert (out / START).is_dir()
    stages = [{"size": 56, "epochs": 1, "batch": 8}]
    fresh = recipe_from_dict(tiny_recipe.to_dict() | {"system": "basenet-mt", "stages": stages, "ema": 0.0})
    train(fresh, clinic, out)
    assert json.loads((out / RUN).read_text())["start"] is None and not (out / START).exists()
    went_on = tmp_path / "went-on"
    assert main(words(tiny_run, clinic, went_on, "stages.0.epochs=1", "precision=32")) == 0
    assert json.loads((went_on / RUN).read_text())["start"] == load_bundle(tiny_run).hash
    settings = json.loads((went_on / START / "system.json").read_text())
    (went_on / START / "system.json").write_text(json.dumps(settings | {"source": "another"}))
    with pytest.raises(BundleError, match="as the run began"):
        open_run(went_on)


def test_the_last_stage_keeps_what_it_was_told(tiny_run, monkeypatch):
    bundle = load_bundle(tiny_run)
    told = bundle.settings["training"]["recipe"]
    told["stages"][-1] |= {"frozen": ["cells.0"], "weight_decay": 0.3, "carried_lr": 0.5, "warmup": 1.0}
    (stage,) = recipe_of(bundle).stages
    assert (stage.frozen, stage.weight_decay, stage.carried_lr, stage.warmup) == (("cells.0",), 0.3, 0.5, 0.0)


def test_photographs_that_it_learned_from_measure_nothing(tiny_run, rendered, tmp_path, capsys):
    names = set(rendered.select("train").patients())
    rows = tuple(replace(row, split="test" if row.patient in names else "train") for row in rendered)
    before = {row.image: row.split for row in rendered}
    rows = tuple(replace(row, split="val") if before[row.image] == "val" else row for row in rows)
    rows = tuple(row for row in rows if before[row.image] != "lockbox")
    write_manifest(Manifest(rows, rendered.root), tmp_path / "swapped.csv")
    data = ["--data", str(tmp_path / "swapped.csv"), "--images", str(rendered.root)]
    assert main(["train", "--from", str(tiny_run), *data, "--out", str(tmp_path / "run")]) == 2
    assert f"{len(rendered.select('train'))} photographs of validation or test are known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["m2cnn", "--from", "x", "--data", "d"], "a recipe and --from"),
        (["--data", "d"], "no recipe or no --data"),
        (["--from", "x"], "no recipe or no --data"),
        (["--resume", "--from", "x"], "only --out RUN"),
    ],
)
def test_commands_that_mean_nothing(given, message, tmp_path, capsys):
    assert main(["train", *given, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_what_two_models_know():
    def known(**roles):
        digests = np.array([[ord(name)] * 32 for name in roles], np.uint8)
        return Known(digests, np.array(list(roles.values())), np.arange(len(roles))[:, None].astype(np.int8))

    other = {"b": "val", "c": "val", "a": "train", "d": "calibration", "e": "calibration", "f": "calibration"}
    both = known(a="val", b="train", d="val", e="train").joined(known(**other))
    told = {chr(digest[0]): str(role) for digest, role in zip(both.sha256, both.role, strict=True)}
    roles = {"a": "train", "b": "train", "c": "val", "d": "calibration", "e": "train", "f": "calibration"}
    assert told == roles and len(both.codes) == 6
    assert both.digests("calibration") == {"64" * 32, "66" * 32}
