"""Weights and states: what is written is read again, nothing is executed, and no half file is ever seen."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autounet.checkpoint import load_state, load_weights, read_about, save_state, save_weights, weights_identity
from autounet.errors import ArtefactError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([0.5])}
ABOUT = {"plan": "0123", "epoch": "7"}
STATE = {"network": WEIGHTS, "history": [{"epoch": 0, "dice": {"a": None}}], "iterations": 3}


def test_weights_come_back_with_what_was_written_about_them(tmp_path: Path) -> None:
    path = tmp_path / "models" / "weights.safetensors"
    save_weights(path, {**WEIGHTS, "t": WEIGHTS["a.weight"].T}, ABOUT)
    weights, about = load_weights(path)
    assert about == read_about(path) == {**ABOUT, "content": weights_identity(path)}
    assert weights["a.weight"].equal(WEIGHTS["a.weight"])
    assert weights["t"].equal(WEIGHTS["a.weight"].T)
    assert list(path.parent.iterdir()) == [path]


def test_weights_do_not_hang_on_their_file(tmp_path: Path) -> None:
    """Mapped tensors would keep Windows from replacing it, and end this process (SIGBUS) when somebody cuts it off."""
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"a": torch.arange(100_000.0)}, ABOUT)
    weights, _ = load_weights(path)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert path.name not in maps.read_text()
    path.write_bytes(b"")
    assert weights["a"].equal(torch.arange(100_000.0))


def test_equal_weights_are_equal_files_and_others_are_told_apart(tmp_path: Path) -> None:
    """Wherever they are copied to, and in whatever order they were given."""
    names = [f"key{number}" for number in range(20)]
    for file, order in (("one", names), ("two", names[::-1])):
        save_weights(tmp_path / file, WEIGHTS, {name: name for name in order})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    save_weights(tmp_path / "other", {**WEIGHTS, "a.bias": torch.tensor([0.25])}, ABOUT)
    assert weights_identity(tmp_path / "one") == weights_identity(tmp_path / "two") != weights_identity(tmp_path / "other")
    assert load_weights(tmp_path / "one")[0]["a.bias"].equal(WEIGHTS["a.bias"])


def test_a_state_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "resume.pt", STATE)
    state = load_state(tmp_path / "resume.pt")
    assert state["network"]["a.weight"].equal(WEIGHTS["a.weight"])
    assert (state["history"], state["iterations"]) == (STATE["history"], 3)


@pytest.mark.parametrize("load", [load_weights, read_about, load_state])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage", "folder"])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, load: Callable[[Path], Any], damage: str) -> None:
    path = tmp_path / "file.bin"
    (save_state(path, STATE) if load is load_state else save_weights(path, WEIGHTS, ABOUT))
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"no checkpoint" * 50}[damage])
    with pytest.raises(ArtefactError, match=r"file\.bin: .*cannot be read") as raised:
        load(path)
    assert raised.value.remedy


class _Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def test_a_state_with_code_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resume.pt"
    torch.save({"network": _Payload()}, path)
    with pytest.raises(ArtefactError):
        load_state(path)
    path.write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(ArtefactError):
        load_state(path)


def test_something_else_than_a_state_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "resume.pt")
    with pytest.raises(ArtefactError, match="is not a checkpoint"):
        load_state(tmp_path / "resume.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file size")
@pytest.mark.parametrize("kind", ["weights", "state"])
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path, kind: str) -> None:
    import resource

    path = tmp_path / f"{kind}.bin"

    def save(weights: dict[str, torch.Tensor]) -> None:
        (save_weights(path, weights, ABOUT) if kind == "weights" else save_state(path, {"network": weights}))

    save(WEIGHTS)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ArtefactError, match="cannot be written: found File too large"):
            save({"large": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
