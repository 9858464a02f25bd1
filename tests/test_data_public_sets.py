"""The public datasets, on miniatures of their true layouts with planted faults."""

import pytest

from m2cnn.data import Row, import_dataset
from m2cnn.data.imported import OWN_PATIENT
from m2cnn.data.opening import recognise
from m2cnn.errors import DataError

SOLUTION = (
    b"\xef\xbb\xbfimage,level,Usage\r\n1_left,3,Private\r\n1_right,2,Private\r\n2_left,0,Public\r\n2_right,1,Public\r\n"
)
TEST = ("test/1_left.jpeg", "test/1_right.jpeg", "test/2_left.JPEG", "test/2_right.jpeg")
TRAIN = {
    "trainLabels.csv": b"image,level\n10_left,0\n10_right,4\n",
    "train/10_left.jpeg": b"l",
    "train/10_right.jpeg": b"rr",
}


def said(imported, start):
    """The one note that begins so."""
    (note,) = [note for note in imported.notes if note.startswith(start)]
    return note


# Kaggle 2015


def test_kaggles_test_set_has_a_public_and_a_private_part(build):
    imported = import_dataset("eyepacs", build(*TEST, **TRAIN, **{"retinopathy_solution.csv": SOLUTION}))
    assert [(row.image, row.patient, row.eye, row.grade, row.split, row.source) for row in imported.manifest] == [
        ("train/10_left.jpeg", "10", "left", 0, "", "eyepacs"),
        ("train/10_right.jpeg", "10", "right", 4, "", "eyepacs"),
        ("test/1_left.jpeg", "1", "left", 3, "test", "eyepacs-private"),
        ("test/1_right.jpeg", "1", "right", 2, "test", "eyepacs-private"),
        ("test/2_left.JPEG", "2", "left", 0, "test", "eyepacs-public"),
        ("test/2_right.jpeg", "2", "right", 1, "test", "eyepacs-public"),
    ]
    assert not [note for note in imported.notes if "absent" in note]
    assert said(imported, "eyepacs public: ").startswith("eyepacs public: 10,906 published, 2 found; grade 0: 8,130")
    assert said(imported, "eyepacs private: ").startswith("eyepacs private: 42,670 published, 2 found;")


def test_kaggles_test_set_alone_is_an_eyepacs_folder(build):
    folder = build(*TEST, **{"retinopathy_solution.csv": SOLUTION})
    assert recognise(folder) == "eyepacs"
    imported = import_dataset("eyepacs", folder)
    assert {row.split for row in imported.manifest} == {"test"}
    assert "eyepacs: the train set is absent (trainLabels.csv)" in imported.notes


def test_a_solution_without_usage_is_one_test_set(build):
    text = b"image,level\n1_left,3\n1_right,2\n"
    imported = import_dataset("eyepacs", build(*TEST[:2], **{"retinopathy_solution.csv": text}))
    assert {(row.split, row.source) for row in imported.manifest} == {("test", "eyepacs")}
    assert said(imported, "retinopathy_solution.csv: no column Usage").endswith("cannot be told apart")
    assert said(imported, "eyepacs test: ").startswith("eyepacs test: 53,576 published, 2 found")


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        (b"1_left,3,Privat\n", r'solution.csv, row 2: Usage is "Privat"; expected Public or Private'),
        (b"1_left,3,\n", r'row 2: Usage is ""; expected Public or Private'),
        (b"1_left,3,Public\n1_right,2,Private\n", r'patient "1" stands in two parts: .*public test, .*private test'),
        (b"1_left,6,Public\n", r'solution.csv, row 2: grade is "6"; expected 0..4'),
        (b"1_left,1,Public\n1_left,1,Public\n", r'row 3: "1_left" stands in row 2 already'),
    ],
)
def test_kaggles_test_set_refuses(build, solution, message):
    folder = build(*TEST[:2], **TRAIN, **{"retinopathy_solution.csv": b"image,level,Usage\n" + solution})
    with pytest.raises(DataError, match=message):
        import_dataset("eyepacs", folder)


