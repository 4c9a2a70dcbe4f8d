"""The note beside the progress bar of an epoch."""

import time

import torch
from torch import Tensor

from autounet.runtime import Advance


class StepNote:
    """Loss, learning rate, patches per second and share of waiting after every step; the device is never waited for."""

    def __init__(self, advance: Advance, device: torch.device, batch_size: int) -> None:
        self._advance, self._batch_size = advance, batch_size
        self._began, self._steps = time.perf_counter(), 0
        self._loss: Tensor | None = None
        self._copied = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._text = ""

    def step(self, loss: Tensor, rate: float, waiting: float) -> None:
        """After a step."""
        self._steps += 1
        if self._loss is not None and (self._copied is None or self._copied.query()):  # type: ignore[no-untyped-call]
            self._text = f"loss {float(self._loss):.3f}, "
            self._loss = None
        if self._loss is None:
            if self._copied is None:
                self._loss = loss
            else:
                self._loss = torch.empty((), pin_memory=True).copy_(loss, non_blocking=True)
                self._copied.record()
        speed = self._steps * self._batch_size / max(time.perf_counter() - self._began, 1e-9)
        self._advance(1, f"{self._text}rate {rate:.2g}, {speed:.3g} patches/s, {waiting:.0%} waiting")
