"""The room's public functions: which formats there are, channels of a case, label values, plain errors."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autounet.errors import ArtefactError, ImageError
from autounet.geometry import Grid
from autounet.image_names import IMAGE_ENDINGS, WRITTEN_ENDINGS, ZIP
from autounet.images import check_finite, read_channels, read_image, read_labels, read_size, write_labels
from autounet.images.files import READERS, SIZES, WRITERS

GRID = Grid(shape_zyx=(2, 3, 4), spacing_mm_zyx=(3.0, 2.0, 1.0))


def save(path: Path, voxels_czyx: np.ndarray, spacing_zyx: tuple[float, float, float] = (3.0, 2.0, 1.0)) -> Path:
    image = nibabel.Nifti1Image(voxels_czyx.T.squeeze(-1) if len(voxels_czyx) == 1 else voxels_czyx.T, np.diag([*spacing_zyx[::-1], 1]))
    nibabel.save(image, path)
    return path


def test_the_tables_cover_the_endings() -> None:
    assert set(READERS) == set(SIZES) == set(IMAGE_ENDINGS) - {ZIP}  # which holds DICOM
    assert set(WRITERS) == set(WRITTEN_ENDINGS)


def test_no_image_library_is_imported_before_a_file_is_read() -> None:
    code = "import sys, autounet.images; print([m for m in ('nibabel', 'SimpleITK', 'PIL', 'tifffile', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_the_header_alone_tells_what_reading_will_give(tmp_path: Path, ending: str) -> None:
    planar = ending in (".png", ".bmp")
    grid = Grid(ndim=2, shape_zyx=(1, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0)) if planar else GRID
    path = tmp_path / f"labels{ending}"
    write_labels(path, np.ones(grid.shape_zyx, np.uint8), grid)
    image, found = read_image(path)
    channels, told = read_size(path)
    assert (channels, told) == (len(image), found)
    path.write_bytes(b"no image at all")
    with pytest.raises(ImageError, match="damaged"):
        read_size(path)
    with pytest.raises(ImageError, match="no such file"):
        read_size(tmp_path / f"none{ending}")


def test_the_header_tells_channels(tmp_path: Path) -> None:
    assert read_size(save(tmp_path / "case.nii.gz", np.zeros((5, 2, 3, 4), np.int16)))[0] == 5
    with pytest.raises(ImageError, match="file type not supported"):
        read_size(tmp_path / "case.doc")


def test_channels_in_one_file_or_in_several(tmp_path: Path) -> None:
    voxels = np.arange(48, dtype=np.int16).reshape(2, 2, 3, 4)
    both = save(tmp_path / "case.nii.gz", voxels)
    single = [save(tmp_path / f"case_000{channel}.nii.gz", voxels[channel : channel + 1]) for channel in (0, 1)]
    for paths in ([both], single):
        image, grid = read_channels(paths, 2)
        np.testing.assert_array_equal(image, voxels)
        assert (image.dtype, grid.shape_zyx, grid.spacing_mm_zyx) == (np.float32, (2, 3, 4), (3.0, 2.0, 1.0))
        assert image.flags.c_contiguous
    assert read_channels(single[:1], 1)[0].shape == (1, 2, 3, 4)
    with pytest.raises(ImageError, match=r"case.nii.gz: wrong number of channels: found 2 channels in 1 file, expected 3. Give one"):
        read_channels([both], 3)
    with pytest.raises(ImageError, match=r"case_0000.nii.gz, .*case_0001.nii.gz: wrong number of channels: found 2 files, expected 3"):
        read_channels(single, 3)
    with pytest.raises(ImageError, match=r"case.nii.gz: wrong number of channels: found 2 in one of 2 channel files, expected 1 in each"):
        read_channels([single[0], both], 2)


def test_channels_on_different_grids(tmp_path: Path) -> None:
    voxels = np.zeros((1, 2, 3, 4), np.int16)
    first = save(tmp_path / "case_0000.nii.gz", voxels)
    finer = save(tmp_path / "case_0001.nii.gz", voxels, (3.0, 2.0, 0.5))
    with pytest.raises(
        ImageError, match=r"case_0001.nii.gz: is not on the same grid as case_0000.nii.gz: found spacing 3, 2, 1 and 3, 2, 0.5"
    ):
        read_channels([first, finer], 2)
    larger = save(tmp_path / "case_0002.nii.gz", np.zeros((1, 2, 3, 5), np.int16))
    with pytest.raises(ImageError, match="shape 2×3×4 and 2×3×5"):
        read_channels([first, larger], 2)


def test_labels_stored_as_floats(tmp_path: Path) -> None:
    whole = np.array([0, 1, 300], np.float32).reshape(1, 1, 1, 3)
    labels, _ = read_labels(save(tmp_path / "a.nii", whole))
    assert labels.tolist() == [[[0, 1, 300]]]
    assert labels.dtype == np.uint16
    for value, shown in ((0.5, r"0.5"), (np.nan, "nan"), (np.inf, "inf")):
        with pytest.raises(ImageError, match=rf"whole numbers only: found {shown} at voxel \(0, 0, 1\)"):
            read_labels(save(tmp_path / "b.nii", np.where(whole == 1, np.float32(value), whole)))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_negative_labels(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(ImageError, match="negative label values: found -2, expected 0 and up"):
        read_labels(save(tmp_path / "a.nii", np.array([0, 1, -2], dtype).reshape(1, 1, 1, 3)))


def test_missing_empty_and_unsupported_files(tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    for name, message in (
        ("missing.nii.gz", "no such file"),
        ("empty.nii.gz", "the file is empty"),
        ("folder.nii.gz", "is not a file: found a folder"),
        ("image.doc", r"file type not supported: found .doc, expected .nii.gz .nii .nrrd .* .jpeg"),
        ("image", "found no ending"),
    ):
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(ImageError, match=r"found .dcm, expected .nii.gz .nii"):
        write_labels(tmp_path / "labels.dcm", np.zeros((2, 3, 4), np.uint8), GRID)


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    grid = Grid(ndim=2, shape_zyx=(1, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0))
    path = tmp_path / f"labels{ending}"
    write_labels(path, np.ones((1, 3, 4), np.uint8), grid)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="shape"):
        write_labels(path, np.ones((1, 3, 5), np.uint8), grid)
    with pytest.raises(ValueError, match="negative"):
        write_labels(path, -np.ones((1, 3, 4), np.int16), grid)
    with pytest.raises(ValueError, match="integers"):
        write_labels(path, np.ones((1, 3, 4), np.float32), grid)
    assert path.read_bytes() == before
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".partial")]
    # A file stands where the folder should be made.
    with pytest.raises(ArtefactError, match="cannot be written"):
        write_labels(path / f"inside{ending}", np.ones((1, 3, 4), np.uint8), grid)


@pytest.mark.parametrize("ending", WRITTEN_ENDINGS)
def test_booleans_and_big_endian_labels_are_written(tmp_path: Path, ending: str) -> None:
    grid = Grid(ndim=2, shape_zyx=(1, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0))
    values = np.arange(12).reshape(1, 3, 4)
    for labels in (values > 5, values.astype(">u2"), values.transpose(0, 2, 1).copy().transpose(0, 2, 1)):
        write_labels(tmp_path / f"a{ending}", labels, grid)
        np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}")[0], labels)


def test_check_finite_names_count_and_place() -> None:
    image = np.zeros((2, 3, 4, 5), np.float32)
    check_finite(image, "case_1")
    image[1, 2, 3, 4], image[0, 1, 2, 3] = np.nan, -np.inf
    with pytest.raises(
        ImageError, match=r"case_1: voxels that are NaN, infinite.* numbers: found 2, the first -inf at channel 0, voxel \(1, 2, 3\)"
    ):
        check_finite(image, "case_1")


def test_floats_beyond_float32_become_infinite_without_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.array([0, 1e300], np.float64).reshape(1, 1, 1, 2))
    with pytest.raises(ImageError, match="found 1, the first inf"):
        check_finite(read_image(path)[0], path.name)
