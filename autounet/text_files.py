"""Small text files that may come from anybody: only plain files are opened, and not without end."""

import errno
import stat
from pathlib import Path

MOST_BYTES = 2**28
"""Of a text file; the largest that commands write have a few megabytes."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, in one piece.

    Raises:
        OSError: It is missing or cannot be read; is a pipe or a device, which might never end; or is larger than ``MOST_BYTES``.
        UnicodeDecodeError: It is not text of this encoding.
    """
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "Is a pipe or a device, not a file", str(path))
    if state.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"Is larger than {MOST_BYTES // 2**20} MiB", str(path))
    with path.open(encoding=encoding) as file:
        return file.read(MOST_BYTES)
