"""The history file: what is written is read again, and a damaged one is named."""

import json
from pathlib import Path

import pytest

from autounet.errors import ArtefactError
from autounet.training.history import EpochRecord, read_history, write_history


def _record(epoch: int, **changes: object) -> EpochRecord:
    values = {
        "epoch": epoch, "learning_rate": 0.01, "train_loss": 0.5, "validation_loss": None, "dice": {"a": 0.25, "b": None},
        "mean_dice": 0.25, "ema_dice": 0.25, "seconds": 1.5, "trained_seconds": 1.5, "iterations": 3, "data_wait_share": 0.0,
    }  # fmt: skip
    return EpochRecord.model_validate(values | changes)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "fold" / "history.jsonl"
    records = [_record(0), _record(1, validation_loss=0.125)]
    write_history(path, records)
    assert read_history(path) == records
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("text", ["{", '{"epoch": 0}\n', "[1]\n"])
def test_a_damaged_history_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(ArtefactError, match=r"history\.jsonl"):
        read_history(path)


def test_a_missing_history_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nothing"):
        read_history(tmp_path / "nothing.jsonl")
