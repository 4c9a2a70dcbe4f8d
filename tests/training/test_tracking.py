"""What trackers are told is what the history has, also when a training is put down and taken up again; and they never stop a training."""

import builtins
import json
import logging
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autounet.errors import ArtefactError, UsageError
from autounet.training.history import EpochRecord
from autounet.training.tracking import TrackerName, open_trackers

SETTINGS = {"configuration": "3d_fullres", "batch size": 2, "learning_rate": 0.01}
ALL: tuple[TrackerName, ...] = ("tensorboard", "wandb", "mlflow")

Values = dict[str, dict[int, float]]
"""By name and epoch."""


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server, no account, no folder outside of the test; and what the command line sets for MLflow and Weights & Biases."""
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_own"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def record(epoch: int) -> EpochRecord:
    """The shell is among the patches of every second epoch only."""
    return EpochRecord(
        epoch=epoch, learning_rate=0.01 * 0.9**epoch, train_loss=1 / (epoch + 2), validation_loss=1 / (epoch + 1),
        dice={"ball": 0.5 + epoch / 10, "shell (outer)": 0.25 if epoch % 2 else None}, mean_dice=0.5, ema_dice=0.4 + epoch / 100,
        seconds=3.0, trained_seconds=3.0 * (epoch + 1), iterations=10, data_wait_share=0.125, samples_per_second=12.0 + epoch,
    )  # fmt: skip


def expected(epochs: int) -> Values:
    """The numbers of these records, by the names in history.jsonl."""
    values: Values = {}
    for epoch in range(epochs):
        row = record(epoch).model_dump()
        names = (
            "train_loss",
            "validation_loss",
            "mean_dice",
            "ema_dice",
            "learning_rate",
            "samples_per_second",
            "data_wait_share",
            "seconds",
        )
        told = {**{name: row[name] for name in names}, "dice/ball": row["dice"]["ball"], "dice/shell _outer_": row["dice"]["shell (outer)"]}
        for name, value in told.items():
            if value is not None:
                values.setdefault(name, {})[epoch] = value
    return values


def train(
    folder: Path, names: tuple[TrackerName, ...], epochs: range, scores: Mapping[str, float | None] | None = None, **more: Any
) -> None:
    with open_trackers(names, folder, "Task02 fold 0", SETTINGS, **more) as trackers:
        for epoch in epochs:
            trackers.epoch(record(epoch))
        trackers.finish(scores)


def add(values: Values, name: str, epoch: int, value: float) -> None:
    assert epoch not in values.setdefault(name, {}), f"{name} of epoch {epoch} is there twice"
    values[name][epoch] = value


def from_tensorboard(folder: Path) -> Values:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    values: Values = {}
    for file in sorted((folder / "tensorboard").iterdir()):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    add(values, value.tag, event.step, value.tensor.float_val[0])
    return values


def wandb_records(file: Path) -> Iterator[Any]:
    """What an offline run has written: LevelDB's log format (blocks of 32768 bytes; records of checksum, length, kind, data)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = _whole(file), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no room for a record: the block's rest is empty
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def _whole(file: Path) -> bytes:
    """The file when its last record is there: the program that writes it goes on for a moment after ``finish``."""
    size, until = -1, time.monotonic() + 20
    while (now := file.stat().st_size) != size and time.monotonic() < until:
        size = now
        time.sleep(0.25)
    return file.read_bytes()


def from_wandb(folder: Path) -> Values:
    values: Values = {}
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for entry in wandb_records(file):
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in entry.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    add(values, name, entry.history.step.num, value)
    return values


def from_mlflow(folder: Path) -> Values:
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("autounet")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "Task02 fold 0"
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    values: Values = {}
    for name in run.data.metrics:
        for entry in client.get_metric_history(run.info.run_id, name):
            add(values, name, entry.step, entry.value)
    return values


READERS = {"tensorboard": from_tensorboard, "wandb": from_wandb, "mlflow": from_mlflow}


def assert_same(found: Values, wanted: Values) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name] == pytest.approx(values, rel=1e-6), name


