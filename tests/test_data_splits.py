"""Splits: never a patient on two sides, every grade in its proportion, the lockbox first and closed."""

import json
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2cnn.data import (
    Manifest,
    Row,
    assign_splits,
    in_lockbox,
    kfold,
    lockbox_rows,
    nested,
    open_data,
    open_lockbox,
    without_each_source,
    write_manifest,
)
from m2cnn.data.leaks import Twin
from m2cnn.data.splits import largest_remainder
from m2cnn.errors import DataError, LockboxError, SettingError


def manifest_of(grades_by_patient):
    """One row per photograph; {"p1": [0, 3], ...}."""
    pairs = [(patient, i, grade) for patient, grades in grades_by_patient.items() for i, grade in enumerate(grades)]
    return Manifest(tuple(Row(f"{patient}_{i}.png", patient, grade=grade) for patient, i, grade in pairs), Path())


def many(count, seed=0):
    rng = random.Random(seed)
    weights = (72, 7, 15, 3, 3)
    return manifest_of({f"p{n}": rng.choices(range(5), weights, k=rng.choice((1, 2, 2, 2))) for n in range(count)})


def sides(manifest):
    """Patient -> set of splits."""
    found = defaultdict(set)
    for row in manifest:
        found[row.patient].add(row.split)
    return found


cohorts = st.dictionaries(
    st.text("abc123", min_size=1, max_size=6),
    st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=4),
    min_size=1,
    max_size=60,
)
shares = st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any)


@settings(max_examples=60, deadline=None)
@given(cohorts, shares, st.integers(0, 99), st.randoms(use_true_random=False))
def test_laws_of_a_split(cohort, parts, seed, rng):
    proportions = {name: part / sum(parts) for name, part in zip(("train", "val", "test"), parts, strict=True)}
    manifest = manifest_of(cohort)
    split = assign_splits(manifest, proportions, seed)

    by_patient = sides(split)
    assert all(len(found) == 1 for found in by_patient.values())
    counts = Counter(found.pop() for found in by_patient.values())
    assert counts["lockbox"] == sum(map(in_lockbox, cohort))
    rest = len(cohort) - counts["lockbox"]
    for name, share in proportions.items():
        assert abs(counts[name] - share * rest) < 1

    shuffled = list(manifest)
    rng.shuffle(shuffled)
    again = assign_splits(Manifest(tuple(shuffled), Path()), proportions, seed)
    assert set(again) == set(split)
    assert [replace(row, split="") for row in split] == list(manifest)


def test_every_grade_gets_its_share():
    split = assign_splits(many(4000), {"train": 0.7, "val": 0.2, "test": 0.1})
    highest = {}
    for row in split:
        highest[row.patient] = max(highest.get(row.patient, 0), row.grade)
    where = {row.patient: row.split for row in split}
    table = Counter((highest[patient], where[patient]) for patient in where if where[patient] != "lockbox")
    for grade in range(5):
        total = sum(table[grade, name] for name in ("train", "val", "test"))
        assert total > 100
        for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
            assert abs(table[grade, name] - share * total) <= 2


def test_photographs_are_shared_out_too():
    manifest = manifest_of({f"p{n}": [0] * (1 + n % 3) for n in range(900)})
    split = assign_splits(manifest, lockbox=0)
    photographs = Counter(row.split for row in split)
    assert abs(photographs["val"] - 0.1 * len(manifest)) <= 3


def test_another_seed_is_another_split_but_the_same_lockbox():
    manifest = many(300)
    one, two = assign_splits(manifest, seed=1), assign_splits(manifest, seed=2)
    assert one == assign_splits(manifest, seed=1)
    assert one != two
    assert {row.image for row in one if row.split == "lockbox"} == {row.image for row in two if row.split == "lockbox"}
    agreeing = sum(a.split == b.split == "test" for a, b in zip(one, two, strict=True))
    assert agreeing < 0.4 * sum(row.split == "test" for row in one)


