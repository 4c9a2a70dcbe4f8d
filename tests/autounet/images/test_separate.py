"""One file per structure: names that are safe, masks that are whole."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autounet.errors import UsageError
from autounet.geometry import Grid
from autounet.images.meaning import Meaning, meaning_of
from autounet.images.separate import file_names, write_separate
from autounet.images.slicer import write_tables
from autounet.labels import LabelSpec, StructureClass

GRID = Grid(shape_zyx=(2, 3, 4), spacing_mm_zyx=(3.0, 2.0, 1.0))
REGIONS = LabelSpec(
    classes=(StructureClass(name="whole tumour", values=(1, 2)), StructureClass(name="core", values=(2,))),
    overlapping=True,
    paint_order=(1, 2),
)


def named(*names: str) -> Meaning:
    return meaning_of(LabelSpec(classes=tuple(StructureClass(name=name, values=(value,)) for value, name in enumerate(names, 1))))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("liver", "liver"), ("left kidney", "left_kidney"), ("../../etc/passwd", "etc_passwd"), ("/root", "root"), ("a\\b:c*", "a_b_c"),
        ("..", "label_1"), ("???", "label_1"), ("NUL", "NUL_"), ("con.txt", "con.txt_"), (".hidden", "hidden"),
        ("Leber (groß)", "Leber__groß"), ("肝臓", "肝臓"), ("x" * 300, "x" * 100),
    ],
)  # fmt: skip
def test_file_names_never_lead_anywhere(name: str, file: str) -> None:
    assert file_names(named(name)) == (file,)


@pytest.mark.parametrize(("one", "two"), [("a b", "a_b"), ("Liver", "liver"), ("x/", "x")])
def test_two_structures_of_one_file_name_are_told(one: str, two: str) -> None:
    with pytest.raises(UsageError, match="come to the same file name") as told:
        file_names(named(one, two))
    assert repr(one) in str(told.value)
    assert repr(two) in str(told.value)


def test_regions_are_whole_and_what_is_not_there_is_empty(tmp_path: Path) -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[0] = 1
    labels[0, 1, 1] = 2
    write_separate(tmp_path / "case", labels, GRID, ".nii.gz", None, meaning_of(REGIONS))
    whole, core = (np.asarray(nib.load(tmp_path / "case" / f"{name}.nii.gz").dataobj).T for name in ("whole_tumour", "core"))
    assert np.array_equal(whole, labels > 0)
    assert np.array_equal(core, labels == 2)
    write_separate(tmp_path / "none", np.zeros_like(labels), GRID, ".nii.gz", None, meaning_of(REGIONS))
    assert not np.asarray(nib.load(tmp_path / "none" / "core.nii.gz").dataobj).any()


def test_files_of_another_model_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    write_separate(tmp_path, labels, GRID, ".nii.gz", None, named("liver"))
    write_separate(tmp_path, labels, GRID, ".nii.gz", None, named("spleen"))
    assert "also holds files that are not of this model: liver.nii.gz" in caplog.text


def test_tables_say_that_an_outer_region_is_the_rest(tmp_path: Path) -> None:
    write_tables(tmp_path, meaning_of(REGIONS))
    assert '"whole tumour (the rest of it)"' in (tmp_path / "labels.itksnap.txt").read_text()
    assert "\n2 core 230 159 0 255\n" in (tmp_path / "labels.slicer.ctbl").read_text()
