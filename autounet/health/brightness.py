"""How bright one image is, and its structures in it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autounet.health.surroundings import evenly_drawn
from autounet.labels import IntArray, LabelSpec
from autounet.planners.laterality.extents import Extents

MARGIN = 0.25
"""The surroundings of the structures: so much of their box's size is added on each side."""

FEWEST_VOXELS = 10
"""Of a smaller class the brightness says nothing."""


@dataclass(frozen=True, slots=True)
class Brightness:
    """One channel of one case."""

    minimum: float
    low: float
    """1 % of the nonzero voxels are darker."""
    middle: float
    high: float
    """1 % are brighter."""
    maximum: float
    contrasts: tuple[float, ...]
    """By class: how much brighter than the background around all structures, in standard deviations of that neighbourhood; NaN for a
    class that is not there."""


def measure_brightness(
    image_czyx: npt.NDArray[np.float32], indices_zyx: IntArray, spec: LabelSpec, extents: Extents
) -> tuple[Brightness, ...]:
    """Measures every channel; of large images in about a million voxels, evenly spread.

    Args:
        image_czyx: Image (c, z, y, x), finite.
        indices_zyx: Label indices (z, y, x), as ``spec.encode`` gives them.
        spec: What they mean.
        extents: Where the classes lie.
    """
    there = [extents.box(position) for position in extents.volumes.nonzero()[0].tolist()]
    around: tuple[slice, ...] = ()
    if there:
        for axis, size in enumerate(indices_zyx.shape):
            first, last = min(box[axis][0] for box in there), max(box[axis][1] for box in there)
            more = max(2, round(MARGIN * (last - first)))
            around += (slice(max(0, first - more), min(size, last + more)),)
    indices = evenly_drawn(indices_zyx[around]) if there else None
    found = []
    for channel in image_czyx:
        drawn = evenly_drawn(channel)
        low, middle, high = np.percentile(drawn[drawn != 0] if drawn.any() else drawn, (1, 50, 99)).tolist()
        contrasts = (np.nan,) * len(spec.classes) if indices is None else _contrasts(evenly_drawn(channel[around]), indices, spec, extents)
        found.append(Brightness(float(channel.min()), low, middle, high, float(channel.max()), contrasts))
    return tuple(found)


def _contrasts(values: npt.NDArray[np.float32], indices: IntArray, spec: LabelSpec, extents: Extents) -> tuple[float, ...]:
    length = len(spec.allowed_values)
    counts = np.bincount(indices, minlength=length)
    sums = np.bincount(indices, values, minlength=length)
    spread = float(values.std(dtype=np.float64))
    if not spread or counts[0] < FEWEST_VOXELS:
        return (np.nan,) * len(spec.classes)
    background = sums[0] / counts[0]
    found = []
    for entry, volume in zip(spec.classes, extents.volumes, strict=True):
        own = list(spec.class_indices(entry))
        voxels = counts[own].sum() if volume else 0
        found.append(float((sums[own].sum() / voxels - background) / spread) if voxels >= FEWEST_VOXELS else np.nan)
    return tuple(found)
