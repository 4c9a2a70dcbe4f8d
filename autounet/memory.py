"""How much memory this process has, had at most, and may still take. On systems that do not tell, None or a plain guess."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autounet.errors import ImageError

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

PLAIN_GUESS = 4 * 2**30
"""Bytes taken for available where the system does not tell."""


def available_bytes() -> int:
    """What this process may still take: the least of the machine's available memory, the limits of its control groups, and its own."""
    machine = _kb_of(PROC / "meminfo", "MemAvailable")
    found = [value for value in (machine, *_left_in_groups(), _left_of_own_limit()) if value is not None]
    return max(0, min(found)) if found else PLAIN_GUESS


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
    """Limit less use of this process's control groups and of those around them, versions 1 and 2; what can be dropped is not use."""
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, limit, use, dropped = CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, use, dropped = CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        folder = root / place.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            most, taken = _number(group / limit), _number(group / use)
            if most is not None and taken is not None:
                yield most - taken + (_number(group / "memory.stat", dropped) or 0)


def _left_of_own_limit() -> int | None:
    """What is left of the limit on data that was set for this process (``ulimit -d``)."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    taken = _kb_of(PROC / "self" / "status", "VmData")
    return None if limit == resource.RLIM_INFINITY or taken is None else limit - taken


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
