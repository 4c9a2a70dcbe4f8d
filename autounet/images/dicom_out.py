"""What DICOM objects made from an image have in common: the patient and study of their source, unique identifiers, times, own notes.

Everything is taken from the source or computed from the content, so that the same label map of the same series gives the same bytes:
identifiers are digests, and the times are the source's.
"""

import copy
import hashlib
import importlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.image_names import DICOM, image_format
from autounet.images.dicom_frames import frame_count

MAKER = "autounet"

GROUP, CREATOR = 0x0099, "AUTOUNET"
"""Private elements: what the formats have no place for, and other readers pass over."""

SLICES, AFFINE, VALUE, LAYERED = 0x01, 0x02, 0x03, 0x04
"""Number of slices; voxels → mm, three rows; a structure's label value; that later structures lie on top of earlier ones."""

PATIENT_AND_STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "PatientName", "PatientID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "StudyInstanceUID", "StudyID"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"),
)
"""What is carried over where the source has it."""

MUST_BE_THERE = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "StudyID",
)
"""May be empty, but not be missing."""


Slices = list[tuple[Any, int | None]]
"""Of every slice the header and, of a multi-frame file, the frame's number from 1."""


def need(name: str) -> Any:
    """A library of the extra for DICOM. Raises ImageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImageError(
            f"DICOM needs the package {name}", found="it is not installed", remedy="install it: pip install 'autounet[dicom]'"
        ) from None


def version() -> str:
    """This program's version, from the package's front door, which stands above this room and is not imported by it."""
    return str(importlib.import_module(MAKER).__version__)


def frame_of_reference(image_path: Path) -> str | None:
    """The frame of reference of a DICOM image; None for other formats, which know none. Raises ImageError."""
    if image_format(image_path) != DICOM:
        return None
    from autounet.images.dicom_series import source_headers

    frame = source_headers(image_path)[0].get("FrameOfReferenceUID")
    return None if not frame else str(frame)


def source_of(path: Path, like: Path | None, grid: Grid) -> list[Any]:
    """The headers of the series that a label map belongs to, in the order of its slices (one of a multi-frame file).

    What a header must have and may leave empty is added where it is missing.

    Args:
        path: To be written, for messages.
        like: The series.
        grid: Of the label map.

    Raises:
        ImageError: There is no series, or it is another one than the label map's.
    """
    need("highdicom")
    if like is None or image_format(like) != DICOM:
        raise ImageError(
            f"{path.name}: a DICOM segmentation belongs to a DICOM series",
            found="no image" if like is None else f"an image of another format ({like.name})",
            remedy="predict from the folder of the DICOM series, or choose another format, such as --format nii.gz",
        )
    from autounet.images.dicom_series import source_headers

    headers = [copy.copy(header) for header in source_headers(like)]
    sizes = {(int(header.Rows), int(header.Columns)) for header in headers}
    frames = frame_count(headers[0]) if len(headers) == 1 else len(headers)
    if sizes != {grid.shape_zyx[1:]} or frames < grid.shape_zyx[0]:
        shown = ", ".join(f"{rows}×{columns}" for rows, columns in sorted(sizes))
        raise ImageError(f"{like}: is not the series of the label map", found=f"{frames} slices of {shown}", expected=grid.shape_zyx)
    for header in headers:
        for name in MUST_BE_THERE:
            if name not in header:
                setattr(header, name, "")
        if not header.get("StudyInstanceUID"):
            header.pop("StudyInstanceUID", None)  # with the kind of value that it may have had
            header.StudyInstanceUID = uid("study", str(header.SeriesInstanceUID))
    return headers


def written(like: Path | None, what: str, make: Callable[[], Any]) -> bytes:
    """A DICOM file of structures as bytes; what it takes over from its series' headers may be anything.

    Raises:
        ImageError: It cannot be taken over.
    """
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sources that are not quite as the standard has them
            make().save_as(stream, enforce_file_format=True)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # pydicom and highdicom raise many kinds
        raise ImageError(
            f"{like}: no {what} can be written for this series",
            found=str(error).split("\n")[0][:200],
            remedy="choose another format, such as --format nii.gz",
        ) from error
    return stream.getvalue()


def slice_frames(headers: Sequence[Any], grid: Grid) -> Slices:
    """For every slice of the grid its header and, of a multi-frame file, the number of its frame from 1.

    Raises:
        ImageError: A slice lies on none of the frames.
    """
    if not headers[0].get("NumberOfFrames") or "PerFrameFunctionalGroupsSequence" not in headers[0]:
        return [(header, None) for header in headers]
    positions = np.array([position_of(headers[0], frame) for frame in range(1, int(headers[0].NumberOfFrames) + 1)])
    step = grid.affine_xyz()[:3, 2]
    found: Slices = []
    for index in range(grid.shape_zyx[0]):
        off = np.linalg.norm(positions - (np.array(grid.origin_mm_xyz) + index * step), axis=1)
        if off.min() > 0.1 * np.linalg.norm(step):
            raise ImageError("the label map's slices are not the frames of its image", found=f"{off.min():.3g} mm between them")
        found.append((headers[0], int(off.argmin()) + 1))
    return found


def position_of(header: Any, frame: int | None) -> npt.NDArray[np.float64]:
    """Centre of the first pixel of a slice, x, y, z in mm."""
    if frame is None:
        return np.array([float(value) for value in header.ImagePositionPatient])
    own = header.PerFrameFunctionalGroupsSequence[frame - 1]
    group = own.get("PlanePositionSequence") or header.SharedFunctionalGroupsSequence[0].PlanePositionSequence
    return np.array([float(value) for value in group[0].ImagePositionPatient])


def uid(*parts: str) -> str:
    """An identifier below 2.25 (ISO/IEC 9834-8) that is a digest of its parts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def content_uid(kind: str, series: str, labels_zyx: npt.NDArray[Any], meaning: str) -> str:
    """The identifier of an object of this kind, with this content, that belongs to this series."""
    return uid(kind, series, meaning, str(labels_zyx.shape), hashlib.sha256(np.ascontiguousarray(labels_zyx, "<u4").data).hexdigest())


