"""What a network is made of, layer by layer, and how sure we are of each part: from shapes alone, so quickly.

Words of the sources: "known" is stated in the source named; "computed" is arithmetic on what is known; "reconstruction"
is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from m2cnn.errors import SettingError
from m2cnn.models import build_network
from m2cnn.models.inception_resnet import STEM_STRIDES, ConvBnReLU, map_sizes
from m2cnn.models.layer_table import Description, Part, check_side, measure
from m2cnn.models.m2cnn import M2CNN, size_after_cell
from m2cnn.models.operations import called, classes, parts_of
from m2cnn.models.settings import (
    FULL_REPEATS,
    INCEPTION_SOURCE,
    MEAN_SOURCE,
    NORMALISE_SOURCE,
    TIMM_PREFIX,
    NetworkSettings,
    PlainSettings,
)
from m2cnn.models.zoom_in_net_settings import ZoomInNet
from m2cnn.wording import table

CELL = (
    "computed: 3x3 stride 2 without padding, from the poster's map sizes; "
    "reconstruction: what else the cell holds and its place before the head"
)
HEADS = (
    "known: five logits and one score, 6 outputs (poster); reconstruction: rows of one linear layer on a shared vector"
)
DROPOUT = "reconstruction: dropout before the heads"

# Side of the map before the switch and after the cells, by input size (Zhou et al., poster).
POSTER_SIZES = {224: (5, 5), 256: (8, 8), 448: (12, 5), 720: (21, 4)}
POSTER_CELLS = {224: 0, 256: 0, 448: 1, 720: 2}
EXPLANATION = (
    "The poster's column for 256 does not belong to this network: 256 px give 6 x 6, not 8 x 8. 8 x 8 is what 299 px\n"
    "give, the ImageNet size of Inception-ResNet-v2; 256 px would give 8 x 8 only with padding everywhere, but then\n"
    "224, 448 and 720 would give 7, 14 and 23. No single padding rule yields all four numbers: most likely the column\n"
    "is a mislabelled 299. No cell runs there."
)


@dataclass(frozen=True)
class SizeRow:
    """One column of the poster's size table beside what the network computes; sides of square maps."""

    input: int
    cells: int
    poster_before: int
    before: int
    poster_after: int
    after: int


@dataclass(frozen=True)
class GrowingDescription(Description):
    """A network of the M2CNN family, with the poster's size table."""

    @property
    def head(self) -> str:
        cells = "1 cell" if self.cells == 1 else f"{self.cells} cells"
        head = f"{self.settings['trunk']}, {self.size} px, {cells}, {self.outputs} outputs"
        return f"{head}; smallest input {self.smallest_size} px"

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"poster_sizes": [asdict(each) for each in size_table()]}

    def to_text(self) -> str:
        return f"{super().to_text()}\n\n{size_table_text()}"


@dataclass(frozen=True)
class NetworkDescription(Description):
    """Any other network. kind: the class of its settings.  part: how much of it runs, -1 for all.

    fixed_sizes: the only sizes in px that there are, () for any from `smallest_size` on.
    """

    kind: str
    part: int
    fixed_sizes: tuple[int, ...]

    @property
    def head(self) -> str:
        sizes = f"takes {_listed(self.fixed_sizes)} px alone" if self.fixed_sizes else ""
        part = f", parts up to {self.part}" if self.part >= 0 else ""
        least = sizes or f"smallest input {self.smallest_size} px"
        return f"{self.kind}, {self.size} px{part}, {self.outputs} outputs; {least}"

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"fixed_sizes": list(self.fixed_sizes)}


