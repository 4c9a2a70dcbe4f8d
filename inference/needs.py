"""How much memory a case will take, estimated from its image's size before it is read."""

import math
from dataclasses import dataclass

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.inference.model import Model
from autounet.inference.segment import patches_per_pass
from autounet.inference.window import band_voxels
from autounet.memory import available_bytes, resident_bytes
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
