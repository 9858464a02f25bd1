"""The report: its numbers are those of the summary, nothing is missing or made up, and anybody can read it."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from m2cnn.bootstrap import shown
from m2cnn.calibration import Calibration, Point
from m2cnn.card_page import model_card
from m2cnn.cli import main
from m2cnn.combine import Mean
from m2cnn.data import Manifest, Row, write_manifest
from m2cnn.data.manifest import file_hash
from m2cnn.data.views import Views
from m2cnn.errors import DataError, MissingExtra, SettingError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.plots import font_file
from m2cnn.predictions import NO_GRADE, Predictions, write_predictions
from m2cnn.reporting import document_of, pdf, sections, write_report
from m2cnn.reporting.checklists import FILLED, OPEN, PARTLY, Item, facts, guidelines, state
from m2cnn.reporting.document import Document, Gallery, Items, Plot, Section, Shot, Text, table
from m2cnn.reporting.html import to_html
from m2cnn.reporting.mistakes import worst
from m2cnn.reporting.pdf import to_pdf
from m2cnn.reporting.study import read_study
from m2cnn.summary import summarise
from m2cnn.wording import grade_rule

PIXEL = cv2.imencode(".jpg", np.full((8, 12, 3), 90, np.uint8))[1].tobytes()
REPLICATES = 60


def predictions(patients=30, **columns):
    """Both eyes of each patient: grades in turn, every seventh photograph a grade off; the third photograph is
    refused, the last has no true grade, and the eyes of the fifth patient have grade 4 and were graded 0.
    """
    count = 2 * patients
    grade = np.arange(count) // 2 % 5
    severity = np.clip(grade + np.where(np.arange(count) % 7 == 0, 0.9, 0.1), 0, 4)
    severity[8:10] = 0.2
    good = np.arange(count) != 2
    chances = np.full((count, 5), 0.05)
    decoded = np.floor(severity + 0.5).astype(int)
    chances[np.arange(count), decoded] = 0.8
    values = {
        "image": [f"{n:03d}.jpg" for n in range(count)],
        "patient": [f"p{n // 2:02d}" for n in range(count)],
        "eye": ["left", "right"] * patients,
        "split": ["test"] * count,
        "grade": np.where(np.arange(count) == count - 1, NO_GRADE, grade),
        "probabilities": np.where(good[:, None], chances, np.nan),
        "severity": np.where(good, severity, np.nan),
        "decoded": np.where(good, decoded, NO_GRADE),
        "gradable": good,
        "reason": np.where(good, "", "too dark"),
        "system": ["some-system"] * count,
        "bundle": [""] * count,
    }
    return Predictions(**(values | columns))


@pytest.fixture
def folder(tmp_path):
    write_predictions(predictions(), tmp_path / "predictions.csv")
    return tmp_path


@pytest.fixture
def study(folder):
    return read_study(folder, replicates=REPLICATES)


def text_of(html):
    """What a page says, pictures by their text."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r'<img[^>]*alt="([^"]*)"[^>]*>', r"\1", html)))


def section(document, title):
    return next(each for each in document.sections if each.title == title)


def cells(document, title):
    """By first cell, the rows of all tables of a section."""
    tables = [block for block in section(document, title).blocks if hasattr(block, "rows")]
    return {row[0]: row[1:] for one in tables for row in one.rows}


# --- the numbers ---


def test_the_numbers_are_those_of_the_summary(study):
    metrics = summarise(predictions(), REPLICATES)["metrics"]
    document = document_of(study)
    assert cells(document, "Grades")["QWK"] == (shown(**metrics["qwk"]),)
    assert cells(document, "Grades")["2 moderate"][1] == shown(**metrics["sensitivity_grade_2"])
    ends = cells(document, "Referable and other disease")
    assert ends["AUC"] == tuple(shown(**metrics[f"{end}_auc"]) for end in ("referable", "any", "vision_threatening"))
    assert cells(document, "Do stated chances come true?")["referable: Brier score"] == (
        shown(**metrics["referable_brier"]),
    )
    assert shown(**metrics["qwk"]) in " ".join(document.lead)


def test_the_lead_counts_patients_by_hand(study):
    # Of 30 patients 18 have grade 2 or more; the two of grade 4 that are wrong are patient 4's eyes. Patient 1 has an
    # eye that was refused and a good one of grade 1: no result, so sent on. 12 are not referable; one of grade 1 has an
    # eye that was called 2 (photograph 42, severity 1.9; 7 and 14, 28 ... are of other grades).
    said = " ".join(document_of(study).lead)
    assert "60 photographs of 30 patients, split test" in said
    assert "sends 94.4 % (" in said and "Of 6 patients with proliferative disease 1 were not sent on" in said
    assert "1 of 60 (1.7 % (0.3 to " in said and "could not be graded" in said
    people = dict.fromkeys(("p04",))
    found = section(document_of(study), "From photographs to patients").blocks
    lost = next(block for block in found if isinstance(block, Items))
    assert [item.partition(":")[0] for item in lost.items] == list(people)


def test_severities_are_counted_by_their_true_grade(study):
    rows = cells(document_of(study), "Severity by true grade")
    own = study.scored.severity[study.scored.grade == 3]
    assert rows["3 severe"][0] == str(len(own)) and rows["3 severe"][3] == f"{np.median(own):.2f}"


def test_photographs_are_counted_and_refusals_named(study):
    rows = cells(document_of(study), "Photographs, and whether the model knew them")
    assert rows["1 mild"] == ("12", "6", "1") and rows["no true grade"] == ("1", "1", "0")
    assert rows["too dark"] == ("1",)


def test_groups_of_a_table_of_ones_own(folder, tmp_path):
    (tmp_path / "groups.csv").write_text("patient,camera\n" + "".join(f"p{n:02d},{'AB'[n % 2]}\n" for n in range(30)))
    study = read_study(folder, groups=tmp_path / "groups.csv", replicates=REPLICATES)
    rows = cells(document_of(study), "Parts of the patients")
    assert rows["camera = A"][:2] == ("30", "15") and rows["eye = left"][:2] == ("30", "30")
    assert rows["camera = B"][-1] == "fewer than 100 patients"


def test_predictive_values_where_fewer_have_it(folder):
    plain = document_of(read_study(folder, replicates=REPLICATES))
    study = read_study(folder, replicates=REPLICATES, prevalence={"referable": 0.08})
    rows = cells(document_of(study), "Referable and other disease")
    wanted = study.summary["metrics"]["referable_ppv_at_prevalence"]
    assert rows["referable"] == (
        "8.00%",
        shown(**wanted),
        shown(**study.summary["metrics"]["referable_npv_at_prevalence"]),
    )
    assert "referable" not in cells(plain, "Referable and other disease")


def test_a_system_without_probabilities(tmp_path):
    write_predictions(predictions(probabilities=np.full((60, 5), np.nan)), tmp_path / "predictions.csv")
    said = document_of(read_study(tmp_path, replicates=REPLICATES))
    assert "states no probabilities" in section(said, "Do stated chances come true?").blocks[0].text


def test_one_grade_alone_has_no_curve(tmp_path):
    write_predictions(predictions(grade=np.zeros(60, int)), tmp_path / "predictions.csv")
    blocks = section(document_of(read_study(tmp_path, replicates=REPLICATES)), "Referable and other disease").blocks
    assert not any(isinstance(block, Plot) for block in blocks)


# --- warnings ---


def test_warnings_are_given_where_they_are_due(tmp_path):
    def notes(**columns):
        write_predictions(predictions(300, **columns), tmp_path / "predictions.csv")
        return " ".join(document_of(read_study(tmp_path, replicates=REPLICATES)).notes)

    plain = notes(grade=np.arange(600) // 2 % 5)
    assert "Small study" not in plain and "flatter" in plain and "no true grade" not in plain
    assert "Nobody checked whether the model learned" in plain
    assert "chosen by: the numbers flatter" in notes(split=["val"] * 600)
    assert "1 photographs have no true grade" in notes()
    write_predictions(predictions(), tmp_path / "predictions.csv")
    assert "Small study: 18 patients" in " ".join(document_of(read_study(tmp_path, replicates=REPLICATES)).notes)


def test_a_study_of_its_own_model_says_what_was_checked(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES, command="typed")
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    document = document_of(study)
    text = " ".join(
        block.text
        for block in section(document, "Photographs, and whether the model knew them").blocks
        if isinstance(block, Text)
    )
    assert "split by patient" in text and not any("Nobody checked" in note for note in document.notes)
    made = cells(document, "How it was made")
    assert made["command of the predictions"] == ("typed",) and made["model"] == (study.bundle.hash,)
    assert made["sha256 of the table"] == (file_hash(tmp_path / "predictions.csv"),)
    told = facts(study, maps=False)
    assert study.bundle.hash in told["system"] and told["internal"] and not told["external"]


def test_frozen_points_are_measured_on_these_photographs(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    point = Point("high-sensitivity", 0.0, 0.95, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    own = replace(study.bundle, calibration=Calibration(points=(point,)))
    rows = cells(document_of(replace(study, bundle=own)), "Referable and other disease")
    assert rows["high-sensitivity"][0] == "0.00" and rows["high-sensitivity"][1].startswith("1.000")
    assert rows["high-sensitivity"][2].startswith("0.000")


# --- mistakes ---


def test_the_worst_come_first_and_good_ones_not_at_all(study):
    p = study.scored
    places = worst(study, 100)
    off = np.abs(p.severity - p.grade)[places]
    assert (np.diff(off) <= 1e-6).all()
    assert set(places) == set(np.flatnonzero(p.decoded != p.grade))  # also one half a grade off that was graded well
    shots = section(document_of(study, worst=3), "The worst mistakes").blocks[-1].shots
    assert shots[0].title == "008.jpg: graded 0 (no apparent retinopathy), truth 4 (proliferative)" and len(shots) == 3
    assert not any(shot.picture for shot in shots)


def test_mistakes_that_nobody_asked_for(study):
    assert "not asked for" in section(document_of(study, worst=0), "The worst mistakes").blocks[0].text
    with pytest.raises(SettingError, match="0 or more"):
        document_of(study, worst=-1)


SHARES = [(1.0, "100"), (0.9967, "99.7"), (0.9996, "over 99.9"), (0.0, "0"), (0.0003, "under 0.1"), (0.5, "50")]


@pytest.mark.parametrize(("share", "text"), SHARES)
def test_no_share_is_rounded_to_all_or_none(share, text):
    assert sections._hundredths(share) == text


@pytest.fixture
def shown_folder(tmp_path):
    """A folder of pictures and their manifest: one is there, one was changed, one is broken, the others are lost."""
    good = np.full((60, 90, 3), 120, np.uint8)
    rows = []
    for n in range(60):
        if n in (8, 9, 0):
            cv2.imwrite(str(tmp_path / f"{n:03d}.jpg"), good)
        rows.append(Row(f"{n:03d}.jpg", f"p{n // 2:02d}", sha256="0" * 64 if n == 9 else "", source="clinic"))
    (tmp_path / "000.jpg").write_bytes(b"no picture")
    write_manifest(Manifest(tuple(rows), tmp_path), tmp_path / "manifest.csv")
    write_predictions(predictions(), tmp_path / "predictions.csv")
    return tmp_path


def test_photographs_are_shown_where_they_are(shown_folder):
    study = read_study(shown_folder, data=shown_folder / "manifest.csv", replicates=REPLICATES)
    document = document_of(study, worst=50)
    shots = {shot.title[:7]: shot for shot in section(document, "The worst mistakes").blocks[-1].shots}
    assert shots["008.jpg"].picture and "has changed" not in " ".join(shots["008.jpg"].lines)
    assert "the file has changed since it was listed" in shots["009.jpg"].lines
    assert "cannot be shown" in " ".join(shots["000.jpg"].lines) and not shots["000.jpg"].picture
    assert "shows photographs of patients" in document.notes[0]
    assert cells(document, "Parts of the patients")["source = clinic"][0] == "60"
    hidden = document_of(study, pictures=False)
    assert not any(shot.picture for shot in section(hidden, "The worst mistakes").blocks[-1].shots)
    assert "photographs of patients" not in " ".join(hidden.notes)


def test_maps_stand_beside_mistakes(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, data=tiny_run, images=rendered.root, replicates=REPLICATES)
    document = document_of(study, maps=True, worst=2)
    shots = section(document, "The worst mistakes").blocks[-1].shots
    assert shots and all("where its severity came from" in shot.alt and shot.picture for shot in shots)
    assert facts(study, maps=True)["explained"]


def test_the_verb_says_which_member_the_maps_are_of(study, tmp_path, monkeypatch, capsys):
    def said(bundle):
        monkeypatch.setattr("m2cnn.reporting.study.read_study", lambda *_, **__: replace(study, bundle=bundle))
        monkeypatch.setattr("m2cnn.reporting.write_report", lambda *_, **__: ("page", "pdf"))
        assert main(["report", str(tmp_path), "--out", str(tmp_path), "--maps"]) == 0
        return capsys.readouterr().out

    assert "the map that of a alone, not of b." in said(SimpleNamespace(members={"a": 0, "b": 0}))
    assert "alone" not in said(SimpleNamespace(members={}))


def test_maps_say_which_member_and_which_eye_they_are_of(tiny_run, rendered, tmp_path, monkeypatch):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, data=tiny_run, images=rendered.root, replicates=REPLICATES)

    def explain(model, paths, out, methods, targets):
        maps = []
        for member, level in (("a", 40), ("b", 200)):
            cv2.imwrite(f"{out}/{member}.png", np.full((8, 8, 3), level, np.uint8))
            told = {"warning": f"of {member}", "picture": f"{member}.png"}
            maps += [{"photograph": str(path), "member": member} | told for path in paths]
        return {"maps": maps}

    def said(**changes):
        found = replace(study, bundle=replace(study.bundle, **changes))
        return section(document_of(found, maps=True, worst=2), "The worst mistakes").blocks

    monkeypatch.setattr("m2cnn.explain.explaining.explain_photographs", explain)
    _, text, gallery = said(members={"a": study.bundle, "b": study.bundle}, combiner=Mean(other=0.3))
    assert "the map that of a alone, not of b" in text.text and "joins both eyes" in text.text
    assert gallery.shots and all("of a" in shot.lines for shot in gallery.shots)
    assert all(cv2.imdecode(np.frombuffer(shot.picture, np.uint8), 1).mean() < 60 for shot in gallery.shots)
    plain = said()[1].text
    assert "member" not in plain and "both eyes" not in plain
    alone = said(members={"a": study.bundle}, combiner=Mean(other=0.3))[1].text
    assert "member" not in alone and "joins both eyes" in alone


# --- checklists ---


def numbered(most, **parts):
    """1 to `most`, as text; parts: letters of n7, such as abc, in its place."""
    return [f"{n}{letter}" for n in range(1, most + 1) for letter in parts.get(f"n{n}", [""])]


STARD_AI = numbered(40, n15="abcd", n16="abc", n17="ab", n26="ab", n40="ab")
STARD_2015 = numbered(30, n10="ab", n12="ab", n13="ab", n21="ab")
TRIPOD_AI = numbered(
    *(27,),
    **{"n3": "abc", "n5": "ab", "n6": "abc", "n8": "abc", "n9": "abc", "n12": "abcdefg", "n18": "abcdef"},
    **{"n20": "abc", "n23": "ab", "n27": "abc"},
)


def test_every_item_of_the_guidelines_is_there_once_and_in_order():
    numbers = {g.name: [item.no.split()[0] for item in g.items] for g in guidelines()}
    assert numbers == {"STARD-AI": STARD_AI, "CLAIM": numbered(44), "TRIPOD+AI": TRIPOD_AI}


def test_the_items_of_stard_2015_and_of_development_alone_are_marked():
    marks = {
        g.name: {n: mark.strip("()") for n, _, mark in (i.no.partition(" ") for i in g.items)} for g in guidelines()
    }
    before = [mark for mark in marks["STARD-AI"].values() if mark != "new"]
    assert len(STARD_AI) - len(before) == 14 and sorted(before) == sorted(STARD_2015)
    alone = {letter: [n for n, mark in marks["TRIPOD+AI"].items() if mark == letter] for letter in "DE"}
    assert alone["D"] == ["9a", "12a", "12b", "12c", "15", "22", "27a", "27b"]
    assert alone["E"] == ["12f", "12g", "20c", "24"]


def test_every_fact_that_is_asked_for_can_be_told(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, data=tiny_run, images=rendered.root, replicates=REPLICATES)
    asked = {fact for guideline in guidelines() for item in guideline.items for fact in item.fact.split()}
    told = facts(study, maps=True)
    assert asked <= set(told) and set(told) <= asked
    assert {fact for fact in asked if not told[fact]} == {"external", "clusters", "fairness"}


def test_facts_of_several_members_are_all_of_theirs(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    one, training = study.bundle, study.bundle.settings["training"]

    def member(colour="natural", weights="", kind="all", photographs=training["photographs"]):
        told = training | {"photographs": photographs, "recipe": training["recipe"] | {"sampling": {"kind": kind}}}
        settings = one.settings | {"training": told, "network": one.settings["network"] | {"weights": weights}}
        return replace(one, settings=settings, preprocess=replace(one.preprocess, colour=colour))

    joined = {"a": member(), "b": member("graham", "far/away.safetensors", "weighted", 7), "c": member()}
    told = facts(replace(study, bundle=replace(one, members=joined)), maps=False)
    assert '"natural"' in told["preprocess"] and '"graham"' in told["preprocess"]
    assert "a, c: {" in told["preprocess"] and "; b: {" in told["preprocess"]
    assert told["began"] == "a, c: At random; b: From away.safetensors"
    assert "a, c: None in training: " in told["imbalance"] and "b: Photographs are drawn by grade" in told["imbalance"]
    assert told["ensemble"] == "3 networks: a, b, c"
    assert "b: 7 photographs of" in told["training"] and f"a, c: {training['photographs']} photo" in told["training"]
    alike = facts(replace(study, bundle=replace(one, members={"a": member(), "b": member()})), maps=False)
    alone = facts(replace(study, bundle=member()), maps=False)
    assert all(alike[key] == alone[key] for key in ("preprocess", "began", "imbalance", "training", "chosen"))


def test_what_a_model_began_as_and_was_kept_for(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    one = study.bundle

    def told(system="m2cnn", source="ours", without=(), **training):
        facts_of = {key: value for key, value in one.settings["training"].items() if key not in without} | training
        settings = one.settings | {"source": source, "training": facts_of}
        return facts(replace(study, bundle=replace(one, system=system, settings=settings)), maps=False)

    assert told()["chosen"].startswith("The pass with the best kappa") and told()["began"] == "At random"
    assert told(snapshot="last")["chosen"] == "The last pass" and "least loss" in told(snapshot="loss")["chosen"]
    assert told(start="m46")["began"] == "From the trained weights of m46"
    # Before it was recorded: only systems whose members all keep the best pass and begin anew say so.
    silent = {"without": ("snapshot", "start")}
    assert told(**silent)["chosen"] == told()["chosen"] and told(**silent)["began"] == "At random"
    assert not any(told(system, **silent)[key] for key in ("chosen", "began") for system in ("min-pooling", "mine"))
    more = told(source="gone on from 0123")
    assert more["began"] == "From model 0123" and "after those that model 0123 learned from" in more["training"]
    assert "or the start" in more["chosen"]


def test_what_the_table_says_of_its_trunk_is_not_said_of_another(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    network = study.bundle.settings["network"] | {"trunk": "timm:mobilenetv2_035"}
    other = replace(study.bundle, settings=study.bundle.settings | {"network": network})
    assert "Inception-ResNet-v2" in facts(study, maps=False)["system"]
    told = facts(replace(study, bundle=other), maps=False)["system"]
    assert "timm:mobilenetv2_035, 112 px" in told and "Inception-ResNet-v2" not in told


def test_facts_of_both_eyes_and_of_views(tiny_run, rendered, tmp_path):
    evaluate(tiny_run, rendered, tmp_path, replicates=REPLICATES)
    study = read_study(tmp_path, model=tiny_run, replicates=REPLICATES)
    one = facts(study, maps=False)
    assert one["predictors"] == "One colour photograph of a retina" and one["ensemble"] == "One network"
    member = replace(study.bundle, views=Views("random", 4))
    both = facts(replace(study, bundle=replace(member, members={"": member}, combiner=Mean(other=0.3))), maps=False)
    assert "both retinas" in both["predictors"] and "photographs alone" in both["blind"]
    assert both["ensemble"] == "One network; mean of 4 views of a photograph; joined by mean, which joins both eyes"


def test_cut_offs_are_those_of_the_model_and_were_frozen_or_not(tiny_run, rendered, tmp_path):
    for split in ("test", "val"):
        evaluate(tiny_run, rendered, tmp_path / split, Selection((split,)), replicates=REPLICATES)
    study, chosen = (read_study(tmp_path / split, model=tiny_run, replicates=REPLICATES) for split in ("test", "val"))
    assert study.bundle.task.uses_cuts
    told = facts(study, maps=False)["cutoffs"]
    assert told.startswith(f"Grades by {grade_rule(study.bundle.task)};")
    assert f"| grades by | {grade_rule(study.bundle.task)} |" in model_card(tiny_run)
    assert "referable disease from grade 2 on" in told and "Frozen" in told
    point = Point("high-sensitivity", 0.44, 0.95, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    bundle = replace(chosen.bundle, calibration=Calibration(points=(point,)))
    told = facts(replace(chosen, bundle=bundle), maps=False)["cutoffs"]
    assert "high-sensitivity from severity 0.44 on (chosen for 0.95)" in told
    assert "Set on photographs of this split" in told and "Frozen" not in told
    assert "was chosen by" in facts(chosen, maps=False)["internal"]
    assert "was chosen by" not in facts(study, maps=False)["internal"]


def test_another_list_is_told_apart_by_photograph_and_not_by_patient(study):
    def told(split):
        context = {"manifest": "other", "training_manifest": "own", "split": split}
        found = replace(study, context=context)
        found.__dict__["summary"] = study.summary | {"split": split}
        return facts(found, maps=False)

    assert told("test")["disjoint"].startswith("By photograph: none") and told("test")["external"]
    assert not told("val")["disjoint"] and not told("val")["internal"]
    asked = {(g.name, item.no): item for g in guidelines() for item in g.items}
    assert state(asked["CLAIM", "20"], told("test")) == PARTLY


def test_results_are_answered_by_numbers(study):
    told, metrics = facts(study, maps=False), study.summary["metrics"]
    assert all(shown(**metrics[key]) in told["estimates"] for key in ("qwk", "referable_auc", "referable_sensitivity"))
    assert told["events"] == ("35 of 58 scored photographs have referable disease, 18 of 30 patients with a true grade")
    assert "Nobody checked whether the model learned" in told["limits"] and "Small study" in told["limits"]
    left = replace(study, context={"left_out_as_trained_on": 3})
    assert facts(left, maps=False)["flow"].startswith("3 photographs were left out because the model knew them; 60 ")
    asked = {(g.name, item.no.split()[0]): item.fact for g in guidelines() for item in g.items}
    results = [("STARD-AI", "31"), ("CLAIM", "37"), ("CLAIM", "38"), ("TRIPOD+AI", "23a")]
    assert all("estimates" in asked[item].split() for item in results)
    assert all("events" in asked["TRIPOD+AI", item].split() for item in ("20a", "21"))


def test_an_eye_is_no_centre_and_a_centre_no_fairness(shown_folder):
    def told(text=""):
        (shown_folder / "groups.csv").write_text(text)
        groups = shown_folder / "groups.csv" if text else None
        manifest = shown_folder / "manifest.csv"
        found = facts(read_study(shown_folder, data=manifest, groups=groups, replicates=REPLICATES), maps=False)
        return [found[key].rpartition(": ")[2] for key in ("subgroups", "clusters", "fairness")]

    assert told() == ["eye", "", ""]  # one source alone is no part of the patients
    rows = [f"p{n:02d},{'AB'[n % 2]},{'fm'[n % 2]}\n" for n in range(30)]
    assert told("".join(["patient,source,sex\n", *rows])) == ["eye, sex, source", "sex, source", "sex"]


def test_mistakes_that_are_not_shown_answer_nothing(study):
    assert facts(study, maps=True)["failures"].startswith("Section The worst mistakes: 8 photographs")
    none = facts(study, maps=True, count=0)
    assert "The worst mistakes" not in none["failures"] and none["failures"] and not none["explained"]
    rows = section(document_of(study, worst=0), "Checklist: CLAIM").blocks[1].rows
    assert "The worst mistakes" not in next(row[3] for row in rows if row[0] == "39")


def test_anyones_software_and_blinding_are_not_known(study):
    told = facts(study, maps=False)
    assert not any(told.get(key) for key in ("software", "blind", "predictors", "unread", "poor", "output"))


def test_what_nobody_told_is_to_fill(study):
    told = facts(study, maps=False)
    assert not told.get("partition") and not told.get("system") and not told.get("explained")
    assert state(Item("1", "t", "measures"), told) == FILLED
    assert state(Item("1", "t", "measures", "more"), told) == PARTLY
    assert state(Item("1", "t", "partition"), told) == state(Item("1", "t"), told) == OPEN
    assert state(Item("1", "t", "measures intervals"), told) == FILLED
    assert state(Item("1", "t", "measures partition"), told) == PARTLY
    claim = section(document_of(study), "Checklist: CLAIM")
    rows = {row[0]: row for row in claim.blocks[1].rows}
    assert rows["22"][2:] == (OPEN, "") and rows["28"][2] == FILLED and "to say:" in rows["14"][3]
    counted = [sum(row[2] == each for row in rows.values()) for each in (FILLED, PARTLY, OPEN)]
    assert f"{counted[0]} items filled, {counted[1]} partly, {counted[2]} to fill." in claim.blocks[0].text


# --- what it refuses ---


def test_what_cannot_be_a_report(tmp_path, tiny_run, shown_folder, monkeypatch):
    with pytest.raises(DataError, match=r"nothing: no such file or folder"):
        read_study(tmp_path / "nothing")
    write_predictions(predictions(grade=np.full(60, NO_GRADE)), tmp_path / "predictions.csv")
    with pytest.raises(DataError, match="no photograph has a grade and a true grade"):
        read_study(tmp_path)
    write_predictions(predictions(), tmp_path / "predictions.csv")
    with pytest.raises(SettingError, match="graded by nobody knows which model; expected photographs that model"):
        read_study(tmp_path, model=tiny_run)
    other = tmp_path / "other"
    other.mkdir()
    write_manifest(Manifest((Row("x.jpg", "x"),), other), other / "manifest.csv")
    with pytest.raises(DataError, match="none of the photographs that were graded"):
        read_study(tmp_path, data=other / "manifest.csv")
    study = read_study(shown_folder, data=shown_folder / "manifest.csv", replicates=REPLICATES)
    with pytest.raises(SettingError, match="--model and --data"):
        document_of(study, maps=True)

    def missing(module, extra):
        raise MissingExtra(module, extra)

    monkeypatch.setattr("m2cnn.reporting.require", missing)
    with pytest.raises(MissingExtra, match="torch"):
        document_of(study, maps=True)


# --- the files ---


class Sound(HTMLParser):
    """Every tag is closed, every picture has a text, every head of a table its scope; links lead somewhere inside."""

    def __init__(self, html):
        super().__init__()
        self.open, self.faults, self.links, self.ids = [], [], [], []
        self.feed(html)
        self.faults += self.open + [link for link in self.links if link not in self.ids]

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "img" and not names.get("alt"):
            self.faults.append("img without a text")
        if tag == "th" and not names.get("scope"):
            self.faults.append("th without a scope")
        if tag in ("script", "link", "iframe") or any("//" in (value or "") for value in names.values()):
            self.faults.append(f"{tag} {names} reaches out")
        self.ids += [names["id"]] if "id" in names else []
        self.links += [names["href"].removeprefix("#")] if "href" in names else []

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def test_the_page_is_sound_and_stands_alone(shown_folder):
    study = read_study(shown_folder, data=shown_folder / "manifest.csv", replicates=REPLICATES)
    assert Sound(to_html(document_of(study))).faults == []


def test_the_page_says_all_that_the_document_does(study):
    document = document_of(study, command="m2cnn report <here> & there")
    text = text_of(to_html(document))
    for each in document.sections:
        assert each.title in text
        for block in each.blocks:
            for row in getattr(block, "rows", ()):
                assert all(cell in text for cell in row)
    assert "m2cnn report <here> & there" in text and "not a medical device" in text


def test_the_same_study_gives_the_same_files(study, tmp_path):
    first = [path.read_bytes() for path in write_report(study, tmp_path / "a")]
    assert first == [path.read_bytes() for path in write_report(study, tmp_path / "b")]


def pages(data):
    return len(re.findall(rb"/Type /Page\b", data))


def test_the_pdf_holds_every_kind_of_block():
    block = table("a caption", ("a", "b"), [("row <1>", "2")] * 120)
    shots = (Shot("a & b", ("said",), PIXEL, "what"), Shot("none", ()))
    png = cv2.imencode(".png", np.zeros((4, 8, 3), np.uint8))[1].tobytes()
    blocks = (Text("a < b"), Items(("one", "two"), "lead"), block, Plot(b"<svg/>", png, "alt"), Gallery(shots))
    made = to_pdf(Document("A title: Ω, ж", ("lead",), ("note",), (Section("A part", blocks),)))
    assert made.startswith(b"%PDF-") and pages(made) > 2 and b"/Outlines" in made
    assert pages(to_pdf(Document("A title", ("lead",), (), ()))) == 1


STRANGE = ("\u4e2d\u6587.jpg", "\u0930\u094b\u0917\u0940", "\u05d0\u05d1", "\U0001f441", "\x07")


def test_the_pdf_spells_what_its_font_lacks(monkeypatch):
    drawn = []

    class Spy(pdf.Paragraph):
        def __init__(self, text, style):
            drawn.append(unescape(text))
            super().__init__(text, style)

    known = pdf.TTFont("known", font_file()).face.charToGlyph
    monkeypatch.setattr(pdf, "Paragraph", Spy)
    plain = Document("Jos\u00e9, \u0416, \u03a9", ("a\nb",), (), (Section("A part", (Text("5 \u00b1 1"),)),))
    assert to_pdf(plain) and pdf.SPELT not in drawn and {"Jos\u00e9, \u0416, \u03a9", "5 \u00b1 1"} < set(drawn)
    drawn.clear()
    shot = Shot(STRANGE[0], (STRANGE[1],), PIXEL, STRANGE[0])
    blocks = (table("", ("patient",), [STRANGE[2:3]]), Items((STRANGE[3], STRANGE[4])), Gallery((shot,)))
    made = to_pdf(Document(STRANGE[0], ("lead",), (), (Section(STRANGE[1], blocks),)))
    assert made == to_pdf(Document(STRANGE[0], ("lead",), (), (Section(STRANGE[1], blocks),)))
    assert all(letter.isspace() or ord(letter) in known for letter in "".join(drawn))
    spelt = {r"\u4e2d\u6587.jpg", r"\u0930\u094b\u0917\u0940", r"\u05d0\u05d1", r"\U0001f441", r"\x07", pdf.SPELT}
    assert spelt <= set(drawn)


def test_the_command(folder, capsys):
    assert main(["report", str(folder), "--replicates", "50", "--worst", "2", "--prevalence", "0.1"]) == 0
    said = capsys.readouterr().out
    assert str(folder / "report.html") in said and "not a medical device" in said
    assert "10.00%" in (folder / "report.html").read_text() and (folder / "report.pdf").read_bytes()[:5] == b"%PDF-"


def test_the_command_on_anyones_table(tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("image_id,pred\n" + "".join(f"{n}_left.jpeg,{n % 5}\n" for n in range(20)))
    (tmp_path / "labels.csv").write_text("image,level\n" + "".join(f"{n}_left,{n % 4}\n" for n in range(20)))
    words = ["report", str(tmp_path / "mine.csv"), "--truth", str(tmp_path / "labels.csv"), "--replicates", "50"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    before = (tmp_path / "out" / "report.html").read_text()
    assert "How the table was understood" in before
    assert main([*words, "--out", str(tmp_path / "out"), "--worst", "3"]) == 2
    assert "report.html: it exists" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").read_text() == before


# --- in a browser ---


@pytest.fixture
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found and os.environ.get("M2CNN_NEEDS_BROWSER"):
        pytest.fail("no chromium, which M2CNN_NEEDS_BROWSER asks for")
    if not found:
        pytest.skip("no chromium on this machine")
    return found


PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.images].filter(one => !one.complete || !one.naturalWidth).length
  const body = getComputedStyle(document.body), html = document.documentElement
  document.title = [html.scrollWidth <= innerWidth, wide, body.color, getComputedStyle(html).colorScheme].join("|")
})</script>"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_in_a_browser_it_fits_a_phone_and_the_dark(browser, dark, shown_folder, tmp_path):
    study = read_study(shown_folder, data=shown_folder / "manifest.csv", replicates=REPLICATES)
    page = tmp_path / "probe.html"
    page.write_text(to_html(document_of(study)) + PROBE)
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--dump-dom"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    words += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=120)
    fits, broken, colour, scheme = re.search(r"<title>(.*?)</title>", done.stdout)[1].split("|")
    assert fits == "true" and broken == "0" and scheme == "light dark"
    assert colour == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")


def test_in_a_browser_it_prints(browser, study, tmp_path):
    html, _ = write_report(study, tmp_path / "out")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    printed = tmp_path / "printed.pdf"
    subprocess.run([*words, f"--print-to-pdf={printed}", html.as_uri()], capture_output=True, timeout=120, check=True)
    assert 3 < len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) < 30
