"""``autounet doctor`` without a dataset, as its users meet it."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autounet.cli.machine as module
from autounet.machine.facts import Machine
from autounet.machine.patience import within

Autounet = Callable[..., Any]
QUICK = ("doctor", "--quick", "--device", "cpu")


@pytest.fixture(autouse=True)
def _usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that runs the tests is asked to do with its cores, and however fast its disk is."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("autounet.machine.disk.WRITE_SECONDS", 0.05)


def test_what_there_is(autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet(*QUICK, "--runs", tmp_path / "runs")
    assert "This machine" in ended.out
    for words in ("torch", "computes on", "cpu in", "cores", "memory", "GB to be had", "run folder", "MB/s"):
        assert words in ended.text
    assert "self-test" not in ended.text
    assert not (tmp_path / "runs").exists()


def test_json_is_all_of_it(autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet(*QUICK, "--runs", tmp_path, "--precision", "fp32", "--json")
    told = json.loads(ended.out)
    machine = Machine.model_validate_json(json.dumps(told["machine"]))
    assert machine.torch is not None
    assert (machine.torch.device, machine.torch.precision) == ("cpu", "float32")
    assert machine.self_test is None
    assert {"severity", "about", "what", "advice"} >= {key for advice in told["advice"] for key in advice}


def test_the_self_test_is_told(autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autounet.machine.self_test.TRAIN_SECONDS", 0.5)
    ended = autounet("doctor", "--device", "cpu", "--precision", "fp32", "--runs", tmp_path)
    assert ended.code == 0, ended
    assert "repeatable bit for bit" in ended.text
    assert "Dice" in ended.text


def test_severe_ends_with_1_and_the_rest_is_told_all_the_same(autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("doctor", "--quick", "--device", "cuda:77", "--runs", tmp_path)
    assert ended.code == 1
    assert "--device cuda:77" in ended.text
    assert "1 severe" in ended.out
    assert "memory" in ended.out
    assert "error:" not in ended.err


def test_threads_set_to_nonsense(autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    ended = autounet(*QUICK, "--runs", tmp_path)
    assert "OMP_NUM_THREADS is 'all': not a number of threads → Unset it" in ended.text


def test_what_fails_is_told(autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs, and a training that fails."""

    def fail(session: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(module, "_self_test", fail)
    ended = autounet("doctor", "--device", "cpu", "--runs", tmp_path)
    assert ended.code == 1
    assert "training a tiny network fails: CUDA error: no kernel image is available" in ended.text
    monkeypatch.setattr(module, "TORCH_SECONDS", 0.01)
    monkeypatch.setattr(module, "_computing", lambda session: within(5, lambda: __import__("time").sleep(0.5)))
    ended = autounet("doctor", "--quick", "--runs", tmp_path)
    assert ended.code == 1
    assert "no answer within 0.01 s" in ended.text


def test_data_folders_are_looked_at(autounet: Autounet, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "image").write_bytes(bytes(2**20))
    ended = autounet(*QUICK, "--runs", tmp_path, "--data", tmp_path / "data")
    assert f"{tmp_path / 'data'}" in ended.text
    assert "reads" in ended.text


def test_a_data_folder_that_is_not_there(refused: Autounet, tmp_path: Path) -> None:
    refused(2, ["--data", "no such folder"], *QUICK, "--data", tmp_path / "none")


def test_the_calling_thread_touches_no_folder(autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs would hang it: neither the reading of options nor anything else may look."""
    folder, seen = tmp_path / "perhaps_hung", []
    folder.mkdir()

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def look(path: Any, *others: Any, **more: Any) -> Any:
            if folder.name in str(path) and threading.current_thread() is threading.main_thread():
                seen.append(name)
            return real(path, *others, **more)

        return look

    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, watched(name))
    ended = autounet(*QUICK, "--runs", folder / "runs", "--data", folder)
    assert ended.code in (0, 1)
    assert f"{folder}" in ended.text
    assert seen == []
