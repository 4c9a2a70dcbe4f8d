"""What the headers of DICOM say of each frame: where it lies, how its numbers become intensities, which of several volumes it is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autounet.errors import ImageError
from autounet.images.dicom_files import Place
from autounet.images.stored import DEFLATE_MAX_RATIO, damaged

NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "a radiotherapy structure set",
    "1.2.840.10008.5.1.4.1.1.104.1": "an encapsulated PDF",
    "1.2.840.10008.1.3.10": "a DICOMDIR",
}
"""SOP classes (PS3.4, B.5) that are passed over among images, of which some have pixels; the rest of what has none needs no name."""

SEPARATORS = ("TemporalPositionIdentifier", "TemporalPositionIndex", "DiffusionBValue", "EchoTime", "EchoNumbers")
"""Attributes that can tell the volumes of one series from each other, each with numbers in a meaningful order."""

HINTS = ("AcquisitionNumber", "TriggerTime", "ImageType")
"""Attributes that may also differ between them, which a message names."""


DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax: the whole file behind its first header is deflated."""

MOST_FRAMES = 2**15
"""Of one file; the longest volumes have a few thousand."""

ABSURD = 1e12
"""No place, distance or scale in a header is so large."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice: a file, or one frame of a file of several."""

    place: Place
    number: int
    """From 0 on, in its file."""
    instance: str
    """SOP Instance UID."""
    shape_yx: tuple[int, int]
    samples: int
    """Colours of a pixel, after a palette is applied."""
    stored_bytes: int
    """Of its pixels, where they are not compressed."""
    localizer: bool
    position_mm_xyz: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    """Directions of a row (growing x) and of a column (growing y), patient axes left, posterior, superior."""
    spacing_mm_yx: tuple[float, ...] | None
    thickness_mm: float | None
    slope: float
    intercept: float
    marks: Mapping[str, Any]
    """Of ``SEPARATORS`` and ``HINTS``, those that the header has."""


def is_image(header: Any) -> bool:
    """Whether a header is that of an image, rather than of a report, a segmentation or another object."""
    return bool(header.get("Rows") and header.get("Columns")) and str(header.get("SOPClassUID", "")) not in NOT_IMAGES


def frame_count(header: Any) -> int:
    """Number of frames of a file; 1 where it does not say, or says what is no number: the pixels will tell."""
    try:
        return max(int(header.get("NumberOfFrames") or 1), 1)
    except (OverflowError, TypeError, ValueError):
        return 1


def image_type(header: Any) -> list[str]:
    """The values of Image Type; none where it is missing."""
    kinds = header.get("ImageType") or []
    return [str(kind) for kind in kinds] if hasattr(kinds, "__iter__") and not isinstance(kinds, str) else [str(kinds)]


def stands_alone(header: Any) -> bool:
    """Whether a file is an image of its own: one with several frames (or that could have), or without a place in the patient."""
    groups = "PerFrameFunctionalGroupsSequence" in header or "SharedFunctionalGroupsSequence" in header
    return frame_count(header) > 1 or groups or "ImagePositionPatient" not in header


def frames_of(place: Place, header: Any) -> list[Frame]:
    """The frames of one file, in the file's order.

    Raises:
        ImageError: The header makes no sense, or the file is a mosaic: many slices as one picture, as Siemens packs them.
    """
    if "MOSAIC" in image_type(header):
        raise ImageError(
            f"{place.path}: is a mosaic of slices", expected="a file or frame for each slice", remedy="convert the series with dcm2niix"
        )
    try:
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        single = header.get("PerFrameFunctionalGroupsSequence") or []
        count = frame_count(header)
        if single and len(single) != count:
            raise damaged(place.path, f"descriptions of {len(single)} frames", f"{count}")
        most = _most_frames(place, header)
        if count > most:
            raise damaged(place.path, f"a header that claims {count:,} frames", f"at most {most:,} in a file of {place.size:,} bytes")
        return [_frame(place, header, number, [single[number] if single else None, shared]) for number in range(count)]
    except ImageError:
        raise
    except Exception as error:  # a damaged header makes pydicom raise many kinds, when a value is asked for
        raise damaged(place.path, error) from error


