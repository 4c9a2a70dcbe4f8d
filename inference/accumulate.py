"""The sums over overlapping tiles: only the rows that further tiles still reach, in memory or in a file."""

import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autounet.inference.scratch import scratch_array

log = logging.getLogger(__name__)

HALF_LIMIT = 65000.0
"""Scores beyond it are cut to it where sums are float16, whose largest number, 65504, leaves room for rounding."""


class Band:
    """Rows ``first`` to ``first + rows`` of the first axis of the mean scores; the rows move on as the first ones are taken.

    Row r lies at r modulo the number of rows, so that moving on moves nothing.

    Args:
        shape_cryx: Outputs, rows, y, x.
        dtype: float32 or float16; tiles' shares are convex, so that sums cannot overflow.
        device: Where it lies.
        scratch: Folder of a temporary file that holds it instead of memory, or None.

    Raises:
        ArtefactError: The disk has no room for that file.
    """

    def __init__(
        self, shape_cryx: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, scratch: Path | None = None
    ) -> None:
        self._rows, self.first = shape_cryx[1], 0
        if scratch is None:
            self._values = torch.zeros(shape_cryx, dtype=dtype, device=device)
        else:
            file, values = scratch_array(scratch, shape_cryx, np.float16 if dtype == torch.float16 else np.float32)
            file.close()
            self._values = torch.from_numpy(values)

    @property
    def device(self) -> torch.device:
        """Where the sums are."""
        return self._values.device

    @property
    def outputs(self) -> int:
        """Scores of a voxel."""
        return self._values.shape[0]

    @property
    def rows(self) -> int:
        """How many rows fit."""
        return self._rows

    @torch.no_grad()
    def to_host(self) -> None:
        """Moves the sums to the CPU's memory."""
        self._values = self._values.cpu()

    @torch.no_grad()
    def add(self, corner: tuple[int, int, int], scores_czyx: Tensor, shares: tuple[Tensor, Tensor, Tensor]) -> None:
        """Adds a tile's scores, each voxel by the product of its three shares; no row may be beyond the band."""
        along_z, along_y, along_x = (share.to(self.device) for share in shares)
        scores, plane = scores_czyx.to(self.device), along_y[:, None] * along_x
        depth, height, width = scores.shape[1:]
        z, y, x = corner
        for band, tile in self._pieces(z, z + depth):
            target = self._values[:, band, y : y + height, x : x + width]
            weights = along_z[tile, None, None] * plane
            if target.dtype == torch.float32:
                target.addcmul_(scores[:, tile], weights)
                continue
            for sums, values in zip(target, scores[:, tile], strict=True):
                sums += values.clamp(-HALF_LIMIT, HALF_LIMIT) * weights

    @torch.no_grad()
    def take(self, stop: int, y: slice, x: slice) -> Tensor:
        """The scores of the rows from ``first`` to ``stop``, which no tile reaches any more: float32 (outputs, rows, y, x), a copy.

        The band moves on: it begins with ``stop``, and its last rows are empty.
        """
        pieces = [band for band, _ in self._pieces(self.first, stop)]
        taken = torch.cat([self._values[:, band, y, x].float() for band in pieces], 1)
        for band in pieces:
            self._values[:, band] = 0
        self.first = stop
        return taken

    def _pieces(self, start: int, stop: int) -> list[tuple[slice, slice]]:
        """Rows start..stop as one or two parts: where they lie in the band, and in the tile."""
        low = start % self._rows
        until_end = min(stop - start, self._rows - low)
        pieces = [(slice(low, low + until_end), slice(0, until_end))]
        if until_end < stop - start:
            pieces.append((slice(0, stop - start - until_end), slice(until_end, stop - start)))
        return pieces


def make_band(
    shape_cryx: tuple[int, int, int, int], device: torch.device, limit_bytes: int | None, gpu_bytes: int | None, scratch: Path | None
) -> Band:
    """The band where it fits: on the GPU, else in the host's memory as float32, else as float16, else in a file.

    Args:
        shape_cryx: Outputs, rows, y, x.
        device: Of the network.
        limit_bytes: The host's memory it may take; None for no limit.
        gpu_bytes: The GPU's memory it may take; None for no limit.
        scratch: Folder for the file; None for the system's.
    """
    needed, host = 4 * math.prod(shape_cryx), torch.device("cpu")
    if device.type != "cpu":
        if gpu_bytes is None or needed <= gpu_bytes:
            return Band(shape_cryx, torch.float32, device)
        log.info("scores are summed in the host's memory: %.1f GB would crowd the GPU", needed / 1e9)
    if limit_bytes is None or needed <= limit_bytes:
        return Band(shape_cryx, torch.float32, host)
    if needed // 2 <= limit_bytes:
        log.info(
            "scores are summed in float16: %.1f GB in float32 are more than the limit leaves (%.1f GB)", needed / 1e9, limit_bytes / 1e9
        )
        return Band(shape_cryx, torch.float16, host)
    folder = scratch if scratch is not None else Path(tempfile.gettempdir())
    log.warning("scores are summed in a file in %s: they take %.1f GB, the limit leaves %.1f GB", folder, needed / 2e9, limit_bytes / 1e9)
    return Band(shape_cryx, torch.float16, host, folder)
