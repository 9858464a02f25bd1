"""Do gradients vanish or explode? Their norms layer by layer, as runs start each stage and as they end it.

Of a weight: the norm of its gradient over the norm of the weight, the relative step that plain descent would make. Of a
map: the norm of the loss's gradient by the output of a trunk stage or a cell. Both are means over the first BATCHES
training batches of the stage (its own augmentation, order and batch), without clipping, in 32-bit floats, with batch
norm and dropout as in training.

The rule is ours, the poster gives none: imbalance = relative gradient of the first tenth of the weight layers over that
of the last tenth (geometric means, at least one layer each, in the order in which they run). Below 1 / FACTOR gradients
vanish on the way back to the input, above FACTOR they explode. FACTOR = 100: a step that moves the last layers by a
hundredth then moves the first ones by less than a ten-thousandth, or by more than their own size.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from m2cnn.checkpoint import best_weights, load_weights
from m2cnn.data.dataset import PassBatches, loader
from m2cnn.data.sampling import pass_order
from m2cnn.errors import SettingError
from m2cnn.fit import StageData, loss_of
from m2cnn.part import Part, network_of_stage, pictures_of, stage_data
from m2cnn.recipe import Stage
from m2cnn.tables import table_bytes, write_atomically
from m2cnn.tasks import Task
from m2cnn.train import RUN, open_run

BATCHES, FACTOR = 4, 100.0
START, END = "start", "end"
WEIGHT, MAP = "weight", "map"
NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Norm:
    """kind: WEIGHT or MAP.  gradient: its norm.  relative: over the norm of the weight; NaN for a map."""

    kind: str
    layer: str
    gradient: float
    relative: float


@dataclass(frozen=True)
class Measurement:
    """One line of gradients.csv. when: START or END of the stage.  place: of the layer, 0 is nearest the input."""

    source: str
    cell: str
    seed: int
    stage: int
    size: int
    cells: int
    when: str
    kind: str
    place: int
    layer: str
    gradient: float
    relative: float


COLUMNS = tuple(field.name for field in fields(Measurement))


# --- of one network ---


def norms(network: nn.Module, task: Task, batches: Sequence[tuple[Tensor, Tensor]], seed: int = 0) -> list[Norm]:
    """Norms of a network that is in training mode, means over batches; weights in the order in which they run.

    batches: (pictures, grades).  seed: of dropout. The network's weights stay; its batch statistics move.
    """
    watch = Watch(network)
    for number, (pictures, grades) in enumerate(batches):
        torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        network.zero_grad(set_to_none=True)
        watch.maps.clear()
        loss_of(network, task, pictures, grades).backward()
        watch.note()
    watch.close()
    network.zero_grad(set_to_none=True)
    return watch.found()


class Watch:
    """Hooks that see which layers run, and keep the gradients of maps."""

    def __init__(self, network: nn.Module):
        self.weights: dict[str, nn.Parameter] = {}  # in the order in which they run
        self.maps: dict[str, Tensor] = {}
        self.sums: dict[tuple[str, str], list[float]] = {}
        self.hooks = [
            module.register_forward_hook(self._ran(name)) for name, module in network.named_modules() if _learns(module)
        ]
        self.hooks += [module.register_forward_hook(self._gave(name)) for name, module in stages(network)]

    def _ran(self, name: str):
        def hook(module: nn.Module, given: object, output: object) -> None:
            self.weights.setdefault(name, module.weight)

        return hook

    def _gave(self, name: str):
        def hook(module: nn.Module, given: object, output: object) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                output.retain_grad()
                self.maps[name] = output

        return hook

    def note(self) -> None:
        """Add what the last backward pass left."""
        for kind, tensors in ((WEIGHT, self.weights), (MAP, self.maps)):
            for name, tensor in tensors.items():
                if tensor.grad is not None:
                    self.sums.setdefault((kind, name), []).append(float(tensor.grad.float().norm()))

    def found(self) -> list[Norm]:
        return [self._norm(kind, name, float(np.mean(each))) for (kind, name), each in self.sums.items()]

    def _norm(self, kind: str, name: str, gradient: float) -> Norm:
        size = float(self.weights[name].detach().float().norm()) if kind == WEIGHT else 0.0
        return Norm(kind, name, gradient, gradient / size if size else math.nan)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


def _learns(module: nn.Module) -> bool:
    """Whether it has a kernel or a matrix: norms and biases have no first and last of their own."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() > 1 and weight.requires_grad


