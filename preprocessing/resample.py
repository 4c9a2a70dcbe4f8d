"""Resampling of images and label maps.

What nnU-Net does with scikit-image's ``resize`` (edge mode, no anti-aliasing) is linear and separable, followed by a clamp
to the input's range. So it is one matrix per axis, here contracted axis by axis in float32: the same numbers, many times
faster, and on a GPU as it stands.

Of a label map only voxels between different labels need interpolation: where all neighbours agree, their label has all of
the score.
"""

from functools import lru_cache
from math import prod

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autounet.geometry import Triple

TIE = 1e-6
"""Two labels whose interpolated scores differ by less share the voxel."""

NEGLIGIBLE = 1e-8
"""Weights below it, of inputs a dozen voxels or more away from a spline's place, are left out: float32 does not see them."""

BAND_ROWS = 512
"""Rows of an axis' matrix that are multiplied together, with the inputs that any of them needs. Fewer would save work, but cost a great
many steps that threads wait for each other in, which is slow where other programs run too."""

SLAB_VOXELS, PART_VOXELS = 2**20, 2**18
"""Voxels of a label map looked at, and interpolated, at a time: some 20 MB, and not too many small steps."""


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


@lru_cache(maxsize=256)
def axis_bands(size_in: int, size_out: int, order: int) -> tuple[tuple[slice, slice], ...]:
    """Blocks of rows of ``axis_matrix`` and the columns that matter to them."""
    matrix, bands = axis_matrix(size_in, size_out, order), []
    for start in range(0, size_out, BAND_ROWS):
        rows = slice(start, min(start + BAND_ROWS, size_out))
        columns = (matrix[rows].abs() > NEGLIGIBLE).any(0).nonzero()
        bands.append((rows, slice(int(columns[0]), int(columns[-1]) + 1)))
    return tuple(bands)


def _resize_axis(x_czyx: Tensor, axis: int, size_out: int, order: int) -> Tensor:
    """Applies ``axis_matrix`` along tensor axis ``axis`` (1..3), its bands only."""
    shape, size_in = x_czyx.shape, x_czyx.shape[axis]
    matrix = axis_matrix(size_in, size_out, order).to(x_czyx)
    result = x_czyx.new_empty(*shape[:axis], size_out, *shape[axis + 1 :])
    if axis == 3:
        flat, target = x_czyx.reshape(-1, size_in), result.view(-1, size_out)
        for rows, columns in axis_bands(size_in, size_out, order):
            torch.mm(flat[:, columns], matrix[rows, columns].T, out=target[:, rows])
        return result
    before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
    planes, target = x_czyx.reshape(before, size_in, after), result.view(before, size_out, after)
    for rows, columns in axis_bands(size_in, size_out, order):
        torch.bmm(matrix[rows, columns].expand(before, -1, -1), planes[:, columns], out=target[:, rows])
    return result


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
            x_czyx = _resize_axis(x_czyx, axis + 1, size_out, order)
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

    Where the nearest voxel's label is not among the tied, the smallest of them is taken. Source: batchgenerators 0.25.5,
    ``resize_segmentation``. Beyond the result, memory is a few times that of the input's labels, whatever their number.

    Args:
        labels_zyx: Any integer type; values may be negative.
        shape: Size wanted.
        separate: The thick axis from ``separate_axis``, or None.
    """
    if tuple(labels_zyx.shape) == shape:
        return labels_zyx
    labels_zyx = labels_zyx.contiguous()
    device, sizes = labels_zyx.device, tuple(zip(labels_zyx.shape, shape, strict=True))
    nearest = [nearest_indices(size_in, size_out).to(device) for size_in, size_out in sizes]
    linear = [axis for axis, (size_in, size_out) in enumerate(sizes) if size_in != size_out and axis != separate]
    result = labels_zyx.new_empty(shape)
    step = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    if not linear:
        return torch.cat([_select(labels_zyx, [part, *nearest[1:]]) for part in torch.split(nearest[0], step)])
    mixed, corners = _mixed_cells(labels_zyx, linear), _Corners(labels_zyx, shape, nearest, linear)
    for start in range(0, shape[0], step):
        slab = slice(start, start + step)
        result[slab] = _select(labels_zyx, [nearest[0][slab], *nearest[1:]])
        places = _select(mixed, [corners.first[0][slab], *corners.first[1:]]).nonzero()
        for part in torch.split(places, PART_VOXELS):
            at = part.T.contiguous()
            at[0] += start
            _interpolate(result, at, corners)
    return result


def linear_taps(size_in: int, size_out: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two inputs of each output voxel, int64 (size_out,), and the second one's weight, float32: ``axis_matrix`` of order 1."""
    weights, indices = axis_matrix(size_in, size_out, 1).topk(min(2, size_in), dim=1)
    indices = torch.where(weights > 0, indices, indices[:, :1])
    first, second = indices.amin(1), indices.amax(1)
    return first, second, (axis_matrix(size_in, size_out, 1).gather(1, second[:, None])[:, 0] * (second > first))


