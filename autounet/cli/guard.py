"""How commands end: errors become messages and exit codes, never tracebacks."""

import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, ParamSpec

import typer

from autounet.errors import AutounetError, Interrupted

if TYPE_CHECKING:
    from autounet.cli.console import Screen

P = ParamSpec("P")

INTERRUPTED = 130

IMPORT_PAUSE_SECONDS = 0.05


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Wraps a command: 1 for errors of data and machine, 2 for wrong usage, 130 when interrupted."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with interruptible():
                ended(*args, **kwargs)
        except KeyboardInterrupt:  # it came when the command was done
            raise _interrupted() from None

    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Interrupted as stop:
            if os.environ.get("RANK", "0") == "0":  # of several processes one says it
                _screen().warn(str(stop))
            raise typer.Exit(stop.exit_code) from None
        except AutounetError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            if was_interrupted():
                raise _interrupted() from None
            _screen().error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise _interrupted() from None
        except (typer.Exit, typer.Abort, SystemExit):
            raise
        except BrokenPipeError:
            # The reader of our output has gone (`| head`): nothing is wrong.
            sys.stderr.close()
            raise typer.Exit(0) from None
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            if was_interrupted():
                raise _interrupted() from None
            _screen().error(_unexpected(error))
            raise typer.Exit(1) from None

    return wrapped


def _interrupted() -> typer.Exit:
    _screen().warn("interrupted; what is finished is kept, the same command goes on from there")
    return typer.Exit(INTERRUPTED)


def _screen() -> "Screen":
    from autounet.cli.console import Screen  # rich is slow to import and `--help` has no use for it

    return Screen()


class Interruption:
    """Handles Ctrl-C and SIGTERM: a KeyboardInterrupt, as soon as no library is being imported. A second Ctrl-C does not wait.

    Compiled modules make another error of it, an ImportError while they are imported, a TypeError while they take arguments. So it is
    noted that one came, and what the command ends with is then taken for its consequence.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """As ``signal.signal`` calls it."""
        if _is_importing(frame) and hasattr(signal, "setitimer") and not (self.came and number == signal.SIGINT):
            self.came = True
            signal.setitimer(signal.ITIMER_REAL, IMPORT_PAUSE_SECONDS)
            return
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM stops a command as Ctrl-C does, and both end it in order at any moment. A command within another changes nothing."""
    # Python hands signals to the main thread only; elsewhere, as in a program that uses us, they are its own affair.
    if threading.current_thread() is not threading.main_thread() or isinstance(signal.getsignal(signal.SIGTERM), Interruption):
        yield
        return
    # A program in the background of a shell ignores Ctrl-C, and goes on doing so.
    names = [name for name in ("SIGALRM", "SIGTERM", "SIGINT") if hasattr(signal, name)]
    handled = [number for name in names if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN]
    interruption = Interruption()
    before = [(number, signal.signal(number, interruption)) for number in handled]
    unraisable = sys.unraisablehook
    sys.unraisablehook = partial(_raise_again, unraisable)
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for number, handler in before:
            signal.signal(number, handler)


def _raise_again(usual: Callable[["sys.UnraisableHookArgs"], object], lost: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came while an object was taken down, where Python can only ignore it, comes again."""
    if lost.exc_type is KeyboardInterrupt and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, IMPORT_PAUSE_SECONDS)
    else:
        usual(lost)


def was_interrupted() -> bool:
    """Whether Ctrl-C or SIGTERM came to this command."""
    handler = signal.getsignal(signal.SIGTERM)
    return isinstance(handler, Interruption) and handler.came


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _unexpected(error: Exception) -> AutounetError:
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = "the system refuses to read or write" if error.filename is None else f"{error.filename}: cannot be read or written"
        return AutounetError(what, found=error.strerror, remedy="check paths, permissions and free space")
    if isinstance(error, MemoryError) or name in ("OutOfMemoryError", "AcceleratorError") or "can't allocate memory" in str(error):
        return AutounetError(
            "out of memory", found=str(error).split("\n")[0] or name, remedy="close other programs, or plan with less: --preset small"
        )
    return AutounetError(f"unexpected {name}: {error}", remedy="this is a bug in autounet: please report it with what --debug prints")
