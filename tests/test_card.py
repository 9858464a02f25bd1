"""Model cards: every number comes from a file with its interval, and what nobody measured is said to be so."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import wraps

import numpy as np
import pytest

import m2cnn.card_groups
from m2cnn.bootstrap import shown
from m2cnn.bundle import load_bundle, with_calibration
from m2cnn.calibration import Calibration, Point
from m2cnn.card import CARD, add_evidence, add_picture, read_card
from m2cnn.card_page import FORBIDDEN, GAPS, model_card
from m2cnn.cli import OK, REFUSED, main
from m2cnn.combine import Mean
from m2cnn.data.terms import terms_of
from m2cnn.errors import DataError, SettingError
from m2cnn.export import Origin, save_combined
from m2cnn.grades import DISCLAIMER
from m2cnn.predictions import Predictions, read_predictions, write_predictions
from m2cnn.profile.look import look_at_style
from m2cnn.summary import read_metrics, summarise, write_metrics
from m2cnn.weights_header import stored_numbers


@pytest.fixture
def model(tiny_run, tmp_path):
    """A copy of the tiny bundle, calibrated by hand; what is added to it stays here."""
    shutil.copytree(tiny_run / "bundle", tmp_path / "model")
    points = (Point("high-sensitivity", 1.0, 0.95, (0.9, 0.8, 1.0), (0.5, 0.4, 0.6)),)
    return with_calibration(load_bundle(tmp_path / "model"), Calibration(points=points, photographs=9, patients=5))


def graded(truth, decoded, bundle, patients=None, system="m2cnn", folder=""):
    """A table of photographs with these grades; decoded -1: refused."""
    decoded, count = np.array(decoded), len(truth)
    given = decoded >= 0
    return Predictions(
        image=np.array([f"{folder}{n}.png" for n in range(count)]),
        patient=np.array(patients or [str(n) for n in range(count)]),
        eye=np.array(["left", "right"] * count)[:count],
        split=np.array(["test"] * count),
        grade=np.array(truth),
        probabilities=np.full((count, 5), np.nan),
        severity=np.where(given, decoded, np.nan),
        decoded=decoded,
        gradable=given,
        reason=np.where(given, "", "dark"),
        system=np.array([system] * count),
        bundle=np.array([bundle] * count),
    )


def kept(folder, table, command="m2cnn evaluate M --data D"):
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(table, folder / "predictions.csv")
    write_metrics(summarise(table, 50, context={"command": command}), folder / "metrics.json")
    return folder


TRUTH = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
SAID = [0, 0, 1, 3, 0, 1, 2, 1, 1, 3, 0, 4, -1]


@pytest.fixture
def measured(model, tmp_path):
    return kept(tmp_path / "measured", graded(TRUTH, SAID, model.hash))


def section(page, title):
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def cells(page):
    """The cells of the bodies of all tables."""
    for block in re.findall(r"(?m)^\|(?:---\|| --- \|)+\n((?:\|.*\n)*)", page):
        for line in block.splitlines():
            yield from line.strip("|").split("|")


# --- the page ---


def test_a_card_without_evidence_says_so_and_guesses_nothing(model):
    page = model_card(model.folder)
    assert page.startswith(f"# Model card: m2cnn\n\n**{DISCLAIMER}**\n")
    for title in ("What was measured", "Parts of the patients", "Known failures"):
        assert "Not measured: no evidence was added" in section(page, title)
    gaps = section(page, "Not measured by anybody")
    assert all(f"| {gap} | not measured |" in gaps for gap in GAPS)
    assert all(text in section(page, "Uses") for text in FORBIDDEN)
    assert all(cell.strip() and cell.strip() not in ("None", "nan", "{}") for cell in cells(page))


def test_it_says_what_the_bundle_says(model, tiny_recipe):
    page = model_card(model.folder)
    told = model.settings["training"]
    assert model.hash in section(page, "What it is") and "m2cnn 0.1.0" in page
    data = section(page, "Data")
    assert f"| photographs that taught it | {told['photographs']} |" in data
    grades = told["counts"]["train"]["m2cnn synthetic"]["grades"]
    assert re.search(r"\| train \| m2cnn synthetic \| \d+ \| \d+ \| " + r" \| ".join(map(str, grades)), data)
    assert re.search(r"\| lockbox \| m2cnn synthetic \| \d+ \| \d+ \| closed", data)
    procedure = section(page, "Procedure")
    stage = tiny_recipe.stages[1]
    assert f"{stage.epochs} passes at {stage.size} px, 1 cells, rate {stage.lr:g}" in procedure
    assert "| input | 112 px of a prepared picture of 112 px |" in procedure
    assert f"{stored_numbers(model.folder / 'weights.safetensors')['float32']:,} as float32" in procedure
    calibration = section(page, "Calibration and operating points")
    assert "fitted on 9 photographs of 5 patients" in calibration
    assert "sensitivity 0.900 (0.800 to 1.000)" in calibration and "target of 0.95" in calibration


def test_every_file_stands_there_with_its_hash(model, tmp_path):
    joined = save_combined(tmp_path / "joined", {"a": model}, Mean(), b"x", Origin("m2cnn", "y", {}, b"z"))
    files = section(model_card(joined.folder), "Files")
    paths = [path for path in joined.folder.rglob("*") if path.is_file()]
    assert len(paths) == 7 == files.count("\n| ") - 2
    for path in paths:
        name, digest = path.relative_to(joined.folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"| {name} | {path.stat().st_size:,} | {digest} |" in files


def test_what_the_table_says_of_its_trunk_is_not_said_of_another(model):
    text = section(model_card(model.folder), "What it is")
    assert "| network | inception_resnet_v2, 112 px, 1 cell |" in text
    assert "trunk computed from its map sizes (Inception-ResNet-v2)" in text
    edit(model.folder, network=model.settings["network"] | {"trunk": "timm:mobilenetv2_035"})
    text = section(model_card(model.folder), "What it is")
    assert "| network | timm:mobilenetv2_035, 112 px, 1 cell |" in text
    other = "ours: the row m2cnn of the table with timm:mobilenetv2_035 in place of inception_resnet_v2"
    assert "Inception-ResNet-v2" not in text and f"| source | {other} |" in text
    edit(model.folder, source="gone on from 0123")
    assert "| source | gone on from 0123 |" in section(model_card(model.folder), "What it is")


def test_weights_of_eyepacs_are_for_research_only(model):
    assert "for research only" not in section(model_card(model.folder), "Who may use it")
    edit(model.folder, terms=terms_of(["eyepacs", "idrid"]).to_dict())
    terms = section(model_card(model.folder), "Who may use it")
    assert "**Weights: for research only.**" in terms
    assert "They learned from eyepacs, which may be used for research only; so may the weights." in terms
    assert "| idrid | attribution | CC BY 4.0 |" in terms
    edit(model.folder, terms=terms_of(["clinic"]).to_dict())
    assert "m2cnn does not know the terms of all of them" in section(model_card(model.folder), "Who may use it")


def test_an_older_or_uncalibrated_bundle_says_what_it_lacks(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "bundle", tmp_path / "old")
    settings = json.loads((folder / "system.json").read_text())
    del settings["training"]["counts"], settings["terms"], settings["training"]["precision"]
    (folder / "system.json").write_text(json.dumps(settings))
    page = model_card(folder)
    assert "Counts per grade: not recorded." in page and "| trained in | not recorded |" in page
    assert "the terms of the training photographs apply" in section(page, "Who may use it")
    assert "Not calibrated" in section(page, "Calibration and operating points")


def test_no_folder_of_whoever_trained_it_is_told(model):
    settings = json.loads((model.folder / "system.json").read_text())
    settings["network"]["weights"] = settings["training"]["recipe"]["network"]["weights"] = "/home/me/net.safetensors"
    (model.folder / "system.json").write_text(json.dumps(settings))
    page = model_card(model.folder)
    assert "/home/me" not in page and "From net.safetensors (their terms apply too)" in page


def edit(folder, **changes):
    path = folder / "system.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- evidence ---


def test_evidence_is_shown_with_intervals_command_and_counts(model, measured):
    add_evidence(model.folder, "test", measured, replicates=50)
    assert load_bundle(model.folder).hash == model.hash  # measured after it was frozen
    page = model_card(model.folder)
    text, metrics = section(page, "What was measured"), read_metrics(measured / "metrics.json")["metrics"]
    assert f"| QWK | {shown(**metrics['qwk'])} |" in text and "(" in shown(**metrics["qwk"])
    assert "| calibration error (ECE), grade | not measured |" in text  # it has no probabilities
    assert "`m2cnn evaluate M --data D`" in text and f"this model ({model.hash})" in text
    assert "| photographs | 13 of 13 patients |" in text and "| refused as not gradable | 1 |" in text
    assert all(cell.strip() for cell in cells(page))


def test_the_frozen_points_are_measured_where_this_very_model_graded(model, measured, tmp_path):
    point = add_evidence(model.folder, "test", measured, replicates=50).evidence[0].points["high-sensitivity"]
    assert point["sensitivity"][0] == 5 / 6  # refer from severity 1: of 6 graded referable ones, one was called 0
    assert point["specificity"][0] == 3 / 6
    other = kept(tmp_path / "other", graded(TRUTH, SAID, "0123456789abcdef"), command="")
    add_evidence(model.folder, "folds", other, replicates=50)
    text = section(model_card(model.folder), "What was measured").partition("### folds")[2]
    assert "**other models than this one**" in text and "operating points on these photographs: not measured" in text
    assert "| command | not recorded |" in text


def test_a_model_that_was_calibrated_again_does_not_claim_what_its_former_points_did(model, measured):
    add_evidence(model.folder, "test", measured, replicates=50)
    assert "| high-sensitivity | 0.833" in section(model_card(model.folder), "What was measured")
    points = (replace(model.calibration.points[0], severity=3.0),)
    again = with_calibration(model, replace(model.calibration, points=points))
    text = section(model_card(again.folder), "What was measured")
    assert "0.833" not in text.partition("operating points")[2] and "photographs: not measured" in text
    assert f"**other models than this one**, of the same system: {model.hash}" in text


def test_missed_grades_and_other_failures_are_counted(model, measured):
    severe = add_evidence(model.folder, "test", measured, replicates=50).evidence[0].severe
    assert severe["grades"] == {
        "3": {"photographs": 2, "not_referred": 1, "refused": 0},
        "4": {"photographs": 3, "not_referred": 1, "refused": 1},
    }
    assert severe["referred"]["value"] == 0.5
    text = section(model_card(model.folder), "Known failures")
    assert "of 3 photographs 1 were graded 0 or 1 and so not referred, 1 were refused" in text
    assert "referred: 0.500 (" in text
    assert "Two or more grades off: 3 of 12" in text and "Healthy eyes graded 3 or 4: 1 of 4" in text
    assert "Grade 1 (microaneurysms only) graded 0: 1 of 2" in text


def test_without_grades_3_and_4_nothing_is_claimed_of_them(model, tmp_path):
    folder = kept(tmp_path / "mild", graded([0, 1, 2, 2], [0, 1, 2, 1], model.hash))
    add_evidence(model.folder, "mild", folder, replicates=50)
    text = section(model_card(model.folder), "Known failures")
    assert "Grade 4 (proliferative): no photograph, so not measured." in text
    assert "grades 3 and 4 that was referred: not measured." in text
    numbers = section(model_card(model.folder), "What was measured")
    assert "| sensitivity, grade 0 | 1.000 (0.025 to 1.000) |" in numbers
    assert "| QWK | " in numbers and "(no interval can be told) |" in numbers
    assert "| sensitivity, grade 4 | not measured |" in numbers


def test_few_patients_carry_a_warning_and_many_do_not(model, tmp_path):
    truth = [0, 2] * 31  # 31 patients, both eyes: left eyes healthy
    table = graded(truth, truth, model.hash, [str(n // 2) for n in range(62)])
    add_evidence(model.folder, "many", kept(tmp_path / "many", table), replicates=50)
    few = graded(truth[:58], truth[:58], model.hash, [str(n // 2) for n in range(58)])
    add_evidence(model.folder, "few", kept(tmp_path / "few", few), replicates=50)
    many, few = section(model_card(model.folder), "Parts of the patients").split("### few")
    assert "fewer than 30 patients" not in many and few.count("**fewer than 30 patients: says little**") == 2
    assert "| eye | left | 31 | 31 |" in many
    assert "| colour | not measured | not measured |" in many and "| field | not measured |" in many


def test_the_photographs_tell_source_colour_and_field(model, tiny_run, rendered, tmp_path):
    table = read_predictions(tiny_run / "test" / "predictions.csv")
    folder = kept(tmp_path / "site", replace(table, place=None))
    alone = add_evidence(model.folder, "test", folder, replicates=20).evidence[0].groups
    assert {group.by for group in alone} == {"eye"}
    data = rendered.root / "manifest.csv"
    groups = add_evidence(model.folder, "test", folder, data=data, replicates=20).evidence[0].groups
    found = {kind: {group.name for group in groups if group.by == kind} for kind in ("source", "colour", "field")}
    assert found["source"] == {"m2cnn synthetic"} and found["field"] == {"0 to 349 px"}
    assert found["colour"] <= {"natural", "stretched"}
    assert all(sum(g.photographs for g in groups if g.by == kind) == len(table) for kind in found)
    # In a run's own folder, its manifest lies around.
    groups = add_evidence(model.folder, "run", tiny_run / "test", replicates=20).evidence[1].groups
    assert {group.by for group in groups} == {"eye", "source"}


def test_a_photograph_is_looked_at_once_in_a_command(capsys, model, tiny_run, rendered, monkeypatch):
    looked = []

    @wraps(look_at_style)
    def counted(file):
        looked.append(file)
        return look_at_style(file)

    monkeypatch.setattr(m2cnn.card_groups, "look_at_style", counted)
    added = [word for name in ("one", "two") for word in ("--add", f"{name}={tiny_run / 'test'}")]
    data = ("--data", rendered.root / "manifest.csv", "--replicates", 20)
    code, _, err = run(capsys, "card", model.folder, *added, *data)
    assert code == OK and len(looked) == len(read_predictions(tiny_run / "test" / "predictions.csv")), err


def test_a_cross_validation_tells_sources_by_its_folders(model, tmp_path):
    first, second = graded(TRUTH, SAID, "aa", folder="a/"), graded(TRUTH, SAID, "bb", folder="b/")
    parts = {name: getattr(first, name) for name in first.__dataclass_fields__ if name != "place"}
    pooled = Predictions(**{name: np.concatenate([each, getattr(second, name)]) for name, each in parts.items()})
    folder = kept(tmp_path / "pooled", pooled)
    kept(folder / "eyepacs", first)
    kept(folder / "idrid", second)
    groups = add_evidence(model.folder, "folds", folder, replicates=20).evidence[0].groups
    sources = {group.name: group.photographs for group in groups if group.by == "source"}
    assert sources == {"eyepacs": 13, "idrid": 13}


def test_a_name_that_is_there_is_replaced(model, measured, tmp_path):
    add_evidence(model.folder, "test", measured, replicates=20)
    again = kept(tmp_path / "again", graded([0, 2, 4], [0, 2, 4], model.hash))
    add_evidence(model.folder, "other", measured, replicates=20)
    card = add_evidence(model.folder, "test", again, replicates=20)
    assert [(one.name, one.summary["n_images"]) for one in card.evidence] == [("other", 13), ("test", 3)]


# --- pictures ---


def test_a_rendered_photograph_is_kept_and_found_from_the_page(model, rendered, tmp_path):
    file = rendered.path(rendered.rows[0])
    (picture,) = add_picture(model.folder, file, "missed").pictures
    assert (model.folder / picture.file).read_bytes() == file.read_bytes()
    page = model_card(model.folder, tmp_path / "docs")
    (link,) = re.findall(r"!\[missed\]\((.*)\)", page)
    assert (tmp_path / "docs" / ".." / link.removeprefix("../")).resolve().is_file() and link.startswith("../model/")
    assert "*missed (rendered)*" in page


def test_any_other_photograph_is_refused(model, rendered, tmp_path):
    for name in ("patient.png", rendered.rows[0].image):
        (tmp_path / name).write_bytes(rendered.path(rendered.rows[0]).read_bytes() + b"x")
    shutil.copy(rendered.root / "manifest.csv", tmp_path / "manifest.csv")
    for name in ("patient.png", rendered.rows[0].image):  # not in the manifest; in it, with other bytes
        with pytest.raises(SettingError, match="is not known to be rendered"):
            add_picture(model.folder, tmp_path / name, "x")
    with pytest.raises(SettingError, match="no file"):
        add_picture(model.folder, tmp_path / "none.png", "x")
    assert not (model.folder / "pictures").exists()


# --- refusals ---


def test_what_does_not_belong_is_refused(model, measured, tmp_path):
    other = kept(tmp_path / "other", graded(TRUTH, SAID, "aa", system="basenet"))
    with pytest.raises(SettingError, match="numbers of system basenet; expected of m2cnn"):
        add_evidence(model.folder, "x", other)
    shutil.copy(kept(tmp_path / "less", graded(TRUTH[:5], SAID[:5], "aa")) / "metrics.json", measured / "metrics.json")
    with pytest.raises(DataError, match=r"13 photographs, 12 scored; metrics\.json says otherwise"):
        add_evidence(model.folder, "x", measured)
    with pytest.raises(SettingError, match="a name ' '"):
        add_evidence(model.folder, " ", measured)
    with pytest.raises(DataError, match=r"metrics\.json"):
        add_evidence(model.folder, "x", tmp_path / "nowhere")
    assert not (model.folder / CARD).exists()


def test_data_of_other_photographs_are_refused(model, measured, rendered):
    with pytest.raises(DataError, match="none of the photographs that were graded"):
        add_evidence(model.folder, "x", measured, data=rendered.root / "manifest.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(schema="m2cnn.card/2"), "newer m2cnn"),
        (lambda card: card.pop("pictures"), "unusable"),
        (lambda card: card["evidence"][0].update(more=1), 'unknown key "more"'),
        (lambda card: card["evidence"][0]["groups"][0].update(more=1), 'unknown key "more"'),
        (lambda card: card["evidence"][0]["summary"]["metrics"]["qwk"].pop("low"), "qwk without its interval"),
        (lambda card: card["evidence"][0]["summary"].pop("confusion"), "confusion"),
        (lambda card: card["evidence"][0]["summary"].update(schema="x"), "summary of schema"),
    ],
)
def test_a_changed_card_is_refused(model, measured, change, message):
    add_evidence(model.folder, "test", measured, replicates=20)
    card = json.loads((model.folder / CARD).read_text())
    change(card)
    (model.folder / CARD).write_text(json.dumps(card))
    with pytest.raises(DataError, match=message):
        model_card(model.folder)
    (model.folder / CARD).write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_card(model.folder)


# --- the verb ---


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_verb_prints_adds_and_writes(capsys, model, measured, rendered, tmp_path):
    code, out, _ = run(capsys, "card", model.folder)
    assert code == OK and out == model_card(model.folder)
    picture = f"{rendered.path(rendered.rows[0])}=a missed eye = one"
    words = ("--add", f"test={measured}", "--picture", picture, "--replicates", 20, "--out", tmp_path / "card.md")
    code, out, err = run(capsys, "card", model.folder, *words)
    assert code == OK and out == f"{tmp_path / 'card.md'}\n", err
    page = (tmp_path / "card.md").read_text()
    assert "### test" in page and "![a missed eye = one](model/pictures/" in page


def test_a_page_is_not_written_over(capsys, model, measured, tmp_path):
    page = tmp_path / "card.md"
    page.write_text("notes of mine")
    words = ("card", model.folder, "--add", f"test={measured}", "--replicates", 20, "--out", page)
    code, out, err = run(capsys, *words)
    assert (code, out) == (REFUSED, "") and f"{page}: it exists; expected a file that is not there yet" in err
    assert page.read_text() == "notes of mine" and not read_card(model.folder).evidence
    page.unlink()
    assert run(capsys, *words)[0] == OK and page.read_text().startswith("# Model card")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--add", "test"], "expected NAME=FOLDER"),
        (["--picture", "x.png"], "expected FILE=CAPTION"),
        (["--out", "system.json"], "a page to write"),
        (["--data", "x"], "without --add"),
        (["--replicates", "0"], "20 or more"),
        (["--add", "test=nowhere"], "metrics.json"),
    ],
)
def test_the_verb_refuses_half_an_order(capsys, model, words, message):
    code, _, err = run(capsys, "card", model.folder, *words)
    assert code == REFUSED and message in err


def test_without_a_model_it_is_the_packaged_default(capsys, model, monkeypatch, tmp_path):
    import m2cnn.packaged

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(m2cnn.packaged, "HOME", tmp_path / "home")
    code, _, err = run(capsys, "card")
    assert code == REFUSED and "Packaged models: none" in err
    shutil.copytree(model.folder, tmp_path / "home" / "default")
    code, out, _ = run(capsys, "card")
    assert code == OK and out.startswith("# Model card: default (m2cnn)\n")


def test_a_card_needs_no_torch(model):
    hidden = ("torch", "torchvision", "lightning", "timm", "safetensors", "onnx", "sklearn")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); from m2cnn.cli import main\n"
    code += f"sys.exit(main(['card', {str(model.folder)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("# Model card"), done.stderr
