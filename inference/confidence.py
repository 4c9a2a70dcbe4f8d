"""How good a prediction is likely to be, told by its own probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor

from autounet.labels import LabelSpec


class Confidence:
    """Takes the scores of one case as ``LabelRestorer`` does, on the network's grid, and tells the Dice that they lead to expect.

    If each voxel is of a class with the probability that the network gives it, independently, the expected overlap of the class is the
    sum of the probabilities within its predicted mask, and its expected size their sum everywhere: Dice is about
    2 Σ p ŷ / (Σ p + Σ ŷ). Probabilities of networks are too sure, so the number is too high, but it puts cases in order.
    """

    def __init__(self, labels: LabelSpec) -> None:
        self._overlapping = labels.overlapping
        self._sums = torch.zeros(3, len(labels.classes), dtype=torch.float64)

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows: (outputs, rows, y, x), before softmax or sigmoid, on any device."""
        scores = rows_czyx.float()
        if self._overlapping:
            probability, mask = scores.sigmoid(), scores > 0
        else:
            probability, winner = scores.softmax(0)[1:], scores.argmax(0)
            mask = torch.stack([winner == number for number in range(1, len(scores))])
        space = (1, 2, 3)
        sums = torch.stack([(probability * mask).sum(space), probability.sum(space), mask.sum(space).to(probability.dtype)])
        self._sums += sums.double().cpu()

    def expected_dice(self) -> float | None:
        """Mean over the classes that are predicted; None where none is."""
        common, likely, predicted = self._sums
        there = predicted > 0
        return float((2 * common[there] / (likely[there] + predicted[there])).mean()) if bool(there.any()) else None


def mean_confidence(confidences: Sequence[Confidence]) -> float | None:
    """Over the members of an ensemble that predict anything; None where none does."""
    values = [value for value in (each.expected_dice() for each in confidences) if value is not None]
    return sum(values) / len(values) if values else None
