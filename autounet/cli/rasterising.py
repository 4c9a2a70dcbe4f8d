"""Segments and contours of DICOM that a dataset names as labels: drawn once as label maps into the dataset's folder."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from autounet.artefact import partial_prefix, refusal, remove_leftovers
from autounet.cli.session import Session
from autounet.dataset_table import TableCase
from autounet.errors import ArtefactError, AutounetError, DatasetError, ImageError, Problem, UsageError
from autounet.image_names import DICOM, DRAWN_ENDINGS, image_format
from autounet.images import write_labels
from autounet.parallel import map_ordered
from autounet.planners.words import count
from autounet.portable import replace_file

MOST_NAMES = 20
"""Names of structures that are shown."""


def is_drawn(label: Path) -> bool:
    """Whether labels are DICOM, so that they have names and no values."""
    return image_format(label) in (DICOM, *DRAWN_ENDINGS)


def label_map_of(root: Path, case: TableCase) -> Path:
    """Where a case's structures are drawn to."""
    return root / "labelsTr" / f"{case.id}.nii.gz"


def check_drawing(root: Path, cases: Sequence[TableCase], labels: Mapping[str, int | list[int]], overwrite: bool | None) -> None:
    """Refuses, before any work, what could not be drawn or would replace label maps unasked.

    Args:
        root: The dataset's folder.
        cases: Those whose labels are DICOM.
        labels: Name → value.
        overwrite: Label maps that are there may be replaced; None where this cannot be asked for.

    Raises:
        UsageError: Two classes have names that structures cannot tell apart.
        DatasetError: Label maps are there already; ``problems`` has every one.
    """
    if not cases:
        return
    from autounet.images.painting import alike

    same = alike(_values(labels))
    if same is not None:
        raise UsageError(
            f"classes '{same[0]}' and '{same[1]}': one name for DICOM structures, as capitals, underscores and hyphens make no difference",
            remedy="give them names that differ in more, here and in the files",
        )
    there = [case for case in cases if label_map_of(root, case).exists()]
    if there and not overwrite:
        remedy = "move it away, or give the case another id"
        raise DatasetError(
            f"{root / 'labelsTr'}: {count(len(there), 'label map')} would be replaced; nothing was done",
            problems=[Problem(case.id, f"{label_map_of(root, case)} is there already", remedy) for case in there],
            remedy="--overwrite replaces them, also those that were corrected by hand" if overwrite is not None else None,
        )


@contextmanager
def drawn_labels(session: Session, root: Path, cases: Sequence[TableCase], labels: Mapping[str, int | list[int]]) -> Iterator[None]:
    """Writes ``labelsTr/<case>.nii.gz`` for cases whose labels are DICOM SEG or RTSTRUCT, on their images' grids.

    They come into their place together, when all could be drawn. Those that were not there before are removed if what is done with them
    fails.

    Raises:
        DatasetError: Structures cannot be drawn; ``problems`` has every failure, and nothing is written.
        ArtefactError: The folder cannot be written to.
    """
    if not cases:
        yield
        return
    folder = root / "labelsTr"
    made: list[Path] = [path for path in (folder, root) if not path.exists()]
    new = [label_map_of(root, case) for case in cases if not label_map_of(root, case).exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            with tempfile.TemporaryDirectory(prefix=partial_prefix(), dir=folder) as draft:
                _draw(session, Path(draft), cases, _values(labels))
                for case in cases:
                    replace_file(Path(draft) / f"{case.id}.nii.gz", label_map_of(root, case))
        except OSError as error:
            raise ArtefactError(f"{folder}: cannot be written", found=refusal(folder, error), remedy="check its permissions") from None
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.unlink()
        for path in made:
            with suppress(OSError):  # something else is in it
                path.rmdir()
        raise


def _values(labels: Mapping[str, int | list[int]]) -> dict[str, int]:
    return {name: value for name, value in labels.items() if isinstance(value, int) and value != 0}


def _draw(session: Session, folder: Path, cases: Sequence[TableCase], values: Mapping[str, int]) -> None:
    """Draws every case into a folder; warns of classes that are in none. Raises DatasetError."""
    from autounet.images.structures import structures_on

    def draw(case: TableCase) -> set[int]:
        assert case.label is not None
        drawn, grid = structures_on(case.images[0], case.label, values, missing_ok=True)
        if not drawn.any():
            raise ImageError(f"{case.label}: has no voxel of {', '.join(values)}", remedy="check the names of the structures")
        write_labels(folder / f"{case.id}.nii.gz", drawn, grid)
        return {int(value) for value in np.unique(drawn)}

    problems, found = list[Problem](), set[int]()
    with session.runtime.progress("Drawing structures", len(cases)) as advance:
        for case, result in map_ordered(draw, cases, session.runtime.workers):
            if isinstance(result, AutounetError):
                problems.append(Problem.of(case.id, result, "correct the file, or leave the case out"))
            else:
                found |= result
            advance(1, case.id)
    if problems:
        raise DatasetError(f"structures of {count(len(problems), 'case')} cannot be drawn", problems=problems)
    missing = [name for name, value in values.items() if value not in found]
    if missing:
        _tell_missing(session, cases, missing)


def _tell_missing(session: Session, cases: Sequence[TableCase], missing: Sequence[str]) -> None:
    """Says which names the files have, as a class that is in none of them is most often a slip of the pen."""
    from autounet.images.structures import names_in

    def names(case: TableCase) -> set[str]:
        assert case.label is not None
        return set(names_in(case.label))

    counts: Counter[str] = Counter()
    for _, result in map_ordered(names, cases, session.runtime.workers):
        if not isinstance(result, AutounetError):
            counts.update(result)
    shown = [f"'{name}' ({number})" for name, number in counts.most_common(MOST_NAMES)] + (["…"] if len(counts) > MOST_NAMES else [])
    whose = ", ".join(f"'{name}'" for name in missing)
    session.screen.warn(
        f"no DICOM file has a voxel of {whose}: nothing can be learnt of {'it' if len(missing) == 1 else 'them'}. "
        f"{count(len(cases), 'file')} {'has' if len(cases) == 1 else 'have'} {', '.join(shown)}: correct the names if these are meant"
    )