def stages(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts whose maps are watched: of the trunk, and the cells; of another network, its own parts."""
    trunk = getattr(network, "trunk", None)
    if trunk is None:
        return list(network.named_children())
    parts = getattr(trunk, "net", trunk).named_children()
    return [*parts, *((f"cells.{name}", cell) for name, cell in network.cells.named_children())]


def imbalance(relative: Sequence[float]) -> float:
    """Relative gradients of weight layers, first to last -> that of the first tenth over that of the last.

    Layers without one (a weight of zero, a gradient of zero) are left out; NaN where fewer than two are left.

    >>> imbalance([0.5, 7.0, 2.0])
    0.25
    """
    logs = np.log([value for value in relative if np.isfinite(value) and value > 0])
    if len(logs) < 2:
        return math.nan
    ends = max(1, len(logs) // 10)
    return float(np.exp(logs[:ends].mean() - logs[-ends:].mean()))


# --- of runs ---


def of_run(folder: Path, source: str, cell: str, seed: int, cache: Path, images: Path | None) -> list[Measurement]:
    """Every stage of a finished run, at its start and its end.

    cache: where prepared pictures are.  Raises SettingError for a folder that is no run, M2cnnError and OSError where
    weights or photographs are gone.
    """
    if not (folder / RUN).is_file():
        raise SettingError(folder, "no run (run.json is missing)", "a run folder", "Was it deleted?")
    run = open_run(folder, images=images)
    part = run.part(run.system.members[0])
    cached = pictures_of(part, cache)
    found = []
    for number, stage in enumerate(part.recipe.stages):
        batches = _batches(stage_data(part, cached, number), stage, part.recipe.seed, number)
        for when in (START, END):
            network = _network(part, stage, number, when)
            said = norms(network, part.member.task, batches, part.recipe.seed)
            place = {WEIGHT: itertools.count(), MAP: itertools.count()}
            at = (source, cell, seed, number, stage.size, stage.cells, when)
            found += [Measurement(*at, n.kind, next(place[n.kind]), n.layer, n.gradient, n.relative) for n in said]
    return found


def _batches(data: StageData, stage: Stage, seed: int, number: int) -> list[tuple[Tensor, Tensor]]:
    """The first batches that the stage itself saw."""
    order = pass_order(data.train.grades, data.sampling, (seed, number), 0)
    return list(itertools.islice(loader(data.train, PassBatches(order, stage.batch, 0)), BATCHES))


def _network(part: Part, stage: Stage, number: int, when: str) -> nn.Module:
    network, _ = network_of_stage(part.member, part.recipe, number, part.checkpoints)
    if when == END:
        load_weights(network, best_weights(part.checkpoints, number))
    network.train()
    if stage.frozen_norm:
        for module in network.modules():
            if isinstance(module, NORM):
                module.eval()
    return network


# --- on disk ---


def read_gradients(path: Path) -> list[Measurement]:
    """What `write_gradients` wrote; [] where there is none."""
    if not path.is_file():
        return []
    kinds = {"str": str, "int": int, "float": float}
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Measurement(**{f.name: kinds[f.type](row[f.name]) for f in fields(Measurement)})
            for row in csv.DictReader(file)
        ]


def write_gradients(path: Path, measured: Iterable[Measurement]) -> None:
    """Every line, numbers with four digits."""
    rows = ([f"{cell:.4g}" if isinstance(cell, float) else cell for cell in astuple(one)] for one in measured)
    write_atomically(path, table_bytes(COLUMNS, rows))
