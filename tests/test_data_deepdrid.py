"""DeepDRiD, on a miniature of its true layout: header, paths and crossed names are those of the real CSV."""

import pytest

from m2cnn.data import Row, import_dataset
from m2cnn.data.opening import recognise
from m2cnn.errors import DataError

HEADER = (
    "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level,"
    "Clarity,Field definition,Artifact\n"
)
REGULAR, TRAINING = "regular_fundus_images/", "regular_fundus_images/regular-fundus-training/"
TRAINING_CSV = TRAINING + "regular-fundus-training.csv"
VALIDATION = "regular_fundus_images/regular-fundus-validation/"
VALIDATION_CSV = VALIDATION + "regular-fundus-validation.csv"
EVALUATION = "regular_fundus_images/Online-Challenge1&2-Evaluation/"


def line(patient, photograph, quality, left, right, worst):
    path = rf"\regular-fundus-training\{patient}\{photograph}.jpg"
    return f"{patient},{photograph},{path},{quality},{left},{right},{worst},8,8,4\n"


def labels(*lines):
    return (HEADER + "".join(lines)).encode()


TWO_FIELDS = (
    line(3, "3_l1", 0, 1, "", 1),
    line(3, "3_l2", 1, 1, "", 1),
    line(3, "3_r1", 1, "", 0, 1),
    line(3, "3_r2", 1, "", 0, 1),
)
PHOTOGRAPHS = tuple(f"{TRAINING}Images/3/3_{field}.jpg" for field in ("l1", "l2", "r1", "r2"))


def test_two_fields_of_each_eye_and_the_grade_of_that_eye(build):
    validation = labels(line(265, "265_r1", 1, "", "4.0", 4))
    folder = build(
        *PHOTOGRAPHS,
        f"{VALIDATION}Images/265/265_r1.JPG",
        "ultra-widefield_images/ultra-widefield-training/Images/1/1_l2.jpg",
        **{TRAINING_CSV: labels(*TWO_FIELDS), VALIDATION_CSV: validation},
    )
    assert recognise(folder) == "deepdrid"
    imported = import_dataset("deepdrid", folder)
    assert imported.manifest.rows == (
        Row(PHOTOGRAPHS[0], "3", "left", 1, None, "ungradable", "train", "", "deepdrid"),
        Row(PHOTOGRAPHS[1], "3", "left", 1, None, "gradable", "train", "", "deepdrid"),
        Row(PHOTOGRAPHS[2], "3", "right", 0, None, "gradable", "train", "", "deepdrid"),
        Row(PHOTOGRAPHS[3], "3", "right", 0, None, "gradable", "train", "", "deepdrid"),
        Row(f"{VALIDATION}Images/265/265_r1.JPG", "265", "right", 4, None, "gradable", "val", "", "deepdrid"),
    )
    assert imported.notes[1:4] == (
        f"deepdrid: the test set is absent ({EVALUATION}Challenge1_labels.csv)",
        "deepdrid: the ultra-widefield photographs are of another kind, left out",
        "deepdrid: 1 photographs are marked ungradable; 1 of them keep their grade: training leaves them out, "
        "evaluation counts them",
    )
    assert [note.partition(" published")[0] for note in imported.notes[4:]] == [
        "deepdrid train: 1,200",
        "deepdrid val: 400",
    ]


def test_the_folder_of_the_regular_photographs_itself_and_one_without_images_folders(build):
    inside = [name.removeprefix(REGULAR).replace("Images/", "") for name in PHOTOGRAPHS]
    folder = build(*inside, **{TRAINING_CSV.removeprefix(REGULAR): labels(*TWO_FIELDS)})
    assert recognise(folder) == "deepdrid"
    imported = import_dataset("deepdrid", folder)
    assert [row.image for row in imported.manifest] == inside
    assert "deepdrid: the val set is absent (regular-fundus-validation/regular-fundus-validation.csv)" in imported.notes


def test_a_name_that_says_the_other_eye_leaves_the_eye_open(build):
    crossed = (line(56, "56_r3", 1, 1, "", 1), line(56, "56_l3", 1, "", 0, 1), line(56, "56_l1", 1, 1, "", 1))
    photographs = [f"{TRAINING}Images/56/56_{field}.jpg" for field in ("r3", "l3", "l1")]
    imported = import_dataset("deepdrid", build(*photographs, **{TRAINING_CSV: labels(*crossed)}))
    assert [(row.patient, row.eye, row.grade) for row in imported.manifest] == [
        ("56", "", 1),
        ("56", "", 0),
        ("56", "left", 1),
    ]
    (note,) = [note for note in imported.notes if "name says one eye" in note]
    assert note.startswith("regular-fundus-training.csv: 2 photographs") and note.endswith("left empty: 56_r3, 56_l3")


