"""``autounet train``: train folds, and score each on the cases it has not seen."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from autounet.artefact import digest_of, remove_leftovers
from autounet.checkpoint import read_about
from autounet.cli.console import duration, number
from autounet.cli.locks import one_at_a_time
from autounet.cli.pictures import Files, draw_overlays
from autounet.cli.session import Session, alone, make_folder, parse_duration, recorded
from autounet.cli.stages import cases_of_fold, choose_configuration, fresh_plan, load_dataset, parse_folds
from autounet.cli.wanted import Wanted
from autounet.dataset import DatasetSpec
from autounet.device import pick_device, pick_precision
from autounet.errors import ArtefactError, AutounetError, UsageError
from autounet.evaluation.scores import Scores
from autounet.inference.model import check_plan
from autounet.inference.run import validation_seconds
from autounet.inference.validate import label_ending, validate_fold
from autounet.layout import FoldLayout, RunLayout
from autounet.plan import Configuration, Plan
from autounet.planners.words import count
from autounet.preprocessing.run import open_cases, prepare_dataset
from autounet.preprocessing.store import StoredCase
from autounet.report.figures import progress_figure
from autounet.splits import FOLDS, Split, five_folds
from autounet.training.history import EpochRecord
from autounet.training.loader import BatchLoader
from autounet.training.loop import FoldJob, FoldTraining
from autounet.training.patches import patch_sizes
from autounet.training.schedule import Length

EPOCH_WIDTH = 100
"""Columns of an epoch's line with the Dice of its classes."""

DRAWING_PAUSE = 50
"""The curves are drawn again after so many times what drawing took: at most 2 % of the time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says about how to train."""

    epochs: int | None
    iterations: int
    budget: str | None
    resume: bool
    """Go on from a checkpoint."""
    overwrite: bool
    """Replace what is trained, and the plan it was trained with."""

    def check(self) -> None:
        """Raises UsageError when the length makes no sense."""
        if self.budget is not None:
            parse_duration(self.budget)
            if self.epochs is not None:
                raise UsageError("--epochs and --budget: two lengths of training", remedy="give one of them")

    def of(self, plan: Plan) -> Length:
        """The length, with the plan's epochs where none are named."""
        seconds = None if self.budget is None else parse_duration(self.budget)
        return Length(epochs=self.epochs or plan.epochs, iterations=self.iterations, budget_seconds=seconds)


def run_train(session: Session, dataset: str, fold: str, configuration: str | None, wanted: Wanted, wish: Wish) -> None:
    """Plans and prepares what is missing, then trains and validates the folds."""
    folds = parse_folds(fold, FOLDS)
    wanted.check()
    wish.check()
    pick_precision(session.runtime, pick_device(session.runtime))
    spec, layout = load_dataset(session, dataset)
    if folds != ["all"]:
        five_folds([case.id for case in spec.cases])  # too few cases: say so before any work
    with recorded(session, layout) as record:
        with alone(session, layout):
            plan, _ = fresh_plan(session, spec, layout, wanted, wish.overwrite)
            chosen = choose_configuration(plan, configuration)
            splits = [cases_of_fold(session, spec, layout, name) for name in folds]
            prepare_dataset(spec, plan, {chosen.name: layout.prepared(chosen.name)}, session.runtime)
        for name, split in zip(folds, splits, strict=True):
            scores = _Job(session, spec, layout, plan, chosen, name, split).run(wish)
            if scores is not None:
                record.setdefault("scores", {})[f"{chosen.name} fold {name}"] = scores.to_public()["mean"]


