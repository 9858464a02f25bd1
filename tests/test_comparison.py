"""The comparison: whole entries from recipes of their own, the same work where it is asked for, a report of what is
kept."""

import io
import json
import os
import shutil
import signal
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from tests.test_paper import predictions
from tests.test_rows import FLAT

from m2cnn import systems
from m2cnn.cli import main
from m2cnn.combine import Blend
from m2cnn.errors import SettingError
from m2cnn.grades import DISCLAIMER
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.paper import comparison_page, progress, running
from m2cnn.paper.comparison import (
    budget_of,
    comparison_cells,
    cost_of,
    fitted_to,
    multiplied,
    orderings,
    recipe_files,
    settled_precision,
    training_work,
)
from m2cnn.paper.comparison_notes import notes_of, shown_count
from m2cnn.paper.comparison_page import Page, plot
from m2cnn.paper.evidence import OWN, read_facts, read_kept
from m2cnn.paper.grid import part_work, parts_of, stage_work, stretched
from m2cnn.paper.page import Results
from m2cnn.paper.running import Job, Plan, read_plan
from m2cnn.paper.statistics import Measured
from m2cnn.part import read_history
from m2cnn.recipe import Stage, load_recipe
from m2cnn.systems import SYSTEMS
from m2cnn.work import grading_work, multiply_adds, parameters

PLAIN = ["precision=32"]


@pytest.fixture(scope="module")
def cells():
    return comparison_cells(PLAIN)


def by_name(cells):
    return {cell.name: cell.recipe for cell in cells}


# --- rows and recipes ---


def test_the_rows_are_the_systems_each_with_its_own_recipe(cells):
    assert [cell.name for cell in cells] == list(SYSTEMS)
    assert all(cell.recipe.system == cell.name and cell.decodes == (OWN,) for cell in cells)
    assert by_name(cells)["o-o"] == load_recipe("o-o-slim", PLAIN)


def test_the_full_recipes():
    full = by_name(comparison_cells(PLAIN, recipe_files(full=True)))
    assert full["basenet"] == load_recipe("basenet-mse", PLAIN)
    assert full["m2cnn+blend"] == load_recipe("m2cnn-blend", PLAIN)


@pytest.mark.parametrize("full", [False, True])
def test_the_papers_own_rows_differ_in_nothing_but_loss_cells_and_stages(full):
    recipes = {
        name: recipe.to_dict() for name, recipe in by_name(comparison_cells(files=recipe_files(full=full))).items()
    }

    def other(one, two):
        return {key for key in recipes[one] if recipes[one][key] != recipes[two][key]}

    assert other("basenet", "basenet-mt") == {"system"}
    assert other("basenet-mt", "m2cnn") == {"system", "stages"}
    assert other("m2cnn", "m2cnn+blend") == {"system"}
    members = [SYSTEMS[name].members[0] for name in ("basenet", "basenet-mt", "m2cnn")]
    assert all(replace(member, task=members[0].task) == members[0] for member in members)


def test_settings_of_all_rows_and_of_one():
    found = by_name(comparison_cells([*PLAIN, "split.test=0.2", "min-pooling:stages.*.epochs=3", "o-o:ema=0.5"]))
    assert {recipe.split.test for recipe in found.values()} == {0.2}
    assert {recipe.precision for recipe in found.values()} == {"32"}
    assert (found["o-o"].ema, found["m2cnn"].ema) == (0.5, 0.99)
    # Every stage of every member, those with stages of their own, too.
    assert [own.stages[0].epochs for _, own in parts_of(found["min-pooling"])] == [3, 3, 3]


