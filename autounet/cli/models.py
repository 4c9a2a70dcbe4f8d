"""Which model a command means: of a run folder or a bundle, its configurations and folds, and what is done to its label maps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autounet.artefact import digest_of
from autounet.bundle import Bundle
from autounet.bundle_check import fault_of_postprocessing
from autounet.bundle_text import describe_steps
from autounet.cli.selecting import selected
from autounet.cli.session import Session
from autounet.cli.stages import some
from autounet.dataset_search import dataset_path, matching_folders
from autounet.errors import ArtefactError, UsageError
from autounet.inference.bundled import load_bundle
from autounet.inference.model import Model, TrainedFold, averaged, choose_before, choose_trained, load_folds
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan
from autounet.postprocessing import Postprocessing, Step
from autounet.runtime import Runtime
from autounet.selection import JOIN, Selection
from autounet.splits import split_names


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed; None leaves it to the model."""

    configuration: str | None
    folds: str | None
    postprocess: bool
    apart: bool
    """Every fold as a member of its own, so that it is seen where they disagree."""
    mirror: bool = True


@dataclass(frozen=True, slots=True)
class Chosen:
    """The trained folds to predict with, not yet loaded."""

    plan: Plan
    folds: dict[str, tuple[str, ...]]
    """Of each configuration."""
    load: Callable[[], Model]
    made: float
    """When its files were written, in seconds since 1970."""
    identity: str
    """Digest of all that decides what is predicted."""
    steps: tuple[str, ...] = ()
    """What is done to label maps before they are written, in words."""


def choose_parts(session: Session, model: RunLayout | Bundle, wish: Wish) -> Chosen:
    """Configuration and folds of a run folder or a bundle. Raises UsageError or ArtefactError."""
    if wish.configuration is not None and not all(part.strip() for part in wish.configuration.split(JOIN)):
        raise UsageError(f"-c {wish.configuration!r}: names no configuration", expected="such as 3d_fullres, or 2d+3d_fullres")
    if isinstance(model, Bundle):  # which may have other folds than ours
        folds = None if wish.folds is None else split_names(wish.folds)
        used = model.choose(wish.configuration, folds)
        steps = model.postprocessing.steps if model.postprocessing is not None and wish.postprocess else ()
        groups = [_loads(wish, used[name], partial(_of_bundle, model, session.runtime, name)) for name in used]
        identity = _identity(model.manifest.digest(), used, steps, wish)
        load = partial(_load_all, groups, steps)
        return Chosen(model.plan, used, load, model.path.stat().st_mtime, identity, _words(model.plan, steps))
    plan = Plan.load(model.plan)
    selection = selected(model) if wish.configuration is None else None
    trained = (
        _selected_folds(model, selection, wish)
        if selection is not None
        else choose_trained(model, wish.configuration, named_folds(wish.folds))
    )
    entries: dict[str, list[TrainedFold]] = {}
    for entry in trained:
        entries.setdefault(planned(plan, entry.configuration, model).name, []).append(entry)
    steps = selection.postprocessing if selection is not None and wish.postprocess else ()
    if (fault := fault_of_postprocessing(Postprocessing(made_from={}, steps=steps), plan)) is not None:
        raise ArtefactError(f"{model.selection}: its postprocessing cannot be carried out", found=fault, remedy=Selection.REMEDY)
    members = [_members(model, plan, group, wish) for group in entries.values()]
    files = [entry.weights.stat() for group in members for member in group for entry in member]
    made = max(file.st_mtime for file in files)
    if selection is not None and made > model.selection.stat().st_mtime:
        session.screen.warn(f"folds were trained after {model.selection.name} was made: `autounet select` chooses anew")
    groups = [[partial(_of_folds, plan, session.runtime, member) for member in group] for group in members]
    folds_of = {key: tuple(entry.fold for entry in group) for key, group in entries.items()}
    state = digest_of([plan.digest(), [[file.st_size, file.st_mtime_ns] for file in files]])
    identity = _identity(state, folds_of, steps, wish)
    return Chosen(plan, folds_of, partial(_load_all, groups, steps), made, identity, _words(plan, steps))


def _selected_folds(layout: RunLayout, selection: Selection, wish: Wish) -> list[TrainedFold]:
    try:
        return choose_trained(layout, selection.chosen, named_folds(wish.folds))
    except UsageError as error:
        what = f"{layout.selection} chooses {selection.chosen}: {error.what}"
        raise UsageError(what, found=error.found, remedy="choose what is trained with -c, or run `autounet select` again") from None


def _identity(model: str, folds: Mapping[str, Sequence[str]], steps: Sequence[Step], wish: Wish) -> str:
    parts = [[name, list(each)] for name, each in folds.items()]
    return digest_of([model, parts, [step.model_dump(mode="json") for step in steps], wish.apart, wish.mirror])


