"""Cores, memory and the rest of what the system tells at once."""

import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from autounet import __version__
from autounet.cgroups import CGROUPS, PROC, cpu_quota
from autounet.machine.facts import Memory, Processor, System
from autounet.machine.patience import output_of
from autounet.memory import available_bytes, group_limit, own_limits, system_memory
from autounet.runtime import allowed_cores

PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "blosc2", "pydantic", "safetensors", "pydicom", "highdicom", "zarr")
"""Those that decide results or read files; the last three are extras."""

SHARED_MEMORY = Path("/dev/shm")


def package_versions() -> dict[str, str]:
    """autounet, Python and the packages that are installed."""
    found = {"autounet": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def look_at_processor(
    environment: Mapping[str, str], used: int, workers: int, features: tuple[str, ...], proc: Path = PROC, cgroups: Path = CGROUPS
) -> Processor:
    """Cores and what limits them.

    Args:
        environment: Variables.
        used: Cores that the command takes for its own.
        workers: Threads that read and prepare.
        features: From ``computing.cpu_features``.
        proc: Where Linux tells of processes.
        cgroups: Where it tells of control groups.
    """
    asked = environment.get("SLURM_CPUS_PER_TASK", "")
    return Processor(
        name=processor_name(proc),
        present=os.cpu_count() or 1,
        allowed=allowed_cores(),
        quota=cpu_quota(proc, cgroups),
        asked=int(asked) if asked.isdecimal() else None,
        used=used,
        workers=workers,
        omp_threads=environment.get("OMP_NUM_THREADS"),
        features=features,
    )


def processor_name(proc: Path = PROC) -> str:
    """As its maker calls it, where the system tells."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return found.group(1).strip()
    named = output_of("sysctl", "-n", "machdep.cpu.brand_string").strip() if sys.platform == "darwin" else ""
    return named or platform.processor() or platform.machine()


def look_at_memory(shared_memory: Path = SHARED_MEMORY) -> Memory:
    """What there is, and what limits it."""
    whole = system_memory()
    try:
        shared = shutil.disk_usage(shared_memory).total
    except OSError:  # macOS and Windows have none
        shared = None
    return Memory(
        total=whole.total,
        available=available_bytes(),
        group_limit=group_limit(),
        own_limits=own_limits(),
        swap=whole.swap,
        shared_memory=shared,
    )


def look_at_system(output_encoding: str | None) -> System:
    """Encodings (that of standard output is given), limits, length of paths."""
    return System(
        platform=f"{platform.platform()}, Python {platform.python_version()}",
        output_encoding=output_encoding or locale.getpreferredencoding(False),
        file_encoding=sys.getfilesystemencoding(),
        open_files=open_files_limit(),
        long_paths=long_paths(),
    )


def open_files_limit() -> int | None:
    """How many files this process may have open at once; None where that is not told, or there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def long_paths() -> bool | None:
    """Whether Windows lets programs use paths of more than 260 characters; None elsewhere, where that is no question.

    Source: Microsoft, "Maximum Path Length Limitation": LongPathsEnabled; Python's own manifest asks for it.
    """
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False