def test_a_recipe_of_ones_own(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "m2cnn-slim"\nema = 0.5\n')
    assert by_name(comparison_cells(PLAIN, recipe_files({"m2cnn": str(mine)})))["m2cnn"].ema == 0.5
    with pytest.raises(
        SettingError, match=r'recipe of o-o: .*mine\.toml is of system "m2cnn"; expected system = "o-o"'
    ):
        comparison_cells(PLAIN, recipe_files({"o-o": str(mine)}))


@pytest.mark.parametrize(
    ("settings", "recipes", "said"),
    [
        (["o_o:ema=0.5"], {}, r'o_o:ema=0\.5: "o_o"; expected a row\. Did you mean "o-o"'),
        ([], {"oo": "o-o-slim"}, r'--recipe: "oo"; expected a row'),
        (["m2cnn:ema=x"], {}, "row m2cnn: .*ema"),
        (["network.dense=32"], {}, "row min-pooling: .*dense"),
        (["o-o:split.seed=3"], {}, r"row o-o: another \[split\] than min-pooling"),
    ],
)
def test_what_a_plan_refuses(settings, recipes, said):
    with pytest.raises(SettingError, match=said):
        comparison_cells([*PLAIN, *settings], recipe_files(recipes))


def test_a_row_without_a_packaged_recipe(monkeypatch, tmp_path):
    monkeypatch.setitem(systems.SYSTEMS, "flat", FLAT)
    with pytest.raises(SettingError, match=r"row flat: it has no packaged recipe.*--recipe flat=FILE\.toml"):
        recipe_files()
    (tmp_path / "flat.toml").write_text('system = "flat"\n[[stages]]\nsize = 64\nepochs = 1\n')
    assert comparison_cells(PLAIN, recipe_files({"flat": str(tmp_path / "flat.toml")}))[-1].name == "flat"


def test_members_with_a_seed_of_their_own_get_another_in_every_run(cells):
    cell = next(cell for cell in cells if cell.name == "reformed-gamblers")
    seeds = [[cell.seeded(seed).of(name).seed for name in ("m41", "m42")] for seed in (0, 1, 2)]
    assert seeds[0] == [0, 1]  # as in the recipe
    assert len({each for pair in seeds for each in pair}) == 5  # m41 has 0, 1, 2; m42 has 1 and two others
    assert all(one != other for one, other in seeds)
    assert [recipe.seed for recipe in Job(cell, 2).recipes[2:4]] == seeds[2]


def test_precision_is_settled_once():
    auto = comparison_cells(["precision=auto", "o-o:precision=32"])[:3]
    before = [replace(cell, recipe=replace(cell.recipe, precision="bf16")) for cell in auto]
    settled = settled_precision(auto, before)
    assert [cell.recipe.precision for cell in settled] == ["bf16", "bf16", "32"]


# --- costs ---


def test_costs_are_of_all_members_and_views(cells):
    recipe = by_name(cells)["min-pooling"]
    cost = cost_of(recipe)
    parts = [(member, own.stages[0]) for member, own in parts_of(recipe)]
    assert cost.sizes == (843, 820, 1019)
    assert (cost.members, cost.looks) == (3, 6)
    assert cost.training == sum(5 * multiply_adds(*part) for part in parts)
    assert cost.grading == sum(grading_work(*part) for part in parts)
    built = [member.network.build(member.task.outputs) for member, _ in parts]
    assert cost.parameters == sum(p.numel() for network in built for p in network.parameters())


def test_costs_of_weight_sets_and_of_a_member_that_says_nothing(cells):
    recipes = by_name(cells)
    o_o = cost_of(recipes["o-o"])
    assert (o_o.members, o_o.looks) == (2, 2 * 3 * 4)  # networks, weight sets, views
    assert o_o.parameters == 3 * sum(parameters(member, own.stages[-1]) for member, own in parts_of(recipes["o-o"]))
    gamblers, parts = cost_of(recipes["reformed-gamblers"]), parts_of(recipes["reformed-gamblers"])
    silent = [member.name for member, _ in parts if not member.joins]
    assert silent == ["m28"]
    assert (gamblers.members, gamblers.looks) == (12, 2 * 11)
    assert gamblers.parameters == sum(parameters(member, own.stages[-1]) for member, own in parts if member.joins)
    assert gamblers.training == sum(stage_work(next(cell for cell in cells if cell.name == "reformed-gamblers")))


# --- the same work for all ---


def test_a_schedule_keeps_its_shape():
    stage = Stage(20, warmup=2.0, drops=(10, 15), decay=0.1, new_epochs=4, lr=0.3)
    half = stretched(stage, 10)
    assert (half.epochs, half.warmup, half.drops, half.decay, half.new_epochs) == (10, 1.0, (5, 8), 0.2, 2)
    assert half.lr == 0.3
    assert stretched(replace(stage, new_epochs=0), 1).new_epochs == 0
    assert stretched(stage, 1).new_epochs == 1


def test_passes_are_multiplied_in_every_stage_of_every_member(cells):
    recipe = by_name(cells)["reformed-gamblers"]
    twice = multiplied(recipe, 2)
    for (_, own), (_, other) in zip(parts_of(recipe), parts_of(twice), strict=True):
        assert [2 * stage.epochs for stage in own.stages] == [stage.epochs for stage in other.stages]
        assert replace(other, stages=own.stages) == own
    assert training_work(twice) == 2 * training_work(recipe)
    assert {stage.epochs for _, own in parts_of(multiplied(recipe, 0)) for stage in own.stages} == {1}
    assert multiplied(recipe, 1) == replace(recipe, members=multiplied(recipe, 1).members)


def test_the_nearest_work_by_hand(cells):
    recipe = load_recipe("basenet-mt-slim", PLAIN)  # one stage: a pass is a pass
    one = training_work(recipe) / 8
    for asked, passes in ((2.4, 2), (2.6, 3), (8, 8), (0.2, 1), (19.9, 20)):
        assert [stage.epochs for stage in fitted_to(recipe, asked * one).stages] == [passes]
    grown = load_recipe("m2cnn-slim", PLAIN)
    assert fitted_to(grown, training_work(grown)) == grown
    # No whole number of passes in the recipe's proportions is nearer.
    found = training_work(fitted_to(grown, 2e9))
    others = [training_work(multiplied(grown, factor)) for factor in np.linspace(0.01, 1, 100)]
    assert abs(found - 2e9) == min(abs(work - 2e9) for work in others)


def test_a_pass_of_fixed_draws_becomes_one_of_every_photograph():
    sampling = fitted_to(load_recipe("min-pooling", PLAIN), 1e12).sampling
    assert (sampling.draws, sampling.rounds, sampling.total(50)) == (0, 1, 50)


def test_a_budget_is_a_number_or_a_row(cells):
    recipes = by_name(cells)
    assert budget_of("m2cnn", recipes) == training_work(recipes["m2cnn"])
    assert budget_of("4e9", recipes) == 4e9
    for text in ("m3cnn", "-1", "inf", "nan", "0"):
        with pytest.raises(SettingError, match=f'--budget: "{text}"; expected multiply-adds'):
            budget_of(text, recipes)


def test_rows_of_one_budget_take_about_the_same_and_what_does_not_is_told():
    cells = comparison_cells(PLAIN, budget="m2cnn")
    work = {cell.name: training_work(cell.recipe) for cell in cells}
    assert all(0.8 < each / work["m2cnn"] < 1.2 for each in work.values())
    told = [note for note in notes_of(page_of(cells, {"budget": "m2cnn"})) if "times the budget" in note]
    assert [note.split(" takes")[0] for note in told] == ["Min-pooling", "Reformed Gamblers"]
    assert told[0] == "Min-pooling takes 0.83 times the budget: passes are whole."
    few = comparison_cells(PLAIN, budget="3e7")
    assert {stage.epochs for cell in few for _, own in parts_of(cell.recipe) for stage in own.stages} == {1}
    (above,) = [note for note in notes_of(page_of(few, {"budget": "3e7"})) if note.startswith("BaseNet takes")]
    assert above.endswith("times the budget: one pass of each stage is the least there is.")


def page_of(cells, asked=None, tables=()):
    measured = {split: Measured(dict(tables), 50) for split in ("test", "val")}
    return Page(Results(Plan("comparison", tuple(cells), (0,), "d", "", asked or {}), {}, measured, {}))


def test_numbers_for_people():
    assert [shown_count(n) for n in (4_190_000_000, 12, 0, 5.2e12, 15_000)] == ["4.19 G", "12", "-", "5.2 T", "15 k"]


# --- the paper's orderings ---


def test_every_pair_of_the_papers_rows_is_answered(cells):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 150)

    def spoiled(width):
        return predictions(truth, np.clip(truth + rng.integers(-width, width + 1, 150), 0, 4))

    same = spoiled(2)
    said = {"m2cnn": predictions(truth, truth), "basenet": spoiled(3), "o-o": same, "basenet-mt": same}
    measured = Measured({(name, OWN): {0: table} for name, table in said.items()}, 200)
    found = orderings({"val": measured, "test": measured}, [cell.name for cell in cells])
    # Eight rows, 28 pairs; on the test set Min-pooling and Zoom-in-Net are equal in the paper. Ours is no row there.
    assert [sum(each.split == split for each in found) for split in ("val", "test")] == [28, 27]
    assert all(each.paper > 0 for each in found)
    answers = {(each.split, each.above, each.below): each for each in found}
    assert answers["test", "m2cnn", "basenet"].answer == "same sign"
    assert answers["test", "m2cnn", "basenet"].paper == 0.013
    assert answers["test", "o-o", "m2cnn"].answer == "opposite"
    assert answers["val", "o-o", "basenet-mt"].answer == "undecided"  # the same predictions
    assert answers["val", "m2cnn", "m-net-a-net"].answer == "not run"


