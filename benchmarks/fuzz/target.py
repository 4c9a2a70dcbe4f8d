"""What a fuzz target is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from autounet.errors import AutounetError
from benchmarks.fuzz.mutate import Mutate, of_bytes

CANARY = b"CaNaRy!?"
"""Content of a file that no input may lead to; as many bytes as a number has at most."""


MOST_MESSAGE = 4000
"""Characters of an error."""


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of input, and what reads it.

    ``run`` gets the input and a folder of its own, which is kept between inputs. It may raise AutounetError; an AssertionError is a
    promise that is broken.
    """

    name: str
    what: str
    """For the table."""
    seeds: Callable[[Path], Mapping[str, bytes]]
    """Sound inputs by name, made in that folder; what ``run`` needs beside them is made here as well."""
    run: Callable[[bytes, Path], None]
    mutate: Mutate = of_bytes
    most_bytes: int = 2**16
    most_seconds: float = 5
    """Of computing, twice, that an input may take: of absurd images a plan takes some thousand steps to make."""
    may_name: tuple[str, ...] = ()
    """Files elsewhere that an input may name openly, to be read as images and only as that."""

    def prepare(self, folder: Path) -> dict[str, bytes]:
        """Makes the folder in which inputs are tried, and the seeds."""
        folder.mkdir(parents=True, exist_ok=True)
        place_canary(folder)
        return dict(self.seeds(folder))

    def changed(self, data: bytes, seed: int) -> bytes:
        """A variant of an input."""
        return self.mutate(data, Random(seed))[: self.most_bytes]


def place_canary(folder: Path) -> None:
    """Puts the file that nobody may read beside the folder in which a target works."""
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "canary.raw").write_bytes(CANARY * 4096)


def check_canary(content: bytes) -> None:
    """What was read must not be the canary's."""
    assert not any(mark in content for mark in (CANARY, CANARY[::-1])), "a file outside the input's folder was read"


def try_all(ways: Sequence[Callable[[], object]]) -> None:
    """Calls each; an AutounetError of one, which must be short, does not keep the others from their turn."""
    for way in ways:
        try:
            way()
        except AutounetError as error:
            if len(str(error)) > MOST_MESSAGE:
                raise AssertionError(f"a message of {len(str(error))} characters") from None
