"""How near a voxel is to two objects: the weight that keeps neighbours apart (Ronneberger et al. 2015, equation 2).

w(x) = w0 · exp(-(d1 + d2)² / (2 σ²)) with the distances d1 and d2, in voxels of the network's grid, to the nearest and the second
nearest object. Distances are between voxels' centres, so 1 is a voxel that touches the object.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import UsageError
from autounet.labels import LabelSpec
from autounet.plan import LossSpec

REACH_SIGMAS = 4.0
"""An object is looked for so far away: beyond it, the weight is below w0 · exp(-8), 0.03 % of its largest value."""


def needs_border(loss: LossSpec) -> bool:
    """Whether the loss has a term for which neighbouring objects must be known."""
    return loss.kind == "border_ce" and bool(loss.objects) and loss.border_weight > 0


def check_loss(loss: LossSpec, labels: LabelSpec) -> None:
    """Raises UsageError where the loss does not fit the labels, which is better known before cases are prepared."""
    remedy = "choose a preset whose loss is dice_ce"
    if loss.kind != "border_ce":
        return
    if labels.overlapping:
        raise UsageError("loss border_ce: the labels are overlapping regions", expected="labels of which a voxel has one", remedy=remedy)
    if loss.class_weights and len(loss.class_weights) != labels.outputs:
        raise UsageError("loss border_ce: class_weights", found=len(loss.class_weights), expected=f"{labels.outputs}, background first")
    unknown = [index for index in loss.objects if not 0 <= index <= len(labels.classes)]
    if unknown:
        raise UsageError("loss border_ce: objects", found=unknown, expected=f"label indices from 0 to {len(labels.classes)}")


def border_weights(labels_zyx: npt.NDArray[Any], loss: LossSpec) -> npt.NDArray[np.float16]:
    """The border term of every voxel, slice by slice of the first axis; 0 inside objects.

    An object is a connected component of one label: voxels that touch by a corner only are not connected, since the border between
    two cells may be a diagonal one voxel wide. Two labels that touch are two objects.

    Args:
        labels_zyx: Label indices; others than ``loss.objects`` lie between objects.
        loss: Objects, w0 and σ.

    Returns:
        (z, y, x), half precision: 0.1 % of the weight.
    """
    sigma = loss.border_sigma_px
    found = np.zeros(labels_zyx.shape, np.float16)
    for target, labels_yx in zip(found, labels_zyx, strict=True):
        nearest, second = two_distances(labels_yx, loss.objects, REACH_SIGMAS * sigma)
        both = nearest + second
        target[...] = np.where(nearest > 0, loss.border_weight * np.exp(-(both**2) / (2 * sigma**2)), 0)
    return found


def two_distances(
    labels_yx: npt.NDArray[Any], objects: tuple[int, ...], reach_px: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Distances of every pixel to the nearest and to the second nearest object, infinite where there is none within reach.

    Each object's distances are computed inside its bounding box grown by ``reach_px`` on every side.
    """
    from scipy import ndimage  # takes a while to import, and most losses have no such term

    nearest = np.full(labels_yx.shape, np.inf, np.float32)
    second = nearest.copy()
    margin = int(np.ceil(reach_px))
    for label in objects:
        components, _ = ndimage.label(labels_yx == label)
        for number, (rows, columns) in enumerate(ndimage.find_objects(components), start=1):
            window = (_grown(rows, margin), _grown(columns, margin))
            away = ndimage.distance_transform_edt(components[window] != number).astype(np.float32)
            first = nearest[window]
            second[window] = np.minimum(second[window], np.maximum(first, away))
            nearest[window] = np.minimum(first, away)
    return nearest, second


def _grown(part: slice, margin: int) -> slice:
    return slice(max(part.start - margin, 0), part.stop + margin)
