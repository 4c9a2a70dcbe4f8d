"""Fingerprint → plan: every decision by rule, each with its reason. No image is read, nothing is built, no machine is asked."""

import math
from collections.abc import Sequence

from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.geometry import Triple
from autounet.plan import Decision, LossSpec, Plan, PlanRequest
from autounet.planners.configurations import Common, plan_configurations
from autounet.planners.normalization import normalizations
from autounet.planners.spacing import TargetSpacing, axis_order, median_shape, resampling, target_spacing
from autounet.planners.words import count, mm, times
from autounet.preset import NNUNET_OPTIMIZER, Preset


def make_plan(fingerprint: Fingerprint, preset: Preset, *, file_ending: str, gpu_memory_gb: float | None = None) -> Plan:
    """Decides everything about preprocessing, networks and batches.

    Args:
        fingerprint: What the dataset is.
        preset: What to aim at.
        file_ending: Ending of the training images, kept for predictions.
        gpu_memory_gb: Memory to plan for; None for the preset's own.

    Raises:
        ArtefactError: The fingerprint makes no sense, or its images are too small for any network.
        UsageError: The memory asked for is not a positive number or too small for any network.
    """
    memory = preset.gpu_memory_gb if gpu_memory_gb is None else float(gpu_memory_gb)
    if not (math.isfinite(memory) and memory > 0):
        raise UsageError("the GPU memory to plan for is not usable", found=f"{memory:g} GB", expected="a positive number of GB")
    _check(fingerprint)
    spacings = [case.spacing_mm_zyx for case in fingerprint.cases]
    shapes = [case.shape_after_crop_zyx for case in fingerprint.cases]
    target = target_spacing(spacings, shapes, fingerprint.ndim)
    order, order_reason = axis_order(target, fingerprint.ndim)
    typical_zyx = median_shape(shapes, spacings, target)
    schemes, scheme_decisions = normalizations(fingerprint.channels, fingerprint.intensities, fingerprint.median_relative_size_after_crop)
    interpolation, interpolation_reason = resampling(spacings, target, fingerprint.ndim)
    spacing = tuple(target.spacing_mm_zyx[axis] for axis in order)
    typical = tuple(typical_zyx[axis] for axis in order)
    configurations, which = plan_configurations(Common(fingerprint, preset, memory, spacing, typical, schemes, (0, 1, 2)))
    images = count(len(fingerprint.cases), "image")
    return Plan(
        made_from={"fingerprint": fingerprint.digest()},
        dataset=fingerprint.dataset,
        request=PlanRequest(preset=preset, gpu_memory_gb=gpu_memory_gb),
        epochs=preset.epochs,
        optimizer=preset.optimizer,
        augmentation=preset.augmentation,
        loss=LossSpec(kind=preset.loss),
        ndim=fingerprint.ndim,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        file_ending=file_ending,
        transpose=order,
        configurations=configurations,
        decisions=(
            Decision(name="configurations", value=", ".join(configurations), reason=which),
            Decision(name="target spacing", value=_spacing_shown(target, fingerprint.ndim), reason=target.reason),
            Decision(name="axis order", value=", ".join("zyx"[axis] for axis in order[3 - fingerprint.ndim :]), reason=order_reason),
            Decision(
                name="typical image",
                value=f"{times(typical[3 - fingerprint.ndim :])} voxels",
                reason=f"median over {images}, cropped to their nonzero region, at the target spacing",
            ),
            *scheme_decisions,
            Decision(name="resampling", value=interpolation, reason=interpolation_reason),
            Decision(
                name="training length", value=count(preset.epochs, "epoch"), reason=f"preset '{preset.name}'; another can be asked for"
            ),
            Decision(
                name="optimizer",
                value=f"SGD, learning rate {preset.optimizer.learning_rate:g}, Nesterov momentum {preset.optimizer.momentum:g}",
                reason="nnU-Net's" if preset.optimizer == NNUNET_OPTIMIZER else "short trainings: nnU-Net's 0.99 gathers speed too slowly",
            ),
        ),
    )


def _spacing_shown(target: TargetSpacing, ndim: int) -> str:
    if ndim == 2 and target.spacing_mm_zyx[1:] == (1.0, 1.0):
        return "1×1 pixel"  # planar files rarely know their size in mm
    return mm(target.spacing_mm_zyx[1:] if ndim == 2 else target.spacing_mm_zyx)


def _check(fingerprint: Fingerprint) -> None:
    """Refuses what no rule can be applied to. Raises ArtefactError."""
    name = f"fingerprint of '{fingerprint.dataset}'"
    remedy = "delete it and run `autounet plan` again, or mend the images' headers"
    if not fingerprint.cases:
        raise ArtefactError(f"{name}: holds no case", remedy="add training cases and run `autounet plan` again")
    if fingerprint.ndim not in (2, 3):
        raise ArtefactError(f"{name}: ndim is neither 2 nor 3", found=fingerprint.ndim, remedy=remedy)
    if not fingerprint.channels or len(fingerprint.channels) != len(fingerprint.intensities):
        found = f"{len(fingerprint.channels)} channels and intensities of {len(fingerprint.intensities)}"
        raise ArtefactError(f"{name}: channels and intensities do not match", found=found, remedy=remedy)
    for case in fingerprint.cases:
        _check_case(name, case.case, case.shape_after_crop_zyx, case.spacing_mm_zyx, remedy)


def _check_case(name: str, case: str, shape: Triple, spacing: Sequence[float], remedy: str) -> None:
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        raise ArtefactError(f"{name}: spacing of case {case} is not positive", found=f"{times(spacing)} mm (z, y, x)", remedy=remedy)
    if min(shape) < 1:
        raise ArtefactError(f"{name}: case {case} has no voxels", found=f"shape {times(shape)} (z, y, x)", remedy=remedy)
