"""From a raw case to the network's grid, and what the trace knows about the way back."""

import math
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.plan import Configuration, Normalization, Plan
from autounet.preprocessing.case import OUTSIDE, nonzero_mask, prepare_case, target_spacing

MakePlan = Callable[..., tuple[Plan, Configuration]]


def grid_of(shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0, 1.0), ndim: int = 3) -> Grid:
    a, b, c = shape
    z, y, x = spacing
    return Grid(ndim=ndim, shape_zyx=(a, b, c), spacing_mm_zyx=(z, y, x))


def test_identity_when_nothing_is_to_do(make_plan: MakePlan) -> None:
    plan, configuration = make_plan()
    image = np.random.default_rng(0).uniform(1, 2, (1, 5, 6, 7)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    case = prepare_case(image, grid_of((5, 6, 7)), plan, configuration, labels, "case")
    np.testing.assert_array_equal(case.image_czyx, image)
    np.testing.assert_array_equal(case.labels_zyx, labels)
    assert case.trace.prepared_shape == (5, 6, 7)


def test_transposed_before_it_is_cropped(make_plan: MakePlan) -> None:
    plan, configuration = make_plan(transpose=(2, 0, 1))
    image = np.zeros((1, 4, 5, 6), np.float32)
    image[0, 1:3, 2:5, 3:4] = np.arange(1, 7).reshape(2, 3, 1)
    case = prepare_case(image, grid_of((4, 5, 6)), plan, configuration, None, "case")
    # axes are now x, z, y: the box of z 1..2, y 2..4, x 3
    assert (case.trace.box.start, case.trace.box.stop) == ((3, 1, 2), (4, 3, 5))
    assert case.image_czyx.tolist() == [[[[1, 2, 3], [4, 5, 6]]]]
    assert case.labels_zyx is None


def test_box_is_the_union_over_channels(make_plan: MakePlan) -> None:
    plan, configuration = make_plan(schemes=(Normalization(scheme="none"),) * 2)
    image = np.zeros((2, 4, 5, 6), np.float32)
    image[0, 1, 1, 1] = image[1, 2, 3, 4] = 5.0
    assert prepare_case(image, grid_of((4, 5, 6)), plan, configuration, None, "case").image_czyx.shape == (2, 2, 3, 4)


def test_spacing_and_target_decide_the_size(make_plan: MakePlan) -> None:
    plan, configuration = make_plan((2.0, 0.5, 1.0), transpose=(1, 0, 2))
    image = np.ones((1, 10, 8, 6), np.float32)
    case = prepare_case(image, grid_of((10, 8, 6), (1.0, 3.0, 1.5)), plan, configuration, None, "case")
    # transposed: 8 voxels of 3 mm → 2 mm, 10 of 1 mm → 0.5 mm, 6 of 1.5 mm → 1 mm
    assert case.trace.prepared_shape == case.image_czyx.shape[1:] == (12, 20, 9)
    assert (case.image_czyx == 1).all()


def test_a_2d_configuration_leaves_the_slices_alone(make_plan: MakePlan) -> None:
    plan, configuration = make_plan((0.5, 2.0), transpose=(1, 0, 2))
    image = np.random.default_rng(0).uniform(1, 2, (1, 6, 4, 8)).astype(np.float32)
    labels = np.zeros((6, 4, 8), np.uint8)
    labels[:, 2] = 1
    case = prepare_case(image, grid_of((6, 4, 8), (1.0, 30.0, 1.0)), plan, configuration, labels, "case")
    assert target_spacing(case.trace, configuration) == (30.0, 0.5, 2.0)
    assert case.image_czyx.shape == (1, 4, 12, 4)
    # Every slice is what it would be alone.
    for index in range(4):
        alone = prepare_case(image[:, :, index : index + 1], grid_of((6, 1, 8), (1.0, 30.0, 1.0)), plan, configuration, None, "case")
        np.testing.assert_allclose(case.image_czyx[0, index], alone.image_czyx[0, 0], atol=1e-6)
    assert case.labels_zyx is not None
    assert [sorted(np.unique(part)) for part in case.labels_zyx] == [[0], [0], [1], [0]]


def test_a_first_stages_labels_are_outside_beyond_the_mask_even_where_no_channel_is_masked(make_plan: MakePlan) -> None:
    """As nnU-Net treats any label map that comes with an image to be predicted; the true labels stay as they are."""
    plan, configuration = make_plan(transpose=(2, 0, 1))
    image = np.full((1, 4, 5, 6), 3.0, np.float32)
    image[0, :2, :2, :2] = 0
    labels, previous = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    labels[3], previous[0, 0, 0], previous[2, 2, 2] = 1, 2, 1
    case = prepare_case(image, grid_of((4, 5, 6)), plan, configuration, labels, "case", previous)
    expected = previous.astype(int)
    expected[:2, :2, :2][expected[:2, :2, :2] == 0] = OUTSIDE
    np.testing.assert_array_equal(case.previous_zyx, expected.transpose(2, 0, 1))
    np.testing.assert_array_equal(case.labels_zyx, labels.transpose(2, 0, 1))
    assert prepare_case(image, grid_of((4, 5, 6)), plan, configuration, labels, "case").previous_zyx is None


def test_outside_the_mask_labels_say_so(make_plan: MakePlan) -> None:
    """A corner of the crop is empty, a hole is not: it counts as inside, as nnU-Net fills holes."""
    plan, configuration = make_plan(schemes=(Normalization(scheme="zscore", use_mask=True),))
    image = np.full((1, 5, 5, 5), 3.0, np.float32)
    image[0, 2, 2, 2] = 0  # a hole
    image[0, :2, :2, :2] = 0  # an open corner
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[0, 0, 0] = 2  # a label in the empty corner stays
    case = prepare_case(image, grid_of((5, 5, 5)), plan, configuration, labels, "case")
    expected = np.zeros((5, 5, 5), int)
    expected[:2, :2, :2] = OUTSIDE
    expected[0, 0, 0] = 2
    np.testing.assert_array_equal(case.labels_zyx, expected)
    np.testing.assert_array_equal(nonzero_mask(image), expected == 0)
    # The empty corner keeps its zeros; inside are 116 voxels of 3 and the hole.
    assert (case.image_czyx[0, :2, :2, :2] == 0).all()
    mean, deviation = 3 * 116 / 117, 3 * (116 / 117 * 1 / 117) ** 0.5
    assert case.image_czyx[0, 2, 2, 2] == pytest.approx(-mean / deviation, rel=1e-4)
    assert case.image_czyx[0, 4, 4, 4] == pytest.approx((3 - mean) / deviation, rel=1e-4)


def test_without_mask_normalisation_nothing_is_outside(make_plan: MakePlan) -> None:
    plan, configuration = make_plan(schemes=(Normalization(scheme="zscore"),))
    image = np.full((1, 3, 3, 3), 3.0, np.float32)
    image[0, 0, 0, 0] = 0
    case = prepare_case(image, grid_of((3, 3, 3)), plan, configuration, np.zeros((3, 3, 3), np.uint8), "case")
    assert case.labels_zyx is not None
    assert case.labels_zyx.min() == 0


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.7)])
def test_the_callers_arrays_are_not_changed(
    make_plan: MakePlan, transpose: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    plan, configuration = make_plan(spacing, transpose=transpose, schemes=(Normalization(scheme="zscore", use_mask=True),))
    image = np.random.default_rng(0).uniform(1, 2, (1, 4, 4, 4)).astype(np.float32)
    image[0, 0, 0, 0] = 0
    labels = np.zeros((4, 4, 4), np.int8)
    before, labels_before = image.copy(), labels.copy()
    case = prepare_case(image, grid_of((4, 4, 4)), plan, configuration, labels, "case")
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(labels, labels_before)
    assert not np.shares_memory(case.image_czyx, image)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("use_mask", [False, True])
def test_an_image_that_is_not_needed_any_more_gives_the_same_case(make_plan: MakePlan, transpose: tuple[int, ...], use_mask: bool) -> None:
    """Cropped and resampled, from memory of either order."""
    plan, configuration = make_plan((1.5, 1.0, 0.8), transpose=transpose, schemes=(Normalization(scheme="zscore", use_mask=use_mask),))
    image = np.zeros((1, 9, 8, 7), np.float32)
    image[:, 1:-1, 2:, :-1] = np.random.default_rng(0).uniform(1, 2, (1, 7, 6, 6))
    labels = np.ones((9, 8, 7), np.uint8)
    expected = prepare_case(image, grid_of((9, 8, 7)), plan, configuration, labels, "case")
    for given_image in (image.copy(), np.asfortranarray(image)):
        found = prepare_case(given_image, grid_of((9, 8, 7)), plan, configuration, labels, "case", reuse_image=True)
        np.testing.assert_allclose(found.image_czyx, expected.image_czyx, atol=1e-6)
        np.testing.assert_array_equal(found.labels_zyx, expected.labels_zyx)


def test_a_volume_is_prepared_without_another_of_its_size(make_plan: MakePlan) -> None:
    """Nothing to crop or to resample: the statistics need a few planes, and the result is the array that was handed over."""
    plan, configuration = make_plan(schemes=(Normalization(scheme="zscore"),))
    image = np.random.default_rng(0).uniform(1, 2, (1, 100, 150, 150)).astype(np.float32)
    tracemalloc.start()
    case = prepare_case(image, grid_of((100, 150, 150)), plan, configuration, None, "case", reuse_image=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(case.image_czyx, image)
    assert peak < image.nbytes / 5


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    transpose=st.sampled_from(list(permutations(range(3)))),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_come_back_to_their_voxels(make_plan: MakePlan, shape: tuple[int, ...], transpose: tuple[int, ...], seed: int) -> None:
    """Where nothing is resampled, prepared labels placed back are the labels, whatever the axis order and the crop."""
    rng = np.random.default_rng(seed)
    plan, configuration = make_plan((0.8, 1.0, 1.3), transpose=transpose)
    spacing = [0.0, 0.0, 0.0]
    for axis, value in zip(transpose, configuration.spacing_mm, strict=True):
        spacing[axis] = value
    inside = np.zeros(shape, bool)
    inside[tuple(slice(*sorted(rng.integers(0, size + 1, 2))) for size in shape)] = True
    image = np.where(inside, rng.uniform(1, 2, (1, *shape)), 0).astype(np.float32)
    labels = np.where(inside, rng.integers(0, 3, shape), 0).astype(np.uint8)
    case = prepare_case(image, grid_of(shape, spacing), plan, configuration, labels, "case")
    assert case.labels_zyx is not None
    np.testing.assert_array_equal(case.trace.place_back(case.labels_zyx), labels)
    np.testing.assert_array_equal(case.trace.place_back(case.image_czyx[0]), image[0])


def test_prepared_cases_equal_nnunets(make_plan: MakePlan, golden: dict[str, Any]) -> None:
    """Transposed, cropped, normalised, resampled: the whole way, in three cases."""
    schemes = {
        "ZScoreNormalization": {"scheme": "zscore"},
        "CTNormalization": {"scheme": "ct", "lower": 20.0, "upper": 100.0, "mean": 70.0, "std": 25.0},
        "RescaleTo01Normalization": {"scheme": "rescale"},
        "NoNormalization": {"scheme": "none"},
    }
    for name, row in golden["cases"].items():
        chosen = tuple(
            Normalization(**schemes[scheme], use_mask=mask)  # type: ignore[arg-type]
            for scheme, mask in zip(row["schemes"], row["mask"], strict=True)
        )
        plan, configuration = make_plan(row["target"], transpose=tuple(row["transpose"]), schemes=chosen)
        image = raw_image(row["shape"], len(chosen))
        labels = np.where(image.any(0), blobs(row["shape"], 3), 0)
        case = prepare_case(image, grid_of(row["shape"], row["spacing"]), plan, configuration, labels, name, previous_zyx=labels)
        assert [list(pair) for pair in zip(case.trace.box.start, case.trace.box.stop, strict=True)] == row["box"], name
        assert list(case.image_czyx.shape) == row["shape_prepared"], name
        expected = np.array(row["image"]).reshape(row["shape_prepared"])
        for found, channel in zip(case.image_czyx, expected, strict=True):
            np.testing.assert_allclose(found, channel, atol=1e-4 * np.ptp(channel), err_msg=name)
        assert case.labels_zyx is not None
        # nnU-Net always marks what is outside the mask. So do we in a first stage's label map; in labels only where a channel needs it.
        golden_labels = np.array([int(digit) - 1 for digit in row["labels"]]).reshape(row["shape_prepared"][1:])
        np.testing.assert_array_equal(case.previous_zyx, golden_labels, err_msg=name)
        if any(row["mask"]):
            np.testing.assert_array_equal(case.labels_zyx, golden_labels, err_msg=name)
        else:
            same = case.labels_zyx == np.maximum(golden_labels, 0)
            assert same.mean() > 0.99, name


@pytest.mark.parametrize(("allowed", "dtype"), [(3, np.int8), (130, np.int16)])
def test_labels_take_the_smallest_type_that_has_room_for_outside(make_plan: MakePlan, allowed: int, dtype: type) -> None:
    plan, configuration = make_plan(values=range(1, allowed))
    labels = np.full((2, 2, 2), allowed - 1, np.uint8)
    case = prepare_case(np.ones((1, 2, 2, 2), np.float32), grid_of((2, 2, 2)), plan, configuration, labels, "case")
    assert case.labels_zyx is not None
    assert case.labels_zyx.dtype == dtype
    assert (case.labels_zyx == allowed - 1).all()


def test_an_all_zero_image_keeps_its_size(make_plan: MakePlan) -> None:
    plan, configuration = make_plan(schemes=(Normalization(scheme="zscore", use_mask=True),))
    labels = np.ones((3, 4, 5), np.uint8)
    case = prepare_case(np.zeros((1, 3, 4, 5), np.float32), grid_of((3, 4, 5)), plan, configuration, labels, "case")
    assert case.image_czyx.shape == (1, 3, 4, 5)
    assert (case.image_czyx == 0).all()
    assert (case.labels_zyx == 1).all()


def test_wrong_number_of_channels_is_refused(make_plan: MakePlan) -> None:
    plan, configuration = make_plan(schemes=(Normalization(scheme="none"),) * 2)
    with pytest.raises(ImageError, match="case_7: wrong number of channels: found 1, expected 2"):
        prepare_case(np.ones((1, 2, 2, 2), np.float32), grid_of((2, 2, 2)), plan, configuration, None, "case_7")


@pytest.mark.parametrize("millimetres", [1e-6, 0.009, 101.0, 3e4, 1e200])
def test_a_spacing_in_the_wrong_unit_is_refused(make_plan: MakePlan, millimetres: float) -> None:
    """Micrometres or metres for millimetres. Along one axis is enough; what is expected is said in the image's axis order."""
    plan, configuration = make_plan((4.0, 1.0, 1.0), transpose=(2, 0, 1))
    grid = grid_of((2, 2, 2), (1.0, millimetres, 4.0))
    with pytest.raises(ImageError, match=r"case_7: the voxel spacing is far .* expected about 1, 1, 4 mm. Correct the spacing"):
        prepare_case(np.ones((1, 2, 2, 2), np.float32), grid, plan, configuration, None, "case_7")


def test_a_grid_beyond_all_bounds_is_refused_before_memory_is_asked_for(make_plan: MakePlan) -> None:
    plan, configuration = make_plan()
    grid = grid_of((14, 14, 14), (99.0, 99.0, 99.0))
    with pytest.raises(ImageError, match=r"case_7: would become 1386×1386×1386 voxels: .* Correct the spacing"):
        prepare_case(np.ones((1, 14, 14, 14), np.float32), grid, plan, configuration, None, "case_7")


def wave(shape: Sequence[int], phase: float) -> npt.NDArray[np.float64]:
    """As in benchmarks/golden, like the two below."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def blobs(shape: Sequence[int], labels: int) -> npt.NDArray[np.int16]:
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


def raw_image(shape: Sequence[int], channels: int) -> npt.NDArray[np.float32]:
    image = np.stack([60 + 50 * wave(shape, float(channel)) for channel in range(channels)]).astype(np.float32)
    image[:, :1] = image[:, :, -2:] = image[:, :, :, :3] = 0
    image[:, 1:4, :2, 3:6] = 0
    image[:, shape[0] // 2, shape[1] // 2 - 1, shape[2] // 2] = 0
    return image
