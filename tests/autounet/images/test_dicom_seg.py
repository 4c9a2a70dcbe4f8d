"""DICOM segmentations: written for a series and read back by others, and those of others put on an image's voxels."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from autounet.errors import DatasetError, ImageError
from autounet.evaluation.folders import evaluate_cases
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, read_size, write_labels
from autounet.images.codes import coded
from autounet.images.meaning import Meaning, meaning_of
from autounet.images.structures import structures_on
from autounet.labels import LabelSpec, StructureClass
from autounet.runtime import Runtime
from tests.autounet.images.dicom_writing import OBLIQUE, image, save, save_all, series

hd = pytest.importorskip("highdicom")

FRAME = "1.2.826.0.1.3680043.8.498.1"
WITH_GAP = LabelSpec(classes=(StructureClass(name="Liver", values=(1,)), StructureClass(name="Tumour", values=(5,))))
REGIONS = LabelSpec(
    classes=(
        StructureClass(name="whole", values=(1, 2, 3)),
        StructureClass(name="core", values=(2, 3)),
        StructureClass(name="enhancing", values=(3,)),
    ),
    overlapping=True,
    paint_order=(1, 2, 3),
)


def write_series(folder: Path, depth: int = 5, **tags: Any) -> Path:
    """A small CT series of 8×7 pixels, along no axis of the patient."""
    pixels = np.arange(depth * 56, dtype=np.int16).reshape(depth, 8, 7)
    return save_all(series(pixels, **{"FrameOfReferenceUID": FRAME, "StudyDate": "20240131", "StudyTime": "120000", **tags}), folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a series."""
    return write_series(tmp_path / "series")


def some_labels(shape: tuple[int, ...], *values: int) -> npt.NDArray[np.uint8]:
    """Random values; the first and the last slice are empty."""
    labels = np.random.default_rng(1).choice([0, *values], shape).astype(np.uint8)
    labels[[0, -1]] = 0
    return labels


def segment(path: Path, source: Path, labels: npt.NDArray[Any], spec: LabelSpec = WITH_GAP) -> Path:
    write_labels(path, labels, read_size(source)[1], source, meaning_of(spec, "sha256:4711", "Dataset007_Liver"))
    return path


def headers(source: Path) -> list[pydicom.Dataset]:
    """Of the files of a series by their place along the normal."""
    found = [pydicom.dcmread(file) for file in source.iterdir()]
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    return sorted(found, key=lambda header: float(np.dot(normal, header.ImagePositionPatient)))


def test_others_read_the_same_masks(source: Path, tmp_path: Path) -> None:
    labels = some_labels((5, 8, 7), 1, 5)
    path = segment(tmp_path / "case.seg.dcm", source, labels)
    found = hd.seg.segread(path)
    uids = [header.SOPInstanceUID for header in headers(source)]
    masks = found.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    assert np.array_equal(masks[..., 0], labels == 1)
    assert np.array_equal(masks[..., 1], labels == 5)
    assert found.NumberOfFrames == 6  # three slices of two structures: empty ones are left out


def test_it_says_whose_it_is_and_what_it_shows(source: Path, tmp_path: Path) -> None:
    found = pydicom.dcmread(segment(tmp_path / "case.seg.dcm", source, some_labels((5, 8, 7), 1, 5)))
    one = headers(source)[0]
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert found[name].value == one[name].value, name
    referenced = found.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == one.SeriesInstanceUID
    instances = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
    assert instances == [header.SOPInstanceUID for header in headers(source)]
    liver, tumour = found.SegmentSequence
    assert (liver.SegmentNumber, liver.SegmentLabel, tumour.SegmentNumber, tumour.SegmentLabel) == (1, "Liver", 2, "Tumour")
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert tumour.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "autounet"
    assert "sha256:4711" in algorithm.AlgorithmParameters
    # The first colour of the palette, #0072B2, is L* 46, a* -3, b* -43 (computed with scikit-image).
    scaled = np.array(liver.RecommendedDisplayCIELabValue) / 65535 * (100, 255, 255) - (0, 128, 128)
    assert np.abs(scaled - _lab(0x00, 0x72, 0xB2)).max() < 0.5


