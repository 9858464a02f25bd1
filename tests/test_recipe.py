"""Recipes: all packaged ones load, every key is known, overrides reach what they name."""

from dataclasses import replace

import pytest

from m2cnn.errors import SettingError
from m2cnn.models import NetworkSettings
from m2cnn.overrides import parse_value
from m2cnn.recipe import Stage, check_stages, load_recipe, recipe_from_dict, recipe_names
from m2cnn.systems import SYSTEMS, get


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_builds_its_system(name):
    whole = load_recipe(name)
    for member in get(whole.system).customised(whole).members:
        recipe = whole.of(member.name)
        check_stages(recipe.stages, member.network)
        last = recipe.stages[-1]
        assert getattr(member.network.at(last.size), "size", last.size) == last.size
        if isinstance(member.network, NetworkSettings):
            assert member.network.build(member.task.outputs, 0).smallest_size(last.cells) <= last.size


@pytest.mark.parametrize("name", ["min-pooling", "o-o", "reformed-gamblers"])
def test_a_member_is_trained_on_what_its_views_show(name):
    recipe = load_recipe(name)
    for member in get(name).customised(recipe).members:
        taught, shown = recipe.of(member.name).augment, member.views.augment
        if name == "min-pooling":  # the original stretches and skews nets 2 and 3 in training alone
            taught = replace(taught, stretch=0.0, skew=0.0, shift_px=0.0, shift=shown.shift)
        assert taught == shown


def test_a_member_has_what_is_different_for_it():
    recipe = load_recipe("o-o", ["members.a.augment.zoom=1.5"])
    assert [recipe.of(name).augment.zoom for name in "abc"] == [1.5, 1.15, 1.15]
    assert [recipe.of(name).augment.colour for name in "ab"] == [0.5, 0.25]
    assert [recipe.of(name).stages[-1].batch for name in "ab"] == [32, 48]
    short = load_recipe("o-o", ["stages.*.epochs=3", "stages.0.lr=0.5", "members.b.stages.1.epochs=4"])
    assert [[stage.epochs for stage in short.of(name).stages] for name in "ab"] == [[3, 3, 3], [3, 4, 3]]
    assert [short.of(name).stages[0].lr for name in "ab"] == [0.5, 0.003]
    with pytest.raises(SettingError, match=r'members\.b.*unknown key "stagse"'):
        load_recipe("o-o", ["members.b.stagse=1"])
    with pytest.raises(SettingError, match=r"members\.b: 3; expected a table"):
        load_recipe("o-o", ["members.b=3"])


