"""Image, truth, prediction and errors side by side, one row per case."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from autounet.colours import CONFUSED, EXTRA, INK, MISSED, MUTED, UNANNOTATED, class_colours
from autounet.labels import IntArray, LabelSpec
from autounet.report.canvas import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 12
"""Most cases in one figure."""

# The page, in inches.
PANEL, GAP, MARGIN = 2.35, 0.08, 0.15
TEXT_COLUMN, TEXT_LINE = 2.1, 0.175
TITLE, HEADINGS, LEGEND_LINE = 0.42, 0.3, 0.24
FLATTEST, TALLEST = 0.5, 1.4
"""A row's height relative to the width of a panel."""


Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class OverlayRow:
    """One case of an overlay figure. Arrays have axes z, y, x and one shape; a 2D image has one slice."""

    case: str
    image_zyx: npt.NDArray[Any]
    """One channel."""
    truth_zyx: IntArray | None
    """Label indices: 0 background, 1.. in the order of the class names; anything else is not annotated."""
    prediction_zyx: IntArray
    """Label indices."""
    spacing_mm_zyx: tuple[float, float, float]
    dice: Mapping[str, float | None]
    """By class name; None where undefined."""


def overlay_figure(rows: Sequence[OverlayRow], path: Path, class_names: Sequence[str], title: str) -> None:
    """Draws a PNG with one row per case: image, truth, prediction, errors, and the Dice of every class.

    Each row shows the slice along z with most foreground, at its physical aspect ratio, in the intensity window from 0.5 to
    99.5 % of that slice. With more than ``ROWS`` cases those with the worst, median and best Dice are shown.

    Args:
        rows: The cases, at least one. Without any truth there are only the columns image and prediction.
        path: File to write.
        class_names: Names of the label indices 1.., any number.
        title: Line above the figure.

    Raises:
        ArtefactError: The file cannot be written.
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("an overlay figure needs at least one case")
    shown = choose_rows(rows, ROWS)
    if len(shown) < len(rows):
        title += f" · {describe_choice(len(shown), len(rows))}"
    slices = [_slice_of(row, len(class_names)) for row in shown]
    scored = any(row.truth_zyx is not None for row in shown)
    columns = ("Image", "Truth", "Prediction", "Errors") if scored else ("Image", "Prediction")
    colours = class_colours(len(class_names))
    legend = _legend_entries(slices, class_names, colours, scored)
    _Page(columns, slices, legend).draw(path, title, shown, dict(zip(class_names, colours, strict=True)))


def choose_slice(truth_zyx: IntArray | None, prediction_zyx: IntArray, classes: int) -> int:
    """Index along z of the slice with most foreground in the truth, or in the prediction when the truth has none.

    Indices beyond ``classes`` (not annotated) are no foreground. The middle slice when there is no foreground at all.
    """
    for labels in (truth_zyx, prediction_zyx):
        if labels is not None:
            counts = ((labels > 0) & (labels <= classes)).sum(axis=(1, 2))
            if counts.any():
                return int(counts.argmax())
    return int(prediction_zyx.shape[0]) // 2


def choose_rows(rows: Sequence[OverlayRow], limit: int) -> list[OverlayRow]:
    """All rows, or a third each with the worst, the median and the best mean Dice, from worst to best."""
    return [rows[number] for number in ranked_choice({number: mean_dice(row.dice) for number, row in enumerate(rows)}, limit)]


def ranked_choice(means: Mapping[Key, float | None], limit: int) -> list[Key]:
    """All keys, in their order, or a third each with the worst, the median and the best mean, from worst to best.

    Keys without a mean are passed over when there is a choice.
    """
    if len(means) <= limit:
        return list(means)
    known = {key: mean for key, mean in means.items() if mean is not None}
    ranked = sorted(known, key=lambda key: known[key])
    if len(ranked) <= limit:
        return ranked or list(means)[:limit]
    third = limit // 3
    middle = limit - 2 * third
    start = (len(ranked) - middle) // 2
    return ranked[:third] + ranked[start : start + middle] + ranked[-third:] if third else ranked[:limit]


def describe_choice(shown: int, total: int) -> str:
    """What ``choose_rows`` has taken, in words."""
    third = shown // 3
    return f"{third} worst, {shown - 2 * third} median and {third} best of {total} cases" if shown == ROWS else f"{shown} of {total} cases"


def mean_dice(dice: Mapping[str, float | None]) -> float | None:
    """Mean over the classes that are defined; None when none is."""
    defined = [value for value in dice.values() if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def intensity_window(image: npt.NDArray[Any]) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles of the finite values; never an empty range."""
    finite = image[np.isfinite(image)]
    low, high = (float(value) for value in np.percentile(finite, (0.5, 99.5))) if finite.size else (0.0, 1.0)
    if high > low:
        return low, high
    # Nearly all voxels are alike: use the whole range, or any range when they are all alike.
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def error_map(truth: IntArray, prediction: IntArray, classes: int) -> npt.NDArray[np.uint8]:
    """0 right, 1 missed (truth alone), 2 extra (prediction alone), 3 another class, 4 not annotated."""
    true, found = (labels.astype(np.int64) for labels in (truth, prediction))
    found = np.where(found > classes, 0, found)
    errors = np.zeros(truth.shape, np.uint8)
    errors[(true > 0) & (found == 0)] = 1
    errors[(true == 0) & (found > 0)] = 2
    errors[(true > 0) & (found > 0) & (true != found)] = 3
    errors[true > classes] = 4
    return errors


