"""Files that are new: whole or not at all, and never in another's place."""

import os

import pytest

from m2cnn.errors import SettingError
from m2cnn.tables import writing_new


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "folder" / "t.csv"
    with writing_new(path) as file:
        file.write(b"a,b\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"a,b\n" and os.listdir(path.parent) == ["t.csv"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_where_writing_breaks_off_there_is_none(tmp_path, stop):
    def half():
        with writing_new(tmp_path / "t.csv") as file:
            file.write(b"a,b\n")
            raise stop

    with pytest.raises(stop):
        half()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_meanwhile_stays(tmp_path, monkeypatch, links):
    def refused(*_):
        raise PermissionError("this file system has no links")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "t.csv"

    def overtaken():
        with writing_new(path) as file:
            file.write(b"mine")
            path.write_bytes(b"another's")

    with pytest.raises(SettingError, match=r"t.csv: it exists; expected a file that is not there yet"):
        overtaken()
    assert path.read_bytes() == b"another's" and os.listdir(tmp_path) == ["t.csv"]
    path.unlink()
    with writing_new(path) as file:
        file.write(b"mine")
    assert path.read_bytes() == b"mine" and os.listdir(tmp_path) == ["t.csv"]


def test_a_pipe_is_written_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with writing_new(tmp_path / "pipe") as file:
        file.write(b"a,b\n")
        file.flush()
        assert os.read(reader, 10) == b"a,b\n"
    os.close(reader)
