"""One raw case → the network's grid: transpose, crop, normalise, resample, in that order (nnU-Net's)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Box, Grid, Trace, Triple, TripleMm, nonzero_box
from autounet.plan import Configuration, Plan
from autounet.preprocessing.normalize import normalize
from autounet.preprocessing.spacing import new_shape, separate_axis

OUTSIDE = -1
"""Label of voxels outside the nonzero mask (only where a channel is normalised inside it) and outside the image."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A case on the network's grid."""

    image_czyx: npt.NDArray[np.float32]
    """Normalised; axes in transposed order."""
    labels_zyx: npt.NDArray[Any] | None
    """Label indices, int8 or int16 (LabelSpec.encode), OUTSIDE for voxels that no class can have; None when predicting."""
    trace: Trace
    previous_zyx: npt.NDArray[Any] | None = None
    """Label indices that a cascade's first stage has predicted, as ``labels_zyx``; None where there is none."""


def prepare_case(
    image_czyx: npt.NDArray[np.float32],
    grid: Grid,
    plan: Plan,
    configuration: Configuration,
    labels_zyx: npt.NDArray[Any] | None,
    name: str,
    previous_zyx: npt.NDArray[Any] | None = None,
    reuse_image: bool = False,
    before_resampling: Callable[[], None] = lambda: None,
) -> PreparedCase:
    """Brings a case to the network's grid.

    Beside the caller's image, memory is that of the cropped image and of the prepared one, and for a moment of what lies between
    them, resampled along some of the axes (float32 each).

    Args:
        image_czyx: As read, float32.
        grid: Its grid.
        plan: For the axis order.
        configuration: For spacing and normalisation.
        labels_zyx: Label indices on the same grid, or None.
        name: The case, for messages.
        previous_zyx: Label indices on the same grid that a cascade's first stage has predicted, or None. They are OUTSIDE outside the
            nonzero mask even if no channel is normalised inside it, as nnU-Net has it.
        reuse_image: ``image_czyx`` is no longer needed: it is normalised in place where it can be, which saves a copy.
        before_resampling: Called only if something is resampled, which torch does.

    Raises:
        ImageError: The spacing cannot be right (see ``prepared_shape``) or the channels do not fit the plan.
    """
    if len(image_czyx) != len(plan.channels):
        raise ImageError(
            f"{name}: wrong number of channels", found=len(image_czyx), expected=f"{len(plan.channels)} ({', '.join(plan.channels)})"
        )
    order = (0, *(axis + 1 for axis in plan.transpose))
    box = nonzero_box(image_czyx.transpose(order))
    image = image_czyx.transpose(order)[(slice(None), *box.slices())]
    if not (reuse_image and image_czyx.flags.carray and plan.transpose == (0, 1, 2)):
        image = image.copy(order="C")
    masked = any(scheme.use_mask for scheme in configuration.normalization)
    mask = nonzero_mask(image) if masked or previous_zyx is not None else None
    trace = _trace(grid, plan, configuration, box, name)
    spacing, target = trace.transposed_spacing_mm, target_spacing(trace, configuration)
    image = normalize(image, configuration.normalization, mask)
    labels = None if labels_zyx is None else _cropped(labels_zyx, plan, box, mask if masked else None)
    previous = None if previous_zyx is None else _cropped(previous_zyx, plan, box, mask)
    if trace.prepared_shape != box.shape:
        before_resampling()
        axis = separate_axis(spacing, target)
        labels, previous = (_resampled_labels(each, trace.prepared_shape, axis) for each in (labels, previous))
        image = _resampled_image(image, trace.prepared_shape, axis)
    return PreparedCase(np.ascontiguousarray(image), labels, trace, previous)


