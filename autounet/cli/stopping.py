"""Ways to ask a training to stop in order: Ctrl-C, SIGTERM, a file."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 1.0
"""The file is looked for at most this often: run folders may lie on slow network disks."""

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@contextmanager
def stop_wishes(file: Path) -> Iterator[Callable[[], str | None]]:
    """Within, the first Ctrl-C or SIGTERM is a wish to stop, to be asked for; a second Ctrl-C interrupts at once.

    Further SIGTERMs change nothing: batch systems and torchrun send it to the same processes, while a checkpoint is being written.

    Args:
        file: Whoever makes this file wishes so, too; it is removed when that was heard.

    Yields:
        What says why to stop, or None.
    """
    came: set[int] = set()
    looked, found = 0.0, False

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.add(number)

    def wish() -> str | None:
        nonlocal looked, found
        if came:
            return " and ".join(SIGNALS[signal.Signals(number)] for number in sorted(came))
        now = time.monotonic()
        if not found and now - looked >= LOOK_SECONDS:
            looked, found = now, file.exists()
        return f"{file.name} was found" if found else None

    # Python hands signals to the main thread only; elsewhere, as in a program that uses us, they are its own affair.
    handled = list(SIGNALS) if threading.current_thread() is threading.main_thread() else []
    before = [signal.signal(number, handle) for number in handled]
    try:
        yield wish
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
        if found:
            file.unlink(missing_ok=True)
