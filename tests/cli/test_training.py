"""``autounet train`` with a recipe of one's own, and where it must refuse or explain."""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from zipfile import ZipFile

import pytest
import torch

import autounet.cli.stopping as stopping_module
import autounet.training.schedule as schedule_module
from autounet.checkpoint import load_state, load_weights, read_about
from autounet.training.history import read_history
from autounet.training.learner import Learner
from autounet.training.loop import FoldTraining


@pytest.fixture
def fold(runs_copy: Path, trained: Any) -> Path:
    """A trained fold that the test may spoil."""
    return runs_copy / trained.volumes.name / "models" / "3d_fullres" / "fold_0"


def _train(trained: Any, runs: Path, kit: SimpleNamespace, *more: object) -> tuple[object, ...]:
    return ("train", "-d", trained.volumes, "-f", "0", *kit.short, "--runs", runs, *more)


def test_the_recipe_of_a_fold_can_be_read(fold: Path) -> None:
    recipe = json.loads((fold / "training.json").read_text())
    assert recipe["recipe"]["optimizer"]["kind"] == "sgd"
    assert recipe["recipe"]["augmentation"] == "nnunet"
    assert recipe["length"] == "2 epochs of 2 steps"
    assert (recipe["patch_size"].count("×"), recipe["seed"], recipe["fold"]) == (2, 1234, "0")


def test_another_recipe_trains_another_network(fold: Path, trained: Any, kit: SimpleNamespace, autounet: Callable[..., Any]) -> None:
    """And leaves the plan as it is; asked for again without it, the fold is kept, with a warning."""
    plan = fold.parents[2] / "plan.json"
    before, weights = plan.read_bytes(), load_weights(fold / "weights.safetensors")[0]
    flags = ("--recipe", "nnunet", "--augmentation", "none", "--class-weights", "core=3")
    ended = autounet(*_train(trained, fold.parents[3], kit, *flags, "--overwrite"))
    assert ended.code == 0, ended
    assert plan.read_bytes() == before
    assert any(not tensor.equal(weights[name]) for name, tensor in load_weights(fold / "weights.safetensors")[0].items())
    recipe = json.loads((fold / "training.json").read_text())["recipe"]
    assert (recipe["optimizer"]["momentum"], recipe["augmentation"], recipe["loss"]["class_weights"]) == (0.99, "none", [1.0, 1.0, 3.0])
    assert [record.learning_rate for record in read_history(fold / "history.jsonl")] == pytest.approx([0.01, 0.01 * 0.5**0.9])
    again = autounet(*_train(trained, fold.parents[3], kit))
    assert again.code == 0
    assert "trained with another recipe, see training.json" in again.text


def test_a_training_that_was_begun_with_another_recipe_is_not_mixed(
    fold: Path, trained: Any, kit: SimpleNamespace, refused: Callable[..., Any]
) -> None:
    (fold / "weights.safetensors").unlink()
    refused(1, ["resume.pt", "another augmentation", "--overwrite"], *_train(trained, fold.parents[3], kit, "--augmentation", "none"))


def test_fewer_epochs_than_are_done_would_end_at_a_high_rate(
    fold: Path, trained: Any, kit: SimpleNamespace, refused: Callable[..., Any]
) -> None:
    (fold / "weights.safetensors").unlink()
    words = ["--epochs 1", "is in epoch 2 already", "at least 2"]
    refused(2, words, *_train(trained, fold.parents[3], kit, "--epochs", "1"))


def test_a_training_goes_on_with_other_numbers_and_says_so(
    fold: Path, trained: Any, kit: SimpleNamespace, autounet: Callable[..., Any], tmp_path: Path
) -> None:
    """The recipe's record follows; weights to begin with come too late."""
    (fold / "weights.safetensors").unlink()
    ended = autounet(*_train(trained, fold.parents[3], kit, "--epochs", "3", "--seed", "5", "--init", fold))
    assert ended.code == 0, ended
    assert "--init changes nothing" in ended.text
    assert "begun with --seed 1234 and goes on with 5" in ended.text
    recipe = json.loads((fold / "training.json").read_text())
    assert (recipe["length"], recipe["seed"]) == ("3 epochs of 2 steps", 5)


def test_a_checkpoint_with_a_changed_byte_is_not_taken_up(
    fold: Path, trained: Any, kit: SimpleNamespace, refused: Callable[..., Any]
) -> None:
    (fold / "weights.safetensors").unlink()
    path = fold / "resume.pt"
    content = bytearray(path.read_bytes())
    with ZipFile(path) as archive:  # in the middle of the largest tensor, not in a name between two
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    middle = largest.header_offset + largest.file_size // 2
    content[middle : middle + 64] = bytes(255 - value for value in content[middle : middle + 64])
    path.write_bytes(content)
    refused(1, ["resume.pt: checkpoint cannot be read", "checksum", "delete it"], *_train(trained, fold.parents[3], kit))


