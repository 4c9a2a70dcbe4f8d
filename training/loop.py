"""The training loop: epoch → steps → online Dice → checkpoint. It owns no paths beyond the fold's and no data rules."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autounet.checkpoint import load_state, save_state, save_weights
from autounet.device import autocast, pick_device, pick_precision
from autounet.errors import ArtefactError, AutounetError
from autounet.labels import LabelSpec
from autounet.layout import FoldLayout
from autounet.networks.build import build_network
from autounet.networks.unet2015 import crop_to, reseed
from autounet.plan import Configuration, LossSpec
from autounet.preset import NNUNET_OPTIMIZER, OptimizerSpec
from autounet.runtime import Runtime
from autounet.training.augmentation.pipeline import Augmentation, AugmentationKind
from autounet.training.history import EpochRecord, write_history
from autounet.training.loader import Batch, BatchLoader
from autounet.training.losses import build_loss, confusion_counts
from autounet.training.schedule import Length, Position, Schedule

log = logging.getLogger(__name__)

WEIGHT_DECAY = 3e-5
GRADIENT_NORM = 12.0
EMA = 0.9
VALIDATION_SHARE = 0.2
"""Validation patches per training step: nnU-Net's 50 for 250."""
WARM_UP_STEPS = 3
TIMED_STEPS = 5
AUGMENTATION_STREAM = 2
DICE_CE = LossSpec()


@dataclass(frozen=True, slots=True)
class FoldJob:
    """What to train."""

    configuration: Configuration
    labels: LabelSpec
    train: BatchLoader
    validation: BatchLoader | None
    layout: FoldLayout
    about: dict[str, str]
    """Written beside the weights: plan digest, configuration, fold."""
    length: Length
    reserve: Callable[[float], float]
    """Seconds of one forward pass of one patch → seconds to keep for validating the held-out cases at the end."""
    on_epoch: Callable[[list[EpochRecord], float], None]
    """Called after every epoch with the history and the seconds left."""
    optimizer: OptimizerSpec = NNUNET_OPTIMIZER
    loss: LossSpec = DICE_CE
    augmentation: AugmentationKind = "nnunet"


