"""How commands end: errors become messages and exit codes, never tracebacks."""

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

import typer

from autounet.errors import AutounetError, Interrupted

if TYPE_CHECKING:
    from autounet.cli.console import Screen

P = ParamSpec("P")

INTERRUPTED = 130


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Wraps a command: 1 for errors of data and machine, 2 for wrong usage, 130 when interrupted."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Interrupted as stop:
            if os.environ.get("RANK", "0") == "0":  # of several processes one says it
                _screen().warn(str(stop))
            raise typer.Exit(stop.exit_code) from None
        except AutounetError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            _screen().error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _screen().warn("interrupted; what is finished is kept, the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, SystemExit):
            raise
        except BrokenPipeError:
            # The reader of our output has gone (`| head`): nothing is wrong.
            sys.stderr.close()
            raise typer.Exit(0) from None
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            _screen().error(_unexpected(error))
            raise typer.Exit(1) from None

    return wrapped


def _screen() -> "Screen":
    from autounet.cli.console import Screen  # rich is slow to import and `--help` has no use for it

    return Screen()


def interrupt_on_sigterm() -> None:
    """Makes SIGTERM stop a command as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


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
