"""What a dataset.json says about channels and labels, in the Decathlon's and nnU-Net's dialects; no other file is looked at."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autounet.errors import DatasetError
from autounet.labels import LabelSpec, StructureClass
from autounet.text_files import read_text

FORMAT_PAGE = "docs/reference/dataset-format.md"

LARGEST_LABEL = 2**31 - 1
"""Label maps are written with at most 32 bits."""

MOST_FOLDS = 1000
"""More are a mistake."""

MOST_SHOWN = 120
"""Characters of the file that a message quotes."""


def load_description(path: Path) -> dict[str, Any]:
    """The content of a dataset.json; a byte-order mark is passed over.

    Raises:
        DatasetError: The file is missing, is not JSON, or is not an object.
    """
    remedy = f"write one as {FORMAT_PAGE} shows"
    try:
        raw = json.loads(read_text(path, "utf-8-sig"))
    except FileNotFoundError:
        what = f"{path.parent}: no dataset.json in this folder" if path.name == "dataset.json" else f"{path}: no such file"
        raise DatasetError(what, remedy=remedy) from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the file and its permissions") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not valid JSON", found=error, remedy="correct it at that place") from None
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: malformed", found=f"a JSON {type(raw).__name__}", expected="a JSON object", remedy=remedy)
    return raw


def read_labels_of(root: Path) -> LabelSpec:
    """The labels of a dataset folder, from its dataset.json alone. Raises DatasetError."""
    return channels_and_labels(load_description(root / "dataset.json"), root / "dataset.json")[1]


def channels_and_labels(raw: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], LabelSpec]:
    """What a dataset.json says about channels and labels, without looking at any file.

    Args:
        raw: Its content.
        path: Stands for it in messages.

    Raises:
        DatasetError: Channels or labels are missing, malformed or contradictory.
    """
    return _channels(raw, path), _labels(raw, path)


def annotated_classes(raw: Mapping[str, Any], labels: LabelSpec, path: Path) -> dict[str, tuple[str, ...]]:
    """Which classes are annotated, by case, in the order of ``labels``: of cases that a dataset.json does not name, all are.

    Args:
        raw: Its content.
        labels: What it says about labels.
        path: Stands for it in messages.

    Raises:
        DatasetError: 'annotated' is malformed, or names what is no class or region.
    """
    declared = raw.get("annotated")
    if declared is None:
        return {}
    remedy = "name the classes that are annotated in a case; leave out cases in which all are"
    if not isinstance(declared, dict):
        expected = f'an object such as {{"case_1": ["{labels.names[0]}"]}}'
        raise DatasetError(f"{path}: 'annotated' is malformed", found=quoted(declared), expected=expected, remedy=remedy)
    found = {}
    for case, names in declared.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            what, expected = f"{path}: 'annotated' of case '{case}' is malformed", f'a list such as ["{labels.names[0]}"]'
            raise DatasetError(what, found=quoted(names), expected=expected, remedy=remedy)
        unknown = [name for name in names if name not in labels.names]
        if unknown:
            raise DatasetError(
                f"{path}: 'annotated' of case '{case}' names what is no class",
                found=quoted(unknown),
                expected=f"some of {', '.join(labels.names[:12])}{' …' if len(labels.names) > 12 else ''}",
                remedy="name classes as 'labels' does; the background is not among them",
            )
        found[case] = tuple(name for name in labels.names if name in names)
    return found


def patients_of(raw: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Whose image it is, by case, as 'groups' says; cases that it does not name stand alone.

    Args:
        raw: The content of a dataset.json.
        path: Stands for it in messages.

    Raises:
        DatasetError: 'groups' is malformed.
    """
    declared = raw.get("groups")
    if declared is None:
        return {}
    if not isinstance(declared, dict) or not all(_is_name(patient) for patient in declared.values()):
        raise DatasetError(
            f"{path}: 'groups' is malformed", found=quoted(declared), expected='an object such as {"case_1": "patient_A"}',
            remedy="name the patient of each case; cases of one patient stay in one fold",
        )  # fmt: skip
    return {case: patient_name(patient) for case, patient in declared.items()}


def patient_and_fold(row: Mapping[str, Any], position: int, path: Path) -> tuple[str | None, int | None]:
    """What the entry of a training case says about its patient and its fold. Raises DatasetError."""
    patient, fold = row.get("patient"), row.get("fold")
    for name, value, fine, expected in (
        ("patient", patient, _is_name(patient), "a name or number"),
        ("fold", fold, type(fold) is int and 0 <= fold < MOST_FOLDS, f"a whole number from 0 to {MOST_FOLDS - 1}"),
    ):
        if value is not None and not fine:
            what = f"{path}: '{name}' of entry {position + 1} of the training cases is malformed"
            raise DatasetError(what, found=quoted(value), expected=expected, remedy="correct it, or remove it")
    return (None if patient is None else patient_name(patient)), fold


