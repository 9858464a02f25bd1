"""Importers, on miniatures of the true layouts and on the real archives; and opening whatever the user names."""

import hashlib
import json
import logging
from collections import Counter
from dataclasses import replace

import pytest

from m2cnn.data import IMPORTERS, Row, import_dataset, manifest, open_data, write_manifest
from m2cnn.data.imported import OWN_PATIENT
from m2cnn.data.importers import GRADE_OF_NAME, grade_of_folder
from m2cnn.data.opening import read_data
from m2cnn.errors import DataError, SettingError

KAGGLE = b"image,level\n10_left,0\n10_right,4\n13_left,2\n"
IDRID_CSV = b"Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,\r\n"
ORIGINALS, TRUTHS = "B. Disease Grading/1. Original Images/", "B. Disease Grading/2. Groundtruths/"
TRAINING, TESTING = ORIGINALS + "a. Training Set/", ORIGINALS + "b. Testing Set/"
TRAINING_CSV = TRUTHS + "a. IDRiD_Disease Grading_Training Labels.csv"
TESTING_CSV = TRUTHS + "b. IDRiD_Disease Grading_Testing Labels.csv"


def rows_of(imported):
    return [(row.image, row.patient, row.eye, row.grade, row.split) for row in imported.manifest]


@pytest.mark.parametrize("folder", ["train/", ""])
@pytest.mark.parametrize("extension", ["jpeg", "JPG", "png"])
def test_eyepacs(build, folder, extension):
    photographs = [f"{folder}{name}.{extension}" for name in ("10_left", "10_right", "13_left")]
    imported = import_dataset("eyepacs", build(*photographs, **{"trainLabels.csv": KAGGLE}))
    assert rows_of(imported) == [
        (photographs[0], "10", "left", 0, ""),
        (photographs[1], "10", "right", 4, ""),
        (photographs[2], "13", "left", 2, ""),
    ]
    assert {row.source for row in imported.manifest} == {"eyepacs"}
    assert imported.notes[:-1] == (
        "3 photographs of 2 patients, grades 0/1/2/3/4: 1/0/1/0/1",
        "eyepacs: the test set is absent (retinopathy_solution.csv)",
    )
    assert imported.notes[-1].startswith(
        "eyepacs train: 35,126 published, 3 found; grade 0: 25,810 published, 1 found;"
    )


def test_eyepacs_says_what_has_no_partner(build):
    folder = build(
        "train/10_left.jpeg", "train/99_left.jpeg", "train/notes.txt", "train/.x.png", **{"trainLabels.csv": KAGGLE}
    )
    imported = import_dataset("eyepacs", folder)
    assert imported.notes[:3] == (
        "1 photographs of 1 patients, grades 0/1/2/3/4: 1/0/0/0/0",
        "trainLabels.csv: 2 labels without a photograph, left out: 10_right, 13_left",
        "trainLabels.csv: 1 photographs without a label, left out: train/99_left.jpeg",
    )


def test_eyepacs_with_the_official_test_set(build):
    solution = b"image,level,Usage\n1_left,3,Private\n"
    photographs = ("train/10_left.jpeg", "train/10_right.jpeg", "train/13_left.jpeg", "test/1_left.jpeg")
    folder = build(*photographs, **{"trainLabels.csv": KAGGLE, "retinopathy_solution.csv": solution})
    imported = import_dataset("eyepacs", folder)
    assert rows_of(imported)[-1] == ("test/1_left.jpeg", "1", "left", 3, "test")
    assert Counter(row.split for row in imported.manifest) == {"": 3, "test": 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (b"image,grade\n10_left,0\n", 'trainLabels.csv: no column "level"; expected image, level'),
        (b"image,level\n10_left,0\n10_left.png,0\n", r'trainLabels.csv, row 3: "10_left.png" stands in row 2 already'),
        (b"image,level\n10_left,5\n", r'trainLabels.csv, row 2: grade is "5"; expected 0..4 \(ICDR\)'),
        (b"image,level\nodd,1\n", r'row 2: image is "odd"; expected <patient>_left .* importer "table"'),
        (
            b"image,level\n11_left,1\n",
            "no photograph with a label; expected the layout of eyepacs. .*without a photograph",
        ),
    ],
)
def test_eyepacs_refuses(build, labels, message):
    with pytest.raises(DataError, match=message):
        import_dataset("eyepacs", build("train/10_left.png", "train/odd.png", **{"trainLabels.csv": labels}))


