"""Writing DICOM Segmentation objects, with highdicom: one binary segment per structure, on the slices of the source series."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import atomic_path
from autounet.geometry import Grid
from autounet.images import dicom_out
from autounet.images.codes import coded, short
from autounet.images.meaning import Meaning, Structure
from autounet.labels import IntArray


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None, meaning: Meaning) -> None:
    """Writes a label map as a segmentation of its DICOM series.

    Segments are numbered from 1 in the order of the structures, as the standard demands; a label value that is another number is noted
    with the segment. Frames without a voxel of their segment are left out; the number and place of all slices are noted, so that the
    label map can be read back as it was. All references, the patient, the study and the times are the source's.

    Raises:
        ImageError: ``like`` is no DICOM series or another one, or lacks what a segmentation needs.
        ArtefactError: The file cannot be written.
    """
    headers = dicom_out.source_of(path, like, grid)
    hd = dicom_out.need("highdicom")
    content = dicom_out.written(like, "segmentation", lambda: _segmentation(hd, headers, labels_zyx, grid, meaning))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _segmentation(hd: Any, headers: list[Any], labels_zyx: IntArray, grid: Grid, meaning: Meaning) -> Any:
    source, series = headers[0], str(headers[0].SeriesInstanceUID)
    spatial = grid.ndim == 3
    if not spatial:
        for header in headers:
            header.pop("FrameOfReferenceUID", None)
    for header in headers if spatial else ():
        if not header.get("FrameOfReferenceUID"):  # some anonymizers take it away; a segmentation must have one
            header.FrameOfReferenceUID = dicom_out.uid("frame of reference", series)
    frames = dicom_out.slice_frames(headers, grid)
    identity = f"{meaning.model_dump_json()} {dicom_out.version()}"
    dataset = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=_pixels(labels_zyx, meaning),
        segmentation_type="BINARY",
        segment_descriptions=[_described(hd, number, entry, meaning) for number, entry in enumerate(meaning.structures, 1)],
        series_instance_uid=dicom_out.uid("SEG series", series, identity),
        series_number=_series_number(source),
        sop_instance_uid=dicom_out.content_uid("SEG", series, labels_zyx, identity),
        instance_number=1,
        manufacturer=dicom_out.MAKER,
        manufacturer_model_name=dicom_out.MAKER,
        software_versions=dicom_out.version(),
        device_serial_number="1",
        pixel_measures=_measures(hd, source, grid) if spatial else None,
        plane_positions=_positions(hd, frames) if spatial and frames[0][1] is not None else None,
        content_label="SEGMENTATION",
        content_description=short(f"{dicom_out.MAKER} {meaning.dataset}", 64),
        series_description=short(f"{dicom_out.MAKER} {meaning.dataset}", 64),
        specific_character_set="ISO_IR 192",
    )
    _settle(dataset, source)
    dicom_out.note_grid(dataset, grid)
    if meaning.overlapping:
        dicom_out.note_layers(dataset)
    for item, entry in zip(dataset.SegmentSequence, meaning.structures, strict=True):
        dicom_out.note_value(item, entry.value)
    return dataset


def _pixels(labels_zyx: IntArray, meaning: Meaning) -> npt.NDArray[Any]:
    """Segment numbers (z, y, x) or, of structures that overlap, masks (z, y, x, segment)."""
    if meaning.overlapping:
        return np.stack([entry.mask(labels_zyx) for entry in meaning.structures], axis=-1)
    numbers = np.zeros(labels_zyx.shape, np.min_scalar_type(len(meaning.structures)))
    for number, entry in enumerate(meaning.structures, 1):
        numbers[labels_zyx == entry.value] = number
    return numbers


def _described(hd: Any, number: int, entry: Structure, meaning: Meaning) -> Any:
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    what = coded(entry.name)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=dicom_out.MAKER,
        family=codes.DCM.ArtificialIntelligence,
        version=dicom_out.version(),
        parameters={"model": meaning.model, "dataset": short(meaning.dataset, 64)} if meaning.model else None,
    )
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=short(entry.name, 64),
        segmented_property_category=Code(*what.category),
        segmented_property_type=Code(*what.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*entry.rgb),
    )
    if what.side is not None:
        side = hd.sr.CodedConcept(*what.side)
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return described


def _measures(hd: Any, source: Any, grid: Grid) -> Any:
    """Pixel spacing as the source has it, and the distance between slices along their normal."""
    affine = grid.affine_xyz()[:3, :3]
    normal = np.cross(affine[:, 0], affine[:, 1])
    between = abs(float(affine[:, 2] @ normal / np.linalg.norm(normal)))
    thickness = source.get("SliceThickness")
    spacing = [float(value) for value in source.PixelSpacing] if source.get("PixelSpacing") else list(grid.spacing_mm_zyx[1:])
    return hd.PixelMeasuresSequence(
        pixel_spacing=spacing,
        slice_thickness=float(thickness) if thickness else round(between, 6),
        spacing_between_slices=round(between, 6),
    )


def _positions(hd: Any, frames: dicom_out.Slices) -> list[Any]:
    """Of a multi-frame source, whose frames may come in another order than slices do, or be more than there are slices."""
    return [hd.PlanePositionSequence("PATIENT", dicom_out.position_of(header, frame)) for header, frame in frames]


def _series_number(source: Any) -> int:
    return min(int(source.get("SeriesNumber") or 0) * 100 + 1, 2**31 - 1)


def _settle(dataset: Any, source: Any) -> None:
    """Replaces what differs from run to run: times by the source's, random identifiers by digests."""
    date, time = dicom_out.date_and_time(source)
    dataset.ContentDate = dataset.InstanceCreationDate = dataset.SeriesDate = date
    dataset.ContentTime = dataset.InstanceCreationTime = dataset.SeriesTime = time
    for item in dataset.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in item:
            item.ContributionDateTime = date + time
    organization = dicom_out.uid("dimensions", str(dataset.SOPInstanceUID))
    for item in [*(dataset.get("DimensionOrganizationSequence") or []), *(dataset.get("DimensionIndexSequence") or [])]:
        item.DimensionOrganizationUID = organization
