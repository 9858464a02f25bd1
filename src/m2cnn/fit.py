"""One stage of training: the only file that imports Lightning.

Lightning runs the loop (precision, accumulation, clipping, devices); what must survive an interruption is ours and
small. Every random number is a function of (seed, stage, pass, position), every rate of the progress, so that a run
continued from any `last.pt` ends bit-equal to an undisturbed one (same machine, CPU).
"""

from __future__ import annotations

import itertools
import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from m2cnn.checkpoint import SNAPSHOTS, Progress, best_weights, save_checkpoint, save_weights
from m2cnn.cuts import fit_cuts
from m2cnn.data.dataset import PassBatches, Pictures, every_batch, loader
from m2cnn.data.sampling import Sampling, pass_order
from m2cnn.errors import M2cnnError, SettingError, did_you_mean
from m2cnn.metrics import quadratic_weighted_kappa
from m2cnn.optimiser import make_optimiser, moving_average
from m2cnn.precision import depthwise_in_float
from m2cnn.recipe import Recipe, Stage
from m2cnn.tasks import Decoded, Task, cut


class Interrupted(Exception):
    """The user asked to stop; the run is saved."""


@dataclass(frozen=True)
class StageData:
    """The pictures of one stage."""

    train: Pictures
    val: Pictures
    sampling: Sampling
    workers: int = 0