def with_unknown(truth: IntArray, prediction: IntArray, labels: LabelSpec, annotated: Sequence[str] | None) -> IntArray:
    """The truth, with an index beyond all labels where a class that is not annotated in it is predicted on its background.

    Both maps are label indices of any equal shape; ``annotated`` names the annotated classes, None for all.
    """
    if annotated is None or labels.overlapping:
        return truth
    known = np.ones(len(labels.allowed_values), np.bool_)
    known[1 : len(labels.classes) + 1] = [name in annotated for name in labels.names]
    return np.where((truth == 0) & ~known[prediction], len(labels.foreground_values) + 1, truth)


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice of a case, axes y, x."""

    image: npt.NDArray[Any]
    truth: IntArray | None
    prediction: IntArray
    errors: npt.NDArray[np.uint8] | None
    aspect: float
    """Height of a voxel relative to its width."""

    @property
    def height(self) -> float:
        """Height of its row in inches."""
        rows, columns = self.image.shape
        ratio = int(rows) * self.aspect / int(columns)
        return PANEL * min(max(ratio, FLATTEST), TALLEST)

    @property
    def classes(self) -> set[int]:
        """Label indices that occur."""
        maps = (self.prediction,) if self.truth is None else (self.prediction, self.truth)
        return {int(value) for labels in maps for value in np.unique(labels)}


def _slice_of(row: OverlayRow, classes: int) -> _Slice:
    z = choose_slice(row.truth_zyx, row.prediction_zyx, classes)
    truth = None if row.truth_zyx is None else row.truth_zyx[z]
    prediction = row.prediction_zyx[z]
    errors = None if truth is None else error_map(truth, prediction, classes)
    return _Slice(row.image_zyx[z], truth, prediction, errors, row.spacing_mm_zyx[1] / row.spacing_mm_zyx[2])


def _legend_entries(slices: Sequence[_Slice], names: Sequence[str], colours: Sequence[str], scored: bool) -> list[tuple[str, str]]:
    """(text, colour) of the classes that are to be seen (all of them when they are few), then of the errors."""
    seen = set().union(*(entry.classes for entry in slices))
    few = len(names) <= 8
    entries = [(name, colour) for index, (name, colour) in enumerate(zip(names, colours, strict=True), start=1) if few or index in seen]
    if scored:
        entries += [("missed", MISSED), ("extra", EXTRA)]
        entries += [("wrong class", CONFUSED)] if len(names) > 1 else []
        entries += [("not annotated", UNANNOTATED)] if any(index > len(names) for index in seen) else []
    return entries


class _Page:
    """Where everything goes; lengths in inches from the top left corner."""

    def __init__(self, columns: Sequence[str], slices: Sequence[_Slice], legend: Sequence[tuple[str, str]]) -> None:
        self.columns, self.slices, self.legend = columns, slices, legend
        self.width = 2 * MARGIN + len(columns) * (PANEL + GAP) + TEXT_COLUMN
        longest = max((len(text) for text, _ in legend), default=1)
        self.legend_columns = max(1, int((self.width - 2 * MARGIN) / (0.5 + 0.08 * min(longest, 40))))
        legend_height = math.ceil(len(legend) / self.legend_columns) * LEGEND_LINE
        self.height = TITLE + HEADINGS + sum(entry.height + GAP for entry in slices) + legend_height + MARGIN

    def draw(self, path: Path, title: str, rows: Sequence[OverlayRow], colours: Mapping[str, str]) -> None:
        figure = new_figure((self.width, self.height))
        self._write(figure, MARGIN, 0.28, _short(title, int(self.width / 0.13)), fontsize=13, fontweight="bold")
        for number, column in enumerate(self.columns):
            self._write(figure, self._left(number) + PANEL / 2, TITLE + 0.2, column, fontsize=11, ha="center", color=MUTED)
        self._write(
            figure,
            self._left(len(self.columns)) + 0.12,
            TITLE + 0.2,
            "Dice" if any(row.dice for row in rows) else "Case",
            fontsize=11,
            color=MUTED,
        )
        top = TITLE + HEADINGS
        for row, entry in zip(rows, self.slices, strict=True):
            self._row(figure, top, entry, list(colours.values()))
            self._scores(figure, top, entry.height, row, colours)
            top += entry.height + GAP
        self._legend(figure)
        save(figure, path)

    def _row(self, figure: "Figure", top: float, entry: _Slice, colours: Sequence[str]) -> None:
        for number, column in enumerate(self.columns):
            left, bottom = self._left(number) / self.width, 1 - (top + entry.height) / self.height
            axes = figure.add_axes((left, bottom, PANEL / self.width, entry.height / self.height))
            axes.set_axis_off()
            labels = {"Truth": entry.truth, "Prediction": entry.prediction, "Errors": entry.errors}.get(column)
            if column != "Image" and labels is None:
                axes.text(0.5, 0.5, "no truth", ha="center", va="center", fontsize=10, color=MUTED, transform=axes.transAxes)
                continue
            # Errors stand out on a darker image.
            _draw_image(axes, entry, brightest=1.7 if column == "Errors" else 1.0)
            if labels is not None and column == "Errors":
                _fill(axes, labels, (MISSED, EXTRA, CONFUSED, UNANNOTATED), 0.9, entry.aspect)
            elif labels is not None:
                _fill(axes, labels, colours, 0.35, entry.aspect)
                _outline(axes, labels, colours)

    def _scores(self, figure: "Figure", top: float, height: float, row: OverlayRow, colours: Mapping[str, str]) -> None:
        left = self._left(len(self.columns)) + 0.12
        self._write(figure, left, top + TEXT_LINE, _short(row.case, 22), fontsize=10, fontweight="bold")
        room = int(height / TEXT_LINE) - 3
        names = [name for name in colours if name in row.dice]
        note = ""
        if len(names) > room:
            names.sort(key=lambda name: 2.0 if (value := row.dice[name]) is None else value)
            note = f" of {len(names)}, lowest:"
            names = names[:room]
        lines = [(f"{_value(mean_dice(row.dice))}  mean{note}", "none")] if row.dice else []
        lines += [(f"{_value(row.dice[name])}  {_short(name, 22)}", colours[name]) for name in names]
        for number, (text, colour) in enumerate(lines, start=2):
            down = top + TEXT_LINE * (number + 0.15)
            self._write(figure, left, down, "■", fontsize=9, color=colour)
            self._write(figure, left + 0.17, down, text, fontsize=9)

    def _legend(self, figure: "Figure") -> None:
        from matplotlib.patches import Patch

        handles = [Patch(facecolor=colour, edgecolor="none", label=_short(text, 40)) for text, colour in self.legend]
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(MARGIN / self.width, MARGIN / 2 / self.height), ncols=self.legend_columns,
            fontsize=9.5, frameon=False, borderpad=0, borderaxespad=0, columnspacing=1.6, handlelength=1.0, handleheight=1.0,
            labelspacing=0.45, labelcolor=INK,
        )  # fmt: skip

    def _left(self, column: int) -> float:
        return MARGIN + column * (PANEL + GAP)

    def _write(self, figure: "Figure", left: float, down: float, text: str, **style: Any) -> None:
        # parse_math off: a dollar sign in a file's name is a dollar sign.
        figure.text(left / self.width, 1 - down / self.height, text, parse_math=False, **{"color": INK, **style})


def _draw_image(axes: "Axes", entry: _Slice, brightest: float) -> None:
    low, high = intensity_window(entry.image)
    axes.imshow(entry.image.astype(np.float32), cmap="gray", vmin=low, vmax=low + brightest * (high - low), aspect=entry.aspect)


def _fill(axes: "Axes", labels: IntArray, colours: Sequence[str], opacity: float, aspect: float) -> None:
    """Paints index k in ``colours[k - 1]``, indices beyond in grey."""
    from matplotlib.colors import to_rgba

    table = np.array([(0, 0, 0, 0), *(to_rgba(colour, opacity) for colour in colours), to_rgba(UNANNOTATED, opacity)], np.float32)
    axes.imshow(table[np.minimum(labels.astype(np.int64), len(colours) + 1)], aspect=aspect, interpolation="nearest")


def _outline(axes: "Axes", labels: IntArray, colours: Sequence[str]) -> None:
    # A border of background closes outlines at the image's edge.
    padded = np.pad(labels, 1)
    y, x = (np.arange(-1, size + 1) for size in labels.shape)
    for index in np.unique(labels):
        if 0 < index <= len(colours):
            axes.contour(x, y, padded == index, levels=[0.5], colors=[colours[int(index) - 1]], linewidths=1.3)
    height, width = labels.shape
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _value(dice: float | None) -> str:
    return "  –  " if dice is None else f"{dice:.3f}"


def _short(text: str, length: int) -> str:
    """Long names lose their middle: the ends tell cases apart."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"
