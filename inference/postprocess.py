"""Carries out the steps of a Postprocessing on a label map."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from autounet.labels import IntArray
from autounet.postprocessing import KeepLargest


def apply_postprocessing(labels_zyx: IntArray, steps: Sequence[KeepLargest]) -> IntArray:
    """The label map after all steps; the one that comes in is not changed.

    Args:
        labels_zyx: Label values (not indices) of any integer type, two or three axes.
        steps: In their order.

    Source: nnunetv2 2.8.1, ``postprocessing/remove_connected_components.py``, with scikit-image's full connectivity.
    """
    if not steps:
        return labels_zyx
    result = labels_zyx.copy()
    for step in steps:
        _keep_largest(result, step.values)
    return result


def _keep_largest(labels_zyx: IntArray, values: Sequence[int]) -> None:
    """In place. Works within the structure's bounding box: component numbers take several times the label map's memory."""
    mask = np.isin(labels_zyx, values)
    boxes = ndimage.find_objects(mask.view(np.uint8))
    if not boxes or boxes[0] is None:
        return
    inside, mask = labels_zyx[boxes[0]], mask[boxes[0]]
    components, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, bool))
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        inside[mask & (sizes < sizes.max())[components]] = 0
