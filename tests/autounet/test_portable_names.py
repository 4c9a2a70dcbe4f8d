"""Names and files where systems differ."""

import os
from pathlib import Path

import pytest

from autounet import portable
from autounet.dataset import name_problems
from autounet.errors import DatasetError
from autounet.portable import check_told_apart, replace_file, same_but_for_case, tells_case_apart, unusable_on_windows


@pytest.mark.parametrize("name", ["case_001", "console", "com", "COM10", "auxiliary", "a.con", "Fall Ä", "x=1,y"])
def test_names_that_all_systems_take(name: str) -> None:
    assert unusable_on_windows(name) is None


@pytest.mark.parametrize(
    ("name", "words"), [("CON", "device"), ("nul.a", "device"), ("Lpt1", "device"), ("t=10:30", "':'"), ("a?", "'?'"), ("a\tb", r"'\t'")]
)
def test_names_that_windows_refuses(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    why = unusable_on_windows(name)
    assert why is not None
    assert words in why
    monkeypatch.setattr(portable.sys, "platform", "win32")
    assert len(name_problems(name)) == 1


def test_elsewhere_they_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable.sys, "platform", "linux")
    assert name_problems("t=10:30") == []


def test_names_that_differ_in_case_only() -> None:
    assert same_but_for_case(["b", "A", "a", "Straße", "STRASSE", "c"]) == [("A", "a"), ("STRASSE", "Straße")]


def test_a_disk_is_asked_without_writing(tmp_path: Path) -> None:
    """A second folder, which is another one, tells them apart; a link to the same one behaves as a disk that does not."""
    runs = tmp_path / "Runs"
    runs.mkdir()
    if not (tmp_path / "rUNS").exists():
        assert tells_case_apart(runs)
        (tmp_path / "rUNS").mkdir()
        assert tells_case_apart(runs)
        (tmp_path / "rUNS").rmdir()
        try:
            (tmp_path / "rUNS").symlink_to(runs)
        except OSError:
            pytest.skip("no links here")
    assert not tells_case_apart(runs)
    numbers = runs / "123"
    numbers.mkdir()
    assert not tells_case_apart(numbers)  # by the folder around it


def test_cases_that_would_be_written_over_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_told_apart(["a", "b"], tmp_path)
    monkeypatch.setattr(portable, "tells_case_apart", lambda folder: False)
    check_told_apart(["a", "b"], tmp_path / "not" / "yet")
    with pytest.raises(DatasetError, match="would be written over each other") as caught:
        check_told_apart(["A", "a", "b"], tmp_path / "not" / "yet")
    assert [problem.case for problem in caught.value.problems] == ["A, a"]
    monkeypatch.setattr(portable, "tells_case_apart", lambda folder: True)
    check_told_apart(["A", "a", "b"], tmp_path)


def test_windows_refuses_to_replace_a_file_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals, as a virus scanner causes them; elsewhere the first one counts, as nothing passes there."""
    (tmp_path / "draft").write_text("new")
    (tmp_path / "file").write_text("old")
    refusals = [PermissionError(13, "in use"), PermissionError(13, "in use")]
    monkeypatch.setattr(portable, "WAITS", (0.0, 0.0, 0.0))

    def replace(draft: Path, path: Path) -> None:
        if refusals:
            raise refusals.pop()
        os.replace(draft, path)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(portable.sys, "platform", "linux")
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "draft", tmp_path / "file")
    monkeypatch.setattr(portable.sys, "platform", "win32")
    refusals.append(PermissionError(13, "in use"))
    replace_file(tmp_path / "draft", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    assert refusals == []
