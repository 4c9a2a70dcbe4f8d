"""Connected components of planar label maps: cells, or whatever there are many of in one class."""

import numpy as np
import numpy.typing as npt

from autounet.labels import IntArray, LabelSpec
from autounet.planners.laterality.extents import Extents

SMALLEST_PIXELS = 16
"""Smaller components are specks that an annotation left behind."""


def count_components(labels_zyx: IntArray, spec: LabelSpec, extents: Extents) -> dict[str, int]:
    """Components (pixels that share an edge) of each class and of the background in a planar label map (1, y, x), without specks."""
    found = {spec.background_name: _count(labels_zyx[0] == 0)}
    for position, entry in enumerate(spec.classes):
        found[entry.name] = 0
        if extents.volumes[position] >= SMALLEST_PIXELS:
            _, rows, columns = extents.box(position)
            found[entry.name] = _count(spec.mask(labels_zyx[0, slice(*rows), slice(*columns)], entry))
    return found


def _count(mask_yx: npt.NDArray[np.bool_]) -> int:
    from scipy import ndimage  # takes a while to import, and a fingerprint that is there needs none

    components, _ = ndimage.label(mask_yx)
    return int(np.count_nonzero(np.bincount(components.ravel())[1:] >= SMALLEST_PIXELS))
