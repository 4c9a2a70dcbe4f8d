"""Which patches a batch is made of. Pure rules on shapes and foreground voxels; nothing is read here.

Source of the rules: nnunetv2 2.8.1, ``training/dataloading/data_loader.py`` and ``data_augmentation/compute_initial_patch_size.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autounet.geometry import Triple
from autounet.rotation import RotationRule

FOREGROUND_SHARE = 0.33
"""Share of the samples of a batch that must hold foreground."""

SCALE_FOR_SIZE = 0.85
"""The loaded patch is larger than the network's by rotation and by one over this."""


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """What sampling needs to know about a case."""

    shape: Triple
    foreground: tuple[npt.NDArray[np.int32], ...]
    """Voxels (n, 3) of each class; may be empty."""
    annotated_voxels: npt.NDArray[np.int32] | None = None
    """Voxels (n, 3) of any label but the ignore label; None where labels have none."""


@dataclass(frozen=True, slots=True)
class PatchRequest:
    """A patch to read: it may reach beyond the case on every side."""

    case: int
    start: Triple


def initial_patch_size(patch_size: Sequence[int], rule: RotationRule) -> tuple[int, ...]:
    """Size to load so that a rotated and scaled patch mostly finds data: the largest extent over single rotations / 0.85."""
    angle = min(rule.max_angle_rad, math.pi / 2)
    sine, cosine = math.sin(angle), math.cos(angle)
    size = np.array(patch_size, dtype=np.float64)
    largest = size.copy()
    planes = [(0, 1)] if len(patch_size) == 2 else [(1, 2), (0, 2), (0, 1)]
    # The sign of the turn follows the source's matrices: the two axes of a plane do not grow alike.
    for (first, second), sign in zip(planes, (1, -1, 1), strict=False):
        turned = size.copy()
        turned[first] = abs(size[first] * cosine + sign * size[second] * sine)
        turned[second] = abs(size[second] * cosine - sign * size[first] * sine)
        largest = np.maximum(largest, turned)
    loaded = [int(side) for side in largest / SCALE_FOR_SIZE]
    if rule.within_slices:
        loaded[0] = patch_size[0]
    return tuple(loaded)


def draw_batch(
    rng: np.random.Generator, cases: Sequence[CaseSummary], batch_size: int, loaded: Triple, patch: Triple
) -> list[PatchRequest]:
    """Draws the patches of one batch: cases uniformly with replacement, the last third of the batch around foreground.

    A batch of one has no third: it is around foreground with that probability (nnU-Net's ``_probabilistic_oversampling``).

    Args:
        rng: The batch's own generator.
        cases: All cases of the fold.
        batch_size: Samples in the batch.
        loaded: Size of the patches to read (z, y, x; z is 1 for 2D networks).
        patch: Size of the network's patch, at most ``loaded``.
    """
    requests = []
    for sample in range(batch_size):
        index = int(rng.integers(len(cases)))
        whole = batch_size > 1
        forced = sample >= round(batch_size * (1 - FOREGROUND_SHARE)) if whole else rng.random() < FOREGROUND_SHARE
        requests.append(PatchRequest(index, draw_start(rng, cases[index], loaded, patch, forced)))
    return requests


def draw_start(rng: np.random.Generator, case: CaseSummary, loaded: Triple, patch: Triple, forced: bool) -> Triple:
    """First voxel of a patch in one case.

    A forced patch is centred on a voxel of a class drawn among those the case has, and kept from starting before the first
    allowed voxel only, so that it may run past the far edge, as nnU-Net's does. Where labels have an ignore value, the other patches
    are centred on an annotated voxel of any label in the same way: elsewhere there may be nothing to learn from.
    """
    lows, highs = [], []
    for size, side, inner in zip(case.shape, loaded, patch, strict=True):
        padding = max(side - inner, side - size)
        lows.append(-(padding // 2) - padding % 2)
        highs.append(size + padding // 2 + padding % 2 - side)
    present = [voxels for voxels in case.foreground if len(voxels)]
    if forced and present:
        voxels = present[int(rng.integers(len(present)))]
    elif case.annotated_voxels is not None and len(case.annotated_voxels):
        voxels = case.annotated_voxels
    else:
        z, y, x = (int(rng.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
        return z, y, x
    voxel = voxels[int(rng.integers(len(voxels)))]
    z, y, x = (max(low, int(at) - side // 2) for low, at, side in zip(lows, voxel, loaded, strict=True))
    return z, y, x
