"""``autounet doctor`` as its users meet it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.artefact import digest_of
from autounet.cli.doctoring import _cases
from autounet.health.findings import Finding, Health, pictured
from autounet.layout import RunLayout
from autounet.phantom import write_phantom
from autounet.splits import Split, Splits

Autounet = Callable[..., Any]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's dataset, with eight cases; nothing is wrong with it."""
    return write_phantom(tmp_path_factory.mktemp("data"), train=8, test=0)


@pytest.fixture
def clean(phantoms: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(phantoms, tmp_path / "data" / phantoms.name))


@pytest.fixture
def copied(clean: Path) -> Path:
    """Case 3 is a copy of case 1."""
    for folder, ending in (("imagesTr", "_0000"), ("labelsTr", "")):
        shutil.copy(clean / folder / f"phantom_001{ending}.nii.gz", clean / folder / f"phantom_003{ending}.nii.gz")
    return clean


def test_a_clean_dataset_ends_with_0(clean: Path, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("doctor", "-d", clean, "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert "Dataset001_Phantom: 8 cases examined, nothing found" in ended.out
    assert "This machine: " in ended.err


def test_severe_findings_end_with_1(copied: Path, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("doctor", "-d", copied, "--runs", tmp_path / "runs")
    assert ended.code == 1
    assert "8 cases examined: 1 severe" in ended.out
    assert "has the same image as phantom_003" in ended.text
    assert "→ Keep one of them" in ended.text
    assert "error:" not in ended.err
    layout = RunLayout(tmp_path / "runs" / "Dataset001_Phantom")
    (shown,) = pictured(Health.load(layout.health), layout.health_pictures)
    assert (shown.case, shown.kind, shown.severity, shown.others) == ("phantom_001", "copy", "severe", ("phantom_003",))
    assert shown.picture is not None
    assert shown.picture.startswith(b"\x89PNG")
    assert json.loads(layout.manifest.read_text())[-1]["status"] == "done"  # the examination was, whatever it found


def test_json_is_the_artefact(copied: Path, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("doctor", "-d", copied, "--runs", tmp_path, "--json")
    assert ended.code == 1
    told = json.loads(ended.out)
    assert told == json.loads((tmp_path / "Dataset001_Phantom" / "health.json").read_text())
    assert set(told["findings"][0]) >= {"case", "kind", "severity", "what", "advice", "picture", "others"}


def test_it_is_done_once(copied: Path, autounet: Autounet, tmp_path: Path) -> None:
    """Until the files or the folds change, or somebody deletes what it made."""
    run = ("doctor", "-d", copied, "--runs", tmp_path)
    report = tmp_path / "Dataset001_Phantom" / "health.json"
    assert "Written to" in autounet(*run).out
    assert "Up to date" in autounet(*run).out
    (report.parent / "health" / "000.png").unlink()
    assert "Written to" in autounet(*run).out
    report.write_text("{")
    ended = autounet(*run)
    assert "it is made anew" in ended.err
    assert "Written to" in ended.out
    (copied / "labelsTr" / "phantom_003.nii.gz").unlink()
    (copied / "imagesTr" / "phantom_003_0000.nii.gz").unlink()
    assert "7 cases examined, nothing found" in autounet(*run).out


def test_the_folds_on_disk_decide_what_leaks(copied: Path, autounet: Autounet, tmp_path: Path) -> None:
    names = [f"phantom_{number:03d}" for number in range(1, 9)]
    held_out = [["phantom_001", "phantom_003"], [names[1], names[3]], [names[4]], [names[5]], names[6:]]
    folds = tuple(Split(train=tuple(name for name in names if name not in held), validation=tuple(held)) for held in held_out)
    Splits(made_from={"cases": digest_of(names)}, folds=folds).save(tmp_path / "Dataset001_Phantom" / "splits.json")
    ended = autounet("doctor", "-d", copied, "--runs", tmp_path)
    assert ended.code == 0  # both in one fold: a warning
    assert "1 warning" in ended.out


def test_a_bad_file_is_a_finding(clean: Path, autounet: Autounet, tmp_path: Path) -> None:
    (clean / "imagesTr" / "phantom_004_0000.nii.gz").write_bytes(b"no image")
    ended = autounet("doctor", "-d", clean, "--runs", tmp_path)
    assert ended.code == 1
    assert "unusable file" in ended.text
    assert "phantom_004" in ended.text
    assert "error:" not in ended.err


def test_many_findings_of_a_kind_are_summed_up(clean: Path, autounet: Autounet, tmp_path: Path) -> None:
    for number in range(1, 8):
        (clean / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz").write_bytes(b"no image")
    ended = autounet("doctor", "-d", clean, "--runs", tmp_path)
    assert "7 severe" in ended.out
    assert "1 more" in ended.out
    assert "phantom_007" in ended.text


def test_further_cases_of_a_finding_are_named() -> None:
    """Five at most, as a table has to be read."""

    def named(*others: str) -> str:
        return _cases(Finding(case="a", kind="copy", severity="severe", what="is", advice="do", others=others))

    assert [named(), named("b")] == ["a", "a\nb"]
    assert named(*"bcdef").splitlines() == ["a", "b", "c", "d", "e", "f"]
    assert named(*"bcdefgh").splitlines() == ["a", "b", "c", "d", "e", "f", "and 2 more"]


def test_planar_images(kit: Any, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("doctor", "-d", kit.write_cells(tmp_path / "Dataset012_Cells"), "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert "Not examined: what is unusual: that needs 8 cases" in ended.out
