"""One binary file per structure, in a folder of a case."""

import logging
from pathlib import Path

import numpy as np

from autounet.errors import UsageError
from autounet.geometry import Grid
from autounet.images.files import write_labels
from autounet.images.meaning import Meaning
from autounet.labels import IntArray

log = logging.getLogger(__name__)

DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
"""Names that Windows keeps for itself."""

LONGEST = 100


def file_names(meaning: Meaning) -> tuple[str, ...]:
    """File names (without ending) of the structures, in order: letters, digits, dots, hyphens and underscores; never a path.

    Raises:
        UsageError: Two structures come to the same name; where case makes no difference they would be one file.
    """
    names: dict[str, str] = {}
    files: list[str] = []
    for entry in meaning.structures:
        safe = "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in entry.name)[:LONGEST].strip(".-_")
        safe = f"label_{entry.value}" if not safe else f"{safe}_" if safe.split(".")[0].lower() in DEVICES else safe
        if safe.casefold() in names:
            raise UsageError(
                "one file per structure: two structures come to the same file name",
                found=f"'{names[safe.casefold()]}' and '{entry.name}', both {safe}",
                remedy="leave out --per-class, or rename one of them in dataset.json and plan again",
            )
        names[safe.casefold()] = entry.name
        files.append(safe)
    return tuple(files)


def write_separate(folder: Path, labels_zyx: IntArray, grid: Grid, ending: str, like: Path | None, meaning: Meaning) -> None:
    """Writes a mask (0 and 1) for every structure, also for one without a voxel; of overlapping regions each is whole.

    Args:
        folder: Of the case; made where it is missing.
        labels_zyx: The label map.
        grid: Its grid.
        ending: Of the files.
        like: The source image; see ``write_labels``.
        meaning: What the values mean.

    Raises:
        UsageError: As ``file_names``.
        ImageError, ArtefactError: As ``write_labels``.
    """
    files = [folder / f"{name}{ending}" for name in file_names(meaning)]
    for file, entry in zip(files, meaning.structures, strict=True):
        write_labels(file, entry.mask(labels_zyx).astype(np.uint8), grid, like)
    others = sorted({entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} - {file.name for file in files})
    if others:
        log.warning("%s also holds files that are not of this model: %s", folder, ", ".join(others[:5]))
