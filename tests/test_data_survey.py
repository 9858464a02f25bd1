"""Every photograph is looked at once, whatever happens in between; the work is shown, and no process stays behind."""

import os
import sqlite3
import sys
from contextlib import closing

import cv2
import numpy as np
import pytest

import m2cnn.data.survey as module
from m2cnn.data import Manifest, Row
from m2cnn.data.survey import MEMORY, Seen, planes_of, refuse_changed, survey, with_hashes
from m2cnn.errors import DataError, ImageError, SettingError
from m2cnn.parallel import in_chunks

LOOKED = []


def brightness(file):
    """A look that counts its calls."""
    LOOKED.append(file)
    picture = file.frame(16)
    if picture.mean() > 250:
        raise ImageError("x", "too bright")
    return Seen("", {"mean": float(picture.mean())}, b"")


@pytest.fixture
def photographs(tmp_path):
    LOOKED.clear()
    folder = tmp_path / "photographs"
    folder.mkdir()
    for n in range(6):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((32, 32, 3), 40 * n, np.uint8))
    cv2.imwrite(str(folder / "white.png"), np.full((32, 32, 3), 255, np.uint8))
    names = [*(f"{n}.png" for n in range(6)), "white.png", "missing.png"]
    return Manifest(tuple(Row(name, name) for name in names), folder)


def test_each_photograph_is_looked_at_once(photographs, tmp_path):
    first = survey(photographs, brightness, tmp_path / "memory", workers=1)
    assert [first[f"{n}.png"].values["mean"] for n in range(6)] == [0, 40, 80, 120, 160, 200]
    assert first["white.png"].reason == "too bright" and first["white.png"].sha256
    assert first["missing.png"] == Seen("no such file", {}, b"")
    assert len(LOOKED) == 7
    backwards = Manifest(photographs.rows[::-1], photographs.root)
    assert survey(backwards, brightness, tmp_path / "memory", workers=1) == first
    assert len(LOOKED) == 7


def test_the_hash_of_a_manifest_is_no_proof(photographs, tmp_path):
    """A file that was written over is not taken for the one that was seen, however its row calls it."""
    first = survey(photographs, brightness, tmp_path / "memory", workers=1)
    hashed = with_hashes(photographs, first)
    assert [bool(row.sha256) for row in hashed] == [True] * 7 + [False]
    refuse_changed(survey(hashed, brightness, tmp_path / "memory", workers=1))
    (photographs.root / "3.png").write_bytes((photographs.root / "4.png").read_bytes())
    seen = survey(hashed, brightness, tmp_path / "memory", workers=1)
    assert seen["3.png"] == Seen("its bytes have changed (sha256)", {}, b"", first["4.png"].sha256)
    with pytest.raises(DataError, match=r"1 of 8 photographs are not those of the manifest \(sha256\): 3.png"):
        refuse_changed(seen)


def test_a_changed_file_and_another_look_are_seen_anew(photographs, tmp_path, monkeypatch):
    survey(photographs, brightness, tmp_path / "memory", workers=1)
    cv2.imwrite(str(photographs.root / "0.png"), np.full((32, 32, 3), 7, np.uint8))
    assert survey(photographs, brightness, tmp_path / "memory", workers=1)["0.png"].values["mean"] == 7
    assert len(LOOKED) == 8
    monkeypatch.setattr(module, "code_identity", lambda modules: ["other code"])
    survey(photographs, brightness, tmp_path / "memory", workers=1)
    assert len(LOOKED) == 15


def test_a_missing_file_that_comes_back_is_seen(photographs, tmp_path):
    survey(photographs, brightness, tmp_path / "memory", workers=1)
    cv2.imwrite(str(photographs.root / "missing.png"), np.full((32, 32, 3), 9, np.uint8))
    assert survey(photographs, brightness, tmp_path / "memory", workers=1)["missing.png"].values["mean"] == 9


def test_an_interruption_keeps_what_was_seen(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)

    def interrupted(file):
        if len(LOOKED) == 5:
            raise KeyboardInterrupt
        return brightness(file)

    interrupted.__qualname__ = brightness.__qualname__
    with pytest.raises(KeyboardInterrupt):
        survey(photographs, interrupted, tmp_path / "memory", workers=1)
    seen = survey(photographs, brightness, tmp_path / "memory", workers=1)
    assert len(LOOKED) == 5 + 3 and len(seen) == 8  # the chunk that was begun is looked at again


def test_processes_see_the_same(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    look = module.look_at_planes
    one = survey(photographs, look, tmp_path / "one", workers=1)
    assert survey(photographs, look, tmp_path / "two", workers=2) == one
    images, planes = planes_of(one)
    assert images == [row.image for row in photographs if row.image != "missing.png"]
    assert planes.shape == (7, 2, 64, 64)


def test_a_damaged_memory_is_said(photographs, tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / MEMORY).write_bytes(b"no database " * 99)
    with pytest.raises(DataError, match=rf"{MEMORY}: damaged .* Remove it"):
        survey(photographs, brightness, tmp_path / "memory", workers=1)


def test_a_memory_that_is_no_file_or_another_programs_is_said(photographs, tmp_path):
    (tmp_path / "folder" / MEMORY).mkdir(parents=True)
    with pytest.raises(DataError, match=r"unable to open database file; expected a memory that can be written"):
        survey(photographs, brightness, tmp_path / "folder", workers=1)
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / MEMORY)) as database:
        database.execute("CREATE TABLE files (name TEXT)")
    with pytest.raises(DataError, match=rf"{MEMORY}: no such column"):
        survey(photographs, brightness, tmp_path / "other", workers=1)


def test_pages_that_were_damaged_are_said_too(photographs, tmp_path):
    survey(photographs, module.look_at_planes, tmp_path, workers=1)
    data = bytearray((tmp_path / MEMORY).read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    (tmp_path / MEMORY).write_bytes(data)
    with pytest.raises(DataError, match=r"damaged .* Remove it"):
        survey(photographs, module.look_at_planes, tmp_path, workers=1)


def test_the_memory_holds_no_names(photographs, tmp_path):
    survey(photographs, brightness, tmp_path / "memory", workers=1)
    assert b"white" not in (tmp_path / "memory" / MEMORY).read_bytes()
    rows = sqlite3.connect(tmp_path / "memory" / MEMORY).execute("SELECT count(*) FROM seen").fetchone()
    assert rows == (7,)


# The pool


def doubled(numbers):
    return [2 * number for number in numbers]


def dying(numbers):
    os._exit(3)


def test_chunks_keep_their_order():
    for workers in (1, 2):
        chunks = list(in_chunks(doubled, range(10), workers, 3, "doubling"))
        assert [value for chunk in chunks for value in chunk] == list(range(0, 20, 2))
    assert list(in_chunks(doubled, [], 2, 3, "doubling")) == []


def test_no_worker_is_refused():
    with pytest.raises(SettingError, match="workers: 0; expected 1 or more"):
        list(in_chunks(doubled, range(3), 0, 1, "doubling"))


def test_progress_is_lines_elsewhere_and_a_bar_on_a_terminal(capsys, monkeypatch):
    list(in_chunks(doubled, range(40), 1, 2, "doubling"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "doubling: 40 of 40" and len(lines) == 10
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(in_chunks(doubled, range(40), 1, 2, "doubling"))
    assert "100%" in capsys.readouterr().err
