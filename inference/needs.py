"""How much memory and work a case will take, estimated from its image's header before it is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.errors import AutounetError, ImageError
from autounet.geometry import Grid
from autounet.images import read_size
from autounet.inference.model import Model
from autounet.inference.segment import patches_per_pass
from autounet.inference.tiles import count_tiles, overlap_tiles
from autounet.inference.window import band_voxels
from autounet.memory import available_bytes, resident_bytes
from autounet.plan import Configuration
from autounet.preprocessing.case import prepared_shape

MEMORY_SHARE = 0.7
"""Of the memory that is available, what predicting may take unless it is said otherwise."""

LEAST_BYTES = 256 * 2**20
"""Cases have at least so much, however tight the limit; less is no use."""

RESTORING = 600 * 2**20
"""What restoring label maps takes at most besides the label map, with the slabs of scores on their way; small cases take less."""

ALIVE = 4
"""Feature maps of full resolution that a forward pass has at once, about: in, out, the skip, and the library's own."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes, about."""

    reading: int
    """While a case is read and prepared."""
    predicting: int
    """While it is predicted and restored, without the sums over tiles and the network."""
    sums: int
    """The sums over tiles in float32."""

    @property
    def most(self) -> int:
        """From the first byte to the written label map."""
        return max(self.reading, self.predicting + self.sums)


@dataclass(frozen=True, slots=True)
class CaseSize:
    """What a case will take, as its header tells."""

    needs: Needs
    work: float
    """Tiles of all networks, and one for the rest."""


def size_of(model: Model, images: Sequence[Path]) -> CaseSize:
    """What a case will take; next to nothing where its header cannot be read: reading it will say what is wrong."""
    try:
        channels, grid = read_size(images[0])
        needs = needs_of(model, max(channels, len(images)), grid)
        return CaseSize(needs, 1 + sum(_tiles(stage.configuration, model, grid) for member in model.members for stage in member.stages))
    except AutounetError:
        return CaseSize(Needs(0, 0, 0), 1)


def needs_of(model: Model, channels: int, grid: Grid) -> Needs:
    """What an image of this many channels and this grid takes with this model."""
    voxels = math.prod(grid.shape_zyx)
    a, b, c = (grid.shape_zyx[axis] for axis in model.plan.transpose)
    reading = predicting = sums = 0
    stages = [stage for member in model.members for stage in member.stages]
    for stage in stages:
        configuration = stage.configuration
        try:
            shape = prepared_shape((a, b, c), grid, model.plan, configuration, "")
        except ImageError:
            return Needs(8 * channels * voxels, 0, 0)  # it will be read, and refused
        # As read, float32, and what was kept of it, normalised; beside it the resampled one and the spline's steps on the way.
        prepared = 4 * channels * math.prod(shape)
        reading = max(reading, 8 * channels * voxels + 2 * max(4 * channels * voxels, prepared))
        # The label map on the crop, on the whole grid and in the file's order.
        restoring = min(RESTORING, 12 * (configuration.network.outputs * math.prod(shape) + voxels))
        predicting = max(predicting, prepared + 3 * voxels + restoring)
        sums = max(sums, 4 * configuration.network.outputs * band_voxels(shape, configuration.patch_size))
    if len(stages) > 1:  # the image as it was read is kept until the last is prepared
        predicting += 4 * channels * voxels
    return Needs(reading, predicting, sums)


def network_bytes(model: Model) -> int:
    """What the networks take while they compute, weights not counted, where that is the host's memory."""
    if model.device.type == "cuda":
        return 0
    return max(
        ALIVE
        * 4
        * stage.configuration.network.features[0]
        * math.prod(stage.configuration.patch_size)
        * patches_per_pass(stage.configuration, model.device)
        for member in model.members
        for stage in member.stages
    )


def memory_budget(model: Model, memory_gb: float | None) -> int:
    """Bytes for the cases under way, beside the network's own work."""
    budget = MEMORY_SHARE * available_bytes() if memory_gb is None else memory_gb * 1e9 - (resident_bytes() or 0)
    return max(int(budget) - network_bytes(model), LEAST_BYTES)


def _tiles(configuration: Configuration, model: Model, grid: Grid) -> int:
    """Tiles of an image of this grid at most. Raises ImageError where the grid cannot be right."""
    a, b, c = (grid.shape_zyx[axis] for axis in model.plan.transpose)
    shape = prepared_shape((a, b, c), grid, model.plan, configuration, "")
    return count_tiles(shape, configuration.patch_size, overlap_tiles(configuration))