def test_the_lockbox_depends_on_the_patient_alone():
    small, large = assign_splits(many(300)), assign_splits(many(3000, seed=5), {"train": 1}, seed=9)
    locked = {row.patient for row in large if row.split == "lockbox"}
    assert {row.patient for row in small if row.split == "lockbox"} == locked & set(small.patients())
    assert 0.08 < len(locked) / 3000 < 0.12
    # `printf 10 | sha256sum` begins with 4a44dc15, 0.2901 of the range. A change here would spill old lockboxes.
    assert not in_lockbox("10", 0.29)
    assert in_lockbox("10", 0.291)
    assert [n for n in range(45) if in_lockbox(f"p{n}")] == [0, 7, 17, 33, 37, 44]
    assert not any(row.split == "lockbox" for row in assign_splits(many(300), lockbox=0))


def test_an_official_split_is_kept():
    rows = (
        Row("a1.png", "a", grade=1, split="test"),
        Row("a2.png", "a", grade=2),
        *(Row(f"{n}.png", f"{n}", grade=n % 5) for n in range(50)),
    )
    split = assign_splits(Manifest(rows, Path()), {"train": 0.5, "val": 0.5})
    assert [row.split for row in split][:2] == ["test", "test"]
    assert Counter(row.split for row in split)["test"] == 2
    assert assign_splits(split, {"train": 1}, seed=4) == split


def test_a_patient_on_two_sides_is_named():
    rows = (Row("a1.png", "a", split="test"), Row("a2.png", "a", split="train"), Row("b.png", "b"))
    message = r'patient "a" on two sides: a1.png in test, a2.png in train; expected each patient on one side'
    with pytest.raises(DataError, match=message):
        assign_splits(Manifest(rows, Path()))
    locked = (Row("a1.png", "a", split="lockbox"), Row("a2.png", "a", split="test"))
    with pytest.raises(DataError, match='patient "a" on two sides'):
        kfold(Manifest((*locked, Row("b.png", "b"), Row("c.png", "c")), Path()), 2)


def test_patients_who_share_a_picture_stay_together():
    same = {"1": "a" * 64, "2": "b" * 64}
    chain = [
        Row(f"{p}{h}.png", p, grade=0, sha256=same[h]) for p, h in (("x", "1"), ("y", "1"), ("y", "2"), ("z", "2"))
    ]
    rest = [Row(f"{n}.png", f"{n}", grade=0) for n in range(40)]
    for seed in range(5):
        split = assign_splits(Manifest((*chain, *rest), Path()), {"train": 0.5, "test": 0.5}, seed, lockbox=0)
        assert len({row.split for row in split if row.patient in "xyz"}) == 1
    apart = (replace(chain[0], split="train"), replace(chain[1], split="test"))
    with pytest.raises(DataError, match='patients "y" and "x", who share a picture, on two sides'):
        assign_splits(Manifest(apart, Path()))
    locked = [Row(f"{p}.png", p, sha256="c" * 64) for p in ("p1", "p7")]  # p1 alone would not be in it
    assert [row.split for row in assign_splits(Manifest((*locked, *rest), Path()))][:2] == ["lockbox", "lockbox"]


@settings(max_examples=15, deadline=None)
@given(cohorts.filter(lambda c: len(c) > 25), st.integers(2, 6), st.integers(0, 9))
def test_laws_of_folds(cohort, k, seed):
    manifest = manifest_of(cohort)
    locked = {patient for patient in cohort if in_lockbox(patient)}
    folds = kfold(manifest, k, seed)
    assert len(folds) == k
    validated = Counter()
    for fold in folds:
        by_patient = {patient: found.pop() for patient, found in sides(fold).items() if len(found) == 1}
        assert set(by_patient) == set(cohort)
        assert {patient for patient, split in by_patient.items() if split == "lockbox"} == locked
        held_out = [patient for patient, split in by_patient.items() if split == "val"]
        assert abs(len(held_out) - (len(cohort) - len(locked)) / k) < 1
        validated.update(held_out)
    assert validated == Counter(set(cohort) - locked)


