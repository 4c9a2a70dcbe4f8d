"""The sliding window: overlapping tiles, weighted towards their centres; or, for unpadded networks, seamless tiles.

Source of the rules: nnunetv2 2.8.1, ``inference/sliding_window_prediction.py`` and ``predict_from_raw_data.py``; of the others,
the overlap-tile strategy of Ronneberger et al. 2015 (figure 2).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autounet.geometry import mirror_indices
from autounet.networks.scored import is_unpadded, scored_size
from autounet.plan import Configuration

Forward = Callable[[Tensor], Tensor]
"""(n, c, *patch) → scores (n, outputs, *patch or less), float32."""

GPU_SHARE = 0.3
"""Two cases' sums may lie on the GPU at once, and the network needs room beside them."""

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


@lru_cache(maxsize=8)
def gaussian_weights(patch_size: tuple[int, ...]) -> Tensor:
    """Weights of a tile's voxels, float32, largest 1, nowhere 0."""
    peak = np.zeros(patch_size)
    peak[tuple(side // 2 for side in patch_size)] = 1
    weights = ndimage.gaussian_filter(peak, [side * SIGMA_SHARE for side in patch_size], mode="constant")
    weights /= weights.max()
    # Far corners underflow to 0 and would divide by 0 where no other tile reaches.
    weights = np.maximum(weights, weights[weights > 0].min())
    return torch.from_numpy(weights.astype(np.float32))


def predict_scores(
    forward: Forward,
    image_czyx: Tensor,
    patch_size: tuple[int, ...],
    *,
    mirror_axes: tuple[int, ...],
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda tiles: None,
    overlap: OverlapTiles | None = None,
) -> Tensor:
    """Scores of a whole prepared image: (outputs, z, y, x) float32, on ``device`` or, where they would crowd a GPU, on the CPU.

    Args:
        forward: The network, or the mean of several.
        image_czyx: float32, on any device.
        patch_size: Three sides, or two for a network that sees slices of the first axis.
        mirror_axes: Patch axes over all combinations of which the scores are averaged.
        batch_size: Tiles in one forward pass.
        device: Where the network is; tiles go there one batch at a time.
        advance: Told the number of finished tiles.
        overlap: For networks that score only the middle of their patch: the image goes on as its mirror image beyond its edges,
            and tiles that overlap count alike.
    """
    planar = len(patch_size) == 2
    canvas = _canvas(image_czyx, patch_size, overlap)
    window, scored = ((1, *sides) if planar else sides for sides in (patch_size, overlap.scored if overlap else patch_size))
    weights = (torch.ones(overlap.scored) if overlap else gaussian_weights(patch_size)).to(device)
    total: Tensor | None = None
    for first in range(0, len(canvas.corners), batch_size):
        chosen = canvas.corners[first : first + batch_size]
        tiles = torch.stack([canvas.image[(slice(None), *_box(corner, window))] for corner in chosen]).to(device)
        scores = mirrored(forward, tiles[:, :, 0] if planar else tiles, mirror_axes) * weights
        if total is None:
            held = _where_to_hold(device, 4 * (scores.shape[1] + 1) * math.prod(canvas.scored_shape))
            total, norm = torch.zeros((scores.shape[1], *canvas.scored_shape), device=held), torch.zeros(canvas.scored_shape, device=held)
            weights_held = weights.to(held)
        for corner, score in zip(chosen, scores.to(held), strict=True):
            region = _box(corner, scored)
            total[(slice(None), *region)] += score[:, None] if planar else score
            norm[region] += weights_held
        advance(len(chosen))
    assert total is not None  # there is at least one tile
    total /= norm
    return total[(slice(None), *_box(canvas.before, image_czyx.shape[1:]))]


@dataclass(frozen=True, slots=True)
class _Canvas:
    """An image, continued so that every tile lies within it."""

    image: Tensor
    """(c, z, y, x)"""
    corners: list[tuple[int, ...]]
    """First voxels of the tiles in ``image``, and of their scores in an array of ``scored_shape``."""
    scored_shape: tuple[int, ...]
    before: tuple[int, ...]
    """Voxels of that array in front of the image's first."""


def _canvas(image_czyx: Tensor, patch_size: tuple[int, ...], overlap: OverlapTiles | None) -> _Canvas:
    size, planar = image_czyx.shape[1:], len(patch_size) == 2
    slices = [list(range(size[0]))] if planar else []
    starts = slices + _starts(size[-len(patch_size) :], patch_size, overlap)
    window = (1, *patch_size) if planar else patch_size
    if overlap is None:
        # An image smaller than the patch is padded with zeros on both sides.
        pads = [max(side - extent, 0) for side, extent in zip(window, size, strict=True)]
        before = tuple(pad // 2 for pad in pads)
        margins = [margin for pad, low in zip(reversed(pads), reversed(before), strict=True) for margin in (low, pad - low)]
        padded = torch.nn.functional.pad(image_czyx, margins) if any(pads) else image_czyx
        return _Canvas(padded, list(product(*starts)), tuple(padded.shape[1:]), before)
    scored = (1, *overlap.scored) if planar else overlap.scored
    shape = tuple(each[-1] - each[0] + side for each, side in zip(starts, scored, strict=True))
    image = image_czyx
    for axis, (each, side, seen) in enumerate(zip(starts, scored, window, strict=True)):
        margin = (seen - side) // 2
        at = mirror_indices(each[0] - margin, shape[axis] - side + seen, size[axis])
        image = image.index_select(axis + 1, torch.from_numpy(at).to(image.device))
    corners = list(product(*([start - each[0] for start in each] for each in starts)))
    return _Canvas(image, corners, shape, tuple(-each[0] for each in starts))


def _box(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))


def _where_to_hold(device: torch.device, needed_bytes: int) -> torch.device:
    """The device for the sums over tiles: its own memory, unless they would take more than ``GPU_SHARE`` of what is free."""
    if device.type != "cuda" or needed_bytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return device
    return torch.device("cpu")


def mirrored(forward: Forward, tiles: Tensor, mirror_axes: tuple[int, ...]) -> Tensor:
    """Mean scores over all combinations of mirrored axes, each turned back."""
    total = forward(tiles)
    combinations = [
        [axis + 2 for axis, chosen in zip(mirror_axes, picked, strict=True) if chosen]
        for picked in product((False, True), repeat=len(mirror_axes))
        if any(picked)
    ]
    for axes in combinations:
        total = total + forward(tiles.flip(axes)).flip(axes)
    return total / (len(combinations) + 1)
