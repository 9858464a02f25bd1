"""`m2cnn explain` and `m2cnn explain-score` from bundles and photographs to files."""

import csv
import json
import shutil
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from m2cnn.bundle import load_network
from m2cnn.cli import OK, REFUSED, main
from m2cnn.cli_verb import UNGRADED
from m2cnn.combine import Mean
from m2cnn.combine_fit import fit
from m2cnn.data.augment import Augment
from m2cnn.data.views import Views
from m2cnn.errors import DataError, SettingError
from m2cnn.explain import maps, scoring
from m2cnn.explain.explaining import explain_photographs
from m2cnn.explain.masks import marked_set
from m2cnn.explain.sanity import at_random
from m2cnn.explain.scores import rank_correlation
from m2cnn.explain.scoring import Score, edges, score_models
from m2cnn.explain.shown import lesions_shown, show
from m2cnn.explain.table import lines, to_csv, to_markdown
from m2cnn.export import Origin, save_bundle, save_combined
from m2cnn.eyes import Eyes
from m2cnn.models import NetworkSettings, ZoomInNet
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.synthetic.dataset import Rendering, render_dataset
from m2cnn.systems import get
from m2cnn.tasks import Classification, Decoded

SLIM = NetworkSettings(width=1 / 16, repeats=(1, 1, 1), residual_blocks=1, ladder="quarter")
ORIGIN = Origin("basenet-mt", "test", {}, b"none")


