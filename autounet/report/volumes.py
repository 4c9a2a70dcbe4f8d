"""Volumes as text that a page can carry: images as sprites of slices, label maps as compressed bytes, within a number of bytes."""

import base64
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.report.overlay import intensity_window

Bytes3 = npt.NDArray[np.uint8]
Volume = npt.NDArray[Any]

MOST_VOXELS = 12_000_000
"""Of one channel: what a browser on a phone can hold several times."""

WIDEST_SPRITE = 4096
"""Pixels; browsers refuse much larger pictures."""

WINDOW_VOXELS = 2_000_000
"""So many of a large volume are looked at for its intensity window."""

CROP_MARGIN = 0.15
"""Of the structures' size, kept around them where a volume has to be cut down."""

LEAST_MARGIN = 8
"""Voxels."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One case as it was read, axes in the order in which it is shown: z, y, x of one shape."""

    channels: Sequence[Volume]
    truth: Volume
    """Label indices."""
    prediction: Volume
    """Label indices."""
    spacing_mm: tuple[float, float, float]
    one_window: bool = False
    """All channels have one intensity window, as colours must; else each has its own."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One case as text."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    tile_columns: int
    """Slices lie side by side in the sprites, row by row, so many in each row."""
    channels: tuple[str, ...]
    """Sprites of the slices along z, as data URLs."""
    labels: str
    """Truth, then prediction, C order, deflated (zlib), in base64; one byte per voxel, or two (little end first)."""
    label_bytes: int
    note: str
    """How it differs from the original; empty where it does not."""

    @property
    def size(self) -> int:
        """Characters."""
        return sum(map(len, self.channels)) + len(self.labels)


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to make a volume small."""

    cropped: bool = False
    stride: int = 1
    quality: int | None = None
    """Of JPEG; None keeps every grey value."""

    @property
    def least_characters(self) -> float:
        """Of a voxel: noisy grey values take five bits or so, JPEG hardly less than a fifth of a bit, both four thirds in base64."""
        return 0.5 if self.quality is None else 0.03

    @property
    def note(self) -> str:
        """How a volume differs from the original, in words."""
        words = ["cut to the structures and their surroundings"] if self.cropped else []
        return ", ".join([*words, f"every {_nth(self.stride)} voxel"] if self.stride > 1 else words)


WAYS = (
    _Way(),
    _Way(quality=90),
    _Way(quality=75),
    *(_Way(cropped=True, stride=stride, quality=quality) for stride in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) for quality in (80, 55)),
)
"""In order of falling fidelity."""


def pack(raw: Raw, most_characters: int) -> Packed | None:
    """The best rendering of a case that fits into so many characters; None where none does.

    Grey values are kept where there is room (PNG), else JPEG is used, at falling quality; then the volume is cut to the structures, and
    at last thinned out. Label maps are never changed but by cutting and thinning.
    """
    step = max(math.prod(raw.truth.shape) // WINDOW_VOXELS, 1)
    windows = [intensity_window(channel.reshape(-1)[::step]) for channel in raw.channels]
    if raw.one_window:
        windows = [(min(low for low, _ in windows), max(high for _, high in windows))] * len(windows)
    box = _box_of_structures(raw)
    for way in WAYS:
        packed = _pack(raw, windows, way, box if way.cropped else (slice(None),) * 3, most_characters)
        if packed is not None:
            return packed
    return None


def _pack(raw: Raw, windows: Sequence[tuple[float, float]], way: _Way, part: tuple[slice, ...], most_characters: int) -> Packed | None:
    truth, prediction = (labels[part][_thinned(labels[part].shape, way.stride)] for labels in (raw.truth, raw.prediction))
    shape = tuple(int(size) for size in truth.shape)
    voxels = math.prod(shape)
    if voxels > MOST_VOXELS or voxels * len(raw.channels) * way.least_characters > most_characters:
        return None
    label_bytes = 1 if max(int(truth.max(initial=0)), int(prediction.max(initial=0))) < 256 else 2
    dtype = np.dtype("<u1" if label_bytes == 1 else "<u2")
    both = truth.astype(dtype).tobytes() + prediction.astype(dtype).tobytes()
    labels = base64.b64encode(zlib.compress(both, 9)).decode("ascii")
    left = most_characters - len(labels)
    columns = _tile_columns(shape)
    channels = []
    for channel, (low, high) in zip(raw.channels, windows, strict=True):
        grey = _grey(channel[part][_thinned(channel[part].shape, way.stride)], low, high)
        channels.append(_sprite(grey, columns, way.quality))
        left -= len(channels[-1])
        if left < 0:
            return None
    steps = [min(way.stride, size) for size in raw.truth[part].shape]
    spacing = tuple(mm * step for mm, step in zip(raw.spacing_mm, steps, strict=True))
    return Packed(
        (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), columns, tuple(channels), labels, label_bytes, way.note
    )


def _box_of_structures(raw: Raw) -> tuple[slice, ...]:
    """A box around all that is labelled, with a margin; everything where nothing is."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero((raw.truth > 0).any(axis=others) | (raw.prediction > 0).any(axis=others))
        if not there.size:
            return (slice(None),) * 3
        low, high = int(there[0]), int(there[-1]) + 1
        margin = max(LEAST_MARGIN, round(CROP_MARGIN * (high - low)))
        box.append(slice(max(low - margin, 0), high + margin))
    return tuple(box)


def _thinned(shape: Sequence[int], stride: int) -> tuple[slice, ...]:
    """Every so many voxels along each axis, from the middle of the first step on, so that nothing is shifted to one side."""
    return tuple(slice(min(stride // 2, (size - 1) // 2), None, stride) for size in shape)


def _grey(image: Volume, low: float, high: float) -> Bytes3:
    """Grey values of an intensity window, black to white; what is not finite is black."""
    scaled = (np.nan_to_num(image.astype(np.float32), nan=low, posinf=high, neginf=low) - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _tile_columns(shape: Sequence[int]) -> int:
    """So many slices in a row that the sprite is nearly square and no wider than browsers like."""
    depth, height, width = shape
    square = max(1, round(math.sqrt(depth * height / width)))
    return max(1, min(square, WIDEST_SPRITE // width, depth))


def _sprite(grey: Bytes3, columns: int, quality: int | None) -> str:
    """All slices in one picture, as a data URL."""
    from PIL import Image

    depth, height, width = grey.shape
    rows = -(-depth // columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:depth] = grey
    sheet = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(sheet).save(buffer, "JPEG", quality=quality)
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _nth(stride: int) -> str:
    return {2: "second", 3: "third"}.get(stride, f"{stride}th")
