"""Resampling against scikit-image, against nnU-Net and by hand."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize
from torch import Tensor

from autounet.preprocessing.resample import axis_matrix, nearest_indices, resample_image, resample_labels, resample_scores
from autounet.preprocessing.spacing import new_shape, separate_axis

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


def wave(shape: Sequence[int], phase: float) -> npt.NDArray[np.float64]:
    """Values from -1 to 1 without a period; the same formula as in benchmarks/golden."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def blobs(shape: Sequence[int], labels: int) -> npt.NDArray[np.int16]:
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


def noise(shape: Sequence[int], labels: int) -> npt.NDArray[np.int16]:
    index = np.arange(math.prod(shape), dtype=np.uint64)
    return ((index * 2654435761 >> 9) % labels).astype(np.int16).reshape(shape)


def from_digits(text: str, shape: Sequence[int]) -> npt.NDArray[np.int16]:
    return np.array([int(digit) for digit in text], np.int16).reshape(shape)


def triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    a, b, c = values
    return a, b, c


def skimage_resize(volume: npt.NDArray[np.float64], shape: Sequence[int], order: int) -> npt.NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resized: npt.NDArray[np.float64] = resize(volume, shape, order, mode="edge", anti_aliasing=False, clip=True)
    return resized


@given(SIZES, SIZES, st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equals_scikit_image(size_in: tuple[int, int, int], size_out: tuple[int, int, int], order: int, seed: int) -> None:
    """Up and down, any axes, sizes of one; to 1e-4 of the range, with the clamp of nnU-Net's ``resize``."""
    volume = np.random.default_rng(seed).uniform(-5, 20, size_in)
    found = resample_image(torch.from_numpy(volume).float()[None], size_out, None, order)[0].numpy()
    np.testing.assert_allclose(found, skimage_resize(volume, size_out, order), atol=1e-4 * 25)


@pytest.mark.parametrize(("size_in", "size_out"), [(600, 1100), (1100, 300), (520, 530), (2, 700)])
def test_long_axes_are_resampled_in_bands_of_their_matrix(size_in: int, size_out: int) -> None:
    """Far from a voxel the spline's weights vanish, and are left out; along every axis, of several channels."""
    line = wave((size_in,), 0.4) * 500 + 100
    for axis in range(3):
        shape_in, shape_out = [2, 3, 2], [2, 3, 2]
        shape_in[axis], shape_out[axis] = size_in, size_out
        volume = np.stack([line, -line])[:, *(slice(None) if position == axis else None for position in range(3))]
        volume = np.broadcast_to(volume, (2, *shape_in))
        found = resample_image(torch.from_numpy(np.array(volume)).float(), triple(shape_out), None).numpy()
        for channel in range(2):
            np.testing.assert_allclose(found[channel], skimage_resize(volume[channel], shape_out, 3), atol=1e-5 * 1000)


@pytest.mark.parametrize("size_in", [(40, 31, 22), (17, 64, 5)])
@pytest.mark.parametrize("size_out", [(57, 20, 22), (13, 65, 50)])
def test_equals_scikit_image_on_larger_volumes(size_in: tuple[int, int, int], size_out: tuple[int, int, int]) -> None:
    volume = wave(size_in, 0.2) * 1000 - 300
    found = resample_image(torch.from_numpy(volume).float()[None], size_out, None)[0].numpy()
    np.testing.assert_allclose(found, skimage_resize(volume, size_out, 3), atol=1e-4 * 2000)


def test_splines_overshoot_and_are_clamped_to_each_channels_own_range() -> None:
    step = torch.zeros(2, 1, 1, 12)
    step[0, ..., 6:] = 1
    step[1, ..., 6:] = 10
    loose = resample_scores(step, (1, 1, 31), None, order=3)
    clamped = resample_image(step, (1, 1, 31), None)
    assert loose[0].max() > 1.02
    assert loose[0].min() < -0.02
    assert (float(clamped[0].min()), float(clamped[0].max())) == (0.0, 1.0)
    assert (float(clamped[1].min()), float(clamped[1].max())) == (0.0, 10.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_axis_is_resampled_on_its_own(axis: int) -> None:
    """Slices by scikit-image, each clamped to its own range, then nearest neighbour across them."""
    size_in, size_out = [9, 8, 10], [12, 6, 15]
    size_in[axis], size_out[axis] = 4, 7
    volume = wave(size_in, 1.0) * np.linspace(1, 5, 4).reshape([4 if position == axis else 1 for position in range(3)])
    planar = [size for position, size in enumerate(size_out) if position != axis]
    slices = np.stack([skimage_resize(part, planar, 3) for part in np.moveaxis(volume, axis, 0)], axis=axis)
    places = np.meshgrid(*[(n / m) * (np.arange(m) + 0.5) - 0.5 for n, m in zip(slices.shape, size_out, strict=True)], indexing="ij")
    expected = map_coordinates(slices, places, order=0, mode="nearest")
    found = resample_image(torch.from_numpy(volume).float()[None], triple(size_out), axis)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * 10)


def test_images_equal_nnunets(golden: dict[str, Any]) -> None:
    for row in golden["images"]:
        axis = separate_axis(triple(row["spacing"]), triple(row["target"]))
        found = resample_image(torch.from_numpy(wave(row["shape"], 0.5)).float()[None], triple(row["new_shape"]), axis)
        np.testing.assert_allclose(found.numpy().ravel(), row["image"], atol=1e-4 * 2)


def assert_equal_but_for_ties(found: Tensor, expected: npt.NDArray[np.int16], labels: npt.NDArray[np.int16], slices: int | None) -> None:
    """nnU-Net's label may differ only where both have the same score; its ties that float64 rounds apart are decided by that noise."""
    voxels = np.argwhere(found.numpy() != expected)
    assert len(voxels) <= 0.02 * expected.size
    for place in map(tuple, voxels):
        scores = []
        for label in (int(found[place]), int(expected[place])):
            indicator = torch.from_numpy(labels == label).float()[None]
            volume = resample_scores(indicator, triple(expected.shape), slices, order=1)[0]
            scores.append(float(volume[place]))
        assert scores[0] == pytest.approx(scores[1], abs=1e-6), place


def test_labels_equal_nnunets_where_an_axis_may_be_thick(golden: dict[str, Any]) -> None:
    for row in golden["images"]:
        axis = separate_axis(triple(row["spacing"]), triple(row["target"]))
        labels = noise(row["shape"], 4)
        found = resample_labels(torch.from_numpy(labels), triple(row["new_shape"]), axis)
        assert_equal_but_for_ties(found, from_digits(row["labels"], row["new_shape"]), labels, axis)


@pytest.mark.parametrize("make", [noise, blobs])
def test_labels_equal_batchgenerators(golden: dict[str, Any], make: Callable[[Sequence[int], int], npt.NDArray[np.int16]]) -> None:
    """Doubling and halving put many voxels exactly between labels: those ties go the same way too."""
    for row in golden["labels"]:
        labels = make(row["shape"], row["count"])
        found = resample_labels(torch.from_numpy(labels), triple(row["new_shape"]), None)
        expected = from_digits(row[make.__name__], row["new_shape"])
        if all(max(n, m) % min(n, m) == 0 for n, m in zip(row["shape"], row["new_shape"], strict=True)):
            np.testing.assert_array_equal(found.numpy(), expected)
        else:
            assert_equal_but_for_ties(found, expected, labels, None)


def naive_labels(labels: npt.NDArray[Any], shape: Sequence[int], separate: int | None) -> npt.NDArray[Any]:
    """All indicators interpolated by hand in float64, everywhere; ties to the nearest voxel's label, else to the smallest."""
    names = np.unique(labels)
    scores = (labels == names[:, None, None, None]).astype(float)
    nearest = labels
    for axis, (size_in, size_out) in enumerate(zip(labels.shape, shape, strict=True)):
        places = np.clip(size_in / size_out * (np.arange(size_out) + 0.5) - 0.5, 0, size_in - 1)
        closest = np.floor(places + 0.5).astype(int)
        nearest = nearest.take(closest, axis)
        first = closest if axis == separate else np.floor(places).astype(int)
        share = (0 if axis == separate else places - first) * np.ones(size_out)
        share = share.reshape([-1 if position == axis else 1 for position in range(3)])
        following = np.minimum(first + 1, size_in - 1)
        scores = scores.take(first, axis + 1) * (1 - share) + scores.take(following, axis + 1) * share
    tied = scores >= scores.max(0) - 1e-6
    nearest_is_tied = (tied & (names[:, None, None, None] == nearest)).any(0)
    return np.where(nearest_is_tied, nearest, names[tied.argmax(0)])


@given(SIZES, SIZES, st.sampled_from([None, 0, 1, 2]), st.sampled_from([2, 3, 200]), st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_labels_interpolated_on_boundaries_only_equal_all_indicators_everywhere(
    size_in: tuple[int, int, int], size_out: tuple[int, int, int], separate: int | None, count: int, seed: int
) -> None:
    """Two, three and hundreds of labels, some negative, in noise: up, down and mixed, with ties, sizes of one, thick axes."""
    labels = np.random.default_rng(seed).integers(-count // 2, count // 2, size_in).astype(np.int16)
    found = resample_labels(torch.from_numpy(labels), size_out, separate).numpy()
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, naive_labels(labels, size_out, separate))


@pytest.mark.parametrize(("size_in", "size_out", "separate"), [((5, 200, 210), (6, 300, 280), None), ((9, 300, 20), (5, 150, 400), 0)])
def test_large_label_maps_are_the_same_in_slabs_and_parts(
    size_in: tuple[int, int, int], size_out: tuple[int, int, int], separate: int | None
) -> None:
    """More voxels than are looked at at a time; smooth regions (few boundaries) and a strip of noise (nothing but)."""
    labels = blobs([size // 6 + 1 for size in size_in], 5).repeat(6, 0).repeat(6, 1).repeat(6, 2)[tuple(slice(size) for size in size_in)]
    labels = labels - 2
    labels[:, :100] = noise((size_in[0], 100, size_in[2]), 4)
    found = resample_labels(torch.from_numpy(labels.transpose(2, 1, 0).copy()).permute(2, 1, 0), size_out, separate)
    np.testing.assert_array_equal(found.numpy(), naive_labels(labels, size_out, separate))


def test_only_a_thick_axis_changes() -> None:
    """Order 0 along it: labels and intensities are copied from the nearest slice, and nothing is clamped or mixed."""
    labels = torch.tensor([[[1, 2]], [[3, 4]], [[5, -6]]])
    assert resample_labels(labels, (2, 1, 2), 0).tolist() == [[[1, 2]], [[5, -6]]]
    assert resample_image(labels[None].float(), (2, 1, 2), 0).tolist() == [[[[1, 2]], [[5, -6]]]]


def test_ties_go_to_the_nearest_voxel_and_never_to_a_label_in_between() -> None:
    """0 0 2 2 sampled twice as densely lies at -¼, ¼, ¾ … : between the 0 and the 2 at 1¼ (0 wins 3:1) and 1¾ (2 wins 3:1)."""
    row = torch.tensor([[[0, 0, 2, 2]]])
    assert resample_labels(row, (1, 1, 8), None).tolist() == [[[0, 0, 0, 0, 2, 2, 2, 2]]]
    # 3 → 1 voxel samples the middle one; 4 → 2 samples at ½ and 2½, ties, and ½ rounds up to voxel 1, 2½ to voxel 3.
    assert resample_labels(torch.tensor([[[5, 1, 5]]]), (1, 1, 1), None).tolist() == [[[1]]]
    assert resample_labels(torch.tensor([[[3, 1, 1, 4]]]), (1, 1, 2), None).tolist() == [[[1, 4]]]


def test_tied_labels_that_are_not_the_nearest_go_to_the_smallest() -> None:
    """The block 3 1 1 1 2 2 2 3 at its centre: 1 and 2 have ⅜ each, the nearest voxel's 3 only ¼ and so is out."""
    block = torch.tensor([3, 1, 1, 1, 2, 2, 2, 3]).reshape(2, 2, 2)
    assert resample_labels(block, (1, 1, 1), None).item() == 1


def test_negative_labels_and_types_survive() -> None:
    labels = torch.tensor([[[-1, -1, 0, 7]]], dtype=torch.int8)
    found = resample_labels(labels, (1, 1, 8), None)
    assert found.dtype == torch.int8
    assert found.tolist() == [[[-1, -1, -1, -1, 0, 0, 7, 7]]]


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_no_label_is_invented(size_in: tuple[int, int, int], size_out: tuple[int, int, int], seed: int) -> None:
    labels = np.random.default_rng(seed).choice([-1, 0, 3, 9], size_in)
    found = resample_labels(torch.from_numpy(labels), size_out, None).numpy()
    assert found.shape == size_out
    assert set(np.unique(found)) <= set(np.unique(labels))


def test_equal_shape_is_the_identity() -> None:
    image = torch.rand(2, 3, 4, 5)
    assert torch.equal(resample_image(image, (3, 4, 5), None), image)
    labels = torch.randint(0, 3, (3, 4, 5))
    assert torch.equal(resample_labels(labels, (3, 4, 5), 0), labels)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_every_row_of_an_axis_matrix_sums_to_one(size_in: int, size_out: int, order: int) -> None:
    """A constant stays the same constant."""
    matrix = axis_matrix(size_in, size_out, order)
    assert matrix.shape == (size_out, size_in)
    np.testing.assert_allclose(matrix.sum(1).numpy(), 1, atol=1e-5)
    if order == 1:
        assert matrix.min() >= 0


def test_nearest_indices_by_hand() -> None:
    """Centres of 2 in 4 lie at ½ and 2½ (halves go up); of 4 in 2 at -¼, ¼, ¾, 1¼; of 3 in 5 at ⅓, 2, 3⅔."""
    assert nearest_indices(4, 2).tolist() == [1, 3]
    assert nearest_indices(2, 4).tolist() == [0, 0, 1, 1]
    assert nearest_indices(5, 3).tolist() == [0, 2, 4]
    assert nearest_indices(1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # exactly 3 is not above 3
        ((3.01, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 3.5, 1.0), 1),  # only the target is anisotropic
        ((1.0, 1.0, 5.0), (6.0, 1.0, 1.0), 2),  # the current spacing decides first
        ((0.2, 1.25, 1.25), (5.0, 1.0, 1.0), None),  # two axes share the largest: none, and the target is not asked
        ((5.0, 0.5, 4.9), (1.0, 1.0, 1.0), 0),
    ],
)
def test_separate_axis_by_hand(spacing: tuple[float, float, float], target: tuple[float, float, float], axis: int | None) -> None:
    assert separate_axis(spacing, target) == axis


def test_separate_axis_and_shapes_equal_nnunets(golden: dict[str, Any]) -> None:
    for row in golden["axes"]:
        assert separate_axis(triple(row["spacing"]), triple(row["target"])) == row["axis"], row
    for row in golden["shapes"]:
        assert new_shape(triple(row["shape"]), triple(row["spacing"]), triple(row["target"])) == triple(row["new_shape"]), row


def test_new_shape_rounds_half_to_even_and_keeps_at_least_one_voxel() -> None:
    """5 · ½ = 2.5 → 2, 7 · ½ = 3.5 → 4, 1 · ⅓ → 0 → 1."""
    assert new_shape((5, 7, 1), (0.5, 0.5, 1.0), (1.0, 1.0, 3.0)) == (2, 4, 1)
