"""The numbers of a training in TensorBoard, Weights & Biases and MLflow: written to the fold's folder, unless the user has set up a server.

A tracker is a guest. What is missing is said before training begins; what fails later is dropped with one warning.
"""

import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from autounet.artefact import Frozen, write_text_atomic
from autounet.errors import ArtefactError, UsageError
from autounet.text_files import read_text
from autounet.training.history import EpochRecord

log = logging.getLogger(__name__)

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Settings = Mapping[str, str | int | float]

KEPT = "tracking.json"
"""In the fold's folder: which runs there are, and how many epochs they have."""

PROJECT = "autounet"
"""Where runs are put unless the user's own configuration names another project or experiment."""

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.: -]")
"""MLflow allows few characters in the names of metrics; classes are free to have others."""


class Tracker(Protocol):
    """What hears of a training."""

    def epoch(self, record: EpochRecord) -> None:
        """After every epoch. Epochs that were heard of before are passed over, so that a history can be told from its beginning."""

    def finish(self, scores: Mapping[str, float | None] | None) -> None:
        """At the end: scores of the held-out cases by name (``dice/liver``); None where there are none."""


class _Run(Protocol):
    """A run that one of the programs records."""

    @property
    def id(self) -> str:
        """By which it is taken up again."""

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        """Numbers of an epoch."""

    def close(self, well: bool) -> None:
        """No more comes; not ``well`` when training was put down or failed."""


class _Kept(Frozen):
    """A run that was begun."""

    id: str
    epochs: int = 0
    """So many are logged."""


class _AllKept(Frozen):
    runs: dict[TrackerName, _Kept]


def numbers_of(record: EpochRecord) -> dict[str, float]:
    """What is tracked of an epoch, under the names that ``history.jsonl`` has; classes that were not there have no Dice."""
    names = ("train_loss", "validation_loss", "mean_dice", "ema_dice", "learning_rate", "samples_per_second", "data_wait_share", "seconds")
    numbers: dict[str, float | None] = {name: getattr(record, name) for name in names}
    numbers |= {f"dice/{NOT_IN_NAMES.sub('_', name)}": value for name, value in record.dice.items()}
    return {name: value for name, value in numbers.items() if value is not None}


class Trackers:
    """All trackers of one training as one; made by ``open_trackers``, closed by leaving the context."""

    def __init__(self, runs: dict[TrackerName, _Run], kept: dict[TrackerName, _Kept], path: Path) -> None:
        self._runs, self._kept, self._path = runs, kept, path

    def epoch(self, record: EpochRecord) -> None:
        """Tells all that have not heard of this epoch yet."""
        todo = [name for name in self._runs if record.epoch >= self._kept[name].epochs]
        for name in todo:
            if self._attempt(name, partial(_log, numbers_of(record), record.epoch)):
                self._kept[name] = _Kept(id=self._kept[name].id, epochs=record.epoch + 1)
        if todo:
            _save(self._path, self._kept)

    def finish(self, scores: Mapping[str, float | None] | None) -> None:
        """Scores as ``held_out/…``, at the last epoch."""
        numbers = {
            f"held_out/{'/'.join(NOT_IN_NAMES.sub('_', part) for part in name.split('/'))}": value for name, value in (scores or {}).items()
        }
        known = {name: value for name, value in numbers.items() if value is not None}
        for name in list(self._runs) if known else ():
            last = max(self._kept[name].epochs - 1, 0)
            self._attempt(name, partial(_log, known, last))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in list(self._runs):
            self._attempt(name, lambda run: run.close(kind is None))
        self._runs.clear()

    def _attempt(self, name: TrackerName, act: Callable[[_Run], None]) -> bool:
        """Whether it went well; a tracker that fails is not asked again, since waiting for it would hold up training."""
        try:
            act(self._runs[name])
        except Exception as error:  # whatever it is, training is worth more
            log.warning("%s has failed and is told no more; training goes on (%s)", name, str(error).split("\n")[0] or type(error).__name__)
            run = self._runs.pop(name)
            with suppress(Exception):
                run.close(False)
            return False
        return True


def _save(path: Path, kept: dict[TrackerName, _Kept]) -> None:
    try:
        write_text_atomic(path, _AllKept(runs=kept).model_dump_json(indent=2) + "\n")
    except ArtefactError as error:  # the next checkpoint will fail for the same reason, and end the training
        log.warning("%s", error)


def _log(numbers: dict[str, float], epoch: int, run: _Run) -> None:
    run.log(numbers, epoch)


