"""Target spacing, order of the axes, and how large images become at that spacing.

Rules of nnunetv2 2.8.1 (``default_experiment_planner.py`` determine_fullres_target_spacing and determine_transpose,
``default_resampling.py`` compute_new_shape). Spacings are in mm, axes as read (z, y, x) unless a name says otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autounet.errors import UsageError
from autounet.geometry import Triple, TripleMm
from autounet.planners.words import AXES, count, mm

ANISOTROPY = 3.0
"""An axis is called coarse when its spacing is more than this times that of the others (nnU-Net: ANISO_THRESHOLD)."""

LARGEST_IMAGE = 2**31
"""Voxels: cases that would become larger are refused when they are prepared."""

COARSE_AXIS_PERCENTILE = 10
"""Target spacing along a coarse axis: finer than the median, or images with thin slices would be blurred beyond use."""


class SpacingRefused(UsageError):
    """The spacing that was asked for makes images too large or too small."""


@dataclass(frozen=True, slots=True)
class TargetSpacing:
    """The spacing that all images are resampled to, and why."""

    spacing_mm_zyx: TripleMm
    reason: str


def target_spacing(spacings_mm: Sequence[TripleMm], shapes: Sequence[Triple], ndim: int) -> TargetSpacing:
    """Median spacing per axis, but the 10th percentile along an axis that is coarse and has few voxels.

    Args:
        spacings_mm: Spacing of every image.
        shapes: Voxels of every image after cropping, not resampled.
        ndim: 2 for planar images, whose first axis has no spacing to speak of.
    """
    spacings = np.array(spacings_mm, np.float64)
    # np.percentile, not np.median: their last bits differ, and nnU-Net uses this one here.
    target = np.percentile(spacings, 50, axis=0)
    sizes = np.percentile(np.array(shapes, np.int64), 50, axis=0)
    median_reason = f"median of {count(len(spacings), 'image')} along every axis"
    if ndim == 2:
        return TargetSpacing(_triple(target.tolist()), f"{median_reason}; the images are planar")
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    others_mm, fewest = float(max(target[others])), float(min(sizes[others]))
    coarser = target[worst] / others_mm
    coarse = target[worst] > ANISOTROPY * others_mm
    if not (coarse and sizes[worst] * ANISOTROPY < fewest):
        why = f"no axis is {ANISOTROPY:g}× coarser than the others"
        if coarse:
            why = f"{AXES[worst]} is {coarser:.1f}× coarser than the others but has {sizes[worst]:g} voxels, not {ANISOTROPY:g}× fewer"
        return TargetSpacing(_triple(target.tolist()), f"{median_reason}; {why}")
    low = float(np.percentile(spacings[:, worst], COARSE_AXIS_PERCENTILE))
    reason = (
        f"{AXES[worst]} is {coarser:.1f}× coarser than the others and has {fewest / sizes[worst]:.0f}× fewer voxels: "
        f"{COARSE_AXIS_PERCENTILE}th percentile of its spacing, {low:.4g} mm"
    )
    if low < others_mm:
        low = others_mm + 1e-5
        reason += f", raised to that of the others, {others_mm:.4g} mm"
    target[worst] = low
    return TargetSpacing(_triple(target.tolist()), f"{reason}; median along the others")


def chosen_spacing(wanted: TripleMm, by_rule: TargetSpacing, spacings_mm: Sequence[TripleMm], shapes: Sequence[Triple]) -> TargetSpacing:
    """The spacing that was asked for. Raises SpacingRefused when it would make images of absurd size."""
    largest = max(math.prod(resampled_shape(shape, spacing, wanted)) for shape, spacing in zip(shapes, spacings_mm, strict=True))
    if largest > LARGEST_IMAGE:
        raise SpacingRefused(f"the largest image would have {float(largest):.3g} voxels", expected=f"at most {LARGEST_IMAGE:.3g}")
    vanished = [AXES[axis] for axis, size in enumerate(median_shape(shapes, spacings_mm, TargetSpacing(wanted, ""))) if size < 1]
    if vanished:
        raise SpacingRefused(f"a typical image would have no voxel along {vanished[0]}")
    return TargetSpacing(wanted, f"by rule it would be {mm(by_rule.spacing_mm_zyx)}: {by_rule.reason}")


def axis_order(target: TargetSpacing, ndim: int) -> tuple[Triple, str]:
    """The axis with the largest spacing first, the others in their order; and the reason."""
    if ndim == 2:
        return (0, 1, 2), "planar images keep their axes"
    spacing = target.spacing_mm_zyx
    first = spacing.index(max(spacing))
    second, third = (axis for axis in range(3) if axis != first)
    if min(spacing) == max(spacing):
        return (first, second, third), f"all axes have the same spacing, {spacing[0]:.4g} mm: nothing to change"
    return (first, second, third), f"{AXES[first]} has the largest spacing, {spacing[first]:.4g} mm: 2D slices are cut across it"


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], target_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels of one image at the target spacing, rounded half to even as Python does."""
    return tuple(round(old / new * size) for size, old, new in zip(shape, spacing_mm, target_mm, strict=True))


def median_shape(shapes: Sequence[Triple], spacings_mm: Sequence[TripleMm], target: TargetSpacing) -> tuple[float, ...]:
    """Median over images of their resampled shapes (not the shape at the median spacing): whole or half voxels."""
    resampled = [resampled_shape(shape, spacing, target.spacing_mm_zyx) for shape, spacing in zip(shapes, spacings_mm, strict=True)]
    return tuple(float(value) for value in np.median(np.array(resampled, np.int64), axis=0))


def resampling(spacings_mm: Sequence[TripleMm], target: TargetSpacing, ndim: int) -> tuple[str, str]:
    """How intensities are interpolated, as shown to the user, and the reason (rule: determine_do_sep_z_and_axis).

    The rule itself is applied image by image when cases are prepared.
    """
    total, first = count(len(spacings_mm), "image"), 3 - ndim
    wanted = target.spacing_mm_zyx
    if all(np.allclose(spacing[first:], wanted[first:]) for spacing in spacings_mm):
        return "none needed", f"all of {total} have the target spacing, {mm(wanted[first:])}"
    if ndim == 2:
        return "cubic", "the images are planar"
    if _one_coarse_axis(wanted):
        return "cubic within slices, nearest slice across", f"slices are more than {ANISOTROPY:g}× as far apart as pixels"
    coarse = sum(_one_coarse_axis(spacing) for spacing in spacings_mm)
    if coarse:
        value = f"cubic; within slices only for {coarse} of {total}"
        return value, f"in these, slices are more than {ANISOTROPY:g}× as far apart as pixels"
    return "cubic", f"in none of {total} is a spacing more than {ANISOTROPY:g}× another"


def _one_coarse_axis(spacing: TripleMm) -> bool:
    return max(spacing) / min(spacing) > ANISOTROPY and sum(value == max(spacing) for value in spacing) == 1


def _triple(values: Sequence[float]) -> TripleMm:
    a, b, c = (float(value) for value in values)
    return a, b, c
