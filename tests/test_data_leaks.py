"""No photograph on two sides: pairs are found, refused across splits, shown, and travel with the bundle."""

import csv
import json
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from m2cnn.bundle import load_bundle
from m2cnn.data import Manifest, Row, assign_splits, kfold
from m2cnn.data.guard import contact_sheet, findings, guard, write_leak_report
from m2cnn.data.known import known_of, read_known
from m2cnn.data.leaks import (
    AGAIN,
    BYTES,
    Twin,
    across_patients,
    across_splits,
    contradicting,
    find_twins,
    refuse_across_splits,
)
from m2cnn.data.splits import without_leaks
from m2cnn.data.survey import Seen, look_at_planes, survey
from m2cnn.errors import BundleError, DataError, SettingError
from m2cnn.evaluate import Selection, evaluate
from m2cnn.synthetic import render
from m2cnn.train import train


def write(path, picture, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]), options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight eyes; a.jpg is also there byte for byte, smaller; others mirrored, squeezed, cropped, turned."""
    folder = tmp_path_factory.mktemp("photographs")
    eyes = [render(33, n % 5, patient=n, size=384).image for n in range(8)]
    for name, eye in zip("abcdefgh", eyes, strict=True):
        write(folder / f"{name}.jpg", eye, cv2.IMWRITE_JPEG_QUALITY, 95)
    (folder / "a-bytes.jpg").write_bytes((folder / "a.jpg").read_bytes())
    small = cv2.resize(eyes[0], (190, 190), interpolation=cv2.INTER_AREA)[8:-8]
    noise = np.random.default_rng(0).normal(0, 6, small.shape)
    write(folder / "a-small.png", (small * 0.7 + 60 * (small > 9) + noise * (small > 9)).clip(0, 255).astype(np.uint8))
    write(folder / "b-mirrored.png", np.fliplr(eyes[1]))
    write(folder / "d-middle.png", eyes[3][80:-80, 80:-80])
    write(folder / "e-turned.png", np.rot90(eyes[4]))
    write(folder / "c-squeezed.jpg", cv2.resize(eyes[2], (250, 384), interpolation=cv2.INTER_AREA))
    (folder / "broken.jpg").write_bytes((folder / "h.jpg").read_bytes()[:2000])
    return folder


def manifest_of(folder, **changes):
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    rows = (Row(name, f"p-{name}", grade=n % 2) for n, name in enumerate(names))
    return Manifest(tuple(replace(row, **changes.get(row.image, {})) for row in rows), folder)


@pytest.fixture(scope="module")
def seen(folder, tmp_path_factory):
    return survey(manifest_of(folder), look_at_planes, tmp_path_factory.mktemp("memory"), workers=1)


EXPECTED = {
    ("a-bytes.jpg", "a-small.png"): AGAIN,
    ("a-bytes.jpg", "a.jpg"): BYTES,
    ("a-small.png", "a.jpg"): AGAIN,
    ("b-mirrored.png", "b.jpg"): "mirrored",
    ("c-squeezed.jpg", "c.jpg"): AGAIN,
    ("d-middle.png", "d.jpg"): "cropped",
    ("e-turned.png", "e.jpg"): "turned by 90 degrees",
}


def test_every_pair_is_found_and_no_other(folder, seen):
    twins = find_twins(manifest_of(folder), seen, workers=1)
    assert {(twin.first, twin.second): twin.how for twin in twins} == EXPECTED
    assert all(0.7 <= twin.similarity <= 1 for twin in twins)


def test_two_workers_find_the_same(folder, seen, tmp_path, monkeypatch):
    monkeypatch.setattr("m2cnn.data.leaks.CHUNK", 8)
    assert find_twins(manifest_of(folder), seen, 2) == find_twins(manifest_of(folder), seen, 1)


def test_one_photograph_has_no_twin(folder, seen):
    one = Manifest(manifest_of(folder).rows[:1], folder)
    assert find_twins(one, seen, workers=1) == []


def test_what_pairs_mean(folder, seen):
    manifest = manifest_of(
        folder,
        **{
            "a.jpg": {"split": "train", "grade": 3},
            "a-small.png": {"split": "test", "grade": 3},
            "a-bytes.jpg": {"split": "", "grade": 1},
            "b.jpg": {"patient": "b", "grade": None},
            "b-mirrored.png": {"patient": "b"},
        },
    )
    twins = find_twins(manifest, seen, workers=1)
    assert [(t.first, t.second) for t in across_splits(manifest, twins)] == [("a-small.png", "a.jpg")]
    assert ("b-mirrored.png", "b.jpg") not in [(t.first, t.second) for t in across_patients(manifest, twins)]
    torn = {(t.first, t.second) for t in contradicting(manifest, twins)}
    assert {("a-bytes.jpg", "a-small.png"), ("a-bytes.jpg", "a.jpg")} <= torn
    assert not {("b-mirrored.png", "b.jpg"), ("a-small.png", "a.jpg")} & torn
    message = r"1 pairs .* a-small.png in test and a.jpg in train \(same photograph\); .* Look at them in there; "
    with pytest.raises(DataError, match=message):
        refuse_across_splits(manifest, twins, "there")
    sentences = findings(manifest, twins)
    assert sentences[0].startswith("7 pairs") and "under one patient's name" in sentences[2]
    assert findings(manifest, []) == []


def test_training_gives_way_to_a_test_set():
    rows = (
        Row("1.jpg", "one", split="train"),
        Row("2.jpg", "one", split="train"),
        Row("3.jpg", "two", split="test"),
        Row("4.jpg", "three", split="val"),
        Row("5.jpg", "four", split="train"),
        Row("6.jpg", "five", split="lockbox"),
    )
    manifest = Manifest(rows, None)
    twins = [Twin("1.jpg", "3.jpg", AGAIN, 0.9), Twin("4.jpg", "6.jpg", AGAIN, 0.9)]
    assert [row.image for row in without_leaks(manifest, twins)] == ["3.jpg", "5.jpg", "6.jpg"]
    assert without_leaks(manifest, []).rows == rows
    assert without_leaks(manifest, [Twin("3.jpg", "6.jpg", AGAIN, 0.9)]).rows == rows  # no training in it


def test_a_leak_through_a_third_photograph_goes_too():
    """Of a chain train = train = test no link may stay, nor another photograph of their patients."""
    rows = [Row(f"{n}.jpg", f"p{n}", split="train") for n in range(3)] + [Row("t.jpg", "t", split="test")]
    manifest = Manifest((*rows, Row("more.jpg", "p0", split="train"), Row("far.jpg", "far", split="train")), None)
    chain = [Twin("0.jpg", "1.jpg", AGAIN, 0.9), Twin("1.jpg", "t.jpg", AGAIN, 0.9)]
    assert [row.image for row in without_leaks(manifest, chain)] == ["2.jpg", "t.jpg", "far.jpg"]


def test_patients_who_share_a_photograph_stay_together():
    rows = tuple(Row(f"{n}.jpg", str(n), grade=n % 5) for n in range(60))
    manifest = Manifest(rows, None)
    twins = [Twin(f"{n}.jpg", f"{59 - n}.jpg", AGAIN, 0.9) for n in range(30)]
    split = {row.image: row.split for row in assign_splits(manifest, twins=twins)}
    assert all(split[twin.first] == split[twin.second] for twin in twins)
    alone = {row.image: row.split for row in assign_splits(manifest)}
    assert any(alone[twin.first] != alone[twin.second] for twin in twins)
    for fold in kfold(manifest, 3, twins=twins):
        side = {row.image: row.split for row in fold}
        assert all(side[twin.first] == side[twin.second] for twin in twins)


# What people see


def test_the_report_names_and_shows_the_pairs(folder, seen, tmp_path):
    manifest = manifest_of(folder, **{"a.jpg": {"split": "train"}, "a-small.png": {"split": "test"}})
    twins = find_twins(manifest, seen, workers=1)
    table, sheet = write_leak_report(tmp_path / "report", manifest, twins)
    lines = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {(line["first"], line["second"]): line["how"] for line in lines} == EXPECTED
    leak = [line for line in lines if line["leak"] == "True"]
    assert [(line["first"], line["splits"]) for line in leak] == [("a-small.png", "test | train")]
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG" and picture.height > picture.width / 3
    assert write_leak_report(tmp_path / "none", manifest, []) == [] and not (tmp_path / "none").exists()


def test_the_sheet_survives_strange_names_and_files(tmp_path):
    write(tmp_path / "眼 ünï.png", render(1, 0, size=96).image)
    (tmp_path / "gone.jpg").write_bytes(b"nothing")
    write(tmp_path / "thin.png", np.zeros((16, 9000, 3), np.uint8))
    manifest = Manifest(tuple(Row(name, name) for name in ("眼 ünï.png", "gone.jpg", "thin.png")), tmp_path)
    twins = [Twin("眼 ünï.png", "gone.jpg", AGAIN, 0.8), Twin("thin.png", "gone.jpg", AGAIN, 0.8)]
    assert contact_sheet(manifest, twins)[:2] == b"\xff\xd8"


def test_the_report_shows_nothing_of_the_lockbox(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path / name, np.full((96, 96, 3), 250, np.uint8))
    rows = Row("a.png", "a", grade=3, split="lockbox"), Row("b.png", "b", grade=4, split="test")
    manifest = Manifest(rows, tmp_path)
    table, sheet = write_leak_report(tmp_path / "report", manifest, [Twin("a.png", "b.png", AGAIN, 0.8)])
    assert ", | 4," in table.read_text()
    picture = np.asarray(Image.open(sheet))
    assert abs(int(picture[130, 130, 0]) - 128) < 8 and picture[130, 400].min() > 240
    assert write_leak_report(tmp_path / "report", manifest, []) == []
    assert list((tmp_path / "report").iterdir()) == []  # an old report says nothing of a mended set


# On the way of training and evaluation


def test_training_on_a_leak_is_refused_with_a_sheet(rendered, tiny_recipe, tmp_path):
    """A training photograph, smaller and of other colours, under a new patient's name in the test set."""
    victim = next(row for row in rendered if row.split == "train")
    picture = cv2.imread(str(rendered.path(victim)))
    (tmp_path / "photographs").mkdir()
    for row in rendered:
        (tmp_path / "photographs" / row.image).write_bytes(rendered.path(row).read_bytes())
    cv2.imwrite(str(tmp_path / "photographs" / "new.png"), cv2.resize(picture[..., ::-1], (190, 190)))
    copy = Row("new.png", "stranger", grade=0, split="test")
    leaking = Manifest((*rendered.rows, copy), tmp_path / "photographs")
    with pytest.raises(DataError, match=f"{victim.image} in train and new.png in test"):
        train(tiny_recipe, leaking, tmp_path / "run")
    assert (tmp_path / "run" / "leaks" / "twins.jpg").is_file()
    clean = without_leaks(leaking, [Twin(victim.image, "new.png", AGAIN, 1.0)])
    assert victim.patient not in clean.patients() and len(clean) < len(leaking)


