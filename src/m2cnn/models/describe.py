"""What a network is made of, layer by layer, and how sure we are of each part: from shapes alone, so quickly.

Words of the sources: "known" is stated in the source named; "computed" is arithmetic on what is known; "reconstruction"
is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError
from m2cnn.models import build_network
from m2cnn.models.inception_resnet import STEM_STRIDES, ConvBnReLU, map_sizes
from m2cnn.models.m2cnn import M2CNN, size_after_cell
from m2cnn.models.settings import FULL_REPEATS, TIMM_PREFIX, NetworkSettings

PAPER = "known: Inception-ResNet-v2 (arXiv 1602.07261; layout as in Cadene's and timm's weights)"
CELL = (
    "computed: 3x3 stride 2 without padding, from the poster's map sizes; "
    "reconstruction: what else the cell holds and its place before the head"
)
MEAN = "reconstruction: mean over the map instead of the fixed 8 x 8 pool, so that every input size works"
HEADS = (
    "known: five logits and one score, 6 outputs (poster); reconstruction: rows of one linear layer on a shared vector"
)
DROPOUT = "reconstruction: dropout before the heads"

COLUMNS = ["layer", "operation", "channels", "map", "parameters", "multiply-adds", "source"]

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
class Layer:
    """One row: `map` is the side of the output map (1 for a vector, None: several maps); counts are of one picture."""

    name: str
    operation: str
    channels: int | None
    map: int | None
    parameters: int
    multiply_adds: int
    source: str


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
class Description:
    """`multiply_adds` are those of convolutions and linear layers for one picture of `size` px with `cells` cells."""

    settings: dict[str, Any]
    outputs: int
    size: int
    cells: int
    smallest_size: int
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(each.parameters for each in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(each.multiply_adds for each in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        totals = {"parameters": self.parameters, "multiply_adds": self.multiply_adds}
        layers = {"layers": [asdict(each) for each in self.layers], "notes": list(self.notes)}
        return asdict(self) | totals | layers | {"poster_sizes": [asdict(each) for each in size_table()]}

    def to_text(self) -> str:
        """The layer table, the legend of its sources, the notes, and the poster's size table."""
        sources = list(dict.fromkeys(each.source for each in self.layers))
        cells = "1 cell" if self.cells == 1 else f"{self.cells} cells"
        head = f"{self.settings['trunk']}, {self.size} px, {cells}, {self.outputs} outputs"
        return "\n".join(
            [
                f"{head}; smallest input {self.smallest_size} px",
                "",
                _table(COLUMNS, self._cells(sources)),
                "",
                *(f"[{_letter(number)}] {source}" for number, source in enumerate(sources)),
                *self.notes,
                "",
                size_table_text(),
            ]
        )

    def _cells(self, sources: list[str]) -> list[list[str]]:
        rows = [
            [
                each.name,
                each.operation,
                "-" if each.channels is None else f"{each.channels}",
                "-" if each.map is None else f"{each.map} x {each.map}",
                f"{each.parameters:,}",
                f"{each.multiply_adds:,}",
                f"[{_letter(sources.index(each.source))}]",
            ]
            for each in self.layers
        ]
        return [*rows, ["total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", ""]]


