"""The models that come with the package: small, named, honest about whom they may serve, and worth something."""

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from m2cnn.bundle import load_bundle
from m2cnn.calibration import HIGH_SENSITIVITY, HIGH_SPECIFICITY
from m2cnn.card import read_card
from m2cnn.card_page import model_card
from m2cnn.cli import main
from m2cnn.data import assign_splits, write_manifest
from m2cnn.data.opening import open_data
from m2cnn.data.rendered import render_manifest
from m2cnn.grader import Grader
from m2cnn.packaged import HOME, names

MOST = 25e6  # bytes
USES = {"default": "research only", "free": "attribution"}
models = pytest.mark.parametrize("model", USES)


def test_both_are_there():
    assert names() == sorted(USES)


@models
def test_a_packaged_model_is_small_and_names_no_machine(model):
    files = [path for path in (HOME / model).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    for path in files:
        if path.suffix == ".json":
            text = path.read_text()
            assert "/work" not in text and os.path.expanduser("~") + "/" not in text and "file://" not in text, path


@models
def test_a_packaged_model_tells_what_it_is_for_and_what_it_is_worth(model):
    bundle = load_bundle(model)
    assert bundle.terms.use == USES[model]
    assert {point.name for point in bundle.calibration.points} == {HIGH_SENSITIVITY, HIGH_SPECIFICITY}
    assert (bundle.folder / "reference.json").is_file()
    assert read_card(bundle.folder).evidence
    cuts = " / ".join(f"{cut:.4g}" for cut in bundle.task.cuts)
    assert f"| grades by | severity, cut at {cuts}: not a rounded severity |" in model_card(bundle.folder)


@models
def test_rendered_photographs_are_graded_and_what_is_none_is_refused(model, rendered, tmp_path):
    grader = Grader.load(model)
    grades = [grader.grade(rendered.path(row)) for row in list(rendered)[:6]]
    assert all(one.gradable and 0 <= one.severity <= 4 for one in grades)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    refused = grader.grade(tmp_path / "noise.png")
    assert not refused.gradable and refused.grade is None


@models
def test_it_tells_referable_eyes_on_idrid_photographs_that_it_did_not_learn_from(model, real_data):
    """Its validation photographs: they chose its passes, so that this is a floor for mistakes, not a measurement."""
    known = load_bundle(model).known()
    held = {bytes(digest) for digest, split in zip(known.sha256, known.role, strict=True) if split == "val"}
    manifest = open_data(f"idrid:{real_data / 'idrid'}")
    files = {row: manifest.path(row) for row in manifest}
    rows = [row for row, path in files.items() if hashlib.sha256(path.read_bytes()).digest() in held]
    assert len(rows) >= 30
    grader = Grader.load(model)
    graded = [grader.grade(files[row]) for row in rows]
    pairs = [(row.grade, one.severity) for row, one in zip(rows, graded, strict=True) if one.gradable]
    assert len(pairs) >= 0.9 * len(rows)
    truth, severity = np.array(pairs).T
    assert roc_auc_score(truth >= 2, severity) > 0.8


def test_fifty_photographs_of_a_new_source_help_or_do_no_harm(tmp_path):
    """Rendered photographs are new to `default`: taught by fifty of them, it grades others no worse than before."""
    manifest = render_manifest(tmp_path, 60, 5, 256, workers=1)
    manifest = assign_splits(manifest, {"train": 0.3, "val": 0.12, "test": 0.58}, lockbox=0.0)
    assert 40 <= sum(row.split in ("train", "val") for row in manifest) <= 60
    write_manifest(manifest, tmp_path / "manifest.csv")
    out = tmp_path / "run"
    words = ["train", "--from", "default", "--data", str(tmp_path), "--out", str(out), "stages.0.epochs=3", "seed=0"]
    assert main(words) == 0
    kappa = {}
    for name, model in {"before": "default", "after": out}.items():
        assert main(["evaluate", str(model), "--data", str(tmp_path), "--out", str(tmp_path / name)]) == 0
        kappa[name] = json.loads((tmp_path / name / "metrics.json").read_text())["metrics"]["qwk"]["value"]
    assert kappa["after"] >= kappa["before"] - 0.02, kappa
