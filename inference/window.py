"""The sliding window: overlapping tiles, weighted towards their centres.

Source of the rules: nnunetv2 2.8.1, ``inference/sliding_window_prediction.py`` and ``predict_from_raw_data.py``.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
"""(n, c, *patch) → scores (n, outputs, *patch), float32."""

GPU_SHARE = 0.3
"""Two cases' sums may lie on the GPU at once, and the network needs room beside them."""

SIGMA_SHARE = 1 / 8
"""Standard deviation of the weights as a share of the tile."""


def tile_starts(size: int, tile: int) -> list[int]:
    """First voxels of the tiles along one axis: at most half a tile apart, evenly spread, ends included."""
    if size <= tile:
        return [0]
    count = math.ceil((size - tile) / (tile * 0.5)) + 1
    return sorted({int(start) for start in np.round(np.linspace(0, size - tile, count))})  # a tile of one voxel would come twice


def count_tiles(shape: Sequence[int], patch_size: Sequence[int]) -> int:
    """Tiles for one case; a 2D network takes every slice of the first axis."""
    slices = shape[0] if len(patch_size) == 2 else 1
    sides = shape[-len(patch_size) :]
    return slices * math.prod(len(tile_starts(size, tile)) for size, tile in zip(sides, patch_size, strict=True))


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
    """
    planar = len(patch_size) == 2
    window = (1, *patch_size) if planar else patch_size
    size = image_czyx.shape[1:]
    # An image smaller than the patch is padded with zeros on both sides.
    pads = [max(side - extent, 0) for side, extent in zip(window, size, strict=True)]
    before = [pad // 2 for pad in pads]
    margins = [margin for pad, low in zip(reversed(pads), reversed(before), strict=True) for margin in (low, pad - low)]
    padded = torch.nn.functional.pad(image_czyx, margins) if any(pads) else image_czyx
    axes = [range(size[0]) if planar else tile_starts(padded.shape[1], window[0])]
    axes += [tile_starts(extent, side) for extent, side in zip(padded.shape[2:], window[1:], strict=True)]
    corners = list(product(*axes))
    weights = gaussian_weights(patch_size).to(device)
    total: Tensor | None = None
    for first in range(0, len(corners), batch_size):
        chosen = corners[first : first + batch_size]
        regions = [tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True)) for corner in chosen]
        tiles = torch.stack([padded[(slice(None), *region)] for region in regions]).to(device)
        scores = mirrored(forward, tiles[:, :, 0] if planar else tiles, mirror_axes) * weights
        if total is None:
            held = _where_to_hold(device, 4 * (scores.shape[1] + 1) * padded[0].numel())
            total, norm = torch.zeros((scores.shape[1], *padded.shape[1:]), device=held), torch.zeros(padded.shape[1:], device=held)
            weights_held = weights.to(held)
        for region, score in zip(regions, scores.to(held), strict=True):
            total[(slice(None), *region)] += score[:, None] if planar else score
            norm[region] += weights_held
        advance(len(chosen))
    assert total is not None  # there is at least one tile
    total /= norm
    inner = tuple(slice(low, low + extent) for low, extent in zip(before, size, strict=True))
    return total[(slice(None), *inner)]


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
