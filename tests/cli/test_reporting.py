"""``autounet report`` as its users meet it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.cli import reporting

Autounet = Callable[..., Any]


@pytest.fixture
def run(trained: Any, runs_copy: Path) -> tuple[Path, Path]:
    """Planar images of which fold 0 is trained, and a copy of the folder of runs."""
    return trained.cells, runs_copy


def test_a_page_is_written_and_kept_until_something_changes(run: tuple[Path, Path], autounet: Autounet) -> None:
    root, runs = run
    page = runs / root.name / "report.html"
    first = autounet("report", "-d", root, "--runs", runs, "--json")
    assert first.code == 0, first
    assert json.loads(first.out) == {"report": str(page), "written": True, "bytes": page.stat().st_size}
    text = page.read_text(encoding="utf-8")
    assert "cell" in text
    assert "autounet train -d" in text, "the commands that lead here"
    written = page.stat().st_mtime_ns
    again = autounet("report", "-d", root, "--runs", runs)
    assert (again.code, page.stat().st_mtime_ns) == (0, written)
    assert f"Up to date: {page}" in again.text
    (runs / root.name / "models/2d/fold_0/scores.json").unlink()
    changed = autounet("report", "-d", root, "--runs", runs)
    assert "2d: fold 0 trained, but not scored" in changed.text
    assert page.stat().st_mtime_ns > written
    assert f"Written to {page}" in autounet("report", "-d", root, "--runs", runs, "--overwrite").text


def test_another_file(run: tuple[Path, Path], autounet: Autounet, tmp_path: Path) -> None:
    root, runs = run
    ended = autounet("report", "-d", root, "--runs", runs, "-o", tmp_path / "new" / "cells.html")
    assert ended.code == 0
    assert (tmp_path / "new" / "cells.html").stat().st_size > 10_000
    assert not (runs / root.name / "report.html").exists()


def test_a_run_folder_without_its_dataset(run: tuple[Path, Path], autounet: Autounet, tmp_path: Path) -> None:
    """All but the slices."""
    root, runs = run
    ended = autounet("report", "-d", "12", "--runs", runs, "--data", tmp_path)
    assert ended.code == 0, ended
    assert "is not at hand: no slices" in ended.text
    page = runs / root.name / "report.html"
    assert "The images are not at hand" in page.read_text(encoding="utf-8")
    assert "Written to" in autounet("report", "-d", root, "--runs", runs).out, "with the dataset at hand there is more to show"
    assert "The images are not at hand" not in page.read_text(encoding="utf-8")


def test_a_failure_leaves_the_page_that_was_there(run: tuple[Path, Path], autounet: Autounet, monkeypatch: pytest.MonkeyPatch) -> None:
    root, runs = run
    assert autounet("report", "-d", root, "--runs", runs).code == 0
    page = runs / root.name / "report.html"
    before = page.read_bytes()

    def fail(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(reporting, "build_page", fail)
    assert autounet("report", "-d", root, "--runs", runs, "--overwrite").code == 130
    assert page.read_bytes() == before
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".partial")] == []


def test_what_cannot_be_reported(run: tuple[Path, Path], refused: Callable[..., Any], tmp_path: Path) -> None:
    root, runs = run
    refused(2, ["no dataset 'nowhere'", "run folders in", root.name], "report", "-d", "nowhere", "--runs", runs, "--data", tmp_path)
    refused(2, ["is a folder", "name a file"], "report", "-d", root, "--runs", runs, "-o", tmp_path)
    refused(1, ["no fingerprint here", "autounet plan"], "report", "-d", root, "--runs", tmp_path / "empty")
