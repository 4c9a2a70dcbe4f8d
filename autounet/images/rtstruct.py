"""Writing RTSTRUCT, with pydicom: per structure and slice closed contours, that fill to exactly the mask they were traced from."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import atomic_path
from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import dicom_out
from autounet.images.codes import coded, short
from autounet.images.contours import trace
from autounet.images.meaning import Meaning, Structure
from autounet.labels import IntArray

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP class of the reference to a study (retired, and still what the standard asks for here)."""


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None, meaning: Meaning) -> None:
    """Writes a label map as a structure set of its DICOM series.

    Contours run halfway between voxels inside and outside. Islands are contours of their own; a hole is joined to its outline by a channel
    of no width that is walked twice, as the standard has it and all readers know (CLOSED_PLANAR_XOR is younger and known to few). A
    structure without a voxel is a region of interest without contours.

    Raises:
        ImageError: ``like`` is no DICOM series or another one, or has no place in space.
        ArtefactError: The file cannot be written.
    """
    headers = dicom_out.source_of(path, like, grid)
    source = headers[0]
    if not source.get("FrameOfReferenceUID"):
        raise ImageError(
            f"{like}: contours need a place in space",
            found="a series without a frame of reference",
            remedy="choose another format, such as --format nii.gz",
        )
    content = dicom_out.written(like, "RTSTRUCT", lambda: _structure_set(headers, labels_zyx, grid, meaning))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _structure_set(headers: list[Any], labels_zyx: IntArray, grid: Grid, meaning: Meaning) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian

    source, frames = headers[0], dicom_out.slice_frames(headers, grid)
    series, identity = str(source.SeriesInstanceUID), f"{meaning.model_dump_json()} {dicom_out.version()}"
    dataset = Dataset()
    for name in dicom_out.PATIENT_AND_STUDY:
        if name in source:
            setattr(dataset, name, source[name].value)
    # After the patient's name was decoded as the source wrote it.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    date, time = dicom_out.date_and_time(source)
    dataset.InstanceCreationDate = dataset.StructureSetDate = dataset.SeriesDate = date
    dataset.InstanceCreationTime = dataset.StructureSetTime = dataset.SeriesTime = time
    dataset.SOPClassUID = RTSTRUCT
    dataset.SOPInstanceUID = dicom_out.content_uid("RTSTRUCT", series, labels_zyx, identity)
    dataset.SeriesInstanceUID = dicom_out.uid("RTSTRUCT series", series, identity)
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "RTSTRUCT", _series_number(source), 1
    dataset.Manufacturer = dataset.ManufacturerModelName = dicom_out.MAKER
    dataset.SoftwareVersions, dataset.OperatorsName = dicom_out.version(), ""
    dataset.SeriesDescription = short(f"{dicom_out.MAKER} {meaning.dataset}", 64)
    dataset.StructureSetLabel, dataset.ApprovalStatus = short(meaning.dataset or dicom_out.MAKER, 16), "UNAPPROVED"
    if meaning.model:
        dataset.StructureSetDescription = short(f"predicted by {dicom_out.MAKER} {dicom_out.version()}, model {meaning.model}", 1024)
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = source.FrameOfReferenceUID, ""
    dataset.ReferencedFrameOfReferenceSequence = [_referenced(source, frames)]
    numbered = list(enumerate(meaning.structures, 1))
    dataset.StructureSetROISequence = [_region(number, entry, source, meaning) for number, entry in numbered]
    dataset.ROIContourSequence = [_contours(number, entry, labels_zyx, grid, frames) for number, entry in numbered]
    dataset.RTROIObservationsSequence = [_observation(number, entry) for number, entry in numbered]
    if meaning.overlapping:
        dicom_out.note_layers(dataset)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    # With explicit types a contour of more than 65,534 characters, some 2000 corners, would have to be of unknown type.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def _referenced(source: Any, frames: dicom_out.Slices) -> Any:
    """The frame of reference, study, series and images that the contours were drawn on."""
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ContourImageSequence = [_image(*frame) for frame in frames]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, source.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(header: Any, frame: int | None) -> Any:
    from pydicom.dataset import Dataset

    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frame is not None:
        image.ReferencedFrameNumber = frame
    return image


def _region(number: int, entry: Structure, source: Any, meaning: Meaning) -> Any:
    from pydicom.dataset import Dataset

    region = Dataset()
    region.ROINumber, region.ROIName = number, short(entry.name, 64)
    region.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = short(f"{dicom_out.MAKER} {dicom_out.version()} {meaning.dataset}", 64)
    dicom_out.note_value(region, entry.value)
    return region


def _contours(number: int, entry: Structure, labels_zyx: IntArray, grid: Grid, frames: dicom_out.Slices) -> Any:
    from pydicom.dataset import Dataset

    drawn = Dataset()
    drawn.ROIDisplayColor = list(entry.rgb)
    drawn.ReferencedROINumber = number
    affine = grid.affine_xyz()
    contours: list[Any] = []
    for z, plane in enumerate(labels_zyx):
        for polygon in trace(entry.mask(plane)):
            corners = polygon @ affine[:3, :2].T + affine[:3, 2] * z + affine[:3, 3]
            contour = Dataset()
            contour.ContourImageSequence = [_image(*frames[z])]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(corners)
            contour.ContourNumber = len(contours) + 1
            contour.ContourData = _decimals(corners)
            contours.append(contour)
    if contours:
        drawn.ContourSequence = contours
    return drawn


def _decimals(corners: npt.NDArray[np.float64]) -> list[str]:
    """Coordinates in at most the 16 characters that DICOM's decimal strings have: nine digits are far more than a voxel needs."""
    return [f"{value:.9g}" for value in (corners + 0.0).ravel().tolist()]


def _observation(number: int, entry: Structure) -> Any:
    from pydicom.dataset import Dataset

    what = coded(entry.name)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = what.kind
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIIdentificationCodeSequence = [code]
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    return observation


def _series_number(source: Any) -> int:
    return min(int(source.get("SeriesNumber") or 0) * 100 + 2, 2**31 - 1)
