"""o_O's blend net and its training, see `m2cnn.combine.Blend` for what of it is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from m2cnn.combine import Blend, blend_rows
from m2cnn.errors import SettingError
from m2cnn.eyes import Eyes
from m2cnn.models.o_o_net import maxout

BIAS = 0.01


class BlendNet(nn.Module):
    """One member's net: (B, 4 D + 1) rows as they are -> (B, 1) severity. centre, scale: (4 D + 1,) of the rows."""

    def __init__(self, centre: Tensor, scale: Tensor, units: int):
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.first = nn.Linear(len(centre), units)
        self.second = nn.Linear(units // 2, units)
        self.last = nn.Linear(units // 2, 1)
        for layer in (self.first, self.second, self.last):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            nn.init.constant_(layer.bias, BIAS)

    def forward(self, rows: Tensor) -> Tensor:
        x = (rows - self.centre) / self.scale
        x = maxout(self.first(x).relu())  # (B, 16)
        x = maxout(self.second(x).relu())  # (B, 16)
        return self.last(x)

    def penalty(self, l1: float, l2: float) -> Tensor:
        squares = sum(layer.weight.square().sum() for layer in (self.first, self.second, self.last))
        return l1 * self.first.weight.abs().sum() + l2 * squares


class Blends(nn.Module):
    """All members' nets: their rows side by side -> (B, 1), the mean of their severities."""

    def __init__(self, nets: list[BlendNet]):
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.widths = [len(net.centre) for net in nets]

    def forward(self, rows: Tensor) -> Tensor:
        parts = rows.split(self.widths, dim=1)
        return torch.stack([net(part) for net, part in zip(self.nets, parts, strict=True)]).mean(dim=0)


def train_blends(settings: Blend, eyes: Eyes, grades: np.ndarray, patients: np.ndarray, seed: int) -> Blends:
    """A net per member, each with random numbers of its own. Raises SettingError for a rate at which one diverges."""
    nets = []
    for member, features in enumerate(eyes.features):
        rng = np.random.default_rng([seed, member])
        nets.append(_train(settings, np.asarray(features, np.float32), eyes, grades, patients, rng))
    return Blends(nets).eval()


def _train(
    settings: Blend,
    features: np.ndarray,
    eyes: Eyes,
    grades: np.ndarray,
    patients: np.ndarray,
    rng: np.random.Generator,
) -> BlendNet:
    partner, truth = eyes.partner(), torch.from_numpy(grades).float()[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        net = BlendNet(*_statistics(features), settings.units)
    adam = torch.optim.Adam(net.parameters())
    for epoch in range(settings.epochs):
        adam.param_groups[0]["lr"] = settings.rate * 0.1 ** sum(epoch >= drop for drop in settings.drops)
        for batch in batches(settings, grades, patients, rng):
            # Rows are made for the batch alone: those of all of EyePACS would take 1.2 GB for each member.
            rows = torch.from_numpy(blend_rows(features[batch], features[partner[batch]], eyes.side[batch]))
            loss = (net(rows) - truth[batch]).square().mean() + net.penalty(settings.l1, settings.l2)
            adam.zero_grad()
            loss.backward()
            adam.step()
    if not torch.isfinite(loss):
        raise SettingError("combiner blend, rate", f"{settings.rate}: the loss became {loss.item()}", "a smaller rate")
    return net


def _statistics(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """Centre and scale of the rows, (4 D + 1,) each: both eyes share the features' own, the side is left as it is."""
    centre, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # In float64 a constant, such as the deviation over a single view, deviates by 0 and not by rounding.
    scale = np.where(deviation > 0, deviation, 1)
    tensors = [np.concatenate([part, part, [flag]]) for part, flag in ((centre, 0), (scale, 1))]
    return torch.from_numpy(tensors[0]).float(), torch.from_numpy(tensors[1]).float()


def batches(
    settings: Blend, grades: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The batches of one pass, each the rows of whole patients, about `settings.batch` of them."""
    names, owner = np.unique(patients, return_inverse=True)
    members = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    count = max(1, round(settings.batch * len(names) / len(owner)))
    # Every grade equally likely, as the grade of the photograph for which its patient is drawn.
    balance = 1 / np.bincount(grades)[grades]
    order = rng.permutation(len(names))
    for start in range(0, len(order), count):
        draw = rng.random()
        if draw < settings.balanced:
            chosen = owner[rng.choice(len(owner), count, p=balance / balance.sum())]
        elif draw < settings.balanced + settings.uniform:
            chosen = rng.integers(len(names), size=count)
        else:
            chosen = order[start : start + count]
        yield np.concatenate([members[patient] for patient in chosen])