# --- a table of two rows: one member, and two with a combiner ---

ONE = replace(FLAT, name="m2cnn", title="M2CNN", paper=(0.844, 0.841))
MEMBER = FLAT.members[0]
TWO = replace(
    FLAT,
    name="o-o",
    title="o_O",
    paper=(0.854, 0.844),
    members=(replace(MEMBER, name="a"), replace(MEMBER, name="b", gap=0)),
    combiner=Blend(epochs=2, units=4),
)


@contextmanager
def of_two_rows():
    """Afterwards the rows are in their order again, which monkeypatch would turn round."""
    before = dict(SYSTEMS)
    SYSTEMS.clear()
    SYSTEMS.update({row.name: row for row in (ONE, TWO)})
    try:
        yield
    finally:
        SYSTEMS.clear()
        SYSTEMS.update(before)


@pytest.fixture
def two_rows():
    with of_two_rows():
        yield


@dataclass
class Story:
    """The first row fails, Ctrl-C comes in the second member of the second; the same command makes both whole."""

    command: list[str]
    out: Path
    codes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)

    def run(self):
        with redirect_stderr(io.StringIO()) as said:
            self.codes.append(main(self.command))
        self.said.append(said.getvalue())
        self.reports.append((self.out / "comparison.md").read_text())

    def broken(self, patch):
        train, step = running.train, progress.RunBar.step

        def memory_runs_out(recipe, manifest, folder, **named):
            if folder.name == "m2cnn-seed0":
                raise MemoryError("no more")
            return train(recipe, manifest, folder, **named)

        def interrupting(bar, place):
            step(bar, place)
            if bar.member == 2 and (place.epoch, place.batch) == (0, 2):
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(running, "train", memory_runs_out)
        patch.setattr(progress.RunBar, "step", interrupting)

    def whole(self, patch):
        resume = running.resume

        def noting(folder, **named):
            self.resumed.append(folder.name)
            return resume(folder, **named)

        patch.setattr(running, "resume", noting)


