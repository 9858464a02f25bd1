"""The layer table of a network: measured from the shapes of one picture, so quickly at any size, and printed.

Multiply-adds are those of convolutions and linear layers alone, for one picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from m2cnn.errors import SettingError
from m2cnn.wording import table

COLUMNS = ["layer", "operation", "channels", "map", "parameters", "multiply-adds", "source"]


class Part(NamedTuple):
    """A submodule that gets a row."""

    module: nn.Module
    operation: str
    source: str


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
class Description:
    """`multiply_adds` are those of one picture of `size` px with `cells` cells; `layers` are those that run."""

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

    @property
    def head(self) -> str:
        """The first line of the text."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        totals = {"parameters": self.parameters, "multiply_adds": self.multiply_adds}
        return asdict(self) | totals | {"layers": [asdict(each) for each in self.layers], "notes": list(self.notes)}

    def to_text(self) -> str:
        """The layer table, the legend of its sources, the notes."""
        sources = list(dict.fromkeys(each.source for each in self.layers))
        legend = [f"[{_letter(number)}] {source}" for number, source in enumerate(sources)]
        return "\n".join([self.head, "", table(COLUMNS, self._cells(sources)), "", *legend, *self.notes])

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


def check_side(size: object) -> None:
    """Raises SettingError for what is no side of a picture."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SettingError("size", f"got {size!r}", "the side of the input in whole px")


def measure(network: nn.Module, parts: dict[str, Part], size: int) -> tuple[list[Layer], list[str]]:
    """One picture of shapes alone through a network on torch's "meta" device: the rows of `parts`, in that order, and
    the names of those that ran, in the order in which they did.
    """
    shapes: dict[str, torch.Size | None] = {}
    work = dict.fromkeys(parts, 0)

    def note_shape(name: str) -> Callable:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            shapes[name] = output.shape if isinstance(output, Tensor) else None  # an hrnet's stages give several maps

        return note

    def note_work(name: str) -> Callable:
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            work[name] += output.numel() * module.weight[0].numel()

        return add

    for name, part in parts.items():
        part.module.register_forward_hook(note_shape(name))
        for each in part.module.modules():
            if isinstance(each, (nn.Conv2d, nn.Linear)):
                each.register_forward_hook(note_work(name))
    with torch.no_grad(), torch.device("meta"):
        network(torch.empty(1, 3, size, size))
    rows = [
        Layer(name, part.operation, *_sides(shapes.get(name)), _parameters(part.module), work[name], part.source)
        for name, part in parts.items()
    ]
    return rows, list(shapes)


def _sides(shape: torch.Size | None) -> tuple[int | None, int | None]:
    if shape is None:
        return None, None
    return shape[1], shape[-1] if len(shape) == 4 else 1


def _parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def _letter(number: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[number]
