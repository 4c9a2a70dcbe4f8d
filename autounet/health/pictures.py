"""Findings, each with the slice that shows it, as PNG files.

Drawn with Pillow: a slice, outlines and a ring need no plotting library, and a page may hold dozens of them.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autounet.artefact import atomic_path, remove_leftovers
from autounet.dataset import Case, DatasetSpec
from autounet.errors import ArtefactError
from autounet.health.findings import Finding, Health, Kind
from autounet.images import read_image, read_labels
from autounet.parallel import map_ordered
from autounet.runtime import Runtime

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PICTURES, MOST_OF_A_KIND = 40, 8
"""So many findings get a picture, the worst first: a page with more of them is not looked at."""

PANEL_PIXELS = 320
"""The longer side of a panel."""

NARROWEST = 0.25
"""A panel is at least so wide or high relative to its longer side, however long the voxels are."""

CAPTION_PIXELS, GAP_PIXELS = 20, 6
LETTERS = 44
"""Of a caption, at most."""

CONCERNED = ((213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Colours (red, green, blue) of the classes concerned, whose names then stand in the picture; of more, all have the first."""

OTHERS, RING, PAPER, INK = (86, 180, 233), (240, 228, 66), (255, 255, 255), (31, 41, 51)
"""Of the outlines of all other classes, the ring around the place, and the page."""

RINGED: tuple[Kind, ...] = ("island", "hole", "outside the body", "cut off")
"""Kinds that are at one place and easily overlooked."""

RING_RADIUS = 16

