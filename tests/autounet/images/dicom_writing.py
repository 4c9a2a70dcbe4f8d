"""Small DICOM files for tests, written with pydicom from nothing but what each test is about."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
"""Rows and columns that are along no axis of the patient; the normal is (0.48, -0.64, 0.6)."""

Change = Callable[[int, Dataset], None]


def uid(name: str) -> str:
    """An identifier that is the same for the same name."""
    return str(generate_uid(entropy_srcs=[name]))


def image(pixels: npt.NDArray[Any], name: str = "image", **tags: Any) -> Dataset:
    """A CT image without any place in the patient; colours are the last axis."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, uid(f"{name} {pixels.tobytes()!r}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Secret^Name", "ID-4711"
    dataset.SeriesNumber, dataset.SeriesDescription = 3, "Abdomen"
    colours = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colours else (1, "MONOCHROME2")
    if colours:
        dataset.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian, bare: bool = False) -> Path:
    """Writes a file; ``bare`` is without preamble and file meta information, as before 1996."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if bare:
        whole = pydicom.filebase.DicomBytesIO()
        whole.is_implicit_VR, whole.is_little_endian = syntax == pydicom.uid.ImplicitVRLittleEndian, True
        pydicom.filewriter.write_dataset(whole, dataset)
        path.write_bytes(whole.getvalue())
    else:
        dataset.save_as(path, enforce_file_format=True)
    return path


def series(
    volume_zyx: npt.NDArray[Any],
    orientation: Sequence[float] = OBLIQUE,
    spacing_zyx: tuple[float, float, float] = (2.5, 0.7, 0.5),
    origin: Sequence[float] = (-10.0, 20.0, 30.0),
    step: Sequence[float] | None = None,
    name: str = "series",
    change: Change | None = None,
    **tags: Any,
) -> list[Dataset]:
    """The slices of a volume in order; ``step`` in mm leads from each to the next, by default along the normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    by = normal * spacing_zyx[0] if step is None else np.array(step)
    slices = []
    for z, plane in enumerate(volume_zyx):
        dataset = image(plane, f"{name} {z}", **{"SeriesInstanceUID": uid(name), **tags})
        dataset.ImageOrientationPatient = [float(value) for value in orientation]
        dataset.ImagePositionPatient = [round(float(value), 6) for value in np.array(origin) + z * by]
        dataset.FrameOfReferenceUID = uid("frame of reference")
        dataset.PixelSpacing = [spacing_zyx[1], spacing_zyx[2]]
        dataset.SliceThickness = 7.0  # what nobody should take for the distance of slices
        dataset.InstanceNumber = 100 - z  # nor this for their order
        if change is not None:
            change(z, dataset)
        slices.append(dataset)
    return slices


def save_all(slices: Sequence[Dataset], folder: Path, **how: Any) -> Path:
    """Writes slices under names whose order is neither theirs nor its reverse."""
    for z, dataset in enumerate(slices):
        save(dataset, folder / f"IM{(z * 7 + 3) % 1009:04d}", **how)
    return folder


def volume(depth: int = 4, dtype: str = "i2") -> npt.NDArray[Any]:
    """Numbers that are all different, up to the type's range."""
    return (np.arange(depth * 5 * 6).reshape(depth, 5, 6) - (50 if dtype.startswith("i") else 0)).astype(dtype)