def open_trackers(names: Sequence[TrackerName], folder: Path, run_name: str, settings: Settings, *, anew: bool = False) -> Trackers:
    """Begins runs, or goes on with those that this folder has.

    TensorBoard writes to ``folder/tensorboard``. Weights & Biases writes to ``folder/wandb``, offline unless the user's own configuration
    (``WANDB_MODE``, ``wandb online``) says otherwise. MLflow writes to ``folder/mlflow``, or to ``MLFLOW_TRACKING_URI`` where that is set;
    its file store has to be allowed by ``MLFLOW_ALLOW_FILE_STORE``, which is for the caller to set.

    Args:
        names: Which; none is fine.
        folder: Of the fold.
        run_name: For people.
        settings: Told once, when a run begins.
        anew: Training starts over: runs of this folder are not gone on with, and TensorBoard's files, which would mix, are removed.

    Raises:
        UsageError: A package is missing, or a tracker cannot begin.
        ArtefactError: ``tracking.json`` is damaged.
    """
    path = folder / KEPT
    if anew:
        path.unlink(missing_ok=True)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    known = _read(path)
    runs: dict[TrackerName, _Run] = {}
    with ExitStack() as begun:
        for name in dict.fromkeys(names):
            runs[name] = run = _open(name, folder, run_name, settings, known.get(name))
            begun.callback(run.close, False)
        begun.pop_all()
    kept = {**known, **{name: known.get(name) or _Kept(id=run.id) for name, run in runs.items()}}
    if runs:
        _save(path, kept)  # before the first epoch ends, so that a run is gone on with even if it never does
    return Trackers(runs, kept, path)


def _open(name: TrackerName, folder: Path, run_name: str, settings: Settings, kept: _Kept | None) -> _Run:
    try:
        return OPENERS[name](folder / name, run_name, settings, kept)
    except ImportError as error:
        raise UsageError(
            f"--track {name}: a package is not installed", found=error, remedy="install it with `pip install 'autounet[track]'`"
        ) from None
    except Exception as error:  # each has errors of its own
        remedy = "leave it out, or mend its configuration"
        if kept is not None:
            remedy += f"; removing {folder / KEPT} begins a new run"
        raise UsageError(f"--track {name}: cannot begin", found=str(error).split("\n")[0], remedy=remedy) from None


def _read(path: Path) -> dict[TrackerName, _Kept]:
    try:
        return dict(_AllKept.model_validate_json(read_text(path)).runs)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"{path}: cannot be read", found=str(error).split("\n")[0], remedy="delete it; new runs are begun then"
        ) from None


class _TensorBoard:
    id = ""

    def __init__(self, folder: Path, run_name: str, settings: Settings, kept: _Kept | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What another process has logged beyond the last epoch that is known of is hidden.
        self._writer = SummaryWriter(str(folder), purge_step=None if kept is None else kept.epochs)
        if kept is None:
            rows = "\n".join(f"|{name}|{value}|" for name, value in {"run": run_name, **settings}.items())
            self._writer.add_text("settings", f"|setting|value|\n|---|---|\n{rows}")

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, well: bool) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, run_name: str, settings: Settings, kept: _Kept | None) -> None:
        import wandb

        own = wandb.setup().settings
        mode = own.mode if "mode" in own.model_fields_set else "offline"
        # Nothing but the numbers and the settings: no text of the terminal, no paths, no code.
        quiet = wandb.Settings(mode=mode, silent=True, console="off", disable_git=True, save_code=False, x_disable_meta=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=own.project or PROJECT,
            name=run_name,
            id=None if kept is None else kept.id,
            resume=None if kept is None else "allow",
            dir=folder.parent,  # it makes its folder itself
            config=dict(settings),
            reinit="create_new",  # leaves a run of the caller's alone
            settings=quiet,
        )

    @property
    def id(self) -> str:
        return str(self._run.id)

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        self._run.log(numbers, step=epoch)

    def close(self, well: bool) -> None:
        self._run.finish(exit_code=0 if well else 1)


class _MLflow:
    def __init__(self, folder: Path, run_name: str, settings: Settings, kept: _Kept | None) -> None:
        from mlflow.entities import Param
        from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME
        from mlflow.tracking import MlflowClient, is_tracking_uri_set

        self._client = MlflowClient(None if is_tracking_uri_set() else folder.absolute().as_uri())  # type: ignore[no-untyped-call]
        if kept is not None:
            self.id = kept.id
            self._client.update_run(kept.id, "RUNNING")
            return
        experiment = MLFLOW_EXPERIMENT_NAME.get() or PROJECT  # type: ignore[no-untyped-call]
        there = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if there is None else there.experiment_id
        self.id = self._client.create_run(number, run_name=run_name).info.run_id
        self._client.log_batch(self.id, params=[Param(NOT_IN_NAMES.sub("_", name), str(value)) for name, value in settings.items()])

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, epoch) for name, value in numbers.items()])

    def close(self, well: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if well else "KILLED")


OPENERS: dict[TrackerName, Callable[[Path, str, Settings, _Kept | None], _Run]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _MLflow,
}