def _lab(*rgb: int) -> npt.NDArray[np.float64]:
    skimage_color = pytest.importorskip("skimage.color")
    return np.asarray(skimage_color.rgb2lab(np.array(rgb, np.float64) / 255))


def test_the_same_command_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    labels = some_labels((5, 8, 7), 1, 5)
    one, two = (segment(tmp_path / f"{name}.seg.dcm", source, labels).read_bytes() for name in "ab")
    assert one == two
    other = pydicom.dcmread(segment(tmp_path / "c.seg.dcm", source, np.roll(labels, 1, axis=2)))
    assert other.SOPInstanceUID != pydicom.dcmread(tmp_path / "a.seg.dcm").SOPInstanceUID
    assert (other.ContentDate, other.ContentTime[:6]) == ("20240131", "120000")  # the source's, not today


@pytest.mark.parametrize("labels", [some_labels((5, 8, 7), 1, 5), np.zeros((5, 8, 7), np.uint8)], ids=["some", "none"])
def test_read_back_as_it_was(source: Path, tmp_path: Path, labels: npt.NDArray[np.uint8]) -> None:
    """Values with a gap, empty slices at both ends, and the series' own grid."""
    path = segment(tmp_path / "case.seg.dcm", source, labels)
    values, grid = read_labels(path)
    assert np.array_equal(values, labels)
    assert grid.differences(read_size(source)[1]) == []
    assert read_size(path) == (1, grid)


def test_overlapping_regions_are_whole_and_come_back(source: Path, tmp_path: Path) -> None:
    labels = some_labels((5, 8, 7), 1, 2, 3)
    path = segment(tmp_path / "case.seg.dcm", source, labels, REGIONS)
    uids = [header.SOPInstanceUID for header in headers(source)]
    found = hd.seg.segread(path)
    masks = found.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    assert np.array_equal(masks[..., 0], labels > 0)
    assert np.array_equal(masks[..., 1], labels > 1)
    assert found.SegmentsOverlap == "YES"
    assert np.array_equal(read_labels(path)[0], labels)


def test_names_of_any_script(source: Path, tmp_path: Path) -> None:
    spec = LabelSpec(classes=(StructureClass(name="Überfunktion 肝臓" + "x" * 80, values=(1,)),))
    found = pydicom.dcmread(segment(tmp_path / "case.seg.dcm", source, some_labels((5, 8, 7), 1), spec))
    assert found.SegmentSequence[0].SegmentLabel == ("Überfunktion 肝臓" + "x" * 80)[:64]


def test_a_patients_name_keeps_its_letters(tmp_path: Path) -> None:
    source = write_series(tmp_path / "series", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    for name in ("case.seg.dcm", "case.rtstruct.dcm"):
        assert str(pydicom.dcmread(segment(tmp_path / name, source, some_labels((5, 8, 7), 1, 5))).PatientName) == "Müller^Jörg"


def test_slices_of_a_tilted_gantry_lie_where_their_images_do(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 7), np.int16)
    slices = series(pixels, orientation=(1, 0, 0, 0, 1, 0), step=(0, 0.5, 2.5), FrameOfReferenceUID=FRAME)
    source, labels = save_all(slices, tmp_path / "series"), some_labels((4, 8, 7), 1, 5)
    labels[0] = 5
    path = segment(tmp_path / "case.seg.dcm", source, labels)
    for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        assert any(np.allclose(position, np.array(each.ImagePositionPatient, float)) for each in slices)
    values, grid = read_labels(path)
    assert np.array_equal(values, labels)
    assert np.allclose(grid.affine_xyz()[:3, 2], (0, 0.5, 2.5))


