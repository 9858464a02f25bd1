"""Whole entries: a tiny twin of every row is trained, joined, written, graded; a ninth row needs nothing else."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from m2cnn import systems
from m2cnn.bundle import load_bundle
from m2cnn.cli import main
from m2cnn.grader import Grader, Photo
from m2cnn.models import MinPooling, NetworkSettings, OOSettings, PlainSettings, ReformedGamblers, ZoomInNet
from m2cnn.preprocess import graham
from m2cnn.recipe import recipe_from_dict
from m2cnn.systems import SYSTEMS, Member, System, network_kinds
from m2cnn.tasks import MultiTask
from m2cnn.train import train

SLIM = {"width": 1 / 16, "repeats": (1, 1, 1), "ladder": "quarter"}
TWINS = {"m28": "tiny-m41", "cyc28": "tiny-cyc28", "m47": "tiny-m47", "m41": "tiny-m41", "m42": "tiny-m41"}
TWINS |= dict.fromkeys(("m51_1", "m52", "m53"), "tiny-m53")
ALIKE = ("m41", "m42", "m51", "m51_1", "m52", "m58")
SMALL = {"forest": {"trees": 5, "leaf": 3, "radius": 64}, "blend": {"epochs": 2, "units": 4}}
SMALL |= {"elastic": {"folds": 3, "lambdas": 5}}


def tiny(member):
    """A twin that two cores train in a second, of the same parts."""
    network = member.network
    if isinstance(network, NetworkSettings):
        network = replace(network, residual_blocks=1, **SLIM)
    elif isinstance(network, MinPooling):
        network = replace(network, tiny=True)
        member = replace(member, preprocess=graham(network.size / 2.8, network.size))
    elif isinstance(network, OOSettings):
        network = replace(network, size=112, width=1 / 8, dense=8)
    elif isinstance(network, ReformedGamblers):
        network = ReformedGamblers(TWINS.get(network.member, "tiny-m46"))
        member = replace(member, frame=network.row.frame / network.size)
    elif isinstance(network, ZoomInNet):
        network = replace(network, patch=60, gate=64, hidden=64, **SLIM)
    views = replace(member.views, count=min(2, member.views.count))
    # cyc28 takes m28's first stage, which no other tiny row has.
    start = "" if network.__dict__.get("member") == "tiny-cyc28" else member.start
    return replace(member, network=network, views=views, start=start)


def stages_of(network, cells):
    common = {"epochs": 1, "lr": 0.001, "batch": 8}
    if isinstance(network, ZoomInNet):
        parts = [{"size": 112, "part": 0}, {"size": 112, "part": 1}, {"size": 280, "part": 2}]
        return [common | part for part in parts[: 2 if network.parts == "ma" else 3]]
    if isinstance(network, NetworkSettings):
        return [common | {"size": size, "cells": count} for size, count in zip((56, 112), cells, strict=False)]
    return [common | {"size": network.size}]


def tiny_row(name):
    """(system, recipe) of the tiny twin of a row."""
    row = SYSTEMS[name]
    # Of those that differ by their size alone, one.
    members = tuple(tiny(member) for member in row.members if member.name not in ALIKE)
    combiner = replace(row.combiner, **SMALL[row.combiner.name]) if row.combiner else None
    stages = {member.name: stages_of(member.network, row.cells) for member in members}
    tables = {"system": name, "stages": next(iter(stages.values())), "precision": "32"}
    tables |= {"optimiser": {"name": "adamw"}, "members": {key: {"stages": own} for key, own in stages.items() if key}}
    return replace(row, members=members, combiner=combiner), recipe_from_dict(tables)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_row_is_trained_whole_and_grades(name, rendered, tmp_path):
    system, recipe = tiny_row(name)
    bundle = train(recipe, rendered, tmp_path / "run", system=system)
    assert bundle.system == name
    assert (bundle.combiner is None) == (SYSTEMS[name].combiner is None)
    metrics = json.loads((tmp_path / "run/test/metrics.json").read_text())
    assert metrics["context"]["system"] == name
    first = rendered.rows[0].patient
    exam = [Photo(rendered.path(row), row.eye) for row in rendered if row.patient == first]
    ours, theirs = (
        [g.severity for g in next(Grader.load(bundle.folder, backend).grade_exams([exam]))]
        for backend in ("onnx", "torch")
    )
    assert np.allclose(ours, theirs, atol=1e-3)


# --- a ninth row: this much, and a recipe ---


class Flat(nn.Module):
    """The mean colour of each cell of a grid, and a linear layer on it."""

    def __init__(self, outputs: int, side: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classif = nn.Linear(3 * side * side, outputs)

    def features(self, x):
        return self.pool(x.float() / 255).flatten(1)

    def both(self, x):
        vector = self.features(x)
        return self.classif(vector), vector

    def forward(self, x):
        return self.both(x)[0]


@dataclass(frozen=True)
class FlatSettings(PlainSettings):
    side: int = 4

    def build(self, outputs: int, cells: int = 0) -> Flat:
        return Flat(outputs, self.side)


FLAT = System("flat", "Mean colours", (Member(FlatSettings(), MultiTask()),), "a test")


def test_a_ninth_row_needs_one_file_and_one_row(rendered, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(systems.SYSTEMS, "flat", FLAT)
    (tmp_path / "flat.toml").write_text(
        'system = "flat"\nprecision = "32"\n[network]\nside = 8\n[[stages]]\nsize = 64\nepochs = 2\nbatch = 8\n'
    )
    run, data = str(tmp_path / "run"), str(rendered.root / "manifest.csv")
    assert main(["train", str(tmp_path / "flat.toml"), "--data", data, "--out", run]) == 0
    assert main(["evaluate", run, "--data", run, "--out", str(tmp_path / "eval"), "--backend", "torch"]) == 0
    assert main(["grade", str(rendered.path(rendered.rows[0])), "--model", run]) == 0
    assert main(["systems", "list"]) == 0
    assert "Mean colours" in capsys.readouterr().out
    # Any system takes any combiner: M2CNN's blend is no special case.
    joined = str(tmp_path / "joined")
    assert main(["combine", run, "--combiner", "blend", "--out", joined, "epochs=2", "units=4"]) == 0
    assert load_bundle(joined).system == "flat+blend"
    assert network_kinds()["FlatSettings"] is FlatSettings
    assert torch.is_tensor(FLAT.members[0].network.build(6)(torch.zeros(1, 3, 64, 64)))
