"""What a forward pass and a grade cost, in multiply-adds of convolutions and linear layers: from shapes alone."""

from __future__ import annotations

import json
from functools import lru_cache

from m2cnn.errors import require
from m2cnn.models import PlainSettings
from m2cnn.recipe import Stage
from m2cnn.systems import Member


def multiply_adds(member: Member, at: Stage | int) -> int:
    """Of one picture through a member's network, as it is in a stage; an int is a size in px, with no cell and all
    parts. The weights do not matter, and are not read.

    Raises SettingError for a size, cells or part that the network does not have, SizeError for too small a size,
    MissingExtra without torch.
    """
    return _counted(member, at)[0]


def parameters(member: Member, at: Stage | int) -> int:
    """Of a member's network, as it is in a stage; `at` and errors as for `multiply_adds`."""
    return _counted(member, at)[1]


def grading_work(member: Member, at: Stage | int) -> int:
    """Multiply-adds of a member's share in the grade of one photograph: every view through every set of weights.

    0 for a member that says nothing at the end.
    """
    return multiply_adds(member, at) * passes(member)


def passes(member: Member) -> int:
    """How often a member's network runs for the grade of one photograph."""
    return len(member.snapshots) * member.views.count if member.joins else 0


def _counted(member: Member, at: Stage | int) -> tuple[int, int]:
    """Multiply-adds of a picture, and parameters."""
    stage = Stage(epochs=1, size=at) if isinstance(at, int) else at
    network, outputs = member.network, member.task.outputs
    if not isinstance(network, PlainSettings):
        return _of_any(network, outputs, stage)
    plain = json.dumps(network.without_weights().to_dict(), sort_keys=True)
    return _of_plain(type(network), plain, outputs, stage.size, stage.cells, stage.part)


@lru_cache(maxsize=256)
def _of_plain(kind: type[PlainSettings], plain: str, outputs: int, size: int, cells: int, part: int) -> tuple[int, int]:
    require("torch", "train")
    from m2cnn.models.describe import describe_network

    found = describe_network(kind.from_dict(json.loads(plain)), outputs, size, cells, part)
    return found.multiply_adds, found.parameters


def _of_any(network: object, outputs: int, stage: Stage) -> tuple[int, int]:
    """Of a network that has no settings of ours."""
    import torch

    from m2cnn.models.layer_table import check_side, measure
    from m2cnn.models.operations import parts_of

    check_side(stage.size)
    with torch.device("meta"):
        built = network.build(outputs, stage.cells).eval()
    rows, _ = measure(built, parts_of(built, PlainSettings().sources(), {}), stage.size)
    return sum(row.multiply_adds for row in rows), sum(row.parameters for row in rows)
