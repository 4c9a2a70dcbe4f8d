"""The configurations of a plan: 2d, 3d_lowres, 3d_fullres and 3d_cascade_fullres, where each makes sense.

Rules of nnunetv2 2.8.1, ``default_experiment_planner.py`` (plan_experiment). Per-axis values are in the network's order.
"""

import math
from dataclasses import dataclass, replace
from math import prod

from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.networks.cost import parameters, stage_sizes
from autounet.plan import Configuration, Decision, NetworkSpec, Normalization, Overrides
from autounet.planners import describe
from autounet.planners.budget import Budget, FittedPatch, batch_size, fit_patch
from autounet.planners.chosen import check_weights, chosen_batch, chosen_patch, patch_for_batch
from autounet.planners.estimate import cost_decisions
from autounet.planners.lowres import LowResolution, low_resolution
from autounet.planners.unpadded import fit_unpadded_patch
from autounet.planners.words import count, large, mm, times
from autounet.preset import Preset
from autounet.rotation import rotation_rule

FULL, LOW, CASCADE, PLANAR = "3d_fullres", "3d_lowres", "3d_cascade_fullres", "2d"


@dataclass(frozen=True, slots=True)
class Common:
    """What all configurations are planned from."""

    fingerprint: Fingerprint
    preset: Preset
    memory_gb: float
    spacing_mm: tuple[float, ...]
    """Target spacing of three axes."""
    typical: tuple[float, ...]
    """The typical image at that spacing."""
    schemes: tuple[Normalization, ...]
    mirror_axes: tuple[int, ...]
    """Of the three axes."""
    overrides: Overrides
    usual_features: int
    """Of the first stage, where the preset decides."""

    @property
    def voxels(self) -> float:
        """Of all training images at the target spacing; nnU-Net reckons the 2D batch with it, too."""
        return prod(self.typical) * len(self.fingerprint.cases)


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at the data, before its batch is chosen."""

    name: str
    spacing_mm: tuple[float, ...]
    typical: tuple[float, ...]
    patch: FittedPatch
    budget: Budget
    voxels: float
    """Of all training images, as the limit on the batch counts them."""


def plan_configurations(common: Common) -> tuple[dict[str, Configuration], str]:
    """The configurations that make sense for the images, and why these.

    Raises:
        ArtefactError: The images are too small for any network.
        UsageError: No network is small enough for the memory.
    """
    fingerprint, typical = common.fingerprint, common.typical
    notes = ["the images are volumes"]
    names: tuple[str, ...] = (PLANAR,)
    if fingerprint.ndim == 2 or typical[0] == 1:
        notes = ["the images are planar" if fingerprint.ndim == 2 else "a typical image is one slice thick"]
    elif common.preset.volumetric is None:
        notes.append(f"preset '{common.preset.name}' sees them slice by slice")
    else:
        names = (PLANAR, FULL)
    made: dict[str, Configuration] = {}
    for name in names:
        view = _view(common, name)
        if view.patch.topology.stages == 1:
            notes.append(f"no {name}: {times(view.typical)} voxels are too few to halve even once")
        elif name == PLANAR:
            reason = "a single image or slice may lack a structure: its own Dice would be meaningless"
            made[name] = _configuration(common, view, True, reason)
        else:
            volumes, note = _volumetric(common, view)
            made |= volumes
            notes.append(note)
    if not made:
        edge = common.preset.min_edge
        raise ArtefactError(
            f"fingerprint of '{fingerprint.dataset}': the images are too small for a U-Net",
            found=f"a typical image of {times(typical)} voxels",
            expected=f"at least {2 * edge} voxels along two axes of similar spacing, or {3 * edge} along one",
            remedy="check the images' size and whether they are nearly all zero",
        )
    _check_names(common.overrides, made)
    return made, "; ".join(notes)


def _check_names(overrides: Overrides, made: dict[str, Configuration]) -> None:
    """Raises UsageError when something is decided for a configuration that is not planned."""
    for what, named in (("patch size", overrides.patch_size), ("batch size", overrides.batch_size)):
        for name in named:
            if name == CASCADE and name in made:
                raise UsageError(f"{what} of {CASCADE}: it is that of {FULL}", remedy=f"name {FULL} instead")
            if name not in made:
                raise UsageError(
                    f"{what} of {name}: no such configuration in this plan",
                    expected=" or ".join(entry for entry in made if entry != CASCADE),
                    remedy=f"name another, or take the choice back: --{what.replace(' ', '-')} {name}=rule",
                )


def _view(common: Common, name: str) -> View:
    axes = slice(1, None) if name == PLANAR else slice(None)
    spacing, typical = common.spacing_mm[axes], common.typical[axes]
    budget = Budget(common.preset, len(spacing), common.memory_gb)
    return View(name, spacing, typical, _patch(common, name, spacing, typical, budget), budget, common.voxels)


def _patch(common: Common, name: str, spacing: tuple[float, ...], typical: tuple[float, ...], budget: Budget) -> FittedPatch:
    """The patch of a configuration: by rule, or the one that was asked for."""
    # nnU-Net reckons with the entries of ``labels``; the network itself has one output fewer per region or ignore label.
    channels, outputs = len(common.fingerprint.channels), common.fingerprint.labels.declared
    batch = common.overrides.batch_size.get(name, 0)
    wanted = common.overrides.patch_size.get(name)
    if wanted is not None and len(wanted) != len(spacing):
        usual = _patch_by_rule(common, spacing, typical, budget).topology.patch_size
        found = f"{len(wanted)} {'axis' if len(wanted) == 1 else 'axes'}"
        raise UsageError(
            f"patch size {times(wanted)} of {name}: {found}", expected=f"{len(usual)} sizes, such as {','.join(map(str, usual))}"
        )
    if wanted is not None:
        patch = chosen_patch(name, wanted, spacing, typical, budget, channels, outputs, max(batch, 1))
        return replace(patch, reason=f"{_by_rule(common, spacing, typical, budget)}{patch.reason}")
    if batch and common.preset.unpadded is None:
        return patch_for_batch(name, batch, spacing, typical, budget, channels, outputs)
    return _patch_by_rule(common, spacing, typical, budget)


def _patch_by_rule(common: Common, spacing: tuple[float, ...], typical: tuple[float, ...], budget: Budget) -> FittedPatch:
    channels, outputs = len(common.fingerprint.channels), common.fingerprint.labels.declared
    if common.preset.unpadded is not None:
        return fit_unpadded_patch(typical, budget, common.preset.unpadded, channels, outputs)
    return fit_patch(spacing, typical, budget, channels, outputs)


def _by_rule(common: Common, spacing: tuple[float, ...], typical: tuple[float, ...], budget: Budget) -> str:
    """What the rules would have chosen, in words for a reason; empty where they find nothing."""
    try:
        patch = _patch_by_rule(common, spacing, typical, budget)
    except UsageError:
        return ""
    return f"by rule it would be {times(patch.topology.patch_size)}; "


def _volumetric(common: Common, full: View) -> tuple[dict[str, Configuration], str]:
    """The 3D configurations: the full resolution, and a low one with a cascade where the full one sees too little at a time."""
    fingerprint = common.fingerprint
    channels, declared = len(fingerprint.channels), fingerprint.labels.declared
    low, why = low_resolution(full.patch, full.spacing_mm, full.typical, full.budget, channels, declared)
    if low is None:
        return {FULL: _configuration(common, full, False, f"{why}: Dice is taken per patch")}, f"no {LOW}: {why}"
    batch_reason = f"{why}: many lack a structure, so Dice is taken over the batch"
    if low.patch.topology.stages == 1:
        # nnU-Net plans it all the same, and fails when it builds the network.
        return {FULL: _configuration(common, full, True, batch_reason)}, f"no {LOW}, though {why}: too few voxels to halve even once"
    patch = low.patch
    if LOW in {*common.overrides.patch_size, *common.overrides.batch_size}:
        patch = _patch(common, LOW, low.spacing_mm, low.median_shape, full.budget)
    view = View(LOW, low.spacing_mm, low.median_shape, patch, full.budget, low.voxels * len(fingerprint.cases))
    return {
        LOW: _configuration(common, view, False, "a patch sees much of an image: Dice is taken per patch", _lowres_decision(low, why)),
        FULL: _configuration(common, full, True, batch_reason),
        CASCADE: _cascade(common, full, batch_reason),
    }, f"{LOW} and {CASCADE}: {why}"


def _cascade(common: Common, full: View, batch_reason: str) -> Configuration:
    """The full resolution, with what the low one predicted as further channels; nnU-Net plans it like the full resolution."""
    labels = len(common.fingerprint.labels.foreground_values)
    decision = Decision(
        name="previous stage",
        value=LOW,
        reason=f"its label maps are {count(labels, 'further input channel')}, one per foreground label: context that a patch does not see",
    )
    return _configuration(common, full, True, batch_reason, decision, cascade=True)


def _lowres_decision(low: LowResolution, why: str) -> Decision:
    return Decision(
        name="target spacing",
        value=mm(low.spacing_mm),
        reason=f"at full resolution {why}; coarsened in steps of 3 % until a patch covers enough of a typical image, "
        f"which then has {times(low.median_shape)} voxels",
    )


def _configuration(
    common: Common, view: View, batch_dice: bool, dice_reason: str, *decisions: Decision, cascade: bool = False
) -> Configuration:
    fingerprint, patch = common.fingerprint, view.patch
    size, size_reason = batch_size(patch, view.budget, view.voxels)
    wanted, by_you = common.overrides.batch_size.get(view.name), common.overrides
    if wanted is not None:
        by_rule, (size, size_reason) = size, chosen_batch(view.name, wanted, patch, view.budget)
        size_reason = f"by rule it would be {by_rule} of this patch size; {size_reason}"
    channels = len(fingerprint.channels) + (len(fingerprint.labels.foreground_values) if cascade else 0)
    network = patch.network.model_copy(update={"in_channels": channels, "outputs": fingerprint.labels.outputs})
    if by_you.features is not None:
        check_weights(network, common.memory_gb)
    mirrored, turned = _mirroring(common, patch.topology.patch_size)
    dice = Decision(name="batch Dice", value=describe.yes_or_no(batch_dice), reason=dice_reason)
    return Configuration(
        name=CASCADE if cascade else view.name,
        spacing_mm=view.spacing_mm,
        median_shape=view.typical,
        patch_size=patch.topology.patch_size,
        batch_size=size,
        batch_dice=batch_dice,
        normalization=common.schemes,
        network=network,
        mirror_axes=mirrored,
        previous_stage=LOW if cascade else None,
        decisions=(
            *decisions,
            Decision(
                name="patch size",
                value=times(patch.topology.patch_size),
                reason=patch.reason,
                chosen_by="you" if view.name in by_you.patch_size else "rule",
            ),
            Decision(name="batch size", value=str(size), reason=size_reason, chosen_by="rule" if wanted is None else "you"),
            *_network_decisions(patch, common, view.budget),
            _size_decision(network),
            *cost_decisions(network, patch.topology.patch_size, size, view.budget),
            *([dice] if common.preset.loss == "dice_ce" else []),
            *turned,
        ),
    )


def _mirroring(common: Common, patch_size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Decision, ...]]:
    """Network axes that are mirrored, and a decision where they are fewer than the plan's.

    Half a turn makes mirroring one axis of a slice the same as mirroring the other. Where patches are turned so far, an axis that must
    not be mirrored therefore takes the other one with it, unless the user has chosen.
    """
    ndim = len(patch_size)
    axes = tuple(axis - (3 - ndim) for axis in common.mirror_axes if axis >= 3 - ndim)
    in_slice = {ndim - 2, ndim - 1}
    far = common.preset.augmentation == "unet2015" or rotation_rule(patch_size).max_angle_rad > math.pi / 2
    if common.overrides.mirror_axes_zyx is not None or not far or len(in_slice & set(axes)) != 1:
        return axes, ()
    left = tuple(axis for axis in axes if axis not in in_slice)
    reason = (
        "neither axis of the slices: patches are turned by any angle, "
        "and half a turn makes mirroring the one the same as mirroring the other"
    )
    return left, (Decision(name="mirroring", value="across slices only" if left else "none", reason=reason),)


def _size_decision(network: NetworkSpec) -> Decision:
    return Decision(
        name="network size",
        value=f"{large(parameters(network))} parameters",
        reason=f"{count(network.in_channels, 'channel')} in, {count(network.outputs, 'output')}, {count(len(network.features), 'stage')}",
    )


def _network_decisions(patch: FittedPatch, common: Common, budget: Budget) -> tuple[Decision, ...]:
    network, preset, by_you = patch.network, common.preset, common.overrides
    edge = preset.min_edge
    kernel_reason = "the spacings are within 2× of each other"
    halving_reason = f"an axis with {2 * edge} voxels or more is halved, as long as its spacing is within 2× of the finest"
    if network.kind == "unet2015":
        kernel_reason = halving_reason = "Ronneberger et al. 2015"
    elif min(network.kernel_sizes[0]) == 1:
        kernel_reason = "a kernel spans a coarse axis only once halving the others has brought their spacings within 2×"
    bottom = stage_sizes(network, patch.topology.patch_size)[-1]
    numbers, stages = preset.features, len(network.features)
    limit = max(budget.target.max_features, *numbers)
    growth = f"doubling from {numbers[-1]} to at most {limit}"
    if len(numbers) >= stages:
        growth = f"the first {stages} of {len(numbers)} numbers"
    if by_you.features is not None:
        growth = f"by rule it would begin with {common.usual_features}; {growth}"
    return (
        Decision(name="halvings", value=describe.halvings(network), reason=f"down to {times(bottom)} voxels: {halving_reason}"),
        Decision(name="kernels", value=describe.kernels(network), reason=kernel_reason),
        Decision(name="features", value=describe.features(network), reason=growth, chosen_by="rule" if by_you.features is None else "you"),
        Decision(name="blocks per stage", value=describe.blocks(network), reason=f"preset '{preset.name}'"),
    )
