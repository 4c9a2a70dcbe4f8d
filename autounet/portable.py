"""Where systems differ in what they take for a file: names, upper and lower case, files that are open elsewhere."""

import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from autounet.errors import DatasetError, Problem

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE | re.DOTALL)
"""Devices of Windows, whatever ending follows. Source: Microsoft, "Naming Files, Paths, and Namespaces"."""

REFUSED = '<>:"/\\|?*'
"""Characters that no name may have there, besides those below 32."""

WAITS = (0.02, 0.1, 0.5)
"""Seconds. A virus scanner or an indexer has a new file open for a moment."""


def unusable_on_windows(name: str) -> str | None:
    """Why Windows takes no file whose name begins with ``name`` and goes on with an ending; None where it does."""
    if RESERVED.fullmatch(name):
        return "is a device on Windows"
    found = sorted({character for character in name if character in REFUSED or ord(character) < 32})
    return f"has {' '.join(map(ascii, found))}, which Windows refuses" if found else None


def same_but_for_case(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that are one where upper and lower case are not told apart."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[name.casefold()].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def tells_case_apart(folder: Path) -> bool:
    """Whether the disk of a folder that is there tells ``A`` from ``a``; nothing is written for that.

    Windows, macOS as it comes, and memory cards and shares on Linux do not.
    """
    other = folder.with_name(folder.name.swapcase())
    if other.name == folder.name:
        return tells_case_apart(folder.parent) if folder.parent != folder else sys.platform not in ("win32", "darwin")
    try:
        return not other.samefile(folder)
    except OSError:
        return True  # there is no such name


def check_told_apart(names: Iterable[str], folder: Path) -> None:
    """Raises DatasetError where cases would be written over each other in ``folder``, as their names differ in upper and lower case only.

    A folder that is not there yet is judged by the nearest above it that is.
    """
    groups = same_but_for_case(names)
    if not groups:
        return
    whole = folder.absolute()
    there = next((place for place in (whole, *whole.parents) if place.exists()), whole)
    if not tells_case_apart(there):
        what = "differ in upper and lower case only, which the disk of the run folder does not tell apart"
        remedy = "rename one of them, or choose another disk with --runs"
        raise DatasetError(
            f"{len(groups)} cases would be written over each other in {folder}",
            problems=[Problem(", ".join(group), what, remedy) for group in groups],
        )


def replace_file(draft: Path, path: Path) -> None:
    """Gives a finished file its name. Raises OSError.

    Windows refuses that while anybody has either file open, which mostly passes.
    """
    for seconds in WAITS if sys.platform == "win32" else ():
        try:
            draft.replace(path)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    draft.replace(path)
