"""Label maps from the mean of probabilities that lie in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.inference.probabilities import labels_of
from autounet.labels import LabelSpec

KEY = "probabilities"


def read_probabilities(path: Path, labels: LabelSpec) -> npt.NDArray[Any]:
    """The array (outputs, z, y, x) of a file made by ``autounet predict --probabilities`` or by nnU-Net's ``--save_probabilities``.

    Raises:
        ImageError: The file cannot be read, or is of other classes.
    """
    expected = f"an .npz with '{KEY}', ({labels.outputs}, z, y, x), as `autounet predict --probabilities` makes it"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            array = file[KEY]
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file", expected=expected) from None
    except (OSError, ValueError, KeyError, EOFError, MemoryError) as error:
        raise ImageError(f"{path}: cannot be read as probabilities", found=error, expected=expected) from None
    except Exception as error:  # zipfile and zlib have errors of their own for damaged files
        raise ImageError(f"{path}: is damaged", found=error, remedy="make it again") from None
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{path}: cannot be read as probabilities", found="no array", expected=expected)
    if array.ndim != 4 or len(array) != labels.outputs or array.dtype.kind != "f":
        raise ImageError(f"{path}: probabilities of another shape", found=f"{array.shape} {array.dtype}", expected=expected)
    if not np.isfinite(array).all():
        raise ImageError(f"{path}: probabilities that are NaN or infinite", remedy="predict it again")
    return np.asarray(array)


def average_labels(paths: Sequence[Path], labels: LabelSpec) -> npt.NDArray[Any]:
    """The label map (z, y, x) of the mean of several files' probabilities; one file is in memory at a time, with the sum in float32.

    Source: nnunetv2 2.8.1, ``ensembling/ensemble.py``.

    Raises:
        ImageError: A file cannot be read, or they are of different shapes.
    """
    total: npt.NDArray[np.float32] | None = None
    for path in paths:
        array = read_probabilities(path, labels)
        if total is None:
            total = array.astype(np.float32)
        elif array.shape != total.shape:
            raise ImageError(f"{path}: on another grid than {paths[0]}", found=array.shape, expected=total.shape)
        else:
            total += array
    assert total is not None
    total /= len(paths)
    return labels_of(total, labels)