def enhanced(path: Path, order: tuple[int, ...]) -> Path:
    """A file with several frames; the frame that comes k-th lies at slice ``order[k]``."""
    dataset = image(np.zeros((8, 7), np.int16), SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", FrameOfReferenceUID=FRAME)
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = np.arange(len(order) * 56, dtype="<i2").tobytes()
    shared, measures, orientation = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness, orientation.ImageOrientationPatient = [0.7, 0.5], 2.0, [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], []
    for place in order:
        frame, position = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [3.0, 4.0, 10.0 + 2 * place]
        frame.PlanePositionSequence = [position]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    return save(dataset, path)


def test_frames_of_one_file_in_any_order(tmp_path: Path) -> None:
    source, labels = enhanced(tmp_path / "enhanced.dcm", (2, 0, 1)), np.zeros((3, 8, 7), np.uint8)
    labels[2, 1:4, 2:5] = 1
    path = segment(tmp_path / "case.seg.dcm", source, labels)
    found = pydicom.dcmread(path)
    assert found.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient == [3, 4, 14]
    derived = found.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert derived.ReferencedFrameNumber == 1  # the first frame of the source lies last
    assert np.array_equal(read_labels(path)[0], labels)


def test_an_image_without_a_place_in_space(tmp_path: Path) -> None:
    """A radiograph: no frame of reference, one image."""
    source = save(image(np.zeros((8, 7), np.int16), SOPClassUID="1.2.840.10008.5.1.4.1.1.1", PixelSpacing=[0.2, 0.2]), tmp_path / "one.dcm")
    labels = some_labels((3, 8, 7), 1, 5)[1:2]
    values, grid = read_labels(segment(tmp_path / "case.seg.dcm", source, labels))
    assert np.array_equal(values, labels)
    assert grid.differences(read_size(source)[1]) == []


def test_no_series_no_segmentation(tmp_path: Path, source: Path) -> None:
    labels, grid = np.zeros((5, 8, 7), np.uint8), read_size(source)[1]
    write_labels(tmp_path / "scan.nii.gz", labels, grid)
    with pytest.raises(ImageError, match=r"belongs to a DICOM series.*--format nii\.gz"):
        write_labels(tmp_path / "case.seg.dcm", labels, grid, tmp_path / "scan.nii.gz")
    with pytest.raises(ImageError, match="is not the series"):
        write_labels(tmp_path / "case.seg.dcm", labels[:, 1:], Grid(shape_zyx=(5, 7, 7), spacing_mm_zyx=(1, 1, 1)), source)
    assert not (tmp_path / "case.seg.dcm").exists()


def test_a_missing_library_is_named(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ImageError, match=r"pip install 'autounet\[dicom\]'"):
        segment(tmp_path / "case.seg.dcm", source, np.zeros((5, 8, 7), np.uint8))


@pytest.mark.parametrize(
    ("name", "kind", "side"),
    [
        ("liver", "10200004", None), ("kidney_left", "64033007", "Left"), ("LeftKidney", "64033007", "Left"),
        ("tumour", "108369006", None), ("left ventricle", "87878005", None), ("Oesophagus", "32849002", None),
    ],
)  # fmt: skip
def test_common_structures_have_common_codes(name: str, kind: str, side: str | None) -> None:
    found = coded(name)
    assert found.kind[:2] == (kind, "SCT")
    assert (None if found.side is None else found.side[2]) == side


def test_other_structures_have_codes_of_their_own() -> None:
    one, two = coded("membrane of cell type 7"), coded("membrane of cell type 8")
    assert one.kind[1:] == ("99AUTOUNET", "membrane of cell type 7")
    assert one.kind[0] != two.kind[0]
    assert len(one.kind[0]) <= 16


# What other programs write.


def foreign(
    path: Path, source: Path, pixels: npt.NDArray[Any], kind: str = "BINARY", names: tuple[str, ...] = ("Liver", "tumour"), **more: Any
) -> Path:
    """A segmentation by highdicom alone."""
    lesion = hd.sr.CodedConcept("52988006", "SCT", "Lesion")
    described = [
        hd.seg.SegmentDescription(number, name, hd.sr.CodedConcept("85756007", "SCT", "Tissue"), lesion, "MANUAL")
        for number, name in enumerate(names, 1)
    ]
    with_all = [header for header in headers(source)]
    for header in with_all:
        for tag in ("AccessionNumber", "PatientBirthDate", "PatientSex", "StudyID"):
            setattr(header, tag, "")
    dataset = hd.seg.Segmentation(
        with_all, pixels, kind, described, hd.UID(), 1, hd.UID(), 1, "Somebody", "Something", "1", "1", **more,
    )  # fmt: skip
    dataset.save_as(path)
    return path


CLASSES = {"background": 0, "LIVER": 3, "tumour": 4}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_by_name_on_the_images_voxels(source: Path, tmp_path: Path, kind: str) -> None:
    labels = some_labels((5, 8, 7), 1, 2)
    pixels = labels
    if kind == "FRACTIONAL":  # 0.6 counts, 0.4 does not
        pixels = np.stack([np.where(labels == 1, 0.6, 0.4), np.where(labels == 2, 0.6, 0.0)], axis=-1)
    path = foreign(tmp_path / "1-1.dcm", source, pixels, kind)
    found, grid = structures_on(source, path, CLASSES)
    assert np.array_equal(found, np.select([labels == 1, labels == 2], [3, 4]))
    assert grid == read_size(source)[1]


@pytest.mark.parametrize(("rows", "columns", "depth"), [(7, 9, 5), (3, 3, 4), (217, 181, 3)])
def test_frames_that_begin_within_a_byte(tmp_path: Path, rows: int, columns: int, depth: int) -> None:
    """Pixels are no multiple of eight: the bits of the next frame follow those of the last at once."""
    pixels = series(np.zeros((depth, rows, columns), np.int16), FrameOfReferenceUID=FRAME, StudyDate="20240131", StudyTime="120000")
    source = save_all(pixels, tmp_path / "series")
    labels = np.random.default_rng(4).integers(0, 3, (depth, rows, columns)).astype(np.uint8)
    path = foreign(tmp_path / "seg.dcm", source, labels)
    uids = [header.SOPInstanceUID for header in headers(source)]
    others = hd.seg.segread(path).get_pixels_by_source_instance(uids, combine_segments=True)
    assert np.array_equal(others, labels)
    assert np.array_equal(structures_on(source, path, {"liver": 1, "tumour": 2})[0], labels)
    assert np.array_equal(read_labels(path)[0], labels)
    own = segment(tmp_path / "own.seg.dcm", source, np.where(labels == 2, 5, labels).astype(np.uint8))
    assert np.array_equal(structures_on(source, own, {"liver": 1, "tumour": 2})[0], labels)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData[:-2]
    dataset.save_as(path)
    with pytest.raises(ImageError, match="damaged"):
        structures_on(source, path, {"liver": 1, "tumour": 2})


def test_a_folder_that_holds_the_segmentation(source: Path, tmp_path: Path) -> None:
    labels = some_labels((5, 8, 7), 1, 2)
    (tmp_path / "seg").mkdir()
    foreign(tmp_path / "seg" / "1-1", source, labels)
    (tmp_path / "seg" / "notes.txt").write_text("drawn on Monday")
    assert np.array_equal(structures_on(source, tmp_path / "seg", {"liver": 1, "tumour": 2})[0], labels)
    with pytest.raises(ImageError, match="no DICOM SEG or RTSTRUCT in this folder"):
        structures_on(source, source, {"liver": 1})


def test_frames_along_another_axis_and_backwards(source: Path, tmp_path: Path) -> None:
    """The same voxels, cut into frames along x, from the last to the first, with rows that run along z."""
    labels, grid = some_labels((5, 8, 7), 1, 2), read_size(source)[1]
    affine = grid.affine_xyz()
    pixels = labels.transpose(2, 0, 1)[::-1].copy()  # frames x from behind; rows z; columns y
    positions = [hd.PlanePositionSequence("PATIENT", affine[:3, 3] + affine[:3, 0] * x) for x in range(6, -1, -1)]
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    path = foreign(
        tmp_path / "seg.dcm", source, pixels,
        plane_positions=positions,
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [*directions[:, 1], *directions[:, 2]]),
        pixel_measures=hd.PixelMeasuresSequence([2.5, 0.7], 0.5, 0.5),
    )  # fmt: skip
    assert np.array_equal(structures_on(source, path, {"liver": 1, "tumour": 2})[0], labels)


