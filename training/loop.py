"""The training loop: epoch → steps → online Dice → checkpoint. It owns no paths beyond the fold's and no data rules."""

import logging
import time
from typing import Any

from autounet.checkpoint import load_state, save_state, save_weights
from autounet.errors import ArtefactError, Interrupted
from autounet.runtime import Runtime
from autounet.training.distributed import agreed, anywhere, wait_for_all
from autounet.training.epoch import EpochSoFar, lowered_rate
from autounet.training.history import EpochRecord, write_history
from autounet.training.job import FoldJob
from autounet.training.learner import Learner
from autounet.training.note import StepNote
from autounet.training.schedule import Position, Schedule, plateau

log = logging.getLogger(__name__)

EMA = 0.9
TIMING_SHARE = 0.05
"""Of a budget: timing steps takes no more, but for the first two."""

VALIDATION_SHARE = 0.2
"""Validation patches per training step: nnU-Net's 50 for 250."""

CHECKPOINT_SECONDS = 300.0
"""Long epochs are put down on the way as well."""


class FoldTraining:
    """One training run, from where its checkpoint left it to its end.

    Args:
        job: What to train.
        runtime: Device, precision, seed, progress, and the processes that train together (connected already).
    """

    def __init__(self, job: FoldJob, runtime: Runtime) -> None:
        self._job, self._runtime, self._processes = job, runtime, runtime.processes
        self._learner = Learner(job, runtime)
        self._schedule = Schedule(job.length, optimizer=job.optimizer)
        self._history: list[EpochRecord] = []
        self._so_far = EpochSoFar()
        self._iterations = 0
        self._rate_factor = 1.0
        self._reserved = 0.0
        self._epoch_seconds = 0.0
        """Of the first epoch, as it was estimated for a budget; 0 where no budget was ever fitted."""
        self._clock = self._saved = time.perf_counter()

    @property
    def position(self) -> Position:
        """How far the run is."""
        if not self._history:
            return Position(0, 0.0, self._epoch_seconds)
        last = self._history[-1]
        return Position(last.epoch + 1, last.trained_seconds, last.seconds)

    @property
    def step(self) -> int:
        """Steps done of the present epoch."""
        return self._so_far.steps

    def describe(self) -> str:
        """Device, precision, size of the network, and where the cases are, in words."""
        return f"{self._learner.describe()}; cases are {self._job.train.kept}"

    def resume(self) -> None:
        """Takes up a checkpoint. Raises ArtefactError if it is damaged or does not fit this plan."""
        path = self._job.layout.resume
        state = load_state(path)
        self._check_about(state)
        try:
            self._learner.load(state)
            self._history = [EpochRecord.model_validate(row) for row in state["history"]]
            self._so_far = EpochSoFar.of(state["so_far"], self._learner.device)
            self._iterations, self._reserved = int(state["iterations"]), float(state["reserved"])
            self._epoch_seconds = float(state["epoch_seconds"])
            self._rate_factor = float(state["rate_factor"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            found = str(error).split("\n")[0]
            raise ArtefactError(f"{path}: is not a checkpoint of this network", found=found, remedy="start anew with --overwrite") from None
        log.info("resumed after epoch %d and %d steps", self.position.epoch, self.step)

    def run(self) -> list[EpochRecord]:
        """Trains to the end, with a checkpoint after every epoch and now and then in long ones, and writes the final weights.

        Raises:
            Interrupted: It was asked to stop: the step was finished and all put down in the checkpoint.
            AutounetError: The loss is not a finite number any more.
        """
        self._clock = self._saved = time.perf_counter()
        if self._epoch_seconds == 0.0 or self._job.length.budget_seconds is None:
            self._fit_to_length()
        self._schedule = Schedule(self._job.length, self._reserved, self._job.optimizer)
        self._look_for_plateau()
        while not self._schedule.is_over(self.position):
            self._history.append(self._epoch())
            self._so_far = EpochSoFar()
            self._checkpoint()
            self._look_for_plateau()
            self._job.on_epoch(self._history, self._schedule.seconds_left(self.position))
        self._save_weights(final=True)
        return self._history

    def _epoch(self) -> EpochRecord:
        at, gathered, rate_factor = self.position, self._so_far, self._rate_factor
        speed = self._steps(at, gathered, rate_factor)
        steps, (left_out, suspects) = gathered.steps, gathered.suspects()
        if left_out:
            log.warning(
                "epoch %d: %d of %d steps were left out, their loss or gradient was not a finite number; batches with %s",
                at.epoch + 1, left_out, steps, ", ".join(suspects),
            )  # fmt: skip
            self._rate_factor = lowered_rate(rate_factor, left_out, steps, at.epoch, suspects)
            if self._rate_factor < rate_factor:
                log.warning("the learning rate is lowered to %g of what was planned", self._rate_factor)
        validation_loss, dice = self._validate(at.epoch)
        known = [value for value in dice.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        before = self._history[-1].ema_dice if self._history else None
        smoothed = mean if before is None else before if mean is None else EMA * before + (1 - EMA) * mean
        # Counted from the end of the epoch before, so that checkpoints and reports are in a budget too.
        now = time.perf_counter()
        seconds, self._clock = gathered.seconds + now - self._clock, now
        (seconds,) = agreed([seconds], self._processes)
        return EpochRecord(
            epoch=at.epoch,
            learning_rate=rate_factor * self._schedule.learning_rate(at),
            train_loss=gathered.mean_loss(),
            validation_loss=validation_loss,
            dice=dice,
            mean_dice=mean,
            ema_dice=smoothed,
            seconds=seconds,
            trained_seconds=at.trained_seconds + seconds,
            iterations=steps,
            data_wait_share=gathered.waited / seconds,
            samples_per_second=speed,
            left_out=left_out,
        )

    def _steps(self, at: Position, gathered: EpochSoFar, rate_factor: float) -> float:
        """The epoch's steps that are not done yet; patches per second."""
        first, began = gathered.steps, time.perf_counter()
        batches = self._job.train.batches(at.epoch, self._iterations, first)
        with self._runtime.progress(f"epoch {at.epoch + 1}", self._iterations) as advance:
            advance(first)
            note = StepNote(advance, self._learner.device, self._job.train.batch_size)
            for step in range(first, self._iterations):
                asked = time.perf_counter()
                batch = next(batches)
                gathered.waited += time.perf_counter() - asked
                rate = rate_factor * self._schedule.learning_rate(at, step / self._iterations)
                loss, left_out = self._learner.step(batch, at.epoch, step, rate)
                gathered.add(loss, left_out, batch.cases)
                note.step(loss, rate, gathered.waited / (gathered.seconds + time.perf_counter() - self._clock))
                self._put_down_if_wished()
        batches.close()
        return (gathered.steps - first) * self._job.train.batch_size / max(time.perf_counter() - began, 1e-9)

    def _validate(self, epoch: int) -> tuple[float | None, dict[str, float | None]]:
        if self._job.validation is None:
            return None, dict.fromkeys(self._job.labels.names)
        return self._learner.validate(self._job.validation.batches(epoch, max(1, round(self._iterations * VALIDATION_SHARE))))

    def _fit_to_length(self) -> None:
        """Sets the steps per epoch; under a budget after timing a few steps, whose effect is undone."""
        budget = self._job.length.budget_seconds
        if budget is None:
            self._iterations = self._job.length.iterations
            return
        step_seconds, forward_seconds = self._learner.time_steps(TIMING_SHARE * budget)
        step_seconds *= 1 + VALIDATION_SHARE / 3
        reserve, step_seconds = agreed([self._job.reserve(forward_seconds), step_seconds], self._processes)
        self._reserved = min(reserve, 0.5 * budget)
        self._iterations = Schedule(self._job.length, self._reserved, self._job.optimizer).iterations_for(step_seconds)
        self._epoch_seconds = self._iterations * step_seconds
        if self._epoch_seconds + reserve > budget:
            log.warning(
                "a budget of %.0f s is too short: one epoch and the validation take about %.0f s", budget, self._epoch_seconds + reserve
            )
        log.info(
            "budget %.0f s: %.3f s a step, %d steps an epoch, %.0f s kept for validation",
            budget, step_seconds, self._iterations, self._reserved,
        )  # fmt: skip

    def _put_down_if_wished(self) -> None:
        """Raises Interrupted, after a checkpoint, where training should stop; in long epochs writes a checkpoint now and then."""
        wish, done = self._job.stop(), self._so_far.steps
        if anywhere(wish is not None, self._processes):
            self._checkpoint()
            wait_for_all(self._processes)  # torchrun soon ends those that are still at work when others have ended
            raise Interrupted(
                f"{wish or 'another process was stopped'}: training was put down in epoch {self.position.epoch + 1} "
                f"after step {done} of {self._iterations}",
                remedy="all is kept, and the same command goes on from there",
            )
        if self._processes.writes and time.perf_counter() - self._saved > CHECKPOINT_SECONDS:
            self._checkpoint()

    def _look_for_plateau(self) -> None:
        if self._job.length.patience is None:
            return
        epoch = plateau([record.ema_dice for record in self._history], self._job.length.patience)
        if epoch is not None:
            last = self._history[epoch - 1]
            self._schedule.cool_down(Position(epoch, last.trained_seconds, last.seconds))
            if epoch == len(self._history):
                log.info("no better Dice for %d epochs: training comes to its end", self._job.length.patience)

    def _check_about(self, state: dict[str, Any]) -> None:
        """Raises ArtefactError for a checkpoint of another run; warns of what makes a difference but is no reason to refuse it."""
        path, expected = self._job.layout.resume, self._job.about
        found = state.get("about")
        known = found if isinstance(found, dict) else {}
        names = sorted(name for name in known | expected if known.get(name) != expected.get(name))
        if "files" in names:
            # Times change when a dataset is copied: no reason to refuse.
            names.remove("files")
            if "cases" not in names:
                log.warning("%s: begun on images or labels that have changed since; --overwrite starts anew", path.parent)
        if state.get("seed") not in (None, self._runtime.seed):
            log.warning("%s: begun with --seed %s and goes on with %s", path.parent, state["seed"], self._runtime.seed)
        if names or not isinstance(found, dict):
            others = ["other cases" if name == "cases" else f"another {name}" for name in names]
            remedy = "start anew with --overwrite, or restore what it was made with"
            raise ArtefactError(f"{path}: checkpoint of another run", found=" and ".join(others), remedy=remedy)

    def _checkpoint(self) -> None:
        """Writes all that is needed to go on, and after an epoch the history and perhaps the best weights."""
        self._saved = now = time.perf_counter()
        if self._so_far.steps:
            self._so_far.seconds, self._clock = self._so_far.seconds + now - self._clock, now
        if not self._processes.writes:
            return
        state: dict[str, Any] = {
            **self._learner.state(),
            "about": self._job.about,
            "history": [record.model_dump() for record in self._history],
            "so_far": self._so_far.state(),
            "iterations": self._iterations,
            "rate_factor": self._rate_factor,
            "reserved": self._reserved,
            "epoch_seconds": self._epoch_seconds,
            "seed": self._runtime.seed,
        }
        # The state comes last: whatever stops the run before it, the epoch is done again and all of these are written again.
        if self._so_far.steps == 0 and self._history:
            before = [record.ema_dice for record in self._history[:-1] if record.ema_dice is not None]
            latest = self._history[-1].ema_dice
            if latest is not None and (not before or latest > max(before)):
                self._save_weights(final=False)
            write_history(self._job.layout.history, self._history)
        save_state(self._job.layout.resume, state)

    def _save_weights(self, final: bool) -> None:
        if self._processes.writes:
            path = self._job.layout.weights if final else self._job.layout.weights_best
            save_weights(path, self._learner.weights(), {**self._job.about, "epoch": str(self.position.epoch)})