@pytest.fixture(scope="module")
def story(rendered, tmp_path_factory):
    home = tmp_path_factory.mktemp("comparison")
    common = 'precision = "32"\n[network]\nside = 8\n[[stages]]\nsize = 64\nepochs = 2\nbatch = 8\n'
    (home / "one.toml").write_text(f'system = "m2cnn"\n{common}')
    own = "[[members.b.stages]]\nsize = 32\nepochs = 1\nbatch = 4\n"
    (home / "two.toml").write_text(f'system = "o-o"\n{common}{own}')
    recipes = ["--recipe", f"m2cnn={home / 'one.toml'}", "--recipe", f"o-o={home / 'two.toml'}"]
    options = ["--seeds", "1", "--replicates", "50", "o-o:ema=0.5"]
    told = Story(
        ["table", "comparison", "--data", str(rendered.root), "--out", str(home / "out"), *recipes, *options],
        home / "out",
    )
    for change in (told.broken, told.whole):
        with of_two_rows(), pytest.MonkeyPatch.context() as patch:
            change(patch)
            told.run()
    return told


def test_a_failed_row_is_named_and_an_interrupted_one_goes_on(story):
    assert story.codes == [130, 0]
    assert "m2cnn: interrupted; the same command continues" in story.said[0]
    assert "- m2cnn-seed0: MemoryError: no more" in story.reports[0]
    assert "0 of 2 runs are done, 1 failed" in story.reports[0]
    assert story.resumed == ["o-o-seed0"]
    assert "2 of 2 runs are done, 0 failed" in story.reports[1]


