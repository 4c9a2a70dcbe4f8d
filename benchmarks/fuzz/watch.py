"""What an input must not do while it is read: the judge of every fuzz target and of tests/hostile.

Python tells an audit hook of every file it opens, makes, moves or removes, of processes, sockets, code and pickled names. What native
libraries do by themselves it does not tell: targets whose format can name other files look for a canary's voxels in what was read.
"""

import os
import site
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autounet.errors import AutounetError
from benchmarks.fuzz.target import MOST_MESSAGE

MOST_SECONDS = 5.0
"""Of computing, for one input; twice as many are a finding. Waiting does not count, as machines are busy: the worker ends what waits."""

NEVER = ("subprocess.", "socket.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "ctypes.dlopen", "pickle.find_class")
"""Beginnings of events that no input may bring about."""

RECORD = ("git", "nvidia-smi", "uname")
"""Programs that a command asks about its own version and the machine, with arguments that are always the same."""

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime")
"""Events that change what is on the disk; their first arguments are paths."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Stops what is about to be done; no ``except Exception`` of a library swallows it."""


class Watch:
    """Sees what this process does. There is no way to remove an audit hook: one is made per process."""

    def __init__(self) -> None:
        self.ground: tuple[str, ...] = ()
        self.found: list[str] = []
        self._armed = False
        self._named: tuple[str, ...] = ()
        packages = [*site.getsitepackages(), os.path.dirname(os.__file__), *(entry for entry in sys.path if entry)]
        # Libraries read their own data; the C library and Python ask the system about itself.
        self._readable = [
            os.path.realpath(place) for place in (*packages, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null", "/usr")
        ]
        self._readable += ["/dev/urandom", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"]
        sys.addaudithook(self._see)

    @contextmanager
    def armed(self, folder: Path, may_name: Sequence[str] = ()) -> Iterator[None]:
        """While an input is tried; in this folder, and in one for temporary files beside it, everything may be read and written.

        ``may_name`` are files and folders elsewhere that may be read, from ``folder`` on.
        """
        self.found.clear()
        before, tempfile.tempdir = tempfile.tempdir, str(folder.parent / "temporary")
        os.makedirs(tempfile.tempdir, exist_ok=True)
        self.ground = (os.path.abspath(folder), tempfile.tempdir)
        self._named = tuple(os.path.normpath(os.path.join(folder, name)) for name in may_name)
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
            tempfile.tempdir = before

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path, _, flags = arguments
            self._check_path(path, f"opens {path!r}", writes=bool((flags or 0) & WRITING))
        elif event.startswith(CHANGES):
            if event in ("os.remove", "os.rmdir") and arguments[1] not in (None, -1):
                return  # shutil.rmtree, within a folder that it has opened
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._check_path(path, f"{event} {path!r}", writes=True)
        elif event == "subprocess.Popen" and os.path.basename(str(arguments[0])) in RECORD:
            return
        elif event.startswith(NEVER) or (event == "exec" and not self._is_own(arguments[0])):
            self._forbid(f"{event} {str(arguments)[:200]}")

    def _check_path(self, path: object, what: str, writes: bool) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a file that is open already
        place = os.path.abspath(os.fsdecode(path))  # links may lead where they like: whoever made them could have copied the file
        if (
            any(_inside(place, one) for one in self.ground)
            or (not writes and any(_inside(place, one) for one in (*self._readable, *self._named)))
            or place == os.devnull
        ):
            return
        self._forbid(what)

    def _is_own(self, code: Any) -> bool:
        """Whether code comes from an installed package or this checkout, or runs because a module is imported (namedtuples are text)."""
        name = str(getattr(code, "co_filename", ""))
        if name.endswith(".pyx") or any(_inside(name, one) for one in self._readable):
            return True
        frame = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _forbid(self, what: str) -> None:
        self._armed = False  # what follows is this very report
        self.found.append(what)
        raise Forbidden(what)


def _inside(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder + os.sep)


def judge(
    run: Callable[[], object], watch: Watch, folder: Path, may_name: Sequence[str] = (), most_seconds: float = MOST_SECONDS
) -> str | None:
    """Tries an input: None where it was read, or refused with an AutounetError in time; else what is wrong."""
    started = time.process_time()
    fault: str | None = None
    with watch.armed(folder, may_name):
        try:
            run()
        except AutounetError as error:
            fault = _fault_of_message(error)
        except Forbidden as stop:
            fault = f"forbidden: {stop}"
        except MemoryError as error:
            fault = f"memory was asked for before the input was refused: {error}"
        except Exception as error:
            fault = f"{type(error).__module__}.{type(error).__qualname__}: {str(error)[:300]}"
            if isinstance(error, AssertionError):
                fault = f"a promise is broken: {str(error)[:300]}"
    if watch.found:  # also where somebody has swallowed it
        fault = f"forbidden: {watch.found[0]}"
    seconds = time.process_time() - started
    if fault is None and seconds > 2 * most_seconds:
        fault = f"took {seconds:.1f} s of computing"
    return fault


def _fault_of_message(error: AutounetError) -> str | None:
    """A message must be short, and unable to make a terminal do anything."""
    text = str(error)
    if len(text) > MOST_MESSAGE:
        return f"a message of {len(text)} characters: {text[:100]}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"a message that cannot be printed: {ascii(text)[:200]}"
    return None


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder of its own."""
    with tempfile.TemporaryDirectory(prefix="autounet-fuzz-") as name:
        yield Path(os.path.realpath(name))


MOST_MEMORY = 3 * 2**30
"""Bytes of address space that inputs of a few thousand bytes may take, beside what is taken before the first."""


def limit_memory() -> None:
    """From here on asking for much memory is a MemoryError; nothing is done where there are no such limits."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):  # Windows, macOS
        return
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, resource.RLIM_INFINITY))
