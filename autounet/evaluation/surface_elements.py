"""Surfaces of masks as small elements: where each lies and how large it is.

A surface element sits at every corner point between voxels whose neighbourhood (2x2x2 voxels, 2x2 pixels) is partly inside the mask. Its
area is that of the triangles which marching cubes puts there, for the voxels' true spacing; in the plane it is the length of the contour.
This is the definition of S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", J Med
Internet Res 2021, and of their package surface-distance 0.1 (``lookup_tables.py``), whose numbers the tests compare. Where border voxels
are counted instead (MedPy, MONAI's default), every part of a surface counts by how many voxels it happens to cross, not by its area.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Normal = tuple[int, int, int]

NORMALS: dict[int, tuple[Normal, ...]] = {
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3)),
    0b00011110: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
"""The ways in which a surface can run through 2x2x2 voxels, up to symmetry, by the code of the voxels that are inside (bit 4i + 2j + k
stands for voxel i, j, k). Of every triangle the normal (z, y, x; without sign), whose length is the area, in eighths of a voxel's faces."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The surface of one mask."""

    where: BoolArray
    """Corner points that have an element; one longer than the mask along each axis. Point p lies before voxel p."""
    points: npt.NDArray[np.int64]
    """The same as indices into the flattened array, ascending."""
    areas: FloatArray
    """mm² (in the plane mm) of each element, in the order of ``points``."""

    def positions_mm(self, spacing_mm: tuple[float, ...]) -> FloatArray:
        """Where the elements are, (element, axis)."""
        positions: FloatArray = np.column_stack(np.unravel_index(self.points, self.where.shape)) * np.array(spacing_mm)
        return positions


def surface_of(mask: BoolArray, spacing_mm: tuple[float, ...]) -> Surface:
    """The surface of a mask; beyond the array's edges is outside.

    Args:
        mask: Volume (z, y, x) or image (y, x).
        spacing_mm: Of the same axes.
    """
    inside = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([size - 1 for size in inside.shape], np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        neighbour = inside[tuple(slice(offset, offset + size) for offset, size in zip(corner, code.shape, strict=True))]
        code |= neighbour << np.uint8(bit)
    where = (code != 0) & (code != 2**2**mask.ndim - 1)
    points = np.flatnonzero(where)
    return Surface(where, points, element_areas(spacing_mm)[code.reshape(-1)[points]])


def element_areas(spacing_mm: tuple[float, ...]) -> FloatArray:
    """Area (mm²; in the plane length in mm) of the elements by the code of their neighbourhood: 256 numbers, in the plane 16."""
    if len(spacing_mm) == 2:
        return _contour_lengths(*spacing_mm)
    z, y, x = spacing_mm
    areas: FloatArray = np.sqrt(((_all_normals() * (y * x, z * x, z * y)) ** 2).sum(2)).sum(1)
    return areas


def _contour_lengths(y: float, x: float) -> FloatArray:
    """Bits: 1 upper left, 2 upper right, 4 lower left, 8 lower right."""
    slant = np.hypot(y, x) / 2
    lengths = np.full(16, slant)
    lengths[[0b0000, 0b1111]] = 0
    lengths[[0b0011, 0b1100]] = x
    lengths[[0b0101, 0b1010]] = y
    lengths[[0b0110, 0b1001]] = 2 * slant
    return lengths


@cache
def _all_normals() -> FloatArray:
    """Normals of all 256 codes, (code, triangle, axis): those of ``NORMALS`` turned, mirrored, and with inside and outside exchanged."""
    normals = np.zeros((256, 4, 3))
    for code, triangles in NORMALS.items():
        corners = [(bit >> 2 & 1, bit >> 1 & 1, bit & 1) for bit in range(8) if code >> bit & 1]
        for axes in permutations(range(3)):
            turned = [[triangle[axis] / 8 for axis in axes] for triangle in triangles]
            for flips in product((0, 1), repeat=3):
                moved = [[corner[axis] ^ flip for axis, flip in zip(axes, flips, strict=True)] for corner in corners]
                same = sum(1 << (4 * i + 2 * j + k) for i, j, k in moved)
                normals[same, : len(turned)] = normals[255 - same, : len(turned)] = turned
    return normals
