"""Artefacts brought up to date: what is there and fresh is used, what is missing or stale is made."""

from collections.abc import Sequence
from dataclasses import dataclass

from autounet.artefact import digest_of
from autounet.cli.session import Session
from autounet.dataset import DatasetSpec, Split, Splits, five_folds, read_dataset
from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan

DEFAULT_PRESET = "nnunet"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says about the plan; None leaves it to the plan that is there."""

    preset: str | None = None
    gpu_memory_gb: float | None = None


def load_dataset(session: Session, query: str) -> tuple[DatasetSpec, RunLayout]:
    """The dataset that ``-d`` means, and its run folder."""
    dataset = read_dataset(session.dataset_folder(query))
    return dataset, session.layout(dataset.name)


def fresh_fingerprint(session: Session, dataset: DatasetSpec, layout: RunLayout) -> Fingerprint:
    """The fingerprint, extracted if it is missing or the dataset changed."""
    from autounet.planners.extract import dataset_digest, extract_fingerprint

    try:
        there = Fingerprint.load(layout.fingerprint)
        if there.made_from.get("dataset") == dataset_digest(dataset):
            return there
        session.screen.say("the dataset has changed since its fingerprint was made: extracting it again")
    except ArtefactError as error:
        if layout.fingerprint.exists():
            session.screen.warn(str(error))
    fingerprint = extract_fingerprint(dataset, session.runtime)
    fingerprint.save(layout.fingerprint)
    return fingerprint


def fresh_plan(session: Session, dataset: DatasetSpec, layout: RunLayout, wanted: Wanted, overwrite: bool = False) -> tuple[Plan, bool]:
    """The plan, made if it is missing, stale or other than wanted; and whether it was made now.

    Raises:
        UsageError: Models trained with the present plan would be orphaned, or the preset is unknown.
    """
    from autounet.planners.planner import make_plan
    from autounet.planners.presets import PRESETS

    there = _plan_there(session, layout)
    name = wanted.preset or (there.preset if there else DEFAULT_PRESET)
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: unknown", expected=", ".join(PRESETS))
    memory = wanted.gpu_memory_gb
    if memory is None and there is not None and there.preset == name:
        memory = there.gpu_memory_gb
    fingerprint = fresh_fingerprint(session, dataset, layout)
    plan = make_plan(fingerprint, PRESETS[name], file_ending=dataset.file_ending, gpu_memory_gb=memory)
    if there is not None and there.digest() == plan.digest():
        return there, False
    if there is not None:
        trained = _orphans(layout, there, plan)
        changes = ", ".join(_changes(there, plan))
        if trained and not overwrite:
            raise UsageError(
                f"{layout.plan}: a new plan ({changes} changed) would not fit the models trained with this one",
                found=", ".join(trained),
                remedy="use another folder with --runs, or replace plan and models with --overwrite",
            )
        session.screen.say(f"plan.json is replaced: {changes} changed")
    plan.save(layout.plan)
    return plan, True


def saved_plan(layout: RunLayout) -> Plan:
    """The plan as it is on disk. Raises ArtefactError."""
    return Plan.load(layout.plan)


def choose_configuration(plan: Plan, name: str | None) -> Configuration:
    """The configuration of ``-c``; by default ``3d_fullres`` if planned, else the first. Raises UsageError."""
    chosen = name or ("3d_fullres" if "3d_fullres" in plan.configurations else next(iter(plan.configurations)))
    if chosen not in plan.configurations:
        raise UsageError(f"-c {chosen}: not in the plan", expected=" or ".join(plan.configurations))
    return plan.configurations[chosen]


def load_splits(dataset: DatasetSpec, layout: RunLayout) -> Splits:
    """The five folds: those on disk if they are of these cases, else nnU-Net's, saved. Raises DatasetError."""
    ids = [case.id for case in dataset.cases]
    made_from = {"cases": digest_of(ids)}
    try:
        there = Splits.load(layout.splits)
        if there.made_from == made_from:
            return there
    except ArtefactError:
        pass
    splits = Splits(made_from=made_from, folds=five_folds(ids))
    splits.save(layout.splits)
    return splits


def cases_of_fold(dataset: DatasetSpec, layout: RunLayout, fold: str) -> Split:
    """Training and validation cases of ``"0"``.., or of ``"all"``."""
    if fold == "all":
        return Split(train=tuple(case.id for case in dataset.cases), validation=())
    return load_splits(dataset, layout).folds[int(fold)]


def parse_folds(text: str, count: int) -> list[str]:
    """``0``, ``0,2,4`` or ``all`` → folds, without repetition. Raises UsageError."""
    folds: Sequence[str] = [part.strip() for part in text.split(",") if part.strip()]
    allowed = [str(number) for number in range(count)]
    wrong = [fold for fold in folds if fold not in (*allowed, "all")]
    if wrong or not folds:
        raise UsageError(f"-f {text}: no such fold", found=", ".join(wrong) or "nothing", expected=f"{', '.join(allowed)} or all")
    return list(dict.fromkeys(folds))


def _plan_there(session: Session, layout: RunLayout) -> Plan | None:
    if not layout.plan.exists():
        return None
    try:
        return Plan.load(layout.plan)
    except ArtefactError as error:
        session.screen.warn(f"{error}; it is made anew")
        return None


def _orphans(layout: RunLayout, old: Plan, new: Plan) -> list[str]:
    """Folds trained, or begun, with a configuration that the new plan changes or drops."""
    changed = [name for name in old.configurations if name not in new.configurations or old.recipe(name) != new.recipe(name)]
    folds = [path.parent for name in changed for path in sorted((layout.models / name).glob("fold_*/resume.pt"))]
    return [str(fold.relative_to(layout.models)) for fold in folds]


def _changes(old: Plan, new: Plan) -> list[str]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    names = [name for name in after if name not in ("decisions", "made_from") and before[name] != after[name]]
    for name in ("made_from", "decisions"):
        if not names and before[name] != after[name]:
            names.append({"made_from": "the fingerprint", "decisions": "reasons"}[name])
    return names
