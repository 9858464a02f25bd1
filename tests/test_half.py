"""Half storage: rounded before anything is measured, lossless in both files, and never where float16 is too narrow."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

import m2cnn.part
from m2cnn.bundle import load_bundle, load_network
from m2cnn.checkpoint import load_weights, save_weights
from m2cnn.errors import BundleError, SettingError
from m2cnn.export import Origin, save_bundle
from m2cnn.half import large, round_to_half
from m2cnn.models import MinPooling, NetworkSettings, OOSettings, ReformedGamblers
from m2cnn.models.reformed_gamblers import TINY
from m2cnn.onnx_export import LEAST
from m2cnn.recipe import load_recipe
from m2cnn.systems import Member
from m2cnn.tasks import Classification, MultiTask, Regression
from m2cnn.train import train

TRUNK = load_recipe("mobilenet-mt").network
SLIM = {"width": 1 / 8, "repeats": (1, 1, 1), "residual_blocks": 1, "ladder": "quarter"}
# One of each kind of network that systems are made of: (settings, task, size, cells).
CASES = {
    "m2cnn": (NetworkSettings(**SLIM), MultiTask(), 112, 1),
    "timm": (NetworkSettings.from_dict(TRUNK), MultiTask(), 64, 0),
    "min-pooling": (MinPooling(1, tiny=True), Classification(), MinPooling(1, tiny=True).size, 0),
    "o-o": (OOSettings("b", 112, 1 / 4, 64), Regression(), 112, 0),
    "gamblers": (ReformedGamblers(next(iter(TINY))), Regression(clipped=True), 0, 0),
}
ORIGIN = Origin("small", "ours", {"manifest": "", "recipe": {}}, b"")


@pytest.fixture(params=CASES, scope="module")
def halved(request, tmp_path_factory):
    """(the rounded network, its bundle)."""
    settings, task, size, cells = CASES[request.param]
    size = size or settings.size
    torch.manual_seed(0)
    network = settings.build(task.outputs, cells)
    pictures = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for _ in range(3):  # batch norms meet pictures; at random they blow the outputs up
            network.train()(pictures)
        for buffer in [each for name, each in network.named_buffers() if name.endswith("running_var")][-1:]:
            buffer[0], buffer[1] = 1e-9, 1e6  # what float16 would make 0 and infinite
    round_to_half(network.eval())
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    member = Member(settings, task)
    return network, save_bundle(folder, network, member, ORIGIN, size=size, cells=cells, half=True)


def test_both_backends_say_what_the_rounded_network_says(halved):
    network, bundle = halved
    pictures = np.random.default_rng(0).integers(0, 256, (3, bundle.size, bundle.size, 3), dtype=np.uint8)
    with torch.no_grad():
        ours = network(torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))).numpy()
    assert np.array_equal(bundle.answers("torch")(pictures)[0], ours)
    assert np.abs(bundle.answers("onnx")(pictures)[0] - ours).max() <= 1e-4 * max(1, np.abs(ours).max())


def test_the_large_weights_take_two_bytes_and_all_else_is_as_it_was(halved):
    network, bundle = halved
    stored = load_file(bundle.folder / "weights.safetensors")
    weights = {name for name, weight in network.named_parameters() if weight.dim() >= 2}
    for name, value in network.state_dict().items():
        assert torch.equal(stored[name].to(value.dtype), value)
        assert stored[name].dtype == (torch.float16 if name in weights else value.dtype)
    assert {each.dtype for each in load_network(bundle).parameters()} == {torch.float32}


def test_no_kernel_of_the_onnx_file_is_left_in_four_bytes(halved):
    network, bundle = halved
    graph = onnx.load(bundle.folder / "model.onnx").graph
    sizes = {each.name: np.prod(each.dims) for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    vectors = {each.name for each in graph.initializer if len(each.dims) < 2}
    assert [name for name, size in sizes.items() if size >= LEAST and name not in vectors] == []
    halves = [np.prod(each.dims) for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT16]
    assert sum(halves) >= sum(each.numel() for each in large(network).values() if each.numel() >= LEAST)


@pytest.mark.parametrize("halved", ["timm"], indirect=True)  # the others are too small to tell
def test_a_timm_trunk_takes_half(halved):
    network, bundle = halved
    most = 2.2 * sum(each.numel() for each in network.parameters())
    assert all((bundle.folder / file).stat().st_size < most for file in ("weights.safetensors", "model.onnx"))


def test_no_file_tells_where_it_was_made(halved):
    _, bundle = halved
    content = (bundle.folder / "model.onnx").read_bytes()
    assert b"site-packages" not in content and b"stack_trace" not in content


def test_a_run_rounds_before_it_fits_cuts_and_measures(rendered, tiny_recipe, tmp_path, monkeypatch):
    fitted = m2cnn.part._with_fitted_cuts
    seen = []

    def spied(part, cached, network):
        seen.append({name: weight.detach().clone() for name, weight in large(network).items()})
        return fitted(part, cached, network)

    monkeypatch.setattr(m2cnn.part, "_with_fitted_cuts", spied)
    stage = replace(tiny_recipe.stages[0], epochs=1)
    bundle = train(replace(tiny_recipe, stages=(stage,), half=True, fit_cuts=True), rendered, tmp_path / "run")
    (weights,) = seen
    assert all(torch.equal(weight, weight.half().float()) for weight in weights.values())
    stored = load_file(bundle.folder / "weights.safetensors")
    assert all(torch.equal(stored[name], weight.half()) for name, weight in weights.items())
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["half"] is True
    other = load_network(load_bundle(tmp_path / "run")).train()
    load_weights(other, bundle.folder / "weights.safetensors")  # as a run that goes on from it does
    assert {each.dtype for each in other.parameters()} == {torch.float32}


def test_a_member_can_be_halved_alone():
    recipe = load_recipe("o-o-slim", ["members.b.half=true"])
    assert (recipe.half, recipe.of("a").half, recipe.of("b").half) == (False, False, True)
    with pytest.raises(SettingError, match=r"half: 'yes'; expected bool"):
        load_recipe("m2cnn", ["half=yes"])


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_a_weight_beyond_float16_is_refused_and_nothing_changes(value):
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight[0, 0] = value
    before = network[0].weight.clone()
    with pytest.raises(SettingError, match=r"half, 1\.weight: a weight of .*65504"):
        round_to_half(network)
    assert torch.equal(network[0].weight, before)


def test_what_was_not_rounded_is_not_stored_as_half(tmp_path):
    with pytest.raises(BundleError, match="not rounded to float16"):
        save_weights(torch.nn.Linear(3, 2), tmp_path / "w.safetensors", half=True)
