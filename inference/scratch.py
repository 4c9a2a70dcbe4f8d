"""Arrays in a file instead of memory."""

import math
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ArtefactError

BLOCK = 16 * 2**20


def scratch_array(folder: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[IO[bytes], npt.NDArray[Any]]:
    """An array of zeros in a file that has no name: nothing is left of it once it is closed, or this process is killed.

    Args:
        folder: Whose disk holds it; made where it is missing.
        shape: Of the array.
        dtype: Of the array.

    Returns:
        The file, and the array that is mapped to it. The array may live on after the file is closed.

    Raises:
        ArtefactError: The disk has no room for it.
    """
    file: IO[bytes] | None = None
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder, prefix=".scratch-")  # noqa: SIM115
        # Written, not only claimed: on a full disk, touching a part of the mapped array that has no space ends the whole process.
        for start in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - start)))
        file.flush()
        return file, np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        if file is not None:
            with suppress(OSError):  # what could not be written is tried once more
                file.close()
        raise ArtefactError(
            f"{folder}: cannot hold a temporary file of {size / 1e6:.1f} MB",
            found=error.strerror or error,
            remedy="check the folder's permissions and free space",
        ) from None
