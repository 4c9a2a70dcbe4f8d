"""How large a patch is on its way from the case to the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, hypot

from autounet.networks.scored import is_unpadded, scored_size
from autounet.plan import Configuration
from autounet.preset import AugmentationKind
from autounet.rotation import RotationRule, rotation_rule
from autounet.training.augmentation.elastic import DISPLACEMENT_PX
from autounet.training.augmentation.policy import POLICIES
from autounet.training.augmentation.spatial import Affine
from autounet.training.sampler import initial_patch_size

DISPLACEMENT_SIGMAS = 3
"""Displacements of so many standard deviations still find loaded voxels; rarer ones see the patch's own mirror image."""


@dataclass(frozen=True, slots=True)
class PatchSizes:
    """Sizes per network axis."""

    loaded: tuple[int, ...]
    """Read from the case for augmentation to turn and deform."""
    network: tuple[int, ...]
    """What the network sees."""
    scored: tuple[int, ...]
    """What it puts out, and the loss compares; this part is what sampling keeps inside the case or around foreground."""
    mirrored: bool
    """Beyond the case's edges image, labels and weights go on as their mirror image, else as zeros and OUTSIDE."""


def patch_sizes(configuration: Configuration, augmentation: AugmentationKind) -> PatchSizes:
    """The sizes for training. Raises ArtefactError when the plan's patch does not fit its network."""
    network, spatial = configuration.patch_size, POLICIES[augmentation].spatial
    loaded = _turned_and_deformed(network) if spatial == "elastic" else _turned_and_scaled(network, spatial)
    return PatchSizes(loaded, network, scored_size(configuration), is_unpadded(configuration.network))


def _turned_and_scaled(patch: tuple[int, ...], spatial: Affine) -> tuple[int, ...]:
    if not spatial.rotation_probability and not spatial.scaling_probability:
        return patch
    rule = rotation_rule(patch)
    return initial_patch_size(patch, RotationRule(rule.max_angle_rad * spatial.angle_share, rule.within_slices), spatial.loaded_scale)


def _turned_and_deformed(patch: Sequence[int]) -> tuple[int, ...]:
    """The diagonal of the last two axes for a turn by any angle, and room for displacements; even margins keep voxels on voxels."""
    *before, rows, columns = patch
    reach = hypot(rows, columns) + 2 * DISPLACEMENT_SIGMAS * DISPLACEMENT_PX
    return (*before, *(side + 2 * ceil((reach - side) / 2) for side in (rows, columns)))
