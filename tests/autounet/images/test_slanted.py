"""Slices that are shifted against each other (a tilted gantry): read as they lie, label maps written where they belong."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, write_labels
from tests.autounet.images.dicom_writing import OBLIQUE, save_all, series, volume

ACROSS, DOWN = np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
STEP = 2.5 * (np.cross(ACROSS, DOWN) + np.tan(np.radians(20)) * DOWN)
"""From slice to slice, 20° off the normal."""


def place(x: int, y: int, z: int) -> np.ndarray:
    """Where a voxel of the test's image is, in mm, by hand."""
    return np.array([-10, 20, 30]) + x * 0.5 * ACROSS + y * 0.7 * DOWN + z * STEP


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return read_image(save_all(series(volume(), step=STEP), tmp_path / "tilted"))[1]


def test_a_voxel_is_as_large_as_the_slices_are_apart(grid: Grid) -> None:
    assert grid.slant_degrees() == pytest.approx(20, abs=1e-4)
    assert grid.voxel_size() == pytest.approx(0.5 * 0.7 * 2.5, rel=1e-6)  # 2.5 mm from plane to plane, however they are shifted
    straight = Grid(shape_zyx=(1, 1, 1), spacing_mm_zyx=(2.5, 0.7, 0.5))
    assert straight.slant_degrees() == 0
    assert straight.voxel_size() == 2.5 * 0.7 * 0.5
    assert Grid(ndim=2, shape_zyx=(1, 1, 1), spacing_mm_zyx=(1.0, 0.7, 0.5)).voxel_size() == 0.7 * 0.5


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_label_maps_lie_where_their_slices_lie(grid: Grid, tmp_path: Path, ending: str) -> None:
    labels = np.arange(120, dtype=np.uint8).reshape(grid.shape_zyx)
    path = tmp_path / f"labels{ending}"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert grid.differences(own, tolerance=1e-5) == []
    for voxel in ((0, 0, 0), (5, 4, 3), (1, 3, 2)):
        if ending.startswith(".nii"):
            x, y, z = nib.load(path).affine[:3] @ [*voxel, 1]
            found_place = np.array([-x, -y, z])
        else:
            found_place = np.array(SimpleITK.ReadImage(str(path)).TransformIndexToPhysicalPoint(voxel))
        np.testing.assert_allclose(found_place, place(*voxel), atol=1e-4)


def test_itk_refuses_such_a_nifti_rather_than_straightening_it(grid: Grid, tmp_path: Path) -> None:
    """A qform is a rotation and cannot say where the slices lie: there is none, and who knows nothing else does not place them wrongly."""
    write_labels(tmp_path / "a.nii.gz", np.ones(grid.shape_zyx, np.uint8), grid)
    assert int(nib.load(tmp_path / "a.nii.gz").header["qform_code"]) == 0
    with pytest.raises(RuntimeError, match="orthonormal"):
        SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))


def test_images_of_other_formats_are_read_as_they_lie(grid: Grid, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    affine = grid.affine_xyz() * np.array([[-1], [-1], [1], [1]])
    image = nib.Nifti1Image(volume().T.copy(), affine)
    image.set_qform(affine, code=0)
    nib.save(image, tmp_path / "a.nii.gz")
    with caplog.at_level(logging.WARNING, "autounet"):
        _, own = read_image(tmp_path / "a.nii.gz")
    assert grid.differences(own, tolerance=1e-4) == []
    assert "a.nii.gz: each slice is shifted against the one before (slanted by 20°" in caplog.text


def test_other_slants_are_refused(tmp_path: Path) -> None:
    for name, direction, message in (
        ("xy", (1, 0.2, 0, 0, 0.98, 0, 0, 0, 1), "78.47° between x and y, expected 90°, within 1°"),
        ("z", (1, 0, 0.77, 0, 1, 0, 0, 0, 0.64), "z slanted by 50.27°, expected at most 45°"),
    ):
        image = SimpleITK.GetImageFromArray(volume())
        image.SetDirection(direction)
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.mha"))
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / f"{name}.mha")
