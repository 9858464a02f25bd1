"""One progress bar for a whole training: on a terminal a bar with the time left, elsewhere one plain line per pass."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from tqdm import tqdm

from m2cnn.recipe import Recipe


class Place(Protocol):
    """Where a run is."""

    stage: int
    epoch: int
    batch: int


class Bar:
    """Progress in the work that is left: a batch counts by its pixels, so that the time left holds across stages."""

    def __init__(self, recipe: Recipe, photographs: int, start: Place):
        self.stages = recipe.stages
        self.costs = [stage.batch * stage.size**2 / 1e6 for stage in self.stages]
        self.batches = [-(-recipe.sampling.total(photographs) // stage.batch) for stage in self.stages]
        self.quiet = not sys.stderr.isatty()
        total = sum(s.epochs * b * c for s, b, c in zip(self.stages, self.batches, self.costs, strict=True))
        shape = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"
        self.bar = tqdm(
            total=total, initial=self._done(start), disable=self.quiet, bar_format=shape, desc="training", leave=True
        )

    def _done(self, place: Place) -> float:
        before = sum(
            s.epochs * b * c for s, b, c in zip(self.stages[: place.stage], self.batches, self.costs, strict=False)
        )
        return before + (place.epoch * self.batches[place.stage] + place.batch) * self.costs[place.stage]

    def step(self, place: Place) -> None:
        """After a batch."""
        if self.quiet:
            return
        stage = self.stages[place.stage]
        self.bar.set_description_str(
            f"stage {place.stage + 1}/{len(self.stages)} ({stage.size} px) pass {place.epoch + 1}/{stage.epochs}", False
        )
        self.bar.update(max(0.0, self._done(place) - self.bar.n))

    def finish(self, row: dict[str, Any]) -> None:
        """After a pass."""
        kappa = f"validation kappa {row['val_kappa']:.3f}, loss {row['train_loss']:.3f}"
        if not self.quiet:
            self.bar.set_postfix_str(kappa)
            return
        stage = self.stages[row["stage"]]
        what = f"{row['size']} px, {row['cells']} cells"
        place = f"stage {row['stage'] + 1}/{len(self.stages)} ({what}) pass {row['epoch'] + 1}/{stage.epochs}"
        print(f"{place}: {kappa}, {row['images_per_second']:.0f} images/s", file=sys.stderr, flush=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
