"""Faults on purpose: a command runs in a process that is killed, interrupted or refused by the file system at a chosen moment.

One parent imports everything once, before any thread is started, and forks a child for each run; the child calls the command line's
own ``main``. A moment is the n-th event that changes the file system, as Python's audit hooks tell it, or a time. A write that stops
half-way is made with a limit on the size of files: the system itself writes up to it, and then kills the process.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autounet.__main__ import leave_at_once, main

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "shutil.rmtree")
"""Audit events of calls that change the file system; ``open`` is one too where it is for writing."""

PATIENCE_S = 300.0

STOPPING = (signal.SIGINT, signal.SIGTERM)

IGNORED = ("run.log", "manifest.json")
"""A record of the commands: times, host, memory."""

TIMED = {"seconds", "trained_seconds", "data_wait_share", "samples_per_second", "epoch_seconds"}
"""Keys of JSON, JSON lines and checkpoints that hold how long something took."""

DRAWN_FROM_TIMES = ("progress.png", "report.html")
"""Seconds per epoch are drawn in them: only whole, not equal."""


# what goes wrong ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What happens to a run.

    Kinds: ``count`` (nothing: events are counted), ``kill`` (SIGKILL before event ``at``), ``cut`` (from event ``at`` on files may not
    grow beyond ``size`` bytes, and the system kills whoever tries), ``full`` (the same, but the write fails: EFBIG), ``error`` (event
    ``at`` fails with ``number``), ``signal`` (``number`` after ``seconds``), ``slow`` (every event takes ``seconds`` more).
    """

    kind: str = "count"
    at: int = 0
    size: int = 0
    number: int = 0
    seconds: float = 0.0
    lasting: bool = False
    """An ``error`` that comes again at every later event."""
    under: str = ""
    """Only events on paths that hold this text count."""
    reads: bool = False
    """Opening for reading counts, too."""

    def __str__(self) -> str:
        name = signal.Signals(self.number).name if self.kind == "signal" else ""
        what = {
            "kill": f"killed before event {self.at}",
            "cut": f"killed in a write beyond {self.size} bytes, from event {self.at} on",
            "full": f"no file beyond {self.size} bytes from event {self.at} on",
            "error": f"{errno.errorcode.get(self.number, self.number)} at event {self.at}{' and all later ones' if self.lasting else ''}",
            "signal": f"{name} after {self.seconds:.3f} s",
            "slow": f"{self.seconds} s more for every event",
        }
        return what.get(self.kind, self.kind)


class _Injector:
    """The audit hook of a child."""

    def __init__(self, fault: Fault, root: Path) -> None:
        self._fault, self._root = fault, f"{root}{os.sep}"
        self.count, self.armed = 0, True
        self._lock = threading.Lock()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (self.armed and self._counts(event, arguments)):
            return
        with self._lock:
            self.count += 1
            number = self.count
        fault = self._fault
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        if number < fault.at or (number > fault.at and not fault.lasting):
            return
        if fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.kind in ("cut", "full") and number == fault.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif fault.kind == "error":
            raise OSError(fault.number, os.strerror(fault.number), str(arguments[0]))

    def _counts(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike):
                return False
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes and not self._fault.reads:
                return False
        elif event not in CHANGES:
            return False
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.path.abspath(os.fsdecode(path)) + os.sep
        return name.startswith(self._root) and self._fault.under in name


# running --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, or minus the signal's number; what it said; seconds; events it came to."""

    code: int
    text: str
    seconds: float
    events: int = 0


def warm_up() -> None:
    """Imports all that commands need, so that children begin at once. Starts no thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import importlib
    import pkgutil

    import torch

    import autounet
    import autounet.images.patience as patience

    torch.set_num_threads(1)
    patience.PAUSES_SECONDS = (0.0, 0.01)  # type: ignore[assignment]
    for module in pkgutil.walk_packages(autounet.__path__, "autounet."):
        if "__main__" not in module.name and "tracking" not in module.name:
            with suppress(ImportError):
                importlib.import_module(module.name)
    for name in ("nibabel", "PIL.Image", "matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2", "rich.progress", "tempfile"):
        importlib.import_module(name)
    assert threading.active_count() == 1


def start(arguments: Sequence[str], folder: Path, fault: Fault = Fault(), root: Path | None = None) -> tuple[int, int]:
    """Forks a child that runs ``autounet ARGUMENTS`` in ``folder``; events below ``root`` (default: that folder) count.

    Returns:
        Its process number, and the end of a pipe with what it says: a file would be under the same limit as the command's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    said, saying = os.pipe()
    # A signal before the command's own first lines is Python's affair, which no program can change: here it waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.close(saying)
        os.set_blocking(said, False)
        return child, said
    code = 70
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(saying, stream)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(number, "wb", 0), encoding="utf-8", write_through=True) for number in (1, 2))
        os.chdir(folder)
        for number in STOPPING:
            signal.signal(number, leave_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault.kind == "cut" else signal.SIG_IGN)
        code = _as_main(arguments, fault, root or folder, _counter(os.getpid(), folder))
    finally:
        os._exit(code)
    raise AssertionError


