"""Channel names, schemes and the mask rule."""

import pytest

from autounet.fingerprint import Intensities
from autounet.planners.normalization import normalizations

VALUES = Intensities(mean=99.5, std=39.5, min=-1024.0, max=3071.0, median=101.0, percentile_00_5=-41.0, percentile_99_5=176.0)


@pytest.mark.parametrize(
    ("channel", "scheme"),
    [
        ("CT", "ct"),
        ("ct", "ct"),
        ("MRI", "zscore"),
        ("T2", "zscore"),
        ("zscore", "zscore"),
        ("noNorm", "none"),
        ("rescale_to_0_1", "rescale"),
        ("RGB_to_0_1", "rgb"),
        ("CTA", "zscore"),
    ],
)
def test_name_chooses_the_scheme(channel: str, scheme: str) -> None:
    (made,), (decision,) = normalizations((channel,), (VALUES,), 1.0)
    assert made.scheme == scheme
    assert not made.use_mask
    assert channel in decision.name


def test_ct_carries_the_statistics_of_the_dataset() -> None:
    (made,), _ = normalizations(("CT",), (VALUES,), 1.0)
    assert (made.lower, made.upper, made.mean, made.std) == (-41.0, 176.0, 99.5, 39.5)


def test_constant_ct_is_not_divided_by_zero() -> None:
    (made,), _ = normalizations(("CT",), (VALUES.model_copy(update={"std": 0.0}),), 1.0)
    assert made.std == 1e-8


@pytest.mark.parametrize(("relative_size", "masked"), [(0.35, True), (0.7499, True), (0.75, False), (1.0, False)])
def test_mask_is_used_when_cropping_takes_a_quarter_off(relative_size: float, masked: bool) -> None:
    made, _ = normalizations(("MRI", "CT", "noNorm"), (VALUES,) * 3, relative_size)
    assert [entry.use_mask for entry in made] == [masked, False, False]
