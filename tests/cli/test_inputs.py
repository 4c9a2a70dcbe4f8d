"""Which files of those that `predict -i` is given are images, which are channels of one case, and which are passed over."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autounet.cli.inputs import find_inputs, warn_of_passed_over


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("named", ["case_0000.nii.gz", "case_0001.nii.gz"])
def test_any_channel_stands_for_its_case(tmp_path: Path, named: str) -> None:
    touched(tmp_path, "case_0000.nii.gz", "case_0001.nii.gz", "other_0000.nii.gz")
    assert find_inputs(tmp_path / named, 2) == {"case": (tmp_path / "case_0000.nii.gz", tmp_path / "case_0001.nii.gz")}


def test_a_number_alone_makes_no_channel(tmp_path: Path) -> None:
    """Without a file _0000 beside it, and for a model of one channel, scan_0007 is the name of a scan."""
    touched(tmp_path, "scan_0007.nii.gz", "case_0000.nii.gz", "case_0001.nii.gz")
    assert find_inputs(tmp_path / "scan_0007.nii.gz", 2) == {"scan_0007": (tmp_path / "scan_0007.nii.gz",)}
    assert find_inputs(tmp_path / "case_0001.nii.gz", 1) == {"case_0001": (tmp_path / "case_0001.nii.gz",)}
    assert find_inputs(tmp_path / "case_0000.nii.gz", 1) == {"case": (tmp_path / "case_0000.nii.gz",)}


def test_files_that_are_passed_over_are_told(tmp_path: Path) -> None:
    touched(tmp_path, "a.nii.gz", "b.mhd", "b.zraw", "scan.vol", "notes.docx", "dataset.json", ".DS_Store")
    (tmp_path / "c.ome.zarr").mkdir()
    told: list[str] = []
    session: Any = SimpleNamespace(screen=SimpleNamespace(warn=told.append))
    cases = find_inputs(tmp_path, 1)
    assert list(cases) == ["a", "b", "c"]
    warn_of_passed_over(session, tmp_path, cases)
    assert told == ["passed over, not named as images: 2 files (notes.docx, scan.vol)"]
    told.clear()
    for images in (tmp_path / "a.nii.gz", tmp_path / "c.ome.zarr"):
        warn_of_passed_over(session, images, {"a": (images,)})
    assert told == []


def test_a_folder_that_is_an_image(tmp_path: Path) -> None:
    image = tmp_path / "c.ome.zarr"
    image.mkdir()
    assert find_inputs(image, 1) == {"c": (image,)}