def test_two_files_of_one_name_are_refused(build):
    folder = build("train/10_left.png", "train/10_left.jpeg", **{"trainLabels.csv": KAGGLE})
    with pytest.raises(DataError, match=r"train/10_left.jpeg and train/10_left.png; expected one photograph per name"):
        import_dataset("eyepacs", folder)


@pytest.mark.parametrize("inside", [False, True])
def test_idrid(build, inside):
    training = IDRID_CSV + b"IDRiD_001,3,2,,,,,,,,,\r\nIDRiD_002,0,0,,,,,,,,,\r\n"
    testing = IDRID_CSV + b"IDRiD_001,4,1,,,,,,,,,\r\n"
    photographs = (TRAINING + "IDRiD_001.jpg", TRAINING + "IDRiD_002.jpg", TESTING + "IDRiD_001.jpg")
    folder = build(*photographs, **{TRAINING_CSV: training, TESTING_CSV: testing})
    inner = "B. Disease Grading/"
    imported = import_dataset("idrid", folder / inner if inside else folder)
    assert [row.image for row in imported.manifest] == [p.removeprefix(inner) if inside else p for p in photographs]
    assert [(r.patient, r.grade, r.dme, r.split) for r in imported.manifest] == [
        ("IDRiD_001", 3, 2, ""),
        ("IDRiD_002", 0, 0, ""),
        ("testing_IDRiD_001", 4, 1, "test"),
    ]
    assert [note[:14] for note in imported.notes[2:]] == ["idrid training", "idrid testing:"]
    assert "each counts as its own patient" in imported.notes[1]


def test_idrid_without_its_testing_set_says_so(build):
    folder = build(TRAINING + "IDRiD_001.jpg", **{TRAINING_CSV: IDRID_CSV + b"IDRiD_001,3,2,,,,,,,,,\r\n"})
    assert "the testing set is absent" in import_dataset("idrid", folder).notes[2]


def test_idrid_somewhere_else_is_refused(build):
    with pytest.raises(DataError, match=r"the layout of idrid. .*training set is absent.*testing set is absent"):
        import_dataset("idrid", build("x.jpg"))


def test_identical_photographs_are_found_and_hashed(build):
    rows = b"".join(b"IDRiD_%03d,%d,0,,,,,,,,,\r\n" % pair for pair in ((1, 3), (2, 0), (3, 1), (4, 1), (5, 2)))
    contents = (b"same", b"same", b"abc", b"abc", b"unlike")
    photographs = {f"{TRAINING}IDRiD_{n:03d}.jpg": bytes_ for n, bytes_ in enumerate(contents, start=1)}
    imported = import_dataset("idrid", build(**{TRAINING_CSV: IDRID_CSV + rows}, **photographs))
    hashes = [row.sha256 for row in imported.manifest]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]
    assert hashes[4] == ""  # no other file is as long
    twice, contradicting = imported.notes[-3:-1]
    assert twice.startswith("idrid: 2 photographs stand more than once, byte for byte: ")
    assert contradicting == f"idrid: 1 of them with different grades: {TRAINING}IDRiD_001.jpg"


def test_folders(build):
    folder = build(
        "No_DR/7_left.png", "0 - No DR/8_left.png", "3/7_right.png", "Proliferate DR/x.jpg", "notes/a.txt", ".git/a.png"
    )
    imported = import_dataset("folders", folder)
    assert sorted(rows_of(imported)) == [
        ("0 - No DR/8_left.png", "8", "left", 0, ""),
        ("3/7_right.png", "7", "right", 3, ""),
        ("No_DR/7_left.png", "7", "left", 0, ""),
        ("Proliferate DR/x.jpg", "x", "", 4, ""),
    ]
    assert imported.notes[1:] == (f"folders: 1 of 4 photographs {OWN_PATIENT}",)


def test_folders_tell_what_lies_elsewhere(build):
    notes = import_dataset("folders", build("0/1_left.png", "0/deep/2_left.png", "3_left.png")).notes
    assert "folders: 2 photographs outside the folders of grades, left out" in notes


