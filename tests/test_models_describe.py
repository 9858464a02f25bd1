"""The layer table against torch's own flop counter, the parameters, and the poster's size table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2cnn.errors import SettingError, SizeError
from m2cnn.models import build_network
from m2cnn.models.describe import describe, size_table, size_table_text

METHOD_PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "method.md"
SLIM = {"width": 1 / 16, "repeats": [1, 1, 1], "ladder": "quarter"}


def counted(settings: dict, size: int, cells: int) -> tuple[int, int]:
    """Parameters and multiply-adds by torch itself."""
    with torch.device("meta"), torch.no_grad():
        network = build_network(settings, 6, cells).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, size, size))
    return sum(each.numel() for each in network.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("settings", "size", "cells"),
    [
        (SLIM, 184, 2),
        (SLIM | {"cell": "plain"}, 112, 1),
        (SLIM | {"cell": "residual"}, 112, 1),
        ({"trunk": "timm:resnet18"}, 160, 1),
        ({"trunk": "timm:mobilenetv3_small_050"}, 160, 1),
        ({"trunk": "timm:convnext_atto"}, 160, 0),
        ({"trunk": "timm:hrnet_w18_small"}, 96, 0),
    ],
    ids=str,
)
def test_totals_are_those_of_torch(settings, size, cells):
    description = describe(settings, 6, size, cells)
    assert (description.parameters, description.multiply_adds) == counted(settings, size, cells)


@pytest.mark.parametrize(("size", "cells", "billions"), [(224, 0, 6.5), (448, 0, 30), (720, 0, 84)])
def test_work_of_the_full_network(size, cells, billions):
    description = describe({}, 1000, size, cells)
    assert description.multiply_adds / 1e9 == pytest.approx(billions, rel=0.02)
    assert description.parameters == 55_843_464


def test_rows_of_the_full_network():
    rows = {row.name: row for row in describe({}, 6, 720, 2).layers}
    assert list(rows)[:2] == ["normalise", "trunk.conv2d_1a"]
    assert list(rows)[-7:] == [
        "cells.1.0", "cells.1.1", "cells.1.2", "trunk.conv2d_7b", "trunk.pool", "dropout", "classif",
    ]  # fmt: skip
    maps = {name: (row.channels, row.map) for name, row in rows.items()}
    assert maps["trunk.conv2d_1a"] == (32, 359)
    assert maps["trunk.repeat_1"] == (1088, 43)
    assert maps["trunk.block8"] == (2080, 21)
    assert (maps["cells.0.2"], maps["cells.1.2"]) == ((2080, 10), (2080, 4))
    assert maps["trunk.conv2d_7b"] == (1536, 4)
    assert maps["classif"] == (6, 1)
    assert rows["cells.0.0"].parameters == 6_908_032
    assert rows["cells.0.1"].parameters == 2_035_424
    assert rows["trunk.repeat"].operation == "10 x Block35, scale 0.17"


def test_every_row_names_its_source():
    rows = {row.name: row.source for row in describe(SLIM, 6, 112, 1).layers}
    assert all(source.startswith(("known: ", "computed: ", "reconstruction: ")) for source in rows.values())
    assert rows["trunk.mixed_5b"].startswith("known: Inception-ResNet-v2 (arXiv 1602.07261")
    assert "reconstruction" in rows["cells.0.0"]
    assert "known: five logits and one score" in rows["classif"]


def test_what_differs_from_the_published_network_is_a_reconstruction():
    assert describe({}, 6, 224).notes == ()
    (note,) = describe(SLIM, 6, 56).notes
    assert note.startswith("reconstruction: width 0.0625, repeats [1, 1, 1], the quarter ladder; the published network")
    assert "forward_features" in describe({"trunk": "timm:resnet18"}, 6, 64).notes[0]


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("plain", "conv 3x3 s2"), ("residual", "max 3x3 s2 + 0.2 x (1x1, 3x3 s2, linear 1x1)")],
)
def test_the_other_cells_have_one_row(kind, operation):
    rows = {row.name: row for row in describe(SLIM | {"cell": kind}, 6, 112, 1).layers}
    assert rows["cells.0"].operation == operation
    assert rows["cells.0"].map == 5


def test_layers_of_a_timm_trunk_stand_on_their_side_of_the_switch():
    rows = {row.name: row for row in describe({"trunk": "timm:mobilenetv3_small_050"}, 6, 160, 1).layers}
    names = list(rows)
    assert names.index("trunk.net.blocks") < names.index("cells.0.0") < names.index("trunk.net.conv_head")
    assert rows["trunk.net.blocks"].source == "known: mobilenetv3_small_050 as in timm"
    assert describe({"trunk": "timm:resnet18"}, 6, 64).layers[5].operation == "2 x BasicBlock"


def test_json_is_plain_and_complete():
    description = describe(SLIM, 6, 112, 1)
    read = json.loads(json.dumps(description.to_json()))
    assert read == description.to_json()
    assert read["parameters"] == description.parameters
    assert read["smallest_size"] == 55
    assert len(read["layers"]) == len(description.layers)
    assert read["poster_sizes"][1]["before"] == 6


def test_text_has_every_row_its_total_and_its_legend():
    description = describe(SLIM, 6, 112, 1)
    text = description.to_text()
    lines = text.splitlines()
    assert lines[0] == "inception_resnet_v2, 112 px, 1 cell, 6 outputs; smallest input 55 px"
    for row in description.layers:
        (line,) = [each for each in lines if each.split()[:1] == [row.name]]
        assert f"{row.parameters:,}" in line
    (total,) = [each for each in lines if each.startswith("total")]
    assert total.split()[1:] == [f"{description.parameters:,}", f"{description.multiply_adds:,}"]
    assert text.endswith(size_table_text())
    assert "[a] known" in text


def test_the_size_table_stands_beside_the_posters():
    table = {row.input: row for row in size_table()}
    assert {size: (row.poster_before, row.poster_after) for size, row in table.items()} == {
        224: (5, 5), 256: (8, 8), 448: (12, 5), 720: (21, 4),
    }  # fmt: skip
    assert {size: (row.before, row.after) for size, row in table.items()} == {
        224: (5, 5), 256: (6, 6), 448: (12, 5), 720: (21, 4),
    }  # fmt: skip
    assert "256 px give 6 x 6, not 8 x 8" in size_table_text()


def test_the_method_page_says_the_same():
    page = METHOD_PAGE.read_text(encoding="utf-8")
    stages = [describe({}, 6, size, cells) for size, cells in ((224, 0), (448, 1), (720, 2))]
    for name in (
        "conv2d_1a",
        "conv2d_4a",
        "mixed_5b",
        "repeat",
        "mixed_6a",
        "repeat_1",
        "mixed_7a",
        "block8",
        "conv2d_7b",
    ):
        rows = [{row.name: row for row in each.layers}[f"trunk.{name}"] for each in stages]
        maps = " / ".join(str(row.map) for row in rows)
        (line,) = [each for each in page.splitlines() if each.startswith(f"| {name} |")]
        assert f"| {rows[0].channels} | {maps} | {rows[0].parameters:,} |" in line
    for row in size_table():
        after = f"{row.poster_before} | {row.before} | {row.poster_after} | {row.after} |"
        assert f"| {row.input} | {row.cells} | {after}" in page.replace("*", "")


def test_what_cannot_be_described_is_refused(tmp_path):
    with pytest.raises(SizeError, match="at least 203 x 203 px"):
        describe({}, 6, 200, 1)
    with pytest.raises(SettingError, match="size: got 0"):
        describe({}, 6, 0)
    with pytest.raises(SettingError, match="size: got True"):
        describe({}, 6, True)


def test_weights_are_not_read(tmp_path):
    description = describe(SLIM | {"weights": str(tmp_path / "none.safetensors")}, 6, 56)
    assert description.settings["weights"].endswith("none.safetensors")
