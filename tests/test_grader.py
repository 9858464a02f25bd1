"""The grader: the same grade by every way, and never a grade for what is no fundus photograph."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from m2cnn.bundle import load_bundle
from m2cnn.errors import DataError
from m2cnn.grader import Grader, find_photographs, passed_over
from m2cnn.grades import DISCLAIMER
from m2cnn.predictions import read_predictions


@pytest.fixture(scope="module")
def grader(tiny_run):
    return Grader.load(tiny_run)


def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def no_fundus():
    skimage = pytest.importorskip("skimage.data")
    rng = np.random.default_rng(0)
    page = np.full((600, 450, 3), 255, np.uint8)
    for line in range(20):
        cv2.putText(
            page, "Dear colleague, thank you for", (30, 50 + 25 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1
        )
    return {
        "cat": skimage.chelsea()[..., ::-1],
        "document": page,
        "black": np.zeros((500, 500, 3), np.uint8),
        "white": np.full((500, 500, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (500, 500, 3), dtype=np.uint8),
    }


@pytest.mark.parametrize("name", ["cat", "document", "black", "white", "noise"])
def test_a_picture_that_is_no_fundus_gets_no_grade(grader, name):
    grading = grader.grade(jpeg(no_fundus()[name]))
    assert not grading.gradable
    assert (grading.grade, grading.probabilities, grading.severity, grading.referable) == (None,) * 4
    assert grading.reason


def test_a_photograph_gets_everything(grader, rendered):
    path = rendered.path(rendered.rows[0])
    grading = grader.grade(path)
    assert grading.gradable and grading.reason == ""
    assert grading.image == str(path)
    assert sum(grading.probabilities) == pytest.approx(1)
    assert grading.referable == (grading.grade >= 2)
    assert 0 <= grading.severity <= 4
    assert grading.model == grader.bundle.hash
    assert grading.as_dict()["disclaimer"] == DISCLAIMER
    assert grading.as_dict()["grade_name"]


def test_path_bytes_batch_and_evaluation_say_the_same(grader, rendered, tiny_run):
    rows = rendered.select("test").rows
    alone = [grader.grade(rendered.path(row).read_bytes()) for row in rows]
    together = list(grader.grade_all([rendered.path(row) for row in rows], batch=3))
    table = read_predictions(tiny_run / "test" / "predictions.csv")
    severity = dict(zip(table.image, table.severity, strict=True))
    for row, one, other in zip(rows, alone, together, strict=True):
        assert one.severity == pytest.approx(other.severity, abs=1e-5)
        assert one.severity == pytest.approx(severity[row.image], abs=1e-5)


def test_both_backends_grade_alike(tiny_run, grader, rendered):
    torch = Grader.load(tiny_run, "torch")
    for row in rendered.rows[:4]:
        one, other = grader.grade(rendered.path(row)), torch.grade(rendered.path(row))
        assert one.grade == other.grade
        assert one.severity == pytest.approx(other.severity, abs=1e-4)


def test_bad_files_are_rows_in_their_place(grader, rendered, tmp_path):
    good = rendered.path(rendered.rows[0])
    (tmp_path / "cut.jpeg").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no photograph")
    sources = [
        tmp_path / "cut.jpeg",
        good,
        tmp_path / "empty.png",
        tmp_path / "text.jpg",
        tmp_path / "missing.jpg",
        good,
    ]
    gradings = list(grader.grade_all(sources))
    assert [g.gradable for g in gradings] == [False, True, False, False, False, True]
    assert [g.image for g in gradings] == [str(s) for s in sources]
    assert all(g.reason for g in gradings if not g.gradable)


@pytest.mark.parametrize(("place", "value"), [(5, np.inf), (5, -np.inf), (5, np.nan), (0, np.nan), (2, np.inf)])
def test_numbers_that_are_not_finite_give_no_grade(tiny_run, rendered, place, value):
    def answers(pictures):
        values = np.ones((len(pictures), 6), np.float32)
        values[:, place] = value
        return values, np.ones((len(pictures), 3), np.float32)

    bundle = load_bundle(tiny_run)
    readers = [replace(reader, answers=answers) for reader in bundle.readers()]
    grading = Grader(bundle, readers).grade(rendered.path(rendered.rows[0]))
    assert not grading.gradable
    assert "no finite number" in grading.reason


def test_memory_stays_flat(grader, rendered):
    taken = []

    def sources():
        for number in range(200):
            taken.append(number)
            yield rendered.path(rendered.rows[0])

    graded = grader.grade_all(sources(), batch=4)
    next(graded)
    assert len(taken) < 20


def test_folders_are_searched_and_files_are_kept(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.JPG", "deep/a.tiff", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".hidden").touch()
    everything = [tmp_path / "b.JPG", tmp_path / "deep" / "a.tiff"]
    assert find_photographs([tmp_path]) == (everything, [tmp_path / "notes.txt"])
    again = find_photographs([tmp_path / "deep" / ".." / "b.JPG", tmp_path, tmp_path, tmp_path / "b.JPG"])
    assert again == ([tmp_path / "deep" / ".." / "b.JPG", tmp_path / "deep" / "a.tiff"], [tmp_path / "notes.txt"])
    assert find_photographs([tmp_path / "notes.txt"]) == ([tmp_path / "notes.txt"], [])
    assert find_photographs([tmp_path, tmp_path / "notes.txt"]) == ([*everything, tmp_path / "notes.txt"], [])
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "index").touch()
    assert find_photographs([tmp_path]) == (everything, [tmp_path / "notes.txt"])
    (tmp_path / "deep" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = [tmp_path / "deep" / "a.tiff", tmp_path / "deep" / "lost.jpg"]
    assert find_photographs([tmp_path / "deep"]) == find_photographs(found) == (found, [])
    with pytest.raises(DataError, match="an empty path"):
        find_photographs([""])


def test_what_is_not_there_is_named_before_anything_is_graded(tmp_path):
    (tmp_path / "a.jpg").touch()
    for name in ("b.jpg", "a.jpg/b.jpg", "none"):
        with pytest.raises(DataError, match=rf"{name}: no such file or folder; expected a photograph.*nothing was"):
            find_photographs([tmp_path / "a.jpg", tmp_path / name])
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").touch()
    with pytest.raises(
        DataError, match=r"bare: the folder holds no photographs; expected files .* \.jpeg, \.jpg, \.png"
    ):
        find_photographs([tmp_path / "a.jpg", tmp_path / "bare"])


def test_what_cannot_be_looked_at_stays_to_be_told(tmp_path, monkeypatch):
    def closed(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("os.lstat", closed)
        patch.setattr("os.stat", closed)
        found = find_photographs([tmp_path / "a.jpg"])
    assert found == ([tmp_path / "a.jpg"], [])


def test_a_folder_that_cannot_be_read_stays_to_be_told(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", closed)
    assert find_photographs([tmp_path]) == ([tmp_path], [])


def test_behind_a_link_is_where_it_leads(tmp_path):
    for place in ("here", "there/eyes"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "here" / "a.jpg").touch()
    (tmp_path / "there" / "a.jpg").touch()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "eyes")
    two = [tmp_path / "here" / "link" / ".." / "a.jpg", tmp_path / "here" / "a.jpg"]
    assert find_photographs([*two, tmp_path / "there"]) == (two, [])


def test_what_is_passed_over_is_counted_by_its_ending():
    paths = [Path(f"eyes/{n}.dcm") for n in range(6)] + [Path("eyes/a.BMP"), Path("eyes/b.bmp"), Path("eyes/IM0001")]
    assert passed_over(paths).startswith("9 files passed over (6 .dcm, 2 .bmp, 1 no ending): eyes/0.dcm, eyes/1.dcm,")
    numbered = passed_over([Path(f"eyes/1.2.{n}") for n in range(1000)])
    assert numbered.startswith("1000 files passed over (1 .0, 1 .1, 1 .2, 1 .3, 1 .4, ...)") and len(numbered) < 300
