"""One bar for a whole table: the work of all its runs in multiply-adds, so that the time left holds across cells."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from m2cnn.bar import Place
from m2cnn.recipe import Recipe


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(42), duration(600), duration(3900)
    ('42 s', '10 min', '1 h 05 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class TableBar:
    """Progress of a table. total: multiply-adds per photograph, of the runs that are still to be made.

    On a terminal a bar, elsewhere one plain line per pass.
    """

    def __init__(self, total: float, runs: int):
        self.total, self.runs, self.number = max(total, 1.0), runs, 0
        self.done = self.skipped = 0.0  # skipped: done before, so it took no time today
        self.started = time.monotonic()
        shape = "{desc} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
        quiet = not sys.stderr.isatty()
        self.bar = None if quiet else tqdm(total=1.0, bar_format=shape, desc="table", leave=True)

    def run(self, name: str, stages: Sequence[float], recipes: Sequence[Recipe] = ()) -> RunBar:
        """What `train` takes as `bar` for the next run. stages: multiply-adds of each stage, all its passes.

        recipes: of the members, where there are several; `stages` are then those of all of them, in this order.
        """
        self.number += 1
        return RunBar(self, name, stages, recipes)

    def reach(self, done: float, skipped: bool = False) -> None:
        """So much is done now."""
        self.skipped += done - self.done if skipped else 0.0
        self.done = done
        if self.bar is not None:
            self.bar.n = min(1.0, done / self.total)
            self.bar.refresh()

    def left(self) -> str:
        """The time that the rest will take at today's speed."""
        worked = self.done - self.skipped
        if worked <= 0:
            return "time left unknown"
        return f"{duration((self.total - self.done) * (time.monotonic() - self.started) / worked)} left"

    def say(self, where: str, what: str) -> None:
        """A plain line, or the words beside the bar."""
        if self.bar is None:
            share = f"{100 * self.done / self.total:.0f} %"
            print(f"[{self.number}/{self.runs}, {share}, {self.left()}] {where}: {what}", file=sys.stderr, flush=True)
        else:
            self.bar.set_description_str(f"[{self.number}/{self.runs}] {where}", False)
            self.bar.set_postfix_str(f"{self.left()}, {what}")

    def __enter__(self) -> TableBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()


class RunBar:
    """The part of the bar that belongs to one run; calling it is what `m2cnn.bar.Bar(...)` is for a run alone, once for
    each member that is not trained yet.
    """

    def __init__(self, table: TableBar, name: str, stages: Sequence[float], recipes: Sequence[Recipe] = ()):
        self.table, self.name, self.work, self.before = table, name, stages, table.done
        self.recipes, self.member, self.first = recipes, 0, 0  # first: the member's first stage among all of them
        self.passed = time.monotonic()

    def __call__(self, recipe: Recipe, photographs: int, start: Place) -> RunBar:
        later = range(self.member, len(self.recipes))
        number = next((number for number in later if self.recipes[number] == recipe), self.member)
        self.first, self.member = sum(len(each.stages) for each in self.recipes[:number]), number + 1
        self.stages = recipe.stages
        self.batches = [-(-recipe.sampling.total(photographs) // stage.batch) for stage in self.stages]
        self.table.reach(self.before + self._done(start), skipped=True)
        return self

    def _done(self, place: Place) -> float:
        passes = place.epoch + place.batch / self.batches[place.stage]
        number = self.first + place.stage
        return sum(self.work[:number]) + self.work[number] * passes / self.stages[place.stage].epochs

    def step(self, place: Place) -> None:
        """After a batch."""
        self.table.reach(max(self.table.done, self.before + self._done(place)))

    def finish(self, row: dict[str, Any]) -> None:
        """After a pass."""
        self.passed = time.monotonic()
        stage = self.stages[row["stage"]]
        what = f"{row['size']} px, {row['cells']} cells, pass {row['epoch'] + 1}/{stage.epochs}"
        kappa = f"validation kappa {row['val_kappa']:.3f}, {row['images_per_second']:.0f} images/s"
        self.table.say(self.name, f"{what}, {row['seconds']:.1f} s, {kappa}")

    def since(self) -> float:
        """Seconds since the last pass."""
        return time.monotonic() - self.passed

    def close(self) -> None:
        """The run is over, whole or broken: what it did not do is nobody's work now."""
        whole = self.before + sum(self.work)
        self.table.reach(whole, skipped=self.table.done < whole)

    def __enter__(self) -> RunBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass
