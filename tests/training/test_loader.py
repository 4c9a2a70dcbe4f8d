"""Batches: the same for any number of threads, padded beyond the case, and read patch by patch."""

import numpy as np
import pytest
import torch

import autounet.training.loader as loader_module
from autounet.errors import ArtefactError
from autounet.preprocessing.case import OUTSIDE
from autounet.preprocessing.store import OpenCase
from autounet.training.loader import Batch, BatchLoader, copy_patch
from autounet.training.sampler import PatchRequest


def _loader(prepared, workers: int = 0, stream: int = 0, seed: int = 1, patch: tuple[int, ...] = (16, 16, 16)) -> BatchLoader:
    store, cases = prepared
    loaded = tuple(side + 6 for side in patch)
    return BatchLoader(store, cases, batch_size=3, loaded=loaded, patch_size=patch, workers=workers, stream=stream, seed=seed)


def _same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        one.image.equal(two.image) and one.labels.equal(two.labels) and one.cases == two.cases
        for one, two in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_threads(prepared, workers: int) -> None:
    assert _same(list(_loader(prepared).batches(4, 7)), list(_loader(prepared, workers).batches(4, 7)))


def test_epochs_streams_and_seeds_differ(prepared) -> None:
    first = list(_loader(prepared).batches(0, 3))
    assert not _same(first, list(_loader(prepared).batches(1, 3)))
    assert not _same(first, list(_loader(prepared, stream=1).batches(0, 3)))
    assert not _same(first, list(_loader(prepared, seed=2).batches(0, 3)))
    # An epoch begins with the same batches however long it is.
    assert _same(first, list(_loader(prepared).batches(0, 5))[:3])


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
def test_shapes_and_types(prepared, patch: tuple[int, ...]) -> None:
    batch = next(iter(_loader(prepared, patch=patch).batches(0, 1)))
    loaded = tuple(side + 6 for side in patch)
    assert batch.image.shape == (3, 1, *loaded)
    assert batch.labels.shape == (3, *loaded)
    assert (batch.image.dtype, batch.labels.dtype) == (torch.float32, torch.int16)
    assert set(batch.cases) <= {f"case_{number}" for number in range(6)}


def test_beyond_the_case_image_is_zero_and_labels_are_outside(prepared) -> None:
    """Patches of 22 in cases of 20 to 28 voxels reach beyond: there, and only there, nothing was read."""
    store, cases = prepared
    truth = {stored.case: np.sort(store.open(stored).image[:].ravel()) for stored in cases}
    seen = 0
    for batch in _loader(prepared).batches(0, 8):
        for image, labels, case in zip(batch.image, batch.labels, batch.cases, strict=True):
            outside = labels == OUTSIDE
            seen += int(outside.sum())
            assert image[0][outside].eq(0).all()
            read = image[0][~outside].numpy()
            found = truth[case][np.searchsorted(truth[case], read).clip(max=len(truth[case]) - 1)]
            assert (found == read).all()
            # What was read is a box: its extent in each axis multiplies to its volume.
            assert np.prod([len(np.unique(axis)) for axis in np.nonzero(~outside.numpy())]) == len(read)
    assert seen > 0


