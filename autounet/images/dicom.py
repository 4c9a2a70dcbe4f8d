"""DICOM images: a folder or zip of one series, a file that stands for its series, a file of several frames."""

from pathlib import Path
from typing import Any

import numpy as np

from autounet.geometry import Grid
from autounet.images.dicom_files import read_whole
from autounet.images.dicom_frames import Frame
from autounet.images.dicom_pixels import decoded_frames
from autounet.images.dicom_series import opened_volume
from autounet.images.dicom_volume import Volume
from autounet.images.stored import Stored, damaged


def read(path: Path, as_labels: bool) -> Stored:
    """Reads a DICOM image; several volumes of one series and colours are channels. ``as_labels`` makes no difference.

    Intensities are the scanner's: each slice with its own rescale slope and intercept (of PET they differ) or its modality table.
    What only tells how to show them is left alone: windows, MONOCHROME1 (black is high, but the numbers mean the same), and the padding
    value outside the field of view, which dcm2niix and ITK keep as well. Real-world value maps are not applied either.

    Raises:
        ImageError: There is no image or several; files are damaged; the slices are not one regular volume.
    """
    with opened_volume(path) as volume:
        values = np.empty((volume.channels, *volume.grid.shape_zyx), np.float32)
        for frames in _by_file(volume).values():
            _fill(values, frames, volume.samples)
    return Stored(values, volume.grid)


def read_size(path: Path) -> tuple[int, Grid]:
    """Channels and grid, from the headers alone. Raises ImageError."""
    with opened_volume(path) as volume:
        return volume.channels, volume.grid


def _by_file(volume: Volume) -> dict[Path, list[tuple[Frame, int, int]]]:
    """File → its frames, each with its volume and slice: every file is opened once, one at a time."""
    files: dict[Path, list[tuple[Frame, int, int]]] = {}
    for channel, slices in enumerate(volume.frames_cz):
        for z, frame in enumerate(slices):
            files.setdefault(frame.place.path, []).append((frame, channel, z))
    return files


def _fill(values_czyx: Any, frames: list[tuple[Frame, int, int]], samples: int) -> None:
    place = frames[0][0].place
    wanted = {frame.number: (frame, channel, z) for frame, channel, z in frames}
    whole = read_whole(place, frames[0][0].stored_bytes * (1 + max(wanted)))
    found = 0
    for number, pixels in decoded_frames(place.path, whole):
        if number not in wanted:
            continue
        frame, channel, z = wanted[number]
        if pixels.shape[:2] != frame.shape_yx or (pixels.shape[2:] or (1,)) != (samples,):
            raise damaged(place.path, f"pixels of shape {pixels.shape}", f"{(*frame.shape_yx, samples)}")
        colours = np.moveaxis(pixels, -1, 0) if samples > 1 else pixels[None]
        # Computed in float64 and rounded once, as for every format.
        plain = frame.slope == 1.0 and frame.intercept == 0.0
        values_czyx[channel * samples : (channel + 1) * samples, z] = (
            colours if plain else colours.astype(np.float64) * frame.slope + frame.intercept
        )
        found += 1
    if found != len(wanted):
        raise damaged(place.path, f"{found} frames", f"{len(wanted)}")
