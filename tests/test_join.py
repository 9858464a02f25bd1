"""Systems of several members and of both eyes: trained, joined, resumed, graded; and a ninth row needs nothing else."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from m2cnn.bundle import load_bundle
from m2cnn.combine import Blend, Elastic, Forest
from m2cnn.cuts import fit_cuts
from m2cnn.data.augment import Augment
from m2cnn.data.views import Views
from m2cnn.errors import BundleError, SettingError
from m2cnn.grader import Grader, Photo, exams
from m2cnn.models import MinPooling, OOSettings, ReformedGamblers
from m2cnn.predictions import read_predictions
from m2cnn.preprocess import graham
from m2cnn.recipe import recipe_from_dict
from m2cnn.systems import Member, System
from m2cnn.tasks import Classification, Regression
from m2cnn.train import resume, train

TURNS = Augment(rotation=180, scale=0, shift=0, brightness=0, contrast=0)


def recipe(stages, **tables):
    common = {"precision": "32", "optimiser": {"name": "adamw"}, "system": "a row of a test"}
    return recipe_from_dict(common | {"stages": stages} | tables)


def stage(size, **more):
    return {"size": size, "epochs": 1, "lr": 0.001, "batch": 8} | more


PAIR = System(
    "pair",
    "o_O, as small as it gets",
    (
        Member(
            OOSettings("a", 112, 1 / 8, 8),
            Regression(),
            name="a",
            views=Views("halton", 2, 0, TURNS),
            frame=8 / 7,
            snapshots=("kappa", "last"),
        ),
        Member(OOSettings("b", 112, 1 / 8, 8), Regression(), name="b"),
    ),
    "a test",
    combiner=Blend(epochs=2, units=4, fit_cuts=True),
)


@pytest.fixture(scope="module")
def pair_run(rendered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "run"
    train(recipe([stage(112)], members={"b": {"augment": {"rotation": 0}}}), rendered, folder, system=PAIR)
    return folder


def test_every_set_of_weights_is_a_member(pair_run):
    bundle = load_bundle(pair_run)
    assert list(bundle.members) == ["a", "a-last", "b"]
    assert bundle.combiner == replace(PAIR.combiner, cuts=bundle.combiner.cuts)
    assert bundle.members["a"].prepared == 128
    assert [each.views.start for each in bundle.networks] == [0, 2, 0]
    recipes = {name: each.settings["training"]["recipe"] for name, each in bundle.members.items()}
    assert (recipes["a"]["augment"]["rotation"], recipes["b"]["augment"]["rotation"]) == (180, 0)
    kept = [each.settings["training"]["snapshot"] for each in bundle.networks]
    assert kept == ["kappa", "last", "kappa"]
    assert bundle.settings["training"]["combiner"]["patients"] == len(
        {row.patient for row in read_manifest_of(pair_run) if row.split == "train"}
    )


def test_cuts_are_those_of_validation_patients(pair_run):
    table = read_predictions(pair_run / "val" / "predictions.csv")
    cuts = load_bundle(pair_run).combiner.cuts
    assert cuts == pytest.approx(fit_cuts(table.severity, table.grade, Blend().cuts), abs=1e-4)
    assert load_bundle(pair_run).settings["training"]["combiner"]["cuts_fitted_on"] == len(table)


def read_manifest_of(run):
    from m2cnn.data.manifest import read_manifest

    return read_manifest(run / "manifest.csv")


def test_onnx_and_torch_grade_alike(pair_run, rendered):
    pairs = list(by_patient(rendered))[:3]
    gradings = [list(Grader.load(pair_run, backend).grade_exams(pairs)) for backend in ("onnx", "torch")]
    ours, theirs = ([[g.severity for g in exam] for exam in each] for each in gradings)
    assert np.allclose(ours, theirs, atol=1e-4)


def by_patient(manifest):
    patients = {}
    for row in manifest:
        patients.setdefault(row.patient, []).append(Photo(manifest.path(row), row.eye))
    return patients.values()


def test_the_other_eye_counts_and_a_missing_one_is_as_this(pair_run, rendered, tmp_path):
    grader = Grader.load(pair_run)
    left, right = next(iter(by_patient(rendered)))
    both = next(grader.grade_exams([[left, right]]))
    alone = grader.grade(left.source)
    assert both[0].severity != alone.severity
    assert [grading.caution for grading in both] == ["", ""]
    # The same photograph as both eyes is what a missing eye is taken to be; but the side is known then.
    lonely = next(grader.grade_exams([[left]]))[0]
    (tmp_path / "broken.jpeg").write_bytes(b"no photograph")
    unreadable = next(grader.grade_exams([[left, Photo(tmp_path / "broken.jpeg", "right")]]))
    assert unreadable[0] == lonely
    assert "the other eye was not seen" in lonely.caution == alone.caution
    assert not unreadable[1].gradable


def test_a_combiner_that_overflows_gives_no_grade(pair_run, rendered):
    grader = Grader.load(pair_run)
    said = grader.combine

    def broken(eyes):
        decoded = said(eyes)
        decoded.severity[0] = np.nan
        return decoded

    grader.combine = broken
    first, second = next(grader.grade_exams([next(iter(by_patient(rendered)))]))
    assert (first.gradable, first.grade, second.gradable) == (False, None, True)
    assert "no finite number" in first.reason


def test_evaluate_joins_the_eyes_of_a_patient(pair_run, rendered):
    table = read_predictions(pair_run / "test" / "predictions.csv")
    grader = Grader.load(pair_run)
    place = {str(rendered.path(row).name): row for row in rendered}
    for exam in by_patient(rendered):
        names = [photo.source.name for photo in exam]
        if place[names[0]].split != "test":
            continue
        said = {g.image.rpartition("/")[2]: g.severity for g in next(grader.grade_exams([exam]))}
        for name in names:
            row = int(np.flatnonzero(table.image == place[name].image)[0])
            assert table.severity[row] == pytest.approx(said[name], abs=1e-5)


def test_names_of_files_tell_the_eyes(tmp_path):
    files = [tmp_path / name for name in ("1_left.jpeg", "1_right.jpeg", "IDRiD_1.jpg", "IDRiD_2.jpg", "2_right.jpeg")]
    found = [[photo.source.name for photo in exam] for exam in exams(files)]
    assert found == [["1_left.jpeg", "1_right.jpeg"], ["IDRiD_1.jpg"], ["IDRiD_2.jpg"], ["2_right.jpeg"]]
    assert [len(exam) for exam in exams(files, joined=False)] == [1] * 5
    files = [tmp_path / name for name in ("M/left.jpg", "M/right.jpg", "S/left.jpg", "S/7 OD.jpg", "S/7 OS.jpg")]
    assert [[photo.eye for photo in exam] for exam in exams(files)] == [["left", "right"], ["left"], ["right", "left"]]


def test_an_interrupted_join_goes_on(pair_run, rendered, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(pair_run, copy)
    for name in ("bundle", "test", "val", "members/b/bundle"):
        shutil.rmtree(copy / name)
    (copy / "done.json").unlink()
    next((copy / "features").glob("a-*.npz")).unlink()
    again = resume(copy, system=PAIR)
    assert again.settings["files"] == load_bundle(pair_run).settings["files"]


@pytest.mark.parametrize("name", ["combiner.onnx", "members/b/model.onnx", "members/a-last/system.json"])
def test_a_changed_file_of_a_member_is_refused(pair_run, tmp_path, name):
    copy = tmp_path / "bundle"
    shutil.copytree(pair_run / "bundle", copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=r"sha256"):
        load_bundle(copy)


def test_a_member_outside_the_bundle_is_refused(pair_run, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(pair_run / "bundle", copy)
    settings = json.loads((copy / "system.json").read_text())
    settings["members"]["../b"] = settings["members"].pop("b")
    (copy / "system.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match="a plain name"):
        load_bundle(copy)


def test_min_poolings_forest(rendered, tmp_path):
    turns = Views("random", 2, 0, TURNS)
    members = tuple(
        Member(MinPooling(net, tiny=True), Classification(rule="expectation"), graham(24, 67), f"net-{net}", turns)
        for net in (1, 2)
    )
    row = System("tiny-min-pooling", "Min-pooling", members, "a test", combiner=Forest(trees=5, leaf=3, radius=64))
    settings = recipe(
        [stage(members[0].network.size, rescale=2)],
        members={"net-2": {"stages": [stage(members[1].network.size, rescale=2)]}},
    )
    bundle = train(settings, rendered, tmp_path / "run", system=row)
    gradings = next(Grader(bundle, bundle.readers()).grade_exams([next(iter(by_patient(rendered)))]))
    assert all(sum(g.probabilities) == pytest.approx(1, abs=1e-5) for g in gradings)


def test_gamblers_start_from_each_other_and_learn_pseudo_labels(rendered, tmp_path):
    def gambler(name, row, **more):
        network = ReformedGamblers(row)
        views = Views("one", augment=replace(TURNS, crop=(0.8, 0.95)))
        frame = network.row.frame / network.size
        return Member(network, Regression(clipped=True), name=name, views=views, frame=frame, **more)

    members = (
        gambler("m46", "tiny-m46"),
        gambler("m53", "tiny-m53", start="m46", gap=1),
        gambler("m53_psl", "tiny-m53", start="m53", pseudo=True),
    )
    row = System("tiny-gamblers", "Reformed Gamblers", members, "a test", combiner=Elastic(folds=3, lambdas=5))
    settings = recipe([stage(95)], augment={"crop": [0.8, 0.95]})
    train_rows = [r for r in rendered if r.split == "train"]
    ungraded = {r.image for r in train_rows[:4]}
    manifest = replace(
        rendered, rows=tuple(replace(r, grade=None) if r.image in ungraded else r for r in rendered.rows)
    )
    bundle = train(settings, manifest, tmp_path / "run", system=row)
    facts = {name: each.settings["training"]["photographs"] for name, each in bundle.members.items()}
    assert [each.settings["training"]["start"] for each in bundle.networks] == ["", "m46", "m53"]
    assert facts["m46"] == len(train_rows) - 4
    assert facts["m53"] <= facts["m46"]
    labelled = read_predictions(tmp_path / "run/members/m53_psl/pseudo-labels/predictions.csv")
    assert facts["m53_psl"] == facts["m46"] + int(labelled.gradable.sum())
    assert set(labelled.image) == ungraded


def test_a_system_that_makes_no_sense_is_refused(rendered, tmp_path):
    a, b = PAIR.members
    wrong = {
        "a combiner that joins them": replace(PAIR, combiner=None),
        "a name of its own": replace(PAIR, members=(a, replace(b, name="a"))),
        "a member before it": replace(PAIR, members=(replace(a, start="b"), b)),
    }
    for words, system in wrong.items():
        with pytest.raises(SettingError, match=words):
            train(recipe([stage(112)]), rendered, tmp_path / "no", system=system)
    with pytest.raises(SettingError, match=r'members: "c".*a member of pair'):
        train(recipe([stage(112)], members={"c": {}}), rendered, tmp_path / "no", system=PAIR)
