"""Cross-validation: every free patient is measured once, by a run that never saw him, and the lockbox by none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.test_paper import predictions
from tests.test_rows import FLAT

from m2cnn import crossval, systems
from m2cnn.bundle import load_bundle, with_calibration
from m2cnn.calibration import Point
from m2cnn.cli import main
from m2cnn.crossval import crossval_plan, decided, joined, write_report
from m2cnn.data import Manifest, read_manifest, write_manifest
from m2cnn.data.splits import without_each_source
from m2cnn.errors import DataError, SettingError
from m2cnn.grader import Grader
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.predictions import read_predictions, write_predictions
from m2cnn.recipe import recipe_from_dict

RECIPE = """
system = "flat"
precision = "32"
[network]
side = 8
[split]
train = 0.5
val = 0.4
test = 0.1
[[stages]]
size = 64
epochs = 1
batch = 8
"""


@pytest.fixture
def flat(monkeypatch, tmp_path):
    """A recipe of a network that trains in a moment."""
    monkeypatch.setitem(systems.SYSTEMS, "flat", FLAT)
    (tmp_path / "flat.toml").write_text(RECIPE)
    return str(tmp_path / "flat.toml")


@pytest.fixture
def two_sources(rendered, tmp_path):
    """The rendered photographs as if of two clinics, without splits."""
    names = sorted(set(rendered.patients()))
    clinic = {name: "north" if number % 3 else "south" for number, name in enumerate(names)}
    rows = tuple(replace(row, split="", source=clinic[row.patient]) for row in rendered)
    write_manifest(Manifest(rows, rendered.root), tmp_path / "two.csv")
    return Manifest(rows, rendered.root), ["--data", str(tmp_path / "two.csv"), "--images", str(rendered.root)]


def locked(manifest):
    return {row.image for row in manifest if row.split == "lockbox"}


def test_every_patient_is_measured_once_by_a_run_that_never_saw_him(flat, two_sources, tmp_path, capsys):
    manifest, data = two_sources
    out = tmp_path / "out"
    words = ["crossval", flat, *data, "--out", str(out), "--folds", "3", "--replicates", "50"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("flat on test") == 1  # said once, when all is done
    pooled = read_predictions(out / "pooled/predictions.csv")
    folds = [read_manifest(out / f"runs/fold-{n}-seed0/manifest.csv", manifest.root) for n in (1, 2, 3)]
    shut = locked(folds[0])
    assert sorted(pooled.image) == sorted({row.image for row in manifest} - shut)
    for fold in folds:
        assert locked(fold) == shut
        by = {name: set(fold.select(name).patients()) for name in ("train", "val", "test")}
        assert by["train"] and by["val"] and not by["test"] & (by["train"] | by["val"]) and not by["train"] & by["val"]
    first = read_predictions(out / "runs/fold-1-seed0/test/predictions.csv")
    assert set(first.image) == {row.image for row in folds[0].select("test")}
    at = {image: row for row, image in enumerate(pooled.image)}
    assert np.allclose(pooled.severity[[at[image] for image in first.image]], first.severity, atol=1e-4)
    metrics = json.loads((out / "pooled/metrics.json").read_text())
    seen = pooled.gradable
    kappa = quadratic_weighted_kappa(pooled.grade[seen], pooled.decoded[seen])
    assert metrics["metrics"]["qwk"]["value"] == pytest.approx(kappa)
    assert metrics["context"]["missing"] == [] and not np.isnan(pooled.probabilities).any()
    north = json.loads((out / "pooled/north/metrics.json").read_text())
    of_north = {row.image for row in manifest if row.source == "north"} - shut
    assert north["n_images"] == len(of_north)
    page = (out / "crossval.md").read_text()
    assert all(f"| {name} |" in page for name in ("**all**", "fold-3", "north", "south"))
    assert "Not done yet" not in page
    # The report alone, without the photographs, says the same.
    assert main(["crossval", flat, "--out", str(out), "--report", "--replicates", "50"]) == 0
    assert (out / "crossval.md").read_text() == page
    # Once more: nothing is trained again, and another question is refused.
    before = (out / "runs/fold-2-seed0/done.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (out / "runs/fold-2-seed0/done.json").stat().st_mtime_ns == before
    assert main([*words, "split.seed=4"]) == 2
    assert "split.seed: 0 there, 4 asked for" in capsys.readouterr().err


def test_a_part_of_the_folds_says_what_is_missing(flat, two_sources, tmp_path, capsys):
    _, data = two_sources
    out = tmp_path / "out"
    words = ["crossval", flat, *data, "--out", str(out), "--folds", "2", "--only", "fold-2", "--replicates", "50"]
    assert main(words) == 0
    assert "**Not done yet: fold-1.**" in (out / "crossval.md").read_text()
    assert "QWK" not in capsys.readouterr().out  # no number of all where some are missing


def test_operating_points_are_measured_on_who_had_no_say(flat, two_sources, tmp_path, monkeypatch):
    manifest, data = two_sources
    out = tmp_path / "out"
    monkeypatch.setattr("m2cnn.calibration.LEAST", 1)
    words = ["crossval", flat, *data, "--out", str(out), "--folds", "2", "--replicates", "20", "calibrate=true"]
    assert main(words) == 0
    place = out / "runs/fold-2-seed0/test/predictions.csv"
    second, table = load_bundle(out / "runs/fold-2-seed0"), read_predictions(place)
    points = [replace(point, severity=float(table.severity.max())) for point in second.calibration.points]
    second = with_calibration(second, replace(second.calibration, points=tuple(points)), second.known())
    assert main([*words, "--report"]) == 0  # points that were fitted anew, perhaps on the fold itself, do not count
    assert "high-sensitivity of fold-1." in (out / "crossval.md").read_text()
    write_predictions(replace(table, bundle=np.full(len(table), second.hash), place=None), place)
    assert main([*words, "--report"]) == 0
    assert "high-sensitivity of fold-1, fold-2." in (out / "crossval.md").read_text()
    page = (out / "crossval.md").read_text()
    assert "## Operating points" in page and "| high-sensitivity, south |" in page
    refer, ill = [], []
    for number in (1, 2):  # by the grader, as a clinic would
        run = out / f"runs/fold-{number}-seed0"
        grader = Grader.load(run, "torch")
        for row in read_manifest(run / "manifest.csv", manifest.root).select("test"):
            refer.append(grader.grade(manifest.path(row)).refer["high-sensitivity"])
            ill.append(row.grade >= 2)
    refer, ill = np.array(refer), np.array(ill)
    found = json.loads((out / "pooled/points/high-sensitivity/metrics.json").read_text())["metrics"]
    assert found["referable_sensitivity"]["value"] == pytest.approx(refer[ill].mean())
    assert found["referable_specificity"]["value"] == pytest.approx(1 - refer[~ill].mean())
    assert f"{refer[ill].mean():.3f} (" in page and 0 < refer.sum() < len(refer)


def test_the_decisions_of_a_point_are_grades():
    table = predictions([0, 2, 4, 1], [0, 0, 4, 1], [0.2, 0.6, 3.7, 0.5])
    point = Point("high-sensitivity", 0.5, 0.95, (1.0, 0.9, 1.0), (0.5, 0.4, 0.6))
    assert decided(table, point).decoded.tolist() == [0, 2, 2, 2]
    assert np.isnan(decided(table, point).probabilities).all()


def test_each_source_is_left_out_once(flat, two_sources, tmp_path):
    manifest, data = two_sources
    out = tmp_path / "out"
    assert main(["crossval", flat, *data, "--out", str(out), "--by", "source", "--replicates", "50"]) == 0
    source = {row.image: row.source for row in manifest}
    for name in ("north", "south"):
        fold = read_manifest(out / f"runs/{name}-seed0/manifest.csv", manifest.root)
        assert {source[row.image] for row in fold.select("test")} == {name}
        assert name not in {source[row.image] for row in fold.select("train", "val")}


def test_a_source_without_a_photograph_to_measure_is_no_fold(two_sources):
    manifest, _ = two_sources
    rows = tuple(replace(row, split="test", source="east") if n < 4 else row for n, row in enumerate(manifest))
    patients = {row.patient for row in rows[:4]}
    rows = tuple(replace(row, split="test", source="east") if row.patient in patients else row for row in rows)
    unlabelled = {row.patient for row in rows[-4:]}
    rows = tuple(replace(row, grade=None, source="west") if row.patient in unlabelled else row for row in rows)
    recipe = recipe_from_dict({"system": "basenet-mt", "stages": [{"size": 64, "epochs": 1}]})
    plan = crossval_plan(recipe, Manifest(rows, manifest.root), None)
    assert [cell.name for cell in plan.cells] == ["north", "south"]
    assert set(without_each_source(Manifest(rows, manifest.root))) == {"north", "south"}


def test_a_fold_is_looked_at_as_it_is(flat, two_sources, tmp_path):
    """Patients of split "test" alone on a grade: the manifest has no other split to speak of, the folds do."""
    manifest, _ = two_sources
    rows = tuple(replace(row, split="train") for row in manifest)
    write_manifest(Manifest(rows, manifest.root), tmp_path / "all-train.csv")
    data = ["--data", str(tmp_path / "all-train.csv"), "--images", str(manifest.root)]
    out = tmp_path / "out"
    assert main(["crossval", flat, *data, "--out", str(out), "--folds", "2", "--replicates", "50"]) == 0


def test_folds_and_sources_at_once_are_refused(flat, two_sources, tmp_path, capsys):
    _, data = two_sources
    assert main(["crossval", flat, *data, "--out", str(tmp_path / "o"), "--folds", "3", "--by", "source"]) == 2
    assert "--folds beside --by source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folds", "message"),
    [(1, "folds: 1; expected 2..100"), (0, "folds: 0; expected"), (None, "photographs of one source")],
)
def test_folds_that_mean_nothing(folds, message, rendered):
    recipe = recipe_from_dict({"system": "basenet-mt", "stages": [{"size": 64, "epochs": 1}]})
    with pytest.raises(SettingError, match=message):
        crossval_plan(recipe, rendered, folds)


def test_a_photograph_of_two_folds_is_refused():
    one = predictions([0, 1], [0, 1])
    with pytest.raises(DataError, match=r"0\.jpg"):
        joined([one, one])


def test_nothing_done_is_no_report(tmp_path, rendered):
    recipe = recipe_from_dict({"system": "basenet-mt", "stages": [{"size": 64, "epochs": 1}], "precision": "32"})
    plan = crossval_plan(recipe, rendered, 2)
    assert write_report(tmp_path, plan) == {}
    assert not (tmp_path / crossval.PAGE).exists()
