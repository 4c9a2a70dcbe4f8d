"""DICOM image series: what is in a folder, zip or file, and which series a path means."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autounet.errors import ImageError
from autounet.images.dicom_files import Place, is_dicom_at, opened, read_header
from autounet.images.dicom_frames import NOT_IMAGES, Frame, frame_count, frames_of, image_type, is_image, stands_alone
from autounet.images.dicom_volume import Volume, lay_out
from autounet.images.stored import damaged

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class of screenshots, such as reports of dose."""

ALWAYS_DICOM = (".dcm", ".ima")
"""A file with such a name beside a series, and that is none, is a damaged one."""

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Series:
    """One image: the slices of a series, or a file that is an image of its own."""

    path: Path
    """What to give as the image: the topmost folder that holds no other image; where there is none, a file of it."""
    uid: str
    """Series Instance UID."""
    number: int | None
    description: str
    modality: str
    files: tuple[Path, ...]
    """In the order of slices, as far as headers tell it."""
    slices: int
    """Files, or frames of a file."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The files of one image, with their headers."""

    files: tuple[tuple[Place, Any], ...]

    @property
    def header(self) -> Any:
        return self.files[0][1]

    @property
    def folders(self) -> set[Path]:
        return {place.path.parent for place, _ in self.files}


@dataclass(frozen=True, slots=True)
class _Scan:
    groups: tuple[_Group, ...]
    others: tuple[tuple[Place, ImageError], ...]
    """Files that are no DICOM, or damaged, each with what is to be said of it where it should have been a slice."""


def find_series(path: Path) -> tuple[Series, ...]:
    """All images in a folder or zip, or those beside a file and in it; none where there is no DICOM.

    Scouts and screenshots (localizers, secondary captures) are left out where their study has other images.

    Raises:
        ImageError: There is nothing of this name, or a zip cannot be opened.
    """
    with opened(path) as (places, named):
        return _described(_without_byways(_scan(places()).groups), path if named is None else path.parent)


@contextmanager
def opened_volume(path: Path) -> Iterator[Volume]:
    """The one image that a path means, laid out; its files can be read inside the ``with``.

    Raises:
        ImageError: There is none, or several; or it is not a regular volume.
    """
    with opened(path) as (places, named):
        group, others = _chosen(path, places, named)
        for place, error in others:
            if _should_be_slice(place, group):
                raise error
        frames = [frame for place, header in group.files for frame in frames_of(place, header)]
        yield lay_out(path, frames)


def source_headers(path: Path) -> list[Any]:
    """Headers of an image's files (``pydicom.Dataset``, without pixels) in the order of slices of the array that ``read_image`` gives.

    One per slice, of a file with several frames one; of several volumes in one series those of the first.

    Raises:
        ImageError: As ``read_image``.
    """
    with opened_volume(path) as volume:
        places = {frame.place.path: frame.place for frame in volume.frames_cz[0]}
        return [read_header(place, None) for place in places.values()]


def _scan(places: Sequence[Place]) -> _Scan:
    groups: dict[tuple[str, str], list[tuple[Place, Any]]] = {}
    others: list[tuple[Place, ImageError]] = []
    for place in places:
        if not is_dicom_at(place):
            what = f"{place.size} bytes" if place.size < 132 else "a file that does not begin as DICOM does"
            others.append((place, damaged(place.path, what)))
            continue
        try:
            header = read_header(place)
            if is_image(header):
                alone = str(header.get("SOPInstanceUID", place.path)) if stands_alone(header) else ""
                groups.setdefault((str(header.get("SeriesInstanceUID", "")), alone), []).append((place, header))
        except ImageError as error:
            others.append((place, error))
    return _Scan(tuple(_Group(tuple(files)) for files in groups.values()), tuple(others))


def _chosen(path: Path, places: Callable[[], list[Place]], named: Place | None) -> tuple[_Group, Sequence[tuple[Place, ImageError]]]:
    """The image that a path means, and the files that are none."""
    if named is None:
        files = places()
        scan = _scan(files)
        groups = _without_byways(scan.groups)
        if len(groups) > 1:
            raise _several(path, _described(groups, path))
        if not groups:
            raise next((error for place, error in scan.others if _is_named_dicom(place)), _nothing(path, files))
        return groups[0], scan.others
    header = read_header(named)
    if not is_image(header):
        kind = NOT_IMAGES.get(str(header.get("SOPClassUID", "")), "of another kind")
        raise ImageError(f"{path}: is not a DICOM image", found=kind, expected="one or more slices", remedy="give an image of the study")
    if stands_alone(header):
        return _Group(((named, header),)), ()
    scan = _scan(places())
    return next(group for group in scan.groups if named.path in {place.path for place, _ in group.files}), scan.others


