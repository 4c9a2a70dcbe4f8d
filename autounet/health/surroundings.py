"""The air or padding around the body in one image, and labels that lie in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.geometry import Triple
from autounet.labels import IntArray

AIR = 0.05
"""Dark is what lies in this part of the way from the darkest to the brightest voxel (1 and 99.5 % of the voxels): air in CT, and
the noise of air in MRI, but neither lung nor fluid."""

LEAST_AIR = 0.05
"""Where less of the image is dark and open to the border, it shows no surroundings."""

DEPTH_VOXELS = 2
"""Labels reach a little beyond what they mark; so deep in the air they do not."""

FEWEST_VOXELS = 4
"""Fewer are not worth a second look."""

MOST_DRAWN = 1_000_000
"""Percentiles are those of so many voxels, evenly spread."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Labelled voxels in the air."""

    voxels: int
    share: float
    """Of all labelled voxels."""
    place_zyx: Triple
    values: tuple[int, ...]
    """Their label values."""


def labels_in_air(image_czyx: npt.NDArray[np.float32], labels_zyx: IntArray, ndim: int) -> Outside | None:
    """Labelled voxels that lie in air or padding: dark in every channel, joined to the border, and deep in it. None without any.

    Args:
        image_czyx: Image (c, z, y, x), finite.
        labels_zyx: Label values (z, y, x).
        ndim: 2 for planar images.
    """
    from scipy import ndimage

    dark = np.ones(labels_zyx.shape, np.bool_)
    for channel in image_czyx:
        low, high = np.percentile(evenly_drawn(channel), (1, 99.5))
        dark &= channel <= low + AIR * (high - low)
    labelled = labels_zyx > 0
    if np.count_nonzero(dark & labelled) < FEWEST_VOXELS:
        return None  # the usual case, and what follows takes a while
    air = _open_to_border(dark, ndim)
    if np.count_nonzero(air) < LEAST_AIR * air.size:
        return None
    ball = ndimage.generate_binary_structure(3, 1)
    if ndim == 2:
        ball[[0, 2]] = False
    deep = ndimage.binary_erosion(air, ball, iterations=DEPTH_VOXELS, border_value=1) & labelled
    voxels = int(np.count_nonzero(deep))
    if voxels < FEWEST_VOXELS:
        return None
    place = np.argwhere(deep)[voxels // 2]
    values = tuple(int(value) for value in np.unique(labels_zyx[deep]))
    return Outside(voxels, voxels / int(np.count_nonzero(labelled)), (int(place[0]), int(place[1]), int(place[2])), values)


def evenly_drawn(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """At most about a million of the numbers, evenly spread, flat."""
    flat = values.ravel()
    return flat[:: max(1, -(-flat.size // MOST_DRAWN))]


def _open_to_border(dark: npt.NDArray[np.bool_], ndim: int) -> npt.NDArray[np.bool_]:
    """The dark voxels from which a dark way leads to an edge of the slices (planes at the ends of a stack are no border of the body)."""
    from scipy import ndimage

    components, count = ndimage.label(dark)
    at_border = np.zeros(count + 1, np.bool_)
    for face in (components[:, 0], components[:, -1], components[:, :, 0], components[:, :, -1]):
        at_border[np.unique(face)] = True
    at_border[0] = False
    return np.asarray(at_border[components])
