"""How much memory this process has, had at most, and may still take. On systems that do not tell, None or a plain guess."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autounet.cgroups import CGROUPS, PROC, groups_of
from autounet.errors import ImageError

PLAIN_GUESS = 4 * 2**30
"""Bytes taken for available where the system does not tell."""

NO_LIMIT = 2**60
"""Version 1 of control groups writes a number of this size where there is no limit."""

LIMIT_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version: a group's limit, its use, and what of that can be dropped."""

OWN_LIMITS = (("RLIMIT_DATA", "VmData"), ("RLIMIT_AS", "VmSize"))
"""Limits that were set for this process (``ulimit -d``, ``ulimit -v``), and what they are compared with."""


@dataclass(frozen=True, slots=True)
class SystemMemory:
    """The machine's own, in bytes; None where the system does not tell."""

    total: int | None = None
    available: int | None = None
    swap: int | None = None


def available_bytes() -> int:
    """What this process may still take: the least of the machine's available memory, the limits of its control groups, and its own."""
    found = [value for value in (system_memory().available, *_left_in_groups(), *_left_of_own_limits()) if value is not None]
    return max(0, min(found)) if found else PLAIN_GUESS


def system_memory() -> SystemMemory:
    """What the whole machine has."""
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        return SystemMemory(_sysctl("hw.memsize"), _free_of_vm_stat(_output_of("vm_stat")))
    total, available, swap = (_kb_of(PROC / "meminfo", name) for name in ("MemTotal", "MemAvailable", "SwapTotal"))
    return SystemMemory(total, available, swap)


def group_limit() -> int | None:
    """Bytes that this process's control groups allow them at most; None where nothing limits them."""
    limits = [_number(group.folder / LIMIT_FILES[group.version][0]) for group in groups_of("memory", PROC, CGROUPS)]
    found = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    return min(found) if found else None


def own_limits() -> dict[str, int]:
    """Limits in bytes that were set for this process: ``RLIMIT_DATA``, ``RLIMIT_AS``; those that are not set are left out."""
    try:
        import resource
    except ImportError:  # Windows
        return {}
    found = {name: resource.getrlimit(getattr(resource, name))[0] for name, _ in OWN_LIMITS if hasattr(resource, name)}
    return {name: limit for name, limit in found.items() if limit != resource.RLIM_INFINITY}


def resident_bytes() -> int | None:
    """What this process takes now."""
    return _kb_of(PROC / "self" / "status", "VmRSS")


def peak_bytes() -> int | None:
    """What this process took at most, since it began."""
    peak = _kb_of(PROC / "self" / "status", "VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _left_in_groups() -> Iterator[int | None]:
    """Limit less use of this process's control groups and of those around them; what can be dropped is not use."""
    for group in groups_of("memory", PROC, CGROUPS):
        limit, use, dropped = LIMIT_FILES[group.version]
        most, taken = _number(group.folder / limit), _number(group.folder / use)
        if most is not None and taken is not None:
            yield most - taken + (_number(group.folder / "memory.stat", dropped) or 0)


def _left_of_own_limits() -> Iterator[int | None]:
    limits = own_limits()
    for name, counted in OWN_LIMITS:
        taken = _kb_of(PROC / "self" / "status", counted)
        if name in limits and taken is not None:
            yield limits[name] - taken


def _windows_memory() -> SystemMemory:
    """What may still be committed counts, as Windows refuses the rest. Source: Windows API, GlobalMemoryStatusEx and MEMORYSTATUSEX."""
    import ctypes

    names = ("total", "available", "commit_limit", "commit_left", "virtual", "virtual_left", "extended")

    class Status(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint32), ("load", ctypes.c_uint32), *((name, ctypes.c_uint64) for name in names))

    status = Status(length=ctypes.sizeof(Status))
    if not getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # noqa: B009 (there on Windows alone)
        return SystemMemory()
    swap = max(0, int(status.commit_limit) - int(status.total))
    return SystemMemory(int(status.total), min(int(status.available), int(status.commit_left)), swap)


def _sysctl(name: str) -> int | None:
    words = _output_of("sysctl", "-n", name).split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _free_of_vm_stat(text: str) -> int | None:
    """Bytes that macOS's ``vm_stat`` calls free, inactive or speculative: what programs can have without anything being swapped out."""
    page = re.search(r"page size of (\d+) bytes", text)
    counts = re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d+)", text, flags=re.MULTILINE)
    return int(page.group(1)) * sum(map(int, counts)) if page and counts else None


def _output_of(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _kb_of(path: Path, name: str) -> int | None:
    value = _number(path, f"{name}:")
    return None if value is None else value * 1024


def _number(path: Path, name: str | None = None) -> int | None:
    """A file's only number, or the one behind a name at the start of a line; None where there is none (``max``)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if name is None or (words and words[0] == name):
            value = words[0 if name is None else 1]
            return int(value) if value.isdecimal() else None
    return None


class OutOfMemory(ImageError):
    """One case found no memory."""


@contextmanager
def memory_of(case: str, remedy: str) -> Iterator[None]:
    """Makes running out of the host's memory the failure of one case, not of all. Raises OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("can't allocate memory", "out of memory", "bad_alloc", "failed to allocate")
        if not isinstance(error, MemoryError) and not any(each in str(error).lower() for each in words):
            raise
        raise OutOfMemory(f"{case}: not enough memory", found=str(error).split("\n")[0] or None, remedy=remedy) from None
