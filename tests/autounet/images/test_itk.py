"""NRRD and MetaImage files, against SimpleITK."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, write_labels

ENDINGS = [".nrrd", ".mha", ".mhd"]


def write(path: Path, array: np.ndarray, vector: bool = False, compressed: bool = True, **geometry: Any) -> Path:
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    for name, value in geometry.items():
        getattr(image, f"Set{name}")(value)
    SimpleITK.WriteImage(image, str(path), useCompression=compressed)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_arrays_and_geometry_are_the_files(tmp_path: Path, ending: str, dtype: str) -> None:
    stored = np.arange(60).reshape(3, 4, 5).astype(dtype)
    turn = tuple(Rotation.from_euler("xyz", [0.3, 1.0, 2.0]).as_matrix().ravel().tolist())
    path = write(tmp_path / f"a{ending}", stored, Spacing=(0.5, 0.7, 3.1), Origin=(-1.5, 2.5, 7.0), Direction=turn)
    array, grid = read_image(path)
    np.testing.assert_array_equal(array, stored[None].astype(np.float32))
    assert array.flags.c_contiguous
    assert (grid.ndim, grid.shape_zyx, grid.origin_mm_xyz) == (3, (3, 4, 5), (-1.5, 2.5, 7.0))
    np.testing.assert_allclose(grid.spacing_mm_zyx, (3.1, 0.7, 0.5), rtol=1e-12)
    np.testing.assert_allclose(grid.direction, turn, atol=1e-12)
    labels, _ = read_labels(path)
    np.testing.assert_array_equal(labels, stored)


@pytest.mark.parametrize("ending", ENDINGS)
def test_planar_images_vectors_and_a_fourth_axis(tmp_path: Path, ending: str) -> None:
    flat = np.arange(20, dtype=np.uint8).reshape(4, 5)
    _, grid = read_image(write(tmp_path / f"flat{ending}", flat, Spacing=(0.5, 0.7), Direction=(0.0, 1.0, -1.0, 0.0)))
    assert grid == Grid(
        ndim=2, shape_zyx=(1, 4, 5), spacing_mm_zyx=(1.0, 0.7, 0.5), direction=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    )
    vector = np.arange(120, dtype=np.int16).reshape(3, 4, 5, 2)
    array, _ = read_image(write(tmp_path / f"vector{ending}", vector, vector=True))
    np.testing.assert_array_equal(array, np.moveaxis(vector, -1, 0))
    assert array.flags.c_contiguous
    colours, grid = read_image(write(tmp_path / f"colours{ending}", vector[0], vector=True))
    np.testing.assert_array_equal(colours[:, 0], np.moveaxis(vector[0], -1, 0))
    assert grid.ndim == 2
    series = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)
    array, grid = read_image(write(tmp_path / f"series{ending}", series))
    np.testing.assert_array_equal(array, series)
    assert (grid.ndim, grid.shape_zyx) == (3, (3, 4, 5))


@settings(max_examples=30, deadline=None)
@given(
    labels=arrays(st.sampled_from(["u1", "i2", "u2", "i8"]), st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 120)),
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    flip=st.sampled_from([-1, 1]),
    spacing=st.tuples(*[st.floats(0.01, 20)] * 3),
    origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    ending=st.sampled_from(ENDINGS),
)
def test_labels_on_a_grid_come_back(
    tmp_path_factory: pytest.TempPathFactory, labels: Any, turn: Any, flip: int, spacing: Any, origin: Any, ending: str
) -> None:
    direction = Rotation.from_euler("xyz", turn).as_matrix() * [flip, 1, 1]
    grid = Grid(shape_zyx=labels.shape, spacing_mm_zyx=spacing, origin_mm_xyz=origin, direction=tuple(direction.ravel().tolist()))
    path = tmp_path_factory.mktemp("itk") / f"labels{ending}"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_allclose(own.affine_xyz(), grid.affine_xyz(), rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), labels)


@pytest.mark.parametrize("ending", ENDINGS)
def test_planar_labels_come_back(tmp_path: Path, ending: str) -> None:
    grid = Grid(ndim=2, shape_zyx=(1, 4, 5), spacing_mm_zyx=(1.0, 0.7, 0.5), origin_mm_xyz=(3.0, 4.0, 0.0))
    labels = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
    write_labels(tmp_path / f"a{ending}", labels, grid)
    found, own = read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(found, labels)
    assert own == grid


def test_a_mhd_is_written_with_its_voxels_beside_it(tmp_path: Path) -> None:
    grid = Grid(shape_zyx=(2, 2, 2), spacing_mm_zyx=(1.0, 1.0, 1.0))
    write_labels(tmp_path / "case.mhd", np.ones((2, 2, 2), np.uint8), grid)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["case.mhd", "case.zraw"]


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_truncated_file_is_noticed_wherever_it_is_cut(tmp_path: Path, ending: str, compressed: bool) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (9, 8, 7)).astype(np.int16)
    path = write(tmp_path / f"a{ending}", voxels, compressed=compressed)
    whole = path.read_bytes()
    for kept in (1, 40, 150, len(whole) // 2, len(whole) - 30, len(whole) - 12):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match=r"is damaged, incomplete or of another format.*Copy the file again"):
            read_image(path)
    # ITK does not miss the check sum behind the voxels; what it then returns must be whole.
    for kept in range(len(whole) - 12, len(whole)):
        path.write_bytes(whole[:kept])
        with contextlib.suppress(ImageError):
            np.testing.assert_array_equal(read_image(path)[0][0], voxels)


def test_a_mhd_without_its_voxels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhd", np.zeros((3, 3, 3), np.uint8))
    (tmp_path / "a.zraw").unlink()
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_absurd_sizes_and_unusable_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", np.zeros((3, 3, 3), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"DimSize = 3 3 3", b"DimSize = 30000 30000 30000"))
    with pytest.raises(ImageError, match="claims 27,000,000,000,000 bytes"):
        read_image(path)
    complex_image = SimpleITK.RealToHalfHermitianForwardFFT(SimpleITK.Image(4, 4, 4, SimpleITK.sitkFloat32))
    SimpleITK.WriteImage(complex_image, str(tmp_path / "c.nrrd"))
    with pytest.raises(ImageError, match="is not an image volume: found complex"):
        read_image(tmp_path / "c.nrrd")


@pytest.mark.parametrize("spacing", ["0 1 1", "nan 1 1"])
def test_unusable_spacing(tmp_path: Path, spacing: str) -> None:
    path = write(tmp_path / "a.mha", np.zeros((3, 3, 3), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", f"ElementSpacing = {spacing}".encode()))
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_of_another_format(tmp_path: Path, ending: str) -> None:
    for content in (b"hello", b"x" * 1000):
        (tmp_path / f"a{ending}").write_bytes(content)
        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / f"a{ending}")
