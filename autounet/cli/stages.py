"""Artefacts brought up to date: what is there and fresh is used, what is missing or stale is made."""

import time
from collections.abc import Sequence
from pathlib import Path

from autounet.cli.folding import folds_begun, keep_beside
from autounet.cli.locks import read_holder, state_of, words_about
from autounet.cli.session import Session
from autounet.cli.wanted import Wanted
from autounet.dataset import DatasetSpec, read_dataset
from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.image_names import archive_of
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan, PlanRequest
from autounet.planners.words import count
from autounet.portable import check_told_apart

MOST_CHANGES = 6


def load_dataset(session: Session, query: str) -> tuple[DatasetSpec, RunLayout]:
    """The dataset that ``-d`` means, and its run folder."""
    dataset = read_dataset(session.dataset_folder(query))
    layout = session.layout(dataset.name)
    check_told_apart((case.id for case in dataset.cases), layout.root)
    return dataset, layout


def fresh_fingerprint(session: Session, dataset: DatasetSpec, layout: RunLayout) -> Fingerprint:
    """The fingerprint, extracted if it is missing, damaged or the dataset changed."""
    from autounet.planners.extract import dataset_digest, extract_fingerprint

    try:
        there = Fingerprint.load(layout.fingerprint)
        if there.made_from.get("dataset") == dataset_digest(dataset):
            return there
        changes = dataset_changes(there, dataset, layout)
        session.screen.say(f"the dataset has changed since its fingerprint was made ({changes}): reading what is new")
    except ArtefactError as error:
        if layout.fingerprint.exists():
            session.screen.warn(f"{error.what}; it is made anew")
    fingerprint = extract_fingerprint(dataset, session.runtime, layout.facts)
    fingerprint.save(layout.fingerprint)
    return fingerprint


def fresh_plan(
    session: Session, dataset: DatasetSpec, layout: RunLayout, wanted: Wanted, overwrite: bool = False, renew: bool = False
) -> tuple[Plan, bool]:
    """The plan, made if it is missing, stale or other than wanted; and whether it was made now.

    A plan that cases are prepared or models trained with is kept when nothing but the cases has changed, so that their work is not
    lost, unless ``renew``.

    Raises:
        UsageError: Models trained with the present plan would be orphaned, or the preset is unknown.
    """
    wanted.check()
    there = _plan_there(session, layout, overwrite)
    fingerprint = fresh_fingerprint(session, dataset, layout)
    request = wanted.request(fingerprint, None if there is None else there.request)
    plan = plan_for(fingerprint, request, dataset.file_ending)
    if there is not None and there.digest() == plan.digest():
        return there, False
    if there is not None and not renew and _is_kept(layout, there, plan):
        session.screen.say(f"{layout.plan.name} is kept, though the cases have changed: cases are prepared or models trained with it")
        return there, False
    if there is not None:
        refuse_while_training(layout)
        orphans, changes = _orphans(layout, there, plan), plan_changes(there, plan)
        if orphans and not overwrite:
            raise UsageError(
                f"{layout.plan}: a new plan would not fit the models trained with this one ({changes})",
                found=", ".join(orphans),
                remedy="keep both with another folder (--runs), or give this plan up with --overwrite and train again",
            )
        session.screen.say(f"plan.json is replaced: {changes}")
        if orphans:
            session.screen.say(f"the plan before is kept in {keep_beside(layout.plan)}")
            session.screen.warn(f"these models were trained with the old plan: train them again with --overwrite: {', '.join(orphans)}")
    remove_drawings(layout)
    plan.save(layout.plan)
    return plan, True


def refuse_while_training(layout: RunLayout) -> None:
    """Raises UsageError while another command trains a fold: it would end with weights of a plan that is gone."""
    for lock in sorted(layout.models.glob(layout.fold("*", "*").lock.relative_to(layout.models).as_posix())):
        holder, beat = read_holder(lock)
        if beat is not None and state_of(holder, time.time() - beat) != "gone":
            fold = f"{lock.parent.parent.name} {lock.parent.name.replace('_', ' ')}"
            raise UsageError(
                f"{layout.plan}: a new plan while {fold} is being trained with this one",
                found=words_about(holder, time.time() - beat),
                remedy="wait for it or stop it, or use another folder with --runs",
            )


def plan_for(fingerprint: Fingerprint, request: PlanRequest, file_ending: str) -> Plan:
    """The plan that a request makes of a fingerprint."""
    from autounet.planners.planner import make_plan

    return make_plan(fingerprint, request.preset, file_ending=file_ending, gpu_memory_gb=request.gpu_memory_gb, overrides=request.overrides)


