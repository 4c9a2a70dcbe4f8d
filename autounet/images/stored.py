"""What the readers of all formats share: the array as it lies in the file, and the checks on files, sizes and values."""

import errno
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from autounet.errors import ImageError
from autounet.geometry import Grid, slant_degrees
from autounet.labels import IntArray

AnyArray = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

MAX_BYTES = 64 * 2**30
"""A header that claims more voxels than this is taken for damaged."""

DEFLATE_MAX_RATIO = 1100
"""zlib cannot expand data more than 1032 times; a header that claims more than this cannot be true."""

SLANT_DEGREES = 1.0
"""So far from a right angle axes may be: what headers round."""

TILT_DEGREES = 45.0
"""So far off the slices' normal the line from slice to slice may be: a gantry tilts by 30° at most."""

MM_PER_UNIT = {
    **{"angstrom": 1e-7, "nm": 1e-6, "nanometer": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "\\u00b5m": 1e-3, "micron": 1e-3},
    **{"microns": 1e-3, "micrometer": 1e-3, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1000.0, "meter": 1000.0},
}
"""Units of length as ImageJ, OME, NRRD and MetaImage write them, in lower case."""

COPY_AGAIN = "copy the file again from its source, or export it anew"


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as it lies in the file; the true intensities are ``values * slope + intercept``."""

    values_czyx: AnyArray
    """Native byte order; any axis order in memory."""
    grid: Grid
    slope: float = 1.0
    intercept: float = 0.0


PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
"""What a network disk says when it is away for a moment, or a file was replaced on the server."""


def check_file(path: Path) -> int:
    """Size of a file in bytes. Raises ImageError when it is missing, empty or not a file."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        what = "is a link to nothing" if path.is_symlink() else "no such file"
        raise ImageError(f"{path}: {what}", remedy="check the path, or restore the file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened", found=error.strerror or error, remedy="check the path and its permissions") from error
    if not path.is_file():
        raise ImageError(f"{path}: is not a file", found="a folder" if path.is_dir() else "something else", expected="an image file")
    if size == 0:
        raise ImageError(f"{path}: the file is empty", found="0 bytes", remedy=COPY_AGAIN)
    return size


def check_folder(path: Path) -> None:
    """Raises ImageError where an image that is a folder is missing or something else."""
    if path.is_dir():
        return
    check_file(path)
    raise ImageError(f"{path}: is a file", expected="a folder, as OME-Zarr has it", remedy="unpack it, if it is an archive")


def damaged(path: Path, found: object, expected: object = None) -> ImageError:
    """The error for a file that cannot be decoded; long messages of libraries are cut to their last line."""
    if isinstance(found, PermissionError):
        return ImageError(f"{path}: cannot be opened", found=found.strerror, remedy="check the file's permissions")
    if isinstance(found, OSError) and found.errno is not None and found.errno in PASSING:
        remedy = "check the disk, or the network that it is reached by, and run the same command again"
        return ImageError(f"{path}: cannot be read", found=found.strerror, remedy=remedy)
    if isinstance(found, BaseException):
        lines = [line.strip() for line in str(found).splitlines() if line.strip()]
        found = lines[-1][:200] if lines else type(found).__name__
    return ImageError(f"{path}: is damaged, incomplete or of another format", found=found, expected=expected, remedy=COPY_AGAIN)


def check_size(path: Path, claimed_bytes: int, compressed_bytes: int | None = None) -> None:
    """Refuses a header that claims an absurd size, before memory is asked for.

    Args:
        path: For the message.
        claimed_bytes: Size of the voxels by the header.
        compressed_bytes: Size of the file where the voxels in it are deflated, else None.

    Raises:
        ImageError: More than 64 GiB, or more than the file can possibly hold.
    """
    limit = MAX_BYTES if compressed_bytes is None else min(MAX_BYTES, compressed_bytes * DEFLATE_MAX_RATIO + 2**16)
    if claimed_bytes > limit:
        raise damaged(path, f"a header that claims {claimed_bytes:,} bytes of voxels", f"at most {limit:,}")