def test_a_patient_of_kaggles_training_and_test_set_is_refused(build):
    solution = b"image,level,Usage\n10_left,3,Public\n"
    with pytest.raises(
        DataError, match=r'patient "10" stands in two parts: train/10_left.jpeg in eyepacs training, test/10'
    ):
        import_dataset("eyepacs", build("test/10_left.jpeg", **TRAIN, **{"retinopathy_solution.csv": solution}))


def test_kaggles_damaged_photographs_are_named(build):
    names = ("492_left", "492_right", "493_left", "25313_left", "25313_right", "27096_right")
    labels = "".join(f"{name},0\n" for name in names).encode()
    folder = build(*(f"train/{name}.jpeg" for name in names), **{"trainLabels.csv": b"image,level\n" + labels})
    imported = import_dataset("eyepacs", folder)
    damaged = ", ".join(f"train/{names[i]}.jpeg" for i in (0, 1, 4, 5))
    assert f"are known to be blank or damaged ({damaged})" in said(imported, "eyepacs: 4 photographs")
    assert len(imported.manifest) == 6


def test_kaggles_test_photographs_lie_in_their_own_folder(build):
    files = {"trainLabels.csv": b"image,level\n10_left,0\n", "retinopathy_solution.csv": SOLUTION}
    imported = import_dataset("eyepacs", build("10_left.jpeg", "1_left.jpeg", **files))
    assert [row.image for row in imported.manifest] == ["10_left.jpeg"]
    assert said(imported, "retinopathy_solution.csv: 4 labels without a photograph")


# APTOS 2019


def test_aptos(build):
    text = b"\xef\xbb\xbfid_code , diagnosis,more\r\n000c1434d8d7,2,x\r\n001639a390f0 ,4,x\r\nabsent,0,x\r\n"
    photographs = ("train_images/000c1434d8d7.png", "train_images/001639a390f0.PNG", "train_images/other.png")
    folder = build(*photographs, "test_images/t.png", **{"train.csv": text, "test.csv": b"id_code\nt\nu\n"})
    assert recognise(folder) == "aptos"
    imported = import_dataset("aptos", folder)
    assert imported.manifest.rows == (
        Row(photographs[0], "000c1434d8d7", grade=2, source="aptos"),
        Row(photographs[1], "001639a390f0", grade=4, source="aptos"),
    )
    assert imported.notes[:-1] == (
        "2 photographs of 2 patients, grades 0/1/2/3/4: 0/0/1/0/1",
        f"aptos: photographs {OWN_PATIENT}",
        "train.csv: 1 labels without a photograph, left out: absent",
        "train.csv: 1 photographs without a label, left out: train_images/other.png",
        "aptos: the 2 photographs of test.csv have no published grades, left out",
    )
    assert imported.notes[-1] == (
        "aptos train: 3,662 published, 2 found; grade 0: 1,805 published, 0 found; grade 1: 370 published, 0 found; "
        "grade 2: 999 published, 1 found; grade 3: 193 published, 0 found; grade 4: 295 published, 1 found "
        "(published: counted in train.csv)"
    )


def test_a_train_csv_alone_is_not_taken_for_aptos(build):
    with pytest.raises(DataError, match="no dataset recognised"):
        recognise(build("train.csv", "pictures/a.png"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"id_code,grade\na,0\n", 'train.csv: no column "diagnosis"; expected id_code, diagnosis'),
        (b"id_code,diagnosis\na,6\n", r'train.csv, row 2: grade is "6"; expected 0..4'),
        (b"id_code,diagnosis\na,1\na.png,2\n", r'train.csv, row 3: "a.png" stands in row 2 already'),
        (
            b"id_code,diagnosis\nb,1\n",
            "no photograph with a label; expected the layout of aptos. .*without a photograph",
        ),
    ],
)
def test_aptos_refuses(build, text, message):
    with pytest.raises(DataError, match=message):
        import_dataset("aptos", build("train_images/a.png", **{"train.csv": text}))


# Messidor-2

