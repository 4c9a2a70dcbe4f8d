"""One raw case → the network's grid: transpose, crop, normalise, resample, in that order (nnU-Net's)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from autounet.errors import ImageError
from autounet.geometry import Box, Grid, Trace, Triple, TripleMm, nonzero_box
from autounet.plan import Configuration, Plan
from autounet.preprocessing.normalize import normalize
from autounet.preprocessing.resample import new_shape, resample_image, resample_labels, separate_axis

OUTSIDE = -1
"""Label of voxels outside the nonzero mask (only where a channel is normalised inside it) and outside the image."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A case on the network's grid."""

    image_czyx: npt.NDArray[np.float32]
    """Normalised; axes in transposed order."""
    labels_zyx: npt.NDArray[np.signedinteger[Any]] | None
    """Label indices (LabelSpec.encode), OUTSIDE for voxels that no class can have; None when predicting."""
    trace: Trace


def prepare_case(
    image_czyx: npt.NDArray[Any],
    grid: Grid,
    plan: Plan,
    configuration: Configuration,
    labels_zyx: npt.NDArray[Any] | None,
    name: str,
    mark_outside: bool = False,
) -> PreparedCase:
    """Brings a case to the network's grid.

    Beside the caller's image, memory is that of the cropped image and of the prepared one, and for a moment of what lies between
    them, resampled along some of the axes (float32 each).

    Args:
        image_czyx: As read; float32, or an integer type, which saves the caller memory.
        grid: Its grid.
        plan: For the axis order.
        configuration: For spacing and normalisation.
        labels_zyx: Label indices on the same grid, or None.
        name: The case, for messages.
        mark_outside: Labels are OUTSIDE outside the nonzero mask even if no channel is normalised inside it, as nnU-Net has it for
            the label map of a cascade's first stage.

    Raises:
        ImageError: The target grid would be absurdly large or the channels do not fit the plan.
    """
    if len(image_czyx) != len(plan.channels):
        raise ImageError(
            f"{name}: wrong number of channels", found=len(image_czyx), expected=f"{len(plan.channels)} ({', '.join(plan.channels)})"
        )
    order = (0, *(axis + 1 for axis in plan.transpose))
    box = nonzero_box(image_czyx.transpose(order))
    # The one copy, which normalisation writes to; the caller's image is not changed.
    cropped = np.array(image_czyx.transpose(order)[(slice(None), *box.slices())], dtype=np.float32, order="C")
    mask = nonzero_mask(cropped) if mark_outside or any(scheme.use_mask for scheme in configuration.normalization) else None
    trace = _trace(grid, plan, configuration, box, name)
    spacing, target = trace.transposed_spacing_mm, target_spacing(trace, configuration)
    separate = separate_axis(spacing, target)
    image = torch.from_numpy(normalize(cropped, configuration.normalization, mask))
    del cropped
    image = resample_image(image, trace.prepared_shape, separate)
    labels = None
    if labels_zyx is not None:
        dtype = np.int8 if len(plan.labels.allowed_values) < 127 else np.int16
        kept = np.array(labels_zyx.transpose(plan.transpose)[box.slices()], dtype=dtype, order="C")  # a copy: it is written to below
        if mask is not None:
            kept[~mask & (kept == 0)] = OUTSIDE
        labels = resample_labels(torch.from_numpy(kept), trace.prepared_shape, separate).numpy()
    return PreparedCase(np.ascontiguousarray(image.numpy()), labels, trace)


def target_spacing(trace: Trace, configuration: Configuration) -> TripleMm:
    """The spacing a case is resampled to: the plan's, where a 2D configuration leaves the slice distance alone."""
    if configuration.ndim == 2:
        return trace.transposed_spacing_mm[0], configuration.spacing_mm[0], configuration.spacing_mm[1]
    a, b, c = configuration.spacing_mm
    return a, b, c


def nonzero_mask(image_czyx: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where any channel is not zero, with holes filled."""
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes((image_czyx != 0).any(0))
    return filled


MAX_PREPARED_VOXELS = 2**31
"""Refuse to resample to more than this: a spacing in the wrong unit, rather than a real image."""


def _trace(grid: Grid, plan: Plan, configuration: Configuration, box: Box, name: str) -> Trace:
    unsized = Trace(grid=grid, transpose=plan.transpose, box=box, prepared_shape=box.shape)
    shape: Triple = new_shape(box.shape, unsized.transposed_spacing_mm, target_spacing(unsized, configuration))
    if shape[0] * shape[1] * shape[2] > MAX_PREPARED_VOXELS:
        raise ImageError(
            f"{name}: would become {shape[0]}×{shape[1]}×{shape[2]} voxels at the plan's spacing",
            found=f"spacing {grid.spacing_mm_zyx} mm (z, y, x)",
            expected=f"spacings like those of the training data ({configuration.spacing_mm} mm)",
            remedy="correct the spacing in the image's header",
        )
    return unsized.model_copy(update={"prepared_shape": shape})
