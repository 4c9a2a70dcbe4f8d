"""Tables of cases: CSV, TSV or JSON with a row for each, as people keep them; paths are relative to the table."""

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autounet.dataset_json import MOST_FOLDS, patient_name
from autounet.dataset_search import absolute
from autounet.errors import DatasetError, Problem
from autounet.image_names import image_exists, image_format, split_ending

TABLE_ENDINGS = (".csv", ".tsv", ".json")

COLUMNS = ("image", "label", "id", "patient", "fold", "annotated")
"""Beside these ``image_0``, ``image_1``, … and the names of channels."""


@dataclass(frozen=True, slots=True)
class TableCase:
    """One row."""

    where: str
    """For messages: ``row 2`` is the first below the heading, as a spreadsheet counts."""
    id: str
    """Of the column, else the label map's name, else the image's."""
    images: tuple[Path, ...]
    label: Path | None = None
    patient: str | None = None
    fold: int | None = None
    annotated: tuple[str, ...] | None = None
    """Names of classes; None for all."""


@dataclass(slots=True)
class _Reading:
    """A table as it is being read, with everything that is wrong with it."""

    folder: Path
    channels: tuple[str, ...]
    labelled: bool
    problems: list[Problem] = field(default_factory=list)

    def fault(self, where: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(where, what, remedy))


def read_table(path: Path, channels: Sequence[str] = (), labelled: bool = True) -> list[TableCase]:
    """The cases of a table.

    Args:
        path: ``.csv`` (commas, semicolons or tabs; a byte-order mark is passed over), ``.tsv``, or ``.json``: a list of objects.
        channels: Names that columns of images may have, in their order.
        labelled: Every case needs a label map; else the column is passed over.

    Raises:
        DatasetError: The table cannot be read, or rows are wrong; ``problems`` has every finding, with its row.
    """
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    reading = _Reading(absolute(path).parent, tuple(channels), labelled)
    if not rows:
        raise DatasetError(f"{path}: no cases in it", expected="a row for each case", remedy=f"columns are {', '.join(COLUMNS)}")
    _check_columns(rows, reading)
    cases = [case for where, row in rows if (case := _case(where, row, reading)) is not None]
    reading.problems += repetitions(cases)
    if reading.problems:
        count = len(reading.problems)
        raise DatasetError(f"{path}: {count} problem{'s' if count > 1 else ''} with {len(rows)} rows", problems=reading.problems)
    return cases


def repetitions(cases: Sequence[TableCase]) -> list[Problem]:
    """Names, images and label maps that two cases share; names also where only capitals tell them apart."""
    found: list[Problem] = []
    ids: dict[str, TableCase] = {}
    files: dict[str, tuple[str, TableCase]] = {}
    for case in cases:
        other = ids.setdefault(case.id.casefold(), case)
        if other is not case:
            alike = f"the name '{case.id}' is also that of {other.where}"
            alike = alike if other.id == case.id else f"'{case.id}' and '{other.id}' of {other.where} differ in capitals alone"
            found.append(Problem(case.where, alike, "give each case a name of its own (id)"))
        named = [("image", image) for image in case.images] + ([("label map", case.label)] if case.label is not None else [])
        for kind, file in named:
            real = os.path.realpath(file)
            if real in files:
                before, owner = files[real]
                who = "itself" if owner is case else owner.where
                found.append(Problem(case.where, f"{kind} {file.name} is also the {before} of {who}", "each file belongs to one case"))
            files.setdefault(real, (kind, case))
    return found


def safe_name(text: str) -> str:
    """A name of a case that every file system can have, as near to this text as can be."""
    return re.sub(r'[\s/\\:*?"<>|\x00-\x1f\x7f]+', "_", text.strip()).strip("._ ") or "case"


def _check_columns(rows: Sequence[tuple[str, Mapping[str, Any]]], reading: _Reading) -> None:
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    channels = {name.casefold() for name in reading.channels}
    known = [
        name for name in names if name in COLUMNS or name == "images" or re.fullmatch(r"image_\d+", name) or name.casefold() in channels
    ]
    for name in names:
        if name not in known:
            remedy = f"columns are {', '.join(COLUMNS)}, image_0, image_1, …; name it with --channel if it holds images, else remove it"
            reading.fault("columns", f"'{name}' is unknown", remedy)
    has_images = any(name in ("image", "images") or name.startswith("image_") or name.casefold() in channels for name in known)
    for column, there in (("image", has_images), ("label", "label" in known or not reading.labelled)):
        if not there:
            reading.fault("columns", f"none is named '{column}'", "name the columns in the first row")


def _case(where: str, row: Mapping[str, Any], reading: _Reading) -> TableCase | None:
    before = len(reading.problems)
    images = [_file(where, "image", value, reading) for value in _image_values(where, row, reading)]
    label = row.get("label") if reading.labelled else None
    label_file = _file(where, "label map", label, reading) if label else None
    if reading.labelled and label_file is None:
        reading.fault(where, "no label map is named", "name one, or remove the row")
    if not images:
        reading.fault(where, "no image is named", "name one, or remove the row")
    fold, annotated = _fold(where, row.get("fold"), reading), row.get("annotated")
    if len(reading.problems) > before:
        return None
    names = annotated if isinstance(annotated, list) else [part.strip() for part in re.split(r"[;,|]", str(annotated or ""))]
    stem = re.sub(r"_0000$", "", split_ending(label_file or images[0])[0])
    return TableCase(
        where,
        id=safe_name(str(row.get("id") or stem)),
        images=tuple(images),
        label=label_file,
        patient=_patient(row.get("patient")),
        fold=fold,
        annotated=tuple(str(name) for name in names if name) or None,
    )