class _Recording:
    """An array that notes what was asked of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.asked = array, array.shape, []

    def __getitem__(self, index: object) -> np.ndarray:
        self.asked.append(index)
        return self._array[index]


def test_only_the_needed_part_is_read(wave, label_map) -> None:
    image, labels = wave((2, 10, 12, 14), 0.0).astype(np.float32), label_map((10, 12, 14), 3)
    case = OpenCase("a", _Recording(image), _Recording(labels), ())
    target, target_labels = np.zeros((2, 6, 6, 6), np.float32), np.full((6, 6, 6), OUTSIDE, np.int16)
    copy_patch(case, PatchRequest(0, (-2, 3, 11)), target, target_labels)
    assert case.labels.asked == [(slice(0, 4), slice(3, 9), slice(11, 14))]
    assert case.image.asked == [(slice(None), slice(0, 4), slice(3, 9), slice(11, 14))]
    assert (target[:, 2:, :, :3] == image[:, :4, 3:9, 11:]).all()
    assert (target_labels[2:, :, :3] == labels[:4, 3:9, 11:]).all()
    assert (target[:, :2] == 0).all()
    assert (target_labels[:, :, 3:] == OUTSIDE).all()


def test_a_patch_wholly_beyond_the_case_reads_nothing() -> None:
    case = OpenCase("a", _Recording(np.ones((1, 4, 4, 4))), _Recording(np.ones((4, 4, 4))), ())
    target, target_labels = np.zeros((1, 2, 2, 2), np.float32), np.full((2, 2, 2), OUTSIDE, np.int16)
    copy_patch(case, PatchRequest(0, (4, 0, 0)), target, target_labels)
    assert not case.image.asked
    assert (target == 0).all()
    assert (target_labels == OUTSIDE).all()


def test_cases_too_large_for_memory_are_read_from_disk_and_give_the_same_batches(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = list(_loader(prepared).batches(0, 4))
    monkeypatch.setattr(loader_module, "CACHE_SHARE", 0.0)
    from_disk = _loader(prepared)
    assert not any(isinstance(case.image, np.ndarray) for case in from_disk._cases)
    assert _same(cached, list(from_disk.batches(0, 4)))


def test_the_cache_counts_all_channels_and_the_labels(two_labels, cases_of, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 20³ voxels: three channels of 4 bytes and labels of 1.
    prepared = cases_of(tmp_path, two_labels, [(20, 20, 20)], channels=3)
    for limit, cached in ((20**3 * 13, True), (20**3 * 13 - 1, False)):
        monkeypatch.setattr(loader_module, "CACHE_SHARE", 1.0)
        monkeypatch.setattr(loader_module, "available_bytes", lambda size=limit: size)
        assert isinstance(_loader(prepared)._cases[0].image, np.ndarray) is cached


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_reader_arrives_as_it_was(prepared, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    loader = _loader(prepared, workers)

    def broken(*arguments: object, **more: object) -> None:
        raise ArtefactError("case_0: cannot be read")

    monkeypatch.setattr(loader_module, "copy_patch", broken)
    with pytest.raises(ArtefactError, match="case_0"):
        list(loader.batches(0, 3))


@pytest.mark.parametrize("start", [(-9, 3, 2), (0, 0, 0), (2, -40, 30), (50, 6, -3)])
def test_mirrored_patches_equal_numpys_symmetric_padding(wave, label_map, start: tuple[int, int, int]) -> None:
    """However far the patch lies beyond the case."""
    image, labels = wave((2, 5, 12, 9), 0.0).astype(np.float32), label_map((5, 12, 9), 3)
    border = wave((5, 12, 9), 1.0).astype(np.float16)
    found, found_labels, found_border = (
        np.zeros((2, 6, 16, 8), np.float32),
        np.zeros((6, 16, 8), np.int16),
        np.zeros((6, 16, 8), np.float32),
    )
    copy_patch(OpenCase("a", image, labels, (), border), PatchRequest(0, start), found, found_labels, found_border, mirrored=True)
    window = tuple(slice(first + 60, first + 60 + side) for first, side in zip(start, (6, 16, 8), strict=True))
    np.testing.assert_array_equal(found, np.pad(image, ((0, 0), *((60, 60),) * 3), mode="symmetric")[(slice(None), *window)])
    np.testing.assert_array_equal(found_labels, np.pad(labels, 60, mode="symmetric")[window])
    np.testing.assert_array_equal(found_border, np.pad(border, 60, mode="symmetric")[window])


def test_mirrored_patches_read_only_the_needed_part() -> None:
    case = OpenCase("a", _Recording(np.ones((1, 4, 30, 30))), _Recording(np.ones((4, 30, 30))), ())
    copy_patch(case, PatchRequest(0, (1, -3, 20)), np.zeros((1, 2, 8, 8), np.float32), np.zeros((2, 8, 8), np.int16), mirrored=True)
    # Rows -3, -2, -1 are rows 2, 1, 0 again.
    assert case.labels.asked == [(slice(1, 3), slice(0, 5), slice(20, 28))]
    assert case.image.asked == [(slice(None), slice(1, 3), slice(0, 5), slice(20, 28))]


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
@pytest.mark.parametrize("mirrored", [True, False])
def test_border_weights_come_with_the_batch(two_labels, cases_of, tmp_path, patch: tuple[int, ...], mirrored: bool) -> None:
    """Here they are a function of the labels, so that the batch can be checked against itself."""
    store, cases = cases_of(tmp_path, two_labels, [(20, 22, 24), (24, 20, 26)], border=True)
    loaded = tuple(side + 12 for side in patch)
    loader = BatchLoader(store, cases, batch_size=3, loaded=loaded, patch_size=patch, workers=0, stream=0, seed=1, mirrored=mirrored)
    for batch in loader.batches(0, 4):
        assert batch.border is not None
        assert batch.border.dtype == torch.float32
        assert batch.border.shape == (3, 1, *loaded)
        assert batch.border[:, 0].equal(0.5 * batch.labels.clamp(min=0))
        assert bool((batch.labels == OUTSIDE).any()) is not mirrored


def test_batches_without_border_weights_have_none(prepared) -> None:
    assert next(iter(_loader(prepared).batches(0, 1))).border is None


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_what_the_first_stage_predicted_comes_with_the_batch(
    two_labels, cases_of, tmp_path, monkeypatch: pytest.MonkeyPatch, mirrored: bool, cached: bool
) -> None:
    """Here it has taken one label for the other, so that the batch can be checked against itself."""
    monkeypatch.setattr(loader_module, "CACHE_SHARE", 1.0 if cached else 0.0)
    store, cases = cases_of(tmp_path, two_labels, [(20, 22, 24), (24, 20, 26)], previous=True)
    loader = BatchLoader(
        store, cases, batch_size=3, loaded=(28, 28, 28), patch_size=(16, 16, 16), workers=0, stream=0, seed=1, mirrored=mirrored
    )
    for batch in loader.batches(0, 3):
        assert batch.previous is not None
        assert batch.previous.dtype == torch.int16
        expected = torch.where(batch.labels > 0, 3 - batch.labels, batch.labels)  # background and OUTSIDE are the same in both
        assert batch.previous.equal(expected)
        assert bool((batch.previous == OUTSIDE).any()) is not mirrored
    assert store.open(cases[0]).in_memory().previous.shape == (20, 22, 24)


def test_batches_of_a_single_stage_have_none(prepared) -> None:
    assert next(iter(_loader(prepared).batches(0, 1))).previous is None
