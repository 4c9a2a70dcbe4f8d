"""``autounet run``: everything in order, as far as it is not done yet."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import autounet.cli.running as running
from autounet.cli.running import make_schedule
from autounet.errors import UsageError
from autounet.plan import Plan
from autounet.selection import Selection

Run = Callable[..., Any]


@pytest.fixture
def plan(trained: Any) -> Plan:
    """Of volumes, with two configurations."""
    return Plan.load(trained.runs / trained.volumes.name / "plan.json")


def test_the_schedule_has_all_folds_of_one_configuration_before_the_next(plan: Plan) -> None:
    """A tenth of the time is for what comes after training."""
    schedule = make_schedule(plan, (), ["0", "1"], 400, ["0", "1", "2"])
    assert schedule.parts == (("2d", "0"), ("2d", "1"), ("3d_fullres", "0"), ("3d_fullres", "1"))
    assert schedule.seconds == 90
    assert make_schedule(plan, ["3d_fullres"], ["2"], None, ["0", "1", "2"]).parts == (("3d_fullres", "2"),)


def test_what_cannot_be_scheduled(plan: Plan) -> None:
    with pytest.raises(UsageError, match="2 s are too little for 4 folds"):
        make_schedule(plan, (), ["0", "1"], 2, ["0", "1"])
    with pytest.raises(UsageError, match="-c 3d_lowres: cannot be trained with this plan"):
        make_schedule(plan, ["3d_lowres"], ["0"], None, ["0"])


def test_a_dry_run_only_shows(trained: Any, kit: SimpleNamespace, runs_copy: Path, autounet: Run) -> None:
    """Fold 0 of 3d_fullres is trained already."""
    before = kit.made_in(runs_copy)
    ended = autounet("run", "-d", trained.volumes, "--runs", runs_copy, "--dry-run", "--budget", "2h", "-f", "0,1")
    assert ended.code == 0, ended
    rows = [line.split("│")[1:3] for line in ended.out.splitlines() if "│ train " in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["train 2d fold 0", "27 min 00 s at most"],
        ["train 2d fold 1", "27 min 00 s at most"],
        ["train 3d_fullres fold 0", "done"],
        ["train 3d_fullres fold 1", "27 min 00 s at most"],
    ]
    assert kit.made_in(runs_copy) == before


def test_from_nothing_to_the_report_and_on_after_an_interruption(
    trained: Any, tmp_path: Path, autounet: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before the second fold, the same command goes on with it; once more, it has nothing to do."""
    command = ("run", "-d", trained.cells, "-f", "0,1", "--preset", "small", "--epochs", "1", "--iterations", "2")
    command += ("--device", "cpu", "--workers", "1", "--runs", tmp_path)  # type: ignore[assignment]
    folder = tmp_path / trained.cells.name
    real, folds = running.run_train, list[str]()

    def interrupted(session: Any, dataset: str, fold: str, *rest: Any) -> None:
        if fold == "1" and "1" not in folds:
            folds.append("1")
            raise KeyboardInterrupt
        folds.append(fold)
        real(session, dataset, fold, *rest)

    monkeypatch.setattr(running, "run_train", interrupted)
    assert autounet(*command).code == 130
    assert not (folder / "selection.json").exists()
    ended = autounet(*command)
    assert ended.code == 0, ended
    assert folds == ["0", "1", "1"]
    found = Selection.load(folder / "selection.json")
    assert (found.chosen, found.folds, found.cases) == ("2d", ("0", "1"), 2)
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in (folder / "selection.json", folder / "report.html")}
    again = autounet(*command)
    assert again.code == 0
    assert folds == ["0", "1", "1"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_folds_of_other_cases_are_not_used(trained: Any, tmp_path: Path, autounet: Run, refused: Run) -> None:
    """Folds were edited after training: told before anything is done, trained anew with --overwrite."""
    runs = Path(shutil.copytree(trained.runs, tmp_path / "runs"))
    data, splits = trained.cells, runs / trained.cells.name / "splits.json"
    command = ("run", "-d", data, "-f", "0", "--runs", runs, "--device", "cpu", "--workers", "1", "--epochs", "1", "--iterations", "2")
    raw = json.loads(splits.read_text())
    splits.write_text(json.dumps({**raw, "folds": raw["folds"][::-1]}))
    before = splits.read_bytes()
    shown = autounet(*command, "--dry-run")
    assert "was scored on other cases than it holds out now" in shown.out
    refused(2, ["1 fold cannot be used: 2d fold 0 was scored on other cases", "--overwrite"], *command)
    assert splits.read_bytes() == before
    ended = autounet(*command, "--overwrite")
    assert ended.code == 0, ended
    assert splits.read_bytes() == before
    assert Selection.load(runs / data.name / "selection.json").cases == 1


def test_lengths_and_folds_that_make_no_sense(trained: Any, tmp_path: Path, refused: Run) -> None:
    common = ("run", "-d", trained.cells, "--runs", tmp_path)
    refused(2, ["--epochs and --budget"], *common, "--epochs", "1", "--budget", "1h")
    refused(2, ["-f all", "selected"], *common, "-f", "all")
    refused(2, ["-f 7", "no such fold"], *common, "-f", "7")
    shutil.rmtree(tmp_path, ignore_errors=True)
