"""How long training runs, and the learning rate on the way: by a number of epochs, or fitted to a time."""

from dataclasses import dataclass

INITIAL_LEARNING_RATE = 1e-2
POLYNOMIAL = 0.9

BUDGET_EPOCHS = 50
"""A time budget is cut into about so many epochs: often enough for the decay to be smooth and little to be lost."""

FEWEST_STEPS = 20
FEWEST_BUDGET_EPOCHS = 5
"""A small budget has fewer epochs, so that each has so many steps; but never fewer epochs than these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How much to train."""

    epochs: int = 1000
    iterations: int = 250
    """Steps per epoch; with a budget, at most this many."""
    budget_seconds: float | None = None
    """Time for training in all, validation at the end included; replaces ``epochs``."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is."""

    epoch: int
    trained_seconds: float
    epoch_seconds: float
    """Of the latest epoch; 0 before the first."""


class Schedule:
    """Decides the end and the learning rate from a run's position; the same position gives the same answer.

    Args:
        length: What was asked for.
        reserved_seconds: Part of the budget kept for the validation at the end.
        learning_rate: At the start.
    """

    def __init__(self, length: Length, reserved_seconds: float = 0.0, learning_rate: float = INITIAL_LEARNING_RATE) -> None:
        self.length, self.initial = length, learning_rate
        self.training_seconds = None if length.budget_seconds is None else max(length.budget_seconds - reserved_seconds, 0.0)

    def progress(self, at: Position) -> float:
        """Share of the training that is behind, 0 to 1, at the start of epoch ``at.epoch``."""
        if self.training_seconds is None:
            return min(at.epoch / self.length.epochs, 1.0)
        return min(at.trained_seconds / max(self.training_seconds, 1e-9), 1.0)

    def learning_rate(self, at: Position) -> float:
        """Polynomial decay per epoch: nnU-Net's (1 - e/E)^0.9, with time in place of epochs under a budget."""
        return self.initial * float((1 - self.progress(at)) ** POLYNOMIAL)

    def is_over(self, at: Position) -> bool:
        """Whether to stop before epoch ``at.epoch``. Under a budget: when another epoch would not fit."""
        if self.training_seconds is None:
            return at.epoch >= self.length.epochs
        return at.epoch > 0 and at.trained_seconds + at.epoch_seconds > self.training_seconds

    def seconds_left(self, at: Position) -> float:
        """Time to the end of training, by the latest epoch's speed."""
        if self.training_seconds is None:
            return (self.length.epochs - at.epoch) * at.epoch_seconds
        return max(self.training_seconds - at.trained_seconds, 0.0)

    def iterations_for(self, step_seconds: float) -> int:
        """Steps per epoch for a measured step time, so that a budget holds about ``BUDGET_EPOCHS`` epochs."""
        if self.training_seconds is None:
            return self.length.iterations
        steps = self.training_seconds / max(step_seconds, 1e-6)
        epochs = max(FEWEST_BUDGET_EPOCHS, min(BUDGET_EPOCHS, int(steps / FEWEST_STEPS)))
        return max(1, min(self.length.iterations, int(steps / epochs)))
