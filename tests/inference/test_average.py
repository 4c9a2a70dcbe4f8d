"""Label maps from files of probabilities."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autounet.errors import ImageError
from autounet.inference.average import average_labels
from autounet.labels import LabelSpec, StructureClass

LABELS = LabelSpec(classes=(StructureClass(name="a", values=(3,)), StructureClass(name="b", values=(7,))))
REGIONS = LabelSpec(
    classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))), overlapping=True, paint_order=(1, 2)
)


def file(folder: Path, name: str, voxels: list[list[float]]) -> Path:
    """One row of probabilities for each voxel of a (1, 1, n) image."""
    path = folder / f"{name}.npz"
    np.savez_compressed(path, probabilities=np.array(voxels, np.float16).T[:, None, None])
    return path


def test_the_class_of_the_highest_mean_wins(tmp_path: Path) -> None:
    """Votes would say otherwise for the second voxel: two of three files favour the background."""
    one = file(tmp_path, "one", [[0.1, 0.9, 0.0], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]])
    two = file(tmp_path, "two", [[0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]])
    three = file(tmp_path, "three", [[0.5, 0.4, 0.1], [0.0, 0.9, 0.1], [0.3, 0.0, 0.7]])
    assert average_labels([one, two, three], LABELS).tolist() == [[[3, 3, 0]]]


def test_regions_are_painted_one_over_the_other(tmp_path: Path) -> None:
    one = file(tmp_path, "one", [[0.9, 0.2], [0.9, 0.9], [0.3, 0.9], [0.2, 0.2]])
    two = file(tmp_path, "two", [[0.3, 0.2], [0.9, 0.3], [0.3, 0.9], [0.2, 0.2]])
    assert average_labels([one, two], REGIONS).tolist() == [[[1, 2, 2, 0]]]


def damaged(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:60])
    return path


def text(path: Path) -> Path:
    path.write_text("no zip")
    return path


def pickled(path: Path) -> Path:
    np.savez(path, probabilities=np.array([{}], dtype=object))
    return path


def other_name(path: Path) -> Path:
    np.savez(path, softmax=np.zeros((3, 1, 1, 1), np.float16))
    return path


def other_classes(path: Path) -> Path:
    np.savez(path, probabilities=np.zeros((2, 1, 1, 1), np.float16))
    return path


def not_finite(path: Path) -> Path:
    np.savez(path, probabilities=np.array([0, np.nan, 0], np.float16).reshape(3, 1, 1, 1))
    return path


def gone(path: Path) -> Path:
    path.unlink()
    return path


def other_grid(path: Path) -> Path:
    np.savez(path, probabilities=np.zeros((3, 1, 1, 2), np.float16))
    return path


HARMS = (damaged, not_finite, text, pickled, other_name, other_classes, gone, other_grid)


@pytest.mark.parametrize("harm", HARMS, ids=lambda each: each.__name__)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, harm: Callable[[Path], Path]) -> None:
    good = file(tmp_path, "good", [[1.0, 0.0, 0.0]])
    bad = harm(file(tmp_path, "bad", [[1.0, 0.0, 0.0]]))
    with pytest.raises(ImageError, match=r"bad\.npz"):
        average_labels([good, bad], LABELS)