def test_a_segmentation_of_a_part(source: Path, tmp_path: Path) -> None:
    labels, affine = some_labels((5, 8, 7), 1, 2), read_size(source)[1].affine_xyz()
    corner = affine[:3] @ (2, 3, 1, 1)
    positions = [hd.PlanePositionSequence("PATIENT", corner + affine[:3, 2] * z) for z in range(3)]
    measures = hd.PixelMeasuresSequence([0.7, 0.5], 2.5, 2.5)
    part = labels[1:4, 3:7, 2:6].copy()
    path = foreign(tmp_path / "seg.dcm", source, part, plane_positions=positions, pixel_measures=measures)
    expected = np.zeros_like(labels)
    expected[1:4, 3:7, 2:6] = labels[1:4, 3:7, 2:6]
    assert np.array_equal(structures_on(source, path, {"liver": 1, "tumour": 2})[0], expected)


@pytest.mark.parametrize(
    ("slices", "between", "thick"),
    [
        ((0, 3), 2.5, 2.5), ((0, 2, 4), 2.5, 5.0), ((1, 3, 6), 2.5, 1.0),  # the distance is said
        ((0, 3), None, 2.5), ((0, 2, 5), None, 2.5), ((0, 1, 4), None, 2.0),  # the thickness, or the frames
        ((0, 1, 2), 7.0, 2.5), ((0, 1, 3), None, None),  # said wrongly, and not at all
    ],
)  # fmt: skip
def test_slices_that_were_left_out_have_their_place(
    tmp_path: Path, slices: tuple[int, ...], between: float | None, thick: float | None
) -> None:
    """Slices are 2.5 mm apart; only some of them have a frame."""
    source, labels = write_series(tmp_path / "series", depth=7), np.zeros((7, 8, 7), np.uint8)
    labels[list(slices), 2:5, 1:4] = 1
    path = measured(foreign(tmp_path / "seg.dcm", source, labels), between, thick)
    found, grid = read_labels(path)
    assert np.array_equal(found, labels[slices[0] : slices[-1] + 1])
    assert grid.spacing_mm_zyx == pytest.approx((2.5, 0.7, 0.5), abs=1e-4)


