"""RetinaMNIST: from arrays in a miniature .npz, and in the real one, to files that a manifest names."""

from collections import Counter

import cv2
import numpy as np
import pytest

from m2cnn.cli import OK, REFUSED, main
from m2cnn.data import import_dataset, open_data, read_manifest
from m2cnn.data.imported import OWN_PATIENT
from m2cnn.data.opening import recognise
from m2cnn.errors import DataError
from m2cnn.photograph import read_image

GRADES = {"train": (0, 4, 2), "val": (1,), "test": (3, 3)}


def arrays(**changed):
    rng = np.random.default_rng(5)
    made = {}
    for part, grades in GRADES.items():
        made[f"{part}_images"] = rng.integers(0, 256, (len(grades), 20, 20, 3), dtype=np.uint8)
        made[f"{part}_labels"] = np.array(grades, dtype=np.uint8)[:, None]
    return {name: array for name, array in (made | changed).items() if array is not None}


@pytest.fixture
def folder(tmp_path):
    np.savez_compressed(tmp_path / "retinamnist_64.npz", **arrays())
    return tmp_path


def test_pictures_become_files_of_the_official_parts(folder):
    assert recognise(folder) == "retinamnist"
    imported = import_dataset("retinamnist", folder)
    manifest = imported.manifest
    assert manifest.root == folder / "retinamnist_64"
    assert [(row.image, row.patient, row.grade, row.split) for row in manifest] == [
        ("train/train_0000.png", "train_0000", 0, "train"),
        ("train/train_0001.png", "train_0001", 4, "train"),
        ("train/train_0002.png", "train_0002", 2, "train"),
        ("val/val_0000.png", "val_0000", 1, "val"),
        ("test/test_0000.png", "test_0000", 3, "test"),
        ("test/test_0001.png", "test_0001", 3, "test"),
    ]
    for part in GRADES:
        pictures = [read_image(manifest.path(row)) for row in manifest if row.split == part]
        np.testing.assert_array_equal(pictures, arrays()[f"{part}_images"])
    assert imported.notes[1] == f"retinamnist: photographs {OWN_PATIENT}"
    assert "may stand in train and val both" in imported.notes[2]
    assert imported.notes[3].startswith("retinamnist train: 1,080 published, 3 found")


def test_pictures_that_are_there_are_kept_whoever_compressed_them(folder, tmp_path_factory):
    pictures = tmp_path_factory.mktemp("pictures")
    first = import_dataset("retinamnist", folder, pictures=pictures).manifest
    kept, lost = first.path(first.rows[0]), first.path(first.rows[5])
    cv2.imwrite(str(kept), arrays()["train_images"][0][..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
    before = kept.read_bytes()
    lost.unlink()
    assert import_dataset("retinamnist", folder, pictures=pictures).manifest.root == pictures
    assert kept.read_bytes() == before and lost.is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["retinamnist_64.npz"]


@pytest.mark.parametrize("content", ["no picture", "another picture"])
def test_another_picture_by_that_name_is_not_overwritten(folder, content):
    path = folder / "retinamnist_64" / "val" / "val_0000.png"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    if content == "another picture":
        cv2.imwrite(str(path), arrays()["test_images"][0])
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"val_0000.png: another picture by that name; .*pictures=FOLDER"):
        import_dataset("retinamnist", folder)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_names_the_option(folder):
    (folder / "retinamnist_64").write_text("a file where the folder would be")
    with pytest.raises(
        DataError, match=r"expected a folder that can be written. .*data import retinamnist FOLDER pictures="
    ):
        import_dataset("retinamnist", folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": np.array([[0], [6], [2]])}, r'64.npz, train_labels\[1\]: grade is "6"; expected 0..4'),
        ({"val_labels": None}, r"64.npz: no array val_labels; its arrays: train_images, .*; expected val_labels among"),
        ({"test_labels": np.zeros((1, 1), int)}, r"2 test_images but 1 test_labels; expected one label per picture"),
        ({"train_images": np.zeros((3, 20, 20), np.uint8)}, r"train_images is uint8 \(3, 20, 20\); expected uint8 \(N"),
        ({"train_images": np.zeros((3, 20, 20, 3))}, r"train_images is float64"),
        ({"val_images": np.array([{}])}, r"64.npz: Object arrays cannot be loaded.*expected an .npz of arrays"),
    ],
)
def test_what_is_no_retinamnist_is_refused(tmp_path, changed, message):
    np.savez(tmp_path / "retinamnist_64.npz", **arrays(**changed))
    with pytest.raises(DataError, match=message):
        import_dataset("retinamnist", tmp_path)


def test_a_broken_archive_and_none_and_two(folder, tmp_path_factory):
    (folder / "retinamnist.npz").write_bytes((folder / "retinamnist_64.npz").read_bytes()[:900])
    with pytest.raises(
        DataError, match=r"2 files retinamnist\*.npz \(retinamnist.npz, retinamnist_64.npz\); expected one"
    ):
        import_dataset("retinamnist", folder)
    assert len(import_dataset("retinamnist", folder, npz=folder / "retinamnist_64.npz").manifest) == 6
    with pytest.raises(DataError, match=r"retinamnist.npz: .*expected an .npz of arrays. Download it again"):
        import_dataset("retinamnist", folder, npz=folder / "retinamnist.npz")
    with pytest.raises(DataError, match=r"0 files retinamnist\*.npz; expected one"):
        import_dataset("retinamnist", tmp_path_factory.mktemp("empty"))
    np.save(folder / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"x.npy: .*expected an .npz of arrays"):
        import_dataset("retinamnist", folder, npz=folder / "x.npy")


def test_the_archive_itself_may_be_named(folder, capsys):
    npz, pictures = folder / "retinamnist_64.npz", folder / "elsewhere"
    assert main(["data", "import", "retinamnist", str(npz), f"pictures={pictures}"]) == OK
    assert "6 photographs of 6 patients" in capsys.readouterr().out
    assert read_manifest(pictures / "manifest.csv").rows == open_data(pictures).rows
    assert main(["data", "import", "retinamnist", str(npz), f"pictures={pictures}"]) == REFUSED
    assert "it exists" in capsys.readouterr().err


@pytest.mark.real
def test_real_retinamnist_is_as_published(real_data, tmp_path):
    imported = import_dataset("retinamnist", real_data / "retinamnist", pictures=tmp_path)
    assert Counter(row.split for row in imported.manifest) == {"train": 1080, "val": 120, "test": 400}
    assert imported.notes[0] == "1600 photographs of 1600 patients, grades 0/1/2/3/4: 714/186/326/282/92"
    assert [note.endswith("as published") for note in imported.notes[-3:]] == [True] * 3
    assert read_image(imported.manifest.path(imported.manifest.rows[-1])).shape == (28, 28, 3)
