"""Calibration: fitted numbers against a second author, frozen points that do what they say, and no grade changed."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from tests.test_paper import predictions

from m2cnn.bundle import CALIBRATED, load_bundle, with_calibration
from m2cnn.calibration import (
    HIGH_SENSITIVITY,
    HIGH_SPECIFICITY,
    NONE,
    RIDGE,
    Calibration,
    Point,
    calibrate,
    fit_temperature,
)
from m2cnn.cli import main
from m2cnn.data import Manifest, Row, in_lockbox, open_data, write_manifest
from m2cnn.errors import DataError, SettingError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.grader import Grader
from m2cnn.predictions import read_predictions
from m2cnn.tasks import Decoded


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def sharpened(count, seed=0):
    """Grades drawn from known chances; what the system says of them is three times too sure, and biased."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 5)) * 2 + np.array([2, 0, 1, -1, -1])
    grade = np.array([rng.choice(5, p=chance) for chance in softmax(logits)])
    return softmax(3 * logits + np.array([-2, 0, 0, 1, 1])), grade, softmax(logits)


def cohort(count=600, seed=1):
    said, grade, _ = sharpened(count, seed)
    severity = said @ np.arange(5)
    return predictions(grade, np.round(severity).astype(int), severity, said, [f"p{n // 2}" for n in range(count)])


def test_temperature_and_bias_are_found_again():
    said, grade, true = sharpened(20_000)
    temperature, bias = fit_temperature(said, grade)
    assert temperature == pytest.approx(3, abs=0.15)
    assert np.allclose(bias, np.array([2, 0, 0, -1, -1]) / 3, atol=0.1)
    assert np.allclose(Calibration(temperature, bias).probabilities(said), true, atol=0.05)


def test_the_least_cross_entropy_as_scipy_finds_it():
    said, grade, _ = sharpened(300, 2)
    logs = np.log(said)

    def loss(theta):
        chances = softmax(theta[0] * logs + theta[1:])
        return -np.log(chances[np.arange(300), grade]).sum() + RIDGE / 2 * (theta[1:] ** 2).sum()

    theirs = minimize(loss, [1, 0, 0, 0, 0, 0], method="BFGS", options={"gtol": 1e-4}).x
    temperature, bias = fit_temperature(said, grade)
    assert temperature == pytest.approx(1 / theirs[0], rel=1e-3)
    assert np.allclose(bias, theirs[1:] - theirs[1:].mean(), atol=1e-3)


def test_outputs_that_say_nothing_or_the_opposite_stay_within_bounds():
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 5, 200)
    opposite = softmax(-3.0 * np.eye(5)[grade])
    temperature, bias = fit_temperature(opposite, grade)
    assert temperature == pytest.approx(20) and np.isfinite(bias).all()
    perfect = softmax(3.0 * np.eye(5)[grade])
    assert 0.05 <= fit_temperature(perfect, grade)[0] < 0.2


def test_a_grade_that_validation_lacks_has_a_finite_bias():
    said, grade, _ = sharpened(500)
    temperature, bias = fit_temperature(said[grade < 4], grade[grade < 4])
    assert np.isfinite([temperature, *bias]).all() and bias[4] < min(bias[:4])


def test_isotonic_chances_as_sklearn_has_them():
    rng = np.random.default_rng(3)
    severity = rng.uniform(0, 4, 400).round(2)
    grade = np.clip(np.round(severity + rng.normal(0, 1, 400)), 0, 4).astype(int)
    fitted = calibrate(predictions(grade, np.round(severity).astype(int), severity), replicates=20)
    assert fitted.temperature == 1 and len(fitted.severities) > 3
    theirs = IsotonicRegression().fit(severity, grade >= 2)
    middles = np.array(fitted.severities)
    assert np.allclose(fitted.chances, theirs.predict(middles), atol=1e-6)
    chance = fitted.chance(Decoded(None, np.array([0.0, 2.0, 4.0]), np.array([0, 2, 4])))
    assert chance[0] == fitted.chances[0] and chance[2] == fitted.chances[-1] and chance[0] < chance[1] < chance[2]


@pytest.mark.parametrize(("grades", "message"), [([0, 1], "no referable photograph"), ([2, 3], "photographs alone")])
def test_chances_of_one_kind_of_photograph_are_refused(grades, message):
    grade = np.array(grades * 20)
    with pytest.raises(DataError, match=message):
        calibrate(predictions(grade, grade, grade * 1.0), replicates=20)


