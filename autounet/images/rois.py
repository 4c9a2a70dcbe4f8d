"""Reading RTSTRUCT: closed contours filled at the centres of the voxels of the image that they were drawn on.

What is called from elsewhere is called within ``drawn.understood``: a file may hold anything.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.contours import Polygon, fill
from autounet.images.drawn import Drawn, Voxels
from autounet.images.stored import damaged

log = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area (the last is how some programs spell it)."""

FLAT = 0.1
"""Of a slice's thickness: so much the corners of a contour may differ in depth, and the contours of one slice."""


def voxels(grid: Grid, drawn: Drawn, wanted: set[int]) -> Iterator[tuple[int, Voxels]]:
    """Every wanted region's voxels on a grid, slice by slice.

    Contours are filled by the even-odd rule over all of a region's contours in a slice: a contour inside another is a hole, an outline that
    reaches its hole by a channel ("keyhole") comes out right as well. A contour that is stored twice counts once. A contour between slices
    belongs to the nearest.

    Raises:
        ImageError: Contours are not in the planes of the image's slices or lie outside of it, two depths fall on one slice, or the
            region is not drawn with closed contours.
    """
    inverse = np.linalg.inv(grid.affine_xyz())
    for item in drawn.dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        contours = item.get("ContourSequence") or []
        if number not in wanted or not contours:
            continue
        slices: dict[int, list[tuple[float, Polygon]]] = {}
        for polygon, depth in _closed(drawn, number, contours, inverse):
            index = int(np.rint(depth))
            if not 0 <= index < grid.shape_zyx[0]:
                raise _refused(
                    drawn, number, f"a contour at slice {depth + 1:.4g} of {grid.shape_zyx[0]}", "contours on the image's slices"
                )
            slices.setdefault(index, []).append((depth, polygon))
        _warn_of_gaps(drawn, number, sorted(slices))
        for index, found in sorted(slices.items()):
            depths = [depth for depth, _ in found]
            if max(depths) - min(depths) > FLAT:
                what = f"contours at slices {min(depths) + 1:.4g} and {max(depths) + 1:.4g}, which both fall on {index + 1}"
                raise _refused(drawn, number, what, "contours at the distance of the image's slices")
            once = list({_edges(polygon): polygon for _, polygon in found}.values())
            if len(once) < len(found):
                log.warning("%s, '%s': stored twice in slice %d, and counted once", drawn.path.name, drawn.names[number], index + 1)
            yield number, _filled(grid, drawn, number, index, once)


def _edges(polygon: Polygon) -> bytes:
    """What equal contours have in common wherever they begin and whichever way they run: their edges, to a thousandth of a voxel."""
    corners = np.rint(polygon * 1000).astype(np.int64)
    edges = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)  # edge, end, (x, y)
    edges = edges[(edges[:, 0] != edges[:, 1]).any(axis=1)]  # some programs repeat the first corner at the end
    backwards = (edges[:, 0, 0] > edges[:, 1, 0]) | ((edges[:, 0, 0] == edges[:, 1, 0]) & (edges[:, 0, 1] > edges[:, 1, 1]))
    edges[backwards] = edges[backwards, ::-1]
    flat = edges.reshape(-1, 4)
    return bytes(flat[np.lexsort(flat.T)].tobytes())


def _closed(drawn: Drawn, number: int, contours: Sequence[Any], inverse: npt.NDArray[Any]) -> Iterator[tuple[Polygon, float]]:
    """Closed contours in the coordinates of voxels: corners (x, y), and depth along z."""
    others: dict[str, int] = {}
    some = False
    for contour in contours:
        kind = str(contour.get("ContourGeometricType", ""))
        if kind not in CLOSED:
            others[kind] = others.get(kind, 0) + 1
            continue
        world = _coordinates(contour)
        if not np.isfinite(world).all():
            raise damaged(drawn.path, "a contour whose coordinates are not numbers")
        some = True
        if len(world) < 3:
            continue  # encloses nothing
        at = world @ inverse[:3, :3].T + inverse[:3, 3]
        if np.ptp(at[:, 2]) > FLAT:
            what = f"a contour from slice {at[:, 2].min() + 1:.4g} to {at[:, 2].max() + 1:.4g}"
            raise _refused(drawn, number, what, "contours in the planes of the image's slices")
        yield at[:, :2], float(at[:, 2].mean())
    if others:
        kinds = ", ".join(f"{count} {kind or 'of no kind'}" for kind, count in others.items())
        if not some:
            raise _refused(drawn, number, kinds, "closed contours")
        log.warning("%s, '%s': contours that enclose nothing are passed over: %s", drawn.path.name, drawn.names[number], kinds)


def _coordinates(contour: Any) -> npt.NDArray[np.float64]:
    """Corners (n, 3) in mm, from the text as it lies in the file: pydicom would look at every single number."""
    raw = contour.get_item("ContourData")
    values = raw.value.split(b"\\") if isinstance(getattr(raw, "value", None), bytes) else [float(value) for value in contour.ContourData]
    return np.array(values).astype(np.float64).reshape(-1, 3)


def _filled(grid: Grid, drawn: Drawn, number: int, index: int, polygons: list[Polygon]) -> Voxels:
    _, height, width = grid.shape_zyx
    mask = fill(polygons, (height, width))
    corners = np.concatenate(polygons)
    if corners.min() < -1 or (corners.max(axis=0) > (width, height)).any():
        log.warning("%s, '%s': reaches beyond the image in slice %d, and is cut there", drawn.path.name, drawn.names[number], index + 1)
    if len(polygons) > 1 and _cross(polygons, (height, width)):
        log.warning(
            "%s, '%s': contours of slice %d cross each other; what is inside both counts as outside",
            drawn.path.name,
            drawn.names[number],
            index + 1,
        )
    y, x = np.nonzero(mask)
    return np.full_like(y, index), y, x


def _cross(polygons: list[Polygon], shape_yx: tuple[int, int]) -> bool:
    """Whether two contours share voxels though neither lies in the other."""
    lows, highs = np.array([polygon.min(axis=0) for polygon in polygons]), np.array([polygon.max(axis=0) for polygon in polygons])
    meet = (lows[:, None] <= highs[None]).all(axis=2) & (lows[None] <= highs[:, None]).all(axis=2)
    for one, two in np.argwhere(np.triu(meet, 1)):
        # In the box that holds both.
        corner = np.floor(np.minimum(lows[one], lows[two]))
        width, height = (np.ceil(np.maximum(highs[one], highs[two])) - corner + 1).astype(int).clip(1, max(shape_yx) * 4)
        first, second = (fill([polygons[index] - corner], (height, width)) for index in (one, two))
        shared = int((first & second).sum())
        if 0 < shared < min(int(first.sum()), int(second.sum())):
            return True
    return False


def _warn_of_gaps(drawn: Drawn, number: int, slices: list[int]) -> None:
    """Regions drawn on every second slice are not made whole."""
    empty = slices[-1] - slices[0] + 1 - len(slices) if slices else 0
    if empty and empty >= len(slices) - 1:
        log.warning(
            "%s, '%s': %d slices between its first and last have no contour, and stay empty", drawn.path.name, drawn.names[number], empty
        )


def _refused(drawn: Drawn, number: int, found: str, expected: str) -> ImageError:
    return ImageError(
        f"{drawn.path}: region '{drawn.names[number]}' cannot be put on the image",
        found=found,
        expected=expected,
        remedy="give the series that it was drawn on",
    )
