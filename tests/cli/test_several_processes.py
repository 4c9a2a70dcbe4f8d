"""One training shared by two processes, started as users start it: the losses are those of one process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autounet.checkpoint import load_weights
from autounet.training.history import read_history

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "autounet")
TRAINING = ("--epochs", "2", "--iterations", "3", "--device", "cpu", "--precision", "fp32", "--workers", "1", "--recipe", "nnunet")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="gloo by torchrun is not tried there")]


def _together(*arguments: object) -> tuple[int, str]:
    ended = subprocess.run([*TORCHRUN, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, autounet: Callable[..., Any], kit: SimpleNamespace) -> tuple[Path, Path]:
    """A dataset and a run folder whose plan has batches of three: they do not go evenly into two."""
    folder = tmp_path_factory.mktemp("processes")
    dataset = kit.write_volumes(folder / "data" / kit.volumes)
    ended = autounet("plan", "-d", dataset, "--preset", "small", "--batch-size", "3d_fullres=3", "--runs", folder / "one")
    assert ended.code == 0, ended
    return dataset, folder


def test_two_processes_have_the_losses_of_one(planned: tuple[Path, Path], autounet: Callable[..., Any]) -> None:
    dataset, folder = planned
    ended = autounet("train", "-d", dataset, "-f", "0", *TRAINING, "--runs", folder / "one")
    assert ended.code == 0, ended
    plan = ("plan", "-d", dataset, "--preset", "small", "--batch-size", "3d_fullres=3", "--runs", folder / "two")
    assert autounet(*plan).code == 0
    code, output = _together("train", "-d", dataset, "-f", "0", *TRAINING, "--runs", folder / "two")
    assert code == 0, output
    assert output.count("epoch 2 of 2") == 1  # one speaks
    assert "2 processes" in output
    one, two = (folder / name / dataset.name / "models" / "3d_fullres" / "fold_0" for name in ("one", "two"))
    for alone, shared in zip(read_history(one / "history.jsonl"), read_history(two / "history.jsonl"), strict=True):
        assert shared.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
        assert shared.validation_loss == pytest.approx(alone.validation_loss, rel=1e-4)
        assert shared.dice == pytest.approx(alone.dice, abs=1e-3)
    ours, theirs = load_weights(one / "weights.safetensors")[0], load_weights(two / "weights.safetensors")[0]
    assert all((ours[name] - theirs[name]).abs().max() < 1e-4 for name in ours)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    scores = [json.loads((fold / "scores.json").read_text())["cases"].keys() for fold in (one, two)]
    assert scores[0] == scores[1]
    manifest = json.loads((folder / "two" / dataset.name / "manifest.json").read_text())
    assert [entry["command"][1] for entry in manifest] == ["plan", "train"]
