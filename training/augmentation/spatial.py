"""Rotation, scaling and the cut to the network's patch; mirroring.

Source of the rules: nnUNetTrainer.py, get_training_transforms, and batchgeneratorsv2 0.3.6, ``spatial/spatial.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.rotation import RotationRule
from autounet.training.augmentation.resample import resample, sum_of

CACHED_VOXELS = 2**16


@dataclass(frozen=True, slots=True)
class Affine:
    """How often and how far patches are turned and scaled."""

    rotation_probability: float
    scaling_probability: float
    scaling: tuple[float, float]
    """Above 1 the sampled field is larger, so objects become smaller."""
    angle_share: float = 1.0
    """Of the largest angle that the patch's shape allows."""
    axis_probability: float = 1.0
    """Of a turned patch to be turned about each of its axes."""
    one_scale: bool = True
    """For all axes, else each has its own."""
    loaded_scale: float = 0.85
    """What is loaded is larger than the patch by one over this, beside the room for rotation (``initial_patch_size``)."""


@dataclass(frozen=True, slots=True)
class SpatialDraw:
    """Per sample: the matrix from output to input voxel offsets (from the patch's centre), and whether it is not the identity."""

    matrices: npt.NDArray[np.float64]
    """(n, d, d)"""
    active: npt.NDArray[np.bool_]
    """(n,)"""

    def part(self, samples: range) -> "SpatialDraw":
        """The draw of some samples of the batch."""
        return SpatialDraw(self.matrices[samples.start : samples.stop], self.active[samples.start : samples.stop])


def draw_spatial(rng: np.random.Generator, count: int, ndim: int, affine: Affine, rule: RotationRule) -> SpatialDraw:
    """Draws rotation (about all axes, uniform) and scaling, each with its probability per sample; within slices where the rule says so."""
    matrices = np.tile(np.eye(ndim), (count, 1, 1))
    active = np.zeros(count, bool)
    turned = ndim - 1 if rule.within_slices else ndim
    turns, limit = 3 if turned == 3 else 1, rule.max_angle_rad * affine.angle_share
    for sample in range(count):
        rotated, scaled = rng.random() < affine.rotation_probability, rng.random() < affine.scaling_probability
        matrix = np.eye(turned)
        if rotated:
            angles = rng.uniform(-limit, limit, turns)
            if affine.axis_probability < 1:
                angles *= rng.random(turns) < affine.axis_probability
            matrix = rotation_matrix(angles)
        if scaled:
            matrix = matrix * rng.uniform(*affine.scaling, 1 if affine.one_scale else turned)  # the columns: scaled first, then turned
        matrices[sample, ndim - turned :, ndim - turned :] = matrix
        active[sample] = rotated or scaled
    return SpatialDraw(matrices, active)


def rotation_matrix(angles_rad: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One angle: a turn in the plane. Three: turns about axes 0, 1 and 2, in that order."""
    if len(angles_rad) == 1:
        sine, cosine = np.sin(angles_rad[0]), np.cos(angles_rad[0])
        return np.array([[cosine, -sine], [sine, cosine]])
    (sa, sb, sc), (ca, cb, cc) = np.sin(angles_rad), np.cos(angles_rad)
    about_0 = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_1 = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_2 = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.asarray(about_2 @ about_1 @ about_0)


def apply_spatial(
    image: Tensor, labels: Tensor, draw: SpatialDraw, patch_size: tuple[int, ...], mirrored: bool = False
) -> tuple[Tensor, Tensor]:
    """Cuts patches out of the loaded ones, turned and scaled where drawn.

    Args:
        image: (n, c, *loaded) float32; sampled linearly, zero outside.
        labels: (n, *loaded) int16, or (n, m, *loaded) for several maps; sampled by ``resample``, OUTSIDE outside.
        draw: From ``draw_spatial``.
        patch_size: Size of the result.
        mirrored: Beyond the loaded patch lies its mirror image, instead of zero and OUTSIDE.
    """
    ndim = len(patch_size)
    loaded = tuple(image.shape[-ndim:])
    inner = [slice((size - side) // 2, (size - side) // 2 + side) for size, side in zip(loaded, patch_size, strict=True)]
    window: tuple[Any, ...] = (..., *inner)
    cut_image, cut_labels = image[window].contiguous(), labels[window].contiguous()
    chosen = np.flatnonzero(draw.active).tolist()
    # A CPU works on few samples at a time, which stay in its cache; other devices like all at once.
    at_once = max(1, CACHED_VOXELS // math.prod(patch_size) if image.device.type == "cpu" else len(chosen))
    for begin in range(0, len(chosen), at_once):
        group = chosen[begin : begin + at_once]
        matrices, turned_image, turned_labels = draw.matrices[group], image[group], labels[group]
        first = int(_leave_slices(matrices) and (loaded[0] - patch_size[0]) % 2 == 0)
        if first:  # each slice stays in its plane: two axes to interpolate along instead of three
            turned_image, turned_labels = turned_image[..., inner[0], :, :], turned_labels[..., inner[0], :, :]
        positions = _positions(matrices[:, first:, first:], loaded[first:], patch_size[first:], image.device)
        cut_image[group], cut_labels[group] = resample(turned_image, turned_labels, positions, mirrored)
    return cut_image, cut_labels


def _leave_slices(matrices: npt.NDArray[np.float64]) -> bool:
    return matrices.shape[1] == 3 and bool((matrices[:, 0] == [1, 0, 0]).all() and (matrices[:, :, 0] == [1, 0, 0]).all())


def _positions(matrices: npt.NDArray[np.float64], loaded: Sequence[int], patch_size: Sequence[int], device: torch.device) -> list[Tensor]:
    """Where every voxel of the patch comes from: per axis (k, *patch), in voxels of the loaded patch."""
    ndim = len(patch_size)
    weights = torch.from_numpy(matrices).to(device, torch.float32, non_blocking=device.type == "cuda").view(-1, ndim, ndim, *(1,) * ndim)
    offsets = [
        (torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2).view(-1, *(1,) * (ndim - 1 - axis))
        for axis, side in enumerate(patch_size)
    ]
    return [
        sum_of([weights[:, row, 0] * offsets[0] + (size - 1) / 2, *(weights[:, row, axis] * offsets[axis] for axis in range(1, ndim))])
        for row, size in enumerate(loaded)
    ]


def apply_mirror(image: Tensor, labels: Tensor, flips: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Mirrors each sample along the axes where ``flips`` (n, d) is true."""
    ndim = flips.shape[1]
    for sample, axes in enumerate(flips):
        chosen = (np.flatnonzero(axes) - ndim).tolist()
        if chosen:
            image[sample] = image[sample].flip(chosen)
            labels[sample] = labels[sample].flip(chosen)
    return image, labels
