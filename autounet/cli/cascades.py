"""What the second stage of a cascade learns from: what the first one predicts for cases that it has not seen."""

from collections.abc import Sequence
from pathlib import Path

from autounet.artefact import digest_of
from autounet.checkpoint import read_about
from autounet.cli.folding import load_splits, trained_cases
from autounet.cli.session import Session
from autounet.dataset import DatasetSpec
from autounet.errors import UsageError
from autounet.folds import named
from autounet.inference.model import check_plan, find_trained
from autounet.inference.validate import label_ending
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan
from autounet.splits import Splits, in_words


def out_of_fold(session: Session, dataset: DatasetSpec, layout: RunLayout, plan: Plan, configuration: Configuration) -> dict[str, Path]:
    """Case → the label map that the previous stage's fold that held it out has predicted; empty for a configuration without such a stage.

    Every case must be held out by a fold, and all folds must be trained and validated: what a network predicts for cases that it has learnt
    from is better than what the second stage will meet. Source: nnunetv2 2.8.1, ``nnUNetTrainer.py``, perform_actual_validation.

    Raises:
        UsageError: Folds of the previous stage are missing, or were trained on other cases than they have now.
        ArtefactError: One was trained with another plan.
    """
    before = configuration.previous_stage
    if before is None:
        return {}
    splits = load_splits(session, dataset, layout)
    held_out_once = {case for fold in splits.folds for case in fold.validation}
    never = [case.id for case in dataset.cases if case.id not in held_out_once]
    if never:
        raise UsageError(
            f"-c {configuration.name}: learns from what {before} predicts for cases that it has not seen, and some are held out by no fold",
            found=f"never held out: {named(never)}",
            remedy=f"give folds that hold each case out (`autounet plan --splits`), or train {before} or 3d_fullres",
        )
    found: dict[str, Path] = {}
    missing, outdated = list[str](), list[str]()
    for fold in splits.names:
        folder, held_out = layout.fold(before, fold), splits.folds[int(fold)].validation
        maps = {case: folder.validation / f"{case}{label_ending(plan.file_ending)}" for case in held_out}
        if not (folder.weights.exists() and folder.scores.exists() and all(path.exists() for path in maps.values())):
            missing.append(fold)
            continue
        check_plan(folder.weights, plan, before)
        if not _has_not_seen(layout, before, splits, fold):
            outdated.append(fold)
        found = maps | found
    if not missing and not outdated:
        return found
    words = [f"{in_words(missing)} not trained and validated"] if missing else []
    words += [f"{in_words(outdated)} trained on other cases than in {layout.splits.name}"] if outdated else []
    again = " --overwrite" if outdated else ""
    raise UsageError(
        f"-c {configuration.name}: learns from what {before} predicts for cases that it has not seen, which takes all its "
        f"{len(splits.folds)} folds",
        found=f"of {before}, {'; '.join(words)}",
        remedy=f"run `autounet train -d {dataset.name} -c {before} -f {','.join(outdated or missing)}{again}`",
    )


def _has_not_seen(layout: RunLayout, configuration: str, splits: Splits, fold: str) -> bool:
    """Whether a fold was trained without the cases that it holds out now."""
    now, seen = splits.folds[int(fold)], trained_cases(layout, configuration, fold)
    if seen is not None:
        return not set(seen) & set(now.validation)
    return read_about(layout.fold(configuration, fold).weights).get("cases") in (None, digest_of(sorted(now.train)))


def older_than_first(layout: RunLayout, plan: Plan, name: str, folds: Sequence[str]) -> list[str]:
    """Folds of a cascade's second stage that were trained before some fold of the first one was trained again."""
    before = plan.configurations[name].previous_stage
    if before is None:
        return []
    newest = max((entry.weights.stat().st_mtime_ns for entry in find_trained(layout) if entry.configuration == before), default=0)
    return [fold for fold in folds if layout.fold(name, fold).weights.stat().st_mtime_ns < newest]