def test_training_keeps_a_photograph_and_its_copy_on_one_side(rendered, tiny_recipe, tmp_path, monkeypatch):
    """Where nobody has a split yet, the pairs that the guard found decide with the dice."""
    (tmp_path / "p").mkdir()
    rows = []
    for n, row in enumerate(rendered):
        (tmp_path / "p" / row.image).write_bytes(rendered.path(row).read_bytes())
        rows.append(replace(row, split=""))
        if n % 4 == 0:
            picture = cv2.resize(cv2.imread(str(rendered.path(row))), (190, 190), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(tmp_path / "p" / f"copy{n}.png"), picture)
            rows.append(Row(f"copy{n}.png", f"stranger {n}", grade=row.grade))
    monkeypatch.setattr("m2cnn.train._go", lambda run, cache, bar: run)
    recipe = replace(tiny_recipe, split=replace(tiny_recipe.split, train=0.5, val=0.25, test=0.25))
    run = train(recipe, Manifest(tuple(rows), tmp_path / "p"), tmp_path / "run")
    side = {row.image: row.split for row in run.manifest}
    pairs = [(row.image, rows[n - 1].image) for n, row in enumerate(rows) if row.image.startswith("copy")]
    assert len(pairs) == 12 and all(side[copy] == side[original] for copy, original in pairs)


