"""Scoring of folders: matching by name, every problem at once."""

import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nibabel")
import nibabel

from autounet.errors import DatasetError, UsageError
from autounet.evaluation.folders import evaluate_cases, evaluate_folders
from autounet.geometry import Grid
from autounet.images import write_labels
from autounet.labels import LabelSpec, StructureClass
from autounet.runtime import Runtime

LABELS = LabelSpec(classes=(StructureClass(name="one", values=(1,)), StructureClass(name="two", values=(2,))))
RUNTIME = Runtime(workers=0)


def write(path: Path, row: str, spacing: float = 1.0) -> Path:
    """A label map of one row of voxels: ``"0112"``."""
    path.parent.mkdir(exist_ok=True)
    array = np.array([int(digit) for digit in row], np.uint8).reshape(-1, 1, 1)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([spacing, 1, 1, 1])), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases; the second prediction has another ending than its truth."""
    write(tmp_path / "truth" / "a.nii.gz", "0112")
    write(tmp_path / "truth" / "b.nii.gz", "0000")
    write(tmp_path / "prediction" / "a.nii.gz", "0122")
    write(tmp_path / "prediction" / "b.nii", "0100")
    return tmp_path / "prediction", tmp_path / "truth"


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_matched_by_name_whatever_their_ending(folders: tuple[Path, Path], workers: int) -> None:
    scores = evaluate_folders(*folders, LABELS, Runtime(workers=workers))
    # a: one tp 1 fn 1 → 2/3, two tp 1 fp 1 → 2/3;  b: one fp 1 → 0, two undefined.
    assert scores.cases["a"]["one"].dice == pytest.approx(2 / 3)
    assert scores.cases["b"]["one"].dice == 0
    assert scores.cases["b"]["two"].dice is None
    assert scores.classes["one"].dice == pytest.approx(1 / 3)
    assert scores.classes["two"].dice == pytest.approx(2 / 3)
    assert scores.mean.dice == pytest.approx(1 / 2)


def test_formats_that_know_no_place_are_compared_voxel_by_voxel(tmp_path: Path) -> None:
    """TIFF holds distances, but neither origin nor directions; other distances are refused as ever."""
    values = np.array([0, 1, 1, 2], np.uint8).reshape(1, 1, 4).repeat(2, axis=0)
    turned = Grid(shape_zyx=values.shape, spacing_mm_zyx=(3, 2, 1), origin_mm_xyz=(7, 8, 9), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for folder, name, grid in (
        ("truth", "a.nii.gz", turned),
        ("prediction", "a.tif", Grid(shape_zyx=values.shape, spacing_mm_zyx=(3, 2, 1))),
        ("stretched", "a.tif", Grid(shape_zyx=values.shape, spacing_mm_zyx=(3, 2, 5))),
        ("moved", "a.nii.gz", turned.model_copy(update={"origin_mm_xyz": (0.0, 8.0, 9.0)})),
    ):
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / name, values, grid)
    assert evaluate_folders(tmp_path / "prediction", tmp_path / "truth", LABELS, RUNTIME).mean.dice == 1
    for other, words in (("stretched", "spacing"), ("moved", "origin")):
        with pytest.raises(DatasetError, match=words):
            evaluate_folders(tmp_path / other, tmp_path / "truth", LABELS, RUNTIME)


def test_without_labels_every_value_is_a_class(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "c.nii.gz", "0000")
    write(folders[0] / "c.nii.gz", "0000")
    scores = evaluate_folders(*folders, None, RUNTIME)
    assert list(scores.classes) == ["1", "2"]
    assert scores.classes["1"].dice == pytest.approx(1 / 3)
    assert scores.cases["c"]["2"].dice is None


def test_every_problem_of_every_case_is_reported_at_once(folders: tuple[Path, Path]) -> None:
    prediction, truth = folders
    write(truth / "missing1.nii.gz", "01")
    write(truth / "missing2.nii.gz", "01")
    write(truth / "shape.nii.gz", "011")
    write(prediction / "shape.nii.gz", "01")
    write(truth / "spacing.nii.gz", "01", spacing=2.0)
    write(prediction / "spacing.nii.gz", "01")
    write(truth / "value.nii.gz", "01")
    write(prediction / "value.nii.gz", "07")
    (truth / "broken.nii.gz").write_bytes(b"not an image")
    write(prediction / "broken.nii.gz", "01")
    with pytest.raises(DatasetError, match="5 problems") as caught:
        evaluate_folders(prediction, truth, LABELS, RUNTIME)
    found = {problem.case: problem.what for problem in caught.value.problems}
    assert set(found) == {"2 cases", "shape", "spacing", "value", "broken"}
    assert found["2 cases"] == f"no prediction in {prediction} for 2 of 8 truths: missing1, missing2"
    assert "shape 1×1×2 and 1×1×3" in found["shape"]
    assert "spacing" in found["spacing"]
    assert "7" in found["value"]
    assert all(problem.remedy for problem in caught.value.problems)


def test_truths_without_a_prediction_are_left_out_only_when_asked_for(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """Their remedy is never to delete labels."""
    complete = evaluate_folders(*folders, LABELS, RUNTIME)
    for number in range(7):
        write(folders[1] / f"missing{number}.nii.gz", "0112")
    with pytest.raises(DatasetError) as caught:
        evaluate_folders(*folders, LABELS, RUNTIME)
    (problem,) = caught.value.problems
    assert "7 of 9 truths: missing0, missing1, missing2, missing3, missing4, …" in problem.what
    assert problem.remedy == "predict them too; or score those that are there with --present"
    with caplog.at_level(logging.WARNING):
        present = evaluate_folders(*folders, LABELS, RUNTIME, present_only=True)
    assert present == complete
    (warning,) = caplog.messages
    assert "no prediction for 7 of 9 truths" in warning


@pytest.mark.parametrize("present_only", [False, True])
def test_without_any_prediction_there_is_nothing_to_score(folders: tuple[Path, Path], tmp_path: Path, present_only: bool) -> None:
    write(tmp_path / "others" / "c.nii.gz", "0112")
    with pytest.raises(DatasetError, match=r"no prediction for any of the 2 .*found c\.nii\.gz, expected files named like .*: a, b"):
        evaluate_folders(tmp_path / "others", folders[1], LABELS, RUNTIME, present_only=present_only)


def test_predictions_without_a_truth_are_a_warning(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    write(folders[0] / "extra.nii.gz", "0112")
    with caplog.at_level(logging.WARNING):
        scores = evaluate_folders(*folders, LABELS, RUNTIME)
    assert set(scores.cases) == {"a", "b"}
    assert "extra.nii.gz" in caplog.text


def test_two_files_of_one_name_are_a_problem(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "b.nii.gz", "0100")
    with pytest.raises(DatasetError, match="two files of this name"):
        evaluate_folders(*folders, LABELS, RUNTIME)


def test_folders_that_do_not_exist_or_are_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        evaluate_folders(tmp_path / "none", tmp_path, LABELS, RUNTIME)
    with pytest.raises(DatasetError, match="no label maps"):
        evaluate_folders(tmp_path, tmp_path, LABELS, RUNTIME)


def test_cases_by_name_need_no_folders(folders: tuple[Path, Path]) -> None:
    prediction, truth = folders
    scores = evaluate_cases({"held_out": (prediction / "b.nii", truth / "a.nii.gz")}, LABELS, RUNTIME, made_from={"weights": "ab"})
    # truth 0112, prediction 0100: one tp 1, fn 1 → 2/3
    assert scores.cases["held_out"]["one"].dice == pytest.approx(2 / 3)
    assert scores.made_from == {"weights": "ab"}


def test_classes_that_are_not_annotated_are_not_scored(folders: tuple[Path, Path]) -> None:
    """The prediction of "two" in b may be right; a is scored as ever, so the mean of "two" is that of a."""
    write(folders[0] / "b.nii", "0122")
    complete = evaluate_folders(*folders, LABELS, RUNTIME)
    partial = evaluate_folders(*folders, LABELS, RUNTIME, annotated={"b": ("one",), "not here": ("two",)})
    assert complete.cases["b"]["two"].dice == 0
    assert {name: value for name, value in partial.cases["b"]["two"].model_dump().items() if value is not None} == {
        "tp": 0,
        "fp": 0,
        "fn": 0,
    }
    assert partial.cases["b"]["one"] == complete.cases["b"]["one"]
    assert partial.cases["a"] == complete.cases["a"]
    assert partial.classes["two"].dice == partial.cases["a"]["two"].dice
    assert list(partial.cases["b"]) == ["one", "two"]


def test_a_truth_with_a_class_that_is_said_not_to_be_annotated(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DatasetError) as caught:
        evaluate_folders(*folders, LABELS, RUNTIME, annotated={"a": ("one",)})
    (problem,) = caught.value.problems
    assert problem.case == "a"
    assert "found 'two' (2), expected one" in problem.what