def _nothing(path: Path, places: Sequence[Place]) -> ImageError:
    return ImageError(
        f"{path}: no DICOM image in this {'folder' if path.is_dir() else 'zip'}",
        found=f"{len(places)} other files" if places else "no files",
        expected="the slices of one series",
        remedy="check the path, or convert the image",
    )


def _several(path: Path, found: Sequence[Series]) -> ImageError:
    lines = [f"\n  {series.path}  ({describe(series)})" for series in found[:MOST_SHOWN]]
    more = f"\n  and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
    return ImageError(
        f"{path}: holds several DICOM image series", found=len(found), expected="one", remedy=f"give one of them:{''.join(lines)}{more}"
    )


def describe(series: Series) -> str:
    """A series in a few words, without anything of the patient."""
    number = "no number" if series.number is None else f"number {series.number}"
    description = f"'{series.description}', " if series.description else ""
    return f"{number}, {description}{series.modality or 'no modality'}, {series.slices} slice{'s' if series.slices != 1 else ''}"


def _described(groups: Sequence[_Group], root: Path) -> tuple[Series, ...]:
    owners = Counter(folder for group in groups for folder in {above for at in group.folders for above in (at, *at.parents)})
    return tuple(_series(group, owners, root) for group in groups)


def _series(group: _Group, owners: Mapping[Path, int], root: Path) -> Series:
    header = group.header
    number = str(header.get("SeriesNumber", "") or "").strip()
    files = tuple(place.path for place, _ in sorted(group.files, key=_order))
    return Series(
        path=_path_to_give(files, owners, root),
        uid=str(header.get("SeriesInstanceUID", "")),
        number=int(number) if number.lstrip("-").isdecimal() else None,
        description="".join(letter for letter in str(header.get("SeriesDescription", "") or "") if letter.isprintable())[:80],
        modality=str(header.get("Modality", "") or "")[:16],
        files=files,
        slices=sum(frame_count(header) for _, header in group.files),
    )


def _order(entry: tuple[Place, Any]) -> tuple[float, str]:
    """Place along the normal where the header tells it, without any check."""
    place, header = entry
    try:
        frame: Frame = frames_of(place, header)[0]
        (a, b, c, d, e, f), (x, y, z) = frame.orientation or (), frame.position_mm_xyz or ()
        return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d), str(place.path)
    except (ImageError, ValueError):
        return 0.0, str(place.path)


def _path_to_give(files: Sequence[Path], owners: Mapping[Path, int], root: Path) -> Path:
    """The topmost folder below ``root`` that holds this image alone; else a file of it.

    ``owners`` is the number of images in each folder. A zip may be that folder itself; ``root`` only where the slices lie in it directly,
    so that names of cases do not change with a second image.
    """
    common = next(folder for folder in (files[0].parent, *files[0].parents) if all(file.is_relative_to(folder) for file in files))
    path = files[0]
    for folder in (common, *common.parents):
        if folder == root != common and root.is_dir():
            break
        if not folder.is_relative_to(root) or owners[folder] > 1:
            break
        path = folder
    return path


def _without_byways(groups: Sequence[_Group]) -> list[_Group]:
    """Images without scouts and screenshots of studies that have other images."""

    def byway(group: _Group) -> bool:
        screen = group.header.get("SOPClassUID") == SECONDARY_CAPTURE and "ImagePositionPatient" not in group.header
        return screen or "LOCALIZER" in image_type(group.header)

    others = {str(group.header.get("StudyInstanceUID", "")) for group in groups if not byway(group)}
    return [group for group in groups if not byway(group) or str(group.header.get("StudyInstanceUID", "")) not in others]


def _is_named_dicom(place: Place) -> bool:
    return place.path.suffix.lower() in ALWAYS_DICOM


def _should_be_slice(place: Place, group: _Group) -> bool:
    """Whether a file lies beside slices and is named as they are: then it is one that was cut off or never written."""
    if place.path.parent not in group.folders:
        return False
    patterns = {re.sub(r"\d+", "#", other.path.name) for other, _ in group.files}
    return _is_named_dicom(place) or re.sub(r"\d+", "#", place.path.name) in patterns
