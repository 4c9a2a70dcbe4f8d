"""Patch size and batch size under a memory target.

Rule of nnunetv2 2.8.1, ``default_experiment_planner.py`` (get_plans_for_configuration) and, with other numbers,
``residual_encoder_unet_planners.py``. Memory is measured in activations (``networks.cost``), in proportion to the GPU memory
for which a preset's targets were measured. All per-axis values are in the network's axis order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from autounet.errors import UsageError
from autounet.networks.cost import activations
from autounet.plan import NetworkSpec
from autounet.planners.topology import Topology, topology
from autounet.planners.words import at_least, count, large, percent, times
from autounet.preset import Preset, Target

START_EDGE = {2: 2048, 3: 256}
"""The first patch has as many voxels as a square or cube of this edge: more than any GPU of today can train with."""


FEWEST_VOXELS = 16**3
"""A patch of fewer voxels sees too little to be worth searching for."""


class DoesNotFit(UsageError):
    """Not even the smallest network fits into the memory."""


@dataclass(frozen=True, slots=True)
class FittedPatch:
    """A patch, its network and what they cost."""

    topology: Topology
    network: NetworkSpec
    features: int
    """Activations of one sample."""
    shrunk: bool
    """The memory target, not the images, limits the patch."""
    reason: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What a preset allows, scaled to the memory asked for."""

    preset: Preset
    ndim: int
    gpu_memory_gb: float

    @property
    def target(self) -> Target:
        """The preset's numbers for this dimensionality. Raises UsageError when it has none."""
        target = self.preset.planar if self.ndim == 2 else self.preset.volumetric
        if target is None:
            raise UsageError(f"preset '{self.preset.name}' has no networks for volumes", remedy="take another preset")
        return target

    @property
    def features(self) -> float:
        """Activations of one sample that fit with ``target.batch`` samples."""
        return self.target.features * (self.gpu_memory_gb / self.preset.gpu_memory_gb)

    def share(self, features: int, batch: int) -> float:
        """Part of the memory that ``batch`` samples of so many activations take; above 1 they do not fit."""
        return features / self.target.batch * batch / self.features

    def memory_gb(self, features: int, batch: int) -> float:
        """Memory that ``batch`` samples of so many activations take, by the measure of the preset."""
        return features / self.target.batch * batch / (self.target.features / self.preset.gpu_memory_gb)


def start_patch(spacing_mm: Sequence[float], median_shape: Sequence[float]) -> tuple[float, ...]:
    """The largest sensible patch: as wide in mm along every axis, far beyond any memory, but no larger than the typical image."""
    density = 1 / np.array(spacing_mm, np.float64)
    ndim = len(density)
    edges = density * (START_EDGE[ndim] ** ndim / np.prod(density)) ** (1 / ndim)
    # An extreme spacing would round an axis to nothing.
    return tuple(max(1.0, min(float(round(edge)), size)) for edge, size in zip(edges.tolist(), median_shape, strict=True))


def features_per_stage(first: Sequence[int], most: int, stages: int) -> tuple[int, ...]:
    """The given numbers, then doubling to the limit, which holds for none of the given ones."""
    limit = max(most, *first)
    return tuple(first[stage] if stage < len(first) else min(limit, first[-1] * 2 ** (stage - len(first) + 1)) for stage in range(stages))


def network_for(skeleton: Topology, preset: Preset, target: Target, in_channels: int, outputs: int) -> NetworkSpec:
    """The U-Net on a skeleton: features double per stage up to the target's limit."""
    stages = skeleton.stages
    return NetworkSpec(
        kind=preset.kind,
        ndim=2 if len(skeleton.patch_size) == 2 else 3,
        in_channels=in_channels,
        outputs=outputs,
        features=features_per_stage(preset.features, target.max_features, stages),
        strides=skeleton.strides,
        kernel_sizes=skeleton.kernel_sizes,
        blocks_encoder=repeated(preset.blocks_encoder, stages),
        blocks_decoder=repeated(preset.blocks_decoder, stages - 1),
    )


def fit_patch(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    budget: Budget,
    in_channels: int,
    outputs: int,
    *,
    batch: int = 0,
    start: Sequence[float] | None = None,
) -> FittedPatch:
    """Shrinks the patch, along the axis that is largest relative to the typical image, until its network fits.

    Args:
        spacing_mm: Target spacing.
        median_shape: Size of the typical image at that spacing.
        budget: What fits.
        in_channels: Channels of the images.
        outputs: Outputs to reckon with (nnU-Net counts the entries of ``labels``, background and ignore included).
        batch: So many patches must fit, if that is more than the preset makes room for.
        start: The first patch to try; by default the largest sensible one.

    Raises:
        UsageError: Not even the smallest patch fits.
    """
    preset, target = budget.preset, budget.target
    room = max(target.patch_batch, batch)
    skeleton = topology(spacing_mm, start or start_patch(spacing_mm, median_shape), preset.min_edge)
    network = network_for(skeleton, preset, target, in_channels, outputs)
    features = activations(network, skeleton.patch_size)
    shrunk = False
    while features / target.batch * room > budget.features:
        shrunk = True
        smaller = _shrink(spacing_mm, skeleton, median_shape, preset.min_edge)
        if smaller is None:
            raise too_little_memory(budget, features, room, skeleton.patch_size)
        skeleton = smaller
        network = network_for(skeleton, preset, target, in_channels, outputs)
        features = activations(network, skeleton.patch_size)
    return FittedPatch(skeleton, network, features, shrunk, patch_reason(skeleton, features, shrunk, median_shape, budget, room))


