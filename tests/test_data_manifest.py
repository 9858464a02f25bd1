"""The manifest: what is read is what was written, and what is wrong is named by file, row and repair."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m2cnn.data.manifest import (
    COLUMNS,
    Manifest,
    Row,
    check_files,
    missing_files,
    read_manifest,
    write_manifest,
)
from m2cnn.data.opening import complete
from m2cnn.errors import DataError, LockboxError, SettingError
from m2cnn.tables import read_table

ROWS = (
    Row("a/1_left.png", "1", "left", 0, split="train"),
    Row("a/1_right.png", "1", "right", 3, 2, "gradable", "train", "0" * 64, "eyepacs"),
    Row("2.png", "2", quality="ungradable", split="val"),
    Row("3.png", "3", grade=4, split="lockbox"),
    Row("4.png", "4", grade=2),
)


@pytest.fixture
def csv(tmp_path):
    def write(text, name="train.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "deep" / "manifest.csv"
    write_manifest(Manifest(ROWS, tmp_path), path)
    back = read_manifest(path)
    assert back.rows == ROWS
    assert back.root == path.parent
    assert read_manifest(path, tmp_path).root == tmp_path
    assert os.listdir(path.parent) == ["manifest.csv"]


letters = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
text = st.text(letters, min_size=1)
names = st.text(letters.filter(lambda c: c not in "\\/:"), min_size=1).filter(lambda s: s not in (".", ".."))


@settings(max_examples=30)
@example([Row('a b "c", d.png', "ö 1", source="'")])
@given(
    st.lists(
        st.builds(Row, names, text, source=text, grade=st.none() | st.integers(0, 4)),
        min_size=1,
        unique_by=lambda r: r.image,
    )
)
def test_any_text_survives(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "m.csv"
    write_manifest(Manifest(tuple(rows), Path()), path)
    assert read_manifest(path).rows == tuple(rows)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "manifest.csv"
    write_manifest(Manifest(ROWS[:1], tmp_path), path)
    before = path.read_bytes()

    def power_cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(Manifest(ROWS, tmp_path), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["manifest.csv"]


def test_the_digest_is_the_files_and_sees_every_change(tmp_path):
    manifest = Manifest(ROWS, tmp_path)
    write_manifest(manifest, tmp_path / "m.csv")
    assert manifest.digest() == hashlib.sha256((tmp_path / "m.csv").read_bytes()).hexdigest()
    assert manifest.digest() != Manifest((*ROWS[:-1], Row("4.png", "4", grade=1)), tmp_path).digest()
    assert manifest.digest() == Manifest(ROWS, tmp_path / "elsewhere").digest()


def test_bom_windows_lines_blank_lines_floats_and_dots_are_read(csv):
    path = csv(b"\xef\xbb\xbfimage,patient,grade,eye\r\n\r\n./a.png, 7 ,3.0,left\r\n,,,\r\nb.png,8,,\r\n")
    assert read_manifest(path).rows == (Row("a.png", "7", "left", 3), Row("b.png", "8"))


def test_arrays_and_selections(tmp_path):
    manifest = Manifest(ROWS, tmp_path)
    assert len(manifest) == 5
    assert list(manifest) == list(ROWS)
    assert manifest.grades().tolist() == [0, 3, -1, 4, 2]
    assert manifest.grades().dtype == np.int64
    assert manifest.patients().tolist() == ["1", "1", "2", "3", "4"]
    assert manifest.graded().rows == (ROWS[0], ROWS[1], ROWS[3], ROWS[4])
    assert manifest.select("train").rows == ROWS[:2]
    assert manifest.select("train", "val").rows == ROWS[:3]
    assert manifest.select("all").rows == (*ROWS[:3], ROWS[4])
    assert manifest.path(ROWS[0]) == tmp_path / "a/1_left.png"
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_selections_that_are_refused(tmp_path):
    manifest = Manifest(ROWS, tmp_path)
    with pytest.raises(LockboxError, match=r"the lockbox is closed; .* m2cnn data open-lockbox MANIFEST --by WHO"):
        manifest.select("lockbox")
    with pytest.raises(LockboxError, match="the lockbox is closed"):
        manifest.select("train", "lockbox")
    with pytest.raises(SettingError, match=r'"trian"; expected a split. Did you mean "train"'):
        manifest.select("trian")
    with pytest.raises(DataError, match=r"no photograph in test; expected one of its splits \(train: 2.*--split all"):
        manifest.select("test")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "image,patient,grade\na,1,0\n\nb,1,5\n",
            r'^train.csv, row 4: grade is "5"; expected 0..4 \(ICDR\). Ungradable',
        ),
        ("image,patient,grade\na,1,mild\n", 'row 2: grade is "mild"'),
        ("image,patient,grade\na,1,2.5\n", 'row 2: grade is "2.5"'),
        ("image,patient,grade\na,1,-1\n", 'row 2: grade is "-1"'),
        (f"image,patient,grade\na,1,{'9' * 400}\n", "row 2: grade is"),
        ("image,patient,dme\na,1,3\n", 'row 2: dme is "3"; expected 0..2'),
        ("image,patient,eye\na,1,Left\n", r'row 2: eye is "Left"; expected left, right or empty. Did you mean "left"'),
        ("image,patient,quality\na,1,good\n", 'quality is "good"'),
        ("image,patient,split\na,1,valid\n", 'split is "valid"'),
        ("image,patient,sha256\na,1,abc\n", 'sha256 is "abc"; expected 64'),
        ("image,patient\na,\n", "row 2: patient is empty.*each photograph its own"),
        ("image,patient\n,1\n", "row 2: image is empty"),
        ("image,patient\n/abs/a,1\n", "below the folder of photographs"),
        ("image,patient\n../a,1\n", "below the folder of photographs"),
        ("image,patient\nb/../../a,1\n", "below the folder of photographs"),
        ("image,patient\nb\\a,1\n", "a path with /"),
        ("image,patient\nC:/a,1\n", "below the folder of photographs"),
        ("image,patient\n.,1\n", "below the folder of photographs"),
        ("image,patient\na\u200b,1\n", "no hidden character"),
        ("image,patient\na\0b,1\n", "no hidden character"),
        ("image,patient\na,1\n./a,2\n", 'row 3: image "a" stands above already'),
        ("image,patient,levl\na,1,0\n", 'unknown column "levl"'),
        (
            "image,patient,grades\na,1,0\n",
            'unknown column "grades".*"grade".*Remove the column, or .*: m2cnn data import table FOLDER csv',
        ),
        ("image,grade\na,1\n", 'no column "patient".*Its columns: image, grade'),
        ("image,patient,image\na,1,b\n", 'column "image" stands twice'),
        ("image;patient\na;1\n", "separated by ';'; expected commas"),
        ("image\tpatient\na\t1\n", r"separated by '\\t'"),
        ("image,patient\na,1,0\n", r"row 2: 3 cells; expected 2 \(image, patient\)"),
        ("image,patient,grade\na,1\n", "row 2: 2 cells; expected 3"),
        ('image,patient\n"a,1\n', "row 2: unexpected end of data"),
        ("", "the file is empty"),
        ("image,patient\nKöhler,1\n".encode("latin-1"), 'byte 15 is not UTF-8.*"CSV UTF-8"'),
    ],
)
def test_what_is_wrong_is_named(csv, body, message):
    with pytest.raises(DataError, match=message):
        read_manifest(csv(body))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing.csv: No such file or directory; expected a readable CSV"):
        read_manifest(tmp_path / "nothing.csv")


def test_rows_and_manifests_made_in_python_are_checked_too():
    with pytest.raises(DataError, match=r"photograph 'a.png': grade is \"7\""):
        Row("a.png", "1", grade=7)
    with pytest.raises(DataError, match=r'image "a.png" stands 2 times'):
        Manifest((Row("a.png", "1"), Row("b.png", "1"), Row("a.png", "2")), Path())


def test_the_columns_are_documented():
    from m2cnn.data import manifest

    assert [line.split()[1] for line in manifest.__doc__.splitlines() if line.startswith("| ")][1:] == list(COLUMNS)


def test_nameless_empty_columns_are_passed_over(csv):
    columns, rows = read_table(csv("name, risk ,,,\r\nx,2,,,\r\n"))
    assert columns == ["name", "risk"]
    assert rows == [(2, {"name": "x", "risk": "2"})]
    with pytest.raises(DataError, match="row 2: 5 cells"):
        read_table(csv("name, risk ,,,\r\nx,2,,9,\r\n"))


def test_files_are_checked_with_their_rows(tmp_path):
    for name in ("1.png", "2.png", "sub/3.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "sub" / "4.png").mkdir()  # a folder is no photograph
    names = ("1.png", "2.png", "sub/3.png")
    rows = tuple(Row(name, name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names)
    hashed = Manifest(rows, tmp_path)
    assert check_files(hashed) == []

    (tmp_path / "2.png").write_bytes(b"changed")
    more = Manifest((*hashed.rows, Row("sub/4.png", "4"), Row("none/5.png", "5")), tmp_path)
    problems = {problem.row: (problem.image, problem.reason) for problem in check_files(more)}
    assert problems == {
        3: ("2.png", "its bytes have changed (sha256)"),
        5: ("sub/4.png", "no such file"),
        6: ("none/5.png", "no such file"),
    }
    assert [problem.row for problem in check_files(more, hashes=False)] == [5, 6]
    assert str(check_files(more)[0]) == "row 3, 2.png: its bytes have changed (sha256)"
    assert missing_files(more) == ["sub/4.png", "none/5.png"]
    with pytest.raises(DataError, match=r"2 of 5 photographs are missing, the first is sub/4.png"):
        complete(more)