PART, SMALLEST_PART = 0.2, 16
"""Beside a ring its neighbourhood is shown enlarged: so much of the slice's longer side, and so many pixels at least."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice of a case as radiologists see it; axes y, x."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    """Label values."""
    height_per_width: float
    """Of a voxel."""
    place_yx: tuple[int, int]


def draw_pictures(health: Health, dataset: DatasetSpec, folder: Path, runtime: Runtime) -> Health:
    """Draws the findings that can be shown into ``folder``, in place of the pictures that are there.

    Args:
        health: What was found.
        dataset: The dataset it was found in; the cases to be shown are read again.
        folder: For the pictures, ``000.png`` and so on.
        runtime: Workers and progress.

    Returns:
        The same findings, with the names of their pictures.

    Raises:
        ArtefactError: The folder cannot be written to.
    """
    _empty(folder)
    chosen: list[int] = []
    kinds: Counter[str] = Counter()
    for number, finding in enumerate(health.findings):
        if finding.place_zyx is not None and kinds[finding.kind] < MOST_OF_A_KIND and len(chosen) < MOST_PICTURES:
            kinds[finding.kind] += 1
            chosen.append(number)
    findings = list(health.findings)
    with runtime.progress("Drawing findings", len(chosen)) as advance:
        for number, content in map_ordered(lambda number: picture(findings[number], dataset), chosen, runtime.workers):
            if isinstance(content, bytes):
                name = f"{number:03d}.png"
                with atomic_path(folder / name) as temporary:
                    temporary.write_bytes(content)
                findings[number] = findings[number].model_copy(update={"picture": name})
            advance(1, findings[number].case)
    return health.model_copy(update={"findings": tuple(findings)})


def picture(finding: Finding, dataset: DatasetSpec) -> bytes | None:
    """A PNG of the slice where a finding is to be seen, and of a case beside it; None where nothing is to be seen.

    The first channel is shown between 0.5 and 99.5 % of the slice's intensities, at its physical proportions, as radiologists see it;
    other orientations as they are stored. Structures are outlined, those concerned in colours of their own, others in blue.

    Raises:
        ImageError: A file of the case cannot be read.
    """
    cases = {case.id: case for case in dataset.cases}
    if finding.place_zyx is None or finding.case not in cases:
        return None
    values = {value: name for entry in dataset.labels.classes if (name := entry.name) in finding.classes for value in entry.values}
    as_stored = finding.kind == "orientation"
    shown = _slice(cases[finding.case], finding.place_zyx, (), as_stored)
    beside = _slice_beside(cases, finding, tuple(values), as_stored) if finding.beside in cases else None
    # An image in another unit looks like any other, unless the usual one sets what is black and white.
    window = _window(beside if beside is not None and finding.kind == "brightness" else shown)
    panels = [_panel(finding.case, shown, values, window, ringed=finding.kind in RINGED)]
    if beside is not None:
        panels.append(_panel(str(finding.beside), beside, values, _window(beside), ringed=False))
    elif finding.kind in RINGED:
        panels.append(_panel("enlarged", _part(shown), values, window, ringed=False))
    return _side_by_side(panels)


def _slice(case: Case, place_zyx: tuple[int, int, int] | None, values: Sequence[int], as_stored: bool) -> _Slice:
    """The slice at a place; without one, the slice with most voxels of these values, or of any label, or the middle one."""
    image, grid = read_image(case.images[0])
    labels, _ = read_labels(case.label)
    if place_zyx is None:
        counts = np.isin(labels, tuple(values)).sum(axis=(1, 2)) if values else np.zeros(len(labels), np.int64)
        counts = counts if counts.any() else (labels > 0).sum(axis=(1, 2))
        z = int(counts.argmax()) if counts.any() else len(labels) // 2
        y, x = (size // 2 for size in labels.shape[1:])
    else:
        z, y, x = place_zyx
    flips = tuple(axis - 1 for axis in grid.radiological_flips()) if grid.ndim == 3 and not as_stored else ()
    y, x = (size - 1 - at if axis in flips else at for axis, (at, size) in enumerate(zip((y, x), labels.shape[1:], strict=True)))
    return _Slice(
        np.flip(image[0, z], flips), np.flip(labels[z], flips).astype(np.int64), grid.spacing_mm_zyx[1] / grid.spacing_mm_zyx[2], (y, x)
    )


def _slice_beside(cases: Mapping[str, Case], finding: Finding, values: Sequence[int], as_stored: bool) -> _Slice:
    """Of a case that is a copy the same slice, of others the one that shows most."""
    alike = finding.beside in finding.others
    beside = cases[str(finding.beside)]
    if alike:
        try:
            return _slice(beside, finding.place_zyx, (), as_stored)
        except IndexError:  # alike, but not of the same size
            pass
    return _slice(beside, None, values, as_stored)


def _part(shown: _Slice) -> _Slice:
    """The neighbourhood of the place: the ``PART`` of the longer side, square in mm where the slice is large enough."""
    rows, columns = shown.image.shape
    side = max(PART * max(rows * shown.height_per_width, columns), SMALLEST_PART)
    cut = []
    for at, size, count in zip(shown.place_yx, (side / shown.height_per_width, side), (rows, columns), strict=True):
        length = min(count, max(1, round(size)))
        first = min(max(0, at - length // 2), count - length)
        cut.append(slice(first, first + length))
    return _Slice(shown.image[tuple(cut)], shown.labels[tuple(cut)], shown.height_per_width, (0, 0))


def _window(shown: _Slice) -> tuple[float, float]:
    """The intensities that are drawn black and white."""
    low, high = np.percentile(shown.image, (0.5, 99.5)).tolist()
    return low, high if high > low else low + max(1.0, 1e-6 * abs(low))


def _panel(caption: str, shown: _Slice, names: Mapping[int, str], window: tuple[float, float], ringed: bool) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    rows, columns = shown.image.shape
    ratio = rows * shown.height_per_width / columns
    width = round(PANEL_PIXELS * max(NARROWEST, min(1.0, 1 / ratio)))
    height = round(PANEL_PIXELS * max(NARROWEST, min(1.0, ratio)))
    low, high = window
    scaled = np.clip((shown.image.astype(np.float64) - low) / (high - low), 0, 1)
    grey = Image.fromarray(np.round(255 * scaled).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(grey.convert("RGB")).copy()
    labels = shown.labels[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
    distinct = list(dict.fromkeys(names.values()))
    named = distinct if len(distinct) <= len(CONCERNED) else []
    colours = {value: CONCERNED[named.index(name) if named else 0] for value, name in names.items()}
    for value in np.unique(labels[labels > 0]).tolist():
        pixels[_outline(labels == value)] = colours.get(value, OTHERS)
    panel = Image.new("RGB", (width, height + CAPTION_PIXELS), PAPER)
    panel.paste(Image.fromarray(pixels), (0, CAPTION_PIXELS))
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(size=12)
    draw.text((2, 3), _fitting(caption, width), INK, font)
    for number, name in enumerate(named):
        place = (4, CAPTION_PIXELS + height - 16 * (len(named) - number))
        draw.text(place, _fitting(name, width), CONCERNED[number], font, stroke_width=1, stroke_fill=INK)
    if ringed:
        y, x = ((at + 0.5) * size / count for at, size, count in zip(shown.place_yx, (height, width), (rows, columns), strict=True))
        y += CAPTION_PIXELS
        draw.ellipse((x - RING_RADIUS, y - RING_RADIUS, x + RING_RADIUS, y + RING_RADIUS), outline=RING, width=2)
    return panel


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The outermost two pixels of a mask."""
    inner = mask
    for _ in range(2):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _side_by_side(panels: "list[Image]") -> bytes:
    from PIL import Image

    width = sum(panel.width for panel in panels) + GAP_PIXELS * (len(panels) - 1)
    page = Image.new("RGB", (width, max(panel.height for panel in panels)), PAPER)
    left = 0
    for panel in panels:
        page.paste(panel, (left, 0))
        left += panel.width + GAP_PIXELS
    content = io.BytesIO()
    page.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _fitting(text: str, width: int) -> str:
    """A long name without its middle, so that some seven pixels a letter suffice."""
    most = min(LETTERS, max(6, width // 7))
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"


def _empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        for path in folder.glob("*.png"):
            path.unlink()
    except OSError as error:
        raise ArtefactError(
            f"{folder}: cannot be written", found=error.strerror or error, remedy="choose another folder with --runs"
        ) from None
