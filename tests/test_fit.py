"""One trainer for all: parts, rescaling, rounds, snapshots, rows of a regime, and which pass is the best."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from m2cnn.bar import Bar
from m2cnn.bundle import load_bundle, load_network
from m2cnn.checkpoint import Progress, best_weights, load_checkpoint, load_weights
from m2cnn.cuts import fit_cuts
from m2cnn.data.sampling import Sampling, pass_order
from m2cnn.errors import SettingError
from m2cnn.fit import Fit, StageData, fit_stage, loss_of, measure_norms
from m2cnn.grader import Grader
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.models import MinPooling, NetworkSettings, OOSettings, ReformedGamblers, ZoomInNet
from m2cnn.optimiser import make_optimiser, parameter_groups
from m2cnn.part import network_of_stage, read_history
from m2cnn.recipe import Optimiser, Recipe, Stage, check_stages, load_recipe, recipe_names
from m2cnn.systems import Member, System, get
from m2cnn.tasks import Classification, Regression
from m2cnn.train import _check, resume, train

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "ladder": "quarter"}
ZOOM = ZoomInNet(**SLIM, zoom=2.0, patch=40, gate=64, hidden=64)
ZOOMING = tuple(Stage(1, size=size, part=part, batch=8, lr=0.01) for part, size in enumerate((40, 40, 80)))
PLAIN = Recipe("own", (Stage(2, size=27, batch=4, lr=0.01),), precision="32", checkpoint_minutes=0.0)


class Crash(Exception):
    """What kills a training in these tests."""


class Dots:
    """Noise of one size with grades 0, 1, .. 4, 0, ..; a picture depends on row, pass and position."""

    def __init__(self, size, count=12):
        self.size, self.grades = size, np.arange(count) % 5

    def __len__(self):
        return len(self.grades)

    def __getitem__(self, key):
        picture = np.random.default_rng(key).integers(0, 256, (3, self.size, self.size), dtype=np.uint8)
        return torch.from_numpy(picture), int(self.grades[key[0]])


def run(member, recipe, folder, crash=None, snapshots=("kappa",)):
    """Train without photographs, from last.pt where there is one; `crash`: the stage, pass and batch to die after."""
    folder.mkdir(exist_ok=True)
    last = folder / "last.pt"
    progress, states = load_checkpoint(last) if last.exists() else (Progress(), None)
    for number in range(progress.stage, len(recipe.stages)):
        progress = progress if number == progress.stage else Progress(number, history=progress.history)
        network, new = network_of_stage(member, recipe, number, folder)
        data = StageData(Dots(recipe.stages[number].size), Dots(recipe.stages[number].size, 10), recipe.sampling)
        fit = Fit(network, member.task, recipe, data, progress, folder, new, snapshots)
        if states is not None:
            fit.restore(states)
            states = None
        if crash:
            die_after(fit, crash)
        fit_stage(fit, "32", folder)
    return fit


def die_after(fit, place):
    after = fit.on_train_batch_end

    def dying(*rest):
        after(*rest)
        if (fit.progress.stage, fit.progress.epoch, fit.progress.batch) == place:
            raise Crash

    fit.on_train_batch_end = dying


def same(one, other):
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def pictures(size, count=4):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# --- Zoom-in-Net's parts ---


def zoom_recipe(**changes):
    return replace(PLAIN, stages=ZOOMING, **changes)


def test_each_part_learns_what_it_should(tmp_path):
    member, grades = Member(ZOOM, Classification()), torch.tensor([0, 1, 2, 4])
    learning = (("trunk.", "classif."), ("trunk.", "classif.", "a_net."), ("c_net.",))
    expected = ({"m"}, {"m", "a"}, {"c"})
    for number, stage in enumerate(ZOOMING):
        network, _ = network_of_stage(member, zoom_recipe(), number, tmp_path)
        assert network.stage == number
        x = pictures(stage.size)
        torch.manual_seed(0)
        loss = loss_of(network, member.task, x, grades)
        torch.manual_seed(0)
        logits = network.parts(x)
        assert loss.item() == pytest.approx(sum(member.task.loss(logits[k], grades).item() for k in expected[number]))
        loss.backward()
        moved = {name for name, each in network.named_parameters() if each.grad is not None and each.grad.any()}
        assert {name.split(".")[0] + "." for name in moved} == set(learning[number])
        held = {id(p) for group in parameter_groups(network, Optimiser(), None) for p in group["params"]}
        assert held == {id(p) for name, p in network.named_parameters() if name.startswith(learning[number])}
        with torch.no_grad():
            for each in network.parameters():
                each.add_(0.01)
        Fit(network, member.task, zoom_recipe(), data_of(stage.size), Progress(number), tmp_path, None).keep("kappa")
        if number == 1:
            trunk = {name: value.clone() for name, value in network.trunk.state_dict().items()}
    c_net = network_of_stage(member, zoom_recipe(), 2, tmp_path)[0].c_net.trunk.state_dict()
    assert all(torch.equal(value, c_net[name]) for name, value in trunk.items())  # C-Net begins as M-Net


def data_of(size):
    return StageData(Dots(size), Dots(size, 10), Sampling())


def test_what_is_carried_on_learns_at_a_tenth_of_the_rate(tmp_path):
    network = ZOOM.build()
    network.stage = 1
    fit = Fit(network, Classification(), zoom_recipe(), data_of(40), Progress(1), tmp_path, None)
    fit.on_train_batch_start(None, 0)
    m_net = {id(each) for part in (network.trunk, network.classif) for each in part.parameters()}
    for group in fit.optimiser.param_groups:
        assert {id(p) in m_net for p in group["params"]} == {group["carried"]}
        assert group["lr"] == pytest.approx(0.001 if group["carried"] else 0.01)
    alone = replace(zoom_recipe(), stages=(replace(ZOOMING[1], carried_lr=0.5),))
    alone = Fit(network, Classification(), alone, data_of(40), Progress(0), tmp_path, None)
    assert not any(group["carried"] for group in alone.optimiser.param_groups)  # no stage before: nothing is carried


def test_what_does_not_learn_keeps_its_statistics(tmp_path):
    recipe, member = zoom_recipe(), Member(ZOOM, Classification())
    run(member, recipe, tmp_path)
    before, after = network_of_stage(member, recipe, 2, tmp_path)[0].state_dict(), load_file(best_weights(tmp_path, 2))
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (not name.startswith("c_net.") or value.numel() == 0), name


@pytest.mark.parametrize(
    ("parts", "stages", "words"),
    [
        ("mac", (0, 1), r'stages.1.part: 1; expected 2: all parts are trained.*parts = "ma"'),
        ("mac", (-1,), r"stages.0.part: -1; expected part 1 in a stage before"),
        ("mac", (0, 2), r"stages.1.part: 2; expected part 1 in a stage before"),
        ("ma", (0, 1, 2), r'stages.2.part: 2; expected 0..1 with parts = "ma"'),
    ],
)
def test_a_training_that_leaves_a_part_untrained_is_refused(parts, stages, words):
    stages = tuple(replace(ZOOMING[0], part=part) for part in stages)
    with pytest.raises(SettingError, match=words):
        check_stages(stages, replace(ZOOM, parts=parts))


def test_stages_ask_only_for_what_a_network_has():
    stage = PLAIN.stages[0]
    with pytest.raises(SettingError, match="0 for NetworkSettings; expected -1: it has no parts"):
        check_stages((replace(stage, part=0),), NetworkSettings())
    with pytest.raises(SettingError, match="batch: 1 for NetworkSettings; expected 2 or more: it has batch norms"):
        check_stages((replace(stage, batch=1),), NetworkSettings())
    with pytest.raises(SettingError, match="rescale: 20 for OOSettings"):
        check_stages((replace(stage, batch=1, rescale=20),), OOSettings())
    check_stages((replace(stage, batch=1, rescale=20),), MinPooling())
    check_stages((replace(stage),), replace(ZOOM, parts="ma"))


def test_zoom_in_net_interrupted_in_each_part_ends_bit_equal_and_comes_back_whole(tmp_path):
    member, recipe = Member(ZOOM, Classification()), zoom_recipe(ema=0.9, fit_cuts=True)
    for number in range(3):
        with pytest.raises(Crash):
            run(member, recipe, tmp_path / "crashed", (number, 0, 1))
    run(member, recipe, tmp_path / "crashed")
    fit = run(member, recipe, tmp_path / "whole")
    for number in range(3):
        assert same(*(best_weights(tmp_path / name, number) for name in ("crashed", "whole")))
    network = ZOOM.without_weights().build().eval()
    load_weights(network, best_weights(tmp_path / "whole", 2))
    logits = network.parts(pictures(80))
    assert (network.stage, set(logits)) == (2, set("mac"))
    assert torch.equal(network(pictures(80)), logits["c"])
    torch.testing.assert_close(network(pictures(80)), fit.judged.eval()(pictures(80)))


def test_m_net_and_a_net_are_trained_from_photographs_and_come_back_from_their_bundle(rendered, tmp_path, monkeypatch):
    settings = replace(ZOOM, parts="ma")
    own = System("ma", "M-Net + A-Net, tiny", (Member(settings, Classification(rule="expectation")),), "ours")
    recipe = replace(PLAIN, stages=ZOOMING[:2], fit_cuts=True, system="ma")
    after = Fit.on_train_batch_end

    def dying(fit, *rest):
        after(fit, *rest)
        if (fit.progress.stage, fit.progress.batch) == (1, 2):
            raise Crash

    monkeypatch.setattr(Fit, "on_train_batch_end", dying)
    with pytest.raises(Crash):
        train(recipe, rendered, tmp_path / "run", system=own)
    monkeypatch.undo()
    bundle = resume(tmp_path / "run", system=own)
    assert [(row["stage"], row["size"]) for row in read_history(tmp_path / "run")] == [(0, 40), (1, 40)]
    network = load_network(load_bundle(bundle.folder))
    logits = network.parts(pictures(40))
    assert set(logits) == {"m", "a"}
    torch.testing.assert_close(network(pictures(40)), (logits["m"] + logits["a"]) / 2)
    photograph = rendered.path(rendered.rows[0])
    by_onnx, by_torch = (Grader.load(bundle.folder, backend).grade(photograph) for backend in ("onnx", "torch"))
    assert by_onnx.severity == pytest.approx(by_torch.severity, abs=1e-4)


# --- Min-pooling ---


def test_rescaling_comes_before_the_first_step_and_never_again(tmp_path):
    member = Member(MinPooling(1, tiny=True), Classification())
    still = replace(PLAIN, stages=(replace(PLAIN.stages[0], lr=0.0, rescale=2),), optimiser=Optimiser(weight_decay=0))
    first = network_of_stage(member, still, 0, tmp_path)[0].state_dict()
    first = {name: value.clone() for name, value in first.items()}
    with pytest.raises(Crash):
        run(member, still, tmp_path / "crashed", (0, 0, 1))
    run(member, still, tmp_path / "crashed")
    run(member, still, tmp_path / "whole")
    assert same(*(best_weights(tmp_path / name, 0) for name in ("crashed", "whole")))
    expected = network_of_stage(member, still, 0, tmp_path)[0]
    dots, order = Dots(27), pass_order(Dots(27).grades, Sampling(), (0, 0), 0)
    for number in range(2):
        positions = range(4 * number, 4 * number + 4)
        torch.manual_seed(int(np.random.SeedSequence((0, 0, 0, number, 1)).generate_state(1)[0]))
        expected.rescale(torch.stack([dots[int(order[p]), 0, p][0] for p in positions]))
    rescaled = load_file(best_weights(tmp_path / "whole", 0))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(rescaled[name], value)
        assert torch.equal(value, first[name]) == (not name.endswith("conv.weight"))  # biases are 0


def test_a_run_of_min_pooling_resumes_bit_equal(tmp_path):
    member = Member(MinPooling(2, tiny=True), Classification())
    stage = replace(PLAIN.stages[0], size=30, rescale=3, schedule="exponential", batch=1)
    recipe = replace(PLAIN, stages=(stage,), optimiser=Optimiser("sgd", 0.999, 0.0, 0.0), ema=0.9)
    recipe = replace(recipe, sampling=Sampling("random", draws=5, rounds=2))
    for place in ((0, 0, 4), (0, 1, 1)):
        with pytest.raises(Crash):
            run(member, recipe, tmp_path / "crashed", place)
    run(member, recipe, tmp_path / "crashed")
    fit = run(member, recipe, tmp_path / "whole")
    assert same(*(best_weights(tmp_path / name, 0) for name in ("crashed", "whole")))
    assert fit.batches.total == 10


def test_nesterov_momentum_of_graham_is_sgd_at_a_thousandth_of_the_rate():
    curvature, rate, momentum = torch.tensor([1.0, 3.0], dtype=torch.float64), 0.3, 0.999
    w, v = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    layer = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(w[None])
    optimiser = make_optimiser(layer, Optimiser("sgd", momentum, 0.0, 0.0))
    for _ in range(500):
        old, v = v, momentum * v - rate * (1 - momentum) * curvature * w
        w = w + (1 + momentum) * v - momentum * old
        layer.weight.grad = curvature * layer.weight.detach()
        optimiser.param_groups[0]["lr"] = rate * (1 - momentum)
        optimiser.step()
    torch.testing.assert_close(layer.weight.detach()[0], w, rtol=1e-9, atol=1e-12)
    assert w.abs().max() < 2  # it moved


def test_rounds_of_random_photographs():
    grades = np.zeros(50, int)
    rounds = Sampling("random", draws=20, rounds=3)
    order = pass_order(grades, rounds, (0, 0), 0)
    assert len(order) == rounds.total(50) == 60
    assert all(len(set(part)) == 20 for part in order.reshape(3, 20))
    assert len(set(order)) > 20
    assert not np.array_equal(order, pass_order(grades, rounds, (0, 0), 1))
    counts = np.bincount(pass_order(grades, Sampling("random", draws=120), (0, 0), 0))
    assert (len(counts), set(counts)) == (50, {2, 3})
    assert Sampling("random").total(50) == Sampling("decaying").total(50) == Sampling().total(50) == 50


def test_bar_and_pass_count_what_is_drawn(tmp_path):
    recipe = replace(PLAIN, sampling=Sampling("random", draws=7, rounds=3))
    assert Bar(recipe, 12, Progress()).batches == [6]
    network, data = MinPooling(1, tiny=True).build(5), StageData(Dots(27), Dots(27, 10), recipe.sampling)
    fit = Fit(network, Classification(), recipe, data, Progress(), tmp_path, None)
    assert (fit.batches.total, len(fit.train_dataloader())) == (5, 5)  # the last photograph alone is left out


# --- o_O and Reformed Gamblers: what is kept, and rows of a regime ---


class Judged(Fit):
    """A fit that is told its outputs."""

    logger = SimpleNamespace(log_metrics=lambda *rest, **named: None)

    def passes(self, outputs):
        """Finish a pass whose validation photographs got these outputs."""
        self.progress.batch, self.started, self.first_batch = 1, 0.0, 0
        self.outputs = [outputs]
        self.on_validation_epoch_end()
        self.on_train_epoch_end()
        return self.progress.history[-1]


def judged(recipe, folder, task, snapshots=("kappa",), stage=0):
    return Judged(torch.nn.Linear(1, 1), task, recipe, data_of(27), Progress(stage), folder, None, snapshots)


def mark(fit, value):
    with torch.no_grad():
        fit.network.weight.fill_(value)


def marked(path):
    return load_file(path)["weight"].item()


def test_three_weight_sets_are_kept(tmp_path):
    truth = torch.from_numpy(Dots(27, 10).grades).float()[:, None]
    right, near, bad = truth.clone(), truth.clone(), truth.clone()
    right += 0.45  # the right grades, further off
    near[0] = 0.6  # nearer, one wrong
    bad[:] = 1.0
    bad[0] = 0.0
    recipe = replace(PLAIN, stages=(replace(PLAIN.stages[0], epochs=3), replace(PLAIN.stages[0], epochs=3)))
    fit = judged(recipe, tmp_path, Regression(), ("kappa", "loss", "last"), 1)
    for number, outputs in enumerate((right, near, bad)):
        mark(fit, number)
        fit.passes(outputs)
    kept = {kind: marked(best_weights(tmp_path, 1, kind)) for kind in ("kappa", "loss", "last")}
    assert kept == {"kappa": 0, "loss": 1, "last": 2}
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "stage1-last.safetensors",
        "stage1-loss.safetensors",
        "stage1.safetensors",
    ]
    progress, _ = load_checkpoint(tmp_path / "last.pt")
    assert progress.best == 1 and progress.best_loss == pytest.approx(0.036)


def test_only_what_is_asked_for_is_kept(tmp_path):
    member, stage = Member(MinPooling(1, tiny=True), Classification()), replace(PLAIN.stages[0], epochs=1)
    recipe = replace(PLAIN, stages=(stage, replace(stage, begin="last"), replace(stage, begin="loss")))
    run(member, recipe, tmp_path, snapshots=("last",))
    names = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert names == ["stage0", "stage0-last", "stage1", "stage1-loss", "stage2", "stage2-last"]
    with pytest.raises(SettingError, match=r'"lost"; expected kappa, loss, last. Did you mean "loss"'):
        judged(recipe, tmp_path, Regression(), ("lost",))


def test_snapshots_survive_an_interruption(tmp_path):
    member = Member(OOSettings("b", 112, 1 / 8, 32), Regression())
    recipe = replace(PLAIN, stages=(replace(PLAIN.stages[0], size=112),))
    kinds = ("kappa", "loss", "last")
    with pytest.raises(Crash):
        run(member, recipe, tmp_path / "crashed", (0, 1, 2), kinds)
    run(member, recipe, tmp_path / "crashed", snapshots=kinds)
    run(member, recipe, tmp_path / "whole", snapshots=kinds)
    for kind in kinds:
        assert same(*(best_weights(tmp_path / name, 0, kind) for name in ("crashed", "whole")))


def test_a_row_of_a_regime_goes_on_from_the_last_weights_without_their_momentum(tmp_path):
    member = Member(ReformedGamblers("tiny-m47"), Regression(clipped=True))
    row = replace(PLAIN.stages[0], size=64, epochs=2, lr=1e-4)
    recipe = replace(PLAIN, stages=(replace(row, weight_decay=0.25), replace(row, begin="last")))
    run(member, replace(recipe, stages=(recipe.stages[0], replace(row, begin="last", epochs=1))), tmp_path)
    network, new = network_of_stage(member, recipe, 1, tmp_path)
    last = load_file(best_weights(tmp_path, 0, "last"))
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
    first, second = (
        Fit(network, member.task, recipe, data_of(64), Progress(number), tmp_path, new) for number in (0, 1)
    )
    decays = [{group["weight_decay"] for group in fit.optimiser.param_groups} for fit in (first, second)]
    assert decays == [{0.0, 0.25}, {0.0, Optimiser().weight_decay}]
    assert not second.optimiser.state


def test_a_row_begins_from_the_weights_it_names(tmp_path):
    member, recipe = Member(MinPooling(1, tiny=True), Classification()), replace(PLAIN, stages=PLAIN.stages * 2)
    for number, kind in enumerate(("kappa", "loss", "last")):
        network, _ = network_of_stage(member, recipe, 0, tmp_path)
        torch.nn.init.constant_(network.classif.weight, number)
        fit = Fit(network, member.task, recipe, data_of(27), Progress(0), tmp_path, None)
        fit.keep(kind)
    for number, kind in enumerate(("kappa", "loss", "last")):
        stages = (recipe.stages[0], replace(recipe.stages[1], begin=kind))
        network, _ = network_of_stage(member, replace(recipe, stages=stages), 1, tmp_path)
        assert network.classif.weight.unique().tolist() == [number]


def test_what_is_frozen_stays(tmp_path):
    member = Member(ReformedGamblers("tiny-cyc28"), Regression(clipped=True))
    stage = replace(PLAIN.stages[0], size=128, epochs=1, frozen=("trunk.stage1",))
    recipe = replace(PLAIN, stages=(stage, stage))
    before = network_of_stage(member, recipe, 0, tmp_path)[0].state_dict()
    run(member, recipe, tmp_path)
    after = load_file(best_weights(tmp_path, 1))
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name for name in after if name.startswith("trunk.stage1.")}.isdisjoint(moved)
    assert {"trunk.stage2.0.weight", "classif.weight"} <= moved
    odd = replace(recipe, stages=(replace(stage, frozen=("trunk.stag1",)),))
    with pytest.raises(SettingError, match=r'"trunk.stag1" is no part of the network.*Did you mean "trunk.stage1"'):
        run(member, odd, tmp_path / "odd")


def test_the_batch_norms_of_what_is_frozen_stay(tmp_path):
    recipe = replace(PLAIN, stages=(replace(PLAIN.stages[0], frozen=("trunk.conv2d_1a",)),))
    network = NetworkSettings(**SLIM).build(5)
    fit = Fit(network, Classification(), recipe, data_of(56), Progress(), tmp_path, None)
    fit.on_train_epoch_start()
    assert not any(each.training for each in network.trunk.conv2d_1a.modules())
    assert network.trunk.conv2d_2a.training


# --- batch norms measured anew ---


def bn_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))


def test_measured_norms_are_those_of_the_pictures_and_nothing_else_changes():
    network = bn_network()
    network[1].running_mean.fill_(7.0)
    before = {name: value.clone() for name, value in network.named_parameters()}
    batches = [(pictures(12, 6).float() / 255 * scale, None) for scale in (1, 3)]
    measure_norms(network, batches)
    with torch.no_grad():
        first = [network[0](x) for x, _ in batches]
        means = [x.mean((0, 2, 3)) for x in first]
        variances = [x.transpose(0, 1).flatten(1).var(dim=1) for x in first]
    assert torch.allclose(network[1].running_mean, (means[0] + means[1]) / 2, atol=1e-5)
    assert torch.allclose(network[1].running_var, (variances[0] + variances[1]) / 2, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert not network.training and not network[1].training and network[1].momentum == 0.1
    measure_norms(nn.Conv2d(3, 4, 3), [])  # nothing to measure


def test_frozen_norms_are_not_measured():
    network = bn_network()
    network[1].requires_grad_(False)
    measure_norms(network, [(pictures(12).float(), None)])
    assert torch.equal(network[1].running_mean, torch.zeros(4)) and network[4].running_mean.abs().min() > 0


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_pass_is_judged_with_measured_norms_and_resumes_bit_equal(ema, tmp_path):
    member = Member(NetworkSettings(**SLIM), Classification())
    recipe = replace(PLAIN, stages=(Stage(2, size=56, batch=4, lr=0.01),), ema=ema)
    measured = replace(recipe, norm_batches=3)
    plain, whole = run(member, recipe, tmp_path / "plain"), run(member, measured, tmp_path / "whole")
    assert whole.progress.history[-1]["val_loss"] != plain.progress.history[-1]["val_loss"]
    if ema:  # what is judged is a copy: the training itself is the same
        assert whole.progress.history[-1]["train_loss"] == plain.progress.history[-1]["train_loss"]
    with pytest.raises(Crash):
        run(member, measured, tmp_path / "cut", crash=(0, 1, 1))
    run(member, measured, tmp_path / "cut")
    assert same(best_weights(tmp_path / "whole", 0), best_weights(tmp_path / "cut", 0))
    network, _ = network_of_stage(member, measured, 0, tmp_path)
    load_weights(network, best_weights(tmp_path / "whole", 0))
    kept = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    best = max(whole.progress.history, key=lambda row: row["val_kappa"])["epoch"]
    order = pass_order(np.arange(12) % 5, recipe.sampling, (0, 0), best)
    measure_norms(network, [each for each, _ in zip(_batches(order, best), range(3), strict=True)])
    assert all(torch.allclose(kept[name], network.state_dict()[name], atol=1e-4) for name in kept)


def _batches(order, epoch):
    """The batches of 4 of a pass, as the trainer draws them."""
    dots = Dots(56)
    for start in range(0, len(order), 4):
        yield torch.stack([dots[(int(order[p]), epoch, p)][0] for p in range(start, start + 4)]), None


def test_the_score_of_the_gamblers_begins_at_the_middle(tmp_path):
    network, _ = network_of_stage(Member(ReformedGamblers("tiny-m46"), Regression(clipped=True)), PLAIN, 0, tmp_path)
    assert network.classif.bias.tolist() == [2.0]


# --- which pass is best ---


def at_cuts(severity, truth, cuts):
    return quadratic_weighted_kappa(truth, np.searchsorted(cuts, severity, "right"))


def test_a_pass_is_judged_at_the_cuts_it_would_be_read_at(tmp_path):
    truth = Dots(27, 10).grades
    shifted = truth * 0.3  # in perfect order, far from the default cuts
    plain = np.where(np.arange(10) == 0, 1.0, truth)  # one error at the default cuts, and none that a cut could mend
    chosen = {}
    for fitted in (True, False):
        folder = tmp_path / str(fitted)
        folder.mkdir()
        fit = judged(replace(PLAIN, fit_cuts=fitted), folder, Regression())
        rows = []
        for number, severity in enumerate((shifted, plain)):
            mark(fit, number)
            rows.append(fit.passes(torch.tensor(severity[:, None], dtype=torch.float32)))
            usual = at_cuts(severity, truth, (0.5, 1.5, 2.5, 3.5))
            best = at_cuts(severity, truth, fit_cuts(severity, truth))
            assert rows[-1]["val_kappa"] == pytest.approx(best if fitted else usual)
            assert rows[-1]["val_kappa_default_cuts"] == pytest.approx(usual)
        chosen[fitted] = marked(best_weights(folder, 0))
    assert chosen == {True: 0, False: 1}


# --- recipes ---


@pytest.mark.parametrize("name", recipe_names())
def test_every_member_of_a_packaged_recipe_can_be_trained(name):
    recipe = load_recipe(name)
    system = get(recipe.system).customised(recipe)
    _check(system, recipe)
    for member in system.members:
        for stage in recipe.of(member.name).stages:
            with torch.device("meta"):
                built = member.network.at(stage.size).build(member.task.outputs)
            if stage.part >= 0:
                built.stage = stage.part
                assert built.smallest_size() <= stage.size
            for each in stage.frozen:
                assert built.get_submodule(each)


def test_the_published_regimes():
    regimes = load_recipe("reformed-gamblers")
    assert sum(stage.epochs for stage in regimes.stages) == 162
    assert sum(stage["epochs"] for stage in regimes.members["m28"]["stages"]) == 190
    o_o = load_recipe("o-o")
    assert [(s.size, s.epochs, [s.rate(p) for p in (0, 149, 150, 200)]) for s in o_o.stages] == [
        (size, epochs, pytest.approx([0.003, 0.003, 0.0003, 0.0003]))
        for size, epochs in ((112, 201), (224, 201), (448, 251))
    ]
    assert o_o.stages[2].rate(220) == pytest.approx(0.00003)
    graham = load_recipe("min-pooling")
    assert graham.sampling.total(34126) == 36000
    assert graham.stages[0].rate(2.9) == pytest.approx(0.003 * (1 - 0.999) * np.exp(-0.05 * 2))
