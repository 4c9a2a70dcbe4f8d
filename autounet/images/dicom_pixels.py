"""Pixels of a DICOM file → numbers: by pydicom and, for the JPEG kinds that it cannot decode here, by ITK's GDCM."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autounet.errors import ImageError
from autounet.images.dicom_files import load_pydicom
from autounet.images.dicom_frames import frame_count
from autounet.images.stored import AnyArray, damaged

END_OF_IMAGE = b"\xff\xd9"
"""Last bytes of every kind of JPEG: without them the frame is cut off, which decoders fill up with grey."""


def decoded_frames(path: Path, dataset: Any) -> Iterator[tuple[int, AnyArray]]:
    """The frames of a file that was read whole, one at a time, with their numbers.

    Yields:
        Number, and pixels (y, x) or, of colours, (y, x, 3) as RGB; a modality table is applied, a rescale slope is not.

    Raises:
        ImageError: The pixels are missing, cut off or packed in a way that nothing here unpacks.
    """
    pydicom = load_pydicom()
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_private or not syntax.is_transfer_syntax:
            raise _not_decoded(path, syntax)
        frames = _compressed(path, dataset, syntax, pydicom) if syntax.is_encapsulated else _with_pydicom(dataset, pydicom)
        for number, pixels in enumerate(frames):
            if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
                pixels = pydicom.pixels.processing.apply_color_lut(pixels, dataset)
            if dataset.get("ModalityLUTSequence"):
                pixels = pydicom.pixels.processing.apply_modality_lut(pixels, dataset)
            yield number, pixels
    except (ImageError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # decoders raise many kinds
        raise damaged(path, error) from error


def _with_pydicom(dataset: Any, pydicom: Any) -> Iterator[AnyArray]:
    yield from pydicom.pixels.iter_pixels(dataset)


def _compressed(path: Path, dataset: Any, syntax: Any, pydicom: Any) -> Iterator[AnyArray]:
    count = frame_count(dataset)
    if syntax != pydicom.uid.RLELossless:
        for number, frame in enumerate(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count)):
            if END_OF_IMAGE not in frame[-16:]:
                raise damaged(path, f"frame {number + 1} without its end")
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise _not_decoded(path, syntax) from None
    wide = syntax == pydicom.uid.JPEGExtended12Bit and int(dataset.BitsStored) > 8  # Pillow's JPEG knows 8 bits
    if not wide and decoder.is_available:
        yield from _with_pydicom(dataset, pydicom)
        return
    for frame in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        yield _with_itk(path, dataset, syntax, frame, pydicom)


def _with_itk(path: Path, dataset: Any, syntax: Any, frame: bytes, pydicom: Any) -> AnyArray:
    """One frame by ITK's GDCM, which reads files only: the pixels alone, nothing of the patient, pass through a temporary one."""
    import SimpleITK

    sitk: Any = SimpleITK
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    bare = pydicom.Dataset()
    bare.SOPClassUID, bare.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", pydicom.uid.generate_uid()
    for name in ("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        setattr(bare, name, dataset.get(name))
    bare.PixelRepresentation = dataset.get("PixelRepresentation", 0)
    if bare.SamplesPerPixel != 1:
        bare.PlanarConfiguration = dataset.get("PlanarConfiguration", 0)
    bare.PixelData = pydicom.encaps.encapsulate([frame])
    bare["PixelData"].VR = "OB"
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    bare.file_meta.MediaStorageSOPClassUID, bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPClassUID, bare.SOPInstanceUID
    with tempfile.TemporaryDirectory(prefix="autounet-") as folder:
        file = Path(folder) / "frame.dcm"
        bare.save_as(file, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            values: AnyArray = sitk.GetArrayFromImage(reader.Execute())[0]
        except RuntimeError as error:
            raise _not_decoded(path, syntax) from error
    return values


def _not_decoded(path: Path, syntax: Any) -> ImageError:
    return ImageError(
        f"{path}: the pixels are packed in a way that cannot be unpacked here",
        found=syntax.name,
        expected="uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000",
        remedy="export the series uncompressed, or unpack it, e.g. with gdcmconv --raw",
    )
