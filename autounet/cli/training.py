"""``autounet train``: train folds, and score each on the cases it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.cli.cascades import out_of_fold
from autounet.cli.fold import FoldRun, FoldWish
from autounet.cli.folding import as_begun, cases_of_fold, parse_folds, planned_splits, tell_leaks
from autounet.cli.recipe import RecipeChoices
from autounet.cli.session import Session, alone, parse_duration, recorded
from autounet.cli.stages import choose_configuration, fresh_plan, load_dataset
from autounet.cli.tracking import tracker_names
from autounet.cli.wanted import Wanted
from autounet.device import pick_device, pick_precision
from autounet.errors import Interrupted, UsageError
from autounet.plan import Plan
from autounet.preprocessing.border import check_loss
from autounet.preprocessing.run import prepare_dataset
from autounet.training.distributed import anywhere, first_alone, together
from autounet.training.schedule import Length


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says about how to train."""

    epochs: int | None
    iterations: int
    budget: str | None
    patience: int | None
    resume: bool
    """Go on from a checkpoint."""
    overwrite: bool
    """Replace what is trained, and the plan it was trained with."""
    recipe: RecipeChoices
    initial: Path | None
    """Weights to begin with."""
    trackers: Sequence[str]

    def check(self) -> None:
        """Raises UsageError, before any work, for what makes no sense whatever the data are."""
        if self.budget is not None:
            parse_duration(self.budget)
            if self.epochs is not None:
                raise UsageError("--epochs and --budget: two lengths of training", remedy="give one of them")
        self.recipe.check()
        if self.initial is not None and not self.initial.exists():
            raise UsageError(f"--init {self.initial}: no such file or folder", expected="a file made by export, or a trained fold")
        tracker_names(self.trackers)

    def of(self, plan: Plan) -> FoldWish:
        """The same with the plan's epochs where none are named."""
        seconds = None if self.budget is None else parse_duration(self.budget)
        length = Length(epochs=self.epochs or plan.epochs, iterations=self.iterations, budget_seconds=seconds, patience=self.patience)
        return FoldWish(length, self.resume, self.overwrite, self.initial, tracker_names(self.trackers))


def run_train(session: Session, dataset: str, fold: str, configuration: str | None, wanted: Wanted, wish: Wish) -> None:
    """Plans and prepares what is missing, then trains and validates the folds; alone, or as one of several processes."""
    processes = session.runtime.processes
    wanted.check()
    wish.check()
    device = pick_device(session.runtime)
    pick_precision(session.runtime, device)
    spec, layout = load_dataset(session, dataset)
    # Too few cases, or no such fold: say so before any work.
    folds = ["all"] if fold.strip() == "all" else parse_folds(fold, planned_splits(spec, layout).names)
    with recorded(session, layout) as record, together(processes, device):
        with first_alone(processes), alone(session, layout):
            plan, _ = fresh_plan(session, spec, layout, wanted, wish.overwrite)
            chosen, recipe = choose_configuration(plan, configuration), wish.recipe.applied_to(plan)
            check_loss(recipe.loss, recipe.labels)
            previous = out_of_fold(session, spec, layout, plan, chosen)
            splits = [cases_of_fold(session, spec, layout, name) for name in folds]
            tell_leaks(session, spec, splits)
            if wish.resume and not wish.overwrite:
                splits = [as_begun(session, layout, chosen.name, name, split) for name, split in zip(folds, splits, strict=True)]
            if processes.writes:
                for name in folds:  # a wish that is older than this command
                    layout.fold(chosen.name, name).stop.unlink(missing_ok=True)
            folders = {chosen.name: layout.prepared(chosen.name)}
            prepared = prepare_dataset(spec, plan, folders, session.runtime, previous)[chosen.name]
            by_name = {case.case: case for case in prepared}
        for name, split in zip(folds, splits, strict=True):
            run = FoldRun(session, spec, layout, plan, recipe, chosen, name, split, by_name, previous)
            scores = run.run(wish.of(plan))
            if scores is not None:
                record.setdefault("scores", {})[f"{chosen.name} fold {name}"] = scores.to_public()["mean"]
            if anywhere(processes.writes and run.forget_stop(), processes) and name != folds[-1]:
                raise Interrupted(f"STOP was found: {run.title} is done", remedy="the same command goes on with the other folds")