def test_one_bar_counts_the_work_of_all_members(story):
    lines = [line for line in story.said[1].splitlines() if line.startswith("[")]
    assert lines[-1].startswith("[2/2, 100 %, 0 s left] o-o-seed0: 32 px, 0 cells, pass 1/1")
    assert not any("o-o-seed0: 64 px" in line for line in lines)  # the first member was whole already


def test_a_bar_knows_which_member_goes_on():
    one, two = (load_recipe("o-o-slim", [*PLAIN, f"ema={ema}"]).of("a") for ema in (0.1, 0.2))
    table = progress.TableBar(120, 1)
    bar = table.run("o-o", [10, 20, 30, 10, 20, 30], [one, two])
    bar(two, 32, Place(0, 0, 0))  # the first member was trained another day
    assert (table.done, table.skipped) == (60, 60)
    bar.step(Place(1, 10, 0))  # half of the second stage's twenty passes
    assert (table.done, table.skipped) == (80, 60)
    twins = table.run("o-o", [10, 20, 30, 10, 20, 30], [one, one])  # two members, one recipe
    for first in (0, 3):
        twins(one, 32, Place(0, 0, 0))
        assert twins.first == first


@dataclass
class Place:
    stage: int
    epoch: int
    batch: int


def test_what_is_kept_of_an_entry(story, two_rows):
    run, kept = story.out / "runs" / "o-o-seed0", story.out / "predictions" / "o-o-seed0"
    names = {"facts.json", "metrics-a.csv", "metrics-b.csv", "own-test.csv", "own-val.csv"}
    assert {path.name for path in kept.iterdir()} == names
    facts = read_facts(story.out, "o-o-seed0")
    histories = [read_history(run / "members" / name) for name in "ab"]
    assert facts.seconds == pytest.approx(sum(row["seconds"] for rows in histories for row in rows), abs=0.01)
    assert facts.after > 0.5  # the combiner, its export, two evaluations
    assert facts.passes == 2 + 1
    assert (kept / "metrics-b.csv").read_bytes() == (run / "members" / "b" / "metrics.csv").read_bytes()
    # Each member by its own photographs: b learns only from patients whose eyes are alike.
    taught = [
        json.loads((run / "members" / name / "bundle" / "system.json").read_text())["training"]["photographs"]
        for name in "ab"
    ]
    assert taught[1] < taught[0] == facts.photographs
    works = [sum(part) for part in part_work({c.name: c for c in read_plan(story.out).cells}["o-o"].recipe)]
    assert facts.multiply_adds == works[0] * taught[0] + works[1] * taught[1]
    assert facts.images_per_second == pytest.approx((2 * taught[0] + taught[1]) / facts.seconds, rel=0.01)
    one = read_facts(story.out, "m2cnn-seed0")
    assert (one.passes, one.multiply_adds) == (2, 2 * 1152 * taught[0])


