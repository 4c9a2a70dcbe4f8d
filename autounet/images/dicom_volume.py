"""Frames of one series → the order of slices and the grid; what does not make one regular volume is refused."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.dicom_duplicates import separate, without_copies
from autounet.images.dicom_frames import Frame
from autounet.images.stored import MAX_BYTES, TILT_DEGREES, check_size, damaged, make_grid

logger = logging.getLogger(__name__)

PARALLEL = 1e-3
"""Cosines of two slices' directions may differ by so much: what headers round."""

UNEVEN = 0.1
"""So large a part of the distance of slices may one lie off its place on the even grid."""

ROUNDED_DEGREES = 0.05
"""A line of slice centres so far off the slices' normal is one that headers have rounded."""

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Volume:
    """Where each frame of an image goes."""

    frames_cz: tuple[tuple[Frame, ...], ...]
    """By volume, then slice: several volumes are channels."""
    grid: Grid

    @property
    def samples(self) -> int:
        """Colours of a pixel."""
        return self.frames_cz[0][0].samples

    @property
    def channels(self) -> int:
        """Channels of the image: volumes times colours."""
        return len(self.frames_cz) * self.samples


def lay_out(path: Path, frames: Sequence[Frame]) -> Volume:
    """Puts the frames of one series in order.

    Args:
        path: For messages.
        frames: At least one, in any order.

    Raises:
        ImageError: Slices are missing, uneven, of several orientations or sizes, or several volumes that no attribute tells apart.
    """
    frames = _without_localizers(path, frames)
    _check_alike(path, frames)
    frames = without_copies(path, frames)
    if any(frame.position_mm_xyz is None or frame.orientation is None for frame in frames):
        return _planar(path, frames)
    across, down, normal = _directions(path, frames)
    placed = sorted(frames, key=lambda frame: (float(_position(frame) @ normal), frame.place.path, frame.number))
    levels = _levels(placed, normal)
    volumes = separate(path, levels)
    origin, step = _steps(path, volumes[0], normal)
    for volume in volumes[1:]:
        for first, other in zip(volumes[0], volume, strict=True):
            if np.abs(_position(first) - _position(other)).max() > UNEVEN * float(np.linalg.norm(step)):
                raise _several(path, "volumes that do not lie in the same place")
    y, x = _spacing(path, frames)
    length = float(np.linalg.norm(step))
    third = _third(path, step / length, normal) if length > 0 else normal  # of no distance the grid complains
    depth = len(volumes[0])
    shape = (len(volumes), depth, *frames[0].shape_yx)
    grid = make_grid(
        path, shape, (x, y, length),
        origin_mm_xyz=tuple((origin + 0.0).tolist()),
        direction=tuple((np.column_stack([across, down, third]).ravel() + 0.0).tolist()),
    )  # fmt: skip
    return _checked(path, Volume(tuple(volumes), grid))


def _without_localizers(path: Path, frames: Sequence[Frame]) -> list[Frame]:
    slices = [frame for frame in frames if not frame.localizer]
    if slices and len(slices) < len(frames):
        logger.info("%s: %d localizers are passed over", path, len(frames) - len(slices))
    return slices or list(frames)


def _check_alike(path: Path, frames: Sequence[Frame]) -> None:
    kinds = Counter(f"{frame.shape_yx[0]}×{frame.shape_yx[1]} pixels, {frame.samples} colours" for frame in frames)
    if len(kinds) > 1:
        found = "; ".join(f"{count} of {kind}" for kind, count in kinds.most_common())
        raise ImageError(f"{path}: slices of different sizes in one series", found=found, remedy="give a folder of those of one size")


def _planar(path: Path, frames: Sequence[Frame]) -> Volume:
    if len(frames) > 1:
        placed = sum(frame.position_mm_xyz is not None for frame in frames)
        raise ImageError(
            f"{path}: images that do not say where they lie in the patient are no volume",
            found=f"{len(frames)} images or frames, {placed} with a position",
            expected="a position and orientation of each, or a single image",
            remedy="give the images singly, or save those that are wanted as PNG or TIFF",
        )
    spacing = frames[0].spacing_mm_yx or (1.0, 1.0)
    grid = make_grid(path, (1, 1, *frames[0].shape_yx), (spacing[1], spacing[0]), ndim=2)
    return _checked(path, Volume(((frames[0],),), grid))


def _checked(path: Path, volume: Volume) -> Volume:
    """Refuses sizes that cannot be, before memory is asked for."""
    check_size(path, 4 * volume.channels * int(np.prod(volume.grid.shape_zyx, dtype=object)))
    if volume.grid.shape_zyx[0] * volume.channels > MAX_BYTES:
        raise damaged(path, f"{volume.channels} channels")
    return volume


def _position(frame: Frame) -> Vector:
    return np.array(frame.position_mm_xyz, dtype=np.float64)