def bundle_of(folder, seed=0, size=112, **changes):
    """An untrained network with random weights: maps need no accuracy."""
    torch.manual_seed(seed)
    member = replace(get("basenet-mt").members[0], **({"network": SLIM} | changes))
    network = member.network.build(member.task.outputs).eval()
    return save_bundle(folder, network, member, ORIGIN, size=size, cells=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("model") / "bundle", seed=5)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Six rendered photographs of three patients, with masks."""
    folder = tmp_path_factory.mktemp("marked") / "rendered"
    render_dataset(folder, 3, Rendering(7, 256, grades=(0, 0, 1, 1, 1), file_format="png", masks=True), workers=1)
    return folder


@pytest.fixture
def two(marked):
    return sorted(marked.glob("*.png"))[:2]


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


# --- maps ---


def test_explain_writes_maps_and_an_index(capsys, model, two, tmp_path):
    bad = tmp_path / "black.png"
    cv2.imwrite(str(bad), np.zeros((300, 300, 3), np.uint8))
    code, out, _ = run(capsys, "explain", model.folder, *two, bad, "--out", tmp_path / "out")
    assert code == UNGRADED
    assert f"{bad}: no map: " in out
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert (index["model"], index["system"]) == (model.hash, "basenet-mt")
    assert [each["photograph"] for each in index["refused"]] == [str(bad)] and index["refused"][0]["reason"]
    assert len(index["maps"]) == 2 * 4 * 2 and {each["photograph"] for each in index["maps"]} == set(map(str, two))
    checked = {each["method"]: each for each in index["checks"]}
    assert set(checked) == {name for name in maps.METHODS if name != "attention"}
    assert checked["occlusion"]["photographs"] == 2  # a Grad-CAM at random weights may be blank
    for each in index["maps"]:
        heat = np.load(tmp_path / "out" / each["array"])
        assert heat.shape == (112, 112) and np.isfinite(heat).all()
        assert cv2.imread(str(tmp_path / "out" / each["picture"])).shape[1] == 1090
        assert each["target"] in ("severity", f"grade {each['grade']}")
        assert each["model"] == model.hash


def test_the_same_call_writes_the_same_bytes(model, two, tmp_path):
    for name in ("a", "b"):
        explain_photographs(model.folder, two[:1], tmp_path / name, ["grad-cam", "occlusion"], ["severity"])
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 5
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_a_method_that_ignores_the_weights_is_flagged_everywhere(model, two, tmp_path, monkeypatch):
    monkeypatch.setitem(maps.METHODS, "occlusion", lambda network, shown, targets: [edges(shown)] * len(targets))
    index = explain_photographs(model.folder, two, tmp_path, ["grad-cam", "occlusion"], ["severity"])
    warned = {each["method"]: each["warning"] for each in index["maps"]}
    assert "fails the check with random weights (rank correlation 1.00 on 2 photographs" in warned["occlusion"]
    assert {each["method"] for each in index["checks"] if "fails" in each["warning"]} >= {"occlusion"}
    pages = {each["method"]: cv2.imread(str(tmp_path / each["picture"])) for each in index["maps"][:2]}
    alarm = {name: int(((page[500:, :, 2] > 150) & (page[500:, :, 0] < 60)).sum()) for name, page in pages.items()}
    assert alarm["occlusion"] > 50


def test_each_member_of_a_combined_model_is_explained(capsys, model, two, tmp_path):
    other = bundle_of(tmp_path / "other", seed=1, size=128)
    none = Decoded(None, np.zeros(0), np.zeros(0, int))
    fitted = fit(Mean(), Eyes((none, none), (), None, np.zeros(0), np.zeros(0, int)), (), (), 0)
    members = {"one": model, "two": other}
    combined = save_combined(tmp_path / "both", members, fitted.combiner, fitted.onnx, ORIGIN)
    index = explain_photographs(combined.folder, two[:1], tmp_path / "out", ["grad-cam"], ["severity"])
    assert [each["member"] for each in index["maps"]] == ["one", "two"]
    assert [np.load(tmp_path / "out" / each["array"]).shape for each in index["maps"]] == [(112, 112), (128, 128)]
    assert all(f"of member {each['member']} alone" in each["warning"] for each in index["maps"])
    assert {each["model"] for each in index["maps"]} == {combined.hash}
    assert not any("of one eye alone" in each["warning"] for each in index["maps"])
    words = ("--methods", "grad-cam", "--targets", "severity", "--out", tmp_path / "said")
    assert "each map is of one member alone (one, two)" in run(capsys, "explain", combined.folder, two[0], *words)[1]
    assert "alone" not in run(capsys, "explain", model.folder, two[0], *words)[1]


def test_a_map_of_a_model_that_joins_eyes_is_of_one(model, two, tmp_path):
    combiner = Mean(other=0.5)
    none = Decoded(None, np.zeros(0), np.zeros(0, int))
    fitted = fit(combiner, Eyes((none,), (), None, np.zeros(0), np.zeros(0, int)), (), (), 0)
    combined = save_combined(tmp_path / "both", {"one": model}, fitted.combiner, fitted.onnx, ORIGIN)
    index = explain_photographs(combined.folder, two, tmp_path / "out", ["grad-cam"], ["severity"])
    assert len(index["maps"]) == 2
    assert all("of one eye alone" in each["warning"] and "member" not in each["warning"] for each in index["maps"])


def test_a_zoom_in_net_shows_its_attention_and_boxes(two, tmp_path):
    zoom = ZoomInNet(parts="ma", width=1 / 16, repeats=(1, 1, 1), ladder="quarter", patch=96)
    bundle = bundle_of(tmp_path / "bundle", size=128, network=zoom, task=Classification())
    index = explain_photographs(bundle.folder, two[:1], tmp_path / "out", ["attention"])
    assert [each["target"].split()[0] for each in index["maps"]] == ["grade", "severity"]
    assert all(len(each["boxes"]) == 4 for each in index["maps"])
    page = cv2.imread(str(tmp_path / "out" / index["maps"][1]["picture"]))[12:492, 504:984]
    top, left, bottom, right = (round(edge * 480 / 128) for edge in index["maps"][1]["boxes"][0])
    assert (page[top, left:right] == 255).all(axis=1).mean() > 0.9  # a white frame
    assert bottom - top == right - left


def test_what_cannot_be_explained_is_refused(capsys, model, two, tmp_path, monkeypatch):
    words = ("explain", model.folder, two[0], "--out", tmp_path)
    for more, said in (
        (("--methods", "gradcam"), 'Did you mean "grad-cam"'),
        (("--targets", "grades"), 'Did you mean "grade"'),
        (("--targets", ","), "expected grade, severity or both"),
    ):
        code, _, err = run(capsys, *words, *more)
        assert code == REFUSED and said in err
    code, _, err = run(capsys, "explain", tmp_path, two[0], "--out", tmp_path)
    assert code == REFUSED and "no such file" in err
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = run(capsys, *words)
    assert code == REFUSED and "pip install 'm2cnn[train]'" in err


def test_nothing_but_refusals_needs_no_network_at_random(model, tmp_path):
    (tmp_path / "bad.jpg").write_text("text")
    index = explain_photographs(model.folder, [tmp_path / "bad.jpg"], tmp_path / "out")
    assert index["maps"] == index["checks"] == [] and "unreadable" in index["refused"][0]["reason"]


# --- coordinates ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preprocess": Preprocess("graham", 0.2)},
        {"frame": 1.25, "views": Views("random", 3, 0, Augment(crop=(0.6, 0.8)))},
    ],
    ids=["plain", "graham", "views"],
)
def test_a_place_of_the_map_is_that_place_of_the_photograph(tmp_path, changes):
    """A white mark at known pixels of a large JPEG, which is decoded at half its size or less."""
    bundle = bundle_of(tmp_path / "bundle", **changes)
    yy, xx = np.mgrid[:1600, :2000]
    image = np.zeros((1600, 2000, 3), np.uint8)
    image[(xx - 1010) ** 2 + (yy - 790) ** 2 < 700**2] = (40, 80, 160)
    places = np.array([(900, 700), (1250, 820), (1000, 1000)])
    mask = np.zeros((1600, 2000), bool)
    for x, y in places:
        image[y - 12 : y + 13, x - 12 : x + 13] = 255
        mask[y - 12 : y + 13, x - 12 : x + 13] = True
    path = tmp_path / "marked.jpg"
    cv2.imwrite(str(path), image)
    file = PhotographFile(path)
    shown, lesions = show(bundle, file), lesions_shown(bundle, file, mask)
    inverse = np.linalg.inv(np.vstack([shown.to_photograph, [0, 0, 1]]))
    step = shown.to_photograph[0, 0]
    blue = shown.picture[..., 0].astype(float)
    for x, y in places:
        u, v, _ = inverse @ (x, y, 1)
        around = np.s_[round(v) - 3 : round(v) + 4, round(u) - 3 : round(u) + 4]
        weight = lesions[around] * 1.0
        centre = [(weight * grid).sum() / weight.sum() for grid in np.mgrid[around]]
        assert centre == pytest.approx([v, u], abs=0.6)
        assert blue[around].max() > np.median(blue[shown.inside]) + 15
    assert mask.sum() * 0.9 < lesions.sum() * step**2 < mask.sum() * 3.5  # every pixel that a lesion touches
    assert shown.inside.mean() > 0.4


def test_the_network_at_random_is_another_one_and_the_same_each_time(model):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    state = torch.get_rng_state()
    first, second = at_random(model, pictures), at_random(model, pictures)
    assert torch.equal(torch.get_rng_state(), state)
    learnt = load_network(model)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.classif.weight, learnt.classif.weight)
    assert np.isfinite(maps.answer(first, pictures)).all()


# --- scores ---


def test_score_makes_the_table(capsys, model, marked, tmp_path):
    words = ("explain-score", model.folder, "--masks", marked, "--out", tmp_path, "--replicates", 50)
    words += ("--methods", "grad-cam,integrated-gradients", "--targets", "severity", "--costly", 3)
    code, out, _ = run(capsys, *words)
    assert code == OK
    assert "| set | model | target | method |" in out and "**fails**" in out
    assert "severity, edges: fails the check with random weights" in out
    table = (tmp_path / "explanations.csv").read_text().splitlines()
    rows = {row["method"]: row for row in csv.DictReader(table)}
    assert set(rows) == {"grad-cam", "integrated-gradients", "edges", "chance"}
    assert {row["model"] for row in rows.values()} == {model.hash}
    assert {(row["maps"], row["costly"]) for row in rows.values()} == {("6", "3")}
    assert float(rows["edges"]["correlation"]) == 1 and rows["edges"]["warning"]
    assert float(rows["chance"]["deletion_gain"]) == 0
    for row in rows.values():
        assert float(row["hit_low"]) <= float(row["hit"]) <= float(row["hit_high"])
    written = (tmp_path / "scores.csv").read_bytes()
    assert run(capsys, *words)[1] == out and (tmp_path / "scores.csv").read_bytes() == written


def test_scores_are_not_measured_twice_and_more_can_be_added(model, marked, tmp_path, monkeypatch):
    settings = {"methods": ["grad-cam"], "targets": ["severity"]}
    first = score_models([model.folder], [marked], tmp_path, costly=1, **settings)
    assert sum(score.deletion == score.deletion for score in first) == 3  # grad-cam and two controls
    more = score_models([model.folder], [marked], tmp_path, costly=2, **settings)
    assert sum(score.deletion == score.deletion for score in more) >= 6
    monkeypatch.setattr(scoring, "show", lambda *_: pytest.fail("measured again"))
    again = score_models([model.folder], [marked], tmp_path, costly=2, **settings)
    assert list(map(repr, again)) == list(map(repr, more))  # NaN is not itself


def test_fewer_photographs_are_spread_over_a_set(model, marked, tmp_path):
    scores = score_models([model.folder], [marked], tmp_path, ["grad-cam"], ["severity"], most=2, costly=1)
    names = [path.name for path in sorted(marked.glob("*.png"))]
    assert [each.photograph for each in scores if each.method == "grad-cam"] == [names[1], names[4]]


def test_scores_agree_with_maps_made_by_hand(model, marked, tmp_path):
    (score,) = [
        each
        for each in score_models([model.folder], [marked], tmp_path, ["occlusion"], ["severity"], costly=1)
        if each.method == "occlusion" and each.correlation == each.correlation
    ]
    file = PhotographFile(marked / score.photograph)
    shown = show(model, file)
    target = scoring.targets_of(model.task, ["severity"], 0)
    network = maps.ready(load_network(model))
    (heat,) = maps.explain(network, shown, target, "occlusion")
    one = next(each for each in marked_set(marked).photographs if each.path.name == score.photograph)
    lesions = lesions_shown(model, file, one.lesions()) & shown.inside
    assert score.mass == pytest.approx(np.maximum(heat, 0)[lesions].sum() / np.maximum(heat, 0).sum(), rel=1e-4)
    twin = at_random(model, shown.picture[None])
    (other,) = maps.explain(twin, shown, target, "occlusion")
    assert score.correlation == pytest.approx(rank_correlation(heat, other, shown.inside), abs=1e-6)


def test_photographs_of_one_name_in_two_folders_are_two(model, marked, tmp_path):
    other = shutil.copytree(marked, tmp_path / "other" / marked.name)
    max(other.glob("*.png")).unlink()
    settings = {"methods": ["grad-cam"], "targets": ["severity"], "costly": 1}
    scores = score_models([model.folder], [marked, other], tmp_path / "out", **settings)
    found = [(each.set, each.photograph) for each in scores if each.method == "grad-cam"]
    assert len(set(found)) == len(found) == 11 and {one for one, _ in found} == {str(marked), str(other)}
    # Alone each would have the folder's name: scores of the larger one are not taken for the smaller one's.
    score_models([model.folder], [marked], tmp_path / "out", **settings)
    with pytest.raises(DataError, match=r'which set "rendered" does not have; expected .* Choose another --out'):
        score_models([model.folder], [other], tmp_path / "out", **settings)


def test_refused_photographs_are_left_out_with_a_reason(model, marked, tmp_path):
    copy = shutil.copytree(marked, tmp_path / "copy")
    first = sorted(copy.glob("*.png"))[0]
    cv2.imwrite(str(first), np.zeros((256, 256, 3), np.uint8))
    scores = score_models([model.folder], [copy], tmp_path / "out", ["grad-cam"], ["severity"], costly=2)
    refused = [each for each in scores if each.reason]
    assert {each.photograph for each in refused} == {first.name} and len(refused) == 3
    text = to_markdown(lines(scores, 20), refused)
    assert f"- {first.name}, severity: left out (" in text and "| 5 (" in text


def a_score(patient, method="grad-cam", hit=0.0, **more):
    numbers = {"hit_chance": 0.25, "mass": 0.5, "mass_chance": 0.1, "deletion": 0.2, "insertion": 0.6}
    name = f"{patient}-{method}"
    fixed = ("s", name.split("-")[0], patient, "hash", "m2cnn", "", method, "severity", 2, hit)
    return Score(*fixed, **(numbers | {"correlation": 0.1} | more))


def test_the_table_by_hand():
    scores = [a_score("a", hit=1.0), a_score("b", correlation=-0.9), a_score("c", hit=1.0, correlation=0.8)]
    scores += [a_score(p, "chance", deletion=0.5, insertion=0.5, correlation=1.0) for p in "abc"]
    line = lines(scores, 200)[0]
    assert (line.maps, line.costly) == (3, 3)
    assert line.hit.value == pytest.approx(2 / 3) and line.hit_gain.value == pytest.approx(2 / 3 - 0.25)
    assert line.mass_gain.value == pytest.approx(0.4) and line.mass_gain.low == pytest.approx(0.4)
    assert line.deletion_gain.value == pytest.approx(-0.3) and line.insertion_gain.value == pytest.approx(0.1)
    assert line.correlation.value == pytest.approx(0.6) and "fails" in line.warning
    assert (line.hit.low, line.hit.high) == (0, 1)
    assert "| +0.400 (+0.400 to +0.400) |" in to_markdown([line]) and "**fails**" in to_markdown([line])
    (row,) = csv.DictReader(to_csv([line]).decode().splitlines())
    assert float(row["mass_gain"]) == pytest.approx(0.4) and row["warning"] == line.warning


# --- masks ---


def test_idrids_masks_are_merged(tmp_path):
    images = tmp_path / "A. Segmentation/1. Original Images/a. Training Set"
    truths = tmp_path / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
    images.mkdir(parents=True)
    for name in ("IDRiD_01", "IDRiD_02"):
        cv2.imwrite(str(images / f"{name}.jpg"), np.zeros((40, 60, 3), np.uint8))
    for number, kind in enumerate(("MA", "SE", "OD")):
        mask = np.zeros((40, 60), np.uint8)
        mask[number, 5] = 255
        (truths / kind).mkdir(parents=True)
        cv2.imwrite(str(truths / kind / f"IDRiD_01_{kind}.tif"), mask)
    found = marked_set(tmp_path)
    (one,) = found.photographs
    assert (found.name, one.name, one.patient) == (
        "idrid",
        "a. Training Set/IDRiD_01.jpg",
        "a. Training Set/IDRiD_01",
    )
    assert np.argwhere(found.photographs[0].lesions()).tolist() == [[0, 5], [1, 5]]  # no disc
    cv2.imwrite(str(truths / "SE/IDRiD_01_SE.tif"), np.zeros((20, 60), np.uint8))
    with pytest.raises(DataError, match="60 x 20 px; expected 60 x 40 px as the others"):
        found.photographs[0].lesions()


def test_rendered_masks_have_no_disc(marked):
    found = marked_set(marked)
    assert len(found.photographs) == 6 and len({each.patient for each in found.photographs}) == 3
    kinds = {path.parent.name for each in found.photographs for path in each.masks}
    assert "haemorrhage" in kinds and not kinds & {"disc", "drusen", "laser_scar"}


def test_folders_without_masks_are_refused(tmp_path):
    with pytest.raises(DataError, match="no lesion masks in it"):
        marked_set(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no photograph with a lesion mask"):
        marked_set(tmp_path)


def test_a_table_of_other_columns_is_refused(model, marked, tmp_path):
    (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns a, b"):
        score_models([model.folder], [marked], tmp_path)


def test_real_masks_lie_where_the_lesions_are(real_data, tmp_path):
    """Hard exudates are brighter than the retina around them, also after both went through the preprocess."""
    bundle = bundle_of(tmp_path / "bundle", size=256)
    brighter = []
    for one in marked_set(real_data / "idrid").photographs[:6]:
        exudates = [path for path in one.masks if path.stem.endswith("_EX")]
        file = PhotographFile(one.path)
        shown = show(bundle, file)
        mask = lesions_shown(bundle, file, replace(one, masks=tuple(exudates)).lesions()) & shown.inside
        around = (cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))) > 0) & ~mask & shown.inside
        green = shown.picture[..., 1].astype(float)
        brighter.append(green[mask].mean() - green[around].mean())
    assert np.mean(brighter) > 10 and min(brighter) > 0


def test_settings_are_checked(capsys, model, marked, tmp_path):
    code, _, err = run(capsys, "explain-score", model.folder, "--masks", marked, "--out", tmp_path, "--costly", -1)
    assert code == REFUSED and "--costly: -1" in err
    with pytest.raises(SettingError, match='"lesions"'):
        score_models([model.folder], [marked], tmp_path, targets=["lesions"])