MESSIDOR = b"image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
GRADES = MESSIDOR + b"2_PP.png,2,1,1\n1_PP.png,0,0,1\nIM000012.jpg,3.0,1.0,1.0\nIM000013.jpg,,,0\nlone.png,1,0,1\n"
PAIRS = b"left;right \r\n1_PP.png;2_PP.png\r\nIM000013.JPG;IM000012.JPG\r\n1_PP.png;2_PP.png\r\n"
PHOTOGRAPHS = tuple(f"IMAGES/{name}" for name in ("1_PP.png", "2_PP.png", "IM000012.JPG", "IM000013.JPG", "lone.png"))


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS.replace(b";", b",")])
def test_messidor2(build, pairs):
    folder = build(*PHOTOGRAPHS, **{"messidor_data.csv": GRADES, "messidor-2.csv": pairs})
    assert recognise(folder) == "messidor2"
    imported = import_dataset("messidor2", folder)
    assert [(r.image[7:], r.patient, r.eye, r.grade, r.dme, r.quality) for r in imported.manifest] == [
        ("2_PP.png", "1_PP", "right", 2, 2, "gradable"),
        ("1_PP.png", "1_PP", "left", 0, 0, "gradable"),
        ("IM000012.JPG", "IM000013", "right", 3, 2, "gradable"),
        ("IM000013.JPG", "IM000013", "left", None, None, "ungradable"),
        ("lone.png", "lone", "", 1, 0, "gradable"),
    ]
    assert imported.notes[1:-1] == (
        f"messidor2: 1 of 5 photographs {OWN_PATIENT}",
        "messidor2: 1 photographs are marked ungradable",
    )
    assert imported.notes[-1].startswith("messidor2 all: 1,748 published, 5 found; grade 0: 1,017 published, 1 found")
    assert "; without grade: 4 published, 1 found (published: counted in a copy" in imported.notes[-1]


def test_messidor2_without_its_pairs_says_so(build):
    photographs = [name.replace("IMAGES", "Images") for name in PHOTOGRAPHS]
    imported = import_dataset("messidor2", build(*photographs, **{"messidor_data.csv": GRADES}))
    assert len(set(imported.manifest.patients())) == 5
    assert said(imported, "messidor2: messidor-2.csv, which pairs the eyes, is absent").endswith(OWN_PATIENT)


def test_messidor2_takes_no_grade_of_an_ungradable_photograph_and_says_so(build):
    text = MESSIDOR + b"1_PP.png,3,0,0\n2_PP.png,,0,1\nlone.png,1,0,1\n"
    imported = import_dataset("messidor2", build(*PHOTOGRAPHS, **{"messidor_data.csv": text}))
    assert [(row.grade, row.quality) for row in imported.manifest] == [
        (None, "ungradable"),
        (None, "ungradable"),
        (1, "gradable"),
    ]
    assert said(imported, "messidor_data.csv: 2 rows whose grade").endswith("disagree: 1_PP.png, 2_PP.png")


@pytest.mark.parametrize(
    ("labels", "pairs", "message"),
    [
        (b"1_PP.png,5,0,1\n", PAIRS, r'messidor_data.csv, row 2: grade is "5"; expected 0..4'),
        (b"1_PP.png,1,2,1\n", PAIRS, r'row 2: adjudicated_dme is "2"; expected 0, 1 or empty'),
        (b"1_PP.png,1,0,yes\n", PAIRS, r'row 2: adjudicated_gradable is "yes"; expected 0 or 1'),
        (b"1_PP.png,1,0,1\n1_PP.jpg,1,0,1\n", PAIRS, r'row 3: "1_PP.jpg" stands in row 2 already'),
        (b"1_PP.png,1,0,1\n", b"a;b\n1;2\n", r"messidor-2.csv: columns a, b; expected left;right"),
        (
            b"1_PP.png,1,0,1\n",
            b"left;right\n1.png;2.png\n1.png;3.png\n3.png;1.png\n",
            "row 4: 3 stands in another pair",
        ),
        (b"1_PP.png,1,0,1\n", b"\n", r"messidor-2.csv: the file is empty; expected left;right"),
    ],
)
def test_messidor2_refuses(build, labels, pairs, message):
    folder = build(*PHOTOGRAPHS, **{"messidor_data.csv": MESSIDOR + labels, "messidor-2.csv": pairs})
    with pytest.raises(DataError, match=message):
        import_dataset("messidor2", folder)


