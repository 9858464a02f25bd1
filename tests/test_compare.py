"""Comparison of systems: shared photographs, paired resamples, tables."""

import csv
import io

import numpy as np
import pytest

from m2cnn.bootstrap import kappa_replicates, number, paired_difference
from m2cnn.cli import OK, REFUSED, main
from m2cnn.compare import CSV_COLUMNS, compare, compare_folders
from m2cnn.errors import DataError
from m2cnn.grades import DISCLAIMER
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.panel import METRICS
from m2cnn.predictions import PREDICTIONS, Predictions, write_predictions
from m2cnn.summary import summarise

N = 120
GRADE = np.random.default_rng(1).integers(0, 5, N)


def table(noise, seed=0, refused=(), **columns):
    """Two photographs of each of 60 patients, the same truth for every system."""
    severity = np.clip(GRADE + np.random.default_rng(seed).normal(0, noise, N), 0, 4)
    gradable = ~np.isin(np.arange(N), refused)
    near = np.exp(-2 * np.abs(severity[:, None] - np.arange(5)))
    content = {
        "image": [f"{i}.jpg" for i in range(N)],
        "patient": [f"p{i // 2}" for i in range(N)],
        "eye": [""] * N,
        "split": ["test"] * N,
        "grade": GRADE,
        "probabilities": np.where(gradable[:, None], near / near.sum(axis=1, keepdims=True), np.nan),
        "severity": np.where(gradable, severity, np.nan),
        "decoded": np.where(gradable, np.rint(severity), -1).astype(int),
        "gradable": gradable,
        "reason": np.where(gradable, "", "dark"),
        "system": ["some"] * N,
        "bundle": [""] * N,
    }
    return Predictions(**(content | columns))


GOOD, POOR = table(0.3), table(1.5, seed=1)


def test_a_system_alone_has_its_own_summary():
    alone = compare([("good", GOOD)], 100, seed=2)
    whole = summarise(GOOD, 100, seed=2)["metrics"]
    assert alone.systems[0].differences == {}
    for name in METRICS:
        e = alone.systems[0].metrics[name]
        assert [number(bound) for bound in (e.value, e.low, e.high)] == pytest.approx(list(whole[name].values()))


def test_differences_are_paired_and_second_minus_first():
    found = compare([("good", GOOD), ("poor", POOR)], 200, seed=3).systems[1].differences["qwk"]
    kappas = [quadratic_weighted_kappa(p.grade, p.decoded) for p in (GOOD, POOR)]
    by_hand = [kappa_replicates(p.grade, p.decoded, p.patient, 200, seed=3) for p in (GOOD, POOR)]
    expected = paired_difference((kappas[0], kappas[1]), (by_hand[0], by_hand[1]))
    assert found.value == pytest.approx(kappas[1] - kappas[0])
    # Patients are numbered in the order of their names on both ways, so the resamples are the same.
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))
    assert found.high < 0
    assert found.p < 0.05


def test_a_system_does_not_differ_from_itself():
    for difference in compare([("a", GOOD), ("b", GOOD)], 100).systems[1].differences.values():
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_order_of_rows_does_not_matter():
    mixed = POOR.select(np.random.default_rng(0).permutation(N))
    # By their text: no bound is known of an average precision of 1, and NaN is not itself.
    assert repr(compare([("a", GOOD), ("b", mixed)], 50)) == repr(compare([("a", GOOD), ("b", POOR)], 50))


def test_only_photographs_that_every_system_graded_are_scored():
    first = table(0.3, refused=[0, 1]).select(np.arange(100))
    second = table(1.5, seed=1, refused=[1, 2, 110]).select([*range(20, N), 0, 1, 2])
    found = compare([("a", first), ("b", second)], 50)
    assert (found.shared, found.scored) == (83, 80)
    assert [(s.images, s.ungradable) for s in found.systems] == [(100, 2), (103, 2)]
    shared = np.arange(20, 100)
    kappa = quadratic_weighted_kappa(GRADE[shared], first.decoded[shared])
    assert found.systems[0].metrics["qwk"].value == pytest.approx(kappa)
    text = found.to_markdown()
    assert "83 photographs of 42 patients are in every table with a true grade; 80 of them were graded by every" in text
    assert "a: 17 of 100 left out; 2 of the shared found ungradable" in text


def test_truth_may_be_known_to_one_table_only():
    blind = table(1.5, seed=1, grade=np.full(N, -1))
    assert compare([("a", blind), ("b", GOOD)], 50).systems[0].metrics["qwk"].value == pytest.approx(
        quadratic_weighted_kappa(GRADE, blind.decoded)
    )


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ([], "compare: systems none; expected one or more different names"),
        ([("a", GOOD), ("a", POOR)], "compare: systems a, a; expected one or more different names"),
        (
            [("a", GOOD), ("b", table(1, grade=np.where(np.arange(N) == 7, (GRADE + 1) % 5, GRADE)))],
            r"photograph 7\.jpg: true grade is . in b and . in a table before it; expected one truth",
        ),
        (
            [("a", GOOD), ("b", table(1, patient=["q", *GOOD.patient[1:]]))],
            r'photograph 0\.jpg: patient is "q" in b and "p0" in a; expected one patient',
        ),
        (
            [("a", GOOD), ("b", table(1, image=[f"other/{i}" for i in range(N)]))],
            "compare: 0 shared photographs, 0 of them with a true grade; .*image names must be written alike",
        ),
        (
            [("a", table(1, grade=np.full(N, -1)))],
            "compare: 120 shared photographs, 0 of them with a true grade",
        ),
        ([("a", table(1, system=["x"] * 60 + ["y"] * 60))], "systems x, y; expected one system"),
    ],
)
def test_what_cannot_be_compared_is_refused(systems, message):
    with pytest.raises(DataError, match=message):
        compare(systems, 10)


