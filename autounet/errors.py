"""The errors that users meet.

AutounetError          something failed on the data or the machine     exit code 1
├── UsageError         the command was asked for something it cannot   exit code 2
├── DatasetError       a dataset folder or its dataset.json is wrong   exit code 1
├── ImageError         one image or label file cannot be used          exit code 1
├── ArtefactError      a file in the run folder is missing or unusable exit code 1
└── Interrupted        work was put down because somebody asked for it exit code 130

Every message names the file or case, what was found, what was expected and what to do next. Programming mistakes are
not in this tree: they stay Python's own exceptions, and a traceback is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MOST_SHOWN = 1500
"""Characters of each part of a message: found values and names come from files, and may be of any length."""


def printable(text: str) -> str:
    """Text that a terminal or a log can be given: what would move the cursor, or is no character at all, is written out."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)


def _shown(part: object) -> str:
    text = printable(str(part))
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


class AutounetError(Exception):
    """Base of all errors that a user can cause and mend.

    Args:
        what: The file, case or option concerned and what is wrong with it.
        found: What was there.
        expected: What should have been there.
        remedy: What the user can do next, as an imperative.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: object = None, expected: object = None, remedy: str | None = None) -> None:
        self.what, self.found, self.expected, self.remedy = what, found, expected, remedy
        super().__init__(self.describe())

    def describe(self) -> str:
        """One sentence or two: what is wrong, found and expected, and the remedy."""
        text = _shown(self.what)
        details = [f"{word} {_shown(value)}" for word, value in (("found", self.found), ("expected", self.expected)) if value is not None]
        if details:
            text += f": {', '.join(details)}"
        if self.remedy:
            text += f". {self.remedy[0].upper()}{_shown(self.remedy[1:])}"
        return text

    def without_frames(self) -> Self:
        """The error, to be kept for a report: its frames would keep their data alive as long as it is known."""
        self.__context__ = self.__cause__ = None
        return self.with_traceback(None)


class UsageError(AutounetError):
    """The command line asks for something that does not exist or cannot work."""

    exit_code = 2


class DatasetError(AutounetError):
    """A dataset folder or its dataset.json is wrong; ``problems`` lists every finding."""

    def __init__(
        self, what: str, *, problems: "Sequence[Problem]" = (), found: object = None, expected: object = None, remedy: str | None = None
    ) -> None:
        super().__init__(what, found=found, expected=expected, remedy=remedy)
        self.problems = tuple(problems)


class ImageError(AutounetError):
    """One image or label file cannot be read, written or used."""


class ArtefactError(AutounetError):
    """A file in the run folder is missing, malformed or was made from something else."""


class Interrupted(AutounetError):
    """Work was put down, in order, because a person or the system asked for it."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about one case of a dataset."""

    case: str
    """Case identifier, or the file's name where no case could be made out."""
    what: str
    """What is wrong, with what was found and what was expected."""
    remedy: str
    """What to do about it."""

    @classmethod
    def of(cls, case: str, error: AutounetError, remedy: str) -> "Problem":
        """An error of one case as a finding; ``remedy`` serves where the error has none of its own."""
        what = AutounetError(error.what, found=error.found, expected=error.expected).describe()
        return cls(case, what, error.remedy or remedy)