def test_folds_leave_the_test_set_alone_and_pool_the_rest():
    split = assign_splits(many(200))
    for fold in kfold(split, 4):
        assert [a.image for a in fold] == [b.image for b in split]
        for before, after in zip(split, fold, strict=True):
            assert (before.split in ("test", "lockbox")) == (after.split in ("test", "lockbox"))
            assert before.split == after.split or after.split in ("train", "val")


@settings(max_examples=15, deadline=None)
@given(cohorts.filter(lambda c: len(c) > 25), st.integers(2, 6), st.integers(0, 9))
def test_laws_of_nested_folds(cohort, k, seed):
    manifest = manifest_of(cohort)
    plain = kfold(manifest, k, seed)
    for fold, before in zip(nested(manifest, k, 0.2, seed), plain, strict=True):
        assert all(len(found) == 1 for found in sides(fold).values())
        was = {row.image: row.split for row in before}
        now = {row.image: row.split for row in fold}
        assert {image for image in now if now[image] == "test"} == {image for image in was if was[image] == "val"}
        assert all(now[image] in ("train", "val") for image in was if was[image] == "train")
        learning = {row.patient for row in before if row.split == "train"}
        chosen_on = {row.patient for row in fold if row.split == "val"}
        assert abs(len(chosen_on) - 0.2 * len(learning)) < 1


def test_nested_folds_leave_a_test_set_out_and_keep_twins_together():
    manifest = many(200)
    rows = tuple(replace(row, split="test") if row.patient in ("p3", "p4") else row for row in manifest)
    twins = [Twin(f"p{n}_0.png", f"p{n + 1}_0.png", "bytes", 1.0) for n in range(10, 40, 2)]
    for fold in nested(Manifest(rows, Path()), 3, 0.3, twins=twins):
        assert not {"p3", "p4"} & set(fold.patients())
        split = {row.image: row.split for row in fold}
        free = [twin for twin in twins if "lockbox" not in (split[twin.first], split[twin.second])]
        assert free and all(split[twin.first] == split[twin.second] for twin in free)


