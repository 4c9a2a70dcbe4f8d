"""Halvings and kernels, worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autounet.planners.topology import topology


def test_isotropic_cube() -> None:
    """64 → 32 → 16 → 8 → 4: four halvings; at 4 voxels an axis stays."""
    made = topology((1.0, 1.0, 1.0), (64, 64, 64), 4)
    assert made.strides == ((1, 1, 1), *((2, 2, 2),) * 4)
    assert made.kernel_sizes == ((3, 3, 3),) * 5
    assert made.multiple_of == (16, 16, 16)
    assert tuple(size // step for size, step in zip(made.patch_size, made.multiple_of, strict=True)) == (4, 4, 4)


def test_size_is_padded_for_even_halvings() -> None:
    """Hippocampus: 36, 50 and 35 voxels are halved three times (36 → 18 → 9 → 5), so they become multiples of 8."""
    made = topology((1.0, 1.0, 1.0), (36, 50, 35), 4)
    assert made.patch_size == (40, 56, 40)
    assert made.stages == 4


def test_coarse_axis_waits_for_the_others() -> None:
    """Spacing 5 mm against 1 mm: the others halve to 2, then 4 mm before 5 mm is within a factor of 2 of them."""
    made = topology((5.0, 1.0, 1.0), (16, 128, 128), 4)
    assert made.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    # Stages 0 and 1 have spacings of 1 and 2 mm in-plane: flat kernels. From 4 mm on they reach across slices.
    assert made.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_factor_of_exactly_two_is_not_within_two() -> None:
    made = topology((2.0, 1.0, 1.0), (32, 32, 32), 4)
    assert made.strides[1] == (1, 2, 2)
    assert made.kernel_sizes[0] == (1, 3, 3)


def test_axis_left_alone_needs_three_times_the_smallest_edge() -> None:
    assert topology((1.0, 1.0), (4, 11), 4).stages == 1
    assert topology((1.0, 1.0), (4, 12), 4).strides == ((1, 1), (1, 2))


def test_bottleneck_kernel_is_full_even_if_the_spacings_never_meet() -> None:
    made = topology((100.0, 1.0, 1.0), (8, 16, 16), 4)
    assert made.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3))


def test_half_voxels_of_a_median_are_rounded_up() -> None:
    assert topology((1.0, 1.0, 1.0), (6.5, 20.5, 20.0), 4).patch_size == (7, 24, 20)


@given(
    st.integers(2, 3).flatmap(
        lambda ndim: st.tuples(st.tuples(*[st.floats(0.05, 50)] * ndim), st.tuples(*[st.integers(1, 600)] * ndim), st.integers(1, 8))
    )
)
def test_properties_of_any_topology(drawn: tuple[tuple[float, ...], tuple[int, ...], int]) -> None:
    spacing, size, min_edge = drawn
    made = topology(spacing, size, min_edge)
    assert made.strides[0] == (1,) * len(size)
    assert len(made.strides) == len(made.kernel_sizes)
    for axis, wanted in enumerate(size):
        halvings = [stride[axis] for stride in made.strides]
        assert set(halvings) <= {1, 2}
        assert made.multiple_of[axis] == 2 ** halvings.count(2)
        assert made.patch_size[axis] % made.multiple_of[axis] == 0
        assert 0 <= made.patch_size[axis] - wanted < made.multiple_of[axis]
        if made.multiple_of[axis] > 1:
            assert made.patch_size[axis] // made.multiple_of[axis] >= min_edge


def test_no_axis_can_be_halved() -> None:
    made = topology((1.0, 1.0, 1.0), (7, 7, 7), 4)
    assert made.strides == ((1, 1, 1),)
    assert made.patch_size == pytest.approx((7, 7, 7))
