"""Prepared sets: the same rows, the same grades, nothing lost by a kill, nothing stale, nothing mixed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

import m2cnn.data.prepare as prepare_module
from m2cnn.cli import OK, REFUSED, main
from m2cnn.cli_verb import UNGRADED
from m2cnn.data import Manifest, Row, cache_pictures, check_files, open_data, read_manifest, write_manifest
from m2cnn.data.files import LocalFolder, open_folder
from m2cnn.data.manifest import file_hash
from m2cnn.data.prepare import open_source, prepare
from m2cnn.data.reduce import reduce_photograph
from m2cnn.data.rendered import render_manifest
from m2cnn.errors import DataError, ReducedError, SettingError
from m2cnn.grader import Grader
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess


def fundus(value, side=340):
    """A disc on black with a brighter spot: (side, side, 3)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    shade = (np.hypot(x, y) < side * 0.42) * (110 + value) + (np.hypot(x - 40, y - 20) < 25) * 60
    return np.stack([shade, shade * 0.6, shade * 0.3], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """40 photographs of 340 px in a sub-folder: more than two chunks, so that two workers have work."""
    folder = tmp_path / "photographs"
    (folder / "train").mkdir(parents=True)
    for n in range(40):
        cv2.imwrite(str(folder / "train" / f"{n:02d}.jpeg"), fundus(n)[..., ::-1])
    rows = [Row(f"train/{n:02d}.jpeg", f"p{n // 2}", "left", n % 5, split="train") for n in range(40)]
    return Manifest(tuple(rows), folder)


def contents(folder):
    """name -> bytes of all that a finished set has; the lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_prepared_set_is_an_ordinary_one(photographs, tmp_path):
    done = prepare(photographs, tmp_path / "out", 256, workers=1)
    assert (done.unreadable, done.fresh, len(done.manifest)) == ({}, 40, 40)
    manifest = open_data(tmp_path / "out")
    assert manifest == done.manifest
    for before, after in zip(photographs, manifest, strict=True):
        assert after.image == f"pictures/{before.image}.png"
        assert replace(after, image=before.image, sha256="") == before
        expected = Preprocess().read(PhotographFile(photographs.path(before)), 256)
        assert np.array_equal(Preprocess().read(PhotographFile(manifest.path(after)), 256), expected)
    assert check_files(manifest) == []
    state = json.loads((tmp_path / "out" / "prepared.json").read_text())
    entry = state["photographs"][0]
    assert entry["sha256"] == file_hash(photographs.path(photographs.rows[0]))
    assert entry["field"] == pytest.approx([169.5, 169.5, 143], abs=1.5)
    assert (entry["image"], entry["diameter"], state["settings"]["size"]) == ("train/00.jpeg", 256, 256)
    assert sorted(os.listdir(tmp_path / "out")) == [
        ".lock",
        "manifest.csv",
        "pictures",
        "prepared.json",
        "unreadable.csv",
    ]


def test_processes_give_the_same_and_say_how_far_they_are(photographs, tmp_path, capfd):
    prepare(photographs, tmp_path / "one", 256, workers=1)
    capfd.readouterr()
    prepare(photographs, tmp_path / "two", 256, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "preparing photographs: 40 of 40" in capfd.readouterr().err


def test_photographs_with_the_same_bytes_stay_so(photographs, tmp_path):
    """Twins are found by their hash, also among prepared photographs."""
    shutil.copy(photographs.path(photographs.rows[0]), photographs.path(photographs.rows[1]))
    manifest = prepare(photographs, tmp_path / "out", 256, workers=1).manifest
    assert manifest.rows[0].sha256 == manifest.rows[1].sha256 != manifest.rows[2].sha256


def test_a_second_call_makes_nothing_and_a_changed_photograph_is_made_anew(photographs, tmp_path):
    def call(manifest=photographs):
        return prepare(manifest, tmp_path / "out", 256, workers=1)

    first = call()
    before = contents(tmp_path / "out")
    assert call().fresh == 0
    assert contents(tmp_path / "out") == before
    cv2.imwrite(str(photographs.path(photographs.rows[3])), fundus(77)[..., ::-1])
    again = call()
    assert again.fresh == 1
    assert again.manifest.rows[3].sha256 != first.manifest.rows[3].sha256
    expected = Preprocess().read(PhotographFile(photographs.path(photographs.rows[3])), 256)
    assert np.array_equal(Preprocess().read(PhotographFile(again.manifest.path(again.manifest.rows[3])), 256), expected)
    assert check_files(again.manifest) == []
    lost, half = (again.manifest.path(again.manifest.rows[n]) for n in (5, 6))
    lost.unlink()
    half.write_bytes(half.read_bytes()[:500])
    assert call().fresh == 2
    assert check_files(open_data(tmp_path / "out")) == []


def test_a_set_may_grow_but_not_lose_rows(photographs, tmp_path):
    prepare(Manifest(photographs.rows[:20], photographs.root), tmp_path / "out", 256, workers=1)
    assert prepare(photographs, tmp_path / "out", 256, workers=1).fresh == 20
    prepare(photographs, tmp_path / "whole", 256, workers=1)
    grown, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert grown.pop("prepared.json") != whole.pop("prepared.json")  # it remembers both tables
    assert grown == whole
    with pytest.raises(DataError, match=r"it has 1 photographs that this manifest has not, the first is train/39"):
        prepare(Manifest(photographs.rows[:39], photographs.root), tmp_path / "out", 256, workers=1)
    assert contents(tmp_path / "out")["manifest.csv"] == whole["manifest.csv"]


def test_splits_that_were_assigned_since_are_not_lost(photographs, tmp_path):
    done = prepare(photographs, tmp_path / "out", 256, workers=1)
    rows = tuple(replace(row, split="test") for row in done.manifest)
    write_manifest(Manifest(rows, done.manifest.root), tmp_path / "out" / "manifest.csv")
    with pytest.raises(DataError, match=r"its manifest.csv was changed; expected the one that was written"):
        prepare(photographs, tmp_path / "out", 256, workers=1)
    assert {row.split for row in open_data(tmp_path / "out")} == {"test"}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_read_is_named(photographs, tmp_path, workers):
    names = {row.image: photographs.path(row) for row in photographs}
    broken, gone, plain, huge = (names[f"train/{n:02d}.jpeg"] for n in (3, 20, 39, 7))
    broken.write_bytes(broken.read_bytes()[:900])
    gone.unlink()
    cv2.imwrite(str(plain), np.full((340, 340, 3), 255, np.uint8))
    huge.write_bytes(b"")
    rows = (*photographs.rows[:5], replace(photographs.rows[5], sha256="0" * 64), *photographs.rows[6:])
    done = prepare(Manifest(rows, photographs.root), tmp_path / "out", 256, workers=workers)
    reasons = {int(image[6:8]): reason for image, reason in done.unreadable.items()}
    assert sorted(reasons) == [3, 5, 7, 20, 39]
    assert reasons[3].startswith("damaged picture")
    assert reasons[5] == "its bytes have changed (sha256)"
    assert reasons[7] == "the file is empty"
    assert reasons[20] == "cannot be opened (No such file or directory)"
    assert reasons[39] == "no round field of view"
    assert len(done.manifest) == 35
    table = list(csv.DictReader((tmp_path / "out" / "unreadable.csv").read_text().splitlines()))
    assert {row["image"]: row["reason"] for row in table} == done.unreadable
    assert table[0]["patient"] == "p1"

    cv2.imwrite(str(gone), fundus(20)[..., ::-1])
    again = prepare(Manifest(rows, photographs.root), tmp_path / "out", 256, workers=workers)
    assert (len(again.manifest), len(again.unreadable)) == (36, 4)
    assert again.fresh == 2  # what is broken is not tried twice; what has other bytes than it should, always


def test_a_photograph_that_breaks_loses_its_row(photographs, tmp_path):
    prepare(photographs, tmp_path / "out", 256, workers=1)
    photographs.path(photographs.rows[0]).write_text("Dear doctor, the picture is lost.")
    done = prepare(photographs, tmp_path / "out", 256, workers=1)
    assert len(done.manifest) == 39
    assert "begins b'Dear doctor" in done.unreadable["train/00.jpeg"]


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_an_interruption_keeps_what_is_done(photographs, tmp_path, monkeypatch):
    real, calls = prepare_module.reduce_photograph, []

    def interrupted(*arguments):
        if len(calls) == 37:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(prepare_module, "reduce_photograph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(photographs, tmp_path / "out", 256, workers=1)
    with pytest.raises(DataError, match="no dataset recognised"):  # unfinished, it is not taken for a set
        open_data(tmp_path / "out")
    (entry, *_) = (tmp_path / "out" / "journal").glob("*/*.json")
    (entry.parent / "torn.json").write_text('[{"image": "train/3')
    calls.clear()
    done = prepare(photographs, tmp_path / "out", 256, workers=1)
    assert (len(calls), done.fresh) == (8, 8)  # two chunks of 16 were done
    monkeypatch.undo()
    prepare(photographs, tmp_path / "undisturbed", 256, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("kept", ["prepared.json", "unreadable.csv", "manifest.csv"])
def test_a_kill_between_the_last_files_is_mended(photographs, tmp_path, monkeypatch, kept):
    """Also in a set that grew, whose table is then an old one."""
    out = tmp_path / "out"
    prepare(Manifest(photographs.rows[:5], photographs.root), out, 256, workers=1)
    real = LocalFolder.write

    def killed(self, name, content):
        real(self, name, content)
        if name == kept:
            raise KeyboardInterrupt

    monkeypatch.setattr("m2cnn.data.files.LocalFolder.write", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(Manifest(photographs.rows[:9], photographs.root), out, 256, workers=1)
    monkeypatch.undo()
    done = prepare(Manifest(photographs.rows[:9], photographs.root), out, 256, workers=1)
    assert len(open_data(out)) == len(done.manifest) == 9
    assert check_files(open_data(out)) == []


SCRIPT = """
    import sys, time
    import m2cnn.data.prepare as module
    from m2cnn.data import read_manifest

    if __name__ == "__main__":
        module.prepare(read_manifest(sys.argv[1]), sys.argv[2], 256, workers=2)
    else:
        real = module.reduce_photograph
        def slow(*arguments):
            time.sleep(0.02)
            return real(*arguments)
        module.reduce_photograph = slow
"""


def test_kill_9_in_the_middle_leaves_no_half_file_and_goes_on(photographs, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    write_manifest(photographs, photographs.root / "manifest.csv")
    command = [sys.executable, str(script), str(photographs.root / "manifest.csv"), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/journal/*/[!.]*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # its workers end with it
    assert not (tmp_path / "out" / "manifest.csv").exists()
    (tmp_path / "out" / "pictures" / "train" / ".05.jpeg.png.m2cnn-77").write_text("half")
    whole = {path.name for path in (tmp_path / "out" / "pictures" / "train").glob("[!.]*")}
    assert 16 <= len(whole) < 40

    done = prepare(photographs, tmp_path / "out", 256, workers=1)
    assert done.fresh < 40
    prepare(photographs, tmp_path / "undisturbed", 256, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_second_process_is_refused(photographs, tmp_path):
    script = "import sys, time; from m2cnn.data.files import open_folder\n"
    script += "with open_folder(sys.argv[1]).alone(): print('mine', flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(DataError, match="another process is writing to it"):
            prepare(photographs, tmp_path / "out", 256, workers=1)
        other.communicate()
    assert prepare(photographs, tmp_path / "out", 256, workers=1).fresh == 40


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_other_settings_or_other_code_are_never_mixed_in(photographs, tmp_path, monkeypatch):
    few = Manifest(photographs.rows[:2], photographs.root)
    prepare(few, tmp_path / "out", 256, workers=1)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"out: it was prepared with size 256; expected size 300\. Choose another"):
        prepare(few, tmp_path / "out", 300, workers=1)
    with pytest.raises(DataError, match="prepared with format png; expected format jpeg"):
        prepare(few, tmp_path / "out", 256, "jpeg", workers=1)
    monkeypatch.setattr(prepare_module, "CODE", ("m2cnn.field",))
    with pytest.raises(DataError, match=r"prepared with code .*; expected code"):
        prepare(few, tmp_path / "out", 256, workers=1)
    assert contents(tmp_path / "out") == before


def test_a_lost_photograph_is_a_row_and_a_lost_disk_an_error(photographs, tmp_path, capsys):
    """What is missing in a local set is named too; when nothing more can be opened, nothing is called finished."""
    write_manifest(photographs, photographs.root / "manifest.csv")
    photographs.path(photographs.rows[3]).unlink()
    words = [
        "data",
        "prepare",
        str(photographs.root),
        "--out",
        str(tmp_path / "out"),
        "--size",
        "128",
        "--workers",
        "1",
    ]
    assert main(words) == UNGRADED
    assert "train/03.jpeg: cannot be opened (No such file or directory)" in capsys.readouterr().out
    assert len(open_data(tmp_path / "out")) == 39
    (photographs.root / "train").rename(photographs.root / "unmounted")
    with pytest.raises(
        DataError, match=r"16 photographs in a row cannot be opened; train/00.jpeg: .*Is the disk there"
    ):
        prepare(photographs, tmp_path / "second", 128, workers=1)
    assert not (tmp_path / "second" / "manifest.csv").exists()
    (photographs.root / "unmounted").rename(photographs.root / "train")
    assert len(prepare(photographs, tmp_path / "second", 128, workers=1).manifest) == 39


def test_a_kill_in_the_first_instant_leaves_a_folder_that_goes_on(photographs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".prepared.json.m2cnn-77").write_text("{")
    assert prepare(photographs, tmp_path / "out", 128, workers=1).fresh == 40


def test_names_and_files_that_no_disk_takes_are_rows(photographs, tmp_path, monkeypatch):
    long = "train/" + "x" * 230 + ".jpeg"
    photographs.path(photographs.rows[0]).rename(photographs.root / long)
    with open(photographs.path(photographs.rows[1]), "r+b") as file:
        file.truncate(10**6)
    monkeypatch.setattr(prepare_module, "MAX_BYTES", 10**6 - 1)
    rows = (replace(photographs.rows[0], image=long), *photographs.rows[1:3])
    reasons = prepare(Manifest(rows, photographs.root), tmp_path / "out", 128, workers=1).unreadable
    assert "235 bytes long, more than 220" in reasons[long] and "bytes, more than" in reasons["train/01.jpeg"]


def test_a_folder_with_other_files_is_left_alone(photographs, tmp_path):
    write_manifest(photographs, photographs.root / "manifest.csv")
    before = contents(photographs.root)
    with pytest.raises(DataError, match=r"it has other files, such as manifest.csv; expected an empty folder"):
        prepare(photographs, photographs.root, 256, workers=1)
    assert contents(photographs.root) == before
    assert not (photographs.root / ".lock").exists()


def test_a_disk_too_small_is_said_after_the_first_pictures(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 2000))
    with pytest.raises(DataError, match=r"0.0 GB are free; expected about 0.0 GB for the other photographs"):
        prepare(photographs, tmp_path / "out", 256, workers=1)
    monkeypatch.undo()
    assert prepare(photographs, tmp_path / "out", 256, workers=1).fresh == 24


def test_a_full_disk_is_an_error_with_a_way_on(photographs, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    prepare(Manifest(photographs.rows[:1], photographs.root), tmp_path / "out", 256, workers=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"00?1.jpeg.png: cannot be written \(No space left on device\)"):
        prepare(photographs, tmp_path / "out", 256, workers=1)
    monkeypatch.undo()
    assert prepare(photographs, tmp_path / "out", 256, workers=1).fresh == 39


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 95}, SettingError, r"size: 95; expected 96..4096 px"),
        ({"size": 300.0}, SettingError, r"size: 300.0"),
        ({"size": True}, SettingError, r"size: True"),
        ({"kind": "jpg"}, SettingError, r'format: \'jpg\'; expected a known format. Did you mean "jpeg"'),
        ({"workers": 0}, SettingError, "workers: 0; expected 1 or more"),
        ({"manifest": Manifest((), "")}, DataError, "no photographs; expected at least one"),
        ({"images": "nope://a"}, DataError, "Protocol not known: nope"),
        ({"out": "nope://a"}, DataError, "Protocol not known: nope"),
    ],
)
def test_what_cannot_be_prepared_is_refused(photographs, tmp_path, arguments, error, message):
    usual = {"manifest": photographs, "out": tmp_path / "out", "size": 256, "workers": 1}
    with pytest.raises(error, match=message):
        prepare(**(usual | arguments))


def test_a_state_that_is_damaged_is_named(photographs, tmp_path):
    prepare(Manifest(photographs.rows[:1], photographs.root), tmp_path / "out", 256, workers=1)
    (tmp_path / "out" / "prepared.json").write_text('{"settings"')
    with pytest.raises(DataError, match=r"prepared.json: damaged .*Choose another folder"):
        prepare(photographs, tmp_path / "out", 256, workers=1)
    whole = {"settings": {}, "manifests": [], "photographs": []}
    for wrong in ({"theirs": 1}, whole | {"settings": []}, whole | {"manifests": None}, whole | {"photographs": None}):
        (tmp_path / "out" / "prepared.json").write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=r"prepared.json: .*expected what m2cnn wrote"):
            prepare(photographs, tmp_path / "out", 256, workers=1)


def test_entries_that_are_none_are_done_again(photographs, tmp_path):
    one = Manifest(photographs.rows[:1], photographs.root)
    prepare(one, tmp_path / "out", 256, workers=1)
    state = json.loads((tmp_path / "out" / "prepared.json").read_text())
    for photographs_ in ([1], [None], [{"image": "x"}], [{"strange": 1}]):
        (tmp_path / "out" / "prepared.json").write_text(json.dumps(state | {"photographs": photographs_}))
        assert prepare(one, tmp_path / "out", 256, workers=1).fresh == 1


# --- the same grade ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Eight rendered photographs of 1200 px, JPEG."""
    return render_manifest(tmp_path_factory.mktemp("large"), 4, 11, 1200, workers=1)


def test_the_grade_at_the_prepared_size_is_the_same_to_the_last_bit(large, tiny_run, tmp_path):
    grader = Grader.load(tiny_run)
    done = prepare(large, tmp_path / "out", grader.bundle.size, workers=1)
    for one, other in zip(large, done.manifest, strict=True):
        expected = grader.grade(large.path(one))
        assert expected.gradable
        assert replace(grader.grade(done.manifest.path(other)), image=expected.image) == expected


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("size", [256, 448])
def test_what_the_network_sees_from_a_larger_size_is_near(large, tiny_run, tmp_path, size, kind):
    """1.7 grey levels on average; how much a severity moves by that depends on the network, and so on the machine."""
    done = prepare(large, tmp_path / "out", size, kind, workers=1)
    grader = Grader.load(tiny_run)
    preprocess, side = grader.bundle.preprocess, grader.bundle.size
    for one, other in zip(large, done.manifest, strict=True):
        paths = large.path(one), done.manifest.path(other)
        seen, expected = (preprocess.read(PhotographFile(path), side).astype(int) for path in paths)
        assert np.abs(seen - expected).mean() < 2.5
        grades = [grader.grade(path) for path in paths]
        assert all(each.gradable for each in grades)
        assert grades[1].severity == pytest.approx(grades[0].severity, abs=0.4)


@pytest.mark.real
@pytest.mark.parametrize("name", ["eyepacs_fullres", "idrid"])
def test_the_grade_of_real_photographs_is_the_same(real_data, tiny_run, tmp_path, name):
    """What can be graded gets the same grade. From so few pixels the check refuses one or two that it passed before."""
    grader = Grader.load(tiny_run)
    whole = open_data(real_data / name)
    manifest = Manifest(whole.rows[:: max(1, len(whole) // 5)], whole.root)
    done = prepare(manifest, tmp_path / "out", grader.bundle.size, workers=1)
    same = 0
    for one, other in zip(manifest, done.manifest, strict=True):
        expected, graded = grader.grade(manifest.path(one)), grader.grade(done.manifest.path(other))
        if graded.gradable:
            assert replace(graded, image=expected.image) == expected
            same += 1
    assert same >= 4


def test_a_run_that_asks_for_larger_pictures_is_stopped_and_grading_names_the_photograph(large, tiny_run, tmp_path):
    small = render_manifest(tmp_path / "small", 1, 3, 224, workers=1)  # keeps its pixels
    rows = (*large.rows[:1], *small.rows)
    for row, root in zip(rows, (large.root, small.root, small.root), strict=True):
        shutil.copy(root / row.image, tmp_path / row.image)
    done = prepare(Manifest(rows, tmp_path), tmp_path / "out", 256, workers=1)
    with pytest.raises(ReducedError, match=r"s11-.*png: prepared with a field of view 256 px across; expected 448 px"):
        cache_pictures(done.manifest, Preprocess(), [448], tmp_path / "cache", workers=1)
    grader = Grader.load(tiny_run)
    grader.bundle = replace(grader.bundle, preprocess=Preprocess(margin=-0.5))  # 224 px across for 112
    file = PhotographFile(large.path(large.rows[0]))
    contents = [reduce_photograph(file, size, "png").content for size in (256, 200)]
    enough, less = grader.grade_all(contents)
    assert enough.gradable
    assert "prepared with a field of view 200 px across; expected 224 px" in less.reason


# --- places -----------------------------------------------------------------------------------------------------------


def test_photographs_and_target_behind_urls(photographs, tmp_path):
    pytest.importorskip("fsspec")
    prepare(photographs, tmp_path / "local", 256, workers=1)
    source, target = (open_folder(f"memory://{tmp_path.name}/{name}") for name in ("set", "out"))
    for row in photographs:
        source.write(row.image, photographs.path(row).read_bytes())
    write_manifest(photographs, tmp_path / "m.csv")
    source.write("manifest.csv", (tmp_path / "m.csv").read_bytes())
    source.write("train/07.jpeg", b"")
    for place in (f"{source.url}/manifest.csv", f"{source.url}/"):
        manifest, images = open_source(place)
        assert (manifest.rows, images) == (photographs.rows, source.url)
    done = prepare(manifest, target.url, 256, images=images, workers=1)
    assert (done.place, done.unreadable) == (target.url, {"train/07.jpeg": "the file is empty"})
    local = contents(tmp_path / "local")
    for row in done.manifest:
        assert target.read(row.image) == local[row.image]
    assert target.names("") == ["manifest.csv", "prepared.json", "unreadable.csv"]
    assert prepare(manifest, target.url, 256, images=images, workers=1).fresh == 0
    source.write("train/07.jpeg", photographs.path(photographs.rows[7]).read_bytes())
    assert prepare(manifest, target.url, 256, images=images, workers=1).fresh == 1
    assert target.read("manifest.csv") == local["manifest.csv"]


def test_photographs_in_an_archive_and_a_file_url(photographs, tmp_path):
    pytest.importorskip("fsspec")
    write_manifest(photographs, photographs.root / "manifest.csv")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in photographs.root.rglob("*.*"):
            archive.write(path, path.relative_to(photographs.root))
    manifest, images = open_source(f"zip://manifest.csv::{tmp_path}/set.zip")
    done = prepare(manifest, f"file://{tmp_path}/out", 256, images=images, workers=2)
    prepare(photographs, tmp_path / "local", 256, workers=1)
    made, local = contents(tmp_path / "out"), contents(tmp_path / "local")
    assert done.fresh == 40
    assert made["manifest.csv"] == local["manifest.csv"]
    assert prepare(manifest, tmp_path / "out", 256, images=images, workers=1).fresh == 0


def test_a_local_manifest_with_photographs_behind_a_url(photographs, tmp_path):
    pytest.importorskip("fsspec")
    write_manifest(photographs, tmp_path / "manifest.csv")
    for data in (tmp_path, tmp_path / "manifest.csv"):
        manifest, images = open_source(str(data), f"file://{photographs.root}")
        assert (manifest.rows, images) == (photographs.rows, f"file://{photographs.root}")
    done = prepare(manifest, tmp_path / "out", 256, images=images, workers=1)
    assert done.unreadable == {}
    with pytest.raises(DataError, match=r"lost/manifest.csv: cannot be opened"):
        open_source(f"file://{tmp_path}/lost/manifest.csv")


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_verb(photographs, tmp_path, capsys):
    write_manifest(photographs, photographs.root / "manifest.csv")
    words = ["data", "prepare", str(photographs.root), "--out", str(tmp_path / "out"), "--size", "256"]
    assert main([*words, "--workers", "1"]) == OK
    assert "out: 40 of 40 photographs, 40 looked at now" in capsys.readouterr().out
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 40
    assert main(["data", "check", str(tmp_path / "out" / "manifest.csv"), "--out", str(tmp_path / "check")]) == OK
    assert main([*words, "--format", "jpeg"]) == REFUSED
    photographs.path(photographs.rows[0]).write_bytes(b"lost")
    capsys.readouterr()
    assert main([*words, "--workers", "1"]) == UNGRADED
    out = capsys.readouterr().out
    assert "train/00.jpeg: unreadable, begins b'lost'" in out
    assert "39 of 40 photographs, 1 looked at now" in out