@dataclass(frozen=True, slots=True)
class _Job:
    """One fold, from its prepared cases to its scores."""

    session: Session
    dataset: DatasetSpec
    layout: RunLayout
    plan: Plan
    configuration: Configuration
    fold: str
    split: Split

    def run(self, wish: Wish) -> Scores | None:
        """Trains unless it is trained, then validates unless it is validated."""
        layout = self.layout.fold(self.configuration.name, self.fold)
        busy = AutounetError(f"{layout.root}: another command is training this fold", remedy="wait for it, or train another fold meanwhile")
        make_folder(layout.root)
        with one_at_a_time(layout.lock, lambda: busy):
            remove_leftovers(layout.root)
            remove_leftovers(layout.validation)
            return self._run(layout, wish)

    def _run(self, layout: FoldLayout, wish: Wish) -> Scores | None:
        split = self.split
        if wish.overwrite:
            for path in (layout.weights, layout.weights_best, layout.scores, layout.progress, layout.overlays):
                path.unlink(missing_ok=True)
            shutil.rmtree(layout.validation, ignore_errors=True)
        if wish.overwrite or not (wish.resume or layout.weights.exists()):
            for path in (layout.resume, layout.history):
                path.unlink(missing_ok=True)
        title = f"{self.configuration.name} fold {self.fold}"
        if layout.weights.exists():
            check_plan(layout.weights, self.plan, self.configuration.name)
            self._check_cases(layout)
            scores = self._scores_there(layout)
            self.session.screen.say(f"{title} is trained already ({layout.root}); --overwrite trains it anew")
            if scores is not None:
                show_scores(self.session, scores, f"{title}: held-out cases on their original grid")
                return scores
        else:
            self._train(wish.of(self.plan), split.train, split.validation, layout)
        if not split.validation:
            self.session.screen.result(f"{title}: trained on all cases, so there is nothing to validate on. Weights: {layout.weights}")
            return None
        self.session.screen.say(f"{title}: predicting {count(len(split.validation), 'held-out case')}")
        scores = validate_fold(
            self.dataset,
            split.validation,
            self.plan,
            self.configuration,
            layout,
            self.session.runtime,
            {"files": self._files(split.validation)},
        )
        show_scores(self.session, scores, f"{title}: held-out cases on their original grid")
        self._draw(scores, layout)
        self.session.screen.result(f"Weights, curves, predictions and a picture of them are in {layout.root}")
        return scores

    def _draw(self, scores: Scores, layout: FoldLayout) -> None:
        """Held-out cases beside their truth."""
        ending = label_ending(self.plan.file_ending)
        files = {
            case.id: Files(case.images[0], case.label, layout.validation / f"{case.id}{ending}")
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
            "training": self.plan.training_recipe(),
        }

    def _files(self, cases: Sequence[str]) -> str:
        """Digest of the raw files of cases, as they were when the cases were prepared."""
        _, stored = open_cases(self.plan, self.configuration, self.layout.prepared(self.configuration.name), cases)
        return digest_of([[source.model_dump() for source in case.sources] for case in stored])

    def _scores_there(self, layout: FoldLayout) -> Scores | None:
        """The scores, if they are of the held-out files as they are now."""
        if not layout.scores.exists():
            return None
        scores = Scores.load(layout.scores)
        if scores.made_from.get("files") == self._files(self.split.validation):
            return scores
        self.session.screen.warn("the held-out images or labels have changed since they were scored: predicting and scoring them again")
        shutil.rmtree(layout.validation, ignore_errors=True)
        return None

    def _check_cases(self, layout: FoldLayout) -> None:
        """Warns when the training files have changed since.

        Raises:
            ArtefactError: The weights have seen other cases: held-out ones of today might be among them.
        """
        about = read_about(layout.weights)
        if about.get("files") != self._files(self.split.train):
            self.session.screen.warn(f"{layout.root}: trained on images or labels that have changed since; --overwrite trains anew")
        found = about.get("cases")
        if found not in (None, self._about()["cases"]):
            raise ArtefactError(
                f"{layout.root}: trained on other cases than fold {self.fold} has now",
                remedy="train it again with --overwrite, or use another folder with --runs",
            )

    def _train(self, length: Length, train: tuple[str, ...], validation: tuple[str, ...], layout: FoldLayout) -> None:
        entry, runtime = self.configuration, self.session.runtime
        store, stored = open_cases(self.plan, entry, self.layout.prepared(entry.name), (*train, *validation))
        sizes = patch_sizes(entry, self.plan.augmentation)

        def loader(cases: Sequence[StoredCase], size: Sequence[int], stream: int) -> BatchLoader:
            return BatchLoader(
                store,
                cases,
                batch_size=entry.batch_size,
                loaded=size,
                patch_size=sizes.scored,
                workers=runtime.workers,
                stream=stream,
                seed=runtime.seed,
                pinned=pick_device(runtime).type == "cuda",
                mirrored=sizes.mirrored,
            )

        held_out = stored[len(train) :]
        shapes = [case.trace.prepared_shape for case in held_out]
        epochs = None if length.budget_seconds is not None else length.epochs
        report = EpochReport(self.session, layout, f"{self.plan.dataset}, {entry.name}, fold {self.fold}", epochs)
        job = FoldJob(
            configuration=entry,
            labels=self.plan.labels,
            train=loader(stored[: len(train)], sizes.loaded, stream=0),
            validation=loader(held_out, sizes.network, stream=1) if held_out else None,
            layout=layout,
            about=self._about(),
            length=length,
            reserve=lambda forward_seconds: validation_seconds(shapes, entry, forward_seconds),
            on_epoch=report,
            optimizer=self.plan.optimizer,
            loss=self.plan.loss,
            augmentation=self.plan.augmentation,
        )
        training = FoldTraining(job, runtime)
        if layout.resume.exists():
            training.resume()
            self.session.screen.say(f"{entry.name} fold {self.fold}: going on after epoch {training.position.epoch}")
        else:
            self.session.screen.say(
                f"{entry.name} fold {self.fold}: {count(len(train), 'training case')}, {len(validation) or 'none'} held out, "
                f"patch {'×'.join(map(str, entry.patch_size))}, batch {entry.batch_size}, on {training.describe()}"
            )
        report.draw(training.run())


