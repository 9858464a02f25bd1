"""What is published of the public datasets: against what an import finds, the label files, and the documentation."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from m2cnn.data import IMPORTERS, Manifest, Published, Row, import_dataset, open_data
from m2cnn.data.imported import check_parts, published_notes
from m2cnn.data.public_sets import USAGES
from m2cnn.tables import read_table


def test_counts_against_the_published_ones():
    part = Published("train", (2, 0, 1, 0, 0), "here", 1, "train")
    rows = [Row(f"{n}.png", str(n), grade=grade, split="train", source="x") for n, grade in enumerate((0, 0, 2, None))]
    elsewhere = (
        Row("e.png", "e", grade=1, split="test", source="x"),
        Row("f.png", "f", grade=1, split="train", source="y"),
    )
    assert published_notes("x", Manifest((*rows, *elsewhere), Path()), [part]) == [
        "x train: 4 photographs, grades 2/0/1/0/0, as published"
    ]
    assert published_notes("x", Manifest(tuple(rows[1:]), Path()), [part]) == [
        "x train: 4 published, 3 found; grade 0: 2 published, 1 found (published: here)"
    ]
    assert published_notes("x", Manifest(elsewhere, Path()), [part]) == []
    doubtful = Published("train", (2, 0, 1, 0, 0), "here", 1, "train", confirmed=False)
    (note,) = published_notes("x", Manifest(tuple(rows), Path()), [doubtful])
    assert note == "x train: 4 photographs, grades 2/0/1/0/0, as published (published: here, unconfirmed)"
    (note,) = published_notes("x", Manifest(tuple(rows[:3]), Path()), [doubtful])
    assert note.endswith("without grade: 1 published, 0 found (published: here, unconfirmed)")


@pytest.mark.parametrize("name", [name for name, importer in IMPORTERS.items() if importer.published])
def test_every_published_part_can_be_told_apart_and_stands_in_the_documentation(name):
    page = Path(__file__).parents[1] / "docs" / "reference" / "datasets.md"
    (row,) = [line for line in page.read_text("utf-8").splitlines() if line.startswith(f"| `{name}` ")]
    parts = IMPORTERS[name].published
    assert len({(part.split, part.source) for part in parts}) == len(parts)
    for part in parts:
        assert f"{part.part} {part.photographs:,}: {'/'.join(map(str, part.grades))}" in row
        assert (f"{part.part} {part.photographs:,}:" in row.partition("unconfirmed")[2]) == (not part.confirmed)
    assert IMPORTERS[name].terms.partition(":")[0] in row


def graded(path, column="diagnosis"):
    return Counter(int(cells[column]) for _, cells in read_table(path)[1])


def published(name, part):
    return next(counts for counts in IMPORTERS[name].published if counts.part == part)


@pytest.mark.real
def test_real_kaggle_solution(real_data):
    table = read_table(real_data / "labels" / "retinopathy_solution.csv")[1]
    for usage, source in USAGES.items():
        found = Counter(int(cells["level"]) for _, cells in table if cells["Usage"] == usage)
        assert tuple(found[grade] for grade in range(5)) == published("eyepacs", usage.lower()).grades
        assert published("eyepacs", usage.lower()).source == source
    assert len(table) == published("eyepacs", "test").photographs == 53576
    check_parts("", (Row(c["image"], c["image"].split("_")[0], source=c["Usage"]) for _, c in table))


@pytest.mark.real
def test_real_counts_of_label_files(real_data):
    for name, file in (("messidor2", "messidor2_google_adjudicated.csv"), ("ddr", "ddr_grading.csv")):
        found = graded(real_data / "labels" / file)
        parts = IMPORTERS[name].published
        assert [found[grade] for grade in range(5)] == [sum(part.grades[grade] for part in parts) for grade in range(5)]
    assert published("ddr", "train").photographs == 6835
    assert published("ddr", "valid").photographs == 2733
    assert published("ddr", "test").photographs == 4105


@pytest.mark.real
def test_real_aptos_labels_are_as_published(real_data, build):
    labels = real_data / "labels" / "aptos2019_train_labels.csv"
    ids = [cells["id_code"] for _, cells in read_table(labels)[1]]
    folder = build(**{"train.csv": labels.read_bytes()})
    (folder / "train_images").mkdir()
    for length, name in enumerate(ids):
        (folder / "train_images" / f"{name}.png").write_bytes(b"." * length)
    imported = import_dataset("aptos", folder)
    assert imported.notes[-1] == "aptos train: 3,662 photographs, grades 1805/370/999/193/295, as published"


def test_only_what_agrees_with_the_published_counts_is_no_warning(build, monkeypatch, caplog):
    caplog.set_level("INFO", "m2cnn")
    few = [Published("left", (1, 0, 0, 0, 0), "here"), Published("all", (2, 0, 0, 0, 0), "here", source="other")]
    monkeypatch.setitem(IMPORTERS, "aptos", replace(IMPORTERS["aptos"], published=tuple(few)))
    folder = build("train_images/a.png", **{"train.csv": b"id_code,diagnosis\na,0\n"})
    open_data(folder)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert caplog.records[2].message == "aptos left: 1 photographs, grades 1/0/0/0/0, as published"


@pytest.mark.real
def test_real_counts_of_idrid_are_as_published(real_data):
    notes = import_dataset("idrid", real_data / "idrid").notes
    assert notes[-1] == "idrid training: 413 photographs, grades 134/20/136/74/49, as published"
