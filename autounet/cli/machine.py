"""What ``autounet doctor`` says of the machine: facts in a table, then what to do, worst first."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import typer

from autounet.cli.cores import cores
from autounet.cli.session import Session
from autounet.errors import AutounetError, UsageError
from autounet.machine.advice import advise
from autounet.machine.cards import look_at_cards
from autounet.machine.disk import look_at_disk
from autounet.machine.facts import SEVERITIES, Advice, Cards, Disk, Machine, SelfTest, Torch
from autounet.machine.patience import within
from autounet.machine.releases import cudnn_words
from autounet.machine.system import look_at_memory, look_at_processor, look_at_system, package_versions
from autounet.planners.words import count

TORCH_SECONDS = 60.0
"""Importing torch from a slow disk takes that long; a driver that hangs longer."""
SELF_TEST_SECONDS = 120.0
"""It stops after some seconds, unless the device does not answer."""

Answer = TypeVar("Answer")


def run_machine_doctor(session: Session, data: Sequence[Path], runs: Path | None, quick: bool) -> None:
    """Looks at the machine and shows what was found; ends with 1 when something is severe.

    Args:
        session: Opened without folders, as it would look at them.
        data: Folders of data; none for the usual ones.
        runs: The folder of all runs; None for the usual one.
        quick: Leaves the short training out.

    Raises:
        UsageError: A folder of data is not there.
    """
    missing = [folder for folder in data if not _there_or_silent(folder)]
    if missing:
        raise UsageError(f"--data {missing[0]}: no such folder")
    session.data, session.runs = list(data) or session.data, runs or session.runs
    machine = _look(session, quick)
    advice = advise(machine, session.runs.absolute())
    screen = session.screen
    screen.table("This machine", ("", "what there is"), list(_rows(machine)))
    show_advice(session, advice)
    screen.json({"machine": machine.model_dump(mode="json"), "advice": [entry.model_dump(mode="json") for entry in advice]})
    if any(entry.severity == "severe" for entry in advice):
        raise typer.Exit(1)


def say_machine_shortly(session: Session, data: Path) -> None:
    """A line about what there is for working on a dataset, and warnings; without torch, and without measuring disks."""
    disks = tuple(look_at_disk(purpose, folder, None) for purpose, folder in (("run folder", session.runs), ("data", data)))
    machine = Machine(
        versions={}, system=look_at_system(sys.stdout.encoding), memory=look_at_memory(), disks=disks, self_test=None,
        processor=look_at_processor(os.environ, cores(), session.runtime.workers, ()), torch=None, torch_problem=None,
        cards=Cards(names=(), driver=None, visible=None), self_test_problem=None,
    )  # fmt: skip
    room = "" if disks[0].free_bytes is None else f", {_size(disks[0].free_bytes)} of disk"
    session.screen.say(
        f"This machine: {count(machine.processor.used, 'core')}, {_size(machine.memory.available)} of memory{room}; "
        "`autounet doctor` without -d says more"
    )
    for entry in advise(machine, session.runs.absolute()):
        if entry.severity != "notice":
            session.screen.warn(f"{entry.what}; {entry.advice}")


def show_advice(session: Session, advice: Sequence[Advice]) -> None:
    """A table, worst first."""
    if not advice:
        session.screen.result("Nothing to complain about")
        return
    rows = [(entry.severity, entry.about, f"{entry.what}\n→ {entry.advice[0].upper()}{entry.advice[1:]}") for entry in advice]
    found = [sum(entry.severity == severity for entry in advice) for severity in SEVERITIES]
    words = [
        f"{number} severe" if severity == "severe" else count(number, severity)
        for number, severity in zip(found, SEVERITIES, strict=True)
        if number
    ]
    session.screen.table(", ".join(words), ("", "about", "what was found, and → what to do"), rows)


def _look(session: Session, quick: bool) -> Machine:
    """All facts; what does not answer is a fact, too."""
    runtime = session.runtime
    torch, torch_problem = _asked(TORCH_SECONDS, lambda: _computing(session))
    features, _ = _asked(TORCH_SECONDS, _features) if torch is not None else ((), None)
    test, problem = None, None
    if torch is not None and torch.device is not None and not quick:
        session.screen.say("training a tiny network for some seconds (--quick leaves that out)")
        test, problem = _asked(SELF_TEST_SECONDS, lambda: _self_test(session))
    return Machine(
        versions=package_versions(),
        system=look_at_system(sys.stdout.encoding),
        processor=look_at_processor(os.environ, cores(), runtime.workers, features or ()),
        memory=look_at_memory(),
        torch=torch,
        torch_problem=torch_problem,
        cards=look_at_cards(os.environ),
        disks=tuple(_disks(session)),
        self_test=test,
        self_test_problem=problem,
    )


def _asked(seconds: float, work: Callable[[], Answer]) -> tuple[Answer | None, str | None]:
    """The answer, or why there is none."""
    try:
        return within(seconds, work), None
    except AutounetError as error:
        return None, str(error)
    except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        return None, str(error).split("\n")[0] or type(error).__name__


def _computing(session: Session) -> Torch:
    from autounet.machine.computing import look_at_torch

    return look_at_torch(session.runtime)


def _features() -> tuple[str, ...]:
    from autounet.machine.computing import cpu_features

    return cpu_features()


def _self_test(session: Session) -> SelfTest:
    from autounet.machine.self_test import run_self_test

    return run_self_test(None, session.runtime)


def _disks(session: Session) -> Iterator[Disk]:
    yield look_at_disk("run folder", session.runs, "write")
    for folder in session.data:
        # The folder one is in is among the usual places for data, and tells nothing.
        if folder != Path() and _there_or_silent(folder):
            yield look_at_disk("data", folder, "read")


def _there_or_silent(folder: Path) -> bool:
    """Whether the folder is there; one that does not answer is, as that has to be told."""
    try:
        return within(5.0, folder.is_dir)
    except TimeoutError:
        return True


def _rows(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield "system", machine.system.platform
    yield from _torch_rows(machine)
    yield from _processor_rows(machine)
    memory = machine.memory
    limits = [] if memory.group_limit is None else [f"limited to {_size(memory.group_limit)} by the control group"]
    limits += [f"{name} {_size(limit)}" for name, limit in memory.own_limits.items()]
    total = "" if memory.total is None else f" of {_size(memory.total)}"
    swap = "" if memory.swap is None else f"; swap {_size(memory.swap)}"
    shared = "" if memory.shared_memory is None else f"; /dev/shm {_size(memory.shared_memory)} (not needed)"
    yield "memory", "; ".join([f"{_size(memory.available)}{total} to be had", *limits]) + swap + shared
    for disk in machine.disks:
        yield disk.purpose, _disk_words(disk)
    if machine.self_test is not None:
        yield "self-test", _test_words(machine.self_test)


def _torch_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    torch = machine.torch
    if torch is None:
        return
    built = f"CUDA {torch.cuda}" if torch.cuda else f"ROCm {torch.hip}" if torch.hip else "no CUDA"
    cudnn = "" if torch.cudnn is None else f", cuDNN {cudnn_words(torch.cudnn)}"
    yield "torch", f"{torch.version}, built with {built}{cudnn}{', MPS' if torch.mps else ''}"
    for number, gpu in enumerate(torch.gpus):
        capability = ".".join(map(str, gpu.capability))
        bf16 = "bf16" if gpu.bf16 else "no bf16, so fp16"
        free = f"{_size(gpu.free_bytes)} of {_size(gpu.total_bytes)} free"
        yield f"GPU {number}", f"{gpu.name}, {free}, compute capability {capability}, {bf16}"
    if machine.cards.names:
        driver = f", driver {machine.cards.driver}" if machine.cards.driver else ""
        yield "NVIDIA cards", ", ".join(machine.cards.names) + driver
    if torch.device is not None:
        yield "computes on", f"{torch.device} in {torch.precision}"


def _processor_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    processor = machine.processor
    yield "CPU", processor.name + (f" ({', '.join(processor.features)})" if processor.features else "")
    limits = [f"{processor.present} in the machine"]
    limits += [f"{processor.allowed} allowed"] if processor.allowed != processor.present else []
    limits += [f"quota {processor.quota:g}"] if processor.quota is not None else []
    limits += [f"--cpus-per-task={processor.asked}"] if processor.asked is not None else []
    threads = f", {machine.torch.threads} for networks" if machine.torch is not None else ""
    yield "cores", f"{processor.used} used ({', '.join(limits)}); threads: {processor.workers} read and prepare{threads}"


def _disk_words(disk: Disk) -> str:
    kind = f", {disk.file_system}" if disk.file_system else ""
    free = "" if disk.free_bytes is None else f", {_size(disk.free_bytes)} free"
    named = (("writes", disk.write_mb_s), ("reads", disk.read_mb_s), ("reads pieces at", disk.pieces_mb_s))
    speeds = [f"{name} {speed:.0f}" for name, speed in named if speed is not None]
    words = f"; {', '.join(speeds)} MB/s{' (perhaps from memory)' if disk.cached else ''}" if speeds else ""
    problem = "" if disk.problem is None else f"; {disk.problem}"
    return f"{disk.path}{kind}{free}{words}{problem}"


def _test_words(test: SelfTest) -> str:
    same = "" if test.repeatable is None else "; repeatable bit for bit" if test.repeatable else "; not repeatable"
    dice = "–" if test.dice is None else f"{test.dice:.2f}"
    loss = " → ".join("nan" if value is None else f"{value:.2f}" for value in (test.first_loss, test.last_loss))
    return (
        f"{test.steps} steps at {1 / test.step_seconds:.1f} a second (reading a batch: {1000 * test.batch_seconds:.1f} ms), loss {loss}, "
        f"Dice {dice} of an unseen case, predicted in {test.predict_seconds:.2f} s{same}; took {test.seconds:.1f} s"
    )


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.0f} MB"
