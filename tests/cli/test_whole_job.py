"""The whole job in miniature: plan, train, predict and evaluate, on volumes (oblique, anisotropic NIfTI) and on planar PNG images."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

Autounet = Callable[..., Any]


@pytest.fixture(scope="module")
def predicted(trained: Any, autounet: Autounet, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Predictions of all training volumes, the command said twice."""
    folder = tmp_path_factory.mktemp("predictions") / "volumes"
    command = ("predict", "-d", "11", "-i", trained.volumes / "imagesTr", "-o", folder, "--runs", trained.runs)
    return SimpleNamespace(folder=folder, first=autounet(*command, "--json"), second=autounet(*command), command=command)


def test_plan_and_train_succeed(trained: Any) -> None:
    for ended in (trained.plan, trained.train, trained.plan_cells, trained.train_cells):
        assert ended.code == 0, ended


def test_plan_shows_data_decisions_and_where_they_are(trained: Any) -> None:
    shown = trained.plan.text
    assert "20 × 24 × 28 in every case" in shown
    assert "2.5 × 1.1 × 0.9 in every case" in shown
    assert "class core in 6 of 6 cases, median 60 voxels where present" in shown  # 3×4×5 voxels
    assert "Configuration 2d" in shown
    assert "Configuration 3d_fullres" in shown
    assert f"Written to {trained.runs / 'Dataset011_Boxes' / 'plan.json'}" in shown
    assert trained.plan.err == ""


def test_plan_chooses_2d_alone_for_planar_images(trained: Any) -> None:
    assert list(json.loads((trained.runs / trained.cells.name / "plan.json").read_text())["configurations"]) == ["2d"]


def test_plan_again_changes_nothing(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    before = kit.snapshot(runs_copy, trained.data)
    ended = autounet("plan", "-d", trained.volumes, "--runs", runs_copy)
    after = kit.snapshot(runs_copy, trained.data)
    assert ended.code == 0
    assert "Up to date: " in ended.out
    changed = {Path(name).name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"run.log", "manifest.json"}


def test_plan_as_json_is_one_object(trained: Any, autounet: Autounet, runs_copy: Path) -> None:
    ended = autounet("plan", "-d", trained.volumes, "--runs", runs_copy, "--json")
    plan = json.loads(ended.out)
    assert plan["configurations"]["3d_fullres"]["patch_size"] == [20, 24, 28]
    assert (plan["dataset"], plan["preset"]) == ("Dataset011_Boxes", "small")


def test_train_says_how_it_goes(trained: Any) -> None:
    lines = trained.train.err.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in epochs] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("online Dice" in line and line.endswith("left") and len(line) <= 100 for line in epochs)
    assert "4 training cases, 2 held out, patch 20×24×28" in lines[0]
    assert "held-out cases on their original grid (2 cases)" in trained.train.out


def test_train_leaves_what_it_says(trained: Any) -> None:
    fold = trained.runs / "Dataset011_Boxes" / "models" / "3d_fullres" / "fold_0"
    names = {"weights.safetensors", "weights_best.safetensors", "resume.pt", "history.jsonl", "progress.png", "scores.json"}
    assert names <= {path.name for path in fold.iterdir()}
    held_out = json.loads((trained.runs / "Dataset011_Boxes" / "splits.json").read_text())["folds"][0]["validation"]
    assert sorted(path.name for path in (fold / "validation").iterdir()) == [f"{case}.nii.gz" for case in held_out]
    assert list(json.loads((fold / "scores.json").read_text())["cases"]) == held_out


