"""The law suite: every system runs, learns, saves, exports, and treats a batch as its photographs one by one."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from m2cnn.checkpoint import save_weights
from m2cnn.errors import SettingError
from m2cnn.export import export_onnx
from m2cnn.models import MinPooling, OOSettings, ReformedGamblers, ZoomInNet
from m2cnn.models.reformed_gamblers import TINY
from m2cnn.recipe import load_recipe
from m2cnn.systems import SYSTEMS, network_kinds
from m2cnn.tasks import Classification, Regression

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "residual_blocks": 1, "ladder": "quarter"}
ZOOM = {"width": 1 / 16, "repeats": (1, 1, 1), "ladder": "quarter", "patch": 60, "gate": 64}
# Those of the other systems, as small as they are built: their settings and the task that reads them.
OTHERS = {
    "min-pooling-1": (MinPooling(1, tiny=True), Classification()),
    "min-pooling-2": (MinPooling(2, tiny=True), Classification()),
    "min-pooling-3": (MinPooling(3, tiny=True), Classification()),
    "o-o-a": (OOSettings("a", 112, 1 / 8, 32), Regression()),
    "o-o-b": (OOSettings("b", 112, 1 / 8, 32), Regression()),
    **{f"gamblers-{name}": (ReformedGamblers(name), Regression(clipped=True)) for name in TINY},
    "m-net-a-net": (ZoomInNet("ma", **ZOOM), Classification()),
    "zoom-in-net": (ZoomInNet("mac", **ZOOM), Classification()),
}
TRUNKS = ("resnet18", "mobilenetv3_small_050", "convnext_atto")
FAMILY = ("basenet", "basenet-mt", "m2cnn")  # of one network, NetworkSettings
LAWFUL = [(name, {}) for name in FAMILY] + [("m2cnn", {"cell": cell}) for cell in ("plain", "residual")]
LAWFUL += [("m2cnn", {"trunk": f"timm:{trunk}"}) for trunk in TRUNKS] + [(name, {}) for name in OTHERS]


def size_and_cells(system, settings):
    if settings.get("trunk"):
        return 160, 1
    rung = 1 if max(system.cells) else 0
    return (56, 112)[rung], system.cells[rung]


def named(case):
    return "-".join([case[0], *map(str, case[1].values())])


@pytest.fixture(params=LAWFUL, ids=named, scope="module")
def member(request):
    """(network, task, size, rebuild) of a slim twin of each system."""
    name, settings = request.param
    if name in OTHERS:
        return other_member(*OTHERS[name])
    system = SYSTEMS[name]
    member = system.members[0]
    slim = replace(member.network, **settings) if settings.get("trunk") else replace(member.network, **SLIM, **settings)
    size, cells = size_and_cells(system, settings)
    torch.manual_seed(0)

    def build():
        return slim.build(member.task.outputs, cells)

    return build(), member.task, size, build


def other_member(settings, task):
    size = getattr(settings, "size", 280 if getattr(settings, "parts", "") == "mac" else 112)
    torch.manual_seed(0)

    def build():
        network = settings.build(task.outputs, 0)
        with torch.no_grad():
            network.classif.bias.copy_(torch.tensor(task.initial_bias()))  # as training starts
        return network

    return build(), task, size, build


def test_the_networks_of_the_package_come_back_from_plain_values():
    for settings, _ in OTHERS.values():
        assert (
            network_kinds()[type(settings).__name__].from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
        )


def pictures(size, count=2):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_forward_is_finite_and_shaped(member):
    network, task, size, _ = member
    outputs = network.eval()(pictures(size))
    assert outputs.shape == (2, task.outputs)
    assert outputs.isfinite().all()
    decoded = task.read(outputs.detach().numpy())
    assert set(decoded.grade) <= set(range(5))


def test_every_parameter_gets_a_gradient(member):
    network, task, size, build = member
    network = build().train()
    grades = torch.tensor([0, 1, 2, 4])
    # Two steps: what starts at zero (a residual cell, timm's last norms) passes no gradient on in the first.
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        task.loss(network(pictures(size, 4)), grades).backward()
        optimiser.step()
    learning = [(name, p.grad) for name, p in network.named_parameters() if p.requires_grad]  # C-Net learns alone
    assert all(gradient.isfinite().all() for _, gradient in learning)
    assert [name for name, gradient in learning if not gradient.abs().sum() > 0] == []


def test_saved_weights_give_equal_outputs(member, tmp_path):
    network, _, size, build = member
    save_weights(network.eval(), tmp_path / "w.safetensors")
    other = build()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(other.eval()(pictures(size)), network(pictures(size)))


def test_a_batch_is_its_photographs_one_by_one(member):
    network, _, size, _ = member
    batch = pictures(size)
    alone = torch.cat([network.eval()(one[None]) for one in batch])
    assert torch.allclose(network(batch), alone, atol=1e-5)


# An export takes seconds. Zoom-in-Net's stands in tests/test_rows.py, with the agreement that every bundle must have,
# those of timm's trunks in tests/test_export.py; BaseNet's network is that of BaseNet+MT.
EXPORTED = [each for each in LAWFUL if each[0] not in ("zoom-in-net", "basenet") and "trunk" not in each[1]]


@pytest.mark.parametrize("member", EXPORTED, indirect=True, ids=named)
def test_onnx_says_the_same(member, tmp_path):
    network, _, size, _ = member
    export_onnx(network, size, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        ours = network.eval()(pictures(size, count)).detach().numpy()
        assert np.abs(session.run(None, {"pictures": pictures(size, count).numpy()})[0] - ours).max() < 1e-4


# Kappa on Kaggle's public and private part (the poster's table).
PAPER = {
    "min-pooling": (0.860, 0.849),
    "zoom-in-net": (0.857, 0.849),
    "o-o": (0.854, 0.844),
    "reformed-gamblers": (0.851, 0.839),
    "m-net-a-net": (0.837, 0.832),
    "basenet": (0.835, 0.828),
    "basenet-mt": (0.841, 0.838),
    "m2cnn": (0.844, 0.841),
}


def test_the_papers_rows_have_its_numbers_and_a_source():
    assert {name: system.paper for name, system in SYSTEMS.items() if system.paper} == PAPER
    assert all(system.source for system in SYSTEMS.values())


def test_the_law_suite_knows_every_network_of_every_row():
    lawful = {type(settings).__name__ for settings, _ in OTHERS.values()} | {"NetworkSettings"}
    assert lawful == set(network_kinds())


def test_a_recipe_changes_only_its_member():
    changed = SYSTEMS["basenet"].customised(load_recipe("basenet-ce", ["network.width=1/8"]))
    assert changed.members[0].task.name == "classification"
    assert SYSTEMS["basenet"].members[0].task.name == "regression"
    with pytest.raises(SettingError, match="unknown setting"):
        SYSTEMS["m2cnn"].customised(load_recipe("m2cnn", ["network.depth=3"]))
