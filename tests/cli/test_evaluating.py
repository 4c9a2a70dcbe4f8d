"""``autounet evaluate``: its tables, its files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autounet.cli.evaluating import parse_tolerance

Autounet = Callable[..., Any]
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.fixture
def folders(kit: SimpleNamespace, tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and truths of 2 mm slices: class 1 is moved by one slice, class 2 is missed in the second case."""
    truth = np.zeros((10, 8, 8), np.uint8)
    truth[2:5, 2:6, 2:6] = 1
    truth[7:9, 2:6, 2:6] = 2
    for case in ("a", "b"):
        kit.save_nifti(tmp_path / "labelsTs" / f"{case}.nii.gz", truth, AFFINE)
        prediction = np.where(truth == 1, 0, truth)
        prediction[3:6, 2:6, 2:6] = 1
        kit.save_nifti(tmp_path / "found" / f"{case}.nii.gz", np.where(prediction == 2, 2 * (case == "a"), prediction), AFFINE)
    return tmp_path / "found", tmp_path / "labelsTs"


def test_the_numbers_are_in_the_tables_the_json_and_the_csv(autounet: Autounet, folders: tuple[Path, Path], tmp_path: Path) -> None:
    command = ("evaluate", "-p", folders[0], "-g", folders[1], "--tolerance", "1.9 mm")
    ended = autounet(*command, "--json", "--csv", tmp_path / "scores.csv", "--latex", tmp_path / "scores.tex")
    assert ended.code == 0, ended
    found = json.loads(ended.out)
    assert (found["tolerance_mm"], found["volume_unit"]) == (1.9, "mm3")
    moved = found["cases"]["a"]["1"]
    # Three slices of 16 voxels of 2 mm³, two of them in common.
    assert [moved[name] for name in ("volume_truth", "volume_prediction", "dice", "hd95_mm")] == [96, 96, pytest.approx(2 / 3), 2]
    assert 0 < moved["nsd"] < 1
    missed = found["classes"]["2"]
    assert (missed["missed"], missed["hd95_mm"], missed["over"]["hd95_mm"], missed["nsd"]) == (1, 0, 1, 0.5)
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [row["hd95_mm"] for row in rows] == ["2.0", "0.0", "2.0", ""]
    assert (tmp_path / "scores.tex").read_text().count("tabular") == 2  # begin and end
    table = autounet(*command).out
    assert "normalised surface Dice at 1.9 mm" in table
    assert "2: missed in 1, invented in 0; distances are means of 1 case" in table
    assert f"{moved['nsd']:.4f}" in table


def test_missing_predictions_are_one_problem_and_no_reason_to_delete_labels(autounet: Autounet, folders: tuple[Path, Path]) -> None:
    (folders[0] / "b.nii.gz").unlink()
    command = ("evaluate", "-p", folders[0], "-g", folders[1])
    refused = autounet(*command)
    assert refused.code == 1
    assert "for 1 of 2 truths: b" in refused.text
    assert "score those that are there with --present" in refused.text
    assert "remove" not in refused.text
    present = autounet(*command, "--present")
    assert present.code == 0
    assert "Dice of 1 case" in present.out
    assert "warning: no prediction for 1 of 2 truths, which are not scored (b)" in present.err


def test_the_tables_fit_on_80_columns(
    autounet: Autounet, kit: SimpleNamespace, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few classes have a column each; of many, the table of cases shows the worst."""
    monkeypatch.setenv("COLUMNS", "80")
    few = autounet("evaluate", "-p", folders[0], "-g", folders[1]).out
    labels = np.zeros((10, 8, 8), np.uint8)
    labels[:, :2] = np.arange(1, 21).reshape(10, 2, 1)
    kit.save_nifti(tmp_path / "many" / "a_long_name_of_a_case.nii.gz", labels, AFFINE)
    kit.save_nifti(tmp_path / "found20" / "a_long_name_of_a_case.nii.gz", np.where(labels == 7, 8, labels), AFFINE)
    many = autounet("evaluate", "-p", tmp_path / "found20", "-g", tmp_path / "many").out
    assert max(len(line) for line in (few + many).splitlines()) <= 80
    assert ["case", "1", "2", "mean"] in [line.replace("┃", " ").split() for line in few.splitlines()]
    row = next(line for line in many.splitlines() if "a_long_name_of_a_case" in line)
    assert row.replace("│", " ").split()[1:3] == ["7", "0.0000"]


def test_it_says_when_surfaces_are_not_measured(
    autounet: Autounet, kit: SimpleNamespace, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "one": 1, "ignore": 2},
        "file_ending": ".nii.gz",
        "numTraining": 2,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    ended = autounet("evaluate", "-p", folders[0], "-g", folders[1])
    assert ended.code == 0, ended
    assert "not measured in cases that have voxels to be ignored" in ended.text


@pytest.mark.parametrize(("text", "value"), [("1mm", 1), ("0.5 mm", 0.5), ("2", 2), (".25mm", 0.25), ("0", 0), ("1e-3mm", 0.001)])
def test_tolerances(text: str, value: float) -> None:
    assert parse_tolerance(text) == value
