"""Reading from disks that fail for a moment, as network disks do, and from a machine that runs out of memory."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from autounet.errors import ImageError
from autounet.images.stored import PASSING
from autounet.memory import memory_of

log = logging.getLogger(__name__)

Result = TypeVar("Result")

PAUSES_SECONDS = (0.5, 2.0, 5.0)
"""Before each further try: short, for whoever waits in vain should soon be told."""


def patiently(read: Callable[[Path], Result], path: Path) -> Result:
    """Calls ``read(path)``, again after a pause where the disk failed in a way that may pass.

    Raises:
        ImageError: As ``read`` raises it, in the end; or memory does not suffice.
    """
    for pause in PAUSES_SECONDS:
        try:
            return _within_memory(read, path)
        except ImageError as error:
            why = passing_fault(error)
            if why is None:
                raise
            log.warning("%s: cannot be read now (%s): trying again in %g s", path, why, pause)
            time.sleep(pause)
    return _within_memory(read, path)


def passing_fault(error: BaseException | None) -> str | None:
    """What the system said, where an error comes from a fault of the disk that may pass; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in PASSING:
            return error.strerror or str(error)
        error = error.__cause__ or error.__context__
    return None


def _within_memory(read: Callable[[Path], Result], path: Path) -> Result:
    with memory_of(str(path), "check the size in its header; if that is right, use fewer --workers or a machine with more memory"):
        return read(path)
