"""A dataset.json for files that stay where they are, in the form that nnU-Net reads, too."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autounet.dataset import DatasetSpec
from autounet.dataset_table import TableCase
from autounet.image_names import split_ending

SHARED_FOLDERS = 2
"""Paths are relative where dataset and file lie below so many common folders: below fewer, they are moved apart rather than together."""


def description(
    root: Path, channels: Sequence[str], labels: Mapping[str, int | list[int]], cases: Sequence[TableCase], label_files: Mapping[str, Path]
) -> dict[str, Any]:
    """The content of a new dataset.json.

    Args:
        root: The dataset's folder, absolute.
        channels: Names.
        labels: Name → value, the background included.
        cases: All cases.
        label_files: Label maps that are not those of ``cases``, by case.
    """
    partial = {case.id: list(case.annotated) for case in cases if case.annotated is not None}
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": dict(labels),
        "numTraining": len(cases),
        "file_ending": split_ending(cases[0].images[0])[1] or ".nii.gz",
        **({"annotated": partial} if partial else {}),
        "dataset": {case.id: entry(root, case, label_files.get(case.id)) for case in cases},
    }


def extended(raw: Mapping[str, Any], dataset: DatasetSpec, cases: Sequence[TableCase], label_files: Mapping[str, Path]) -> dict[str, Any]:
    """The content of a dataset.json with further cases; a folder's own cases are listed from now on.

    Args:
        raw: The content as it is.
        dataset: As it is.
        cases: The new ones.
        label_files: As for ``description``.
    """
    entries = {case.id: entry(dataset.root, case, label_files.get(case.id)) for case in cases}
    changed: dict[str, Any] = {**raw, "numTraining": len(dataset.cases) + len(cases)}
    if isinstance(raw.get("training"), list) and raw["training"]:
        changed["training"] = [*raw["training"], *({"id": name, **values} for name, values in entries.items())]
    else:
        there = raw.get("dataset") or {case.id: _own_entry(dataset, case.id) for case in dataset.cases}
        changed["dataset"] = {**there, **entries}
    partial = {case.id: list(case.annotated) for case in cases if case.annotated is not None}
    if partial:
        changed["annotated"] = {**(raw.get("annotated") or {}), **partial}
    return changed


def entry(root: Path, case: TableCase, label: Path | None = None) -> dict[str, Any]:
    """What dataset.json says of one case; ``label`` in place of the case's own."""
    file = label or case.label
    assert file is not None
    extra = {"patient": case.patient, "fold": case.fold}
    return {
        "images": [path_text(image, root) for image in case.images],
        "label": path_text(file, root),
        **{name: value for name, value in extra.items() if value is not None},
    }


def path_text(file: Path, root: Path) -> str:
    """How dataset.json names a file: relative to the dataset's folder, with slashes, where both may be moved together; else absolute."""
    try:
        common = Path(os.path.commonpath([root, file]))
    except ValueError:  # on two drives
        return file.as_posix()
    return Path(os.path.relpath(file, root)).as_posix() if len(common.parts) > SHARED_FOLDERS else file.as_posix()


def _own_entry(dataset: DatasetSpec, name: str) -> dict[str, Any]:
    case = next(case for case in dataset.cases if case.id == name)
    return entry(dataset.root, TableCase("", case.id, case.images, case.label))
