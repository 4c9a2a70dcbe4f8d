"""How much memory there is: the tightest of all limits counts."""

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autounet import memory
from autounet.memory import PLAIN_GUESS, SystemMemory, available_bytes, group_limit, peak_bytes, resident_bytes, system_memory


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB left, without control groups."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "own_limits", dict)
    write(tmp_path / "proc" / "meminfo", "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable: 8000000 kB\n")
    return tmp_path / "proc"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_the_machine_has(proc: Path) -> None:
    assert available_bytes() == 8_000_000 * 1024


def test_a_limit_of_the_group_or_of_one_around_it(proc: Path, tmp_path: Path) -> None:
    """Version 2: 6 GB less 2 GB in use, of which 0.5 GB can be dropped; the inner group says max."""
    write(proc / "self" / "cgroup", "0::/outer/inner\n")
    outer = tmp_path / "cgroup" / "outer"
    write(outer / "inner" / "memory.max", "max\n")
    write(outer / "inner" / "memory.current", "1000\n")
    write(outer / "memory.max", f"{6 * 10**9}\n")
    write(outer / "memory.current", f"{2 * 10**9}\n")
    write(outer / "memory.stat", f"anon 1500000000\ninactive_file {5 * 10**8}\n")
    assert available_bytes() == 45 * 10**8


def test_a_container_that_sees_its_group_as_the_root(proc: Path, tmp_path: Path) -> None:
    """Version 1: the path is the host's, the files are at the root."""
    write(proc / "self" / "cgroup", "5:devices:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n")
    write(tmp_path / "cgroup" / "memory" / "memory.limit_in_bytes", f"{3 * 10**9}\n")
    write(tmp_path / "cgroup" / "memory" / "memory.usage_in_bytes", f"{10**9}\n")
    assert available_bytes() == 2 * 10**9
    write(tmp_path / "cgroup" / "memory" / "memory.usage_in_bytes", f"{4 * 10**9}\n")
    assert available_bytes() == 0


def test_a_limit_of_the_process(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ulimit -v`` of 4 GB, of which 3 GB of addresses are taken; ``ulimit -d`` leaves more."""
    write(proc / "self" / "status", "VmSize: 3000000 kB\nVmData: 1000000 kB\n")
    monkeypatch.setattr(memory, "own_limits", lambda: {"RLIMIT_AS": 4_000_000 * 1024, "RLIMIT_DATA": 9_000_000 * 1024})
    assert available_bytes() == 1_000_000 * 1024


def test_the_limit_of_the_groups_alone(proc: Path, tmp_path: Path) -> None:
    """Version 1 writes a huge number where there is none; the least of the others counts."""
    write(proc / "self" / "cgroup", "4:memory:/job/step\n")
    job = tmp_path / "cgroup" / "memory" / "job"
    write(job / "step" / "memory.limit_in_bytes", "9223372036854771712\n")
    assert group_limit() is None
    write(job / "memory.limit_in_bytes", "5000\n")
    assert group_limit() == 5000


def test_what_macos_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real lines of vm_stat and sysctl: (1000 + 3000 + 500) pages of 16 kB are to be had."""
    told = {
        "vm_stat": "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                                1000.\nPages active:                              9000.\n"
        "Pages inactive:                            3000.\nPages speculative:                          500.\n",
        "sysctl": "17179869184\n",
    }
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory, "_output_of", lambda *command: told[command[0]])
    assert system_memory() == SystemMemory(total=16 * 2**30, available=4500 * 16384)
    told.update(vm_stat="", sysctl="")
    assert system_memory() == SystemMemory()


def test_what_windows_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEMORYSTATUSEX has 64 bytes: two numbers of 4, seven of 8. Less can be committed than is available, so that counts."""

    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(reference: Any) -> int:
            status = ctypes.cast(reference, ctypes.POINTER(ctypes.c_uint64 * 8)).contents
            assert status[0] & 0xFFFFFFFF == 64
            status[1], status[2], status[3], status[4] = 16 * 2**30, 9 * 2**30, 20 * 2**30, 7 * 2**30
            return 1

    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel), raising=False)
    assert system_memory() == SystemMemory(total=16 * 2**30, available=7 * 2**30, swap=4 * 2**30)
    assert available_bytes() <= 7 * 2**30


def test_systems_that_do_not_tell(proc: Path) -> None:
    (proc / "meminfo").unlink()
    assert available_bytes() == PLAIN_GUESS
    assert resident_bytes() is None


def test_this_process() -> None:
    peak, now = peak_bytes(), resident_bytes()
    assert peak is not None
    assert peak > 10e6
    assert now is None or now <= peak
    assert available_bytes() > 0
