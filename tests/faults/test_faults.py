"""Commands are killed, interrupted and refused by the disk at drawn moments: nothing is half there, and the same command goes on.

``python -m benchmarks.faults`` does the same, as often as one likes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")


def trials(folder: Path, count: int, *commands: str) -> list[dict[str, Any]]:
    """In a process of its own: here, threads may have been started, and a process with threads should not be forked."""
    said = folder / "trials.json"
    words = ("--count", str(count), "--kinds", "kills", "stops", "refusals", "--output", str(said), "--commands", *commands)
    ended = subprocess.run([sys.executable, "-m", "benchmarks.faults", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found: list[dict[str, Any]] = json.loads(said.read_text())
    return found


def assert_survived(found: list[dict[str, Any]]) -> None:
    broken = [(trial["job"], trial["fault"], trial["problems"]) for trial in found if trial["problems"]]
    assert not broken, broken
    assert any(trial["hit"] for trial in found)  # else it was no trial


def test_commands_that_make_one_file_or_many(tmp_path: Path) -> None:
    assert_survived(trials(tmp_path, 3, "plan", "preprocess"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_and_what_comes_after_it(tmp_path: Path) -> None:
    commands = ("train", "predict uncertainty", "predict bundle", "export", "import", "evaluate", "select", "ensemble", "report", "doctor")
    assert_survived(trials(tmp_path, 2, *commands))
