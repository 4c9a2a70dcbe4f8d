"""Masks ↔ closed contours in the plane of a slice, exactly: filling what was traced gives the mask back."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Polygon = npt.NDArray[np.float64]
"""Corners (n, 2): x, y in pixels, centres of pixels at whole numbers; the last corner is joined to the first."""


def trace(mask_yx: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Outlines of a mask (y, x), one per island, halfway between the pixels inside and outside.

    A hole is joined to the outline around it by a channel of no width that is walked twice ("keyhole"), as DICOM asks of CLOSED_PLANAR
    contours (PS3.3 C.8.8.6.3). By the even-odd rule at the centres of pixels the polygons fill exactly the mask.
    """
    from contourpy import FillType, contour_generator

    rows, columns = np.nonzero(mask_yx.any(axis=1))[0], np.nonzero(mask_yx.any(axis=0))[0]
    if rows.size == 0:
        return []
    # A frame of background around it closes what touches the border.
    part = np.pad(mask_yx[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(np.float64)
    islands: Any = contour_generator(z=part, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    corner = np.array([columns[0] - 1, rows[0] - 1], np.float64)
    outlines = []
    for island, ends in zip(*islands, strict=True):
        # contourpy repeats the first corner of every ring at its end.
        rings = [island[start : end - 1] + corner for start, end in pairwise(ends)]
        outlines.append(_without_needless(_keyholed(rings[0], rings[1:])))
    return outlines


def fill(polygons: list[Polygon], shape_yx: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels whose centres are inside by the even-odd rule over all polygons together: inner ones are holes.

    A centre that lies exactly on an edge belongs to the pixel on the edge's right or lower side.
    """
    height, width = shape_yx
    turns = np.zeros((height, width + 1), np.int32)
    for polygon in polygons:
        starts, ends = polygon, np.roll(polygon, -1, axis=0)
        upper, lower = np.where(starts[:, 1:] <= ends[:, 1:], starts, ends), np.where(starts[:, 1:] <= ends[:, 1:], ends, starts)
        # Rows from the upper corner on and before the lower one: a corner between two edges counts once.
        first = np.clip(np.ceil(upper[:, 1]), 0, height).astype(np.int64)
        counts = np.clip(np.ceil(lower[:, 1]), 0, height).astype(np.int64) - first
        edge = np.repeat(np.arange(len(polygon)), counts)
        if edge.size == 0:
            continue
        row = first[edge] + np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts)
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        crossing = upper[edge, 0] + slope * (row - upper[edge, 1])
        np.add.at(turns, (row, np.clip(np.ceil(crossing), 0, width).astype(np.int64)), 1)
    return np.asarray(np.cumsum(turns, axis=1)[:, :width] % 2 == 1)


def _keyholed(outline: Polygon, holes: list[Polygon]) -> Polygon:
    """The outline with every hole joined to what is joined already, the nearest first, by the shortest way."""
    from scipy.spatial import cKDTree

    left = list(holes)
    while left:
        tree = cKDTree(outline)
        found = [tree.query(hole) for hole in left]
        nearest = min(range(len(left)), key=lambda index: float(found[index][0].min()))
        distances, places = found[nearest]
        at = int(np.argmin(distances))
        here, hole = int(places[at]), left.pop(nearest)
        outline = np.concatenate([outline[: here + 1], hole[at:], hole[: at + 1], outline[here:]])
    return outline


def _without_needless(polygon: Polygon) -> Polygon:
    """Without corners on a straight way between their neighbours; where the way turns back it keeps them."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(axis=1) > 0)
    return np.asarray(polygon[~straight])
