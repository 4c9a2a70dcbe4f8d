"""Datasets as they lie on disk: the Medical Segmentation Decathlon's and nnU-Net's dialects of dataset.json.

Reading a dataset here opens no image. What only the images can tell is checked when the fingerprint is extracted.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autounet.artefact import Frozen
from autounet.dataset_json import annotated_classes, channels_and_labels, load_description, patient_and_fold, patients_of, quoted
from autounet.dataset_search import absolute
from autounet.errors import DatasetError, Problem
from autounet.image_names import (
    DICOM,
    IMAGE_ENDINGS,
    LABEL_ENDINGS,
    ZIP,
    group_channels,
    image_exists,
    image_files,
    image_format,
    split_ending,
)
from autounet.labels import LabelSpec
from autounet.portable import unusable_on_windows

LONGEST_CASE = 200
"""Bytes of a case's name: file systems take 255, and endings are added."""

EXAMPLE_ENTRY = '{"image": "./imagesTr/case.nii.gz", "label": "./labelsTr/case.nii.gz"}'


class Case(Frozen):
    """One training case."""

    id: str
    images: tuple[Path, ...]
    """One file per channel, or one file that holds all channels."""
    label: Path
    annotated: tuple[str, ...] | None = None
    """Names of the classes that are annotated, in the dataset's order; None for all."""
    patient: str | None = None
    """Whose cases stay in one fold; None where nobody said."""
    fold: int | None = None
    """Which fold the author of the dataset holds this case out in; None where nobody said, or in none."""


class DatasetSpec(Frozen):
    """A dataset folder, read and checked."""

    name: str
    """The folder's name."""
    root: Path
    channels: tuple[str, ...]
    labels: LabelSpec
    cases: tuple[Case, ...]
    """Sorted by identifier."""
    file_ending: str

    @property
    def patients(self) -> dict[str, str]:
        """Case → patient, of the cases whose patient is known."""
        return {case.id: case.patient for case in self.cases if case.patient is not None}

    @property
    def held_out(self) -> dict[str, int]:
        """Case → fold that its author wants to hold it out; empty where dataset.json names no folds."""
        return {case.id: case.fold for case in self.cases if case.fold is not None}


def read_dataset(root: Path) -> DatasetSpec:
    """Reads dataset.json and lists the cases.

    Args:
        root: The dataset folder, in the Decathlon's or nnU-Net's layout.

    Raises:
        DatasetError: dataset.json is missing, malformed or contradicts the files; ``problems`` has every finding.
    """
    path = root / "dataset.json"
    raw = load_description(path)
    channels, labels = channels_and_labels(raw, path)
    annotated, patients = annotated_classes(raw, labels, path), patients_of(raw, path)
    root = absolute(root)
    problems: list[Problem] = []
    rows = _listed_rows(raw, path)
    if rows:
        cases, ending = _listed_cases(root, rows, len(channels), problems, path)
    else:
        cases, ending = _found_cases(root, raw, len(channels), problems)
    there = {case.id for case in cases} | {problem.case for problem in problems}
    problems.extend(
        Problem(case, f"is named under '{key}' in dataset.json, but there is no such case", "correct the name, or remove it there")
        for key, named in (("annotated", annotated), ("groups", patients))
        for case in named
        if case not in there
    )
    problems.extend(
        Problem(case.id, f"has two patients: '{case.patient}' in its entry, '{patients[case.id]}' under 'groups'", "remove one of them")
        for case in cases
        if case.patient is not None and patients.get(case.id, case.patient) != case.patient
    )
    partial = {case: names for case, names in annotated.items() if len(names) < len(labels.names)}
    if problems:
        count = len(problems)
        raise DatasetError(
            f"{root.name}: {count} problem{'s' if count > 1 else ''} with the files of the dataset",
            problems=sorted(problems, key=lambda problem: problem.case),
        )
    return DatasetSpec(
        name=root.name,
        root=root,
        channels=channels,
        labels=labels,
        cases=tuple(
            case.model_copy(update={"annotated": partial.get(case.id), "patient": case.patient or patients.get(case.id)})
            for case in sorted(cases, key=lambda case: case.id)
        ),
        file_ending=ending,
    )


def _listed_rows(raw: Mapping[str, Any], path: Path) -> list[Any]:
    """The training cases that dataset.json names, in either dialect; none if they are to be looked for in the folders."""
    listed, named = raw.get("training"), raw.get("dataset")
    if listed is not None and not isinstance(listed, list):
        expected, remedy = f"a list of {EXAMPLE_ENTRY}", "correct it, or remove it: the cases are then looked for in imagesTr"
        raise DatasetError(f"{path}: 'training' is malformed", found=quoted(listed), expected=expected, remedy=remedy)
    if listed or not isinstance(named, dict):
        return listed or []
    return [{"id": key, **entry} if isinstance(entry, dict) else entry for key, entry in named.items()]


