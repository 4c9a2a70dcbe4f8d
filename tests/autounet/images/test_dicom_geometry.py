"""Where the slices of a DICOM series lie: by hand, and as SimpleITK has it on real series."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from autounet.errors import ImageError
from autounet.images import read_channels, read_image, read_size
from autounet.images.dicom_series import source_headers
from tests.autounet.images.dicom_writing import OBLIQUE, image, save, save_all, series, uid, volume

NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])


def test_real_series_are_what_simpleitk_reads(shared: Path) -> None:
    folders = sorted((shared / "data" / "dicom" / "Study1").iterdir())
    assert len(folders) == 5
    for folder in folders:
        found, grid = read_image(folder)
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        expected = SimpleITK.ReadImage(names)
        np.testing.assert_array_equal(found[0], SimpleITK.GetArrayFromImage(expected))
        np.testing.assert_allclose(grid.spacing_mm_zyx[::-1], expected.GetSpacing(), rtol=1e-9)
        np.testing.assert_allclose(grid.origin_mm_xyz, expected.GetOrigin(), rtol=1e-9)
        np.testing.assert_allclose(grid.direction, expected.GetDirection(), atol=1e-6)
        assert read_size(folder) == (1, grid)
        assert [header.filename for header in source_headers(folder)] != []
        assert [str(header.SOPInstanceUID) for header in source_headers(folder)] == [
            str(pydicom.dcmread(name, stop_before_pixels=True).SOPInstanceUID) for name in names
        ]


def test_slices_lie_by_their_positions_whatever_their_names_numbers_and_thickness(tmp_path: Path) -> None:
    stored = volume()
    found, grid = read_image(save_all(series(stored), tmp_path / "case"))
    np.testing.assert_array_equal(found[0], stored)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(grid.spacing_mm_zyx, (2.5, 0.7, 0.5), rtol=1e-6)
    assert grid.origin_mm_xyz == (-10.0, 20.0, 30.0)
    np.testing.assert_allclose(np.array(grid.direction).reshape(3, 3), np.column_stack([OBLIQUE[:3], OBLIQUE[3:], NORMAL]), atol=1e-6)


def test_slices_from_head_to_feet_are_turned_round(tmp_path: Path) -> None:
    """The third axis always grows along the normal, as ITK has it: the first slice is then the last one that was written."""
    stored = volume()
    found, grid = read_image(save_all(series(stored, step=-2.5 * NORMAL), tmp_path / "case"))
    np.testing.assert_array_equal(found[0], stored[::-1])
    np.testing.assert_allclose(grid.origin_mm_xyz, np.array([-10, 20, 30]) - 3 * 2.5 * NORMAL, atol=1e-5)


@pytest.mark.parametrize("tilt", [-20.0, 0.3, 15.0, 44.0])
def test_a_tilted_gantry_gives_the_grid_as_it_lies(tmp_path: Path, tilt: float, caplog: pytest.LogCaptureFixture) -> None:
    """Slices are shifted along their columns; every voxel's place is its slice's own position plus steps in the slice."""
    stored = volume()
    down = np.array(OBLIQUE[3:])
    step = 2.5 * (NORMAL + np.tan(np.radians(tilt)) * down)
    with caplog.at_level(logging.WARNING, "autounet"):
        found, grid = read_image(save_all(series(stored, step=step), tmp_path / "case"))
    np.testing.assert_array_equal(found[0], stored)
    assert grid.spacing_mm_zyx[0] == pytest.approx(2.5 / np.cos(np.radians(tilt)), rel=1e-6)
    places = grid.affine_xyz() @ np.array([[4, 3, z, 1] for z in range(4)], float).T
    expected = [np.array([-10, 20, 30]) + z * step + 4 * 0.5 * np.array(OBLIQUE[:3]) + 3 * 0.7 * down for z in range(4)]
    np.testing.assert_allclose(places[:3].T, expected, atol=1e-5)
    assert ("slanted" in caplog.text) == (abs(tilt) > 1)


def test_slices_shifted_by_more_than_45_degrees_are_no_volume(tmp_path: Path) -> None:
    folder = save_all(series(volume(), step=2.5 * (NORMAL + 1.1 * np.array(OBLIQUE[3:]))), tmp_path / "case")
    with pytest.raises(ImageError, match=r"case: the slices are shifted against each other: found by 47\.73°"):
        read_image(folder)


@pytest.mark.parametrize(("lost", "message"), [([2], "1 slice is missing"), ([2, 3], "2 slices are missing")])
def test_a_gap_is_named(tmp_path: Path, lost: list[int], message: str) -> None:
    slices = series(volume(8), orientation=(1, 0, 0, 0, 1, 0), origin=(0, 0, 0))
    folder = save_all([entry for z, entry in enumerate(slices) if z not in lost], tmp_path / "case")
    with pytest.raises(ImageError, match=rf"{message}: found a gap of .* between IM\d+ \(at 0, 0, 2.5 mm\) and IM\d+ .*every 2.5 mm"):
        read_size(folder)


def test_uneven_slices(tmp_path: Path) -> None:
    """A tenth of the distance is passed over: half of it rounding, half a scanner's table. More is refused."""

    def moved(part: float) -> Any:
        def change(z: int, dataset: Any) -> None:
            dataset.ImagePositionPatient = [0, 0, 2.5 * (z + (part if z == 2 else 0))]

        return change

    straight = {"orientation": (1, 0, 0, 0, 1, 0)}
    even, grid = read_image(save_all(series(volume(6), change=moved(0.09), **straight), tmp_path / "even"))
    np.testing.assert_array_equal(even[0], volume(6))
    assert grid.spacing_mm_zyx[0] == pytest.approx(2.5)
    with pytest.raises(ImageError, match=r"not evenly spaced: found distances from 2 to 3 mm; IM0017 \(at 0, 0, 5.5 mm\) is 0.5 mm off"):
        read_image(save_all(series(volume(6), change=moved(0.2), **straight), tmp_path / "uneven"))


