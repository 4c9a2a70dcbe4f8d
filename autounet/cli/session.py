"""One run of one command: where the data and the results are, how it runs, and the record it leaves."""

import json
import logging
import os
import platform
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from autounet import __version__
from autounet.artefact import readable_json, refusal, remove_leftovers, write_text_atomic
from autounet.cli.console import Screen, ScreenHandler
from autounet.cli.cores import cores
from autounet.cli.locks import clear_stale, one_at_a_time
from autounet.dataset_search import find_dataset
from autounet.errors import ArtefactError, AutounetError, DatasetError, Interrupted, UsageError
from autounet.layout import RunLayout
from autounet.memory import peak_bytes
from autounet.runtime import ALONE, Processes, Runtime
from autounet.text_files import read_text

MOST_WORKERS = 8
SOME_BYTES = 2**16
"""That a folder can hold them tells that its disk is not full."""

MANIFEST_ENTRIES = 500
"""The manifest keeps so many of the latest commands."""


@dataclass(slots=True)
class Session:
    """What a command works with."""

    screen: Screen
    runtime: Runtime
    data: list[Path] = field(default_factory=list)
    runs: Path = Path("autounet_runs")
    arguments: tuple[str, ...] = ()
    """The command line, for the record."""

    def dataset_folder(self, query: str) -> Path:
        """The folder that ``-d`` means. Raises UsageError."""
        return find_dataset(query, self.data)

    def layout(self, name: str) -> RunLayout:
        """The run folder of a dataset."""
        return RunLayout(self.runs / name)