class FoldTraining:
    """State of one training run, and its steps.

    Args:
        job: What to train.
        runtime: Device, precision, seed, progress.
    """

    def __init__(self, job: FoldJob, runtime: Runtime) -> None:
        self._job, self._runtime = job, runtime
        self._device = pick_device(runtime)
        self._dtype = pick_precision(runtime, self._device)
        torch.backends.cudnn.benchmark = True  # patches have one size: the fastest convolutions are worth looking for (CUDA only)
        self._network = build_network(job.configuration.network, runtime.seed).to(self._device)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(),
            lr=job.optimizer.learning_rate,
            momentum=job.optimizer.momentum,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._augmentation = Augmentation(job.configuration, job.configuration.mirror_axes, job.augmentation)
        network = job.configuration.network
        self._loss = build_loss(job.loss, job.labels, job.configuration.batch_dice, len(network.blocks_decoder))
        self._schedule = Schedule(job.length, learning_rate=job.optimizer.learning_rate)
        self._history: list[EpochRecord] = []
        self._iterations = 0
        self._reserved = 0.0
        self._clock = time.perf_counter()

    @property
    def position(self) -> Position:
        """How far the run is."""
        if not self._history:
            return Position(0, 0.0, 0.0)
        last = self._history[-1]
        return Position(last.epoch + 1, last.trained_seconds, last.seconds)

    def describe(self) -> str:
        """Device, precision and size of the network, in words."""
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        size = f"{parameters / 1e6:.1f} million" if parameters >= 1e5 else f"{parameters:,}"
        return f"{self._device} in {str(self._dtype).removeprefix('torch.')}, {size} parameters"

    def resume(self) -> None:
        """Takes up a checkpoint. Raises ArtefactError if it is damaged or does not fit this plan."""
        path, expected = self._job.layout.resume, self._job.about
        state = load_state(path)
        found = state.get("about")
        known = found if isinstance(found, dict) else {}
        names = sorted(name for name in known | expected if known.get(name) != expected.get(name))
        if "files" in names:
            # Times change when a dataset is copied: no reason to refuse.
            log.warning("%s: begun on images or labels that have changed since; --overwrite starts anew", path.parent)
            names.remove("files")
        if state.get("seed") not in (None, self._runtime.seed):
            log.warning("%s: begun with --seed %s and goes on with %s", path.parent, state["seed"], self._runtime.seed)
        if names or not isinstance(found, dict):
            others = ["other cases" if name == "cases" else f"another {name}" for name in names]
            remedy = "start anew with --overwrite, or restore what it was made with"
            raise ArtefactError(f"{path}: checkpoint of another run", found=" and ".join(others), remedy=remedy)
        try:
            self._network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            self._history = [EpochRecord.model_validate(row) for row in state["history"]]
            self._iterations, self._reserved = int(state["iterations"]), float(state["reserved"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            found = str(error).split("\n")[0]
            raise ArtefactError(f"{path}: is not a checkpoint of this network", found=found, remedy="start anew with --overwrite") from None
        log.info("resumed after epoch %d", self.position.epoch)

    def run(self) -> list[EpochRecord]:
        """Trains to the end, with a checkpoint after every epoch, and writes the final weights."""
        self._clock = time.perf_counter()
        if self._iterations == 0 or self._job.length.budget_seconds is None:
            self._fit_to_length()
        self._schedule = Schedule(self._job.length, self._reserved, self._job.optimizer.learning_rate)
        while not self._schedule.is_over(self.position):
            self._history.append(self._epoch())
            self._checkpoint()
            self._job.on_epoch(self._history, self._schedule.seconds_left(self.position))
        about = {**self._job.about, "epoch": str(self.position.epoch)}
        save_weights(self._job.layout.weights, self._network.state_dict(), about)
        return self._history

    def _epoch(self) -> EpochRecord:
        at = self.position
        rate = self._schedule.learning_rate(at)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        waited = 0.0
        losses = []
        self._network.train()
        batches = iter(self._job.train.batches(at.epoch, self._iterations))
        with self._runtime.progress(f"epoch {at.epoch + 1}", self._iterations) as advance:
            for step in range(self._iterations):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                losses.append(self._step(batch, at.epoch, step))
                advance()
        each = torch.stack(losses)
        # In fp16 the scaler skips steps that overflow and lowers its scale: a few of them are no fault.
        finite = each[each.isfinite()] if self._scaler.is_enabled() else each
        train_loss = float(finite.mean())
        # A finite loss can still have a gradient that is not, so the weights of the last step count too.
        if not (math.isfinite(train_loss) and all(bool(parameter.isfinite().all()) for parameter in self._network.parameters())):
            raise AutounetError(
                f"epoch {at.epoch + 1}: the loss is not a finite number",
                remedy="the checkpoint of the epoch before is kept: run the command again, with --precision fp32 if it happens again",
            )
        validation_loss, dice = self._validate(at.epoch)
        known = [value for value in dice.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        before = self._history[-1].ema_dice if self._history else None
        smoothed = mean if before is None else before if mean is None else EMA * before + (1 - EMA) * mean
        # Counted from the end of the epoch before, so that checkpoints and reports are in a budget too.
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        return EpochRecord(
            epoch=at.epoch,
            learning_rate=rate,
            train_loss=train_loss,
            validation_loss=validation_loss,
            dice=dice,
            mean_dice=mean,
            ema_dice=smoothed,
            seconds=seconds,
            trained_seconds=at.trained_seconds + seconds,
            iterations=self._iterations,
            data_wait_share=waited / seconds,
        )

    def _step(self, batch: Batch, epoch: int, step: int) -> Tensor:
        """One update; the loss stays on the device."""
        rng = np.random.default_rng([self._runtime.seed, AUGMENTATION_STREAM, epoch, step])
        draw = self._augmentation.draw(rng, len(batch.image), batch.image.shape[1])
        reseed(self._network, int(rng.integers(2**62)))
        image, labels = self._to_device(batch)
        image, labels = self._augmentation.apply(image, labels, draw)
        self._optimizer.zero_grad(set_to_none=True)
        _, _, loss = self._forward(image, labels)
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), GRADIENT_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _forward(self, image: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Scores, the labels of the part of the patch that they are of, and the loss."""
        channels = self._job.configuration.network.in_channels
        with autocast(self._device, self._dtype):
            scores: list[Tensor] = self._network(image[:, :channels])
        size = scores[0].shape[2:]
        labels, weights = crop_to(labels, size), crop_to(image[:, channels:], size)
        return scores, labels, self._loss(scores, labels, weights[:, 0] if weights.shape[1] else None)

    @torch.no_grad()
    def _validate(self, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        """Loss and Dice over patches of the held-out cases: nnU-Net's online validation, with the loss of the finest resolution alone."""
        names = self._job.labels.names
        if self._job.validation is None:
            return None, dict.fromkeys(names)
        self._network.eval()
        counts = torch.zeros(3, len(names), dtype=torch.int64, device=self._device)
        losses = []
        for batch in self._job.validation.batches(epoch, max(1, round(self._iterations * VALIDATION_SHARE))):
            image, labels = self._to_device(batch)
            scores, labels, loss = self._forward(image, labels.clamp(min=0))
            losses.append(loss)
            counts += confusion_counts(scores[0], labels, self._job.labels)
        dice: dict[str, float | None] = {}
        for name, (hit, extra, missed) in zip(names, counts.T.tolist(), strict=True):
            total = 2 * hit + extra + missed
            dice[name] = 2 * hit / total if total else None
        return float(torch.stack(losses).mean()), dice

    def _fit_to_length(self) -> None:
        """Sets the steps per epoch; under a budget after timing a few steps, whose effect is undone."""
        if self._job.length.budget_seconds is None:
            self._iterations = self._job.length.iterations
            return
        times, forward = [], 0.0
        for step, batch in enumerate(self._job.train.batches(0, WARM_UP_STEPS + TIMED_STEPS)):
            began = time.perf_counter()
            self._network.train()
            self._step(batch, 0, step)
            self._synchronise()
            times.append(time.perf_counter() - began)
        self._network.eval()
        image = torch.zeros(1, batch.image.shape[1], *self._job.configuration.patch_size, device=self._device)
        for _ in range(2):
            began = time.perf_counter()
            with torch.no_grad(), autocast(self._device, self._dtype):
                self._network(image)
            self._synchronise()
            forward = time.perf_counter() - began
        self._reserved = min(self._job.reserve(forward), 0.5 * self._job.length.budget_seconds)
        step_seconds = float(np.median(times[WARM_UP_STEPS:])) * (1 + VALIDATION_SHARE / 3)
        self._iterations = Schedule(self._job.length, self._reserved, self._job.optimizer.learning_rate).iterations_for(step_seconds)
        fresh = build_network(self._job.configuration.network, self._runtime.seed)
        self._network.load_state_dict(fresh.state_dict())
        self._optimizer.state.clear()
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        log.info(
            "budget %.0f s: %.3f s a step, %d steps an epoch, %.0f s kept for validation",
            self._job.length.budget_seconds, step_seconds, self._iterations, self._reserved,
        )  # fmt: skip

    def _checkpoint(self) -> None:
        state: dict[str, Any] = {
            "about": self._job.about,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": [record.model_dump() for record in self._history],
            "iterations": self._iterations,
            "reserved": self._reserved,
            "seed": self._runtime.seed,
        }
        layout, last = self._job.layout, self._history[-1]
        before = [record.ema_dice for record in self._history[:-1] if record.ema_dice is not None]
        if last.ema_dice is not None and (not before or last.ema_dice > max(before)):
            save_weights(layout.weights_best, self._network.state_dict(), {**self._job.about, "epoch": str(last.epoch + 1)})
        # The state comes last: whatever stops the run before it, the epoch is done again and all of these are written again.
        write_history(layout.history, self._history)
        save_state(layout.resume, state)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Image and labels; border weights are a last channel of the image, so that they are moved with it."""
        # Only CUDA's copies from pinned memory may go on in the background: elsewhere the source may be gone before they end.
        behind = self._device.type == "cuda"
        image, labels = batch.image.to(self._device, non_blocking=behind), batch.labels.to(self._device, non_blocking=behind)
        if batch.border is not None:
            image = torch.cat((image, batch.border.to(self._device, non_blocking=behind)), 1)
        return image, labels

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
