"""``autounet run``: from a dataset to a chosen model and its report, one stage after the other, as far as they are not done yet."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autounet.cli.console import duration
from autounet.cli.doctoring import fresh_health
from autounet.cli.folding import parse_folds, planned_splits, trained_cases
from autounet.cli.reporting import run_report
from autounet.cli.selecting import run_select
from autounet.cli.session import Session, alone, parse_duration, recorded
from autounet.cli.stages import fresh_plan, load_dataset
from autounet.cli.training import Wish, run_train
from autounet.cli.wanted import Wanted
from autounet.dataset import DatasetSpec
from autounet.errors import ArtefactError, UsageError
from autounet.evaluation.scores import Scores
from autounet.inference.model import check_plan
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.planners.words import count
from autounet.selection import Selection
from autounet.splits import Split

AFTER = 0.1
"""Of a budget so much is kept for selecting and for the report."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is done, in this order."""

    parts: tuple[tuple[str, str], ...]
    """Configuration and fold."""
    seconds: float | None
    """For each of them; None without a budget."""


@dataclass(frozen=True, slots=True)
class RunWish:
    """What the command line says beside how to train."""

    configurations: Sequence[str]
    """Empty for all that can be trained."""
    folds: str | None
    """None for all."""
    budget: str | None
    dry_run: bool
    overwrite: bool = False
    """Train anew what was trained on other cases, or with another plan."""


def run_everything(session: Session, query: str, wanted: Wanted, training: Wish, wish: RunWish) -> None:
    """Plans, prepares, trains every fold of every configuration, selects and reports; what is done already is kept.

    Args:
        session: What the command works with.
        query: The dataset.
        wanted: Preset.
        training: How each fold is trained.
        wish: Which, and how long altogether.

    Raises:
        UsageError: There is no such configuration or fold, or too little time.
    """
    if wish.budget is not None and training.epochs is not None:
        raise UsageError("--epochs and --budget: two lengths of training", remedy="give one of them")
    total = None if wish.budget is None else parse_duration(wish.budget)
    wanted.check()
    training.check()
    dataset, layout = load_dataset(session, query)
    splits = planned_splits(dataset, layout)
    folds = list(splits.names) if wish.folds is None else parse_folds(wish.folds, splits.names)
    if "all" in folds:
        raise UsageError("-f all: a model on all cases has nothing to be selected by", expected=f"some of {','.join(splits.names)}")
    with recorded(session, layout), alone(session, layout):
        plan, _ = fresh_plan(session, dataset, layout, wanted, wish.overwrite)
    schedule = make_schedule(plan, wish.configurations, folds, total, splits.names)
    states = {part: state_of(plan, layout, splits.folds, *part) for part in schedule.parts}
    show_schedule(session, plan, states, schedule, training)
    for name in left_out(plan, wish.configurations, folds, splits.names):
        before = plan.configurations[name].previous_stage
        session.screen.warn(f"{name} is left out: it takes all folds of {before}. Without -f, or with -c {name}, it is trained too")
    if wish.dry_run:
        return
    stale = [part for part, state in states.items() if state not in (DONE, BEGUN, OPEN)]
    if stale and not wish.overwrite:
        name, fold = stale[0]
        raise UsageError(
            f"{count(len(stale), 'fold')} cannot be used: {name} fold {fold} {states[stale[0]]}",
            remedy="put back what has changed, or train these folds anew with --overwrite; the others are kept",
        )
    examine_first(session, dataset, layout, query)
    began = time.monotonic()
    each = training if schedule.seconds is None else replace(training, budget=f"{schedule.seconds:.0f}s", epochs=None)
    todo = [part for part in schedule.parts if states[part] != DONE]
    for number, part in enumerate(todo):
        left = len(todo) - number
        if schedule.seconds is not None:
            more = f", at most {duration(left * schedule.seconds)} of training left"
        else:  # by the folds that this command has trained; of other configurations they may take longer
            more = f", about {duration(left * (time.monotonic() - began) / number)} of training left" if number else ""
        session.screen.say(f"{number + 1} of {len(todo)}: {part[0]} fold {part[1]}{more}")
        run_train(session, query, part[1], part[0], wanted, replace(each, overwrite=part in stale))
    rule, ensembles = chosen_before(layout)
    run_select(session, query, rule, ensembles, overwrite=False)
    run_report(session, query, None, overwrite=False)
    session.screen.say(f"done in {duration(time.monotonic() - began)}")


def chosen_before(layout: RunLayout) -> tuple[str, bool]:
    """Rule and ensembles as they were selected with before; nnU-Net's rule and ensembles where nothing was."""
    try:
        found = Selection.load(layout.selection)
    except ArtefactError:
        return "best", True
    return found.rule, found.made_from.get("ensembles") != "False"


