"""Cached pictures: each photograph once, never a silent black one, nothing lost after a kill."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import m2cnn.data.cache as cache
from m2cnn.data import Manifest, Row, cache_pictures
from m2cnn.errors import DataError, ImageError, M2cnnError, SettingError
from m2cnn.photograph import read_image
from m2cnn.preprocess import Preprocess


class Mean:
    """A preprocess of one colour, that counts its calls."""

    def __init__(self, settings=0):
        self.calls, self.settings = [], settings

    def read(self, file, size):
        self.calls.append(size)
        image = file.at(size).image
        return np.full((size, size, 3), image.mean(axis=(0, 1)).round(), np.uint8)

    def to_dict(self):
        return {"settings": self.settings}


def fundus(value, side=48):
    """A disc on black, bright enough to be a field of view: (side, side, 3)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    shade = (np.hypot(x, y) < side * 0.45) * (110 + value)
    return np.stack([shade, shade * 0.6, shade * 0.3], axis=-1).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """40 photographs: more than two chunks, so that two workers have work."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for n in range(40):
        cv2.imwrite(str(folder / f"{n:02d}.png"), fundus(n)[..., ::-1])
    return Manifest(tuple(Row(f"{n:02d}.png", f"{n}") for n in range(40)), folder)


def test_pictures_are_the_preprocesss(photographs, tmp_path):
    prepared = cache_pictures(photographs, Preprocess(), [16, 24], tmp_path / "cache", workers=1)
    assert prepared.failed == {}
    for size in (16, 24):
        pictures = prepared.pictures(size)
        assert pictures.shape == (40, size, size, 3)
        assert pictures.dtype == np.uint8
        for row in photographs:
            expected = Preprocess()(read_image(photographs.path(row)), size)
            assert np.array_equal(pictures[prepared.index[row.image]], expected)
    assert prepared.pictures(16) is prepared.pictures(16)
    with pytest.raises(ValueError, match="read-only"):
        prepared.pictures(16)[0] = 0
    with pytest.raises(SettingError, match=r"size 32; expected one of \[16, 24\]"):
        prepared.pictures(32)


def test_processes_give_the_same_and_say_how_far_they_are(photographs, tmp_path, capfd):
    one = cache_pictures(photographs, Preprocess(), [16], tmp_path / "one", workers=1)
    capfd.readouterr()
    two = cache_pictures(photographs, Preprocess(), [16], tmp_path / "two", workers=2)
    assert np.array_equal(one.pictures(16), two.pictures(16))
    assert one.index == two.index
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("caching")]
    assert lines[-1] == "caching pictures: 40 of 40"
    assert len(lines) == 3


def test_on_a_terminal_there_is_a_bar(photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    cache_pictures(photographs, Mean(), [8], tmp_path, workers=1)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "of 40" not in shown


def test_a_second_call_prepares_nothing_and_order_does_not_matter(photographs, tmp_path):
    first = cache_pictures(photographs, Mean(), [8], tmp_path, workers=1)
    again = Mean()
    backwards = Manifest(photographs.rows[::-1], photographs.root)
    second = cache_pictures(backwards, again, [8], tmp_path, workers=1)
    assert again.calls == []
    assert second == first
    cache_pictures(photographs, again, [8, 9], tmp_path, workers=1)
    assert again.calls == [9] * 40


def test_whatever_the_pictures_depend_on_makes_another_store(photographs, tmp_path, monkeypatch):
    def calls(manifest=photographs, settings=0):
        preprocess = Mean(settings)
        cache_pictures(manifest, preprocess, [8], tmp_path, workers=1)
        return len(preprocess.calls)

    assert calls() == 40
    assert calls() == 0
    assert calls(settings=1) == 40
    assert calls(Manifest(photographs.rows[:7], photographs.root)) == 7
    path = photographs.path(photographs.rows[0])
    os.utime(path, ns=(1, 1))
    assert calls() == 40
    cv2.imwrite(str(path), fundus(0, side=64)[..., ::-1])
    os.utime(path, ns=(1, 1))  # only the length tells
    assert calls() == 40
    monkeypatch.setattr(cache, "LAYOUT", 99)
    assert calls() == 40


def test_with_a_hash_the_time_of_a_file_does_not_matter(photographs, tmp_path):
    rows = tuple(Row(row.image, row.patient, sha256=f"{n:064x}") for n, row in enumerate(photographs))
    manifest = Manifest(rows, photographs.root)
    cache_pictures(manifest, Mean(), [8], tmp_path, workers=1)
    os.utime(photographs.path(rows[0]), ns=(1, 1))
    again = Mean()
    cache_pictures(manifest, again, [8], tmp_path, workers=1)
    assert again.calls == []


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_read_is_named_and_never_a_black_picture(photographs, tmp_path, workers):
    broken, gone, plain = (photographs.root / f"{n:02d}.png" for n in (3, 20, 39))
    broken.write_bytes(broken.read_bytes()[:200])
    gone.unlink()
    cv2.imwrite(str(plain), np.full((48, 48, 3), 255, np.uint8))
    prepared = cache_pictures(photographs, Preprocess(), [16], tmp_path / "cache", workers)
    assert set(prepared.failed) == {"03.png", "20.png", "39.png"}
    assert prepared.failed["03.png"].startswith("damaged picture")
    assert prepared.failed["20.png"] == "cannot be opened (No such file or directory)"
    assert "no round field" in prepared.failed["39.png"]
    assert set(prepared.index) == {row.image for row in photographs} - set(prepared.failed)
    assert prepared.usable(photographs).rows == tuple(r for r in photographs if r.image not in prepared.failed)
    assert all(prepared.pictures(16)[i].any() for i in prepared.index.values())
    with pytest.raises(DataError, match=r"photograph 'new.png': not cached"):
        prepared.usable(Manifest((Row("new.png", "1"),), photographs.root))
    assert cache_pictures(photographs, Preprocess(), [16], tmp_path / "cache", workers).failed == prepared.failed


def test_a_missing_file_that_comes_back_is_tried_again(photographs, tmp_path):
    """Also when the manifest has hashes, so that the store stays the same."""
    manifest = Manifest((Row("00.png", "0", sha256="0" * 64), Row("01.png", "1", sha256="1" * 64)), photographs.root)
    away = photographs.root / "00.png"
    away.rename(tmp_path / "away.png")
    assert set(cache_pictures(manifest, Mean(), [8], tmp_path / "c", 1).failed) == {"00.png"}
    (tmp_path / "away.png").rename(away)
    again = Mean()
    prepared = cache_pictures(manifest, again, [8], tmp_path / "c", 1)
    assert (prepared.failed, again.calls) == ({}, [8])
    assert prepared.pictures(8)[prepared.index["00.png"]].any()


def test_a_failure_is_not_tried_twice(photographs, tmp_path):
    class Refusing(Mean):
        def read(self, file, size):
            self.calls.append(size)
            raise ImageError("x", "too dark")

    preprocess = Refusing()
    for _ in range(2):
        prepared = cache_pictures(photographs, preprocess, [8], tmp_path, workers=1)
        assert set(prepared.failed.values()) == {"too dark"}
        assert prepared.index == {}
    assert len(preprocess.calls) == 40


def test_an_interruption_keeps_what_is_done(photographs, tmp_path):
    class Interrupted(Mean):
        def read(self, file, size):
            if len(self.calls) == 37:
                raise KeyboardInterrupt
            return super().read(file, size)

    with pytest.raises(KeyboardInterrupt):
        cache_pictures(photographs, Interrupted(), [8], tmp_path / "c", workers=1)
    (done,) = (tmp_path / "c").glob("*/done.jsonl")
    with open(done, "a") as file:
        file.write('\n[35, "')  # as a kill in the middle of a line leaves it
    rest = Mean()
    prepared = cache_pictures(photographs, rest, [8], tmp_path / "c", workers=1)
    assert len(rest.calls) == 8  # two chunks of 16 were done
    assert np.array_equal(prepared.pictures(8), cache_pictures(photographs, Mean(), [8], tmp_path / "d", 1).pictures(8))
    again = Mean()
    cache_pictures(photographs, again, [8], tmp_path / "c", workers=1)
    assert again.calls == []  # the torn line swallowed none of those after it


def test_rows_are_recorded_only_once_they_are_on_disk(photographs, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache_pictures(photographs, Mean(), [8], tmp_path, workers=1)
    (done,) = tmp_path.glob("*/done.jsonl")
    assert done.read_text() == ""


SCRIPT = """
    import sys, time
    from m2cnn.data import Manifest, Row, cache_pictures
    from m2cnn.preprocess import Preprocess

    class Slow(Preprocess):
        def read(self, file, size):
            time.sleep(0.01)
            return super().read(file, size)

    if __name__ == "__main__":
        rows = tuple(Row(f"{n:02d}.png", str(n)) for n in range(40))
        from pathlib import Path
        cache_pictures(Manifest(rows, Path(sys.argv[1])), Slow(), [16], sys.argv[2], workers=2)
