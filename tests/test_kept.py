"""Gradings kept while a long list is graded: broken off, it goes on, to the same result, and nothing stale is told."""

import json
from dataclasses import replace

import pytest

from m2cnn.cli import INTERRUPTED, OK, main
from m2cnn.cli_verb import UNGRADED
from m2cnn.data.identity import package_identity
from m2cnn.data.manifest import Manifest
from m2cnn.errors import DataError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.grader import Grader, Photo
from m2cnn.kept import keeping
from m2cnn.recalibrate import recalibrate
from m2cnn.tables import read_table


@pytest.fixture
def photographs(rendered, tmp_path):
    """Eight copies in a folder, which may be spoiled."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(8)]
    for path, row in zip(paths, rendered.rows, strict=False):
        path.write_bytes(rendered.path(row).read_bytes())
    return paths


@pytest.fixture
def seen(monkeypatch):
    """The names of the photographs that a network is shown, from now on; "stop" after so many raises Ctrl-C."""
    shown, whole = [], Grader._grade_prepared

    def counting(grader, photos):
        if len(shown) >= counting.stop:
            raise KeyboardInterrupt
        shown.extend(photo.name.rpartition("/")[2] for photo in photos if not (photo.said or photo.reason))
        return whole(grader, photos)

    counting.stop = 10**9
    monkeypatch.setattr(Grader, "_grade_prepared", counting)
    counting.names = shown
    return counting


def small_batches(monkeypatch, size=2):
    whole = Grader.grade_exams
    monkeypatch.setattr(Grader, "grade_exams", lambda grader, exams, *_, kept=None: whole(grader, exams, size, 2, kept))


def grade(photographs, model, table):
    return main(["grade", str(photographs[0].parent), "--model", str(model), "--csv", str(table)])


def test_a_grading_that_was_broken_off_goes_on_to_the_same_table(photographs, tiny_run, tmp_path, monkeypatch, seen):
    small_batches(monkeypatch)
    photographs[1].write_bytes(b"no photograph")
    assert grade(photographs, tiny_run, tmp_path / "whole.csv") == UNGRADED
    assert len(seen.names) == 7 and sorted(path.name for path in tmp_path.iterdir()) == ["photographs", "whole.csv"]

    seen.names.clear()
    seen.stop = 3
    assert grade(photographs, tiny_run, tmp_path / "again.csv") == INTERRUPTED
    assert not (tmp_path / "again.csv").exists()
    before = list(seen.names)
    seen.stop = 10**9
    seen.names.clear()
    assert grade(photographs, tiny_run, tmp_path / "again.csv") == UNGRADED
    assert len(before) >= 3 and sorted(before + seen.names) == sorted(p.name for p in photographs if p.name != "1.jpg")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "photographs", "whole.csv"]


def test_what_is_kept_names_no_photograph(photographs, tiny_run, tmp_path, monkeypatch, seen):
    small_batches(monkeypatch)
    seen.stop = 3
    assert grade(photographs, tiny_run, tmp_path / "out.csv") == INTERRUPTED
    kept = (tmp_path / ".out.csv.m2cnn-graded").read_text()
    assert len(kept.splitlines()) == 4 and "jpg" not in kept and str(tmp_path) not in kept


def test_a_photograph_that_changed_since_is_graded_anew(photographs, tiny_run, tmp_path, monkeypatch, seen, rendered):
    small_batches(monkeypatch)
    seen.stop = 4
    assert grade(photographs, tiny_run, tmp_path / "out.csv") == INTERRUPTED
    assert seen.names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    photographs[0].write_bytes(rendered.path(rendered.rows[20]).read_bytes())
    photographs[3].unlink()
    seen.stop = 10**9
    seen.names.clear()
    assert grade(photographs, tiny_run, tmp_path / "out.csv") == OK
    assert seen.names == ["0.jpg", "4.jpg", "5.jpg", "6.jpg", "7.jpg"]
    rows = [row for _, row in read_table(tmp_path / "out.csv")[1]]
    assert len(rows) == 7
    for row, path in zip((rows[0], rows[1]), photographs, strict=False):
        assert float(row["severity"]) == pytest.approx(Grader.load(tiny_run).grade(path).severity, abs=1e-5)


def test_what_another_model_or_backend_said_does_not_count(photographs, tiny_run, tmp_path, seen):
    grader = Grader.load(tiny_run)
    origin = grader.identity
    with keeping(tmp_path / "t.csv", origin) as kept:
        keys = kept.keys([Photo(photographs[0])])
        kept.keep(keys[0], grader.grade(photographs[0]))
        (content,) = tmp_path.glob(".t.csv*")
        line = content.read_bytes()
    assert not content.exists()
    for changed in (["0.0.0", *origin[1:]], [*origin[:-1], "torch"], [*origin[:-3], "another", *origin[-2:]], origin):
        content.write_bytes(line)
        with keeping(tmp_path / "t.csv", changed) as kept:
            assert (kept.keys([Photo(photographs[0])])[0] in kept.found) == (changed == origin)
    assert Grader.load(tiny_run, "torch").identity != origin


def test_another_reader_of_pictures_is_another_identity(monkeypatch):
    before = package_identity()
    assert package_identity() == before
    monkeypatch.setattr("cv2.__version__", "0.0.0")
    assert package_identity() != before


def test_an_exam_is_known_by_both_its_eyes(photographs, tmp_path):
    left, right, other = photographs[:3]
    with keeping(tmp_path / "t.csv", ["model"]) as kept:
        both = kept.keys([Photo(left, "left"), Photo(right, "right")])
        assert len(set(both)) == 2
        different = [
            [Photo(left, "left"), Photo(other, "right")],
            [Photo(left, "right"), Photo(right, "left")],
            [Photo(left, "left")],
        ]
        assert all(set(kept.keys(exam)).isdisjoint(both) for exam in different)
        assert kept.keys([Photo(left.read_bytes(), "left"), Photo(right, "right")]) == both
        assert kept.keys([Photo(left, "left"), Photo(tmp_path / "gone.jpg", "right")]) == ["", ""]


def test_a_passing_fault_of_one_eye_stays_with_neither(photographs, tmp_path, monkeypatch, seen):
    """The file is there when it is hashed, and not when it is read, as on a bad network."""
    exam, grader = [Photo(photographs[0], "left"), Photo(photographs[1], "right")], Grader.load("default")
    assert grader.joins_eyes
    (good,) = grader.grade_exams([exam])
    whole = Grader._prepare

    def failing(grader, photo, number):
        return replace(whole(grader, photo, number), **({"reason": "cannot be read"} if photo.eye == "right" else {}))

    with keeping(tmp_path / "t.csv", grader.identity) as kept:
        with monkeypatch.context() as network:
            network.setattr(Grader, "_prepare", failing)
            (bad,) = grader.grade_exams([exam], kept=kept)
        assert bad[0].caution and not bad[1].gradable
        assert (tmp_path / ".t.csv.m2cnn-graded").read_bytes() == b""

        def written_meanwhile(grader, photo, number):
            found = whole(grader, photo, number)
            photographs[1].write_bytes(photographs[2].read_bytes())
            return found

        with monkeypatch.context() as copying:
            copying.setattr(Grader, "_prepare", written_meanwhile)
            list(grader.grade_exams([exam], kept=kept))
        assert (tmp_path / ".t.csv.m2cnn-graded").read_bytes() == b""
        list(grader.grade_exams([exam], kept=kept))
        assert len((tmp_path / ".t.csv.m2cnn-graded").read_bytes().splitlines()) == 2
    assert good[0].caution == "" or "other eye" not in good[0].caution


def test_a_refusal_leaves_nothing_and_a_folder_keeps_it_inside(tmp_path):
    with pytest.raises(DataError), keeping(tmp_path / "t.csv", ["model"]):
        raise DataError("x", "y", "z")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bundle").mkdir()
    with pytest.raises(KeyboardInterrupt), keeping(tmp_path / "bundle", ["model"]):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == [".m2cnn-graded"]


def test_a_torn_line_is_graded_again_and_spoils_no_other(photographs, tiny_run, tmp_path, monkeypatch, seen):
    small_batches(monkeypatch)
    seen.stop = 4
    assert grade(photographs, tiny_run, tmp_path / "out.csv") == INTERRUPTED
    (kept,) = tmp_path.glob(".out.csv*")
    lines = kept.read_bytes().splitlines()
    for torn in (
        lines[3][:40],
        b"\x00" * 30,
        b"[1, 2]",
        b"[" * 100_000,
        json.dumps(["key", {"probabilities": None}]).encode(),
    ):
        kept.write_bytes(b"\n".join([*lines[:3], torn]))
        seen.stop = 3
        seen.names.clear()
        assert grade(photographs, tiny_run, tmp_path / "out.csv") == INTERRUPTED
        assert seen.names[0] == "3.jpg"
        assert lines[3][:70] in [line[:70] for line in kept.read_bytes().splitlines()]  # its key, whole again


@pytest.mark.parametrize("way", ["evaluate", "calibrate"])
def test_measuring_goes_on_too(way, tiny_run, rendered, tmp_path, monkeypatch, seen):
    small_batches(monkeypatch)

    def call():
        if way == "evaluate":
            return evaluate(tiny_run, rendered, tmp_path / "out", Selection(("val",)), replicates=20)["metrics"]
        return recalibrate(tiny_run, Manifest(rendered.rows, rendered.root), tmp_path / "out").calibration

    seen.stop = 3
    with pytest.raises(KeyboardInterrupt):
        call()
    before = list(seen.names)
    seen.names.clear()
    seen.stop = 10**9
    went_on = call()
    assert before and not set(before) & set(seen.names)
    assert not list(tmp_path.rglob(".*graded"))
    (tmp_path / "out").rename(tmp_path / "first")
    seen.names.clear()
    assert repr(call()) == repr(went_on) and set(before) <= set(seen.names)
