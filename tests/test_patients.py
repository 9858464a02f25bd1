"""Eyes and patients by the declared rules: a worse field or eye decides, and an ungradable eye is never normal."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2cnn.cli import main
from m2cnn.errors import DataError, SettingError
from m2cnn.patients import (
    MISSING_EYE,
    NO_EYE,
    NO_FIELD,
    ONE_EYE,
    by_eye,
    by_patient,
    missed,
    referred,
    scheme_named,
    schemes,
)
from m2cnn.predictions import NO_GRADE, Predictions, write_predictions
from m2cnn.subgroups import SMALL, groups_of, read_groups
from m2cnn.summary import summarise


def table(*rows):
    """Rows (patient, eye, truth, said or None for ungradable[, severity])."""
    said = [row[3] for row in rows]
    good = np.array([one is not None for one in said])
    severity = [np.nan if row[3] is None else float(row[4] if len(row) > 4 else row[3]) for row in rows]
    nothing = np.full((len(rows), 5), np.nan)
    for i in np.flatnonzero(good):
        nothing[i] = np.eye(5)[said[i]]
    return Predictions(
        image=[f"{n}.jpg" for n in range(len(rows))],
        patient=[row[0] for row in rows],
        eye=[row[1] for row in rows],
        split=["test"] * len(rows),
        grade=[row[2] for row in rows],
        probabilities=nothing,
        severity=severity,
        decoded=[NO_GRADE if one is None else one for one in said],
        gradable=good,
        reason=["" if ok else "too dark" for ok in good],
        system=["m"] * len(rows),
        bundle=["b"] * len(rows),
    )


def test_the_worst_gradable_field_decides_an_eye():
    eyes = by_eye(
        table(("a", "left", 0, 1, 1.2), ("a", "left", 2, 1, 1.4), ("a", "left", 3, None), ("a", "right", 0, None))
    )
    assert eyes.image.tolist() == ["a/left", "a/right"]
    assert eyes.decoded.tolist() == [1, NO_GRADE] and eyes.severity[0] == pytest.approx(1.4)
    assert eyes.grade.tolist() == [3, 0]  # the truth knows of the field that was refused
    assert eyes.reason.tolist() == ["", "too dark"] and eyes.eye.tolist() == ["left", "right"]
    assert by_eye(table(("a", "left", 0, None), ("a", "left", 0, None))).reason.tolist() == [NO_FIELD]


def test_photographs_of_an_unknown_eye_are_eyes_of_their_own():
    eyes = by_eye(table(("a", "", 0, 0), ("a", "", 0, None)))
    assert eyes.image.tolist() == ["a/0.jpg", "a/1.jpg"]
    assert by_patient(table(("a", "", 0, 0), ("a", "", 0, None))).reason.tolist() == [ONE_EYE]


@pytest.mark.parametrize(
    ("left", "right", "said", "reason"),
    [
        (0, 0, 0, ""),
        (1, 3, 3, ""),
        (0, None, NO_GRADE, ONE_EYE),
        (1, None, NO_GRADE, ONE_EYE),
        (2, None, 2, ""),  # referable whatever the other eye has
        (None, 4, 4, ""),
        (None, None, NO_GRADE, NO_EYE),
    ],
)
def test_the_worse_eye_decides_and_an_ungradable_one_is_never_normal(left, right, said, reason):
    people = by_patient(table(("p", "left", 0, left), ("p", "right", 0, right)))
    assert (people.image[0], people.decoded[0], people.reason[0]) == ("p", said, reason)
    assert bool(people.gradable[0]) == (said != NO_GRADE)


def test_a_missing_eye_counts_where_both_are_asked_for():
    alone = table(("p", "left", 0, 0), ("q", "left", 2, 2))
    assert by_patient(alone).decoded.tolist() == [0, 2]
    asked = by_patient(alone, both_eyes=True)
    assert asked.decoded.tolist() == [NO_GRADE, 2] and asked.reason.tolist() == [MISSING_EYE, ""]


eye = st.tuples(
    st.sampled_from("abcd"), st.sampled_from(["left", "right", ""]), st.integers(0, 4), st.none() | st.integers(0, 4)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(eye, min_size=1, max_size=12))
def test_laws_of_joining(rows):
    photographs = table(*rows)
    people = by_patient(photographs)
    assert people.image.tolist() == sorted(set(photographs.patient.tolist()))
    for i, name in enumerate(people.image):
        own = photographs.select(photographs.patient == name)
        assert people.grade[i] == own.grade.max()
        best = own.decoded.max()
        if best >= 2:
            assert people.decoded[i] == best
        elif people.gradable[i]:
            assert people.decoded[i] == best and by_eye(own).gradable.all()
        else:
            assert not by_eye(own).gradable.all()


def test_measured_as_photographs_are():
    people = by_patient(
        table(
            ("a", "left", 3, 3), ("a", "right", 0, 0), ("b", "left", 2, 0), ("b", "right", 0, None), ("c", "left", 0, 0)
        )
    )
    metrics = summarise(people, 20)["metrics"]
    assert metrics["referable_sensitivity"]["value"] == 1  # b has no result
    assert metrics["referable_sensitivity_ungradable_refer"]["value"] == 1
    assert metrics["referable_specificity_ungradable_refer"]["value"] == 1


def test_missed_are_those_with_a_grade_below_referable():
    found = missed(
        table(("a", "", 4, 1, 1.2), ("b", "", 4, 2), ("c", "", 4, None), ("d", "", 4, 0, 0.3), ("e", "", 3, 0))
    )
    assert [one.patient for one in found] == ["d", "a"]
    assert [one.patient for one in missed(table(("e", "", 3, 0)), from_grade=3)] == ["e"]


# --- operating points ---


def test_a_point_refers_by_the_most_severe_field():
    """The grade of an eye is its worst, its severity the highest, whichever field they are of."""
    photographs = table(
        *(("a", "left", 0, 2, 1.5), ("a", "left", 0, 1, 1.8), ("a", "right", 0, 0, 0.1)),
        *(("b", "left", 4, 1, 1.2), ("b", "right", 0, None), ("c", "left", 4, 3, 0.9), ("c", "right", 0, 0, 0.2)),
    )
    people = by_patient(photographs)
    assert people.decoded.tolist() == [2, NO_GRADE, 3] and people.severity[[0, 2]] == pytest.approx([1.8, 0.9])
    assert by_patient(photographs, refer_from=1.1).decoded.tolist() == [2, 1, 3]  # b is referred: no doubt is left
    assert referred(people).tolist() == [True, False, True]
    assert referred(by_patient(photographs, refer_from=1.0), 1.0).tolist() == [True, True, False]
    assert [one.patient for one in missed(by_patient(photographs, refer_from=1.0), refer_from=1.0)] == ["c"]
    assert referred(photographs, float(photographs.severity[0])).tolist()[0]  # from here on


@pytest.mark.parametrize("score", ["0.7", "1.4", "1.5", "2.3"])
def test_a_score_reaches_itself(score, tmp_path, capsys):
    """Whatever of it a table of float32 keeps."""
    (tmp_path / "t.csv").write_text(f"image,score\na,{score}\nb,{float(score) - 1e-4}\n")
    words = ["patients", str(tmp_path / "t.csv"), "--point", score, "--csv", str(tmp_path / "people.csv")]
    assert main(words) == 0
    assert f"a severity of {score} or more" in capsys.readouterr().out
    rows = (tmp_path / "people.csv").read_text().splitlines()
    place = rows[0].split(",").index(f"refer_from_{score}")
    assert [row.split(",")[place] for row in rows[1:]] == ["true", "false"]


# --- schemes ---


def test_every_scheme_has_a_label_for_every_grade():
    for name, scheme in schemes().items():
        assert scheme.name == name and len(set(scheme.labels)) == 5
        assert scheme.label(NO_GRADE) == scheme.ungradable and scheme.note and scheme.source
    assert scheme_named("english").label(4) == "R3" and "R1-R2" in scheme_named("english").labels


def test_a_scheme_of_ones_own(tmp_path):
    path = tmp_path / "ours.toml"
    text = 'title = "t"\nlabels = ["a", "b", "c", "d", "e"]\nungradable = "u"\nnote = "n"\nsource = "s"\n'
    path.write_text("[ours]\n" + text)
    assert scheme_named(str(path)).label(2) == "c"
    path.write_text("[ours]\n" + text.replace('"e"', ""))
    with pytest.raises(DataError, match="5 texts, one for each ICDR grade"):
        scheme_named(str(path))
    path.write_text("[ours]\nlabels = 3\n")
    with pytest.raises(DataError, match="keys labels"):
        scheme_named(str(path))
    path.write_text("[ours\n")
    with pytest.raises(DataError, match="not valid TOML"):
        scheme_named(str(path))
    with pytest.raises(SettingError, match='Did you mean "english"'):
        scheme_named("englich")
    with pytest.raises(SettingError, match="no file"):
        scheme_named(str(tmp_path / "none.toml"))


# --- groups ---


def test_groups_are_measured_apart_and_small_ones_warned_of():
    rows = [(f"p{n}", "", n % 5, n % 5 if n < 150 else 0) for n in range(200)]
    photographs = table(*rows)
    found = groups_of(photographs, {"camera": ["one"] * 150 + ["two"] * 49 + [""]}, 20)
    assert {group.value: group.photographs for group in found} == {"one": 150, "two": 49, "(unknown)": 1}
    by_value = {group.value: group for group in found}
    assert by_value["one"].summary["metrics"]["qwk"]["value"] == 1 and by_value["one"].warning == ""
    assert by_value["two"].warning == f"fewer than {SMALL} patients" and by_value["two"].patients == 49
    few = replace(photographs, grade=np.where(np.arange(200) < 20, photographs.grade, NO_GRADE), place=None)
    one = groups_of(few, {"camera": ["one"] * 200}, 20)[0]
    assert (one.patients, one.measured, one.warning) == (200, 20, f"fewer than {SMALL} patients measured")
    unlabelled = replace(photographs, grade=np.full(200, NO_GRADE), place=None)
    assert groups_of(unlabelled, {"camera": ["one"] * 200}, 20)[0].warning == "no graded photograph"
    with pytest.raises(DataError, match="3 values; expected 200"):
        groups_of(photographs, {"camera": ["one"] * 3})


def test_groups_come_by_photograph_or_by_patient(tmp_path):
    photographs, path = table(("a", "left", 0, 0), ("a", "right", 1, 1), ("b", "left", 2, 2)), tmp_path / "groups.csv"
    path.write_text("patient,site,age\na,north,60-69\n")
    assert read_groups(path, photographs.image, photographs.patient) == {
        "site": ["north", "north", ""],
        "age": ["60-69", "60-69", ""],
    }
    for names in (("2.jpg", "0.jpg"), ("eyes/2.JPG", "eyes/0.JPG"), ("2", "0")):
        path.write_text("image,camera\n{},T\n{},N\n".format(*names))
        assert read_groups(path, photographs.image, photographs.patient) == {"camera": ["N", "", "T"]}
    for text, message in (
        ("site\nx", "one column of photographs"),
        ("patient,image,site\na,b,c", "one column of photographs"),
        ("patient,site\nz,x", "no patient of the photographs is in it"),
        ("patient,site\na,x\na,y", "stands above already"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_groups(path, photographs.image, photographs.patient)


# --- the command ---


def test_the_command_says_it_all(tmp_path, capsys):
    rows = [(f"p{n // 2:02}", ("left", "right")[n % 2], n % 5, n % 5) for n in range(40)]
    rows += [("sick", "left", 4, 0, 0.4), ("sick", "right", 0, 0), ("dim", "left", 0, None), ("dim", "right", 1, 1)]
    write_predictions(table(*rows), tmp_path / "predictions.csv")
    (tmp_path / "groups.csv").write_text("patient,site\n" + "\n".join(f"p{n:02},{'ns'[n % 2]}" for n in range(20)))
    words = [
        "patients",
        str(tmp_path),
        "--scheme",
        "english",
        "--groups",
        str(tmp_path / "groups.csv"),
        "--replicates",
        "20",
    ]
    assert main([*words, "--csv", str(tmp_path / "people.csv")]) == 0
    said = capsys.readouterr().out
    assert "44 eyes: 43 with a result, 1 without" in said and "22 patients: 21 with a result, 1 without" in said
    assert "1 patient with proliferative disease was not referred:\n  sick: graded 0" in said
    assert "site = n: 20 photographs, 10 patients (fewer than 100 patients)" in said and "  U: 1 patient\n" in said
    lines = (tmp_path / "people.csv").read_text().splitlines()
    assert lines[0].startswith("patient,grade,severity,referable,gradable,reason,english")
    assert any(line.startswith(f'dim,,,,false,"{ONE_EYE}",U,') for line in lines)
    assert any(line.startswith("sick,0,0.4000,false,true,,R0,") for line in lines)
    written = (tmp_path / "people.csv").read_bytes()
    for name in ("people.csv", "predictions.csv"):
        assert main(["patients", str(tmp_path), "--csv", str(tmp_path / name)]) == 2
        assert f"{name}: it exists" in capsys.readouterr().err
    assert (tmp_path / "people.csv").read_bytes() == written
    assert main(["patients", str(tmp_path), "--scheme", "martian"]) == 2
    assert "martian" in capsys.readouterr().err


def test_a_table_without_truth_is_counted(tmp_path, capsys):
    write_predictions(table(("a", "left", NO_GRADE, 0), ("b", "left", NO_GRADE, 3)), tmp_path / "predictions.csv")
    assert main(["patients", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 patients: 2 with a result, 0 without" in said and "QWK" not in said
    assert "nobody can tell" in said and "were not referred" not in said