@pytest.mark.parametrize("name", ALL)
def test_what_is_read_back_is_the_history_also_after_an_interruption(tmp_path: Path, name: TrackerName) -> None:
    """Put down in the third epoch and taken up again: one run, every epoch once, though the history is told from its beginning."""
    with suppress(KeyboardInterrupt), open_trackers([name], tmp_path, "Task02 fold 0", SETTINGS) as trackers:
        trackers.epoch(record(0))
        trackers.epoch(record(1))
        raise KeyboardInterrupt
    began = json.loads((tmp_path / "tracking.json").read_text())["runs"][name]
    assert began["epochs"] == 2
    if name == "wandb":
        time.sleep(1.0)  # it names folders by the second; nobody takes a training up again so soon
    train(tmp_path, (name,), range(4), {"dice/ball": 0.875, "dice/shell (outer)": None})
    assert json.loads((tmp_path / "tracking.json").read_text())["runs"] == {name: {"id": began["id"], "epochs": 4}}
    assert_same(READERS[name](tmp_path), {**expected(4), "held_out/dice/ball": {3: 0.875}})
    assert {path.name for path in tmp_path.iterdir()} - {"wandb_own"} == {"tracking.json", name}


def test_a_tracker_that_comes_later_is_told_all(tmp_path: Path) -> None:
    train(tmp_path, ("tensorboard",), range(2))
    train(tmp_path, ("tensorboard", "mlflow"), range(3))
    assert_same(from_tensorboard(tmp_path), expected(3))
    assert_same(from_mlflow(tmp_path), expected(3))


def test_a_training_that_starts_anew_has_new_runs(tmp_path: Path) -> None:
    train(tmp_path, ("tensorboard", "mlflow"), range(3))
    before = json.loads((tmp_path / "tracking.json").read_text())["runs"]["mlflow"]["id"]
    train(tmp_path, ("tensorboard", "mlflow"), range(1), anew=True)
    after = json.loads((tmp_path / "tracking.json").read_text())["runs"]["mlflow"]
    assert after["id"] != before
    assert after["epochs"] == 1
    assert_same(from_tensorboard(tmp_path), expected(1))


def test_wandb_says_nothing_of_the_machine_or_the_code(tmp_path: Path) -> None:
    train(tmp_path, ("wandb",), range(1))
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert {file.name for file in (run / "files").iterdir()} <= {"requirements.txt", "config.yaml", "wandb-summary.json"}
    (file,) = run.glob("*.wandb")
    configured = {item.key: json.loads(item.value_json) for entry in wandb_records(file) for item in entry.run.config.update}
    assert SETTINGS.items() <= configured.items()


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    train(tmp_path, (), range(2), {"dice/ball": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ALL)
def test_a_missing_package_is_said_before_training(tmp_path: Path, name: TrackerName, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(module: str, *arguments: Any, **more: Any) -> Any:
        if module.split(".")[0] == name:
            raise ImportError(f"No module named '{name}'")
        return real(module, *arguments, **more)

    for module in [module for module in sys.modules if module.startswith(("torch.utils.tensorboard", f"{name}."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=rf"--track {name}: a package is not installed: found No module named '{name}'.*autounet\[track\]"):
        train(tmp_path, (name,), range(1))


def test_a_tracker_that_fails_is_dropped_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow fails in the second epoch. Training and TensorBoard go on; MLflow gets what it lacks when training is taken up again."""
    from mlflow.tracking import MlflowClient

    caplog.set_level(logging.WARNING)
    with monkeypatch.context() as broken, open_trackers(["mlflow", "tensorboard"], tmp_path, "Task02 fold 0", SETTINGS) as trackers:
        trackers.epoch(record(0))
        broken.setattr(MlflowClient, "log_batch", lambda *_, **__: 1 / 0)
        trackers.epoch(record(1))
        trackers.epoch(record(2))
        trackers.finish({"dice/ball": 0.5})
    assert [entry.getMessage() for entry in caplog.records if entry.name.startswith("autounet")] == [
        "mlflow has failed and is told no more; training goes on (division by zero)"
    ]
    assert_same(from_tensorboard(tmp_path), {**expected(3), "held_out/dice/ball": {2: 0.5}})
    train(tmp_path, ("mlflow",), range(3))
    assert_same(from_mlflow(tmp_path), expected(3))


def test_what_cannot_begin_is_said_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text('{"runs": {"mlflow": {"id": "0123456789abcdef0123456789abcdef", "epochs": 3}}}')
    with pytest.raises(
        UsageError, match=r"--track mlflow: cannot begin: found .*0123456789abcdef.*removing .*tracking\.json begins a new run"
    ):
        train(tmp_path, ("tensorboard", "mlflow"), range(1))
    (tmp_path / "tracking.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"tracking\.json: cannot be read.*Delete it"):
        train(tmp_path, ("tensorboard",), range(1))