def _listed_cases(root: Path, rows: list[Any], channels: int, problems: list[Problem], path: Path) -> tuple[list[Case], str]:
    cases: list[Case] = []
    seen: dict[str, Path] = {}
    for position, row in enumerate(rows):
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        label = row.get("label") if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not images or not all(_can_be_path(item) for item in (*images, label)):
            raise DatasetError(
                f"{path}: entry {position + 1} of the training cases is malformed",
                found=quoted(row),
                expected=EXAMPLE_ENTRY,
                remedy="correct this entry",
            )
        patient, fold = patient_and_fold(row, position, path)
        files = _channel_files(tuple(_located(root, item) for item in images), channels)
        label_file = _located(root, str(label))
        case_id = str(row.get("id") or re.sub(r"_0000$", "", split_ending(label_file)[0]))
        if case_id in seen:
            what = "is listed twice in dataset.json" if seen[case_id] == label_file else f"two label maps have this name, one is {label}"
            problems.append(Problem(case_id, what, "remove one entry, or give the files names of their own"))
            continue
        seen[case_id] = label_file
        found = [
            *name_problems(case_id),
            *(
                Problem(case_id, f"file not found: {_below(file, root)}", "restore the file or remove the entry")
                for file in (*files, label_file)
                if not image_exists(file)
            ),
            *(
                Problem(case_id, f"file type not supported: {file.name}", f"use one of {' '.join(endings)}")
                for file, endings in (*((file, IMAGE_ENDINGS) for file in files), (label_file, LABEL_ENDINGS))
                if image_format(file) not in endings
            ),
        ]
        if len(files) not in (1, channels):
            found.append(_channel_count_problem(case_id, len(files), channels))
        problems.extend(found)
        if not found:
            cases.append(Case(id=case_id, images=files, label=label_file, patient=patient, fold=fold))
    return cases, _ending(cases[0].images[0]) if cases else ""


def _located(root: Path, item: str) -> Path:
    """The file that an entry names. ``..`` is the folder that the path shows, also after a link, as in nnU-Net."""
    found = root / item
    shown = absolute(found)
    return shown if shown.exists() or not found.exists() else found


def _channel_files(files: tuple[Path, ...], channels: int) -> tuple[Path, ...]:
    """The files meant by an entry that names a case, or its first channel, where the files carry nnU-Net's suffixes (v1 wrote such)."""
    if len(files) > 1 or (image_exists(files[0]) and (channels == 1 or not split_ending(files[0])[0].endswith("_0000"))):
        return files
    stem, ending = split_ending(files[0])
    stem = stem.removesuffix("_0000")
    found = tuple(path for number in range(channels) if image_exists(path := files[0].with_name(f"{stem}_{number:04d}{ending}")))
    return found or files


def _found_cases(root: Path, raw: Mapping[str, Any], channels: int, problems: list[Problem]) -> tuple[list[Case], str]:
    images, labels = image_files(root / "imagesTr"), image_files(root / "labelsTr")
    for name, files in (("imagesTr", images), ("labelsTr", labels)):
        if not files:
            raise DatasetError(
                f"{root}: no images in {name}" if (root / name).is_dir() else f"{root}: no folder {name}",
                expected=f"files with one of the endings {' '.join(IMAGE_ENDINGS)}",
                remedy="put images into imagesTr and label maps into labelsTr, or list them as 'training' in dataset.json",
            )
    chosen = _of_ending(images, raw.get("file_ending"), root)
    by_case: dict[str, Path] = {}
    for file in labels:
        stem, label_ending = split_ending(file)
        if stem in by_case:
            problems.append(Problem(stem, f"two label maps: {by_case[stem].name} and {file.name}", "keep one"))
        elif label_ending.lower() not in LABEL_ENDINGS:
            jpeg = "is a JPEG, whose compression changes values"
            what = jpeg if label_ending.lower() in (".jpg", ".jpeg") else "is of a format that holds no label maps here"
            problems.append(Problem(stem, f"label map {file.name} {what}", "save it as PNG or NIfTI"))
        by_case.setdefault(stem, file)
    cases: list[Case] = []
    groups = _numbered_cases(group_channels(chosen), by_case)
    for case_id, paths in groups.items():
        found = [*name_problems(case_id), *channel_problems(case_id, paths, channels)]
        if case_id not in by_case:
            remedy = "add the label map or remove the image"
            if f"{case_id}_0000" in by_case:
                remedy = f"name the label map {case_id}{split_ending(by_case[f'{case_id}_0000'])[1]}, without _0000"
            found.append(Problem(case_id, "image without a label map in labelsTr", remedy))
        problems.extend(found)
        if not found:
            cases.append(Case(id=case_id, images=paths, label=by_case[case_id]))
    problems.extend(
        Problem(case_id, f"label map {file.name} without an image in imagesTr", "add the image or remove the label map")
        for case_id, file in by_case.items()
        if case_id not in groups and case_id.removesuffix("_0000") not in groups
    )
    return cases, _ending(chosen[0])


