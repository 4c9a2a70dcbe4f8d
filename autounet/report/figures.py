"""The figures: training curves, and overlays of image, truth, prediction and errors.

matplotlib is imported when a figure is drawn, not with these modules.
"""

from autounet.report.overlay import OverlayRow, overlay_figure
from autounet.report.progress import progress_figure

__all__ = ["OverlayRow", "overlay_figure", "progress_figure"]
