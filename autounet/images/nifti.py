"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz), with nibabel's headers.

The voxels are read straight into their array, so that a file costs one copy, truncation is noticed, and the check sum at
the end of a .nii.gz is verified; nibabel's own array reader stops before it.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from autounet.artefact import atomic_path
from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.nifti_geometry import RAS_TO_LPS, SCANNER, placement_of, unit_mm, warn_of_disagreement
from autounet.images.stored import AnyArray, Stored, check_file, check_size, damaged, make_grid
from autounet.labels import IntArray

DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""datatype codes that are read and written."""

OTHER_DTYPES = {
    1: "1-bit",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit floats",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}
"""datatype codes that exist but are refused."""

NEUTRAL_FIELDS = (
    *("data_type", "db_name", "extents", "session_error", "intent_p1", "intent_p2", "intent_p3", "intent_code", "intent_name"),
    *("slice_start", "slice_end", "slice_code", "slice_duration", "cal_max", "cal_min", "toffset", "glmax", "glmin"),
    *("descrip", "aux_file"),
)
"""Header fields that say something about the source's intensities or history and are cleared for a label map."""

GEOMETRY_REMEDY = "save the image again as one 3D volume, or as a 4D volume whose last axis holds the channels"


def read(path: Path, as_labels: bool) -> Stored:
    """Reads a NIfTI file; axes beyond the third are channels. ``as_labels`` makes no difference. Raises ImageError."""
    file_bytes = check_file(path)
    try:
        with _opened(path) as (stream, compressed):
            header = _read_header(stream, path)
            sizes = _sizes(header, path)
            dtype = _dtype(header, path)
            count = int(np.prod(sizes, dtype=object))
            check_size(path, count * dtype.itemsize, file_bytes if compressed else None)
            _skip_to_voxels(stream, header, path)
            if not compressed and file_bytes < stream.tell() + count * dtype.itemsize:
                raise damaged(path, f"{file_bytes:,} bytes", f"{stream.tell() + count * dtype.itemsize:,}")
            values = np.empty(sizes[::-1], dtype)
            _fill(stream, values, path)
            while compressed and stream.read(2**20):
                pass  # only at the end of the stream is its check sum compared
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error
    if dtype.byteorder == ">":
        values = values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    slope, intercept = _scaling(header)
    x, y, z = (*sizes, 1)[:3]
    czyx = values.reshape(-1, z, y, x)
    grid = _grid(header, czyx.shape, path)
    warn_of_disagreement(header, (x, y, z), path)
    return Stored(czyx, grid, slope, intercept)


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the header alone. Raises ImageError."""
    check_file(path)
    try:
        with _opened(path) as (stream, _):
            header = _read_header(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error
    x, y, z, channels = (*_sizes(header, path), 1, 1)[:4]
    return channels, _grid(header, (channels, z, y, x), path)


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None) -> None:
    """Writes a label map; the header's geometry is the one of ``like`` or, without it, made from the grid.

    Raises:
        ImageError: ``like`` cannot be read or has another shape.
        ArtefactError: The file cannot be written.
    """
    header = _header_for(path, grid) if like is None else _header_like(like, grid)
    codes = {name: code for code, name in DTYPES.items()}
    header["datatype"] = codes[labels_zyx.dtype.str[1:]]
    header["bitpix"] = labels_zyx.dtype.itemsize * 8
    header["scl_slope"], header["scl_inter"] = 1, 0
    # Right after the header come four zero bytes: no extensions.
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    with atomic_path(path) as temporary, temporary.open("wb") as raw:
        if path.name.lower().endswith(".gz"):
            # No name and no time in the gzip header: equal labels give equal bytes.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                _write_all(packed, header, labels_zyx)
        else:
            _write_all(raw, header, labels_zyx)


def _write_all(stream: IO[bytes] | gzip.GzipFile, header: Any, labels_zyx: IntArray) -> None:
    stream.write(header.binaryblock + bytes(4))
    stream.write(labels_zyx.data)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, bool]]:
    """The file's bytes, unpacked; whether it is packed is seen from its first bytes, not from its name."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw, False
            return
        with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            yield stream, True


def _read_header(stream: IO[bytes] | gzip.GzipFile, path: Path) -> Any:
    nifti1_header, nifti2_header = _header_types()
    start = stream.read(348)
    for order, name in (("<", "little"), (">", "big")):
        claimed = int.from_bytes(start[:4], "little" if name == "little" else "big")
        # check=False: nibabel reports its findings through a logger; what matters is checked here.
        if claimed == 348 and start[344:348] == b"n+1\0":
            return nifti1_header(start, order, check=False)
        if claimed == 540 and start[4:8] == b"n+2\0":
            rest = stream.read(540 - 348)
            if len(rest) == 540 - 348:
                return nifti2_header(start + rest, order, check=False)
    if len(start) < 348:
        raise damaged(path, f"{len(start)} bytes", "a NIfTI header of 348 bytes")
    if int.from_bytes(start[:4], "little") in (348, 348 << 16) and start[344:347] == b"ni1":
        raise ImageError(f"{path}: is the header of a two-file NIfTI", remedy="save header and voxels as one .nii.gz")
    raise damaged(path, "no NIfTI header at the start", "'n+1' or 'n+2'")


