"""Resampling of images and label maps.

What nnU-Net does with scikit-image's ``resize`` (edge mode, no anti-aliasing) is linear and separable, followed by a clamp
to the input's range. So it is one matrix per axis, here contracted axis by axis in float32: the same numbers, many times
faster, and on a GPU as it stands.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autounet.geometry import Triple, TripleMm

ANISOTROPY = 3.0
"""Above this ratio of largest to smallest spacing the thick axis is resampled on its own, by nearest neighbour."""

TIE = 1e-6
"""Two labels whose interpolated scores differ by less share the voxel."""


def new_shape(shape: Triple, spacing_mm: TripleMm, target_mm: TripleMm) -> Triple:
    """Size after resampling; rounds half to even, as nnU-Net's ``compute_new_shape`` does."""
    a, b, c = (round(old / new * size) for old, new, size in zip(spacing_mm, target_mm, shape, strict=True))
    return max(a, 1), max(b, 1), max(c, 1)


def separate_axis(spacing_mm: TripleMm, target_mm: TripleMm) -> int | None:
    """The thick axis that is resampled on its own, or None.

    It is the axis of the largest current spacing if that is anisotropic, else of the target's; none if two axes share the
    largest spacing. Source: nnunetv2 2.8.1, ``default_resampling.py``, determine_do_sep_z_and_axis.
    """
    for spacing in (spacing_mm, target_mm):
        if max(spacing) / min(spacing) > ANISOTROPY:
            thick = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            return thick[0] if len(thick) == 1 else None
    return None


@lru_cache(maxsize=256)
def axis_matrix(size_in: int, size_out: int, order: int) -> Tensor:
    """Response of the 1D resize to the identity: float32 (size_out, size_in)."""
    if size_in == 1:
        return torch.ones(size_out, 1)
    response = ndimage.zoom(np.eye(size_in), (size_out / size_in, 1), order=order, mode="nearest", grid_mode=True)
    return torch.from_numpy(response.astype(np.float32))


def nearest_indices(size_in: int, size_out: int) -> Tensor:
    """Index of the input voxel nearest to each output voxel: int64 (size_out,)."""
    coordinates = (size_in / size_out) * (np.arange(size_out) + 0.5) - 0.5
    return torch.from_numpy(np.clip(np.floor(coordinates + 0.5), 0, size_in - 1).astype(np.int64))


def contract(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """Applies a matrix along one axis of a tensor: size ``matrix.shape[1]`` becomes ``matrix.shape[0]``."""
    if axis == x.ndim - 1:
        return x @ matrix.T
    shape = x.shape
    flat = x.reshape(*shape[: axis + 1], -1)
    return torch.matmul(matrix, flat).reshape(*shape[:axis], matrix.shape[0], *shape[axis + 1 :])


def resample_scores(x_czyx: Tensor, shape: Triple, separate: int | None, order: int) -> Tensor:
    """Resamples without the clamp, as sums of the input's values: what is linear stays linear.

    Args:
        x_czyx: float32, any number of channels.
        shape: Size wanted.
        separate: Axis (0..2) resampled by nearest neighbour, or None.
        order: Spline order of the other axes (1 or 3).
    """
    # Shrinking axes first keeps the intermediate arrays small.
    for axis in sorted(range(3), key=lambda axis: shape[axis] / x_czyx.shape[axis + 1]):
        size_in, size_out = x_czyx.shape[axis + 1], shape[axis]
        if size_in == size_out:
            continue
        if axis == separate:
            x_czyx = x_czyx.index_select(axis + 1, nearest_indices(size_in, size_out).to(x_czyx.device))
        else:
            x_czyx = contract(x_czyx, axis + 1, axis_matrix(size_in, size_out, order).to(x_czyx.device))
    return x_czyx


def resample_image(image_czyx: Tensor, shape: Triple, separate: int | None, order: int = 3) -> Tensor:
    """Resamples an image and clamps it to the input's range (per channel, or per slice of a separate axis).

    Args:
        image_czyx: float32.
        shape: Size wanted.
        separate: The thick axis from ``separate_axis``, or None.
        order: Spline order.
    """
    if tuple(image_czyx.shape[1:]) == shape:
        return image_czyx
    others = tuple(axis + 1 for axis in range(3) if axis != separate)
    if all(image_czyx.shape[axis] == shape[axis - 1] for axis in others):
        return resample_scores(image_czyx, shape, separate, order)
    low, high = image_czyx.amin(others, keepdim=True), image_czyx.amax(others, keepdim=True)
    if separate is not None:
        indices = nearest_indices(image_czyx.shape[separate + 1], shape[separate]).to(image_czyx.device)
        low, high = low.index_select(separate + 1, indices), high.index_select(separate + 1, indices)
    return resample_scores(image_czyx, shape, separate, order).clamp_(low, high)


def resample_labels(labels_zyx: Tensor, shape: Triple, separate: int | None) -> Tensor:
    """Resamples a label map: each label's indicator linearly, the largest wins, a tie goes to the nearest voxel's label.

    Source: batchgenerators 0.25.5, ``resize_segmentation``. Memory is a few volumes, whatever the number of labels.

    Args:
        labels_zyx: Any integer type; values may be negative.
        shape: Size wanted.
        separate: The thick axis from ``separate_axis``, or None.
    """
    if tuple(labels_zyx.shape) == shape:
        return labels_zyx
    nearest = labels_zyx
    for axis in range(3):
        nearest = nearest.index_select(axis, nearest_indices(labels_zyx.shape[axis], shape[axis]).to(labels_zyx.device))
    best = torch.full(shape, -1.0, device=labels_zyx.device)
    nearest_score = torch.zeros(shape, device=labels_zyx.device)
    winner = torch.zeros(shape, dtype=labels_zyx.dtype, device=labels_zyx.device)
    for label in torch.unique(labels_zyx).tolist():
        score = resample_scores((labels_zyx == label).float()[None], shape, separate, order=1)[0]
        torch.where(nearest == label, score, nearest_score, out=nearest_score)
        better = score > best
        winner.masked_fill_(better, label)
        torch.where(better, score, best, out=best)
    return torch.where(best - nearest_score <= TIE, nearest, winner)
