"""Carries out the steps of a Postprocessing on a label map."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from autounet.geometry import Grid
from autounet.labels import IntArray
from autounet.postprocessing import FillHoles, KeepLargest, RemoveSmall, Step

MARGIN = 1 + 1e-6
"""A component of exactly the smallest size is kept, whatever its voxels' sizes were rounded to."""


def apply_postprocessing(labels_zyx: IntArray, steps: Sequence[Step], grid: Grid) -> IntArray:
    """The label map after all steps; the one that comes in is not changed.

    Args:
        labels_zyx: Label values (not indices) of any integer type, two or three axes.
        steps: In their order.
        grid: Of the label map.

    Source: nnunetv2 2.8.1, ``postprocessing/remove_connected_components.py``, with scikit-image's full connectivity.
    """
    if not steps:
        return labels_zyx
    result = labels_zyx.copy()
    for step in steps:
        # Within the structure's bounding box: component numbers take several times the label map's memory.
        mask = np.isin(result, step.values)
        box = ndimage.find_objects(mask.view(np.uint8))
        if not box or box[0] is None:
            continue
        inside, mask = result[box[0]], mask[box[0]]
        match step:
            case KeepLargest():
                _keep_largest(inside, mask)
            case RemoveSmall():
                _remove_small(inside, mask, step.below_mm / grid.voxel_size())
            case FillHoles():
                inside[(inside == 0) & _enclosed(mask, grid.ndim)] = step.values[0]
    return result


def components(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Numbers of the connected components (0 outside), and their sizes in voxels (0 for number 0). Corners connect."""
    numbers, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, bool))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    return numbers, sizes


def _keep_largest(inside: IntArray, mask: npt.NDArray[np.bool_]) -> None:
    numbers, sizes = components(mask)
    if len(sizes) > 2:
        inside[mask & (sizes < sizes.max())[numbers]] = 0


def _remove_small(inside: IntArray, mask: npt.NDArray[np.bool_], below_voxels: float) -> None:
    numbers, sizes = components(mask)
    inside[mask & (sizes * MARGIN < below_voxels)[numbers]] = 0


def _enclosed(mask: npt.NDArray[np.bool_], ndim: int) -> npt.NDArray[np.bool_]:
    """What is not in the mask and cannot be left through faces; beyond the bounding box is outside."""
    if ndim == 2 and mask.ndim == 3:
        return np.asarray(ndimage.binary_fill_holes(mask[0]) & ~mask[0])[None]
    return np.asarray(ndimage.binary_fill_holes(mask) & ~mask)
