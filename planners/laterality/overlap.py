"""How well one class of a label map covers another once it is mirrored, or only moved, onto it."""

import math
from collections.abc import Sequence

import numpy as np

from autounet.labels import IntArray, LabelSpec
from autounet.planners.laterality.extents import Extents

MOST_POINTS = 2**17
"""Larger boxes are looked at in every second, third, … voxel along each axis; …"""

FEWEST_PLANES = 8
"""… but in so many planes at least."""


def likeness(labels_zyx: IntArray, spec: LabelSpec, extents: Extents, pair: tuple[int, int], mirrored_axis: int | None) -> float:
    """Dice (0 to 1) of a class and another that was brought onto it: mirrored, then moved, centre onto centre, by whole voxels.

    Args:
        labels_zyx: Label values (z, y, x).
        spec: What they mean.
        extents: Where the classes lie.
        pair: Positions of the two classes in the dataset's order; both are there.
        mirrored_axis: Array axis that is reversed; None to move only.
    """
    first, second = pair
    boxes, others = extents.box(first), extents.box(second)
    here, there = [], []
    for axis in range(3):
        (low, high), (other_low, other_high) = boxes[axis], others[axis]
        a, b = float(extents.centres_zyx[first, axis]), float(extents.centres_zyx[second, axis])
        if axis == mirrored_axis:
            total = round(a + b)  # position p of the first meets position total - p of the second
            low, high = max(low, total - other_high + 1), min(high, total - other_low + 1)
            there.append(slice(total - high + 1, total - low + 1))
        else:
            shift = round(b - a)
            low, high = max(low, other_low - shift), min(high, other_high - shift)
            there.append(slice(low + shift, high + shift))
        if high <= low:
            return 0.0
        here.append(slice(low, high))
    part, counterpart = labels_zyx[tuple(here)], labels_zyx[tuple(there)]
    if mirrored_axis is not None:
        counterpart = np.flip(counterpart, mirrored_axis)
    steps = _steps(part.shape)
    every = tuple(slice(step // 2, None, step) for step in steps)
    both = np.count_nonzero(spec.mask(part[every], spec.classes[first]) & spec.mask(counterpart[every], spec.classes[second]))
    volumes = int(extents.volumes[first] + extents.volumes[second])
    return min(1.0, 2 * int(both) * math.prod(steps) / volumes)


def _steps(shape: Sequence[int]) -> tuple[int, ...]:
    step = max(1, math.ceil((math.prod(shape) / MOST_POINTS) ** (1 / 3)))
    return tuple(min(step, max(1, size // FEWEST_PLANES)) for size in shape)