def _as_main(arguments: Sequence[str], fault: Fault, root: Path, counter: Path) -> int:
    sys.argv = ["autounet", *arguments]
    injector = _Injector(fault, root.resolve())
    sys.addaudithook(injector)
    leave = os._exit

    def note(code: int) -> None:
        injector.armed = False
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        counter.write_text(str(injector.count))
        leave(code)

    os._exit = note  # type: ignore[assignment]
    try:
        main()
    except SystemExit as end:
        note(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        import traceback

        traceback.print_exc()
        note(70)
    return 70


def run(arguments: Sequence[str], folder: Path, fault: Fault = Fault(), root: Path | None = None) -> Ended:
    """Runs a command to its end, which may be a fault's."""
    began = time.monotonic()
    child, said = start(arguments, folder, fault, root)
    if fault.kind == "signal":
        time.sleep(fault.seconds)
        with suppress(ProcessLookupError):
            os.kill(child, fault.number)
    return wait(child, said, began, folder)


def wait(child: int, said: int, began: float, folder: Path) -> Ended:
    """Waits for a child that runs in a folder."""
    text, done, status = bytearray(), 0, 0
    while not done:
        done, status = os.waitpid(child, os.WNOHANG)
        with suppress(BlockingIOError):
            while part := os.read(said, 2**16):
                text += part
        if not done and time.monotonic() - began > PATIENCE_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"a command hangs: {text.decode(errors='replace')}")
        time.sleep(0 if done else 0.003)
    os.close(said)
    counter = _counter(child, folder)
    events = int((counter.read_text() if counter.exists() else "") or 0)
    counter.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(status), text.decode(errors="replace"), time.monotonic() - began, events)


def _counter(process: int, folder: Path) -> Path:
    return folder.parent / f"events_{process}"


# what is left on the disk ---------------------------------------------------------------------------------------------


def damaged(folder: Path) -> list[str]:
    """Files that have their final name and cannot be read whole."""
    return [f"{path.relative_to(folder)}: {fault}" for path in _files(folder) if (fault := _fault_of(path)) is not None]


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.startswith((".partial-", ".scratch-", ".prob", ".tmp", "tmp"))
    )


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".partial-") for part in path.relative_to(folder).parts):
            yield path


def _fault_of(path: Path) -> str | None:
    reader = next((reader for ending, reader in _READERS.items() if path.name.endswith(ending)), None)
    if reader is None:
        return None
    try:
        reader(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _read_png(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _read_nifti(path: Path) -> None:
    import nibabel as nib
    import numpy as np

    np.asarray(nib.load(path).dataobj)


def _read_weights(path: Path) -> None:
    from safetensors.torch import load_file

    load_file(path)


def _read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def _read_array(path: Path) -> None:
    import blosc2

    blosc2.open(str(path), mode="r")[...]


def _read_html(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _read_json_lines(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": _read_json_lines,
    ".nii.gz": _read_nifti,
    ".png": _read_png,
    ".safetensors": _read_weights,
    ".pt": _read_zip,
    ".zip": _read_zip,
    ".npz": _read_zip,
    ".b2nd": _read_array,
    ".html": _read_html,
    ".svg": lambda path: path.read_text().rstrip().endswith("</svg>") or 1 / 0,
}


def contents(folder: Path) -> dict[str, str]:
    """Every file's hash, by its path, without what says when and how long; folders that hold nothing, too."""
    found = {f"{path.relative_to(folder).as_posix()}/": "folder" for path in folder.rglob("*") if path.is_dir() and not any(path.iterdir())}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if path.name in IGNORED:
            continue
        found[name] = "drawn from times" if path.name in DRAWN_FROM_TIMES else hashlib.sha256(_plain(path)).hexdigest()[:16]
    return found


def _plain(path: Path) -> bytes:
    if path.suffix in (".json", ".jsonl"):
        rows = [json.loads(text) for text in (path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()])]
        return json.dumps([_untimed(row) for row in rows]).encode()
    if path.suffix == ".pt":
        import torch

        state = _untimed(torch.load(path, weights_only=True))
        return repr([(key, value) for key, value in _flat(state)]).encode()
    if path.name.endswith(".nii.gz"):
        return gzip.decompress(path.read_bytes())
    return path.read_bytes()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key not in TIMED}
    return [_untimed(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}[{number}]")
    elif hasattr(value, "numpy"):
        yield name, hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest()
    else:
        yield name, value
