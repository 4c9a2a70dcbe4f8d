"""What one case shows: numbers small enough to be kept of every case, so that cases can be compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.dataset import Case, DatasetSpec
from autounet.errors import Problem
from autounet.fingerprint import CaseFingerprint
from autounet.geometry import Grid, Triple, nonzero_box
from autounet.health.brightness import Brightness, measure_brightness
from autounet.health.shapes import Hole, Shape, find_hole, measure_shapes
from autounet.health.surroundings import Outside, labels_in_air
from autounet.planners.laterality.extents import measure_extents
from autounet.planners.laterality.names import NamedPair
from autounet.planners.laterality.side_by_side import Sighting, sight
from autounet.planners.orientation import orientation_of
from autounet.planners.reading import read_case

THUMBNAIL_VOLUME, THUMBNAIL_PLANAR = (8, 24, 24), (1, 64, 64)
"""Sizes of thumbnails (z, y, x): some 4000 numbers each."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What a case that could be read shows. Positions of classes are those of the dataset."""

    grid: Grid
    fingerprint: CaseFingerprint
    image_digest: str
    """Equal for equal intensities and shapes, whatever the header says."""
    labels_digest: str
    thumbnail: npt.NDArray[np.float32]
    """The first channel, reduced to one size for all volumes, flat."""
    channels: tuple[Brightness, ...]
    complete: bool
    """Every voxel is annotated: what a structure looks like can be judged. Else there are no shapes, hole and voxels outside."""
    shapes: tuple[Shape | None, ...]
    """By class; None for one that is not there or not annotated."""
    hole: Hole | None
    outside: Outside | None
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One case that was looked at: either measures, or problems that made it unusable."""

    case: str
    ndim: int | None = None
    measures: Measures | None = None
    problems: tuple[Problem, ...] = ()


def look_at(case: Case, dataset: DatasetSpec, pairs: Sequence[NamedPair]) -> Look:
    """Reads and measures one case; what cannot be read becomes a problem, not an error.

    Args:
        case: The case.
        dataset: Its dataset.
        pairs: Classes named left and right (``named_pairs``).
    """
    read, ndim, problems = read_case(case, dataset)
    if read is None:
        return Look(case.id, ndim, problems=problems)
    image, labels, grid, spec = read.image_czyx, read.labels_zyx, read.grid, dataset.labels
    extents = measure_extents(labels, spec)
    names = spec.names if case.annotated is None else case.annotated
    annotated = np.isin(np.arange(len(spec.classes)), spec.positions(names))
    extents = replace(extents, volumes=np.where(annotated, extents.volumes, 0))
    orientation = orientation_of(grid, case.images[0])
    volumes = dict(zip(spec.names, extents.volumes.tolist(), strict=True))
    fingerprint = CaseFingerprint(
        case=case.id, shape_zyx=grid.shape_zyx, shape_after_crop_zyx=nonzero_box(image).shape, spacing_mm_zyx=grid.spacing_mm_zyx,
        class_voxels={name: volumes[name] for name in names}, orientation=orientation,
    )  # fmt: skip
    indices = spec.encode(labels, case.id)
    complete = spec.ignore_value is None or not bool((labels == spec.ignore_value).any())
    measures = Measures(
        grid=grid,
        fingerprint=fingerprint,
        image_digest=content_digest(image),
        labels_digest=content_digest(indices),
        thumbnail=thumbnail(image[0], THUMBNAIL_PLANAR if grid.ndim == 2 else THUMBNAIL_VOLUME),
        channels=measure_brightness(image, indices, spec, extents),
        complete=complete,
        shapes=measure_shapes(labels, spec, extents, grid.spacing_mm_zyx) if complete else (None,) * len(spec.classes),
        hole=find_hole(labels, grid.ndim) if complete else None,
        outside=labels_in_air(image, labels, grid.ndim) if complete else None,
        sightings=sight(labels, spec, extents, grid.spacing_mm_zyx, orientation, pairs),
    )
    return Look(case.id, ndim, measures)


def middle_of(entry: Measures) -> Triple:
    """The voxel in the middle of the image."""
    z, y, x = (size // 2 for size in entry.grid.shape_zyx)
    return z, y, x


def usual_case(seen: Sequence[Measures], flagged: Sequence[str]) -> str | None:
    """A case to compare with: the first that is not among those with a finding; None when there is none."""
    return next((entry.fingerprint.case for entry in seen if entry.fingerprint.case not in flagged), None)


def content_digest(array: npt.NDArray[Any]) -> str:
    """Hash of an array's numbers and shape, 32 hexadecimal digits."""
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def thumbnail(image_zyx: npt.NDArray[np.float32], size_zyx: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Means over blocks that cover the image: ``size_zyx`` numbers, flat; an axis with fewer voxels repeats them."""
    starts, counts = _blocks(image_zyx.shape[0], size_zyx[0])
    # Slice by slice: the whole in float64 would be twice the image.
    reduced: npt.NDArray[Any] = np.empty((size_zyx[0], *image_zyx.shape[1:]))
    for block, (start, size) in enumerate(zip(starts, counts, strict=True)):
        reduced[block] = image_zyx[start]
        for plane in image_zyx[start + 1 : start + size]:
            reduced[block] += plane
        reduced[block] /= size
    for axis in (1, 2):
        starts, counts = _blocks(image_zyx.shape[axis], size_zyx[axis])
        reduced = np.add.reduceat(reduced, starts, axis=axis) / counts.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(reduced.ravel(), np.float32)


def _blocks(length: int, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First voxels and sizes of so many blocks that cover an axis; where it has fewer voxels, they repeat."""
    starts = np.arange(number) * length // number
    return starts, np.maximum(np.diff(np.append(starts, length)), 1)
