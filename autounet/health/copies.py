"""Cases that are copies of each other, or so alike that they show the same subject: what leaks from training into validation."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures, middle_of
from autounet.health.robust import FEWEST
from autounet.planners.words import count
from autounet.splits import Split

ALIKE = 0.98
"""Correlation of two thumbnails from which on they may show the same: …"""
ALIKE_BEYOND_OTHERS = 0.97
"""… when what they have beyond the mean of all cases is as alike as this. Images of one body part are alike in what they share.

Measured: two moments of the heartbeat of one patient have 0.958 to 0.999 and 0.946 to 0.998 (20 patients, 18 of them above both
numbers), two patients 0.51 and 0.35 at most; two of 260 hippocampi 0.86 and 0.67 at most; neighbouring slices of a stack, 50 nm apart,
0.52 and 0.41; aligned heads of eight people, without noise and texture, 0.991 and 0.948."""

MOST_VOXELS_BY_CHANCE = 64
"""Label maps with no more labelled voxels may be equal by chance."""

BLOCK = 512
"""Rows of the table of correlations that are held at a time."""

Table = npt.NDArray[np.float32]


def find_copies(dataset: DatasetSpec, seen: Sequence[Measures], folds: Sequence[Split]) -> list[Finding]:
    """Images that several cases share, voxel by voxel, and label maps that cases with different images share.

    Args:
        dataset: The dataset.
        seen: Its cases.
        folds: The folds of the cross-validation; none when they are not known.
    """
    found = []
    for group in _equal(seen, "image_digest"):
        names = [entry.fingerprint.case for entry in group]
        contradicting = len({entry.labels_digest for entry in group}) > 1
        leaks = _leaking_folds(names, folds)
        what = f"has the same image as {_listed(names[1:])}, voxel by voxel" + (
            ", but another label map: one of them is wrong" if contradicting else ""
        )
        found.append(
            Finding(
                case=names[0],
                kind="contradicting copy" if contradicting else "copy",
                severity="severe" if contradicting or leaks else "warning",
                what=what + _leak(leaks),
                advice="keep the case whose label map is right" if contradicting else "keep one of them",
                others=tuple(names[1:]),
                beside=names[1],
                classes=dataset.labels.names,
                place_zyx=_place(group[0]),
            )
        )
    for group in _equal(seen, "labels_digest"):
        if len({entry.image_digest for entry in group}) < len(group) or not _labelled(group[0]):
            continue  # equal images have been told of
        names = [entry.fingerprint.case for entry in group]
        found.append(
            Finding(
                case=names[0],
                kind="copied label map",
                severity="warning",
                what=f"has the same label map as {_listed(names[1:])}, voxel by voxel, but another image"
                + _leak(_leaking_folds(names, folds)),
                advice="check to which image the label map belongs; if they show the same subject, name it under 'groups' in dataset.json",
                others=tuple(names[1:]),
                beside=names[1],
                classes=dataset.labels.names,
                place_zyx=_place(group[0]),
            )
        )
    return found


def find_likenesses(dataset: DatasetSpec, seen: Sequence[Measures], folds: Sequence[Split]) -> list[Finding]:
    """Images that are no exact copies but alike beyond chance, and are trained and validated on in the same fold.

    That copies of other compression, noise or size are found, and further images of a patient, is meant: both make validation scores
    too good. Pairs that no fold separates are passed over.
    """
    groups: dict[int, set[int]] = {}
    likeness: dict[frozenset[int], float] = {}
    if len(seen) < FEWEST:
        return []
    for first, second, value in alike_pairs(np.stack([entry.thumbnail for entry in seen])):
        names = [seen[first].fingerprint.case, seen[second].fingerprint.case]
        if seen[first].image_digest == seen[second].image_digest or (folds and not _leaking_folds(names, folds)):
            continue
        likeness[frozenset((first, second))] = value
        merged = groups.get(first, {first}) | groups.get(second, {second})
        groups.update(dict.fromkeys(merged, merged))
    found = []
    for group in sorted({tuple(sorted(group)) for group in groups.values()}):
        names = [seen[number].fingerprint.case for number in group]
        least = min(value for pair, value in likeness.items() if pair <= set(group))
        found.append(
            Finding(
                case=names[0],
                kind="likeness",
                severity="warning",
                what=f"looks like {_listed(names[1:])} (correlation {least:.3f}): a copy, or the same subject"
                + _leak(_leaking_folds(names, folds)),
                advice="if it is the same subject, name it under 'groups' in dataset.json, which keeps its cases in one fold",
                others=tuple(names[1:]),
                beside=names[1],
                classes=dataset.labels.names,
                place_zyx=_place(seen[group[0]]),
            )
        )
    return found


def alike_pairs(thumbnails: Table) -> Iterator[tuple[int, int, float]]:
    """Pairs of cases with alike thumbnails: their numbers in order, and the lower of both correlations.

    Args:
        thumbnails: One row per case.
    """
    plain = _normalised(thumbnails)
    special = _normalised(plain - plain.mean(axis=0))
    for start in range(0, len(plain), BLOCK):
        rows = slice(start, start + BLOCK)
        one, other = plain[rows] @ plain.T, special[rows] @ special.T
        for row, column in np.argwhere((one >= ALIKE) & (other >= ALIKE_BEYOND_OTHERS)):
            if start + row < column:
                yield int(start + row), int(column), float(min(one[row, column], other[row, column], 1.0))


def _normalised(rows: Table) -> Table:
    """Each row with mean 0 and length 1, so that products of rows are correlations; rows without contrast become 0."""
    scaled = rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)  # squares of large numbers overflow
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, centred / np.maximum(lengths, 1e-6), 0), np.float32)


def _equal(seen: Sequence[Measures], digest: str) -> list[list[Measures]]:
    groups = defaultdict(list)
    for entry in seen:
        groups[getattr(entry, digest)].append(entry)
    return [group for group in groups.values() if len(group) > 1]


def _leaking_folds(cases: Sequence[str], folds: Sequence[Split]) -> list[int]:
    """Folds in which one of the cases is trained on and another validated."""
    return [
        number for number, fold in enumerate(folds) if not set(fold.train).isdisjoint(cases) and not set(fold.validation).isdisjoint(cases)
    ]


def _leak(folds: Sequence[int]) -> str:
    if not folds:
        return ""
    if len(folds) == 1:
        return f"; fold {folds[0]} trains on one and validates on another"
    return f"; folds {', '.join(map(str, folds))} train on one and validate on another"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {count(len(names) - 4, 'more case')}" if len(names) > 4 else "")


def _labelled(entry: Measures) -> bool:
    return sum(entry.fingerprint.class_voxels.values()) > MOST_VOXELS_BY_CHANCE


def _place(entry: Measures) -> tuple[int, int, int]:
    """The middle of the largest structure, or of the image."""
    shapes = [shape for shape in entry.shapes if shape is not None]
    if shapes:
        return max(shapes, key=lambda shape: shape.main_voxels).middle_zyx
    return middle_of(entry)
