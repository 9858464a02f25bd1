"""What a run keeps on disk on its way: where it is, the state of the network and its optimiser, the best weights.

Files are written whole or not at all; only tensors and plain values are ever loaded.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from m2cnn.errors import BundleError
from m2cnn.half import as_half, large

# The weights of a stage that can be kept: of the best validation kappa, of the best validation loss, and the last.
SNAPSHOTS = ("kappa", "loss", "last")


@dataclass
class Progress:
    """Where a run is: `batch` batches of pass `epoch` of stage `stage` are done, their losses sum to `loss`.

    best, best_loss: the highest validation kappa and the lowest validation loss of the stage so far.
    history: one row per finished pass.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = float("-inf")
    best_loss: float = float("inf")
    loss: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(path: Path, progress: Progress, states: dict[str, Any]) -> None:
    """Write all or nothing: a power cut leaves the old file or the new one."""
    fresh = path.with_suffix(".tmp")
    with open(fresh, "wb") as file:
        torch.save({"progress": asdict(progress)} | states, file)
    _settle(fresh, path)


def _settle(fresh: Path, path: Path) -> None:
    """Put `fresh` in the place of `path`, both the file and its name safe from a power cut."""
    _sync(fresh)
    os.replace(fresh, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path) -> tuple[Progress, dict[str, Any]]:
    """What `save_checkpoint` wrote. Only tensors and plain values load; anything that would run code is refused.

    Raises BundleError for a damaged or foreign file.
    """
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
        return Progress(**states.pop("progress")), states
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, EOFError, ValueError) as cause:
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise BundleError(
            path, f"not a checkpoint of m2cnn ({reason})", "tensors and plain values", "Start a new run."
        ) from cause


def save_weights(network: nn.Module, path: Path, half: bool = False) -> None:
    """The network's weights as safetensors, all or nothing. half: the large ones, rounded already, as float16."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if half:
        tensors |= {name: as_half(name, tensors[name]) for name in large(network)}
    fresh = path.with_suffix(".tmp")
    save_file(tensors, fresh)
    _settle(fresh, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Weights that `save_weights` wrote, into a network that stays float32; every name must match."""
    network.load_state_dict(load_file(path))


def best_weights(folder: Path, stage: int, snapshot: str = "kappa") -> Path:
    """Where a stage's weights are kept; snapshot: one of SNAPSHOTS."""
    return folder / f"stage{stage}{'' if snapshot == 'kappa' else f'-{snapshot}'}.safetensors"
