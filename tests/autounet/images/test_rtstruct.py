"""Contours: traced and filled exactly, written as RTSTRUCT, and those of other programs put on an image's voxels."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autounet.errors import ImageError
from autounet.images import read_labels, read_size, write_labels
from autounet.images.contours import Polygon, fill, trace
from autounet.images.meaning import meaning_of
from autounet.images.structures import structures_on
from autounet.labels import LabelSpec, StructureClass
from tests.autounet.images.dicom_writing import save_all, series

FRAME = "1.2.826.0.1.3680043.8.498.1"
LABELS = LabelSpec(classes=(StructureClass(name="Liver", values=(1,)), StructureClass(name="Tumour", values=(5,))))

RING = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], bool)


# Masks and polygons.


@settings(max_examples=60, deadline=None)
@given(mask=arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_filling_what_was_traced_gives_the_mask_back(mask: npt.NDArray[np.bool_]) -> None:
    """Noise has islands in holes in islands, corners that touch, and pixels at the border."""
    assert np.array_equal(fill(trace(mask), mask.shape), mask)


@settings(max_examples=25, deadline=None)
@given(mask=arrays(np.bool_, (9, 8), elements=st.booleans()))
def test_another_programs_filling_gives_the_mask_back(mask: npt.NDArray[np.bool_]) -> None:
    """scikit-image fills each polygon by itself, without knowing of holes: the channels are for readers like this."""
    draw = pytest.importorskip("skimage.draw")
    filled = np.zeros_like(mask)
    for polygon in trace(mask):
        filled ^= draw.polygon2mask(mask.shape, polygon[:, ::-1])
    assert np.array_equal(filled, mask)


def test_a_pixel_is_a_diamond_and_a_ring_has_a_channel() -> None:
    one = np.zeros((3, 3), bool)
    one[1, 1] = True
    assert {tuple(corner) for corner in trace(one)[0].tolist()} == {(0.5, 1), (1.5, 1), (1, 0.5), (1, 1.5)}
    (ring,) = trace(RING)
    outside, inside = 3 * 3 - 4 / 8, 1 / 2  # areas in pixels: each corner of the outline is cut off by an eighth; the hole is a diamond
    assert abs(_area(ring)) == pytest.approx(outside - inside)
    steps = {tuple(sorted((tuple(a), tuple(b)))) for a, b in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True)}
    assert len(steps) == len(ring) - 1  # one way is walked twice: the channel


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_straight_edges_have_corners_at_their_ends_only() -> None:
    block = np.zeros((20, 30), bool)
    block[2:18, 3:28] = True
    assert len(trace(block)[0]) == 8


def test_a_contour_of_any_length_is_read_by_others(tmp_path: Path) -> None:
    """A comb: one outline of thousands of corners, more text than a number list with an explicit type may have (65,534 characters)."""
    comb = np.zeros((1, 130, 83), np.uint8)
    for row in range(1, 129):  # teeth of jagged sides
        comb[0, row, 1 + row % 2 : 81 : 4] = comb[0, row, 2 + row % 2 : 82 : 4] = 1
    comb[0, 1, 1:82] = 1
    planes = series(np.zeros((1, 130, 83), np.int16), FrameOfReferenceUID=FRAME)
    folder = save_all(planes, tmp_path / "series")
    write_labels(tmp_path / "a.rtstruct.dcm", comb, read_size(folder)[1], like=folder, meaning=meaning_of(LABELS))
    contours = pydicom.dcmread(tmp_path / "a.rtstruct.dcm").ROIContourSequence[0].ContourSequence
    longest = max(contours, key=lambda contour: contour.NumberOfContourPoints)
    assert len(longest.ContourData) == 3 * longest.NumberOfContourPoints
    assert len("\\".join(str(value) for value in longest.ContourData)) > 65_534


def test_centres_on_an_edge() -> None:
    """A square from (1, 1) to (3, 3): the centres on its left and upper edge are inside, those on the others are not."""
    square = np.array([[1, 1], [3, 1], [3, 3], [1, 3]], float)
    assert np.argwhere(fill([square], (5, 5))).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert np.array_equal(fill([square + 10], (5, 5)), np.zeros((5, 5), bool))
    assert fill([square * 100 - 150], (5, 5)).all()  # reaches beyond the image on all sides


# Files.


def write_series(folder: Path, depth: int = 5, **tags: Any) -> Path:
    pixels = np.arange(depth * 56, dtype=np.int16).reshape(depth, 8, 7)
    return save_all(series(pixels, **{"FrameOfReferenceUID": FRAME, "StudyDate": "20240131", "StudyTime": "120000", **tags}), folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a CT series of 5×8×7 voxels, along no axis of the patient."""
    return write_series(tmp_path / "series")