def open_session(
    *,
    data: Sequence[Path] | None = None,
    runs: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    seed: int = 1234,
    quiet: bool = False,
    verbose: bool = False,
    as_json: bool = False,
    shared: bool = False,
    arguments: Sequence[str] = (),
) -> Session:
    """Makes the session from the options and the few environment variables there are.

    ``shared``: the command may be one of several processes that torchrun has started.
    """
    processes = _processes() if shared else ALONE
    screen = Screen(quiet, as_json, silent=not processes.writes)
    logger = logging.getLogger("autounet")
    logger.handlers = [ScreenHandler(screen, logging.INFO if verbose else logging.WARNING)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    folders = list(data or [])
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--data {folder}: no such folder")
    if not folders:
        named = [os.environ.get("AUTOUNET_DATA"), ".", "data", "raw", os.environ.get("nnUNet_raw")]  # noqa: SIM112
        folders = [Path(name) for name in named if name]
    runs = runs or Path(os.environ.get("AUTOUNET_RUNS") or "autounet_runs")
    count = min(cores(), MOST_WORKERS) if workers is None else workers
    runtime = Runtime(device=device, precision=precision, workers=count, seed=seed, progress=screen.progress, processes=processes)
    return Session(screen, runtime, folders, runs, tuple(arguments))


class _LogFile(logging.FileHandler):
    """A log that a full disk does not let speak: what matters is said on the screen, too."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing, where logging would print a traceback for every line."""


@contextmanager
def recorded(session: Session, layout: RunLayout, must_be: bool = True) -> Iterator[dict[str, Any]]:
    """Notes the command in the run folder's manifest and log, whether it ends well or not.

    What the command puts into the yielded dict is noted too. The log gets everything that is said, also with ``--quiet``. Of several
    processes the first notes it. Unless it ``must_be``, nothing is noted in a run folder that may only be read.

    Raises:
        ArtefactError: The run folder cannot be made or written to.
    """
    if not session.runtime.processes.writes:
        yield {}
        return
    entry: dict[str, Any] = {
        "command": ["autounet", *session.arguments],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "versions": versions(),
        "git": _git_state(),
    }
    began = time.monotonic()
    make_folder(layout.root)
    tidy(layout)
    try:
        handler = _LogFile(_writable(layout.log), encoding="utf-8")
    except ArtefactError:
        if must_be:
            raise
        yield {}
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("autounet")
    logger.addHandler(handler)
    logger.info("$ %s", shlex.join(entry["command"]), extra={"shown": True})
    status = "failed"
    try:
        yield entry
        status = "done"
    except (KeyboardInterrupt, Interrupted) as stop:
        status = "interrupted"
        if isinstance(stop, Interrupted):
            logger.warning("%s", stop, extra={"shown": True})
        raise
    except AutounetError as error:
        logger.error("%s", error, extra={"shown": True})
        for problem in error.problems if isinstance(error, DatasetError) else ():
            logger.error("%s: %s. %s", problem.case, problem.what, problem.remedy, extra={"shown": True})
        raise
    except Exception:
        logger.exception("unexpected", extra={"shown": True})
        raise
    finally:
        seconds = round(time.monotonic() - began, 1)
        logger.info("%s after %s s", status, seconds, extra={"shown": True})
        logger.removeHandler(handler)
        handler.close()
        entry.update(status=status, seconds=seconds, peak_memory_mb=_peak_memory_mb())
        try:
            _append(layout, entry)
        except AutounetError:
            if status == "done":  # else the first error is the one to show
                raise


@contextmanager
def alone(session: Session, layout: RunLayout) -> Iterator[None]:
    """Waits until no other command makes a plan, splits or prepared cases in this run folder, and keeps others waiting."""

    def wait(holder: str) -> None:
        session.screen.say(f"waiting for another autounet command that is at work in {layout.root}: {holder}")

    with one_at_a_time(layout.lock, wait, lock_cleared(session)):
        yield


def tidy(layout: RunLayout) -> None:
    """Removes what killed commands left at the top of a run folder."""
    remove_leftovers(layout.root)
    for path in (layout.lock, layout.selecting, layout.noting):
        clear_stale(path)


def lock_cleared(session: Session) -> Callable[[str], None]:
    """Says that a lock was left behind by a process that is gone."""
    return lambda holder: session.screen.say(f"the lock of a command that is gone was cleared: {holder}")


def make_folder(path: Path) -> None:
    """Makes a folder of the run folder. Raises ArtefactError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"{path}: cannot be made", found=refusal(path.parent, error), remedy="choose another folder with --runs"
        ) from None


def check_writable(folder: Path, option: str) -> None:
    """Makes the folder that an option names and tries to write to it, so that no work is done in vain. Raises AutounetError.

    What a killed command left half-written there is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(SOME_BYTES))  # on a full disk, only this fails
    except OSError as error:
        raise AutounetError(
            f"{folder}: cannot be written",
            found=refusal(folder, error),
            remedy=f"check its permissions and free space, or choose another place with {option}",
        ) from None


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"autounet": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "nibabel", "SimpleITK", "blosc2"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def parse_duration(text: str) -> float:
    """``15m``, ``2h``, ``90s``, ``1h30m`` → seconds. Raises UsageError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise UsageError(f"--budget {text}: not a time", expected="such as 90s, 15m, 2h or 1h30m")
    return total


def _processes() -> Processes:
    """Which of torchrun's processes this is, by the variables that it sets (torch.distributed's own names)."""
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    if "MASTER_ADDR" not in os.environ or not all(value.isdecimal() for value in values):
        return ALONE
    return Processes(*map(int, values))


def _writable(path: Path) -> Path:
    try:
        path.touch()
    except OSError as error:
        raise ArtefactError(
            f"{path.parent}: cannot be written", found=refusal(path.parent, error), remedy="choose another folder with --runs"
        ) from None
    return path


def _append(layout: RunLayout, entry: dict[str, Any]) -> None:
    with one_at_a_time(layout.noting, lambda holder: None):  # commands that end together are all noted
        try:
            entries = json.loads(read_text(layout.manifest))
        except (FileNotFoundError, ValueError, RecursionError):
            entries = []
        except OSError as error:  # a disk that is away for a moment must not cost what is noted
            raise ArtefactError(f"{layout.manifest}: cannot be read", found=error.strerror or error) from None
        entries = [*(entries if isinstance(entries, list) else []), entry][-MANIFEST_ENTRIES:]
        write_text_atomic(layout.manifest, readable_json(entries) + "\n")


def _git_state() -> str | None:
    """Commit of the checkout that autounet runs from, with a + for local changes; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], cwd=here, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() or None


def _peak_memory_mb() -> int | None:
    peak = peak_bytes()
    return None if peak is None else peak // 2**20
