"""What the numbers of a DICOM file mean: encodings, rescaling, colours, files of several frames; and files that are cut off."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import uid as uids
from pydicom.dataset import Dataset

from autounet.errors import ImageError
from autounet.images import read_image, read_size
from tests.autounet.images.dicom_writing import OBLIQUE, image, save, save_all, series, uid, volume


def one(path: Path) -> Any:
    """Pixels of a planar file."""
    return read_image(path)[0][:, 0]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.DeflatedExplicitVRLittleEndian])
def test_integers_of_every_size(tmp_path: Path, dtype: str, syntax: str) -> None:
    stored = volume(1, dtype)[0]
    np.testing.assert_array_equal(one(save(image(stored), tmp_path / "a.dcm", syntax))[0], stored)


def test_big_endian_is_read_as_simpleitk_reads_it(tmp_path: Path) -> None:
    stored = volume(1)[0]
    dataset = image(stored)
    dataset.PixelData = stored.astype(">i2").tobytes()
    path = tmp_path / "a.dcm"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uids.ExplicitVRBigEndian
    dataset.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)
    np.testing.assert_array_equal(one(path)[0], stored)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0], stored)


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    """What lies above the stored bits (old files keep overlays there) is no part of the number; the sign is bit 11."""
    dataset = image(np.array([[0xF001, 0x0FFF, 0x0800]], np.uint16), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(one(save(dataset, tmp_path / "unsigned"))[0], [[1, 4095, 2048]])
    dataset.PixelRepresentation = 1
    np.testing.assert_array_equal(one(save(dataset, tmp_path / "signed"))[0], [[1, -1, -2048]])


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_floats(tmp_path: Path, keyword: str, dtype: str) -> None:
    stored = np.array([[0.5, -1e20, 3.25]], dtype)
    dataset = image(np.zeros((1, 3), np.uint32))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    setattr(dataset, keyword, stored.tobytes())
    np.testing.assert_array_equal(one(save(dataset, tmp_path / "a"))[0], stored.astype(np.float32))


def test_without_preamble(tmp_path: Path) -> None:
    stored = volume(1)[0]
    for name, syntax in (("implicit", uids.ImplicitVRLittleEndian), ("explicit", uids.ExplicitVRLittleEndian)):
        np.testing.assert_array_equal(one(save(image(stored), tmp_path / name, syntax, bare=True))[0], stored)


COMPRESSED = {
    "RLE": uids.RLELossless,
    "JPEG-LS": uids.JPEGLSLossless,
    "JPEG 2000": uids.JPEG2000Lossless,
    "lossless JPEG": uids.JPEGLosslessSV1,
}


def compressed(stored: Any, syntax: str, folder: Path) -> Dataset:
    """An image packed by an encoder of pydicom or, for the kinds it cannot write, of GDCM in SimpleITK."""
    dataset = image(stored)
    if syntax in (uids.RLELossless, uids.JPEGLSLossless):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False)
        return dataset
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.UseCompressionOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor("JPEG" if syntax == uids.JPEGLosslessSV1 else "JPEG2000")
    writer.Execute(SimpleITK.GetImageFromArray(stored[None]))
    found = pydicom.dcmread(folder / "packed.dcm")
    assert found.file_meta.TransferSyntaxUID == syntax
    dataset.PixelData = found.PixelData
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


@pytest.mark.parametrize("syntax", COMPRESSED.values(), ids=list(COMPRESSED))
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_lossless_compression(tmp_path: Path, syntax: str, dtype: str) -> None:
    stored = (np.arange(64 * 48).reshape(64, 48) % 251).astype(dtype)
    if dtype == "i2" and syntax != uids.JPEGLSLossless:
        stored -= 100
    path = save(compressed(stored, syntax, tmp_path), tmp_path / "a.dcm", syntax)
    np.testing.assert_array_equal(one(path)[0], stored)
    assert read_size(path)[1].shape_zyx == (1, 64, 48)


@pytest.mark.parametrize("syntax", COMPRESSED.values(), ids=list(COMPRESSED))
def test_compressed_pixels_that_are_cut_off_are_refused(tmp_path: Path, syntax: str) -> None:
    stored = np.random.default_rng(0).integers(0, 4000, (64, 48)).astype(np.uint16)
    dataset = compressed(stored, syntax, tmp_path)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    dataset["PixelData"].is_undefined_length = True
    path = save(dataset, tmp_path / "a.dcm", syntax)
    with pytest.raises(ImageError, match=r"a\.dcm: is damaged, incomplete or of another format"):
        read_image(path)


def test_jpeg_of_colours_is_close(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    ramp = np.stack([np.add.outer(np.arange(64) * 2, np.arange(64) * shift) % 256 for shift in (1, 0, 2)], -1).astype(np.uint8)
    packed = BytesIO()
    Image.fromarray(ramp).save(packed, "JPEG", quality=95)
    dataset = image(ramp, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    found = one(save(dataset, tmp_path / "a.dcm", uids.JPEGBaseline8Bit))
    expected = np.moveaxis(np.asarray(Image.open(packed).convert("RGB")), -1, 0)
    assert found.shape == (3, 64, 64)
    assert np.abs(found - expected).max() <= 3  # two ways from YCbCr to RGB


def test_pixels_that_are_missing_or_packed_in_unknown_ways(tmp_path: Path) -> None:
    dataset = image(volume(1)[0])
    dataset.PixelData = dataset.PixelData[:-20]
    with pytest.raises(ImageError, match=r"short: is damaged.*bytes"):
        read_image(save(dataset, tmp_path / "short"))
    del dataset.PixelData
    with pytest.raises(ImageError, match="none: is damaged"):
        read_image(save(dataset, tmp_path / "none"))
    whole = save(image(volume(1)[0]), tmp_path / "whole").read_bytes()
    for length in (len(whole) - 30, len(whole) // 2, 200):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ImageError, match="cut: "):
            read_image(tmp_path / "cut")
    video = image(volume(1)[0])
    video.PixelData = pydicom.encaps.encapsulate([b"film\xff\xd9"])
    video["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match="packed in a way that cannot be unpacked here: found MPEG2"):
        read_image(save(video, tmp_path / "video", uids.MPEG2MPML))


def test_each_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    """As in PET, where the slope differs from slice to slice; black and white reversed (MONOCHROME1) leaves numbers as they are."""
    stored = volume()

    def change(z: int, dataset: Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + z, -10 * z
        dataset.PhotometricInterpretation = "MONOCHROME1"

    found, _ = read_image(save_all(series(stored, change=change), tmp_path / "pet"))
    expected = stored * np.array([0.5, 1.5, 2.5, 3.5])[:, None, None] - np.array([0, 10, 20, 30])[:, None, None]
    np.testing.assert_array_equal(found[0], expected.astype(np.float32))


def test_padding_outside_the_field_of_view_is_kept_as_simpleitk_keeps_it(tmp_path: Path) -> None:
    slices = series(np.full((2, 3, 3), -2000, np.int16), PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024)
    folder = save_all(slices, tmp_path / "ct")
    found, _ = read_image(folder)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    np.testing.assert_array_equal(found[0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names)))
    assert set(found.ravel()) == {-3024.0}


def test_a_modality_table_is_applied(tmp_path: Path) -> None:
    dataset = image(np.array([[0, 1, 2, 3]], np.uint8))
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4, 0, 16], "HU", [100, 50, 1000, 7]
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    dataset.ModalityLUTSequence = [table]
    np.testing.assert_array_equal(one(save(dataset, tmp_path / "a"))[0], [[100, 50, 1000, 7]])


def test_colours_are_channels(tmp_path: Path) -> None:
    rgb = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    path = save(image(rgb), tmp_path / "rgb")
    np.testing.assert_array_equal(one(path), np.moveaxis(rgb, -1, 0))
    assert read_size(path)[0] == 3
    planes = image(rgb, PlanarConfiguration=1)
    planes.PixelData = np.ascontiguousarray(np.moveaxis(rgb, -1, 0)).tobytes()
    np.testing.assert_array_equal(one(save(planes, tmp_path / "planes")), np.moveaxis(rgb, -1, 0))
    grey = np.full((2, 4, 3), 128, np.uint8)
    grey[..., 0] = 77
    np.testing.assert_array_equal(one(save(image(grey, PhotometricInterpretation="YBR_FULL"), tmp_path / "ybr")), np.full((3, 2, 4), 77))


def test_a_palette_is_its_colours(tmp_path: Path) -> None:
    dataset = image(np.array([[0, 1, 1, 2]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, table in (("Red", b"\x00\x0a\x14\x1e"), ("Green", b"\x01\x0b\x15\x1f"), ("Blue", b"\x02\x0c\x16\x20")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        dataset[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    path = save(dataset, tmp_path / "palette")
    np.testing.assert_array_equal(one(path)[:, 0], [[0, 10, 10, 20], [1, 11, 11, 21], [2, 12, 12, 22]])
    assert read_size(path)[0] == 3


def enhanced(stored: Any, order: list[int], **single: Any) -> Dataset:
    """An enhanced CT: one file, whose frames come in any order, each with its own position and rescaling."""
    dataset = image(stored[order], "enhanced", SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=len(order))
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.5], 5
    plane.ImageOrientationPatient = list(OBLIQUE)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z in order:
        frame, place, scaling, content = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [round(float(value), 6) for value in 2.5 * z * np.cross(OBLIQUE[:3], OBLIQUE[3:])]
        scaling.RescaleSlope, scaling.RescaleIntercept, scaling.RescaleType = 2, z, "HU"
        for name, value in single.items():
            setattr(content, name, value(z))
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [scaling]
        frame.FrameContentSequence = [content]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [1]])
def test_a_file_of_several_frames_stands_for_itself(tmp_path: Path, order: list[int]) -> None:
    stored = volume()
    path = save(enhanced(stored, order), tmp_path / "enhanced.dcm")
    save_all(series(volume(3)), tmp_path)  # what lies beside it is another image
    found, grid = read_image(path)
    expected = stored * 2.0 + np.arange(4)[:, None, None]
    np.testing.assert_array_equal(found[0], expected[sorted(order)])
    assert (grid.ndim, grid.shape_zyx) == (3, (len(order), 5, 6))
    np.testing.assert_allclose(grid.spacing_mm_zyx, (2.5 if len(order) > 1 else 5, 0.7, 0.5), rtol=1e-6)
    np.testing.assert_allclose(grid.origin_mm_xyz, 2.5 * min(order) * np.cross(OBLIQUE[:3], OBLIQUE[3:]), atol=1e-5)


def test_times_in_one_file_are_channels_and_films_are_refused(tmp_path: Path) -> None:
    stored = volume(8)
    dataset = enhanced(stored, list(range(8)), TemporalPositionIndex=lambda z: 1 + z // 4)
    for z, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.5 * (z % 4)]
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    found, _ = read_image(save(dataset, tmp_path / "times"))
    np.testing.assert_array_equal(found, (stored * 2.0 + np.arange(8)[:, None, None]).reshape(2, 4, 5, 6))
    film = image(volume(3, "u1"), NumberOfFrames=3)
    with pytest.raises(ImageError, match="do not say where they lie in the patient are no volume: found 3 images or frames, 0 with"):
        read_image(save(film, tmp_path / "film"))


def test_other_objects_are_no_images(tmp_path: Path) -> None:
    for name, kind, message in (
        ("seg", "66.4", "a segmentation"),
        ("rt", "481.3", "a radiotherapy structure set"),
        ("sr", "88.33", "another"),
    ):
        dataset = image(volume(1)[0], SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}")
        if name != "seg":
            del dataset.Rows, dataset.Columns, dataset.PixelData
        with pytest.raises(ImageError, match=f"{name}: is not a DICOM image: found .*{message}"):
            read_image(save(dataset, tmp_path / name))
    assert uid("a") != uid("b")