def some_labels(shape: tuple[int, ...] = (5, 8, 7)) -> npt.NDArray[np.uint8]:
    labels = np.random.default_rng(1).choice([0, 1, 5], shape).astype(np.uint8)
    labels[[0, -1]] = 0
    return labels


def contour(path: Path, source: Path, labels: npt.NDArray[Any]) -> Path:
    write_labels(path, labels, read_size(source)[1], source, meaning_of(LABELS, "sha256:4711", "Dataset007_Liver"))
    return path


def test_written_and_put_back_on_the_image(source: Path, tmp_path: Path) -> None:
    labels = some_labels()
    path = contour(tmp_path / "case.rtstruct.dcm", source, labels)
    found, grid = structures_on(source, path, {"liver": 1, "tumour": 5})
    assert np.array_equal(found, labels)
    assert grid == read_size(source)[1]
    assert path.read_bytes() == contour(tmp_path / "again.rtstruct.dcm", source, labels).read_bytes()


def test_on_slices_of_a_tilted_gantry(tmp_path: Path) -> None:
    pixels = np.zeros((5, 8, 7), np.int16)
    slices = series(pixels, orientation=(1, 0, 0, 0, 1, 0), step=(0, 0.5, 2.5), FrameOfReferenceUID=FRAME)
    source, labels = save_all(slices, tmp_path / "series"), some_labels()
    path = contour(tmp_path / "case.rtstruct.dcm", source, labels)
    assert np.array_equal(structures_on(source, path, {"liver": 1, "tumour": 5})[0], labels)


def test_what_the_file_says(source: Path, tmp_path: Path) -> None:
    labels = np.zeros((5, 8, 7), np.uint8)
    labels[2, 3, 4] = 1
    found = pydicom.dcmread(contour(tmp_path / "case.rtstruct.dcm", source, labels))
    by_uid = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, source.iterdir())}
    frame = found.ReferencedFrameOfReferenceSequence[0]
    referenced = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    assert {image.ReferencedSOPInstanceUID for image in referenced} == set(by_uid)
    liver, tumour = found.StructureSetROISequence
    assert (liver.ROIName, liver.ROIGenerationAlgorithm, tumour.ROIName) == ("Liver", "AUTOMATIC", "Tumour")
    drawn, empty = found.ROIContourSequence
    assert drawn.ROIDisplayColor == [0x00, 0x72, 0xB2]
    assert "ContourSequence" not in empty  # a structure that is not there is a region without contours
    (outline,) = drawn.ContourSequence
    assert outline.ContourGeometricType == "CLOSED_PLANAR"
    header = by_uid[outline.ContourImageSequence[0].ReferencedSOPInstanceUID]
    corners = np.array(outline.ContourData, float).reshape(-1, 3)
    across, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    centre = np.array(header.ImagePositionPatient, float) + 4 * 0.5 * across + 3 * 0.7 * down
    assert np.allclose(corners.mean(axis=0), centre, atol=1e-6)  # pixel (row 3, column 4) of its own slice
    assert np.allclose(np.linalg.norm(corners - centre, axis=1), [0.25, 0.35, 0.25, 0.35]) or np.allclose(
        np.linalg.norm(corners - centre, axis=1), [0.35, 0.25, 0.35, 0.25]
    )
    assert found.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0].CodeMeaning == "Liver"


