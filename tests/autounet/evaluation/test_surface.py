"""Surface distances against arithmetic by hand and against the package surface-distance, whose definition they follow."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autounet.evaluation.surface import SurfaceDistances
from autounet.evaluation.surface_elements import element_areas, surface_of


def ball(size: int, radius_mm: float, spacing_mm: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(-(size // 2), size // 2 + 1) for _ in spacing_mm)]
    return np.asarray(sum((axis * step) ** 2 for axis, step in zip(axes, spacing_mm, strict=True)) <= radius_mm**2)


def row(text: str) -> np.ndarray:
    """Voxels of a row, ``"0110"``, as a volume (1, 1, n)."""
    return np.array([digit == "1" for digit in text])[None, None]


# Areas ----------------------------------------------------------------------------------------------------------------


def test_a_single_voxel_is_an_octahedron_and_a_pixel_a_diamond() -> None:
    """Their corners are half a voxel from the centre. Octahedron of edge a = 1/sqrt 2: area 2 sqrt 3 a² = sqrt 3. Diamond: 4 a."""
    voxel = surface_of(np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0))
    pixel = surface_of(np.ones((1, 1), bool), (1.0, 1.0))
    assert voxel.where.shape == (2, 2, 2)
    assert voxel.areas.sum() == pytest.approx(math.sqrt(3))
    assert pixel.areas.sum() == pytest.approx(4 / math.sqrt(2))


def test_a_bar_that_is_one_voxel_longer() -> None:
    """4 by 6 voxels (3 and 0.5 mm), 7 or 8 long (2 mm each): the difference is the contour of the 4 by 6 pixels times 2 mm.

    The contour has 3 steps of 3 mm on two sides, 5 steps of 0.5 mm on the others, and a slant at each of 4 corners.
    """
    contour = 2 * 3 * 3.0 + 2 * 5 * 0.5 + 4 * math.hypot(3.0, 0.5) / 2
    assert surface_of(np.ones((4, 6), bool), (3.0, 0.5)).areas.sum() == pytest.approx(contour)
    longer, shorter = (surface_of(np.ones((4, length, 6), bool), (3.0, 2.0, 0.5)).areas.sum() for length in (8, 7))
    assert longer - shorter == pytest.approx(2.0 * contour)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.8)])
def test_a_ball_has_nearly_its_area(spacing_mm: tuple[float, ...]) -> None:
    """4 pi r² with r = 20 mm. Steps of voxels add some to it: the elements are those of marching cubes on a mask."""
    area = surface_of(ball(61, 20.0, spacing_mm), spacing_mm).areas.sum()
    assert 1.0 < area / (4 * math.pi * 20**2) < 1.2


def test_a_mask_and_its_complement_have_the_same_surface() -> None:
    rng = np.random.default_rng(0)
    inner = np.pad(rng.random((6, 7, 8)) < 0.4, 1)
    mask, spacing = np.pad(inner, 1), (2.0, 1.0, 0.7)
    core = (slice(1, -1),) * 3
    surfaces = [surface_of(values, spacing) for values in (mask, ~mask)]
    maps = []
    for surface in surfaces:
        areas = np.zeros(surface.where.shape)
        areas[surface.where] = surface.areas
        maps.append(areas[core])  # the complement also ends at the array's edges
    assert np.allclose(maps[0], maps[1], atol=1e-15)


# By hand --------------------------------------------------------------------------------------------------------------


def test_equal_masks() -> None:
    mask = ball(9, 3.0, (1.0, 1.0, 1.0))
    surfaces = SurfaceDistances.between(mask, mask, (1.0, 1.0, 1.0))
    assert (surfaces.hd95_mm(), surfaces.assd_mm(), surfaces.nsd(0.0)) == (0.0, 0.0, 1.0)


def test_two_voxels_apart() -> None:
    """Voxels 2 and 6 of a row, 1.5 mm each: corners before 2 (and 6) are 6 mm apart, corner after 2 is 4.5 mm from the one before 6.

    Half of each surface is 6 mm away, the other half 4.5 mm.
    """
    surfaces = SurfaceDistances.between(row("00000010"), row("00100000"), (1.0, 1.0, 1.5))
    assert surfaces.hd95_mm() == pytest.approx(6)
    assert surfaces.assd_mm() == pytest.approx((6 + 4.5) / 2)
    assert [surfaces.nsd(tolerance) for tolerance in (4.4, 4.5, 5.9, 6.0)] == pytest.approx([0, 0.5, 0.5, 1])


def test_a_plate_moved_along_the_thick_axis() -> None:
    """By one slice of 5 mm: elements of the rim's lower side coincide with the other's upper side, the far sides are 5 mm away."""
    plate = np.zeros((4, 30, 30), bool)
    plate[1] = True
    surfaces = SurfaceDistances.between(np.roll(plate, 1, 0), plate, (5.0, 1.0, 1.0))
    assert surfaces.hd95_mm() == 5
    assert surfaces.assd_mm() == pytest.approx(2.5)
    assert surfaces.nsd(4.9) == pytest.approx(0.5)


def test_a_large_element_counts_for_more() -> None:
    """A contour of two long and few short sides: 4 by 20 pixels of 1 by 10 mm, and the same with one more row below.

    The lower side, 190 mm and two slants, is 1 mm away; of the rest of the contour, which is shared but for the step at its ends, nothing.
    """
    truth = np.ones((4, 20), bool)
    prediction = np.ones((5, 20), bool)
    surfaces = SurfaceDistances.between(prediction, np.pad(truth, ((0, 1), (0, 0))), (1.0, 10.0))
    slant = math.hypot(1, 10) / 2
    whole = 2 * 19 * 10 + 2 * 3 * 1 + 4 * slant
    # The true lower side lies 1 mm from the predicted one, but its ends touch the predicted sides: 19 elements of 10 mm.
    # The predicted lower side has these and two slants 1 mm from the truth.
    away = 19 * 10 + (19 * 10 + 2 * slant)
    assert surfaces.assd_mm() == pytest.approx(away * 1.0 / (2 * whole + 2 * 1))


def test_of_what_lies_at_the_tolerance_rounding_decides_nothing() -> None:
    """Three voxels of 0.4 mm are 1.2 mm, though 3 * 0.4 > 1.2 in floating point, and as float32 in a header 0.4 is larger still."""
    assert 3 * 0.4 > 1.2
    for spacing in (0.4, float(np.float32(0.4))):
        surfaces = SurfaceDistances.between(row("00011"), row("11000"), (1.0, 1.0, spacing))
        assert surfaces.nsd(1.2) == 1
        assert surfaces.nsd(1.19) < 1


def test_95_percent_are_enough() -> None:
    """19 of 20 equal parts at 0 mm, one at 7 mm: 95 % lie within 0 mm, whatever the sum of twenty areas rounds to."""
    for area in (0.1, 1.0, math.sqrt(2) / 2, math.sqrt(3) / 8):
        distances, areas = np.array([0.0] * 19 + [7.0]), np.full(20, area)
        assert SurfaceDistances(distances, distances, areas, areas).hd95_mm() == 0
        assert SurfaceDistances(distances[1:], distances, areas[1:], areas).hd95_mm() == 7


def test_the_larger_direction_counts() -> None:
    """A second blob far away: the truth is all near the prediction, a quarter of the prediction is 23 to 26 mm from the truth.

    Its last face, 26 mm away, is 4.1 % of the predicted surface, so that 95 % lie within 25 mm.
    """
    truth = np.zeros((1, 3, 40), bool)
    truth[:, :, 2:12] = True
    prediction = truth.copy()
    prediction[:, :, 35:38] = True
    surfaces = SurfaceDistances.between(prediction, truth, (1.0, 1.0, 1.0))
    assert surfaces.from_truth_mm.max() == 0
    assert surfaces.from_prediction_mm.max() == 38 - 12
    assert surfaces.areas_prediction[surfaces.from_prediction_mm == 26].sum() / surfaces.areas_prediction.sum() == pytest.approx(
        0.041, abs=5e-4
    )
    assert surfaces.hd95_mm() == 25


def test_masks_that_cannot_be_compared() -> None:
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="shape"):
        SurfaceDistances.between(mask, mask[:1], (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="empty"):
        SurfaceDistances.between(mask, ~mask, (1.0, 1.0, 1.0))


# Against surface-distance ---------------------------------------------------------------------------------------------


def reference() -> Any:
    return pytest.importorskip("surface_distance", reason="surface-distance is in the extra 'test'")


def test_all_elements_have_the_reference_s_area() -> None:
    tables = reference().lookup_tables
    rng = np.random.default_rng(0)
    for spacing in [(1.0, 1.0, 1.0), *(tuple(rng.uniform(0.2, 5, 3)) for _ in range(5))]:
        assert np.allclose(element_areas(spacing), tables.create_table_neighbour_code_to_surface_area(spacing), rtol=1e-14, atol=0)
        plane = spacing[1:]
        assert np.allclose(element_areas(plane), tables.create_table_neighbour_code_to_contour_length(plane), rtol=1e-14, atol=0)


def check_against_reference(prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], tolerance_mm: float) -> None:
    package = reference()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls scipy by names that are being given up
        theirs = package.compute_surface_distances(truth, prediction, spacing_mm)
    distances = [theirs[f"distances_{way}"] for way in ("gt_to_pred", "pred_to_gt")]
    areas = [theirs[f"surfel_areas_{mask}"] for mask in ("gt", "pred")]
    ours = SurfaceDistances.between(prediction, truth, spacing_mm)
    average = sum(float(d @ a) for d, a in zip(distances, areas, strict=True)) / sum(float(a.sum()) for a in areas)
    assert ours.assd_mm() == pytest.approx(average, abs=1e-9)
    if not any(np.isclose(d, tolerance_mm, rtol=1e-5).any() for d in distances):
        assert ours.nsd(tolerance_mm) == pytest.approx(package.compute_surface_dice_at_tolerance(theirs, tolerance_mm), abs=1e-9)
    # Where exactly 95 % lie within a distance, rounding decides in the reference.
    if not any(np.isclose(a.cumsum() / a.sum(), 0.95, rtol=1e-9).any() for a in areas):
        assert ours.hd95_mm() == pytest.approx(package.compute_robust_hausdorff(theirs, 95), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(1, 10), min_size=2, max_size=3),
    filled=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    smooth=st.integers(1, 4),
    spacing=st.lists(st.sampled_from([1.0, 0.3, 0.7, 1.25, 3.0, 5.5]), min_size=3, max_size=3),
    tolerance=st.floats(0, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_shapes_agree_with_the_reference(
    shape: list[int], filled: tuple[float, float], smooth: int, spacing: list[float], tolerance: float, seed: int
) -> None:
    """Noise, blobs, masks that touch the image's edges, planes and volumes, spacings of all kinds."""
    rng = np.random.default_rng(seed)
    masks = []
    for part in filled:
        field = ndimage.uniform_filter(rng.random(shape), smooth)
        masks.append(field <= np.quantile(field, part))
    check_against_reference(masks[0], masks[1], tuple(spacing[: len(shape)]), tolerance)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.8, 0.8), (0.5, 2.0, 1.5)])
def test_balls_agree_with_the_reference(spacing_mm: tuple[float, ...]) -> None:
    truth = ball(31, 10.0, spacing_mm)
    for moved in (np.roll(truth, (1, 2, -1), (0, 1, 2)), ball(31, 7.0, spacing_mm), ball(31, 1e-3, spacing_mm)):
        check_against_reference(moved, truth, spacing_mm, 1.7)


def test_a_real_hippocampus_agrees_with_the_reference(shared: Any) -> None:
    """The predicted mask is the true one shifted and thinned."""
    from autounet.images import read_labels

    values, grid = read_labels(shared / "data" / "Task04_Hippocampus" / "labelsTr" / "hippocampus_001.nii.gz")
    for label in (1, 2):
        truth = values == label
        thinned = np.roll(ndimage.binary_erosion(truth), 2, 1) | ndimage.binary_opening(truth)
        for spacing in (grid.spacing_mm_zyx, (2.5, 0.9, 1.1)):
            check_against_reference(thinned, truth, spacing, 1.0)
