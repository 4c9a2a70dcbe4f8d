"""Image and label files of every supported format ↔ arrays and grids."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.image_names import DICOM, IMAGE_ENDINGS, WRITTEN_ENDINGS, image_format
from autounet.images import dicom, itk, nifti, ome_zarr, planar, tiff
from autounet.images.stored import SLANT_DEGREES, FloatArray, Stored, check_precision, storable_labels, to_float32, to_labels
from autounet.labels import IntArray

logger = logging.getLogger(__name__)

Reader = Callable[[Path, bool], Stored]
"""(path, whether it is a label map) → the image as it is stored."""

Writer = Callable[[Path, IntArray, Grid, Path | None], None]
"""(path, labels (z, y, x), grid, source image of the same format or None)."""

READERS: dict[str, Reader] = {
    ".nii.gz": nifti.read,
    ".nii": nifti.read,
    ".nrrd": itk.read,
    ".nhdr": itk.read,
    ".mha": itk.read,
    ".mhd": itk.read,
    ".png": planar.read,
    ".bmp": planar.read,
    ".jpg": planar.read,
    ".jpeg": planar.read,
    ".tif": tiff.read,
    ".tiff": tiff.read,
    DICOM: dicom.read,
    ".ome.zarr": ome_zarr.read,
    ".zarr": ome_zarr.read,
}

WRITERS: dict[str, Writer] = {
    ".nii.gz": nifti.write,
    ".nii": nifti.write,
    ".nrrd": itk.write,
    ".nhdr": itk.write,
    ".mha": itk.write,
    ".mhd": itk.write,
    ".png": planar.write,
    ".bmp": planar.write,
    ".tif": tiff.write,
    ".tiff": tiff.write,
}


SIZES: dict[str, Callable[[Path], tuple[int, Grid]]] = {
    ".nii.gz": nifti.read_size,
    ".nii": nifti.read_size,
    ".nrrd": itk.read_size,
    ".nhdr": itk.read_size,
    ".mha": itk.read_size,
    ".mhd": itk.read_size,
    ".png": planar.read_size,
    ".bmp": planar.read_size,
    ".jpg": planar.read_size,
    ".jpeg": planar.read_size,
    ".tif": tiff.read_size,
    ".tiff": tiff.read_size,
    DICOM: dicom.read_size,
    ".ome.zarr": ome_zarr.read_size,
    ".zarr": ome_zarr.read_size,
}


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid of an image, from its header alone: what it will take, before it is read; not checked as reading does.

    Raises:
        ImageError: The file is missing, damaged or of another format.
    """
    reader = SIZES.get(image_format(path))
    if reader is None:
        raise _unknown(path)
    return reader(path)


def read_image(path: Path) -> tuple[FloatArray, Grid]:
    """Reads an image.

    Returns:
        Intensities (c, z, y, x), float32, C-contiguous, with the file's scaling applied; and the grid (mm, ITK's axes).
        A fourth axis and colours are channels; transparency is dropped; a planar image has z = 1 and ``grid.ndim == 2``.
        NaN and infinite voxels are passed on: see ``check_finite``.

    Raises:
        ImageError: The file is missing, damaged, of another format, holds what is not an image, or numbers so large that 32 bits
            cannot tell them apart.
    """
    stored = _reader(path)(path, False)
    if stored.grid.slant_degrees() > SLANT_DEGREES:
        logger.warning(
            "%s: each slice is shifted against the one before (slanted by %.3g°, a tilted gantry?); the image is used as it lies",
            path, stored.grid.slant_degrees(),
        )  # fmt: skip
    check_precision(stored, path)
    return to_float32(stored), stored.grid


