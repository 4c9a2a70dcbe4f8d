"""Training that is stopped, as real processes: by Ctrl-C, by a polite kill, by kill -9; the same command then goes on from there."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autounet.checkpoint import load_state, load_weights
from autounet.training.history import read_history

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 8
PATIENCE_S = 120

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="other signals")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight volumes of about 24³ voxels, each a bright ball in a dim shell, as an nnU-Net folder."""
    folder = tmp_path_factory.mktemp("data") / "Dataset900_Balls"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(8):
        rng = np.random.default_rng(number)
        shape = tuple(int(side) for side in rng.integers(22, 27, 3))
        centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
        radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(np.indices(shape), centre, strict=True)))
        truth = np.where(radius < 4, 1, np.where(radius < 7, 2, 0)).astype(np.uint8)
        image = (100 + rng.normal(0, 10, shape) + np.array([0, 80, 40])[truth]).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / f"ball_{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(truth, np.eye(4)), folder / "labelsTr" / f"ball_{number}.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "ball": 1, "shell": 2}, "numTraining": 8}
    (folder / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))
    return folder


def _start(dataset: Path, runs: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autounet", "train", "-d", str(dataset), "-f", "0", "--runs", str(runs), "--preset", "small"]
    command += ["--epochs", str(EPOCHS), "--iterations", "3", "--device", "cpu", "--precision", "fp32", "--workers", "1"]
    # A program started in the background of a shell ignores SIGINT, and so would its children; handled signals are reset for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output


def _wait(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"the process ended or hangs: {_finish(process)}")
        time.sleep(0.02)


def _fold(dataset: Path, runs: Path) -> Path:
    return runs / dataset.name / "models" / "3d_fullres" / "fold_0"


def _epochs_saved(fold: Path) -> int:
    path = fold / "resume.pt"
    return len(load_state(path)["history"]) if path.exists() else 0


def _numbers(fold: Path) -> list[dict[str, Any]]:
    timed = {"seconds", "trained_seconds", "data_wait_share", "samples_per_second"}
    return [record.model_dump(exclude=timed) for record in read_history(fold / "history.jsonl")]


def _assert_equal(fold: Path, whole: Path) -> None:
    assert [record["epoch"] for record in _numbers(fold)] == list(range(EPOCHS))
    assert _numbers(fold) == _numbers(whole)
    for name in ("weights.safetensors", "weights_best.safetensors"):
        (ours, about), (theirs, about_theirs) = load_weights(fold / name), load_weights(whole / name)
        assert about == about_theirs
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours)
    assert _scores(fold) == _scores(whole)


def _scores(fold: Path) -> dict[str, Any]:
    # ``made_from`` holds when the weights were written.
    return {key: value for key, value in json.loads((fold / "scores.json").read_text()).items() if key != "made_from"}


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fold of a run that nobody stopped."""
    runs = tmp_path_factory.mktemp("whole")
    code, output = _finish(_start(dataset, runs))
    assert code == 0, output
    return _fold(dataset, runs)


def _told_to(ask: signal.Signals | str, process: subprocess.Popen[str], fold: Path) -> None:
    if isinstance(ask, str):
        (fold / ask).touch()
    else:
        process.send_signal(ask)


def test_stopped_again_and_again_a_run_ends_as_if_it_never_was(dataset: Path, whole: Path, tmp_path: Path) -> None:
    """Killed at a random moment from the start on, then stopped in every way there is, each at a random moment after another epoch."""
    moments, fold = random.Random(5), _fold(dataset, tmp_path)
    stops: list[signal.Signals | str] = [signal.SIGKILL, signal.SIGINT, signal.SIGKILL, "STOP"]
    saved, code = 0, -1
    for number, ask in enumerate(stops):
        process = _start(dataset, tmp_path)
        _wait(process, lambda number=number, saved=saved: number == 0 or _epochs_saved(fold) > saved)
        time.sleep(moments.uniform(0.0, 3.0 if number == 0 else 0.3))
        _told_to(ask, process, fold)
        code, output = _finish(process)
        assert "Traceback" not in output
        if saved:
            assert f"going on after epoch {saved}" in output
        if code == 0:
            break  # it had come to its end
        assert code == (-signal.SIGKILL if ask == signal.SIGKILL else 130), output
        saved = _epochs_saved(fold)
    assert saved >= 2
    if code != 0:
        code, output = _finish(_start(dataset, tmp_path))
        assert code == 0, output
        assert re.search(rf"going on after epoch {saved}\b", output)
    _assert_equal(fold, whole)
    assert not (fold / "STOP").exists()
