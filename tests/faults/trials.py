"""One trial: a command is disturbed, what it left is looked at, the same command is repeated, and what is there then is compared."""

import errno
import random
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import Ended, Fault, contents, damaged, leftovers, run
from tests.faults.jobs import JOBS, Job, States

SIZES = (0, 1, 100, 1000, 10_000)
"""Bytes after which a write stops half-way."""

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES)

SAID_WHEN_STOPPED = ("interrupt", "the same command goes on")
"""One of these, whatever its letters and line breaks, stands in what a command says that a signal ended."""


@dataclass(frozen=True)
class Reference:
    """A job that nothing disturbed."""

    job: Job
    contents: dict[str, str]
    ended: Ended


@dataclass(frozen=True)
class Trial:
    """What became of one."""

    job: str
    fault: str
    hit: bool
    """The fault came before the command was done."""
    problems: tuple[str, ...]
    """Promises that were broken; empty if it was survived."""


def reference(states: States, name: str) -> Reference:
    """Does a job undisturbed."""
    folder, ended = states.done(JOBS[name])
    found = Reference(JOBS[name], contents(folder), ended)
    shutil.rmtree(folder)
    return found


def kills(reference: Reference, count: int, seed: int) -> list[Fault]:
    """Kills at evenly drawn events, in the middle of writes, and at random times, in equal parts."""
    rng, faults, last = random.Random(seed), list[Fault](), reference.ended.events
    for number in range(count):
        at = 1 + min(last - 1, int((number + rng.random()) * last / count))
        kind = ("kill", "cut", "time")[number % 3]
        if kind == "time":
            seconds = rng.uniform(0, reference.ended.seconds)
            faults.append(Fault("signal", number=signal.SIGKILL, seconds=seconds))
        else:
            faults.append(Fault(kind, at=at, size=rng.choice(SIZES)))
    return faults


def stops(reference: Reference, count: int, seed: int) -> list[Fault]:
    """Ctrl-C and SIGTERM at random times."""
    rng = random.Random(seed)
    return [
        Fault("signal", number=(signal.SIGINT, signal.SIGTERM)[number % 2], seconds=rng.uniform(0, reference.ended.seconds))
        for number in range(count)
    ]


def refusals(reference: Reference, count: int, seed: int) -> list[Fault]:
    """A disk that is full, over quota, broken, read-only, gone, slow to answer or forbidden, from some event on."""
    rng, faults, last = random.Random(seed), list[Fault](), reference.ended.events
    for number in range(count):
        at = 1 + min(last - 1, int((number + rng.random()) * last / count))
        if number % 3 == 0:
            faults.append(Fault("full", at=at, size=rng.choice(SIZES)))
        else:
            faults.append(Fault("error", at=at, number=REFUSALS[number % len(REFUSALS)], lasting=number % 2 == 0))
    return faults


def reads(reference: Reference, count: int, seed: int) -> list[Fault]:
    """A disk that cannot be read from, once or from then on: opening a file for reading counts, too."""
    rng, faults, last = random.Random(seed), list[Fault](), 2 * reference.ended.events
    for number in range(count):
        at = 1 + int((number + rng.random()) * last / count)
        fault = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)[number % 3]
        faults.append(Fault("error", at=at, number=fault, lasting=number % 2 == 0, reads=True))
    return faults


def slow(reference: Reference, count: int, seed: int) -> list[Fault]:
    """A disk on which every change takes long; once is enough."""
    return [Fault("slow", seconds=0.02)]


def attempt(states: States, reference: Reference, fault: Fault) -> Trial:
    """Disturbs the job, repeats it, and compares."""
    job, folder = reference.job, states.fresh(reference.job.after)
    try:
        first = run(job.arguments, folder, fault)
        problems = [*_ended_well(first, fault, job, folder), *(f"damaged: {each}" for each in damaged(folder))]
        again = run(job.arguments, folder)
        if again.code != job.code:
            problems.append(f"repeated, it ends with {again.code}: {again.text.strip()}")
        problems += _differences(reference.contents, contents(folder)) if again.code == job.code else []
        problems += [f"left behind: {each}" for each in leftovers(folder)]
        return Trial(job.name, str(fault), first.code != job.code, tuple(problems))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ended_well(ended: Ended, fault: Fault, job: Job, folder: Path) -> list[str]:
    """What a command must not do whatever happens to it."""
    problems = [f"a traceback: {ended.text}"] if "Traceback" in ended.text else []
    if fault.kind in ("kill", "cut") or fault.number == signal.SIGKILL:
        return problems + ([f"ended with {ended.code}: {ended.text}"] if ended.code not in (-9, -signal.SIGXFSZ, job.code) else [])
    if fault.kind == "signal":
        if ended.code not in (130, job.code):
            problems.append(f"ended with {ended.code}: {ended.text}")
        elif ended.code == 130 and not any(words in " ".join(ended.text.lower().split()) for words in SAID_WHEN_STOPPED):
            problems.append(f"says nothing: {ended.text!r}")
        return problems
    if ended.code not in (job.code, 1) or (fault.kind == "slow" and ended.code != job.code):
        problems.append(f"ended with {ended.code}: {ended.text}")
    if "unexpected" in ended.text or "bug in autounet" in ended.text:
        problems.append(f"not understood: {ended.text}")
    if ended.code == 1 and job.code == 0 and "error" not in ended.text.lower():
        problems.append(f"says nothing: {ended.text!r}")
    return problems


def _differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    return [f"{word}: {name}" for word, names in (("missing", missing), ("too much", extra), ("differs", other)) for name in names]


def failed(trials: Sequence[Trial]) -> list[Trial]:
    """Those in which a promise was broken."""
    return [trial for trial in trials if trial.problems]
