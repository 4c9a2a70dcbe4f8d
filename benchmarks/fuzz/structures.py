"""Target: DICOM SEG and RTSTRUCT as labels of a series; every element at any depth becomes another, in a file that can still be parsed."""

import io
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from autounet.images import read_labels, read_size, write_labels
from autounet.images.meaning import Meaning, Structure
from autounet.images.structures import names_in, structures_on
from benchmarks.fuzz.dicom import slice_file
from benchmarks.fuzz.mutate import NUMBERS, of_bytes
from benchmarks.fuzz.target import Target, try_all

CLASSES = {"background": 0, "liver": 1, "tumour": 2}
KINDS = ("DS", "IS", "US", "SS", "UL", "SL", "FD", "LO", "UI", "CS", "SH", "PN", "AT", "SQ")
TEXTS = (
    *("", "nan", "inf", "1e308", "-1", "0", "99999999999999", "1\\2", "\\"),
    *("BINARY", "FRACTIONAL", "LABELMAP", "POINT", "../..", "x" * 70),
)
MOST_DEPTH = 8


def _seeds(folder: Path) -> dict[str, bytes]:
    series = folder / "series"
    series.mkdir()
    for number in range(3):
        (series / f"IM{number}").write_bytes(slice_file(number))
    grid = read_size(series)[1]
    labels = np.zeros(grid.shape_zyx, np.uint8)
    labels[1, 1:3, 1:4], labels[2, 2, 2] = 1, 2
    named = [Structure(name=name, value=value, values=(value,), colour="#ff0000") for name, value in CLASSES.items() if value]
    found = {}
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        path = folder / f"seed{ending}"
        write_labels(path, labels, grid, series, Meaning(structures=tuple(named)))
        found[ending[1:]] = path.read_bytes()
        found[f"{ending[1:]}_of_others"] = _without_notes(found[ending[1:]])
        path.unlink()
    return found


def _without_notes(data: bytes) -> bytes:
    """As another program would have written it."""
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(data))
    dataset.walk(lambda parent, element: parent.__delitem__(element.tag) if element.tag.is_private else None)
    return _bytes_of(dataset)


def _bytes_of(dataset: Any) -> bytes:
    from pydicom import config

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config.settings.writing_validation_mode = config.IGNORE
        try:
            dataset.save_as(stream, enforce_file_format=False)
        finally:
            config.settings.writing_validation_mode = None
    return stream.getvalue()


def _changed(data: bytes, random: Random) -> bytes:
    if random.random() < 0.25:
        return of_bytes(data, random)
    from pydicom import dcmread

    try:
        dataset = dcmread(io.BytesIO(data))
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            places = list(_places(dataset))
            _change(*random.choice(places), random)
        return _bytes_of(dataset)
    except Exception:  # pydicom cannot write what an earlier change has left: other bytes then
        return of_bytes(data, random)


def _places(dataset: Any, depth: int = 0) -> Any:
    for element in dataset:
        yield dataset, element
        if element.VR == "SQ" and depth < MOST_DEPTH:
            for item in element.value:
                yield from _places(item, depth + 1)


def _change(parent: Any, element: Any, random: Random) -> None:
    from pydicom.dataelem import DataElement

    value = element.value
    match random.randrange(6):
        case 0:
            del parent[element.tag]
        case 1 if element.VR == "SQ":
            element.value = list(value) * random.choice((0, 2, 50))
        case 2 if element.VR in ("OB", "OW"):
            element.value = of_bytes(value, random)
        case 3 | 4 if element.VR in ("DS", "IS", "US", "UL", "FD") and value is not None:
            entries = [str(entry) for entry in value] if hasattr(value, "__iter__") and not isinstance(value, str) else [str(value)]
            number = random.choice(NUMBERS)
            entries[random.randrange(len(entries))] = f"{number:.9g}"[:16]
            if random.random() < 0.3:
                entries = entries * random.choice((2, 3)) if random.random() < 0.5 else entries[:-1]
            parent[element.tag] = _text(element.tag, element.VR, entries, number)
        case _:
            kind = element.VR if random.random() < 0.5 else random.choice(KINDS)
            if kind == "SQ":
                parent[element.tag] = DataElement(element.tag, kind, [])
            else:
                parent[element.tag] = _text(element.tag, kind, [random.choice(TEXTS)], random.choice(NUMBERS))


def _text(tag: Any, kind: str, entries: list[str], number: float) -> Any:
    """An element as it lies in a file, which pydicom does not judge."""
    from pydicom.dataelem import RawDataElement

    width = {"US": 2, "SS": 2, "AT": 4, "UL": 4, "SL": 4}.get(kind)
    if kind == "FD":
        content = np.float64(number).tobytes()
    elif width is not None:
        content = (int(number) % 2 ** (8 * width)).to_bytes(width, "little")
    else:
        content = "\\".join(entries).encode("utf-8")
        content += b" " * (len(content) % 2)
    return RawDataElement(tag, kind, len(content), content, 0, False, True)


def _read(data: bytes, folder: Path) -> None:
    path = folder / "drawn.dcm"
    path.write_bytes(data)
    try_all(
        [
            lambda: names_in(path),
            lambda: structures_on(folder / "series", path, CLASSES, missing_ok=True, later_wins=True),
            lambda: read_labels(path),
        ]
    )


TARGETS = (Target("structures", "DICOM segmentations and contours as labels of a series", _seeds, _read, _changed),)
