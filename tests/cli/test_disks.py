"""Disks that are full, read-only or away for a moment, memory that runs out in one case, files that vanish, two commands in one folder."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autounet.images.patience as patience
import autounet.preprocessing.run as preparing
from autounet.cli.locks import claimed
from autounet.cli.predicting import CLAIMS
from autounet.images import nifti
from tests.cli.conftest import SHORT

Autounet = Callable[..., Any]
Refused = Callable[..., Any]
PREDICT = ("--device", "cpu", "--precision", "fp32", "--workers", "1", "--no-mirror")


class Disk:
    """A disk of its own, in memory, that can be made larger or read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.change("size=4m", again=False)

    def change(self, options: str, again: bool = True) -> None:
        """Mounts it, or changes how it is mounted."""
        how = ("-o", f"remount,{options}") if again else ("-t", "tmpfs", "-o", options, "tmpfs")
        ended = subprocess.run(["mount", *how, str(self.path)], capture_output=True, check=False)
        if ended.returncode:
            pytest.skip("this user may not mount a disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Needs Linux, and to be root."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("this user may not mount a disk")
    made = Disk(tmp_path / "disk")
    yield made
    subprocess.run(["umount", "-l", str(made.path)], check=True)


def test_preprocess_on_a_disk_that_becomes_full_goes_on_when_there_is_room(
    trained: Any, disk: Disk, autounet: Autounet, refused: Refused
) -> None:
    command = ("preprocess", "-d", trained.volumes, "--runs", disk.path, "--workers", "1")
    shutil.copytree(
        trained.runs / trained.volumes.name, disk.path / trained.volumes.name, ignore=shutil.ignore_patterns("models", "prepared")
    )
    disk.change(f"size={_used(disk.path) + 150_000}")
    ended = refused(1, [f"{disk.path}/Dataset011_Boxes/prepared/", "No space left on device", "MB are free there"], *command)
    assert "the disk may be too small for 6 prepared cases" in ended.text
    disk.change("size=64m")
    ended = autounet(*command)
    assert ended.code == 0, ended
    assert "6 cases prepared" in ended.out
    assert not list(disk.path.rglob(".partial*"))


def _used(path: Path) -> int:
    return shutil.disk_usage(path).used


def test_train_says_before_it_begins_that_its_checkpoints_find_no_room(trained: Any, disk: Disk, refused: Refused) -> None:
    shutil.copytree(trained.runs / trained.cells.name, disk.path / trained.cells.name, ignore=shutil.ignore_patterns("models"))
    disk.change(f"size={_used(disk.path) + 1_000_000}")
    words = ["no room for the checkpoints", "expected", "--runs"]
    refused(1, words, "train", "-d", trained.cells, "-f", "1", *SHORT, "--runs", disk.path)


def test_a_report_of_a_run_folder_that_may_only_be_read(
    trained: Any, disk: Disk, autounet: Autounet, refused: Refused, tmp_path: Path
) -> None:
    disk.change("size=64m")
    shutil.copytree(trained.runs / trained.cells.name, disk.path / trained.cells.name)
    disk.change("ro")
    command = ("report", "-d", trained.cells, "--runs", disk.path)
    ended = autounet(*command, "-o", tmp_path / "page.html")
    assert ended.code == 0, ended
    assert (tmp_path / "page.html").read_text().rstrip().endswith("</html>")
    refused(1, ["cannot be written", "Read-only file system"], *command)
    images = trained.cells / "imagesTr" / "cell_1.png"
    ended = autounet("predict", "-i", images, "-o", tmp_path / "out", "-m", disk.path / trained.cells.name, *PREDICT)
    assert ended.code == 0, ended


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_is_away_for_a_moment_is_asked_again(
    fault: int, trained: Any, autounet: Autounet, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.0, 0.0))
    real, left = nifti._fill, [2]

    def fill(stream: Any, values: Any, path: Path) -> None:
        if path.name == "box_01_0000.nii.gz" and left[0]:
            left[0] -= 1
            raise OSError(fault, os.strerror(fault))
        real(stream, values, path)

    monkeypatch.setattr(nifti, "_fill", fill)
    command = ("predict", "-i", trained.volumes / "imagesTr" / "box_01_0000.nii.gz", "-m", trained.runs / trained.volumes.name, *PREDICT)
    ended = autounet(*command, "-o", tmp_path / "out")
    assert ended.code == 0, ended
    assert "trying again" in ended.err
    left[0] = 1000
    refused(1, ["box_01_0000.nii.gz: cannot be read", os.strerror(fault), "check the disk"], *command, "-o", tmp_path / "other")


