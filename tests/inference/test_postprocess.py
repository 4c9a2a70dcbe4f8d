"""Keeping the largest component, as nnU-Net does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.inference.postprocess import apply_postprocessing
from autounet.postprocessing import KeepLargest

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "nnunet_postprocessing.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN.keys())
def test_nnunets_results(case: dict[str, Any]) -> None:
    labels, expected = (np.array([int(digit) for digit in case[key]], np.uint8).reshape(case["shape"]) for key in ("labels", "expected"))
    before = labels.copy()
    result = apply_postprocessing(labels, [KeepLargest(values=tuple(values)) for values in case["steps"]])
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(labels, before)
    assert result.dtype == labels.dtype


def test_neighbours_by_a_corner_belong_together_and_large_values_are_values() -> None:
    labels = np.zeros((3, 3, 3), np.uint16)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 0, 2] = 600, 601, 600  # each shares a corner with the next
    labels[0, 2, 2] = 7
    result = apply_postprocessing(labels, [KeepLargest(values=(600, 601)), KeepLargest(values=(7,))])
    np.testing.assert_array_equal(result, labels)
    labels[1, 1, 1] = 0  # two of one voxel each are left: equally large, so both stay
    np.testing.assert_array_equal(apply_postprocessing(labels, [KeepLargest(values=(600,))]), labels)


def test_without_steps_or_structures_nothing_changes() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    assert apply_postprocessing(labels, ()) is labels
    assert not apply_postprocessing(labels, [KeepLargest(values=(1,))]).any()