def _patient(value: Any) -> str | None:
    """A patient's name; a number is one with and without decimals that are zero, which programs add to columns that have gaps."""
    name = "" if value is None else patient_name(value)
    return re.sub(r"^(\d+)\.0+$", r"\1", name) or None


def _image_values(where: str, row: Mapping[str, Any], reading: _Reading) -> list[str]:
    """What stands in the columns of images, in the channels' order."""
    several = row.get("images", row.get("image"))
    if isinstance(several, list):
        return [str(value) for value in several]
    single = [] if several in (None, "") else [str(several)]
    numbered = sorted((int(name[6:]), str(value)) for name, value in row.items() if re.fullmatch(r"image_\d+", name) and value)
    if numbered and [number for number, _ in numbered] != list(range(len(numbered))):
        reading.fault(where, f"images {', '.join(str(number) for number, _ in numbered)} have gaps", "number them from image_0 on")
    by_name = {name.casefold(): str(value) for name, value in row.items() if value}
    channels = [by_name[name.casefold()] for name in reading.channels if name.casefold() in by_name]
    if channels and len(channels) < len(reading.channels):
        absent = [name for name in reading.channels if name.casefold() not in by_name]
        reading.fault(where, f"no image for {', '.join(absent)}", "name an image for each channel")
    given = [values for values in (single, [value for _, value in numbered], channels) if values]
    if len(given) > 1:
        reading.fault(where, "images are named in columns of two kinds", "use 'image', or 'image_0', 'image_1', …, or names of channels")
    return given[0] if given else []


def _file(where: str, kind: str, value: Any, reading: _Reading) -> Path:
    path = located(str(value), reading.folder)
    if not _is_there(path):
        reading.fault(where, f"{kind} not found: {path}", "correct the path: it is relative to the table")
    elif not image_format(path):
        reading.fault(where, f"{kind} {path.name} is no image", "name a file with an ending of an image, or DICOM")
    return path


def located(text: str, folder: Path) -> Path:
    """A path as it stands in a table: relative to its folder; ``~`` is the home; from Windows also with backslashes."""
    path = _below(folder, text.strip())
    if "\\" in text and not _is_there(path):
        other = _below(folder, text.strip().replace("\\", "/"))
        return other if _is_there(other) else path
    return path


def _below(folder: Path, text: str) -> Path:
    try:
        return absolute(folder / Path(text).expanduser())
    except RuntimeError:  # ~ and nobody of that name
        return absolute(folder / text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or image_exists(path)
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _fold(where: str, value: Any, reading: _Reading) -> int | None:
    text = "" if value is None else str(value).strip()
    if text and (not re.fullmatch(r"\d{1,4}(\.0+)?", text) or int(float(text)) >= MOST_FOLDS):
        reading.fault(
            where, f"fold '{text}' is no number of a fold", "number folds from 0 on; leave it empty where a case is never held out"
        )
        return None
    return int(float(text)) if text else None


def _json_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    expected = 'a list such as [{"image": "a.nii.gz", "label": "a_seg.nii.gz"}]'
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the path") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not valid JSON", found=error, expected=expected) from None
    if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
        raise DatasetError(f"{path}: is no table of cases", found=f"a JSON {type(raw).__name__}", expected=expected)
    return [(f"entry {number}", row) for number, row in enumerate(raw, 1)]


def _csv_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows by column name; columns of the known names in small letters."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the path") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: is not in UTF-8", remedy="save it as 'CSV UTF-8' (Excel has it in the list of file types)") from None
    lines = text.splitlines()
    first = 1 if lines and re.fullmatch(r"sep=.", lines[0]) else 0  # Excel's own line
    heading = lines[first] if len(lines) > first else ""
    separator = "\t" if path.suffix.lower() == ".tsv" else lines[0][4] if first else max(",;\t", key=heading.count)
    reader = csv.reader(lines[first:], delimiter=separator, strict=True)
    rows: list[tuple[str, Mapping[str, Any]]] = []
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [_column(cell) for cell in cells]
                twice = sorted({name for name in names if name and names.count(name) > 1})
                if twice:
                    raise DatasetError(f"{path}: two columns of the name {', '.join(twice)}", remedy="keep one of them")
                continue
            where = f"row {reader.line_num + first}"
            if any(cell.strip() for cell in cells[len(names) :]) or any(
                cell.strip() and not name for name, cell in zip(names, cells, strict=False)
            ):
                found = f"{len(cells)} cells, but {len([name for name in names if name])} names of columns"
                raise DatasetError(f"{path}: {where} has cells without a column", found=found, remedy="quote cells that hold the separator")
            rows.append((where, {name: cell.strip() for name, cell in zip(names, cells, strict=False) if name}))
    except csv.Error as error:
        raise DatasetError(f"{path}: row {reader.line_num + first} cannot be read", found=error, remedy="check its quotes") from None
    return rows


def _column(cell: str) -> str:
    name = cell.strip()
    lower = name.lower().replace(" ", "_")
    return lower if lower in COLUMNS or re.fullmatch(r"image_\d+", lower) else name
