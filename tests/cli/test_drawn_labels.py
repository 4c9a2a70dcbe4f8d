"""``autounet dataset`` with labels that are DICOM contours: names that fit and names that do not, and what is on the disk already."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autounet.dataset import read_dataset
from autounet.images import read_labels, read_size, write_labels

pytest.importorskip("highdicom")

from autounet.images.meaning import Meaning, Structure
from tests.autounet.images.dicom_writing import save_all, series

Autounet = Callable[..., Any]
SHAPE_ZYX = (4, 8, 8)
CREATE = ("dataset", "create", "D", "--images", "scans/*/ct", "--labels", "scans/*/drawn.dcm", "--channel", "CT")


def scan(folder: Path, structures: Mapping[str, int]) -> None:
    """A series of one case with contours: each structure is a square of 9 voxels in the slice of the given number."""
    planes = save_all(series(np.zeros(SHAPE_ZYX, np.int16), name=str(folder)), folder / "ct")
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    for value, z in enumerate(structures.values(), 1):
        labels[z, 2:5, 2:5] = value
    named = [Structure(name=name, value=value, values=(value,), colour="#ff0000") for value, name in enumerate(structures, 1)]
    write_labels(folder / "drawn.rtstruct.dcm", labels, read_size(planes)[1], planes, Meaning(structures=tuple(named)))
    (folder / "drawn.rtstruct.dcm").rename(folder / "drawn.dcm")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two cases; the second has no tumour."""
    scan(tmp_path / "scans" / "a", {"Heart": 1, "tumour": 2})
    scan(tmp_path / "scans" / "b", {"Heart": 1, "BODY": 3})
    return tmp_path


def voxels(path: Path) -> dict[int, int]:
    """Value → number of voxels, without the background."""
    values, counts = np.unique(read_labels(path)[0], return_counts=True)
    return {int(value): int(number) for value, number in zip(values, counts, strict=True) if value != 0}


def test_classes_that_are_one_name_for_structures_are_refused(scans: Path, refused: Autounet) -> None:
    for names in (("Heart", "heart"), ("kidney_left", "Kidney-Left")):
        given = [word for name in names for word in ("--class", name)]
        refused(2, [f"classes '{names[0]}' and '{names[1]}'", "capitals, underscores and hyphens"], *CREATE, *given, cwd=scans)
    assert not (scans / "D").exists()


def test_a_class_that_no_file_has_is_told_with_the_names_that_they_have(scans: Path, autounet: Autounet) -> None:
    ended = autounet(*CREATE, "--class", "Heart", "--class", "Tumor", cwd=scans)
    assert ended.code == 0, ended
    assert "no DICOM file has a voxel of 'Tumor'" in ended.text
    assert "2 files have 'Heart' (2), " in ended.text
    assert "'tumour' (1)" in ended.text
    assert [voxels(case.label) for case in read_dataset(scans / "D").cases] == [{1: 9}, {1: 9}]
    assert "no DICOM file" not in autounet(*CREATE, "--class", "Heart", "--class", "tumour", "--overwrite", cwd=scans).text


def test_label_maps_that_are_there_are_replaced_only_when_asked(scans: Path, autounet: Autounet, refused: Autounet) -> None:
    mine = scans / "D" / "labelsTr" / "b.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"corrected by hand")
    ended = refused(
        1, ["1 label map would be replaced", "--overwrite", "b.nii.gz is there already"], *CREATE, "--class", "Heart", cwd=scans
    )
    assert "Drawing" not in ended.text
    assert (mine.read_bytes(), list(mine.parent.iterdir())) == (b"corrected by hand", [mine])
    assert autounet(*CREATE, "--class", "Heart", "--overwrite", cwd=scans).code == 0
    assert voxels(mine) == {1: 9}


def test_of_cases_that_cannot_all_be_drawn_nothing_is_left(scans: Path, refused: Autounet, kit: SimpleNamespace) -> None:
    """Also not when what is there may be replaced: it stays."""
    tumour = (*CREATE, "--class", "tumour")  # which the second case has not
    refused(1, ["structures of 1 case cannot be drawn", "b"], *tumour, cwd=scans)
    assert not (scans / "D").exists()
    mine = scans / "D" / "labelsTr" / "a.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"corrected by hand")
    before = kit.snapshot(scans / "D")
    refused(1, ["structures of 1 case cannot be drawn"], *tumour, "--overwrite", cwd=scans)
    assert kit.snapshot(scans / "D") == before


def test_what_is_added_replaces_nothing_either(scans: Path, autounet: Autounet, refused: Autounet) -> None:
    assert autounet(*CREATE, "--class", "Heart", cwd=scans).code == 0
    scan(scans / "later" / "c", {"Heart": 1})
    other = scans / "D" / "labelsTr" / "c.nii.gz"
    other.write_bytes(b"of somebody else")
    add = ("dataset", "add", "-d", "D", "--images", "later/*/ct", "--labels", "later/*/drawn.dcm", "--id", "{1}")
    assert "--overwrite" not in refused(1, ["c.nii.gz is there already", "another id"], *add, cwd=scans).text
    assert other.read_bytes() == b"of somebody else"
    other.unlink()
    ended = autounet(*add, cwd=scans)
    assert ended.code == 0, ended
    assert voxels(other) == {1: 9}