def _most_frames(place: Place, header: Any) -> int:
    """So many frames a file can hold: packed ones take 8 bytes at least, others their pixels, unless the whole file is deflated."""
    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", "")
    pixels = int(header.get("Rows") or 1) * int(header.get("Columns") or 1)
    room = place.size * (DEFLATE_MAX_RATIO if syntax == DEFLATED else 1)
    return min(MOST_FRAMES, max(1, room // max(1, min(pixels, 8))))


def _frame(place: Place, header: Any, number: int, groups: list[Any]) -> Frame:
    measures = _described(groups, "PixelMeasuresSequence", header)
    spacing = numbers(measures, "PixelSpacing", 2)
    position = numbers(_described(groups, "PlanePositionSequence", header), "ImagePositionPatient", 3)
    if spacing is None and position is None:
        # Of a projection the distance is known at the detector only (PS3.3, C.8.11.7).
        spacing = numbers(header, "ImagerPixelSpacing", 2) or numbers(header, "NominalScannedPixelSpacing", 2)
    between, thickness = numbers(measures, "SpacingBetweenSlices", 1), numbers(measures, "SliceThickness", 1)
    scaling = _described(groups, "PixelValueTransformationSequence", header)
    content = _described(groups, "FrameContentSequence", header)
    echo, diffusion = _described(groups, "MREchoSequence", header), _described(groups, "MRDiffusionSequence", header)
    sources = (header, content, echo, diffusion)
    marks = {name: value for source in sources for name in (*SEPARATORS, *HINTS) if (value := source.get(name)) not in (None, "")}
    if echo.get("EffectiveEchoTime") is not None:
        marks["EchoTime"] = echo.get("EffectiveEchoTime")
    rows, columns = int(header.Rows), int(header.Columns)
    if min(rows, columns) < 1:
        raise ValueError(f"{rows} rows and {columns} columns")
    samples = 3 if header.get("PhotometricInterpretation") == "PALETTE COLOR" else int(header.get("SamplesPerPixel") or 1)
    return Frame(
        place=place,
        number=number,
        instance=str(header.get("SOPInstanceUID", place.path)),
        shape_yx=(rows, columns),
        samples=samples,
        stored_bytes=rows * columns * int(header.get("SamplesPerPixel") or 1) * int(header.get("BitsAllocated") or 8) // 8,
        localizer="LOCALIZER" in image_type(header),
        position_mm_xyz=position,
        orientation=numbers(_described(groups, "PlaneOrientationSequence", header), "ImageOrientationPatient", 6),
        spacing_mm_yx=spacing,
        thickness_mm=next((value[0] for value in (between, thickness) if value is not None and value[0] > 0), None),
        slope=(numbers(scaling, "RescaleSlope", 1) or (1.0,))[0],
        intercept=(numbers(scaling, "RescaleIntercept", 1) or (0.0,))[0],
        marks={name: _plain(value) for name, value in marks.items()},
    )


def _described(groups: list[Any], name: str, header: Any) -> Any:
    """The item of a frame's own description or of the one shared by all frames; else the header itself, where old files have it."""
    for group in groups:
        items = None if group is None else group.get(name)
        if items:
            return items[0]
    return header


def numbers(dataset: Any, name: str, count: int) -> tuple[float, ...] | None:
    """An attribute of ``count`` numbers; None where it is missing or empty.

    Raises:
        ValueError: It is something else, or no measure of anything: NaN, infinite or absurd.
    """
    value = dataset.get(name)
    if value is None or value == "":
        return None
    found = tuple(float(entry) for entry in ([value] if isinstance(value, str | int | float) or not hasattr(value, "__iter__") else value))
    if not found:
        return None
    if len(found) != count:
        raise ValueError(f"{name} of {len(found)} numbers, not {count}")
    if not all(abs(entry) < ABSURD for entry in found):
        raise ValueError(f"{name} of {', '.join(f'{entry:g}' for entry in found)}")
    return found


def _plain(value: Any) -> Any:
    """A value that can be compared and shown."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return float(value) if isinstance(value, float | int) or type(value).__name__ in ("DSdecimal", "IS") else str(value)
    return "\\".join(str(entry) for entry in value)