def test_a_patients_grade_that_is_not_that_of_the_worse_eye_is_reported(build):
    lines = [
        line(7, "7_l1", 1, 2, "", 3),
        line(7, "7_r1", 1, "", 1, 3),
        line(8, "8_l1", 1, 2, "", 2),
        line(9, "9_l1", 1, 3, "", ""),
    ]
    photographs = [f"{TRAINING}Images/{name[0]}/{name}.jpg" for name in ("7_l1", "7_r1", "8_l1", "9_l1")]
    imported = import_dataset("deepdrid", build(*photographs, **{TRAINING_CSV: labels(*lines)}))
    (note,) = [note for note in imported.notes if "patient_DR_Level" in note]
    assert note.startswith("regular-fundus-training.csv: 2 patients") and note.endswith("eyes' grades: 7, 9")


def test_grade_5_and_no_grade(build):
    lines = [line(7, "7_l1", 1, "5.0", "", "5.0"), line(7, "7_r1", "", "", "", "")]
    photographs = [f"{TRAINING}Images/7/{name}.jpg" for name in ("7_l1", "7_r1")]
    imported = import_dataset("deepdrid", build(*photographs, **{TRAINING_CSV: labels(*lines)}))
    assert [(row.eye, row.grade, row.quality) for row in imported.manifest] == [
        ("left", None, "ungradable"),
        ("right", None, ""),
    ]


def test_the_official_test_set_is_read_from_csv(build):
    files = {
        TRAINING_CSV: labels(*TWO_FIELDS),
        f"{EVALUATION}Challenge1_labels.csv": b"image_id,DR_Levels\n347_l1,2\n347_r1,0\n",
        f"{EVALUATION}Challenge2_labels.csv": b"image_id,Overall quality,Artifact\n347_l1,0,4\n",
    }
    folder = build(*PHOTOGRAPHS, *(f"{EVALUATION}Images/347/347_{field}.jpg" for field in ("l1", "r1")), **files)
    imported = import_dataset("deepdrid", folder)
    assert [(row.patient, row.eye, row.grade, row.quality, row.split) for row in imported.manifest][-2:] == [
        ("347", "left", 2, "ungradable", "test"),
        ("347", "right", 0, "", "test"),
    ]
    assert imported.notes[-1].endswith("less the other parts, unconfirmed)")


def test_a_test_set_in_spreadsheets_is_left_out_and_said(build):
    folder = build(*PHOTOGRAPHS, f"{EVALUATION}Challenge1_labels.xlsx", **{TRAINING_CSV: labels(*TWO_FIELDS)})
    imported = import_dataset("deepdrid", folder)
    assert imported.notes[2] == (
        "deepdrid: the test set is left out, its labels are spreadsheets: save Challenge1_labels.xlsx and "
        "Challenge2_labels.xlsx as CSV beside them to have it"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(3, "3_l1", 1, 6, "", 6)], r'training.csv, row 2: grade is "6"; expected 0..4'),
        ([line(3, "3_l1", 2, 1, "", 1)], r'training.csv, row 2: quality is "2"; expected gradable, ungradable'),
        ([line("", "3_l1", 1, 1, "", 1)], r"training.csv, row 2: patient is empty"),
        ([TWO_FIELDS[0], TWO_FIELDS[0]], r'training.csv, row 3: "3_l1" stands in row 2 already'),
        ([line(3, "odd", 1, 1, 2, 2)], r"training.csv, row 2: grades of both eyes; expected the eye in image_id"),
    ],
)
def test_deepdrid_refuses(build, lines, message):
    folder = build(*PHOTOGRAPHS, f"{TRAINING}Images/3/odd.jpg", **{TRAINING_CSV: labels(*lines)})
    with pytest.raises(DataError, match=message):
        import_dataset("deepdrid", folder)


def test_a_missing_column_is_refused(build):
    text = labels(*TWO_FIELDS).replace(b"right_eye_DR_Level", b"right_eye_DR")
    with pytest.raises(DataError, match=r'training.csv: no column "right_eye_DR_Level".*Did you mean "right_eye_DR"'):
        import_dataset("deepdrid", build(*PHOTOGRAPHS, **{TRAINING_CSV: text}))


def test_a_patient_in_two_parts_is_refused(build):
    files = {TRAINING_CSV: labels(*TWO_FIELDS), VALIDATION_CSV: labels(line(3, "3_l9", 1, 1, "", 1))}
    with pytest.raises(DataError, match=r'patient "3" stands in two parts: .*3_l1.jpg in train, .*3_l9.jpg in val'):
        import_dataset("deepdrid", build(*PHOTOGRAPHS, f"{VALIDATION}Images/3/3_l9.jpg", **files))