def test_a_source_is_measured_on_and_never_trained_on():
    manifest = many(90)
    place = {f"p{n}": ("a", "b", "c")[n % 3] for n in range(90)}
    rows = tuple(replace(row, source=place[row.patient]) for row in manifest)
    # A patient of b, of whom one photograph is of a.
    both = next(
        row for row in rows if row.source == "b" and row.image.endswith("_1.png") and not in_lockbox(row.patient)
    )
    rows = tuple(replace(row, source="a") if row.image == both.image else row for row in rows)
    folds = without_each_source(Manifest(rows, Path()), 0.2)
    assert list(folds) == ["a", "b", "c"]
    for name, fold in folds.items():
        assert {row.source for row in fold.select("test")} == {name}
        assert name not in {row.source for row in fold.select("train", "val")}
        assert all(len(found) == 1 for found in sides(fold).values())
        assert (name == "c") == (both.patient in set(fold.select("train", "val").patients()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: nested(m, 3, 0.0), "val: 0.0; expected above 0, below 1"),
        (lambda m: without_each_source(m, 1.0), "val: 1.0; expected above 0, below 1"),
        (lambda m: without_each_source(m), "photographs of one source, .*; expected two or more"),
        (lambda m: assign_splits(m, {"train": 0.8, "val": 0.1}), r"they sum to 0.9; expected 1"),
        (
            lambda m: assign_splits(m, {"train": 0.8, "valid": 0.2}),
            '"valid"; expected train, val, test. Did you mean "val"',
        ),
        (lambda m: assign_splits(m, {"train": 1.2, "val": -0.2}), r"train is 1.2; expected 0..1"),
        (lambda m: assign_splits(m, {"train": float("nan"), "val": 1}), "train is nan"),
        (lambda m: assign_splits(m, lockbox=1.0), r"lockbox: 1.0; expected at least 0"),
        (lambda m: kfold(m, 1), "k is 1; expected 2..[0-9]+, the number of patients"),
        (lambda m: kfold(m, 1000), "k is 1000"),
        (lambda m: kfold(m, 2, lockbox=-1), "lockbox: -1"),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(SettingError, match=message):
        call(many(20))


def test_largest_remainders_by_hand():
    assert largest_remainder([0.8, 0.1, 0.1], 30) == [24, 3, 3]
    assert largest_remainder([1 / 3] * 3, 2) == [1, 1, 0]
    assert largest_remainder([0.5, 0.3, 0.2], 7) == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert largest_remainder([1.0], 0) == [0]


def test_the_lockbox_opens_on_record(tmp_path):
    manifest = assign_splits(many(100))
    csv = tmp_path / "manifest.csv"
    write_manifest(manifest, csv)
    with pytest.raises(
        LockboxError, match=r"is closed; expected a record in lockbox.jsonl.*m2cnn data open-lockbox MANIFEST --by"
    ):
        lockbox_rows(manifest, tmp_path)

    first = open_lockbox(manifest, csv, "R. Reader", "final evaluation")
    rows, records = lockbox_rows(manifest, tmp_path)
    assert rows.rows == tuple(row for row in manifest if row.split == "lockbox")
    assert records == [first]
    assert first["manifest"] == manifest.digest()
    assert first["photographs"] == len(rows) > first["patients"] == len(set(rows.patients())) > 0
    assert (first["by"], first["reason"]) == ("R. Reader", "final evaluation")
    assert first["time"].endswith("+00:00")

    second = open_lockbox(manifest, csv, "R. Reader", "again")
    assert lockbox_rows(manifest, tmp_path)[1] == [first, second]
    assert [json.loads(line) for line in (tmp_path / "lockbox.jsonl").read_text().splitlines()] == [first, second]
    with pytest.raises(LockboxError, match="is closed"):
        lockbox_rows(assign_splits(many(100), seed=1), tmp_path)
    with pytest.raises(LockboxError, match="the lockbox is closed"):
        manifest.select("lockbox")


def test_a_lockbox_that_cannot_be_opened(tmp_path):
    manifest = assign_splits(many(100))
    with pytest.raises(SettingError, match="reason is empty; expected who opens it, and why"):
        open_lockbox(manifest, tmp_path / "m.csv", "me", " ")
    with pytest.raises(SettingError, match="by is empty"):
        open_lockbox(manifest, tmp_path / "m.csv", "", "why not")
    with pytest.raises(DataError, match=r"no photograph in the lockbox.*m2cnn data split MANIFEST"):
        open_lockbox(many(10), tmp_path / "m.csv", "me", "final")
    assert list(tmp_path.iterdir()) == []
    for damage in ("{", "[1]", '{"time": 1}'):
        (tmp_path / "lockbox.jsonl").write_text(damage + "\n")
        with pytest.raises(DataError, match=r"lockbox.jsonl, line 1: damaged record"):
            lockbox_rows(manifest, tmp_path)


@pytest.mark.real
def test_real_splits(real_data):
    split = assign_splits(open_data(real_data / "eyepacs256"))
    assert all(len(found) == 1 for found in sides(split).values())
    locked = {row.patient for row in split if row.split == "lockbox"}
    other = assign_splits(open_data(real_data / "eyepacs1024"), seed=3)
    assert {row.patient for row in other if row.split == "lockbox"} == set(other.patients()) & {
        patient for patient in other.patients() if in_lockbox(str(patient))
    }
    assert locked & set(other.patients()) == {row.patient for row in other if row.split == "lockbox"} & set(
        split.patients()
    )
    grades = Counter(row.grade for row in split.select("test"))
    assert all(abs(grades[g] - 0.09 * n) < 0.035 * n for g, n in enumerate((3919, 389, 836, 145, 117)))

    idrid = assign_splits(open_data(real_data / "idrid"))
    by_bytes = defaultdict(set)
    for row in idrid:
        by_bytes[row.sha256 or row.image].add(row.split)
    assert all(len(found) == 1 for found in by_bytes.values())
