"""Fingerprint → plan: every decision by rule, each with its reason. No image is read, nothing is built, no machine is asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.geometry import Triple
from autounet.networks.cost import parameters
from autounet.plan import NNUNET_OPTIMIZER, Configuration, Decision, Normalization, Plan
from autounet.planners.budget import Budget, FittedPatch, batch_size, fit_patch, network_for
from autounet.planners.lowres import low_resolution
from autounet.planners.normalization import normalizations
from autounet.planners.presets import Preset
from autounet.planners.spacing import TargetSpacing, axis_order, median_shape, resampling, target_spacing
from autounet.planners.words import count, million, mm, times


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
    configurations, which = _configurations(_Common(fingerprint, preset, memory, spacing, typical, schemes))
    images = count(len(fingerprint.cases), "image")
    return Plan(
        made_from={"fingerprint": fingerprint.digest()},
        dataset=fingerprint.dataset,
        preset=preset.name,
        gpu_memory_gb=memory,
        epochs=preset.epochs,
        optimizer=preset.optimizer,
        ndim=fingerprint.ndim,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        file_ending=file_ending,
        transpose=order,
        configurations={configuration.name: configuration for configuration in configurations},
        decisions=(
            Decision(name="configurations", value=", ".join(c.name for c in configurations), reason=which),
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


@dataclass(frozen=True, slots=True)
class _Common:
    """What all configurations are planned from; per-axis values in the network's order."""

    fingerprint: Fingerprint
    preset: Preset
    memory_gb: float
    spacing_mm: tuple[float, ...]
    typical: tuple[float, ...]
    schemes: tuple[Normalization, ...]


def _configurations(common: _Common) -> tuple[list[Configuration], str]:
    """The configurations that make sense for the images, and why these."""
    fingerprint, typical = common.fingerprint, common.typical
    names: tuple[str, ...] = ("2d", "3d_fullres")
    notes = ["the images are volumes"]
    if fingerprint.ndim == 2 or typical[0] == 1:
        names = ("2d",)
        notes = ["the images are planar" if fingerprint.ndim == 2 else "a typical image is one slice thick"]
    made: list[Configuration] = []
    for name in names:
        configuration = _configuration(common, name)
        if configuration is None:
            notes.append(f"no {name}: {times(typical[3 - (2 if name == '2d' else 3) :])} voxels are too few to halve even once")
        else:
            made.append(configuration)
    if not made:
        edge = common.preset.min_edge
        raise ArtefactError(
            f"fingerprint of '{fingerprint.dataset}': the images are too small for a U-Net",
            found=f"a typical image of {times(typical)} voxels",
            expected=f"at least {2 * edge} voxels along two axes of similar spacing, or {3 * edge} along one",
            remedy="check the images' size and whether they are nearly all zero",
        )
    return made, "; ".join(notes)


def _configuration(common: _Common, name: str) -> Configuration | None:
    """One configuration; None when the images are so small that its network would have a single stage."""
    fingerprint, preset = common.fingerprint, common.preset
    axes = slice(1, None) if name == "2d" else slice(None)
    spacing, typical = common.spacing_mm[axes], common.typical[axes]
    # nnU-Net reckons with the entries of ``labels``; the network itself has one output fewer per region or ignore label.
    channels, declared, outputs = len(fingerprint.channels), fingerprint.labels.declared, fingerprint.labels.outputs
    budget = Budget(preset, len(spacing), common.memory_gb)
    patch = fit_patch(spacing, typical, budget, channels, declared)
    if patch.topology.stages == 1:
        return None
    if name == "2d":
        batch_dice, dice_reason = True, "a single image or slice may lack a structure: its own Dice would be meaningless"
    else:
        lowres, why = low_resolution(patch, spacing, typical, budget, channels, declared)
        batch_dice = lowres is not None
        dice_reason = f"{why}: {'many lack a structure, so Dice is taken over the batch' if batch_dice else 'Dice is taken per patch'}"
    # Also the 2D batch is limited by the voxels of whole images (nnU-Net does so), at the target spacing.
    dataset_voxels = float(np.prod(common.typical, dtype=np.float64)) * len(fingerprint.cases)
    size, size_reason = batch_size(patch, budget, dataset_voxels)
    network = network_for(patch.topology, preset, budget.target, channels, outputs)
    return Configuration(
        name=name,
        spacing_mm=spacing,
        median_shape=typical,
        patch_size=patch.topology.patch_size,
        batch_size=size,
        batch_dice=batch_dice,
        normalization=common.schemes,
        network=network,
        decisions=(
            Decision(name="patch size", value=times(patch.topology.patch_size), reason=patch.reason),
            Decision(name="batch size", value=str(size), reason=size_reason),
            *_network_decisions(patch, preset, budget),
            Decision(
                name="network size",
                value=f"{million(parameters(network))} parameters",
                reason=f"{count(channels, 'channel')} in, {count(outputs, 'output')}, {count(patch.topology.stages, 'stage')}",
            ),
            Decision(name="batch Dice", value="yes" if batch_dice else "no", reason=dice_reason),
        ),
    )


def _network_decisions(patch: FittedPatch, preset: Preset, budget: Budget) -> tuple[Decision, ...]:
    skeleton, network = patch.topology, patch.network
    halvings = [multiple.bit_length() - 1 for multiple in skeleton.multiple_of]
    flat = sum(set(kernel) != {3} for kernel in skeleton.kernel_sizes)
    edge = preset.min_edge
    kernels, kernel_reason = times((3,) * len(halvings)), "the spacings are within 2× of each other"
    if flat:
        kernels = f"{times(skeleton.kernel_sizes[0])} in stage{'s 0 to ' + str(flat - 1) if flat > 1 else ' 0'}, then {kernels}"
        kernel_reason = "a kernel spans a coarse axis only once halving the others has brought their spacings within 2×"
    unit = "convolutions" if network.kind == "plain" else "residual blocks"
    return (
        Decision(
            name="halvings",
            value=times(halvings),
            reason=f"down to {times(skeleton.bottleneck)} voxels: an axis with {2 * edge} voxels or more is halved, "
            f"as long as its spacing is within 2× of the finest",
        ),
        Decision(name="kernels", value=kernels, reason=kernel_reason),
        Decision(
            name="features",
            value=", ".join(str(value) for value in network.features),
            reason=f"doubling from {preset.base_features} to at most {budget.target.max_features}; "
            f"{unit} per stage: {', '.join(str(value) for value in network.blocks_encoder)}",
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
