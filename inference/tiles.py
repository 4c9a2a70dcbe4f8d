"""Where the sliding window's tiles lie, and how much each of them counts.

Source of the rules: nnunetv2 2.8.1, ``inference/sliding_window_prediction.py`` and ``predict_from_raw_data.py``; of the network of
2015, the overlap-tile strategy of Ronneberger et al. (figure 2).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autounet.geometry import Triple, mirror_indices
from autounet.networks.previous import one_hot
from autounet.networks.scored import is_unpadded, scored_size
from autounet.plan import Configuration

Value = TypeVar("Value")

SIGMA_SHARE = 1 / 8
"""Standard deviation of the weights as a share of the tile."""


@dataclass(frozen=True, slots=True)
class OverlapTiles:
    """How a network that scores only the middle of its patch is moved over an image."""

    scored: tuple[int, ...]
    """Size of the scores; the rest of the patch is a margin, equal on both sides."""
    step: tuple[int, ...]
    """Tiles start at multiples of this, the voxels of one at the network's bottom. Pooling then pairs the same voxels in all tiles,
    so that tiles agree where they overlap and the result does not depend on how the image was cut."""


def overlap_tiles(configuration: Configuration) -> OverlapTiles | None:
    """The rule for unpadded networks; None for those that score their whole patch."""
    network = configuration.network
    if not is_unpadded(network):
        return None
    return OverlapTiles(
        scored_size(configuration), tuple(math.prod(stride[axis] for stride in network.strides) for axis in range(network.ndim))
    )


def tile_starts(size: int, tile: int) -> list[int]:
    """First voxels of the tiles along one axis: at most half a tile apart, evenly spread, ends included."""
    if size <= tile:
        return [0]
    count = math.ceil((size - tile) / (tile * 0.5)) + 1
    return sorted({int(start) for start in np.round(np.linspace(0, size - tile, count))})  # a tile of one voxel would come twice


def seamless_starts(size: int, scored: int, step: int) -> list[int]:
    """First scored voxels of the tiles along one axis: as few as cover it, evenly spread, at multiples of ``step``.

    An image smaller than a tile lies about its middle. The last tile may reach beyond the image by less than ``step``. Where a tile
    scores less than ``step`` voxels, tiles cannot keep to multiples, and start anywhere.
    """
    if size <= scored:
        return [-((scored - size) // 2 // step * step)]
    if scored < step:
        step = 1
    steps = math.ceil((size - scored) / step)
    count = math.ceil(steps / (scored // step)) + 1
    return [int(start) * step for start in np.round(np.linspace(0, steps, count))]


def count_tiles(shape: Sequence[int], patch_size: Sequence[int], overlap: OverlapTiles | None = None) -> int:
    """Tiles for one case; a 2D network takes every slice of the first axis."""
    slices = shape[0] if len(patch_size) == 2 else 1
    return slices * math.prod(len(starts) for starts in _starts(shape[-len(patch_size) :], patch_size, overlap))


def _starts(sides: Sequence[int], patch_size: Sequence[int], overlap: OverlapTiles | None) -> list[list[int]]:
    if overlap is None:
        return [tile_starts(size, tile) for size, tile in zip(sides, patch_size, strict=True)]
    return [seamless_starts(*axis) for axis in zip(sides, overlap.scored, overlap.step, strict=True)]


@lru_cache(maxsize=64)
def axis_weights(side: int) -> Tensor:
    """Weights of a tile's voxels along one axis: a Gaussian about the middle, float64 (side,), largest 1, nowhere 0.

    A tile's weights are the product over its axes, down to 4e-11 in the corners of a volume's tile. (nnU-Net keeps them in float16,
    where the smallest become 0 and are set to 6e-8: it differs where such a corner is a voxel's only tile, and there both divide it out.)
    """
    peak = np.zeros(side)
    peak[side // 2] = 1
    weights = ndimage.gaussian_filter1d(peak, side * SIGMA_SHARE, mode="constant")
    return torch.from_numpy(weights / weights.max())


@lru_cache(maxsize=64)
def axis_shares(starts: tuple[int, ...], side: int, even: bool) -> tuple[Tensor, ...]:
    """What each tile contributes to the mean, per voxel along one axis; over the tiles of a voxel the shares sum to 1.

    Tiles form a lattice, so that the sum of the weights at a voxel is a product over the axes too, and can be divided out beforehand:
    the product of three shares is a tile's part in a convex combination. Sums of scores never exceed the scores.

    Args:
        starts: First voxels of the tiles, the first of them 0.
        side: Of a tile.
        even: All voxels of a tile count alike.

    Returns:
        One float32 (side,) per start.
    """
    weights = torch.ones(side, dtype=torch.float64) if even else axis_weights(side)
    total = torch.zeros(max(starts) + side, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += weights
    return tuple((weights / total[start : start + side]).float() for start in starts)


@dataclass(frozen=True, slots=True)
class Tile:
    """One position of the window."""

    number: Triple
    """Which start it has along each axis."""
    corner: Triple
    """First voxel in the canvas's image, and of its scores."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """An image, continued so that every tile lies within it; a network that sees slices has tiles of one slice."""

    image: Tensor
    """(c, z, y, x)"""
    labels: Tensor | None
    """(z, y, x) label indices, which the network sees as one channel per foreground label."""
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """First voxels of the tiles along each axis, in ``image`` and of their scores in an array of ``scored_shape``."""
    window: Triple
    """What the network sees of ``image``."""
    scored: Triple
    """Size of a tile's scores."""
    scored_shape: Triple
    before: Triple
    """Voxels of that array in front of the image's first."""
    shares: tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]
    """Per axis and start, see ``axis_shares``."""

    def tiles(self) -> Iterator[Tile]:
        """All tiles, by their first axis's start first."""
        for i, z in enumerate(self.starts[0]):
            for j, y in enumerate(self.starts[1]):
                for k, x in enumerate(self.starts[2]):
                    yield Tile((i, j, k), (z, y, x))

    def shares_of(self, tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        """Along each axis, the part of a tile's scores in the mean."""
        a, b, c = (axis[number] for axis, number in zip(self.shares, tile.number, strict=True))
        return a, b, c

    def patch(self, tile: Tile, foreground: int) -> Tensor:
        """What the network sees at a tile: (c, z, y, x), or (c, y, x) of a slice; then one channel per foreground label."""
        box = tuple(slice(start, start + side) for start, side in zip(tile.corner, self.window, strict=True))
        patch = self.image[(slice(None), *box)]
        if self.labels is not None:
            patch = torch.cat((patch, one_hot(self.labels[box][None], foreground, patch.dtype)[0]))
        return patch


def make_canvas(image_czyx: Tensor, labels_zyx: Tensor | None, patch_size: tuple[int, ...], overlap: OverlapTiles | None) -> Canvas:
    """Lays the tiles over an image.

    Beyond it are zeros, on both sides alike, where it is smaller than a tile; or its mirror image for networks that score less than
    they see (``overlap``).
    """
    shape, planar = _three(image_czyx.shape[1:]), len(patch_size) == 2
    window, scored = (_three((1, *sides) if planar else sides) for sides in (patch_size, overlap.scored if overlap else patch_size))
    starts = [list(range(shape[0]))] * planar + _starts(shape[-len(patch_size) :], patch_size, overlap)
    shares = _three(
        axis_shares(tuple(start - each[0] for start in each), side, overlap is not None)
        if not (planar and axis == 0)
        else (torch.ones(1),) * len(each)
        for axis, (each, side) in enumerate(zip(starts, scored, strict=True))
    )
    if overlap is None:
        pads = [max(side - size, 0) for side, size in zip(window, shape, strict=True)]
        before = _three(pad // 2 for pad in pads)
        image, labels = _pad(image_czyx, pads), None if labels_zyx is None else _pad(labels_zyx, pads)
        return Canvas(image, labels, _three(map(tuple, starts)), window, scored, _three(image.shape[1:]), before, shares)
    whole = _three(each[-1] - each[0] + side for each, side in zip(starts, scored, strict=True))
    image, labels = image_czyx, labels_zyx
    for axis, (each, side, seen) in enumerate(zip(starts, scored, window, strict=True)):
        at = torch.from_numpy(mirror_indices(each[0] - (seen - side) // 2, whole[axis] - side + seen, shape[axis])).to(image.device)
        image = image.index_select(axis + 1, at)
        labels = None if labels is None else labels.index_select(axis, at)
    moved = _three(tuple(start - each[0] for start in each) for each in starts)
    return Canvas(image, labels, moved, window, scored, whole, _three(-each[0] for each in starts), shares)


def _pad(values: Tensor, pads: Sequence[int]) -> Tensor:
    """Zeros on both sides of the last three axes, ``pads`` in all; the same tensor where there are none."""
    margins = [margin for pad in reversed(pads) for margin in (pad // 2, pad - pad // 2)]
    return torch.nn.functional.pad(values, margins) if any(pads) else values


def _three(values: Iterable[Value]) -> tuple[Value, Value, Value]:
    a, b, c = values
    return a, b, c
