"""What every measurement needs: timed commands with the memory of their process tree, facts of the machine, tables, JSON."""

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from autounet import __version__

REPOSITORY = Path(__file__).resolve().parents[1]
AUTOUNET = (sys.executable, "-m", "autounet")
"""The command line of this checkout."""
SAMPLE_SECONDS = 0.25
"""Memory is looked at so often; shorter peaks may be missed, and more often would slow a small machine down."""


class CommandFailed(Exception):
    """A measured command ended with another exit code than 0."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One command's run."""

    seconds: float
    """From start to end of the process."""
    peak_mb: float | None
    """Largest sampled memory of all its processes together, shared pages counted once; None where /proc is missing."""
    output: str
    """What it wrote to standard output."""


def run_measured(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> Measured:
    """Runs a command from the repository's root and measures it.

    Args:
        command: Program and arguments; paths absolute.
        log: Both output streams are kept here (standard output first, at the end); the folder is made.
        env: The whole environment; by default this process's.

    Raises:
        CommandFailed: The exit code is not 0; the message ends with the last lines it wrote.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    errors_path = log.with_suffix(".err")
    with errors_path.open("w", encoding="utf-8") as errors:
        began = time.perf_counter()
        # A session of its own: its processes are found by the session's number, even those whose parent has ended.
        process = subprocess.Popen(
            words, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8", start_new_session=True
        )
        sampler = _MemorySampler(process.pid)
        sampler.start()
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            sampler.stop()
        seconds = time.perf_counter() - began
    said = errors_path.read_text(encoding="utf-8")
    errors_path.unlink()
    log.write_text(f"$ {' '.join(words)}\n{output}\n{said}", encoding="utf-8")
    if process.returncode:
        last = "\n".join((output + said).strip().splitlines()[-15:])
        raise CommandFailed(f"exit code {process.returncode}: {' '.join(words)}\n{last}\n(all of it: {log})")
    return Measured(seconds, sampler.peak_mb, output)


def machine() -> dict[str, Any]:
    """What a reader must know of the machine and of what was measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {"autounet": __version__, **{name: metadata.version(name) for name in ("torch", "numpy", "blosc2")}},
        "commit": _commit(),
    }


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios of runs that were made side by side."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; the first column is text, the others are aligned right."""
    table = Table(box=box.SIMPLE_HEAD)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    print(f"\n{title}")
    Console(width=120, highlight=False, markup=False).print(table)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes the result and says where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {path}")


def verdict(holds: bool) -> str:
    """A check's result as a word."""
    return "yes" if holds else "NO"


class _MemorySampler(threading.Thread):
    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session, self._end = session, threading.Event()
        self.peak_mb: float | None = None

    def run(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            now = _session_mb(self._session)
            if now is not None:
                self.peak_mb = max(now, self.peak_mb or 0.0)

    def stop(self) -> None:
        self._end.set()
        self.join()


def _session_mb(session: int) -> float | None:
    """Memory of a session's processes (proportional set size), or None where the system does not tell."""
    total_kb, found = 0, False
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in brackets, may hold blanks; the session is the fourth field after it.
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            rollup = (entry / "smaps_rollup").read_text()
        except (OSError, IndexError, ValueError):
            continue  # ended meanwhile
        total_kb += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
        found = True
    return total_kb / 1024 if found else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    try:
        asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.strip() or None