def date_and_time(header: Any) -> tuple[str, str]:
    """When the source was made, as DICOM writes it; the content's, else the acquisition's, the series' or the study's."""
    for kind in ("Content", "Acquisition", "Series", "Study"):
        date = str(header.get(f"{kind}Date") or "")
        if len(date) == 8 and date.isdigit():
            return date, str(header.get(f"{kind}Time") or "000000")
    return "19000101", "000000"


def note_grid(dataset: Any, grid: Grid) -> None:
    """Notes the source's grid, of which frames without any structure are left out."""
    block = dataset.private_block(GROUP, CREATOR, create=True)
    block.add_new(SLICES, "US", grid.shape_zyx[0])
    block.add_new(AFFINE, "FD", grid.affine_xyz()[:3].ravel().tolist())


def noted_grid(dataset: Any) -> tuple[npt.NDArray[np.float64], int] | None:
    """Voxels (x, y, z, 1) → mm, and the number of slices, as ``note_grid`` wrote them; None where it did not."""
    block = _block(dataset)
    if block is None or SLICES not in block or AFFINE not in block:
        return None
    affine, slices = _numbers(block[AFFINE], "<f8"), _numbers(block[SLICES], "<u2")
    return (affine.reshape(3, 4), int(slices[0])) if (affine.size, slices.size) == (12, 1) else None


def note_value(item: Any, value: int) -> None:
    """Notes the label value of a structure."""
    item.private_block(GROUP, CREATOR, create=True).add_new(VALUE, "UL", value)


def note_layers(dataset: Any) -> None:
    """Notes that later structures lie on top of earlier ones."""
    dataset.private_block(GROUP, CREATOR, create=True).add_new(LAYERED, "US", 1)


def noted_values(items: Mapping[int, Any]) -> dict[int, int] | None:
    """The label value of every structure by its number; None where they were not noted."""
    blocks = {number: _block(item) for number, item in items.items()}
    if not all(block is not None and VALUE in block for block in blocks.values()):
        return None
    values = {number: _numbers(block[VALUE], "<u4") for number, block in blocks.items()}
    return {number: int(value[0]) for number, value in values.items()} if all(value.size == 1 for value in values.values()) else None


def noted_layers(dataset: Any) -> bool:
    """Whether it was noted that later structures lie on top."""
    block = _block(dataset)
    return block is not None and LAYERED in block


def _numbers(element: Any, dtype: str) -> npt.NDArray[Any]:
    """Values of a private element; as bytes where the file does not say its kind (implicit value representation)."""
    value = element.value
    return np.frombuffer(value, dtype) if isinstance(value, bytes) else np.atleast_1d(np.asarray(value, dtype))


def _block(dataset: Any) -> Any:
    try:
        return dataset.private_block(GROUP, CREATOR)
    except KeyError:
        return None
