"""Rotation, scaling and the cut to the network's patch; mirroring.

Source of the rules: nnUNetTrainer.py, get_training_transforms, and batchgeneratorsv2 0.3.6, ``spatial/spatial.py``.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.preprocessing.case import OUTSIDE

ROTATION_PROBABILITY = 0.2
SCALING_PROBABILITY = 0.2
SCALING = (0.7, 1.4)
"""Above 1 the sampled field is larger, so objects become smaller."""


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


def draw_spatial(rng: np.random.Generator, count: int, ndim: int, max_angle_rad: float, within_slices: bool) -> SpatialDraw:
    """Draws rotation (all axes, uniform) and scaling (one factor for all axes), each with probability 0.2 per sample."""
    matrices = np.tile(np.eye(ndim), (count, 1, 1))
    active = np.zeros(count, bool)
    for sample in range(count):
        rotated, scaled = rng.random() < ROTATION_PROBABILITY, rng.random() < SCALING_PROBABILITY
        turned = 2 if within_slices else ndim
        matrix = np.eye(turned)
        if rotated:
            matrix = rotation_matrix(rng.uniform(-max_angle_rad, max_angle_rad, 3 if turned == 3 else 1))
        if scaled:
            matrix = matrix * rng.uniform(*SCALING)
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
        labels: (n, *loaded) int16; sampled by nearest neighbour, OUTSIDE outside. (batchgeneratorsv2 samples every label linearly
            and takes the largest: several times the work, for another choice only where no label clearly prevails.)
        draw: From ``draw_spatial``.
        patch_size: Size of the result.
        mirrored: Beyond the loaded patch lies its mirror image, instead of zero and OUTSIDE.
    """
    window = tuple(
        slice((loaded - side) // 2, (loaded - side) // 2 + side) for loaded, side in zip(labels.shape[1:], patch_size, strict=True)
    )
    every = slice(None)
    cut_image, cut_labels = image[(every, every, *window)].contiguous(), labels[(every, *window)].contiguous()
    chosen = np.flatnonzero(draw.active).tolist()
    if not chosen:
        return cut_image, cut_labels
    ndim = len(patch_size)
    sizes_out, sizes_in = np.array(patch_size, float), np.array(labels.shape[1:], float)
    # grid_sample wants coordinates from -1 to 1 over the input, last axis first.
    theta = draw.matrices[chosen] * (sizes_out / 2)[None, None, :] * (2 / sizes_in)[None, :, None]
    theta = np.concatenate([theta[:, ::-1, ::-1], np.zeros((len(chosen), ndim, 1))], axis=2)
    matrices = torch.from_numpy(theta.copy()).to(image.device, torch.float32)
    grid = torch.nn.functional.affine_grid(matrices, [len(chosen), 1, *patch_size], align_corners=False)
    beyond = "reflection" if mirrored else "zeros"
    cut_image[chosen] = torch.nn.functional.grid_sample(image[chosen], grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    size = torch.tensor(labels.shape[1:], device=grid.device)
    cut_labels[chosen] = nearest(labels[chosen], ((grid.flip(-1) + 1) * size - 1) / 2, mirrored)
    return cut_image, cut_labels


def nearest(labels: Tensor, positions: Tensor, mirrored: bool) -> Tensor:
    """Nearest labels (n, *out); grid_sample itself has no 3D nearest on every device.

    Args:
        labels: (n, *size) integers.
        positions: (n, *out, d), in voxels along each of the axes.
        mirrored: Beyond the edges labels go on as their mirror image (the voxel at the edge comes twice), else as OUTSIDE.
    """
    size = torch.tensor(labels.shape[1:], device=positions.device)
    at = positions.round().long()
    if mirrored:
        at = at.remainder(2 * size)
        at = torch.minimum(at, 2 * size - 1 - at)
    inside = ((at >= 0) & (at < size)).all(-1)
    flat = torch.zeros_like(at[..., 0])
    for axis, extent in enumerate(labels.shape[1:]):
        flat = flat * extent + at[..., axis].clamp(0, extent - 1)
    picked = labels.flatten(1).gather(1, flat.flatten(1)).view(flat.shape)
    return picked.masked_fill(~inside, OUTSIDE)


def apply_mirror(image: Tensor, labels: Tensor, flips: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Mirrors each sample along the axes where ``flips`` (n, d) is true."""
    for sample, axes in enumerate(flips):
        chosen = np.flatnonzero(axes).tolist()
        if chosen:
            image[sample] = image[sample].flip([axis + 1 for axis in chosen])
            labels[sample] = labels[sample].flip(chosen)
    return image, labels