def patient_name(value: object) -> str:
    """A patient's name as names are compared: without blanks around it, and in Unicode's composed form, which macOS takes apart."""
    return unicodedata.normalize("NFC", str(value)).strip()


def alike_patients(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names of patients that differ only in capitals, leading zeros or a decimal part that is zero, such as P01 and p1."""
    every, seen = sorted(set(names)), dict[str, str]()
    return [(first, name) for name in every if (first := seen.setdefault(_spelling(name), name)) != name]


def quoted(value: Any) -> str:
    """A part of the file for a message; 'nothing' for what is not there."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"


def _channels(raw: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    named = raw.get("channel_names", raw.get("modality"))
    if isinstance(named, dict) and named and all(_is_whole(key) and isinstance(name, str) for key, name in named.items()):
        return tuple(named[key] for key in sorted(named, key=int))
    raise DatasetError(
        f"{path}: 'channel_names' (or 'modality') is missing or malformed",
        found=quoted(named),
        expected='an object such as {"0": "MRI"}',
        remedy="name every channel: the name chooses the normalisation ('CT' is special)",
    )


def _labels(raw: Mapping[str, Any], path: Path) -> LabelSpec:
    declared = raw.get("labels")
    expected = 'an object such as {"background": 0, "tumour": 1}'
    if not isinstance(declared, dict) or not declared:
        remedy = "name the background and every structure with its value in the label maps"
        raise DatasetError(f"{path}: 'labels' is missing or malformed", found=quoted(declared), expected=expected, remedy=remedy)
    classes, ignore, background = [], None, None
    for name, values in _named_values(declared, path):
        if values == (0,):
            if background is not None:
                raise DatasetError(f"{path}: two labels have the value 0", found=quoted(declared), remedy="keep one as the background")
            background = name
        elif name.lower() == "ignore" and len(values) == 1:
            if ignore is not None:
                raise DatasetError(f"{path}: two labels are named 'ignore'", found=quoted(declared), remedy="keep one of them")
            ignore = values[0]
        else:
            classes.append(StructureClass(name=name, values=values))
    if background is None:
        raise DatasetError(f"{path}: no label has the value 0", found=quoted(declared), expected=expected, remedy="name the background")
    if not classes:
        remedy = "name the structures to be segmented"
        raise DatasetError(f"{path}: 'labels' has no foreground class", found=quoted(declared), expected=expected, remedy=remedy)
    overlapping = any(len(entry.values) > 1 for entry in classes)
    if not overlapping:
        classes.sort(key=lambda entry: entry.values)
    try:
        return LabelSpec(
            classes=tuple(classes),
            overlapping=overlapping,
            ignore_value=ignore,
            paint_order=_paint_order(raw, classes, path) if overlapping else (),
            background_name=background,
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DatasetError(f"{path}: {message}", found=quoted(declared), remedy=f"correct it as {FORMAT_PAGE} shows") from None


def _named_values(declared: Mapping[str, Any], path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and values of every label, whichever of the two is the key."""
    if all(re.fullmatch(r"-?[0-9]{1,20}", key) and isinstance(name, str) for key, name in declared.items()):
        pairs: list[tuple[str, Any]] = [(name, int(key)) for key, name in declared.items()]
    else:
        pairs = list(declared.items())
    found = []
    for name, value in pairs:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(item, int) and not isinstance(item, bool) and item <= LARGEST_LABEL for item in values):
            raise DatasetError(
                f"{path}: label '{name}' is malformed",
                found=quoted(value),
                expected=f"a whole number up to {LARGEST_LABEL}, or a list of them for a region",
                remedy="write the value that marks it in the label maps",
            )
        found.append((name, tuple(values)))
    return found


def _paint_order(raw: Mapping[str, Any], classes: list[StructureClass], path: Path) -> tuple[int, ...]:
    paint = raw.get("regions_class_order")
    known = {value for entry in classes for value in entry.values}
    if not isinstance(paint, list) or len(paint) != len(classes) or not all(type(item) is int and item in known for item in paint):
        raise DatasetError(
            f"{path}: regions need 'regions_class_order'",
            found=quoted(paint),
            expected=f"a list of {len(classes)} of the label values {', '.join(map(str, sorted(known)[:12]))}",
            remedy="give the value to paint for each region, in their order; later ones are painted over earlier ones",
        )
    for value, entry in zip(paint, classes, strict=True):
        if value not in entry.values or paint.count(value) > 1:
            raise DatasetError(
                f"{path}: 'regions_class_order' paints region '{entry.name}' with {value}",
                found=quoted(paint),
                expected=f"for each region a value of its own; '{entry.name}' has {', '.join(map(str, entry.values[:12]))}",
                remedy="give the value that marks the region and none painted after it",
            )
    return tuple(paint)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,20}", text) is not None


def _spelling(name: str) -> str:
    return re.sub(r"(?<![\d.,])0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", name.casefold()))


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value.strip() != "") or type(value) is int
