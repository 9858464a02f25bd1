"""metrics.json: its values against the direct functions, its intervals, its file and its text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from m2cnn import metrics
from m2cnn.bootstrap import METHOD, bootstrap, interval, kappa_replicates, score_interval
from m2cnn.endpoints import macro_f1, predictive_values, rates_of_endpoint, rates_per_grade
from m2cnn.errors import DataError, SettingError
from m2cnn.grades import DISCLAIMER
from m2cnn.intervals import clopper_pearson
from m2cnn.panel import METRICS, panel
from m2cnn.predictions import Predictions
from m2cnn.reliability import ece_bounds, expected_calibration_error
from m2cnn.summary import (
    BIASED,
    SCHEMA,
    checked_prevalence,
    estimates_at,
    read_metrics,
    summarise,
    to_text,
    write_metrics,
)


def predictions(patients=40, seed=0, refuse=0.1, unknown=0.1, **columns):
    rng = np.random.default_rng(seed)
    n = 2 * patients
    grade = rng.integers(0, 5, n)
    severity = np.clip(grade + rng.normal(0, 0.8, n), 0, 4)
    gradable = rng.random(n) >= refuse
    near = np.exp(-2 * np.abs(severity[:, None] - np.arange(5)))
    content = {
        "image": [f"{i}.jpg" for i in range(n)],
        "patient": [f"p{i // 2}" for i in range(n)],
        "eye": ["left", "right"] * patients,
        "split": ["val", "test"] * patients,
        "grade": np.where(rng.random(n) < unknown, -1, grade),
        "probabilities": np.where(gradable[:, None], near / near.sum(axis=1, keepdims=True), np.nan),
        "severity": np.where(gradable, severity, np.nan),
        "decoded": np.where(gradable, np.rint(severity), -1).astype(int),
        "gradable": gradable,
        "reason": np.where(gradable, "", "dark"),
        "system": ["m2cnn"] * n,
        "bundle": ["ab12"] * n,
    }
    return Predictions(**(content | columns))


@pytest.fixture(scope="module")
def table():
    return predictions()


@pytest.fixture(scope="module")
def summary(table):
    return summarise(table, replicates=200, seed=4, context={"command": "m2cnn evaluate"})


def test_values_are_those_of_the_direct_functions(table, summary):
    p = table.select(table.gradable & (table.grade >= 0))
    counts = metrics.confusion(p.grade, p.decoded)
    value = {name: entry["value"] for name, entry in summary["metrics"].items()}
    expected = {
        "qwk": metrics.quadratic_weighted_kappa(p.grade, p.decoded),
        "accuracy": metrics.accuracy(p.grade, p.decoded),
        "mse": metrics.mean_squared_error(p.grade, p.severity),
        "mae": metrics.mean_absolute_error(p.grade, p.severity),
        **{f"sensitivity_grade_{g}": s for g, s in enumerate(metrics.sensitivity_per_grade(counts))},
        "linear_kappa": metrics.kappa_of_confusion(counts, "linear"),
        "macro_f1": macro_f1(counts),
    }
    for lowest, name in ((1, "any"), (2, "referable"), (3, "vision_threatening")):
        rates = rates_of_endpoint(counts, lowest)
        expected |= {f"{name}_{key}": getattr(rates, key) for key in ("sensitivity", "specificity", "ppv", "npv")}
        expected[f"{name}_auc"] = metrics.auc(p.grade >= lowest, p.severity)
        expected[f"{name}_average_precision"] = metrics.average_precision(p.grade >= lowest, p.severity)
    for key in ("specificity", "ppv", "f1"):
        expected |= {f"{key}_grade_{g}": v for g, v in enumerate(getattr(rates_per_grade(counts), key))}
    for name, number in expected.items():
        assert value[name] == pytest.approx(number, abs=1e-12), name
    assert set(METRICS) - set(expected) == {
        *("ece", "referable_ece", "referable_brier"),
        *(f"referable_{key}_ungradable_refer" for key in ("sensitivity", "specificity")),
    }
    assert summary["confusion"] == counts.tolist()


def test_ungradable_counts_as_referred_in_the_metrics_that_say_so(table, summary):
    p = table.select(table.grade >= 0)
    called = np.where(p.gradable, p.decoded, 4)
    counts = metrics.confusion(p.grade, called)
    found = summary["metrics"]
    assert found["referable_sensitivity_ungradable_refer"]["value"] == pytest.approx(metrics.sensitivity(counts))
    assert found["referable_specificity_ungradable_refer"]["value"] == pytest.approx(metrics.specificity(counts))
    assert found["referable_sensitivity"]["value"] != pytest.approx(metrics.sensitivity(counts))


def test_counts_and_origin(table, summary):
    known = table.grade >= 0
    assert summary["schema"] == SCHEMA
    assert (summary["system"], summary["bundle"], summary["split"]) == ("m2cnn", "ab12", "test, val")
    assert (summary["n_images"], summary["n_patients"]) == (80, 40)
    assert summary["n_ungradable"] == (~table.gradable).sum() > 0
    assert summary["n_without_grade"] == (~known).sum() > 0
    assert summary["n_scored"] == (known & table.gradable).sum()
    assert summary["bootstrap"] == {
        "unit": "patient",
        "method": METHOD,
        "level": 0.95,
        "patients": len(set(table.patient[known])),
        "replicates": 200,
        "seed": 4,
    }
    assert summary["context"] == {"command": "m2cnn evaluate"}
    assert summary["disclaimer"] == DISCLAIMER
    assert tuple(summary["metrics"]) == METRICS


def test_intervals_are_the_bootstrap_of_patients(summary):
    whole = predictions(refuse=0, unknown=0)
    low, high = interval(kappa_replicates(whole.grade, whole.decoded, whole.patient, 200, seed=4))
    found = summarise(whole, 200, seed=4)["metrics"]["qwk"]
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    for name, entry in summary["metrics"].items():
        # Of a calibration error it may end below the value, which is too large.
        assert entry["low"] < entry["high"] and (name in BIASED or entry["low"] < entry["value"] < entry["high"]), name


def test_shares_areas_and_f1_have_score_intervals(table):
    statistic, found = panel(table), summarise(table, 300, 2)["metrics"]
    drawn, values = bootstrap(statistic, statistic.patients, 300, 2), statistic.values()
    both = table.grade[table.gradable & (table.grade >= 0)] >= 2
    who = table.patient[table.gradable & (table.grade >= 0)]
    ill, well = set(who[both]), set(who[~both])
    pairs = min(len(ill), len(well), len(ill | well) // 2)
    assert statistic.pairs_of_areas()["referable_auc"] == pairs
    for name in ("referable_sensitivity", "any_npv", "accuracy", "macro_f1", "f1_grade_2", "referable_brier"):
        k = METRICS.index(name)
        bounds = score_interval(values[k], drawn[:, k])
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(bounds), name
    for name in ("referable_auc", "referable_average_precision"):
        k = METRICS.index(name)
        bounds = score_interval(values[k], drawn[:, k], pairs - 1)
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(bounds), name


def test_nothing_wrong_is_no_certainty():
    """Twelve patients of one eye, five of them referable: five pairs with nobody in common, all ranked rightly."""
    grade = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4])
    alone = [f"p{k}" for k in range(12)]
    p = predictions(6, refuse=0, unknown=0, grade=grade, decoded=grade, severity=grade.astype(float), patient=alone)
    found = summarise(p, 200)["metrics"]
    assert found["referable_auc"] == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 5)), "high": 1.0}
    assert found["any_auc"]["low"] == pytest.approx(0.025 ** (1 / 4))
    assert found["qwk"] == {"value": 1.0, "low": None, "high": None}
    assert found["referable_average_precision"] == {"value": 1.0, "low": None, "high": None}
    assert found["mse"] == {"value": 0.0, "low": None, "high": None}


def test_the_interval_of_a_calibration_error_is_that_of_its_gaps(table):
    statistic = panel(table)
    at = METRICS.index("ece")
    value = statistic.values()[at]
    own = statistic.gaps(np.ones((1, statistic.patients)))[0, 0]
    low, high = ece_bounds(own, bootstrap(statistic.gaps, statistic.patients, 300, 2)[:, 0])
    assert summarise(table, 300, 2)["metrics"]["ece"] == pytest.approx({"value": value, "low": low, "high": high})
    known = table.select((table.grade >= 0) & table.gradable)
    chance = known.probabilities[np.arange(len(known)), known.decoded]
    assert value == pytest.approx(expected_calibration_error(chance, known.decoded == known.grade))
    referable = known.probabilities[:, 2:].sum(axis=1).astype(float)
    brier = np.mean((referable - (known.grade >= 2)) ** 2)
    assert statistic.values()[METRICS.index("referable_brier")] == pytest.approx(brier, abs=1e-6)
    ours = expected_calibration_error(np.clip(referable, 0, 1), known.grade >= 2)
    assert statistic.values()[METRICS.index("referable_ece")] == pytest.approx(ours, abs=1e-6)


def test_a_system_without_probabilities_has_no_calibration_error(table):
    bare = replace(table, probabilities=np.full((len(table), 5), np.nan), place=None)
    found = summarise(bare, 20)["metrics"]
    assert {found[name]["value"] for name in ("ece", "referable_ece", "referable_brier")} == {None}
    assert found["qwk"]["value"] is not None


def test_replicates_of_every_metric_are_the_metric_of_copied_photographs(table):
    statistic = panel(table)
    counts = np.random.default_rng(2).multinomial(statistic.patients, [1 / statistic.patients] * statistic.patients, 3)
    names = np.unique(table.patient[table.grade >= 0])
    for drawn, found in zip(counts, statistic(counts.astype(float)), strict=True):
        rows = np.concatenate(
            [np.flatnonzero(table.patient == n) for n, k in zip(names, drawn, strict=True) for _ in range(k)]
        )
        fields = {name: getattr(table, name)[rows] for name in Predictions.__dataclass_fields__ if name != "place"}
        copied = Predictions(**(fields | {"image": np.arange(len(rows)).astype(str)}))
        np.testing.assert_allclose(found, panel(copied).values())


def test_same_seed_same_summary(table):
    assert summarise(table, 50, 1) == summarise(table, 50, 1)
    assert summarise(table, 50, 1) != summarise(table, 50, 2)


def test_predictive_values_at_a_stated_prevalence(table):
    plain = summarise(table, 100, 2)
    found = summarise(table, 100, 2, prevalence={"referable": 0.08, "any": 0.3})
    assert plain["prevalence"] == {} and found["prevalence"] == {"referable": 0.08, "any": 0.3}
    extra = {f"{name}_{key}_at_prevalence" for name in ("referable", "any") for key in ("ppv", "npv")}
    assert set(found["metrics"]) == set(METRICS) | extra
    assert {name: found["metrics"][name] for name in METRICS} == plain["metrics"]
    statistic = panel(table)
    drawn = bootstrap(statistic, statistic.patients, 100, 2)
    columns = [METRICS.index(f"any_{key}") for key in ("sensitivity", "specificity")]
    npv = found["metrics"]["any_npv_at_prevalence"]
    assert npv["value"] == pytest.approx(predictive_values(*statistic.values()[columns], 0.3)[1])
    assert (npv["low"], npv["high"]) == pytest.approx(interval(predictive_values(*drawn[:, columns].T, 0.3)[1]))
    text = to_text(found)
    assert "referable: PPV where 8.00% have it" in text and "any DR: NPV where 30.00% have it" in text
    assert max(map(len, text.splitlines())) < 100
    empty = summarise(predictions(patients=2, unknown=2), 20, prevalence={"any": 0.3})
    assert empty["metrics"]["any_ppv_at_prevalence"] == {"value": None, "low": None, "high": None}


def yes_or_no(grade, called):
    """One photograph of each patient, (N,) grades and whether each was called referable."""
    n, decoded = len(grade), np.where(called, 2, 0)
    blank, sure = [""] * n, np.eye(5)[decoded]
    names = [f"p{i}" for i in range(n)]
    columns = {"image": names, "patient": names, "eye": blank, "split": blank, "reason": blank, "bundle": blank}
    return predictions(
        patients=n // 2, refuse=0, unknown=0, grade=grade, decoded=decoded, severity=decoded.astype(float),
        probabilities=sure, gradable=[True] * n, system=["m2cnn"] * n, **columns,
    )  # fmt: skip


def test_where_nobody_is_missed_the_npv_at_a_prevalence_is_no_certainty():
    # 15 ill, all found: 0.782 to 1 by Clopper and Pearson. 1000 well, 100 of them called: 0.9, give or take 0.02.
    table = yes_or_no(np.repeat([2, 0], [15, 1000])[:1014], np.repeat([True, False], [115, 900])[:1014])
    found = summarise(table, 300, prevalence={"referable": 0.1})["metrics"]
    npv, ppv = (found[f"referable_{key}_at_prevalence"] for key in ("npv", "ppv"))
    assert npv["value"] == npv["high"] == 1.0
    assert (
        npv["low"] == pytest.approx(predictive_values(0.782, 0.9, 0.1)[1], abs=1e-3) == pytest.approx(0.974, abs=1e-3)
    )
    assert ppv["low"] < predictive_values(0.8, 0.9, 0.1)[0] < ppv["value"] < ppv["high"]
    # Nobody well is called, and nobody ill: nothing to say of who is called, the NPV is as that of a coin.
    none = summarise(yes_or_no(table.grade, np.zeros(1014, bool)), 300, prevalence={"referable": 0.1})["metrics"]
    assert none["referable_ppv_at_prevalence"]["value"] is None
    low, high = (none["referable_npv_at_prevalence"][side] for side in ("low", "high"))
    assert low < 0.9 < high == pytest.approx(predictive_values(0.218, 1.0, 0.1)[1], abs=1e-3)


def test_predictive_values_at_a_prevalence_are_held_where_few_are_missed():
    """In 60 studies of 40 ill and 100 well patients; plain percentiles held the NPV in 69 %, where 0.97 are found."""
    rng, ill = np.random.default_rng(1), np.arange(140) < 40
    true = predictive_values(0.97, 0.9, 0.1)
    held = np.zeros(2)
    for study in range(60):
        called = rng.random(140) < np.where(ill, 0.97, 0.1)
        statistic = panel(yes_or_no(np.where(ill, 2, 0), called))
        drawn = bootstrap(statistic, 140, 100, study)
        found = estimates_at(statistic, drawn, "referable", 0.1).values()
        held += [one.low <= value <= one.high for one, value in zip(found, true, strict=True)]
    assert (held / 60 >= 0.85).all()


@pytest.mark.parametrize(
    ("prevalence", "message"),
    [
        ({"referable": 8}, "prevalence: 8; expected between 0 and 1"),
        ({"referable": float("nan")}, "prevalence: nan"),
        ({"refrable": 0.1}, 'prevalence: "refrable"; expected an end-point. Did you mean "referable"'),
    ],
)
def test_a_prevalence_that_means_nothing_is_refused(table, prevalence, message):
    with pytest.raises(SettingError, match=message):
        summarise(table, 5, prevalence=prevalence)
    with pytest.raises(SettingError, match=message):  # evaluate asks this before it grades anything
        checked_prevalence(prevalence)


def test_an_older_file_is_told_as_far_as_it_goes(summary):
    older = {key: value for key, value in summary.items() if key != "prevalence"}
    older["metrics"] = {name: summary["metrics"][name] for name in ("qwk", "accuracy")}
    text = to_text(older)
    assert "QWK" in text and "macro" not in text


def test_what_is_undefined_is_null():
    p = predictions(patients=2, refuse=0, unknown=0, grade=[0, 0, 1, 1], decoded=[0, 0, 1, 1])
    found = summarise(p, 50)["metrics"]
    assert found["referable_auc"] == found["sensitivity_grade_4"] == {"value": None, "low": None, "high": None}
    # Half of the resamples of two patients draw one of them twice, and kappa of a single grade is undefined.
    assert found["qwk"] == {"value": 1.0, "low": None, "high": None}
    assert found["accuracy"] == {"value": 1.0, "low": pytest.approx(0.025**0.5), "high": 1.0}


def held_by(p, metric):
    """Who has photographs that the share is of, and how many patients they are, counted one by one."""
    rows = {
        "accuracy": p.gradable & (p.grade >= 0),
        "sensitivity_grade_1": p.gradable & (p.grade == 1),
        "specificity_grade_1": p.gradable & (p.grade >= 0) & (p.grade != 1),
        "ppv_grade_1": p.gradable & (p.grade >= 0) & (p.decoded == 1),
        "any_sensitivity": p.gradable & (p.grade >= 1),
        "referable_specificity": p.gradable & (p.grade >= 0) & (p.grade < 2),
        "vision_threatening_ppv": p.gradable & (p.grade >= 0) & (p.decoded >= 3),
        "referable_npv": p.gradable & (p.grade >= 0) & (p.decoded >= 0) & (p.decoded < 2),
        "referable_sensitivity_ungradable_refer": p.grade >= 2,
        "referable_specificity_ungradable_refer": (p.grade >= 0) & (p.grade < 2),
    }
    return len(set(p.patient[rows[metric]]))


@pytest.mark.parametrize("right", [True, False], ids=["all", "none"])
def test_a_share_that_all_or_none_have_is_no_certainty(right):
    grade = np.random.default_rng(5).integers(0, 5, 60)
    decoded = grade if right else np.where(grade >= 2, 0, 4)
    p = predictions(patients=30, refuse=0, unknown=0, grade=grade, decoded=decoded, severity=decoded.astype(float))
    found = summarise(p, 50)["metrics"]
    for metric in ("accuracy", "any_sensitivity", "vision_threatening_ppv", "referable_npv", "sensitivity_grade_1"):
        if not right and metric == "any_sensitivity":
            continue  # grade 1 called 4 is found
        patients = held_by(p, metric)
        low, high = (bound.item() for bound in clopper_pearson(patients * right, patients))
        assert found[metric] == {"value": float(right), "low": pytest.approx(low), "high": pytest.approx(high)}


def test_patients_of_shares_are_those_who_have_such_photographs(table):
    counts = panel(table).patients_of_shares()
    refer = ("referable_sensitivity_ungradable_refer", "referable_specificity_ungradable_refer")
    for metric in ("specificity_grade_1", "ppv_grade_1", "referable_specificity", *refer):
        assert counts[metric] == held_by(table, metric)
    no_shares = ("kappa", "qwk", "f1", "mse", "mae", "auc", "precision", "ece", "brier")
    assert set(counts) == {name for name in METRICS if not any(word in name for word in no_shares)}


@pytest.mark.parametrize("columns", [{"unknown": 2}, {"refuse": 2}])
def test_nothing_to_score_is_null_everywhere_and_counted(columns):
    summary = summarise(predictions(patients=3, **columns), 20)
    assert summary["n_scored"] == 0
    assert summary["metrics"]["qwk"] == {"value": None, "low": None, "high": None}
    assert np.sum(summary["confusion"]) == 0
    assert "undefined" in to_text(summary)


def test_a_single_patient_has_values_without_intervals():
    found = summarise(predictions(patients=1, refuse=0, unknown=0, grade=[1, 3], decoded=[1, 2]), 20)["metrics"][
        "accuracy"
    ]
    assert found == {"value": 0.5, "low": None, "high": None}


def test_no_photograph_and_two_systems_are_refused(table):
    with pytest.raises(DataError, match="predictions: no photograph; expected at least one"):
        summarise(table.select([]))
    mixed = predictions(patients=1, system=["a", "b"])
    with pytest.raises(DataError, match="systems a, b; expected one system"):
        summarise(mixed)


# --- file and text ---


def test_file_returns_the_summary(summary, tmp_path):
    write_metrics(summary, tmp_path / "run" / "metrics.json")
    assert read_metrics(tmp_path / "run" / "metrics.json") == summary
    assert "NaN" not in (tmp_path / "run" / "metrics.json").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"metrics\.json: no JSON"),
        (json.dumps({"schema": "m2cnn.metrics/9"}), r"schema is 'm2cnn\.metrics/9'; expected \"m2cnn\.metrics/1\""),
        ("[]", "schema is None"),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_metrics(tmp_path / "metrics.json")


def test_no_file_and_no_json(summary, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_metrics(tmp_path / "metrics.json")
    with pytest.raises(DataError, match=r"metrics\.json: .*not JSON compliant.*; expected values that JSON can hold"):
        write_metrics(summary | {"context": {"loss": float("nan")}}, tmp_path / "metrics.json")
    assert not list(tmp_path.iterdir())


def test_text_shows_kappa_its_interval_and_the_disclaimer(summary):
    q = summary["metrics"]["qwk"]
    text = to_text(summary)
    assert f"{q['value']:.3f} ({q['low']:.3f} to {q['high']:.3f})" in text
    assert "m2cnn on test, val: 80 photographs of 40 patients" in text
    assert text.endswith(DISCLAIMER + "\n")
    assert max(map(len, text.splitlines())) < 100
