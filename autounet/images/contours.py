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
        outlines.append(_without_needless(_keyholed(rings)))
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


def _keyholed(rings: list[Polygon]) -> Polygon:
    """An outline and its holes as one polygon.

    From a hole's leftmost corner, which lies on the left of a pixel, the row of pixels is followed to the left until it ends: at a
    corner of the outline, or of another hole that reaches further left. So every hole hangs on one other ring, and no channel leaves
    the mask.
    """
    if len(rings) == 1:
        return rings[0]
    sizes = [len(ring) for ring in rings]
    points, starts = np.concatenate(rings), np.cumsum([0, *sizes[:-1]])
    # Rings cross a row of centres at corners only.
    rows = np.flatnonzero(points[:, 1] == np.rint(points[:, 1]))
    rows = rows[np.lexsort((points[rows, 0], points[rows, 1]))]
    rank = np.empty(len(points), np.int64)
    rank[rows] = np.arange(rows.size)
    hanging = {}
    for ring, start in list(zip(rings, starts, strict=True))[1:]:
        leftmost = int(start + np.argmin(ring[:, 0]))
        hanging[int(rows[rank[leftmost] - 1])] = leftmost
    owner = np.repeat(np.arange(len(rings)), sizes)
    order: list[int] = []
    # Rings that are being walked: where it began, how far it is.
    walks = [(0, 0)]
    while walks:
        began, done = walks.pop()
        mine = int(owner[began])
        start, size = int(starts[mine]), sizes[mine]
        while done <= size:  # to where it began, once more
            at = start + (began - start + done) % size
            order.append(at)
            done += 1
            if at in hanging:
                walks += [(began, done - 1), (hanging.pop(at), 0)]
                break
    return np.asarray(points[order[:-1]])


def _without_needless(polygon: Polygon) -> Polygon:
    """Without corners on a straight way between their neighbours; where the way turns back it keeps them."""
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(axis=1) > 0)
    return np.asarray(polygon[~straight])
