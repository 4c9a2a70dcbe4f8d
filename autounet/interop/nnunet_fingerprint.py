"""nnU-Net v2's dataset_fingerprint.json and dataset.json → our Fingerprint, so that a plan can be made from them alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from autounet.artefact import digest_of
from autounet.dataset_json import channels_and_labels
from autounet.errors import ArtefactError
from autounet.fingerprint import MOST_VOXELS, CaseFingerprint, Fingerprint, Intensities
from autounet.geometry import LARGEST_MM, SMALLEST_MM, Triple, TripleMm

PLANAR_SPACING = 999.0
"""nnU-Net gives planar images a first axis of one voxel and at least this times the spacing of the others."""

DATASET_JSON = Path("dataset.json")

LARGEST = 1e300

_STATISTICS = ("mean", "std", "min", "max", "median", "percentile_00_5", "percentile_99_5")


def fingerprint_from_nnunet(
    fingerprint: Mapping[str, Any], dataset_json: Mapping[str, Any], name: str, path: Path = DATASET_JSON
) -> Fingerprint:
    """Reads nnU-Net's fingerprint.

    nnU-Net stores neither the cases' names, nor their size before cropping, nor class volumes: the cases are numbered,
    the size after cropping stands for both, and ``class_voxels`` is empty.

    Args:
        fingerprint: Content of dataset_fingerprint.json.
        dataset_json: Content of dataset.json (nnU-Net's or the Decathlon's dialect).
        name: Name of the dataset.
        path: Of dataset.json, for messages.

    Raises:
        ArtefactError: The fingerprint is malformed or does not belong to the dataset.json.
        DatasetError: dataset.json has no usable channels or labels.
    """
    channels, labels = channels_and_labels(dataset_json, path)
    spacings = [_spacing(row, number, name) for number, row in enumerate(_rows(fingerprint, "spacings", name))]
    shapes = [_shape(row, number, name) for number, row in enumerate(_rows(fingerprint, "shapes_after_crop", name))]
    if len(spacings) != len(shapes):
        raise _malformed(name, "'spacings' and 'shapes_after_crop'", f"{len(spacings)} and {len(shapes)} entries", "one each per case")
    training = dataset_json.get("numTraining", len(shapes))
    if training != len(shapes):
        raise _malformed(name, "the number of cases", len(shapes), f"{training}, 'numTraining' of dataset.json")
    relative = fingerprint.get("median_relative_size_after_cropping")
    if not _is_number(relative) or not 0 < relative <= 1:
        raise _malformed(name, "'median_relative_size_after_cropping'", repr(relative), "a number above 0, at most 1")
    planar = all(
        shape[0] == 1 and spacing[0] >= 0.999 * PLANAR_SPACING * max(spacing[1:]) for shape, spacing in zip(shapes, spacings, strict=True)
    )
    width = len(str(len(shapes) - 1))
    return Fingerprint(
        made_from={"dataset_fingerprint.json": digest_of(dict(fingerprint)), "dataset.json": digest_of(dict(dataset_json))},
        dataset=name,
        ndim=2 if planar else 3,
        channels=channels,
        labels=labels,
        cases=tuple(
            CaseFingerprint(
                case=f"case_{number:0{width}d}", shape_zyx=shape, shape_after_crop_zyx=shape, spacing_mm_zyx=spacing, class_voxels={}
            )
            for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
        ),
        intensities=_intensities(fingerprint, len(channels), name),
        median_relative_size_after_crop=float(relative),
    )


def _rows(fingerprint: Mapping[str, Any], key: str, name: str) -> list[Any]:
    rows = fingerprint.get(key)
    if not isinstance(rows, list) or not rows:
        raise _malformed(name, f"'{key}'", _shown(rows), "a list with one entry per case")
    return rows


def _spacing(row: Any, number: int, name: str) -> TripleMm:
    if not isinstance(row, list) or len(row) != 3 or not all(_is_number(value) and SMALLEST_MM <= value <= LARGEST_MM for value in row):
        raise _malformed(
            name, f"'spacings' of case {number}", _shown(row), f"three positive numbers, in mm, from {SMALLEST_MM:g} to {LARGEST_MM:g}"
        )
    a, b, c = (float(value) for value in row)
    return a, b, c


def _shape(row: Any, number: int, name: str) -> Triple:
    if (
        not isinstance(row, list)
        or len(row) != 3
        or not all(_is_number(value) and 1 <= value <= MOST_VOXELS and value == int(value) for value in row)
    ):
        raise _malformed(name, f"'shapes_after_crop' of case {number}", _shown(row), f"three positive integers up to {MOST_VOXELS}")
    a, b, c = (int(value) for value in row)
    return a, b, c


def _intensities(fingerprint: Mapping[str, Any], channels: int, name: str) -> tuple[Intensities, ...]:
    key = "foreground_intensity_properties_per_channel"
    table = fingerprint.get(key)
    if not isinstance(table, dict) or set(table) != {str(channel) for channel in range(channels)}:
        expected = f"an object with the keys 0 to {channels - 1}, one per channel of dataset.json"
        raise _malformed(name, f"'{key}'", sorted(table) if isinstance(table, dict) else _shown(table), expected)
    read = []
    for channel in range(channels):
        values = table[str(channel)]
        for statistic in _STATISTICS:
            value = values.get(statistic) if isinstance(values, dict) else None
            if not _is_number(value) or (statistic == "std" and value < 0):
                expected = f"a finite number{' that is not negative' if statistic == 'std' else ''}"
                raise _malformed(name, f"'{statistic}' of channel {channel}", repr(value), expected)
        read.append(Intensities(**{statistic: float(values[statistic]) for statistic in _STATISTICS}))
    return tuple(read)


def _is_number(value: Any) -> TypeGuard[float]:
    # Compared, not converted: JSON may hold integers that no float can.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _malformed(name: str, what: str, found: object, expected: object) -> ArtefactError:
    return ArtefactError(
        f"dataset_fingerprint.json of {name}: {what} cannot be used", found=found, expected=expected, remedy="extract the fingerprint again"
    )