def test_folders_without_patients_say_so(build):
    notes = import_dataset("folders", build("Mild/a.png", "Severe/b.png")).notes
    assert notes[1] == f"folders: 2 of 2 photographs {OWN_PATIENT}"


def test_every_grade_folder_name_and_its_spellings():
    for name, grade in GRADE_OF_NAME.items():
        spellings = (name, name.upper(), name.replace("_", " ").title(), f"{grade}. {name}", f"{grade}_{name}")
        assert {grade_of_folder(spelling) for spelling in spellings} == {grade}
    assert [grade_of_folder(name) for name in ("4", "04", "5", "2 - apples", "")] == [4, None, None, None, None]


def test_folders_that_are_no_grade_are_refused(build):
    with pytest.raises(DataError, match=r'Moderat: not a grade; expected 0..4 or .* Did you mean "moderate"'):
        import_dataset("folders", build("No DR/a.png", "Moderat/b.png"))


def test_a_folder_that_contradicts_itself_is_refused(build):
    with pytest.raises(DataError, match=r"1 - Severe: number 1 but the name of grade 3"):
        import_dataset("folders", build("1 - Severe/a.png"))


def test_table(build):
    text = b"file,subject,side,icdr,edema,ok,part\nb/one,p1,OD,2,1,gradable,train\nb/two.jpg,p1,l,,,ungradable,\n"
    folder = build("b/one.png", "b/two.jpg", **{"labels.csv": text})
    names = {
        "image": "file",
        "patient": "subject",
        "eye": "side",
        "grade": "icdr",
        "dme": "edema",
        "quality": "ok",
        "split": "part",
    }
    imported = import_dataset("table", folder, **names)
    assert imported.manifest.rows == (
        Row("b/one.png", "p1", "right", 2, 1, "gradable", "train", source="table"),
        Row("b/two.jpg", "p1", "left", None, None, "ungradable", source="table"),
    )
    assert imported.notes == ("2 photographs of 1 patients, grades 0/1/2/3/4: 0/0/1/0/0, 1 without grade",)


def test_table_takes_columns_of_its_own_names(build):
    text = (
        b"image,patient,eye,grade,dme,quality,split,camera\none,p1,OD,2,1,gradable,test,A\ntwo,p1,l,,,ungradable,,B\n"
    )
    folder = build("one.png", "two.png", **{"labels.csv": text})
    assert import_dataset("table", folder).manifest.rows == (
        Row("one.png", "p1", "right", 2, 1, "gradable", "test", source="table"),
        Row("two.png", "p1", "left", None, None, "ungradable", source="table"),
    )
    kept = import_dataset("table", folder, split="", grade="dme", patient="camera").manifest.rows
    assert [(row.split, row.grade, row.patient) for row in kept] == [("", 1, "A"), ("", None, "B")]
    (folder / "labels.csv").write_bytes(text.replace(b"gradable,test", b"gradable,Public"))
    with pytest.raises(
        DataError, match=r'row 2: split is "Public".* taken for its name: the option split= leaves it out'
    ):
        import_dataset("table", folder)
    names = ("patient", "eye", "grade", "dme", "quality", "split")
    with pytest.raises(DataError, match=r'row 2: split is "Public"; expected [^.]*\. Known: [^.]*\.$'):
        import_dataset("table", folder, **dict(zip(names, names, strict=True)))


def test_table_keeps_source_and_hash(build):
    """A source tells the terms of photographs, a hash whether they are still the same."""
    told = "A" * 64  # not the file's: what the table says stays, for `data check` to compare
    text = f"image,patient,sha256,source\none,p1,{told},eyepacs\ntwo,p2,,\n".encode()
    folder = build(**{"labels.csv": text, "one.png": b"1", "two.png": b"2"})  # of one length: hashed where none is told
    one, two = import_dataset("table", folder).manifest
    assert two.sha256 == hashlib.sha256(b"2").hexdigest()
    assert (one.sha256, one.source, two.source) == (told.lower(), "eyepacs", "table")
    one, _ = import_dataset("table", folder, sha256="", source="").manifest
    assert (one.sha256, one.source) == (hashlib.sha256(b"1").hexdigest(), "table")
    (folder / "labels.csv").write_bytes(text.replace(told.encode(), b"abc"))
    with pytest.raises(DataError, match=r'row 2: sha256 is "abc".* the option sha256= leaves it out'):
        import_dataset("table", folder)


