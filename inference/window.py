"""The sliding window: an image goes in, its scores come out row by row, finished; the scores of a whole volume never exist."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autounet.geometry import Triple
from autounet.inference.accumulate import Band, make_band
from autounet.inference.passes import Forward, TileScorer
from autounet.inference.tiles import Canvas, OverlapTiles, Tile, make_canvas

GPU_SHARE = 0.3
"""Share of a GPU's free memory that the sums over tiles may take; the network needs room beside them."""

PLANAR_ROWS = 8
"""Slices handed on together, where each is finished by itself."""


def predict_slabs(
    forward: Forward,
    image_czyx: Tensor,
    patch_size: tuple[int, ...],
    *,
    mirror_axes: tuple[int, ...],
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda tiles: None,
    overlap: OverlapTiles | None = None,
    labels_zyx: Tensor | None = None,
    foreground: int = 0,
    limit_bytes: int | None = None,
    scratch: Path | None = None,
) -> Iterator[Tensor]:
    """Scores of a whole prepared image, in slabs of rows of the first axis, from the first to the last.

    Tiles are visited by their start on the first axis, so a row is final as soon as no later tile reaches it. In memory are the rows of
    one tile (outputs × patch's first side × y × x), on ``device`` or, where they would crowd a GPU, on the CPU.

    Args:
        forward: The network, or the mean of several.
        image_czyx: float32, on any device.
        patch_size: Three sides, or two for a network that sees slices of the first axis.
        mirror_axes: Patch axes over all combinations of which the scores are averaged.
        batch_size: Patches in one forward pass, mirrored copies counted.
        device: Where the network is; tiles go there one batch at a time.
        advance: Told the number of finished tiles.
        overlap: For networks that score only the middle of their patch: the image goes on as its mirror image beyond its edges,
            and tiles that overlap count alike.
        labels_zyx: Label indices on the same grid, for the second stage of a cascade.
        foreground: Into how many channels, one per foreground label, they are spread behind the image's.
        limit_bytes: Memory of the host for the rows in work; beyond it they are float16, and beyond that in a file.
        scratch: Folder for that file.

    Yields:
        (outputs, rows, y, x) float32.

    Raises:
        MemoryError: Even a single patch does not fit.
    """
    canvas = make_canvas(image_czyx, labels_zyx, patch_size, overlap)
    band: Band | None = None

    def relieve() -> bool:
        if band is None or band.device.type == "cpu":
            return False
        band.to_host()
        return True

    scorer = TileScorer(forward, device, mirror_axes, batch_size, relieve)
    planar, size = len(patch_size) == 2, image_czyx.shape[1:]
    patches = ((tile, _seen(canvas, tile, planar, foreground)) for tile in canvas.tiles())
    for tile, scores in scorer.scores(patches):
        scores = scores[:, None] if planar else scores
        if band is None:
            band = _band(canvas, scores.shape[0], device, limit_bytes, scratch)
        if tile.corner[0] + canvas.scored[0] > band.first + band.rows:
            yield from _slab(canvas, band, tile.corner[0], size)
        band.add(tile.corner, scores, canvas.shares_of(tile))
        advance(1)
    assert band is not None  # there is at least one tile
    yield from _slab(canvas, band, canvas.scored_shape[0], size)


def predict_scores(forward: Forward, image_czyx: Tensor, patch_size: tuple[int, ...], **rest: Any) -> Tensor:
    """All scores at once, (outputs, z, y, x) float32; for small images. Arguments as of ``predict_slabs``."""
    return torch.cat(list(predict_slabs(forward, image_czyx, patch_size, **rest)), 1)


def band_voxels(shape_zyx: Triple, patch_size: tuple[int, ...]) -> int:
    """Voxels of the rows in work for an image of this size."""
    rows = PLANAR_ROWS if len(patch_size) == 2 else patch_size[0]
    height, width = (max(size, side) for size, side in zip(shape_zyx[1:], patch_size[-2:], strict=True))
    return min(rows, max(shape_zyx[0], rows if len(patch_size) == 3 else 1)) * height * width


def _seen(canvas: Canvas, tile: Tile, planar: bool, foreground: int) -> Tensor:
    patch = canvas.patch(tile, foreground)
    return patch[:, 0] if planar else patch


def _band(canvas: Canvas, outputs: int, device: torch.device, limit_bytes: int | None, scratch: Path | None) -> Band:
    rows = min(max(canvas.scored[0], PLANAR_ROWS if canvas.window[0] == 1 else 1), canvas.scored_shape[0])
    gpu_bytes = int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None
    return make_band((outputs, rows, *canvas.scored_shape[1:]), device, limit_bytes, gpu_bytes, scratch)


def _slab(canvas: Canvas, band: Band, stop: int, size: Sequence[int]) -> Iterator[Tensor]:
    """The rows in front of ``stop``, without what lies beyond the image."""
    low = canvas.before
    high = [before + side for before, side in zip(low, size, strict=True)]
    first = band.first
    taken = band.take(stop, slice(low[1], high[1]), slice(low[2], high[2]))
    start, end = max(low[0] - first, 0), min(high[0], stop) - first
    if start < end:
        yield taken[:, start:end]
