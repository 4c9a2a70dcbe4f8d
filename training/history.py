"""What happened in each epoch, as one JSON line each."""

import json
from collections.abc import Sequence
from pathlib import Path

from autounet.artefact import Frozen, write_text_atomic
from autounet.errors import ArtefactError
from autounet.text_files import read_text


class EpochRecord(Frozen):
    """One epoch."""

    epoch: int
    learning_rate: float
    """At its beginning."""
    train_loss: float
    """Mean over the steps, those left out apart."""
    validation_loss: float | None
    """None where there is nothing to validate on (``-f all``)."""
    dice: dict[str, float | None]
    """Pseudo-Dice of each class over the validation patches; None if the class was not among them."""
    mean_dice: float | None
    ema_dice: float | None
    seconds: float
    trained_seconds: float
    """All epochs so far."""
    iterations: int
    data_wait_share: float
    """Share of the epoch spent waiting for batches."""
    samples_per_second: float = 0.0
    """Patches trained on per second of the epoch's steps."""
    left_out: int = 0
    """Steps that changed nothing because loss or gradient was not a finite number."""


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Writes the whole history anew, atomically. Raises ArtefactError."""
    write_text_atomic(path, "".join(json.dumps(record.model_dump(mode="json")) + "\n" for record in records))


def read_history(path: Path) -> list[EpochRecord]:
    """Reads a history. Raises ArtefactError when it is missing or malformed."""
    try:
        return [EpochRecord.model_validate_json(line) for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: cannot be read as a training history", found=error) from None
