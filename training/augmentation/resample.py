"""Images and labels at positions between voxels."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from autounet.preprocessing.case import OUTSIDE

TIE = 5e-4
"""Weights that differ by less are equal: batchgeneratorsv2 compares them in float16, whose steps are of this size."""


def resample(image: Tensor, labels: Tensor, positions: Sequence[Tensor], mirrored: bool) -> tuple[Tensor, Tensor]:
    """Samples along the last axes.

    Args:
        image: (*lead, *loaded) float32; linear.
        labels: (*lead, *loaded) int16; the label with the largest weight in linear interpolation of each label's mask, which is what
            batchgeneratorsv2 takes. Where two weigh the same, the nearest voxel's.
        positions: For each of the d last axes (*patch), in voxels.
        mirrored: Beyond the edges lies the mirror image (the voxel at the edge comes twice), else zero and OUTSIDE.

    Returns:
        Image and labels (*lead, *patch).
    """
    ndim, patch = len(positions), positions[0].shape
    loaded = labels.shape[-ndim:]
    # grid_sample wants coordinates from -1 to 1 over the input, last axis first.
    grid = torch.stack([(2 * at + 1) / size - 1 for at, size in zip(positions, loaded, strict=True)][::-1], -1)
    planes = image.reshape(1, -1, *loaded)
    beyond = "reflection" if mirrored else "zeros"
    sampled = torch.nn.functional.grid_sample(planes, grid[None], mode="bilinear", padding_mode=beyond, align_corners=False)
    picked = prevailing(labels.reshape(-1, *loaded), positions, mirrored)
    return sampled.reshape(*image.shape[:-ndim], *patch), picked.reshape(*labels.shape[:-ndim], *patch)


def prevailing(labels: Tensor, positions: Sequence[Tensor], mirrored: bool) -> Tensor:
    """Labels (m, *loaded) at positions, per axis (*patch) → (m, *patch); see ``resample``."""
    if mirrored:
        positions = [reflected(at, size) for at, size in zip(positions, labels.shape[1:], strict=True)]
    padded = torch.nn.functional.pad(labels, (1, 1) * len(positions), value=OUTSIDE)
    strides = padded.stride()[1:]
    cell = near = torch.zeros((), dtype=torch.int64, device=labels.device)
    fractions = []
    for at, size, stride in zip(positions, labels.shape[1:], strides, strict=True):
        at = at.clamp(-1, size)
        low = at.floor().clamp_(max=size - 1)
        fractions.append((at - low).flatten())
        cell, near = cell + (low.long() + 1) * stride, near + (at.round().long() + 1) * stride
    cell, near = cell.flatten(), near.flatten()
    maps = zip(padded.flatten(1), _mixed(padded).flatten(1), strict=True)
    picked = [_in_cells(each, mixed, cell, near, fractions, strides) for each, mixed in maps]
    return torch.stack(picked).view(len(labels), *positions[0].shape)


def reflected(at: Tensor, size: int) -> Tensor:
    """Positions within the voxels' centres that hold what the mirror image has at ``at``."""
    at = (at + 0.5).remainder(2 * size)
    return (torch.minimum(at, 2 * size - at) - 0.5).clamp_(0, size - 1)


def _mixed(labels: Tensor) -> Tensor:
    """Whether the 2^d voxels from each voxel (m, *size) on to its next ones differ; False at the far edges."""
    low = high = labels
    for axis in range(1, labels.ndim):
        inner = labels.shape[axis] - 1
        low = torch.minimum(low.narrow(axis, 0, inner), low.narrow(axis, 1, inner))
        high = torch.maximum(high.narrow(axis, 0, inner), high.narrow(axis, 1, inner))
    return torch.nn.functional.pad(low != high, (0, 1) * (labels.ndim - 1))


def _in_cells(labels: Tensor, mixed: Tensor, cell: Tensor, near: Tensor, fractions: list[Tensor], strides: Sequence[int]) -> Tensor:
    """Labels within cells of 2^d voxels.

    Nearly all cells have one label: on a CPU the others are picked out; elsewhere that would make the host wait, and all are looked at.
    """
    picked = labels[cell]
    if labels.device.type == "cpu":
        at = mixed[cell].nonzero()[:, 0]
        picked[at] = _heaviest(labels, cell[at], near[at], [fraction[at] for fraction in fractions], strides)
        return picked
    return _heaviest(labels, cell, near, fractions, strides)


def _heaviest(labels: Tensor, cell: Tensor, near: Tensor, fractions: list[Tensor], strides: Sequence[int]) -> Tensor:
    """The label of largest weight among the corners of each cell (k,); ``near`` is the nearest of them."""
    corners, weights = [], []
    for corner in itertools.product((0, 1), repeat=len(strides)):
        corners.append(labels[cell + sum(step * stride for step, stride in zip(corner, strides, strict=True))])
        weight = torch.ones_like(fractions[0])
        for step, fraction in zip(corner, fractions, strict=True):
            weight = weight * (fraction if step else 1 - fraction)
        weights.append(weight)
    best = labels[near]
    most = _weight_of(best, corners, weights) + TIE
    for candidate in corners:
        total = _weight_of(candidate, corners, weights)
        heavier = total > most
        best, most = torch.where(heavier, candidate, best), torch.where(heavier, total, most)
    return best


def _weight_of(label: Tensor, corners: list[Tensor], weights: list[Tensor]) -> Tensor:
    total = torch.zeros_like(weights[0])
    for corner, weight in zip(corners, weights, strict=True):
        total = total + weight * (corner == label)
    return total