def _mixed_cells(labels_zyx: Tensor, axes: list[int]) -> Tensor:
    """Whether a voxel and its next neighbours along these axes, diagonal ones too, have different labels: bool, same shape."""
    mixed = torch.empty(labels_zyx.shape, dtype=torch.bool, device=labels_zyx.device)
    step = max(1, SLAB_VOXELS // max(1, labels_zyx[0].numel()))
    for start in range(0, len(labels_zyx), step):
        low = high = labels_zyx[start : start + step + 1]
        for axis in axes:
            count = low.shape[axis] - 1
            lower, higher = low.clone(), high.clone()
            torch.minimum(low.narrow(axis, 0, count), low.narrow(axis, 1, count), out=lower.narrow(axis, 0, count))
            torch.maximum(high.narrow(axis, 0, count), high.narrow(axis, 1, count), out=higher.narrow(axis, 0, count))
            low, high = lower, higher
        mixed[start : start + step] = (low != high)[:step]
    return mixed


def _select(x_zyx: Tensor, indices: list[Tensor]) -> Tensor:
    # Rows are copied whole along the first two axes; the last one is slow, so it comes before the middle one makes more rows.
    return x_zyx.index_select(0, indices[0]).index_select(2, indices[2]).index_select(1, indices[1])


class _Corners:
    """Which voxels of a label map surround those of the result, two along each linear axis, and how much each weighs."""

    def __init__(self, labels_zyx: Tensor, shape: Triple, nearest: list[Tensor], axes: list[int]) -> None:
        self.labels, self.axes = labels_zyx.view(-1), axes
        self.first = list(nearest)
        """Index of the first of them, by axis."""
        self.hops: dict[int, Tensor] = {}
        self.shares: dict[int, Tensor] = {}
        # Positions in the flat label map: half the memory traffic where 32 bits can hold them.
        positions = torch.int32 if labels_zyx.numel() < 2**31 else torch.int64
        for axis in axes:
            first, second, share = (part.to(labels_zyx.device) for part in linear_taps(labels_zyx.shape[axis], shape[axis]))
            self.first[axis], self.shares[axis] = first, share
            self.hops[axis] = ((second - first) * labels_zyx.stride(axis)).to(positions)
        self.starts = [(first * labels_zyx.stride(axis)).to(positions) for axis, first in enumerate(self.first)]

    def around(self, at: Tensor) -> Tensor:
        """Labels (2^axes, n) around the places ``at`` (3, n) of the result, the last linear axis' second half behind its first."""
        found = self.starts[0].new_empty(2 ** len(self.axes), at.shape[1])
        torch.add(self.starts[0].index_select(0, at[0]), self.starts[1].index_select(0, at[1]), out=found[0])
        found[0] += self.starts[2].index_select(0, at[2])
        for number, axis in enumerate(self.axes):
            half = 2**number
            torch.add(found[:half], self.hops[axis].index_select(0, at[axis]), out=found[half : 2 * half])
        return self.labels.index_select(0, found.view(-1)).view(found.shape)

    def score(self, agrees: Tensor, at: Tensor) -> Tensor:
        """Weight of the corners that are True in ``agrees`` (2^axes, n): float32 (n,)."""
        weight = agrees.float()
        for axis in reversed(self.axes):
            half = len(weight) // 2
            weight = torch.lerp(weight[:half], weight[half:], self.shares[axis].index_select(0, at[axis]))
        return weight[0]


def _interpolate(result: Tensor, at: Tensor, corners: _Corners) -> None:
    """Decides the result's voxels ``at`` (3, n), which hold the nearest voxel's label, by the scores of all labels around."""
    around, nearest = corners.around(at), result[tuple(at)]
    # A label with half of the score has no rival but one that ties, and ties are the nearest voxel's.
    open_ = (corners.score(around == nearest, at) < 0.5 - TIE).nonzero()[:, 0]
    if not len(open_):
        return
    at, around, nearest = at.index_select(1, open_), around.index_select(1, open_), nearest.index_select(0, open_)
    scores = torch.stack([corners.score(around == corner, at) for corner in around])
    tied = scores >= scores.amax(0) - TIE
    smallest = around.masked_fill(~tied, torch.iinfo(result.dtype).max).amin(0)
    result[tuple(at)] = torch.where((tied & (around == nearest)).any(0), nearest, smallest)
