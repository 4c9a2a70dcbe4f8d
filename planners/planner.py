"""Fingerprint → plan: every decision by rule or as asked for, each with its reason. No image is read, nothing is built."""

from collections.abc import Sequence
from dataclasses import dataclass

from autounet.errors import ArtefactError, AutounetError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.geometry import LARGEST_MM, SMALLEST_MM, Triple
from autounet.plan import Decision, Overrides, Plan, PlanRequest
from autounet.planners.annotation import annotation_decision
from autounet.planners.budget import DoesNotFit
from autounet.planners.chosen import nearest_that_works
from autounet.planners.configurations import Common, plan_configurations
from autounet.planners.laterality.pairs import mirror_axes
from autounet.planners.loss import plan_loss
from autounet.planners.normalization import normalizations
from autounet.planners.orientation import orientation_decision
from autounet.planners.spacing import SpacingRefused, TargetSpacing, axis_order, chosen_spacing, median_shape, resampling, target_spacing
from autounet.planners.words import count, mm, times
from autounet.preset import MOST_GB, NNUNET_OPTIMIZER, AugmentationKind, Preset

NO_OVERRIDES = Overrides()


def make_plan(
    fingerprint: Fingerprint, preset: Preset, *, file_ending: str, gpu_memory_gb: float | None = None, overrides: Overrides = NO_OVERRIDES
) -> Plan:
    """Decides everything about preprocessing, networks and batches.

    Args:
        fingerprint: What the dataset is.
        preset: What to aim at.
        file_ending: Ending of the training images, kept for predictions.
        gpu_memory_gb: Memory to plan for; None for the preset's own.
        overrides: What the user decides instead of the rules.

    Raises:
        ArtefactError: The fingerprint makes no sense, or its images are too small for any network.
        UsageError: Something that was asked for cannot work; the message names the nearest that can.
    """
    memory = preset.gpu_memory_gb if gpu_memory_gb is None else float(gpu_memory_gb)
    if not 0 < memory <= MOST_GB:
        raise UsageError("the GPU memory to plan for is not usable", found=f"{memory:g} GB", expected=f"above 0, at most {MOST_GB:g} GB")
    _check(fingerprint)
    request = PlanRequest(preset=preset, gpu_memory_gb=gpu_memory_gb, overrides=overrides)
    try:
        return _plan(fingerprint, request, memory, file_ending)
    except AutounetError as error:
        nearest = _nearest(fingerprint, request, memory, error)
        raise nearest or error from None


