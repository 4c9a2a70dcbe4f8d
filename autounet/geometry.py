"""Where voxels lie in space, and the way from an image to the network's grid and back.

Arrays are ``[channel,] z, y, x``: the last axis runs fastest, as SimpleITK and nnU-Net have it. A 2D image is a volume of one
slice whose grid says ``ndim=2``. World coordinates follow ITK: ``x, y, z`` in mm, patient left/posterior/superior positive.
"""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import Frozen

Triple = tuple[int, int, int]
TripleMm = tuple[float, float, float]

SMALLEST_MM, LARGEST_MM = 1e-9, 1e9
"""Spacings beyond these are mistakes, and would not survive arithmetic."""

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class Grid(Frozen):
    """The voxel grid of an image."""

    ndim: int = 3
    """2 for planar images (one slice, no thickness), else 3."""
    shape_zyx: Triple
    spacing_mm_zyx: TripleMm
    origin_mm_xyz: TripleMm = (0.0, 0.0, 0.0)
    """Centre of the first voxel."""
    direction: tuple[float, ...] = IDENTITY_DIRECTION
    """3x3 matrix, row by row; column k is the world direction of array axis x, y, z for k = 0, 1, 2 (as in ITK).

    Columns have length 1. Rows and columns of a slice are at right angles; the third axis need not be (``slant_degrees``).
    """

    def affine_xyz(self) -> npt.NDArray[np.float64]:
        """4x4 matrix from voxel indices (x, y, z, 1) to world mm (ITK's left-posterior-superior axes)."""
        affine = np.eye(4)
        affine[:3, :3] = np.array(self.direction).reshape(3, 3) * np.array(self.spacing_mm_zyx[::-1])
        affine[:3, 3] = self.origin_mm_xyz
        return affine

    def slant_degrees(self) -> float:
        """How far the line from slice to slice is off the slices' normal: the tilt of a CT's gantry; 0 for planar images."""
        return 0.0 if self.ndim == 2 else slant_degrees(np.array(self.direction).reshape(3, 3))

    def voxel_size(self) -> float:
        """Volume of a voxel in mm³; area of a pixel in mm² where the image is planar."""
        z, y, x = self.spacing_mm_zyx
        return y * x if self.ndim == 2 else z * y * x * math.cos(math.radians(self.slant_degrees()))

    def radiological_flips(self) -> tuple[int, ...]:
        """Array axes (of z, y, x: 1 and 2) to reverse so that a slice is seen as radiologists do.

        Rows run from front to back or from head to feet, columns from the patient's right to left, whatever the file's order.
        """
        flips = []
        matrix = np.array(self.direction).reshape(3, 3)
        for array_axis, column in ((1, 1), (2, 0)):
            world = int(np.abs(matrix[:, column]).argmax())
            towards = matrix[world, column] if world < 2 else -matrix[world, column]
            if towards < 0:
                flips.append(array_axis)
        return tuple(flips)

    def orientation(self) -> str:
        """Where the array axes z, y, x point in the patient: three letters, each the direction in which the index grows.

        L(eft), R(ight), A(nterior), P(osterior), S(uperior), I(nferior); of oblique axes the nearest, each direction once. ``SPL`` is
        the order of ITK's own axes.
        """
        matrix = np.array(self.direction).reshape(3, 3)
        columns = (2, 1, 0)  # of array axes z, y, x
        worlds = max(
            permutations((2, 1, 0)), key=lambda order: sum(abs(matrix[world, column]) for world, column in zip(order, columns, strict=True))
        )
        return "".join(("LR", "PA", "SI")[world][int(matrix[world, column] < 0)] for world, column in zip(worlds, columns, strict=True))

    def differences(self, other: "Grid", tolerance: float = 1e-3) -> list[str]:
        """What differs between two grids, in words; empty when they agree.

        ``tolerance`` is relative for the spacing and absolute for the direction's cosines. Origins may differ by ten times that
        part of the spacing, and by what float32 headers round.
        """
        found = []
        if self.shape_zyx != other.shape_zyx:
            found.append(f"shape {_x(self.shape_zyx)} and {_x(other.shape_zyx)} (z, y, x)")
        pairs = zip(self.spacing_mm_zyx, other.spacing_mm_zyx, strict=True)
        if any(not math.isclose(a, b, rel_tol=tolerance) for a, b in pairs):
            found.append(f"spacing {_mm(self.spacing_mm_zyx)} and {_mm(other.spacing_mm_zyx)} mm (z, y, x)")
        reach = 10 * tolerance * max(self.spacing_mm_zyx) + 1e-6 * max(abs(value) for value in self.origin_mm_xyz)
        if any(abs(a - b) > reach for a, b in zip(self.origin_mm_xyz, other.origin_mm_xyz, strict=True)):
            found.append(f"origin {_mm(self.origin_mm_xyz)} and {_mm(other.origin_mm_xyz)} mm (x, y, z)")
        if any(abs(a - b) > tolerance for a, b in zip(self.direction, other.direction, strict=True)):
            found.append("direction (orientation of the axes)")
        return found


