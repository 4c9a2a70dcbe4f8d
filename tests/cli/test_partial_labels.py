"""Cases of which only some classes are annotated, at the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import autounet.cli.pictures as pictures
from autounet.cli.pictures import Files, draw_overlays
from autounet.evaluation import evaluate_cases
from autounet.labels import LabelSpec, StructureClass
from autounet.report.overlay import OverlayRow, error_map
from autounet.runtime import Runtime

Autounet = Callable[..., Any]


@pytest.fixture
def boxes(kit: SimpleNamespace, tmp_path: Path) -> Path:
    """A dataset in which the core of one case is neither annotated nor in its label map."""
    root = Path(kit.write_volumes(tmp_path / "data" / kit.volumes, cases=3))
    kit.save_nifti(root / "labelsTr" / "box_01.nii.gz", np.pad(np.ones((10, 12, 14), np.uint8), ((5, 5), (6, 6), (7, 7))))
    kit.edit_json(root / "dataset.json", annotated={"box_01": ["box"]})
    return root


def test_the_plan_counts_and_a_changed_declaration_is_noticed(
    autounet: Autounet, refused: Autounet, kit: SimpleNamespace, boxes: Path, tmp_path: Path
) -> None:
    command = ("plan", "-d", boxes, "--preset", "small", "--runs", tmp_path / "runs")
    ended = autounet(*command)
    assert ended.code == 0, ended
    assert "1 of 3 cases in part" in ended.text
    assert "class core in 2 of the 2 cases where it is annotated" in ended.text
    assert "class box in 3 of 3 cases" in ended.text
    kit.edit_json(boxes / "dataset.json", annotated=None)
    ended = autounet(*command)
    assert "(which classes are annotated)" in ended.text
    assert "in part" not in ended.out
    assert "class core in 2 of 3 cases" in ended.text
    kit.edit_json(boxes / "dataset.json", annotated={"box_02": ["box"]})
    refused(1, ["box_02", "'core' (3)", "under 'annotated'"], *command)


def test_evaluate_takes_the_declaration_of_the_dataset_json(autounet: Autounet, boxes: Path) -> None:
    truths = boxes / "labelsTr"
    for named in ((), ("-d", boxes)):
        ended = autounet("evaluate", "-p", truths, "-g", truths, "--json", *named)
        assert ended.code == 0, ended
        cases = json.loads(ended.out)["cases"]
        assert {case: scores["core"]["dice"] for case, scores in cases.items()} == {"box_00": 1.0, "box_01": None, "box_02": 1.0}


def test_pictures_show_no_error_where_nobody_knows(kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth and prediction in a row of voxels; "two" is not annotated."""
    truth, prediction = (np.array(row, np.uint8).reshape(1, 1, -1) for row in ([0, 1, 1, 0, 0], [0, 1, 2, 2, 1]))
    for name, array in (("image", truth), ("truth", truth), ("prediction", prediction)):
        kit.save_nifti(tmp_path / f"{name}.nii.gz", array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    files = Files(*(tmp_path / f"{name}.nii.gz" for name in ("image", "truth", "prediction")), annotated=("one",))
    labels = LabelSpec(classes=(StructureClass(name="one", values=(1,)), StructureClass(name="two", values=(2,))))
    runtime = Runtime(workers=0)
    scores = evaluate_cases({"a": (files.prediction, files.truth)}, labels, runtime, annotated={"a": ("one",)})
    rows: list[OverlayRow] = []
    monkeypatch.setattr(pictures, "overlay_figure", lambda drawn, *_: rows.extend(drawn))
    assert draw_overlays({"a": files}, scores, labels, tmp_path / "a.png", "title")
    (row,) = rows
    assert row.truth_zyx is not None
    # right, right, another class, not annotated, extra
    assert error_map(row.truth_zyx, row.prediction_zyx, 2).ravel().tolist() == [0, 0, 3, 4, 2]
    assert row.dice["two"] is None
