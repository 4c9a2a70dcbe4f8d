"""Names of image files: what is an image by its name, of which kind, and which files are the channels of one case. No file is opened."""

import re
from collections.abc import Sequence
from pathlib import Path

FOLDER_ENDINGS = (".ome.zarr", ".zarr")
"""Endings of folders that are an image each."""

IMAGE_ENDINGS = (*(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg"), *FOLDER_ENDINGS)
"""Endings that can be read as images."""

LABEL_ENDINGS = tuple(ending for ending in IMAGE_ENDINGS if ending not in (".jpg", ".jpeg"))
"""Endings that label maps may have: JPEG's lossy compression changes label values."""

WRITTEN_ENDINGS = tuple(ending for ending in LABEL_ENDINGS if ending not in FOLDER_ENDINGS)
"""Endings with which label maps can be written."""


def split_ending(path: Path) -> tuple[str, str]:
    """File name → (stem, ending), with ``.nii.gz`` as one ending; the ending is '' when it is not an image's."""
    lower = path.name.lower()
    for ending in IMAGE_ENDINGS:
        if lower.endswith(ending):
            return path.name[: -len(ending)], path.name[-len(ending) :]
    return path.name, ""


def group_channels(files: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Groups image files into cases: ``case_0000``, ``case_0001``, … are the channels of ``case``; others stand alone.

    A file that ends in ``_NNNN`` is a channel only if the case also has a file ``_0000``.
    """
    stems = {file: split_ending(file)[0] for file in files}
    firsts = {stem[:-5] for stem in stems.values() if stem.endswith("_0000") and len(stem) > 5}
    groups: dict[str, list[Path]] = {}
    for file in sorted(files, key=lambda file: (file.name, file)):  # channels in their order, also from several folders
        stem = stems[file]
        case = stem[:-5] if re.search(r"_\d{4}$", stem) and stem[:-5] in firsts else stem
        groups.setdefault(case, []).append(file)
    return {case: tuple(paths) for case, paths in groups.items()}


def image_files(folder: Path) -> list[Path]:
    """What is named as an image in a folder, sorted.

    Hidden files (macOS leaves ``._*`` in archives) are passed over, and so are folders that are no image themselves. A link to
    nothing is among them: reading it says so, and nobody misses the case.
    """
    if not folder.is_dir():
        return []
    named = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and split_ending(entry)[1])
    return sorted(entry for entry in named if not entry.is_dir() or split_ending(entry)[1].lower() in FOLDER_ENDINGS)