def _plan(fingerprint: Fingerprint, request: PlanRequest, memory: float, file_ending: str) -> Plan:
    preset, overrides = request.preset, request.overrides
    if overrides.features is not None:
        preset = preset.model_copy(update={"features": overrides.features})
    grid = _grid(fingerprint, overrides)
    schemes, scheme_decisions = normalizations(
        fingerprint.channels, fingerprint.intensities, fingerprint.median_relative_size_after_crop, overrides.normalization
    )
    mirrored, mirror_decision = _mirroring(fingerprint, overrides)
    loss, loss_decision = plan_loss(fingerprint, preset)
    annotation = annotation_decision(fingerprint)
    common = Common(
        fingerprint=fingerprint,
        preset=preset,
        memory_gb=memory,
        spacing_mm=grid.spacing_mm,
        typical=grid.typical,
        schemes=schemes,
        mirror_axes=tuple(position for position, axis in enumerate(grid.order) if axis in mirrored),
        overrides=overrides,
        usual_features=request.preset.features[0],
    )
    configurations, which = plan_configurations(common)
    return Plan(
        made_from={"fingerprint": fingerprint.digest()},
        dataset=fingerprint.dataset,
        request=request,
        epochs=preset.epochs,
        optimizer=preset.optimizer,
        augmentation=preset.augmentation,
        loss=loss,
        ndim=fingerprint.ndim,
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        file_ending=file_ending,
        transpose=grid.order,
        configurations=configurations,
        decisions=(
            _memory_decision(request, memory),
            Decision(name="configurations", value=", ".join(configurations), reason=which),
            *grid.decisions,
            *scheme_decisions,
            mirror_decision,
            loss_decision,
            *([] if annotation is None else [annotation]),
            *_training_decisions(preset),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """The voxel grid that all images are brought to; per-axis values in the network's order."""

    order: Triple
    """Array axes as read, in that order."""
    spacing_mm: tuple[float, ...]
    typical: tuple[float, ...]
    """Median size of the images on this grid."""
    decisions: tuple[Decision, ...]


def _grid(fingerprint: Fingerprint, overrides: Overrides) -> _Grid:
    """Raises ArtefactError when the images would vanish on it, UsageError when they would by a choice."""
    ndim, cases = fingerprint.ndim, fingerprint.cases
    spacings, shapes = [case.spacing_mm_zyx for case in cases], [case.shape_after_crop_zyx for case in cases]
    target = target_spacing(spacings, shapes, ndim)
    if overrides.spacing_mm_zyx is not None:
        target = chosen_spacing(overrides.spacing_mm_zyx, target, spacings, shapes)
    order, order_reason = axis_order(target, ndim)
    typical_zyx = median_shape(shapes, spacings, target)
    if min(typical_zyx) < 1:
        raise ArtefactError(
            f"fingerprint of '{fingerprint.dataset}': the spacings are too different from each other",
            found=f"a typical image of {times(typical_zyx)} voxels at the target spacing of {mm(target.spacing_mm_zyx)}",
            remedy="correct the spacings in the images' headers",
        )
    typical = tuple(typical_zyx[axis] for axis in order)
    interpolation, interpolation_reason = resampling(spacings, target, ndim)
    orientation = orientation_decision(fingerprint)
    decisions = (
        Decision(
            name="target spacing",
            value=_spacing_shown(target, ndim),
            reason=target.reason,
            chosen_by="rule" if overrides.spacing_mm_zyx is None else "you",
        ),
        Decision(name="axis order", value=", ".join("zyx"[axis] for axis in order[3 - ndim :]), reason=order_reason),
        *([] if orientation is None else [orientation]),
        Decision(
            name="typical image",
            value=f"{times(typical[3 - ndim :])} voxels",
            reason=f"median over {count(len(cases), 'image')}, cropped to their nonzero region, at the target spacing",
        ),
        Decision(name="resampling", value=interpolation, reason=interpolation_reason),
    )
    return _Grid(order, tuple(target.spacing_mm_zyx[axis] for axis in order), typical, decisions)


def _mirroring(fingerprint: Fingerprint, overrides: Overrides) -> tuple[tuple[int, ...], Decision]:
    """Array axes as read along which mirroring is allowed, and why."""
    by_rule, decision = mirror_axes(fingerprint)
    wanted = overrides.mirror_axes_zyx
    if wanted is None:
        return by_rule, decision
    shown = ", ".join("zyx"[axis] for axis in wanted) or "none"
    reason = f"by rule it would be {decision.value}: {decision.reason}"
    return wanted, Decision(name=decision.name, value=shown, reason=reason, chosen_by="you")


def _memory_decision(request: PlanRequest, memory_gb: float) -> Decision:
    usual = request.preset.gpu_memory_gb
    if request.gpu_memory_gb is None:
        reason = f"preset '{request.preset.name}': {request.preset.summary}; the GPU in this machine is not asked"
        return Decision(name="planned for", value=f"{memory_gb:g} GB of GPU memory", reason=reason)
    return Decision(
        name="planned for",
        value=f"{memory_gb:g} GB of GPU memory",
        reason=f"by rule it would be {usual:g} GB, as preset '{request.preset.name}' has it",
        chosen_by="you",
    )


AUGMENTATIONS: dict[AugmentationKind, str] = {
    "nnunet": "nnU-Net's default list",
    "strong": "nnU-Net's list made stronger",
    "light": "mirroring, mild changes of intensity, seldom rotation",
    "none": "none",
    "unet2015": "elastic deformation, rotation, mirroring, grey values",
}


def _training_decisions(preset: Preset) -> tuple[Decision, ...]:
    optimizer, of_preset = preset.optimizer, f"preset '{preset.name}'"
    return (
        Decision(name="augmentation", value=AUGMENTATIONS[preset.augmentation], reason=of_preset),
        Decision(name="training length", value=count(preset.epochs, "epoch"), reason=f"{of_preset}; another can be asked for"),
        Decision(
            name="optimizer",
            value=f"SGD, learning rate {optimizer.learning_rate:g}, Nesterov momentum {optimizer.momentum:g}",
            reason="nnU-Net's" if optimizer == NNUNET_OPTIMIZER else of_preset,
        ),
    )


def _nearest(fingerprint: Fingerprint, request: PlanRequest, memory: float, error: AutounetError) -> UsageError | None:
    """The error for spacing, features or memory that cannot work, with the nearest that can; None where another thing is to blame."""
    overrides = request.overrides

    def plans(changed: Overrides, gigabytes: float = memory) -> bool:
        try:
            _plan(fingerprint, request.model_copy(update={"overrides": changed}), gigabytes, "")
        except (AutounetError, ValueError):  # pydantic's, for what no override may be
            return False
        return True

    def with_spacing(values: Sequence[float]) -> bool:
        return (
            min(values) >= SMALLEST_MM
            and max(values) <= LARGEST_MM
            and plans(overrides.model_copy(update={"spacing_mm_zyx": tuple(values)}))
        )

    def with_features(values: Sequence[float]) -> bool:
        return plans(overrides.model_copy(update={"features": whole(values)}))

    def whole(values: Sequence[float]) -> tuple[int, ...]:
        return tuple(max(1, round(value)) for value in values)

    spacing, features = overrides.spacing_mm_zyx, overrides.features
    if spacing is not None and isinstance(error, (ArtefactError, SpacingRefused)):
        return _unworkable("spacing", f"target spacing {mm(spacing)} cannot work", error, nearest_that_works(spacing, with_spacing))
    if features is not None and isinstance(error, DoesNotFit):
        found = nearest_that_works(features, with_features, (-1,))
        if found is not None:
            return _unworkable("features", f"features {', '.join(map(str, features))} cannot work", error, whole(found))
    if request.gpu_memory_gb is not None and isinstance(error, DoesNotFit):
        enough = nearest_that_works((memory,), lambda values: plans(overrides, values[0]), (1,))
        if enough is not None:
            return _unworkable("gpu-memory", f"{memory:g} GB of memory are too little", error, enough)
    return None


def _unworkable(flag: str, what: str, error: AutounetError, nearest: Sequence[float] | None) -> UsageError:
    why = f"{error.what}{'' if error.found is None else f' ({error.found})'}".removeprefix("fingerprint of ")
    if nearest is None:
        return UsageError(what, found=why, remedy=f"leave --{flag} to the rules")
    shown = ",".join(f"{value:g}" for value in nearest)
    return UsageError(what, found=why, expected=f"{shown}, the nearest that can", remedy=f"--{flag} {shown}")


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
    if not all(SMALLEST_MM <= value <= LARGEST_MM for value in spacing):
        found = f"{times(spacing)} mm (z, y, x)"
        expected = f"numbers from {SMALLEST_MM:g} to {LARGEST_MM:g}"
        raise ArtefactError(f"{name}: spacing of case {case} is not usable", found=found, expected=expected, remedy=remedy)
    if min(shape) < 1:
        raise ArtefactError(f"{name}: case {case} has no voxels", found=f"shape {times(shape)} (z, y, x)", remedy=remedy)
