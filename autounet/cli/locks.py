"""One command at a time where two would undo each other's work: a lock that the system takes back when a process ends."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autounet.errors import ArtefactError, AutounetError

try:
    import fcntl
except ImportError:  # Windows: two commands at once are the user's own affair there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def one_at_a_time(path: Path, busy: Callable[[], AutounetError | None]) -> Iterator[None]:
    """Holds a lock on ``path``, an empty file that is made if need be.

    Args:
        path: The lock's file; its folder must be there.
        busy: Called when another process has the lock: the error it returns is raised; after None the lock is waited for.

    Raises:
        ArtefactError: The file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        remedy = "check the folder's permissions and free space"
        raise ArtefactError(f"{path.parent}: cannot be written", found=error.strerror or error, remedy=remedy) from None
    try:
        _lock(handle, busy)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, busy: Callable[[], AutounetError | None]) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        error = busy()
        if error is not None:
            raise error from None
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return  # a network disk without locks
