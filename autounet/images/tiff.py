"""TIFF, with tifffile: 2D images, stacks, channels and colours.

A 2D image has spacing 1: its resolution tags are mostly a printer's or a screen's. A stack has the spacing that ImageJ, OME or
this program wrote into it where all three axes are known, else 1.
"""

import json
import logging
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from autounet.artefact import atomic_path
from autounet.errors import ImageError
from autounet.geometry import Grid, Triple, TripleMm
from autounet.image_names import split_ending
from autounet.images.stored import DEFLATE_MAX_RATIO, MM_PER_UNIT, AnyArray, Stored, check_file, check_size, damaged, planar_grid
from autounet.labels import IntArray

OME_ENDINGS = (".ome.tif", ".ome.tiff")

SPACING_KEY = "spacing_mm_zyx"
"""Where a written stack's spacing stands in the JSON of its description."""

LOSSY = (6, 7, 33004, 33007, 34892)
"""Compressions that change values: JPEG in its kinds. JPEG 2000 and WebP may be lossless."""

OTHER_COLOURS = ("SEPARATED", "CIELAB", "ICCLAB", "ITULAB", "CFA", "LOGL", "LOGLUV")
"""Meanings of pixels, in tifffile's words, that are neither grey nor red, green and blue: printing inks, colour spaces, raw sensors."""

log = logging.getLogger(__name__)

DEFLATED = (1, 8, 32773, 32946)
"""TIFF's numbers of compressions that pack no tighter than deflate: none, packed bits, and the two of deflate."""
MOST_PACKED = 55_000
"""No other compression in use shrinks an image to a smaller part than this; zstd shrinks zeros so."""


