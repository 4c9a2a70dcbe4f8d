"""The box around the nonzero voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autounet.geometry import nonzero_box


def test_union_over_channels() -> None:
    image = np.zeros((2, 5, 6, 7), np.float32)
    image[0, 1, 2, 3] = 4.0
    image[1, 3, 2, 6] = -1.0
    box = nonzero_box(image)
    assert (box.start, box.stop) == ((1, 2, 3), (4, 3, 7))


def test_all_zero_image_keeps_its_size() -> None:
    assert nonzero_box(np.zeros((1, 3, 4, 5), np.float32)).shape == (3, 4, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_full_image_is_not_cropped(dtype: type) -> None:
    assert nonzero_box(np.ones((1, 3, 4, 5), dtype)).shape == (3, 4, 5)


def test_nan_counts_as_nonzero() -> None:
    image = np.zeros((1, 3, 3, 3), np.float32)
    image[0, 1, 1, 1] = np.nan
    assert nonzero_box(image).shape == (1, 1, 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 12))
@settings(max_examples=50, deadline=None)
def test_box_is_that_of_the_coordinates(seed: int, channels: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.zeros((channels, *rng.integers(1, 9, 3)), np.float32)
    image.ravel()[rng.integers(0, image.size, points)] = 1.0
    box = nonzero_box(image)
    places = np.argwhere(image.any(axis=0))
    if points:
        assert box.start == tuple(places.min(axis=0))
        assert box.stop == tuple(places.max(axis=0) + 1)
    else:
        assert box.shape == image.shape[1:]