def test_where_all_must_be_referred_all_are():
    """The lowest severity of all may come back a little lower from another machine, or from float32."""
    grade = np.array([2, 0, 0, 3] * 20)
    severity = np.where(grade == 2, 0.1, 1.0)
    sensitive = calibrate(predictions(grade, np.round(severity).astype(int), severity), 0.99, 0.5, 20).points[0]
    assert sensitive.severity == 0 and sensitive.sensitivity[0] == 1


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_points_reach_their_targets_and_not_a_photograph_more(target):
    table = cohort()
    ill = table.grade >= 2
    sensitive, specific = calibrate(table, target, target, replicates=200).points
    assert (sensitive.name, specific.name) == (HIGH_SENSITIVITY, HIGH_SPECIFICITY)
    found = (table.severity[ill] >= sensitive.severity).mean()
    assert found >= target and sensitive.sensitivity[0] == pytest.approx(found)
    later = np.sort(table.severity[table.severity > sensitive.severity])[0]
    assert (table.severity[ill] > later).mean() < target  # a later cut would miss it
    spared = (table.severity[~ill] < specific.severity).mean()
    assert spared >= target and specific.specificity[0] == pytest.approx(spared)
    earlier = np.sort(table.severity[table.severity < specific.severity])[-1]
    assert (table.severity[~ill] < earlier).mean() < target
    low, value, high = np.array(sensitive.sensitivity)[[1, 0, 2]]
    assert low < value < high


def test_few_patients_have_no_point():
    table = cohort(40)
    rare = replace(table.select(np.flatnonzero((table.grade < 2) | (np.cumsum(table.grade >= 2) <= 9))), place=None)
    fitted = calibrate(rare, replicates=20)
    assert fitted.points == () and fitted.refer(4.0) == {}
    assert "no operating point: it takes 10 referable photographs" in fitted.to_text()


def test_a_point_refers_from_its_severity_on():
    rates = ((0.9, 0.8, 1.0), (0.7, 0.6, 0.8))
    fitted = replace(NONE, points=(Point("a", 1.5, 0.9, *rates),), photographs=9)
    assert [fitted.refer(severity)["a"] for severity in (1.49, 1.5, 1.51)] == [False, True, True]
    decoded = Decoded(np.array([[0.1, 0.2, 0.3, 0.3, 0.1]]), np.array([2.0]), np.array([2]))
    assert fitted.chance(decoded) == pytest.approx(0.7)


def test_what_was_never_fitted_says_nothing():
    decoded = Decoded(np.full((1, 5), 0.2), np.array([2.0]), np.array([2]))
    assert NONE.chance(decoded) is None
    assert np.allclose(NONE.decoded(decoded).probabilities, decoded.probabilities)


def test_plain_values_and_back():
    fitted = calibrate(cohort(), replicates=50)
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False))) == fitted
    alone = calibrate(replace(cohort(), patient=np.full(600, "p"), place=None), replicates=5)  # no interval
    assert np.isnan(
        Calibration.from_dict(json.loads(json.dumps(alone.to_dict(), allow_nan=False))).points[0].sensitivity[1]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "calibration, temperature: 0.0"),
        ({"temperature": float("nan")}, "calibration, temperature: nan"),
        ({"bias": (0.0,) * 4}, "calibration, bias"),
        ({"severities": (1.0, 1.0), "chances": (0.1, 0.2)}, "calibration, severities"),
        ({"warmth": 1}, 'unknown key "warmth"'),
        ({"points": [{"name": "a", "height": 1}]}, 'calibration, points: unknown key "height"'),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(SettingError, match=message):
        Calibration.from_dict(values)


def test_bad_tables_are_refused():
    with pytest.raises(SettingError, match=r"calibrate, specificity: 1\.0; expected between 0 and 1"):
        calibrate(cohort(), specificity=1.0)
    with pytest.raises(DataError, match="1 different grades; expected two or more"):
        calibrate(predictions([1, 1], [1, 1]))


# --- a bundle ---


@pytest.fixture(scope="module")
def site(rendered, tiny_run, tmp_path_factory):
    """The tiny run's bundle, calibrated by the command line on all photographs that it did not learn from."""
    out = tmp_path_factory.mktemp("site") / "bundle"
    words = ["calibrate", str(tiny_run), "--data", str(tiny_run), "--split", "val,test", "--out", str(out)]
    assert main(words) == 0
    return out


def test_a_calibrated_bundle_gives_the_same_grades_and_other_chances(site, tiny_run, rendered):
    plain, fitted = Grader.load(tiny_run), Grader.load(site)
    assert fitted.bundle.hash != plain.bundle.hash
    assert fitted.bundle.calibration.photographs == sum(row.split in ("val", "test") for row in rendered)
    path = rendered.path(rendered.rows[0])
    one, two = plain.grade(path), fitted.grade(path)
    assert (one.grade, one.severity) == (two.grade, two.severity)
    expected = fitted.bundle.calibration.probabilities(np.array([one.probabilities]))[0]
    assert np.allclose(two.probabilities, expected) and not np.allclose(two.probabilities, one.probabilities)
    assert two.chance == pytest.approx(sum(two.probabilities[2:])) and one.chance is None
    assert {"chance", "refer"} <= two.as_dict().keys()