def read(path: Path, as_labels: bool) -> Stored:
    """Reads the first image series of a TIFF file.

    Axes named channel (C) or sample (S) are channels, transparency is dropped; one further axis (Z, else pages or time) is z. A
    palette image is its colours or, for labels, its indices. Where 0 is white, values stay as stored.

    Raises:
        ImageError: The file is damaged, has more axes, other colours, or a compression that needs another package; for labels, one
            that changes values.
    """
    file_bytes = check_file(path)
    tifffile = _tifffile()
    try:
        _check_pages(path)
        with tifffile.TiffFile(path) as tif:
            _check_ome(tif, path)
            series = tif.series[0]
            if series.dtype.kind not in "buif":
                raise ImageError(f"{path}: pixels of this type cannot be used", found=series.dtype, expected="integers or floats")
            if series.size == 0:
                raise damaged(path, f"pages of the sizes {series.shape}", "sizes from 1 up")
            known = int(series.keyframe.compression) in DEFLATED
            check_size(path, int(series.nbytes), file_bytes if known else file_bytes * (MOST_PACKED // DEFLATE_MAX_RATIO))
            if any(page is None for page in series.pages):
                raise damaged(path, "pages that are in other files")
            if len(tif.series) > 1:
                log.warning("%s: holds %d images; the first is taken", path, len(tif.series))
            page = series.keyframe
            _check_meaning(page, path, as_labels)
            pixels = _pixels(series, path)
            axes = str(series.axes)
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not as_labels:
                pixels, axes = np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1), axes + "S"
            spacing = _stack_spacing(tif)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile's decoders raise many kinds
        raise damaged(path, error) from error
    if pixels.size == 0:  # by the tags there were some
        raise damaged(path, "no pixels")
    values, is_stack = _channels_first(pixels, axes, path)
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    _, depth, height, width = values.shape
    if not is_stack:
        return Stored(values, planar_grid(height, width))
    return Stored(values, _stack_grid(path, (depth, height, width), spacing))


def _stack_grid(path: Path, shape_zyx: Triple, spacing_mm_zyx: TripleMm | None) -> Grid:
    return Grid(shape_zyx=shape_zyx, spacing_mm_zyx=_spacing_beside(path) or spacing_mm_zyx or (1.0, 1.0, 1.0))


def _check_meaning(page: Any, path: Path, as_labels: bool) -> None:
    """Raises ImageError where the numbers are no intensities, or no labels."""
    meaning, packed = str(getattr(page.photometric, "name", page.photometric)), int(page.compression)
    if meaning in OTHER_COLOURS or (meaning == "YCBCR" and packed not in LOSSY):
        raise ImageError(f"{path}: colours of this kind cannot be used", found=meaning, expected="grey or RGB", remedy="save it as RGB")
    if as_labels and packed in LOSSY:
        raise ImageError(
            f"{path}: JPEG cannot hold labels, its compression changes values", remedy="save the label map without it, or with deflate"
        )


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the tags alone.

    Raises:
        ImageError: The file is damaged, or has more axes than an image can have.
    """
    check_file(path)
    tifffile = _tifffile()
    try:
        _check_pages(path)
        with tifffile.TiffFile(path) as tif:
            _check_ome(tif, path)
            series, spacing = tif.series[0], _stack_spacing(tif)
            layout = _layout(str(series.axes), tuple(series.shape), path)
            palette = series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
    except ImageError:
        raise
    except Exception as error:  # tifffile's decoders raise many kinds
        raise damaged(path, error) from error
    sizes = dict(zip(layout.axes, layout.shape, strict=True))
    height, width = sizes["Y"], sizes["X"]
    channels = 3 if palette else layout.colours(sizes.get(layout.channel, 1))
    if not layout.stack:
        return channels, planar_grid(height, width)
    return channels, _stack_grid(path, (sizes[layout.stack], height, width), spacing)


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None) -> None:
    """Writes a label map, deflated; a stack's spacing goes into the description, the resolution tags of ``like`` are kept.

    Raises:
        ImageError: ``like`` cannot be read.
        ArtefactError: The file cannot be written.
    """
    tifffile = _tifffile()
    planar = grid.ndim == 2
    metadata: dict[str, Any] = {"axes": "YX"} if planar else {"axes": "ZYX", SPACING_KEY: list(grid.spacing_mm_zyx)}
    if path.name.lower().endswith(OME_ENDINGS):  # tifffile then writes OME-XML, which has names of its own for spacings
        sizes = zip("ZYX"[3 - grid.ndim :], grid.spacing_mm_zyx[3 - grid.ndim :], strict=True)
        metadata = {"axes": metadata["axes"]}
        for axis, size in () if planar else sizes:
            metadata |= {f"PhysicalSize{axis}": size * 1000, f"PhysicalSize{axis}Unit": "µm"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels_zyx[0] if planar else labels_zyx,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
            software=False,
            **({} if like is None else _resolution(like)),
        )


def _resolution(like: Path) -> dict[str, Any]:
    tifffile = _tifffile()
    try:
        with tifffile.TiffFile(like) as tif:
            tags = tif.pages[0].tags
            names = ("XResolution", "YResolution", "ResolutionUnit")
            x, y, unit = (tags[name].value if name in tags else None for name in names)
    except Exception as error:
        raise damaged(like, error) from error
    fractions = all(isinstance(value, tuple) and len(value) == 2 and all(0 < part < 2**32 for part in value) for value in (x, y))
    return {"resolution": (x, y), "resolutionunit": unit} if fractions and unit in {int(known) for known in tifffile.RESUNIT} else {}


def _pixels(series: Any, path: Path) -> AnyArray:
    try:
        pixels: AnyArray = series.asarray()
        return pixels
    except (ValueError, ImportError) as error:  # for Zstandard it looks for a module of Python 3.14
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        pages = _pixels_by_pillow(series, path)
        if pages is None:
            raise ImageError(
                f"{path}: the compression needs another package",
                found=str(series.keyframe.compression.name),
                remedy="install it: pip install imagecodecs; or save the image without compression or with deflate",
            ) from None
        return pages


def _pixels_by_pillow(series: Any, path: Path) -> AnyArray | None:
    """Pixels by way of Pillow, which unpacks LZW and packed bits by itself; None where it cannot give them unchanged."""
    from PIL import Image, UnidentifiedImageError

    if "S" in series.axes and not series.axes.endswith("YXS"):
        return None
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            frames = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                frames.append(np.asarray(image))
    except (UnidentifiedImageError, OSError):
        return None
    stack = np.stack(frames)
    if stack.dtype.itemsize != series.dtype.itemsize or stack.size != series.size:
        return None
    return stack.reshape(series.shape)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the axes of a file mean, those of one entry left out."""

    axes: str
    shape: tuple[int, ...]
    channel: str
    """The axis of channels, or nothing."""
    stack: str
    """The third axis in space, or nothing."""

    def colours(self, samples: int) -> int:
        """Channels that are kept of so many: of samples of a pixel, transparency is none."""
        return samples - 1 if self.channel == "S" and samples in (2, 4) else samples


def _layout(axes: str, shape: tuple[int, ...], path: Path) -> _Layout:
    # An axis of one entry says nothing, except that Z says: this is a volume.
    keep = [index for index, name in enumerate(axes) if name in "ZYX" or shape[index] > 1]
    axes, shape = "".join(axes[index] for index in keep), tuple(int(shape[index]) for index in keep)
    channel = "".join(name for name in axes if name in "CS")
    stack = "".join(name for name in axes if name not in "CSYX")
    if len(channel) > 1 or len(stack) > 1 or "Y" not in axes or "X" not in axes:
        raise ImageError(
            f"{path}: has more axes than an image can have",
            found=f"axes {axes}, sizes {shape}",
            expected="y, x, and at most one stack and one channel axis",
            remedy="save each time point or series as a file of its own",
        )
    return _Layout(axes, shape, channel, stack)


def _channels_first(pixels: AnyArray, axes: str, path: Path) -> tuple[AnyArray, bool]:
    """Pixels → (c, z, y, x), and whether the file has a third axis in space."""
    layout = _layout(axes, pixels.shape, path)
    values = pixels.reshape(layout.shape).transpose([layout.axes.index(name) for name in (*layout.channel, *layout.stack, "Y", "X")])
    if not layout.stack:
        values = values[..., None, :, :]
    if not layout.channel:
        values = values[None]
    return values[: layout.colours(len(values))], bool(layout.stack)


def _spacing_beside(path: Path) -> TripleMm | None:
    """Spacing from nnU-Net's file for TIFF stacks, ``case.json`` with {"spacing": [z, y, x]}; None when there is none.

    Source: nnunetv2 2.8.1, ``imageio/tif_reader_writer.py``. Raises ImageError when it is malformed.
    """
    stem = split_ending(path)[0]
    beside = path.with_name(re.sub(r"_[0-9]{4}$", "", stem) + ".json")
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "spacing" not in content:
            return None  # a file of another purpose
        z, y, x = (float(value) for value in content["spacing"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"{beside}: no spacing for {path.name}", found=error, expected='{"spacing": [z, y, x]} in mm', remedy="correct or remove it"
        ) from None
    if not all(math.isfinite(value) and value > 0 for value in (z, y, x)):
        raise ImageError(f"{beside}: spacing is not positive", found=content["spacing"], remedy="give mm between voxels along z, y, x")
    return z, y, x


def _stack_spacing(tif: Any) -> TripleMm | None:
    """Spacing in mm (z, y, x), or None where it is not known for all three axes."""
    found: list[Any] | None = None
    if tif.is_shaped and tif.shaped_metadata:
        found = tif.shaped_metadata[0].get(SPACING_KEY)
    elif tif.is_ome:
        found = _ome_spacing(tif.ome_metadata)
    elif tif.is_imagej:
        described, tags = tif.imagej_metadata or {}, tif.pages[0].tags
        unit = MM_PER_UNIT.get(str(described.get("unit", "")).lower())
        if unit and "spacing" in described and "XResolution" in tags and "YResolution" in tags:
            # The tags hold pixels per unit as fractions.
            (x_count, x_length), (y_count, y_length) = tags["XResolution"].value, tags["YResolution"].value
            found = [abs(described["spacing"]) * unit, y_length / y_count * unit, x_length / x_count * unit]
    if not isinstance(found, list) or len(found) != 3 or not all(np.isfinite(value) and value > 0 for value in found):
        return None
    z, y, x = (float(value) for value in found)
    return z, y, x


def _ome_spacing(text: str) -> list[float] | None:
    pixels = next((element for element in ElementTree.fromstring(text).iter() if element.tag.endswith("}Pixels")), None)
    spacing = []
    for axis in "ZYX":
        # OME's unit where none is given is the micrometre.
        size = None if pixels is None else pixels.get(f"PhysicalSize{axis}")
        unit = None if pixels is None else MM_PER_UNIT.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if size is None or unit is None:
            return None
        spacing.append(float(size) * unit)
    return spacing


def _check_pages(path: Path) -> None:
    """Follows the chain of pages: tifffile leaves out the pages behind the end of a truncated file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = struct.unpack(order + "H", start[2:4])[0] if order and len(start) == 16 else 0
        if order is None or version not in (42, 43):
            raise damaged(path, "no TIFF header at the start", "'II' or 'MM'")
        big = version == 43
        count_format, entry_bytes, next_format = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
        offset = struct.unpack(next_format, start[8:16] if big else start[4:8])[0]
        seen = set()
        while offset:
            if offset in seen or offset + struct.calcsize(count_format) > size:
                raise damaged(path, f"a page at byte {offset:,} of {size:,}")
            seen.add(offset)
            stream.seek(offset)
            count = struct.unpack(count_format, stream.read(struct.calcsize(count_format)))[0]
            stream.seek(count * entry_bytes, 1)
            link = stream.read(struct.calcsize(next_format))
            if len(link) < struct.calcsize(next_format):
                raise damaged(path, f"{size:,} bytes", "more pages")
            offset = struct.unpack(next_format, link)[0]


def _check_ome(tif: Any, path: Path) -> None:
    """OME-XML may name files that hold further pages; they must lie beside this one. Raises ImageError, or whatever damaged XML raises."""
    text = tif.ome_metadata if tif.is_ome else None
    if text is None:
        return
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise damaged(path, "OME-XML that declares entities")
    for element in ElementTree.fromstring(text).iter():
        name = element.get("FileName", "") if element.tag.endswith("UUID") else ""
        beside = path.parent / name
        if re.search(r"[/\\:]|^\.\.?$", name) or (name and beside.exists() and not beside.is_file()):
            raise ImageError(
                f"{path}: names a file elsewhere for its pages",
                found=ascii(name[:100]),
                expected="files in the same folder",
                remedy="put them together, or save the image as one file",
            )


def _tifffile() -> Any:
    import tifffile

    # It logs what it dislikes about a file; what matters becomes an ImageError.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return tifffile
