"""One case, read and checked: what every look at a dataset begins with."""

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from autounet.dataset import Case, DatasetSpec
from autounet.errors import AutounetError, DatasetError, ImageError, Problem
from autounet.geometry import Grid
from autounet.images import check_finite, read_channels, read_labels, read_size
from autounet.labels import IntArray, LabelSpec
from autounet.memory import available_bytes

READING_SHARE = 0.7
"""Of the memory that is available, what cases that are looked at may take."""

BYTES_PER_VALUE, BYTES_PER_VOXEL = 9, 8
"""What looking at a case takes at most, measured: of each channel's values, and of the label map with what is made of it."""


@dataclass(frozen=True, slots=True)
class ReadCase:
    """The image and the label map of one case, on one grid."""

    image_czyx: npt.NDArray[np.float32]
    labels_zyx: IntArray
    """Label values, all of them named by dataset.json."""
    grid: Grid


def bytes_to_read(case: Case) -> int:
    """Memory that looking at a case takes, about; 0 where its header cannot be read, which reading it will tell."""
    try:
        channels, grid = read_size(case.images[0])
    except AutounetError:
        return 0
    return prod(grid.shape_zyx) * (max(channels, len(case.images)) * BYTES_PER_VALUE + BYTES_PER_VOXEL)


def reading_budget() -> int:
    """Bytes for the cases that are looked at at the same time."""
    return int(READING_SHARE * available_bytes())


def read_case(case: Case, dataset: DatasetSpec) -> tuple[ReadCase | None, int | None, tuple[Problem, ...]]:
    """Reads the files of a case and checks them against each other and against dataset.json.

    Returns:
        The case, or None when it cannot be used; the dimensions of its image (2 or 3), or None when an image or label map could not be
        read; and all problems, of which there is one at least when the case cannot be used.
    """
    problems: list[Problem] = []
    image: npt.NDArray[np.float32] | None = None
    labels: IntArray | None = None
    try:
        image, grid = read_channels(case.images, len(dataset.channels))
    except ImageError as error:
        problems.append(file_problem(case.id, error))
    try:
        labels, label_grid = read_labels(case.label)
    except ImageError as error:
        problems.append(file_problem(case.id, error))
    if labels is not None:
        problems.extend(_label_problems(case, dataset.labels, labels))
        try:
            dataset.labels.check_annotated(labels, case.annotated, case.label.name)
        except DatasetError as error:
            problems.append(file_problem(case.id, error))
    if image is not None:
        problems.extend(_image_problems(case, image))
    if image is None or labels is None:
        return None, None, tuple(problems)
    differences = grid.differences(label_grid)
    if differences:
        what = f"image and label map are on different grids: {'; '.join(differences)}"
        problems.append(Problem(case.id, what, "resample the label map to the image, or correct the header that is wrong"))
    return (None if problems else ReadCase(image, labels, grid)), grid.ndim, tuple(problems)


def file_problem(case_id: str, error: AutounetError) -> Problem:
    """An error of one case's files as a finding."""
    return Problem.of(case_id, error, "replace the file or remove the case")


def _label_problems(case: Case, spec: LabelSpec, labels: IntArray) -> list[Problem]:
    unknown = spec.unknown_values(labels)
    if not unknown:
        return []
    shown = ", ".join(str(value) for value in unknown[:8]) + (" …" if len(unknown) > 8 else "")
    allowed = ", ".join(str(value) for value in spec.allowed_values[:12]) + (" …" if len(spec.allowed_values) > 12 else "")
    what = f"{case.label.name}: label values that dataset.json does not name: found {shown}, expected {allowed}"
    return [Problem(case.id, what, "add them to 'labels' in dataset.json or correct the label map")]


def _image_problems(case: Case, image: npt.NDArray[np.float32]) -> list[Problem]:
    name = case.images[0].name
    try:
        check_finite(image, name)
    except ImageError as error:
        return [file_problem(case.id, error)]
    if not image.any():
        return [Problem(case.id, f"{name}: every voxel is zero", "replace the image or remove the case")]
    return []
