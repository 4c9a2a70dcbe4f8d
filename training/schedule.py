"""How long training runs, and the learning rate on the way: by a number of epochs, or fitted to a time; ended early on a plateau."""

from collections.abc import Sequence
from dataclasses import dataclass

from autounet.preset import NNUNET_OPTIMIZER, OptimizerSpec

POLYNOMIAL = 0.9

BUDGET_EPOCHS = 50
"""A time budget is cut into about so many epochs: often enough for the decay to be smooth and little to be lost."""

FEWEST_STEPS = 20
FEWEST_BUDGET_EPOCHS = 5
"""A small budget has fewer epochs, so that each has so many steps; but never fewer epochs than these."""

BETTER = 0.001
"""The smoothed Dice must rise by more than this to count as better."""

COOL_DOWN = 0.1
"""After a plateau the learning rate falls to 0 within this share of the epochs so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How much to train."""

    epochs: int = 1000
    iterations: int = 250
    """Steps per epoch; with a budget, at most this many."""
    budget_seconds: float | None = None
    """Time for training in all, validation at the end included; replaces ``epochs``."""
    patience: int | None = None
    """Epochs without a better smoothed Dice after which training comes to its end; None for never."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is."""

    epoch: int
    trained_seconds: float
    epoch_seconds: float
    """Of the latest epoch; before the first an estimate, 0 for none."""


class Schedule:
    """Decides the end and the learning rate from a run's position; the same position gives the same answer.

    Args:
        length: What was asked for.
        reserved_seconds: Part of the budget kept for the validation at the end.
        optimizer: Its learning rate, and how that rises and falls.
    """

    def __init__(self, length: Length, reserved_seconds: float = 0.0, optimizer: OptimizerSpec = NNUNET_OPTIMIZER) -> None:
        self.length, self.optimizer = length, optimizer
        self.training_seconds = None if length.budget_seconds is None else max(length.budget_seconds - reserved_seconds, 0.0)
        self._plateau: Position | None = None

    def cool_down(self, since: Position) -> None:
        """From this position on training comes to its end (see ``plateau``)."""
        self._plateau = since

    def progress(self, at: Position, share: float = 0.0) -> float:
        """Share of the training that is behind, 0 to 1, when ``share`` of epoch ``at.epoch`` is."""
        if self._plateau is not None and at.epoch >= self._plateau.epoch:
            before = self._planned(self._plateau, 0.0)
            return before + (1 - before) * min((at.epoch + share - self._plateau.epoch) / self._cool_down_epochs(self._plateau), 1.0)
        return self._planned(at, share)

    def learning_rate(self, at: Position, share: float = 0.0) -> float:
        """Polynomial decay, nnU-Net's (1 - e/E)^0.9, with time in place of epochs under a budget, after a linear rise if there is one.

        Where the optimizer's rate changes by the epoch, ``share`` does not matter.
        """
        spec = self.optimizer
        done = self.progress(at, share if spec.every_step else 0.0)
        if done < spec.warm_up:
            return spec.learning_rate * done / spec.warm_up
        return spec.learning_rate * float(((1 - done) / (1 - spec.warm_up)) ** POLYNOMIAL)

    def is_over(self, at: Position) -> bool:
        """Whether to stop before epoch ``at.epoch``. Under a budget: when another epoch would not fit."""
        if self._plateau is not None and at.epoch >= self._plateau.epoch + self._cool_down_epochs(self._plateau):
            return True
        if self.training_seconds is None:
            return at.epoch >= self.length.epochs
        return at.epoch > 0 and at.trained_seconds + at.epoch_seconds > self.training_seconds

    def seconds_left(self, at: Position) -> float:
        """Time to the end of training, by the latest epoch's speed."""
        left = [] if self.training_seconds is None else [max(self.training_seconds - at.trained_seconds, 0.0)]
        if self.training_seconds is None:
            left.append((self.length.epochs - at.epoch) * at.epoch_seconds)
        if self._plateau is not None:
            left.append((self._plateau.epoch + self._cool_down_epochs(self._plateau) - at.epoch) * at.epoch_seconds)
        return min(left)

    def iterations_for(self, step_seconds: float) -> int:
        """Steps per epoch for a measured step time, so that a budget holds about ``BUDGET_EPOCHS`` epochs."""
        if self.training_seconds is None:
            return self.length.iterations
        steps = self.training_seconds / max(step_seconds, 1e-6)
        epochs = max(FEWEST_BUDGET_EPOCHS, min(BUDGET_EPOCHS, int(steps / FEWEST_STEPS)))
        return max(1, min(self.length.iterations, int(steps / epochs)))

    def _planned(self, at: Position, share: float) -> float:
        if self.training_seconds is None:
            return min((at.epoch + share) / self.length.epochs, 1.0)
        return min((at.trained_seconds + share * at.epoch_seconds) / max(self.training_seconds, 1e-9), 1.0)

    @staticmethod
    def _cool_down_epochs(plateau: Position) -> int:
        return max(1, round(COOL_DOWN * plateau.epoch))


def plateau(smoothed_dice: Sequence[float | None], patience: int) -> int | None:
    """The first epoch by whose beginning the smoothed Dice had not become better for ``patience`` epochs; None while it rises.

    Args:
        smoothed_dice: After every epoch so far; None where there was nothing to take a Dice of.
        patience: Epochs, at least 1.
    """
    best, since = float("-inf"), 0
    for epoch, value in enumerate(smoothed_dice):
        if best == float("-inf") and value is None:
            since = epoch  # nothing to be better than
        elif value is not None and value > best + BETTER:
            best, since = value, epoch
        elif epoch - since >= patience:
            return epoch + 1
    return None
