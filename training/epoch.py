"""What is gathered in the course of an epoch, so that it can be put down in the middle of it and taken up again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autounet.errors import AutounetError

LOWERED = 0.5
"""The learning rate is multiplied by this after an epoch in which many steps were left out."""

LOWEST = 0.1
"""Below this factor training stops."""

MANY = 0.1
"""This share of an epoch's steps."""

CASES_NAMED = 5


@dataclass(slots=True)
class EpochSoFar:
    """Steps of the present epoch."""

    losses: list[Tensor] = field(default_factory=list)
    """Scalars on the device; reading them would make the host wait."""
    left_out: list[Tensor] = field(default_factory=list)
    """Bool scalars: the step changed nothing, because loss or gradient was not finite."""
    cases: list[tuple[str, ...]] = field(default_factory=list)
    """Of each step's batch."""
    seconds: float = 0.0
    """Before the training was put down, if it was."""
    waited: float = 0.0
    """Seconds spent waiting for batches."""

    @property
    def steps(self) -> int:
        """How many are done."""
        return len(self.losses)

    def add(self, loss: Tensor, left_out: Tensor, cases: tuple[str, ...]) -> None:
        """Another step."""
        self.losses.append(loss)
        self.left_out.append(left_out)
        self.cases.append(cases)

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "losses": torch.stack(self.losses) if self.losses else torch.zeros(0),
            "left_out": torch.stack(self.left_out) if self.left_out else torch.zeros(0, dtype=torch.bool),
            "cases": [list(cases) for cases in self.cases],
            "seconds": self.seconds,
            "waited": self.waited,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> "EpochSoFar":
        """From a checkpoint, to go on with on a device. Raises KeyError or TypeError for what is none."""
        return cls(
            list(state["losses"].to(device).unbind()),
            list(state["left_out"].to(device).unbind()),
            [tuple(cases) for cases in state["cases"]],
            float(state["seconds"]),
            float(state["waited"]),
        )

    def mean_loss(self) -> float:
        """Over the steps that were not left out; NaN if there are none."""
        losses, kept = torch.stack(self.losses), ~torch.stack(self.left_out)
        return float(losses[kept & losses.isfinite()].mean())

    def suspects(self) -> tuple[int, list[str]]:
        """Steps left out, and the cases that were in most of their batches, the most frequent first."""
        wrong = torch.stack(self.left_out).nonzero().flatten().tolist()
        counted = Counter(case for step in wrong for case in set(self.cases[step]))
        return len(wrong), [case for case, _ in counted.most_common(CASES_NAMED)]


def lowered_rate(factor: float, left_out: int, steps: int, epoch: int, suspects: list[str]) -> float:
    """What the learning rate is multiplied by from now on.

    A few steps left out change nothing; many lower the rate; when it has become low, or nothing else was done, training stops.

    Args:
        factor: So far.
        left_out: Steps of the epoch that changed nothing.
        steps: Steps of the epoch.
        epoch: Counted from 0.
        suspects: Cases in their batches.

    Raises:
        AutounetError: Training makes no sense any more.
    """
    if left_out == 0 or (left_out <= MANY * steps and left_out < steps):
        return factor
    if left_out == steps or factor * LOWERED < LOWEST:
        raise AutounetError(
            f"epoch {epoch + 1}: the loss or its gradient is not a finite number in {left_out} of {steps} steps",
            found=f"batches with {', '.join(suspects)}",
            remedy="look at these images; else run the command again with --precision fp32: the checkpoint of the epoch before is kept",
        )
    return factor * LOWERED
