"""Anyone's predictions are understood, or refused with a reason; nothing is guessed and nothing lost."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from m2cnn.cli import main
from m2cnn.errors import DataError
from m2cnn.foreign import read_anyones
from m2cnn.predictions import NO_GRADE, write_predictions
from m2cnn.truth import read_truth


@pytest.fixture
def written(tmp_path):
    def write(text, name="theirs.csv"):
        (tmp_path / name).write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
        return tmp_path / name

    return write


def truth_of(written, text="image,level\n10_left,0\n10_right,1\n13_left,3\n"):
    return read_truth(written(text, "labels.csv"))


def test_a_competitions_table_beside_its_labels(written):
    reading = read_anyones(written("image,level\n10_left,0\n10_right,2\n13_left,3"), truth_of(written))
    table = reading.predictions
    assert table.decoded.tolist() == [0, 2, 3] and table.grade.tolist() == [0, 1, 3]
    assert table.severity.tolist() == [0, 2, 3] and np.isnan(table.probabilities).all()
    assert table.patient.tolist() == ["10", "10", "13"] and table.eye.tolist() == ["left", "right", "left"]
    assert set(table.system) == {"theirs"}
    assert any("3 of 3 photographs matched by name" in note for note in reading.notes)


def test_people_whose_photographs_have_equal_names_stay_apart(written, tmp_path, capsys):
    rows = ("M/left.jpg,0", "M/right.jpg,4", "S/left.jpg,0", "S/right.jpg,0", "a/7_left.jpg,0", "b/7_left.jpg,3")
    text = "\n".join(("image,level", *rows, "x/M/left.jpg,0", "0/8_left.jpg,0", "1/8_right.jpg,1", "b/7_right.jpg,0"))
    truth = written(text.replace("S/left.jpg,0", "S/left.jpg,4"), "labels.csv")
    reading = read_anyones(written(text), read_truth(truth))
    people = ["M", "M", "S", "S", "a/7", "b/7", "x/M", "8", "8", "b/7"]
    assert reading.predictions.patient.tolist() == people and set(reading.predictions.eye) == {"left", "right"}
    said = " ".join(reading.notes)
    assert "with equal photographs' names were taken for other people (2): 7, M; a column patient" in said
    assert "names that stand in several folders were taken for one person each (1): 8" in said
    assert main(["patients", str(tmp_path / "theirs.csv"), "--truth", str(truth), "--replicates", "20"]) == 0
    printed = capsys.readouterr().out
    assert "6 patients: 6 with a result" in printed and "1 patient with proliferative disease was not" in printed
    assert "S: graded 0" in printed and "by the grade alone" in printed
    told = read_anyones(written("image,level,patient\na/7_left.jpg,0,1\nb/7_left.jpg,0,1", "told.csv"))
    assert told.predictions.patient.tolist() == ["1", "1"] and len(told.notes) == 1


@pytest.mark.parametrize(("highest", "said"), [(1, True), (2, False)])
def test_yes_and_no_are_told_from_grades(written, highest, said):
    rows = [f"{n}_left,{n % 5}" for n in range(30)]
    truth = written("\n".join(("image,label", *(f"{n}_left,{n % (highest + 1)}" for n in range(30)))), "binary.csv")
    notes = read_anyones(written("\n".join(("image,level", *rows))), read_truth(truth)).notes
    assert any("no true grade is above 1" in note for note in notes) == said


def test_a_photograph_without_a_prediction_is_its_own_persons(written):
    truth = read_truth(written("image,level\na/7_left.jpg,0\nb/7_left.jpg,4", "labels.csv"))
    table = read_anyones(written("image,level\na/7_left.jpg,0"), truth, missing="ungradable").predictions
    assert len(set(table.patient)) == 2 and table.gradable.tolist() == [True, False]
    told = read_anyones(written("image,pred,patient\na/7_left.jpg,0,7"), truth, missing="ungradable").predictions
    assert told.patient.tolist() == ["7", "b/7"]
    other = read_truth(written("image,level\na/7_left.jpg,0\n7.jpg,4", "others.csv"))
    apart = read_anyones(written("image,pred\na/7_left.jpg,0"), other, missing="ungradable").predictions
    assert apart.patient.tolist() == ["7", "7"]  # 7.jpg is of 7
    named = read_anyones(written("image,pred,patient\na/7_left.jpg,0,x\n9_left.jpg,0,7"), other, missing="ungradable")
    assert named.predictions.patient.tolist() == ["x", "7", "x"]


def test_who_is_whose_does_not_hang_on_what_the_truth_has(written):
    """The names of the table tell, also where some of them are written otherwise in the truth."""
    theirs = written("image,pred\na/7_left.jpg,\na/7_right.jpg,0\nb/7_left.jpg,1")
    truth = truth_of(written, "image,level\n7_left.jpg,0\n7_right.jpg,0")
    assert read_anyones(theirs, truth).predictions.patient.tolist() == ["a/7", "a/7", "b/7"]
    theirs = written("image,pred\nphotos/7_left.jpg,1\nphotos/7_right.jpg,0")
    assert not any("folders" in note for note in read_anyones(theirs, truth_of(written, "image,level\n7_left,0")).notes)


def test_where_names_are_the_same_another_folder_is_another_photograph(written):
    theirs = written("image,pred\n" + "".join(f"a/{n}.jpg,0\n" for n in range(9)) + "b/1.jpg,1")
    truth = truth_of(written, "image,level\n" + "\n".join(f"b/{n}.jpg,4" for n in range(1, 9)))
    reading = read_anyones(theirs, truth)
    assert reading.predictions.grade.tolist() == [NO_GRADE] * 9 + [4]
    assert any("in another folder or with another ending (8): a/1.jpg" in note for note in reading.notes)


def test_both_eyes_of_a_person_stay_together_where_one_has_no_prediction(written):
    names = ("a/7_left.jpg", "a/7_right.jpg", "b/7_left.jpg", "b/7_right.jpg")
    truth = read_truth(written("image,level\n" + "\n".join(f"{name},0" for name in names), "labels.csv"))
    theirs = written("image,level\na/7_left.jpg,0\na/7_right.jpg,0\nb/7_left.jpg,0")
    reading = read_anyones(theirs, truth, missing="ungradable")
    assert reading.predictions.patient.tolist() == ["a/7", "a/7", "b/7", "b/7"]
    assert sum("other people (1): 7" in note for note in reading.notes) == 1


def test_a_patient_is_guessed_only_where_no_column_tells(written):
    reading = read_anyones(written("image,level,patient\na/7_left.jpg,0,7\nb/7_left.jpg,1,\n9_left.jpg,1,"))
    assert reading.predictions.patient.tolist() == ["7", "b/7", "9"]
    assert any("other people (1): 7" in note for note in reading.notes)
    truth = read_truth(written("image,level,patient\nb/7_left.jpg,0,bert\nc/7_left.jpg,1,", "labels.csv"))
    named = read_anyones(written("image,pred\nb/7_left.jpg,0\nc/7_left.jpg,0"), truth)
    assert named.predictions.patient.tolist() == ["bert", "c/7"]


def test_a_notebooks_table_carries_its_truth(written):
    reading = read_anyones(
        written(
            """image_id,dr0,dr1,dr2,dr3,dr4,gt
            a.png,0.7,0.1,0.1,0.1,0,0
            b.png,0.1,0.1,0.5,0.2,0.1,3"""
        )
    )
    table = reading.predictions
    assert table.grade.tolist() == [0, 3] and table.decoded.tolist() == [0, 2]
    assert table.severity.tolist() == pytest.approx([0.6, 2.1])
    assert "probabilities from dr0..dr4" in reading.notes[0] and "truth from gt" in reading.notes[0]


@pytest.mark.parametrize(
    "header",
    [
        "Image Name,Class 0,Class 1,Class 2,Class 3,Class 4,Ground Truth",
        "id_code,0,1,2,3,4,target",
        "FILE,p_0,p_1,p_2,p_3,p_4,label",
    ],
)
def test_usual_names_of_columns(header, written):
    table = read_anyones(written(f"{header}\nx.jpg,0,0,0,1,0,4")).predictions
    assert (table.decoded[0], table.grade[0], table.severity[0]) == (3, 4, 3)


def test_scores_alone_are_rounded(written):
    reading = read_anyones(written("image,score,grade\na,-0.2,0\nb,1.5,1\nc,4.3,4\nd,2.4,2"))
    assert reading.predictions.decoded.tolist() == [0, 2, 4, 2]
    assert reading.predictions.severity.tolist() == pytest.approx([0, 1.5, 4, 2.4])
    assert any("2 scores outside 0..4 were moved" in note for note in reading.notes)


def test_a_grade_of_its_own_wins_over_rounding(written):
    table = read_anyones(written("image,pred,score,gt\na,1,1.8,1")).predictions
    assert (table.decoded[0], table.severity[0]) == (1, pytest.approx(1.8))


def test_percentages_are_divided_and_said(written):
    reading = read_anyones(written("image,p0,p1,p2,p3,p4,gt\na,50,20,20,10,0,0"))
    assert reading.predictions.probabilities[0].tolist() == pytest.approx([0.5, 0.2, 0.2, 0.1, 0])
    assert any("percentages" in note for note in reading.notes)


def test_the_table_of_grading_is_understood(written):
    text = """image,grade,severity,referable,gradable,reason,caution,system,model,chance,p0,p1,p2,p3,p4,note
    photos/10_left.jpg,0,0.4,False,True,,,m2cnn,abc,,0.7,0.2,0.1,0,0,x
    photos/10_right.jpg,,,,False,too dark,,m2cnn,abc,,,,,,,x"""
    table = read_anyones(written(text), truth_of(written)).predictions
    assert table.grade.tolist() == [0, 1] and table.decoded.tolist() == [0, NO_GRADE]
    assert table.reason.tolist() == ["", "too dark"] and set(table.system) == {"m2cnn"} and set(table.bundle) == {"abc"}


def test_our_own_table_is_read_as_it_is(written, tmp_path):
    first = read_anyones(written("image,pred,gt\n10_left,2,1\n10_right,,3"))
    write_predictions(first.predictions, tmp_path / "own.csv")
    again = read_anyones(tmp_path / "own.csv").predictions
    assert again.decoded.tolist() == [2, NO_GRADE] and again.reason.tolist() == ["", "no prediction"]


@pytest.mark.parametrize(
    ("names", "way"),
    [
        (("10_left", "10_right", "13_left"), "by name"),
        (("10_left.jpeg", "10_right.png", "13_left.JPG"), "without ending"),
        (
            ("/data/test/10_left.jpeg", "/data/test/10_right.jpeg", "/data/test/13_left.jpeg"),
            "without folder and ending",
        ),
        (("C:\\eyes\\10_left.jpeg", "C:\\eyes\\10_right.jpeg", "C:\\eyes\\13_left.jpeg"), "without folder and ending"),
    ],
)
def test_names_like_paths_find_their_labels(names, way, written):
    text = "image,pred\n" + "\n".join(f"{name},{grade}" for grade, name in enumerate(names))
    reading = read_anyones(written(text), truth_of(written))
    assert reading.predictions.grade.tolist() == [0, 1, 3]
    assert reading.predictions.image.tolist() == ["10_left", "10_right", "13_left"]
    assert any(f"matched {'by ' if not way.startswith('by') else ''}" in n and way in n for n in reading.notes)


def test_what_did_not_match_is_said(written):
    text = "image,pred\n10_left,0\n99_left,2\n98_left,4"
    reading = read_anyones(written(text), truth_of(written))
    said = " ".join(reading.notes)
    assert "2 predictions without a true grade, not scored: 99_left, 98_left" in said and "Not matched" not in said
    assert "2 photographs with a true grade, but no prediction, left out: 10_right, 13_left" in said
    assert len(reading.predictions) == 3 and reading.predictions.grade.tolist() == [0, NO_GRADE, NO_GRADE]
    counted = read_anyones(written(text), truth_of(written), missing="ungradable")
    assert counted.predictions.gradable.tolist() == [True, True, True, False, False]
    assert counted.predictions.grade.tolist() == [0, NO_GRADE, NO_GRADE, 1, 3]
    assert counted.predictions.patient.tolist()[3:] == ["10", "13"]


def test_two_photographs_of_one_name_match_nobody(written):
    text = "image,pred\na/10_left.jpg,0\nb/10_left.jpg,1\n13_left.jpg,2"
    reading = read_anyones(written(text), truth_of(written))
    assert reading.predictions.grade.tolist() == [NO_GRADE, NO_GRADE, 3]
    assert any("in another folder or with another ending (2): a/10_left.jpg" in note for note in reading.notes)


def test_patients_of_the_truth_count(written):
    truth = truth_of(written, "image,grade,patient,eye\nx1,0,anna,OD\nx2,1,anna,OS")
    table = read_anyones(written("image,pred\nx1,0\nx2,0"), truth).predictions
    assert table.patient.tolist() == ["anna", "anna"] and table.eye.tolist() == ["right", "left"]


REFUSED = {
    "image,pred\na,5": 'row 2: pred is "5"; expected 0..4',
    "image,pred,gt\na,1.5,1": "Scores go into a column named score",
    "image,pred,gt\na,x,1": 'row 2: pred is "x"',
    "image,pred,gt\na,1,7": 'gt is "7"',
    "image,score,gt\na,17,1": "score is 17; expected 0..4",
    "image,score,gt\na,inf,1": "a finite number",
    "image,p0,p1,p2,p3,p4,gt\nz,1,0,0,0,0,0\na,0.5,0.5,0.5,0,0,1": r"csv, row 3: .* do not sum to 1: 0.5 0.5 0.5 0 0",
    "image,p0,p1,p2,p3,p4,gt\na,-3,1,2,0.5,0.5,1": r"row 2: a probability is negative: -3 .*softmax",
    "image,p0,p1,p2,p3,p4,gt\n\na,0.5,,0.5,0,0,1": r"row 3: some of the five probabilities are empty",
    "image,score,gt\nz,1,1\na,9,1": "row 3: score is 9",
    "image,pred,gt\na,1,1\n,2,1": "row 3: image is empty; expected the name of a photograph",
    "image,p0,p1,p2,p3,p4,dr0,dr1,dr2,dr3,dr4\na,1,0,0,0,0,1,0,0,0,0": "several sets of five columns",
    "image,pred,prediction,gt\na,1,1,1": "may both be the grade",
    "image,pred,gt,label\na,1,1,1": "may both be the truth",
    "image,colour\na,red": "probabilities \\(p0..p4\\), a grade",
    "pred,gt\n1,1": "a column of photographs",
    "image,pred,gt\na,1,1\na,2,1": "stands 2 times",
    "image,pred,gt": "no row behind the header",
    "image,pred,gt,eye\na,1,1,middle": 'eye is "middle"',
}


@pytest.mark.parametrize("text", REFUSED)
def test_bad_tables_are_refused(text, written):
    with pytest.raises(DataError, match=REFUSED[text]):
        read_anyones(written(text))


def test_other_photographs_and_another_truth_are_refused(written):
    with pytest.raises(DataError, match=r"no photograph of the predictions is in it: y1 against 10_left"):
        read_anyones(written("image,pred\ny1,1"), truth_of(written))
    with pytest.raises(DataError, match="true grade of 13_left is 3, and 2 in the predictions"):
        read_anyones(written("image,pred,gt\n13_left,1,2"), truth_of(written))
    with pytest.raises(DataError, match="one column of photographs and one of true grades"):
        truth_of(written, "image,level,diagnosis\na,1,1")
    with pytest.raises(DataError, match="stands 2 times"):
        truth_of(written, "image,level\na,1\na,1")
    with pytest.raises(DataError, match="row 2: image is empty"):
        truth_of(written, "image,level\n,1\n,1")
    with pytest.raises(DataError, match="Names stand in several folders: write these in both tables alike"):
        read_anyones(written("image,pred\na/10_left.jpg,1\nb/10_left.jpg,1"), truth_of(written))
    with pytest.raises(DataError, match='missing: "drop"'):
        read_anyones(written("image,pred,gt\na,1,1"), missing="drop")


def test_the_command_measures_them(written, tmp_path, capsys):
    labels = written("image,level\n" + "\n".join(f"{n}_left,{n % 5}" for n in range(40)), "labels.csv")
    theirs = written("image,pred\n" + "\n".join(f"test/{n}_left.jpeg,{n % 5 if n % 3 else 2}" for n in range(39)))
    words = ["evaluate", "--predictions", str(theirs), "--truth", str(labels), "--replicates", "50"]
    assert main([*words, "--out", str(tmp_path / "out"), "--system", "rival", "--missing", "ungradable"]) == 0
    said = capsys.readouterr().out
    assert "matched by name without folder and ending" in said and "1 photograph with a true grade, but no" in said
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    truth = np.arange(39) % 5
    guess = np.where(np.arange(39) % 3, truth, 2)
    assert metrics["metrics"]["qwk"]["value"] == pytest.approx(cohen_kappa_score(truth, guess, weights="quadratic"))
    assert metrics["n_images"] == 40 and metrics["n_scored"] == 39 and metrics["system"] == "rival"
    assert metrics["context"]["notes"] and metrics["context"]["truth"] == "labels.csv"
    # Our own table of it, and theirs: one comparison, of the same photographs.
    assert main(["compare", str(tmp_path / "out"), str(theirs), "--truth", str(labels)]) == 0
    heard = capsys.readouterr()
    assert (
        "39 photographs of 39 patients are in every table" in heard.out and "theirs.csv: photographs from" in heard.err
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["b", "--predictions", "t.csv"], "--predictions beside a bundle"),
        (["--predictions", "t.csv", "--data", "d"], "--predictions beside a bundle"),
        ([], "no bundle or no --data"),
        (["b"], "no bundle or no --data"),
        (["--predictions", "THEIRS"], "no photograph has a true grade"),
        (["--predictions", "THEIRS", "--replicates", "0"], "replicates: 0"),
    ],
)
def test_what_the_command_refuses(given, message, written, tmp_path, capsys):
    theirs = str(written("image,pred\na,1"))
    words = [theirs if word == "THEIRS" else word for word in given]
    assert main(["evaluate", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_large_table(tmp_path):
    """100,000 rows, in the order of the file; a million take ten times as long and no more memory for each."""
    path, rng = tmp_path / "large.csv", np.random.default_rng(0)
    grades = rng.integers(0, 5, (100_000, 2))
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "pred", "gt"])
        writer.writerows(
            (f"{row // 2}_{'left' if row % 2 else 'right'}", *pair) for row, pair in enumerate(grades.tolist())
        )
    table = read_anyones(path).predictions
    assert (table.decoded == grades[:, 0]).all() and (table.grade == grades[:, 1]).all()
    assert len(set(table.patient)) == 50_000