def test_memory_that_runs_out_beside_other_cases_is_enough_for_one_alone(
    trained: Any, autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = preparing.prepare_case, list[str]()

    def prepare(image: Any, grid: Any, plan: Any, configuration: Any, labels: Any, case: str, *rest: Any) -> Any:
        if case == "box_02" and not failures:
            failures.append(case)
            raise MemoryError
        return real(image, grid, plan, configuration, labels, case, *rest)

    monkeypatch.setattr(preparing, "prepare_case", prepare)
    ended = autounet("preprocess", "-d", trained.volumes, "--runs", tmp_path, "--workers", "2")
    assert ended.code == 0, ended
    assert "3d_fullres: 6 cases prepared" in ended.out
    assert failures == ["box_02"]


def test_memory_that_is_too_little_for_one_case_fails_that_one_alone(
    trained: Any, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preparing.prepare_case

    def prepare(image: Any, grid: Any, plan: Any, configuration: Any, labels: Any, case: str, *rest: Any) -> Any:
        if case == "box_02":
            raise MemoryError("Unable to allocate 9.9 TiB")
        return real(image, grid, plan, configuration, labels, case, *rest)

    monkeypatch.setattr(preparing, "prepare_case", prepare)
    words = ["1 of 6 cases could not be prepared", "box_02: not enough memory: found Unable to allocate 9.9 TiB", "--workers"]
    refused(1, words, "preprocess", "-d", trained.volumes, "--runs", tmp_path, "--workers", "2")
    assert len(list((tmp_path / trained.volumes.name / "prepared" / "3d_fullres").glob("*.json"))) == 5


def test_what_vanishes_between_planning_and_training_is_named(
    trained: Any, refused: Refused, autounet: Autounet, tmp_path: Path, runs_copy: Path
) -> None:
    data = Path(shutil.copytree(trained.volumes, tmp_path / "data" / trained.volumes.name))
    (data / "labelsTr" / "box_03.nii.gz").unlink()
    refused(1, ["box_03"], "train", "-d", data, "-f", "0", *SHORT, "--runs", runs_copy)
    prepared = runs_copy / trained.volumes.name / "prepared" / "3d_fullres"
    whole = (prepared / "box_03.b2nd").read_bytes()
    (prepared / "box_03.b2nd").write_bytes(whole[: len(whole) // 2])
    (prepared / "box_04.seg.b2nd").unlink()
    ended = autounet("preprocess", "-d", trained.volumes, "-c", "3d_fullres", "--runs", runs_copy)
    assert ended.code == 0, ended
    assert "2 prepared cases are made again" in ended.err
    assert (prepared / "box_03.b2nd").read_bytes() == whole


def test_two_predictions_into_one_folder_do_not_do_the_same_twice(
    trained: Any, autounet: Autounet, refused: Refused, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = ("predict", "-i", trained.cells / "imagesTr", "-o", out, "-m", trained.runs / trained.cells.name, *PREDICT)
    with claimed(out, CLAIMS, [f"cell_{number}.png" for number in range(5)]):
        refused(1, ["5 images of 5 are being predicted already", f"process {os.getpid()}", "wait for it"], *command)
    with claimed(out, CLAIMS, ["cell_0.png", "cell_3.png"]):
        ended = autounet(*command)
        assert ended.code == 0, ended
        assert "2 images of 5 are being predicted by another command, and left to it" in ended.err
    assert sorted(path.name for path in out.glob("*.png")) == ["cell_1.png", "cell_2.png", "cell_4.png"]
    ended = autounet(*command)
    assert "2 predicted" in ended.out + ended.err
    assert sorted(path.name for path in out.glob(".*")) == [".predicted_by.json"]


def test_what_a_killed_prediction_left_is_not_taken_for_another_models(
    trained: Any, autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autounet.cli.predicting as predicting

    real = predicting.predict_cases

    def killed(model: Any, jobs: Any, *rest: Any) -> Any:
        real(model, jobs[:2], *rest)
        raise KeyboardInterrupt

    command = ("predict", "-i", trained.cells / "imagesTr", "-o", tmp_path / "out", "-m", trained.runs / trained.cells.name)
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "predict_cases", killed)
        assert autounet(*command, *PREDICT).code == 130
    ended = autounet(*command, *PREDICT[:-1])  # mirrored, which is another prediction
    assert ended.code == 0, ended
    assert "predicted by another model or in another way, and predicted anew: cell_0, cell_1" in ended.err
    assert "5 predicted" in ended.out + ended.err


def test_a_copy_of_a_run_folder_is_as_fresh_as_the_original(trained: Any, autounet: Autounet, tmp_path: Path, kit: SimpleNamespace) -> None:
    """Times change when a folder is copied: what belongs together is told by its content."""
    runs = Path(shutil.copytree(trained.runs, tmp_path / "runs"))
    data = ("-d", trained.cells, "--runs", runs)
    assert autounet("select", *data, "--workers", "1").code == 0
    weights = runs / trained.cells.name / "models" / "2d" / "fold_0" / "weights.safetensors"
    later = weights.stat().st_mtime + 1000
    for path in (weights, *weights.parent.glob("validation/*")):
        os.utime(path, (later, later))
    ended = autounet("select", *data, "--workers", "1")
    assert "is up to date" in ended.err
    ended = autounet(
        "predict", "-i", trained.cells / "imagesTr" / "cell_1.png", "-o", tmp_path / "out", "-m", runs / trained.cells.name, *PREDICT
    )
    assert ended.code == 0, ended
    assert "trained after" not in ended.err
    kit.edit_json(runs / trained.cells.name / "selection.json", made_from={"2d/fold_0": "0" * 16})
    ended = autounet(
        "predict", "-i", trained.cells / "imagesTr" / "cell_1.png", "-o", tmp_path / "two", "-m", runs / trained.cells.name, *PREDICT
    )
    assert "folds were trained after selection.json was made" in ended.err
