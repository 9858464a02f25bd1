"""Two processes in one folder: the second is refused, and one that was killed keeps nobody out."""

import os
import signal
import subprocess
import sys

import pytest

from m2cnn.cli import REFUSED, main
from m2cnn.data import Manifest, Row, write_manifest
from m2cnn.errors import SettingError
from m2cnn.lock import LOCK, alone

fcntl = pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from m2cnn.lock import alone
with alone(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """A process that works in tmp_path / "out"."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_until_the_first_is_killed(other, tmp_path):
    message = rf"out: another process works in it \({other.pid}\); expected one process at a time in a folder\. Wait"
    for _ in range(2):
        with pytest.raises(SettingError, match=message), alone(tmp_path / "out"):
            pass
    with alone(tmp_path / "another"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (tmp_path / "out" / LOCK).is_file()
    with alone(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).read_text() == str(os.getpid())


def test_nothing_is_left_behind(tmp_path):
    with pytest.raises(ValueError, match="x"), alone(tmp_path / "a" / "b"):
        raise ValueError("x")
    assert not (tmp_path / "a" / "b").exists()
    with alone(tmp_path):
        (tmp_path / "kept").write_text("x")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "kept"}


def test_a_lock_that_was_taken_away_in_between_is_taken_anew(tmp_path, monkeypatch):
    plain, calls = fcntl.flock, []

    def slow(file, how):
        if not calls:
            (tmp_path / LOCK).unlink()  # as its holder does at its end
        calls.append(file)
        plain(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with alone(tmp_path):
        assert len(calls) == 2 and (tmp_path / LOCK).read_text() == str(os.getpid())


def test_a_disk_without_locks_refuses_nobody(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with alone(tmp_path), alone(tmp_path):
        pass
    monkeypatch.setattr("m2cnn.lock.fcntl", None)
    with alone(tmp_path), alone(tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("train", "m2cnn-slim", "--data"),
        ("train", "--resume"),
        ("crossval", "m2cnn-slim", "--data"),
        ("table", "ablation", "--data"),
        ("table", "comparison", "--data"),
    ],
)
def test_every_verb_that_trains_is_refused(capsys, other, tmp_path, words):
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(b"never looked at")
    rows = tuple(Row(f"{number}.png", str(number), grade=number % 5) for number in range(10))
    write_manifest(Manifest(rows, tmp_path), tmp_path / "data.csv")
    if words[-1] == "--data":
        words = (*words, str(tmp_path / "data.csv"))
    else:
        (tmp_path / "out" / "run.json").write_text("{}")
    before = sorted((tmp_path / "out").iterdir())
    assert main([*words, "--out", str(tmp_path / "out")]) == REFUSED
    assert f"another process works in it ({other.pid})" in capsys.readouterr().err
    assert sorted((tmp_path / "out").iterdir()) == before
