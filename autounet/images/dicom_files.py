"""Where DICOM files lie, on disk or in a zip, and their headers. A zip is read where it is: nothing of it is unpacked to disk."""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from autounet.errors import ImageError
from autounet.image_names import archive_of, begins_as_dicom, files_below
from autounet.images.stored import check_file, damaged

MOST_FILES = 200_000
"""A zip with more is refused."""

HEADER_BYTES = 128 * 2**20
"""More is not read of a file for its header alone."""

INFLATED_BYTES = 2**30
"""Into more the header and pixels of a deflated file are not unpacked."""

IMAGE_TAGS = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
        "ImageType",
    ),
    *("InstanceNumber", "AcquisitionNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "TriggerTime"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""What is read of a header to find series and lay out slices: nothing that names the patient."""


UNNEEDED_TAGS = (
    *("SeriesNumber", "SeriesDescription", "Modality", "InstanceNumber", "AcquisitionNumber", "TriggerTime", "FrameOfReferenceUID"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "StudyInstanceUID"),
)
"""Of these a value that cannot be understood counts as none."""


@dataclass(frozen=True, slots=True)
class Place:
    """One file, on disk or in a zip."""

    path: Path
    """As a user may give it: ``study.zip/a/IM0001`` for a file in a zip."""
    size: int
    open: Callable[[], IO[bytes]]
    packed: bool
    """Whether it is in a zip, where few bytes can stand for many."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Callable[[], list[Place]], Place | None]]:
    """The files among which an image lies: those below a folder or zip; or those beside a file, and that file.

    They are listed when they are asked for: a file may be one of thousands, and an image of its own.

    Raises:
        ImageError: There is nothing of this name, or it cannot be opened.
    """
    found = archive_of(path)
    if found is not None:
        with _archive(*found) as places:
            yield places
    elif path.is_dir():
        yield lambda: [on_disk(file) for file in files_below(path) if file.is_file()], None
    else:
        check_file(path)
        yield lambda: [on_disk(file) for file in _beside(path)], on_disk(path)


def _beside(path: Path) -> list[Path]:
    return sorted(file for file in path.parent.iterdir() if file.is_file() and (file == path or not file.name.startswith(".")))


def on_disk(path: Path) -> Place:
    """A file that is in no zip. Raises OSError."""
    return Place(path, path.stat().st_size, lambda: path.open("rb"), packed=False)


@contextmanager
def _archive(path: Path, name: str) -> Iterator[tuple[Callable[[], list[Place]], Place | None]]:
    check_file(path)
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, OverflowError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise damaged(path, error) from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/") and not _is_hidden(entry.filename)]
        if len(entries) > MOST_FILES:
            raise ImageError(f"{path}: holds too many files", found=len(entries), expected=f"at most {MOST_FILES}")
        if any(entry.flag_bits & 1 for entry in entries):
            raise ImageError(f"{path}: is locked with a password", remedy="unpack it, and give the folder")
        places = {entry.filename: _packed(path, archive, entry) for entry in sorted(entries, key=lambda entry: entry.filename)}
        if not name:
            yield lambda: list(places.values()), None
        elif name in places:
            folder = name.rpartition("/")[0]
            yield lambda: [place for other, place in places.items() if other.rpartition("/")[0] == folder], places[name]
        else:
            below = [place for other, place in places.items() if other.startswith(f"{name}/")]
            if not below:
                raise ImageError(f"{path}: has no file or folder '{name}' in it", remedy="check the path")
            yield lambda: below, None


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in name.split("/"))


def _packed(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Place:
    def opened_entry() -> IO[bytes]:
        # Buffered, since pydicom reads a few bytes at a time.
        try:
            raw: Any = archive.open(entry)
        except (KeyError, OverflowError, ValueError, struct.error) as error:  # its own header says something else than the zip's list
            raise zipfile.BadZipFile(ascii(str(error))[1:-1]) from None
        return io.BufferedReader(raw)

    return Place(path / entry.filename.lstrip("/"), entry.file_size, opened_entry, packed=True)


class _Bounded:
    """A stream of which no more than a budget can be read: a few bytes of a zip, or a length in a header, can stand for any number."""

    def __init__(self, stream: IO[bytes], size: int, budget: int) -> None:
        self._stream, self._size, self._left = stream, size, budget

    def read(self, size: int = -1) -> bytes:
        rest = max(self._size - self._stream.tell(), 0)
        size = rest if size < 0 else min(size, rest)
        if size > self._left:
            raise OSError("more bytes than its pixels can take")
        self._left -= size
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def is_dicom_at(place: Place) -> bool:
    """Whether a file begins as DICOM does; False where it cannot be read."""
    try:
        with place.open() as stream:
            return begins_as_dicom(stream.read(132))
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError):
        return False


def read_header(place: Place, tags: Sequence[str] | None = IMAGE_TAGS) -> Any:
    """The header of a file as a pydicom dataset, without pixels; all of it, or some elements.

    Raises:
        ImageError: The file is no DICOM, or damaged.
    """
    header = _read(place, HEADER_BYTES, stop_before_pixels=True, specific_tags=None if tags is None else list(tags))
    for name in tags or ():
        try:
            header.get(name)  # pydicom makes sense of a value only when it is asked for
        except Exception as error:
            if name not in UNNEEDED_TAGS:
                raise damaged(place.path, f"{name}: {str(error)[:120]}") from error
            del header[name]
    return header


def read_whole(place: Place, pixel_bytes: int) -> Any:
    """A file with its pixels, of which ``pixel_bytes`` are to be expected, as a pydicom dataset. Raises ImageError."""
    return _read(place, place.size if not place.packed else 2 * pixel_bytes + HEADER_BYTES)


def _read(place: Place, budget: int, **options: Any) -> Any:
    pydicom = load_pydicom()
    try:
        with place.open() as stream:
            source: Any = _Bounded(stream, place.size, budget + 2**16)
            inflated = _inflated(source, pydicom)
            dataset = pydicom.dcmread(inflated if inflated is not None else source, force=True, **options)
            if inflated is not None:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            elif not dataset.file_meta.get("TransferSyntaxUID"):
                implicit, little = dataset.original_encoding
                uids = pydicom.uid
                known = uids.ImplicitVRLittleEndian if implicit else uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = known
            return dataset
    except ImageError:
        raise
    except Exception as error:  # a damaged header makes pydicom raise many kinds
        raise damaged(place.path, error) from error


def _inflated(source: Any, pydicom: Any) -> io.BytesIO | None:
    """A deflated file as one that is not, unpacked up to a limit (pydicom knows none); None for other files, which are rewound."""
    if source.read(132)[128:] != b"DICM":
        source.seek(0)
        return None
    meta = pydicom.filereader._read_file_meta_info(source)
    if meta.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        source.seek(0)
        return None
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    content = decoder.decompress(source.read(), INFLATED_BYTES)
    if not decoder.eof:
        raise OSError("deflated data that are cut off, or too large")
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    plain = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(plain, meta, enforce_standard=False)
    return io.BytesIO(bytes(128) + b"DICM" + plain.getvalue() + content)


def load_pydicom() -> Any:
    """pydicom, without its warnings about values that are not quite by the standard.

    Raises:
        ImageError: It is not installed.
    """
    try:
        import pydicom
        import pydicom.filebase
        import pydicom.filereader
        import pydicom.filewriter
    except ModuleNotFoundError:
        raise ImageError(
            "DICOM needs a package that is not installed: pydicom", remedy="install it: pip install 'autounet[dicom]'"
        ) from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")
    return pydicom