def test_a_slice_that_comes_twice_is_used_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slices = series(volume())
    folder = save_all(slices, tmp_path / "case")
    save(slices[1], folder / "copy")
    found, _ = read_image(folder)
    np.testing.assert_array_equal(found[0], volume())
    assert "1 copies of slices that are there already are passed over" in caplog.text
    other = series(volume())[1]
    other.PixelData = bytes(60)
    save(other, folder / "copy")
    with pytest.raises(ImageError, match="two different files claim to be the same image: found IM0010 and copy"):
        read_image(folder)


def test_a_slice_sent_anew_under_another_identifier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slices = series(volume())
    folder = save_all(slices, tmp_path / "case")
    again = series(volume())[2]
    again.SOPInstanceUID = uid("again")
    save(again, folder / "again")
    found, _ = read_image(folder)
    np.testing.assert_array_equal(found[0], volume())
    assert "all alike, are used once" in caplog.text
    again.PixelData = bytes(60)
    save(again, folder / "again")
    with pytest.raises(ImageError, match="several slices lie at the same place: found 3 places with 1, 1 places with 2 slices"):
        read_image(folder)


@pytest.mark.parametrize(
    ("tag", "values"), [("EchoTime", (90.0, 5.0)), ("TemporalPositionIdentifier", (2, 1)), ("DiffusionBValue", (800.0, 0.0))]
)
def test_volumes_that_an_attribute_tells_apart_are_channels(tmp_path: Path, tag: str, values: tuple[float, float]) -> None:
    """In the order of the attribute, not of the files."""
    stored = volume(8).reshape(2, 4, 5, 6)
    slices = [
        entry for part, value in zip(stored, values, strict=True) for entry in series(part, change=lambda _, d, v=value: setattr(d, tag, v))
    ]
    for number, entry in enumerate(slices):
        entry.SOPInstanceUID = uid(str(number))
    folder = save_all(slices, tmp_path / "case")
    found, grid = read_image(folder)
    np.testing.assert_array_equal(found, stored[::-1])
    assert read_size(folder) == (2, grid)
    with pytest.raises(ImageError, match="wrong number of channels: found 2 channels in 1 file"):
        read_channels([folder], 1)
    del slices[0][tag]
    save_all(slices, folder)
    with pytest.raises(ImageError, match=f"several slices lie at the same place: found 4 places with 2 slices.*they differ in {tag}"):
        read_image(folder)


def test_slices_of_several_orientations_are_refused_and_localizers_passed_over(tmp_path: Path) -> None:
    folder = save_all(series(volume()), tmp_path / "case")
    scout = series(volume(1), orientation=(0, 1, 0, 0, 0, -1), name="scout", SeriesInstanceUID=uid("series"))[0]
    save(scout, folder / "scout")
    with pytest.raises(
        ImageError, match=r"slices of different orientations in one series: found 4 with rows and columns along 0\.8.*; 1 with"
    ):
        read_image(folder)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, folder / "scout")
    np.testing.assert_array_equal(read_image(folder)[0][0], volume())


def test_a_single_slice_lies_in_the_patient_and_a_radiograph_does_not(tmp_path: Path) -> None:
    one, grid = read_image(save_all(series(volume(1)), tmp_path / "slice"))
    assert (one.shape, grid.ndim, grid.shape_zyx) == ((1, 1, 5, 6), 3, (1, 5, 6))
    np.testing.assert_allclose(grid.spacing_mm_zyx, (7.0, 0.7, 0.5))  # of a single slice the thickness is all there is
    flat = image(volume(1)[0], ImagerPixelSpacing=[0.2, 0.1])
    radiograph, grid = read_image(save(flat, tmp_path / "xray" / "a.dcm"))
    assert (radiograph.shape, grid.ndim, grid.spacing_mm_zyx) == ((1, 1, 5, 6), 2, (1.0, 0.2, 0.1))
    assert read_image(save(image(volume(1)[0]), tmp_path / "screen" / "a.dcm"))[1].spacing_mm_zyx == (1.0, 1.0, 1.0)
    zero = image(volume(1)[0], PixelSpacing=[0, 0])
    with pytest.raises(ImageError, match="the voxel spacing is unusable: found 0, 0 mm"):
        read_image(save(zero, tmp_path / "zero" / "a.dcm"))


def test_what_makes_no_volume(tmp_path: Path) -> None:
    def spoilt(z: int, **tags: Any) -> Path:
        slices = series(volume())
        for tag, value in tags.items():
            if value is None:
                del slices[z][tag]
            else:
                setattr(slices[z], tag, value)
        return save_all(slices, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    for folder, message in (
        (spoilt(0, PixelSpacing=None), "says no distance of pixels"),
        (spoilt(1, PixelSpacing=[0.7, 0.6]), "different pixel spacing in one series: found 0.7, 0.5 mm; 0.7, 0.6 mm"),
        (spoilt(1, ImageOrientationPatient=None), "do not say where they lie"),
        (spoilt(1, ImageOrientationPatient=[1, 0, 0]), "ImageOrientationPatient of 3 numbers, not 6"),
        (spoilt(1, ImagePositionPatient=["nan", 0, 0]), "IM0010|position that is not finite"),
        (spoilt(0, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "different orientations|directions"),
        (spoilt(1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "IM0010: is a mosaic of slices"),
        (spoilt(1, Rows=3, Columns=10), "slices of different sizes in one series: found 3 of 5×6 pixels, 1 colours; 1 of 3×10"),
    ):
        with pytest.raises(ImageError, match=message):
            read_size(folder)
