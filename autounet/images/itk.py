"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), with SimpleITK; both keep the geometry in full precision."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from autounet.artefact import atomic_path, partial_prefix
from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.image_names import split_ending
from autounet.images.itk_headers import check_header
from autounet.images.meaning import Meaning
from autounet.images.slicer import segmentation_keys
from autounet.images.stored import MM_PER_UNIT, AnyArray, Stored, check_file, check_right_angles, check_size, damaged, make_grid
from autounet.labels import IntArray

IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".png": "PNGImageIO"}
"""ITK's reader by ending; the planar reader borrows the one for PNG."""

LENGTH_TOLERANCE = 1e-2
"""So much may a direction's length differ from 1: what headers round."""

MAX_HEADER_BYTES = 2**16
"""So much of a file is looked at for the fields of its header."""

PAIRS = {".mhd": ".zraw", ".nhdr": ".raw.gz"}
"""Headers without voxels → how ITK ends the name of the file that has them."""

COMPONENT_BYTES = {
    **{"8-bit signed integer": 1, "8-bit unsigned integer": 1, "16-bit signed integer": 2, "16-bit unsigned integer": 2},
    **{"32-bit signed integer": 4, "32-bit unsigned integer": 4, "64-bit signed integer": 8, "64-bit unsigned integer": 8},
    **{"32-bit float": 4, "64-bit float": 8},
}
"""SimpleITK's names of the numbers that can be used → bytes of each."""


def read(path: Path, as_labels: bool) -> Stored:
    """Reads a file with ITK; components of a vector and a fourth axis are channels. ``as_labels`` makes no difference.

    Raises:
        ImageError: The file is damaged or holds what is not an image.
    """
    check_file(path)
    (reader, voxel_bytes), sitk, header = _reader(path), _simpleitk(), _header(path)
    try:
        reader.ReadImageInformation()
        sizes = tuple(int(size) for size in reader.GetSize())
        kind = str(sitk.GetPixelIDValueAsString(reader.GetPixelID()))
        component = kind.removeprefix("vector of ")
        channels = int(reader.GetNumberOfComponents())
        if component not in COMPONENT_BYTES or len(sizes) not in (2, 3, 4) or (len(sizes) == 4 and channels > 1):
            raise _no_volume(path, f"{kind}, axis sizes {sizes}")
        claimed = int(np.prod((*sizes, channels), dtype=object)) * COMPONENT_BYTES[component]
        check_size(path, claimed, voxel_bytes)
        geometry = reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
        values = _channels_first(sitk.GetArrayFromImage(reader.Execute()), len(sizes), channels)
    except (RuntimeError, ValueError) as error:
        raise _refused(path, error) from error
    return Stored(values, _grid(path, values.shape, len(sizes), _unit_mm(header), *geometry))


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the header alone. Raises ImageError."""
    check_file(path)
    (reader, _), header = _reader(path), _header(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _refused(path, error) from error
    axes = len(reader.GetSize())
    if axes not in (2, 3, 4):
        raise _no_volume(path, f"{axes} axes")
    x, y, z, channels = (*(int(size) for size in reader.GetSize()), 1, 1)[:4]
    grid = _grid(path, (channels, z, y, x), axes, _unit_mm(header), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    return channels * int(reader.GetNumberOfComponents()), grid


def _reader(path: Path) -> tuple[Any, int]:
    """ITK's reader for a file whose header it can be given, and the bytes of the file that holds the voxels. Raises ImageError."""
    ending = split_ending(path)[1].lower()
    voxel_bytes = path.stat().st_size if ending == ".png" else check_header(path)
    reader = _simpleitk().ImageFileReader()
    reader.SetImageIO(IMAGE_IO[ending])
    reader.SetFileName(str(path))
    return reader, voxel_bytes


def _no_volume(path: Path, found: str) -> ImageError:
    return ImageError(
        f"{path}: is not an image volume",
        found=found,
        expected="numbers on 2, 3 or 4 axes",
        remedy="save the image again as one 3D volume, or as one volume per channel",
    )


def _refused(path: Path, error: Exception) -> ImageError:
    """ITK's complaint in our words, where it is about the geometry."""
    text = " ".join(str(error).split())
    spacing, direction = re.search(r"change spacing from .* to (\[.*?\])", text), re.search(r"determinant is 0.* to (.*)", text)
    if spacing:
        return ImageError(
            f"{path}: the voxel spacing is unusable",
            found=f"{spacing[1]} mm (x, y, z)",
            expected="positive numbers",
            remedy="correct the header, e.g. with SimpleITK's SetSpacing",
        )
    if direction:
        return _no_directions(path, direction[1])
    if "not available in NrrdIO" in text:
        return ImageError(f"{path}: the compression cannot be unpacked", found="bzip2", expected="gzip or raw", remedy="save it with gzip")
    mismatch = re.search(r"number of domain axes.*?\((\d)\).*?\((\d)\)", text)
    if mismatch:
        return ImageError(
            f"{path}: is not an image volume",
            found=f"{mismatch[1]} axes of positions in a space of {mismatch[2]}",
            expected="3 axes of positions, and for channels a further one of kind vector or list",
            remedy="correct the field 'kinds', or save one volume per channel or time point",
        )
    return damaged(path, error)


