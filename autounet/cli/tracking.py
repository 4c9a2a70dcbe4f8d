"""``--track``: trackers as the command line sets them up, with what they are told of a training."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import get_args

from autounet.errors import UsageError
from autounet.evaluation.scores import METRICS, Scores
from autounet.layout import FoldLayout
from autounet.plan import Configuration, Plan
from autounet.training.schedule import Length
from autounet.training.tracking import TrackerName, Trackers, open_trackers

ENVIRONMENT = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # plain files, as all else in a run folder; MLflow itself would rather have a database
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""What holds for trackers unless the user has set it otherwise: nothing leaves the machine unasked."""


def tracker_names(texts: Sequence[str]) -> tuple[TrackerName, ...]:
    """What ``--track`` names, each once. Raises UsageError."""
    known: tuple[TrackerName, ...] = get_args(TrackerName)
    unknown = [text for text in texts if text not in known]
    if unknown:
        raise UsageError(f"--track {unknown[0]}: no such tracker", expected=" or ".join(known))
    return tuple(name for name in known if name in texts)


@contextmanager
def tracked(
    names: Sequence[TrackerName], layout: FoldLayout, title: str, settings: Mapping[str, str | int | float], anew: bool
) -> Iterator[Trackers]:
    """The trackers of a fold's training, told its ``settings``; ``anew`` when it does not go on from a checkpoint.

    Raises:
        UsageError: One of them cannot begin.
        ArtefactError: What this folder knows of their runs is damaged.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if before[name] is None}
    try:
        with open_trackers(names, layout.root, title, settings, anew=anew) as trackers:
            yield trackers
    finally:
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name, None)


def told_of(recipe: Plan, configuration: Configuration, fold: str, length: Length, seed: int) -> dict[str, str | int | float]:
    """Settings of a training, for people who compare several; ``recipe`` is the plan as it is followed."""
    network, budget = configuration.network, length.budget_seconds
    return {
        "dataset": recipe.dataset,
        "configuration": configuration.name,
        "fold": fold,
        "preset": recipe.preset,
        "length": f"{length.epochs} epochs of {length.iterations} steps" if budget is None else f"{budget:.0f} s",
        "seed": seed,
        "batch_size": configuration.batch_size,
        "patch_size": "×".join(map(str, configuration.patch_size)),
        "spacing_mm": "×".join(f"{value:g}" for value in configuration.spacing_mm),
        "network": network.kind,
        "features": ",".join(map(str, network.features)),
        "optimizer": recipe.optimizer.kind,
        "learning_rate": recipe.optimizer.learning_rate,
        "augmentation": recipe.augmentation,
        "loss": recipe.loss.kind,
    }


def told_scores(scores: Scores | None) -> dict[str, float | None] | None:
    """Means over the held-out cases: ``dice/liver``, ``mean_dice``, and so on."""
    if scores is None:
        return None
    public = scores.to_public()
    told = {f"{metric}/{name}": entry[metric] for name, entry in public["classes"].items() for metric in METRICS}
    return told | {f"mean_{metric}": public["mean"][metric] for metric in METRICS}