def examine_first(session: Session, dataset: DatasetSpec, layout: RunLayout, query: str) -> None:
    """Looks for mistakes in the data, which the report shows, before hours are spent on them; says what is severe and goes on."""
    with recorded(session, layout), alone(session, layout):
        health, _ = fresh_health(session, dataset, layout)
    severe = [finding for finding in health.findings if finding.severity == "severe"]
    if severe:
        first = f"{severe[0].case or 'all cases'}: {severe[0].what}"
        session.screen.warn(f"{count(len(severe), 'severe finding')} in the data, such as {first}; `autounet doctor -d {query}` shows all")


def make_schedule(plan: Plan, wanted: Sequence[str], folds: Sequence[str], total_seconds: float | None, every: Sequence[str]) -> Schedule:
    """The folds of the configurations in the plan's order: all of a low resolution before what builds on it.

    The second stage of a cascade takes all folds of the first, whichever folds are asked for. Where that is not all folds, it is done
    only if it is named. ``every`` are all folds there are.

    Raises:
        UsageError: No such configuration, one that cannot be trained, or less than a second for a fold.
    """
    unknown = [name for name in wanted if name not in plan.configurations]
    if unknown:
        raise UsageError(f"-c {unknown[0]}: cannot be trained with this plan", expected=" or ".join(plan.configurations))
    names = [name for name in plan.configurations if name in wanted or not (wanted or name in left_out(plan, wanted, folds, every))]
    first_stages = {entry.previous_stage for name, entry in plan.configurations.items() if name in names}
    parts = tuple(
        (name, fold)
        for name in plan.configurations
        if name in names or name in first_stages
        for fold in (every if name in first_stages else folds)
    )
    seconds = None if total_seconds is None else total_seconds * (1 - AFTER) / len(parts)
    if seconds is not None and seconds < 1:
        raise UsageError(
            f"--budget: {total_seconds:.0f} s are too little for {count(len(parts), 'fold')}", remedy="give more, or fewer folds"
        )
    return Schedule(parts, seconds)


def left_out(plan: Plan, wanted: Sequence[str], folds: Sequence[str], every: Sequence[str]) -> list[str]:
    """Cascades that are not scheduled because they would take more folds than were asked for."""
    if wanted or set(every) <= set(folds):
        return []
    return [name for name, entry in plan.configurations.items() if entry.previous_stage is not None]


DONE, BEGUN, OPEN = "done", "begun", "open"


def state_of(plan: Plan, layout: RunLayout, folds: Sequence[Split], configuration: str, fold: str) -> str:
    """How far a fold is: done, begun, open; or in words why what is trained cannot be used."""
    folder = layout.fold(configuration, fold)
    if not folder.weights.exists():
        return BEGUN if folder.resume.exists() else OPEN
    try:
        check_plan(folder.weights, plan, configuration)
    except ArtefactError:
        return "was trained with another plan"
    try:
        scored = set(Scores.load(folder.scores).cases)
    except ArtefactError:
        return BEGUN  # it is scored again
    held_out, seen = set(folds[int(fold)].validation), trained_cases(layout, configuration, fold)
    if scored == held_out:
        # A command that was killed in its last moments leaves its lock, and no picture: training it again makes up for both.
        drawn = folder.overlays.exists() or plan.labels.overlapping
        return DONE if drawn and not folder.lock.exists() else BEGUN
    if seen is not None and not held_out & set(seen):
        return BEGUN  # cases were added or taken away: those that it holds out now are scored
    return "was scored on other cases than it holds out now"


def show_schedule(session: Session, plan: Plan, states: Mapping[tuple[str, str], str], schedule: Schedule, training: Wish) -> None:
    """What is done and what is to be done, with times."""
    epochs = count(training.epochs or plan.epochs, "epoch") + f" of {count(training.iterations, 'step')}"
    planned = epochs if schedule.seconds is None else f"{duration(schedule.seconds)} at most"
    shown = {OPEN: planned, BEGUN: f"goes on; {planned}"}
    rows = [(f"train {configuration} fold {fold}", shown.get(state, state)) for (configuration, fold), state in states.items()]
    first = "" if all(state == DONE for state in states.values()) else "after that, "
    rows.append(("select, with ensembles and postprocessing", f"{first}unless it is up to date"))
    rows.append(("report", f"{first}unless it is up to date"))
    session.screen.table(f"{plan.dataset}: what there is to do", ("stage", "time"), rows)
    session.screen.json(
        {
            "stages": [{"configuration": name, "fold": fold, "state": state} for (name, fold), state in states.items()],
            "seconds_each": schedule.seconds,
        }
    )
