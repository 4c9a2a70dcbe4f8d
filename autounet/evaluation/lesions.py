"""Lesions found and missed: masks compared by connected components.

Components are 26-connected (8-connected in the plane). A true lesion is found when at least one of its voxels is predicted; a predicted
lesion without any true voxel is false. This is the rule of the ISLES 2022 challenge (``compute_lesion_f1_score``). The lesion-wise Dice is
that of BraTS 2023, without its dilation of the truth and its smallest size: every true lesion is compared with all predicted lesions that
touch it, and missed and false ones count as 0.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import ndimage

from autounet.evaluation.surface_elements import BoolArray


@dataclass(frozen=True, slots=True)
class LesionMatch:
    """The lesions of one class in one case."""

    true: int
    """Lesions in the truth."""
    found: int
    """Those of them that the prediction touches."""
    false: int
    """Lesions of the prediction that touch no true one."""
    dice_sum: float
    """Of the true lesions, each with the predicted ones that touch it."""

    @classmethod
    def of(cls, prediction: BoolArray, truth: BoolArray) -> Self:
        """Matches the components of two masks of the same shape, (z, y, x) or (y, x); either may be empty."""
        structure = np.ones((3,) * truth.ndim)
        (true_map, true), (found_map, predicted) = (ndimage.label(mask, structure) for mask in (truth, prediction))
        both = np.flatnonzero(truth & prediction)
        pairs = true_map.reshape(-1)[both].astype(np.int64) * (predicted + 1) + found_map.reshape(-1)[both]
        pairs, shared = np.unique(pairs, return_counts=True)
        true_of, found_of = np.divmod(pairs, predicted + 1)
        true_sizes = np.bincount(true_map[truth], minlength=true + 1)
        found_sizes = np.bincount(found_map[prediction], minlength=predicted + 1)
        # By true lesion, number 0 being the background: its predicted voxels, and the voxels of all that touches it.
        overlap = np.bincount(true_of, shared, true + 1)
        touching = np.bincount(true_of, found_sizes[found_of], true + 1)
        dice = 2 * overlap[1:] / (true_sizes[1:] + touching[1:]) if true else np.zeros(0)
        return cls(true, len(np.unique(true_of)), predicted - len(np.unique(found_of)), float(dice.sum()))

    def f1(self) -> float | None:
        """2 found / (2 found + missed + false), 0..1; None when there are no lesions at all."""
        total = self.true + self.found + self.false
        return 2 * self.found / total if total else None

    def dice(self) -> float | None:
        """Mean Dice of true and false lesions, 0..1; None when there are no lesions at all."""
        total = self.true + self.false
        return self.dice_sum / total if total else None
