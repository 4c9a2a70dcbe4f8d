"""What has changed in a dataset since its folds were scored: the page would else show old figures as those of the present data."""

from collections.abc import Mapping

from autounet.dataset import DatasetSpec
from autounet.evaluation.scores import Scores
from autounet.folds import leaks_of, named
from autounet.plan import Plan
from autounet.preprocessing.run import files_digest
from autounet.splits import Splits


def changes_since(dataset: DatasetSpec, plan: Plan, splits: Splits | None, scored: Mapping[tuple[str, str], Scores | None]) -> list[str]:
    """In words, what the figures of the page do not know.

    Args:
        dataset: As it is now.
        plan: Of the run folder.
        splits: Its folds; None where there are none.
        scored: Configuration and fold → the scores.
    """
    words = [] if splits is None else [f"Folds: {leak}." for leak in leaks_of(splits.folds, dataset.patients)]
    cases = {case.id: case for case in dataset.cases}
    for (configuration, fold), scores in scored.items():
        entry = plan.configurations.get(configuration)
        if scores is None or entry is None or entry.previous_stage is not None:
            continue
        gone = sorted(set(scores.cases) - set(cases))
        if gone:
            words.append(f"{configuration} fold {fold} was scored on cases that the dataset no longer has: {named(gone)}.")
            continue
        try:
            changed = files_digest([cases[case] for case in scores.cases], plan.labels) != scores.made_from.get("files")
        except OSError:
            changed = True
        if changed and "files" in scores.made_from:
            again = "the same `autounet train` scores them again"
            words.append(f"{configuration} fold {fold}: images or labels of held-out cases have changed since they were scored; {again}.")
    return words