def describe_network(settings: PlainSettings, outputs: int, size: int, cells: int = 0, part: int = -1) -> Description:
    """The network of `settings` for pictures of `size` px: its layers in the order in which they run.

    cells: of M2CNN.  part: 0.. runs only so much of a network with parts, -1 all of it.

    Raises SettingError for settings that mean nothing and for a size, cells or part that the network does not have,
    SizeError when `size` is too small.
    """
    check_side(size)
    parted = isinstance(settings, ZoomInNet)
    if part != -1 and not parted:
        raise SettingError("part", f"{part} for {type(settings).__name__}", "-1: it has no parts")
    if isinstance(settings, NetworkSettings):
        return describe(settings, outputs, size, cells)
    settings = _of_size(settings, size)
    with torch.device("meta"):
        network = settings.without_weights().build(outputs, cells).eval()
    if part != -1:
        network.stage = part
    rows, ran = measure(network, parts_of(network, settings.sources(), _own_words(settings)), size)
    by_name = {row.name: row for row in rows}
    return NetworkDescription(
        settings=settings.to_dict(),
        outputs=outputs,
        size=size,
        cells=cells,
        smallest_size=network.smallest_size() if parted else min(settings.fixed_sizes, default=1),
        layers=tuple(by_name[name] for name in ran),
        notes=settings.notes(),
        kind=type(settings).__name__,
        part=part,
        fixed_sizes=settings.fixed_sizes,
    )


def _of_size(settings: PlainSettings, size: int) -> PlainSettings:
    settings = settings.at(size)
    if settings.fixed_sizes and size not in settings.fixed_sizes:
        expected = f"{_listed(settings.fixed_sizes)} px, no other"
        raise SettingError("size", f"{size} px for {type(settings).__name__}", expected)
    return settings


def _own_words(settings: PlainSettings) -> dict[str, str]:
    own = isinstance(settings, ZoomInNet) and not settings.trunk_settings.is_timm
    return trunk_operations(settings.trunk_settings) if own else {}


def _listed(sizes: tuple[int, ...]) -> str:
    return " or ".join(filter(None, [", ".join(map(str, sizes[:-1])), str(sizes[-1])]))


def describe(
    settings: Mapping[str, Any] | NetworkSettings, outputs: int, size: int, cells: int = 0
) -> GrowingDescription:
    """The network of `settings` with `outputs` outputs and `cells` cells, for pictures of `size` px.

    Raises SettingError for settings that mean nothing, SizeError when `size` is too small for the cells.
    """
    if not isinstance(settings, NetworkSettings):
        settings = NetworkSettings.from_dict(settings)
    check_side(size)
    with torch.device("meta"):
        network = build_network(settings.to_dict() | {"weights": ""}, outputs, cells).eval()
    return GrowingDescription(
        settings=settings.to_dict(),
        outputs=outputs,
        size=size,
        cells=cells,
        smallest_size=network.smallest_size(),
        layers=tuple(measure(network, _parts(network, settings), size)[0]),
        notes=_notes(settings),
    )


def size_table() -> list[SizeRow]:
    """The poster's four columns beside the maps of Inception-ResNet-v2 at full ladder and of 0 / 0 / 1 / 2 cells.

    >>> [(row.input, row.before, row.after) for row in size_table()]
    [(224, 5, 5), (256, 6, 6), (448, 12, 5), (720, 21, 4)]
    """
    rows = []
    for size, (poster_before, poster_after) in POSTER_SIZES.items():
        before = after = map_sizes(size)["mixed_7a"]
        for _ in range(POSTER_CELLS[size]):
            after = size_after_cell(after)
        rows.append(SizeRow(size, POSTER_CELLS[size], poster_before, before, poster_after, after))
    return rows


def size_table_text() -> str:
    """The size table and why its 256 column differs."""
    names = ["input", "cells", "before switch: poster", "ours", "after cells: poster", "ours"]
    return f"{table(names, [[str(each) for each in asdict(row).values()] for row in size_table()])}\n{EXPLANATION}"


def _parts(network: M2CNN, settings: NetworkSettings) -> dict[str, Part]:
    """The modules that get a row, in the order of the forward pass: name -> (module, operation, source)."""
    trunk, tail = _timm_parts(network, settings) if settings.is_timm else _own_parts(network, settings)
    parts = {"normalise": (network.normalise, "(x / 255 - mean) / std", NORMALISE_SOURCE)}
    parts |= {f"trunk.{name}": part for name, part in trunk.items()}
    for number, cell in enumerate(network.cells):
        parts |= {f"cells.{number}{name}": (module, operation, CELL) for name, module, operation in _cell_parts(cell)}
    parts |= {f"trunk.{name}": part for name, part in tail.items()}
    parts["dropout"] = (network.dropout, f"dropout {settings.dropout:g}", DROPOUT)
    parts |= {"classif": (network.classif, f"linear to {network.classif.out_features}", HEADS)}
    return {name: Part(*part) for name, part in parts.items()}


