"""Combiners: hand-made eyes, ONNX against scikit-learn and torch, both eyes, seeds, refusals."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import PolynomialFeatures

from m2cnn import combine_fit
from m2cnn.blend_net import batches, train_blends
from m2cnn.combine import COMBINERS, Blend, Elastic, Forest, Mean, combiner_from_dict
from m2cnn.combine_fit import TINY, fit
from m2cnn.cuts import fit_cuts
from m2cnn.errors import BundleError, DataError, ImageError, ReducedError, SettingError
from m2cnn.eyes import Eyes
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.photograph import PhotographFile
from m2cnn.photograph_features import central_half, photograph_features
from m2cnn.preprocess import Preprocess
from m2cnn.synthetic import render
from m2cnn.synthetic.dataset import encode
from m2cnn.tasks import ROUNDING_CUTS, Decoded, cut, softmax

SLIM = {
    "mean": Mean(fit_cuts=True),
    "forest": Forest(trees=30, leaf=5, fit_cuts=True),
    "blend": Blend(epochs=30, rate=0.01, drops=(20,), fit_cuts=True),
    "elastic": Elastic(folds=5, lambdas=20),
}
FITTED = ("forest", "blend", "elastic")


def decoded(severity, probabilities=None):
    severity = np.asarray(severity, float)
    return Decoded(probabilities, severity, cut(severity, ROUNDING_CUTS))


def made(patients=300, seed=0, members=2, noise=0.7, width=3):
    """(eyes, grades, patients): two eyes each, of nearly the same grade; members see each through noise of its own."""
    rng = np.random.default_rng(seed)
    first = rng.choice(5, patients, p=(0.4, 0.15, 0.2, 0.15, 0.1))
    second = np.minimum(first + rng.choice((0, 1), patients, p=(0.85, 0.15)), 4)  # right eyes are worse
    grades = np.stack([first, second], axis=1).ravel()
    eye = np.arange(2 * patients)
    seen = grades + rng.normal(0, noise, (members, grades.size))
    severity = np.clip(seen, 0, 4)
    logits = -2 * (seen[:, :, None] - np.arange(5)) ** 2
    says = tuple(decoded(s, softmax(each)) for s, each in zip(severity, logits, strict=True))
    features = tuple(
        np.concatenate([each[:, None] * np.arange(1, 1 + width), np.full((grades.size, width), 0.1)], 1)
        for each in seen
    )
    photograph = rng.normal(100, 10, (grades.size, 7))
    eyes = Eyes(says, features, photograph, eye % 2, eye ^ 1)
    return eyes, grades, np.array([f"p{i}" for i in eye // 2])


def alone(eyes):
    """The same photographs, none with another eye."""
    return replace(eyes, other=np.full(len(eyes), -1))


def run(onnx, rows):
    if isinstance(onnx, torch.nn.Module):
        with torch.no_grad():
            return onnx(torch.from_numpy(rows)).numpy()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": rows})[0]


def answer(fitted, eyes):
    return fitted.combiner.task.read(run(fitted.onnx, fitted.combiner.rows(eyes)))


@pytest.fixture
def unexported(monkeypatch):
    """Fits end in a torch module instead of its ONNX file, which takes a second to write."""
    monkeypatch.setattr(combine_fit, "_exported", lambda module, rows: module.eval())


@pytest.fixture(scope="module")
def fits():
    return {name: fit(combiner, *made(), seed=1) for name, combiner in SLIM.items()}


# --- rows worked by hand ---


TWO = Eyes(
    (decoded([1.0, 3.0], np.eye(5)[[1, 3]]), decoded([2.0, 2.5])),
    (np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0], [6.0]])),
    np.arange(14.0).reshape(2, 7),
    np.array([1, 0]),
    np.array([1, -1]),
)


def test_forest_reads_24_numbers():
    rows = Forest().rows(TWO)
    mine, other = [0, 1, 1, 0, 0, *range(7)], [0, 0, 0.5, 1.5, 0, *range(7, 14)]
    assert rows.dtype == np.float32
    assert rows.tolist() == [mine + other, other + other]


def test_blend_reads_this_eye_the_other_and_the_side():
    assert Blend().rows(TWO).tolist() == [[1, 2, 3, 4, 1, 5, 6, 1], [3, 4, 3, 4, 0, 6, 6, 0]]


def test_blend_reads_8193_numbers_of_the_published_networks():
    eyes = Eyes((decoded([1.0] * 3),), (np.zeros((3, 4096)),), None, np.zeros(3), np.full(3, -1))
    assert Blend().rows(eyes).shape == (3, 8193)


def test_elastic_reads_scores_from_1_to_5():
    rows = Elastic().rows(TWO)
    assert rows.shape == (2, 30)
    assert rows[0, :5].tolist() == [2, 4, 1, 4, 2]
    assert rows[0, 15:20].tolist() == [3, 3.5, 1, 3.5, 3]
    assert rows[1, :5].tolist() == [4, 4, 0, 4, 4]


def test_elastic_products_against_a_second_author():
    rows = Elastic().rows(made(members=1)[0])
    twice = PolynomialFeatures(2, interaction_only=True, include_bias=False).fit_transform(rows[:, :5])
    np.testing.assert_allclose(rows, twice, rtol=1e-6)


def test_mean_reads_what_it_answers():
    assert Mean().rows(TWO).tolist() == [[1, 2], [3, 2.5]]
    one = replace(TWO, decoded=TWO.decoded[:1])
    assert Mean(answer="both").rows(one).tolist() == [[0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 3]]
    assert Mean(answer="probabilities").rows(one).shape == (2, 5)


def test_mean_takes_its_share_of_the_other_eye():
    shared = Mean(other=0.25)
    assert shared.rows(TWO).tolist() == [[1.5, 2.125], [3, 2.5]] and shared.joins_eyes and not Mean().joins_eyes
    alone = replace(TWO, other=np.array([-1, -1]))
    assert shared.rows(alone).tolist() == Mean().rows(TWO).tolist()  # an eye without the other: as it is
    eyes, grades, patients = made(40)
    fitted = fit(Mean(other=0.5, fit_cuts=True), eyes, grades, patients, 0)
    both = eyes.severities().mean(axis=0)
    both = (both + both[eyes.partner()]) / 2
    assert fitted.combiner.cuts == pytest.approx(fit_cuts(both, grades, ROUNDING_CUTS), abs=1e-5)
    assert answer(fitted, eyes).severity == pytest.approx(both, abs=1e-5)


@pytest.mark.parametrize("combiner", SLIM.values(), ids=SLIM)
def test_chosen_rows_are_rows_of_all(combiner):
    eyes = made(20)[0]
    np.testing.assert_array_equal(combiner.rows(eyes, np.array([7, 3])), combiner.rows(eyes)[[7, 3]])


# --- fitted: ONNX, eyes, seeds ---


def test_mean_answers_the_mean(unexported):
    says = (decoded([1.0, 3.0], np.eye(5)[[1, 3]]), decoded([2.0, 4.0], np.eye(5)[[2, 3]]))
    eyes = Eyes(says, (), None, np.array([1, 0]), np.array([1, 0]))
    for kind in ("severity", "both"):
        got = answer(fit(Mean(answer=kind), eyes, (), (), 0), eyes)
        assert got.severity == pytest.approx([1.5, 3.5])
        assert got.grade.tolist() == [2, 4]
    for kind in ("probabilities", "both"):
        got = answer(fit(Mean(answer=kind), eyes, (), (), 0), eyes)
        np.testing.assert_allclose(got.probabilities, [[0, 0.5, 0.5, 0, 0], [0, 0, 0, 1, 0]], atol=1e-6)


def test_mean_without_cuts_to_fit_needs_no_photograph():
    empty = Eyes((decoded([]), decoded([])), (), None, np.zeros(0), np.zeros(0, int))
    assert run(fit(Mean(), empty, (), (), 0).onnx, np.array([[1, 3]], np.float32)).tolist() == [[2]]


@pytest.mark.parametrize("names", [(0, 1, 2, 3, 4), (0, 2)])
def test_forest_in_onnx_equals_scikit_learn(names):
    rng = np.random.default_rng(0)
    rows = np.round(rng.normal(size=(300, 24)), 1).astype(np.float32)
    rows[:, :3] *= 1000
    forest = RandomForestClassifier(40, random_state=0).fit(rows, rng.choice(names, 300))
    tried = np.concatenate([rows, *(t.tree_.threshold[:24][None].astype(np.float32) for t in forest.estimators_)])
    outputs = run(combine_fit._forest_onnx(forest), tried)
    ours = np.zeros((len(tried), 5))
    ours[:, list(names)] = forest.predict_proba(tried)
    np.testing.assert_allclose(np.exp(outputs) - TINY, ours, atol=1e-5)
    np.testing.assert_allclose(softmax(outputs), ours, atol=2e-6)


def test_blend_in_onnx_equals_torch(fits):
    ours, rows = train_blends(SLIM["blend"], *made(), 1), Blend().rows(made(50, seed=9)[0])
    expected = run(ours, rows)
    each = [run(net, part) for net, part in zip(ours.nets, np.split(rows, 2, axis=1), strict=True)]
    np.testing.assert_allclose(run(fits["blend"].onnx, rows), expected, atol=1e-5)
    np.testing.assert_allclose(expected, np.mean(each, axis=0), atol=1e-6)


def test_blend_of_8193_numbers_in_onnx_equals_torch():
    rng = np.random.default_rng(0)
    eyes, grades, patients = made(10, members=1)
    eyes = replace(eyes, features=(rng.normal(size=(20, 4096)),))
    fitted = fit(Blend(epochs=2), eyes, grades, patients, 0)
    rows = Blend().rows(eyes)
    np.testing.assert_allclose(
        run(fitted.onnx, rows), run(train_blends(Blend(epochs=2), eyes, grades, patients, 0), rows), atol=1e-5
    )


def test_mean_in_onnx_equals_torch():
    rows = softmax(np.random.default_rng(0).normal(size=(7, 5)))
    eyes = Eyes((decoded(np.arange(7) / 2, rows),) * 2, (), None, np.zeros(7), np.full(7, -1))
    got = answer(fit(Mean(answer="both"), eyes, (), (), 0), eyes)
    np.testing.assert_allclose(got.probabilities, rows, atol=1e-6)
    np.testing.assert_allclose(got.severity, np.arange(7) / 2, atol=1e-6)


def test_elastic_in_onnx_is_what_the_facts_say(fits):
    fitted, (eyes, _, _) = fits["elastic"], made(50, seed=9)
    rows, first, second = Elastic().rows(eyes), fitted.facts["tier_1"], fitted.facts["tier_2"]
    expected = np.full(len(rows), second["bias"])
    for i, (net, cuts) in enumerate(zip(first, fitted.facts["tier_1_cuts"], strict=True)):
        hard = np.searchsorted(cuts, rows[:, 15 * i : 15 * i + 15] @ net["weights"] + net["bias"], "right")
        expected += np.array(second["weights"]).reshape(2, 5)[i, hard]
    np.testing.assert_allclose(run(fitted.onnx, rows)[:, 0], expected, atol=1e-5)


def test_elastic_net_is_the_minimum_of_glmnets_objective():
    rng = np.random.default_rng(0)
    rows = rng.normal(2, [1, 5, 0.1], (200, 3))
    target = rows @ [0.5, 0, 3.0] + rng.normal(0, 0.5, 200)
    folds = combine_fit._folds(np.arange(200).astype(str), 10, rng)
    net = combine_fit._elastic_net(Elastic(eps=0.3, lambdas=5), rows, target, folds, 0.5)

    def objective(weights, bias):
        scaled = weights * rows.std(axis=0)
        penalty = 0.5 * np.abs(scaled).sum() + 0.25 * (scaled**2).sum()
        return ((target - rows @ weights - bias) ** 2).mean() / 2 + net.penalty * penalty

    best = objective(net.weights, net.bias)
    for step in rng.normal(0, 0.01, (200, 4)):
        assert objective(net.weights + step[:3] / rows.std(axis=0), net.bias + step[3]) > best - 1e-6


@pytest.mark.parametrize("name", FITTED)
def test_both_eyes_know_more_than_one(name, fits, unexported):
    eyes, grades, _ = made(400, seed=2)
    both = quadratic_weighted_kappa(grades, answer(fits[name], eyes).grade)
    single = np.mean([quadratic_weighted_kappa(grades, d.grade) for d in eyes.decoded])
    one = fit(SLIM[name], *((alone(made()[0])), *made()[1:]), seed=1)
    ensemble = quadratic_weighted_kappa(grades, answer(one, alone(eyes)).grade)
    assert both > single + 0.03
    assert both > ensemble + 0.015


@pytest.mark.parametrize("name", FITTED)
def test_the_other_eye_matters(name, fits):
    eyes, grades, _ = made(50, seed=3)
    worse = np.full(len(eyes), int(np.argmax(grades)))
    before, after = answer(fits[name], eyes).severity, answer(fits[name], replace(eyes, other=worse)).severity
    assert (after - before)[grades < 2].mean() > 0.1


@pytest.mark.parametrize("name", FITTED)
def test_a_missing_eye_is_taken_to_be_as_this_one(name, fits):
    eyes = made(30, seed=4)[0]
    mirror = replace(eyes, other=np.arange(len(eyes)))
    np.testing.assert_array_equal(answer(fits[name], alone(eyes)).severity, answer(fits[name], mirror).severity)
    assert (answer(fits[name], alone(eyes)).severity != answer(fits[name], eyes).severity).any()


@pytest.mark.parametrize("name", ["blend", "elastic"])
def test_the_side_matters(name, fits):
    eyes = made(50, seed=6)[0]
    right, left = (answer(fits[name], replace(eyes, side=np.full(len(eyes), side))).severity for side in (1, 0))
    assert (right - left).mean() > 0.02


def test_mean_needs_no_other_eye(fits):
    eyes = made(30, seed=4)[0]
    np.testing.assert_array_equal(answer(fits["mean"], alone(eyes)).severity, answer(fits["mean"], eyes).severity)


@pytest.mark.parametrize(
    "combiner", [Forest(trees=3), Blend(epochs=1), Elastic(folds=3, lambdas=5)], ids=lambda c: c.name
)
def test_the_seed_decides(combiner, unexported):
    case = made(40)
    one, same, other = (fit(combiner, *case, seed=seed) for seed in (1, 1, 2))
    rows = combiner.rows(case[0])
    assert one.facts == same.facts
    np.testing.assert_array_equal(run(one.onnx, rows), run(same.onnx, rows))
    assert one.facts != other.facts


def test_every_member_has_random_numbers_of_its_own():
    eyes, grades, patients = made(10, members=1)
    twins = replace(eyes, decoded=eyes.decoded * 2, features=eyes.features * 2)
    one, other = train_blends(Blend(epochs=1), twins, grades, patients, 0).nets
    assert not torch.equal(one.first.weight, other.first.weight)


def test_blend_leaves_torchs_own_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train_blends(Blend(epochs=1), *made(10), 1)
    assert torch.equal(before, torch.get_rng_state())


# --- the parts ---


def test_batches_are_whole_patients():
    _, grades, patients = made(100)
    for balanced, uniform in ((0, 0), (1, 0), (0, 1)):
        for batch in batches(Blend(balanced=balanced, uniform=uniform), grades, patients, np.random.default_rng(0)):
            assert (np.bincount(batch, minlength=200).reshape(100, 2) @ [1, -1] == 0).all()
            assert len(batch) == 128 or balanced + uniform == 0


def test_batches_in_order_show_every_photograph_once():
    _, grades, patients = made(100)
    shown = np.concatenate([*batches(Blend(balanced=0, uniform=0), grades, patients, np.random.default_rng(0))])
    assert sorted(shown) == list(range(200))


def test_batches_are_mixed_as_the_code_has_it():
    rng = np.random.default_rng(0)
    lonely, kinds = np.array([f"q{i}" for i in range(3000)]), np.zeros(3000, int)
    kinds[:300] = 1  # a tenth, half of a balanced batch
    shares = [kinds[b].mean() for _ in range(40) for b in batches(Blend(), kinds, lonely, rng)]
    assert np.mean(np.array(shares) > 0.3) == pytest.approx(0.2, abs=0.05)
    seen = [np.unique(b).size < b.size for _ in range(40) for b in batches(Blend(), kinds, lonely, rng)]
    assert np.mean(seen) == pytest.approx(0.5, abs=0.07)  # drawn with repeats: balanced or uniform


def test_the_rate_falls_at_the_drops(monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda s: rates.append(s.param_groups[0]["lr"]) or step(s))
    train_blends(Blend(epochs=4, drops=(1, 3), rate=1e-3), *made(20, members=1), 0)
    assert rates == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])


def test_blend_net_is_the_published_one():
    net = train_blends(Blend(epochs=1), *made(20, members=1), 0).nets[0]
    assert [tuple(p.shape) for p in net.parameters()] == [(32, 13), (32,), (32, 16), (32,), (1, 16), (1,)]
    net.first.weight.data.fill_(-0.5)
    net.second.weight.data.fill_(0.25)
    net.last.weight.data.fill_(1)
    squares = 32 * 13 * 0.25 + 32 * 16 * 0.0625 + 16
    assert net.penalty(2.0, 3.0).item() == pytest.approx(2 * 32 * 13 * 0.5 + 3 * squares)


def test_blend_net_against_numpy():
    eyes, grades, patients = made(20, members=1)
    net = train_blends(Blend(epochs=1, rate=0.1), eyes, grades, patients, 0).nets[0]
    rows = Blend().rows(eyes)
    x = (rows - net.centre.numpy()) / net.scale.numpy()
    for layer in (net.first, net.second):
        dense = np.maximum(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
        x = np.maximum(dense[:, ::2], dense[:, 1::2])
    expected = x @ net.last.weight.detach().numpy().T + net.last.bias.detach().numpy()
    np.testing.assert_allclose(run(net, rows), expected, atol=1e-5)


@pytest.mark.parametrize("penalty", [{"l1": 1.0}, {"l2": 1.0}])
def test_penalties_shrink_the_weights(penalty):
    sizes = []
    for amounts in ({}, penalty):
        settings = replace(Blend(epochs=60, rate=0.01, l1=0.0, l2=0.0), **amounts)
        sizes.append(train_blends(settings, *made(20, members=1), 0).nets[0].first.weight.abs().sum().item())
    assert sizes[1] < sizes[0] / 2


def test_blend_learns_from_the_other_eye():
    eyes, grades, patients = made(100, members=1)
    eyes = replace(eyes, features=(grades[eyes.other, None] * np.ones((1, 2)),))  # of this eye nothing but the other's
    both, one = (train_blends(Blend(epochs=60, rate=0.01), each, grades, patients, 0) for each in (eyes, alone(eyes)))
    errors = [np.square(run(net, Blend().rows(eyes))[:, 0] - grades).mean() for net in (both, one)]
    assert errors[0] < 0.8 * errors[1]


def test_blend_standardises_both_eyes_alike_and_leaves_the_side():
    eyes, grades, patients = made(30, members=1)
    net = train_blends(Blend(epochs=1), eyes, grades, patients, 0).nets[0]
    mean, deviation = eyes.features[0].mean(0), eyes.features[0].std(0)
    scale = np.where(deviation > 1e-12, deviation, 1)  # of one view there is no deviation
    np.testing.assert_allclose(net.centre, [*mean, *mean, 0], rtol=1e-4)
    np.testing.assert_allclose(net.scale, [*scale, *scale, 1], rtol=1e-4)


def test_blend_starts_orthogonal_with_the_gain_of_relu():
    net = combine_fit.require("m2cnn.blend_net", "train").BlendNet(torch.zeros(65), torch.ones(65), 32)
    np.testing.assert_allclose((net.first.weight @ net.first.weight.T).detach(), 2 * np.eye(32), atol=1e-5)
    assert net.second.bias.detach().numpy() == pytest.approx(0.01)


def test_folds_keep_patients_whole():
    patients = np.repeat([f"p{i}" for i in range(7)], 2)
    folds = combine_fit._folds(patients, 30, np.random.default_rng(0))
    assert len(folds) == 7
    for fitted, tried in folds:
        assert sorted([*fitted, *tried]) == list(range(14))
        assert not set(patients[fitted]) & set(patients[tried])


def test_a_fixed_cut_stays_and_a_fitted_one_moves(fits):
    published = fit(Forest(trees=3), *made(40), seed=0).combiner
    assert published.cuts == published.task.cuts == (0.56923337, 1.3709647, 2.30468216, 3.11985482)
    for name, fitted in fits.items():
        assert fitted.combiner.cuts != SLIM[name].cuts
        assert fitted.combiner.task.cuts == fitted.combiner.cuts


def test_forest_fits_its_cuts_outside_its_bags(fits):
    eyes, grades, _ = made()
    inside = quadratic_weighted_kappa(grades, answer(fits["forest"], eyes).grade)
    assert fits["forest"].facts["kappa"] < inside - 0.01
    assert "did not see" in fits["forest"].facts["kappa_on"]


def test_forest_leaves_out_rows_that_every_tree_saw(monkeypatch):
    seen = []
    monkeypatch.setattr(combine_fit, "fit_cuts", lambda s, g, cuts: seen.append((s, g)) or np.array(cuts))
    facts = fit(Forest(trees=1, fit_cuts=True), *made(100), seed=0).facts
    (severity, grades), share = seen[0], len(seen[0][0]) / 200
    assert share == pytest.approx(np.exp(-1), abs=0.1)
    assert facts["kappa"] == quadratic_weighted_kappa(grades, cut(severity, Forest().cuts))


def test_forest_has_the_trees_and_leaves_that_are_asked_for(monkeypatch):
    made_of = []
    write = combine_fit._forest_onnx
    monkeypatch.setattr(combine_fit, "_forest_onnx", lambda forest: made_of.append(forest) or write(forest))
    fit(Forest(trees=4, leaf=9), *made(50), seed=0)
    assert made_of[0].get_params() == RandomForestClassifier(4, min_samples_leaf=9, oob_score=True).get_params() | {
        "n_jobs": -1,
        "random_state": made_of[0].random_state,
    }


def test_elastic_answers_the_same_for_members_that_say_nothing(unexported):
    eyes, grades, patients = made(20, members=1)
    eyes = replace(eyes, decoded=(decoded(np.full(len(eyes), 2.0)),), side=np.full(len(eyes), 0.5))
    fitted = fit(Elastic(folds=3, lambdas=5), eyes, grades, patients, 0)
    np.testing.assert_allclose(answer(fitted, eyes).severity, grades.mean(), rtol=1e-5)


# --- the seven numbers of a photograph ---


@pytest.fixture(scope="module")
def photograph():
    picture = np.zeros((400, 520, 3), np.uint8)
    picture[:, 60:460] = render(3, 2, size=400).image
    return picture


def test_photograph_features_by_hand(photograph):
    file = PhotographFile(encode(photograph, "png"))
    features = photograph_features(file, 100)
    assert features.dtype == np.float32 and features.shape == (7,)
    np.testing.assert_allclose(features[2:5], photograph[100:300, 130:390].mean((0, 1)), rtol=1e-6)
    assert features[5:].tolist() == [260, 200]
    picture = Preprocess("graham")(photograph, 200)
    assert features[0] == pytest.approx(picture.std(), rel=1e-5)
    inner = picture[49:151, 49:151].astype(float)  # one px more on each side, for the neighbours
    centre = inner[1:-1, 1:-1]
    laplacian = inner[:-2, 1:-1] + inner[2:, 1:-1] + inner[1:-1, :-2] + inner[1:-1, 2:] - 4 * centre
    assert features[1] == pytest.approx(laplacian.std(), rel=0.02)  # at the border of the crop OpenCV mirrors


def test_photograph_features_see_noise_and_size(photograph):
    noisy = np.clip(photograph + np.random.default_rng(0).normal(0, 12, photograph.shape), 0, 255).astype(np.uint8)
    calm, grainy = (photograph_features(PhotographFile(encode(p, "png")), 150) for p in (photograph, noisy))
    assert grainy[1] > 1.5 * calm[1]
    assert photograph_features(PhotographFile(encode(photograph[50:350], "png")), 150)[5:].tolist() == [260, 150]


def test_photograph_features_refuse_what_has_no_field():
    with pytest.raises(ImageError, match="no round field of view"):
        photograph_features(PhotographFile(encode(np.zeros((100, 100, 3), np.uint8), "png")), 50)


def test_photograph_features_make_nothing_up(rendered, tmp_path):
    from m2cnn.data.prepare import prepare

    prepare(replace(rendered, rows=rendered.rows[:1]), tmp_path / "small", 96, workers=1)
    path = next((tmp_path / "small").rglob("*.jp*g"), None) or next((tmp_path / "small").rglob("*.png"))
    assert photograph_features(PhotographFile(path), 48)[5:].tolist() == [53, 53]  # the file is 106 px, with its margin
    with pytest.raises(ReducedError, match="Prepare the photographs again, larger"):
        photograph_features(PhotographFile(path), 100)


def test_the_middle_half():
    assert central_half(np.arange(10)[:, None] * np.ones((1, 7), int))[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert central_half(np.ones((9, 8, 3))).shape == (4, 4, 3)


# --- refusals ---


@pytest.mark.parametrize("name", COMBINERS)
def test_every_combiner_survives_its_dict(name):
    assert combiner_from_dict({"name": name}) == COMBINERS[name]()
    assert combiner_from_dict(SLIM[name].to_dict()) == SLIM[name]


def test_defaults_are_the_published_values():
    assert Forest().trees == 1000 and Forest().leaf == 1 and Forest().radius == 1000
    assert Blend() == Blend(ROUNDING_CUTS, False, 32, 100, 5e-4, (60, 80, 90), 128, 0.2, 0.3, 2e-5, 0.005)
    assert Elastic() == Elastic((0.7, 1.3487674, 1.8685806, 2.5627728), True, 0.5, 0.01, 30, 300, 0.001)
    assert [COMBINERS[name]().splits for name in COMBINERS] == [(), ("train",), ("train",), ("val",)]
    assert Mean(fit_cuts=True).splits == ("val",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "forst"}, 'Did you mean "forest"'),
        ({}, "Known: blend, elastic, forest, mean"),
        ({"name": "forest", "tree": 3}, 'Did you mean "trees"'),
        ({"name": "forest", "trees": 0}, "combiner forest, trees: 0; expected a whole number, 1 or more"),
        ({"name": "forest", "trees": True}, "a whole number"),
        ({"name": "forest", "radius": 4}, "8 or more"),
        ({"name": "forest", "radius": 5000}, "at most 2048"),
        ({"name": "forest", "cuts": [1, 1, 2, 3]}, "four increasing numbers"),
        ({"name": "forest", "cuts": [1, 2, 3]}, "four increasing numbers"),
        ({"name": "forest", "cuts": "abcd"}, "four increasing numbers"),
        ({"name": "forest", "cuts": [0, 1, 2, float("nan")]}, "four increasing numbers"),
        ({"name": "blend", "fit_cuts": 1}, "true or false"),
        ({"name": "blend", "units": 31}, "an even number"),
        ({"name": "blend", "rate": 0}, "above 0"),
        ({"name": "blend", "l1": -1}, "0 or more"),
        ({"name": "blend", "l2": float("nan")}, "0 or more"),
        ({"name": "blend", "balanced": 0.8}, "at most 1 together with uniform"),
        ({"name": "blend", "drops": [3, 2]}, "increasing numbers of passes"),
        ({"name": "blend", "drops": 3}, "increasing numbers of passes"),
        ({"name": "elastic", "l1_ratio": 0}, "above 0, at most 1"),
        ({"name": "elastic", "folds": 1}, "2 or more"),
        ({"name": "mean", "other": 0.6}, "a share, 0 to 0.5"),
        ({"name": "mean", "other": True}, "a share, 0 to 0.5"),
        ({"name": "mean", "answer": "sevrity"}, 'Did you mean "severity"'),
        ({"name": "mean", "answer": "probabilities", "fit_cuts": True}, "has no cuts"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        combiner_from_dict(settings)


def with_nan(eyes):
    severity = np.array([np.nan, *eyes.decoded[0].severity[1:]])
    features = np.array([[np.inf] * eyes.features[0].shape[1], *eyes.features[0][1:]])
    return replace(eyes, decoded=(Decoded(None, severity, severity), *eyes.decoded[1:]), features=(features,) * 2)


@pytest.mark.parametrize("name", SLIM)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, g, p: (e, g * 0, p), "1 different grades; expected at least 2"),
        (lambda e, g, p: (e, g, ["p"] * len(p)), "one patient; expected at least 2"),
        (lambda e, g, p: (e, g[1:], p), "grades and eyes: lengths 19 and 20"),
        (lambda e, g, p: (e, g, p[1:]), "patients and eyes: lengths 19 and 20"),
        (lambda e, g, p: (e, g + 5, p), "an integer in 0..4"),
        (lambda e, g, p: (replace(e, other=np.roll(e.other, 1)), g, p), "an other eye of another patient"),
        (lambda e, g, p: (with_nan(e), g, p), "what the members say, entry 0: value is (nan|inf)"),
    ],
)
def test_no_basis_for_a_fit_is_refused(name, change, words):
    with pytest.raises(DataError, match=words):
        fit(SLIM[name], *change(*made(10)), seed=0)


@pytest.mark.parametrize(
    ("combiner", "change", "words"),
    [
        (Forest(), {"photograph": None}, r"photograph features of shape \(\); expected \(20, 7\)"),
        (Forest(), {"photograph": np.zeros((20, 6))}, r"shape \(20, 6\)"),
        (Blend(), {"features": ()}, "features of 0 of 2 members"),
        (Mean(answer="both"), {"decoded": (decoded([1.0] * 20),)}, "a member without probabilities"),
    ],
)
def test_what_was_not_computed_is_refused(combiner, change, words):
    eyes, grades, patients = made(10)
    with pytest.raises(DataError, match=words):
        fit(combiner, replace(eyes, **change), grades, patients, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoded": ()}, "no member"),
        ({"side": np.zeros(3)}, "side has 3 rows, other has 2"),
        ({"features": (np.zeros((3, 1)),)}, "features of member 0 has 3 rows"),
        ({"photograph": np.zeros((1, 7))}, "photograph has 1 rows"),
        ({"decoded": (decoded([1.0]),)}, "severity of member 0 has 1 rows"),
        ({"other": np.array([2, 0])}, "not there"),
        ({"other": np.array([-2, 0])}, "not there"),
        ({"side": np.array([1, 2])}, "1 right, 0 left"),
    ],
)
def test_eyes_that_do_not_fit_together_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        replace(TWO, **change)


def test_a_rate_that_diverges_is_refused():
    eyes, grades, patients = made(20, members=1)
    with pytest.raises(SettingError, match=r"combiner blend, rate: 1\.0: the loss became"):
        train_blends(Blend(epochs=3, rate=1.0, l2=1e38), eyes, grades, patients, 0)


def test_a_forest_too_large_for_onnx_is_refused(monkeypatch):
    monkeypatch.setattr(combine_fit, "MAX_NODES", 100)
    with pytest.raises(SettingError, match=r"nodes; expected at most 100\. Fewer trees, or a larger leaf"):
        fit(SLIM["forest"], *made(50), seed=0)


def test_an_onnx_file_that_says_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(combine_fit, "_run", lambda module: lambda rows: module(torch.from_numpy(rows)).numpy() + 1)
    with pytest.raises(BundleError, match=r"ONNX differs by 0\.[23]"):
        fit(Mean(), made(10)[0], (), (), 0)
