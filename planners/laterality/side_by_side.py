"""Classes of one case that lie side by side and may be each other's mirror image.

Each case gives what was measured of its candidates; which of them are pairs is decided over all cases (``laterality``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autounet.geometry import TripleMm
from autounet.labels import IntArray, LabelSpec
from autounet.planners.laterality.extents import Extents, Floats
from autounet.planners.laterality.names import NamedPair
from autounet.planners.laterality.overlap import likeness

FEWEST_VOXELS = 64
"""Smaller classes are not looked at, unless their names make a pair."""

LOOSE_UPRIGHT = 0.9
LOOSE_APART = 2.0
LOOSE_VOLUMES = 1.6
LOOSE_SPREADS = 0.35
"""Which classes without telling names are compared at all: see ``Sighting`` for what these bound."""

PARTNERS = 3
"""Of so many classes at most, the likest by volume and spread, each class is compared with, however many there are."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Two classes of one case that lie side by side along an array axis."""

    pair: tuple[int, int]
    """Positions of the classes in the dataset's order."""
    axis_zyx: int
    """Array axis along which their centres are farthest apart, in mm."""
    towards: str
    """Where the second lies from the first: a letter as in an orientation; ``+`` or ``-`` along the axis where that is not known."""
    upright: float
    """Part of the distance between the centres that is along the axis, 0 to 1: the cosine of the tilt."""
    apart: float
    """Their distance along the axis over their mean spread (standard deviation) there; two halves of a ball have 3."""
    volumes: float
    """Larger volume over the smaller."""
    spreads: float
    """Largest difference of the logarithms of their spreads along z, y and x."""
    mirrored: float
    """Dice of one, mirrored across the axis and moved onto the other."""
    moved: float
    """Dice of one, moved onto the other without mirroring it."""


def sight(
    labels_zyx: IntArray, spec: LabelSpec, extents: Extents, spacing_mm_zyx: TripleMm, orientation: str, named: Sequence[NamedPair]
) -> tuple[Sighting, ...]:
    """Measures the candidates of one case: all pairs by name, and among the other classes those that are alike left and right.

    Args:
        labels_zyx: Label values (z, y, x).
        spec: What they mean.
        extents: Where the classes lie.
        spacing_mm_zyx: Distance of the voxels.
        orientation: Of the case; empty where it is not known, and then only names make candidates.
        named: Pairs by name.
    """
    geometry = _Geometry(extents, np.array(spacing_mm_zyx))
    there = extents.volumes > 0
    pairs = [entry.positions for entry in named if there[entry.left] and there[entry.right]]
    by_words = [position for entry in named if entry.naming == "words" for position in entry.positions]
    pairs += sorted(set(geometry.unnamed_candidates(orientation, by_words)) - set(pairs))
    found = []
    for pair in pairs:
        axis, upright, apart, volumes, spreads = geometry.of_pair(pair)
        distance = extents.centres_zyx[pair[1], axis] - extents.centres_zyx[pair[0], axis]
        if distance == 0:
            continue
        mirrored = likeness(labels_zyx, spec, extents, pair, axis)
        moved = likeness(labels_zyx, spec, extents, pair, None)
        towards = _towards(orientation, axis, bool(distance > 0))
        found.append(Sighting(pair, axis, towards, upright, apart, volumes, spreads, mirrored, moved))
    return tuple(found)


def _towards(orientation: str, axis: int, grows: bool) -> str:
    if not orientation:
        return "+" if grows else "-"
    letter = orientation[axis]
    return letter if grows else letter.translate(str.maketrans("LRAPSI", "RLPAIS"))


class _Geometry:
    """Distances, volumes and spreads of all pairs of classes of a case."""

    def __init__(self, extents: Extents, spacing_mm: Floats) -> None:
        self._volumes = extents.volumes
        self._centres_mm = extents.centres_zyx * spacing_mm
        # Half a voxel at least, so that one slice has a spread too.
        self._spreads_mm = np.maximum(extents.spreads_zyx, 0.5) * spacing_mm

    def of_pair(self, pair: tuple[int, int]) -> tuple[int, float, float, float, float]:
        """Axis, upright, apart, volumes and spreads of two classes that are there: see ``Sighting``."""
        first, second = pair
        distance = np.abs(self._centres_mm[second] - self._centres_mm[first])
        axis = int(distance.argmax())
        upright = float(distance[axis] / max(float(np.linalg.norm(distance)), 1e-9))
        apart = float(distance[axis] / self._spreads_mm[[first, second], axis].mean())
        volumes = float(max(self._volumes[[first, second]]) / min(self._volumes[[first, second]]))
        spreads = float(np.abs(np.log(self._spreads_mm[first] / self._spreads_mm[second])).max())
        return axis, upright, apart, volumes, spreads

    def unnamed_candidates(self, orientation: str, leave_out: Sequence[int]) -> list[tuple[int, int]]:
        """Pairs that lie side by side along the patient's left-right axis and are alike, by numbers per class alone."""
        axis = next((axis for axis, letter in enumerate(orientation) if letter in "LR"), None)
        chosen = self._volumes >= FEWEST_VOXELS
        chosen[list(leave_out)] = False
        positions = chosen.nonzero()[0]
        if axis is None or len(positions) < 2:
            return []
        centres, spreads = self._centres_mm[positions], self._spreads_mm[positions]
        between = np.abs(centres[:, None, axis] - centres[None, :, axis])
        sideways = sum(np.square(centres[:, None, other] - centres[None, :, other]) for other in range(3) if other != axis)
        logs = np.log(self._volumes[positions])
        volumes = np.abs(logs[:, None] - logs[None, :])
        unlike = np.abs(np.log(spreads)[:, None, :] - np.log(spreads)[None, :, :]).max(axis=2)
        alike = between * np.sqrt(1 - LOOSE_UPRIGHT**2) >= LOOSE_UPRIGHT * np.sqrt(sideways)
        alike &= between >= LOOSE_APART * (spreads[:, None, axis] + spreads[None, :, axis]) / 2
        alike &= (volumes <= np.log(LOOSE_VOLUMES)) & (unlike <= LOOSE_SPREADS)
        np.fill_diagonal(alike, False)
        mutual = _nearest(np.where(alike, volumes + unlike, np.inf))
        return [(int(positions[a]), int(positions[b])) for a, b in np.argwhere(np.triu(mutual))]


def _nearest(unlikeness: Floats) -> npt.NDArray[np.bool_]:
    """Which pairs are, on both sides, among the likest ``PARTNERS`` of a class; infinity is never."""
    chosen = np.zeros(unlikeness.shape, np.bool_)
    order = unlikeness.argsort(axis=1, kind="stable")[:, :PARTNERS]
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen & chosen.T & np.isfinite(unlikeness)
