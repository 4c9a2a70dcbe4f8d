"""Interpolated scores → the best class, where interpolation decides nothing but the boundaries.

Linear interpolation inside a cell is a weighted mean of its corners. Where one class has the best score at all corners it has the best
mean everywhere inside, exactly, so such a cell is filled without computing a score. In the others only classes that can win are
interpolated: the best a class reaches is its largest corner, and that must not be below what another class has at every corner.
The same holds for overlapping regions, whose scores are compared with a threshold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from autounet.preprocessing.resample import nearest_indices

CORNER_BYTES = 64 * 2**20
"""Corner scores of the cells in work at once take about so much memory."""

PIECE = 2**15
"""Voxels looked at together: they stay in the cache, and torch does not share so few among threads that would wait for each other."""


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Where the voxels of an output axis lie between those of an input axis."""

    size_in: int
    cell: Tensor
    """Per output voxel the input voxel at or before it, int64."""
    share: Tensor
    """Weight of the input voxel after that, float64; 0 on axes that are not interpolated."""
    linear: bool
    """Whether this axis is interpolated: not where sizes agree, or along a thick axis."""

    @classmethod
    def between(cls, size_in: int, size_out: int, nearest: bool) -> "AxisMap":
        """The map of a resize with edge mode and half-voxel centres, as nnU-Net's (scikit-image)."""
        if nearest or size_in == size_out:
            cell = nearest_indices(size_in, size_out)
            return cls(size_in, cell, torch.zeros(size_out, dtype=torch.float64), False)
        at = np.clip((size_in / size_out) * (np.arange(size_out) + 0.5) - 0.5, 0, size_in - 1)
        whole = np.floor(at).astype(np.int64)
        return cls(size_in, torch.from_numpy(whole), torch.from_numpy(at - whole), True)

    @property
    def size_out(self) -> int:
        """Output voxels."""
        return len(self.cell)

    def next_to(self, cells: Tensor) -> Tensor:
        """The input voxels after these, within the axis."""
        return (cells + 1).clamp_(max=self.size_in - 1)

    def part(self, start: int, stop: int, first: int, rows: int) -> "AxisMap":
        """The map of some output voxels into input voxels ``first`` to ``first + rows``, which are all they need."""
        return AxisMap(rows, self.cell[start:stop] - first, self.share[start:stop], self.linear)

    def to(self, device: torch.device) -> "AxisMap":
        """The same on another device."""
        return AxisMap(self.size_in, self.cell.to(device), self.share.to(device), self.linear)


Axes = tuple[AxisMap, AxisMap, AxisMap]


def winners(scores: Tensor, overlapping: bool) -> Tensor:
    """Index of the best class per voxel; of regions the number of the last with a score above 0, or 0.

    Args:
        scores: (outputs, z, y, x).
        overlapping: Whether outputs are regions.

    Returns:
        (z, y, x) uint8, or int16 for more than 255 outputs.
    """
    dtype = torch.uint8 if scores.shape[0] < 256 else torch.int16
    found = torch.zeros(scores.shape[1:], dtype=dtype, device=scores.device)
    flat, rows = found.view(-1), [score.reshape(-1) for score in scores]
    for first in range(0, flat.numel(), PIECE):
        piece = flat[first : first + PIECE]
        best = rows[0][first : first + PIECE].clone()
        if overlapping:
            piece.masked_fill_(best > 0, 1)
        for number, row in enumerate(rows[1:], start=1):
            score = row[first : first + PIECE]
            if overlapping:
                piece.masked_fill_(score > 0, number + 1)
                continue
            piece.masked_fill_(score > best, number)
            torch.maximum(best, score, out=best)
    return found


