"""The control groups that Linux puts this process into, versions 1 and 2: containers and batch systems set their limits there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Group:
    """A folder of one control group."""

    folder: Path
    version: int
    """1 or 2."""


def groups_of(controller: str, proc: Path = PROC, cgroups: Path = CGROUPS) -> Iterator[Group]:
    """This process's group of a controller (``memory``, ``cpu``) and those around it, whose limits hold as well, innermost first.

    Nothing on systems that have none. In a container the path that the kernel tells may be the host's: then only the outermost folder is
    there, and it is the container's own.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        _, controllers, place = parts
        if controllers == "":
            root, version = cgroups, 2
        elif controller in controllers.split(","):
            # Those that share a hierarchy are mounted under their names together, mostly with a link for each.
            root, version = next((cgroups / name for name in (controller, controllers) if (cgroups / name).is_dir()), cgroups), 1
        else:
            continue
        folder = root / place.lstrip("/")
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            yield Group(group, version)


def cpu_quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """CPU time that this process may take, in cores (``docker run --cpus``); None where nothing limits it.

    A quota is not seen in the affinity: all cores can be used, and all stand still when the quota is used up.
    Source: Linux, ``Documentation/admin-guide/cgroup-v2.rst`` (cpu.max), ``Documentation/scheduler/sched-bwc.rst`` (cpu.cfs_quota_us).
    """
    found = []
    for group in groups_of("cpu", proc, cgroups):
        if group.version == 2:
            quota, period = (*_words(group.folder / "cpu.max"), "", "")[:2]
        else:
            quota, period = ((*_words(group.folder / f"cpu.cfs_{name}_us"), "")[0] for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):  # "max" and -1 are no limit
            found.append(int(quota) / int(period))
    return min(found) if found else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
