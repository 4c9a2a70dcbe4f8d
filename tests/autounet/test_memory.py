"""How much memory there is: the tightest of all limits counts."""

from pathlib import Path

import pytest

from autounet import memory
from autounet.memory import PLAIN_GUESS, available_bytes, peak_bytes, resident_bytes


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB left, without control groups."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_left_of_own_limit", lambda: None)
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
    monkeypatch.setattr(memory, "_left_of_own_limit", lambda: 123)
    assert available_bytes() == 123


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
