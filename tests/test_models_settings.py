"""NetworkSettings: what it refuses, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from m2cnn.errors import SettingError
from m2cnn.models import LADDERS, NetworkSettings, build_network


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trunk": "inception_resnet_v3"}, 'Did you mean "inception_resnet_v2"'),
        ({"trunk": "resnet50"}, 'A network of timm: "timm:resnet50"'),
        ({"trunk": "timm:"}, "network.trunk: got 'timm:'"),
        ({"trunk": 3}, "network.trunk: got 3"),
        ({"ladder": "quater"}, 'Did you mean "quarter"'),
        ({"ladder": ["full"]}, "network.ladder"),
        ({"cell": "plane"}, 'Did you mean "plain"'),
        ({"width": 0}, "network.width: got 0; expected a number above 0 and at most 4"),
        ({"width": 4.5}, "network.width"),
        ({"width": True}, "network.width"),
        ({"width": "1/8"}, "network.width"),
        ({"repeats": (10, 20)}, "network.repeats"),
        ({"repeats": (10, 20, -1)}, "network.repeats"),
        ({"repeats": (10, 20, 9.0)}, "network.repeats"),
        ({"repeats": 10}, "network.repeats"),
        ({"residual_blocks": 6}, r"network.residual_blocks: got 6; expected a whole number, 0\.\.5"),
        ({"residual_blocks": True}, "network.residual_blocks"),
        ({"dropout": 1}, "network.dropout"),
        ({"dropout": -0.1}, "network.dropout"),
        ({"weights": None}, "network.weights"),
        ({"weights": "timm", "width": 0.5}, "the network that the ImageNet weights belong to"),
        ({"weights": "timm", "repeats": (1, 1, 1)}, "the network that the ImageNet weights belong to"),
        ({"trunk_options": "pad_type"}, "network.trunk_options"),
        ({"trunk_options": {"pad_type": "same"}}, "nothing with inception_resnet_v2"),
        ({"trunk": "timm:resnet18", "width": 0.5}, "1 with a timm trunk"),
        ({"trunk": "timm:resnet18", "repeats": (1, 1, 1)}, "nothing with a timm trunk"),
        ({"cells": 2}, 'unknown setting "cells"'),
    ],
)
def test_a_setting_that_means_nothing_is_refused(values, message):
    with pytest.raises(SettingError, match=message):
        NetworkSettings.from_dict(values)


def test_settings_survive_a_round_trip():
    settings = NetworkSettings(width=1, repeats=[1, 2, 3], ladder="half", cell="plain", dropout=0)
    again = NetworkSettings.from_dict(settings.to_dict())
    assert again == settings
    assert again.repeats == (1, 2, 3)
    assert isinstance(again.width, float)


def test_every_ladder_names_the_sizes_of_its_three_stages():
    assert LADDERS == {"full": (224, 448, 720), "half": (112, 224, 360), "quarter": (56, 112, 184)}
    assert NetworkSettings(ladder="quarter").sizes == (56, 112, 184)
    assert NetworkSettings(trunk="timm:resnet18", ladder="half").sizes == (112, 224, 360)


@pytest.mark.parametrize(("outputs", "cells", "name"), [(0, 0, "outputs"), (True, 0, "outputs"), (6, -1, "cells")])
def test_counts_of_a_network_are_checked(outputs, cells, name):
    with pytest.raises(SettingError, match=rf"network\.{name}"):
        build_network({}, outputs, cells)


def test_settings_are_read_without_torch():
    code = "import sys, m2cnn.models as m; m.NetworkSettings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
