"""What is measured of one case, against answers worked by hand or other ways to compute them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import downscale_local_mean

from autounet.dataset import read_dataset
from autounet.health.brightness import measure_brightness
from autounet.health.copies import alike_pairs
from autounet.health.measure import content_digest, look_at, thumbnail
from autounet.health.robust import deviations, is_unusual
from autounet.health.shapes import MOST_PARTS, Shape, find_hole, measure_shapes
from autounet.health.surroundings import labels_in_air
from autounet.labels import LabelSpec, StructureClass
from autounet.planners.laterality.extents import measure_extents

ONE = LabelSpec(classes=(StructureClass(name="organ", values=(1,)),))


def shape_of(labels: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Shape:
    (shape,) = measure_shapes(labels, ONE, measure_extents(labels, ONE), spacing)
    assert shape is not None
    return shape


# Outliers


def test_deviations_by_hand() -> None:
    """Median 5; distances from it 4 3 2 1 0 1 2 3 95, their median 2, so the robust deviation is 2.97 and six of them 17.8."""
    numbers = [1.0, 2, 3, 4, 5, 6, 7, 8, 100]
    assert deviations(numbers, 0).tolist() == [0] * 8 + [95]
    assert not deviations([*numbers[:-1], 22], 0).any()  # 17 away
    assert not deviations(numbers, 96).any()  # it does not matter
    assert not deviations(numbers[2:], 0).any()  # seven numbers


def test_of_equal_numbers_the_least_difference_decides() -> None:
    assert deviations([1.0] * 8 + [1.4], 0.5).tolist() == [0.0] * 9
    assert deviations([1.0] * 8 + [1.6], 0.5)[-1] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("flagged", "of", "share", "unusual"),
    [(0, 20, 0.1, False), (2, 20, 0.1, True), (3, 20, 0.1, False), (1, 8, 0.01, True), (1, 7, 0.5, False)],
)
def test_unusual_shares(flagged: int, of: int, share: float, unusual: bool) -> None:
    assert is_unusual([number < flagged for number in range(of)], share) is unusual


# Shapes


def test_an_islands_distance_and_size() -> None:
    """A block that ends at x = 5 and an island of two voxels from x = 9 on, with voxels of 2 mm: 8 mm between centres."""
    labels = np.zeros((10, 10, 14), np.uint8)
    labels[2:8, 2:8, 2:6] = 1
    labels[4, 4, 9:11] = 1
    shape = shape_of(labels, (3.0, 2.0, 2.0))
    assert (shape.parts, shape.main_voxels) == (2, 144)
    assert shape.main_extent_mm == pytest.approx(np.sqrt(18**2 + 12**2 + 8**2))
    (island,) = shape.islands
    assert (island.voxels, island.gap_mm) == (2, 8.0)
    assert island.place_zyx == (4, 4, 10)  # its farthest voxel


def test_distances_are_those_of_a_distance_transform() -> None:
    """Random specks around a ball, in voxels of unequal sizes."""
    rng = np.random.default_rng(3)
    spacing = (2.5, 0.7, 1.1)
    labels = (np.linalg.norm(np.indices((24, 40, 40)) - np.array([12, 20, 20])[:, None, None, None], axis=0) < 8).astype(np.uint8)
    components, _ = ndimage.label(labels)
    for _ in range(6):
        labels[tuple(rng.integers(0, (24, 40, 40)))] = 1
    shape = shape_of(labels, spacing)
    transform = ndimage.distance_transform_edt(components != 1, sampling=spacing)
    assert shape.islands
    for island in shape.islands:
        assert island.gap_mm == pytest.approx(transform[island.place_zyx], rel=1e-6)


def test_voxels_that_touch_by_a_corner_are_one_part() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1] = labels[2, 2, 2] = 1
    assert shape_of(labels).parts == 1


def test_what_is_in_many_parts_has_no_islands() -> None:
    labels = np.zeros((1, 4, 4 * MOST_PARTS + 4), np.uint8)
    labels[0, 1, ::4] = 1
    shape = shape_of(labels)
    assert (shape.parts, shape.islands) == (MOST_PARTS + 1, ())


def test_how_thick_a_structure_is_at_the_border() -> None:
    """A pyramid that stands on the first slice: 25, 9 and 1 voxels."""
    labels = np.zeros((6, 9, 9), np.uint8)
    for z, reach in enumerate((2, 1, 0)):
        labels[z, 4 - reach : 5 + reach, 4 - reach : 5 + reach] = 1
    assert shape_of(labels).cut == (1.0, 0, 0, 0, 0, 0)
    assert shape_of(labels[1:]).cut == (1.0, 0, 0, 0, 0, 0)
    assert shape_of(labels[:, :, 3:]).cut == (1.0, 0, 0, 0, pytest.approx(8 / 9), 0)  # columns hold 5, 8, 9, 8, 5 voxels
    assert shape_of(np.roll(labels, 3, 0)[::-1]).cut[:2] == (pytest.approx(1 / 25), 0)


def test_holes() -> None:
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    assert find_hole(labels, 3) is None
    labels[3, 3, 3:5] = 0
    hole = find_hole(labels, 3)
    assert hole is not None
    assert hole.voxels == 2
    assert hole.place_zyx in {(3, 3, 3), (3, 3, 4)}
    labels[3, 3, 5] = 0  # a way out
    assert find_hole(labels, 3) is None


def test_a_ring_is_a_hole_in_a_planar_image_only() -> None:
    ring = np.ones((1, 5, 5), np.uint8)
    ring[0, 2, 2] = 0
    assert find_hole(ring, 3) is None
    hole = find_hole(ring, 2)
    assert hole is not None
    assert (hole.voxels, hole.place_zyx) == (1, (0, 2, 2))


def test_holes_are_those_that_filling_fills() -> None:
    labels = (ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(16, 30, 30)), 1.2) > -0.15).astype(np.uint8)
    hole = find_hole(labels, 3)
    assert hole is not None
    assert hole.voxels == np.count_nonzero(ndimage.binary_fill_holes(labels)) - np.count_nonzero(labels)


# Air


def test_labels_in_air_count_from_its_third_voxel_on() -> None:
    """Air of 8 columns beside a body of 12. Two columns of air next to the body may be labelled, as edges are; the next six not."""
    image = np.zeros((1, 1, 20, 20), np.float32)
    image[..., 8:] = 100
    image[..., 9::2] = 110
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 5:15, 6:12] = 1
    assert labels_in_air(image, labels, 2) is None
    labels[0, 5:15, 4:6] = 2
    outside = labels_in_air(image, labels, 2)
    assert outside is not None
    assert (outside.voxels, outside.values) == (20, (2,))
    assert outside.share == pytest.approx(20 / 80)


@pytest.mark.parametrize("turns", range(4))
def test_air_may_be_on_any_side(turns: int) -> None:
    image = np.zeros((20, 20), np.float32)
    image[8:, ::2], image[8:, 1::2] = 100, 110
    image[:, [0, -1]] = 100  # a bay of air that is open to one side only
    labels = np.zeros((20, 20), np.uint8)
    labels[3:6, 5:15] = 1
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    outside = labels_in_air(image[None, None], labels[None], 2)
    assert outside is not None
    assert outside.voxels == 30


def test_dark_tissue_inside_is_no_air() -> None:
    image = np.full((1, 1, 40, 40), 100, np.float32)
    image[..., 0, :] = 0
    image[..., 10:30, 10:30] = 0  # a dark organ that does not reach the border
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[0, 10:30, 10:30] = 1
    assert labels_in_air(image, labels, 2) is None


def test_what_is_bright_in_one_channel_is_no_air() -> None:
    image = np.zeros((2, 1, 20, 20), np.float32)
    image[0, ..., 8:] = 100
    image[1] = np.arange(20) + 1.0  # bright where the first channel is dark, and everywhere else
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 5:15, 3:6] = 1
    assert labels_in_air(image[:1], labels, 2) is not None
    assert labels_in_air(image, labels, 2) is None


# Brightness and likeness


def test_contrasts_by_hand() -> None:
    """Organ 30 on a background of 10, 16 of 64 pixels: the neighbourhood's mean is 15, its variance (16·15² + 48·5²)/64 = 75."""
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[0, 2:6, 2:6] = 1
    image = np.where(labels == 1, 30, 10).astype(np.float32)[None]
    (channel,) = measure_brightness(image, labels, ONE, measure_extents(labels, ONE))
    assert channel.contrasts == (pytest.approx(20 / np.sqrt(75)),)
    assert (channel.minimum, channel.middle, channel.maximum) == (10, 10, 30)


