"""What training minimises, as far as the data decide it."""

from math import prod

from autounet.errors import UsageError
from autounet.fingerprint import Fingerprint
from autounet.plan import Decision, LossSpec
from autounet.planners.words import count, percent
from autounet.preset import Preset

MOST_WEIGHT = 10.0
"""A class weighs at most this times, and at least one over this, of what it would if all were equally frequent."""

SPARSE = 0.05
"""Below so large a share of annotated voxels, labels are taken for strokes or points. Whole slices that are annotated, or blocks, show
background in proportion, and need no help."""


def plan_loss(fingerprint: Fingerprint, preset: Preset) -> tuple[LossSpec, Decision]:
    """The loss, and the reason.

    Raises:
        UsageError: The preset's loss cannot be had with overlapping regions.
    """
    if preset.loss == "dice_ce":
        value = "cross-entropy plus soft Dice at every resolution of the decoder"
        reason = "nnU-Net's: Dice does not mind how rare a structure is"
        weight = _unlabelled_weight(fingerprint)
        if weight:
            value += f"; voxels without a label count as background, {weight:g} of an annotated one"
            reason += (
                f"; only {100 * weight:g} % of the voxels are annotated, and no stroke says that what is far away is background. "
                "So little weight does, and is outvoted within a structure, where strokes are dense"
            )
        return LossSpec(unlabelled=weight), Decision(name="loss", value=value, reason=reason)
    labels = fingerprint.labels
    if labels.overlapping:
        raise UsageError(
            f"preset '{preset.name}' cannot be used with overlapping regions",
            found=f"regions {', '.join(labels.names[:5])}",
            remedy="take the preset nnunet, or plain labels in place of regions",
        )
    objects, which = _objects(fingerprint)
    # How many voxels are ignored the fingerprint does not say, so with an ignore label nobody knows how frequent the background is.
    weights = () if 0 in objects or labels.ignore_value is not None else _class_weights(fingerprint)
    shown = f"weighted by class ({', '.join(f'{weight:.2g}' for weight in weights)}) and" if weights else "with"
    spec = LossSpec(kind="border_ce", class_weights=weights, objects=objects)
    return spec, Decision(
        name="loss",
        value=f"cross-entropy, {shown} up to {spec.border_weight:g} more weight between neighbouring objects",
        reason=f"Ronneberger et al. 2015: rare classes and thin borders count as much as the rest; objects are {which}",
    )


def _unlabelled_weight(fingerprint: Fingerprint) -> float:
    """The share of annotated voxels where that is small, else 0.

    The voxels without a label then weigh about as much together as those with one. Within a structure strokes are denser than in the
    image as a whole (hearts: 4 to 23 % against 1 %), so the class of the strokes wins there.
    """
    shares = [case.annotated_share for case in fingerprint.cases if case.annotated_share is not None]
    share = sum(shares) / len(shares) if shares else 1.0
    return float(f"{share:.2g}") if share <= SPARSE else 0.0


def _class_weights(fingerprint: Fingerprint) -> tuple[float, ...]:
    """Inverse frequency of background and classes, 1 for an even share; empty when the fingerprint does not know the frequencies.

    Cases in which some class is not annotated do not say how frequent the background is, and are left out.
    """
    names = fingerprint.labels.names
    cases = [case for case in fingerprint.cases if all(name in case.class_voxels for name in names)]
    if not cases:
        return ()
    voxels = [sum(case.class_voxels[name] for case in cases) for name in names]
    total = sum(prod(case.shape_zyx) for case in cases)
    shares = [number / total for number in (max(total - sum(voxels), 0), *voxels)]
    even = 1 / len(shares)
    return tuple(float(f"{min(max(even / share, 1 / MOST_WEIGHT), MOST_WEIGHT):.4g}") if share else 1.0 for share in shares)


def _objects(fingerprint: Fingerprint) -> tuple[tuple[int, ...], str]:
    """Label indices whose connected components are objects, and which these are, in words."""
    labels = fingerprint.labels
    # Where classes are not annotated, pieces of the background are no measure.
    cases = [case for case in fingerprint.cases if not fingerprint.is_partial(case)] or fingerprint.cases
    foreground = sum(case.components.get(name, 0) for case in cases for name in labels.names)
    background = sum(case.components.get(labels.background_name, 0) for case in cases)
    if background > foreground:
        voxels = sum(number for case in cases for number in case.class_voxels.values())
        share = percent(1 - voxels / sum(prod(case.shape_zyx) for case in cases))
        what = f"the {count(background, 'piece')} of '{labels.background_name}' ({share} of all pixels)"
        # Weights by class on top of the borders' made thin membranes far too thick (docs/experiments.md).
        return (0,), f"{what}, which outnumber the {count(foreground, 'piece')} of the classes; the borders' weight is that of the classes"
    return tuple(range(1, len(labels.names) + 1)), "the connected pieces of each class"