def _numbered_cases(groups: Mapping[str, tuple[Path, ...]], labels: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """Files such as ``case_0000``, ``case_0001`` that look like channels, but have a label map each, are cases of their own."""
    found: dict[str, tuple[Path, ...]] = {}
    for case, paths in groups.items():
        stems = {split_ending(path)[0]: path for path in paths}
        found |= {stem: (path,) for stem, path in stems.items()} if len(paths) > 1 and set(stems) <= set(labels) else {case: paths}
    return found


def _ending(image: Path) -> str:
    """An image's ending, or the one that stands for DICOM where it has none."""
    return split_ending(image)[1] if image_format(image) != DICOM else DICOM


def _of_ending(images: Sequence[Path], named: object, root: Path) -> list[Path]:
    """The images that have the ending that dataset.json names, or that of the first image."""
    if named is not None and not isinstance(named, str):
        raise DatasetError(
            f"{root / 'dataset.json'}: 'file_ending' is malformed", found=quoted(named), expected='a text such as ".nii.gz"',
            remedy="correct it, or remove it",
        )  # fmt: skip
    ending = (named or _ending(images[0])).lower()
    ending = ending if ending.startswith(".") else f".{ending}"
    ending = DICOM if ending == ZIP else ending
    chosen = [file for file in images if _ending(file).lower() == ending]
    if not chosen:
        there = Counter(_ending(file) for file in images).most_common()
        raise DatasetError(
            f"{root}: no image in imagesTr has the 'file_ending' of dataset.json",
            found=", ".join(f"{count} × {other}" for other, count in there),
            expected=ending,
            remedy="correct 'file_ending' in dataset.json",
        )
    return chosen


def channel_problems(case_id: str, paths: Sequence[Path], channels: int, source: str = "dataset.json") -> list[Problem]:
    """What is wrong with the files of one case: too many, too few, or not numbered _0000, _0001, …; ``source`` says how many."""
    if len(paths) == 1:
        return []  # one file may hold all channels; reading it tells
    numbers = [int(match[1]) for file in paths if (match := re.search(r"_(\d{4})$", split_ending(file)[0]))]
    if len(numbers) < len(paths) or len(set(numbers)) < len(numbers):
        if len(set(paths)) < len(paths):
            return [Problem(case_id, f"{paths[0]} is given twice", "name each file once")]
        names = ", ".join(file.name for file in paths)
        return [Problem(case_id, f"several images of this name: {names}", "keep the files of one image")]
    if len(paths) != channels:
        return [_channel_count_problem(case_id, len(paths), channels, source)]
    if numbers != list(range(channels)):
        what = f"channel files {', '.join(f'_{number:04d}' for number in numbers)} have gaps"
        return [Problem(case_id, what, "number them from _0000 on")]
    return []


def _channel_count_problem(case_id: str, files: int, channels: int, source: str = "dataset.json") -> Problem:
    what = f"{files} channel files, but {channels} channel{'s' if channels != 1 else ''} in {source}"
    more = "remove files, or name all channels in dataset.json" if source == "dataset.json" else "remove files"
    if channels == 1:
        more += "; if they are images of their own, name them without _NNNN at the end, or name them in a table"
    return Problem(case_id, what, "add the missing files" if files < channels else more)


def name_problems(case_id: str) -> list[Problem]:
    """Names that cannot be the name of a file of the run folder as well."""
    shown = case_id.encode(errors="backslashreplace").decode()
    if shown != case_id or case_id in (".", "..") or any(character in "/\\" or ord(character) < 32 for character in case_id):
        return [Problem(shown, "is a name that not every file system can have", "rename the case")]
    if len(case_id.encode()) > LONGEST_CASE:
        return [Problem(f"{shown[:60]}…", f"is a name of more than {LONGEST_CASE} bytes", "rename the case")]
    if case_id.endswith((".seg", ".border")):
        return [Problem(case_id, "ends as files of prepared cases do", "rename the case")]
    if sys.platform == "win32" and (why := unusable_on_windows(case_id)):
        return [Problem(case_id, why, "rename the case")]
    return []


def _can_be_path(item: object) -> bool:
    """Whether systems take it for the path of a file, there or not."""
    if not isinstance(item, str) or "\0" in item:
        return False
    try:
        return max(len(part) for part in os.fsencode(item).split(b"/")) <= 255
    except UnicodeEncodeError:
        return False


def _below(file: Path, root: Path) -> Path:
    return file.relative_to(root) if file.is_relative_to(root) else file
