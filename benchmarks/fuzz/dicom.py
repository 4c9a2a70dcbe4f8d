"""Target: DICOM series, as a zip of files; every element that is read for the series or its pixels is changed."""

import io
import zipfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from autounet.images import read_image, read_labels, read_size
from autounet.images.dicom_series import find_series
from benchmarks.fuzz.mutate import NUMBERS, Mutate, either, of_bytes, of_zip
from benchmarks.fuzz.target import Target, try_all

UID = "1.2.826.0.1.3680043.8.498.1"


def slice_file(number: int, frames: int = 0) -> bytes:
    """A CT slice of 4×5 pixels, or a file of several frames."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = f"{UID}.{number + 1}"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = f"{UID}.100", f"{UID}.200", f"{UID}.300"
    header.Modality, header.SeriesNumber, header.InstanceNumber, header.ImageType = "CT", 1, number + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Rows, header.Columns, header.SamplesPerPixel, header.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    header.PixelSpacing, header.SliceThickness, header.RescaleSlope, header.RescaleIntercept = [0.5, 0.7], 2, 1, -1024
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
    if frames:
        header.NumberOfFrames = frames
    header.PixelData = np.arange(20 * max(frames, 1), dtype=np.int16).tobytes()
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive of files by their names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _studies(folder: Path) -> dict[str, bytes]:
    slices = {f"IM{number}": slice_file(number) for number in range(3)}
    return {
        "series": zipped(slices),
        "frames": zipped({"one.dcm": slice_file(0, 3)}),
        "deep": zipped({f"a/b/{name}": data for name, data in slices.items()}),
    }


def elements_of(data: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, length and VR of the values of explicit little-endian elements, as far as they can be followed."""
    found, at = [], 132
    while at + 8 <= len(data):
        kind = data[at + 4 : at + 6]
        long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"UR")
        start = at + (12 if long else 8)
        length = int.from_bytes(data[at + 8 : at + 12] if long else data[at + 6 : at + 8], "little")
        found.append((start, length, kind))
        at = start + length
    return found


TEXTS = (
    b"nan",
    b"inf",
    b"-1",
    b"0",
    b"1e308",
    b"1e-308",
    b"99999999999999",
    b"1\\2",
    b"\\",
    b"1\\1\\1\\1\\1\\1",
    b"",
    b"\xff\xfe",
    b"x" * 64,
    b"../..",
)


def _of_file(data: bytes, random: Random) -> bytes:
    """A value becomes another of its kind, longer or shorter with the length that belongs to it; or lengths, kinds and tags lie."""
    elements = elements_of(data)
    if not elements or random.random() < 0.15:
        return of_bytes(data, random)
    start, length, kind = random.choice(elements)
    content = bytearray(data)
    match random.randrange(6):
        case 0:
            width = random.choice((2, 4))
            content[start - width : start] = (int(random.choice(NUMBERS)) % 2 ** (8 * width)).to_bytes(width, "little")
        case 1:
            content[start - 4 : start - 2] = random.choice((b"OB", b"SQ", b"US", b"DS", b"IS", b"UI", b"FD", b"ZZ", b"UN", b"\0\0"))
        case 2:
            del content[start - 8 : start + length]
        case 3 if kind in (b"US", b"SS", b"UL", b"SL"):
            content[start : start + length] = (
                (int(random.choice(NUMBERS)) % 2 ** (8 * length)).to_bytes(length, "little") if length else b""
            )
        case _:
            text = random.choice(TEXTS)
            text += b" " * (len(text) % 2)
            if kind in (b"DS", b"IS", b"UI", b"CS", b"LO", b"SH", b"PN") and len(text) < 2**16:
                content[start - 2 : start + length] = len(text).to_bytes(2, "little") + text
            else:
                there = bytes(content[start : start + length])  # a length may have been made a lie
                content[start : start + length] = of_bytes(there, random)[: len(there)].ljust(len(there), b"\0")
    return bytes(content)


def _of_member(_: str) -> Mutate:
    return _of_file


def _read(data: bytes, folder: Path) -> None:
    path = folder / "study.zip"
    path.write_bytes(data)
    ways: tuple[Any, ...] = (find_series, read_size, read_image, read_labels)
    try_all([partial(way, path) for way in ways])


TARGETS = (
    Target(
        "dicom", "DICOM series in zips, files of several frames", _studies, _read, either(of_zip(_of_member), of_zip(_of_member), of_bytes)
    ),
)
