"""The network that learns, with all that a step needs and changes: augmentation, loss, optimizer, precision, mean weights."""

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autounet.device import autocast, pick_device, pick_precision
from autounet.networks.build import build_network, memory_format
from autounet.networks.previous import insert_channels, one_hot
from autounet.networks.unet2015 import crop_to, reseed
from autounet.runtime import Runtime
from autounet.training.augmentation.pipeline import Augmentation
from autounet.training.distributed import add_up_gradients, totals
from autounet.training.job import FoldJob
from autounet.training.loader import Batch
from autounet.training.losses import build_loss, confusion_counts
from autounet.training.optim import AveragedWeights, build_optimizer, careful_step

AUGMENTATION_STREAM = 2
WARM_UP_STEPS = 3
TIMED_STEPS = 5


class Learner:
    """A network in training.

    Args:
        job: Network, labels, recipe, batches.
        runtime: Device, precision, seed, and the processes that train together (connected already).
    """

    def __init__(self, job: FoldJob, runtime: Runtime) -> None:
        self._job, self._seed, self._processes = job, runtime.seed, runtime.processes
        self.device = pick_device(runtime)
        self.dtype = pick_precision(runtime, self.device)
        torch.backends.cudnn.benchmark = True  # patches have one size: the fastest convolutions are worth looking for (CUDA only)
        self._memory_format = memory_format(job.configuration.ndim, self.device)
        self._augmentation = Augmentation(job.configuration, job.configuration.mirror_axes, job.augmentation)
        self._total = totals(self._processes)
        heads = len(job.configuration.network.blocks_decoder)
        self._loss = build_loss(job.loss, job.labels, job.configuration.batch_dice, heads, self._total)
        self.begin()

    def begin(self) -> None:
        """Weights, optimizer and all that steps change, as before the first step."""
        self._network = build_network(self._job.configuration.network, self._seed)
        if self._job.weights is not None:
            self._network.load_state_dict(self._job.weights)
        self._network.to(self.device).to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self._optimizer = build_optimizer(self._network, self._job.optimizer, self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        decay = self._job.optimizer.average
        self._average = AveragedWeights(self._network, decay) if decay > 0 else None
        self._steps = 0

    def describe(self) -> str:
        """Device, precision and size of the network, in words."""
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        size = f"{parameters / 1e6:.1f} million" if parameters >= 1e5 else f"{parameters:,}"
        shared = f", {self._processes.count} processes" if self._processes.count > 1 else ""
        return f"{self.device} in {str(self.dtype).removeprefix('torch.')}, {size} parameters{shared}"

    def step(self, batch: Batch, epoch: int, step: int, rate: float) -> tuple[Tensor, Tensor]:
        """One update at a learning rate; the loss, and whether the step was left out, stay on the device."""
        rng = np.random.default_rng([self._seed, AUGMENTATION_STREAM, epoch, step])
        train = self._job.train
        draw = self._augmentation.draw(rng, train.batch_size, batch.image.shape[1])
        # Dropout (of unet2015 alone) is drawn by each process for its own samples.
        reseed(self._network, int(rng.integers(2**62)) + self._processes.rank)
        if len(train.own) < train.batch_size:
            draw = draw.part(train.own)
        image, labels, previous, known = self._on_device(batch)
        image, labels = self._augmentation.apply(image, labels, draw, previous)
        self._network.train()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        _, _, loss = self._forward(image, labels, known)
        torch.autograd.backward(self._scaler.scale(loss))
        add_up_gradients(self._network.parameters(), self._processes)
        left_out = careful_step(self._optimizer, loss, self._scaler)
        self._steps += 1
        if self._average is not None:
            self._average.update(self._steps)
        return loss.detach(), left_out

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> tuple[float | None, dict[str, float | None]]:
        """Loss and Dice over patches of the held-out cases: nnU-Net's online validation, with the loss of the finest resolution alone.

        Batches in which nothing is annotated do not count; the loss is None where none does.
        """
        names, ignore = self._job.labels.names, self._job.labels.ignore_index
        counts = torch.zeros(3, len(names), dtype=torch.int64, device=self.device)
        losses, annotated = [], []
        with self.averaged():
            self._network.eval()
            for batch in batches:
                image, labels, previous, known = self._on_device(batch)
                image = self._with_previous(image, previous)
                scores, labels, loss = self._forward(image, labels.clamp(min=0), known)
                losses.append(loss)
                annotated.append(torch.ones_like(loss) if ignore is None else (labels != ignore).any().to(loss.dtype))
                counts += confusion_counts(scores[0], labels, self._job.labels, known)
        dice: dict[str, float | None] = {}
        for name, (hit, extra, missed) in zip(names, self._total(counts).T.tolist(), strict=True):
            total = 2 * hit + extra + missed
            dice[name] = 2 * hit / total if total else None
        counted = self._total(torch.stack(annotated)) > 0
        return float(torch.stack(losses)[counted].mean()) if counted.any() else None, dice

    def time_steps(self, limit_seconds: float = float("inf")) -> tuple[float, float]:
        """Seconds of a step, and of a forward pass of one patch; nothing is left of what was learnt thereby.

        ``limit_seconds``: after two steps, no further one is begun beyond it; of several processes none may stop before the others.
        """
        before = copy.deepcopy(self.state())
        times, forward = [], 0.0
        for step, batch in enumerate(self._job.train.batches(0, WARM_UP_STEPS + TIMED_STEPS)):
            began = time.perf_counter()
            self.step(batch, 0, step, self._job.optimizer.learning_rate)
            self._synchronise()
            times.append(time.perf_counter() - began)
            if self._processes.count == 1 and len(times) > 1 and sum(times) > limit_seconds:
                break
        self._network.eval()
        image = torch.zeros(1, self._job.configuration.network.in_channels, *self._job.configuration.patch_size, device=self.device)
        for _ in range(2):
            began = time.perf_counter()
            with torch.no_grad(), autocast(self.device, self.dtype):
                self._network(image)
            self._synchronise()
            forward = time.perf_counter() - began
        self.begin()
        self.load(before)
        return float(np.median(times[min(WARM_UP_STEPS, len(times) - 1) :])), forward

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the network has the mean weights, if the recipe keeps such."""
        if self._average is None:
            yield
            return
        self._average.swap()
        try:
            yield
        finally:
            self._average.swap()

    def weights(self) -> dict[str, Tensor]:
        """Those that are kept: the mean ones, if the recipe keeps such."""
        with self.averaged():
            return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.means,
            "steps": self._steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint. Raises KeyError, TypeError, ValueError or RuntimeError for one of another network."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self._optimizer.state.items():
            for name, tensor in kept.items():
                if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                    # In the weight's own memory layout, which is another on another device, and which fused optimizers rely on.
                    kept[name] = torch.empty_like(parameter).copy_(tensor)
        if state["scaler"]:  # empty where it was begun in another precision
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            for mean, kept in zip(self._average.means, state["average"], strict=True):
                mean.copy_(kept)
        self._steps = int(state["steps"])

    def _forward(self, image: Tensor, labels: Tensor, known: Tensor | None) -> tuple[list[Tensor], Tensor, Tensor]:
        """Scores, the labels of the part of the patch that they are of, and the loss."""
        channels = self._job.configuration.network.in_channels
        with autocast(self.device, self.dtype):
            scores: list[Tensor] = self._network(image[:, :channels].contiguous(memory_format=self._memory_format))
        size = scores[0].shape[2:]
        labels, weights = crop_to(labels, size), crop_to(image[:, channels:], size)
        return scores, labels, self._loss(scores, labels, weights[:, 0] if weights.shape[1] else None, known)

    def _with_previous(self, image: Tensor, previous: Tensor | None) -> Tensor:
        """The image's channels, then one for each foreground label of what a cascade's first stage has predicted, as it stands."""
        if previous is None:
            return image
        channels = len(self._job.configuration.normalization)
        return insert_channels(image, one_hot(previous, self._job.configuration.network.in_channels - channels, image.dtype), channels)

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Image, labels, what a cascade's first stage has predicted, and which classes are known.

        Border weights are a last channel of the image, so that they are moved with it.
        """
        # Only CUDA's copies from pinned memory may go on in the background: elsewhere the source may be gone before they end.
        behind = self.device.type == "cuda"
        image, labels = batch.image.to(self.device, non_blocking=behind), batch.labels.to(self.device, non_blocking=behind)
        if batch.border is not None:
            image = torch.cat((image, batch.border.to(self.device, non_blocking=behind)), 1)
        previous = None if batch.previous is None else batch.previous.to(self.device, non_blocking=behind)
        known = None if batch.known is None else batch.known.to(self.device, non_blocking=behind)
        return image, labels, previous, known

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