"""


def test_kill_9_in_the_middle_leaves_no_worker_and_goes_on(photographs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(photographs.root), str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not [line for done in tmp_path.glob("cache/*/done.jsonl") for line in done.read_text().split()]:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(signal.SIGKILL)
    process.wait()

    prepared = cache_pictures(photographs, Preprocess(), [16], tmp_path / "cache", workers=1)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    for row in photographs:
        expected = Preprocess()(read_image(photographs.path(row)), 16)
        assert np.array_equal(prepared.pictures(16)[prepared.index[row.image]], expected)
    while any(is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Dying(Preprocess):
    """Ends its process, as the kernel does when memory is short."""

    def read(self, file, size):
        os._exit(9)


def test_a_worker_that_dies_is_an_error_with_a_way_on(photographs, tmp_path):
    with pytest.raises(M2cnnError, match=r"a worker process died; .* Call again, it goes on"):
        cache_pictures(photographs, Dying(), [16], tmp_path, workers=2)


def test_pickles_carry_no_pictures(photographs, tmp_path):
    prepared = cache_pictures(photographs, Mean(), [32], tmp_path, workers=1)
    pictures = prepared.pictures(32)
    pickled = pickle.dumps(prepared)
    assert len(pickled) < pictures.nbytes / 10
    copy = pickle.loads(pickled)
    assert np.array_equal(copy.pictures(32), pictures)
    assert copy == prepared


def test_two_processes_may_create_the_same_store(tmp_path, monkeypatch):
    store = tmp_path / "key-8"
    other = cache._store(store, (2, 8, 8, 3))
    (other / "done.jsonl").write_text('\n[0, ""]')
    is_dir, looks = Path.is_dir, iter([False])
    # The first look says that it is not there: the other process was quicker.
    monkeypatch.setattr(Path, "is_dir", lambda path: next(looks, is_dir(path)))
    assert cache._store(store, (2, 8, 8, 3)) == store
    assert (store / "done.jsonl").read_text() == '\n[0, ""]'
    assert os.listdir(tmp_path) == ["key-8"]


def test_a_store_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "key-8").write_text("a file in its place")
    with pytest.raises(OSError, match="key-8"):
        cache._store(tmp_path / "key-8", (2, 8, 8, 3))
    assert os.listdir(tmp_path) == ["key-8"]


def test_rows_that_a_store_does_not_have_are_ignored(photographs, tmp_path):
    cache_pictures(photographs, Mean(), [8], tmp_path, workers=1)
    (done,) = tmp_path.glob("*/done.jsonl")
    done.write_text("\n".join(json.dumps([n, ""]) for n in range(1, 50)) + '\nnonsense\n7\n["x", ""]\n')
    again = Mean()
    cache_pictures(photographs, again, [8], tmp_path, workers=1)
    assert again.calls == [8]


def test_a_disk_too_small_is_said_before_the_work(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 2000))
    with pytest.raises(DataError, match=r"0.0 GB are free; expected 0.0 GB"):
        cache_pictures(photographs, Mean(), [8], tmp_path, workers=1)


class Wrong(Mean):
    def read(self, file, size):
        return np.zeros((size, size + 1, 3), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": []}, SettingError, r"sizes: \[\]; expected one or more sides"),
        ({"sizes": [0]}, SettingError, r"sizes: \[0\]"),
        ({"workers": 0}, SettingError, "workers: 0; expected 1 or more"),
        ({"manifest": Manifest((), Path())}, DataError, "no photographs; expected at least one"),
        ({"preprocess": Wrong()}, SettingError, r"preprocess: uint8 \(8, 9, 3\); expected uint8 \(8, 8, 3\)"),
    ],
)
def test_what_cannot_be_prepared_is_refused(photographs, tmp_path, arguments, error, message):
    usual = {"manifest": photographs, "preprocess": Mean(), "sizes": [8], "folder": tmp_path, "workers": 1}
    with pytest.raises(error, match=message):
        cache_pictures(**(usual | arguments))


@pytest.mark.real
def test_real_photographs(real_data, tmp_path):
    names = sorted(os.listdir(real_data / "eyepacs_fullres" / "train"))
    rows = tuple(Row(name, name) for name in names[:2])
    prepared = cache_pictures(
        Manifest(rows, real_data / "eyepacs_fullres" / "train"), Preprocess(), [64], tmp_path, workers=1
    )
    assert prepared.failed == {}
    assert prepared.pictures(64).mean() > 10
