"""Target spacing, axis order and resampled shapes, worked by hand."""

import pytest

from autounet.planners.spacing import TargetSpacing, axis_order, median_shape, resampled_shape, resampling, target_spacing


def test_target_is_the_median_per_axis() -> None:
    made = target_spacing([(1.0, 1.0, 2.0), (2.0, 1.0, 2.0), (9.0, 1.5, 2.0)], [(50, 60, 70)] * 3, 3)
    assert made.spacing_mm_zyx == (2.0, 1.0, 2.0)


def test_coarse_axis_with_few_voxels_takes_the_10th_percentile() -> None:
    """Eleven images: sorted spacings of axis 0 are 5, 6, 10, …; the 10th percentile is the second of eleven."""
    spacings = [(5.0, 1.5, 1.5), (6.0, 1.5, 1.5), *[(10.0, 1.5, 1.5)] * 9]
    made = target_spacing(spacings, [(10, 200, 200)] * 11, 3)
    assert made.spacing_mm_zyx == (6.0, 1.5, 1.5)
    assert made.reason.startswith(
        "axis 0 (z) is 6.7× coarser than the others and has 20× fewer voxels: 10th percentile of its spacing, 6 mm"
    )


def test_coarse_axis_with_many_voxels_keeps_its_median() -> None:
    """3 × 70 = 210 is not below 200 voxels."""
    made = target_spacing([(5.0, 1.0, 1.0), *[(10.0, 1.0, 1.0)] * 10], [(70, 200, 200)] * 11, 3)
    assert made.spacing_mm_zyx == (10.0, 1.0, 1.0)
    assert "has 70 voxels, not 3× fewer" in made.reason


def test_three_times_exactly_is_not_coarse() -> None:
    made = target_spacing([(1.0, 1.0, 1.0), *[(3.0, 1.0, 1.0)] * 10], [(10, 200, 200)] * 11, 3)
    assert made.spacing_mm_zyx == (3.0, 1.0, 1.0)


def test_coarse_axis_never_becomes_the_finest() -> None:
    spacings = [*[(0.5, 1.0, 1.0)] * 2, *[(10.0, 1.0, 1.0)] * 9]
    made = target_spacing(spacings, [(10, 200, 200)] * 11, 3)
    assert made.spacing_mm_zyx == (1.0 + 1e-5, 1.0, 1.0)


def test_planar_images_take_the_median() -> None:
    assert target_spacing([(1.0, 0.5, 0.4)] * 3, [(1, 200, 200)] * 3, 2).spacing_mm_zyx == (1.0, 0.5, 0.4)


@pytest.mark.parametrize(
    ("spacing", "ndim", "order"),
    [
        ((3.0, 1.0, 1.0), 3, (0, 1, 2)),
        ((1.0, 3.0, 1.0), 3, (1, 0, 2)),
        ((1.0, 1.0, 3.0), 3, (2, 0, 1)),
        ((1.0, 3.0, 3.0), 3, (1, 0, 2)),  # the first of equals
        ((1.0, 1.0, 1.0), 3, (0, 1, 2)),
        ((1.0, 3.0, 4.0), 2, (0, 1, 2)),
    ],
)
def test_coarsest_axis_comes_first(spacing: tuple[float, float, float], ndim: int, order: tuple[int, int, int]) -> None:
    assert axis_order(TargetSpacing(spacing, ""), ndim)[0] == order


def test_resampled_shape_rounds_half_to_even() -> None:
    # 5 / 2 = 2.5 → 2; 7 / 2 = 3.5 → 4; 10 · 1.5 / 1 = 15
    assert resampled_shape((5, 7, 10), (1.0, 1.0, 1.5), (2.0, 2.0, 1.0)) == (2, 4, 15)


def test_median_is_taken_of_the_resampled_shapes() -> None:
    """Shapes 10 and 20 at 2 and 1 mm both cover 20 mm: 20 voxels each at 1 mm, not the median shape 15."""
    target = TargetSpacing((1.0, 1.0, 1.0), "")
    assert median_shape([(10, 10, 10), (20, 20, 21)], [(2.0, 2.0, 2.0), (1.0, 1.0, 1.0)], target) == (20.0, 20.0, 20.5)


def test_resampling_is_explained() -> None:
    fine, coarse = (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)
    assert resampling([fine] * 3, TargetSpacing(fine, ""), 3)[0] == "none needed"
    assert resampling([fine, (1.1, 1.0, 1.0)], TargetSpacing(fine, ""), 3)[0] == "cubic"
    assert resampling([fine, coarse], TargetSpacing(fine, ""), 3)[0] == "cubic; within slices only for 1 of 2 images"
    assert resampling([fine, coarse], TargetSpacing(coarse, ""), 3)[0] == "cubic within slices, nearest slice across"
    # Two axes equally coarse: there is no slice direction.
    assert resampling([fine, (5.0, 5.0, 1.0)], TargetSpacing(fine, ""), 3)[0] == "cubic"