def _cropped(indices_zyx: npt.NDArray[Any], plan: Plan, box: Box, mask_zyx: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """A copy of label indices in the box, in transposed axes, with OUTSIDE for the background outside a mask."""
    dtype = np.int8 if len(plan.labels.allowed_values) < 127 else np.int16
    kept: npt.NDArray[Any] = np.array(indices_zyx.transpose(plan.transpose)[box.slices()], dtype=dtype, order="C")
    if mask_zyx is not None:
        kept[~mask_zyx & (kept == 0)] = OUTSIDE
    return kept


def _resampled_image(image_czyx: npt.NDArray[np.float32], shape: Triple, separate: int | None) -> npt.NDArray[np.float32]:
    # torch takes seconds to import, and many datasets lie on their grid as they are.
    import torch

    from autounet.preprocessing.resample import resample_image

    resampled: npt.NDArray[np.float32] = resample_image(torch.from_numpy(image_czyx), shape, separate).numpy()
    return resampled


def _resampled_labels(labels_zyx: npt.NDArray[Any] | None, shape: Triple, separate: int | None) -> npt.NDArray[Any] | None:
    if labels_zyx is None:
        return None
    import torch

    from autounet.preprocessing.resample import resample_labels

    resampled: npt.NDArray[Any] = resample_labels(torch.from_numpy(labels_zyx), shape, separate).numpy()
    return resampled


def target_spacing(trace: Trace, configuration: Configuration) -> TripleMm:
    """The spacing a case is resampled to: the plan's, where a 2D configuration leaves the slice distance alone."""
    if configuration.ndim == 2:
        return trace.transposed_spacing_mm[0], configuration.spacing_mm[0], configuration.spacing_mm[1]
    a, b, c = configuration.spacing_mm
    return a, b, c


def nonzero_mask(image_czyx: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where any channel is not zero, with holes filled."""
    mask = image_czyx[0] != 0
    for channel in image_czyx[1:]:
        mask |= channel != 0
    from scipy import ndimage  # takes a while to import, and most datasets need no mask

    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return filled


MAX_PREPARED_VOXELS = 2**31
"""Refuse to resample to more than this: a spacing in the wrong unit, rather than a real image."""

FARTHEST = 100.0
"""Refuse spacings so many times finer or coarser than the plan's, for the same reason."""


def prepared_shape(box_shape: Triple, grid: Grid, plan: Plan, configuration: Configuration, name: str) -> Triple:
    """Size on the network's grid, in transposed axes.

    Args:
        box_shape: Size of the part of the image that is kept, in transposed axes.
        grid: The image's.
        plan: For the axis order.
        configuration: For the spacing.
        name: The case, for messages.

    Raises:
        ImageError: The spacing is far from the plan's, or the grid would be absurdly large.
    """
    unsized = Trace(grid=grid, transpose=plan.transpose, box=Box(start=(0, 0, 0), stop=box_shape), prepared_shape=box_shape)
    spacing, target = unsized.transposed_spacing_mm, target_spacing(unsized, configuration)
    far = any(not 1 / FARTHEST <= own / wanted <= FARTHEST for own, wanted in zip(spacing, target, strict=True))
    shape: Triple = box_shape if far else new_shape(box_shape, spacing, target)
    if not far and shape[0] * shape[1] * shape[2] <= MAX_PREPARED_VOXELS:
        return shape
    z, y, x = (f"{target[plan.transpose.index(axis)]:.4g}" for axis in range(3))
    raise ImageError(
        f"{name}: "
        + ("the voxel spacing is far from the training data's" if far else f"would become {shape[0]}×{shape[1]}×{shape[2]} voxels"),
        found=f"{', '.join(f'{value:.4g}' for value in grid.spacing_mm_zyx)} mm (z, y, x)",
        expected=f"about {z}, {y}, {x} mm",
        remedy="correct the spacing of the image; its unit may be wrong",
    )


def _trace(grid: Grid, plan: Plan, configuration: Configuration, box: Box, name: str) -> Trace:
    shape = prepared_shape(box.shape, grid, plan, configuration, name)
    return Trace(grid=grid, transpose=plan.transpose, box=box, prepared_shape=shape)