def remove_drawings(layout: RunLayout) -> None:
    """Removes the drawings of an older plan, so that none is there that its plan is not. Raises ArtefactError."""
    for path in layout.root.glob(layout.network_drawing("*", "").name):
        try:
            path.unlink()
        except OSError as error:
            raise ArtefactError(f"{path}: cannot be removed", found=error.strerror or error, remedy="remove it yourself") from None


def dataset_changes(old: Fingerprint, dataset: DatasetSpec, layout: RunLayout) -> str:
    """What differs between a dataset and the one that a fingerprint was made from, in words."""
    before, now = {case.case for case in old.cases}, {case.id for case in dataset.cases}
    moved = ((now - before, "new"), (before - now, "gone"))
    changes = [f"{count(len(cases), 'case')} {word}: {some(sorted(cases))}" for cases, word in moved if cases]
    changes += [name for name in ("channels", "labels") if getattr(old, name) != getattr(dataset, name)]
    if not changes:
        names = dataset.labels.names
        is_annotated = {case.id: set(names if case.annotated is None else case.annotated) for case in dataset.cases}
        changes += ["which classes are annotated"] if any(set(case.class_voxels) != is_annotated[case.case] for case in old.cases) else []
    if not changes:
        made = layout.fingerprint.stat().st_mtime_ns
        newer = [case.id for case in dataset.cases if any(_changed_ns(file) > made for file in (*case.images, case.label))]
        changes.append(f"files of {some(newer)}" if newer else "image or label files")
    return "; ".join(changes)


def _changed_ns(image: Path) -> int:
    """When a file, or one in a folder, was changed last."""
    archive = archive_of(image)
    places = [image if archive is None else archive[0], *(image.rglob("*") if image.is_dir() else ())]
    return max(int(place.stat().st_mtime_ns) for place in places)


def choose_configuration(plan: Plan, name: str | None) -> Configuration:
    """The configuration of ``-c``; by default ``3d_fullres`` if planned, else the first. Raises UsageError."""
    chosen = name or ("3d_fullres" if "3d_fullres" in plan.configurations else next(iter(plan.configurations)))
    if chosen not in plan.configurations:
        raise UsageError(f"-c {chosen}: not in the plan", expected=" or ".join(plan.configurations))
    return plan.configurations[chosen]


def _plan_there(session: Session, layout: RunLayout, overwrite: bool) -> Plan | None:
    if not layout.plan.exists():
        begun = _folds_begun(layout)
        if begun and not overwrite:
            remedy = f"put back a copy of it: {some(begun)} need it; or make it anew with --overwrite and train again"
            raise ArtefactError(f"{layout.plan}: no plan here", remedy=remedy)
        return None
    try:
        return Plan.load(layout.plan)
    except ArtefactError as error:
        trained = _folds_begun(layout)
        if trained and not overwrite:
            remedy = f"put back a copy of it: {some(trained)} need it; or make it anew with --overwrite and train again"
            raise ArtefactError(error.what, found=error.found, expected=error.expected, remedy=remedy) from None
        session.screen.warn(f"{error.what}; it is made anew")
        return None


def _is_kept(layout: RunLayout, old: Plan, new: Plan) -> bool:
    """Whether a new plan differs by other cases alone, and would make worthless what there is."""
    alike = (old.request, old.labels, old.channels, old.ndim) == (new.request, new.labels, new.channels, new.ndim)
    if not alike or old.made_from == new.made_from:
        return False
    prepared = [name for name in old.configurations if next(layout.prepared(name).glob("*.json"), None) is not None]
    lost = [name for name in prepared if name not in new.configurations or old.recipe(name) != new.recipe(name)]
    return bool(lost or _orphans(layout, old, new))


def _orphans(layout: RunLayout, old: Plan, new: Plan) -> list[str]:
    """Folds trained, or begun, with a configuration that the new plan changes or drops."""
    changed = [
        name
        for name in old.configurations
        if name not in new.configurations or old.recipe(name) != new.recipe(name) or old.training_recipe() != new.training_recipe()
    ]
    return [fold for fold in _folds_begun(layout) if fold.split("/")[0] in changed]


def _folds_begun(layout: RunLayout) -> list[str]:
    return [f"{configuration}/fold_{fold}" for configuration, fold in folds_begun(layout)]


def plan_changes(old: Plan, new: Plan) -> str:
    """What a new plan decides otherwise, in words."""
    from autounet.planners.compare import compare_plans

    changes = [change.describe() for change in compare_plans(old, new)]
    if not changes:
        return "same decisions, from a newer fingerprint"
    return "; ".join(changes[:MOST_CHANGES]) + (f"; and {len(changes) - MOST_CHANGES} more" if len(changes) > MOST_CHANGES else "")


def some(names: Sequence[str], most: int = 5) -> str:
    """Names, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