def resampled_winners(scores: Tensor, axes: Axes, overlapping: bool) -> Tensor:
    """What ``winners`` would say of the scores interpolated to the output grid, without interpolating where all corners agree.

    Args:
        scores: (outputs, z, y, x) float32 or float16; each output contiguous.
        axes: Maps of z, y, x.
        overlapping: Whether outputs are regions.

    Returns:
        (z, y, x) of the output grid. Boundaries are computed in float64 and compared in float32.
    """
    best = winners(scores, overlapping)
    if not any(axis.linear for axis in axes):
        return _nearest(best, axes)
    found = _nearest(best, axes)
    flat = found.view(-1)
    for cells, counts in _groups(_mixed(best, axes), axes):
        outputs = counts[0] * counts[1] * counts[2]
        step = max(1, CORNER_BYTES // (4 * max(8 * scores.shape[0], 6 * outputs)))
        for first in range(0, cells.shape[1], step):
            chosen = cells[:, first : first + step]
            block = _Block(chosen, axes, counts)
            values = block.regions(scores) if overlapping else block.classes(scores)
            flat[block.outputs(axes).view(-1)] = values.to(found.dtype).view(-1)
    return found


def _nearest(best: Tensor, axes: Axes) -> Tensor:
    """Each output voxel's cell's first corner."""
    for position in (2, 1, 0):
        axis = axes[position]
        if axis.size_in != axis.size_out or not torch.equal(axis.cell, torch.arange(axis.size_in, device=axis.cell.device)):
            best = best.index_select(position, axis.cell)
    return best


def _mixed(best: Tensor, axes: Axes) -> Tensor:
    """Cells whose corners disagree: (z, y, x) bool."""
    low = high = best
    for position, axis in enumerate(axes):
        if axis.linear and axis.size_in > 1:
            size = axis.size_in - 1
            first, last = low.narrow(position, 0, size), low.narrow(position, 1, size)
            low = torch.cat((torch.minimum(first, last), low.narrow(position, size, 1)), position)
            first, last = high.narrow(position, 0, size), high.narrow(position, 1, size)
            high = torch.cat((torch.maximum(first, last), high.narrow(position, size, 1)), position)
    return low != high


def _groups(mixed: Tensor, axes: Axes) -> Iterator[tuple[Tensor, tuple[int, int, int]]]:
    """Mixed cells, (3, n) z, y, x, in groups that have the same number of output voxels along each axis."""
    cells = torch.stack(mixed.nonzero(as_tuple=True))
    counts = [torch.bincount(axis.cell, minlength=axis.size_in) for axis in axes]
    own = [count[cell] for count, cell in zip(counts, cells, strict=True)]
    present = [sorted(set(count.tolist()) - {0}) for count in counts]
    for wanted in product(*present):
        members = ((own[0] == wanted[0]) & (own[1] == wanted[1]) & (own[2] == wanted[2])).nonzero().view(-1)
        if len(members):
            yield cells[:, members], (wanted[0], wanted[1], wanted[2])


class _Block:
    """Cells with equally many output voxels: their corners, and what lies between."""

    def __init__(self, cells: Tensor, axes: Axes, counts: tuple[int, int, int]) -> None:
        self._cells, self._axes = cells, axes
        self._first = [torch.searchsorted(axis.cell, cell) for axis, cell in zip(axes, cells, strict=True)]
        self._counts = counts
        sides = [[cell, axis.next_to(cell)] if axis.linear else [cell] for axis, cell in zip(axes, cells, strict=True)]
        _, height, width = (axis.size_in for axis in axes)
        self._sides = [len(side) for side in sides]
        self._corners = torch.stack([(z * height + y) * width + x for z, y, x in product(*sides)])
        self._shares = [
            [axis.share[first + step] for step in range(count)] for axis, first, count in zip(axes, self._first, counts, strict=True)
        ]

    def outputs(self, axes: Axes) -> Tensor:
        """Flat indices of the output voxels: (count z, count y, count x, cells)."""
        z, y, x = (torch.stack([first + step for step in range(count)]) for first, count in zip(self._first, self._counts, strict=True))
        return (z[:, None, None] * axes[1].size_out + y[None, :, None]) * axes[2].size_out + x[None, None]

    def classes(self, scores: Tensor) -> Tensor:
        """The best class of each output voxel; the lowest of equals."""
        corners = self._scores_at_corners(scores)
        outputs, sides, cells = corners.shape
        # A class that can win has its turn's number, the first the highest; 0 for those that cannot or have had their turn.
        turns = torch.arange(outputs, 0, -1, dtype=torch.uint8 if outputs < 256 else torch.int16, device=corners.device)
        left = (corners.amax(1) >= corners.amin(1).amax(0)).to(turns.dtype).mul_(turns[:, None])
        side = torch.arange(sides, device=corners.device)[:, None] * cells
        members = torch.arange(cells, device=corners.device)
        best = label = None
        while len(members):
            number = outputs - left.amax(0).long()
            at = corners.view(-1).take(number * (sides * cells) + members + side)
            if best is None or label is None:
                best = self._between(at, None)
                label = number.to(turns.dtype).expand(best.shape).contiguous()
            else:
                value, before = self._between(at, members), best.index_select(-1, members)
                named = label.index_select(-1, members)
                label.index_copy_(-1, members, torch.where(value > before, number.to(turns.dtype), named))
                best.index_copy_(-1, members, torch.maximum(value, before))
            left.scatter_(0, number[None], 0)
            further = left.any(0).nonzero().view(-1)
            left, members = left.index_select(1, further), members.index_select(0, further)
        assert label is not None
        return label

    def regions(self, scores: Tensor) -> Tensor:
        """The number of the last region whose score is above 0, or 0."""
        label: Tensor | None = None
        for number, corners in enumerate(self._scores_at_corners(scores), start=1):
            value = self._between(corners, None)
            label = torch.zeros(value.shape, dtype=torch.int64, device=value.device) if label is None else label
            label.masked_fill_(value > 0, number)
        assert label is not None
        return label

    def _scores_at_corners(self, scores: Tensor) -> Tensor:
        """(outputs, corners, cells)."""
        at = self._corners.view(-1)
        found = torch.empty((scores.shape[0], len(at)), dtype=scores.dtype, device=scores.device)
        for score, row in zip(scores, found, strict=True):
            torch.index_select(score.reshape(-1), 0, at, out=row)
        return found.view(scores.shape[0], *self._corners.shape)

    def _between(self, corners: Tensor, members: Tensor | None) -> Tensor:
        """Corner scores (corners, n) of these cells → scores of their output voxels (count z, count y, count x, n).

        Computed in float64 and rounded to float32, as nnU-Net does, so that the same scores are equal.
        """
        value = corners.double().view(*self._sides, corners.shape[-1])
        for position, (axis, shares, count) in enumerate(zip(self._axes, self._shares, self._counts, strict=True)):
            first = value.narrow(position, 0, 1)
            if not axis.linear:
                value = first.repeat([count if place == position else 1 for place in range(4)])
                continue
            rise = value.narrow(position, 1, 1) - first
            value = torch.cat([first + rise * (share if members is None else share.index_select(0, members)) for share in shares], position)
        return value.float()