def test_table_blames_the_column_of_the_bad_cell_however_that_is_worded(build, monkeypatch):
    good = {"image": "one", "patient": "p", "eye": "OD", "grade": "2", "dme": "1", "quality": "", "split": ""}
    good |= {"sha256": "", "source": ""}
    faults = manifest._faults
    monkeypatch.setattr(manifest, "_faults", lambda row: (fault._replace(got="refused") for fault in faults(row)))
    for column in good.keys() - {"image"}:
        bad = "" if column == "patient" else "a\u200bb"
        text = f"{','.join(good)}\n{','.join((good | {column: bad}).values())}\n".encode()
        with pytest.raises(DataError, match=rf"row 2: refused; .*: the option {column}= leaves it out"):
            import_dataset("table", build("one.png", **{"labels.csv": text}))


def test_table_says_which_column_it_did_not_take_and_reads_an_eye_that_is_not_told_from_the_name(build):
    folder = build("5_left.png", "5_right.png", **{"x.csv": b"image,eye,Grade\n5_left,,1\n5_right,OD,2\n"})
    imported = import_dataset("table", folder)
    assert rows_of(imported) == [("5_left.png", "5", "left", None, ""), ("5_right.png", "5", "right", None, "")]
    assert 'column "Grade" was not taken: grade=Grade takes it' in imported.notes
    assert rows_of(import_dataset("table", folder, grade="Grade"))[0] == ("5_left.png", "5", "left", 1, "")


def test_table_takes_patient_and_eye_from_names_else_each_its_own(build):
    folder = build(
        "5_left.png", "other.png", "more.png", **{"x.csv": b"image,g\n5_left,1\nother,2\n", "y.csv": b"image\nother\n"}
    )
    imported = import_dataset("table", folder, csv=folder / "x.csv", grade="g")
    assert rows_of(imported) == [("5_left.png", "5", "left", 1, ""), ("other.png", "other", "", 2, "")]
    assert imported.notes[1] == "x.csv: 1 photographs without a label, left out: more.png"
    assert imported.notes[2].startswith("table: 1 of 2 photographs without a patient's id")
    assert "own patient" in import_dataset("table", folder, csv=folder / "y.csv").notes[-1]
    with pytest.raises(DataError, match=r"2 files \*.csv \(x.csv, y.csv\); expected one, or the option csv"):
        import_dataset("table", folder)
    with pytest.raises(DataError, match=r'x.csv: no column "grades".*Known: g, image'):
        import_dataset("table", folder, csv=folder / "x.csv", grade="grades", patient="image")


def test_unknown_names_and_options_are_refused(build):
    folder = build("x.png")
    with pytest.raises(SettingError, match=r'"eyepac"; expected an importer. Did you mean "eyepacs"'):
        import_dataset("eyepac", folder)
    with pytest.raises(SettingError, match=r'dataset table: option "grades".*Did you mean "grade"'):
        import_dataset("table", folder, grades="x")
    with pytest.raises(SettingError, match=r'option "grade".*idrid has no options'):
        import_dataset("idrid", folder, grade="x")
    with pytest.raises(DataError, match="nowhere: no such folder; expected the folder of idrid"):
        import_dataset("idrid", folder / "nowhere")
    with pytest.raises(DataError, match=r"0 files \*.csv; expected one"):
        import_dataset("table", folder)


