"""Structures that are missing, or much smaller or larger than in the other cases; classes that few cases have."""

from collections.abc import Sequence

import numpy as np

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures, middle_of
from autounet.health.robust import FEWEST, deviations
from autounet.planners.words import count

RARELY_MISSING = 0.05
"""A class is missing where it is in all but this share of the cases, or in all but one."""

TIMES = 2.5
"""A structure that is not so many times smaller or larger than the median is of a usual size, however alike the others are."""


def find_missing(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Cases without a structure that nearly all others have, and label maps with nothing in them where the others have something."""
    usual = [name for name in dataset.labels.names if _is_usual([entry for entry in seen if name in entry.fingerprint.class_voxels], name)]
    found = []
    filled = sum(any(entry.fingerprint.class_voxels.values()) for entry in seen)
    for entry in seen:
        voxels = entry.fingerprint.class_voxels
        missing = tuple(name for name in usual if voxels.get(name) == 0)
        if not missing:
            continue
        empty = not any(voxels.values())
        shown = ", ".join(f"'{name}'" for name in missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        others = [other for other in seen if missing[0] in other.fingerprint.class_voxels]
        have = sum(other.fingerprint.class_voxels[missing[0]] > 0 for other in others)
        found.append(
            Finding(
                case=entry.fingerprint.case,
                kind="empty label map" if empty else "missing structure",
                severity="warning",
                what=f"nothing is labelled; {filled} of {count(len(seen), 'case')} have labels"
                if empty
                else f"has no {shown}, which {have} of {count(len(others), 'case')} have",
                advice="annotate the case, unless it shows none of these structures"
                if empty
                else "annotate it; or, if it was not annotated here, say so under 'annotated' in dataset.json",
                classes=missing,
                place_zyx=middle_of(entry),
                beside=next((other.fingerprint.case for other in others if other.fingerprint.class_voxels[missing[0]]), None),
            )
        )
    return found


def find_rare_classes(dataset: DatasetSpec, seen: Sequence[Measures], folds: int) -> list[Finding]:
    """Classes in so few cases that some of the folds cannot hold one out and still learn it."""
    if not any(any(entry.fingerprint.class_voxels.values()) for entry in seen):
        what = f"nothing is labelled in any of {count(len(seen), 'case')}"
        advice = "check that labelsTr holds the right files"
        return [Finding(case="", kind="empty label map", severity="severe", what=what, advice=advice)] if seen else []
    if len(seen) < FEWEST:
        return []
    found = []
    for name in dataset.labels.names:
        having = [entry.fingerprint.case for entry in seen if entry.fingerprint.class_voxels.get(name)]
        if len(having) >= max(folds, 2):
            continue
        cases = f"in {len(having)} of {count(len(seen), 'case')}" if having else f"in none of the {count(len(seen), 'case')}"
        found.append(
            Finding(
                case=having[0] if having else "",
                kind="rare class",
                severity="notice" if len(having) > 1 else "warning",
                what=f"'{name}' is {cases}: " + ("some folds cannot score it" if having else "nothing can be learnt of it"),
                advice="add cases that have it, or take the class out of dataset.json (and give its voxels another value)"
                if having
                else "take the class out of dataset.json, or check the values in the label maps",
                others=tuple(having[1:]),
                classes=(name,),
            )
        )
    return found


def find_unusual_volumes(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Structures whose volume is far from that of the other cases, on a logarithmic scale, by class."""
    found = []
    for position, name in enumerate(dataset.labels.names):
        there = [entry for entry in seen if entry.complete and entry.fingerprint.class_voxels.get(name)]
        if len(there) < FEWEST:
            continue
        volumes = np.array([entry.fingerprint.class_voxels[name] * entry.grid.voxel_size() for entry in there])
        usual = float(np.median(volumes))
        typical = there[int(np.abs(volumes - usual).argmin())].fingerprint.case
        for entry, volume, away in zip(there, volumes, deviations(np.log(volumes), np.log(TIMES)), strict=True):
            if away == 0:
                continue
            shape = entry.shapes[position]
            unit = "pixels" if entry.grid.ndim == 2 else "mm³"
            times = max(volume / usual, usual / volume)
            found.append(
                Finding(
                    case=entry.fingerprint.case,
                    kind="size of a structure",
                    severity="warning",
                    what=f"'{name}' has {volume:.0f} {unit}, {times:.3g} times {'less' if away < 0 else 'more'} than usual "
                    f"(median {usual:.0f} {unit} in {count(len(there), 'case')})",
                    advice="check that the annotation is " + ("finished, and of this image" if away < 0 else "of this class and image"),
                    classes=(name,),
                    place_zyx=None if shape is None else shape.middle_zyx,
                    beside=typical,
                )
            )
    return found


def _is_usual(annotated: Sequence[Measures], name: str) -> bool:
    absent = sum(entry.fingerprint.class_voxels[name] == 0 for entry in annotated)
    return len(annotated) >= FEWEST and 0 < absent <= max(1.0, RARELY_MISSING * len(annotated))
