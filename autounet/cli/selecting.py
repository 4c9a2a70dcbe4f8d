"""``autounet select``: which configuration or ensemble is the model, and what is done to its label maps."""

from collections.abc import Mapping, Sequence
from functools import partial

from autounet.bundle_text import describe_steps
from autounet.cli.cascades import older_than_first
from autounet.cli.epochs import NOTHING
from autounet.cli.folding import read_splits, tell_leaks, trained_cases
from autounet.cli.locks import one_at_a_time
from autounet.cli.session import Session, lock_cleared, recorded, tidy
from autounet.cli.stages import load_dataset, some
from autounet.errors import ArtefactError, AutounetError, DatasetError, UsageError
from autounet.evaluation.scores import Scores
from autounet.folds import named
from autounet.inference.crossval import CrossValidation
from autounet.inference.model import check_plan
from autounet.inference.select import RULES, common_folds, scored_folds, select
from autounet.inference.validate import images_digest, read_images
from autounet.layout import FoldLayout, RunLayout
from autounet.plan import Plan
from autounet.planners.words import count
from autounet.postprocessing import Postprocessing
from autounet.selection import Interval, Selection
from autounet.splits import in_words


def run_select(session: Session, query: str, rule: str, ensembles: bool, overwrite: bool) -> Selection:
    """Compares what is trained, chooses, and writes ``selection.json``.

    Raises:
        UsageError: Nothing is trained and scored, or there is no such rule.
    """
    if rule not in RULES:
        raise UsageError(f"--rule {rule}: no such rule", expected=" or ".join(RULES))
    dataset, layout = load_dataset(session, query)
    if not layout.plan.exists():
        raise UsageError(f"{layout.root}: nothing is planned or trained yet", remedy="run `autounet train` first")
    plan = Plan.load(layout.plan)
    splits = read_splits(dataset, layout)
    tell_leaks(session, dataset, splits.folds)
    there = scored_folds(layout, plan, splits)
    configurations, folds = common_folds(there)
    if not configurations:
        raise UsageError(
            f"{layout.models}: no fold is trained and scored",
            remedy=f"run `autounet train -d {query} -f 0`, best for all {len(splits.folds)} folds",
        )
    validation = CrossValidation(dataset, plan, layout, splits, folds)
    missing = tuple(missing_parts(plan, there, configurations, validation))
    for name in configurations:
        check_folds(validation, name)
        older = older_than_first(layout, plan, name, folds)
        if older:
            before = plan.configurations[name].previous_stage
            session.screen.warn(f"{in_words(older)} of {name}: {before} was trained again since; train with --overwrite to learn from it")
    made_from = {"plan": plan.digest(), "files": validation.state(list(configurations)), "ensembles": str(ensembles)}
    made_from |= validation.trained(list(configurations))
    try:
        old = Selection.load(layout.selection)
        if not overwrite and (old.made_from, old.rule) == (made_from, rule):
            tidy(layout)
            session.screen.say(f"{layout.selection} is up to date; --overwrite selects anew")
            show_selection(session, plan, old, query)
            return old
    except ArtefactError:
        pass
    with recorded(session, layout), one_at_a_time(layout.selecting, partial(_busy, layout), lock_cleared(session)):
        session.screen.say(f"comparing {', '.join(configurations)} on {count(len(validation.cases), 'held-out case')}, {in_words(folds)}")
        try:
            found = select(
                validation,
                list(configurations),
                session.runtime,
                ensembles=ensembles,
                rule=RULES[rule],
                missing=missing,
                made_from=made_from,
            )
        except DatasetError as error:
            again = f"remove the damaged label maps and run `autounet train -d {query} -f {','.join(folds)} -c …`, which predicts them anew"
            raise DatasetError(error.what, problems=error.problems, found=error.found, remedy=error.remedy or again) from None
        found.save(layout.selection)
    show_selection(session, plan, found, query)
    return found


def _busy(layout: RunLayout, holder: str) -> AutounetError:
    return AutounetError(f"{layout.root}: another command is selecting", found=holder, remedy="wait for it")


def check_folds(validation: CrossValidation, configuration: str) -> None:
    """Raises ArtefactError where folds were trained with another plan, or scored on other cases or images than are held out now."""
    for fold in validation.folds:
        folder = validation.layout.fold(configuration, fold)
        check_plan(folder.weights, validation.plan, configuration)
        scored, held_out = _scored_cases(folder), set(validation.splits.folds[int(fold)].validation)
        seen = trained_cases(validation.layout, configuration, fold)
        if scored != held_out and seen is not None and not held_out & set(seen):
            raise ArtefactError(
                f"{folder.scores}: cases were added or taken away since fold {fold} was scored",
                found=named(sorted(held_out - scored)) or f"more than {named(sorted(held_out))}",
                remedy=f"run `autounet train -c {configuration} -f {fold}` again, which scores them and trains nothing",
            )
        if scored != held_out:
            raise ArtefactError(
                f"{folder.scores}: of other cases than fold {fold} holds out",
                found=some(sorted(scored - held_out)) or f"without {some(sorted(held_out - scored))}",
                expected=some(sorted(held_out)),
                remedy=f"the dataset or splits.json has changed: train it again with -f {fold} --overwrite, or remove {folder.root}",
            )
        images = read_images(folder)
        other = [case for case in sorted(held_out) if images.get(case) not in (None, images_digest(validation.cases[case]))]
        if other:
            raise ArtefactError(
                f"{folder.validation}: images of held-out cases have changed since they were predicted",
                found=named(other),
                remedy=f"run `autounet train -c {configuration} -f {fold}` again, which predicts them anew and trains nothing",
            )


