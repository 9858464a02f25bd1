"""A row of the table, whole: what `m2cnn systems show` and `list` say, and what a grade costs."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from m2cnn import packaged
from m2cnn.bundle import load_bundle
from m2cnn.cli import main
from m2cnn.combine import COMBINERS
from m2cnn.data.views import Views
from m2cnn.entry import list_systems, show
from m2cnn.errors import SettingError
from m2cnn.models import OOSettings, ZoomInNet
from m2cnn.recipe import Stage
from m2cnn.systems import SYSTEMS, Member
from m2cnn.tasks import Classification, Regression
from m2cnn.work import grading_work, multiply_adds, passes

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "ladder": "quarter", "patch": 60, "gate": 64, "hidden": 64}
OO = Member(OOSettings("a", width=1 / 8, dense=32), Regression(), views=Views("halton", 50))


def test_work_follows_size_cells_and_part():
    sizes = [multiply_adds(OO, size) for size in (112, 224, 448)]
    assert sizes == [multiply_adds(OO, Stage(1, size=size)) for size in (112, 224, 448)] == sorted(sizes)
    zoom = Member(ZoomInNet("mac", **SLIM), Classification())
    m_net, a_net = (multiply_adds(zoom, Stage(1, size=112, part=part)) for part in (0, 1))
    assert m_net < a_net < multiply_adds(zoom, Stage(1, size=280, part=2)) == multiply_adds(zoom, 280)
    slim = replace(SYSTEMS["m2cnn"].members[0].network, width=1 / 16, repeats=(1, 1, 1), ladder="quarter")
    grown = [multiply_adds(Member(slim), Stage(1, size=112, cells=cells)) for cells in (0, 1)]
    assert grown[0] != grown[1]


def test_a_grade_costs_every_view_through_every_set_of_weights():
    work = multiply_adds(OO, 448)
    assert grading_work(OO, 448) == 50 * work
    assert grading_work(replace(OO, snapshots=("loss", "kappa", "last")), 448) == 150 * work
    assert passes(replace(OO, joins=False)) == grading_work(replace(OO, joins=False), 448) == 0


def test_work_of_a_network_without_settings_of_ours():
    class Foreign:
        def build(self, outputs, cells=0):
            return OOSettings("a", width=1 / 8, dense=32).build(outputs)

    assert multiply_adds(Member(Foreign(), Regression()), 448) == multiply_adds(OO, 448)


def test_work_of_what_there_is_not_is_refused():
    with pytest.raises(SettingError, match="500 px for OOSettings; expected 112, 224 or 448 px"):
        multiply_adds(OO, 500)
    with pytest.raises(SettingError, match="size: got 0"):
        multiply_adds(OO, Stage(1, rung=2))


def test_show_runs_the_cells_of_the_rung():
    def cells(name, size, **options):
        slim = {"width": 1 / 16, "repeats": (0, 0, 0)} | options.pop("settings", {})
        return show(name, size=size, settings=slim, **options).description.cells

    assert [cells("m2cnn", size) for size in (224, 447, 448, 719, 720, 1000)] == [0, 0, 1, 1, 2, 2]
    assert cells("basenet-mt", 720) == 0
    assert cells("m2cnn", 112, settings={"ladder": "quarter"}) == 1
    assert cells("m2cnn", 720, cells=1) == 1


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_row_is_shown_whole(name):
    system = SYSTEMS[name]
    entry = show(name, settings={"width": 1 / 8})
    text, plain = entry.to_text(), json.loads(json.dumps(entry.to_json()))
    assert text.startswith(f"{name}: {system.title}\n")
    told = plain["system"]
    assert [each["name"] for each in told["members"]] == [member.name for member in system.members]
    for member, each in zip(system.members, told["members"], strict=True):
        assert each["grading_work"] == each["multiply_adds"] * len(member.snapshots) * member.views.count * member.joins
        assert each["prepared"] == round(each["size"] * member.frame)
        assert f"{each['grading_work']:,}" in text
    label = rf"combiner +{system.combiner.name}: " if system.combiner else "combiner +none"
    assert re.search(label, text)
    assert plain["layers"] and plain["multiply_adds"] == entry.description.multiply_adds


def test_what_members_share_is_said_once_and_the_rest_in_a_table():
    text = show("reformed-gamblers", settings={"width": 1 / 8}).to_text()
    assert len(re.findall("colour natural", text)) == 1
    rows = {line.split()[0]: line for line in text.splitlines() if "ReformedGamblers: member" in line}
    assert len(rows) == 12
    assert "1024 px, 895 px of it shown" in rows["m51"] and "patients whose eyes differ by 1 or less" in rows["m51"]
    assert re.search(r" m53 +all patients +yes +yes$", rows["m53_2_psl"])
    assert re.search(r" - +all patients +no +no$", rows["m28"])
    assert "every member's severity for both eyes, and the side\n" in text
    assert re.search("fitted on +validation patients\ncuts +fitted on validation patients\n", text)
    blend = show("m2cnn+blend", settings={"width": 1 / 8}).to_text()
    assert re.search("fitted on +training patients\ncuts +fitted on validation patients\n", blend)
    views = show("o-o", settings={"width": 1 / 8}).to_text()
    assert re.search("picture +512 px, 448 px of it shown", views)
    assert re.search("fitted on +training patients\ncuts +as they stand\n", views)
    assert re.search("views +50 halton, from 0", views) and re.search("snapshots +kappa, loss, last\n", views)


def test_the_costs_add_up():
    plain = show("min-pooling", settings={"width": 1 / 8})
    total = sum(each["grading_work"] for each in plain.to_json()["system"]["members"])
    (line,) = [line for line in plain.to_text().splitlines() if re.match(r"total +\d+ +[\d,]+$", line)]
    assert line.split()[1:] == ["30", f"{total:,}"]


def test_the_member_that_is_named_is_the_one_of_the_table():
    entry = show("o-o", "b", 112, settings={"width": 1 / 8})
    assert (entry.description.settings["net"], entry.description.size) == ("b", 112)
    assert [each.size for each in entry.descriptions] == [448, 448]
    assert entry.to_json()["system"]["shown"] == "b"
    assert "\nmember b\nOOSettings, 112 px" in entry.to_text()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("o_o", {}, 'system: "o_o"; expected a system\'s name. Did you mean "o-o"?'),
        ("o-o", {"member": "A"}, 'member: "A"; expected a member of o-o'),
        ("m2cnn", {"member": "a"}, 'member: "a" of m2cnn; expected none: it has one member, without a name'),
        ("min-pooling", {"member": "net3"}, 'Did you mean "net-3"?'),
        ("min-pooling", {"size": 224}, "size: 224 px for MinPooling; expected 843 px, no other"),
        ("o-o", {"cells": 1}, "network.cells: got 1"),
        ("o-o", {"part": 0}, "part: 0 for OOSettings"),
        ("o-o", {"settings": {"widht": 1}}, 'unknown setting "widht". Did you mean "width"?'),
        ("reformed-gamblers", {"settings": {"ladder": "half"}}, 'unknown setting "ladder"'),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused(name, options, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        show(name, **options)


def test_every_combiner_says_what_it_reads():
    assert all(combiner().reads for combiner in COMBINERS.values())


def test_the_list_has_every_row_with_members_and_combiner():
    text = list_systems()
    for system in SYSTEMS.values():
        assert f"{system.name}: {system.title}\n" in text
    assert re.search(r"members +12: m28, cyc28", text)
    assert re.search(r"paper +not in it\n(.*\n)+members +1\ncombiner +blend", text)


def test_the_verbs(capsys):
    assert main(["systems", "list"]) == 0
    assert "reformed-gamblers" in capsys.readouterr().out
    assert main(["systems", "show", "zoom-in-net", "--part", "1", "--width", "1/8", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["size"], plain["part"], plain["kind"]) == (492, 1, "ZoomInNet")
    assert main(["systems", "show", "o-o", "--member", "b", "--size", "224", "--width", "1/8"]) == 0
    assert "OOSettings, 224 px" in capsys.readouterr().out
    assert main(["systems", "show", "min-pooling", "--size", "224"]) == 2
    assert "expected 843 px" in capsys.readouterr().err


def test_a_recipe_and_a_packaged_model_are_told_their_system():
    said = '"basenet-mse" is a recipe of the system basenet; .* show basenet shows .*which the recipe may change'
    with pytest.raises(SettingError, match=said):
        show("basenet-mse")
    for name in packaged.names():
        system = re.escape(load_bundle(name).system)
        said = rf'"{name}" is a packaged model of the system {system}; .* show {system} .*; m2cnn card {name}, its own'
        with pytest.raises(SettingError, match=said):
            show(name)
    with pytest.raises(SettingError, match=r'"basenet-msee"; .*Did you mean "basenet-mt"'):
        show("basenet-msee")
    assert show("m2cnn", size=224).system.name == "m2cnn"  # a recipe's name too


def test_the_base_install_lists_the_systems_and_says_what_their_layers_need():
    def without_torch(*words):
        hidden = ("torch", "torchvision", "lightning", "timm", "safetensors", "onnx", "sklearn")
        code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); from m2cnn.cli import main\n"
        code += f"sys.exit(main({['systems', *words]}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    code, out, err = without_torch("list")
    assert (code, err) == (0, "") and out.endswith(list_systems())
    code, out, err = without_torch("show", "m2cnn")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and "pip install 'm2cnn[train]'" in err
