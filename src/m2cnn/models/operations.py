"""What a submodule does, in a few words, and which submodules of a network get a row of its layer table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import groupby

from torch import nn

from m2cnn.models.fractional import FixedFractionalMaxPool, FractionalMaxPool
from m2cnn.models.layer_table import Part
from m2cnn.models.min_pooling_net import MapDropout
from m2cnn.models.settings import Source

LONGEST = 60


def operation(module: nn.Module) -> str:
    """A layer's kernel, stride and padding; of several layers all that move numbers, or how many of which class.

    >>> operation(nn.Sequential(nn.Conv2d(3, 8, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2)))
    'conv 5x5 s2 p1, max 3x3 s2'
    """
    steps = [(step, len(list(same))) for step, same in groupby(_steps(module))]
    text = ", ".join(step if count == 1 else f"{count} x {step}" for step, count in steps)
    return text if 0 < len(text) <= LONGEST else classes(module)


def classes(module: nn.Module) -> str:
    """The class of a module, or how many of which a Sequential holds: "2 x BasicBlock"."""
    if not isinstance(module, nn.Sequential):
        return type(module).__name__
    counts = Counter(type(each).__name__ for each in _unfold(module))
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def _unfold(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential):
        return [module]
    return [each for child in module for each in _unfold(child)]


def _steps(module: nn.Module) -> Iterator[str]:
    text = _step(module)
    if text:
        yield text
    else:
        for child in module.children():
            yield from _steps(child)


def _step(module: nn.Module) -> str:
    """Of one layer; "" for one of several, and for one that only bends or norms numbers."""
    match module:
        case nn.Conv2d():
            return f"conv {_window(module.kernel_size, module.stride, module.padding)}"
        case nn.Linear():
            return f"linear to {module.out_features}"
        case nn.MaxPool2d():
            return f"max {_window(module.kernel_size, module.stride, module.padding)}"
        case nn.AvgPool2d():
            return f"mean {_window(module.kernel_size, module.stride, module.padding)}"
        case nn.AdaptiveAvgPool2d():
            return "mean over the map"
        case nn.Dropout():
            return f"dropout {module.p:g}"
        case MapDropout():
            return f"drop {module.dropped} of {module.channels} maps"
        case FractionalMaxPool():
            return f"fractional max {module.kernel}x{module.kernel} to {module.after}"
        case FixedFractionalMaxPool():
            return f"fractional max {module.kernel}x{module.kernel} to {len(module.rows)}"
    return ""


def _window(kernel: object, stride: object, padding: object) -> str:
    (height, width), (step, _), (border, _) = _pair(kernel), _pair(stride), _pair(padding)
    return f"{height}x{width}" + (f" s{step}" if step != 1 else "") + (f" p{border}" if border else "")


def _pair(value: object) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def called(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """Children that are called themselves: a ModuleList is only a holder."""
    rows = []
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            rows += called(child, f"{prefix}.{name}")
        elif not isinstance(child, nn.Identity):
            rows.append((f"{prefix}.{name}", child))
    return rows


def parts_of(network: nn.Module, sources: Mapping[str, Source], words: Mapping[str, str]) -> dict[str, Part]:
    """The submodules that fit a pattern of `sources`: name -> part. No part lies in another.

    words: what a submodule does, by the last part of its name, where its modules do not say it well.
    """
    return {name: part for child in network.named_children() for name, part in _walk(*child, sources, words)}


def _walk(name: str, module: nn.Module, sources: Mapping, words: Mapping) -> Iterator[tuple[str, Part]]:
    source = next((source for pattern, source in sources.items() if _fits(name, pattern)), None)
    if source is None:
        for child, inner in module.named_children():
            yield from _walk(f"{name}.{child}", inner, sources, words)
        return
    for row, inner in called(module, name) if isinstance(module, nn.ModuleList) else [(name, module)]:
        own = words.get(row.rpartition(".")[2]) or operation(inner)
        yield row, Part(inner, source.operation.format(own), source.text)


def _fits(name: str, pattern: str) -> bool:
    """A star stands for no dot."""
    return name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)
