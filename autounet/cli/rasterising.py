"""Segments and contours of DICOM that a dataset names as labels: drawn once as label maps into the dataset's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autounet.cli.session import Session
from autounet.dataset_table import TableCase
from autounet.errors import AutounetError, DatasetError, ImageError, Problem
from autounet.image_names import DICOM, DRAWN_ENDINGS, image_format
from autounet.images import write_labels
from autounet.parallel import map_ordered
from autounet.planners.words import count


def is_drawn(label: Path) -> bool:
    """Whether labels are DICOM, so that they have names and no values."""
    return image_format(label) in (DICOM, *DRAWN_ENDINGS)


def drawn_labels(session: Session, root: Path, cases: Sequence[TableCase], labels: Mapping[str, int | list[int]]) -> None:
    """Writes ``labelsTr/<case>.nii.gz`` for cases whose labels are DICOM SEG or RTSTRUCT, on their images' grids.

    Raises:
        DatasetError: Structures cannot be drawn; ``problems`` has every failure, and nothing else is written.
    """
    if not cases:
        return
    from autounet.images.structures import structures_on

    values = {name: value for name, value in labels.items() if isinstance(value, int) and value != 0}

    def draw(case: TableCase) -> None:
        assert case.label is not None
        drawn, grid = structures_on(case.images[0], case.label, values, missing_ok=True)
        if not drawn.any():
            raise ImageError(f"{case.label}: has no voxel of {', '.join(values)}", remedy="check the names of the structures")
        write_labels(root / "labelsTr" / f"{case.id}.nii.gz", drawn, grid)

    problems: list[Problem] = []
    (root / "labelsTr").mkdir(parents=True, exist_ok=True)
    with session.runtime.progress("Drawing structures", len(cases)) as advance:
        for case, result in map_ordered(draw, cases, session.runtime.workers):
            if isinstance(result, AutounetError):
                problems.append(Problem.of(case.id, result, "correct the file, or leave the case out"))
            advance(1, case.id)
    if problems:
        raise DatasetError(f"structures of {count(len(problems), 'case')} cannot be drawn", problems=problems)