def test_a_recipe_may_change_another(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "m2cnn-slim"\nseed = 7\n[network]\nwidth = 0.25\n')
    mine, base = load_recipe(tmp_path / "mine.toml"), load_recipe("m2cnn-slim")
    assert mine == replace(base, seed=7, network=base.network | {"width": 0.25})
    (tmp_path / "loop.toml").write_text(f'base = "{tmp_path / "loop.toml"}"')
    with pytest.raises(SettingError, match="another recipe"):
        load_recipe(tmp_path / "loop.toml")


def test_the_papers_rows_have_recipes():
    assert {load_recipe(name).system for name in recipe_names()} >= set(SYSTEMS)


def test_m2cnn_grows_with_its_input():
    assert [(s.size, s.cells) for s in load_recipe("m2cnn").stages] == [(224, 0), (448, 1), (720, 2)]


def test_basenets_keep_one_resolution():
    for name, task in (("basenet-ce", "classification"), ("basenet-mse", "regression"), ("basenet-mt", "multitask")):
        recipe = load_recipe(name)
        assert [(s.size, s.cells) for s in recipe.stages] == [(720, 0)]
        assert get(recipe.system).customised(recipe).members[0].task.name == task


def test_a_ladder_changes_sizes_but_not_a_size_of_your_own():
    assert [s.size for s in load_recipe("m2cnn", ["network.ladder=quarter"]).stages] == [56, 112, 184]
    assert [s.size for s in load_recipe("m2cnn", ["network.ladder=half", "stages.0.size=100"]).stages] == [
        100,
        224,
        360,
    ]


def test_overrides_reach_what_they_name():
    recipe = load_recipe(
        "m2cnn", ["stages.1.epochs=3", "stages.*.batch=5", "task.weight=1/2", "network.trunk=timm:resnet18"]
    )
    assert [s.epochs for s in recipe.stages] == [60, 3, 20]
    assert {s.batch for s in recipe.stages} == {5}
    assert recipe.task == {"weight": 0.5}
    assert get("m2cnn").customised(recipe).members[0].network.trunk == "timm:resnet18"


def test_a_resolved_recipe_reads_back_equal():
    recipe = load_recipe("m2cnn", ["network.width=1/8", "sampling.kind=decaying"])
    assert recipe_from_dict(recipe.to_dict()) == recipe


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('system = "m2cnn"\n[[stages]]\nepochs = 1\n')
    assert load_recipe(path).stages == (Stage(epochs=1, size=224),)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stages.1.epoch=3"], r'unknown key "epoch".*Did you mean "epochs"'),
        (["optimizer.name=sgd"], 'Did you mean "optimiser"'),
        (["stages.9.epochs=3"], "stages.0 to stages.2"),
        (["stages.1=3"], "and a key"),
        (["epochs"], "key=value"),
        (["stages.0.epochs=many"], "'many'"),
        (["stages.0.epochs=0"], "1 or more"),
        (["stages.0.batch=0"], "1 or more"),
        (["stages.0.rung=3"], "0, 1 or 2"),
        (["norm_batches=-1"], "0 or more"),
        (["ema=1"], "below 1"),
        (["stages.0.cells=2"], "only grows"),
        (["stages.0.schedule=step"], 'Did you mean "steps"'),
        (["optimiser.name=adam"], 'Did you mean "adamw"'),
        (["sampling.kind=decay"], "decaying"),
        (["sampling.draws=5"], '5 for kind "all"; expected kind "random"'),
        (["sampling.kind=random", "sampling.rounds=0"], "1 or more"),
        (["stages.1.begin=best"], "one of kappa, loss, last"),
        (["stages.0.carried_lr=-1"], "0 or more"),
        (["stages.0.part=1", "stages.1.part=0", "stages.2.part=2"], r"stages.1.part: 0; expected 1 or more"),
        (["stages.1.part=0", "stages.2.part=1"], r"stages.1.part: 0; expected -1 as before"),
        (["precision=16"], "got|16"),
        (["network.ladder=quater"], 'Did you mean "quarter"'),
        (["split.train=true"], "True"),
        (["system.x=1"], "not a table"),
        (["task=3"], "table|3"),
    ],
)
def test_what_means_nothing_is_refused(overrides, words):
    with pytest.raises(SettingError, match=words):
        load_recipe("m2cnn", overrides)


def test_unknown_recipe_and_broken_file(tmp_path):
    with pytest.raises(SettingError, match='Did you mean "m2cnn"'):
        load_recipe("m2cn")
    with pytest.raises(SettingError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(SettingError, match="not valid TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "empty.toml").write_text('system = "m2cnn"\nstages = []\n')
    with pytest.raises(SettingError, match="no stage"):
        load_recipe(tmp_path / "empty.toml")
    (tmp_path / "less.toml").write_text("[[stages]]\nepochs = 1\n")
    with pytest.raises(SettingError, match='no "system"'):
        load_recipe(tmp_path / "less.toml")


def test_rates():
    steps = Stage(epochs=10, lr=1.0, drops=(4, 8), warmup=2)
    assert [steps.rate(p) for p in (0, 1, 2, 4, 9)] == pytest.approx([0, 0.5, 1, 0.1, 0.01])
    cosine = Stage(epochs=10, lr=1.0, schedule="cosine")
    assert [cosine.rate(p) for p in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    graham = Stage(epochs=65, lr=0.003, schedule="exponential", decay=0.05)  # Min-pooling, nets 1 and 3
    assert [graham.rate(p) for p in (0, 20, 65)] == pytest.approx([0.003, 0.003 / 2.718281828, 0.003 * 0.038774], 1e-4)


def test_values_as_typed_in_a_shell():
    assert [parse_value(t) for t in ("false", "1/16", "-2", "1e-3", "x/y", "1/0")] == [
        False,
        0.0625,
        -2,
        0.001,
        "x/y",
        "1/0",
    ]


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(SettingError, match='Did you mean "basenet-mt"'):
        get("basenet-m")