def test_calibrate_says_how_many_the_lockbox_keeps(tiny_run, rendered, tmp_path, capsys):
    free = [replace(row, split="") for row in rendered if row.split in ("test", "lockbox")]
    write_manifest(Manifest(tuple(free), rendered.root), tmp_path / "clinic.csv")
    kept = sum(in_lockbox(row.patient) for row in free)
    words = ["--data", str(tmp_path / "clinic.csv"), "--images", str(rendered.root), "--split", "all"]
    assert main(["calibrate", str(tiny_run), *words, "--out", str(tmp_path / "b")]) == 0
    said = f"{kept} photographs of the lockbox, which stays closed, took no part\n"
    assert kept > 1 and said in capsys.readouterr().out
    assert main(["evaluate", str(tiny_run), *words, "--replicates", "20", "--out", str(tmp_path / "e")]) == 0
    assert said in capsys.readouterr().out


def test_calibrating_twice_is_calibrating_once(site, tiny_run, tmp_path, capsys):
    words = ["--data", str(tiny_run), "--split", "val,test", "--out", str(tmp_path / "again")]
    assert main(["calibrate", str(site), *words]) == 0
    assert load_bundle(tmp_path / "again").hash == load_bundle(site).hash
    assert "temperature" in capsys.readouterr().out
    assert main(["calibrate", str(site), *words]) == 2
    assert "it exists" in capsys.readouterr().err


def test_the_photographs_of_the_points_are_not_measured_on(site, tiny_run, rendered, tmp_path):
    bundle, own = load_bundle(site), open_data(tiny_run)
    rows = [row for row in rendered if row.split == "test"]
    assert bundle.known().digests("calibration") == {row.sha256 for row in rows}
    assert CALIBRATED in bundle.settings["files"] and not load_bundle(tiny_run).known().digests("calibration")
    refused = rf"{len(rows)} of {len(rows)} photographs are known to the model: .*\(calibration, same bytes\)"
    strangers = tuple(Row(row.image, f"clinic {row.patient}", grade=row.grade) for row in rows)
    for manifest in (own, Manifest(tuple(replace(row, split="test") for row in strangers), rendered.root)):
        with pytest.raises(DataError, match=refused):
            evaluate(site, manifest, tmp_path / "out")
    copies = Manifest(tuple(replace(row, split="val") for row in strangers[:3]), tmp_path)
    for row in copies:
        small = cv2.resize(cv2.imread(str(rendered.root / row.image)), (170, 170), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / row.image), small)
    with pytest.raises(DataError, match=r"\(calibration, same photograph\)"):
        evaluate(site, copies, tmp_path / "out", Selection(("val",)))
    with pytest.raises(DataError, match="it knows all of these photographs"):
        evaluate(site, own, tmp_path / "out", trained_on="skip")
    # Validation is what it was, and a bundle that was not calibrated on them takes them.
    assert evaluate(site, own, tmp_path / "val", Selection(("val",)), replicates=10)["n_images"]
    assert evaluate(tiny_run, own, tmp_path / "test", replicates=10)["n_images"] == len(rows)


def test_the_photographs_of_training_are_refused(tiny_run, tmp_path, capsys):
    words = ["calibrate", str(tiny_run), "--data", str(tiny_run), "--split", "train", "--out", str(tmp_path / "b")]
    assert main(words) == 2
    assert "are known to the model" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_points_stand_in_every_row(site, rendered, tmp_path, capsys):
    shutil.copytree(site, tmp_path / "bundle")
    rates = ((0.9, 0.8, 1.0), (0.7, 0.6, 0.8))
    points = (Point("high-sensitivity", 0.0, 0.9, *rates), Point("high-specificity", 3.99, 0.9, *rates))
    bundle = with_calibration(load_bundle(tmp_path / "bundle"), replace(NONE, points=points, photographs=9))
    assert load_bundle(site).calibration != bundle.calibration  # in its folder alone
    path = str(rendered.path(rendered.rows[0]))
    assert main(["grade", path, "--model", str(bundle.folder), "--csv", str(tmp_path / "a.csv")]) == 0
    said = capsys.readouterr().out
    assert "high-sensitivity: refer, high-specificity: do not refer" in said and "chance of referable" in said
    header, row = (line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines())
    at = dict(zip(header, row, strict=False))
    assert (at["refer_high_sensitivity"], at["refer_high_specificity"]) == ("true", "false")
    assert float(at["chance"]) == pytest.approx(sum(float(at[f"p{grade}"]) for grade in (2, 3, 4)))


