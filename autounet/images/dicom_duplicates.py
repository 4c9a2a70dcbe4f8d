"""Several frames at one place: copies of one slice, which are passed over, or several volumes in one series, which become channels."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autounet.errors import ImageError
from autounet.images.dicom_files import read_whole
from autounet.images.dicom_frames import HINTS, SEPARATORS, Frame

logger = logging.getLogger(__name__)


def without_copies(path: Path, frames: Sequence[Frame]) -> list[Frame]:
    """Frames without those that come a second time under the same identifier.

    Raises:
        ImageError: Two have the same identifier, but differ.
    """
    first: dict[tuple[str, int], Frame] = {}
    copies = 0
    for frame in frames:
        known = first.setdefault((frame.instance, frame.number), frame)
        if known is not frame:
            if known.place.path != frame.place.path and _content(known) != _content(frame):
                raise ImageError(
                    f"{path}: two different files claim to be the same image",
                    found=f"{known.place.path.name} and {frame.place.path.name}",
                    remedy="keep the right one",
                )
            copies += 1
    if copies:
        logger.warning("%s: %d copies of slices that are there already are passed over", path, copies)
    return list(first.values())


def separate(path: Path, levels: Sequence[Sequence[Frame]]) -> list[tuple[Frame, ...]]:
    """The volumes of a series.

    Args:
        path: For messages.
        levels: Frames in order of their place along the normal, those at one place together.

    Returns:
        By volume, in the order of the attribute that tells them apart, the frames in slice order.

    Raises:
        ImageError: Slices come several times, and no attribute of ``SEPARATORS`` makes whole volumes of them.
    """
    counts = Counter(len(level) for level in levels)
    if set(counts) == {1}:
        return [tuple(level[0] for level in levels)]
    if len(counts) == 1:
        for name in SEPARATORS:
            values = [[frame.marks.get(name) for frame in level] for level in levels]
            wanted = set(values[0])
            if None not in wanted and len(wanted) == len(levels[0]) and all(set(found) == wanted for found in values):
                logger.info("%s: %d volumes, by %s, are channels", path, len(wanted), name)
                sorted_levels = [sorted(level, key=lambda frame: frame.marks[name]) for level in levels]
                return [tuple(level[index] for level in sorted_levels) for index in range(len(wanted))]
    if all(len({_content(frame) for frame in level}) == 1 for level in levels):
        logger.warning("%s: slices that come several times, all alike, are used once", path)
        return [tuple(level[0] for level in levels)]
    shown = ", ".join(f"{number} places with {count}" for count, number in sorted(counts.items()))
    differing = [
        f"{name} {', '.join(str(value) for value in sorted(found, key=str)[:4])}"
        for name in (*SEPARATORS, *HINTS)
        if len(found := {frame.marks[name] for level in levels for frame in level if name in frame.marks}) > 1
    ]
    example = next(level for level in levels if len(level) > 1)
    raise ImageError(
        f"{path}: several slices lie at the same place",
        found=f"{shown} slices, e.g. {example[0].place.path.name} and {example[1].place.path.name}"
        + (f"; they differ in {'; '.join(differing)}" if differing else ""),
        expected="one slice at each place, or whole volumes that echo, b-value or time tell apart",
        remedy="give each volume in a folder of its own",
    )


def _content(frame: Frame) -> tuple[bytes, float, float, int]:
    """What the pixels of a frame are made from; of a file of several frames all of them."""
    whole = read_whole(frame.place, frame.stored_bytes * (frame.number + 1))
    digest = hashlib.blake2b(digest_size=16)
    for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        digest.update(whole.get(name) or b"")
    return digest.digest(), frame.slope, frame.intercept, frame.number
