"""Keeping the largest component, as nnU-Net does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.geometry import Grid
from autounet.inference.postprocess import apply_postprocessing
from autounet.postprocessing import FillHoles, KeepLargest, RemoveSmall

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "nnunet_postprocessing.json").read_text(encoding="utf-8"))


GRID = Grid(shape_zyx=(9, 9, 9), spacing_mm_zyx=(4.0, 1.0, 0.5))
"""Voxels of 2 mm³."""


@pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN.keys())
def test_nnunets_results(case: dict[str, Any]) -> None:
    labels, expected = (np.array([int(digit) for digit in case[key]], np.uint8).reshape(case["shape"]) for key in ("labels", "expected"))
    before = labels.copy()
    result = apply_postprocessing(labels, [KeepLargest(values=tuple(values)) for values in case["steps"]], GRID)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(labels, before)
    assert result.dtype == labels.dtype


def test_neighbours_by_a_corner_belong_together_and_large_values_are_values() -> None:
    labels = np.zeros((3, 3, 3), np.uint16)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 0, 2] = 600, 601, 600  # each shares a corner with the next
    labels[0, 2, 2] = 7
    result = apply_postprocessing(labels, [KeepLargest(values=(600, 601)), KeepLargest(values=(7,))], GRID)
    np.testing.assert_array_equal(result, labels)
    labels[1, 1, 1] = 0  # two of one voxel each are left: equally large, so both stay
    np.testing.assert_array_equal(apply_postprocessing(labels, [KeepLargest(values=(600,))], GRID), labels)


def test_without_steps_or_structures_nothing_changes() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    assert apply_postprocessing(labels, (), GRID) is labels
    assert not apply_postprocessing(labels, [KeepLargest(values=(1,))], GRID).any()


def test_small_components_are_told_by_their_volume() -> None:
    """Three, two and one voxels of 2 mm³; the limit itself is kept. Another class is no part of a component and stays."""
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[0, 0, 0:3] = labels[4, 4, 4:6] = labels[8, 8, 8] = 1
    labels[4, 4, 6] = 2
    expected = labels.copy()
    expected[8, 8, 8] = 0
    small = RemoveSmall(kind="remove_small", values=(1,), below_mm=4.0)
    np.testing.assert_array_equal(apply_postprocessing(labels, [small], GRID), expected)
    expected[4, 4, 4:6] = 0
    np.testing.assert_array_equal(apply_postprocessing(labels, [small.model_copy(update={"below_mm": 4.1})], GRID), expected)


def test_areas_count_in_planar_images() -> None:
    labels = np.zeros((1, 5, 5), np.uint8)
    labels[0, 0, 0:2] = labels[0, 4, 4] = 1  # 1 mm² and 0.5 mm², whatever the distance of slices says
    planar = GRID.model_copy(update={"ndim": 2})
    found = apply_postprocessing(labels, [RemoveSmall(kind="remove_small", values=(1,), below_mm=0.9)], planar)
    assert np.argwhere(found).tolist() == [[0, 0, 0], [0, 0, 1]]


def test_holes_are_what_no_path_through_faces_leaves() -> None:
    """A cube with a hole, and one with a hole that a tunnel leads to. Another class inside is no hole; corners are no way out."""
    labels = np.zeros((7, 7, 16), np.uint8)
    labels[1:6, 1:6, 1:6] = labels[1:6, 1:6, 9:14] = 3
    labels[3, 3, 3] = labels[3, 3, 11] = labels[3, 3, 12:16] = 0
    labels[2, 2, 2] = 5
    expected = labels.copy()
    expected[3, 3, 3] = 3
    np.testing.assert_array_equal(apply_postprocessing(labels, [FillHoles(kind="fill_holes", values=(3, 5))], GRID), expected)
    alone = expected.copy()
    np.testing.assert_array_equal(apply_postprocessing(labels, [FillHoles(kind="fill_holes", values=(3,))], GRID), alone)


def test_a_ring_in_a_slice_is_a_hole_in_a_planar_image_alone() -> None:
    ring = np.ones((1, 3, 3), np.uint8)
    ring[0, 1, 1] = 0
    step = FillHoles(kind="fill_holes", values=(1,))
    assert apply_postprocessing(ring, [step], GRID.model_copy(update={"ndim": 2})).all()
    np.testing.assert_array_equal(apply_postprocessing(ring, [step], GRID), ring)