def test_equal_files_are_told_apart_by_split_and_grade_alone():
    """A thousand copies of one file, the first without split and grade: a line for each, not half a million."""
    rows = [Row(f"{n}.jpg", str(n), grade=n % 5, split=("train", "test")[n % 2]) for n in range(1000)]
    manifest = Manifest((Row("first.jpg", "first"), *rows), None)
    twins = find_twins(manifest, {row.image: Seen("", {}, b"", "ab" * 32) for row in manifest}, workers=1)
    assert {image for twin in twins for image in twin[:2]} == {row.image for row in manifest}
    assert len(twins) < 1100 and {twin.how for twin in twins} == {BYTES}
    assert len(across_splits(manifest, twins)) == 25 and len(contradicting(manifest, twins)) == 40


def test_the_guard_warns_of_contradicting_grades(folder, tmp_path, caplog):
    manifest = manifest_of(folder, **{"a.jpg": {"grade": 4}, "a-bytes.jpg": {"grade": 0}})
    with caplog.at_level(logging.WARNING):
        guarded = guard(manifest, tmp_path, tmp_path / "report", workers=1)
    assert "with different grades: " in caplog.text and "a-bytes.jpg = a.jpg" in caplog.text
    assert all(row.sha256 for row in guarded.manifest)
    assert len(guarded.twins) == len(EXPECTED)