def test_the_numbers_are_those_of_the_entry(story):
    head, *lines = [line.split(",") for line in (story.out / "comparison.csv").read_text().splitlines()]
    rows = {tuple(line[:3]): dict(zip(head, line, strict=True)) for line in lines}
    assert len(rows) == 2 * 2 * 3
    row = rows["o-o", "test", "qwk"]
    metrics = json.loads((story.out / "runs" / "o-o-seed0" / "test" / "metrics.json").read_text())["metrics"]
    assert float(row["value"]) == pytest.approx(metrics["qwk"]["value"])
    for metric in ("accuracy", "mse"):
        assert float(rows["o-o", "test", metric]["value"]) == pytest.approx(metrics[metric]["value"], abs=1e-3)
    said = {name: read_kept(story.out, f"{name}-seed0", OWN, "test") for name in ("o-o", "m2cnn")}
    kappas = {name: quadratic_weighted_kappa(table.grade, table.decoded) for name, table in said.items()}
    assert float(row["difference"]) == pytest.approx(kappas["o-o"] - kappas["m2cnn"])
    assert (row["reference"], row["paper"], rows["o-o", "val", "qwk"]["paper"]) == ("m2cnn", "0.844", "0.854")
    assert (row["sizes"], row["members"], row["looks"], row["combiner"]) == ("64 32", "2", "2", "blend")
    # 192 numbers to 6 outputs, twice; two passes of a, one of b.
    assert (row["parameters"], row["training_work"], row["grading_work"]) == ("2316", "3456", "2304")
    assert rows["m2cnn", "test", "qwk"]["difference"] == ""
    (pair,) = (line for line in (story.out / "orderings.csv").read_text().splitlines() if line.startswith("test"))
    assert pair.startswith("test,o-o,m2cnn,0.003,undecided,")


def test_the_page_says_what_a_row_is(story):
    text = story.reports[1]
    assert DISCLAIMER in text
    line = next(line for line in text.splitlines() if line.startswith("| o_O | ") and "two.toml" in line)
    assert "| 1 to 2 | 64, 32 | 2 | 2 | blend | 2.32 k | 3.46 k | 2.3 k |" in line
    assert "35,126 photographs" in text
    assert "On test patients, 1 pairs: 1 undecided." in text
    assert "unequal work" in text


def test_what_is_kept_gives_the_same_report(story, two_rows, tmp_path):
    first = {name: (story.out / name).read_bytes() for name in comparison_page.NAMES}
    moved = tmp_path / "moved"
    shutil.copytree(story.out, moved, ignore=shutil.ignore_patterns("runs", "pictures", *comparison_page.NAMES))
    assert main(["table", "comparison", "--out", str(moved), "--report", "--replicates", "50"]) == 0
    assert {name: (moved / name).read_bytes() for name in comparison_page.NAMES} == first
    assert main(["table", "comparison", "--out", str(moved), "--report", "--reference", "o-o"]) == 0
    assert "| test, minus o_O |" in (moved / "comparison.md").read_text()


def test_a_finished_table_trains_nothing_and_another_question_is_refused(story, two_rows, monkeypatch, capsys):
    monkeypatch.setattr(running, "train", None)
    monkeypatch.setattr(running, "guard", None)
    before = (story.out / "comparison.csv").read_bytes()
    assert main(story.command) == 0
    assert (story.out / "comparison.csv").read_bytes() == before
    for more, said in (
        (["o-o:seed=1"], "another setting of o-o, seed: 0 there, 1 asked for"),
        (["--budget", "m2cnn"], "another setting of o-o, stages.0.epochs: 2 there, 1 asked for"),
        (["--recipe", "m2cnn"], '--recipe: "m2cnn"; expected NAME=RECIPE'),
        (["--reference", "m3cnn"], '--reference: "m3cnn"; expected a row'),
    ):
        assert main([*story.command, *more]) == 2
        assert said in capsys.readouterr().err


# --- the plot ---


def test_the_plot_shows_rows_without_a_run_and_without_the_papers_number(cells):
    truth = np.arange(50) % 5
    tables = {("m2cnn", OWN): {0: predictions(truth, truth)}, ("m2cnn+blend", OWN): {0: predictions(truth, truth)}}
    page = page_of(cells, tables=tables.items())
    picture = plot(page).decode()
    assert all(f"<!-- {title} -->" in picture for title in ("Min-pooling", "M2CNN + blend", "here"))
    assert plot(page, "png").startswith(b"\x89PNG")