def test_messidor2_repackaged_is_no_messidor2(build):
    text = b"id_code,diagnosis,adjudicated_dme,adjudicated_gradable\n1_PP.png,0,0,1\n"
    with pytest.raises(DataError, match=r'messidor_data.csv: no column "image_id"; expected image_id, adjudicated_dr'):
        import_dataset("messidor2", build(*PHOTOGRAPHS, **{"messidor_data.csv": text}))


# DDR

DDR = {
    "train.txt": b"007-0004-000.jpg 0\n20170413102628830.jpg 5\n\n",
    "valid.txt": b"007-0007-000.jpg 3\r\n",
    "test.txt": b"007-0008-100.jpg\t4\nabsent.jpg 1\n",
    "train/007-0004-000.jpg": b"1",
    "train/20170413102628830.jpg": b"22",
    "valid/007-0007-000.JPG": b"333",
    "test/007-0008-100.jpg": b"4444",
}


@pytest.mark.parametrize("inner", ["DDR-dataset/DR_grading/", "DR_grading/", ""])
def test_ddr(build, inner):
    folder = build(**{inner + name: content for name, content in DDR.items()})
    assert recognise(folder) == "ddr"
    imported = import_dataset("ddr", folder)
    assert [(r.image.removeprefix(inner), r.patient, r.grade, r.quality, r.split) for r in imported.manifest] == [
        ("train/007-0004-000.jpg", "007-0004-000", 0, "", "train"),
        ("train/20170413102628830.jpg", "20170413102628830", None, "ungradable", "train"),
        ("valid/007-0007-000.JPG", "007-0007-000", 3, "", "val"),
        ("test/007-0008-100.jpg", "007-0008-100", 4, "", "test"),
    ]
    assert OWN_PATIENT in imported.notes[1] and "9,598 patients" in imported.notes[1]
    assert f"{inner}test.txt: 1 labels without a photograph, left out: absent.jpg" in imported.notes
    assert "ddr: 1 photographs are marked ungradable" in imported.notes
    assert "; without grade: 575 published, 1 found (published: public code" in said(imported, "ddr train")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train.txt": b"007-0004-000.jpg 6\n"}, r'train.txt, row 1: grade is "6"; expected 0..4'),
        ({"train.txt": b"007-0004-000.jpg\n"}, r"train.txt, row 1: 1 words; expected photograph and grade"),
        ({"train.txt": b"007-0004-000.jpg 1\n\n007-0004-000.jpg 1\n"}, r'row 3: "007-0004-000.jpg" stands in row 1'),
        ({"test/007-0004-000.jpg": b"5", "test.txt": b"007-0004-000.jpg 1\n"}, r'patient "007-0004-000" stands in two'),
        ({"train.txt": b"\xff\xfe 1\n"}, r"train.txt: byte 0 is not UTF-8"),
    ],
)
def test_ddr_refuses(build, changed, message):
    folder = build(**{f"DR_grading/{name}": content for name, content in (DDR | changed).items()})
    with pytest.raises(DataError, match=message):
        import_dataset("ddr", folder)


def test_ddr_without_a_part_and_with_a_picture_in_two_parts_says_so(build):
    files = {name: content for name, content in DDR.items() if not name.startswith("valid")}
    files["test/007-0008-100.jpg"] = files["train/007-0004-000.jpg"]
    imported = import_dataset("ddr", build(**{f"DR_grading/{name}": content for name, content in files.items()}))
    assert "ddr: the valid set is absent (DR_grading/valid.txt)" in imported.notes
    assert said(imported, "ddr: 1 of them on two sides").endswith("official split: DR_grading/train/007-0004-000.jpg")