def make_grid(path: Path, shape_czyx: tuple[int, ...], spacing_mm_xyz: tuple[float, ...], **rest: Any) -> Grid:
    """The grid of an image that was read.

    Raises:
        ImageError: A size or spacing is zero or negative, or a spacing, the origin or the direction is not finite.
    """
    if min(shape_czyx) < 1:
        raise damaged(path, f"{'×'.join(str(size) for size in shape_czyx[-3:])} voxels")
    if not all(np.isfinite(value) and value > 0 for value in spacing_mm_xyz):
        shown = ", ".join(f"{value:.6g}" for value in spacing_mm_xyz)
        raise ImageError(
            f"{path}: the voxel spacing is unusable",
            found=f"{shown} mm (x, y, z)",
            expected="positive numbers",
            remedy="correct the header, e.g. with SimpleITK's SetSpacing",
        )
    x, y, z = (*(float(value) for value in spacing_mm_xyz), 1.0)[:3]
    depth, height, width = shape_czyx[-3:]
    try:
        return Grid(shape_zyx=(depth, height, width), spacing_mm_zyx=(z, y, x), **rest)
    except ValidationError as error:
        raise damaged(path, f"header: {error.errors()[0]['msg']}") from None


def check_right_angles(path: Path, axes: npt.NDArray[np.floating[Any]]) -> None:
    """Refuses axes that are not at right angles.

    Only the third may be slanted, as of a CT with a tilted gantry: such an image is taken as it lies, each slice in its place.

    Args:
        path: For the message.
        axes: Columns are the directions of the array axes x, y, z, of any length.

    Returns:
        Whether the third axis is more than ``ROUNDED_DEGREES`` off.

    Raises:
        ImageError: x and y are more than ``SLANT_DEGREES`` off a right angle, or z more than ``TILT_DEGREES`` off the normal of both.
    """
    across, down, _ = (axes / np.linalg.norm(axes, axis=0)).T
    angle = float(np.degrees(np.arccos(np.clip(across @ down, -1, 1))))
    slanted = abs(angle - 90) > SLANT_DEGREES
    if slanted or slant_degrees(axes) > TILT_DEGREES:
        raise ImageError(
            f"{path}: the axes are not at right angles",
            found=f"{angle:.4g}° between x and y" if slanted else f"z slanted by {slant_degrees(axes):.4g}°",
            expected=f"90°, within {SLANT_DEGREES:g}°" if slanted else f"at most {TILT_DEGREES:g}°",
            remedy="resample it to a straight grid (dcm2niix does so for a tilted gantry: the file whose name ends in _Tilt)",
        )


def planar_grid(height: int, width: int) -> Grid:
    """The grid of a format that knows no geometry: two axes, spacing 1."""
    return Grid(ndim=2, shape_zyx=(1, height, width), spacing_mm_zyx=(1.0, 1.0, 1.0))


LEAST_LEVELS = 256
"""So many different intensities must be left between the lowest and the highest."""


def check_precision(stored: Stored, path: Path) -> None:
    """Refuses numbers with an offset so large that as 32-bit numbers, as which networks get them, hardly any differ.

    2^40 + 1 and 2^40 are one such number; of 16-bit integers nothing is lost. An image of one value has nothing to lose.

    Raises:
        ImageError: Says what to subtract.
    """
    if stored.values_czyx.dtype.itemsize < 4 or stored.values_czyx.dtype == np.float32:
        return
    for channel in stored.values_czyx:
        low, high = channel.min(), channel.max()
        lowest, highest = (float(value) * stored.slope + stored.intercept for value in (low, high))
        largest = max(abs(lowest), abs(highest))
        if not math.isfinite(largest) or largest > float(np.finfo(np.float32).max) or low == high:
            continue  # check_finite says so
        # In whole numbers where they are such: float64 loses the last bits of 64-bit integers.
        extent = abs((int(high) - int(low)) * stored.slope if channel.dtype.kind in "iu" else highest - lowest)
        if largest > 2**24 and extent < LEAST_LEVELS * float(np.spacing(np.float32(largest))):
            raise ImageError(
                f"{path}: the intensities differ too little for their size: 32-bit numbers cannot tell them apart",
                found=f"{lowest:.17g} to {highest:.17g}",
                expected="an offset that leaves more of the differences",
                remedy=f"subtract {lowest:.17g} from every voxel and save the image again",
            )


def to_float32(stored: Stored) -> FloatArray:
    """True intensities as a C-contiguous float32 array (c, z, y, x); no copy where the file holds just that.

    Scaled integers are computed in float64, plane by plane, and rounded once.
    """
    values = stored.values_czyx
    # A float64 beyond float32's range becomes infinite, which check_finite reports.
    with np.errstate(over="ignore", invalid="ignore"):
        if stored.slope == 1.0 and stored.intercept == 0.0:
            return np.ascontiguousarray(values, dtype=np.float32)
        scaled = np.empty(values.shape, np.float32)
        for channel in range(values.shape[0]):
            for z in range(values.shape[1]):
                scaled[channel, z] = values[channel, z].astype(np.float64) * stored.slope + stored.intercept
        return scaled


