"""Structures that are drawn apart from an image: the DICOM files that hold them, segmentations (SEG) and contours (RTSTRUCT)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.image_names import DICOM, DRAWN_ENDINGS, image_format, is_dicom
from autounet.images.dicom_files import load_pydicom, on_disk, read_header, read_whole
from autounet.images.dicom_out import noted_layers, noted_values
from autounet.images.stored import check_file, damaged

SEGMENTATIONS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""SOP classes: Segmentation Storage, Label Map Segmentation Storage."""

CONTOURS = {"1.2.840.10008.5.1.4.1.1.481.3"}
"""SOP class: RT Structure Set Storage."""

MOST_NAMES = 12

Voxels = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Indices z, y, x of the same length."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A DICOM file of structures."""

    path: Path
    dataset: Any
    """``pydicom.Dataset``."""
    names: dict[int, str]
    """Structure's number in the file → its name."""
    values: dict[int, int]
    """Structure's number → the value that it has in a label map: the one that this program noted, else the number."""
    noted: bool
    """Whether this program wrote it, and noted the values."""
    layered: bool
    """Whether it also noted that structures lie inside others, the inner ones later."""
    frames: dict[int, str | None]
    """Structure's number → the frame of reference of its coordinates; an RTSTRUCT may have regions of several."""

    @property
    def is_contours(self) -> bool:
        """Whether it is an RTSTRUCT, which has no grid of its own."""
        return str(self.dataset.SOPClassUID) in CONTOURS


def find_drawn(path: Path) -> Path:
    """The file that is meant: itself, or the only DICOM SEG or RTSTRUCT directly in a folder. Raises ImageError."""
    if not path.is_dir():
        return path
    found = [entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith(".") and is_drawn(entry)]
    if len(found) != 1:
        raise ImageError(
            f"{path}: {'several DICOM SEG or RTSTRUCT files' if found else 'no DICOM SEG or RTSTRUCT'} in this folder",
            found=some(entry.name for entry in found) or None,
            expected="one",
            remedy="give the file",
        )
    return found[0]


def is_drawn(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT, by its header."""
    try:
        kind = read_header(on_disk(path), ["SOPClassUID"]).get("SOPClassUID", "") if is_dicom(path) else ""
    except (ImageError, OSError):
        return False
    return str(kind) in SEGMENTATIONS | CONTOURS


def frame_of_segments(path: Path) -> str | None:
    """The frame of reference of a DICOM SEG (the file, or a folder with it); None for other formats of label maps, which know none.

    Raises:
        ImageError: It cannot be read.
    """
    if image_format(path) not in (DICOM, *DRAWN_ENDINGS):
        return None
    with understood(path):
        return _frame(read_header(on_disk(find_drawn(path)), ["FrameOfReferenceUID"]), "FrameOfReferenceUID")


def open_drawn(path: Path) -> Drawn:
    """Reads a DICOM SEG or RTSTRUCT.

    Raises:
        ImageError: It is missing, damaged, or something else.
    """
    check_file(path)
    if not is_dicom(path):
        raise damaged(path, "no DICOM", "DICOM SEG or RTSTRUCT")
    pydicom = load_pydicom()
    with understood(path):
        dataset = read_whole(on_disk(path), 0)
        kind = str(dataset.get("SOPClassUID", ""))
        if kind not in SEGMENTATIONS | CONTOURS:
            raise ImageError(
                f"{path}: holds no structures",
                found=f"DICOM {pydicom.uid.UID(kind).name or 'of no kind'}",
                expected="DICOM SEG or RTSTRUCT",
                remedy="give the file of the segmentation",
            )
        return _drawn(path, dataset, kind in CONTOURS)


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Within, what cannot be made sense of is a damaged file: pydicom, and whoever reckons with its values, raises many kinds of errors.

    Raises:
        ImageError: In place of all of them.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise damaged(path, error) from error


def _drawn(path: Path, dataset: Any, is_contours: bool) -> Drawn:
    frames: dict[int, str | None]
    if is_contours:
        items = dataset.get("StructureSetROISequence") or []
        names = {int(item.ROINumber): str(item.get("ROIName") or f"ROI {item.ROINumber}") for item in items}
        numbered = {int(item.ROINumber): item for item in items}
        frames = {number: _frame(item, "ReferencedFrameOfReferenceUID") for number, item in numbered.items()}
        named = {frame for frame in frames.values() if frame is not None}
        if len(named) == 1:  # that of regions that name none, too
            frames = dict.fromkeys(numbered, named.pop())
    else:
        numbered = {int(item.SegmentNumber): item for item in dataset.SegmentSequence if int(item.SegmentNumber) != 0}
        names = {number: str(item.get("SegmentLabel") or f"segment {number}") for number, item in numbered.items()}
        frames = dict.fromkeys(numbered, _frame(dataset, "FrameOfReferenceUID"))
    noted = noted_values(numbered)
    values = {number: number for number in numbered} if noted is None else noted
    return Drawn(path, dataset, names, values, noted is not None, noted_layers(dataset), frames)


def _frame(item: Any, name: str) -> str | None:
    return str(item.get(name) or "") or None


def some(names: Iterable[str]) -> str:
    """Names for a message, not too many."""
    every = list(names)
    return ", ".join(every[:MOST_NAMES]) + (", …" if len(every) > MOST_NAMES else "")