def read_channels(paths: Sequence[Path], expected_channels: int) -> tuple[FloatArray, Grid]:
    """Reads a case: one file that holds all channels, or one file per channel in order.

    Returns:
        Intensities (c, z, y, x), float32, C-contiguous, with ``c == expected_channels``; and the grid of the first file.

    Raises:
        ImageError: As ``read_image``; or the number of channels or the grids of the files differ from what they should be.
    """
    first, grid = read_image(paths[0])
    found = first.shape[0]
    if len(paths) == 1 and found == expected_channels:
        return first, grid
    if len(paths) == 1 or len(paths) != expected_channels:
        channels = f"{found} channel{'s' if found != 1 else ''} in 1 file" if len(paths) == 1 else f"{len(paths)} files"
        raise ImageError(
            f"{', '.join(str(path) for path in paths)}: wrong number of channels",
            found=channels,
            expected=expected_channels,
            remedy="give one file per channel (case_0000, case_0001, …) or one file with all of them; for one channel make colours grey",
        )
    image = np.empty((expected_channels, *grid.shape_zyx), np.float32)
    for channel, path in enumerate(paths):
        values, own = (first, grid) if channel == 0 else read_image(path)
        if values.shape[0] != 1:
            raise ImageError(
                f"{path}: wrong number of channels",
                found=f"{values.shape[0]} in one of {len(paths)} channel files",
                expected="1 in each",
                remedy="save each channel as a file of its own",
            )
        differences = grid.differences(own)
        if differences:
            raise ImageError(
                f"{path}: is not on the same grid as {paths[0].name}",
                found="; ".join(differences),
                expected="equal grids for all channels of a case",
                remedy="register and resample the channels onto one of them",
            )
        image[channel] = values[0]
    return image, grid


def read_labels(path: Path) -> tuple[IntArray, Grid]:
    """Reads a label map.

    Returns:
        Values (z, y, x) exactly as stored, in the file's integer type (the smallest unsigned one for a file of floats),
        C-contiguous; and the grid.

    Raises:
        ImageError: As ``read_image``; or several channels, values that are not whole numbers, negative values, a JPEG.
    """
    ending = image_format(path)
    if ending in (".jpg", ".jpeg"):
        raise ImageError(f"{path}: a JPEG cannot hold labels, its compression changes values", remedy="save the label map as PNG")
    if ending == DICOM:
        raise ImageError(f"{path}: is DICOM, whose images are no label maps", remedy="convert the segmentation to NIfTI, NRRD or MHA")
    stored = _reader(path)(path, True)
    return to_labels(stored, path), stored.grid


def write_labels(path: Path, labels_zyx: npt.NDArray[Any], grid: Grid, like: Path | None = None) -> None:
    """Writes a label map; a reader sees the old file or the new one, never a part.

    Args:
        path: Its ending chooses the format.
        labels_zyx: Non-negative integers (z, y, x).
        grid: Where the voxels lie.
        like: The source image. Where it is of the same format, its header's geometry is carried over as it is, so that the
            two files agree exactly. Otherwise it is not opened.

    Raises:
        ImageError: The ending cannot hold label maps, the format cannot hold these, or ``like`` does not fit them.
        ArtefactError: The folder cannot be written to.
    """
    ending = image_format(path)
    writer = WRITERS.get(ending)
    if writer is None:
        raise ImageError(
            f"{path}: label maps cannot be written in this format",
            found=ending or path.suffix or "no ending",
            expected=" ".join(WRITTEN_ENDINGS),
            remedy="choose one of these endings",
        )
    same = like is not None and WRITERS.get(image_format(like)) is writer
    writer(path, storable_labels(labels_zyx, grid), grid, like if same else None)


def _reader(path: Path) -> Reader:
    ending = image_format(path)
    reader = READERS.get(ending)
    if reader is None:
        raise _unknown(path)
    return reader


def _unknown(path: Path) -> ImageError:
    pair = path.suffix.lower() in (".hdr", ".img")
    return ImageError(
        f"{path}: file type not supported",
        found=path.suffix or "no ending",
        expected=" ".join(IMAGE_ENDINGS),
        # Of ANALYZE nobody knows where left is; NIfTI's pairs are left to nibabel.
        remedy="save header and voxels as one .nii.gz, e.g. with nibabel" if pair else "convert the image to one of these",
    )
