"""What turns gradients into weights: groups of parameters that learn alike, optimisers, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from m2cnn.recipe import Optimiser

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(
    network: nn.Module, settings: Optimiser, new: nn.Module | None, carried: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """What learns (requires_grad), in six groups at most: (new, carried, neither) x (decayed, spared).

    new: what this stage added.  carried: what an earlier stage trained and this one trains on more slowly.
    """
    fresh = {id(p) for p in new.parameters()} if new is not None else set()
    slower = {id(p) for p in carried}
    spared = {id(p) for m in network.modules() if isinstance(m, NORMS) for p in m.parameters()}
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spare = id(parameter) in spared or name.endswith("bias")
            groups.setdefault((id(parameter) in fresh, id(parameter) in slower, spare), []).append(parameter)
    return [
        {"params": group, "new": is_new, "carried": old, "weight_decay": 0.0 if spare else settings.weight_decay}
        for (is_new, old, spare), group in groups.items()
    ]


def make_optimiser(
    network: nn.Module, settings: Optimiser, new: nn.Module | None = None, carried: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; the rate is set before every batch.

    Min-pooling's v' = m v - rate (1 - m) g, w' = w + (1 + m) v' - m v is SGD at rate * (1 - m) while the rate stays.
    Where it falls, what SGD has gathered falls with it at once, and v only within some 1 / (1 - m) steps.
    """
    groups = parameter_groups(network, settings, new, carried)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.momentum > 0)


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An update of exponentially averaged weights; early on it forgets faster, so that a short run leaves its start."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), 1 - kept)
            else:
                old.copy_(new)

    return torch.no_grad()(update)
