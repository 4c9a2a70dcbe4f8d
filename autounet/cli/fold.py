"""One fold of one configuration: trained, then scored on the cases it has not seen."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from autounet.artefact import digest_of, free_bytes, in_bytes, readable_json, remove_leftovers, write_text_atomic
from autounet.checkpoint import read_about
from autounet.cli.epochs import EpochReport, show_scores
from autounet.cli.folding import trained_cases
from autounet.cli.initial import initial_weights
from autounet.cli.locks import one_at_a_time
from autounet.cli.pictures import Files, draw_overlays
from autounet.cli.session import Session, lock_cleared, make_folder
from autounet.cli.stages import some
from autounet.cli.stopping import stop_wishes
from autounet.cli.tracking import told_of, told_scores, tracked
from autounet.dataset import DatasetSpec
from autounet.device import free_cached, is_out_of_memory, pick_device
from autounet.errors import ArtefactError, AutounetError, DatasetError, Interrupted, UsageError
from autounet.evaluation.scores import Scores
from autounet.inference.model import check_plan
from autounet.inference.run import validation_seconds
from autounet.inference.validate import label_ending, validate_fold
from autounet.layout import FoldLayout, RunLayout
from autounet.networks.cost import parameters
from autounet.plan import Configuration, Plan
from autounet.planners.words import count
from autounet.preprocessing.run import recipe_of
from autounet.preprocessing.store import Store, StoredCase
from autounet.splits import Split
from autounet.text_files import read_text
from autounet.training.distributed import agreed, anywhere
from autounet.training.history import EpochRecord
from autounet.training.job import FoldJob
from autounet.training.loader import BatchLoader
from autounet.training.loop import FoldTraining
from autounet.training.patches import patch_sizes
from autounet.training.schedule import Length
from autounet.training.tracking import TrackerName, Trackers, open_trackers

CHECKPOINT_BYTES = 32
"""For every parameter: last and best weights, and a state with momentum twice, as the old one is there until the new one is whole."""


@dataclass(frozen=True, slots=True)
class FoldWish:
    """How to train a fold."""

    length: Length
    resume: bool
    """Go on from a checkpoint."""
    overwrite: bool
    """Replace what is trained."""
    initial: Path | None
    """Weights to begin with."""
    trackers: tuple[TrackerName, ...]


@dataclass(frozen=True, slots=True)
class FoldRun:
    """One fold, from its prepared cases to its scores."""

    session: Session
    dataset: DatasetSpec
    layout: RunLayout
    plan: Plan
    """As it is on disk."""
    recipe: Plan
    """The same, with what the command line chose in place of its optimizer, augmentation and loss."""
    configuration: Configuration
    fold: str
    split: Split
    prepared: Mapping[str, StoredCase]
    """All cases, by name."""
    previous: Mapping[str, Path]
    """For the second stage of a cascade, by case what the first one predicted while it was held out; else empty."""

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.configuration.name} fold {self.fold}"

    @property
    def _folder(self) -> FoldLayout:
        return self.layout.fold(self.configuration.name, self.fold)

    def forget_stop(self) -> bool:
        """Removes a wish to stop that lies there; whether one did."""
        found = self._folder.stop.exists()
        self._folder.stop.unlink(missing_ok=True)
        return found

    def run(self, wish: FoldWish) -> Scores | None:
        """Trains unless it is trained, then validates unless it is validated.

        Of several processes the first does all but the training alone, and the others wait for it.
        """
        layout, processes = self._folder, self.session.runtime.processes
        if not processes.writes:
            # Only the first one looks at the disk: what was just removed may still be there for another machine.
            trained, begun = agreed((0, 0), processes)
            if not trained:
                with open_trackers((), layout.root, "", {}) as nobody:
                    self._train(wish, layout, bool(begun), nobody)
            return None
        make_folder(layout.root)
        with one_at_a_time(layout.lock, self._busy, lock_cleared(self.session)):
            remove_leftovers(layout.root)
            remove_leftovers(layout.validation)
            self._clear(layout, wish)
            trained, begun = layout.weights.exists(), layout.resume.exists()
            agreed((trained, begun), processes)
            if wish.initial is not None and (trained or begun):
                self.session.screen.warn(f"--init changes nothing: {self.title} is trained, or begun, already; --overwrite begins anew")
            if trained:
                return self._trained_already(layout)
            with tracked(wish.trackers, layout, f"{self.plan.dataset} {self.title}", self._settings(wish), anew=not begun) as trackers:
                self._train(wish, layout, begun, trackers)
                scores = self._validate(layout)
                trackers.finish(told_scores(scores))
            return scores

    def _busy(self, holder: str) -> AutounetError:
        remedy = "wait for it, or train another fold meanwhile"
        return AutounetError(f"{self._folder.root}: another command is training this fold", found=holder, remedy=remedy)

    def _clear(self, layout: FoldLayout, wish: FoldWish) -> None:
        """Removes what is not wanted any more."""
        if wish.overwrite:
            for path in (layout.weights, layout.weights_best, layout.scores, layout.progress, layout.overlays):
                path.unlink(missing_ok=True)
            shutil.rmtree(layout.validation, ignore_errors=True)
        if wish.overwrite or not (wish.resume or layout.weights.exists()):
            for path in (layout.resume, layout.history, layout.training):
                path.unlink(missing_ok=True)

    def _trained_already(self, layout: FoldLayout) -> Scores | None:
        check_plan(layout.weights, self.plan, self.configuration.name)
        self._check_trained(layout)
        scores = self._scores_there(layout)
        self.session.screen.say(f"{self.title} is trained already ({layout.root}); --overwrite trains it anew")
        if scores is None:
            return self._validate(layout)
        show_scores(self.session, scores, f"{self.title}: held-out cases on their original grid")
        if not layout.overlays.exists():  # a command was killed before it drew them
            self._draw(scores, layout)
        return scores

    def _validate(self, layout: FoldLayout) -> Scores | None:
        split, screen = self.split, self.session.screen
        if not split.validation:
            screen.result(f"{self.title}: trained on all cases, so there is nothing to validate on. Weights: {layout.weights}")
            return None
        screen.say(f"{self.title}: predicting {count(len(split.validation), 'held-out case')}")
        made_from = {"files": self._files(split.validation)}
        runtime = self.session.runtime
        scores = validate_fold(self.dataset, split.validation, self.plan, self.configuration, layout, runtime, made_from, self.previous)
        show_scores(self.session, scores, f"{self.title}: held-out cases on their original grid")
        self._draw(scores, layout)
        screen.result(f"Weights, curves, predictions and a picture of them are in {layout.root}")
        return scores

    def _draw(self, scores: Scores, layout: FoldLayout) -> None:
        """Held-out cases beside their truth."""
        ending = label_ending(self.plan.file_ending)
        files = {
            case.id: Files(case.images[0], case.label, layout.validation / f"{case.id}{ending}", case.annotated)
            for case in self.dataset.cases
            if case.id in scores.cases
        }
        title = f"{self.plan.dataset}, {self.configuration.name}, fold {self.fold}: held-out cases"
        draw_overlays(files, scores, self.plan.labels, layout.overlays, title)

    def _about(self) -> dict[str, str]:
        """What the weights are of; a checkpoint of anything else is not taken up."""
        return {
            "plan": self.plan.recipe(self.configuration.name),
            "configuration": self.configuration.name,
            "fold": self.fold,
            "cases": digest_of(sorted(self.split.train)),
            "files": self._files(self.split.train),
            **self._recipe_digests(),
        }

    def _recipe_digests(self) -> dict[str, str]:
        recipe = self.recipe
        return {
            "optimizer": digest_of(recipe.optimizer.model_dump(mode="json")),
            "augmentation": digest_of(recipe.augmentation),
            "loss": digest_of(recipe.loss.model_dump(mode="json")),
        }

    def _files(self, cases: Sequence[str]) -> str:
        """Digest of what cases were prepared from: raw files and a previous stage's label maps as they were then, annotated classes."""
        return digest_of([self.prepared[case].origin() for case in sorted(cases)])

    @property
    def _origin(self) -> str:
        """The files that cases are prepared from, in words."""
        before = self.configuration.previous_stage
        return "images or labels" if before is None else f"images, labels or label maps of {before}"

    def _scores_there(self, layout: FoldLayout) -> Scores | None:
        """The scores, if they are of the held-out files as they are now."""
        if not layout.scores.exists():
            return None
        try:
            scores = Scores.load(layout.scores)
        except ArtefactError as error:
            self.session.screen.warn(f"{error.what}; the held-out cases are scored again")
            return None
        new = [case for case in self.split.validation if case not in scores.cases]
        known = [case for case in self.split.validation if case in scores.cases]
        if new and scores.made_from.get("files") == self._files(known):
            self.session.screen.say(f"{count(len(new), 'new held-out case')}: predicting {'it' if len(new) == 1 else 'them'}, scoring all")
            return None
        ending = label_ending(self.plan.file_ending)
        gone = [case for case in self.split.validation if not (layout.validation / f"{case}{ending}").exists()]
        if gone:
            self.session.screen.warn(f"label maps of held-out cases are gone ({some(gone)}): predicting and scoring them again")
            return None
        if scores.made_from.get("files") == self._files(self.split.validation):
            return scores
        self.session.screen.warn(f"held-out {self._origin} have changed since they were scored: predicting and scoring them again")
        shutil.rmtree(layout.validation, ignore_errors=True)
        return None

    def _check_trained(self, layout: FoldLayout) -> None:
        """Warns when the training files have changed since, or another recipe is asked for now.

        Raises:
            ArtefactError: The weights have seen other cases: held-out ones of today might be among them.
        """
        about, seen = read_about(layout.weights), trained_cases(self.layout, self.configuration.name, self.fold)
        added = [] if seen is None else [case for case in self.split.train if case not in seen]
        gone = [] if seen is None else [case for case in seen if case not in self.split.train]
        known = self.split.train if seen is None else [case for case in seen if case not in gone]
        if added or gone:
            words = [f"trained without {count(len(added), 'case')} that this fold has now ({some(added)})"] if added else []
            words += [f"trained with {count(len(gone), 'case')} that it has no more ({some(gone)})"] if gone else []
            self.session.screen.warn(f"{layout.root}: {', and '.join(words)}; --overwrite trains anew")
        if not gone and about.get("files") != self._files(known):
            self.session.screen.warn(f"{layout.root}: trained on {self._origin} that have changed since; --overwrite trains anew")
        if any(about.get(name) not in (None, digest) for name, digest in self._recipe_digests().items()):
            self.session.screen.warn(f"{layout.root}: trained with another recipe, see {layout.training.name}; --overwrite trains anew")
        found = about.get("cases")
        fits = found in (None, self._about()["cases"]) if seen is None else not set(seen) & set(self.split.validation)
        if not fits:
            raise ArtefactError(
                f"{layout.root}: trained on other cases than fold {self.fold} has now",
                remedy="train it again with --overwrite, or use another folder with --runs",
            )

    def _check_room(self, layout: FoldLayout) -> None:
        """Says before training that its checkpoints find no room. Raises ArtefactError."""
        there = sum(path.stat().st_size for path in (layout.weights_best, layout.resume) if path.exists())
        needed, free = CHECKPOINT_BYTES * parameters(self.configuration.network) - there, free_bytes(layout.root)
        if free is not None and free < needed:
            raise ArtefactError(
                f"{layout.root}: no room for the checkpoints of a training",
                found=f"{in_bytes(free)} free",
                expected=in_bytes(needed),
                remedy="make room, or choose another disk with --runs",
            )

    def _train(self, wish: FoldWish, layout: FoldLayout, begun: bool, trackers: Trackers) -> None:
        if self.session.runtime.processes.writes:
            self._check_room(layout)
        with self._explained_memory():
            weights = self._initial(wish, layout, begun)
            loaders = self._loaders()
            with stop_wishes(layout.stop) as stop:
                history = self._train_on(loaders, weights, wish, layout, begun, trackers, stop)
                why = stop()
                if anywhere(why is not None, self.session.runtime.processes):
                    raise Interrupted(
                        f"{why or 'another process was stopped'}: {self.title} is trained, and not yet scored",
                        remedy="the same command goes on from there",
                    )
        if self.session.runtime.processes.writes:
            self._report(wish, layout).draw(history)

    def _settings(self, wish: FoldWish) -> dict[str, str | int | float]:
        return told_of(self.recipe, self.configuration, self.fold, wish.length, self.session.runtime.seed)

    def _initial(self, wish: FoldWish, layout: FoldLayout, begun: bool) -> dict[str, Tensor] | None:
        """Weights to begin with, said and put down with the recipe; None where the network draws its own, or goes on."""
        record: dict[str, Any] = {
            **self._settings(wish),
            "cases": sorted(self.split.train),
            "recipe": self.recipe.model_dump(mode="json", include={"optimizer", "augmentation", "loss"}),
        }
        initial = None
        if begun:
            with suppress(OSError, ValueError, AttributeError, RecursionError):
                before = json.loads(read_text(layout.training)).get("initial_weights")
                record |= {} if before is None else {"initial_weights": before}
        elif wish.initial is not None:
            initial = initial_weights(wish.initial, self.plan, self.configuration, self.session.runtime.seed)
            record["initial_weights"] = {"source": initial.source, "notes": initial.notes}
            self.session.screen.say(f"{self.title}: begins with the weights of {initial.source}")
            for note in initial.notes:
                self.session.screen.say(f"  {note}")
        if self.session.runtime.processes.writes:
            write_text_atomic(layout.training, readable_json(record) + "\n")
        return None if initial is None else initial.weights

    def _loaders(self) -> tuple[BatchLoader, BatchLoader | None]:
        """Batches of the training cases, and of the held-out ones if there are any."""
        entry, runtime, split = self.configuration, self.session.runtime, self.split
        store = Store(self.layout.prepared(entry.name), recipe_of(self.plan, entry))
        sizes = patch_sizes(entry, self.recipe.augmentation)

        def loader(cases: Sequence[str], size: Sequence[int], stream: int) -> BatchLoader:
            return BatchLoader(
                store,
                [self.prepared[case] for case in cases],
                batch_size=entry.batch_size,
                loaded=size,
                patch_size=sizes.scored,
                workers=runtime.workers,
                stream=stream,
                seed=runtime.seed,
                device=pick_device(runtime),
                mirrored=sizes.mirrored,
                processes=runtime.processes,
            )

        training = loader(split.train, sizes.loaded, stream=0)
        if not training.has_foreground:
            raise DatasetError(
                f"{self.title}: none of its {count(len(split.train), 'training case')} has a voxel of any class",
                expected=f"some voxels of {', '.join(self.plan.labels.names)}",
                remedy="look at the label maps, or at who is in which fold in splits.json",
            )
        return training, loader(split.validation, sizes.network, stream=1) if split.validation else None

    def _report(self, wish: FoldWish, layout: FoldLayout) -> EpochReport:
        epochs = None if wish.length.budget_seconds is not None else wish.length.epochs
        return EpochReport(self.session, layout, f"{self.plan.dataset}, {self.configuration.name}, fold {self.fold}", epochs)

    def _train_on(
        self,
        loaders: tuple[BatchLoader, BatchLoader | None],
        weights: dict[str, Tensor] | None,
        wish: FoldWish,
        layout: FoldLayout,
        begun: bool,
        trackers: Trackers,
        stop: Callable[[], str | None],
    ) -> list[EpochRecord]:
        entry, screen = self.configuration, self.session.screen
        report, writes = self._report(wish, layout), self.session.runtime.processes.writes
        shapes = [self.prepared[case].trace.prepared_shape for case in self.split.validation]

        def on_epoch(history: list[EpochRecord], seconds_left: float) -> None:
            if writes:
                report(history, seconds_left)
                for record in history:
                    trackers.epoch(record)

        job = FoldJob(
            configuration=entry,
            labels=self.plan.labels,
            train=loaders[0],
            validation=loaders[1],
            layout=layout,
            about=self._about(),
            length=wish.length,
            reserve=lambda forward_seconds: validation_seconds(shapes, entry, forward_seconds),
            on_epoch=on_epoch,
            optimizer=self.recipe.optimizer,
            loss=self.recipe.loss,
            augmentation=self.recipe.augmentation,
            stop=stop,
            weights=weights,
        )
        training = FoldTraining(job, self.session.runtime)
        if begun:
            training.resume()
            done = training.position.epoch + (training.step > 0)
            if wish.length.budget_seconds is None and wish.length.epochs < done:
                raise UsageError(
                    f"--epochs {wish.length.epochs}: {self.title} is in epoch {done} already, at a learning rate for more",
                    remedy=f"give at least {done}, or begin anew with --overwrite",
                )
            after = f" and step {training.step}" if training.step else ""
            screen.say(f"{self.title}: going on after epoch {training.position.epoch}{after}")
        else:
            screen.say(
                f"{self.title}: {count(len(self.split.train), 'training case')}, {len(self.split.validation) or 'none'} held out, "
                f"patch {'×'.join(map(str, entry.patch_size))}, batch {entry.batch_size}, on {training.describe()}"
            )
        return training.run()

    @contextmanager
    def _explained_memory(self) -> Iterator[None]:
        """Within, running out of memory is an error that says what to lower."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            found = str(error).split("\n")[0] or type(error).__name__
        else:
            return
        free_cached()
        entry = self.configuration
        estimate = next((each.value for each in entry.decisions if each.name == "GPU memory"), "unknown")
        smaller = f"autounet plan --batch-size {entry.name}={max(entry.batch_size // 2, 1)}"
        raise AutounetError(
            f"{self.title}: out of memory with patch {'×'.join(map(str, entry.patch_size))} and batch {entry.batch_size}",
            found=found,
            expected=f"by the plan's estimate {estimate}",
            remedy=f"close other programs; else {smaller}, --gpu-memory with what there is, or --preset small, and train again",
        )
