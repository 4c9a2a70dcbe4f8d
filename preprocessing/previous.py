"""The label map of a cascade's first stage, from its file to label indices."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_labels
from autounet.labels import LabelSpec


def read_previous(path: Path, grid: Grid, labels: LabelSpec, name: str) -> npt.NDArray[Any]:
    """Label indices (z, y, x) of a predicted label map, uint8 or uint16.

    Args:
        path: Of the map, in the dataset's label values.
        grid: The image's, which must be the map's too.
        labels: The dataset's.
        name: The case, for messages.

    Raises:
        ImageError: The file cannot be read, or is on another grid.
    """
    values, found = read_labels(path)
    different = grid.differences(found)
    if different:
        raise ImageError(
            f"{name}: the first stage's label map and the image differ in {'; '.join(different)}",
            found=path,
            remedy="train the first stage again with --overwrite: the image has changed since it was predicted",
        )
    return previous_indices(values, labels)


def previous_indices(values_zyx: npt.NDArray[Any], labels: LabelSpec) -> npt.NDArray[Any]:
    """Label values → indices. A region may be painted with a value that is no label: nnU-Net's one-hot channels leave it out."""
    unknown = labels.unknown_values(values_zyx)
    known = np.where(np.isin(values_zyx, unknown), 0, values_zyx) if unknown else values_zyx
    return labels.encode(known, "the first stage's label map")