def _no_directions(path: Path, found: object) -> ImageError:
    return ImageError(
        f"{path}: the axes' directions are unusable",
        found=found,
        expected="three independent directions of length 1",
        remedy="correct the header, e.g. with SimpleITK's SetDirection",
    )


def _channels_first(values: AnyArray, axes: int, channels: int) -> AnyArray:
    if channels > 1:
        values = np.moveaxis(values, -1, 0)
    elif axes < 4:
        values = values[None]
    return values if values.ndim == 4 else values[:, None]


def _header(path: Path) -> dict[str, str]:
    """The fields of a header as text, names in lower case; empty for PNG. What ITK does not look at is looked up here."""
    fields: dict[str, str] = {}
    if IMAGE_IO[path.suffix.lower()] == "PNGImageIO":
        return fields
    with path.open("rb") as stream:
        for raw in stream.read(MAX_HEADER_BYTES).split(b"\n"):
            line = raw.decode("utf-8", "replace").strip()
            if not line:
                break
            name, found, value = line.partition("=" if IMAGE_IO[path.suffix.lower()] == "MetaImageIO" else ":")
            if found and not line.startswith("#"):
                fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":  # voxels may follow
                break
    return fields


def _unit_mm(header: dict[str, str]) -> float:
    """Millimetres per unit of the header's lengths, which ITK leaves as they are; 1 where it says none that is known for all axes."""
    named = header.get("space units") or header.get("units") or header.get("distanceunits") or ""
    units = {unit for unit in re.findall(r"[^\s\"]+", named.lower())}
    return MM_PER_UNIT.get(units.pop(), 1.0) if len(units) == 1 else 1.0


def _grid(path: Path, shape_czyx: tuple[int, ...], axes: int, unit_mm: float, spacing: Any, origin: Any, direction: Any) -> Grid:
    spatial = min(axes, 3)
    matrix = np.eye(3)
    matrix[:spatial, :spatial] = np.array(direction).reshape(axes, axes)[:spatial, :spatial]
    if np.abs(np.linalg.norm(matrix, axis=0) - 1).max() > LENGTH_TOLERANCE:
        raise _no_directions(path, f"columns of length {', '.join(f'{length:.4g}' for length in np.linalg.norm(matrix, axis=0))}")
    check_right_angles(path, matrix)
    x, y, z = (*(value * unit_mm for value in origin[:spatial]), 0.0)[:3]
    spacing = tuple(value * unit_mm for value in spacing[:spatial])
    return make_grid(path, shape_czyx, spacing, ndim=spatial, origin_mm_xyz=(x, y, z), direction=tuple(matrix.ravel().tolist()))


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None, meaning: Meaning | None = None) -> None:
    """Writes a label map, compressed. The grid holds these formats' geometry in full precision: ``like`` is not needed.

    With ``meaning`` an NRRD file is a segmentation for 3D Slicer, too.

    Raises:
        ImageError: ITK cannot write it.
        ArtefactError: The folder cannot be written to.
    """
    sitk = _simpleitk()
    image = sitk.GetImageFromArray(labels_zyx if grid.ndim == 3 else labels_zyx[0])
    image.SetSpacing(grid.spacing_mm_zyx[::-1][: grid.ndim])
    image.SetOrigin(grid.origin_mm_xyz[: grid.ndim])
    matrix = np.array(grid.direction).reshape(3, 3)[: grid.ndim, : grid.ndim]
    # A 2D slice cut from a volume along another axis has no direction in the plane.
    image.SetDirection((matrix if abs(np.linalg.det(matrix)) > 1e-6 else np.eye(grid.ndim)).ravel().tolist())
    for key, text in ({} if meaning is None else segmentation_keys(meaning, labels_zyx)).items():
        image.SetMetaData(key, text)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO(IMAGE_IO[path.suffix.lower()])
    writer.UseCompressionOn()
    try:
        if path.suffix.lower() in PAIRS:
            _write_pair(writer, image, path)
            return
        with atomic_path(path) as temporary:
            writer.SetFileName(str(temporary))
            writer.Execute(image)
    except RuntimeError as error:
        found = str(error).strip().splitlines()[-1][:200]
        raise ImageError(f"{path}: cannot be written", found=found, remedy="check the folder's permissions and free space") from error


def _write_pair(writer: Any, image: Any, path: Path) -> None:
    """Such a header names the file of its voxels, so both are made under their final names in a folder aside, then put in place."""
    voxels = path.with_suffix(PAIRS[path.suffix.lower()])
    # The inner one is renamed first: the header appears when its voxels are there.
    with (
        atomic_path(path) as header_place,
        atomic_path(voxels) as voxel_place,
        tempfile.TemporaryDirectory(prefix=partial_prefix(), dir=path.parent) as folder,
    ):
        writer.SetFileName(str(Path(folder) / path.name))
        writer.Execute(image)
        os.replace(Path(folder) / voxels.name, voxel_place)
        os.replace(Path(folder) / path.name, header_place)


def _simpleitk() -> Any:
    import SimpleITK

    sitk: Any = SimpleITK
    # ITK prints its warnings to standard error itself; what matters becomes an ImageError.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk
