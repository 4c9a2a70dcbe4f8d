"""OME-Zarr 0.4 and 0.5 (folders ending in .zarr): the finest level of a multiscale image, or of a label map beside it.

What the folder holds is known from its JSON files, which are read here; the package ``zarr`` unpacks the voxels alone.
Source: the specification at ngff.openmicroscopy.org, versions 0.4 (Zarr 2) and 0.5 (Zarr 3).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.stored import MM_PER_UNIT, AnyArray, Stored, check_folder, check_size, damaged, make_grid

CODECS = (
    *("blosc", "bytes", "bz2", "crc32c", "delta", "endian", "fixedscaleoffset", "gzip", "lz4", "lzma", "packbits", "sharding_indexed"),
    *("shuffle", "transpose", "zlib", "zstd"),
)
"""What may stand between the voxels and the disk. Others are refused, because some of them (pickle) execute what a file brings."""

MAX_JSON_BYTES = 16 * 2**20
MAX_CHUNK_BYTES = 2 * 2**30
"""What Blosc can pack at once: a larger chunk is a mistake, and would be unpacked whole."""

SPEC = "an OME-Zarr image of version 0.4 or 0.5"
REMEDY = "save it as OME-Zarr 0.4 or 0.5, e.g. with bioformats2raw or ome-zarr-py, or as OME-TIFF"


@dataclass(frozen=True, slots=True)
class _Array:
    """What is known of an array before it is unpacked."""

    shape: tuple[int, ...]
    blosc: bool
    """Each chunk is a file packed with Blosc."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One array, and what its axes mean."""

    folder: Path
    array: "_Array"
    axes: str
    """One letter per axis, of t, c, z, y, x."""
    scale: dict[str, float]
    """mm per voxel, by axis of space."""
    translation: dict[str, float]
    """mm, by axis of space."""


def read(path: Path, as_labels: bool) -> Stored:
    """Reads the finest level; for labels the one label map in the folder's group ``labels``, where there is such a group.

    Chunks that are not there count as the fill value, as Zarr has it.

    Raises:
        ImageError: Another kind of folder, several time points, a unit or transformation that is not known, or damage.
    """
    level = _level(path, as_labels)
    zarr = _zarr()
    _check_chunks(path, level)
    try:
        values: AnyArray = np.asarray(zarr.open_array(level.folder, mode="r")[...])
    except MemoryError:
        raise
    except Exception as error:  # zarr's codecs raise many kinds
        raise damaged(path, error) from error
    kept = [index for index, name in enumerate(level.axes) if name != "t"]
    axes = level.axes.replace("t", "")
    values = values.reshape([level.array.shape[index] for index in kept])
    values = values.transpose([axes.index(name) for name in "czyx" if name in axes])
    if "z" not in axes:
        values = values[..., None, :, :]
    if "c" not in axes:
        values = values[None]
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return Stored(values, _grid(path, level))


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the JSON files alone. Raises ImageError."""
    level = _level(path, as_labels=False)
    return level.array.shape[level.axes.index("c")] if "c" in level.axes else 1, _grid(path, level)


def _grid(path: Path, level: _Level) -> Grid:
    sizes = dict(zip(level.axes, level.array.shape, strict=True))
    spacing = tuple(level.scale.get(axis, 1.0) for axis in "xyz")
    return make_grid(
        path,
        (1, sizes.get("z", 1), sizes["y"], sizes["x"]),
        spacing,
        ndim=3 if "z" in sizes else 2,
        origin_mm_xyz=tuple(level.translation.get(axis, 0.0) for axis in "xyz"),
    )


def _level(path: Path, as_labels: bool) -> _Level:
    check_folder(path)
    try:
        folder = _image_folder(path, as_labels)
        ome = _ome(folder)
        multiscale = ome["multiscales"][0]
        dataset = multiscale["datasets"][0]
        axes, units = _axes(path, multiscale["axes"])
        place = folder / _inside(path, dataset["path"])
        array = _array(path, place)
        shape = array.shape
        if len(shape) != len(axes):
            raise damaged(path, f"{len(shape)} axes in the array", f"{len(axes)} ({axes})")
        scale, shift = np.ones(len(axes)), np.zeros(len(axes))
        for steps in (dataset.get("coordinateTransformations", ()), multiscale.get("coordinateTransformations", ())):
            scale, shift = _transformed(path, steps, scale, shift)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # JSON may hold anything
        raise _no_image(path, f"metadata without {error}" if isinstance(error, KeyError) else error) from None
    if "t" in axes and shape[axes.index("t")] > 1:
        raise ImageError(
            f"{path}: holds a film", found=f"{shape[axes.index('t')]} time points", remedy="save each time point as an image of its own"
        )
    space = [index for index, name in enumerate(axes) if name in "zyx"]
    return _Level(
        place,
        array,
        axes,
        {axes[index]: float(scale[index]) * units[index] for index in space},
        {axes[index]: float(shift[index]) * units[index] + 0.0 for index in space},
    )


def _image_folder(path: Path, as_labels: bool) -> Path:
    """The group with the multiscale image that is meant."""
    ome = _ome(path)
    names = _ome(path / "labels").get("labels") if as_labels and "image-label" not in ome and (path / "labels").is_dir() else None
    if names:
        if len(names) > 1:
            raise ImageError(
                f"{path}: holds several label maps",
                found=", ".join(str(name) for name in names[:8]),
                expected="one",
                remedy="copy the folder of the one that is meant, and name the copy as the case, with the ending .ome.zarr",
            )
        return path / "labels" / _inside(path, names[0])
    if "multiscales" in ome:
        return path
    if "plate" in ome or "well" in ome:
        raise ImageError(
            f"{path}: holds a plate of images", expected="one image", remedy="copy each field's folder out, with the ending .zarr"
        )
    # bioformats2raw puts the images of a file into numbered groups.
    if ome.get("bioformats2raw.layout") == 3 and (path / "0").is_dir():
        if (path / "1").is_dir():
            raise ImageError(f"{path}: holds several images", expected="one", remedy="copy the numbered folders out, with the ending .zarr")
        return path / "0"
    raise _no_image(path, "no multiscale image")


def _ome(group: Path) -> dict[str, Any]:
    """The group's metadata of OME: its attributes in Zarr 2, one of them in Zarr 3."""
    if (group / "zarr.json").is_file():
        attributes = _json(group / "zarr.json").get("attributes", {})
        found = attributes.get("ome", attributes)
    else:
        found = _json(group / ".zattrs") if (group / ".zattrs").is_file() else {}
    return found if isinstance(found, dict) else {}


def _axes(path: Path, described: Sequence[Any]) -> tuple[str, list[float]]:
    """One letter per axis, and its mm per unit."""
    names, units = "", []
    for axis in described:
        # Version 0.3 has the names alone.
        name, unit = (axis["name"], axis.get("unit")) if isinstance(axis, Mapping) else (axis, None)
        kind = axis.get("type") if isinstance(axis, Mapping) else None
        name = {"channel": "c", "time": "t"}.get(str(kind), str(name).lower())
        if name not in ("t", "c", "z", "y", "x") or name in names:
            raise _no_image(path, f"an axis {name}", "axes t, c, z, y, x, each once")
        # An axis without a unit counts as millimetres, as everywhere.
        if name in "zyx" and unit is not None and unit not in MM_PER_UNIT:
            raise ImageError(
                f"{path}: the unit of axis {name} is not known", found=unit, expected=", ".join(MM_PER_UNIT), remedy="correct the metadata"
            )
        names += name
        units.append(MM_PER_UNIT[unit] if name in "zyx" and unit is not None else 1.0)
    if "y" not in names or "x" not in names:
        raise _no_image(path, f"axes {names}", "y and x at least")
    return names, units


def _transformed(path: Path, steps: Sequence[Mapping[str, Any]], scale: AnyArray, shift: AnyArray) -> tuple[AnyArray, AnyArray]:
    for step in steps:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise _no_image(path, f"a transformation of type {kind}", "scale and translation with their numbers")
        numbers = np.array([float(value) for value in step[kind]])
        if len(numbers) != len(scale):
            raise damaged(path, f"a {kind} of {len(numbers)} numbers", f"{len(scale)}")
        scale, shift = (scale * numbers, shift * numbers) if kind == "scale" else (scale, shift + numbers)
    return scale, shift


def _array(path: Path, array: Path) -> _Array:
    """The description of an array, whose type, chunks and codecs are checked before anything is unpacked."""
    if (array / "zarr.json").is_file():
        described = _json(array / "zarr.json")
        chunks, dtype = described["chunk_grid"]["configuration"]["chunk_shape"], described["data_type"]
        codecs = _codec_names(described["codecs"], "name")
        if described["chunk_grid"]["name"] != "regular":
            raise _no_image(path, f"chunks of kind {described['chunk_grid']['name']}", "regular ones")
    elif (array / ".zarray").is_file():
        described = _json(array / ".zarray")
        chunks, dtype = described["chunks"], described["dtype"]
        compressor = described.get("compressor")
        codecs = _codec_names([*(described.get("filters") or ()), *(() if compressor is None else (compressor,))], "id")
    else:
        raise damaged(path, f"no array {array.name}")
    refused = [name for name in codecs if name.removeprefix("numcodecs.") not in CODECS]
    if refused:
        raise ImageError(f"{path}: is packed in a way that is not allowed", found=refused[0], expected=", ".join(CODECS), remedy=REMEDY)
    if not isinstance(dtype, str) or np.dtype(dtype).kind not in "buif":
        raise ImageError(f"{path}: voxels of this type cannot be used", found=dtype, expected="integers or floating-point numbers")
    shape = tuple(int(size) for size in described["shape"])
    if len(chunks) != len(shape) or min(shape) < 1 or min(chunks) < 1:
        raise damaged(path, f"axis sizes {shape}, chunks {chunks}")
    check_size(path, math.prod(shape) * np.dtype(dtype).itemsize)
    chunk_bytes = math.prod(int(size) for size in chunks) * np.dtype(dtype).itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise damaged(path, f"chunks of {chunk_bytes:,} bytes", f"at most {MAX_CHUNK_BYTES:,}")
    return _Array(shape, blosc=codecs[-1:] == ["blosc"] and "sharding_indexed" not in codecs)


def _check_chunks(path: Path, level: _Level) -> None:
    """Raises ImageError where a chunk is empty, which zarr may take for the fill value, or shorter than Blosc's header says.

    Blosc would unpack what lies behind it in memory.
    """
    try:
        for chunk in level.folder.rglob("*"):
            if chunk.name.startswith(".") or chunk.name == "zarr.json" or not chunk.is_file():
                continue
            size = claimed = chunk.stat().st_size
            if level.array.blosc:
                with chunk.open("rb") as stream:
                    claimed = int.from_bytes(stream.read(16)[12:], "little")
            if size == 0 or claimed != size:
                raise damaged(path, f"a chunk of {size:,} bytes, {chunk.relative_to(level.folder)}", f"{claimed:,}" if claimed else None)
    except OSError as error:
        raise damaged(path, error) from error


def _codec_names(codecs: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    names = []
    for codec in codecs:
        names.append(str(codec[key]))
        inner = codec.get("configuration", {})
        for nested in ("codecs", "index_codecs"):  # of shards
            names.extend(_codec_names(inner.get(nested, ()), key))
    return names


def _inside(path: Path, name: object) -> PurePosixPath:
    """A path in the metadata, which must not lead out of the folder."""
    inner = PurePosixPath(str(name))
    if inner.is_absolute() or ".." in inner.parts or "\\" in str(name) or ":" in str(name):
        raise damaged(path, f"metadata that point to {name}")
    return inner


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise damaged(file, f"{file.stat().st_size:,} bytes of metadata")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file, error) from None
    if not isinstance(found, dict):
        raise damaged(file, type(found).__name__, "a JSON object")
    return found


def _no_image(path: Path, found: object, expected: str = SPEC) -> ImageError:
    return ImageError(f"{path}: is no image that can be used", found=found, expected=expected, remedy=REMEDY)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise ImageError("OME-Zarr needs the package zarr", remedy="install it: pip install 'autounet[zarr]'") from None
    return zarr