def _directions(path: Path, frames: Sequence[Frame]) -> tuple[Vector, Vector, Vector]:
    """Unit vectors along rows, along columns and along the normal, the same for all slices."""
    orientations = np.array([frame.orientation for frame in frames], dtype=np.float64)
    first = orientations[0]
    same = np.abs(orientations - first).max(axis=1) <= PARALLEL
    if not np.isfinite(orientations).all():
        raise damaged(path, "a direction that is not finite")
    if not same.all():
        kinds = Counter(tuple(round(float(value), 2) + 0.0 for value in orientation) for orientation in orientations)
        found = "; ".join(
            f"{count} with rows and columns along {', '.join(f'{value:g}' for value in kind)}" for kind, count in kinds.items()
        )
        raise ImageError(
            f"{path}: slices of different orientations in one series",
            found=found if len(kinds) <= 4 else f"{len(kinds)} orientations",
            expected="parallel slices",
            remedy="give a folder of those of one orientation",
        )
    across, down = first[:3], first[3:]
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(across @ down) > 0.01:
        raise damaged(path, f"directions {_shown(first.tolist())}", "two of length 1 at a right angle")
    across = across / lengths[0]
    down = down - (down @ across) * across
    down = down / np.linalg.norm(down)
    return across, down, np.cross(across, down)


def _levels(placed: Sequence[Frame], normal: Vector) -> list[list[Frame]]:
    """Frames in order, those at one place together."""
    along = np.array([float(_position(frame) @ normal) for frame in placed])
    steps = np.diff(along)
    real = steps[steps > 1e-4]
    same = 0.05 * float(np.median(real)) if len(real) else np.inf
    levels = [[placed[0]]]
    for frame, step in zip(placed[1:], steps, strict=True):
        if step <= same:
            levels[-1].append(frame)
        else:
            levels.append([frame])
    return levels


def _steps(path: Path, slices: Sequence[Frame], normal: Vector) -> tuple[Vector, Vector]:
    """Position of the first slice, and the step from one to the next; evenness checked."""
    positions = np.array([frame.position_mm_xyz for frame in slices], dtype=np.float64)
    if not np.isfinite(positions).all():
        raise damaged(path, "a position that is not finite")
    if len(slices) == 1:  # its thickness is all that is known
        return positions[0], normal * (slices[0].thickness_mm or 1.0)
    along = positions @ normal
    usual = float(np.median(np.diff(along)))
    for before, gap in zip(slices, np.diff(along), strict=False):
        missing = round(gap / usual) - 1
        if missing >= 1 and abs(gap - (missing + 1) * usual) <= UNEVEN * usual * (missing + 1):
            after = slices[slices.index(before) + 1]
            raise ImageError(
                f"{path}: {missing} slice{'s are' if missing > 1 else ' is'} missing",
                found=f"a gap of {gap:.5g} mm between {_place(before)} and {_place(after)}",
                expected=f"a slice every {usual:.5g} mm",
                remedy="copy or export the whole series again",
            )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(slices))[:, None] * step), axis=1)
    if off.max() > UNEVEN * float(np.linalg.norm(step)):
        gaps = np.diff(along)
        raise ImageError(
            f"{path}: the slices are not evenly spaced",
            found=f"distances from {gaps.min():.5g} to {gaps.max():.5g} mm; {_place(slices[int(off.argmax())])} is {off.max():.3g} mm off",
            expected=f"a slice every {usual:.5g} mm, in line",
            remedy="give a folder of the slices of one stack, or resample the series to an even grid",
        )
    return positions[0], step


def _place(frame: Frame) -> str:
    return f"{frame.place.path.name} (at {_shown(frame.position_mm_xyz or ())} mm)"


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.5g}" for value in values)


def _third(path: Path, step: Vector, normal: Vector) -> Vector:
    """Direction from slice to slice: the normal, or exactly as the slices lie where they are shifted against each other (gantry tilt)."""
    angle = float(np.degrees(np.arccos(np.clip(step @ normal, -1, 1))))
    if angle > TILT_DEGREES:
        raise ImageError(
            f"{path}: the slices are shifted against each other",
            found=f"by {angle:.4g}° from a straight stack",
            expected=f"at most {TILT_DEGREES:g}°",
            remedy="resample the series to a straight grid",
        )
    return normal if angle <= ROUNDED_DEGREES else step


def _spacing(path: Path, frames: Sequence[Frame]) -> tuple[float, float]:
    found = {frame.spacing_mm_yx for frame in frames}
    if None in found:
        raise ImageError(
            f"{path}: says no distance of pixels", expected="Pixel Spacing (0028,0030) in every slice", remedy="export the series again"
        )
    known: list[Any] = sorted(found, key=str)
    if np.ptp(np.array(known), axis=0).max() > 1e-3 * float(np.abs(known[0]).min()):
        raise ImageError(
            f"{path}: slices of different pixel spacing in one series",
            found="; ".join(f"{_shown(entry)} mm" for entry in known[:4]),
            remedy="give a folder of those of one spacing",
        )
    y, x = frames[0].spacing_mm_yx or (1.0, 1.0)
    return float(y), float(x)


def _several(path: Path, found: str) -> ImageError:
    return ImageError(f"{path}: several volumes in one series", found=found, remedy="give each volume in a folder of its own")