def too_little_memory(budget: Budget, features: int, batch: int, patch_size: Sequence[int]) -> DoesNotFit:
    """The error for a memory in which not even the smallest patch fits."""
    preset, target = budget.preset, budget.target
    return DoesNotFit(
        f"no network of preset '{preset.name}' is small enough for {budget.gpu_memory_gb:g} GB of memory",
        found=f"{large(features)} activations for a patch of {times(patch_size)} voxels",
        expected=f"at most {large(budget.features * target.batch / batch)}",
        remedy=f"ask for at least {at_least(budget.memory_gb(features, batch))} GB (--gpu-memory), for fewer features (--features), "
        "or take a smaller preset",
    )


def batch_size(patch: FittedPatch, budget: Budget, dataset_voxels: float) -> tuple[int, str]:
    """How many patches fit into memory, without a batch seeing too much of the dataset; and the reason.

    Args:
        patch: The patch and its cost.
        budget: What fits.
        dataset_voxels: Voxels of all training images at the target spacing of the *3D* configuration, also for 2D.
    """
    preset, target = budget.preset, budget.target
    fits = round(budget.features / patch.features * target.batch)
    seen = round(dataset_voxels * preset.max_dataset_fraction / float(np.prod(patch.topology.patch_size, dtype=np.float64)))
    limits = [(fits, f"{fits} {'patch fits' if fits == 1 else 'patches fit'} into {budget.gpu_memory_gb:g} GB")]
    part = percent(preset.max_dataset_fraction)
    holds = f"a batch of {seen} holds" if seen else "less than one patch holds"
    limits.append((seen, f"{holds} {part} of the voxels of all training images, the most it may"))
    if target.max_batch is not None:
        limits.append((target.max_batch, f"preset '{preset.name}' takes at most {target.max_batch}"))
    size, reason = min(limits)
    if size < preset.min_batch:
        return preset.min_batch, f"never below {preset.min_batch}, though {reason}"
    others = [f"{other} would fit into {budget.gpu_memory_gb:g} GB" for other in [fits] if other > size]
    return size, "; ".join([reason, *others])


def _shrink(spacing_mm: Sequence[float], skeleton: Topology, median_shape: Sequence[float], min_edge: int) -> Topology | None:
    """The next smaller patch that still gives a network, or None when there is none.

    nnU-Net shortens the axis that covers most of the image. Where that would leave nothing to halve (two very coarse axes), the next
    axis is taken instead, as long as the patch keeps ``FEWEST_VOXELS``.
    """
    ratios = [edge / size for edge, size in zip(skeleton.patch_size, median_shape, strict=True)]
    first, *others = sorted(range(len(ratios)), key=lambda candidate: (ratios[candidate], candidate), reverse=True)
    for axis in (first, *others):
        smaller = _shrink_axis(spacing_mm, skeleton, axis, min_edge)
        if smaller is not None and smaller.stages > 1 and (axis == first or prod(smaller.patch_size) >= FEWEST_VOXELS):
            return smaller
    return None


def _shrink_axis(spacing_mm: Sequence[float], skeleton: Topology, axis: int, min_edge: int) -> Topology | None:
    """The next smaller size of one axis, or None when there is none."""
    # Less of an axis may mean fewer halvings, hence a smaller multiple: ask what it would be, then take off only that,
    # or valid sizes are skipped (224 between 256 and 192).
    trial = list(skeleton.patch_size)
    trial[axis] -= skeleton.multiple_of[axis]
    step = topology(spacing_mm, trial, min_edge).multiple_of[axis]
    for edge in range(skeleton.patch_size[axis] - step, 0, -1):
        trial[axis] = edge
        smaller = topology(spacing_mm, trial, min_edge)
        # Padding could bring the old size back, and the search would never end.
        if smaller.patch_size[axis] < skeleton.patch_size[axis]:
            return smaller
    return None


def patch_reason(skeleton: Topology, features: int, shrunk: bool, median: Sequence[float], budget: Budget, batch: int) -> str:
    """Why the patch has its size."""
    covered = percent(min(1.0, float(np.prod(skeleton.patch_size) / np.prod(median))))
    if shrunk:
        most = budget.features * budget.target.batch / batch
        return (
            f"the largest that fits {count(batch, 'time')} into {budget.gpu_memory_gb:g} GB "
            f"({large(features)} of {large(most)} activations each), in the proportions of the images; "
            f"covers {covered} of a typical image of {times(median)}"
        )
    return f"a typical image of {times(median)} fits as a whole, made a multiple of {times(skeleton.multiple_of)} for the halvings"


def repeated(values: tuple[int, ...], number: int) -> tuple[int, ...]:
    """The first ``number`` values, the last one repeated as needed."""
    return tuple(values[min(position, len(values) - 1)] for position in range(number))
