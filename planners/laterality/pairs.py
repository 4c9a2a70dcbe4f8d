"""Left and right: which classes are each other's mirror image, and along which axes mirroring is allowed.

nnU-Net mirrors every axis in training and in prediction. A left kidney, mirrored, looks like a right one: where the labels tell
them apart, the network learns to mix them up, and the predictions of mirrored copies are averaged over both. Such classes are found
by their names and by where and how they lie (``side_by_side``); names alone decide nothing.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autounet.fingerprint import CaseFingerprint, Fingerprint, MirroredClasses
from autounet.labels import LabelSpec
from autounet.plan import Decision
from autounet.planners.laterality.names import NamedPair, named_pairs
from autounet.planners.laterality.side_by_side import Sighting
from autounet.planners.words import count

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Demand:
    """What two classes must show, in the median over the cases in which they lie along an axis. See ``Sighting`` for the numbers."""

    upright: float
    apart: float
    volumes: float
    spreads: float
    mirrored: float
    """At least so like when mirrored, and likelier mirrored than only moved, by ``MARGIN``; …"""
    mirrored_alone: float
    """… or at least so like: round things are as like without being mirrored."""
    cases: int
    one_side: float
    """Part of the cases in which the second lies on the same side of the first."""


MARGIN = 0.03

NO_MATTER = math.inf

DEMANDS: dict[Literal["words", "initials", "none"], Demand] = {
    "words": Demand(upright=0.8, apart=2.0, volumes=NO_MATTER, spreads=NO_MATTER, mirrored=0.1, mirrored_alone=0.65, cases=1, one_side=0.0),
    "initials": Demand(upright=0.9, apart=2.0, volumes=1.6, spreads=0.3, mirrored=0.6, mirrored_alone=0.8, cases=1, one_side=0.8),
    "none": Demand(upright=0.95, apart=2.5, volumes=1.3, spreads=0.2, mirrored=0.65, mirrored_alone=0.8, cases=3, one_side=0.95),
}
"""By what the names say; without names, only classes along the patient's left-right axis come here.

Measured on 8 brains with 53 classes: the 18 true pairs have upright 0.98 and more, apart 3.0 and more; the compact ones volumes to
1.13, spreads to 0.17, mirrored 0.63 to 0.89, moved less by 0.06 and more; the likest false pair 0.91, 1.41, 0.23 and 0.61. A right
ventricle and a left one (40 hearts) have 0.90, 1.74, 0.36, and 0.53 whether mirrored or moved; front and back of a hippocampus
0.34 mirrored, 0.52 moved. (What is asked of ``words`` is what thin and small structures show: cortices 0.48, vessels 0.38.)"""

USUAL_CASES = 0.5
"""A pair must be found in so many of the cases that have both classes."""

RARE_AXIS = 0.1
"""An axis along which fewer of a pair's cases lie (badly stored ones) is not given up for them."""


def mirrored_classes(
    labels: LabelSpec, cases: Sequence[CaseFingerprint], sightings: Sequence[Sequence[Sighting]]
) -> tuple[MirroredClasses, ...]:
    """Decides over all cases which classes are mirror images; one entry per pair and array axis, in the dataset's order.

    Args:
        labels: The dataset's labels.
        cases: All cases; their volumes are read.
        sightings: What each case showed, in the same order.
    """
    naming = {entry.positions: entry.naming for entry in named_pairs(labels.names)}
    seen: dict[tuple[int, int], list[Sighting]] = defaultdict(list)
    for found in sightings:
        for sighting in found:
            seen[sighting.pair].append(sighting)
    accepted: list[tuple[float, tuple[int, int], list[MirroredClasses]]] = []
    for pair, appearances in seen.items():
        first, second = (labels.names[position] for position in pair)
        both = sum(case.class_voxels.get(first, 0) > 0 and case.class_voxels.get(second, 0) > 0 for case in cases)
        by_axis = _accepted_axes(appearances, both, DEMANDS[naming.get(pair, "none")])
        entries = [
            MirroredClasses(
                first=first,
                second=second,
                axis_zyx=axis,
                cases=len(along),
                likeness=round(float(np.median([entry.mirrored for entry in along])), 4),
                named=pair in naming,
            )
            for axis, along in sorted(by_axis.items())
        ]
        if entries:
            accepted.append((max(entry.likeness for entry in entries), pair, entries))
    return _one_partner_each(accepted, set(naming))


def _accepted_axes(found: Sequence[Sighting], both: int, demand: Demand) -> Mapping[int, list[Sighting]]:
    """Array axes along which a pair is one, with the cases in which it lies so."""
    fit = [entry for entry in found if entry.upright >= demand.upright and entry.apart >= demand.apart]
    if len(fit) < max(demand.cases, USUAL_CASES * both):
        return {}
    sides = Counter(entry.towards for entry in fit)
    if max(sides.values()) < demand.one_side * len(fit):
        return {}
    names = ("volumes", "spreads", "mirrored", "moved")
    volumes, spreads, mirrored, moved = (float(np.median([getattr(entry, name) for entry in fit])) for name in names)
    if volumes > demand.volumes or spreads > demand.spreads:
        return {}
    if mirrored < demand.mirrored_alone and (mirrored < demand.mirrored or mirrored < moved + MARGIN):
        return {}
    by_axis: dict[int, list[Sighting]] = defaultdict(list)
    for entry in fit:
        by_axis[entry.axis_zyx].append(entry)
    return {axis: along for axis, along in by_axis.items() if len(along) >= RARE_AXIS * len(fit)}


