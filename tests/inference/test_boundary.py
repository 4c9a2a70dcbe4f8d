"""Only boundaries are interpolated, and nobody can tell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autounet.inference.boundary import AxisMap, resampled_winners, winners

SIDE = st.integers(1, 9)


def interpolated(scores: np.ndarray, shape: tuple[int, ...], separate: int | None) -> np.ndarray:
    """Every class by scipy, in float64; a thick axis by its nearest voxels."""
    found = scores.astype(np.float64)
    for axis, size in enumerate(shape):
        if axis == separate:
            at = np.floor((found.shape[axis + 1] / size) * (np.arange(size) + 0.5)).astype(int)
            found = found.take(np.clip(at, 0, found.shape[axis + 1] - 1), axis + 1)
        elif found.shape[axis + 1] == 1:
            found = found.repeat(size, axis + 1)
        elif found.shape[axis + 1] != size:
            zoom = [1.0] * 4
            zoom[axis + 1] = size / found.shape[axis + 1]
            found = ndimage.zoom(found, zoom, order=1, mode="nearest", grid_mode=True)
    return found


@given(
    size_in=st.tuples(SIDE, SIDE, SIDE),
    size_out=st.tuples(SIDE, SIDE, SIDE),
    separate=st.sampled_from([None, 0, 1, 2]),
    outputs=st.integers(1, 6),
    smooth=st.sampled_from([0.0, 1.0, 3.0]),
    half=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_the_best_class_is_that_of_interpolated_scores(
    size_in: tuple[int, ...], size_out: tuple[int, ...], separate: int | None, outputs: int, smooth: float, half: bool, seed: int
) -> None:
    scores = np.random.default_rng(seed).standard_normal((outputs, *size_in)) * 5
    scores = ndimage.gaussian_filter(scores, (0, smooth, smooth, smooth)).astype(np.float16 if half else np.float32)
    z, y, x = (AxisMap.between(a, b, axis == separate) for axis, (a, b) in enumerate(zip(size_in, size_out, strict=True)))
    whole = interpolated(scores, size_out, separate)
    found = resampled_winners(torch.from_numpy(scores), (z, y, x), overlapping=False).numpy()
    best = whole.max(0)
    # The voxel's class has the best score; which of two that are equal to the last bits is up to rounding.
    np.testing.assert_allclose(np.take_along_axis(whole, found[None].astype(int), 0)[0], best, atol=1e-5)
    found = resampled_winners(torch.from_numpy(scores), (z, y, x), overlapping=True).numpy()
    last = np.zeros(size_out, int)
    for number, score in enumerate(whole, start=1):
        last[score > 0] = number
    sure = (np.abs(whole) > 1e-30).all(0)
    np.testing.assert_array_equal(found[sure], last[sure])


def test_of_equal_scores_the_lowest_class_wins() -> None:
    scores = torch.zeros(3, 2, 2, 2)
    scores[1:, 0] = 1
    axes = (AxisMap.between(2, 6, False), AxisMap.between(2, 4, False), AxisMap.between(2, 2, False))
    found = resampled_winners(scores, axes, overlapping=False)
    assert found[:, 0, 0].tolist() == [1, 1, 1, 1, 0, 0]  # from 5/6, 1/2 and 1/6 of the way: still above 0; then 0 like class 0
    assert (found == found[:, :1, :1]).all()


@pytest.mark.parametrize("outputs", [255, 256, 300])
def test_many_classes(outputs: int) -> None:
    scores = torch.zeros(outputs, 3, 3, 3)
    scores[outputs - 1, 1:] = 2
    scores[0] = 1
    axes = (AxisMap.between(3, 5, False),) * 3
    found = resampled_winners(scores, axes, overlapping=False)
    expected = interpolated(scores.numpy(), (5, 5, 5), None).argmax(0)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert int(winners(scores, False).max()) == outputs - 1
