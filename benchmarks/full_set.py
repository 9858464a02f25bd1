"""What would the paper's system take on the whole of Kaggle's EyePACS? From training steps measured on this machine.

    python benchmarks/full_set.py [RECIPE] [--photographs 35126] [--batch 2] [--steps 2] [--flops 1.5e14]

For every stage of every member: one photograph's multiply-adds, the images per second of a whole training step
(forward, backward, optimiser) on pictures of noise, hours for all passes from it, and the memory of a step: what
is kept for the backward pass, counted tensor by tensor and multiplied up to the recipe's batch, and the weights with
what belongs to them. On a GPU, which is taken where there is one, the batch is the recipe's and the memory is what was
in use at most.

--flops: floating-point operations per second that another machine keeps up in training; the last column is an
**estimate** from it: six operations for each multiply-add (two forward, four backward), as if it kept busy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from m2cnn.optimiser import make_optimiser
from m2cnn.paper.grid import parts_of, work_of
from m2cnn.part import at
from m2cnn.recipe import Recipe, Stage, load_recipe
from m2cnn.systems import Member

OPERATIONS = 6  # of a multiply-add in a training step: two forward, four backward


@dataclass(frozen=True)
class Cost:
    """Of one stage. work: multiply-adds of a photograph.  images: per second.  memory: bytes at the recipe's batch."""

    member: str
    stage: Stage
    work: int
    images: float
    memory: float

    def hours(self, photographs: int) -> float:
        return self.stage.epochs * photographs / self.images / 3600

    def hours_at(self, flops: float, photographs: int) -> float:
        return self.stage.epochs * photographs * self.work * OPERATIONS / flops / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="m2cnn")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as for m2cnn train")
    parser.add_argument("--photographs", type=int, default=35126, help="that a pass sees")
    parser.add_argument("--batch", type=int, default=2, help="that is measured on a CPU")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--flops", type=float, default=1.5e14, help="that another machine keeps up")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, given.settings)
    costs = [
        measured(member, own, stage, given.batch, given.steps)
        for member, own in parts_of(recipe)
        for stage in own.stages
    ]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{given.recipe}: {given.photographs} photographs a pass; {where}\n")
    print("| stage | passes | multiply-adds | images/s here | hours here | memory | hours elsewhere (estimate) |")
    print("|---|---|---|---|---|---|---|")
    for cost in costs:
        print(row(cost, given.photographs, given.flops))
    here = sum(cost.hours(given.photographs) for cost in costs)
    there = sum(cost.hours_at(given.flops, given.photographs) for cost in costs)
    print(f"\nIn all {here:.3g} hours here; about {there:.3g} where {given.flops:.2g} operations a second are kept up.")


def row(cost: Cost, photographs: int, flops: float) -> str:
    stage = cost.stage
    cells = (
        f"{cost.member} {stage.size} px, {stage.cells} cells".strip(),
        f"{stage.epochs}",
        f"{cost.work / 1e9:.1f} G",
        f"{cost.images:.3g}",
        f"{cost.hours(photographs):.3g}",
        f"{cost.memory / 2**30:.1f} GiB for {stage.batch}",
        f"{cost.hours_at(flops, photographs):.3g}",
    )
    return f"| {' | '.join(cells)} |"


def measured(member: Member, recipe: Recipe, stage: Stage, batch: int, steps: int) -> Cost:
    """Training steps of a stage on noise, in bf16; the first is not timed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = stage.batch if device.type == "cuda" else batch
    network = at(member.network, stage).without_weights().build(member.task.outputs, stage.cells)
    if stage.part >= 0:
        network.stage = stage.part
    network.train().to(device, memory_format=torch.channels_last)
    optimiser = make_optimiser(network, stage.optimiser(recipe.optimiser))
    pictures = torch.randint(0, 256, (batch, 3, stage.size, stage.size), dtype=torch.uint8, device=device)
    grades = torch.arange(batch, device=device) % 5

    def step() -> float:
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            outputs = network(pictures)
        member.task.loss(outputs.float(), grades).backward()
        optimiser.step()
        optimiser.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    with kept(batch) as sizes:
        step()
    seconds = min(step() for _ in range(steps))
    weights = sum(each.numel() * each.element_size() for each in network.parameters())
    # Of the pictures: activations. Of the weights: themselves, gradients, what the optimiser and the average keep.
    grows, stays = (sum(each.values()) for each in sizes)
    memory = grows / batch * stage.batch + stays + weights * (5 if recipe.ema else 4)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    return Cost(member.name, stage, work_of(member, stage), batch / seconds, memory)


@contextmanager
def kept(batch: int) -> Iterator[tuple[dict[int, int], dict[int, int]]]:
    """Bytes by storage of what a forward pass keeps for the backward pass: of each picture, and whatever the batch."""
    sizes: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[0 if tensor.shape[:1] == (batch,) else 1][storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield sizes


if __name__ == "__main__":
    main()
