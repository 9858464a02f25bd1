"""The layer tables of all networks: against published counts, torch's own counter, and maps of real numbers."""

import re
from importlib import resources

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2cnn.errors import SettingError, SizeError
from m2cnn.models import MinPooling, NetworkSettings, OOSettings, PlainSettings, ReformedGamblers, ZoomInNet
from m2cnn.models.describe import describe_network
from m2cnn.models.o_o import map_sizes
from m2cnn.models.reformed_gamblers import TINY
from m2cnn.models.reformed_gamblers import map_sizes as stage_sizes
from m2cnn.recipe import load_recipe, recipe_names
from m2cnn.systems import SYSTEMS
from m2cnn.work import multiply_adds

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "ladder": "quarter", "patch": 60, "gate": 64, "hidden": 64}
ZOOM = ZoomInNet("mac", **SLIM)
SMALL = [
    *(MinPooling(net, tiny=True) for net in (1, 2, 3)),
    *(OOSettings(net, 112, 1 / 8, 32) for net in "ab"),
    *(ReformedGamblers(name) for name in TINY),
    ZoomInNet("m", **SLIM),
    ZoomInNet("ma", **SLIM),
    ZOOM,
    ZoomInNet("mac", trunk="timm:resnet18", patch=64, gate=16, hidden=16),
]
# Parameters with the members' outputs: published, or computed from published layers.
PUBLISHED = {
    MinPooling(1): 2_699_397,
    MinPooling(2): 6_104_901,
    MinPooling(3): 3_009_573,
    **{ReformedGamblers(name): count for name, count in {
        "m28": 11.0e6, "cyc28": 12.4e6, "m41": 24.9e6, "m46": 9.3e6, "m47": 11.4e6, "m51": 9.4e6, "m58": 11.9e6,
    }.items()},
}  # fmt: skip


def outputs_of(settings):
    return 1 if isinstance(settings, OOSettings | ReformedGamblers) else 5


def small_size(settings):
    if not isinstance(settings, ZoomInNet):
        return settings.usual_size()
    return 280 if settings.parts == "mac" else 112


def built(settings):
    return settings.build(outputs_of(settings)).eval()


def described(settings, size=None, part=-1):
    return describe_network(settings, outputs_of(settings), size or small_size(settings), part=part)


def resize_work(size, whole):
    """Of the two matrix products that make M-Net's picture, for three channels."""
    return 3 * (whole * size * size + whole * size * whole)


@pytest.mark.parametrize("settings", SMALL, ids=str)
def test_totals_are_those_of_torch(settings):
    network, size = built(settings), small_size(settings)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size, size))
    resized = resize_work(size, round(size / settings.zoom)) if getattr(settings, "parts", "") == "mac" else 0
    description = described(settings)
    assert description.multiply_adds == counter.get_total_flops() // 2 - resized
    assert description.parameters == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("settings", SMALL, ids=str)
def test_rows_stand_in_the_order_and_have_the_shapes_of_a_real_picture(settings):
    network, ran = built(settings), []
    rows = {row.name: row for row in described(settings).layers}
    for name in rows:
        network.get_submodule(name).register_forward_hook(lambda *given, name=name: ran.append((name, given[2].shape)))
    size = small_size(settings)
    with torch.no_grad():
        network(torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8))
    shapes = dict(reversed(ran))  # o_O's dropout runs twice: its first shape
    assert list(dict(ran)) == list(rows)
    for name, row in rows.items():
        shape = shapes[name] if name != "dropout" else dict(ran)[name]
        assert (row.channels, row.map) == (shape[1], shape[-1] if len(shape) == 4 else 1)


@pytest.mark.parametrize(("settings", "count"), PUBLISHED.items(), ids=str)
def test_parameters_at_full_width_are_the_published_ones(settings, count):
    parameters = described(settings).parameters
    assert parameters == count if isinstance(count, int) else abs(parameters - count) < 5e4


def test_o_o_at_full_width():
    rows = {row.name: row for row in described(OOSettings("a")).layers}
    dense = sum(rows[name].parameters for name in ("dense_1", "dense_2"))
    convolutions = [row for name, row in rows.items() if "conv_" in name]
    untied = sum(row.channels * row.map**2 for row in convolutions)
    assert round(dense / 1e6, 2) == 2.62
    assert round(untied / 1e6, 2) == 4.26
    assert round((sum(row.parameters for row in convolutions) - untied) / 1e6, 2) == 5.52
    for net in "ab":
        for size in (112, 224, 448):
            maps = [row.map for row in described(OOSettings(net), size).layers if row.name.startswith("layers.")]
            assert maps == list(map_sizes(net, size).values())


def test_stages_of_the_gamblers():
    rows = described(ReformedGamblers("m47")).layers
    assert [row.map for row in rows if row.name.startswith("trunk.stage")] == list(stage_sizes("m47"))


def test_zoom_in_net_at_full_width_part_by_part():
    parts = [described(ZoomInNet("mac"), ZoomInNet("mac").usual_size(part), part) for part in range(3)]
    trunk, m_net, a_net, c_net = 54_306_464, 7_685, 1_342_122, 1_575_941
    assert [each.size for each in parts] == [492, 492, 1230]
    assert parts[0].parameters == trunk + m_net
    assert parts[1].parameters == trunk + m_net + a_net
    assert parts[2].parameters == 2 * trunk + m_net + a_net + c_net
    assert [round(each.multiply_adds / 1e9, 1) for each in parts] == [38.2, 38.4, 125.5]
    maps = {row.name: row.map for row in parts[2].layers}
    assert (maps["trunk.block8"], maps["c_net.trunk.block8"]) == (14, 10)
    assert f"{resize_work(1230, 492) / 1e9:.1f} G multiply-adds for 1230 to 492 px" in parts[2].notes[0]


