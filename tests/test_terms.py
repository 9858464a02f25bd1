"""Who may use weights: the strictest of what the publishers of the training photographs say, whatever came between."""

import json
import shutil
from dataclasses import replace

import pytest

from m2cnn.bundle import load_bundle
from m2cnn.combine import Mean
from m2cnn.data import IMPORTERS, Manifest, Row
from m2cnn.data.terms import NAMELESS, USES, Source, Terms, terms_of
from m2cnn.ensemble import combine_runs
from m2cnn.errors import SettingError
from m2cnn.synthetic.dataset import SOURCE
from m2cnn.train import open_run


def test_every_set_with_terms_has_a_use_and_no_other_has():
    for importer in IMPORTERS.values():
        assert importer.use in USES
        assert importer.terms or importer.use == "unknown"
    assert {name for name, importer in IMPORTERS.items() if importer.use == "research only"} == {
        "eyepacs",
        "aptos",
        "messidor2",
    }


@pytest.mark.parametrize(
    ("sources", "use"),
    [
        ([SOURCE], "free"),
        ([SOURCE, "idrid"], "attribution"),
        (["idrid", "deepdrid"], "share alike"),
        (["idrid", "ddr"], "unknown"),
        (["idrid", "clinic"], "unknown"),
        (["idrid", ""], "unknown"),
        (["idrid", "eyepacs"], "research only"),
        (["clinic", "eyepacs-private"], "research only"),
        ([], "unknown"),
    ],
)
def test_the_strictest_counts_and_all_are_listed(sources, use):
    terms = terms_of(sources)
    assert terms.use == use
    assert [source.name for source in terms.sources] == [name or NAMELESS for name in sorted(sources)]
    assert all(source.terms in terms.text and source.name in terms.text for source in terms.sources)
    assert Terms.from_dict(json.loads(json.dumps(terms.to_dict()))) == terms


def test_an_unknown_source_says_that_its_terms_apply():
    assert terms_of(["clinic"]).text == (
        "Weights: the terms of the training photographs apply (clinic: the terms of its photographs apply). "
        "Code: Apache-2.0."
    )
    assert (
        "for research only (clinic: the terms of its photographs apply; eyepacs: "
        in terms_of(["eyepacs", "clinic"]).text
    )


def test_a_use_that_nobody_knows_is_refused():
    with pytest.raises(SettingError, match='Did you mean "free"'):
        Source("x", "fre")


def test_a_bundle_carries_the_terms_of_its_photographs(tiny_run):
    bundle = load_bundle(tiny_run)
    assert bundle.terms == terms_of([SOURCE])
    assert bundle.settings["licence"] == bundle.terms.text
    counts = bundle.settings["training"]["counts"]
    assert sum(counts["train"][SOURCE]["grades"]) == bundle.settings["training"]["photographs"]
    assert "grades" not in counts["lockbox"][SOURCE]


def test_an_older_bundle_has_unknown_terms(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run / "bundle", tmp_path / "old")
    settings = json.loads((folder / "system.json").read_text())
    del settings["terms"]
    (folder / "system.json").write_text(json.dumps(settings))
    assert load_bundle(folder).terms.use == "unknown"


def test_a_run_that_goes_on_keeps_the_terms_of_its_start(tiny_run):
    run = open_run(tiny_run)
    start = replace(load_bundle(tiny_run), terms=terms_of(["eyepacs"]))
    assert replace(run, start=start).terms.use == "research only"
    assert [source.name for source in replace(run, start=start).terms.sources] == [SOURCE, "eyepacs"]
    part = replace(run, start=start).part(run.system.members[0])
    assert part.terms.use == "research only"


def test_of_a_run_only_what_taught_it_counts(tiny_run):
    run = open_run(tiny_run)
    rows = tuple(replace(row, source="eyepacs" if row.split == "test" else "idrid") for row in run.manifest)
    assert replace(run, manifest=Manifest(rows, run.manifest.root)).terms.use == "attribution"
    rows = (*rows, Row("x.png", "x", split="val", source="eyepacs"))
    assert replace(run, manifest=Manifest(rows, run.manifest.root)).terms.use == "research only"


def test_joined_runs_have_the_terms_of_all(tiny_run, tmp_path):
    runs = [shutil.copytree(tiny_run, tmp_path / name) for name in ("one", "two")]
    settings = json.loads((runs[1] / "bundle" / "system.json").read_text())
    settings["terms"] = terms_of(["eyepacs"]).to_dict()
    (runs[1] / "bundle" / "system.json").write_text(json.dumps(settings))
    bundle = combine_runs(runs, Mean(), tmp_path / "out")
    assert [source.name for source in bundle.terms.sources] == [SOURCE, "eyepacs"]
    assert "for research only" in bundle.settings["licence"]
