"""Hostile input: what fuzzing has found, tried again, and a short bout of it. The long ones are in benchmarks/fuzz."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks is in the checkout alone

from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.watch import Watch, judge, working_folder

Judge = Callable[[str, bytes], str | None]


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Sees what this process does, while it is armed."""
    return Watch()


@pytest.fixture(scope="session")
def prepared(watch: Watch) -> Iterator[Callable[[str], tuple[Target, Path, dict[str, bytes]]]]:
    """The target of a name, the folder in which it works, and its seeds; every seed has been tried once, unwatched."""
    made: dict[str, tuple[Target, Path, dict[str, bytes]]] = {}
    with working_folder() as ground:

        def prepare(name: str) -> tuple[Target, Path, dict[str, bytes]]:
            if name not in made:
                target, folder = TARGETS[name], ground / name / "in"
                seeds = target.prepare(folder)
                judge(lambda: target.run(next(iter(seeds.values())), folder), watch, folder)
                made[name] = target, folder, seeds
            return made[name]

        yield prepare


@pytest.fixture
def judged(prepared: Callable[[str], tuple[Target, Path, dict[str, bytes]]], watch: Watch) -> Judge:
    """Target and input → what is wrong, None where it was read or refused as it should be."""

    def one(name: str, data: bytes) -> str | None:
        target, folder, _ = prepared(name)
        return judge(lambda: target.run(data, folder), watch, folder, target.may_name, target.most_seconds)

    return one


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