class Fit(LightningModule):
    """Trains `network` through one stage from `progress` on, and keeps `checkpoints/` true.

    new: what this stage added to the network.  snapshots: which weights of the recipe's last stage are kept beside
    those of the best validation kappa, of `m2cnn.checkpoint.SNAPSHOTS`.  begun: whether another run trained the
    network already. Raises SettingError for others, and for a frozen submodule that the network does not have.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        recipe: Recipe,
        data: StageData,
        progress: Progress,
        folder: Path,
        new: nn.Module | None,
        snapshots: tuple[str, ...] = ("kappa",),
        begun: bool = False,
    ):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.task, self.recipe, self.data, self.progress, self.folder = task, recipe, data, progress, folder
        self.stage: Stage = recipe.stages[progress.stage]
        self.seed = (recipe.seed, progress.stage)
        self.kept = _kept(recipe, progress.stage, snapshots)
        self.frozen = [_frozen(network, name) for name in self.stage.frozen]
        self.averaged = None
        if recipe.ema:
            self.averaged = AveragedModel(network, multi_avg_fn=moving_average(recipe.ema), use_buffers=True)
        carried = network.trained()["carried"] if (begun or progress.stage) and hasattr(network, "trained") else ()
        self.optimiser = make_optimiser(self.network, self.stage.optimiser(recipe.optimiser), new, carried)
        self.count = data.sampling.total(len(data.train))
        self.batches = PassBatches(np.arange(self.count), self.stage.batch, 0)
        self.outputs: list[Tensor] = []
        self.saved = time.monotonic()
        self.stop = False
        self.on_step: Callable[[Progress], None] = lambda progress: None
        self.on_pass: Callable[[dict[str, Any]], None] = lambda row: None

    # What Lightning asks for

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimiser

    def train_dataloader(self) -> DataLoader:
        order = pass_order(self.data.train.grades, self.data.sampling, self.seed, self.progress.epoch)
        batches = PassBatches(order, self.stage.batch, self.progress.epoch, self.progress.batch)
        return loader(self.data.train, batches, self.data.workers)

    def val_dataloader(self) -> DataLoader:
        return loader(self.data.val, every_batch(len(self.data.val), self.stage.batch), self.data.workers)

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        with depthwise_in_float():
            loss = loss_of(self.network, self.task, *batch)
        self.loss = loss.detach()
        return loss

    def on_validation_start(self) -> None:
        """Weights that moved fast, and averaged ones all the more, do not have the statistics that were collected."""
        if self.recipe.norm_batches and not self.stage.frozen_norm:
            order = pass_order(self.data.train.grades, self.data.sampling, self.seed, self.progress.epoch)
            batches = loader(self.data.train, PassBatches(order, self.stage.batch, self.progress.epoch))
            measure_norms(self.judged, itertools.islice(batches, self.recipe.norm_batches))

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        with depthwise_in_float():
            self.outputs.append(self.judged(batch[0]).float().cpu())

    # What happens on the way

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the averaged one where there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def on_train_start(self) -> None:
        """A stage that asks for it begins with `rescale`; one that is continued has that behind it."""
        if self.stage.rescale and not self.progress.epoch and not self.progress.batch:
            for number, (pictures, _) in enumerate(itertools.islice(self.train_dataloader(), self.stage.rescale)):
                torch.manual_seed(_number((*self.seed, 0, number, 1)))
                self.network.rescale(pictures.to(self.device))

    def on_train_epoch_start(self) -> None:
        self.started = time.monotonic()
        self.first_batch = self.progress.batch
        if self.stage.frozen_norm:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for module in self.frozen:
            module.eval()

    def on_train_batch_start(self, batch: Any, number: int) -> None:
        done = self.progress.epoch + self.progress.batch / self.batches.total
        rate = self.stage.rate(done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * self.stage.factor(done, group["new"], group["carried"])
        # Dropout draws from the global generator: the same numbers for the same step, interrupted or not.
        torch.manual_seed(_number((*self.seed, self.progress.epoch, self.progress.batch)))

    def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
        self.progress.batch += 1
        self.progress.loss += self._finite(self.loss)
        self.on_step(self.progress)
        stepped = (number + 1) % self.stage.accumulate == 0 or self.progress.batch == self.batches.total
        if stepped and self.averaged is not None:
            self.averaged.update_parameters(self.network)
        if not stepped or self.progress.batch == self.batches.total:
            return
        if self.stop or time.monotonic() - self.saved > 60 * self.recipe.checkpoint_minutes:
            self.save()

    def on_validation_epoch_end(self) -> None:
        outputs = torch.cat(self.outputs).numpy()
        self.outputs.clear()
        self._finite(outputs)
        truth = self.data.val.grades
        decoded = self.task.read(outputs)
        seconds = time.monotonic() - self.started
        trained = min((self.progress.batch - self.first_batch) * self.stage.batch, self.count)
        row = {
            "stage": self.progress.stage,
            "size": self.stage.size,
            "cells": self.stage.cells,
            "epoch": self.progress.epoch,
            "rate": self.stage.rate(self.progress.epoch),
            "train_loss": self.progress.loss / self.progress.batch,
            "val_loss": float(self.task.loss(torch.from_numpy(outputs), torch.from_numpy(truth))),
            "val_kappa": self._judge(decoded, truth),
            "val_kappa_default_cuts": quadratic_weighted_kappa(truth, decoded.grade),
            "seconds": round(seconds, 2),
            "images_per_second": round(trained / max(seconds, 1e-9), 2),
        }
        self.progress.history.append(row)
        measured = ("train_loss", "val_loss", "val_kappa")
        self.logger.log_metrics({k: row[k] for k in measured}, step=len(self.progress.history))

    def _judge(self, decoded: Decoded, truth: np.ndarray) -> float:
        """The kappa that the pass is judged by: at cuts fitted on these patients where the recipe fits them."""
        if not self.recipe.fit_cuts:
            return quadratic_weighted_kappa(truth, decoded.grade)
        cuts = fit_cuts(decoded.severity, truth, self.task.cuts)
        return quadratic_weighted_kappa(truth, cut(decoded.severity, tuple(cuts)))

    def on_train_epoch_end(self) -> None:
        row, progress = self.progress.history[-1], self.progress
        # One grade for all has no kappa (NaN): worse than any other pass, better than none.
        kappa = -1.0 if np.isnan(row["val_kappa"]) else row["val_kappa"]
        better = {
            "kappa": kappa > progress.best,
            "loss": row["val_loss"] < progress.best_loss,
            "last": progress.epoch + 1 == self.stage.epochs,
        }
        progress.best, progress.best_loss = max(progress.best, kappa), min(progress.best_loss, row["val_loss"])
        for snapshot in self.kept:
            if better[snapshot]:
                self.keep(snapshot)
        progress.epoch, progress.batch, progress.loss = progress.epoch + 1, 0, 0.0
        self.on_pass(row)
        self.save()

    def judge_start(self) -> None:
        """Keep the weights as they are before the first step; a pass is kept where it is better than they."""
        network, truth = self.network.eval(), self.data.val.grades
        with torch.no_grad():
            outputs = torch.cat([network(pictures).float() for pictures, _ in self.val_dataloader()])
        network.train()
        kappa = self._judge(self.task.read(outputs.numpy()), truth)
        self.progress.best = -1.0 if np.isnan(kappa) else kappa
        self.progress.best_loss = float(self.task.loss(outputs, torch.from_numpy(truth)))
        for snapshot in self.kept:
            self.keep(snapshot)

    def keep(self, snapshot: str) -> None:
        """Write the present weights as one of SNAPSHOTS."""
        save_weights(self.judged, best_weights(self.folder, self.progress.stage, snapshot))

    def save(self) -> None:
        """Write last.pt; then stop if asked to."""
        states = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.averaged is not None:
            states["averaged"] = self.averaged.state_dict()
        save_checkpoint(self.folder / "last.pt", self.progress, states)
        self.saved = time.monotonic()
        if self.stop:
            raise Interrupted

    def _finite(self, numbers: Tensor | np.ndarray) -> float:
        """Their mean. Raises M2cnnError for infinity or NaN: a run that diverged must not look like one that learns."""
        mean = float(numbers.mean())
        if not np.isfinite(mean):
            place = f"stage {self.progress.stage}, pass {self.progress.epoch}, batch {self.progress.batch}"
            repair = f"Lower stages.{self.progress.stage}.lr, or set precision=32, in a new run."
            raise M2cnnError(place, "the training diverged (a number is not finite)", "finite numbers", repair)
        return mean

    def restore(self, states: dict[str, Any]) -> None:
        """Continue from what `save` wrote."""
        self.network.load_state_dict(states["network"])
        self.optimiser.load_state_dict(states["optimiser"])
        if self.averaged is not None:
            self.averaged.load_state_dict(states["averaged"])


def measure_norms(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Batch norms that learn get the mean and variance of these pictures instead of running averages; nothing else
    changes. Source: update_bn of Izmailov et al., Averaging Weights Leads to Wider Optima, UAI 2018.
    """
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    norms = [each for each in norms if each.weight.requires_grad]
    if not norms:
        return
    momenta, device = [each.momentum for each in norms], next(network.parameters()).device
    network.eval()
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # the mean over the batches, all alike
        each.train()
    with torch.no_grad():
        for pictures, _ in batches:
            network(pictures.to(device))
    network.eval()
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum


