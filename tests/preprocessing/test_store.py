"""The prepared cases on disk: whole or not there, and read patch by patch."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autounet.errors import ArtefactError
from autounet.geometry import Box, Grid, Trace
from autounet.labels import LabelSpec, StructureClass
from autounet.preprocessing.store import OpenCase, SourceFile, Store, StoredCase, foreground_voxels

LABELS = LabelSpec(classes=(StructureClass(name="one", values=(1,)), StructureClass(name="two", values=(2,))))
SOURCES = (SourceFile(name="a.nii.gz", size=10, mtime_ns=20), SourceFile(name="b.nii.gz", size=30, mtime_ns=40))


def trace_of(shape: tuple[int, int, int]) -> Trace:
    return Trace(
        grid=Grid(shape_zyx=shape, spacing_mm_zyx=(1.0, 1.0, 1.0)),
        transpose=(0, 1, 2),
        box=Box(start=(0, 0, 0), stop=shape),
        prepared_shape=shape,
    )


def arrays(shape: tuple[int, int, int], channels: int = 2) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((channels, *shape)).astype(np.float32), rng.integers(-1, 3, shape).astype(np.int8)


Write = Callable[..., tuple[StoredCase, npt.NDArray[np.float32], npt.NDArray[np.int8]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "3d_fullres", "recipe")


@pytest.fixture
def write(store: Store) -> Write:
    """Writes a case of random voxels: ``write("case", (4, 5, 6))``."""

    def make(case: str, shape: tuple[int, int, int] = (4, 5, 6), patch: tuple[int, int, int] = (4, 4, 4)) -> Any:
        image, labels = arrays(shape)
        return store.write(case, image, labels, trace_of(shape), LABELS, SOURCES, patch), image, labels

    return make


def test_what_is_written_is_read(store: Store, write: Write) -> None:
    stored, image, labels = write("case")
    assert store.find("case") == stored
    assert store.find("case", SOURCES) == stored
    opened = store.open(stored)
    np.testing.assert_array_equal(opened.image[:], image)
    np.testing.assert_array_equal(opened.labels[:], labels)
    assert opened.labels[:].dtype == np.int8
    for voxels, value in zip(opened.foreground, (1, 2), strict=True):
        np.testing.assert_array_equal(voxels, np.argwhere(labels == value))
    held = opened.in_memory()
    assert isinstance(held, OpenCase)
    assert isinstance(held.image, np.ndarray)
    np.testing.assert_array_equal(held.image, image)


def test_a_patch_of_a_large_case_is_the_slice_and_only_its_blocks_are_read(store: Store, write: Write) -> None:
    stored, image, labels = write("large", (70, 80, 90), (32, 40, 48))
    opened = store.open(stored)
    assert opened.image.blocks == (1, 16, 20, 24)  # half a patch along each axis, one channel
    assert opened.labels.blocks == (16, 20, 24)
    for start in ((0, 0, 0), (37, 39, 41), (17, 3, 42)):
        patch = tuple(slice(first, first + side) for first, side in zip(start, (32, 40, 48), strict=True))
        np.testing.assert_array_equal(opened.image[(slice(None), *patch)], image[(slice(None), *patch)])
        np.testing.assert_array_equal(opened.labels[patch], labels[patch])
    assert opened.image[0, 69, 79, 89] == image[0, 69, 79, 89]


def test_large_arrays_are_written_piece_by_piece_and_read_the_same(store: Store, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, image, labels = write("large", (70, 80, 90), (32, 40, 48))
    monkeypatch.setattr("autounet.preprocessing.store.MEMORY_BYTES", 0)
    other, _, _ = write("pieces", (70, 80, 90), (32, 40, 48))
    one, two = store.open(stored), store.open(other)
    assert two.image.blocks == one.image.blocks
    np.testing.assert_array_equal(two.image[:], image)
    np.testing.assert_array_equal(two.labels[:], labels)
    for found, expected in zip(two.foreground, one.foreground, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(list(store.root.iterdir())) == 6


def test_a_case_without_foreground_can_be_stored(store: Store) -> None:
    image, labels = arrays((3, 4, 5))
    stored = store.write("empty", image, np.zeros_like(labels), trace_of((3, 4, 5)), LABELS, SOURCES, (4, 4, 4))
    assert stored.foreground_counts == (0, 0)
    assert [voxels.shape for voxels in store.open(stored).foreground] == [(0, 3), (0, 3)]


def test_nothing_there_is_not_found(store: Store) -> None:
    assert store.find("case") is None


@pytest.mark.parametrize("file", [0, 1, 2], ids=["image", "labels", "description"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_a_half_written_case_is_not_there(store: Store, write: Write, file: int, damage: str) -> None:
    write("case")
    path = store.files("case")[file]
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -path.stat().st_size if damage == "empty" else -1])
    if file == 2 and damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])  # without its last newline JSON is still whole
    assert store.find("case") is None


def test_an_interrupted_rewrite_leaves_no_old_description(store: Store, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description goes first: whatever happens next, old numbers never vouch for new arrays."""
    write("case")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autounet.preprocessing.store._write_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write("case")
    assert store.find("case") is None