@pytest.mark.parametrize("settings", [*SMALL, *PUBLISHED, OOSettings("b"), OOSettings("a", 112)], ids=str)
def test_every_row_says_how_sure_we_are_and_what_it_does(settings):
    for row in described(settings).layers:
        plain = re.sub(r"\(.*?\)", "", row.source)
        assert all(re.match("(known|computed|reconstruction): ", part) for part in plain.split("; ")), row
        assert row.operation and "{" not in row.operation


def test_operations_tell_kernels_strides_and_pools():
    def told(settings):
        return {row.name: row.operation for row in described(settings).layers}

    assert told(MinPooling(2, tiny=True))["blocks.2"] == "conv 3x3, drop 2 of 16 maps, fractional max 3x3 to 5"
    assert told(OOSettings("b", 112))["layers.conv_1"] == "conv 4x4 s2 p1, untied bias, leaky ReLU"
    assert told(ReformedGamblers("tiny-m41"))["trunk.stage1"] == "conv 4x4 p2, conv 4x4 p1, max 3x3 s2"
    assert told(ReformedGamblers("tiny-cyc28"))["trunk.stage1"] == "3 x conv 3x3 p1, max 4x4 s4"
    assert told(ZOOM)["c_net.trunk.repeat"] == "1 x Block35, scale 0.17, on 4 patches"
    assert "trunk.net.layer1" in told(SMALL[-1])


def test_what_is_not_as_published_is_noted():
    assert described(MinPooling(3)).notes == described(OOSettings("b", 224), 224).notes == ()
    (note,) = described(OOSettings("a", 112, 1 / 8, 32)).notes
    assert note == "reconstruction: width 0.125, dense 32; the full network has width 1, dense 1024"


def test_text_and_plain_values():
    description = described(OOSettings("a"), 112)
    assert description.to_text().startswith("OOSettings, 112 px, 1 outputs; takes 112, 224 or 448 px alone\n")
    assert description.to_json()["settings"]["size"] == 112
    assert description.to_json()["fixed_sizes"] == [112, 224, 448]
    assert "up to 1, 5 outputs; smallest input" in described(ZOOM, 112, 1).to_text()


class Own(PlainSettings):
    """A network of somebody else's, which says nothing of its sources."""

    def without_weights(self):
        return self

    def to_dict(self):
        return {}

    def build(self, outputs, cells=0):
        pool = torch.nn.AdaptiveAvgPool2d(1)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), pool, torch.nn.Flatten(), torch.nn.Linear(4, outputs))


def test_a_network_that_says_nothing_has_a_table_too():
    rows = describe_network(Own(), 2, 10).layers
    assert [(row.operation, row.map, row.source) for row in rows][:2] == [
        ("conv 3x3", 8, "not stated"), ("mean over the map", 1, "not stated"),
    ]  # fmt: skip
    assert sum(row.multiply_adds for row in rows) == 64 * 4 * 27 + 8


def test_describing_draws_no_number_and_reads_no_weights(tmp_path):
    state = torch.get_rng_state()
    described(ZoomInNet("ma", weights=str(tmp_path / "none.safetensors"), **SLIM))
    described(MinPooling(1, tiny=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (MinPooling(1), {"size": 512}, "size: 512 px for MinPooling; expected 843 px, no other"),
        (OOSettings("a"), {"size": 500}, "expected 112, 224 or 448 px, no other"),
        (ReformedGamblers("m46"), {"size": 0}, "size: got 0"),
        (OOSettings("a"), {"size": 448, "part": 1}, "part: 1 for OOSettings; expected -1: it has no parts"),
        (NetworkSettings(), {"size": 448, "part": 0}, "part: 0 for NetworkSettings"),
        (ZOOM, {"size": 280, "part": 3}, "stage: got 3; expected 0..2"),
        (ZOOM, {"size": 280, "cells": 1}, "network.cells: got 1"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused(settings, options, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        describe_network(settings, outputs_of(settings), **options)


def test_too_small_a_picture_is_refused():
    with pytest.raises(SizeError, match="is too small at stage 1"):
        describe_network(ZOOM, 5, 20, part=1)


def header(name):
    """What a recipe's first lines say of its cost, without line breaks; "" where they say nothing."""
    text = (resources.files("m2cnn.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    cost = re.search(r"Cost.*?(\(computed\)|three times|$)", " ".join(lines))
    return cost.group() if cost and "G multiply-adds" in cost.group() else ""


def is_said(work, text):
    """Whether a number of the text is `work`, in G and to as many places as it is written; or a range holds it."""
    span = re.search(r"([\d.]+) to ([\d.]+) G", text)
    if span:
        return float(span[1]) - 0.005 <= work <= float(span[2]) + 0.005
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)
    return any(f"{work:.{len(each.partition('.')[2])}f}" == each for each in numbers)


@pytest.mark.parametrize("name", [name for name in recipe_names() if header(name)])
def test_the_recipes_say_what_they_cost(name):
    recipe = load_recipe(name)
    for member in SYSTEMS[recipe.system].customised(recipe).members:
        for stage in recipe.of(member.name).stages:
            work = multiply_adds(member, stage) / 1e9
            assert is_said(work, header(name)), f"{member.name} {stage.size} px: {work:.4g} G"