def loss_of(network: nn.Module, task: Task, pictures: Tensor, grades: Tensor) -> Tensor:
    """The task's loss; of a network with `parts`, the sum over the logits of those that learn."""
    if not hasattr(network, "parts"):
        return task.loss(network(pictures).float(), grades)
    learning = [logits for logits in network.parts(pictures).values() if logits.requires_grad]
    return torch.stack([task.loss(logits.float(), grades) for logits in learning]).sum()


def _kept(recipe: Recipe, stage: int, snapshots: tuple[str, ...]) -> list[str]:
    """The snapshots that a stage leaves: the best kappa's, and what the next stage, or the user, wants besides."""
    for name in snapshots:
        if name not in SNAPSHOTS:
            raise SettingError("snapshots", f'"{name}"', f"{', '.join(SNAPSHOTS)}", did_you_mean(name, SNAPSHOTS))
    wanted = snapshots if stage + 1 == len(recipe.stages) else (recipe.stages[stage + 1].begin,)
    return [name for name in SNAPSHOTS if name == "kappa" or name in wanted]


def _frozen(network: nn.Module, name: str) -> nn.Module:
    """A submodule that does not learn from now on."""
    try:
        return network.get_submodule(name).requires_grad_(False)
    except AttributeError as cause:
        names = [each for each, _ in network.named_modules() if each]
        got = f'"{name}" is no part of the network'
        raise SettingError("stages, frozen", got, "a submodule's name", did_you_mean(name, names)) from cause


def _number(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def fit_stage(fit: Fit, precision: str, logs: Path) -> None:
    """Run the stage to its end. After Ctrl-C: finish the step in hand, save, raise Interrupted."""
    remaining = fit.stage.epochs - fit.progress.epoch
    if remaining <= 0:
        return
    with quiet_lightning(), stop_on_interrupt(fit):
        Trainer(
            max_epochs=remaining,
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            accumulate_grad_batches=fit.stage.accumulate,
            gradient_clip_val=fit.recipe.optimiser.clip or None,
            reload_dataloaders_every_n_epochs=1,
            logger=TensorBoardLogger(logs, name="", version=f"stage{fit.progress.stage}"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        ).fit(fit)


@contextmanager
def stop_on_interrupt(fit: Fit) -> Iterator[None]:
    """The first Ctrl-C asks the run to save and stop; the second one is immediate."""

    def ask(number: int, frame: Any) -> None:
        fit.stop = True
        signal.signal(signal.SIGINT, before)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: Ctrl-C is somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's advertisements, and without its advice on what we chose on purpose."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*The number of training batches.*",
            ".*isinstance.treespec, LeafSpec.*",
            ".*in eval mode at the start of training.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(level)
