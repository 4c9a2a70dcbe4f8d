"""How far patches are turned in training: a rule on the patch's shape, which planning must know as well as training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ANISOTROPIC_PATCH = 3.0
"""Above this ratio of the longest side to the first, rotation and scaling stay within slices."""


@dataclass(frozen=True, slots=True)
class RotationRule:
    """How far patches are turned, decided by the patch's shape."""

    max_angle_rad: float
    within_slices: bool
    """3D only: rotate and scale around the first axis alone ("dummy 2D")."""


def rotation_rule(patch_size: Sequence[int]) -> RotationRule:
    """Source: nnUNetTrainer.py, configure_rotation_dummyDA_mirroring_and_inital_patch_size."""
    if len(patch_size) == 2:
        return RotationRule(math.radians(15 if max(patch_size) / min(patch_size) > 1.5 else 180), False)
    within_slices = max(patch_size) / patch_size[0] > ANISOTROPIC_PATCH
    return RotationRule(math.radians(180 if within_slices else 30), within_slices)