def test_damaged_scores_and_predictions_are_made_again(
    fold: Path, trained: Any, kit: SimpleNamespace, autounet: Callable[..., Any]
) -> None:
    before = json.loads((fold / "scores.json").read_text())["cases"]
    (fold / "scores.json").write_text("{}")
    prediction = next((fold / "validation").glob("*.nii.gz"))
    prediction.write_bytes(prediction.read_bytes()[:-20])
    ended = autounet(*_train(trained, fold.parents[3], kit))
    assert ended.code == 0, ended
    assert "scored again" in ended.text
    assert json.loads((fold / "scores.json").read_text())["cases"] == before


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_others_may_read_what_the_umask_lets_them(fold: Path) -> None:
    modes = {path.name: path.stat().st_mode for path in fold.iterdir() if path.is_file() and path.name != ".lock"}
    assert len(set(modes.values())) == 1, modes


@pytest.mark.parametrize("ask", ["signal", "file"])
def test_a_wish_after_the_last_step_is_heard(
    trained: Any, kit: SimpleNamespace, runs_copy: Path, autounet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    """The fold is trained then, its scores and the other fold are for the next time."""
    folder = runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_2"
    original = FoldTraining._save_weights

    def save(self: FoldTraining, final: bool) -> None:
        original(self, final)
        if final and ask == "signal":
            signal.raise_signal(signal.SIGTERM)
        elif final:
            (folder / "STOP").touch()
            monkeypatch.setattr(stopping_module, "LOOK_SECONDS", 0.0)

    arguments = ("train", "-d", trained.volumes, "-f", "2,3", *kit.short, "--runs", runs_copy)
    with monkeypatch.context() as patch:
        patch.setattr(FoldTraining, "_save_weights", save)
        ended = autounet(*arguments)
    assert ended.code == 130, ended
    assert "3d_fullres fold 2 is trained, and not yet scored" in ended.text
    assert (folder / "weights.safetensors").exists()
    assert not (folder / "STOP").exists()
    assert not (folder / "scores.json").exists()
    assert not (folder.parent / "fold_3").exists()


def test_a_fold_without_foreground(trained: Any, kit: SimpleNamespace, tmp_path: Path, refused: Callable[..., Any]) -> None:
    """The one case with anything in it is held out."""
    root = Path(shutil.copytree(trained.volumes, tmp_path / kit.volumes))
    splits = json.loads((trained.runs / kit.volumes / "splits.json").read_text())["folds"][0]
    import nibabel as nib

    for case in splits["train"]:
        path = root / "labelsTr" / f"{case}.nii.gz"
        labels = nib.load(path)
        nib.save(nib.Nifti1Image(0 * labels.get_fdata().astype("uint8"), labels.affine), path)
    words = ["3d_fullres fold 0", "none of its", "a voxel of any class", "box, core", "splits.json"]
    refused(1, words, "train", "-d", root, "-f", "0", "--preset", "small", *kit.short, "--runs", tmp_path / "runs")


def test_out_of_memory_names_what_to_lower(
    fold: Path, trained: Any, kit: SimpleNamespace, refused: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*arguments: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 3.00 GiB")

    monkeypatch.setattr(Learner, "step", step)
    words = [
        "out of memory with patch",
        "batch 2",
        "Tried to allocate 3.00 GiB",
        "by the plan's estimate",
        "--batch-size 3d_fullres=1",
        "--preset small",
    ]
    refused(1, words, *_train(trained, fold.parents[3], kit, "--overwrite"))


def test_a_full_disk_keeps_the_checkpoint_before(
    fold: Path,
    trained: Any,
    kit: SimpleNamespace,
    refused: Callable[..., Any],
    autounet: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, written = torch.save, []

    def save(state: object, file: BinaryIO) -> None:
        written.append(file)
        if len(written) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(state, file)

    whole = load_weights(fold / "weights.safetensors")[0]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        refused(1, ["resume.pt: cannot be written", "free space"], *_train(trained, fold.parents[3], kit, "--overwrite"))
    assert len(load_state(fold / "resume.pt")["history"]) == 1
    ended = autounet(*_train(trained, fold.parents[3], kit))
    assert ended.code == 0, ended
    assert "going on after epoch 1" in ended.text
    assert all(tensor.equal(whole[name]) for name, tensor in load_weights(fold / "weights.safetensors")[0].items())


def test_early_stopping_ends_before_the_last_epoch(
    trained: Any, kit: SimpleNamespace, runs_copy: Path, autounet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is better than the first epoch: three epochs later the rate falls to zero within one more (a tenth of four)."""
    monkeypatch.setattr(schedule_module, "BETTER", 2.0)
    arguments = ("train", "-d", trained.volumes, "-f", "1", "--runs", runs_copy, "--device", "cpu", "--workers", "1", "--iterations", "1")
    ended = autounet(*arguments, "--epochs", "40", "--early-stop", "3")
    assert ended.code == 0, ended
    fold = runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_1"
    assert len(read_history(fold / "history.jsonl")) == 5
    assert read_about(fold / "weights.safetensors")["epoch"] == "5"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--recipe", "best"), ["--recipe best", "default or nnunet"]),
        (("--augmentation", "heavy"), ["--augmentation heavy", "strong"]),
        (("--class-weights", "liver=2"), ["no class 'liver'", "background, box, core"]),
        (("--track", "paper"), ["--track paper", "tensorboard"]),
        (("--init", "nowhere.zip"), ["--init nowhere.zip", "no such file"]),
    ],
)
def test_wishes_that_cannot_be_met(
    trained: Any, kit: SimpleNamespace, runs_copy: Path, refused: Callable[..., Any], more: tuple[str, ...], words: list[str]
) -> None:
    refused(2, words, *_train(trained, runs_copy, kit, *more))
