"""Names of images: what is an image, of which format, and which files are the channels of one case. No image is read.

An image is a file with an ending of its format or, as DICOM, one of many things: a folder of slices, a zip of one, a file of either
without any ending. Only to tell whether something without an ending is DICOM are the first bytes of a file looked at.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

DICOM = ".dcm"
"""Stands for DICOM in the tables of formats, whatever the form and the ending."""

ZIP = ".zip"
"""An archive of DICOM files."""

SEG, RTSTRUCT = ".seg.dcm", ".rtstruct.dcm"
DRAWN_ENDINGS = (SEG, RTSTRUCT)
"""Label maps as DICOM objects that belong to a series: a segmentation, and contours. Those of other programs may have any name."""

FOLDER_ENDINGS = (".ome.zarr", ".zarr")
"""Endings of folders that are an image each; a folder without one is an image if it holds DICOM."""

IMAGE_ENDINGS = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg", DICOM, ZIP),
    *FOLDER_ENDINGS,
)
"""Endings that can be read as images."""

LABEL_ENDINGS = tuple(ending for ending in IMAGE_ENDINGS if ending not in (".jpg", ".jpeg", DICOM, ZIP))
"""Endings that label maps may have: JPEG's lossy compression changes label values."""

WRITTEN_ENDINGS = tuple(ending for ending in LABEL_ENDINGS if ending not in FOLDER_ENDINGS)
"""Endings with which label maps can be written."""

PLACELESS_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
"""Formats that know distances at most, and not where in the patient or in a world the image lies."""

PEEKED = 256
"""So many files of a folder or zip are looked at before it is said to hold no DICOM."""


def split_ending(path: Path) -> tuple[str, str]:
    """File name → (stem, ending), with ``.nii.gz`` as one ending; the ending is '' when it is not an image's."""
    lower = path.name.lower()
    for ending in (*DRAWN_ENDINGS, *IMAGE_ENDINGS):  # the longest first
        if lower.endswith(ending):
            return path.name[: -len(ending)], path.name[-len(ending) :]
    return path.name, ""


def image_format(path: Path) -> str:
    """The ending by which the tables of readers know an image's format; '' when it is none's."""
    ending = split_ending(path)[1].lower()
    if ending in (DICOM, ZIP) or archive_of(path) is not None:
        return DICOM
    if ending:
        return ending
    return DICOM if path.is_dir() or is_dicom(path) else ""


def image_exists(path: Path) -> bool:
    """Whether there is something by the name of an image: a file, a folder of DICOM or of a format of folders, a part of a zip."""
    if path.is_dir():
        return image_format(path) in (DICOM, *FOLDER_ENDINGS)
    return path.is_file() or archive_of(path) is not None


def archive_of(path: Path) -> tuple[Path, str] | None:
    """The zip that a path leads into, and the name in it ('' for the zip itself); None where there is none."""
    for parent in (path, *path.parents):
        if parent.name.lower().endswith(ZIP) and parent.is_file():
            return parent, "" if parent == path else path.relative_to(parent).as_posix()
    return None


def begins_as_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes are those of DICOM: its mark after the preamble or, as old files have it, the first element at once."""
    if start[128:132] == b"DICM":
        return True
    # Group 2 or 8, a low element, then a known type of value or the upper bytes of a short length.
    known = start[:2] in (b"\x02\0", b"\x08\0") and start[2:4] in (b"\0\0", b"\x01\0", b"\x05\0", b"\x08\0", b"\x12\0", b"\x16\0")
    return known and len(start) >= 8 and (start[4:6] in (b"UL", b"UI", b"CS", b"DA", b"OB") or start[6:8] == b"\0\0")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does; False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return begins_as_dicom(file.read(132))
    except OSError:
        return False


def image_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns of an image's file or zip: what tells that it changed.

    Of a folder the size of all files in it, and in place of a time a digest of their names, sizes and times: a slice may be replaced by an
    older file.

    Raises:
        OSError: It is gone.
    """
    archive = archive_of(path)
    if not path.is_dir():
        state = (path if archive is None else archive[0]).stat()
        return state.st_size, state.st_mtime_ns
    files = sorted(Path(at, name) for at, _, names in os.walk(path) for name in names)
    states = [
        (file.relative_to(path).as_posix(), state.st_size, state.st_mtime_ns) for file in files if file.is_file() and (state := file.stat())
    ]
    digest = hashlib.sha256(repr(states).encode(errors="surrogateescape")).digest()
    return sum(size for _, size, _ in states), int.from_bytes(digest[:7], "big")


def files_below(folder: Path) -> Iterator[Path]:
    """Files anywhere in a folder, in the order of their names; no folder comes twice, though links lead there.

    Hidden files (``._*`` of macOS) and what is in images of other formats are passed over.
    """
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        inner = (name for name in folders if not name.startswith(".") and not name.lower().endswith(FOLDER_ENDINGS))
        folders[:] = [] if real in seen else sorted(inner)
        if real not in seen:
            yield from (Path(at) / name for name in sorted(names) if not name.startswith("."))
        seen.add(real)


def holds_dicom(path: Path) -> bool:
    """Whether a folder or zip has DICOM among its first files; True for a zip that cannot be read, so that reading it says so."""
    if path.is_dir():
        return any(is_dicom(file) for file, _ in zip(files_below(path), range(PEEKED), strict=False))
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in [entry for entry in archive.infolist() if entry.file_size][:PEEKED]:
                with archive.open(entry) as file:
                    if begins_as_dicom(file.read(132)):
                        return True
    except Exception:  # zipfile and its decoders raise many kinds
        return True
    return False


def group_channels(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Groups images into cases: ``case_0000``, ``case_0001``, … are the channels of ``case``; others stand alone.

    A file that ends in ``_NNNN`` is a channel only if the case also has a file ``_0000``.
    """
    return _grouped([(split_ending(file)[0], file) for file in files])


def group_named(stems: Mapping[Path, str]) -> dict[str, tuple[Path, ...]]:
    """As ``group_channels``, of images and their names without ending."""
    return _grouped([(stem, file) for file, stem in stems.items()])


def _grouped(named: Sequence[tuple[str, Path]]) -> dict[str, tuple[Path, ...]]:
    firsts = {stem[:-5] for stem, _ in named if stem.endswith("_0000") and len(stem) > 5}
    groups: dict[str, list[Path]] = {}
    for stem, file in sorted(named):  # channels in their order, also from several folders
        case = stem[:-5] if re.search(r"_\d{4}$", stem) and stem[:-5] in firsts else stem
        groups.setdefault(case, []).append(file)
    return {case: tuple(paths) for case, paths in groups.items()}


LITTLE_BYTES = 300_000
"""A small image takes about as long as so many bytes of a large one."""


def work_of(files: Sequence[Path]) -> float:
    """How long reading these files takes beside others, as their sizes on disk tell; for the time left."""
    return LITTLE_BYTES + sum(image_state(file)[0] for file in files if image_exists(file))


def image_files(folder: Path) -> list[Path]:
    """What is an image in a folder, sorted: files by their names, folders and zips that hold DICOM.

    Hidden ones (macOS leaves ``._*`` in archives) are passed over, and so are folders that are no image themselves. A link to
    nothing is among them: reading it says so, and nobody misses the case.
    """
    return sorted(entry for entry in folder.iterdir() if _is_image(entry)) if folder.is_dir() else []


def _is_image(entry: Path) -> bool:
    ending = split_ending(entry)[1].lower()
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        return ending in FOLDER_ENDINGS or (ending in ("", DICOM, ZIP) and holds_dicom(entry))
    return bool(ending) and (ending != ZIP or holds_dicom(entry))
