"""Reading DICOM SEG: frames of segments, placed by their own coordinates.

What is called from elsewhere is called within ``drawn.understood``: a file may hold anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.dicom_out import need, noted_grid
from autounet.images.drawn import Drawn, Voxels
from autounet.images.stored import damaged, make_grid

NEAR = 0.25
"""Of a voxel: so far the corners of a frame may be off voxels' centres."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where one frame lies."""

    segment: int | None
    """None in a label map, whose values are the numbers."""
    position_mm_xyz: FloatArray | None
    """Centre of the first pixel; None in a segmentation that has no place in space."""
    steps_mm_xyz: FloatArray
    """Columns: from one pixel to the next in a row, and from one row to the next."""


def frames_of(drawn: Drawn) -> list[Frame]:
    """The frames in the order of the pixel data."""
    shared = (drawn.dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    return [_frame(item, shared) for item in drawn.dataset.PerFrameFunctionalGroupsSequence]


def _frame(item: Any, shared: Any) -> Frame:
    def group(name: str) -> Any:
        found = item.get(name) or (None if shared is None else shared.get(name))
        return found[0] if found else None

    segment, position = group("SegmentIdentificationSequence"), group("PlanePositionSequence")
    number = None if segment is None else int(segment.ReferencedSegmentNumber)
    if position is None:
        return Frame(number, None, np.zeros((3, 2)))
    cosines = np.array([float(value) for value in group("PlaneOrientationSequence").ImageOrientationPatient]).reshape(2, 3)
    rows_mm, columns_mm = (float(value) for value in group("PixelMeasuresSequence").PixelSpacing)
    steps = np.stack([cosines[0] * columns_mm, cosines[1] * rows_mm], axis=1)
    return Frame(number, np.array([float(value) for value in position.ImagePositionPatient]), steps)


def voxels(grid: Grid, drawn: Drawn, wanted: set[int]) -> Iterator[tuple[int, Voxels]]:
    """Every wanted segment's voxels on a grid, frame by frame.

    Frames may come in any order, be left out where they are empty, show a part of the grid, or cut it along another of its axes, in
    either direction: what matters is where their pixels lie.

    Raises:
        ImageError: Pixels do not lie on the grid's voxels, or outside of it; or the pixel data is damaged.
    """
    frames = frames_of(drawn)
    _check_thickness(grid, drawn, frames)
    kind = str(drawn.dataset.get("SegmentationType", "BINARY"))
    half = float(drawn.dataset.get("MaximumFractionalValue", 1)) / 2 if kind == "FRACTIONAL" else 0.5
    turn = -1
    for turn, pixels in enumerate(_pixels(drawn, len(frames))):
        frame = frames[turn]
        if frame.segment is None and kind != "LABELMAP":
            raise ImageError(f"{drawn.path}: a frame belongs to no segment", found=f"frame {turn + 1}", remedy="export it anew")
        shown = {frame.segment: pixels >= half} if frame.segment is not None else {n: pixels == n for n in np.unique(pixels)}
        for number, mask in shown.items():
            if number in wanted and mask.any():
                yield int(number), _placed(grid, drawn, frame, mask)
    if turn + 1 != len(frames):
        raise damaged(drawn.path, f"{turn + 1} frames of pixels", f"{len(frames)}")


def _pixels(drawn: Drawn, frames: int) -> Iterator[npt.NDArray[Any]]:
    """Frame after frame (rows, columns). Raises ImageError."""
    dataset, syntax = drawn.dataset, drawn.dataset.file_meta.TransferSyntaxUID
    size = int(dataset.Rows) * int(dataset.Columns)
    if int(dataset.BitsAllocated) != 1 or syntax.is_compressed or not syntax.is_little_endian or size % 8 == 0:
        yield from need("pydicom.pixels").iter_pixels(dataset, raw=True)
        return
    # The bits of one frame follow those of the one before without a gap (PS3.5, 8.1.1): a frame may begin within a byte, which pydicom
    # does not read frame by frame. Where there are more bytes, frames may have been filled up one by one: their bits lie elsewhere.
    packed, needed = np.frombuffer(dataset.PixelData, np.uint8), (frames * size + 7) // 8
    if not needed <= packed.size <= needed + needed % 2:
        raise damaged(drawn.path, f"{packed.size} bytes of pixels", f"{needed}")
    for start in range(0, frames * size, size):
        bits = np.unpackbits(packed[start // 8 : (start + size + 7) // 8], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(int(dataset.Rows), int(dataset.Columns))


def _placed(grid: Grid, drawn: Drawn, frame: Frame, mask: npt.NDArray[np.bool_]) -> Voxels:
    rows, columns = np.nonzero(mask)
    if frame.position_mm_xyz is None:
        if grid.shape_zyx != (1, *mask.shape):
            raise _elsewhere(drawn, f"{mask.shape[0]}×{mask.shape[1]} pixels without a place in space")
        return np.zeros_like(rows), rows, columns
    inverse = np.linalg.inv(grid.affine_xyz())
    first = inverse[:3, :3] @ frame.position_mm_xyz + inverse[:3, 3]
    steps = inverse[:3, :3] @ frame.steps_mm_xyz
    last = np.array(mask.shape)[::-1] - 1  # columns, rows
    whole_first, whole_steps = np.rint(first), np.rint(steps)
    for ends in ((0, 0), (last[0], 0), (0, last[1]), (last[0], last[1])):
        off = np.abs(first + steps @ np.array(ends) - whole_first - whole_steps @ np.array(ends)).max()
        if not off <= NEAR:
            raise _elsewhere(drawn, f"a frame that is {off:.3g} voxels off the image's")
    if sorted(np.abs(whole_steps).sum(axis=0)) != [1, 1] or np.abs(whole_steps).max() != 1:
        raise _elsewhere(drawn, "pixels of another spacing")
    at = whole_first[:, None] + whole_steps @ np.stack([columns, rows])
    x, y, z = at.astype(np.int64)
    for axis, size in ((x, grid.shape_zyx[2]), (y, grid.shape_zyx[1]), (z, grid.shape_zyx[0])):
        if axis.min() < 0 or axis.max() >= size:
            raise _elsewhere(drawn, "voxels outside the image")
    return z, y, x


def _elsewhere(drawn: Drawn, found: str) -> ImageError:
    return ImageError(
        f"{drawn.path}: the segmentation does not lie on the image's voxels",
        found=found,
        expected="frames on the voxels of the image",
        remedy="give the image that it was drawn on, or resample one of the two",
    )


def _check_thickness(grid: Grid, drawn: Drawn, frames: list[Frame]) -> None:
    """Refuses frames that are further apart than the image's slices, between which the structures would have holes."""
    places = np.array([frame.position_mm_xyz for frame in frames if frame.position_mm_xyz is not None])
    if len(places) < 2:
        return
    inverse = np.linalg.inv(grid.affine_xyz())[:3, :3]
    normal = int(np.abs(np.cross(*(inverse @ frames[0].steps_mm_xyz).T)).argmax())
    at = np.unique(np.rint(places @ inverse[normal] * 8) / 8)
    said = _said_between(drawn)
    between = float(np.diff(at).min()) if at.size > 1 else 1.0
    voxel_mm = (grid.spacing_mm_zyx[2], grid.spacing_mm_zyx[1], grid.spacing_mm_zyx[0])[normal]
    if between > 1.5 and said is not None and said / voxel_mm > 1.5:
        raise _elsewhere(drawn, f"slices every {said:.4g} mm, where the image has one every {voxel_mm:.4g} mm")


def _said_between(drawn: Drawn) -> float | None:
    return _said(drawn, "SpacingBetweenSlices") or _said(drawn, "SliceThickness")


def _said(drawn: Drawn, name: str) -> float | None:
    """A distance (mm) of the pixel measures, of all frames or else the first; None where it is not said."""
    groups = [*(drawn.dataset.get("SharedFunctionalGroupsSequence") or []), *drawn.dataset.PerFrameFunctionalGroupsSequence[:1]]
    for measures in (group.get("PixelMeasuresSequence") for group in groups):
        if measures and measures[0].get(name):
            return abs(float(measures[0].get(name)))
    return None


def own_grid(drawn: Drawn) -> Grid:
    """The grid of a segmentation alone: the one that this program noted, else the box from its first to its last frame.

    Raises:
        ImageError: The frames are not parallel, or not at whole multiples of a distance that the file says or shows.
    """
    frames, rows, columns = frames_of(drawn), int(drawn.dataset.Rows), int(drawn.dataset.Columns)
    if not frames:
        raise damaged(drawn.path, "no frames")
    first = frames[0]
    noted = noted_grid(drawn.dataset)
    if first.position_mm_xyz is None:
        x, y = (1.0, 1.0) if noted is None else np.diag(noted[0])[:2].tolist()
        return make_grid(drawn.path, (1, 1, rows, columns), (x, y), ndim=2)
    positions = np.array([frame.position_mm_xyz for frame in frames if frame.position_mm_xyz is not None])
    if len(positions) != len(frames) or any(np.abs(frame.steps_mm_xyz - first.steps_mm_xyz).max() > 1e-4 for frame in frames):
        raise _no_volume(drawn, "frames of several orientations or pixel sizes")
    if noted is None:
        origin, step, slices = _from_positions(drawn, positions, first.steps_mm_xyz)
        axes = np.column_stack([first.steps_mm_xyz, step])
    else:
        axes, origin, slices = noted[0][:, :3], noted[0][:, 3], noted[1]
    lengths = np.linalg.norm(axes, axis=0)
    direction, shape = axes / np.where(lengths > 0, lengths, 1), (1, slices, rows, columns)
    return make_grid(drawn.path, shape, tuple(lengths), origin_mm_xyz=tuple(origin.tolist()), direction=tuple(direction.ravel().tolist()))


def _from_positions(drawn: Drawn, positions: FloatArray, steps: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """First position, step between slices, and number of slices, where frames may have been left out."""
    normal = np.cross(*steps.T)
    normal = normal / np.linalg.norm(normal)
    order = np.argsort(positions @ normal, kind="stable")
    ranked = positions[order]
    gaps = np.diff(ranked @ normal)
    gaps = gaps[gaps > 1e-3]
    if gaps.size == 0:
        return ranked[0], normal * (_said_between(drawn) or 1.0), 1
    between = _between(drawn, gaps)
    counts = np.rint(gaps / between)
    if np.abs(gaps - counts * between).max() > NEAR * between:
        raise _no_volume(drawn, f"slices {_shown(gaps)} mm apart")
    slices = int(counts.sum())
    return ranked[0], (ranked[-1] - ranked[0]) / slices, slices + 1


def _between(drawn: Drawn, gaps: FloatArray) -> float:
    """The distance between slices (mm), which is less than the smallest between frames where empty ones were left out everywhere."""
    smallest, said, thick = float(gaps.min()), _said(drawn, "SpacingBetweenSlices"), _said(drawn, "SliceThickness")
    if said is not None and said <= (1 + NEAR) * smallest:  # more than that is disproved by the frames
        return said
    if thick is None and gaps.size == 1:
        raise _no_volume(drawn, f"two slices {smallest:.4g} mm apart, and no word of whether others were left out between them")
    if thick is None or smallest <= 1.5 * thick:  # a thickness is no distance: slices have gaps, or overlap
        return smallest
    if np.abs(gaps / thick - np.rint(gaps / thick)).max() > 0.05:
        raise _no_volume(drawn, f"slices {_shown(gaps)} mm apart and {thick:.4g} mm thick, so that others may have been left out")
    return thick


def _shown(gaps: FloatArray) -> str:
    return ", ".join(f"{gap:.4g}" for gap in np.unique(gaps.round(4))[:6])


def _no_volume(drawn: Drawn, found: str) -> ImageError:
    return ImageError(
        f"{drawn.path}: the frames are not the slices of one volume",
        found=found,
        expected="parallel slices at even distances",
        remedy="give it together with the image that it was drawn on",
    )
