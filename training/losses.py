"""The losses, at every resolution of the decoder: cross-entropy plus soft Dice, or cross-entropy weighted by class and border.

Source of the first: nnunetv2 2.8.1, ``training/loss/{compound_losses,dice}.py`` and nnUNetTrainer.py, _build_loss; of the second:
Ronneberger et al. 2015, equations 1 and 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from autounet.labels import LabelSpec
from autounet.plan import LossSpec
from autounet.preprocessing.border import check_loss

SMOOTH = 1e-5
"""In numerator and denominator of the Dice."""


def deep_supervision_weights(resolutions: int) -> tuple[float, ...]:
    """1, 1/2, 1/4, …, the coarsest 0, normalised to sum 1."""
    raw = [0.5**level for level in range(resolutions)]
    if resolutions > 1:
        raw[-1] = 0.0
    return tuple(weight / sum(raw) for weight in raw)


class SegmentationLoss:
    """Mean cross-entropy plus negative soft Dice (softmax over labels, or sigmoid over overlapping regions).

    Args:
        labels: Classes, regions, ignore label.
        batch_dice: Dice of the whole batch as one volume, rather than the mean over its samples.
        resolutions: Decoder resolutions that the network returns in training.
    """

    def __init__(self, labels: LabelSpec, batch_dice: bool, resolutions: int) -> None:
        self._batch_dice, self._ignore = batch_dice, labels.ignore_index
        self._regions = [labels.class_indices(entry) for entry in labels.classes] if labels.overlapping else None
        self.weights = deep_supervision_weights(resolutions)

    def __call__(self, scores: Sequence[Tensor], labels: Tensor, border: Tensor | None = None) -> Tensor:
        """Weighted loss over resolutions.

        Args:
            scores: Finest first, each (n, outputs, *space); fewer than ``resolutions`` uses the first weights, normalised.
            labels: (n, *space) label indices at the finest resolution.
            border: Of no use to this loss.
        """
        weights = self.weights if len(scores) == len(self.weights) else deep_supervision_weights(len(scores))
        total = torch.zeros((), device=labels.device)
        for weight, score in zip(weights, scores, strict=True):
            if weight > 0:
                total = total + weight * self._at_one_resolution(score.float(), _at_size(labels, score.shape[2:]))
        return total

    def _at_one_resolution(self, scores: Tensor, labels: Tensor) -> Tensor:
        annotated = None if self._ignore is None else (labels != self._ignore)
        if self._regions is None:
            index = labels.long()
            if annotated is None:
                entropy = functional.cross_entropy(scores, index)
            else:
                # All voxels ignored: no cross-entropy, rather than 0/0.
                entropy = functional.cross_entropy(scores, index.masked_fill(~annotated, -100), ignore_index=-100, reduction="sum")
                entropy = entropy / annotated.sum().clamp(min=1)
                index = index * annotated
            probabilities = scores.softmax(1)[:, 1:]
            truth = torch.stack([index == label for label in range(1, scores.shape[1])], 1)
            return entropy - self._dice(probabilities, truth, annotated)
        truth = torch.stack([_is_any(labels, indices) for indices in self._regions], 1)
        if annotated is None:
            entropy = functional.binary_cross_entropy_with_logits(scores, truth.float())
        else:
            each = functional.binary_cross_entropy_with_logits(scores, truth.float(), reduction="none")
            # nnU-Net's quirk, kept for parity: with an ignore label the regions' terms are summed, without one they are averaged.
            entropy = (each * annotated[:, None]).sum() / annotated.sum().clamp(min=1)
        return entropy - self._dice(scores.sigmoid(), truth, annotated)

    def _dice(self, probabilities: Tensor, truth: Tensor, annotated: Tensor | None) -> Tensor:
        if annotated is not None:
            probabilities = probabilities * annotated[:, None]
            truth = truth & annotated[:, None]
        space = tuple(range(2, probabilities.ndim))
        common = (probabilities * truth).sum(space)
        predicted, true = probabilities.sum(space), truth.sum(space, dtype=torch.float32)
        if self._batch_dice:
            common, predicted, true = common.sum(0), predicted.sum(0), true.sum(0)
        return ((2 * common + SMOOTH) / (true + predicted + SMOOTH).clamp(min=1e-8)).mean()


class BorderLoss:
    """Cross-entropy of the softmax, each voxel weighted by w(x) = weight of its class + border weight.

    The mean is taken over all annotated voxels, not over the weights: a voxel between two cells then counts as much in a patch
    full of cells as in one with a single pair, which is the paper's sum up to a constant.

    Args:
        labels: Classes and ignore label.
        spec: Class weights; the border weights come with the patches.

    Raises:
        UsageError: The loss does not fit the labels: regions, or a wrong number of class weights.
    """

    def __init__(self, labels: LabelSpec, spec: LossSpec) -> None:
        check_loss(spec, labels)
        self._ignore = labels.ignore_index
        self._class_weights = spec.class_weights or (1.0,) * labels.outputs

    def __call__(self, scores: Sequence[Tensor], labels: Tensor, border: Tensor | None = None) -> Tensor:
        """Weighted loss over resolutions.

        Args:
            scores: Finest first, each (n, outputs, *space).
            labels: (n, *space) label indices at the finest resolution.
            border: (n, *space) border weights; None for none.
        """
        total = torch.zeros((), device=labels.device)
        for weight, score in zip(deep_supervision_weights(len(scores)), scores, strict=True):
            if weight > 0:
                size = score.shape[2:]
                near = None if border is None else _at_size(border, size)
                total = total + weight * self._at_one_resolution(score.float(), _at_size(labels, size), near)
        return total

    def _at_one_resolution(self, scores: Tensor, labels: Tensor, border: Tensor | None) -> Tensor:
        annotated = torch.ones_like(labels, dtype=torch.bool) if self._ignore is None else labels != self._ignore
        index = labels.long() * annotated
        weights = torch.tensor(self._class_weights, device=labels.device)[index]
        if border is not None:
            weights = weights + border
        entropy = functional.cross_entropy(scores, index, reduction="none")
        return (entropy * weights * annotated).sum() / annotated.sum().clamp(min=1)


Loss = SegmentationLoss | BorderLoss


def build_loss(spec: LossSpec, labels: LabelSpec, batch_dice: bool, resolutions: int) -> Loss:
    """The plan's loss. Raises UsageError when it does not fit the labels."""
    return SegmentationLoss(labels, batch_dice, resolutions) if spec.kind == "dice_ce" else BorderLoss(labels, spec)


def confusion_counts(scores: Tensor, labels: Tensor, spec: LabelSpec) -> Tensor:
    """True positives, false positives and false negatives of each class over a batch: (3, classes), ignore voxels left out.

    Args:
        scores: (n, outputs, *space).
        labels: (n, *space) label indices.
        spec: The dataset's labels.
    """
    counted = torch.ones_like(labels, dtype=torch.bool) if spec.ignore_index is None else labels != spec.ignore_index
    winner = None if spec.overlapping else scores.argmax(1)
    rows = []
    for position, entry in enumerate(spec.classes):
        truth = _is_any(labels, spec.class_indices(entry)) & counted
        predicted = (scores[:, position] > 0 if winner is None else winner == position + 1) & counted
        rows.append(torch.stack([(predicted & truth).sum(), (predicted & ~truth).sum(), (truth & ~predicted).sum()]))
    return torch.stack(rows, 1)


def _at_size(labels: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    return functional.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].to(labels.dtype)


def _is_any(labels: Tensor, indices: Sequence[int]) -> Tensor:
    found = labels == indices[0]
    for index in indices[1:]:
        found = found | (labels == index)
    return found