def describe(settings: Mapping[str, Any] | NetworkSettings, outputs: int, size: int, cells: int = 0) -> Description:
    """The network of `settings` with `outputs` outputs and `cells` cells, for pictures of `size` px.

    Raises SettingError for settings that mean nothing, SizeError when `size` is too small for the cells.
    """
    if not isinstance(settings, NetworkSettings):
        settings = NetworkSettings.from_dict(settings)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SettingError("size", f"got {size!r}", "the side of the input in whole px")
    with torch.device("meta"):
        network = build_network(settings.to_dict() | {"weights": ""}, outputs, cells).eval()
    return Description(
        settings=settings.to_dict(),
        outputs=outputs,
        size=size,
        cells=cells,
        smallest_size=network.smallest_size(),
        layers=tuple(_measure(network, _parts(network, settings), size)),
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
    return f"{_table(names, [[str(each) for each in asdict(row).values()] for row in size_table()])}\n{EXPLANATION}"


def _parts(network: M2CNN, settings: NetworkSettings) -> dict[str, tuple[nn.Module, str, str]]:
    """The modules that get a row, in the order of the forward pass: name -> (module, operation, source)."""
    trunk, tail = _timm_parts(network, settings) if settings.is_timm else _own_parts(network, settings)
    normalisation = "known: the mean and standard deviation that the trunk's ImageNet weights expect"
    parts = {"normalise": (network.normalise, "(x / 255 - mean) / std", normalisation)}
    parts |= {f"trunk.{name}": part for name, part in trunk.items()}
    for number, cell in enumerate(network.cells):
        parts |= {f"cells.{number}{name}": (module, operation, CELL) for name, module, operation in _cell_parts(cell)}
    parts |= {f"trunk.{name}": part for name, part in tail.items()}
    parts["dropout"] = (network.dropout, f"dropout {settings.dropout:g}", DROPOUT)
    return parts | {"classif": (network.classif, f"linear to {network.classif.out_features}", HEADS)}


def _own_parts(network: M2CNN, settings: NetworkSettings) -> tuple[dict, dict]:
    operations = _operations(settings)
    rows = {name: (module, operations[name], PAPER) for name, module in network.trunk.named_children()}
    head = {"conv2d_7b": rows.pop("conv2d_7b"), "pool": (network.trunk.pool, operations["pool"], MEAN)}
    rows.pop("pool")
    return rows, head


def _operations(settings: NetworkSettings) -> dict[str, str]:
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
    rows = dict(_called(network.trunk.net, "net"))
    ran: set[str] = set()
    hooks = [module.register_forward_hook(lambda *_, name=name: ran.add(name)) for name, module in rows.items()]
    size = network.smallest_size(0)
    with torch.no_grad():
        network.trunk(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    parts = {name: (module, _operation(module), source) for name, module in rows.items()}
    trunk = {name: part for name, part in parts.items() if name in ran}
    return trunk, {name: part for name, part in parts.items() if name not in ran}


def _called(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """Children that are called themselves: a ModuleList is only a holder."""
    rows = []
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            rows += _called(child, f"{prefix}.{name}")
        elif not isinstance(child, nn.Identity):
            rows.append((f"{prefix}.{name}", child))
    return rows


def _operation(module: nn.Module) -> str:
    """The class of a module, or how many of which a Sequential holds: "2 x BasicBlock"."""
    if not isinstance(module, nn.Sequential):
        return type(module).__name__
    counts = Counter(type(each).__name__ for each in _unfold(module))
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def _unfold(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential):
        return [module]
    return [each for child in module for each in _unfold(child)]


def _cell_parts(cell: nn.Module) -> list[tuple[str, nn.Module, str]]:
    if not isinstance(cell, nn.Sequential):
        plain = isinstance(cell, ConvBnReLU)
        return [("", cell, "conv 3x3 s2" if plain else "max 3x3 s2 + 0.2 x (1x1, 3x3 s2, linear 1x1)")]
    reduction = (".0", cell[0], "2 x (1x1, 3x3 s2) | 1x1, 3x3p, 3x3 s2 | max 3x3 s2, 1x1")
    return [reduction, *((f".{number}", cell[number], "Block8, scale 0.20") for number in range(1, len(cell)))]


def _measure(network: M2CNN, parts: dict[str, tuple[nn.Module, str, str]], size: int) -> list[Layer]:
    """Run one picture of shapes alone through the network and read each part's output shape and work."""
    shapes: dict[str, torch.Size] = {}
    work = dict.fromkeys(parts, 0)

    def note_shape(name: str) -> Callable:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor):  # the stages of an hrnet give several maps
                shapes[name] = output.shape

        return note

    def note_work(name: str) -> Callable:
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            work[name] += output.numel() * module.weight[0].numel()

        return add

    for name, (module, _, _) in parts.items():
        module.register_forward_hook(note_shape(name))
        for each in module.modules():
            if isinstance(each, (nn.Conv2d, nn.Linear)):
                each.register_forward_hook(note_work(name))
    with torch.no_grad():
        network(torch.empty(1, 3, size, size, device="meta"))
    return [
        Layer(name, operation, *_sides(shapes.get(name)), _parameters(module), work[name], source)
        for name, (module, operation, source) in parts.items()
    ]


def _sides(shape: torch.Size | None) -> tuple[int | None, int | None]:
    if shape is None:
        return None, None
    return shape[1], shape[-1] if len(shape) == 4 else 1


def _parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


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


def _letter(number: int) -> str:
    return "abcdefghij"[number]


def _table(names: list[str], rows: list[list[str]]) -> str:
    """Plain text columns: the first two aligned left, the rest right."""
    widths = [max(len(row[column]) for row in [names, *rows]) for column in range(len(names))]
    lines = []
    for row in [names, *rows]:
        left = [text.ljust(width) for text, width in zip(row[:2], widths, strict=False)]
        right = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)