def _one_partner_each(
    accepted: Sequence[tuple[float, tuple[int, int], list[MirroredClasses]]], named: set[tuple[int, int]]
) -> tuple[MirroredClasses, ...]:
    """Pairs by name first, then the likest; a class that has a partner gets no other."""
    taken: set[int] = set()
    kept = []
    for _, pair, entries in sorted(accepted, key=lambda item: (item[1] not in named, -item[0], item[1])):
        if taken.isdisjoint(pair):
            taken.update(pair)
            kept.append((pair, entries))
    return tuple(entry for _, entries in sorted(kept, key=lambda item: item[0]) for entry in entries)


def exchanged_sides(
    labels: LabelSpec, cases: Sequence[CaseFingerprint], sightings: Sequence[Sequence[Sighting]], pairs: Sequence[MirroredClasses]
) -> dict[str, list[tuple[int, int]]]:
    """Cases in which classes named left and right lie the other way round than in most: their labels or headers are wrong.

    Returns:
        By case, in order: the pairs concerned, as positions of classes.
    """
    sides: dict[tuple[int, int], dict[str, str]] = defaultdict(dict)
    known = {(labels.names.index(entry.first), labels.names.index(entry.second)) for entry in pairs if entry.named}
    for case, found in zip(cases, sightings, strict=True):
        for sighting in found:
            if sighting.pair in known and sighting.towards in "LR" and sighting.upright >= DEMANDS["words"].upright:
                sides[sighting.pair][case.case] = sighting.towards
    exchanged: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for pair, by_case in sides.items():
        usual = Counter(by_case.values()).most_common(1)[0][0]
        for case_id, side in by_case.items():
            if side != usual:
                exchanged[case_id].append(pair)
    return dict(sorted(exchanged.items()))


def warn_of_exchanged_sides(labels: LabelSpec, exchanged: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Logs the cases that ``exchanged_sides`` has found."""
    for case_id, found_pairs in exchanged.items():
        first, second = (labels.names[position] for position in found_pairs[0])
        more = "" if len(found_pairs) == 1 else f" (and {count(len(found_pairs) - 1, 'more pair')})"
        log.warning(
            "%s: '%s' and '%s'%s lie the other way round than in most cases: check the labels and the header", case_id, first, second, more
        )


def mirror_axes(fingerprint: Fingerprint) -> tuple[tuple[int, ...], Decision]:
    """Array axes as read (0 z, 1 y, 2 x; planar images: 1 and 2) along which training and prediction may mirror, and why."""
    axes = tuple(range(3 - fingerprint.ndim, 3))
    by_axis: dict[int, list[MirroredClasses]] = defaultdict(list)
    for entry in fingerprint.mirrored_classes:
        if entry.axis_zyx in axes:
            by_axis[entry.axis_zyx].append(entry)
    allowed = tuple(axis for axis in axes if axis not in by_axis)
    if not by_axis:
        return axes, Decision(name="mirroring", value="all axes", reason=_reason_to_keep(fingerprint))
    reason = "; ".join(_reason_to_leave(axis, by_axis[axis], fingerprint.cases) for axis in sorted(by_axis))
    value = ", ".join("zyx"[axis] for axis in allowed) or "none"
    return allowed, Decision(name="mirroring", value=value, reason=f"{reason}: mirrored, one would pass for the other")


def _reason_to_leave(axis: int, entries: Sequence[MirroredClasses], cases: Sequence[CaseFingerprint]) -> str:
    shown = max(entries, key=lambda entry: (entry.cases, entry.likeness))  # the first of equals
    more = "" if len(entries) == 1 else f" (and {count(len(entries) - 1, 'more pair')})"
    letters = {case.orientation[axis] for case in cases if case.orientation}
    body = "left-right" if letters and letters <= {"L", "R"} else "front-back" if letters and letters <= {"A", "P"} else ""
    body = "head-foot" if letters and letters <= {"S", "I"} else body
    of_body = f", the patient's {body} axis" if body else ""
    return (
        f"{shown.first} and {shown.second}{more} are mirror images across {'zyx'[axis]}{of_body} "
        f"(likeness {shown.likeness:.2f} in {count(shown.cases, 'case')})"
    )


def _reason_to_keep(fingerprint: Fingerprint) -> str:
    names = fingerprint.labels.names
    pairs = [entry for entry in named_pairs(names) if entry.naming == "words"]
    if not pairs and not any(case.class_voxels for case in fingerprint.cases) and len(names) > 1:
        return "no names tell left from right; whether two classes are each other's mirror image, this fingerprint does not say"
    if not pairs:
        return "no two classes are each other's mirror image" if len(names) > 1 else "there is one class, which mirroring leaves what it is"
    remedy = "leave out the left-right axis with `--mirror-axes` if mirrored, one would pass for the other"
    told = _pair_shown(pairs, names)
    if not any(case.class_voxels for case in fingerprint.cases):
        return f"{told} are named as left and right, but this fingerprint does not say where they lie: {remedy}"
    together = any(
        case.class_voxels.get(names[pair.left], 0) and case.class_voxels.get(names[pair.right], 0)
        for pair in pairs
        for case in fingerprint.cases
    )
    if not together:
        return f"{told} are named as left and right, but no case has both, so nothing says along which axis: {remedy}"
    return f"{told} are named as left and right, but do not lie or look like mirror images: {remedy}"


def _pair_shown(pairs: Sequence[NamedPair], names: Sequence[str]) -> str:
    first, second = (names[position] for position in pairs[0].positions)
    return f"{first} and {second}" + ("" if len(pairs) == 1 else f" (and {count(len(pairs) - 1, 'more pair')})")