def _scored_cases(folder: FoldLayout) -> set[str]:
    try:
        return set(Scores.load(folder.scores).cases)
    except ArtefactError as error:
        remedy = f"remove it and run `autounet train` for {folder.root.parent.name}, {folder.root.name} again, which scores it anew"
        raise ArtefactError(error.what, found=error.found, expected=error.expected, remedy=remedy) from None


def missing_parts(
    plan: Plan, there: Mapping[str, Sequence[str]], kept: Mapping[str, Sequence[str]], validation: CrossValidation
) -> list[str]:
    """What is not trained, or not looked at, in words."""
    words, splits, folds = [], validation.splits, validation.folds
    for name in kept:
        seen = {fold: trained_cases(validation.layout, name, fold) for fold in folds}
        new = {case for fold, cases in seen.items() if cases is not None for case in set(splits.folds[int(fold)].train) - set(cases)}
        words += [f"{name} was trained without {count(len(new), 'new case')} in some folds ({named(sorted(new))})"] if new else []
    for name in plan.configurations:
        if name not in there:
            words.append(f"{name} is not trained")
        elif name not in kept:
            words.append(f"{name} is left out: it has no fold in common with the others")
        else:
            absent = [fold for fold in splits.names if fold not in there[name]]
            words += [f"{name} lacks {in_words(absent)}"] if absent else []
            extra = [fold for fold in there[name] if fold not in folds]
            words += [f"{in_words(extra)} of {name} not looked at: others lack {'it' if len(extra) == 1 else 'them'}"] if extra else []
    return words


def show_selection(session: Session, plan: Plan, found: Selection, query: str) -> None:
    """The table of candidates, the choice and its reason, postprocessing, what is missing."""
    screen, names = session.screen, list(found.candidates[0].classes)
    several = len(names) > 1
    shown = names if several and len(names) <= 4 else []
    rows = []
    against = {entry.second: entry for entry in found.comparisons}
    for candidate in found.candidates:
        other = against.get(candidate.name)
        rows.append(
            (
                f"{'> ' if candidate.name == found.chosen else '  '}{candidate.name}",
                _words(candidate.dice),
                *(_number(candidate.classes[name]) for name in shown),
                "" if other is None else _words(other.difference, signed=True),
                "" if other is None or other.p_value is None else f"{other.p_value:.2g}",
                f"{candidate.cost:.3g}",
            )
        )
    columns = ("candidate", "mean Dice", *shown, "best minus it", "p", "cost")
    screen.table(f"{plan.dataset}: {count(found.cases, 'held-out case')}, {in_words(found.folds)}", columns, rows)
    screen.say("95 % intervals by resampling cases; p of Wilcoxon's signed-rank test; cost in billion multiplications for a typical image")
    screen.result(f"chosen: {found.chosen}, {found.reason}")
    best = found.candidates[0].dice
    if best is not None and best.value < NOTHING:
        screen.warn("no candidate finds more than next to nothing: train longer before you choose")
    steps = describe_steps(plan, Postprocessing(made_from={}, steps=found.postprocessing))
    if steps:
        gain = f"mean Dice {_number(found.dice_before)} to {_number(found.dice_after)} on the cases that it was chosen on"
        screen.result(f"postprocessing: {'; '.join(steps)} ({gain})")
    else:
        screen.result(f"postprocessing: none of {count(len(found.decisions), 'step')} tried helps without harm")
    if found.confidence_rank_correlation is not None:
        screen.say(f"expected Dice orders the cases with a rank correlation of {found.confidence_rank_correlation:.2f} with the true Dice")
    for words in found.missing:
        screen.warn(words)
    screen.result(f"predict with it: autounet predict -d {query} -i images/ -o labels/")
    screen.json(found.model_dump(mode="json"))


def selected(layout: RunLayout) -> Selection | None:
    """What was selected, where it was. Raises ArtefactError for a damaged file."""
    return Selection.load(layout.selection) if layout.selection.exists() else None


def _words(interval: Interval | None, signed: bool = False) -> str:
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    return f"{interval.value:{sign}.4f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