def test_nothing_temporary_stays(store: Store, write: Write) -> None:
    write("case")
    assert sorted(path.name for path in store.root.iterdir()) == ["case.b2nd", "case.json", "case.seg.b2nd"]


def test_border_weights_are_kept_where_there_are_any(store: Store, write: Write) -> None:
    image, labels = arrays((4, 5, 6))
    border = np.random.default_rng(1).random((4, 5, 6)).astype(np.float16)
    stored = store.write("case", image, labels, trace_of((4, 5, 6)), LABELS, SOURCES, (4, 4, 4), border)
    assert store.find("case", SOURCES) == stored
    for opened in (store.open(stored), store.open(stored).in_memory()):
        np.testing.assert_array_equal(opened.border[:], border)
        assert opened.border[:].dtype == np.float16
        assert len(opened.arrays) == 3
    write("case")  # by a plan whose loss needs none: the old file goes
    assert not store.border_file("case").exists()
    plain = store.find("case")
    assert plain is not None
    assert store.open(plain).border is None
    assert len(store.open(plain).arrays) == 2


def test_what_a_first_stage_predicted_is_kept_where_there_is_any(store: Store, write: Write) -> None:
    image, labels = arrays((4, 5, 6))
    previous = np.random.default_rng(1).integers(-1, 3, (4, 5, 6)).astype(np.int8)
    stored = store.write("case", image, labels, trace_of((4, 5, 6)), LABELS, SOURCES, (4, 4, 4), previous_zyx=previous)
    assert store.find("case", SOURCES) == stored
    for opened in (store.open(stored), store.open(stored).in_memory()):
        np.testing.assert_array_equal(opened.previous[:], previous)
        assert opened.previous[:].dtype == np.int8
        assert len(opened.arrays) == 3
    path = store.previous_file("case")
    path.write_bytes(path.read_bytes()[:-1])
    assert store.find("case") is None
    write("case")
    plain = store.find("case")
    assert plain is not None
    assert not path.exists()
    assert store.open(plain).previous is None


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_case_whose_border_file_is_not_whole_is_not_there(store: Store, damage: str) -> None:
    image, labels = arrays((4, 5, 6))
    store.write("case", image, labels, trace_of((4, 5, 6)), LABELS, SOURCES, (4, 4, 4), np.ones((4, 5, 6), np.float16))
    path = store.border_file("case")
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    assert store.find("case") is None


def test_another_recipe_is_stale(store: Store, write: Write) -> None:
    write("case")
    assert Store(store.root, "another").find("case") is None


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 21}, {"name": "c.nii.gz"}])
def test_a_changed_source_file_is_stale(store: Store, write: Write, change: dict[str, Any]) -> None:
    write("case")
    assert store.find("case", (SOURCES[0].model_copy(update=change), SOURCES[1])) is None
    assert store.find("case", SOURCES[:1]) is None


def test_damage_that_keeps_the_size_is_one_clear_message(store: Store, write: Write) -> None:
    stored, _, _ = write("case")
    path = store.files("case")[0]
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ArtefactError, match=r"case\.b2nd: prepared case cannot be read"):
        store.open(stored)


def test_foreground_voxels_are_all_of_them_up_to_the_limit() -> None:
    labels = np.zeros((2, 100, 100), np.int8)
    labels[0] = 1  # 10 000: exactly the limit
    labels[1, :3, 0] = 2
    one, two = foreground_voxels(labels, LABELS)
    np.testing.assert_array_equal(one, np.argwhere(labels == 1))
    assert two.tolist() == [[1, 0, 0], [1, 1, 0], [1, 2, 0]]
    assert one.dtype == np.int32


@pytest.mark.parametrize(("voxels", "kept"), [(10_001, 10_000), (1_000_000, 10_000), (1_000_001, 10_001), (1_234_567, 12_346)])
def test_above_the_limit_they_are_a_sample_of_one_per_cent_or_ten_thousand(voxels: int, kept: int) -> None:
    labels = np.zeros(1_300_000, np.int8)
    labels[:voxels] = 1
    labels = labels.reshape(100, 100, 130)
    found = foreground_voxels(labels, LABELS)[0]
    assert len(found) == kept
    assert len(np.unique(found, axis=0)) == kept
    assert (labels[tuple(found.T)] == 1).all()
    np.testing.assert_array_equal(found, foreground_voxels(labels, LABELS)[0])  # seeded


