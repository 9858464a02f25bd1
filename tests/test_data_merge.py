"""Several sets as one."""

import pytest

from m2cnn.cli import main
from m2cnn.data.manifest import Manifest, Row, read_manifest, write_manifest
from m2cnn.data.merge import merge
from m2cnn.errors import DataError


def sets(tmp_path):
    rows = {
        "a/small": (Row("1_left.jpg", "1", "left", 0, source="eyepacs"), Row("2_left.jpg", "2", "left", 3)),
        "a/large": (Row("1_left.jpg", "1", "left", 0, source="eyepacs"),),
        "b": (Row("deep/1.jpg", "1", "", 4, source="idrid"), Row("2.jpg", "3", "", None)),
    }
    for folder, some in rows.items():
        for row in some:
            (tmp_path / folder / row.image).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / row.image).write_bytes(b"photograph")
    return [Manifest(some, tmp_path / folder) for folder, some in rows.items()]


def test_paths_and_patients(tmp_path):
    small, large, idrid = sets(tmp_path)
    both = merge([small, large])
    assert both.root == tmp_path / "a"
    # One source: the same person at two sizes.
    assert [(row.image, row.patient) for row in both] == [
        ("small/1_left.jpg", "1"),
        ("small/2_left.jpg", "2"),
        ("large/1_left.jpg", "1"),
    ]
    three = merge([small, large, idrid])
    assert three.root == tmp_path
    assert [row.patient for row in three] == ["eyepacs-1", "2", "eyepacs-1", "idrid-1", "3"]
    assert [row.grade for row in three] == [0, 3, 0, 4, None]
    assert all(three.path(row).is_file() for row in three)


def test_what_cannot_be_merged_is_refused(tmp_path):
    small, *_ = sets(tmp_path)
    with pytest.raises(DataError, match=r"1_left\.jpg.*stands in two"):
        merge([small, small])
    with pytest.raises(DataError, match="no set"):
        merge([])


def test_the_command_writes_one_manifest(tmp_path, capsys):
    names = []
    for number, one in enumerate(sets(tmp_path)):
        names.append(str(tmp_path / f"{number}.csv"))
        write_manifest(one, names[-1])
    roots = [str(tmp_path / folder) for folder in ("a/small", "a/large", "b")]
    out = tmp_path / "elsewhere" / "all.csv"
    assert main(["data", "merge", *names, "--images", *roots, "--out", str(out)]) == 0
    assert f"5 photographs; use it with --images {tmp_path}" in capsys.readouterr().out
    assert len(read_manifest(out, tmp_path)) == 5
    assert main(["data", "merge", *names, "--images", roots[0], "--out", str(out)]) == 2
    assert "one folder for each" in capsys.readouterr().err