def to_labels(stored: Stored, path: Path) -> IntArray:
    """Label values (z, y, x), C-contiguous: the file's integer type, or the smallest unsigned one for a file of floats.

    Raises:
        ImageError: Several channels, values that are not whole numbers, or negative values.
    """
    values = stored.values_czyx
    if values.shape[0] != 1:
        raise ImageError(
            f"{path}: a label map has one channel", found=f"{values.shape[0]} channels", remedy="save the label values as one grey channel"
        )
    volume = values[0]
    if volume.dtype.kind == "b":
        volume = volume.astype(np.uint8)
    if volume.dtype.kind == "f" or stored.slope != 1.0 or stored.intercept != 0.0:
        return _whole_numbers(volume, stored, path)
    lowest = int(volume.min())
    if lowest < 0:
        raise _negative(path, lowest)
    labels: IntArray = np.ascontiguousarray(volume)
    return labels


def _whole_numbers(volume: AnyArray, stored: Stored, path: Path) -> IntArray:
    # slope and intercept were rounded to float32 in the header: a scaled value may miss its whole number by that much.
    exact = stored.slope == 1.0 and stored.intercept == 0.0
    highest = 0
    labels = np.empty(volume.shape, np.uint64)
    for z, plane in enumerate(volume):
        true = plane.astype(np.float64) * stored.slope + stored.intercept
        whole = np.rint(true)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(true - whole) <= (0.0 if exact else 1e-5 * np.maximum(np.abs(true), 1.0)))
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            raise ImageError(
                f"{path}: a label map holds whole numbers only",
                found=f"{true[y, x]:.10g} at voxel ({z}, {y}, {x}) (z, y, x)",
                remedy="save the label map with an integer type, without interpolation",
            )
        if whole.min() < 0:
            raise _negative(path, int(whole.min()))
        if whole.max() >= 2**53:
            raise ImageError(f"{path}: label values are too large", found=f"{whole.max():.6g}", expected="values below 65536")
        highest = max(highest, int(whole.max()))
        labels[z] = whole
    return labels.astype(np.min_scalar_type(highest))


def _negative(path: Path, lowest: int) -> ImageError:
    return ImageError(f"{path}: negative label values", found=lowest, expected="0 and up", remedy="correct the label map")


def check_finite(image_czyx: npt.NDArray[np.floating[Any]], name: str) -> None:
    """Refuses NaN and infinite voxels.

    Args:
        image_czyx: Image (c, z, y, x).
        name: The file or case, for the message.

    Raises:
        ImageError: Says how many there are and where the first one is.
    """
    count, first = 0, ""
    for channel in range(image_czyx.shape[0]):
        for z in range(image_czyx.shape[1]):
            plane = image_czyx[channel, z]
            finite = np.isfinite(plane)
            if finite.all():
                continue
            count += int(finite.size - np.count_nonzero(finite))
            if not first:
                y, x = np.argwhere(~finite)[0]
                first = f"{plane[y, x]} at channel {channel}, voxel ({z}, {y}, {x}) (z, y, x)"
    if count:
        raise ImageError(
            f"{name}: voxels that are NaN, infinite, or beyond the range of 32-bit numbers",
            found=f"{count}, the first {first}",
            remedy="replace them, e.g. with numpy.nan_to_num and numpy.clip, and save the image again",
        )


def storable_labels(labels_zyx: npt.NDArray[Any], grid: Grid) -> IntArray:
    """Labels as they are written: C-contiguous, little-endian, 64-bit integers and booleans in the smallest type that holds them.

    Raises:
        ValueError: Not integers, negative, or not of the grid's shape (mistakes of the caller).
    """
    if labels_zyx.dtype.kind not in "iub":
        raise ValueError(f"labels of type {labels_zyx.dtype}: integers are needed")
    if labels_zyx.shape != grid.shape_zyx:
        raise ValueError(f"labels of shape {labels_zyx.shape} for a grid of shape {grid.shape_zyx}")
    if labels_zyx.dtype.kind == "i" and labels_zyx.min() < 0:
        raise ValueError("labels must not be negative")
    dtype = labels_zyx.dtype
    if dtype.itemsize == 8 or dtype.kind == "b":
        # Many viewers cannot open 64-bit label maps.
        dtype = np.min_scalar_type(int(labels_zyx.max()))
    labels: IntArray = np.ascontiguousarray(labels_zyx, dtype=dtype.newbyteorder("<"))
    return labels
