"""The cases that the page shows slice by slice: which, and how they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autounet.dataset import Case, DatasetSpec
from autounet.errors import AutounetError, ImageError
from autounet.fingerprint import Fingerprint
from autounet.geometry import Grid
from autounet.image_names import image_files, split_ending
from autounet.images import read_channels, read_labels
from autounet.labels import IntArray
from autounet.report.evidence import Evidence
from autounet.report.overlay import with_unknown
from autounet.report.results import Results
from autounet.report.volumes import Packed, Raw, pack
from autounet.runtime import Runtime

Group = Literal["worst", "median", "best"]

WORST, MEDIAN, BEST = 4, 2, 2
"""Cases that are shown of each group."""

MOST_CHANNELS = 4
"""So many channels of an image are shown."""

FRAME, LONGEST_ESCAPE = 1500, "\\ud83d\\ude00"
"""Characters of a case in the page beside its slices, and what a character of its name may become in JSON."""

PATIENT_PLANES = ("axial", "coronal", "sagittal")
PATIENT_EDGES = ("APRL", "SIRL", "SIAP")
"""What is at the top, bottom, left and right edge of these planes: rows and columns grow as ``display_axes`` says, but head is up."""

ARRAY_PLANES = ("x–y", "x–z", "y–z")
"""Where a file does not know how it lies in the patient."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One case of the viewer."""

    case: str
    fold: str
    group: Group
    planes: tuple[str, ...]
    """Names of the planes across the axes z, y, x; one for planar images."""
    is_colour: bool
    """The channels are red, green and blue."""
    packed: Packed


@dataclass(frozen=True, slots=True)
class Viewer:
    """The cases, failures first, and those that could not be shown, with the reason."""

    shown: tuple[Shown, ...]
    failed: tuple[tuple[str, str], ...]


