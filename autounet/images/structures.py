"""Structures that are drawn apart from an image, as DICOM SEG segments or RTSTRUCT contours, as a label map on the image's own grid."""

from collections.abc import Mapping
from pathlib import Path

from autounet.geometry import Grid
from autounet.images.dicom_out import frame_of_reference
from autounet.images.drawn import find_drawn, open_drawn
from autounet.images.files import read_size
from autounet.images.painting import labels_on
from autounet.labels import IntArray


def structures_on(
    image_path: Path, label_path: Path, classes: Mapping[str, int], *, later_wins: bool = False, missing_ok: bool = False
) -> tuple[IntArray, Grid]:
    """Segments of a DICOM SEG, or regions of interest of an RTSTRUCT, as a label map on an image's grid.

    Segments are matched with classes by name; case, underscores and hyphens make no difference, and several of one name are joined.
    Others are passed over, with a word in the log. Fractional segments count from one half on. Contours are filled by the even-odd rule
    at the voxels' centres.

    Args:
        image_path: An image as ``read_image`` takes it; only its header is read.
        label_path: A DICOM SEG or RTSTRUCT, or a folder with exactly one of them.
        classes: Name → label value. 0, the background, is passed over.
        later_wins: Where structures overlap, the one later in ``classes`` is kept; otherwise they are refused.
        missing_ok: Classes that the file does not have are empty; otherwise they are refused.

    Returns:
        Label values (z, y, x), the smallest unsigned integers that hold them, and the image's grid.

    Raises:
        ImageError: A file is damaged or of another kind, a class is missing or drawn in another frame of reference alone, two classes
            are one name, structures overlap, or they do not lie on the image's grid.
    """
    grid = read_size(image_path)[1]
    drawn, frame = open_drawn(find_drawn(label_path)), frame_of_reference(image_path)
    return labels_on(grid, drawn, classes, frame=frame, later_wins=later_wins, missing_ok=missing_ok), grid


def names_in(label_path: Path) -> tuple[str, ...]:
    """The names of the structures of a DICOM SEG or RTSTRUCT, or of the only one in a folder. Raises ImageError."""
    return tuple(open_drawn(find_drawn(label_path)).names.values())
