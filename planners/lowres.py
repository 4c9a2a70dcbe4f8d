"""Whether the full resolution shows too little of an image at a time, so that a coarser look is worth a stage of its own.

Rule of nnunetv2 2.8.1, ``default_experiment_planner.py`` (plan_experiment). All per-axis values are in the network's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autounet.planners.budget import Budget, FittedPatch, fit_patch
from autounet.planners.words import percent

STEP = 1.03
"""The spacing grows by this factor until a patch covers enough."""

ALIKE = 2.0
"""Axes finer than the coarsest by more than this factor are coarsened first, alone."""

MIN_SHRINKAGE = 2.0
"""A low resolution with more than 1/this of the full one's voxels is not worth a stage."""


@dataclass(frozen=True, slots=True)
class LowResolution:
    """The low-resolution stage, if one is called for."""

    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    patch: FittedPatch
    voxels: float
    """Of the typical image at this spacing."""


def low_resolution(
    full: FittedPatch, spacing_mm: Sequence[float], median_shape: Sequence[float], budget: Budget, in_channels: int, outputs: int
) -> tuple[LowResolution | None, str]:
    """The low-resolution stage or None, and the reason.

    Args:
        full: The patch at full resolution.
        spacing_mm: Target spacing of the full resolution.
        median_shape: Size of the typical image there.
        budget: What fits.
        in_channels: Channels of the images.
        outputs: Outputs to reckon with.
    """
    full_spacing, full_shape = np.array(spacing_mm, np.float64), np.array(median_shape, np.float64)
    full_voxels = float(np.prod(full_shape))
    spacing, voxels = full_spacing.copy(), full_voxels
    patch_voxels = float(np.prod(full.topology.patch_size, dtype=np.float64))
    threshold = budget.preset.lowres_below
    share = percent(min(1.0, patch_voxels / full_voxels))
    found: LowResolution | None = None
    while patch_voxels / voxels < threshold:
        finer = spacing.max() / spacing > ALIKE
        spacing = np.where(finer, spacing * STEP, spacing) if finer.any() else spacing * STEP
        exact = full_spacing / spacing * full_shape
        voxels = float(np.prod(exact, dtype=np.float64))
        shape = tuple(float(max(1, round(size))) for size in exact.tolist())
        patch = fit_patch(spacing.tolist(), shape, budget, in_channels, outputs)
        patch_voxels = float(np.prod(patch.topology.patch_size, dtype=np.float64))
        found = LowResolution(tuple(spacing.tolist()), shape, patch, voxels)
    if found is None:
        return (
            None,
            f"a patch sees {share} of a typical image (below {percent(threshold)} a coarser look would be worth a stage of its own)",
        )
    if full_voxels / voxels < MIN_SHRINKAGE:
        return (
            None,
            f"a patch sees only {share} of a typical image, but the resolution at which it saw {percent(threshold)} is hardly lower",
        )
    return found, f"a patch sees only {share} of a typical image, less than {percent(threshold)}"