def choose_cases(means: Mapping[str, float | None]) -> dict[str, Group]:
    """The worst, median and best cases by their mean Dice, each once, worst first; cases without a mean are passed over.

    Of few cases the lower half are the worst.
    """
    known = {case: mean for case, mean in means.items() if mean is not None}
    ranked = sorted(known, key=lambda case: (known[case], case))
    worst = ranked[: min(WORST, max(1, len(ranked) // 2))]
    best = ranked[len(worst) :][-BEST:]
    between = ranked[len(worst) : len(ranked) - len(best)]
    middle = (len(ranked) - 1) / 2
    nearest = sorted(between, key=lambda case: abs(ranked.index(case) - middle))[:MEDIAN]
    groups: dict[str, Group] = dict.fromkeys(worst, "worst")
    groups |= dict.fromkeys((case for case in between if case in nearest), "median")
    groups |= dict.fromkeys(best, "best")
    return groups


def make_viewer(evidence: Evidence, results: Results, dataset: DatasetSpec, most_characters: int, runtime: Runtime) -> Viewer:
    """Reads and packs the chosen cases of a configuration, one at a time, into so many characters in all.

    What a case leaves of its share is there for the next ones.
    """
    chosen = choose_cases(results.case_dice)
    folds = {row.case: row.fold for row in results.rows}
    cases = {case.id: case for case in dataset.cases}
    files = {case: file for folder in results.folders for case, file in _predictions(folder).items()}
    shown: list[Shown] = []
    failed: list[tuple[str, str]] = []
    is_colour = has_colours(evidence)
    left = most_characters - sum(FRAME + len(LONGEST_ESCAPE) * len(name) for name in chosen)
    with runtime.progress("Slices for the report", len(chosen)) as advance:
        for place, (name, group) in enumerate(chosen.items()):
            try:
                raw, planes = _read(cases.get(name), files.get(name), name, evidence.fingerprint, is_colour)
                packed = pack(raw, left // (len(chosen) - place))
            except AutounetError as error:
                failed.append((name, str(error)))
            else:
                if packed is None:
                    failed.append((name, "too large to be shown here"))
                else:
                    shown.append(Shown(name, folds[name], group, planes, is_colour, packed))
                    left -= packed.size
            advance(1, name)
    return Viewer(tuple(shown), tuple(failed))


def viewer_payload(shown: Shown) -> dict[str, Any]:
    """What the page's viewer needs of a case."""
    packed = shown.packed
    return {
        "case": shown.case,
        "shape": list(packed.shape),
        "spacing": [float(f"{value:.5g}") for value in packed.spacing_mm],
        "planes": list(shown.planes),
        "edges": list(PATIENT_EDGES) if shown.planes == PATIENT_PLANES else [],
        "columns": packed.tile_columns,
        "sprites": list(packed.channels),
        "labels": packed.labels,
        "labelBytes": packed.label_bytes,
        "colour": shown.is_colour,
        "note": packed.note,
    }


def has_colours(evidence: Evidence) -> bool:
    """Whether the channels of an image are red, green and blue: by their names, or because the plan normalises them so."""
    names = tuple(name.lower() for name in evidence.fingerprint.channels)
    if names in (("r", "g", "b"), ("red", "green", "blue")):
        return True
    configurations = evidence.plan.configurations.values() if evidence.plan else ()
    schemes = {entry.scheme for configuration in configurations for entry in configuration.normalization}
    return len(names) == 3 and schemes == {"rgb"}


def _predictions(folder: Path) -> dict[str, Path]:
    return {split_ending(file)[0]: file for file in image_files(folder)} if folder.is_dir() else {}


def _read(case: Case | None, prediction: Path | None, name: str, fingerprint: Fingerprint, is_colour: bool) -> tuple[Raw, tuple[str, ...]]:
    """A case in the order in which it is shown, and the names of its planes. Raises AutounetError."""
    if case is None:
        raise ImageError(f"{name}: is not in the dataset any more")
    if prediction is None:
        raise ImageError(f"{name}: its prediction is not there any more", remedy="validate this fold again")
    channels, grid = read_channels(case.images, len(fingerprint.channels))
    labels = fingerprint.labels
    truth = labels.encode(_on_grid(case.label, channels.shape[1:]), name)
    found = labels.encode(_on_grid(prediction, channels.shape[1:]), name)
    truth = with_unknown(truth, found, labels, case.annotated)
    known = {entry.case: entry.orientation for entry in fingerprint.cases}
    order, flips = display_axes(grid, known.get(name, ""))
    volumes = [np.flip(volume.transpose(order), flips) for volume in (*channels[:MOST_CHANNELS], truth, found)]
    z, y, x = (grid.spacing_mm_zyx[axis] for axis in order)
    planes = ("slice",) if grid.ndim == 2 else PATIENT_PLANES if known.get(name) else ARRAY_PLANES
    return Raw(volumes[:-2], volumes[-2], volumes[-1], (z, y, x), one_window=is_colour), planes


def _on_grid(path: Path, shape: Sequence[int]) -> IntArray:
    values, _ = read_labels(path)
    if values.shape != tuple(shape):
        raise ImageError(f"{path}: has not the size of its image", found=values.shape, expected=tuple(shape))
    return values


def display_axes(grid: Grid, orientation: str) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """How to turn an array so that its planes are axial, coronal and sagittal, as radiologists see them.

    Args:
        grid: Of the image.
        orientation: Where its array axes point (see ``CaseFingerprint.orientation``); empty leaves the array as it is.

    Returns:
        The array axes in the order feet–head, front–back, right–left of the patient; and of the axes in that order those to reverse, so
        that indices grow towards head, back and the patient's left.
    """
    if not orientation or grid.ndim == 2:
        return (0, 1, 2), ()
    order = [next(axis for axis in range(3) if orientation[axis] in pair) for pair in ("SI", "PA", "LR")]
    flips = tuple(place for place, towards in enumerate("SPL") if orientation[order[place]] != towards)
    return (order[0], order[1], order[2]), flips