def test_the_sample_is_spread_over_the_whole_class() -> None:
    labels = np.ones((50, 100, 100), np.int8)
    heights = foreground_voxels(labels, LABELS)[0][:, 0]
    counts = np.bincount(heights, minlength=50)  # 200 each expected, deviation 14
    assert counts.min() > 130
    assert counts.max() < 270


def test_regions_collect_all_their_values() -> None:
    regions = LabelSpec(
        classes=(StructureClass(name="whole", values=(1, 5)), StructureClass(name="core", values=(5,))),
        overlapping=True,
        paint_order=(1, 5),
    )
    labels = np.array([[[0, 1, 2, 2]]], np.int8)  # indices: 1 for the value 1, 2 for the value 5
    whole, core = foreground_voxels(labels, regions)
    assert whole.tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 3]]
    assert core.tolist() == [[0, 0, 2], [0, 0, 3]]


def test_a_disk_that_refuses_is_an_artefact_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    (tmp_path / "file").write_text("not a folder")
    image, labels = arrays((3, 4, 5))
    with pytest.raises(ArtefactError, match="cannot be written"):
        Store(tmp_path / "file" / "below", "recipe").write("case", image, labels, trace_of((3, 4, 5)), LABELS, SOURCES, (4, 4, 4))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArtefactError, match="cannot be written"):
        Store(tmp_path / "full", "recipe").write("case", image, labels, trace_of((3, 4, 5)), LABELS, SOURCES, (4, 4, 4))
    assert list((tmp_path / "full").iterdir()) == []


def test_annotated_voxels_are_kept_where_labels_have_an_ignore_value(store: Store) -> None:
    """All that is annotated, background (and outside the mask, -1) too; without an ignore value there is nothing to keep."""
    sparse = LABELS.model_copy(update={"ignore_value": 3})
    image, labels = arrays((4, 5, 6))
    labels[1:] = 3  # sparse.ignore_index
    stored = store.write("scribbled", image, labels, trace_of((4, 5, 6)), sparse, SOURCES, (4, 4, 4))
    found = store.open(stored)
    assert found.annotated_voxels is not None
    np.testing.assert_array_equal(found.annotated_voxels, np.argwhere(labels != 3))
    assert stored.annotated_count == 30
    for voxels, value in zip(found.foreground, (1, 2), strict=True):
        np.testing.assert_array_equal(voxels, np.argwhere(labels == value))
    dense = store.open(store.write("dense", image, labels, trace_of((4, 5, 6)), LABELS, SOURCES, (4, 4, 4)))
    assert dense.annotated_voxels is None


def write_partial(store: Store, annotated: tuple[int, ...] | None, labels: LabelSpec = LABELS) -> StoredCase:
    image, values = arrays((4, 5, 6))
    return store.write("case", image, values, trace_of((4, 5, 6)), labels, SOURCES, (4, 4, 4), annotated_classes=annotated)


def test_which_classes_are_annotated_is_kept_and_a_change_of_it_makes_the_case_stale(store: Store) -> None:
    stored = write_partial(store, (1,))
    assert stored.annotated == (1,)
    assert store.find("case") == stored
    assert store.find("case", SOURCES, (1,)) == stored
    assert [store.find("case", SOURCES, other) for other in (None, (0,), (0, 1))] == [None] * 3
    assert write_partial(store, None).annotated is None
    assert store.find("case", SOURCES) is not None
    assert store.find("case", SOURCES, (1,)) is None


def test_the_origin_tells_files_and_annotated_classes(store: Store) -> None:
    files = [source.model_dump() for source in SOURCES]
    assert write_partial(store, None).origin() == files  # as it was before there were partial labels
    assert write_partial(store, (1,)).origin() == [*files, {"annotated": [1]}]


def test_what_is_not_annotated_has_no_foreground(store: Store) -> None:
    """Of regions it would: the voxels of a core lie in the whole."""
    regions = LabelSpec(
        classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))),
        overlapping=True,
        paint_order=(1, 2),
    )
    values = arrays((4, 5, 6))[1]
    stored = write_partial(store, (0,), regions)
    assert stored.foreground_counts == ((values > 0).sum(), 0)
    assert [len(voxels) for voxels in store.open(stored).foreground] == list(stored.foreground_counts)
