"""A clinic's own photographs: everything is told, and what is shared has no name in it."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

import m2cnn.profile.reference as reference_module
from m2cnn.bundle import load_bundle
from m2cnn.cli import main
from m2cnn.data import Manifest, Row, write_manifest
from m2cnn.data.rendered import render_manifest
from m2cnn.errors import DataError, SettingError
from m2cnn.predictions import Predictions
from m2cnn.profile.reference import REFERENCE, Reference, make_reference, read_reference, write_reference
from m2cnn.site import CACHE, FEWEST, PHOTOGRAPHS, SHAREABLE, shareable, validate_site


@pytest.fixture(scope="module")
def model(tiny_run, rendered, tmp_path_factory):
    """A bundle that says what it learned from."""
    import shutil

    folder = tmp_path_factory.mktemp("model") / "bundle"
    shutil.copytree(load_bundle(tiny_run).folder, folder)
    write_reference(folder, make_reference(rendered, "m2cnn", tmp_path_factory.mktemp("memory"), workers=1))
    return folder


@pytest.fixture(scope="module")
def clinic(rendered, tmp_path_factory):
    """36 dark photographs of 18 patients without splits, one broken, and two that the model was trained on."""
    folder = tmp_path_factory.mktemp("clinic")
    manifest = render_manifest(folder, 18, 77, 224, workers=1)
    rows = []
    for row in manifest:
        picture = cv2.imread(str(manifest.path(row)))
        cv2.imwrite(str(folder / f"secret-{row.image}"), (picture * 0.6).astype(np.uint8))
        rows.append(replace(row, image=f"secret-{row.image}", patient=f"secret-{row.patient}", sha256="", split=""))
    (folder / rows[3].image).write_bytes(b"this is no photograph")
    for k, row in enumerate(rendered.select("train").rows[:2]):
        (folder / f"secret-known{k}.jpeg").write_bytes(rendered.path(row).read_bytes())
        rows.append(Row(f"secret-known{k}.jpeg", f"secret-known{k}", grade=row.grade))
    write_manifest(Manifest(tuple(rows), folder), folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def done(model, clinic, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    groups = out / "groups.csv"
    names = sorted({row.split(",")[1] for row in (clinic / "manifest.csv").read_text().splitlines()[1:]})
    text = "".join(f"{name},{'rare' if k < 3 else 'usual'}\n" for k, name in enumerate(names))
    groups.write_text(f"patient,camera\n{text}")
    settings = {"name": "clinic-a", "groups": groups, "prevalence": {"referable": 0.1}, "replicates": 60, "workers": 1}
    return validate_site(clinic, model, out / "site", **settings), out / "site"


def test_everything_is_written(done):
    _, out = done
    for name in (
        "report.html",
        "report.pdf",
        PHOTOGRAPHS,
        SHAREABLE,
        "result/predictions.csv",
        "result/metrics.json",
    ):
        assert (out / name).stat().st_size > 0


def test_known_photographs_are_left_out_and_all_others_measured(done):
    site, out = done
    shared = json.loads((out / SHAREABLE).read_text())
    # Nobody's lockbox: a clinic's photographs are all test photographs.
    assert site.left_out == shared["known_to_the_model"] == 2 and shared["photographs"]["n_images"] == 36
    assert (
        sum(shared["grades"].values()) == 36
        and sum(shared["refused"].values()) == shared["photographs"]["n_ungradable"] >= 1
    )
    assert shared["photographs"]["metrics"]["qwk"] == site.study.summary["metrics"]["qwk"]
    assert (
        shared["patients"]["n_images"] == 18
        and shared["site"] == "clinic-a"
        and shared["model"] == site.study.bundle.hash
    )


def test_what_is_shared_names_nobody(done):
    _, out = done
    text = (out / SHAREABLE).read_text()
    assert "secret" not in text and str(out) not in text and ".jpeg" not in text


def test_groups_of_few_are_not_shared(done):
    site, out = done
    shared = json.loads((out / SHAREABLE).read_text())
    patients = {group.value: group.patients for group in site.study.groups}
    assert patients["rare"] < FEWEST <= patients["usual"]
    # Both eyes of nearly everybody; but all less the usual camera's would be the rare one's.
    assert {group["column"] for group in shared["groups"]} == {"eye"}
    assert shared["groups_of_few_left_out"] == 2 and "rare" not in json.dumps(shared)


def test_what_is_shared_gives_no_group_of_few_away(done):
    site, _ = done
    camera = np.repeat(list("ABCD"), [80, 50, 24, 6])  # photographs, two of each patient
    grade = np.arange(160) // 2 % 5
    grade[130:154] = -1  # nobody graded most patients of C: 1 of its 12 is measured
    blank, decoded = [""] * 160, np.full(160, 2)
    table = Predictions(
        image=[f"{n}.jpg" for n in range(160)], patient=[f"p{n // 2}" for n in range(160)], eye=blank, split=blank,
        grade=grade, probabilities=np.eye(5)[decoded], severity=decoded.astype(float), decoded=decoded,
        gradable=np.full(160, True), reason=blank, system=["m2cnn"] * 160, bundle=blank,
    )  # fmt: skip
    labels = {"camera": camera.tolist()}
    shared = shareable(replace(site, study=replace(site.study, predictions=table, labels=labels, replicates=20)))
    told = {group["value"]: group for group in shared["groups"]}
    # Of C 1 patient is measured, of D 3: together too few, so B is left out as well.
    assert set(told) == {"A"} and shared["groups_of_few_left_out"] == 3
    left = shared["photographs"]["n_images"] - told["A"]["photographs"]
    assert left == 80 and shared["photographs"]["n_patients"] - told["A"]["patients"] == 40
    assert told["A"]["patients_measured"] == 40
    with_eyes = replace(site.study, predictions=table, labels={}, replicates=20)
    assert shareable(replace(site, study=with_eyes))["groups"] == []


def test_darker_photographs_are_seen_to_drift(done):
    site, out = done
    drift = json.loads((out / SHAREABLE).read_text())["drift"]["measures"]["brightness"]
    assert drift["here"] < drift["there"] and drift["auc"] < 0.2 and drift["matters"]
    html = (out / "report.html").read_text()
    assert "Beside the photographs that the model learned from" in html and "Why the model may fail here" in html
    assert site.drift.one.name == "m2cnn"


def test_without_a_reference_nothing_is_said_to_be_alike(tiny_run, clinic, tmp_path):
    site = validate_site(clinic, tiny_run, tmp_path, replicates=40, workers=1, pictures=False)
    assert site.drift is None and json.loads((tmp_path / SHAREABLE).read_text())["drift"] is None
    html = (tmp_path / "report.html").read_text()
    assert "does not say what it learned from" in html and "shows photographs of patients" not in html
    assert "image/jpeg" not in html and "image/jpeg" not in (tmp_path / PHOTOGRAPHS).read_text()


def test_the_command_and_a_second_call(model, clinic, tmp_path, capsys, monkeypatch):
    words = ["site", str(clinic), "--model", str(model), "--out", str(tmp_path), "--replicates", "40", "--workers", "1"]
    monkeypatch.setattr("m2cnn.evaluate.survey", None)  # one look serves the measures and the search for known ones
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "2 photographs were known to the model" in said and SHAREABLE in said and "darker: Brightness" in said
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if path.is_file()}
    monkeypatch.setattr("m2cnn.data.survey._look", None)  # nothing is looked at twice
    assert main(words) == 0
    assert first == {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if path.is_file()}


def test_its_own_run_is_no_other_set_and_few_photographs_tell_no_drift(model, tiny_run, rendered, tmp_path):
    site = validate_site(tiny_run, model, tmp_path, images=rendered.root, replicates=40, workers=1)
    html = (tmp_path / "report.html").read_text()
    assert "Patients of the set that the model was trained on" in html and "Another list" not in html
    assert (
        site.drift.contrasts == [] and "Too few photographs to compare" in html and "Nothing that is known" not in html
    )
    numbers = {row.image: n for n, row in enumerate(site.found.table.manifest, 2)}
    assert any(site.found.table.numbers[image] != number for image, number in numbers.items())


def test_settings_are_looked_at_before_anything_is_graded(model, clinic, tmp_path):
    with pytest.raises(SettingError, match="prevalence"):
        validate_site(clinic, model, tmp_path / "out", prevalence={"refrable": 0.1})
    with pytest.raises(DataError, match="typo"):
        validate_site(clinic, model, tmp_path / "out", groups=tmp_path / "typo.csv")
    (tmp_path / "groups.csv").write_text("image,camera\nnobody.jpg,T\n")
    with pytest.raises(DataError, match="no image of the photographs is in it"):
        validate_site(clinic, model, tmp_path / "out", groups=tmp_path / "groups.csv")
    assert not (tmp_path / "out").exists()


def test_what_is_no_site(model, rendered, tmp_path):
    rows = tuple(replace(row, grade=None) for row in rendered.rows[:3])
    write_manifest(Manifest(rows, rendered.root), tmp_path / "manifest.csv")
    with pytest.raises(DataError, match="none has a grade"):
        validate_site(tmp_path / "manifest.csv", model, tmp_path / "out", images=rendered.root)
    with pytest.raises(SettingError, match="a name that can be shared"):
        validate_site(tmp_path, model, tmp_path / "out", name=" ")
    train = rendered.select("train").rows[:4]
    for graded, match in ((4, "it knows all of these"), (3, "no photograph with a true grade but 3 that the model")):
        rows = [Row(row.image, f"clinic {row.patient}", grade=row.grade) for row in train[:graded]]
        rows += [Row(row.image, f"clinic {row.patient}") for row in rendered.select("test").rows[: 4 - graded]]
        write_manifest(Manifest(tuple(rows), rendered.root), tmp_path / f"{graded}.csv")
        with pytest.raises(DataError, match=match):
            validate_site(tmp_path / f"{graded}.csv", model, tmp_path / "out", images=rendered.root, workers=1)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [CACHE]


# --- the reference ---


def test_a_reference_comes_back(model, rendered, tmp_path):
    found = read_reference(model)
    train = rendered.select("train")
    assert len(found) == found.photographs == len(train) and found.patients == len(set(train.patients()))
    assert sorted(found.grades) == sorted(row.grade for row in train)
    assert read_reference(tmp_path) is None
    write_reference(tmp_path, found)
    assert read_reference(tmp_path) == found and load_bundle(model).hash  # no part of the hash


def test_a_large_set_is_drawn_by_patient(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_module, "MOST", 9)
    found = make_reference(rendered, "m2cnn", tmp_path, workers=1)
    assert len(found) == 8 and found.patients == 4 and found.photographs == len(rendered.select("train"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "unusable"),
        ('{"schema": "m2cnn.reference/9"}', "schema is"),
        ('{"schema": "m2cnn.reference/1"}', "unusable"),
    ],
)
def test_what_is_no_reference(text, message, tmp_path):
    (tmp_path / REFERENCE).write_text(text)
    with pytest.raises(DataError, match=message):
        read_reference(tmp_path)
    with pytest.raises(SettingError, match="different lengths"):
        Reference("m", 1, (0,), (0, 1), (False,), {})


def test_the_reference_is_of_the_models_own_photographs(tiny_run, clinic, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    assert main(["reference", str(run), "--data", str(run), "--workers", "1"]) == 0
    assert "photographs" in capsys.readouterr().out and read_reference(run / "bundle")
    assert main(["reference", str(run), "--data", str(clinic)]) == 2
    assert "another manifest than the model was trained on" in capsys.readouterr().err
