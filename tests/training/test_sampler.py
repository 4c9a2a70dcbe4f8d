"""Which patches are read: nnU-Net's sizes, its share of foreground, and bounds that hold for any case."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autounet.rotation import RotationRule, rotation_rule
from autounet.training.sampler import CaseSummary, draw_batch, draw_start, initial_patch_size


def _case(shape: tuple[int, int, int], *classes: list[tuple[int, int, int]]) -> CaseSummary:
    return CaseSummary(shape, tuple(np.array(voxels, np.int32).reshape(-1, 3) for voxels in classes))


@pytest.mark.parametrize(
    ("patch", "degrees", "within_slices"),
    [
        ((128, 128, 128), 30, False),
        ((40, 120, 120), 30, False),  # 120 / 40 is 3, not above
        ((40, 121, 40), 180, True),
        ((20, 320, 256), 180, True),
        ((120, 40, 40), 30, False),  # the first axis alone counts
        ((512, 512), 180, False),
        ((60, 40), 180, False),  # 60 / 40 is 1.5, not above
        ((61, 40), 15, False),
        ((40, 61), 15, False),
    ],
)
def test_rotation_rule(patch: tuple[int, ...], degrees: float, within_slices: bool) -> None:
    assert rotation_rule(patch) == RotationRule(math.radians(degrees), within_slices)


def test_loaded_patch_sizes_equal_nnunet(nnunet) -> None:
    assert len(nnunet["patch_sizes"]) > 100
    ours = [[patch, list(initial_patch_size(patch, rotation_rule(patch)))] for patch, _ in nnunet["patch_sizes"]]
    assert ours == nnunet["patch_sizes"]


@pytest.mark.parametrize(("batch_size", "forced"), [(2, 1), (3, 1), (4, 1), (9, 3), (12, 4), (366, 121)])
def test_the_last_third_of_a_batch_holds_foreground(batch_size: int, forced: int) -> None:
    # The case's only foreground voxel lies in a corner that a free patch meets with probability 1/97³.
    case = _case((100, 100, 100), [(98, 98, 98)])
    for seed in range(5):
        requests = draw_batch(np.random.default_rng(seed), [case], batch_size, (4, 4, 4), (4, 4, 4))
        assert [request.start == (96, 96, 96) for request in requests] == [False] * (batch_size - forced) + [True] * forced


def test_a_third_of_the_batches_of_one_hold_foreground() -> None:
    case = _case((100, 100, 100), [(98, 98, 98)])
    forced = sum(draw_batch(np.random.default_rng(seed), [case], 1, (4, 4, 4), (4, 4, 4))[0].start == (96, 96, 96) for seed in range(1000))
    assert abs(forced - 330) < 5 * math.sqrt(1000 * 0.33 * 0.67)  # five standard deviations of a binomial


def test_the_scored_part_is_kept_inside_the_case_or_around_foreground() -> None:
    """An unpadded network: 12 loaded voxels, the middle 4 scored, in a case of 10 and one of 3, which is shorter than these."""
    case = _case((10, 3, 10), [(5, 1, 9)])
    rng = np.random.default_rng(0)
    starts = [draw_start(rng, case, (12, 12, 12), (4, 4, 4), forced=False) for _ in range(500)]
    assert {start[0] + 4 for start in starts} == set(range(7))  # the scored part begins at 0 to 10 - 4
    assert {start[1] + 4 for start in starts} == {-1, 0}  # it covers the short axis
    z, y, x = draw_start(rng, case, (12, 12, 12), (4, 4, 4), forced=True)
    assert (z + 6, y + 6, x + 6) == (5, 1, 9)  # the voxel is in the middle, though the scored part ends beyond the case


def test_cases_and_classes_are_drawn_uniformly() -> None:
    # Class sizes 1000 : 1 must not matter, nor the class that this case lacks.
    many = [(10, index // 40, index % 40) for index in range(1000)]
    case = _case((40, 40, 40), many, [], [(30, 20, 20)])
    rng = np.random.default_rng(0)
    planes = Counter(draw_start(rng, case, (1, 1, 1), (1, 1, 1), forced=True)[0] for _ in range(2000))
    assert set(planes) == {10, 30}
    assert abs(planes[10] - 1000) < 5 * math.sqrt(2000 / 4)  # five standard deviations of a binomial
    drawn = Counter(request.case for _ in range(500) for request in draw_batch(rng, [case] * 4, 4, (1, 1, 1), (1, 1, 1)))
    assert all(abs(drawn[index] - 500) < 5 * math.sqrt(2000 * 3 / 16) for index in range(4))


def test_without_foreground_a_forced_patch_lies_anywhere() -> None:
    starts = {draw_start(np.random.default_rng(seed), _case((9, 9, 9), [], []), (3, 3, 3), (3, 3, 3), forced=True) for seed in range(50)}
    assert len(starts) > 30


def test_free_patches_reach_every_allowed_start_and_no_other() -> None:
    # Axis 0: patch 4 of loaded 7 on 10 voxels: padding 3, so from -2 (nnU-Net's -3 // 2) to 10 + 2 - 7 = 5.
    # Axis 1: the case (3) is shorter than the patch (8): padding 5, from -3 to 3 + 3 - 8 = -2.
    # Axis 2: nothing to pad, from 0 to 6 - 4 = 2.
    rng = np.random.default_rng(0)
    starts = [draw_start(rng, _case((10, 3, 6)), (7, 8, 4), (4, 8, 4), forced=False) for _ in range(600)]
    assert [sorted({start[axis] for start in starts}) for axis in range(3)] == [list(range(-2, 6)), [-3, -2], [0, 1, 2]]


sides = st.integers(1, 40)


@settings(max_examples=200, deadline=None)
@given(st.tuples(sides, sides, sides), st.tuples(sides, sides, sides), st.tuples(*[st.integers(0, 20)] * 3), st.booleans(), st.data())
def test_patches_stay_within_bounds(shape, patch, extra, forced, data) -> None:
    """For any case: a free patch covers the case or lies in it up to the padding, a forced one holds its voxel."""
    loaded = tuple(inner + more for inner, more in zip(patch, extra, strict=True))
    voxel = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    start = draw_start(np.random.default_rng(data.draw(st.integers(0, 999))), _case(shape, [voxel]), loaded, patch, forced)
    for first, size, side, inner, at in zip(start, shape, loaded, patch, voxel, strict=True):
        padding = max(side - inner, side - size)
        assert first >= -math.ceil(padding / 2)
        if forced:
            assert first <= at < first + side
            assert first == max(at - side // 2, -math.ceil(padding / 2))
        else:
            assert first + side <= size + math.ceil(padding / 2)


def test_with_an_ignore_value_patches_that_are_not_forced_lie_around_annotated_voxels() -> None:
    """One annotated voxel in 100³: every patch is centred on it, or on the foreground; elsewhere there would be nothing to learn."""
    scribbled = CaseSummary((100, 100, 100), (np.array([[98, 98, 98]], np.int32),), np.array([[50, 50, 50]], np.int32))
    for seed in range(5):
        requests = draw_batch(np.random.default_rng(seed), [scribbled], 3, (4, 4, 4), (4, 4, 4))
        assert [request.start for request in requests] == [(48, 48, 48), (48, 48, 48), (96, 96, 96)]
    nothing = CaseSummary((100, 100, 100), (np.zeros((0, 3), np.int32),), np.zeros((0, 3), np.int32))
    starts = {draw_start(np.random.default_rng(seed), nothing, (4, 4, 4), (4, 4, 4), True) for seed in range(20)}
    assert len(starts) == 20  # anywhere
