"""Structures that are drawn apart from an image, as DICOM SEG segments or RTSTRUCT contours, as a label map on the image's own grid."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.stored import check_file, check_size, damaged
from autounet.labels import IntArray

log = logging.getLogger(__name__)

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
    layered: bool
    """Whether this program wrote it and structures lie inside others, the inner ones later."""
    frame_of_reference: str | None

    @property
    def is_contours(self) -> bool:
        """Whether it is an RTSTRUCT, which has no grid of its own."""
        return str(self.dataset.SOPClassUID) in CONTOURS


def structures_on(
    image_path: Path, label_path: Path, classes: Mapping[str, int], *, later_wins: bool = False, missing_ok: bool = False
) -> tuple[IntArray, Grid]:
    """Segments of a DICOM SEG, or regions of interest of an RTSTRUCT, as a label map on an image's grid.

    Segments are matched with classes by name; case, underscores and hyphens make no difference, and several of one name are joined.
    Others are passed over, with a word in the log. Fractional segments count from one half on. Contours are filled by the even-odd rule
    at the voxels' centres.

    Args:
        image_path: An image as ``read_image`` takes it; only its header is read.
        label_path: A DICOM SEG or RTSTRUCT, or a folder with exactly one of them.
        classes: Name → label value. 0, the background, is passed over.
        later_wins: Where structures overlap, the one later in ``classes`` is kept; otherwise they are refused.
        missing_ok: Classes that the file does not have are empty; otherwise they are refused.

    Returns:
        Label values (z, y, x), the smallest unsigned integers that hold them, and the image's grid.

    Raises:
        ImageError: A file is damaged or of another kind, a class is missing, structures overlap, or they do not lie on the image's grid.
    """
    from autounet.images.files import read_size

    grid = read_size(image_path)[1]
    drawn = open_drawn(find_drawn(label_path))
    _check_frame(drawn, image_path)
    return labels_on(grid, drawn, classes, later_wins=later_wins, missing_ok=missing_ok), grid


def labels_on(grid: Grid, drawn: Drawn, classes: Mapping[str, int], *, later_wins: bool = False, missing_ok: bool = False) -> IntArray:
    """As ``structures_on``, on a grid that is known. Raises ImageError."""
    wanted = {_plain(name): value for name, value in classes.items() if value != 0}
    ranks = {name: rank for rank, name in enumerate(wanted, 1)}
    found = {number: ranks[_plain(name)] for number, name in drawn.names.items() if _plain(name) in ranks}
    there = set(found.values())
    missing = [name for name in classes if _plain(name) in ranks and ranks[_plain(name)] not in there]
    if missing and not (missing_ok and (there or not drawn.names)):
        raise ImageError(
            f"{drawn.path}: has no structure named {' or '.join(repr(name) for name in missing)}",
            found=_some(drawn.names.values()) or "no structures",
            expected=_some(classes),
            remedy="name the classes as the file does, or leave out those that it does not have",
        )
    others = [name for number, name in drawn.names.items() if number not in found]
    if others:
        log.info("%s: passed over, as they are no classes: %s", drawn.path.name, _some(others))
    names = dict(enumerate([name for name, value in classes.items() if value != 0], 1))
    painted = paint(grid, drawn, found, names, later_wins)
    table = np.array([0, *wanted.values()])
    return np.asarray(table.astype(np.min_scalar_type(int(table.max(initial=1))))[painted])


def own_labels(drawn: Drawn) -> tuple[IntArray, Grid]:
    """A DICOM SEG as a label map on a grid of its own: the source's where this program wrote the file, else the box of its frames.

    Raises:
        ImageError: An RTSTRUCT, which has no grid; segments overlap; frames that are not slices of one volume.
    """
    from autounet.images.segments import own_grid

    if drawn.is_contours:
        raise ImageError(
            f"{drawn.path}: contours have no voxels of their own",
            found="an RTSTRUCT",
            remedy="give it together with the image that it was drawn on, as `autounet dataset create` does",
        )
    grid = own_grid(drawn)
    return values_on(grid, drawn), grid


def values_on(grid: Grid, drawn: Drawn) -> IntArray:
    """All structures of a file by the values that it gives them (this program's label values, else the numbers), on a grid.

    Raises:
        ImageError: They overlap, or do not lie on the grid.
    """
    order = sorted(drawn.names)
    ranks = {number: rank for rank, number in enumerate(order, 1)}
    painted = paint(grid, drawn, ranks, {rank: drawn.names[number] for number, rank in ranks.items()}, drawn.layered)
    table = np.array([0, *(drawn.values[number] for number in order)])
    return np.asarray(table.astype(np.min_scalar_type(int(table.max(initial=1))))[painted])


def paint(grid: Grid, drawn: Drawn, ranks: Mapping[int, int], names: Mapping[int, str], later_wins: bool) -> IntArray:
    """Paints structures into a map of ranks (z, y, x); where several meet, the highest stays.

    Args:
        grid: Of the map.
        drawn: The file.
        ranks: Structure's number → rank from 1; others are left out.
        names: Rank → name, for the message.
        later_wins: Whether structures may meet.

    Raises:
        ImageError: Structures meet that may not, or lie outside the grid.
    """
    check_size(drawn.path, int(np.prod(grid.shape_zyx, dtype=object)))
    painted = np.zeros(grid.shape_zyx, np.min_scalar_type(max(ranks.values(), default=1)))
    for number, voxels in _voxels(grid, drawn, set(ranks)):
        rank, before = ranks[number], painted[voxels]
        if not later_wins and ((before != 0) & (before != rank)).any():
            other = int(before[(before != 0) & (before != rank)][0])
            raise ImageError(
                f"{drawn.path}: structures overlap, and a voxel of a label map has one value",
                found=f"'{names[other]}' and '{names[rank]}' share voxels",
                remedy="leave one of them out, or say that the later one is on top",
            )
        painted[voxels] = np.maximum(before, rank)
    return painted


def _voxels(grid: Grid, drawn: Drawn, wanted: set[int]) -> Iterator[tuple[int, Voxels]]:
    from autounet.images import rois, segments

    return (rois.voxels if drawn.is_contours else segments.voxels)(grid, drawn, wanted)


def find_drawn(path: Path) -> Path:
    """The file that is meant: itself, or the only DICOM SEG or RTSTRUCT directly in a folder. Raises ImageError."""
    if not path.is_dir():
        return path
    found = [entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith(".") and is_drawn(entry)]
    if len(found) != 1:
        raise ImageError(
            f"{path}: {'several DICOM SEG or RTSTRUCT files' if found else 'no DICOM SEG or RTSTRUCT'} in this folder",
            found=_some(entry.name for entry in found) or None,
            expected="one",
            remedy="give the file",
        )
    return found[0]


def is_drawn(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT, by its header."""
    pydicom = _pydicom()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:  # pydicom raises many kinds for what is no DICOM
        return False
    return str(header.get("SOPClassUID", "")) in SEGMENTATIONS | CONTOURS


def open_drawn(path: Path) -> Drawn:
    """Reads a DICOM SEG or RTSTRUCT.

    Raises:
        ImageError: It is missing, damaged, or something else.
    """
    check_file(path)
    pydicom = _pydicom()
    try:
        dataset = pydicom.dcmread(path)
        kind = str(dataset.get("SOPClassUID", ""))
        if kind not in SEGMENTATIONS | CONTOURS:
            raise ImageError(
                f"{path}: holds no structures",
                found=f"DICOM {pydicom.uid.UID(kind).name or 'of no kind'}",
                expected="DICOM SEG or RTSTRUCT",
                remedy="give the file of the segmentation",
            )
        return _drawn(path, dataset, kind in CONTOURS)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # pydicom raises many kinds
        raise damaged(path, error) from error


def _drawn(path: Path, dataset: Any, is_contours: bool) -> Drawn:
    from autounet.images.dicom_out import noted_structures

    frame = dataset.get("FrameOfReferenceUID")
    if is_contours:
        items = dataset.get("StructureSetROISequence") or []
        names = {int(item.ROINumber): str(item.get("ROIName") or f"ROI {item.ROINumber}") for item in items}
        frames = {str(item.ReferencedFrameOfReferenceUID) for item in items if item.get("ReferencedFrameOfReferenceUID")}
        frame = frames.pop() if len(frames) == 1 else None
        numbered = {int(item.ROINumber): item for item in items}
    else:
        numbered = {int(item.SegmentNumber): item for item in dataset.SegmentSequence if int(item.SegmentNumber) != 0}
        names = {number: str(item.get("SegmentLabel") or f"segment {number}") for number, item in numbered.items()}
    values, layered = noted_structures(dataset, numbered)
    return Drawn(path, dataset, names, values, layered, None if frame is None else str(frame))


def _check_frame(drawn: Drawn, image_path: Path) -> None:
    """Refuses coordinates of another frame of reference; images that know none are taken at their word."""
    from autounet.images.dicom_out import frame_of_reference

    frame = frame_of_reference(image_path)
    if frame is not None and drawn.frame_of_reference is not None and frame != drawn.frame_of_reference:
        raise ImageError(
            f"{drawn.path}: was drawn in another frame of reference than {image_path.name} has, so that places cannot be compared",
            found=drawn.frame_of_reference,
            expected=frame,
            remedy="give the series that it was drawn on",
        )


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:MOST_NAMES]) + (", …" if len(every) > MOST_NAMES else "")


def _pydicom() -> Any:
    from autounet.images.dicom_out import need

    return need("pydicom")
