"""Segments and contours painted into label maps."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import rois, segments
from autounet.images.drawn import Drawn, Voxels, find_drawn, open_drawn, some, understood
from autounet.images.stored import Stored, check_size
from autounet.labels import IntArray, LabelSpec

log = logging.getLogger(__name__)


def read(path: Path, as_labels: bool) -> Stored:
    """Reads a DICOM SEG as a label map on a grid of its own; see ``own_labels``.

    Raises:
        ImageError: As ``own_labels``; or an image is wanted.
    """
    if not as_labels:
        raise ImageError(f"{path}: is no image", found="a DICOM segmentation", remedy="give the series that it was drawn on")
    labels, grid = own_labels(open_drawn(find_drawn(path)))
    return Stored(labels[None], grid)


def read_size(path: Path) -> tuple[int, Grid]:
    """One channel, and the grid that ``own_labels`` gives. Raises ImageError."""
    return 1, _grid_of(open_drawn(find_drawn(path)))


def own_labels(drawn: Drawn) -> tuple[IntArray, Grid]:
    """A DICOM SEG as a label map on a grid of its own: the source's where this program wrote the file, else the box of its frames.

    Raises:
        ImageError: An RTSTRUCT, which has no grid; segments overlap; frames that are not slices of one volume.
    """
    grid = _grid_of(drawn)
    return values_on(grid, drawn), grid


def _grid_of(drawn: Drawn) -> Grid:
    if drawn.is_contours:
        raise ImageError(
            f"{drawn.path}: contours have no voxels of their own",
            found="an RTSTRUCT",
            remedy="give it together with the image that it was drawn on, as `autounet dataset create` does",
        )
    with understood(drawn.path):
        return segments.own_grid(drawn)


def labels_on(
    grid: Grid, drawn: Drawn, classes: Mapping[str, int], *, frame: str | None = None, later_wins: bool = False, missing_ok: bool = False
) -> IntArray:
    """As ``structures_on``, on a grid and in a frame of reference (None: unknown) that are known. Raises ImageError."""
    same = alike(classes)
    if same is not None:
        raise ImageError(
            f"{drawn.path}: classes {same[0]!r} and {same[1]!r} are one name for structures, so that theirs cannot be told apart",
            remedy="give the classes names that differ in more than capitals, underscores and hyphens",
        )
    wanted = {_plain(name): value for name, value in classes.items() if value != 0}
    ranks = {name: rank for rank, name in enumerate(wanted, 1)}
    found = {number: ranks[_plain(name)] for number, name in drawn.names.items() if _plain(name) in ranks}
    there = set(found.values())
    missing = [name for name in classes if _plain(name) in ranks and ranks[_plain(name)] not in there]
    if missing and not (missing_ok and (there or not drawn.names)):
        raise ImageError(
            f"{drawn.path}: has no structure named {' or '.join(repr(name) for name in missing)}",
            found=some(drawn.names.values()) or "no structures",
            expected=some(classes),
            remedy="name the classes as the file does, or leave out those that it does not have",
        )
    others = [name for number, name in drawn.names.items() if number not in found]
    if others:
        log.info("%s: passed over, as they are no classes: %s", drawn.path.name, some(others))
    here = _of_frame(drawn, found, frame)
    elsewhere = [number for number, rank in found.items() if rank not in here.values()]
    if elsewhere:
        raise _elsewhere(drawn, elsewhere, frame)
    names = dict(enumerate([name for name, value in classes.items() if value != 0], 1))
    painted = paint(grid, drawn, here, names, later_wins)
    table = np.array([0, *wanted.values()])
    return np.asarray(table.astype(np.min_scalar_type(int(table.max(initial=1))))[painted])


def alike(classes: Mapping[str, int]) -> tuple[str, str] | None:
    """Two names of classes that the matching with structures takes for one; None where all differ. 0, the background, has none."""
    seen: dict[str, str] = {}
    for name, value in classes.items():
        if value != 0 and seen.setdefault(_plain(name), name) != name:
            return seen[_plain(name)], name
    return None


def _of_frame(drawn: Drawn, ranks: Mapping[int, int], frame: str | None) -> dict[int, int]:
    """The structures of a frame of reference; one that is not known is taken at its word. Raises ImageError."""
    if frame is None and len({drawn.frames[number] for number in ranks} - {None}) > 1:
        raise _elsewhere(drawn, list(ranks), None)
    return {number: rank for number, rank in ranks.items() if frame is None or drawn.frames[number] in (None, frame)}


def _elsewhere(drawn: Drawn, numbers: Sequence[int], frame: str | None) -> ImageError:
    return ImageError(
        f"{drawn.path}: was drawn in another frame of reference than the image has, so that places cannot be compared",
        found=some(f"'{drawn.names[number]}' in {drawn.frames[number]}" for number in numbers),
        expected="all in one" if frame is None else frame,
        remedy="give the series that it was drawn on",
    )


def values_on(grid: Grid, drawn: Drawn, frame: str | None = None) -> IntArray:
    """All structures of a file by the values that it gives them (this program's label values, else the numbers), on a grid.

    Raises:
        ImageError: They overlap, do not lie on the grid, or one was drawn in another frame of reference.
    """
    order = sorted(drawn.names)
    ranks = {number: rank for rank, number in enumerate(order, 1)}
    if len(here := _of_frame(drawn, ranks, frame)) < len(ranks):
        raise _elsewhere(drawn, [number for number in order if number not in here], frame)
    painted = paint(grid, drawn, ranks, {rank: drawn.names[number] for number, rank in ranks.items()}, drawn.layered)
    with understood(drawn.path):  # the values are the file's
        table = np.array([0, *(drawn.values[number] for number in order)])
        return np.asarray(table.astype(np.min_scalar_type(int(table.max(initial=1))))[painted])


def drawn_on(grid: Grid, path: Path, labels: LabelSpec | None, frame: str | None = None) -> IntArray:
    """All structures of a file as a label map on a grid: by the values that this program noted, else by the names of classes.

    Where there are no classes, or they are overlapping regions, the numbers of the structures are the values. ``frame`` is the frame of
    reference of the grid; None where it is not known.

    Raises:
        ImageError: As ``labels_on``; or no structure is named as a class is.
    """
    drawn = open_drawn(find_drawn(path))
    if drawn.noted or not drawn.names or labels is None or labels.overlapping:
        return values_on(grid, drawn, frame)
    return labels_on(grid, drawn, {entry.name: entry.values[0] for entry in labels.classes}, frame=frame, missing_ok=True)


def paint(grid: Grid, drawn: Drawn, ranks: Mapping[int, int], names: Mapping[int, str], later_wins: bool) -> IntArray:
    """Paints structures into a map of ranks (z, y, x); where several meet, the highest stays.

    Args:
        grid: Of the map.
        drawn: The file.
        ranks: Structure's number → rank from 1; others are left out.
        names: Rank → name, for the message.
        later_wins: Whether structures may meet.

    Raises:
        ImageError: Structures meet that may not, or lie outside the grid.
    """
    check_size(drawn.path, int(np.prod(grid.shape_zyx, dtype=object)))
    painted = np.zeros(grid.shape_zyx, np.min_scalar_type(max(ranks.values(), default=1)))
    for number, voxels in _voxels(grid, drawn, set(ranks)):
        rank, before = ranks[number], painted[voxels]
        if not later_wins and ((before != 0) & (before != rank)).any():
            other = int(before[(before != 0) & (before != rank)][0])
            raise ImageError(
                f"{drawn.path}: structures overlap, and a voxel of a label map has one value",
                found=f"'{names[other]}' and '{names[rank]}' share voxels",
                remedy="leave one of them out, or say that the later one is on top",
            )
        painted[voxels] = np.maximum(before, rank)
    return painted


def _voxels(grid: Grid, drawn: Drawn, wanted: set[int]) -> Iterator[tuple[int, Voxels]]:
    with understood(drawn.path):
        yield from (rois.voxels if drawn.is_contours else segments.voxels)(grid, drawn, wanted)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
