"""Changes of the previous stage's prediction: so that the second stage of a cascade does not learn to trust it blindly.

The prediction is one channel of zeros and ones per foreground label. Some grow, shrink, or have gaps closed or bridges opened; some
lose one of their smaller components.

Source: nnunetv2 2.8.1, nnUNetTrainer.py, get_training_transforms (is_cascaded), and batchgeneratorsv2 0.3.6, ``nnunet/``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Operator = Literal["dilate", "erode", "close", "open"]
OPERATORS: tuple[Operator, ...] = ("dilate", "erode", "close", "open")


@dataclass(frozen=True, slots=True)
class Cascade:
    """How often and how far the previous stage's prediction is changed."""

    operator_probability: float = 0.4
    """Per sample."""
    removal_probability: float = 0.2
    """Per sample."""
    label_probability: float = 0.5
    """Per label of a chosen sample."""
    radius: tuple[float, float] = (1.0, 8.0)
    """Of the operator's ball, in voxels."""
    largest_share: float = 0.15
    """Components of this share of the patch or more stay."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator on one label."""

    label: int
    """Counted from 0, the first foreground label."""
    operator: Operator
    radius: float


@dataclass(frozen=True, slots=True)
class Removal:
    """One component of one label goes."""

    label: int
    pick: float
    """From 0 to below 1: which of the components that may go."""


@dataclass(frozen=True, slots=True)
class CascadeDraw:
    """Per sample, in the order in which they are done."""

    operations: tuple[tuple[Operation, ...], ...]
    removals: tuple[tuple[Removal, ...], ...]

    def part(self, samples: range) -> "CascadeDraw":
        """The draw of some samples of the batch."""
        return CascadeDraw(self.operations[samples.start : samples.stop], self.removals[samples.start : samples.stop])


def draw_cascade(rng: np.random.Generator, samples: int, labels: int, cascade: Cascade) -> CascadeDraw:
    """Draws the changes for every sample; labels come in random order, since one that grows takes voxels from the others."""

    def chosen(probability: float) -> list[int]:
        if rng.random() >= probability:
            return []
        return [int(label) for label in rng.permutation(labels) if rng.random() < cascade.label_probability]

    operations, removals = [], []
    for _ in range(samples):
        operations.append(
            tuple(
                Operation(label, OPERATORS[int(rng.integers(len(OPERATORS)))], float(rng.uniform(*cascade.radius)))
                for label in chosen(cascade.operator_probability)
            )
        )
        removals.append(tuple(Removal(label, float(rng.random())) for label in chosen(cascade.removal_probability)))
    return CascadeDraw(tuple(operations), tuple(removals))


def apply_cascade(channels: Tensor, draw: CascadeDraw, cascade: Cascade) -> Tensor:
    """Changes (n, labels, *space) of zeros and ones in place and returns the tensor."""
    for sample, operations in zip(channels, draw.operations, strict=True):
        for operation in operations:
            before = sample[operation.label] > 0
            after = apply_operator(before, operation.operator, operation.radius)
            sample.mul_(~(after & ~before))  # what a label gains the others lose
            sample[operation.label] = after.to(sample.dtype)
    for sample, removals in zip(channels, draw.removals, strict=True):
        for removal in removals:
            sample[removal.label] = remove_component(sample[removal.label], removal.pick, cascade.largest_share)
    return channels


def apply_operator(mask: Tensor, operator: Operator, radius: float) -> Tensor:
    """A morphological operator with a ball (or disk) on bool (*space); nothing grows in or is eaten from beyond the edges."""
    element = ball(radius, mask.ndim).to(mask.device)
    for step in {"dilate": "+", "erode": "-", "close": "+-", "open": "-+"}[operator]:
        mask = _dilate(mask, element) if step == "+" else ~_dilate(~mask, element)
    return mask


def ball(radius: float, ndim: int) -> Tensor:
    """Structuring elements of batchgeneratorsv2 (made by skimage), float32 of 0 and 1.

    Between whole radii they are odd: in 3D floor(2r + 1) points from -r to r (a little more than a voxel apart), in 2D points one
    voxel apart from -r on. So some have an even number of voxels and shift what they touch by half a voxel.
    """
    at = np.arange(-radius, radius + 1) if ndim == 2 else np.linspace(-radius, radius, int(2 * radius + 1))
    squares = np.sum(np.square(np.meshgrid(*[at] * ndim, indexing="ij")), 0)
    return torch.from_numpy((squares <= radius**2).astype(np.float32))


def _dilate(mask: Tensor, element: Tensor) -> Tensor:
    """Whether the element, centred at a voxel, meets the mask; through Fourier space, for elements have up to 17³ voxels."""
    axes = tuple(range(mask.ndim))
    size = [side + reach - 1 for side, reach in zip(mask.shape, element.shape, strict=True)]
    meets = torch.fft.rfftn(mask.float(), size) * torch.fft.rfftn(element, size).conj()
    shift = [(reach - 1) // 2 for reach in element.shape]
    counts = torch.fft.irfftn(meets, size).roll(shift, axes)
    inside: Tensor = counts[tuple(slice(side) for side in mask.shape)] > 0.5
    return inside


def remove_component(channel: Tensor, pick: float, largest_share: float) -> Tensor:
    """The channel (*space) without one of its components that cover less than a share of the patch. Done on the host."""
    from scipy import ndimage

    mask = channel.cpu().numpy() > 0
    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    small = np.flatnonzero(sizes < largest_share * mask.size) + 1
    if not len(small):
        return channel
    gone = components == small[int(pick * len(small))]
    return channel.masked_fill(torch.from_numpy(gone).to(channel.device), 0)