def _header_types() -> tuple[Any, Any]:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    return Nifti1Header, Nifti2Header


def _sizes(header: Any, path: Path) -> tuple[int, ...]:
    """Axis sizes in the file's order: x, y, z and, where there are several, channels."""
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise damaged(path, f"{rank} axes in the header", "2 to 5")
    sizes = tuple(int(size) for size in header["dim"][1 : rank + 1])
    if min(sizes) < 1:
        raise damaged(path, f"axis sizes {sizes} in the header", "sizes from 1 up")
    spatial, extra = sizes[:3], [size for size in sizes[3:] if size > 1]
    if rank == 1 or len(extra) > 1:
        raise ImageError(f"{path}: is not an image volume", found=f"axis sizes {sizes}", expected="2, 3 or 4 axes", remedy=GEOMETRY_REMEDY)
    return (*spatial, *extra)


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in DTYPES:
        found = OTHER_DTYPES.get(code)
        if found is None:
            raise damaged(path, f"datatype code {code}")
        raise ImageError(
            f"{path}: voxels of this type cannot be used",
            found=found,
            expected="integers or floating-point numbers",
            remedy="save each component as a channel (a 4D volume), or the magnitude of complex numbers",
        )
    return np.dtype(header.endianness + DTYPES[code]) if DTYPES[code][1] != "1" else np.dtype(DTYPES[code])


def _skip_to_voxels(stream: IO[bytes] | gzip.GzipFile, header: Any, path: Path) -> None:
    earliest = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    # Some programs leave vox_offset 0 and write the voxels at the first allowed place.
    if offset == 0:
        offset = earliest
    if not (np.isfinite(offset) and earliest - 4 <= offset < 2**40):
        raise damaged(path, f"vox_offset {offset}", f"{earliest} or more")
    stream.seek(int(offset))


def _fill(stream: IO[bytes] | gzip.GzipFile, values: AnyArray, path: Path) -> None:
    target = values.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(target):
        read = stream.readinto(target[done:])  # type: ignore[union-attr]
        if not read:
            raise damaged(path, f"{done:,} bytes of voxels", f"{len(target):,}")
        done += read


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; by the standard a slope of 0 means no scaling, and so does one that is not finite."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _grid(header: Any, shape_czyx: tuple[int, ...], path: Path) -> Grid:
    axes = min(int(header["dim"][0]), 3)
    spacing = tuple(float(value) * unit_mm(header) for value in header["pixdim"][1 : axes + 1])
    make_grid(path, shape_czyx, spacing)
    placed = placement_of(header, path)
    spacing = placed.spacing_mm_xyz or spacing
    return make_grid(path, shape_czyx, spacing[:axes], ndim=axes, origin_mm_xyz=placed.origin_mm_xyz, direction=placed.direction)


def _header_like(like: Path, grid: Grid) -> Any:
    """The source's header with its geometry (pixdim, qform, sform, codes, units) untouched and the rest neutral."""
    check_file(like)
    try:
        with _opened(like) as (stream, _):
            header = _read_header(stream, like)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(like, error) from error
    rank = min(int(header["dim"][0]), 3)
    shape = (*(int(size) for size in header["dim"][1 : rank + 1]), 1)[:3]
    if shape[::-1] != grid.shape_zyx:
        raise ImageError(f"{like}: has another shape than the labels", found=shape[::-1], expected=f"{grid.shape_zyx} (z, y, x)")
    header = header.as_byteswapped("<")
    empty = type(header)("<" and bytes(int(header["sizeof_hdr"])), "<", check=False)
    for name in NEUTRAL_FIELDS:
        if name in header.keys():  # noqa: SIM118 (a header's own `in` looks at values)
            header[name] = empty[name]
    header["dim"] = [rank, *shape, 1, 1, 1, 1]
    return header


def _header_for(path: Path, grid: Grid) -> Any:
    nifti1_header, nifti2_header = _header_types()
    depth, height, width = grid.shape_zyx
    # NIfTI-1 counts voxels along an axis with 16 bits.
    header: Any = (nifti1_header if max(grid.shape_zyx) < 2**15 else nifti2_header)(endianness="<")
    affine = grid.affine_xyz()
    affine[:3] *= RAS_TO_LPS[:, None]
    header["dim"] = [grid.ndim, width, height, depth, 1, 1, 1, 1]
    # A qform is a rotation: for slanted slices there is none, and readers that know no other transform should say so.
    if grid.slant_degrees() == 0:
        header.set_qform(affine, SCANNER)
    header.set_sform(affine, SCANNER)
    header["pixdim"][1:4] = grid.spacing_mm_zyx[::-1]
    header["xyzt_units"] = 2
    return header
