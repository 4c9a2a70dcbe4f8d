"""Normalisation, worked by hand."""

import numpy as np
import pytest

from autounet.plan import Normalization
from autounet.preprocessing.normalize import mean_and_std, normalize


def volume(*values: float) -> np.ndarray:
    """One channel of a row of voxels."""
    return np.array(values, np.float32).reshape(1, 1, 1, -1)


def row(image: np.ndarray) -> list[float]:
    return [float(value) for value in image.ravel()]


def test_zscore_uses_the_population_deviation() -> None:
    # mean 4, deviations -2 0 2, variance 8/3 (divided by n, not n - 1)
    found = row(normalize(volume(2, 4, 6), (Normalization(scheme="zscore"),), None))
    assert found == pytest.approx([-2 / (8 / 3) ** 0.5, 0, 2 / (8 / 3) ** 0.5], rel=1e-6)


def test_zscore_in_the_mask_leaves_the_outside_alone() -> None:
    mask = np.array([False, True, True, False]).reshape(1, 1, 4)
    found = row(normalize(volume(0, 10, 20, 0), (Normalization(scheme="zscore", use_mask=True),), mask))
    assert found == [0, -1, 1, 0]  # mean 15, deviation 5, of the two voxels inside


def test_a_mask_is_only_for_the_channels_that_ask_for_it() -> None:
    image = np.concatenate([volume(0, 10, 20, 0), volume(0, 10, 20, 0)])
    mask = np.array([False, True, True, False]).reshape(1, 1, 4)
    normalize(image, (Normalization(scheme="zscore"), Normalization(scheme="zscore", use_mask=True)), mask)
    assert row(image[1]) == [0, -1, 1, 0]
    deviation = ((2 * 7.5**2 + 2.5**2 + 12.5**2) / 4) ** 0.5  # mean 7.5
    assert row(image[0]) == pytest.approx([-7.5 / deviation, 2.5 / deviation, 12.5 / deviation, -7.5 / deviation], rel=1e-6)


def test_ct_clips_then_uses_the_datasets_numbers() -> None:
    scheme = Normalization(scheme="ct", lower=-100, upper=300, mean=50, std=25)
    assert row(normalize(volume(-1000, -100, 50, 75, 300, 3000), (scheme,), None)) == [-6, -6, 0, 1, 10, 10]


def test_rescale_to_zero_and_one() -> None:
    assert row(normalize(volume(-5, 0, 15), (Normalization(scheme="rescale"),), None)) == [0, 0.25, 1]


def test_rgb_divides_by_255() -> None:
    assert row(normalize(volume(0, 51, 255), (Normalization(scheme="rgb"),), None)) == pytest.approx([0, 0.2, 1])


def test_none_changes_nothing() -> None:
    assert row(normalize(volume(-3, 7, 1e6), (Normalization(scheme="none"),), None)) == [-3, 7, 1e6]


@pytest.mark.parametrize("value", [0.0, 7.0, -300.0])
@pytest.mark.parametrize("scheme", ["zscore", "rescale"])
def test_a_constant_image_becomes_zeros(scheme: str, value: float) -> None:
    kind = Normalization(scheme=scheme)  # type: ignore[arg-type]
    assert row(normalize(volume(value, value, value), (kind,), None)) == [0, 0, 0]
    if scheme == "zscore":
        inside = np.array([True, True, False]).reshape(1, 1, 3)
        assert row(normalize(volume(value, value, 0), (Normalization(scheme="zscore", use_mask=True),), inside)) == [0, 0, 0]


def test_statistics_are_exact_on_large_images_far_from_zero() -> None:
    """In float32 sums the mean of a million voxels around 30000 would be off by far more than the spread."""
    rng = np.random.default_rng(0)
    image = (30000 + rng.standard_normal((1, 100, 100, 100))).astype(np.float32)
    exact = image.astype(np.float64)
    found = normalize(image.copy(), (Normalization(scheme="zscore"),), None)
    np.testing.assert_allclose(found, (exact - exact.mean()) / exact.std(), atol=5e-3)
    assert abs(float(found.mean(dtype=np.float64))) < 2e-3


def test_statistics_inside_a_mask_are_those_of_its_voxels() -> None:
    """Summed plane by plane, some of them empty; of no voxel at all both are 0."""
    rng = np.random.default_rng(0)
    channel, mask = rng.normal(300, 20, (7, 9, 11)).astype(np.float32), rng.random((7, 9, 11)) < 0.3
    mask[2] = mask[6] = False
    inside = channel[mask].astype(np.float64)
    assert mean_and_std(channel, mask) == pytest.approx((inside.mean(), inside.std()), rel=1e-12)
    assert mean_and_std(channel, None) == pytest.approx((channel.mean(dtype=np.float64), channel.std(dtype=np.float64)), rel=1e-12)
    assert mean_and_std(channel, np.zeros_like(mask)) == (0, 0)


def test_every_channel_needs_a_scheme() -> None:
    with pytest.raises(ValueError, match="argument"):
        normalize(np.zeros((2, 1, 1, 1), np.float32), (Normalization(scheme="none"),), None)
