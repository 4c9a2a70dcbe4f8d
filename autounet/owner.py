"""Which process a temporary file or a lock belongs to, and whether that process still lives.

A process of this machine is asked for; of a process elsewhere only its traces on the disk tell.
"""

import hashlib
import os
import platform
import sys
from contextlib import suppress


def this_machine() -> str:
    """Eight hexadecimal digits that differ between machines, and between containers whose processes cannot see each other."""
    parts = [platform.node()]
    with suppress(OSError):  # not Linux
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def tag() -> str:
    """This process in a file's name: ``<machine>-<process number>``."""
    return f"{this_machine()}-{os.getpid()}"


def is_alive(machine: str, process: int, birth: str = "") -> bool | None:
    """Whether a process still runs; None for one of another machine, which cannot be asked.

    ``birth``, as ``birth_of`` told it, tells it from another one that was given its number. Where it is not known, that one passes for it.
    """
    if machine != this_machine():
        return None
    if birth and birth_of(process) not in ("", birth):
        return False
    if process == os.getpid():
        return True
    if sys.platform == "win32":
        return _lives_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return _state(process)[:1] != ["Z"]  # it has ended, and only its parent has not noticed yet


def birth_of(process: int) -> str:
    """When a process began, in the kernel's ticks; empty where the system does not tell."""
    return "".join(_state(process)[19:20])


def _state(process: int) -> list[str]:
    """What Linux tells about a process, from its state on (proc(5), /proc/PID/stat, field 3)."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _lives_on_windows(process: int) -> bool:
    """``os.kill(…, 0)`` would end the process there."""
    if sys.platform != "win32":  # for mypy
        return True
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(ctypes.get_last_error() == 5)  # access denied: somebody else's
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