def test_markdown_has_values_differences_and_the_disclaimer():
    comparison = compare([("good | old", GOOD), ("poor", POOR)], 100)
    lines = comparison.to_markdown().splitlines()
    assert lines[0].startswith("| system | QWK | accuracy |")
    assert lines[2].startswith(r"| good \| old | 0.9")
    assert lines[5].startswith(r"| minus good \| old | QWK")
    assert lines[7].startswith("| poor | -0.")
    assert ", p 0.020 |" in lines[7]
    assert lines[-1] == DISCLAIMER
    assert "minus" not in compare([("good", GOOD)], 20).to_markdown()


def test_undefined_shows_as_undefined():
    few = [table(0.3).select(GRADE < 2), table(1.5, seed=1).select(GRADE < 2)]
    comparison = compare([("a", few[0]), ("b", few[1])], 100)
    assert "| undefined |" in comparison.to_markdown()
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    empty = next(row for row in rows if row["system"] == "b" and row["metric"] == "referable_auc")
    assert set(empty.values()) == {"b", "referable_auc", ""}


def test_csv_has_every_metric_of_every_system_in_full():
    comparison = compare([("good", GOOD), ("poor", POOR)], 50)
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(row["system"], row["metric"]) for row in rows] == [(s, m) for s in ("good", "poor") for m in METRICS]
    assert rows[0]["difference"] == rows[0]["p"] == ""
    poor = comparison.systems[1]
    qwk = rows[len(METRICS)]
    assert float(qwk["value"]) == poor.metrics["qwk"].value
    assert float(qwk["difference_high"]) == poor.differences["qwk"].high


def test_p_of_several_systems_is_corrected_within_each_metric():
    comparison = compare([("good", GOOD), ("poor", POOR), ("middling", table(0.5, seed=2))], 99)
    p = [s.differences["mae"].p for s in comparison.systems[1:]]
    np.testing.assert_allclose(comparison.corrected()["mae"], [min(1, 2 * min(p)), max(2 * min(p), max(p))])
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    found = {(row["system"], row["metric"]): row["p_holm"] for row in rows}
    assert found["good", "mae"] == ""
    assert [float(found[name, "mae"]) for name in ("poor", "middling")] == list(comparison.corrected()["mae"])


def test_folders_are_named_by_folder_or_by_path_where_names_repeat(tmp_path):
    for folder, content in (("one/run", GOOD), ("two/run", POOR), ("three", POOR)):
        write_predictions(content, tmp_path / folder / "predictions.csv")
    one, two = tmp_path / "one/run", tmp_path / "two/run"
    found, _ = compare_folders([one, two, tmp_path / "three"], 20)
    assert [s.name for s in found.systems] == [str(one), str(two), "three"]
    assert found.systems[0].metrics["qwk"].value == compare([("x", GOOD)], 20).systems[0].metrics["qwk"].value
    assert compare_folders([tmp_path / "three" / "predictions.csv"], 20)[0].systems[0].name == "predictions"


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no predictions\.csv; expected a folder of m2cnn evaluate"):
        compare_folders([tmp_path])


def test_a_run_is_its_test(tmp_path):
    for folder, content in (("a/val", POOR), ("a/test", GOOD), ("b/val", POOR)):
        write_predictions(content, tmp_path / folder / "predictions.csv")
    found, _ = compare_folders([tmp_path / "a", tmp_path / "b/val"], 20)
    assert [s.name for s in found.systems] == ["a", "val"]
    assert found.systems[0].metrics["qwk"].value == compare([("x", GOOD)], 20).systems[0].metrics["qwk"].value
    with pytest.raises(DataError, match=rf"b: no predictions\.csv; .* Name {tmp_path}/b/val\.$"):
        compare_folders([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("verb", ["compare", "patients", "report"])
def test_verbs_that_read_predictions_say_what_is_missing(verb, tmp_path, capsys):
    assert main([verb, str(tmp_path / "gone")]) == REFUSED
    err = capsys.readouterr().err
    assert f"{tmp_path / 'gone'}: no such file or folder; expected a folder of m2cnn evaluate" in err
    assert PREDICTIONS not in err
    assert main([verb, str(tmp_path)]) == REFUSED
    assert "m2cnn evaluate BUNDLE --data DATA --out DIR makes one" in capsys.readouterr().err
    write_predictions(GOOD, tmp_path / "run/test" / PREDICTIONS)
    assert main([verb, str(tmp_path / "run"), *([] if verb == "compare" else ["--replicates", "20"])]) == OK


def test_a_table_is_not_compared_with_itself(tmp_path):
    run = tmp_path / "run"
    write_predictions(GOOD, run / "test" / PREDICTIONS)
    with pytest.raises(DataError, match=rf"{run}: it is named twice; expected another .* Name each once\.$"):
        compare_folders([run, run])
    for other in (run / "test", run / "test" / PREDICTIONS, tmp_path / "run/../run"):
        with pytest.raises(DataError, match=rf"{other}: the same table as {run}; expected another"):
            compare_folders([run, other])