Load = Callable[[], Model]


def _loads(wish: Wish, folds: Sequence[str], load: Callable[[Sequence[str]], Model]) -> list[Load]:
    """One model of all folds; or where they are to be seen to disagree, one of each."""
    return [partial(load, [fold]) for fold in folds] if wish.apart else [partial(load, list(folds))]


def _of_bundle(bundle: Bundle, runtime: Runtime, name: str, folds: Sequence[str]) -> Model:
    return load_bundle(bundle, runtime, name, folds, postprocess=False)


def _members(layout: RunLayout, plan: Plan, group: Sequence[TrainedFold], wish: Wish) -> list[list[TrainedFold]]:
    """The folds of one configuration, or each by itself where they are to be seen to disagree; of a cascade with those of its first stage.

    Chosen before any is read: a fold that is missing is told at once.
    """
    named = None if wish.folds is None else [entry.fold for entry in group]
    apart = [[entry] for entry in group] if wish.apart else [list(group)]
    return [[*choose_before(layout, plan, each, [each[0].fold] if wish.apart else named), *each] for each in apart]


def _of_folds(plan: Plan, runtime: Runtime, member: Sequence[TrainedFold]) -> Model:
    name = member[-1].configuration
    trained = [entry for entry in member if entry.configuration == name]
    return load_folds(plan, trained, runtime, [entry for entry in member if entry.configuration != name])


def _load_all(groups: Sequence[Sequence[Load]], steps: tuple[Step, ...]) -> Model:
    """Every configuration counts as much, however many of its folds are members."""
    return averaged([load() for group in groups for load in group], steps, [1 / len(group) for group in groups for _ in group])


def _words(plan: Plan, steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(describe_steps(plan, Postprocessing(made_from={}, steps=steps)))


def planned(plan: Plan, name: str, layout: RunLayout) -> Configuration:
    """A trained configuration as it is in the plan. Raises UsageError where it is not."""
    if name not in plan.configurations:
        raise UsageError(
            f"{name} is trained but not in {layout.plan}",
            expected=" or ".join(plan.configurations),
            remedy="choose another with -c, or train it again",
        )
    return plan.configurations[name]


def named_folds(text: str | None) -> list[str] | None:
    """``0,2`` or ``all`` of the command line; None leaves the choice open. Raises UsageError."""
    if text is None:
        return None
    folds = split_names(text)
    wrong = [fold for fold in folds if not (fold.isascii() and fold.isdecimal()) and fold != "all"]
    if wrong or not folds:
        raise UsageError(f"-f {text}: no such fold", found=", ".join(wrong) or "nothing", expected="numbers of folds, as 0,1,2, or all")
    return folds


def choose_model(session: Session, dataset: str | None, model: Path | None) -> RunLayout | Bundle:
    """The run folder or the bundle that is meant. Raises UsageError, or ArtefactError for a bundle that is refused."""
    if model is not None and dataset is not None:
        raise UsageError("-d and -m name the model twice", remedy="give one of them")
    if model is None:
        return choose_layout(session, dataset)
    if model.is_file():
        return Bundle.open(model)
    layout = RunLayout(model)
    if not layout.plan.exists():
        raise UsageError(
            f"-m {model}: {'not a run folder' if model.exists() else 'no such file or folder'}",
            expected="a folder with plan.json and models/, or a file made by `autounet export` or `autounet import`",
        )
    return layout


def choose_layout(session: Session, dataset: str | None) -> RunLayout:
    """The run folder that is meant. Raises UsageError."""
    there = sorted({path.parents[3] for path in session.runs.glob("*/models/*/fold_*/weights.safetensors")})
    names = [folder.name for folder in there]
    train_first = "train one with `autounet train`, or name the folder of runs with --runs"
    if dataset is not None:
        as_path = dataset_path(dataset)
        matches = matching_folders(dataset.rstrip("/"), names) or (
            [] if as_path is None else [name for name in names if name == as_path.name]
        )
        if len(matches) != 1:
            raise UsageError(
                f"-d {dataset}: {'ambiguous' if matches else 'no trained model of this dataset'} in {session.runs}",
                found=some(matches or names) or "no trained models",
                remedy="give the full name" if matches else train_first,
            )
        return RunLayout(session.runs / matches[0])
    if not there:
        raise UsageError(f"{session.runs}: no trained model in this folder of runs", remedy=train_first)
    if len(there) > 1:
        raise UsageError("several datasets are trained", found=some(names, 20), remedy="say which one with -d")
    session.screen.say(f"using {there[0]}, the only trained dataset")
    return RunLayout(there[0])


def plan_of(session: Session, dataset: str) -> Plan:
    """The plan of a dataset's run folder. Raises UsageError or ArtefactError."""
    return Plan.load(choose_layout(session, dataset).plan)
