"""The paper a U-Net is drawn on: boxes, arrows, lines of text, title and legend, in inches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autounet.colours import INK, MUTED
from autounet.report.network_layout import Bar, Role, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# After Okabe and Ito, as autounet/colours.py: (face, edge).
LOOKS: dict[Role, tuple[str, str]] = {
    "stem": ("#C9D3DC", "#52606D"),
    "encoder": ("#5BA3D0", "#00507D"),
    "encoder other": ("#C4DFF0", "#00507D"),
    "copy": ("#FFFFFF", "#00507D"),
    "up": ("#FFFFFF", "#00664B"),
    "decoder": ("#56BC9E", "#00664B"),
    "decoder other": ("#C5E8DD", "#00664B"),
    "head": ("#E8833A", "#8A3C00"),
    "idle head": ("#FFFFFF", "#8A3C00"),
    "input": ("#9AA5B1", "#52606D"),
    "labels": ("#EBC04B", "#8A6A00"),
}
DOWN, UP, SKIP, OUT = "#B23A48", "#00664B", "#7B8794", "#8A3C00"

NUMBER_PT, SIZE_PT, SMALL_PT, TITLE_PT, NOTE_PT = 9.5, 8.5, 7.5, 13.0, 8.5
LINE = 0.135
"""Inches from one line to the next."""
ENTRY_HEIGHT = 0.21
MARGIN, NARROWEST = 0.25, 6.5

Line = tuple[str, float, str]
"""Text, size in points, colour."""
Symbol = Role | str
"""Of the legend: a box, or the colour of an arrow."""


@dataclass(frozen=True, slots=True)
class Page:
    """The axes, in inches, and how far the drawing reaches."""

    axes: "Axes"
    reach: list[tuple[float, float]] = field(default_factory=list)
    """Points that must be on the page."""

    def say(
        self, x: float, y: float, text: str, size_pt: float = SMALL_PT, colour: str = INK, ha: Any = "center", bold: bool = False
    ) -> None:
        """One line of text, its middle at height y."""
        self.axes.text(x, y, text, fontsize=size_pt, color=colour, ha=ha, va="center", fontweight="bold" if bold else "normal")
        width = text_width(text, size_pt) * (1.06 if bold else 1)
        left = {"left": x, "center": x - width / 2, "right": x - width}[ha]
        self.reach.extend([(left, y - size_pt / 120), (left + width, y + size_pt / 120)])

    def lines(self, x: float, y: float, lines: Sequence[Line], ha: Any) -> None:
        """Lines of (text, size, colour) around height y."""
        for number, (text, size_pt, colour) in enumerate(lines):
            self.say(x, y + LINE * ((len(lines) - 1) / 2 - number), text, size_pt, colour, ha)

    def bar(self, bar: Bar, y: float) -> None:
        """A box around height y."""
        from matplotlib.patches import Rectangle

        face, edge = LOOKS[bar.role]
        dashed = bar.role in {"copy", "idle head"}
        corner = (bar.x, y - bar.height / 2)
        style: Any = (0, (2.2, 1.4)) if dashed else "solid"
        self.axes.add_patch(
            Rectangle(corner, bar.width, bar.height, facecolor=face, edgecolor=edge, linewidth=0.8, linestyle=style, zorder=3)
        )
        self.reach.extend([corner, (bar.right, y + bar.height / 2)])

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """An arrow from point to point."""
        from matplotlib.patches import FancyArrowPatch

        style = "-|>,head_length=4,head_width=2.2"
        self.axes.add_patch(
            FancyArrowPatch(start, end, arrowstyle=style, color=colour, linewidth=1.2, shrinkA=0, shrinkB=0, mutation_scale=1, zorder=2)
        )

    def frame(self, title: str, note: str, legend: Sequence[tuple[Symbol, str]]) -> tuple[float, float]:
        """Puts title and note above, the legend below, and cuts the page to what is drawn. Returns its width and height."""
        left, right = min(x for x, _ in self.reach), max(x for x, _ in self.reach)
        bottom, top = min(y for _, y in self.reach) - 0.42, max(y for _, y in self.reach) + 0.36
        width = max(right - left, text_width(title, TITLE_PT) * 1.06, text_width(note, NOTE_PT), NARROWEST)
        left -= (width - (right - left)) / 2
        self.say(left, top + 0.26, title, TITLE_PT, INK, "left", bold=True)
        self.say(left, top, note, NOTE_PT, MUTED, "left")
        rows = self._legend(left, bottom, width, legend)
        low, high = bottom - (rows - 1) * ENTRY_HEIGHT - 0.1 - MARGIN, top + 0.38 + MARGIN
        self.axes.set_xlim(left - MARGIN, left + width + MARGIN)
        self.axes.set_ylim(low, high)
        return width + 2 * MARGIN, high - low

    def _legend(self, left: float, top: float, width: float, entries: Sequence[tuple[Symbol, str]]) -> int:
        """Entries in as many columns as fit, read downwards. Returns the rows."""
        widths = [text_width(text, SMALL_PT) + 0.65 for _, text in entries]
        for columns in range(4, 0, -1):
            rows = -(-len(entries) // columns)
            columns_in = [max(widths[first : first + rows]) for first in range(0, len(entries), rows)]
            if sum(columns_in) <= width + 0.3:
                break
        for number, (symbol, text) in enumerate(entries):
            x, y = left + sum(columns_in[: number // rows]), top - ENTRY_HEIGHT * (number % rows)
            if symbol in LOOKS:
                self.bar(Bar(x + 0.07, 0.12, 0.14, symbol), y)
            else:
                self.arrow((x, y), (x + 0.26, y), symbol)
            self.say(x + 0.35, y, text, SMALL_PT, INK, "left")
        return rows