def test_train_again_shows_the_scores_and_changes_nothing(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    before = kit.snapshot(runs_copy / "Dataset011_Boxes" / "models", runs_copy / "Dataset011_Boxes" / "prepared")
    ended = autounet("train", "-d", trained.volumes, "-f", "0", *kit.short, "--runs", runs_copy)
    assert ended.code == 0
    assert "3d_fullres fold 0 is trained already" in ended.err
    assert "mean" in ended.out
    assert kit.snapshot(runs_copy / "Dataset011_Boxes" / "models", runs_copy / "Dataset011_Boxes" / "prepared") == before


def test_manifest_and_log_tell_what_was_done(trained: Any) -> None:
    run = trained.runs / "Dataset011_Boxes"
    plan, train = json.loads((run / "manifest.json").read_text())[:2]
    assert plan["command"] == [
        "autounet",
        "plan",
        "-d",
        "11",
        "--preset",
        "small",
        "--data",
        str(trained.data),
        "--runs",
        str(trained.runs),
    ]
    assert (plan["status"], train["status"]) == ("done", "done")
    assert {"started", "host", "platform", "versions", "git", "seconds", "peak_memory_mb"} <= set(train)
    assert {"autounet", "python", "torch", "numpy"} <= set(train["versions"])
    assert set(train["scores"]) == {"3d_fullres fold 0"}
    log = (run / "run.log").read_text(encoding="utf-8")
    assert "$ autounet plan -d 11" in log
    assert "epoch 2 of 2: loss" in log
    assert "done after" in log


def test_prediction_lies_exactly_on_its_image(trained: Any, predicted: SimpleNamespace) -> None:
    for image_file in sorted((trained.volumes / "imagesTr").iterdir()):
        image, labels = nib.load(image_file), nib.load(predicted.folder / image_file.name.replace("_0000", ""))
        assert labels.shape == image.shape
        for header in (image.header, labels.header):
            assert header["magic"] == b"n+1"
        for field in ("pixdim", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
            assert labels.header[field].tobytes() == image.header[field].tobytes(), field
        for field in ("qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"):
            assert labels.header[field].tobytes() == image.header[field].tobytes(), field
        assert set(np.unique(np.asarray(labels.dataobj))) <= {0, 1, 3}


def test_predict_as_json_is_one_object_and_all_else_is_on_standard_error(predicted: SimpleNamespace) -> None:
    assert predicted.first.code == 0
    answer = json.loads(predicted.first.out)
    names = [f"box_{number:02d}.nii.gz" for number in range(6)]
    measured = {key: answer.pop(key) for key in ("seconds", "voxels", "peak_bytes")}
    assert all(value > 0 for value in measured.values())
    expected = answer.pop("expected_dice")
    assert list(expected) == [f"box_{number:02d}" for number in range(6)]
    assert all(value is None or 0 <= value <= 1 for value in expected.values())
    assert answer == {
        "predicted": [str(predicted.folder / name) for name in names],
        "skipped": [],
        "failed": {},
        "folds": ["0"],
        "configuration": "3d_fullres",
    }
    assert "6 images" in predicted.first.err


def test_predict_again_skips_and_overwrite_does_not(predicted: SimpleNamespace, autounet: Autounet, kit: SimpleNamespace) -> None:
    assert predicted.second.code == 0
    assert "0 predicted" in predicted.second.out
    assert "6 skipped" in predicted.second.out
    assert "6 are predicted already (--overwrite predicts anew)" in predicted.second.err
    before = {name: state for name, state in kit.snapshot(predicted.folder).items() if name.endswith(".nii.gz")}
    arrays = {name: nib.load(name).get_fdata() for name in before}
    ended = autounet(*predicted.command, "--overwrite")
    assert "6 predicted" in ended.out
    assert all(kit.snapshot(predicted.folder)[name][1] > written for name, (_, written) in before.items())
    assert all(np.array_equal(nib.load(name).get_fdata(), array) for name, array in arrays.items())


@pytest.mark.parametrize("left", [None, b""], ids=["missing", "empty"])
def test_a_lost_prediction_alone_is_made_again(predicted: SimpleNamespace, autounet: Autounet, left: bytes | None) -> None:
    path = predicted.folder / "box_03.nii.gz"
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    ended = autounet(*predicted.command)
    assert "1 predicted" in ended.out
    assert "5 skipped" in ended.out
    assert path.stat().st_size > 0


def test_label_maps_older_than_the_model_are_told(predicted: SimpleNamespace, autounet: Autounet) -> None:
    assert "before this model" not in predicted.second.err
    os.utime(predicted.folder / "box_03.nii.gz", (1e9, 1e9))
    assert "before this model" not in autounet(*predicted.command).err  # it is noted that this model predicted it
    (predicted.folder / ".predicted_by.json").unlink()
    ended = autounet(*predicted.command)
    assert ended.code == 0
    assert "predicted before this model was there: box_03; --overwrite predicts them anew" in ended.err


def test_predict_one_file_to_a_file_of_another_type(trained: Any, predicted: SimpleNamespace, autounet: Autounet, tmp_path: Path) -> None:
    image = trained.volumes / "imagesTr" / "box_02_0000.nii.gz"
    target = tmp_path / "new folder" / "labels.nii"
    ended = autounet("predict", "-d", "Dataset011", "-i", image, "-o", target, "--runs", trained.runs)
    assert ended.code == 0
    expected, found = nib.load(predicted.folder / "box_02.nii.gz"), nib.load(target)
    assert np.array_equal(found.get_fdata(), expected.get_fdata())
    assert np.array_equal(found.affine, expected.affine)


def test_predict_one_file_to_a_folder(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    image = trained.volumes / "imagesTr" / "box_02_0000.nii.gz"
    ended = autounet("predict", "-m", trained.runs / "Dataset011_Boxes", "-i", image, "-o", tmp_path / "out", "--no-mirror")
    assert ended.code == 0
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["box_02.nii.gz"]


def test_png_in_png_out(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("predict", "-d", trained.cells, "-i", trained.cells / "imagesTr", "-o", tmp_path, "--runs", trained.runs)
    assert ended.code == 0
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == [f"cell_{number}.png" for number in range(5)]
    with Image.open(tmp_path / "cell_0.png") as labels:
        assert (labels.mode, labels.size) == ("L", (56, 48))
        assert set(np.unique(np.asarray(labels))) <= {0, 1}


def test_predict_finds_the_only_model(trained: Any, autounet: Autounet, runs_copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(runs_copy / "Dataset012_Cells")
    ended = autounet("predict", "-i", trained.volumes / "imagesTr" / "box_00_0000.nii.gz", "-o", tmp_path / "out", "--runs", runs_copy)
    assert ended.code == 0
    assert f"using {runs_copy / 'Dataset011_Boxes'}, the only trained dataset" in ended.err


def test_predict_asks_which_of_several_models(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    words = ["several datasets are trained", "Dataset011_Boxes, Dataset012_Cells", "-d"]
    refused(2, words, "predict", "-i", trained.volumes / "imagesTr", "-o", tmp_path / "out", "--runs", trained.runs)
    assert not (tmp_path / "out").exists()


def test_evaluate_as_json(trained: Any, predicted: SimpleNamespace, autounet: Autounet, tmp_path: Path) -> None:
    command = ("evaluate", "-p", predicted.folder, "-g", trained.volumes / "labelsTr")
    ended = autounet(*command, "--json", "--csv", tmp_path / "scores.csv")
    assert ended.code == 0
    scores = json.loads(ended.out)
    assert list(scores) == ["mean", "classes", "cases", "tolerance_mm", "volume_unit"]
    assert list(scores["classes"]) == ["box", "core"]  # names from the dataset.json beside labelsTr
    assert list(scores["cases"]) == [f"box_{number:02d}" for number in range(6)]
    assert (scores["tolerance_mm"], scores["volume_unit"]) == (1, "mm3")
    truth = nib.load(trained.volumes / "labelsTr" / "box_04.nii.gz").get_fdata() == 1
    found = nib.load(predicted.folder / "box_04.nii.gz").get_fdata() == 1
    assert scores["cases"]["box_04"]["box"]["dice"] == pytest.approx(2 * (truth & found).sum() / (truth.sum() + found.sum()))
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0].startswith("case,class,dice,iou")
    assert len(rows) == 1 + 6 * 2
    table = autounet(*command)
    assert f"{scores['mean']['dice']:.4f}" in table.out


def test_evaluate_truth_against_itself_is_perfect(trained: Any, autounet: Autounet) -> None:
    ended = autounet("evaluate", "-p", trained.cells / "labelsTr", "-g", trained.cells / "labelsTr", "-q", "--json")
    scores = json.loads(ended.out)
    best = {"dice", "iou", "precision", "recall", "nsd", "lesion_f1", "lesion_dice"}
    assert {name: value for name, value in scores["mean"].items() if name != "over"} == dict.fromkeys(best, 1) | {
        "hd95_mm": 0,
        "assd_mm": 0,
    }
    assert scores["volume_unit"] == "mm2"
    assert ended.err == ""


def test_train_on_all_cases_has_nothing_to_validate(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    where = ("-d", trained.volumes, "--runs", runs_copy)
    ended = autounet("train", "-f", "all", "-c", "2d", *where, *kit.short)
    assert ended.code == 0, ended
    assert "6 training cases, none held out" in ended.err
    assert "nothing to validate on" in ended.out
    fold = runs_copy / "Dataset011_Boxes" / "models" / "2d" / "fold_all"
    assert not (fold / "validation").exists()
    # The other configuration is still the one that predicts, unless 2d is asked for.
    out = runs_copy / "out"
    ended = autounet("predict", "-c", "2d", "-i", trained.volumes / "imagesTr" / "box_00_0000.nii.gz", "-o", out, "--json", *where)
    assert json.loads(ended.out)["folds"] == ["all"]


def test_several_folds_are_averaged(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    where = ("-d", trained.cells, "--runs", runs_copy)
    ended = autounet("train", "-f", "0,2", *where, *kit.short)
    assert ended.code == 0
    assert "2d fold 0 is trained already" in ended.err
    assert "2d fold 2: 4 training cases, 1 held out" in ended.err
    manifest = json.loads((runs_copy / "Dataset012_Cells" / "manifest.json").read_text())
    assert set(manifest[-1]["scores"]) == {"2d fold 0", "2d fold 2"}
    out = runs_copy / "out"
    ended = autounet("predict", "-i", trained.cells / "imagesTr" / "cell_0.png", "-o", out, "--json", *where)
    assert json.loads(ended.out)["folds"] == ["0", "2"]
    ended = autounet("predict", "-f", "2", "-i", trained.cells / "imagesTr" / "cell_0.png", "-o", out, "--json", "--overwrite", *where)
    assert json.loads(ended.out)["folds"] == ["2"]


def test_a_budget_ends_the_training(trained: Any, autounet: Autounet, runs_copy: Path) -> None:
    ended = autounet("train", "-d", trained.cells, "-f", "1", "--budget", "2s", "--runs", runs_copy, "--device", "cpu", "-v")
    assert ended.code == 0
    epochs = [line for line in ended.err.splitlines() if line.startswith("epoch ")]
    assert epochs
    assert " of " not in epochs[0].split(":")[0]
    history = [json.loads(line) for line in (runs_copy / "Dataset012_Cells/models/2d/fold_1/history.jsonl").read_text().splitlines()]
    # How closely a budget is kept depends on what else the machine does: that is measured in benchmarks, not here.
    rates = [row["learning_rate"] for row in history]
    assert rates == sorted(rates, reverse=True)
    assert "budget 2 s" in ended.err  # -v shows what was measured


def test_train_anew(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    weights = runs_copy / "Dataset012_Cells" / "models" / "2d" / "fold_0" / "weights.safetensors"
    before = weights.read_bytes()
    ended = autounet("train", "-d", trained.cells, "-f", "0", "--seed", "5", "--overwrite", *kit.short, "--runs", runs_copy)
    assert ended.code == 0
    assert weights.read_bytes() != before


def test_preprocess_says_how_much_it_made(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    where = ("-d", trained.volumes, "--runs", tmp_path, "--workers", "0")
    ended = autounet("preprocess", "--preset", "small", *where)
    assert ended.code == 0
    assert "2d: 6 cases prepared in" in ended.out
    assert "3d_fullres: 6 cases prepared in" in ended.out
    assert autounet("preprocess", "-c", "2d", *where).out.count("cases prepared in") == 1


def test_quiet_shows_results_alone(trained: Any, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace) -> None:
    ended = autounet("train", "-d", trained.volumes, "-f", "1", "-q", *kit.short, "--runs", runs_copy)
    assert ended.code == 0
    assert ended.err == ""
    assert "mean" in ended.out
    assert "epoch 2 of 2" in (runs_copy / "Dataset011_Boxes" / "run.log").read_text(encoding="utf-8")