@pytest.mark.parametrize(
    ("slices", "between", "thick", "words"),
    [
        ((0, 3), None, None, "two slices 7.5 mm apart, and no word"),
        ((0, 3), None, 2.0, "slices 7.5 mm apart and 2 mm thick, so that others may have been left out"),
        ((0, 2, 5), None, None, "slices 5, 7.5 mm apart"),
        ((0, 1, 2), 1.7, 2.5, "slices 2.5 mm apart"),
    ],
)
def test_a_distance_that_cannot_be_told_is_refused(
    tmp_path: Path, slices: tuple[int, ...], between: float | None, thick: float | None, words: str
) -> None:
    source, labels = write_series(tmp_path / "series", depth=7), np.zeros((7, 8, 7), np.uint8)
    labels[list(slices), 2:5, 1:4] = 1
    path = measured(foreign(tmp_path / "seg.dcm", source, labels), between, thick)
    with pytest.raises(ImageError, match="not the slices of one volume") as error:
        read_labels(path)
    assert words in str(error.value)


def measured(path: Path, between: float | None, thick: float | None) -> Path:
    """A segmentation that says other distances, or none."""
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for name, value in (("SpacingBetweenSlices", between), ("SliceThickness", thick)):
        if name in measures:
            del measures[name]
        if value is not None:
            setattr(measures, name, value)
    dataset.save_as(path)
    return path


