"""Where each class of a label map lies: volume, centre, spread and box, from how its voxels spread along each axis.

One pass over the labelled voxels counts, for each class and axis, the voxels at every position: the class's *profile*. Everything
else follows from the profiles, exactly and in whole numbers, whatever the number of classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autounet.labels import LARGE_VALUE, IntArray, LabelSpec

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

VOXELS_AT_A_TIME = 2**21
"""Label maps are read in slabs of about so many voxels, which bounds the memory that coordinates take."""


@dataclass(frozen=True, slots=True)
class Extents:
    """Where the classes of one case lie, by class in the dataset's order; axes are z, y, x as read, units voxels."""

    profiles_zyx: tuple[Counts, Counts, Counts]
    """Per axis: voxels of each class at each position, (class, position)."""
    volumes: Counts
    """(class,)"""
    centres_zyx: Floats
    """(class, 3); NaN for a class that is not there."""
    spreads_zyx: Floats
    """Standard deviation of the voxels' positions, (class, 3); NaN for a class that is not there."""

    def box(self, position: int) -> tuple[tuple[int, int], ...]:
        """First position and the one after the last, per axis, of a class that is there."""
        found = []
        for profile in self.profiles_zyx:
            places = profile[position].nonzero()[0]
            found.append((int(places[0]), int(places[-1]) + 1))
        return tuple(found)


def measure_extents(labels_zyx: IntArray, spec: LabelSpec) -> Extents:
    """Finds where each class lies; regions count all their values, voxels to ignore are left out.

    Args:
        labels_zyx: Label values (z, y, x), all of them allowed.
        spec: What they mean.
    """
    values = spec.foreground_values
    profiles = [np.zeros(((len(values) + 1), size), np.int64) for size in labels_zyx.shape]
    plane = labels_zyx.shape[1] * labels_zyx.shape[2]
    thickness = max(1, VOXELS_AT_A_TIME // max(1, plane))
    for start in range(0, labels_zyx.shape[0], thickness):
        _count_slab(labels_zyx[start : start + thickness], start, spec, profiles)
    by_class = [_of_classes(profile, spec) for profile in profiles]
    volumes = by_class[0].sum(axis=1)
    centres, spreads = np.empty((2, len(spec.classes), 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        for axis, profile in enumerate(by_class):
            places = np.arange(profile.shape[1], dtype=np.float64)
            centres[:, axis] = profile @ places / volumes
            spreads[:, axis] = np.sqrt(np.maximum(profile @ places**2 / volumes - centres[:, axis] ** 2, 0.0))
    return Extents((by_class[0], by_class[1], by_class[2]), volumes, centres, spreads)


def _count_slab(slab: IntArray, start: int, spec: LabelSpec, profiles: list[Counts]) -> None:
    """Adds a slab's voxels, from plane ``start`` on, to the profiles of the label indices (row 0 collects what is to be ignored)."""
    flat = slab.ravel()
    where = (flat != 0).nonzero()[0]
    if not len(where):
        return
    index = _indices(flat[where], spec)
    _, height, width = slab.shape
    places = where.astype(np.int32)  # several times faster to divide than int64
    rows = places // width
    xs, zs = places - rows * width, rows // height
    ys = rows - zs * height
    for profile, along, offset in zip(profiles, (zs, ys, xs), (start, 0, 0), strict=True):
        profile += np.bincount(index * profile.shape[1] + along + offset, minlength=profile.size).reshape(profile.shape)


def _indices(values: IntArray, spec: LabelSpec) -> Counts:
    """Nonzero label values → 1, 2, … in ascending order of the foreground values, 0 for the value to ignore."""
    foreground = np.array(spec.foreground_values)
    highest = spec.allowed_values[-1]
    if highest < LARGE_VALUE:
        table = np.zeros(highest + 1, np.int64)
        table[foreground] = np.arange(1, len(foreground) + 1)
        return table[values]
    found = np.searchsorted(foreground, values)
    found = np.minimum(found, len(foreground) - 1)
    return np.where(foreground[found] == values, found + 1, 0)


def _of_classes(profile: Counts, spec: LabelSpec) -> Counts:
    """Profiles of label indices → profiles of classes."""
    return np.stack([profile[list(spec.class_indices(entry))].sum(axis=0) for entry in spec.classes])
