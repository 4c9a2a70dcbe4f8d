"""Where a U-Net halves its feature maps and how large its kernels are.

Rule of nnunetv2 2.8.1, ``experiment_planners/network_topology.py`` (get_pool_and_conv_props).
"""

from collections.abc import Sequence
from dataclasses import dataclass

SIMILAR = 2.0
"""Axes whose spacings differ by less than this factor are treated alike."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The skeleton of a U-Net for one patch size. Per-axis tuples are in the network's axis order."""

    patch_size: tuple[int, ...]
    """The asked size, padded so that every halving comes out even."""
    strides: tuple[tuple[int, ...], ...]
    """Per stage; the first is all ones."""
    kernel_sizes: tuple[tuple[int, ...], ...]
    """Per stage."""
    multiple_of: tuple[int, ...]
    """The patch is a multiple of this: 2 to the number of halvings, per axis."""

    @property
    def stages(self) -> int:
        """Resolution stages, the finest included."""
        return len(self.strides)


def topology(spacing_mm: Sequence[float], size: Sequence[float], min_edge: int) -> Topology:
    """Halves the axes, finest spacing first, until nothing can be halved.

    In each stage the axes are halved that still have ``2 * min_edge`` voxels and whose spacing is within a factor of 2 of the
    finest such axis; an axis left alone needs ``3 * min_edge``. A kernel spans 1 voxel along an axis until that axis'
    spacing is within a factor of 2 of the finest, then 3; the coarsest stage always has 3.

    Args:
        spacing_mm: Per axis.
        size: Wanted patch, per axis; medians may have half voxels.
        min_edge: Smallest size of a feature map along a halved axis.
    """
    axes = range(len(spacing_mm))
    spacing, left = [float(value) for value in spacing_mm], [float(value) for value in size]
    halvings = [0] * len(spacing)
    kernel = [1] * len(spacing)
    strides, kernels = [(1,) * len(spacing)], []
    while True:
        large = [axis for axis in axes if left[axis] >= 2 * min_edge]
        if not large:
            break
        finest = min(spacing[axis] for axis in large)
        halved = [axis for axis in large if spacing[axis] / finest < SIMILAR]
        if len(halved) == 1 and left[halved[0]] < 3 * min_edge:
            break
        # Kernels compare with the finest of all axes, also of those that are too small to be halved.
        kernel = [3 if kernel[axis] == 3 or spacing[axis] / min(spacing) < SIMILAR else 1 for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            halvings[axis] += 1
            spacing[axis] *= 2
            left[axis] = -(-left[axis] // 2)
    kernels.append((3,) * len(spacing))
    multiple_of = tuple(2**number for number in halvings)
    padded = tuple(int(-(-value // multiple) * multiple) for value, multiple in zip(size, multiple_of, strict=True))
    return Topology(padded, tuple(strides), tuple(kernels), multiple_of)
