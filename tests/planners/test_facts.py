"""What cases have told is kept: a fingerprint made of it is the one that reading all cases makes, and only new cases are read."""

import json
import os
import shutil
from pathlib import Path

import pytest

import autounet.planners.extract as extract
from autounet.dataset import Case, read_dataset
from autounet.phantom import write_phantom
from autounet.planners.extract import extract_fingerprint
from autounet.planners.facts import load_facts
from autounet.runtime import Runtime

ALONE = Runtime(device="cpu", workers=0)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are read."""
    read: list[str] = []
    real = extract.read_case

    def read_case(case: Case, dataset: object) -> object:
        read.append(case.id)
        return real(case, dataset)  # type: ignore[arg-type]

    monkeypatch.setattr(extract, "read_case", read_case)
    return read


@pytest.fixture
def phantom(tmp_path: Path) -> Path:
    """Four cases with five classes, two of which lie side by side."""
    write_phantom(tmp_path, train=4, test=0)
    return tmp_path / "Dataset001_Phantom"


def add_case(root: Path, name: str, of: str) -> None:
    """A copy of a case's files under another name."""
    shutil.copy(root / "imagesTr" / f"{of}_0000.nii.gz", root / "imagesTr" / f"{name}_0000.nii.gz")
    shutil.copy(root / "labelsTr" / f"{of}.nii.gz", root / "labelsTr" / f"{name}.nii.gz")


def test_added_cases_alone_are_read_and_the_fingerprint_is_the_same_to_the_last_bit(phantom: Path, counted: list[str]) -> None:
    kept = phantom / "kept.npz"
    first = extract_fingerprint(read_dataset(phantom), ALONE, kept)
    names = [case.id for case in read_dataset(phantom).cases]
    assert counted == names
    add_case(phantom, "added", names[0])
    counted.clear()
    grown = extract_fingerprint(read_dataset(phantom), ALONE, kept)
    assert counted == ["added"]
    assert grown == extract_fingerprint(read_dataset(phantom), ALONE)
    assert grown.intensities != first.intensities
    counted.clear()
    assert extract_fingerprint(read_dataset(phantom), ALONE, kept) == grown
    assert counted == []


def test_a_changed_file_and_changed_labels_are_read_again(phantom: Path, counted: list[str]) -> None:
    kept = phantom / "kept.npz"
    names = [case.id for case in read_dataset(phantom).cases]
    extract_fingerprint(read_dataset(phantom), ALONE, kept)
    counted.clear()
    os.utime(phantom / "labelsTr" / f"{names[2]}.nii.gz", ns=(1, 1))
    extract_fingerprint(read_dataset(phantom), ALONE, kept)
    assert counted == [names[2]]
    counted.clear()
    content = json.loads((phantom / "dataset.json").read_text())
    content["channel_names"] = {"0": "CT"}
    (phantom / "dataset.json").write_text(json.dumps(content))
    extract_fingerprint(read_dataset(phantom), ALONE, kept)
    assert counted == names


def test_cases_that_are_gone_are_forgotten(phantom: Path) -> None:
    kept = phantom / "kept.npz"
    extract_fingerprint(read_dataset(phantom), ALONE, kept)
    gone = read_dataset(phantom).cases[1]
    gone.images[0].unlink()
    gone.label.unlink()
    left = read_dataset(phantom)
    assert len(left.cases) == 3
    assert extract_fingerprint(left, ALONE, kept) == extract_fingerprint(left, ALONE)
    assert len(load_facts(kept)) == 3


@pytest.mark.parametrize("damage", [b"", b"PK", b"not a zip at all" * 9], ids=["empty", "cut", "other"])
def test_a_damaged_file_is_as_good_as_none(damage: bytes, phantom: Path) -> None:
    kept = phantom / "kept.npz"
    whole = extract_fingerprint(read_dataset(phantom), ALONE, kept)
    kept.write_bytes(damage or kept.read_bytes()[:200])
    assert load_facts(kept) == {}
    assert extract_fingerprint(read_dataset(phantom), ALONE, kept) == whole