def test_patients_are_referred_by_a_point(site, rendered, tmp_path, capsys):
    shutil.copytree(site, tmp_path / "bundle")
    paths = [str(rendered.path(row)) for row in rendered.rows[:16]]
    assert main(["grade", *paths, "--model", str(site), "--csv", str(tmp_path / "plain.csv")]) == 0
    with open(tmp_path / "plain.csv", newline="") as file:
        middle = float(np.median([float(row["severity"]) for row in csv.DictReader(file)]))
    points = (Point("high-sensitivity", middle, 0.9, (0.9, 0.8, 1.0), (0.7, 0.6, 0.8)),)
    bundle = with_calibration(load_bundle(tmp_path / "bundle"), replace(NONE, points=points, photographs=9))
    assert main(["grade", *paths, "--model", str(bundle.folder), "--csv", str(tmp_path / "a.csv")]) == 0
    (tmp_path / "truth.csv").write_text("image,level\n" + "".join(f"{row.image},{row.grade}\n" for row in rendered))
    words = ["patients", str(tmp_path / "a.csv"), "--truth", str(tmp_path / "truth.csv"), "--replicates", "20"]
    asked = ["--point", "high-sensitivity", "--model", str(bundle.folder)]
    capsys.readouterr()
    assert main([*words, *asked, "--csv", str(tmp_path / "people.csv")]) == 0
    said = capsys.readouterr().out
    assert f"severity of {middle:.3f} or more in a field that can be graded: the operating point high-sens" in said
    assert "by the grade alone" not in said
    with open(tmp_path / "a.csv", newline="") as file:
        rows = {Path(row["image"]).name: row["refer_high_sensitivity"] for row in csv.DictReader(file)}
    sent = {}
    for row in rendered.rows[:16]:
        sent[row.patient] = sent.get(row.patient, False) or rows[row.image] == "true"
    with open(tmp_path / "people.csv", newline="") as file:
        people = {row["patient"]: row["refer_high_sensitivity"] == "true" for row in csv.DictReader(file)}
    assert people == sent and 0 < sum(sent.values()) < len(sent)
    ill = {row.patient for row in rendered.rows[:16] if row.grade >= 2}
    share = np.mean([sent[patient] for patient in ill])
    assert f"referable: sensitivity: {share:.3f}" in said.split("patients:")[1]
    # By the severity itself: the same, whoever graded.
    assert main([*words, "--point", str(middle), "--csv", str(tmp_path / "same.csv")]) == 0
    assert f"refer_from_{middle:g}" in (tmp_path / "same.csv").read_text()
    capsys.readouterr()
    for more, message in (
        (["--point", "high-sensitivity", "--model", str(site)], f"--point: graded by {bundle.hash}; expected"),
        (["--point", "high-sensitivty", "--model", str(bundle.folder)], 'Did you mean "high-sensitivity"'),
        (["--point", "7"], "--point: 7; expected the name of a point, or a severity of 0..4"),
        (["--model", str(bundle.folder)], "--model: no --point"),
        (["--point", ""], "--point: an empty text; expected a value"),
        (["--point", "1.5", "--model", str(bundle.folder)], "--model: --point 1.5, a severity; expected no model"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err


POINTS = {"sensitive": 0.5, "specific": 3.0}
BY_POINT = "the grade alone says not referable but sensitive says refer: go by the operating point"


@pytest.mark.parametrize(
    ("grade", "severity", "caution"),
    [
        (0, 0.4, ""),
        (0, 0.6, BY_POINT),
        (1, 3.1, BY_POINT.replace("sensitive says", "sensitive and specific say")),
        (2, 0.4, "the grade alone says referable but no operating point says refer"),
        (2, 0.6, ""),
        (4, 3.5, ""),
    ],
)
def test_a_grade_that_would_hide_what_a_point_refers_says_so(site, grade, severity, caution):
    rates = ((0.9, 0.8, 1.0), (0.7, 0.6, 0.8))
    points = tuple(Point(name, place, 0.9, *rates) for name, place in POINTS.items())
    bundle = replace(load_bundle(site), calibration=replace(NONE, points=points, photographs=9))
    decoded = Decoded(None, np.array([severity]), np.array([grade]))
    grading = Grader(bundle, ())._grading("a.jpg", decoded, 0, None, "")
    assert grading.caution.startswith(caution) and bool(grading.caution) == bool(caution)


def test_a_recipe_calibrates_at_the_end(rendered, tiny_recipe, tmp_path):
    from m2cnn.train import train

    recipe = replace(tiny_recipe, stages=tiny_recipe.stages[:1], calibrate=True)
    bundle = train(recipe, rendered, tmp_path / "run")
    val = [row for row in rendered if row.split == "val"]
    assert bundle.calibration.photographs == len(val) and CALIBRATED not in bundle.settings["files"]
    said = read_predictions(tmp_path / "run/val/predictions.csv")
    assert set(said.bundle) == {bundle.hash}
    assert load_bundle(tmp_path / "run").hash == bundle.hash
