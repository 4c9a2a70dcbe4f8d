"""What ``predict -i`` means: an image, a folder of them, a tree of DICOM, a table that names them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from autounet.cli.session import Session
from autounet.cli.stages import some
from autounet.dataset_table import TABLE_ENDINGS, read_table
from autounet.errors import DatasetError, Problem, UsageError
from autounet.image_names import (
    DICOM,
    DRAWN_ENDINGS,
    FOLDER_ENDINGS,
    IMAGE_ENDINGS,
    ZIP,
    archive_of,
    group_channels,
    group_named,
    holds_dicom,
    image_files,
    image_format,
    is_dicom,
    split_ending,
)
from autounet.images.dicom_cases import dicom_cases
from autounet.planners.words import count

BESIDE = (".raw", ".zraw", ".raw.gz", ".json", ".csv", ".txt", ".md")
"""Endings of files that stand beside images: their voxels, and what is said of them."""


def is_table(images: Path) -> bool:
    """Whether ``-i`` names a table."""
    return images.suffix.lower() in TABLE_ENDINGS and images.is_file()


def table_inputs(table: Path, channels: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all; other columns than images and ``id`` are passed over.

    Args:
        table: A table as ``autounet dataset create`` takes it; it needs no label maps.
        channels: Names of the model's channels, which columns may have.

    Raises:
        DatasetError: Rows are wrong; ``problems`` has every finding.
    """
    cases = read_table(table, channels, labelled=False)
    problems = [
        Problem(case.where, f"{count(len(case.images), 'image')}, but the model has {count(len(channels), 'channel')}", "name one for each")
        for case in cases
        if len(case.images) not in (1, len(channels))
    ]
    if problems:
        raise DatasetError(f"{table}: {count(len(problems), 'problem')}", problems=problems)
    return {case.id: case.images for case in cases}


def find_inputs(images: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all. Raises UsageError or DatasetError."""
    inside = archive_of(images) is not None
    if images.is_file() or inside or (images.is_dir() and image_format(images) in FOLDER_ENDINGS):
        stem = split_ending(images)[0]
        if not image_format(images):
            raise UsageError(f"-i {images}: not an image", expected=f"one of {' '.join(IMAGE_ENDINGS)}")
        if inside and images.is_file():  # a zip, of one series or of many
            return group_named(dicom_cases(images) or {images: stem})
        if channels > 1 and re.search(r"._\d{4}$", stem):  # any channel of a case stands for all
            groups = group_channels([file for file in image_files(images.parent) if split_ending(file)[0][:-5] == stem[:-5]])
            case = stem[:-5] if stem[:-5] in groups or stem.endswith("_0000") else stem
            return {case: groups.get(case, (images,))}
        return {stem.removesuffix("_0000"): (images,)}
    if not images.is_dir():
        what = (
            "is neither a file nor a folder"
            if images.exists()
            else "is a link to nothing"
            if images.is_symlink()
            else "no such file or folder"
        )
        raise UsageError(f"-i {images}: {what}", remedy="check the path")
    stems = _named_images(images)
    if not stems:
        expected = f"files ending in {' '.join(IMAGE_ENDINGS)}, or DICOM"
        raise UsageError(f"-i {images}: no images in this folder", expected=expected)
    groups = group_named(stems)
    endings: dict[str, list[str]] = {}
    for file, stem in stems.items():
        endings.setdefault(stem, []).append(file.name)
    twice = [names for names in endings.values() if len(names) > 1]
    if twice:
        raise UsageError(f"-i {images}: two images of the same name", found=", ".join(twice[0]), remedy="keep one of them in the folder")
    return groups


def warn_of_passed_over(session: Session, images: Path, cases: Mapping[str, tuple[Path, ...]]) -> None:
    """Says which files of a folder are not taken for images; none is missed in silence."""
    if not images.is_dir() or archive_of(images) is not None or image_format(images) in FOLDER_ENDINGS:
        return
    taken = {file if (archive := archive_of(file)) is None else archive[0] for files in cases.values() for file in files}
    files = [entry for entry in images.iterdir() if entry.is_file() and not entry.name.startswith(".") and entry not in taken]
    over = sorted(file.name for file in files if not file.name.lower().endswith(BESIDE) and not is_dicom(file))
    if over:
        session.screen.warn(f"passed over, not named as images: {count(len(over), 'file')} ({some(over)})")


def _named_images(folder: Path) -> dict[Path, str]:
    """Images in a folder, and DICOM anywhere below it and in its zips, each with its name without ending."""
    files = [file for file in image_files(folder) if split_ending(file)[1].lower() not in DRAWN_ENDINGS]
    stems = {file: split_ending(file)[0] for file in files if image_format(file) != DICOM}
    if len(stems) < len(files) or holds_dicom(folder):
        zips = [file for file in files if file.suffix.lower() == ZIP and file.is_file()]
        # A file named as DICOM that is none must not be missed: reading it says what is wrong.
        stems |= {
            file: split_ending(file)[0] for file in files if file.suffix.lower() == DICOM and not file.is_dir() and not is_dicom(file)
        }
        stems |= dicom_cases(folder) | {path: name for file in zips for path, name in (dicom_cases(file) or {file: file.stem}).items()}
    return stems
