"""Parts, islands, holes and cut ends of the structures in one label map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.geometry import Triple, TripleMm
from autounet.labels import IntArray, LabelSpec
from autounet.planners.laterality.extents import Extents

MOST_PARTS = 12
"""Of a structure in more parts, islands are not measured: it has no main part to be far from."""

MOST_POINTS = 20_000
"""So many voxels of the main part stand for all of it when distances are measured."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Island:
    """A part of a structure besides its largest one. Parts touch neither by faces nor by edges or corners."""

    voxels: int
    gap_mm: float
    """Distance to the largest part, between the centres of the nearest voxels."""
    place_zyx: Triple
    """One of its voxels."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One structure of one case."""

    parts: int
    main_voxels: int
    """Voxels of the largest part."""
    main_extent_mm: float
    """Diagonal of the box around the largest part."""
    islands: tuple[Island, ...]
    """All other parts; none where there are more than ``MOST_PARTS`` parts."""
    cut: tuple[float, ...]
    """How thick the structure is where it meets the border of the image: voxels in the outermost plane over those of its largest plane
    along that axis, for the first and last plane of z, y and x. 0 where it does not reach the border."""
    middle_zyx: Triple
    """The plane with most of it along each axis."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Background that is enclosed in labelled voxels."""

    voxels: int
    place_zyx: Triple
    """In the largest hole."""


def measure_shapes(labels_zyx: IntArray, spec: LabelSpec, extents: Extents, spacing_mm_zyx: TripleMm) -> tuple[Shape | None, ...]:
    """Measures every class that ``extents`` says is there; None for the others.

    Args:
        labels_zyx: Label values (z, y, x).
        spec: What they mean.
        extents: Where the classes lie; volume 0 for those that are not to be looked at.
        spacing_mm_zyx: Distance of the voxels.
    """
    return tuple(
        _shape(spec.mask(labels_zyx[_slices(extents.box(position))], entry), extents, position, spacing_mm_zyx)
        if extents.volumes[position]
        else None
        for position, entry in enumerate(spec.classes)
    )


def find_hole(labels_zyx: IntArray, ndim: int) -> Hole | None:
    """Background from which no way leads out, from face to face of voxels; None when there is none.

    In a volume a ring in one slice is no hole: its inside is open above and below.
    """
    from scipy import ndimage

    box = ndimage.find_objects((labels_zyx > 0).astype(np.uint8))
    if not box:
        return None
    pad = [(0, 0) if ndim == 2 else (1, 1), (1, 1), (1, 1)]
    empty = np.pad(labels_zyx[box[0]] == 0, pad, constant_values=True)
    components, count = ndimage.label(empty)
    if count < 2:
        return None
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[[0, components.flat[0]]] = 0  # labelled voxels, and the outside, to which the first corner of the padding belongs
    voxels = np.argwhere(components == sizes.argmax())
    inside = voxels[len(voxels) // 2]
    starts = [part.start - before for part, (before, _) in zip(box[0], pad, strict=True)]
    return Hole(int(sizes.sum()), _triple([start + int(at) for start, at in zip(starts, inside, strict=True)]))


def _shape(mask: Mask, extents: Extents, position: int, spacing_mm_zyx: TripleMm) -> Shape:
    from scipy import ndimage

    start = [first for first, _ in extents.box(position)]
    components, count = ndimage.label(mask, np.ones((3, 3, 3), np.bool_))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    main = int(sizes.argmax())
    boxes = ndimage.find_objects(components)
    extent = np.array([part.stop - part.start for part in boxes[main - 1]]) * spacing_mm_zyx
    return Shape(
        parts=count,
        main_voxels=int(sizes[main]),
        main_extent_mm=float(np.linalg.norm(extent)),
        islands=_islands(components, sizes, boxes, main, start, spacing_mm_zyx) if 1 < count <= MOST_PARTS else (),
        cut=tuple(
            float(profile[position][end] / profile[position].max()) if profile.shape[1] > 1 else 0.0
            for profile in extents.profiles_zyx
            for end in (0, -1)
        ),
        middle_zyx=_triple([int(profile[position].argmax()) for profile in extents.profiles_zyx]),
    )


def _islands(
    components: IntArray, sizes: IntArray, boxes: Sequence[Any], main: int, start: Sequence[int], spacing_mm_zyx: TripleMm
) -> tuple[Island, ...]:
    from scipy.spatial import cKDTree

    box = boxes[main - 1]
    points = np.argwhere(components[box] == main)[:: -(-int(sizes[main]) // MOST_POINTS)] + [part.start for part in box]
    tree = cKDTree(points * spacing_mm_zyx)
    found = []
    for number, box in enumerate(boxes, start=1):
        if number == main:
            continue
        voxels = np.argwhere(components[box] == number)[:: -(-int(sizes[number]) // MOST_POINTS)] + [part.start for part in box]
        gaps, _ = tree.query(voxels * spacing_mm_zyx)
        place = _triple([first + int(at) for first, at in zip(start, voxels[int(gaps.argmax())], strict=True)])
        found.append(Island(int(sizes[number]), float(gaps.min()), place))
    return tuple(found)


def _slices(box: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(first, last) for first, last in box)


def _triple(values: Sequence[int]) -> Triple:
    a, b, c = values
    return a, b, c
