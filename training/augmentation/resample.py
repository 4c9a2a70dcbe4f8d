"""Images and labels at positions between voxels."""

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from autounet.preprocessing.case import OUTSIDE

TIE = 5e-4
"""Weights that differ by less are equal: batchgeneratorsv2 compares them in float16, whose steps are of this size."""


def resample(image: Tensor, labels: Tensor, positions: Sequence[Tensor], mirrored: bool) -> tuple[Tensor, Tensor]:
    """Samples along the last axes.

    Args:
        image: (k, *lead, *loaded) float32; linear.
        labels: (k, *lead, *loaded) int16; the label with the largest weight in linear interpolation of each label's mask, which is
            what batchgeneratorsv2 takes. Where two weigh the same, the nearest voxel's.
        positions: For each of the d last axes (k, *patch), in voxels.
        mirrored: Beyond the edges lies the mirror image (the voxel at the edge comes twice), else zero and OUTSIDE.

    Returns:
        Image and labels (k, *lead, *patch).
    """
    ndim, patch = len(positions), positions[0].shape[1:]
    loaded = labels.shape[-ndim:]
    # grid_sample wants coordinates from -1 to 1 over the input, last axis first.
    grid = torch.stack([(2 * at + 1) / size - 1 for at, size in zip(positions, loaded, strict=True)][::-1], -1)
    planes = image.reshape(len(image), -1, *loaded)
    beyond = "reflection" if mirrored else "zeros"
    sampled = torch.nn.functional.grid_sample(planes, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    picked = prevailing(labels.reshape(len(labels), -1, *loaded), positions, mirrored)
    return sampled.reshape(*image.shape[:-ndim], *patch), picked.reshape(*labels.shape[:-ndim], *patch)


def prevailing(labels: Tensor, positions: Sequence[Tensor], mirrored: bool) -> Tensor:
    """Labels (k, m, *loaded) at positions, per axis (k, *patch) → (k, m, *patch); see ``resample``.

    Nearly all cells of 2^d voxels have one label: on a CPU the others are picked out; elsewhere that would make the host wait, and
    all are looked at.
    """
    count, maps, *loaded = labels.shape
    if mirrored:
        positions = [reflected(at, size) for at, size in zip(positions, loaded, strict=True)]
    padded = torch.nn.functional.pad(labels, (1, 1) * len(positions), value=OUTSIDE)
    of_map, *strides = padded.stride()[1:]
    integer = torch.int32 if padded.numel() < 2**31 else torch.int64
    places = [at.clamp(-1, size).add_(1) for at, size in zip(positions, loaded, strict=True)]  # in the padded map, 0 and up
    lows = [place.to(integer).clamp_(max=size) * stride for place, size, stride in zip(places, loaded, strides, strict=True)]
    starts = torch.arange(count * maps, device=labels.device, dtype=integer).view(count, maps, 1) * of_map
    cells = (sum_of(lows).view(count, 1, -1) + starts).flatten()
    flat, each = padded.flatten(), [place.view(count, 1, -1).expand(-1, maps, -1).flatten() for place in places]
    if labels.device.type == "cpu":
        picked = flat.index_select(0, cells)
        at = _mixed(padded).flatten().index_select(0, cells).nonzero()[:, 0]
        picked[at] = heaviest(flat, cells[at], [place[at] for place in each], strides, of_map)
    else:
        picked = heaviest(flat, cells, each, strides, of_map)
    return picked.view(count, maps, *positions[0].shape[1:])


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """At least one."""
    first, *others = tensors
    for other in others:
        first = first + other
    return first


def reflected(at: Tensor, size: int) -> Tensor:
    """Positions within the voxels' centres that hold what the mirror image has at ``at``."""
    at = (at + 0.5).remainder(2 * size)
    return (torch.minimum(at, 2 * size - at) - 0.5).clamp_(0, size - 1)


def _mixed(labels: Tensor) -> Tensor:
    """Whether the 2^d voxels from each voxel (k, m, *size) on to its next ones differ; False at the far edges."""
    low = high = labels
    for axis in range(2, labels.ndim):
        inner = labels.shape[axis] - 1
        low = torch.minimum(low.narrow(axis, 0, inner), low.narrow(axis, 1, inner))
        high = torch.maximum(high.narrow(axis, 0, inner), high.narrow(axis, 1, inner))
    return torch.nn.functional.pad(low != high, (0, 1) * (labels.ndim - 2))


def heaviest(labels: Tensor, cells: Tensor, places: Sequence[Tensor], strides: Sequence[int], of_map: int) -> Tensor:
    """The label of largest weight among the corners of cells.

    Args:
        labels: Flat, maps of ``of_map`` voxels with strides ``strides`` one after the other.
        cells: (k,) where the first corner of each cell lies in them.
        places: Per axis (k,), in voxels of the map.
    """
    offsets = torch.tensor([sum(corner) for corner in itertools.product(*((0, stride) for stride in strides))], dtype=cells.dtype)
    corners = offsets.to(cells.device, non_blocking=cells.is_cuda)
    found = labels.index_select(0, (cells + corners[:, None]).flatten()).view(len(corners), len(cells))
    weights, near, rest = torch.ones_like(places[0])[None], cells, cells % of_map
    for place, stride in zip(places, strides, strict=True):
        low = rest // stride
        rest = rest - low * stride
        share = place - low
        weights = torch.stack((weights * (1 - share), weights * share), 1).flatten(0, 1)
        near = near + ((place - 1).round().to(near.dtype) + 1 - low) * stride  # halves to the voxel of even number, as grid_sample does
    best = labels.index_select(0, near)
    most = (weights * (found == best)).sum(0) + TIE
    for candidate in found:
        total = (weights * (found == candidate)).sum(0)
        heavier = total > most
        best, most = torch.where(heavier, candidate, best), torch.where(heavier, total, most)
    return best
