"""Spacings, sizes and orientations that differ from those of the other cases as only a wrong header, or another kind of scan, would."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures, middle_of, usual_case
from autounet.health.robust import FEWEST, deviations, is_unusual
from autounet.images.stored import SLANT_DEGREES
from autounet.planners.orientation import mixed_orientation
from autounet.planners.words import count, mm, times

SPACING_TIMES = 3.0
"""A spacing less than so many times the median or its inverse is nothing unusual: scans of one study differ as much."""

SIZE_TIMES = 3.0
"""The same for the size of an image along an axis."""

RARELY_PLAIN = 0.05
"""So few cases with 1×1×1 mm among others with another spacing have lost their header."""

CLEARLY_OTHER = 1.25
"""Their usual spacing is along some axis so many times larger or smaller than 1 mm."""


def find_spacings(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Volumes whose voxels are much larger or smaller than usual along an axis, or that have lost their spacing."""
    volumes = [entry for entry in seen if entry.grid.ndim == 3]
    if len(volumes) < FEWEST:
        return []
    spacings = np.array([entry.grid.spacing_mm_zyx for entry in volumes])
    usual = np.median(spacings, axis=0)
    away = np.stack([deviations(np.log(column), np.log(SPACING_TIMES)) for column in spacings.T], axis=1)
    lost = (spacings == 1).all(axis=1)
    if np.maximum(usual, 1 / usual).max() < CLEARLY_OTHER or not is_unusual(lost.tolist(), RARELY_PLAIN):
        lost[:] = False
    flagged = [entry.fingerprint.case for entry, axes, plain in zip(volumes, away, lost, strict=True) if axes.any() or plain]
    found = []
    for entry, spacing, axes, plain in zip(volumes, spacings, away, lost.tolist(), strict=True):
        if not axes.any() and not plain:
            continue
        found.append(
            Finding(
                case=entry.fingerprint.case,
                kind="spacing",
                severity="warning",
                what=f"voxels of {mm(spacing.tolist())} (z, y, x), usually {mm(usual.tolist())}"
                + (": the header may be lost" if plain else _unit(axes)),
                advice="correct the spacing in the headers of image and label map, or remove the case if it is another kind of scan",
                place_zyx=middle_of(entry),
                beside=usual_case(seen, flagged),
            )
        )
    return found


def find_sizes(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Images that are much longer or shorter than usual along an axis: in mm for volumes, in pixels for planar images."""
    if len(seen) < FEWEST:
        return []
    sizes = np.array([np.array(entry.grid.shape_zyx) * (entry.grid.spacing_mm_zyx if entry.grid.ndim == 3 else 1) for entry in seen])
    usual = np.median(sizes, axis=0)
    away = np.stack([deviations(np.log(column), np.log(SIZE_TIMES)) for column in sizes.T], axis=1)
    flagged = [entry.fingerprint.case for entry, axes in zip(seen, away, strict=True) if axes.any()]
    found = []
    for entry, size, axes in zip(seen, sizes, away, strict=True):
        if not axes.any():
            continue
        first = 3 - entry.grid.ndim
        unit = "pixels (y, x)" if first else "mm (z, y, x)"
        found.append(
            Finding(
                case=entry.fingerprint.case,
                kind="size of an image",
                severity="notice",
                what=f"{times([round(value) for value in size[first:].tolist()])} {unit}, usually "
                f"{times([round(value) for value in usual[first:].tolist()])}",
                advice="check that it shows the same part of the body, and that its spacing is right",
                place_zyx=middle_of(entry),
                beside=usual_case(seen, flagged),
            )
        )
    return found


def find_orientations(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Cases that are stored in another orientation than most."""
    meaning = mixed_orientation([entry.fingerprint for entry in seen])
    if meaning is None:
        return []
    counts = Counter(entry.fingerprint.orientation for entry in seen if entry.fingerprint.orientation)
    usual, most = counts.most_common(1)[0]
    groups = {
        letters: [entry for entry in seen if entry.fingerprint.orientation == letters] for letters in sorted(counts) if letters != usual
    }
    return [
        Finding(
            case=group[0].fingerprint.case,
            kind="orientation",
            severity="warning",
            what=f"{count(len(group), 'case')} stored as {letters}, {most} as {usual} (where the axes z, y, x point in the patient): "
            "images are used as they lie in their files",
            advice="store all alike, for instance with SimpleITK's DICOMOrient(image, 'LPS') for images and label maps",
            others=tuple(entry.fingerprint.case for entry in group[1:]),
            place_zyx=middle_of(group[0]),
            beside=next(entry.fingerprint.case for entry in seen if entry.fingerprint.orientation == usual),
        )
        for letters, group in groups.items()
    ]


def find_slants(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Volumes whose slices are shifted against each other, as a tilted gantry leaves them."""
    slanted = [entry for entry in seen if entry.grid.slant_degrees() > SLANT_DEGREES]
    if not slanted:
        return []
    largest = max(entry.grid.slant_degrees() for entry in slanted)
    return [
        Finding(
            case=slanted[0].fingerprint.case,
            kind="slanted slices",
            severity="notice",
            what=f"{len(slanted)} of {count(len(seen), 'case')} with slices shifted against each other, slanted by up to {largest:.3g}° "
            "(a tilted gantry): images are used as they lie, so the network sees the anatomy slanted",
            advice="leave them if the images to be predicted are slanted as well; else resample image and label map to a straight grid",
            others=tuple(entry.fingerprint.case for entry in slanted[1:]),
            place_zyx=middle_of(slanted[0]),
        )
    ]


def _unit(log_ratios: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """The guess that another unit was meant, where all axes are off by the same power of ten."""
    powers = log_ratios / np.log(10)
    if (np.abs(powers - np.round(powers)) < 0.1).all() and len(set(np.round(powers))) == 1 and powers[0]:
        return ": another unit than mm?"
    return ""
