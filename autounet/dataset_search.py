"""Finding a dataset among folders of datasets: by path, name, prefix or number."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from autounet.errors import UsageError

MOST_NAMES = 20
"""Names of datasets that a message lists."""


def find_dataset(query: str, search: Sequence[Path]) -> Path:
    """The dataset folder that ``-d`` means.

    Args:
        query: A path, a folder's full name, a prefix of it (``Task04``) or its number (``4``).
        search: Folders that hold datasets, in order of preference.

    Raises:
        UsageError: Nothing matches, or several folders do; the message lists what is there.
    """
    as_path = dataset_path(query)
    if as_path is not None and (as_path / "dataset.json").exists():
        return as_path
    candidates: dict[str, Path] = {}
    for folder in search:
        for entry in _entries(folder):
            if (entry / "dataset.json").is_file():
                candidates.setdefault(entry.name, entry)
    matches = matching_folders(query.rstrip("/"), list(candidates))
    if len(matches) == 1:
        return absolute(candidates[matches[0]])
    if matches:
        raise UsageError(f"-d {query} is ambiguous", found=_shown(matches), remedy="give the full name or the path")
    if as_path is not None:
        return as_path  # reading it says what it lacks
    raise UsageError(
        f"no dataset '{query}' in {', '.join(str(folder) for folder in search) or 'any folder'}",
        found=_shown(list(candidates)) or "no folder with a dataset.json",
        remedy="give a path, one of the names found, or another folder of datasets with --data",
    )


def dataset_path(query: str) -> Path | None:
    """The folder that ``-d`` names by its path, or by the path of its dataset.json; None when it is no path."""
    try:
        path = Path(query).expanduser()
        if query and path.name == "dataset.json" and path.is_file():
            return absolute(path.parent)
        return absolute(path) if query and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a name, an unknown user after ~
        return None


def absolute(path: Path) -> Path:
    """The path from the root on, without . and ..; links keep the names that the user gave them."""
    return Path(os.path.abspath(path))


def matching_folders(query: str, names: Sequence[str]) -> list[str]:
    """Names that a query means: the one equal to it, else those of its number or that begin with it."""
    return [name for name in names if name == query] or [name for name in names if _means(query, name)]


def _means(query: str, name: str) -> bool:
    if not query:
        return False
    number = re.match(r"(?:Task|Dataset)0*(\d+)", name)
    if query.isdecimal():
        return number is not None and int(number[1]) == int(query)
    asked = re.fullmatch(r"(?:Task|Dataset)0*(\d+)", query)
    if asked is not None:
        return number is not None and number[1] == asked[1] and name.startswith(query.rstrip("0123456789"))
    return name.startswith(query)


def _entries(folder: Path) -> list[Path]:
    """Folders inside a folder, sorted; none where it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
