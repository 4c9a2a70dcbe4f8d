"""Rotation, scaling and mirroring: equal to batchgeneratorsv2 and to scipy for the same parameters."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autounet.preprocessing.case import OUTSIDE
from autounet.rotation import RotationRule
from autounet.training.augmentation.policy import POLICIES
from autounet.training.augmentation.spatial import Affine, SpatialDraw, apply_mirror, apply_spatial, draw_spatial, rotation_matrix

NNUNET = POLICIES["nnunet"].spatial
assert isinstance(NNUNET, Affine)


def _draw(*matrices: np.ndarray, active: Sequence[bool] | None = None) -> SpatialDraw:
    return SpatialDraw(np.stack(matrices), np.array([True] * len(matrices) if active is None else active))


def _by_scipy(image: np.ndarray, matrix: np.ndarray, patch: Sequence[int]) -> np.ndarray:
    """Linear sampling about the centres of both grids; zero outside."""
    offsets = [axis - (side - 1) / 2 for axis, side in zip(np.indices(patch), patch, strict=True)]
    at = np.einsum("ij,j...->i...", matrix, np.stack(offsets))
    at += ((np.array(image.shape) - 1) / 2).reshape(-1, *(1,) * image.ndim)
    return map_coordinates(image, at, order=1, mode="grid-constant", cval=0.0)


@pytest.mark.parametrize("case", range(5))
def test_image_equals_batchgenerators(nnunet, wave, label_map, case: int) -> None:
    expected = nnunet["spatial"][case]
    loaded, patch = expected["loaded"], tuple(expected["patch"])
    draw = _draw(rotation_matrix(np.array(expected["angles_rad"])) * expected["scale"])
    image = torch.from_numpy(wave((1, 1, *loaded), 0.0)).float()
    labels = torch.from_numpy(label_map(loaded, 3))[None]
    turned, turned_labels = apply_spatial(image, labels, draw, patch)
    np.testing.assert_allclose(turned.flatten(), expected["image"], atol=2e-5)
    # Where two labels weigh the same, halfway between voxels, the nearer one is a matter of the last bit.
    one_hot = torch.stack([labels == label for label in range(3)], 1).float()
    weights, _ = apply_spatial(one_hot, labels, draw, patch)
    second, first = torch.cat([weights, 1 - weights.sum(1, keepdim=True)], 1).sort(1).values[:, -2:].unbind(1)
    clear = (first - second > 1e-3).flatten().numpy()
    np.testing.assert_array_equal(turned_labels.flatten().numpy()[clear], np.array(expected["labels"])[clear])
    assert clear.mean() > (0.8 if any(expected["angles_rad"]) else 0.5)


@pytest.mark.parametrize(
    ("loaded", "patch", "angles"),
    [((20, 18, 22), (12, 10, 16), (0.5, -0.3, 0.2)), ((20, 18, 22), (20, 18, 22), (0.1, 0.4, -0.5)), ((30, 25), (20, 16), (-2.0,))],
)
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_equals_scipy(
    loaded: tuple[int, ...], patch: tuple[int, ...], angles: tuple[float, ...], scale: float, channels: int
) -> None:
    image = np.random.default_rng(0).normal(size=(channels, *loaded))
    matrix = rotation_matrix(np.array(angles)) * scale
    labels = torch.zeros(1, *loaded, dtype=torch.int16)
    ours, _ = apply_spatial(torch.from_numpy(image).float()[None], labels, _draw(matrix), patch)
    for channel in range(channels):
        np.testing.assert_allclose(ours[0, channel], _by_scipy(image[channel], matrix, patch), atol=1e-4)


@pytest.mark.parametrize(("loaded", "patch"), [((12, 14, 13), (8, 8, 8)), ((15, 12), (8, 8)), ((8, 8), (8, 8))])
def test_inactive_is_the_centre_exactly(wave, label_map, loaded: tuple[int, ...], patch: tuple[int, ...]) -> None:
    image, labels = torch.from_numpy(wave((1, 2, *loaded), 0.0)), torch.from_numpy(label_map(loaded, 3))[None]
    cut, cut_labels = apply_spatial(image, labels, _draw(np.eye(len(patch)), active=[False]), patch)
    centre = tuple(slice((side - inner) // 2, (side - inner) // 2 + inner) for side, inner in zip(loaded, patch, strict=True))
    assert cut.equal(image[(slice(None), slice(None), *centre)])
    assert cut_labels.equal(labels[(slice(None), *centre)])


def test_active_identity_equals_inactive(wave, label_map) -> None:
    image, labels = torch.from_numpy(wave((1, 1, 12, 14, 16), 0.0)).float(), torch.from_numpy(label_map((12, 14, 16), 3))[None]
    moved, moved_labels = apply_spatial(image, labels, _draw(np.eye(3)), (8, 8, 8))
    still, still_labels = apply_spatial(image, labels, _draw(np.eye(3), active=[False]), (8, 8, 8))
    assert torch.allclose(moved, still, atol=1e-5)
    assert moved_labels.equal(still_labels)


def test_scale_above_one_makes_objects_smaller() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.int16)
    labels[:, 6:14, 6:14] = 1  # side 8
    _, smaller = apply_spatial(labels[:, None].float(), labels, _draw(1.25 * np.eye(2)), (16, 16))
    _, larger = apply_spatial(labels[:, None].float(), labels, _draw(0.8 * np.eye(2)), (16, 16))
    assert int(smaller.sum()) == 6 * 6  # 8 / 1.25 = 6.4: voxels at ±0.5, ±1.5, ±2.5 from the centre
    assert int(larger.sum()) == 10 * 10  # 8 / 0.8


@pytest.mark.parametrize("ndim", [2, 3])
def test_image_and_labels_stay_registered(ndim: int) -> None:
    """An image that shows the labels shows the moved labels: wherever linear sampling is certain, nearest agrees."""
    loaded, patch = (24,) * ndim, (16,) * ndim
    labels = torch.zeros(1, *loaded, dtype=torch.int16)
    labels[(0, *(slice(5 + axis, 15 + 2 * axis) for axis in range(ndim)))] = 1
    rng = np.random.default_rng(1)
    for _ in range(10):
        draw = _draw(rotation_matrix(rng.uniform(-1, 1, 3 if ndim == 3 else 1)) * rng.uniform(0.7, 1.4))
        image, moved = apply_spatial(labels[:, None].float(), labels, draw, patch)
        certain = (image[:, 0] < 0.1) | (image[:, 0] > 0.9)
        assert certain.float().mean() > 0.6
        assert moved[certain].clamp(min=0).equal((image[:, 0][certain] > 0.5).to(moved.dtype))


def test_outside_the_loaded_patch_image_is_zero_and_labels_are_outside() -> None:
    image, labels = torch.ones(1, 1, 8, 8), torch.ones(1, 8, 8, dtype=torch.int16)
    moved, moved_labels = apply_spatial(image, labels, _draw(1.4 * np.eye(2)), (8, 8))
    # The outermost voxels lie 3.5 × 1.4 = 4.9 from the centre, the loaded patch ends at 4 and its image fades out until 4.5.
    assert moved[0, 0, 0].eq(0).all()
    assert moved_labels[0, 0].eq(OUTSIDE).all()
    assert moved[0, 0, 1:-1, 1:-1].eq(1).all()
    assert moved_labels[0, 1:-1, 1:-1].eq(1).all()


def test_within_slices_leaves_the_first_axis_alone() -> None:
    draw = draw_spatial(np.random.default_rng(0), 200, 3, NNUNET, RotationRule(math.pi, True))
    assert (draw.matrices[:, 0] == [1, 0, 0]).all()
    assert (draw.matrices[:, :, 0] == [1, 0, 0]).all()
    # Each slice holds its own number; no turn mixes them.
    image = torch.arange(6.0)[None, None, :, None, None].expand(1, 1, 6, 30, 30).contiguous()
    labels = image[:, 0].to(torch.int16)
    for matrix in draw.matrices[draw.active][:10]:
        moved, moved_labels = apply_spatial(image, labels, _draw(matrix), (6, 14, 14))
        torch.testing.assert_close(moved, image[..., :14, :14], atol=1e-4, rtol=0)
        assert moved_labels.equal(labels[..., :14, :14])


def test_rotations_are_turns_of_their_own_axis() -> None:
    # A quarter turn about axis 0 takes axis 1 to axis 2, about axis 1 takes 2 to 0, about axis 2 takes 0 to 1.
    quarter = math.pi / 2
    np.testing.assert_allclose(rotation_matrix(np.array([quarter, 0, 0])) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(np.array([0, quarter, 0])) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(np.array([0, 0, quarter])) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(np.array([quarter])) @ [1, 0], [0, 1], atol=1e-12)
    turn = rotation_matrix(np.array([0.3, -1.2, 2.0]))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_frequencies_and_ranges_of_the_draws() -> None:
    count, limit = 4000, math.radians(30)
    draw = draw_spatial(np.random.default_rng(0), count, 3, NNUNET, RotationRule(limit, False))
    scales = np.cbrt(np.linalg.det(draw.matrices))
    turned = np.array([not np.allclose(matrix / scale, np.eye(3)) for matrix, scale in zip(draw.matrices, scales, strict=True)])
    scaled = ~np.isclose(scales, 1)
    # 0.2 each, independent: 0.36 are active. Five standard deviations of the share are below 0.04.
    assert abs(turned.mean() - 0.2) < 0.04
    assert abs(scaled.mean() - 0.2) < 0.04
    assert abs(draw.active.mean() - 0.36) < 0.04
    assert (draw.active == (turned | scaled)).all()
    assert (scales[scaled] > 0.7).all()
    assert (scales[scaled] < 1.4).all()
    assert abs(scales[scaled].mean() - 1.05) < 0.05  # uniform in (0.7, 1.4)
    # The matrix is Rz Ry Rx: the angles are read off its last row and first column.
    turns = (draw.matrices / scales[:, None, None])[turned]
    angles = np.stack([np.arctan2(turns[:, 2, 1], turns[:, 2, 2]), -np.arcsin(turns[:, 2, 0]), np.arctan2(turns[:, 1, 0], turns[:, 0, 0])])
    assert (np.abs(angles) <= limit + 1e-9).all()
    assert (np.abs(angles).max(1) > 0.95 * limit).all()
    np.testing.assert_allclose(angles.std(1), limit / math.sqrt(3), rtol=0.1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_mirror_flips_the_chosen_axes_of_each_sample(wave, label_map, ndim: int) -> None:
    space = (4, 5, 6)[:ndim]
    image = torch.from_numpy(wave((3, 2, *space), 0.0))
    labels = torch.from_numpy(np.stack([label_map(space, 3)] * 3))
    flips = np.zeros((3, ndim), bool)
    flips[1, 0] = flips[2, 0] = flips[2, -1] = True
    mirrored, mirrored_labels = apply_mirror(image.clone(), labels.clone(), flips)
    for sample, axes in enumerate([(), (0,), (0, ndim - 1)]):
        assert mirrored[sample].numpy().tolist() == np.flip(image[sample].numpy(), [axis + 1 for axis in axes]).tolist()
        assert mirrored_labels[sample].numpy().tolist() == np.flip(labels[sample].numpy(), axes).tolist()