def test_overlap_is_refused_or_the_later_wins(source: Path, tmp_path: Path) -> None:
    pixels = np.zeros((5, 8, 7, 2), bool)
    pixels[2, 1:5, 1:5, 0] = pixels[2, 3:7, 3:6, 1] = True
    path = foreign(tmp_path / "seg.dcm", source, pixels)
    with pytest.raises(ImageError, match="'Liver' and 'tumour' share voxels"):
        structures_on(source, path, {"Liver": 1, "tumour": 2})
    with pytest.raises(ImageError, match="share voxels"):
        read_labels(path)
    found = structures_on(source, path, {"Liver": 1, "tumour": 2}, later_wins=True)[0]
    assert np.array_equal(found, np.where(pixels[..., 1], 2, pixels[..., 0]))
    first = structures_on(source, path, {"tumour": 2, "Liver": 1}, later_wins=True)[0]
    assert np.array_equal(first, np.where(pixels[..., 0], 1, 2 * pixels[..., 1]))
    assert np.array_equal(structures_on(source, path, {"Liver": 1})[0], pixels[..., 0])  # the other is not asked for


@pytest.mark.parametrize("labels", [None, WITH_GAP], ids=["numbers", "classes"])
@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
def test_scoring_against_another_frame_of_reference_is_refused(source: Path, tmp_path: Path, labels: LabelSpec | None, ending: str) -> None:
    """The same numbers in another frame are other places."""
    other, values = write_series(tmp_path / "other", change=_elsewhere), some_labels((5, 8, 7), 1, 5)
    truth = segment(tmp_path / "truth.seg.dcm", source, values)
    here, there = segment(tmp_path / f"here{ending}", source, values), segment(tmp_path / f"there{ending}", other, values)
    assert evaluate_cases({"a": (here, truth)}, labels, Runtime(workers=0)).mean.dice == 1
    for pair in ((there, truth), *([(truth, there)] if ending == ".seg.dcm" else [])):
        with pytest.raises(DatasetError, match="another frame of reference"):
            evaluate_cases({"a": pair}, labels, Runtime(workers=0))


@pytest.mark.parametrize("other", [".nii.gz", ".seg.dcm"])
def test_another_programs_segments_are_scored_by_their_names(source: Path, tmp_path: Path, other: str) -> None:
    """Not by their numbers, which count in another order; where no name is a class's, somebody has to say what is meant."""
    labels = LabelSpec(classes=(StructureClass(name="tumour", values=(1,)), StructureClass(name="liver", values=(2,))))
    values = some_labels((5, 8, 7), 1, 2)
    ours = segment(tmp_path / f"ours{other}", source, values, labels)
    theirs = foreign(tmp_path / "theirs.seg.dcm", source, np.select([values == 2, values == 1], [1, 2]).astype(np.uint8))
    for pair in ((ours, theirs), (theirs, ours)):
        assert evaluate_cases({"a": pair}, labels, Runtime(workers=0)).mean.dice == 1
    strange = foreign(tmp_path / "strange.seg.dcm", source, values, names=("Segment_1", "Segment_2"))
    for pair in ((ours, strange), (strange, ours)):
        with pytest.raises(DatasetError, match="no structure named 'tumour' or 'liver': found Segment_1, Segment_2"):
            evaluate_cases({"a": pair}, labels, Runtime(workers=0))
        assert evaluate_cases({"a": pair}, None, Runtime(workers=0)).mean.dice == 1  # without classes numbers are compared


def test_a_class_that_is_not_there_is_told_with_what_is(source: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path / "seg.dcm", source, some_labels((5, 8, 7), 1, 2))
    with pytest.raises(ImageError, match="no structure named 'spleen': found Liver, tumour"):
        structures_on(source, path, {"liver": 1, "spleen": 2})
    assert set(np.unique(structures_on(source, path, {"liver": 1, "spleen": 2}, missing_ok=True)[0])) == {0, 1}
    with pytest.raises(ImageError, match="no structure named"):  # not one of them: a mistake in the names
        structures_on(source, path, {"spleen": 2}, missing_ok=True)


