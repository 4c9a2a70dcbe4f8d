"""Making and saving figures without pyplot: no global state, no display."""

from pathlib import Path
from typing import TYPE_CHECKING

from autounet.artefact import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
"""Pixels per inch of every picture."""


def new_figure(size_in: tuple[float, float], constrained: bool = False) -> "Figure":
    """A white figure with a PNG canvas, outside pyplot's list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, dpi=DPI, facecolor="white", layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes the figure as a PNG; a reader sees the old file or the new one. Raises ArtefactError."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def save_vector(figure: "Figure", path: Path) -> None:
    """Writes the figure as an SVG whose text stays text, the same bytes every time. Raises ArtefactError."""
    from matplotlib import rc_context

    with atomic_path(path) as temporary, rc_context({"svg.fonttype": "none", "svg.hashsalt": "autounet"}):
        figure.savefig(temporary, format="svg", metadata={"Date": None})
