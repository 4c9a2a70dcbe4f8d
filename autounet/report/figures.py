"""The figures: training curves, overlays of image, truth, prediction and errors, and a plan's network.

matplotlib is imported when a figure is drawn, not with these modules.
"""

from autounet.report.network import network_figure
from autounet.report.overlay import OverlayRow, overlay_figure
from autounet.report.progress import progress_figure

__all__ = ["OverlayRow", "network_figure", "overlay_figure", "progress_figure"]