def test_a_bundle_knows_its_training_photographs(tiny_run, rendered, tmp_path):
    known = load_bundle(tiny_run).known()
    splits = {row.image: row.split for row in rendered}
    met = known.meet(survey(rendered, look_at_planes, tmp_path, workers=1))
    assert {one.image: one.role for one in met} == {k: v for k, v in splits.items() if v in ("train", "val")}
    assert {one.how for one in met} == {"same bytes"}


def copies_of(rendered, folder, split):
    """The photographs of a split, smaller and as PNG, as somebody else's test set."""
    folder.mkdir()
    rows = []
    for n, row in enumerate(r for r in rendered if r.split == split):
        picture = cv2.resize(cv2.imread(str(rendered.path(row))), (170, 170), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{n}.png"), picture)
        rows.append(Row(f"{n}.png", f"other {n}", grade=row.grade, split="test"))
    return Manifest(tuple(rows), folder)


@pytest.mark.parametrize("split", ["train", "val"])
def test_evaluating_on_training_photographs_is_refused(tiny_run, rendered, tmp_path, split):
    copies = copies_of(rendered, tmp_path / "copies", split)
    message = rf"[0-9]+ of {len(copies)} photographs are known to the model: .*\({split}, same photograph\)"
    with pytest.raises(DataError, match=message):
        evaluate(tiny_run, copies, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match=r'trained_on: "ignore".*Known: refuse, skip'):
        evaluate(tiny_run, copies, tmp_path / "out", trained_on="ignore")


def test_evaluating_on_strangers_goes_on_and_known_ones_can_be_left_out(tiny_run, rendered, tmp_path):
    copies = copies_of(rendered, tmp_path / "copies", "train")
    fresh = [render(77, n % 5, patient=n, size=200).image for n in range(6)]
    for n, picture in enumerate(fresh):
        write(tmp_path / "copies" / f"fresh-{n}.png", picture)
    rows = tuple(Row(f"fresh-{n}.png", f"fresh {n}", grade=n % 5, split="test") for n in range(6))
    both = Manifest((*copies.rows, *rows), tmp_path / "copies")
    summary = evaluate(tiny_run, both, tmp_path / "out", trained_on="skip", replicates=10, memory=tmp_path / "memory")
    left_out = summary["context"]["left_out_as_trained_on"]
    assert left_out >= 0.8 * len(copies) and summary["n_images"] == len(both) - left_out
    written = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert written["context"]["left_out_as_trained_on"] == left_out
    only_fresh = Manifest(rows, tmp_path / "copies")
    assert evaluate(tiny_run, only_fresh, tmp_path / "fresh", replicates=10)["n_images"] == 6


def test_a_runs_own_training_split_is_refused(tiny_run, tmp_path):
    from m2cnn.data import open_data

    with pytest.raises(DataError, match="are known to the model"):
        evaluate(tiny_run, open_data(tiny_run), tmp_path / "out", Selection(("train",)))
    found = evaluate(tiny_run, open_data(tiny_run), tmp_path / "val", Selection(("val",)), replicates=10)
    assert found["context"]["split"] == "val"


def test_known_survives_the_file_and_damage_is_refused(rendered, tmp_path):
    seen = survey(rendered, look_at_planes, tmp_path, workers=1)
    blind = dict(seen) | {rendered.rows[0].image: seen[rendered.rows[0].image]._replace(planes=b"")}
    for found in (seen, blind):
        known = known_of(rendered, found)
        (tmp_path / "known.npy").write_bytes(known.to_bytes())
        again = read_known(tmp_path / "known.npy")
        assert np.array_equal(again.sha256, known.sha256) and list(again.role) == list(known.role)
        assert np.array_equal(again.codes, known.codes)
        assert known.to_bytes() == again.to_bytes()
    chosen_on = known_of(rendered, seen, "calibration")
    assert set(chosen_on.role) == {"calibration"} and len(chosen_on) == len(rendered)
    (tmp_path / "known.npy").write_bytes(known.joined(chosen_on).to_bytes())
    assert list(read_known(tmp_path / "known.npy").role) == list(known.joined(chosen_on).role)
    (tmp_path / "known.npy").write_bytes(known.to_bytes()[:-9])
    with pytest.raises(BundleError, match=r"known\.npy: unreadable"):
        read_known(tmp_path / "known.npy")


def test_sources_can_be_measured_apart(tiny_run, rendered, tmp_path):
    rows = tuple(
        replace(row, source="here" if n % 2 else "there", split="test", patient=f"x{n}", sha256="")
        for n, row in enumerate(r for r in rendered if r.split == "test")
    )
    manifest = Manifest(rows, rendered.root)
    summary = evaluate(tiny_run, manifest, tmp_path / "out", Selection(sources=["here"]), replicates=10)
    assert summary["n_images"] == len(rows) // 2 and summary["context"]["sources"] == ["here"]
    with pytest.raises(SettingError, match=r'sources: "her".*Did you mean "here"'):
        evaluate(tiny_run, manifest, tmp_path / "out", Selection(sources=["her"]))


def test_real_copies_are_found(real_data, tmp_path):
    """The photographs that EyePACS 256 and 1024 share; the whole count is in benchmarks/leaks.py."""
    shared = sorted(
        {path.name for path in (real_data / "eyepacs256" / "train").iterdir()}
        & {path.name for path in (real_data / "eyepacs1024" / "train").iterdir()}
    )
    assert len(shared) == 154
    names = [f"{source}/train/{name}" for source in ("eyepacs256", "eyepacs1024") for name in shared[:40]]
    manifest = Manifest(tuple(Row(name, name) for name in names), real_data)
    twins = find_twins(manifest, survey(manifest, look_at_planes, tmp_path, workers=1), workers=1)
    assert {(twin.first, twin.second) for twin in twins} == set(zip(names[:40], names[40:], strict=True))