class EpochReport:
    """Says what an epoch brought, and draws the curves: rarely enough that drawing takes little of the time.

    Args:
        session: Where to say it.
        layout: Where the picture goes.
        title: Of the picture.
        epochs: How many there will be; None where a budget decides.
    """

    def __init__(self, session: Session, layout: FoldLayout, title: str, epochs: int | None) -> None:
        self._session, self._layout, self._title, self._epochs = session, layout, title, epochs
        self._next_drawing = 0.0

    def __call__(self, history: Sequence[EpochRecord], seconds_left: float) -> None:
        """One line per epoch."""
        self._session.screen.say(epoch_line(history[-1], self._epochs, seconds_left))
        now = time.monotonic()
        if now >= self._next_drawing:
            self.draw(history)
            self._next_drawing = time.monotonic() + DRAWING_PAUSE * (time.monotonic() - now)

    def draw(self, history: Sequence[EpochRecord]) -> None:
        """Draws the curves."""
        progress_figure([record.model_dump(mode="json") for record in history], self._layout.progress, self._title)


def epoch_line(last: EpochRecord, epochs: int | None, seconds_left: float) -> str:
    """An epoch in at most ``EPOCH_WIDTH`` characters: the mean Dice always, that of the single classes as far as there is room."""
    begin = f"epoch {last.epoch + 1}{f' of {epochs}' if epochs is not None else ''}: loss {last.train_loss:.3f}"
    end = f", {duration(last.seconds)}, {duration(seconds_left)} left"
    if last.validation_loss is None:
        return begin + end  # trained on all cases: there is nothing to take a Dice of
    begin += f", online Dice {'–' if last.mean_dice is None else f'{last.mean_dice:.3f}'}"
    classes = [f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in last.dice.items()]
    for shown in range(len(classes) if len(classes) > 1 else 0, 0, -1):
        listed = f" ({', '.join(classes[:shown])}{', …' if shown < len(classes) else ''})"
        if len(begin + listed + end) <= EPOCH_WIDTH:
            return begin + listed + end
    return begin + end


def show_scores(session: Session, scores: Scores, title: str) -> None:
    """Mean Dice and IoU of every class, and of all."""
    public = scores.to_public()
    rows = [(name, number(entry["dice"]), number(entry["iou"])) for name, entry in public["classes"].items()]
    rows.append(("mean", number(public["mean"]["dice"]), number(public["mean"]["iou"])))
    session.screen.table(f"{title} ({count(len(public['cases']), 'case')})", ("class", "Dice", "IoU"), rows, right=(1, 2))