def slant_degrees(axes: npt.NDArray[Any]) -> float:
    """How far the third of three axes (columns, of any length) is off the normal of the first two; 0 below a thousandth of a degree."""
    across, down, step = np.asarray(axes, np.float64).T
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    along = step @ normal
    slant = math.degrees(math.atan2(float(np.linalg.norm(step - along * normal)), abs(float(along))))
    return slant if slant > 1e-3 else 0.0


class Box(Frozen):
    """A box of voxels, ``start`` included, ``stop`` excluded."""

    start: Triple
    stop: Triple

    @property
    def shape(self) -> Triple:
        """Size along each axis."""
        a, b, c = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return a, b, c

    def slices(self) -> tuple[slice, slice, slice]:
        """Index for the last three axes of an array."""
        a, b, c = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return a, b, c


class Trace(Frozen):
    """How a case was brought to the network's grid: transpose, then crop, then resample; enough to undo all three."""

    grid: Grid
    """The image as it was read."""
    transpose: Triple
    """Array axes in their new order: ``image.transpose(transpose)``."""
    box: Box
    """The part that was kept, in transposed axes."""
    prepared_shape: Triple
    """Size after resampling, in transposed axes."""

    @property
    def transposed_shape(self) -> Triple:
        """Size of the whole image in transposed axes."""
        a, b, c = (self.grid.shape_zyx[axis] for axis in self.transpose)
        return a, b, c

    @property
    def transposed_spacing_mm(self) -> TripleMm:
        """Spacing of the image in transposed axes."""
        a, b, c = (self.grid.spacing_mm_zyx[axis] for axis in self.transpose)
        return a, b, c

    def place_back(self, cropped: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A label map on the cropped, transposed grid → the image's own grid; outside the crop is 0."""
        whole = np.zeros(self.transposed_shape, cropped.dtype)
        whole[self.box.slices()] = cropped
        return np.ascontiguousarray(whole.transpose(inverse_permutation(self.transpose)))


def nonzero_box(image_czyx: npt.NDArray[Any]) -> Box:
    """The smallest box with all voxels that are nonzero in any channel; the whole image when all are zero.

    Filling holes, as nnU-Net does first (``preprocessing/cropping/cropping.py``), would not change the box. Only the planes
    that are cut away, and the first beyond them on each side, are looked at.

    Args:
        image_czyx: Image of any numeric type; NaN counts as nonzero.
    """
    start, stop = [0, 0, 0], list(image_czyx.shape[1:])
    for axis in range(3):
        planes = np.moveaxis(image_czyx, axis + 1, 0)
        first = next((index for index in range(stop[axis]) if planes[index].any()), None)
        if first is None:
            return Box(start=(0, 0, 0), stop=_triple(image_czyx.shape[1:]))
        start[axis] = first
        stop[axis] = next(index for index in range(stop[axis] - 1, -1, -1) if planes[index].any()) + 1
        # Later axes need look only inside what is left.
        image_czyx = np.moveaxis(planes[first : stop[axis]], 0, axis + 1)
    return Box(start=_triple(start), stop=_triple(stop))


def mirror_indices(first: int, count: int, size: int) -> npt.NDArray[np.int64]:
    """Which voxels of an axis of ``size`` stand at ``first``, ``first + 1``, … where its mirror image goes on beyond both ends.

    The voxel at the edge comes twice (numpy's ``symmetric``), and reflections repeat however far the line goes.
    """
    at = np.arange(first, first + count) % (2 * size)
    return np.minimum(at, 2 * size - 1 - at)


def inverse_permutation(order: Triple) -> Triple:
    """The permutation that undoes ``order``."""
    a, b, c = (order.index(axis) for axis in range(3))
    return a, b, c


def _triple(values: Sequence[int]) -> Triple:
    a, b, c = (int(value) for value in values)
    return a, b, c


def _x(values: tuple[int, ...]) -> str:
    return "×".join(str(value) for value in values)


def _mm(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