def test_contours_alone_are_no_label_map(source: Path, tmp_path: Path) -> None:
    path = contour(tmp_path / "case.rtstruct.dcm", source, some_labels())
    with pytest.raises(ImageError, match="contours have no voxels of their own"):
        read_labels(path)


# What other programs write.

Drawing = tuple[float, Sequence[tuple[float, float]]]
"""Slice (need not be whole) and corners (x, y) in voxels."""


def foreign(
    path: Path, source: Path, drawings: Sequence[Drawing], kind: str = "CLOSED_PLANAR", name: str = "GTV 1", tilt: float = 0
) -> Path:
    """A structure set with one region; ``tilt`` lifts its corners by so many slices per pixel along x."""
    affine = read_size(source)[1].affine_xyz()
    dataset = pydicom.dcmread(contour(path.with_name("template.rtstruct.dcm"), source, some_labels()))
    dataset.StructureSetROISequence = dataset.StructureSetROISequence[:1]
    region = dataset.StructureSetROISequence[0]
    region.ROIName = name
    for tag in [element.tag for element in region if element.tag.is_private]:
        del region[tag]
    dataset.ROIContourSequence = dataset.ROIContourSequence[:1]
    contours = []
    for z, corners in drawings:
        item = pydicom.Dataset()
        item.ContourGeometricType, item.NumberOfContourPoints = kind, len(corners)
        world = np.array([affine[:3] @ (x, y, z + tilt * x, 1) for x, y in corners])
        item.ContourData = [f"{value:.4f}" for value in world.ravel()]
        contours.append(item)
    dataset.ROIContourSequence[0].ContourSequence = contours
    dataset.save_as(path)
    return path


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high)]


def drawn(source: Path, path: Path) -> npt.NDArray[Any]:
    return structures_on(source, path, {"gtv_1": 1})[0]


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSED_PLANAR_XOR"])
def test_a_hole_may_be_a_contour_of_its_own(source: Path, tmp_path: Path, kind: str) -> None:
    path = foreign(tmp_path / "rt.dcm", source, [(2, square(0.5, 5.5)), (2, square(1.5, 4.5)), (2, square(2.5, 3.5))], kind)
    expected = np.zeros((5, 8, 7), np.uint8)
    expected[2, 1:6, 1:6], expected[2, 2:5, 2:5], expected[2, 3, 3] = 1, 0, 1
    assert np.array_equal(drawn(source, path), expected)


