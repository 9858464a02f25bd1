"""Files by path and by URL; nothing half-written, no password in a message."""

import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from m2cnn.data.files import LocalFolder, open_folder, split, without_secrets
from m2cnn.errors import DataError, MissingExtra

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["path", "file", "memory"])
def folder(request, tmp_path):
    places = {"path": tmp_path / "new", "file": f"file://{tmp_path}/new", "memory": f"memory://{tmp_path.name}/new"}
    return open_folder(places[request.param])


def test_files_are_written_and_read(folder):
    assert folder.stamp("a/b.txt") is None
    assert folder.names("a") == []
    folder.write("a/b.txt", b"one")
    folder.write("a/a.txt", b"")
    assert folder.read("a/b.txt") == b"one"
    assert folder.names("a") == ["a.txt", "b.txt"]
    assert folder.names("") == []
    folder.remove("a")
    folder.remove("a")
    assert folder.stamp("a/b.txt") is None


def test_a_file_written_anew_has_another_stamp(folder):
    folder.write("a", b"one")
    before = folder.stamp("a")
    assert before[0] == 3
    assert folder.stamp("a") == before
    folder.write("a", b"two")
    assert folder.stamp("a") != before


def test_a_missing_file_is_named(folder):
    with pytest.raises(DataError, match=r"new/a/b.txt: .*[nN]o such file"):
        folder.read("a/b.txt")


def test_files_in_an_archive_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/train/1.txt", "one")
    for url in (f"zip://set::{tmp_path}/set.zip", f"zip://set::file://{tmp_path}/set.zip"):
        folder = open_folder(url)
        assert folder.read("train/1.txt") == b"one"
        assert folder.stamp("train/1.txt")[0] == 3
        assert folder.names("train") == ["1.txt"]
        with pytest.raises(DataError, match=r"zip://set/2.txt::.*cannot be written \(ValueError"):
            folder.write("2.txt", b"two")


def test_folder_and_name_of_a_url():
    assert split("memory://a/b/c.csv") == ("memory://a/b", "c.csv")
    assert split("zip://set/c.csv::s3://bucket/set.zip") == ("zip://set::s3://bucket/set.zip", "c.csv")
    assert split("file:///c.csv") == ("file:///", "c.csv")


def test_what_cannot_be_opened_is_refused_without_secrets():
    with pytest.raises(DataError, match=r"nope://host/a: ValueError: Protocol not known: nope; expected a URL"):
        open_folder("nope://user:secret@host/a?key=secret")
    with pytest.raises(DataError, match=r"zip://::memory://host/lost.zip: .*") as caught:
        open_folder("zip://::memory://user:secret@host/lost.zip?key=secret")
    assert "secret" not in str(caught.value)


class Signed(BaseHTTPRequestHandler):
    """Has one file, for those who have the signature."""

    def do_GET(self):
        allowed, there = self.path.endswith("?signature=se/cret"), self.path.startswith("/set/a%20b.csv")
        self.send_response(403 if not allowed else 200 if there else 404)
        self.end_headers()
        self.wfile.write(b"one" if allowed and there else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), Signed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/set"
        server.shutdown()


def test_files_of_a_server_are_read_with_its_query_and_it_is_not_shown(server):
    place, name = split(f"{server}/a b.csv?signature=se/cret")
    assert (place, name) == (f"{server}?signature=se/cret", "a b.csv")
    assert open_folder(place).read(name) == b"one"
    with pytest.raises(DataError, match=f"{server}/c.csv: no such file"):
        open_folder(place).read("c.csv")
    with pytest.raises(DataError, match=r"a b.csv: cannot be opened \(ClientResponseError: 403") as caught:
        open_folder(f"{server}?signature=cret").read(name)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    with pytest.raises(DataError, match=r"cannot be written \(ClientResponseError: 501"):
        open_folder(place).write(name, b"")


def test_words_without_urls_stay():
    assert without_secrets("what? me@home") == "what? me@home"


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    folder = LocalFolder(tmp_path / "file")
    with pytest.raises(DataError, match=r"file/a: cannot be written \((Not a directory|File exists)\)"):
        folder.write("a", b"")
    with pytest.raises(DataError, match="file: cannot be written"), folder.alone():
        pass


def test_one_process_at_a_time(tmp_path):
    script = "import sys; from m2cnn.data.files import open_folder\nwith open_folder(sys.argv[1]).alone(): pass"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with open_folder(tmp_path).alone():
        second = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert "another process is writing to it; expected one at a time" in second.stderr
    assert subprocess.run(command, env=environment).returncode == 0


def test_what_a_kill_left_half_written_is_swept(tmp_path):
    folder = LocalFolder(tmp_path)
    folder.write("a/b.png", b"whole")
    for name in ("a/.b.png.m2cnn-123", "a/.keep", "a/.notes.2024", "a/c.m2cnn-123"):
        (tmp_path / name).write_text("")
    (tmp_path / "a/.d.m2cnn-1").mkdir()
    folder.sweep()
    assert folder.names("a") == [".keep", ".notes.2024", "b.png", "c.m2cnn-123"]


def test_without_fsspec_paths_work_and_urls_say_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    open_folder(tmp_path).write("a", b"1")
    open_folder(f"file://{tmp_path}").read("a")
    with pytest.raises(MissingExtra, match=r"pip install 'm2cnn\[remote\]'"):
        open_folder("memory://not/seen/before")
