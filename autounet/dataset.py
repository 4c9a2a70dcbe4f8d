"""Datasets as they lie on disk: the Medical Segmentation Decathlon's and nnU-Net's dialects of dataset.json; splits.

Reading a dataset here opens no image. What only the images can tell is checked when the fingerprint is extracted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ValidationError

from autounet.artefact import Artefact, Frozen
from autounet.errors import DatasetError, Problem, UsageError
from autounet.labels import LabelSpec, StructureClass

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
"""File endings that can be read as images."""

LABEL_ENDINGS = tuple(ending for ending in IMAGE_ENDINGS if ending not in (".jpg", ".jpeg"))
"""File endings that label maps may have: JPEG's lossy compression changes label values."""

FOLDS = 5


class Case(Frozen):
    """One training case."""

    id: str
    images: tuple[Path, ...]
    """One file per channel, or one file that holds all channels."""
    label: Path


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


class Split(Frozen):
    """Cases of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Splits(Artefact):
    """Training and validation cases of every fold."""

    KIND: ClassVar[str] = "splits"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    folds: tuple[Split, ...]


def five_folds(case_ids: Sequence[str]) -> tuple[Split, ...]:
    """nnU-Net's five folds: ``KFold(5, shuffle=True, random_state=12345)`` of scikit-learn over the sorted identifiers.

    Source: nnunetv2 2.8.1, ``utilities/crossval_split.py``.

    Raises:
        DatasetError: There are fewer cases than folds.
    """
    ids = np.sort(np.array(list(case_ids)))
    if len(ids) < FOLDS:
        raise DatasetError(
            "five-fold cross-validation needs at least five training cases",
            found=f"{len(ids)} case{'s' if len(ids) != 1 else ''}",
            remedy="train one model on all cases with `-f all`, or add cases",
        )
    order = np.arange(len(ids))
    # scikit-learn's KFold shuffles with this legacy generator; any other gives other folds.
    np.random.RandomState(12345).shuffle(order)
    return tuple(
        Split(train=tuple(ids[np.sort(np.setdiff1d(order, held_out))].tolist()), validation=tuple(ids[np.sort(held_out)].tolist()))
        for held_out in np.array_split(order, FOLDS)
    )


def find_dataset(query: str, search: Sequence[Path]) -> Path:
    """The dataset folder that ``-d`` means.

    Args:
        query: A path, a folder's full name, a prefix of it (``Task04``) or its number (``4``).
        search: Folders that hold datasets, in order of preference.

    Raises:
        UsageError: Nothing matches, or several folders do; the message lists what is there.
    """
    as_path = Path(query).expanduser()
    if (as_path / "dataset.json").is_file() or (as_path.is_dir() and len(as_path.parts) > 1):
        return as_path.resolve()
    if as_path.name == "dataset.json" and as_path.is_file():
        return as_path.parent.resolve()
    candidates: dict[str, Path] = {}
    for folder in search:
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.is_dir() and (entry / "dataset.json").is_file():
                candidates.setdefault(entry.name, entry)
    matches = matching_folders(query, list(candidates))
    if len(matches) == 1:
        return candidates[matches[0]].resolve()
    where = ", ".join(str(folder) for folder in search) or "nowhere"
    if matches:
        raise UsageError(f"-d {query} is ambiguous", found=", ".join(matches), remedy="give the full name or the path")
    raise UsageError(
        f"no dataset '{query}'",
        found=", ".join(candidates) or "no folder with a dataset.json",
        expected=f"one of the folders in {where}",
        remedy="give a path, a name from this list, or the folder of datasets with --data",
    )


def matching_folders(query: str, names: Sequence[str]) -> list[str]:
    """Names that a query means: the one equal to it, else those of its number or that begin with it."""
    return [name for name in names if name == query] or [name for name in names if _means(query, name)]


def _means(query: str, name: str) -> bool:
    number = re.match(r"(?:Task|Dataset)0*(\d+)", name)
    if query.isdigit():
        return number is not None and int(number[1]) == int(query)
    asked = re.fullmatch(r"(?:Task|Dataset)0*(\d+)", query)
    if asked is not None:
        return number is not None and number[1] == asked[1] and name.startswith(query.rstrip("0123456789"))
    return name.startswith(query)


def read_dataset(root: Path) -> DatasetSpec:
    """Reads dataset.json and lists the cases.

    Args:
        root: The dataset folder, in the Decathlon's or nnU-Net's layout.

    Raises:
        DatasetError: dataset.json is missing, malformed or contradicts the files; ``problems`` has every finding.
    """
    path = root / "dataset.json"
    raw = _load(path)
    channels, labels = channels_and_labels(raw, path)
    problems: list[Problem] = []
    listed = raw.get("training")
    if isinstance(listed, list) and listed:
        cases, ending = _listed_cases(root, listed, problems, path)
    elif isinstance(raw.get("dataset"), dict):
        rows = [{"id": key, **entry} for key, entry in raw["dataset"].items() if isinstance(entry, dict)]
        cases, ending = _listed_cases(root, rows, problems, path)
    else:
        cases, ending = _found_cases(root, raw, len(channels), problems)
    if not cases and not problems:
        raise DatasetError(f"{root}: no training cases", expected="images in imagesTr and label maps in labelsTr")
    if problems:
        count = len(problems)
        raise DatasetError(f"{root.name}: {count} problem{'s' if count > 1 else ''} with the files of the dataset", problems=problems)
    return DatasetSpec(
        name=root.resolve().name,
        root=root.resolve(),
        channels=channels,
        labels=labels,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        file_ending=ending,
    )


def read_labels_of(root: Path) -> LabelSpec:
    """The labels of a dataset folder, from its dataset.json alone. Raises DatasetError."""
    return channels_and_labels(_load(root / "dataset.json"), root / "dataset.json")[1]


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
    for file in sorted(files):
        stem = stems[file]
        case = stem[:-5] if re.search(r"_\d{4}$", stem) and stem[:-5] in firsts else stem
        groups.setdefault(case, []).append(file)
    return {case: tuple(paths) for case, paths in groups.items()}


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder, sorted; hidden files (macOS leaves ``._*`` in archives) are passed over."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file() and split_ending(entry)[1])


def _load(path: Path) -> dict[str, Any]:
    remedy = "write one as docs/reference/dataset-format.md shows"
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetError(f"{path.parent}: no dataset.json in this folder", remedy=remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not valid JSON", found=error, remedy="correct it at that place") from None
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: malformed", found=f"a JSON {type(raw).__name__}", expected="a JSON object", remedy=remedy)
    return raw


def channels_and_labels(raw: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], LabelSpec]:
    """What a dataset.json says about channels and labels, without looking at any file.

    Args:
        raw: Its content.
        path: Stands for it in messages.

    Raises:
        DatasetError: Channels or labels are missing, malformed or contradictory.
    """
    return _channels(raw, path), _labels(raw, path)


def _channels(raw: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    named = raw.get("channel_names", raw.get("modality"))
    if isinstance(named, dict) and named and all(str(key).isdigit() for key in named):
        return tuple(str(named[key]) for key in sorted(named, key=int))
    raise DatasetError(
        f"{path}: 'channel_names' (or 'modality') is missing or malformed",
        found=json.dumps(named),
        expected='an object such as {"0": "MRI"}',
        remedy="name every channel: the name chooses the normalisation ('CT' is special)",
    )


def _labels(raw: Mapping[str, Any], path: Path) -> LabelSpec:
    declared = raw.get("labels")
    expected = 'an object such as {"background": 0, "tumour": 1}'
    if not isinstance(declared, dict) or not declared:
        raise DatasetError(f"{path}: 'labels' is missing or malformed", found=json.dumps(declared), expected=expected)
    pairs: list[tuple[str, Any]]
    if all(key.lstrip("-").isdigit() and isinstance(value, str) for key, value in declared.items()):
        pairs = [(value, int(key)) for key, value in declared.items()]
    else:
        pairs = list(declared.items())
    classes, ignore, background, overlapping = [], None, None, False
    for name, value in pairs:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
            raise DatasetError(f"{path}: label '{name}' is malformed", found=json.dumps(value), expected="an integer or a list of integers")
        if values == [0]:
            background = name
        elif name.lower() == "ignore" and len(values) == 1:
            ignore = values[0]
        else:
            overlapping |= len(values) > 1
            classes.append(StructureClass(name=name, values=tuple(values)))
    if background is None:
        raise DatasetError(f"{path}: no label has the value 0", expected=expected, remedy="name the background")
    if not classes:
        raise DatasetError(f"{path}: 'labels' has no foreground class", found=json.dumps(declared), expected=expected)
    paint = raw.get("regions_class_order")
    if overlapping and not (isinstance(paint, list) and all(isinstance(item, int) for item in paint)):
        raise DatasetError(
            f"{path}: regions need 'regions_class_order'",
            found=json.dumps(paint),
            expected=f"a list of {len(classes)} label values, painted in that order",
        )
    if not overlapping:
        classes.sort(key=lambda entry: entry.values)
    try:
        return LabelSpec(
            classes=tuple(classes),
            overlapping=overlapping,
            ignore_value=ignore,
            paint_order=tuple(paint) if overlapping and isinstance(paint, list) else (),
            background_name=background,
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DatasetError(f"{path}: {message}", found=json.dumps(declared)) from None


def _listed_cases(root: Path, rows: list[Any], problems: list[Problem], path: Path) -> tuple[list[Case], str]:
    cases, seen, ending = [], set(), ""
    for position, row in enumerate(rows):
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        label = row.get("label") if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if not isinstance(images, list) or not images or not all(isinstance(item, str) for item in images) or not isinstance(label, str):
            raise DatasetError(
                f"{path}: entry {position + 1} of the training cases is malformed",
                found=json.dumps(row),
                expected='{"image": "./imagesTr/case.nii.gz", "label": "./labelsTr/case.nii.gz"}',
            )
        files = tuple(root / item for item in images)
        label_file = root / label
        case_id = str(row.get("id") or re.sub(r"_0000$", "", split_ending(label_file)[0]))
        ending = ending or split_ending(files[0])[1]
        if case_id in seen:
            problems.append(Problem(case_id, "is listed twice in dataset.json", "remove one entry"))
            continue
        seen.add(case_id)
        missing = [file for file in (*files, label_file) if not file.is_file()]
        problems.extend(
            Problem(
                case_id,
                f"file not found: {file.relative_to(root) if file.is_relative_to(root) else file}",
                "restore the file or remove the entry",
            )
            for file in missing
        )
        unreadable = [file.name for file in files if not split_ending(file)[1]]
        unreadable += [label_file.name] if split_ending(label_file)[1].lower() not in LABEL_ENDINGS else []
        problems.extend(
            Problem(case_id, f"file type not supported: {name}", f"use one of {' '.join(LABEL_ENDINGS)}") for name in unreadable
        )
        if not missing and not unreadable:
            cases.append(Case(id=case_id, images=files, label=label_file))
    return cases, ending


def _found_cases(root: Path, raw: Mapping[str, Any], channels: int, problems: list[Problem]) -> tuple[list[Case], str]:
    images, labels = image_files(root / "imagesTr"), image_files(root / "labelsTr")
    for name, files in (("imagesTr", images), ("labelsTr", labels)):
        if not files:
            raise DatasetError(
                f"{root}: no images in {name}" if (root / name).is_dir() else f"{root}: no folder {name}",
                expected=f"files with one of the endings {' '.join(IMAGE_ENDINGS)}",
            )
    ending = str(raw.get("file_ending") or split_ending(images[0])[1])
    chosen = [file for file in images if file.name.lower().endswith(ending.lower())]
    if not chosen:
        raise DatasetError(
            f"{root}: no image in imagesTr has the 'file_ending' of dataset.json", found=images[0].name, expected=f"*{ending}"
        )
    cases: list[Case] = []
    by_case: dict[str, Path] = {}
    for file in labels:
        stem, label_ending = split_ending(file)
        if stem in by_case:
            problems.append(Problem(stem, f"two label maps: {by_case[stem].name} and {file.name}", "keep one"))
        elif label_ending.lower() not in LABEL_ENDINGS:
            problems.append(Problem(stem, f"label map {file.name} is a JPEG, whose compression changes values", "save it as PNG"))
        by_case.setdefault(stem, file)
    groups = group_channels(chosen)
    for case_id, paths in groups.items():
        numbers = [int(match[1]) for file in paths if (match := re.search(r"_(\d{4})$", split_ending(file)[0]))]
        if numbers and numbers != list(range(len(numbers))):
            problems.append(Problem(case_id, f"channel files {numbers} have gaps", "number them from _0000 on"))
        elif len(paths) not in (1, channels):
            problems.append(
                Problem(case_id, f"{len(paths)} channel files for {channels} channels in dataset.json", "add the missing files")
            )
        elif case_id not in by_case:
            problems.append(Problem(case_id, "image without a label map in labelsTr", "add the label map or remove the image"))
        else:
            cases.append(Case(id=case_id, images=paths, label=by_case[case_id]))
    problems.extend(
        Problem(case_id, f"label map {file.name} without an image in imagesTr", "add the image or remove the label map")
        for case_id, file in by_case.items()
        if case_id not in groups
    )
    return cases, ending