def test_a_class_that_is_not_there_has_no_contrast() -> None:
    labels = np.zeros((1, 8, 8), np.uint8)
    (channel,) = measure_brightness(np.ones((1, 1, 8, 8), np.float32), labels, ONE, measure_extents(labels, ONE))
    assert np.isnan(channel.contrasts).all()


def test_thumbnails_are_means_of_blocks() -> None:
    image = np.random.default_rng(0).normal(size=(8, 48, 72)).astype(np.float32)
    expected = downscale_local_mean(image, (2, 4, 6))
    assert thumbnail(image, (4, 12, 12)) == pytest.approx(expected.ravel(), abs=1e-6)


def test_thumbnails_of_images_that_are_smaller_repeat_voxels() -> None:
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert thumbnail(image, (1, 4, 3)).reshape(4, 3).tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]


def test_what_all_cases_share_makes_none_alike() -> None:
    """Ten cases of one strong pattern and a little of their own: all correlate by 0.99, but only the last is a copy, of the first."""
    rng = np.random.default_rng(0)
    thumbnails = rng.normal(size=4000) + 0.1 * rng.normal(size=(10, 4000))
    copy = 2 * thumbnails[:1] + 5 + 0.02 * rng.normal(size=4000)
    rows = np.concatenate([thumbnails, copy]).astype(np.float32)
    assert np.corrcoef(rows).min() > 0.98
    ((first, second, value),) = alike_pairs(rows)
    assert (first, second) == (0, 10)
    special = np.corrcoef(rows)  # the lower of both numbers is that of what they have of their own
    assert 0.97 < value < special[0, 10]


def test_classes_that_are_not_annotated_are_not_measured(bodies: Any, tmp_path: Path) -> None:
    """Of two regions that share a value, one is annotated."""
    bodies.classes = {"all": [1, 2, 3], "both kidneys": [1, 2]}
    root = bodies.write(tmp_path / "Dataset021_Bodies")
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, "regions_class_order": [1, 2], "annotated": {"body_00": ["all"]}}))
    dataset = read_dataset(root)
    part, whole = (look_at(case, dataset, ()).measures for case in dataset.cases[:2])
    assert part is not None
    assert whole is not None
    assert [shape is None for shape in part.shapes] == [False, True]
    assert np.isnan(part.channels[0].contrasts).tolist() == [False, True]
    assert [shape is None for shape in whole.shapes] == [False, False]


def test_digests_tell_contents_and_shapes_apart() -> None:
    array = np.arange(12, dtype=np.float32)
    same, turned, other = array.reshape(3, 4).copy(), array.reshape(4, 3), array.reshape(3, 4) + 1
    assert content_digest(array.reshape(3, 4)) == content_digest(same)
    assert len({content_digest(entry) for entry in (array, same, turned, other)}) == 4
