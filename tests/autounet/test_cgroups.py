"""CPU quotas of containers and batch systems, in trees of files as Linux shows them."""

import os
from pathlib import Path

import pytest

from autounet.cgroups import cpu_quota, groups_of
from autounet.runtime import allowed_cores, usable_cores


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path / "proc"


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_no_groups_no_quota(proc: Path, cgroups: Path) -> None:
    assert cpu_quota(proc, cgroups) is None
    assert usable_cores(proc, cgroups) == allowed_cores()


@pytest.mark.parametrize(
    ("inner", "outer", "cores"), [("max 100000", "max 100000", None), ("150000 100000", "max", 1.5), ("max", "50000 200000", 0.25)]
)
def test_version_2(proc: Path, cgroups: Path, inner: str, outer: str, cores: float | None) -> None:
    """A group around this one limits it, too."""
    write(proc / "self" / "cgroup", "0::/slurm/job\n")
    write(cgroups / "slurm" / "job" / "cpu.max", f"{inner}\n")
    write(cgroups / "slurm" / "cpu.max", f"{outer}\n")
    assert cpu_quota(proc, cgroups) == cores


def test_docker_with_version_1_names_the_hosts_path(proc: Path, cgroups: Path) -> None:
    """``--cpus 2.5``: the path is not there, and the hierarchy is mounted under both its controllers' names."""
    write(proc / "self" / "cgroup", "4:cpu,cpuacct:/docker/3f1c\n2:memory:/docker/3f1c\n")
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_quota_us", "250000\n")
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(proc, cgroups) == 2.5
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1\n")
    assert cpu_quota(proc, cgroups) is None


def test_a_part_of_a_core_is_one_and_a_quota_gives_no_cores_that_are_not_there(proc: Path, cgroups: Path) -> None:
    write(proc / "self" / "cgroup", "0::/\n")
    write(cgroups / "cpu.max", "10000 100000\n")
    assert usable_cores(proc, cgroups) == 1
    write(cgroups / "cpu.max", f"{100000 * 4096} 100000\n")
    assert usable_cores(proc, cgroups) == allowed_cores()


def test_systems_without_affinity(proc: Path, cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(proc, cgroups) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(proc, cgroups) == 1


def test_lines_that_make_no_sense_are_passed_over(proc: Path, cgroups: Path) -> None:
    write(proc / "self" / "cgroup", "nonsense\n0::/a\n")
    write(cgroups / "a" / "cpu.max", "lots\n")
    assert cpu_quota(proc, cgroups) is None
    assert [group.folder for group in groups_of("cpu", proc, cgroups)] == [cgroups / "a", cgroups]
