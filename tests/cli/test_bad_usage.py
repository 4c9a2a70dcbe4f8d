"""Wrong usage and damaged run folders: one clear message each, exit code 2 for the former and 1 for the latter, nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from autounet.checkpoint import load_state, save_state
from autounet.cli.locks import one_at_a_time

Autounet = Callable[..., Any]

PLAN, TRAIN = ("plan",), ("train", "--epochs", "1", "--iterations", "1")

WRONG: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "unknown preset": ((*PLAN, "--preset", "smal"), ["--preset smal: no such preset", "nnunet, small"]),
    "no memory": ((*PLAN, "--gpu-memory", "0"), ["--gpu-memory 0"]),
    "negative memory": ((*PLAN, "--gpu-memory", "-8"), ["--gpu-memory -8"]),
    "memory that is no number": ((*PLAN, "--gpu-memory", "nan"), ["--gpu-memory nan"]),
    "preset of training": ((*TRAIN, "-f", "0", "--preset", "x"), ["--preset x: no such preset"]),
    "preset of preprocessing": (("preprocess", "--preset", "x"), ["--preset x: no such preset"]),
    "fold out of range": ((*TRAIN, "-f", "5"), ["-f 5: no such fold", "0, 1, 2, 3, 4 or all"]),
    "negative fold": ((*TRAIN, "-f", "-1"), ["-f -1: no such fold"]),
    "no fold": ((*TRAIN, "-f", ""), ["no such fold", "found nothing"]),
    "folds apart by spaces": ((*TRAIN, "-f", "0 1"), ["-f 0 1: no such fold"]),
    "one fold of several": ((*TRAIN, "-f", "0,7"), ["no such fold", "found 7"]),
    "budget that is no time": (("train", "-f", "0", "--budget", "soon"), ["--budget soon: not a time", "15m"]),
    "no budget": (("train", "-f", "0", "--budget", "0"), ["--budget 0: not a time"]),
    "negative budget": (("train", "-f", "0", "--budget", "-5m"), ["--budget -5m: not a time"]),
    "two lengths": (("train", "-f", "0", "--budget", "5m", "--epochs", "3"), ["--epochs and --budget", "give one of them"]),
    "unknown device": ((*TRAIN, "-f", "0", "--device", "gpu"), ["--device gpu", "auto, cpu, cuda"]),
    "odd device": ((*TRAIN, "-f", "0", "--device", "cuda:x"), ["--device cuda:x"]),
    "unknown precision": ((*TRAIN, "-f", "0", "--precision", "fp8"), ["--precision fp8", "fp32, bf16, fp16"]),
    "precision for other machines": ((*TRAIN, "-f", "0", "--device", "cpu", "--precision", "fp16"), ["--precision fp16"]),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_usage_leaves_no_trace(mistake: str, trained: Any, refused: Autounet, tmp_path: Path) -> None:
    arguments, words = WRONG[mistake]
    refused(2, words, *arguments, "-d", trained.volumes, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    words = ["--device cuda", "found 0 CUDA devices", "--device cpu"]
    refused(2, words, *TRAIN, "-d", trained.volumes, "-f", "0", "--device", "cuda", "--runs", tmp_path / "runs")
    arguments = (
        "-d",
        trained.volumes,
        "-i",
        trained.volumes / "imagesTr",
        "-o",
        tmp_path / "out",
        "--device",
        "cuda",
        "--runs",
        trained.runs,
    )
    refused(2, words, "predict", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_configuration_that_is_not_planned(trained: Any, refused: Autounet, runs_copy: Path) -> None:
    refused(2, ["-c 3d", "2d or 3d_fullres"], *TRAIN, "-d", trained.volumes, "-f", "0", "-c", "3d", "--runs", runs_copy)
    refused(2, ["-c 3d_fullres", "expected 2d"], "preprocess", "-d", trained.cells, "-c", "3d_fullres", "--runs", runs_copy)


@pytest.mark.parametrize("command", [PLAN, (*TRAIN, "-f", "0"), ("preprocess",)], ids=lambda words: words[0])
def test_runs_that_cannot_be_written(command: tuple[str, ...], trained: Any, refused: Autounet, tmp_path: Path) -> None:
    """A folder below a regular file cannot be made, not even by root."""
    (tmp_path / "file").write_text("")
    ended = refused(1, ["cannot be made", "--runs"], *command, "-d", trained.volumes, "--runs", tmp_path / "file" / "runs")
    assert str(tmp_path / "file") in ended.text
    assert (tmp_path / "file").read_text() == ""


# predict --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def predict(trained: Any, tmp_path: Path) -> tuple[Any, ...]:
    """The beginning of a command that predicts with the model of the volumes."""
    return ("predict", "-d", "Dataset011", "--runs", trained.runs, "-o", tmp_path / "out")


def test_predict_without_any_model(trained: Any, refused: Autounet, autounet: Autounet, tmp_path: Path) -> None:
    images, runs = trained.volumes / "imagesTr", tmp_path / "runs"
    words = ["no trained model", "autounet train", "--runs"]
    refused(2, words, "predict", "-i", images, "-o", tmp_path / "out", "--runs", runs)
    autounet("plan", "-d", trained.volumes, "--preset", "small", "--runs", runs)
    refused(2, words, "predict", "-i", images, "-o", tmp_path / "out", "--runs", runs)
    refused(
        2,
        ["-d 11", "no trained model of this dataset", *words],
        "predict",
        "-d",
        "11",
        "-i",
        images,
        "-o",
        tmp_path / "out",
        "--runs",
        runs,
    )
    assert not (tmp_path / "out").exists()


def test_predict_with_a_model_that_is_none(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    rest = ("-i", trained.volumes / "imagesTr", "-o", tmp_path / "out", "--runs", trained.runs)
    refused(2, ["-m", "no such file or folder", "plan.json and models/"], "predict", "-m", tmp_path / "nowhere", *rest)
    refused(2, ["-m", "not a run folder"], "predict", "-m", trained.data, *rest)
    refused(2, ["-d and -m"], "predict", "-m", trained.runs / "Dataset011_Boxes", "-d", "11", *rest)
    refused(2, ["-d Dataset099", "found Dataset011_Boxes, Dataset012_Cells"], "predict", "-d", "Dataset099", *rest)
    refused(2, ["-d Dataset", "ambiguous"], "predict", "-d", "Dataset", *rest)
    refused(2, ["-c 2d: not trained", "3d_fullres"], "predict", "-d", "11", "-c", "2d", *rest)
    refused(2, ["fold 3", "not trained", "folds 0"], "predict", "-d", "11", "-f", "3", *rest)
    refused(2, ["-f x: no such fold"], "predict", "-d", "11", "-f", "x", *rest)
    refused(2, ["no such fold", "found nothing"], "predict", "-d", "11", "-f", "", *rest)
    assert not (tmp_path / "out").exists()


def test_predict_from_where_there_is_nothing(trained: Any, predict: tuple[Any, ...], refused: Autounet, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    refused(2, ["-i", "no such file or folder"], *predict, "-i", tmp_path / "nowhere")
    refused(2, ["-i", "no images in this folder", ".nii.gz"], *predict, "-i", tmp_path / "empty")
    refused(2, ["-i", "not an image", ".nii.gz"], *predict, "-i", tmp_path / "notes.txt")
    assert not (tmp_path / "out").exists()


def test_predict_never_writes_among_or_over_images(trained: Any, refused: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    images = Path(shutil.copytree(trained.volumes / "imagesTr", tmp_path / "images"))
    one = images / "box_00_0000.nii.gz"
    (tmp_path / "link").symlink_to(images)
    before = kit.snapshot(images)
    start = ("predict", "-d", "11", "--runs", trained.runs, "--overwrite")
    refused(2, ["is the folder of the images"], *start, "-i", images, "-o", images)
    refused(2, ["is the folder of the images"], *start, "-i", images, "-o", tmp_path / "link")
    refused(2, ["would replace the image"], *start, "-i", one, "-o", one)
    refused(2, ["one file for 6 images", "a folder"], *start, "-i", images, "-o", tmp_path / "labels.nii.gz")
    refused(2, ["JPEG changes label values", ".png"], *start, "-i", one, "-o", tmp_path / "labels.jpg")
    assert kit.snapshot(images) == before


def test_predict_to_where_nothing_can_be_written(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = trained.volumes / "imagesTr" / "box_00_0000.nii.gz"
    refused(2, ["file: is a file", "a folder"], "predict", "-d", "11", "--runs", trained.runs, "-i", one, "-o", tmp_path / "file")
    (tmp_path / "maps" / "box_00.nii.gz").mkdir(parents=True)
    refused(2, ["box_00.nii.gz: is a folder"], "predict", "-d", "11", "--runs", trained.runs, "-i", one, "-o", tmp_path / "maps")
    for output in (tmp_path / "file" / "out", tmp_path / "file" / "out" / "labels.nii.gz"):
        refused(1, ["cannot be written", "-o"], "predict", "-d", "11", "--runs", trained.runs, "-i", one, "-o", output)


def test_links_to_nothing_are_not_passed_over(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    """An archive that is not mounted: a case that is silently missing is worse than one that fails."""
    (tmp_path / "in").mkdir()
    shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", tmp_path / "in")
    (tmp_path / "in" / "lost.nii.gz").symlink_to(tmp_path / "archive" / "lost.nii.gz")
    (tmp_path / "in" / "folder.nii.gz").mkdir()
    command = ("predict", "-d", "11", "--runs", trained.runs, "-o", tmp_path / "out", "--no-mirror")
    ended = autounet(*command, "-i", tmp_path / "in")
    assert ended.code == 1
    assert "1 predicted" in ended.out
    assert "lost.nii.gz: is a link to nothing" in "".join(ended.err.split("\n"))
    assert "link to nothing" in autounet(*command, "-i", tmp_path / "in" / "lost.nii.gz").err


def test_bad_images_do_not_stop_the_others(
    trained: Any, predict: tuple[Any, ...], autounet: Autounet, kit: SimpleNamespace, tmp_path: Path
) -> None:
    """One good image among bad ones; each of these gets its reason, and the exit code says that some failed."""
    images = tmp_path / "images"
    good = nib.load(trained.volumes / "imagesTr" / "box_00_0000.nii.gz").get_fdata().T.astype(np.float32)
    kit.save_nifti(images / "good_0000.nii.gz", good)
    for number in range(2):
        kit.save_nifti(images / f"two files_{number:04d}.nii.gz", good)
    kit.save_nifti(images / "two_in_one.nii.gz", np.stack([good, good]))
    kit.save_nifti(images / "nan.nii.gz", np.where(good > 200, np.nan, good))
    kit.save_nifti(images / "cut.nii.gz", good)
    (images / "cut.nii.gz").write_bytes((images / "cut.nii.gz").read_bytes()[:3000])
    (images / "empty.nii.gz").write_bytes(b"")
    Image.new("RGB", (30, 30)).save(images / "colour.png")
    Image.new("L", (30, 30), 99).save(images / "planar.png")
    ended = autounet(*predict, "-i", images, "--json")
    assert ended.code == 1
    answer = json.loads(ended.out)
    assert answer["predicted"] == [str(tmp_path / "out" / "good.nii.gz")]
    assert set(answer["failed"]) == {"two files", "two_in_one", "nan", "cut", "empty", "colour", "planar"}
    for words in (
        "2 channel files, but 1 channel",
        "found 2 channels in 1 file, expected 1",
        "NaN",
        "damaged",
        "the file is empty",
        "is a planar (2D) image",
    ):
        assert words in ended.err
    assert "7 of 8 images could not be predicted; the others are done" in ended.err
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["good.nii.gz"]


def test_an_image_of_zeros_is_background_or_refused(
    predict: tuple[Any, ...], autounet: Autounet, kit: SimpleNamespace, tmp_path: Path
) -> None:
    kit.save_nifti(tmp_path / "zero.nii.gz", np.zeros((20, 24, 28), np.int16))
    ended = autounet(*predict, "-i", tmp_path / "zero.nii.gz")
    assert "Traceback" not in ended.err
    assert "unexpected" not in ended.err
    if ended.code == 0:
        assert nib.load(tmp_path / "out" / "zero.nii.gz").shape == (28, 24, 20)


# evaluate -------------------------------------------------------------------------------------------------------------


def test_evaluate_faults(trained: Any, refused: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    truths, predictions = trained.volumes / "labelsTr", tmp_path / "predictions"
    shutil.copytree(truths, predictions)
    (predictions / "box_00.nii.gz").unlink()
    labels = np.asarray(nib.load(truths / "box_01.nii.gz").dataobj).T
    kit.save_nifti(predictions / "box_01.nii.gz", labels[:-1])
    kit.save_nifti(predictions / "box_02.nii.gz", np.where(labels == 1, 5, labels).astype(np.uint8))
    (predictions / "box_03.nii.gz").write_text("")
    words = ["4 problems", "truths: box_00", "box_01", "shape 19×24×28 and 20×24×28", "box_02", "does not name", "5", "box_03"]
    refused(1, words, "evaluate", "-p", predictions, "-g", truths, "--csv", tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_evaluate_what_is_not_there(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    truths = trained.volumes / "labelsTr"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    refused(2, ["nowhere: no such folder"], "evaluate", "-p", tmp_path / "nowhere", "-g", truths)
    refused(2, ["nowhere: no such folder"], "evaluate", "-p", truths, "-g", tmp_path / "nowhere")
    refused(1, ["empty: no label maps in this folder"], "evaluate", "-p", truths, "-g", tmp_path / "empty")
    refused(2, ["no dataset 'Task77'"], "evaluate", "-p", truths, "-g", truths, "-d", "Task77", "--data", trained.data)
    refused(1, ["cannot be written", "--csv"], "evaluate", "-p", truths, "-g", truths, "--csv", tmp_path / "file" / "scores.csv")
    refused(1, ["cannot be written", "--latex"], "evaluate", "-p", truths, "-g", truths, "--latex", tmp_path / "file" / "scores.tex")
    for tolerance in ("soon", "-1mm", "1cm", "nan"):
        refused(2, [f"--tolerance {tolerance}", "such as 1mm"], "evaluate", "-p", truths, "-g", truths, "--tolerance", tolerance)


# the run folder -------------------------------------------------------------------------------------------------------


def test_another_preset_would_orphan_models(
    trained: Any, refused: Autounet, autounet: Autounet, runs_copy: Path, kit: SimpleNamespace
) -> None:
    run = runs_copy / "Dataset011_Boxes"
    command = ("-d", trained.volumes, "--preset", "nnunet", "--runs", runs_copy)
    before = kit.snapshot(run)
    words = ["would not fit the models trained with this one", "preset small → nnunet", "3d_fullres/fold_0", "--overwrite", "--runs"]
    refused(2, words, "plan", *command)
    refused(2, words, *TRAIN, "-f", "1", *command)
    unchanged = {name: state for name, state in before.items() if Path(name).name not in ("run.log", "manifest.json")}
    assert {name: state for name, state in kit.snapshot(run).items() if name in unchanged} == unchanged
    ended = autounet("plan", "--overwrite", *command)
    assert ended.code == 0
    assert "plan.json is replaced: preset small → nnunet" in ended.err
    assert "train them again with --overwrite: 3d_fullres/fold_0" in ended.err
    rest = ("-i", trained.volumes / "imagesTr", "-o", runs_copy / "out", "-d", "11", "--runs", runs_copy)
    refused(1, ["trained with another plan than plan.json", "--overwrite"], "predict", *rest)
    refused(1, ["trained with another plan than plan.json", "--overwrite"], *TRAIN, "-f", "0", "-d", trained.volumes, "--runs", runs_copy)


def test_a_preset_is_remembered(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    command = ("plan", "-d", trained.volumes, "--runs", tmp_path, "--json")
    for more in (("--preset", "small", "--gpu-memory", "2"), ()):
        assert json.loads(autounet(*command, *more).out)["preset"] == "small"
    assert json.loads((tmp_path / "Dataset011_Boxes" / "plan.json").read_text())["request"]["gpu_memory_gb"] == 2.0


def test_damaged_fingerprint_is_made_anew(trained: Any, autounet: Autounet, runs_copy: Path) -> None:
    path = runs_copy / "Dataset011_Boxes" / "fingerprint.json"
    whole = path.read_text()
    path.write_text(whole[:500])
    ended = autounet("plan", "-d", trained.volumes, "--runs", runs_copy)
    assert ended.code == 0
    assert "fingerprint.json: is not valid JSON; it is made anew" in ended.err
    assert path.read_text() == whole
    assert "Up to date" in ended.out


def test_damaged_plan_is_made_anew_unless_models_need_it(
    trained: Any, autounet: Autounet, refused: Autounet, runs_copy: Path, kit: SimpleNamespace
) -> None:
    path = runs_copy / "Dataset011_Boxes" / "plan.json"
    kit.edit_json(path, epochs="many")
    command = ("-d", trained.volumes, "--runs", runs_copy)
    words = ["plan.json: plan is malformed at 'epochs'", "3d_fullres/fold_0 need"]
    refused(1, words, "plan", *command)
    refused(1, words, *TRAIN, "-f", "1", *command)
    refused(1, words[:1], "predict", "-i", trained.volumes / "imagesTr", "-o", runs_copy / "out", *command)
    shutil.rmtree(runs_copy / "Dataset011_Boxes" / "models")
    ended = autounet("plan", *command, "--preset", "small")
    assert ended.code == 0
    assert "plan is malformed at 'epochs'; it is made anew" in ended.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: "{", ["splits.json: is not valid JSON"]),
        (lambda raw: json.dumps({**raw, "folds": []}), ["no folds in it", "expected at least one"]),
        (lambda raw: json.dumps({**raw, "folds": [{"train": ["nix"], "validation": ["box_00"]}] * 5}), ["fold 0", "unknown cases nix"]),
        (
            lambda raw: json.dumps({**raw, "folds": [{"train": ["box_00"], "validation": ["box_00"]}] * 5}),
            ["fold 0", "box_00 in training and"],
        ),
        (lambda raw: json.dumps({**raw, "folds": [{"train": ["box_00"], "validation": []}] * 5}), ["fold 0", "0 validation cases"]),
    ],
    ids=["cut", "no folds", "unknown", "both", "none"],
)
def test_damaged_splits_are_not_replaced(
    change: Callable[[Any], str], words: list[str], trained: Any, refused: Autounet, runs_copy: Path
) -> None:
    """Somebody may have written folds by hand."""
    path = runs_copy / "Dataset011_Boxes" / "splits.json"
    path.write_text(change(json.loads(path.read_text())))
    damaged = path.read_text()
    refused(1, [*words, "delete it to get the standard five folds"], *TRAIN, "-d", trained.volumes, "-f", "1", "--runs", runs_copy)
    assert path.read_text() == damaged


def test_folds_written_by_hand_are_used(trained: Any, autounet: Autounet, runs_copy: Path) -> None:
    path = runs_copy / "Dataset012_Cells" / "splits.json"
    raw = json.loads(path.read_text())
    raw["folds"][1] = {"train": ["cell_0", "cell_1"], "validation": ["cell_4", "cell_2"]}
    path.write_text(json.dumps(raw))
    ended = autounet(*TRAIN, "-d", trained.cells, "-f", "1", "--runs", runs_copy)
    assert ended.code == 0
    assert "2 training cases, 2 held out" in ended.err
    assert set(json.loads((path.parent / "models/2d/fold_1/scores.json").read_text())["cases"]) == {"cell_2", "cell_4"}


def test_damaged_prepared_files_are_made_again(trained: Any, autounet: Autounet, runs_copy: Path) -> None:
    prepared = runs_copy / "Dataset012_Cells" / "prepared" / "2d"
    whole = {path.name: path.read_bytes() for path in prepared.glob("*.b2nd")}
    (prepared / "cell_0.b2nd").write_bytes(whole["cell_0.b2nd"][:100])
    (prepared / "cell_1.seg.b2nd").unlink()
    (prepared / "cell_2.json").write_text("{")
    ended = autounet("preprocess", "-d", trained.cells, "--runs", runs_copy)
    assert ended.code == 0
    assert {path.name: path.read_bytes() for path in prepared.glob("*.b2nd")} == whole


def test_prepared_file_with_other_bytes_is_one_clear_error(trained: Any, refused: Autounet, autounet: Autounet, runs_copy: Path) -> None:
    """A disk that returns other bytes than were written: the size is right, so it is found only when the file is read. The remedy helps."""
    file = runs_copy / "Dataset012_Cells" / "prepared" / "2d" / "cell_0.b2nd"
    whole = file.read_bytes()
    for spoilt in (bytes(len(whole)), whole[:300] + bytes(byte ^ 255 for byte in whole[300:-300]) + whole[-300:]):
        file.write_bytes(spoilt)
        words = [f"{file}: prepared case cannot be read", "Delete this file"]
        refused(1, words, *TRAIN, "-d", trained.cells, "-f", "1", "--runs", runs_copy)
    file.unlink()
    assert autounet("preprocess", "-d", trained.cells, "-c", "2d", "--runs", runs_copy).code == 0
    assert file.read_bytes() == whole


def test_damaged_weights(trained: Any, refused: Autounet, runs_copy: Path) -> None:
    weights = runs_copy / "Dataset012_Cells" / "models" / "2d" / "fold_0" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    out = runs_copy / "out"
    words = [str(weights), "cannot be read", "--overwrite"]
    refused(1, words, "predict", "-d", "12", "-i", trained.cells / "imagesTr", "-o", out, "--runs", runs_copy)
    refused(1, words, *TRAIN, "-d", trained.cells, "-f", "0", "--runs", runs_copy)


def test_damaged_checkpoint(trained: Any, refused: Autounet, autounet: Autounet, runs_copy: Path) -> None:
    fold = runs_copy / "Dataset012_Cells" / "models" / "2d" / "fold_0"
    (fold / "weights.safetensors").unlink()
    state = load_state(fold / "resume.pt")
    save_state(fold / "resume.pt", {**state, "network": {}})
    refused(
        1, ["resume.pt: is not a checkpoint of this network", "--overwrite"], *TRAIN, "-d", trained.cells, "-f", "0", "--runs", runs_copy
    )
    (fold / "resume.pt").write_bytes((fold / "resume.pt").read_bytes()[:5000])
    command = (*TRAIN, "-d", trained.cells, "-f", "0", "--runs", runs_copy)
    ended = refused(1, [str(fold / "resume.pt"), "cannot be read", "delete it to start this fold anew"], *command)
    assert len(ended.err.splitlines()) == 1
    assert autounet(*command, "--no-resume").code == 0


def test_changed_data_are_noticed_and_named(
    trained: Any, autounet: Autounet, refused: Autounet, kit: SimpleNamespace, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(trained.volumes, tmp_path / "Dataset011_Boxes"))
    runs = Path(shutil.copytree(trained.runs, tmp_path / "runs"))
    command = ("-d", data, "--runs", runs)
    assert "Up to date" in autounet("plan", *command).out  # a copy of the data is the same data
    labels = np.asarray(nib.load(data / "labelsTr" / "box_00.nii.gz").dataobj).T.copy()
    labels[15:17] = 1
    kit.save_nifti(data / "labelsTr" / "box_00.nii.gz", labels)
    ended = autounet("plan", *command)
    assert ended.code == 0
    assert "the dataset has changed since its fingerprint was made (files of box_00)" in ended.err
    shutil.copy(data / "imagesTr" / "box_00_0000.nii.gz", data / "imagesTr" / "box_99_0000.nii.gz")
    shutil.copy(data / "labelsTr" / "box_00.nii.gz", data / "labelsTr" / "box_99.nii.gz")
    ended = autounet("plan", *command)
    assert "(1 case new: box_99)" in ended.err
    # The old cases stay in their folds, so what fold 0 has learnt from is not held out today.
    ended = autounet(*TRAIN, "-f", "0", *command)
    assert ended.code == 0
    assert "trained without 1 case that this fold has now (box_99); --overwrite trains anew" in ended.text
    # Folds of other cases: what it has learnt from is held out.
    folds = runs / "Dataset011_Boxes" / "splits.json"
    raw = json.loads(folds.read_text())
    folds.write_text(json.dumps({**raw, "folds": raw["folds"][::-1]}))
    refused(1, ["trained on other cases than fold 0 has now", "--overwrite"], *TRAIN, "-f", "0", *command)
    folds.write_text(json.dumps(raw))
    (runs / "Dataset011_Boxes" / "models" / "3d_fullres" / "fold_0" / "weights.safetensors").unlink()
    ended = autounet("train", *kit.short, "-f", "0", *command)  # a training that was begun goes on with the cases it began with
    assert ended.code == 0
    assert "goes on without 1 case added since it began (box_99); --overwrite begins anew" in ended.text
    assert autounet(*TRAIN, "-f", "0", *command, "--overwrite").code == 0
    assert "trained without" not in autounet(*TRAIN, "-f", "0", *command).text


def test_two_commands_do_not_train_one_fold(trained: Any, refused: Autounet, runs_copy: Path) -> None:
    fold = runs_copy / "Dataset012_Cells" / "models" / "2d" / "fold_0"
    with one_at_a_time(fold / ".lock", lambda: None):
        refused(1, ["another command is training this fold"], *TRAIN, "-d", trained.cells, "-f", "0", "--runs", runs_copy)


def test_demo_that_cannot_work(refused: Autounet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(1, ["cannot be written", "-o"], "demo", "-o", tmp_path / "file" / "demo")
    refused(2, ["--budget soon: not a time"], "demo", "-o", tmp_path / "demo", "--budget", "soon")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
