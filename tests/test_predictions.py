"""The predictions table: what it holds, that CSV keeps every bit, and what it refuses."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2cnn.errors import DataError
from m2cnn.predictions import COLUMNS, Predictions, read_predictions, write_predictions

HEADER = ",".join(COLUMNS)
GOOD = {
    "image": ["a/1.jpg", "a/2.jpg", "b,1.jpg"],
    "patient": ["a", "a", "b"],
    "eye": ["left", "right", ""],
    "split": ["test", "test", "test"],
    "grade": [0, -1, 3],
    "probabilities": [[0.7, 0.1, 0.1, 0.05, 0.05], [np.nan] * 5, [np.nan] * 5],
    "severity": [0.4, np.nan, 2.6],
    "decoded": [0, -1, 3],
    "gradable": [True, False, True],
    "reason": ["", 'no round field, "too dark"', ""],
    "system": ["m2cnn"] * 3,
    "bundle": ["0123abcd", "0123abcd", ""],
}
ROWS = """\
a/1.jpg,a,left,test,0,0.7,0.1,0.1,0.05,0.05,0.4,0,true,,m2cnn,0123abcd
a/2.jpg,a,right,test,,,,,,,,,false,"no round field, ""too dark""\",m2cnn,0123abcd
"b,1.jpg",b,,test,3,,,,,,2.6,3,true,,m2cnn,
"""


def table(**columns):
    return Predictions(**(GOOD | columns))


def same(first, second):
    for field in dataclasses.fields(Predictions):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert one.dtype.kind == other.dtype.kind
        np.testing.assert_array_equal(one, other)


def written(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    return path


# --- what it holds ---


def test_csv_is_this_text(tmp_path):
    write_predictions(table(), tmp_path / "new" / "p.csv")
    assert (tmp_path / "new" / "p.csv").read_text() == f"{HEADER}\n{ROWS}"
    same(read_predictions(tmp_path / "new" / "p.csv"), table())


def test_columns_have_their_types():
    p = table()
    assert len(p) == 3
    assert (p.probabilities.shape, p.probabilities.dtype, p.severity.dtype) == ((3, 5), np.float32, np.float32)
    assert (p.grade.dtype, p.decoded.dtype, p.gradable.dtype) == (np.int64, np.int64, bool)


def test_select_by_mask_and_by_position():
    assert table().select([False, True, True]).image.tolist() == ["a/2.jpg", "b,1.jpg"]
    assert table().select([2, 0]).decoded.tolist() == [3, 0]
    assert len(table().select([False] * 3)) == 0


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    image=st.lists(names, min_size=1, max_size=6, unique=True),
    logits=st.lists(st.floats(-40, 40), min_size=5, max_size=5),
    severity=st.floats(0, 4, width=32),
    reason=names,
    data=st.data(),
)
def test_every_bit_returns(tmp_path_factory, image, logits, severity, reason, data):
    n = len(image)
    gradable = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    chances = np.exp(logits) / np.exp(logits).sum()
    p = Predictions(
        image=image,
        patient=data.draw(st.lists(names, min_size=n, max_size=n)),
        eye=[""] * n,
        split=["val"] * n,
        grade=data.draw(st.lists(st.integers(-1, 4), min_size=n, max_size=n)),
        probabilities=np.where(gradable[:, None], chances, np.nan),
        severity=np.where(gradable, severity, np.nan),
        decoded=np.where(gradable, 2, -1),
        gradable=gradable,
        reason=np.where(gradable, "", reason),
        system=["x"] * n,
        bundle=[""] * n,
    )
    path = tmp_path_factory.mktemp("bits") / "p.csv"
    write_predictions(p, path)
    same(read_predictions(path), p)


def test_reads_what_pandas_writes(tmp_path):
    text = f"{HEADER}\na,a,,,3.0,,,,,,2.5,3.0,True,,x,\n\nb,b,,,,,,,,,,,False,blurred,x,\n"
    p = read_predictions(written(tmp_path, text))
    assert (p.grade.tolist(), p.decoded.tolist(), p.gradable.tolist()) == ([3, -1], [3, -1], [True, False])


def test_columns_in_another_order(tmp_path):
    rows = [line.split(",") for line in (HEADER, "a,a,,,1,,,,,,2.5,3,1,,x,")]
    p = read_predictions(written(tmp_path, "\n".join(",".join(row[::-1]) for row in rows)))
    assert (p.grade.tolist(), p.decoded.tolist()) == ([1], [3])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, step):
    path = tmp_path / "p.csv"
    write_predictions(table(), path)

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(f"m2cnn.tables.os.{step}", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_predictions(table().select([0]), path)
    assert len(read_predictions(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["p.csv"]


# --- what it refuses ---


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a/1.jpg,b,,,0,,,,,,1,1,true,,x,", r'row 5: image "a/1\.jpg" stands above already'),
        (",b,,,0,,,,,,1,1,true,,x,", "row 5: image is empty"),
        ("c,,,,0,,,,,,1,1,true,,x,", "row 5: patient is empty; expected text. Unknown: give each photograph"),
        ("c,b,,,0,,,,,,1,1,true,,,", "row 5: system is empty"),
        ("c,b,OD,,0,,,,,,1,1,true,,x,", 'row 5: eye is "OD"; expected left, right or an empty cell'),
        ("c,b,,,5,,,,,,1,1,true,,x,", r'row 5: grade is "5"; expected 0\.\.4 \(ICDR\)\. Unknown truth: leave the cell'),
        ("c,b,,,-1,,,,,,1,1,true,,x,", 'row 5: grade is "-1"'),
        ("c,b,,,mild,,,,,,1,1,true,,x,", 'row 5: grade is "mild"'),
        ("c,b,,,0,,,,,,1,1.5,true,,x,", r'row 5: decoded is "1\.5"; expected .* Ungradable: leave the cell empty'),
        ("c,b,,,0,,,,,,1,,true,,x,", "row 5: gradable without a decoded grade; .* gradable false and a reason"),
        ("c,b,,,0,,,,,,,1,false,dark,x,", "row 5: ungradable, yet decoded is 1"),
        ("c,b,,,0,,,,,,1,,false,dark,x,", r"row 5: ungradable, yet severity is 1\.0"),
        ("c,b,,,0,1,0,0,0,0,,,false,dark,x,", "row 5: ungradable, yet with probabilities"),
        ("c,b,,,0,,,,,,,,false,,x,", "row 5: ungradable without a reason"),
        ("c,b,,,0,,,,,,1,1,true,dark,x,", 'row 5: gradable, yet the reason is "dark"'),
        ("c,b,,,0,,,,,,,1,true,,x,", "row 5: severity is nan; .* write the grade as severity"),
        ("c,b,,,0,,,,,,4.5,1,true,,x,", r"row 5: severity is 4\.5; expected a number in 0\.\.4"),
        ("c,b,,,0,,,,,,-.5,1,true,,x,", r"row 5: severity is -0\.5"),
        ("c,b,,,0,,,,,,much,1,true,,x,", 'row 5: severity is "much"; expected a number or an empty cell'),
        ("c,b,,,0,,,,,,nan,1,true,,x,", 'row 5: severity is "nan"'),
        ("c,b,,,0,,,,,,1e300,1,true,,x,", 'row 5: severity is "1e300"'),
        ("c,b,,,0,.5,.4,0,0,.098,1,1,true,,x,", r"row 5: p0\.\.p4 sum to 0\.998; expected 1 within 0\.001\. Divide"),
        ("c,b,,,0,.5,.5,0,0,,1,1,true,,x,", r"row 5: some of p0\.\.p4 are empty; expected all five or none"),
        ("c,b,,,0,2,-1,0,0,0,1,1,true,,x,", r"row 5: p0\.\.p4 are 2 -1 0 0 0; expected probabilities in 0\.\.1"),
        ("c,b,,,0,,,,,,1,1,yes,,x,", 'row 5: gradable is "yes"; expected true or false'),
        ("c,b,,,0,,,,,,1,1,true,,x", "row 5: 15 cells; expected 16"),
    ],
)
def test_a_bad_row_is_named_with_its_repair(tmp_path, row, message):
    with pytest.raises(DataError, match=r"predictions\.csv, " + message):
        read_predictions(written(tmp_path, f"{HEADER}\n{ROWS}{row}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace(",decoded", ""), 'no column "decoded"; expected image, patient, .* Add it'),
        (HEADER.replace("severity", "severty"), 'unknown column "severty"; .*Did you mean "severity"'),
        (f"{HEADER},image", 'column "image" stands twice'),
        (HEADER.replace(",", ";"), "cells are separated by ';'; expected commas"),
        ("", "the file is empty"),
        (f'{HEADER}\n"a,b\n', "row 2: unexpected end of data"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_predictions(written(tmp_path, text))


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(DataError, match="No such file or directory; expected a readable CSV file"):
        read_predictions(tmp_path / "predictions.csv")
    (tmp_path / "predictions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="byte 0 is not UTF-8"):
        read_predictions(tmp_path / "predictions.csv")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"grade": [0, 9, 3]}, r"predictions, photograph 'a/2\.jpg': grade is \"9\""),
        ({"decoded": [0, -1, 7]}, "photograph 'b,1.jpg': decoded is \"7\""),
        ({"grade": [0, np.nan, 3]}, "predictions, grade: an array of float64; expected integers, -1 for none"),
        ({"gradable": [1, 0, 1]}, "predictions, gradable: an array of int64; expected true and false"),
        ({"probabilities": [0.1, 0.2, 0.3]}, r"predictions, probabilities: shape \(3,\); expected \(N, 5\)"),
        ({"severity": [[0.4], [np.nan], [2.6]]}, r"predictions, severity: shape \(3, 1\); expected \(N,\)"),
        ({"system": "m2cnn"}, r"predictions, system: shape \(\); expected \(N,\)"),
        ({"eye": ["left"]}, "predictions, eye: 1 entries beside 3 images"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(DataError, match=message):
        table(**columns)