def test_another_grid_is_refused(source: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path / "seg.dcm", source, some_labels((5, 8, 7), 1, 2))
    shifted = write_series(tmp_path / "shifted", origin=(-10.2, 20.0, 30.0))
    with pytest.raises(ImageError, match=r"does not lie on the image's voxels: found a frame that is 0\.32"):
        structures_on(shifted, path, {"liver": 1})
    with pytest.raises(ImageError, match="voxels outside the image"):
        structures_on(write_series(tmp_path / "short", depth=2), path, {"liver": 1})
    with pytest.raises(ImageError, match=r"pixels of another spacing|a frame that is"):
        structures_on(write_series(tmp_path / "coarse", spacing_zyx=(2.5, 1.4, 1.0)), path, {"liver": 1})
    with pytest.raises(ImageError, match=r"slices every 2\.5 mm, where the image has one every 1\.25"):
        structures_on(write_series(tmp_path / "thin", depth=9, spacing_zyx=(1.25, 0.7, 0.5)), path, {"liver": 1})
    with pytest.raises(ImageError, match="another frame of reference"):
        structures_on(write_series(tmp_path / "other", change=_elsewhere), path, {"liver": 1})


def _elsewhere(_: int, header: pydicom.Dataset) -> None:
    header.FrameOfReferenceUID = "1.2.3"


def test_what_is_no_segmentation(source: Path, tmp_path: Path) -> None:
    one = next(source.iterdir())
    with pytest.raises(ImageError, match="holds no structures: found DICOM CT Image Storage"):
        structures_on(source, one, {"liver": 1})
    (tmp_path / "text.dcm").write_text("not DICOM at all")
    with pytest.raises(ImageError, match="damaged"):
        structures_on(source, tmp_path / "text.dcm", {"liver": 1})
    path = foreign(tmp_path / "seg.dcm", source, some_labels((5, 8, 7), 1, 2))
    (tmp_path / "cut.dcm").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ImageError, match="damaged"):
        structures_on(source, tmp_path / "cut.dcm", {"liver": 1})
    with pytest.raises(ImageError, match="not a DICOM image"):
        read_image(path)


def test_a_real_series_and_the_validator(shared: Path, tmp_path: Path) -> None:
    """dciodvfy, David Clunie's validator, finds no error in what is written for real series, nor in the contours."""
    for folder in sorted((shared / "data" / "dicom" / "Study1").iterdir())[:2]:
        grid = read_size(folder)[1]
        labels = np.zeros(grid.shape_zyx, np.uint8)
        labels[5:9, 10:30, 12:20], labels[6:8, 15:20, 14:18] = 1, 5
        for ending in (".seg.dcm", ".rtstruct.dcm"):
            path = segment(tmp_path / f"{folder.name}{ending}", folder, labels)
            _validate(path)
        assert np.array_equal(read_labels(tmp_path / f"{folder.name}.seg.dcm")[0], labels)
        classes = {"liver": 1, "tumour": 5}
        for ending in (".seg.dcm", ".rtstruct.dcm"):
            assert np.array_equal(structures_on(folder, tmp_path / f"{folder.name}{ending}", classes)[0], labels)


def _validate(path: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is not None:
        said = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def test_meaning_of_regions_that_do_not_repaint() -> None:
    """Where painting the regions in order would not make the label map again, every value is a structure of its own."""
    odd = REGIONS.model_copy(update={"paint_order": (3, 2, 1)})
    found: Meaning = meaning_of(odd)
    assert [(entry.name, entry.values) for entry in found.structures] == [(f"label {value}", (value,)) for value in (1, 2, 3)]


@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
@pytest.mark.parametrize("name", ["AccessionNumber", "StudyDate", "StudyInstanceUID", "PatientID"])
def test_a_source_whose_elements_are_of_other_kinds(tmp_path: Path, ending: str, name: str) -> None:
    """Written where it can be carried over, else refused in words."""
    folder = write_series(tmp_path / "series")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
        header[tag] = pydicom.dataelem.RawDataElement(tag, "US", 2, b"\7\0", 0, False, True)
        header.save_as(path)
    target = tmp_path / f"case{ending}"
    try:
        segment(target, folder, some_labels((5, 8, 7), 1, 5))
    except ImageError as error:
        assert "can be written for this series" in str(error)  # noqa: PT017
        assert not target.exists()
    else:
        assert target.exists()
