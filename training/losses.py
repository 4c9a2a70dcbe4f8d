"""The losses, at every resolution of the decoder: cross-entropy plus soft Dice, or cross-entropy weighted by class and border.

Source of the first: nnunetv2 2.8.1, ``training/loss/{compound_losses,dice}.py`` and nnUNetTrainer.py, _build_loss; of the second:
Ronneberger et al. 2015, equations 1 and 2.

Every loss is a formula on sums over the batch. Where several processes share a batch these sums are added up over them (``total``),
so that the loss is that of the whole batch however it was divided.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from autounet.errors import UsageError
from autounet.labels import LabelSpec
from autounet.plan import LossSpec
from autounet.preprocessing.border import check_loss

SMOOTH = 1e-5
"""In numerator and denominator of the Dice."""

NEVER = -1e4
"""Score of an output that is left out of a softmax: e to the power of it is 0, without the infinities that make NaN."""


LEAST = 1e-8
"""Divisors that may be 0 are at least so much: not so little that the quotient, times a loss scale, would be infinite."""


def one_process(sums: Tensor) -> Tensor:
    """The sums over all processes where there is one."""
    return sums


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
        class_weights: One for each of the network's outputs, in both terms; empty for 1 each.
        unlabelled: What voxels with the ignore label weigh as background, in both terms; 0 leaves them out.
        total: Adds sums up over all processes that share a batch.

    Raises:
        UsageError: A wrong number of class weights.
    """

    def __init__(
        self,
        labels: LabelSpec,
        batch_dice: bool,
        resolutions: int,
        class_weights: Sequence[float] = (),
        unlabelled: float = 0.0,
        total: Callable[[Tensor], Tensor] = one_process,
    ) -> None:
        if len(class_weights) not in (0, labels.outputs):
            expected = f"{labels.outputs}, one each for {', '.join(labels.output_names)}"
            raise UsageError(f"class weights: {len(class_weights)} numbers", expected=expected)
        self._batch_dice, self._ignore, self._unlabelled, self._total = batch_dice, labels.ignore_index, unlabelled, total
        self._regions = [labels.class_indices(entry) for entry in labels.classes] if labels.overlapping else None
        self._class_weights = torch.tensor(class_weights) if class_weights else None
        self.weights = deep_supervision_weights(resolutions)

    def __call__(self, scores: Sequence[Tensor], labels: Tensor, border: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Weighted loss over resolutions.

        Args:
            scores: Finest first, each (n, outputs, *space); fewer than ``resolutions`` uses the first weights, normalised.
            labels: (n, *space) label indices at the finest resolution.
            border: Of no use to this loss.
            known: (n, classes) bool: which classes are annotated in each sample; None for all. The others may be anywhere in the
                background: their probability counts as its own, and they have no part in the Dice.
        """
        weights = self.weights if len(scores) == len(self.weights) else deep_supervision_weights(len(scores))
        used = [(weight, score) for weight, score in zip(weights, scores, strict=True) if weight > 0]
        sums = [self._sums(score.float(), _at_size(labels, score.shape[2:]), known) for _, score in used]
        values = [self._value(each) for each in self._total(torch.stack(sums)).unbind()]
        return sum((weight * value for (weight, _), value in zip(used, values, strict=True)), torch.zeros((), device=labels.device))

    def _sums(self, scores: Tensor, labels: Tensor, known: Tensor | None) -> Tensor:
        """Cross-entropy and what it is divided by, then the Dice's: what samples, or processes, add up to."""
        counted = self._counted(labels)
        space = tuple(range(2, scores.ndim))
        if self._regions is None:
            entropy, count, probabilities = self._of_labels(scores, labels, counted, known)
            masks = [labels == index for index in range(1, scores.shape[1])]
        else:
            masks = [_is_any(labels, indices) for indices in self._regions]
            entropy, count = self._of_regions(scores, masks, counted, known)
            probabilities = scores.sigmoid().unbind(1)
        if counted is not None:
            probabilities = tuple(each * counted for each in probabilities)
        axes = tuple(axis - 1 for axis in space)
        common = torch.stack([(each * mask).sum(axes) for each, mask in zip(probabilities, masks, strict=True)], 1)
        predicted = torch.stack([each.sum(axes) for each in probabilities], 1)
        true = torch.stack([mask.sum(axes, dtype=torch.float32) for mask in masks], 1)
        taken = torch.ones_like(true) if known is None else known.to(true.dtype)
        if self._batch_dice:
            dice = torch.stack([common * taken, predicted * taken, true * taken, taken]).sum(1)
        else:
            dice = torch.stack([_dice(common, predicted, true) * taken, taken]).sum(1)
        return torch.cat([torch.stack([entropy, count]), dice.flatten()])

    def _value(self, sums: Tensor) -> Tensor:
        entropy = sums[0] / sums[1].clamp(min=LEAST)
        if self._batch_dice:
            common, predicted, true, counted = sums[2:].view(4, -1).unbind()
            dice, weight = _dice(common, predicted, true), (counted > 0).to(sums.dtype)
        else:
            dice, counted = sums[2:].view(2, -1).unbind()
            dice, weight = dice / counted.clamp(min=1), (counted > 0).to(sums.dtype)
        if self._class_weights is not None:
            weight = weight * _on(sums, self._class_weights[-len(weight) :])
        return entropy - (dice * weight).sum() / weight.sum().clamp(min=LEAST)

    def _counted(self, labels: Tensor) -> Tensor | None:
        """What each voxel counts: None for 1 each, else 1 or 0, or 1 or what is without a label counts."""
        if self._ignore is None:
            return None
        annotated = labels != self._ignore
        return torch.where(annotated, 1.0, self._unlabelled) if self._unlabelled > 0 else annotated

    def _of_labels(
        self, scores: Tensor, labels: Tensor, counted: Tensor | None, known: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Summed cross-entropy, the weight of its voxels, and the foreground's probabilities."""
        if known is not None:
            scores = _background_joined(scores, known)
        index, weights = labels.long(), None if self._class_weights is None else _on(scores, self._class_weights)
        weighted = counted is not None and self._unlabelled > 0
        if self._ignore is not None:
            index = index.masked_fill(labels == self._ignore, 0 if weighted else -100)
        entropy = functional.cross_entropy(scores, index, weight=weights, ignore_index=-100, reduction="none" if weighted else "sum")
        if weights is not None:
            each = weights[index.clamp(min=0)]
            count = (each if counted is None else each * counted).sum()
        else:
            count = scores.new_full((), float(index.numel())) if counted is None else counted.sum().to(scores.dtype)
        if weighted:
            assert counted is not None
            entropy = (entropy * counted).sum()
        return entropy, count, scores.softmax(1).unbind(1)[1:]

    def _of_regions(self, scores: Tensor, masks: Sequence[Tensor], counted: Tensor | None, known: Tensor | None) -> tuple[Tensor, Tensor]:
        """Summed binary cross-entropy of all regions, and what it is divided by."""
        weight = torch.ones(scores.shape[:2], device=scores.device) if known is None else known.to(scores.dtype)
        if self._class_weights is not None:
            weight = weight * _on(scores, self._class_weights)
        entropy = scores.new_zeros(())
        for position, (score, mask) in enumerate(zip(scores.unbind(1), masks, strict=True)):
            each = functional.binary_cross_entropy_with_logits(score, mask.to(score.dtype), reduction="none")
            each = each if counted is None else each * counted
            entropy = entropy + (each.flatten(1).sum(1) * weight[:, position]).sum()
        if counted is None:
            return entropy, weight.sum() * masks[0][0].numel()
        # nnU-Net's quirk, kept for parity: with an ignore label the regions' terms are summed, without one they are averaged.
        each_weight = weight.sum(1) / scores.shape[1] if known is not None or self._class_weights is not None else weight[:, 0]
        return entropy, (counted.flatten(1).sum(1) * each_weight).sum()


def _dice(common: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    return (2 * common + SMOOTH) / (true + predicted + SMOOTH).clamp(min=1e-8)


def _background_joined(scores: Tensor, known: Tensor) -> Tensor:
    """Scores whose softmax gives the background the probability of all classes that are not annotated, and these none.

    Args:
        scores: (n, 1 + classes, *space).
        known: (n, classes) bool.
    """
    shape = (*known.shape, *(1,) * (scores.ndim - 2))
    here = known.view(shape)
    background, foreground = scores[:, :1], scores[:, 1:]
    hidden = torch.cat([background, foreground.masked_fill(here, NEVER)], 1)
    return torch.cat([hidden.logsumexp(1, keepdim=True), foreground.masked_fill(~here, NEVER)], 1)


class BorderLoss:
    """Cross-entropy of the softmax, each voxel weighted by w(x) = weight of its class + border weight.

    The mean is taken over all annotated voxels, not over the weights: a voxel between two cells then counts as much in a patch
    full of cells as in one with a single pair, which is the paper's sum up to a constant.

    Args:
        labels: Classes and ignore label.
        spec: Class weights; the border weights come with the patches.
        total: Adds sums up over all processes that share a batch.

    Raises:
        UsageError: The loss does not fit the labels: regions, or a wrong number of class weights.
    """

    def __init__(self, labels: LabelSpec, spec: LossSpec, total: Callable[[Tensor], Tensor] = one_process) -> None:
        check_loss(spec, labels)
        self._ignore, self._total = labels.ignore_index, total
        self._class_weights = torch.tensor(spec.class_weights or (1.0,) * labels.outputs)

    def __call__(self, scores: Sequence[Tensor], labels: Tensor, border: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Weighted loss over resolutions.

        Args:
            scores: Finest first, each (n, outputs, *space).
            labels: (n, *space) label indices at the finest resolution.
            border: (n, *space) border weights; None for none.
            known: (n, classes) bool: as for ``SegmentationLoss``.
        """
        values = torch.zeros((), device=labels.device)
        for weight, score in zip(deep_supervision_weights(len(scores)), scores, strict=True):
            if weight > 0:
                size = score.shape[2:]
                near = None if border is None else _at_size(border, size)
                each = score.float() if known is None else _background_joined(score.float(), known)
                entropy, count = self._total(self._sums(each, _at_size(labels, size), near)).unbind()
                values = values + weight * entropy / count.clamp(min=1)
        return values

    def _sums(self, scores: Tensor, labels: Tensor, border: Tensor | None) -> Tensor:
        annotated = torch.ones_like(labels, dtype=torch.bool) if self._ignore is None else labels != self._ignore
        index = labels.long() * annotated
        weights = _on(scores, self._class_weights)[index]
        if border is not None:
            weights = weights + border
        entropy = functional.cross_entropy(scores, index, reduction="none")
        return torch.stack([(entropy * weights * annotated).sum(), annotated.sum().to(scores.dtype)])


Loss = SegmentationLoss | BorderLoss


def build_loss(
    spec: LossSpec, labels: LabelSpec, batch_dice: bool, resolutions: int, total: Callable[[Tensor], Tensor] = one_process
) -> Loss:
    """The plan's loss. Raises UsageError when it does not fit the labels."""
    if spec.kind == "border_ce":
        return BorderLoss(labels, spec, total)
    return SegmentationLoss(labels, batch_dice, resolutions, spec.class_weights, spec.unlabelled, total)


def confusion_counts(scores: Tensor, labels: Tensor, spec: LabelSpec, known: Tensor | None = None) -> Tensor:
    """True positives, false positives and false negatives of each class over a batch: (3, classes), ignore voxels left out.

    Args:
        scores: (n, outputs, *space).
        labels: (n, *space) label indices.
        spec: The dataset's labels.
        known: (n, classes) bool: samples in which a class is not annotated are left out for it; None for all.
    """
    counted = torch.ones_like(labels, dtype=torch.bool) if spec.ignore_index is None else labels != spec.ignore_index
    winner = None if spec.overlapping else scores.argmax(1)
    rows = []
    for position, entry in enumerate(spec.classes):
        here = counted if known is None else counted & known[:, position].view(-1, *(1,) * (labels.ndim - 1))
        truth = _is_any(labels, spec.class_indices(entry)) & here
        predicted = (scores[:, position] > 0 if winner is None else winner == position + 1) & here
        rows.append(torch.stack([(predicted & truth).sum(), (predicted & ~truth).sum(), (truth & ~predicted).sum()]))
    return torch.stack(rows, 1)


def _at_size(labels: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    return functional.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].to(labels.dtype)


def _on(like: Tensor, numbers: Tensor) -> Tensor:
    """Numbers of the host beside a tensor; nothing is waited for."""
    return numbers.to(like.device, like.dtype, non_blocking=like.is_cuda)


def _is_any(labels: Tensor, indices: Sequence[int]) -> Tensor:
    found = labels == indices[0]
    for index in indices[1:]:
        found = found | (labels == index)
    return found
