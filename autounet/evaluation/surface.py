"""Distances between the surfaces of two masks: HD95, average surface distance, normalised surface Dice.

Every element of one surface (see ``surface_elements``) has its distance to the nearest element of the other, and counts with its area.
The numbers are those of surface-distance 0.1. Two rules are ours: where exactly 95 % of a surface lie within a distance, or a distance
equals the tolerance, rounding decides there and does not here.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.spatial import cKDTree

from autounet.evaluation.surface_elements import BoolArray, FloatArray, Surface, surface_of

TOLERANCE_MM = 1.0
"""Of the normalised surface Dice where nobody gives another. None suits all structures: it should be what two experts differ by."""

HAUSDORFF_SHARE = 0.95
HEADER_ROUNDING = 1e-6
"""A distance is within a tolerance also when it is larger by this part: headers keep the spacing in float32."""
SUM_ROUNDING = 1e-12
"""Part of an area by which sums in float64 may miss a share."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """From each surface element of both masks to the other mask's surface; neither mask is empty."""

    from_truth_mm: FloatArray
    from_prediction_mm: FloatArray
    areas_truth: FloatArray
    """mm², in the plane mm."""
    areas_prediction: FloatArray

    @classmethod
    def between(cls, prediction: BoolArray, truth: BoolArray, spacing_mm: tuple[float, ...]) -> Self:
        """Measures two masks.

        The nearest elements are found with a k-d tree of the elements, exactly. A distance map takes 4 to 20 times as long, since it
        has a distance for every voxel (volumes of 150³ and 300³).

        Args:
            prediction: Mask (z, y, x) or (y, x), not empty.
            truth: The same, same shape.
            spacing_mm: Of the same axes.

        Raises:
            ValueError: The shapes differ, or a mask is empty.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction has shape {prediction.shape}, truth {truth.shape}")
        found, true = surface_of(prediction, spacing_mm), surface_of(truth, spacing_mm)
        if not len(found.areas) or not len(true.areas):
            raise ValueError("the distance to the surface of an empty mask is not defined")
        return cls(_distances(true, found, spacing_mm), _distances(found, true, spacing_mm), true.areas, found.areas)

    def hd95_mm(self) -> float:
        """The larger of two distances: within which 95 % of the true surface are from the predicted one, and the reverse."""
        return max(_quantile(self.from_truth_mm, self.areas_truth), _quantile(self.from_prediction_mm, self.areas_prediction))

    def assd_mm(self) -> float:
        """Average symmetric surface distance: the mean over the area of both surfaces together."""
        total = self.from_truth_mm @ self.areas_truth + self.from_prediction_mm @ self.areas_prediction
        return float(total / (self.areas_truth.sum() + self.areas_prediction.sum()))

    def nsd(self, tolerance_mm: float) -> float:
        """Normalised surface Dice, 0..1: the part of the area of both surfaces that is within the tolerance of the other one."""
        reach = tolerance_mm * (1 + HEADER_ROUNDING)
        within = self.areas_truth[self.from_truth_mm <= reach].sum() + self.areas_prediction[self.from_prediction_mm <= reach].sum()
        return float(within / (self.areas_truth.sum() + self.areas_prediction.sum()))


def _distances(begin: Surface, end: Surface, spacing_mm: tuple[float, ...]) -> FloatArray:
    """Distance in mm from each element of one surface to the nearest of the other."""
    apart = ~end.where.reshape(-1)[begin.points]  # where both surfaces have an element the distance is 0
    distances = np.zeros(len(apart))
    if apart.any():
        # Points of a lattice need no balancing, which takes longer than it saves.
        tree = cKDTree(end.positions_mm(spacing_mm), balanced_tree=False, compact_nodes=False)
        distances[apart], _ = tree.query(begin.positions_mm(spacing_mm)[apart])
    return distances


def _quantile(distances_mm: FloatArray, areas: FloatArray) -> float:
    """The smallest of the distances within which the share of the area lies."""
    order = np.argsort(distances_mm, kind="stable")
    area = np.cumsum(areas[order])
    place = np.searchsorted(area, HAUSDORFF_SHARE * area[-1] * (1 - SUM_ROUNDING))
    return float(distances_mm[order[place]])
