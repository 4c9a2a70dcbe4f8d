"""PNG, BMP and JPEG, with Pillow: 2D images without geometry (spacing 1, ``ndim=2``)."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from autounet.artefact import atomic_path
from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import itk
from autounet.images.stored import AnyArray, Stored, check_file, check_size, damaged, planar_grid
from autounet.labels import IntArray

FORMATS = {".png": "PNG", ".bmp": "BMP", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Pillow's name of the format by ending."""

GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "F")
"""Pillow's modes of one channel."""

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Raw modes that Pillow stretches to 0..255 (2 bits: 255 / 3, 4 bits: 255 / 15) → what to divide by to get the stored value."""


def read(path: Path, as_labels: bool) -> Stored:
    """Reads a planar image.

    Colours are three channels and transparency is dropped; values of fewer than 8 bits stay as stored (0 and 1 for 1 bit). A
    palette image is its colours or, for labels, its indices. A camera's note of rotation (EXIF) is not applied.

    Raises:
        ImageError: The file is damaged or of another format.
    """
    file_bytes = check_file(path)
    from PIL import Image

    # The library's own limit only warns at first; sizes are checked here.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=[FORMATS[path.suffix.lower()]]) as image:
            width, height = image.size
            # 8 is the widest pixel (four channels of 16 bits), and of one bit the narrowest; JPEG needs a bit for 64 pixels at least.
            check_size(path, width * height * 8)
            check_size(path, width * height // 8, file_bytes)
            raw_mode = _raw_mode(image)
            if raw_mode == "LA;16B":
                raise ImageError(f"{path}: 16-bit grey with transparency cannot be read", remedy="save it without transparency")
            if raw_mode.endswith(";16B") and image.mode not in GREY_MODES:
                # Pillow would cut colours of 16 bits to 8.
                values = _drop_alpha(itk.read(path, as_labels).values_czyx)
            else:
                values = _decode(image, as_labels)
                if raw_mode in GREY_STEPS:
                    values = values // GREY_STEPS[raw_mode]
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise damaged(path, error) from error
    return Stored(values, planar_grid(height, width))


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the header alone. Raises ImageError."""
    check_file(path)
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=[FORMATS[path.suffix.lower()]]) as image:
            width, height = image.size
            return 1 if image.mode in (*GREY_MODES, "LA") else 3, planar_grid(height, width)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise damaged(path, error) from error


def _raw_mode(image: Any) -> str:
    """How the file packs its pixels, e.g. 'L;4', as Pillow names it."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _decode(image: Any, as_labels: bool) -> AnyArray:
    """Pixels as (c, 1, y, x)."""
    if image.mode in GREY_MODES or (image.mode == "P" and as_labels):
        pixels = np.asarray(image)
        if pixels.dtype.kind == "b":
            pixels = pixels.astype(np.uint8)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)[None, None]
    if image.mode == "LA":
        return np.asarray(image)[None, None, :, :, 0]
    # By way of RGBA: Pillow warns when a palette with transparency is turned into RGB.
    pixels = np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGB" if image.mode == "CMYK" else "RGBA"))
    return _drop_alpha(np.moveaxis(pixels, -1, 0)[:, None])


def _drop_alpha(values_czyx: AnyArray) -> AnyArray:
    """Grey + alpha → grey, RGB + alpha → RGB."""
    channels = values_czyx.shape[0]
    return values_czyx[: channels - 1] if channels in (2, 4) else values_czyx


def write(path: Path, labels_zyx: IntArray, grid: Grid, like: Path | None) -> None:
    """Writes a label map as a grey image of 8 or 16 bits; ``like`` is not needed, there is no geometry to keep.

    Raises:
        ImageError: A volume, or values that the format cannot hold.
        ArtefactError: The file cannot be written.
    """
    from PIL import Image

    kind = FORMATS[path.suffix.lower()]
    if labels_zyx.shape[0] != 1:
        raise ImageError(
            f"{path}: {kind} holds a single 2D image", found=f"{labels_zyx.shape[0]} slices", remedy="write .nii.gz or .tif instead"
        )
    highest, limit = int(labels_zyx.max()), 255 if kind == "BMP" else 65535
    if highest > limit:
        raise ImageError(
            f"{path}: label values are too large for {kind}", found=highest, expected=f"at most {limit}", remedy="write .tif instead"
        )
    pixels = np.ascontiguousarray(labels_zyx[0], dtype=np.uint8 if highest <= 255 else np.uint16)
    # Packed in memory first, so that only the system's own errors can come up while the file is open.
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, format=kind)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getbuffer())
