"""How a command runs: device, precision, workers, seed. Made once, in the command line, and handed on."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Protocol

from autounet.cgroups import CGROUPS, PROC, cpu_quota


class Advance(Protocol):
    """Reports progress within a task."""

    def __call__(self, steps: int = 1, note: str = "", work: float | None = None) -> None:
        """``steps`` more are done; ``note`` replaces the short text beside the bar.

        ``work`` is what they took of the task's work, in its unit, where steps are not alike; by default the share of the steps.
        """


class Progress(Protocol):
    """Where long work shows how far it is; the command line draws it, tests and libraries pass ``quiet``."""

    def __call__(self, title: str, total: int, work: float | None = None) -> AbstractContextManager[Advance]:
        """Opens a task of ``total`` steps; ``work`` is all of it in any unit, where steps are not alike: the time left follows it."""


def _no_advance(steps: int = 1, note: str = "", work: float | None = None) -> None:
    """Shows nothing."""


@contextmanager
def quiet(title: str, total: int, work: float | None = None) -> Iterator[Advance]:
    """A Progress that shows nothing."""
    yield _no_advance


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that share the batches of one training, and which of them this is."""

    count: int = 1
    rank: int = 0
    local_rank: int = 0
    """Among those of this machine: the GPU that this one takes."""
    local_count: int = 1
    """How many are on this machine, and share its memory."""

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0


ALONE = Processes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Settings of the machine, never of the model: the same plan and seed mean the same work everywhere."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""
    precision: str = "auto"
    """``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    workers: int = 2
    """Threads for reading, preparing and writing; 0 does everything in the calling thread."""
    seed: int = 1234
    progress: Progress = quiet
    processes: Processes = ALONE


def usable_cores(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """CPU cores this process may use: those of its affinity, or fewer where its control groups give it less time.

    Part of a core counts as a whole one. ``proc`` and ``cgroups`` are where Linux tells of them.
    """
    quota = cpu_quota(proc, cgroups)
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), ceil(quota)))


def allowed_cores() -> int:
    """CPU cores that the system may run this process on, which is what libraries take for theirs."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)