def test_a_contour_that_is_stored_twice_counts_once(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By the even-odd rule it would cut itself out: as it was, begun at another corner, run backwards, closed by its first corner."""
    once = square(0.5, 4.5)
    expected = np.zeros((5, 8, 7), np.uint8)
    expected[2, 1:5, 1:5] = 1
    for again in (once, once[2:] + once[:2], once[::-1], [*once, once[0]]):
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(drawn(source, foreign(tmp_path / "rt.dcm", source, [(2, once), (2, again)])), expected)
        assert "stored twice in slice 3" in caplog.text
        caplog.clear()
    hole = square(1.5, 2.5)
    expected[2, 2, 2] = 0
    assert np.array_equal(drawn(source, foreign(tmp_path / "rt.dcm", source, [(2, once), (2, hole), (2, once), (2, hole)])), expected)


def test_regions_of_several_frames_of_reference(source: Path, tmp_path: Path) -> None:
    """What counts is the frame of the region that is asked for: the others may have been drawn on another image."""
    path = foreign(tmp_path / "rt.dcm", source, [(2, square(0.5, 4.5))])
    dataset = pydicom.dcmread(path)
    for number, (name, frame) in enumerate([("GTV", "1.2.3"), ("liver", "1.2.3"), ("spleen", "1.2.4")], 2):
        region, drawing = (copy.deepcopy(items[0]) for items in (dataset.StructureSetROISequence, dataset.ROIContourSequence))
        region.ROINumber = drawing.ReferencedROINumber = number
        region.ROIName, region.ReferencedFrameOfReferenceUID = name, frame
        dataset.StructureSetROISequence.append(region)
        dataset.ROIContourSequence.append(drawing)
    dataset.save_as(path)
    assert structures_on(source, path, {"GTV 1": 1})[0].sum() == 16
    for classes, missing_ok in (({"liver": 1}, False), ({"GTV 1": 1, "GTV": 2}, False), ({"GTV": 2}, True)):
        with pytest.raises(ImageError, match=rf"another frame of reference.* in 1\.2\.3, expected {FRAME}"):
            structures_on(source, path, classes, missing_ok=missing_ok)
    nowhere = tmp_path / "converted.nii.gz"  # knows no frame: regions of one are taken at their word, of several not
    write_labels(nowhere, some_labels(), read_size(source)[1])
    assert (structures_on(nowhere, path, {"GTV": 1, "liver": 2}, later_wins=True)[0] == 2).sum() == 16
    with pytest.raises(ImageError, match="another frame of reference"):
        structures_on(nowhere, path, {"liver": 1, "spleen": 1})


def test_a_hole_may_be_reached_by_a_channel(source: Path, tmp_path: Path) -> None:
    keyhole = [
        (0.5, 0.5),
        (5.5, 0.5),
        (5.5, 5.5),
        (0.5, 5.5),
        (0.5, 3.0),
        (1.5, 3.0),
        (1.5, 4.5),
        (4.5, 4.5),
        (4.5, 1.5),
        (1.5, 1.5),
        (1.5, 3.0),
        (0.5, 3.0),
    ]
    expected = np.zeros((5, 8, 7), np.uint8)
    expected[2, 1:6, 1:6], expected[2, 2:5, 2:5] = 1, 0
    assert np.array_equal(drawn(source, foreign(tmp_path / "rt.dcm", source, [(2, keyhole)])), expected)


def test_a_contour_between_slices_belongs_to_the_nearest(source: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path / "rt.dcm", source, [(2.3, square(1.5, 4.5))])
    assert np.argwhere(drawn(source, path).any(axis=(1, 2))).tolist() == [[2]]


def test_contours_of_two_depths_on_one_slice_are_refused(source: Path, tmp_path: Path) -> None:
    """Drawn on thinner slices: by the even-odd rule one would cut the other out."""
    path = foreign(tmp_path / "rt.dcm", source, [(1.75, square(1.5, 4.5)), (2.25, square(1.5, 4.5))])
    with pytest.raises(ImageError, match=r"region 'GTV 1' cannot be put on the image: found contours at slices 2\.75 and 3\.25"):
        drawn(source, path)


def test_contours_in_other_planes_or_places_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"found a contour from slice 3\.3 to 3\.9"):
        drawn(source, foreign(tmp_path / "tilted.dcm", source, [(2, square(1.5, 4.5))], tilt=0.2))
    with pytest.raises(ImageError, match="a contour at slice 8 of 5"):
        drawn(source, foreign(tmp_path / "above.dcm", source, [(7, square(1.5, 4.5))]))
    with pytest.raises(ImageError, match="found 1 POINT, expected closed contours"):
        drawn(source, foreign(tmp_path / "point.dcm", source, [(2, [(1, 1)])], "POINT"))


def test_slices_left_out_and_contours_that_cross_are_told(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = foreign(
        tmp_path / "rt.dcm", source, [(0, square(1.5, 4.5)), (2, square(1.5, 4.5)), (4, square(1.5, 4.5)), (4, square(3.5, 6.5))]
    )
    with caplog.at_level(logging.WARNING):
        assert drawn(source, path).any(axis=(1, 2)).tolist() == [True, False, True, False, True]
    assert "2 slices between its first and last have no contour" in caplog.text
    assert "contours of slice 5 cross each other" in caplog.text


def test_damaged_coordinates(source: Path, tmp_path: Path) -> None:
    path = foreign(tmp_path / "rt.dcm", source, [(2, square(1.5, 4.5))])
    dataset = pydicom.dcmread(path)
    item = dataset.ROIContourSequence[0].ContourSequence[0]
    item.ContourData = list(item.ContourData)[:-1]
    dataset.save_as(path)
    with pytest.raises(ImageError, match="damaged"):
        drawn(source, path)
