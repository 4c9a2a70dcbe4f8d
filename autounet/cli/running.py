"""``autounet run``: from a dataset to a chosen model and its report, one stage after the other, as far as they are not done yet."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autounet.cli.console import duration
from autounet.cli.doctoring import fresh_health
from autounet.cli.reporting import run_report
from autounet.cli.selecting import run_select
from autounet.cli.session import Session, alone, parse_duration, recorded
from autounet.cli.stages import fresh_plan, load_dataset, parse_folds
from autounet.cli.training import Wish, run_train
from autounet.cli.wanted import Wanted
from autounet.dataset import DatasetSpec
from autounet.errors import UsageError
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.planners.words import count
from autounet.splits import FOLDS, five_folds

AFTER = 0.1
"""Of a budget so much is kept for selecting and for the report."""

ALL_FOLDS = tuple(str(fold) for fold in range(FOLDS))


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
    folds: str
    budget: str | None
    dry_run: bool


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
    folds = parse_folds(wish.folds, FOLDS)
    if "all" in folds:
        raise UsageError("-f all: a model on all cases has nothing to be selected by", expected="some of 0,1,2,3,4")
    if wish.budget is not None and training.epochs is not None:
        raise UsageError("--epochs and --budget: two lengths of training", remedy="give one of them")
    total = None if wish.budget is None else parse_duration(wish.budget)
    wanted.check()
    training.check()
    dataset, layout = load_dataset(session, query)
    five_folds([case.id for case in dataset.cases])
    with recorded(session, layout), alone(session, layout):
        plan, _ = fresh_plan(session, dataset, layout, wanted)
    schedule = make_schedule(plan, wish.configurations, folds, total)
    show_schedule(session, plan, layout, schedule)
    for name in left_out(plan, wish.configurations, folds):
        before = plan.configurations[name].previous_stage
        session.screen.warn(f"{name} is left out: it takes all folds of {before}. Without -f, or with -c {name}, it is trained too")
    if wish.dry_run:
        return
    examine_first(session, dataset, layout, query)
    began = time.monotonic()
    each = training if schedule.seconds is None else replace(training, budget=f"{schedule.seconds:.0f}s", epochs=None)
    for number, (configuration, fold) in enumerate(schedule.parts):
        if is_done(layout, configuration, fold):
            continue
        left = [part for part in schedule.parts[number:] if not is_done(layout, *part)]
        more = "" if schedule.seconds is None else f", at most {duration(len(left) * schedule.seconds)} of training left"
        session.screen.say(f"{number + 1} of {len(schedule.parts)}: {configuration} fold {fold}{more}")
        run_train(session, query, fold, configuration, wanted, each)
    run_select(session, query, "best", ensembles=True, overwrite=False)
    run_report(session, query, None, overwrite=False)
    session.screen.say(f"done in {duration(time.monotonic() - began)}")


def examine_first(session: Session, dataset: DatasetSpec, layout: RunLayout, query: str) -> None:
    """Looks for mistakes in the data, which the report shows, before hours are spent on them; says what is severe and goes on."""
    with recorded(session, layout), alone(session, layout):
        health, _ = fresh_health(session, dataset, layout)
    severe = [finding for finding in health.findings if finding.severity == "severe"]
    if severe:
        first = f"{severe[0].case or 'all cases'}: {severe[0].what}"
        session.screen.warn(f"{count(len(severe), 'severe finding')} in the data, such as {first}; `autounet doctor -d {query}` shows all")


def make_schedule(plan: Plan, wanted: Sequence[str], folds: Sequence[str], total_seconds: float | None) -> Schedule:
    """The folds of the configurations in the plan's order: all of a low resolution before what builds on it.

    The second stage of a cascade takes all folds of the first, whichever folds are asked for. Where that is not all folds, it is done
    only if it is named.

    Raises:
        UsageError: No such configuration, one that cannot be trained, or less than a second for a fold.
    """
    unknown = [name for name in wanted if name not in plan.configurations]
    if unknown:
        raise UsageError(f"-c {unknown[0]}: cannot be trained with this plan", expected=" or ".join(plan.configurations))
    names = [name for name in plan.configurations if name in wanted or not (wanted or name in left_out(plan, wanted, folds))]
    first_stages = {entry.previous_stage for name, entry in plan.configurations.items() if name in names}
    parts = tuple(
        (name, fold)
        for name in plan.configurations
        if name in names or name in first_stages
        for fold in (ALL_FOLDS if name in first_stages else folds)
    )
    seconds = None if total_seconds is None else total_seconds * (1 - AFTER) / len(parts)
    if seconds is not None and seconds < 1:
        raise UsageError(
            f"--budget: {total_seconds:.0f} s are too little for {count(len(parts), 'fold')}", remedy="give more, or fewer folds"
        )
    return Schedule(parts, seconds)


def left_out(plan: Plan, wanted: Sequence[str], folds: Sequence[str]) -> list[str]:
    """Cascades that are not scheduled because they would take more folds than were asked for."""
    if wanted or set(ALL_FOLDS) <= set(folds):
        return []
    return [name for name, entry in plan.configurations.items() if entry.previous_stage is not None]


def is_done(layout: RunLayout, configuration: str, fold: str) -> bool:
    """Whether a fold is trained and scored."""
    folder = layout.fold(configuration, fold)
    return folder.weights.exists() and folder.scores.exists()


def show_schedule(session: Session, plan: Plan, layout: RunLayout, schedule: Schedule) -> None:
    """What is done and what is to be done, with times."""
    planned = "the plan's epochs" if schedule.seconds is None else f"{duration(schedule.seconds)} at most"
    rows = []
    for configuration, fold in schedule.parts:
        state = "done" if is_done(layout, configuration, fold) else "begun" if layout.fold(configuration, fold).resume.exists() else planned
        rows.append((f"train {configuration} fold {fold}", state))
    rows.append(("select, with ensembles and postprocessing", "done" if layout.selection.exists() else "a few minutes"))
    rows.append(("report", "done" if layout.report.exists() else "a minute"))
    session.screen.table(f"{plan.dataset}: what there is to do", ("stage", "time"), rows)
    session.screen.json(
        {
            "stages": [{"configuration": name, "fold": fold, "done": is_done(layout, name, fold)} for name, fold in schedule.parts],
            "seconds_each": schedule.seconds,
        }
    )
