"""What the page says about the data: sizes, spacings, intensities and class volumes."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from autounet.fingerprint import CaseFingerprint, Fingerprint
from autounet.planners.words import percent


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity over all cases."""

    name: str
    median: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class over all cases."""

    name: str
    annotated: int
    """Cases in which it is annotated."""
    present: int
    """Cases that have a voxel of it."""
    median: str
    low: str
    high: str
    """Size where it is present."""


@dataclass(frozen=True, slots=True)
class DataSection:
    """The tables of the section."""

    spreads: tuple[Spread, ...]
    classes: tuple[ClassRow, ...]
    size_unit: str
    orientations: tuple[tuple[str, int], ...]
    """Orientation of the array axes z, y, x and how many cases have it, the most frequent first."""
    kept: str
    """Share of an image that is left after cropping to the nonzero region."""


def size_unit(fingerprint: Fingerprint) -> str:
    """Unit of class sizes: millilitres, or for planar images mm² where they have a scale, else pixels."""
    if fingerprint.ndim == 3:
        return "ml"
    return "pixels" if all(case.spacing_mm_zyx[1:] == (1.0, 1.0) for case in fingerprint.cases) else "mm²"


def voxel_size(fingerprint: Fingerprint, case: CaseFingerprint) -> float:
    """Size of one voxel of a case, in ``size_unit``."""
    z, y, x = case.spacing_mm_zyx
    return z * y * x / 1000 if fingerprint.ndim == 3 else y * x


def data_section(fingerprint: Fingerprint) -> DataSection:
    """The tables of a fingerprint."""
    cases = fingerprint.cases
    first = 3 - fingerprint.ndim
    spreads = []
    for axis in range(first, 3):
        spreads.append(_spread(f"size along {'zyx'[axis]}, voxels", [float(case.shape_zyx[axis]) for case in cases]))
    for axis in range(first, 3):
        spreads.append(_spread(f"spacing along {'zyx'[axis]}, mm", [case.spacing_mm_zyx[axis] for case in cases]))
    orientations: dict[str, int] = {}
    for case in cases:
        orientations[case.orientation] = orientations.get(case.orientation, 0) + 1
    return DataSection(
        tuple(spreads),
        tuple(_class_row(fingerprint, name) for name in fingerprint.labels.names),
        size_unit(fingerprint),
        tuple(sorted(((name, number) for name, number in orientations.items() if name), key=lambda entry: -entry[1])),
        percent(fingerprint.median_relative_size_after_crop),
    )


def data_payload(fingerprint: Fingerprint) -> dict[str, Any]:
    """What the page's charts need: per case its grid and the size of each class (None where it is not annotated)."""
    names = fingerprint.labels.names
    first = 3 - fingerprint.ndim
    rows = []
    for case in fingerprint.cases:
        voxel = voxel_size(fingerprint, case)
        sizes = [None if name not in case.class_voxels else short(case.class_voxels[name] * voxel) for name in names]
        rows.append([case.case, list(case.shape_zyx[first:]), [short(value) for value in case.spacing_mm_zyx[first:]], sizes])
    return {"unit": size_unit(fingerprint), "axes": list("zyx"[first:]), "cases": rows}


def short(value: float) -> float:
    """Five significant digits: the page need not be longer than people can see."""
    return float(f"{value:.5g}")


def figure(value: float) -> str:
    """A number with four significant digits; whole and large ones in full."""
    return f"{value:,.0f}" if abs(value) < 1e12 and (abs(value) >= 1000 or value == int(value)) else f"{value:.4g}"


def _spread(name: str, values: list[float]) -> Spread:
    return Spread(name, *(figure(value) for value in (median(values), min(values), max(values))))


def _class_row(fingerprint: Fingerprint, name: str) -> ClassRow:
    annotated = [case for case in fingerprint.cases if name in case.class_voxels]
    sizes = [case.class_voxels[name] * voxel_size(fingerprint, case) for case in annotated if case.class_voxels[name]]
    shown = (figure(median(sizes)), figure(min(sizes)), figure(max(sizes))) if sizes else ("–", "–", "–")
    return ClassRow(name, len(annotated), len(sizes), *shown)