def _own_parts(network: M2CNN, settings: NetworkSettings) -> tuple[dict, dict]:
    operations = trunk_operations(settings)
    rows = {name: (module, operations[name], INCEPTION_SOURCE) for name, module in network.trunk.named_children()}
    head = {"conv2d_7b": rows.pop("conv2d_7b"), "pool": (network.trunk.pool, operations["pool"], MEAN_SOURCE)}
    rows.pop("pool")
    return rows, head


def trunk_operations(settings: NetworkSettings) -> dict[str, str]:
    """What each submodule of InceptionResNetV2 does."""
    conv_stride, pool_stride = STEM_STRIDES[settings.ladder]
    block35, block17, block8 = settings.repeats
    return {
        "conv2d_1a": f"conv 3x3 s{conv_stride}",
        "conv2d_2a": "conv 3x3",
        "conv2d_2b": "conv 3x3 p1",
        "maxpool_3a": f"max 3x3 s{pool_stride}",
        "conv2d_3b": "conv 1x1",
        "conv2d_4a": "conv 3x3",
        "maxpool_5a": "max 3x3 s2",
        "mixed_5b": "1x1 | 1x1, 5x5p | 1x1, 3x3p, 3x3p | mean 3x3p, 1x1",
        "repeat": f"{block35} x Block35, scale 0.17",
        "mixed_6a": "3x3 s2 | 1x1, 3x3p, 3x3 s2 | max 3x3 s2",
        "repeat_1": f"{block17} x Block17, scale 0.10",
        "mixed_7a": "2 x (1x1, 3x3 s2) | 1x1, 3x3p, 3x3 s2 | max 3x3 s2",
        "repeat_2": f"{block8} x Block8, scale 0.20",
        "block8": "Block8, scale 1, no ReLU",
        "conv2d_7b": "conv 1x1",
        "pool": "mean over the map",
    }


def _timm_parts(network: M2CNN, settings: NetworkSettings) -> tuple[dict, dict]:
    """Which layers come before the switch shows when the map is made: those that have not run by then are the head."""
    source = f"known: {settings.trunk.removeprefix(TIMM_PREFIX)} as in timm"
    rows = dict(called(network.trunk.net, "net"))
    ran: set[str] = set()
    hooks = [module.register_forward_hook(lambda *_, name=name: ran.add(name)) for name, module in rows.items()]
    size = network.smallest_size(0)
    with torch.no_grad():
        network.trunk(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    parts = {name: (module, classes(module), source) for name, module in rows.items()}
    trunk = {name: part for name, part in parts.items() if name in ran}
    return trunk, {name: part for name, part in parts.items() if name not in ran}


def _cell_parts(cell: nn.Module) -> list[tuple[str, nn.Module, str]]:
    if not isinstance(cell, nn.Sequential):
        plain = isinstance(cell, ConvBnReLU)
        return [("", cell, "conv 3x3 s2" if plain else "max 3x3 s2 + 0.2 x (1x1, 3x3 s2, linear 1x1)")]
    reduction = (".0", cell[0], "2 x (1x1, 3x3 s2) | 1x1, 3x3p, 3x3 s2 | max 3x3 s2, 1x1")
    return [reduction, *((f".{number}", cell[number], "Block8, scale 0.20") for number in range(1, len(cell)))]


def _notes(settings: NetworkSettings) -> tuple[str, ...]:
    if settings.is_timm:
        return (
            "reconstruction: the switch sits behind timm's forward_features; multi-cell fits other networks (poster).",
        )
    own = {
        f"width {settings.width:g}": settings.width != 1,
        f"repeats {list(settings.repeats)}": settings.repeats != FULL_REPEATS,
        f"the {settings.ladder} ladder": settings.ladder != "full",
    }
    changed = [name for name, differs in own.items() if differs]
    published = "the published network has width 1, repeats [10, 20, 9] and the full ladder"
    return (f"reconstruction: {', '.join(changed)}; {published}",) if changed else ()