def test_opening_a_manifest_a_run_and_a_dataset(build, tmp_path_factory, caplog):
    folder = build("train/10_left.jpeg", "train/10_right.jpeg", **{"trainLabels.csv": KAGGLE})
    caplog.set_level(logging.INFO, "m2cnn")
    manifest = open_data(folder)
    assert [(record.levelname, record.message[:12]) for record in caplog.records] == [
        ("INFO", "2 photograph"),
        ("WARNING", "trainLabels."),
        ("WARNING", "eyepacs: the"),
        ("WARNING", "eyepacs trai"),
    ]
    assert open_data(f"eyepacs:{folder}") == manifest == open_data(str(folder))

    run = tmp_path_factory.mktemp("run")
    write_manifest(manifest, run / "manifest.csv")
    with pytest.raises(
        DataError, match=r"2 of 2 photographs are missing, the first is train/10_left.jpeg; .*Give the folder"
    ):
        open_data(run)
    assert open_data(run, images=folder) == manifest
    assert open_data(run / "manifest.csv", folder) == manifest
    (run / "run.json").write_text(json.dumps({"images_root": str(folder)}))
    assert open_data(run) == manifest
    for damage in ("{}", "[]", "{", '{"images_root": 3}'):
        (run / "run.json").write_text(damage)
        with pytest.raises(DataError, match=r"run.json: no images_root"):
            open_data(run)

    write_manifest(manifest, folder / "manifest.csv")
    assert open_data(folder).root == folder
    assert open_data(folder).rows == manifest.rows


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("a.png",),
            r"no dataset recognised; expected manifest.csv or trainLabels.csv .*\(eyepacs\), .*folders named by grade.*"
            r"Say which, as NAME:(.*), or make a manifest of a table of grades: m2cnn data import table \1 csv=CSV ",
        ),
        (("trainLabels.csv", "Mild/a.png"), r"fits eyepacs and folders; .*Say which, as NAME:[^ ]*$"),
    ],
)
def test_a_folder_that_no_or_two_importers_know(build, names, message):
    with pytest.raises(DataError, match=message):
        open_data(build(*names))


def test_a_missing_folder_of_photographs_is_named(build):
    folder = build("Mild/a.png", **{"m.csv": b"image,patient\nMild/a.png,1\n"})
    for spec in (folder / "m.csv", folder, f"folders:{folder}"):
        with pytest.raises(DataError, match=r"gone: no such folder; expected the folder that the .* Check --images"):
            read_data(spec, folder / "gone")
        assert len(read_data(spec, folder)) == 1


def test_photographs_of_a_dataset_are_in_its_own_folder(build, tmp_path_factory):
    folder, elsewhere = build("Mild/a.png"), tmp_path_factory.mktemp("elsewhere")
    for spec in (folder, f"folders:{folder}"):
        assert read_data(spec, folder / "Mild" / "..").root == folder
        with pytest.raises(SettingError, match=rf"--images: {elsewhere} for {spec}; expected no other .* of folders"):
            read_data(spec, elsewhere)


def test_nothing_by_that_name(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; expected a manifest CSV, a run folder"):
        open_data(tmp_path / "gone")
    with pytest.raises(SettingError, match=r'"idird".*Did you mean "idrid"'):
        open_data(f"idird:{tmp_path}")


def test_every_importer_is_listed():
    names = "eyepacs aptos idrid messidor2 ddr deepdrid retinamnist folders table"
    assert " ".join(IMPORTERS) == names
    assert all(importer.read.__name__ == name and importer.title for name, importer in IMPORTERS.items())


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "photographs", "patients", "grades"),
    [
        ("eyepacs256", 5406, 2704, (3919, 389, 836, 145, 117)),
        ("idrid", 413, 413, (134, 20, 136, 74, 49)),
    ],
)
def test_real_counts(real_data, name, photographs, patients, grades):
    manifest = open_data(real_data / name)
    counted = Counter(row.grade for row in manifest)
    assert (len(manifest), len(set(manifest.patients()))) == (photographs, patients)
    assert tuple(counted[grade] for grade in range(5)) == grades


@pytest.mark.real
def test_real_twins_of_idrid(real_data):
    notes = import_dataset("idrid", real_data / "idrid").notes
    assert any("5 photographs stand more than once" in note for note in notes)
    assert any("2 of them with different grades" in note for note in notes)


def test_hashes_do_not_change_what_was_imported(build):
    manifest = open_data(build("Mild/aaaa.png", "Mild/bb.png"))
    assert [replace(row, sha256="") for row in manifest] == [
        Row("Mild/aaaa.png", "aaaa", grade=1, source="folders"),
        Row("Mild/bb.png", "bb", grade=1, source="folders"),
    ]
