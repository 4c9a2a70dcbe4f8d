"""What a run folder holds, read for the report: artefacts, folds and commands; and what is missing or cannot be read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from autounet.artefact import digest_of
from autounet.dataset import DatasetSpec
from autounet.errors import ArtefactError
from autounet.evaluation.scores import Scores
from autounet.fingerprint import Fingerprint
from autounet.health.findings import Health, PicturedFinding, pictured
from autounet.layout import FoldLayout, RunLayout
from autounet.plan import Plan
from autounet.planners.words import count
from autounet.report.freshness import changes_since
from autounet.selection import Selection
from autounet.splits import FOLDS, Splits, in_words
from autounet.text_files import read_text
from autounet.training.history import EpochRecord, read_history

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of one configuration, as far as it has come."""

    configuration: str
    name: str
    """``0``.. or ``all``."""
    folder: FoldLayout
    history: tuple[EpochRecord, ...]
    training: Mapping[str, Any]
    """training.json; empty where it is not there."""
    scores: Scores | None
    """Of the held-out cases; None until they are scored, and for ``all``."""
    trained: bool
    """Its training has ended."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several configurations, their probabilities averaged for the held-out cases."""

    name: str
    """Such as ``2d+3d_fullres``."""
    folder: Path
    """Of its label maps."""
    scores: Scores


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the report is made of, images apart."""

    layout: RunLayout
    fingerprint: Fingerprint
    plan: Plan | None
    splits: Splits | None
    folds: tuple[Fold, ...]
    """By configuration, in the plan's order, then by fold."""
    ensembles: tuple[Ensemble, ...]
    selection: Selection | None
    health: Health | None
    findings: tuple[PicturedFinding, ...]
    """Of ``health``, worst first."""
    commands: tuple[Mapping[str, Any], ...]
    """Of manifest.json, in order; those that made a report left out."""
    missing: tuple[str, ...]
    """What is not there yet or cannot be read, in words, with what to do."""

    @property
    def configurations(self) -> tuple[str, ...]:
        """Configurations of which a fold was begun."""
        return tuple(dict.fromkeys(fold.configuration for fold in self.folds))

    def folds_of(self, configuration: str) -> tuple[Fold, ...]:
        """Folds of one configuration."""
        return tuple(fold for fold in self.folds if fold.configuration == configuration)

    def digest(self) -> str:
        """Hash of all content but the commands: the same evidence makes the same report."""
        folds = [
            [
                fold.configuration,
                fold.name,
                fold.trained,
                digest_of([record.model_dump(mode="json") for record in fold.history]),
                digest_of(fold.training),
                fold.scores and fold.scores.digest(),
            ]
            for fold in self.folds
        ]
        single = (self.fingerprint, self.plan, self.splits, self.selection, self.health, *(entry.scores for entry in self.ensembles))
        return digest_of([[artefact and artefact.digest() for artefact in single], folds, self.missing])


def gather(layout: RunLayout, dataset: DatasetSpec | None = None) -> Evidence:
    """Reads a run folder.

    Args:
        layout: The run folder.
        dataset: Its dataset as it is now, where it is at hand: what has changed since is noted.

    Raises:
        ArtefactError: There is no usable fingerprint, without which nothing can be said. Anything else that is missing or damaged is
            noted in ``missing``.
    """
    fingerprint = Fingerprint.load(layout.fingerprint)
    missing: list[str] = []
    plan = _read(layout.plan, Plan.load, missing)
    if plan is None and not layout.plan.exists():
        missing.append("No plan yet. Run `autounet plan`.")
    splits = _read(layout.splits, Splits.load, missing)
    order = {name: place for place, name in enumerate(plan.configurations if plan else ())}
    folders = sorted(
        layout.models.glob("*/fold_*"), key=lambda path: (order.get(path.parent.name, len(order)), path.parent.name, path.name)
    )
    folds = tuple(fold for folder in folders if (fold := _fold(FoldLayout(folder), missing)) is not None)
    missing += _missing_folds(folds, tuple(map(str, range(FOLDS))) if splits is None else splits.names)
    missing += _stale_folds(folds, splits)
    if dataset is not None and plan is not None:
        missing += changes_since(dataset, plan, splits, {(fold.configuration, fold.name): fold.scores for fold in folds})
    health = _read(layout.health, Health.load, missing)
    return Evidence(
        layout, fingerprint, plan, splits, folds, _ensembles(layout, missing), _read(layout.selection, Selection.load, missing), health,
        () if health is None else tuple(pictured(health, layout.health_pictures)), _commands(layout), tuple(missing),
    )  # fmt: skip


def _ensembles(layout: RunLayout, missing: list[str]) -> tuple[Ensemble, ...]:
    """Ensembles that were scored."""
    found = []
    for path in sorted(layout.ensemble(".").glob("*/scores.json")):
        scores = _read(path, Scores.load, missing)
        if scores is not None:
            found.append(Ensemble(path.parent.name, path.parent, scores))
    return tuple(found)


def _fold(folder: FoldLayout, missing: list[str]) -> Fold | None:
    """A fold, or None for a folder in which nothing was begun."""
    configuration, name = folder.root.parent.name, folder.root.name.removeprefix("fold_")
    if not (folder.history.exists() or folder.weights.exists() or folder.scores.exists()):
        return None
    return Fold(
        configuration,
        name,
        folder,
        tuple(_read(folder.history, read_history, missing) or ()),
        _read(folder.training, _object, missing) or {},
        _read(folder.scores, Scores.load, missing),
        folder.weights.exists(),
    )


def _missing_folds(folds: tuple[Fold, ...], every: tuple[str, ...]) -> list[str]:
    if not folds:
        return ["Nothing is trained yet. Run `autounet train`."]
    notes = []
    for configuration in dict.fromkeys(fold.configuration for fold in folds):
        own = {fold.name: fold for fold in folds if fold.configuration == configuration}
        unfinished = [name for name, fold in own.items() if not fold.trained]
        unscored = [name for name, fold in own.items() if fold.trained and fold.scores is None and name != "all"]
        absent = [number for number in every if number not in own]
        if absent and list(own) != ["all"]:
            notes.append(f"{configuration}: {in_words(absent)} not trained. Scores are of the cases held out so far.")
        if unfinished:
            notes.append(f"{configuration}: {in_words(unfinished)} begun, training has not ended.")
        if unscored:
            notes.append(f"{configuration}: {in_words(unscored)} trained, but not scored. The same `autounet train` goes on.")
    return notes


def _stale_folds(folds: tuple[Fold, ...], splits: Splits | None) -> list[str]:
    """Folds whose scores are of other cases than they hold out now: a case was added, removed, or put into another fold."""
    if splits is None:
        return []
    held_out = {str(number): set(fold.validation) for number, fold in enumerate(splits.folds)}
    words = []
    for fold in folds:
        now, seen = held_out.get(fold.name), fold.folder.training_cases()
        if fold.scores is not None and now is not None and set(fold.scores.cases) != now:
            again = "train it again with --overwrite" if seen is None or now & set(seen) else "the same `autounet train` scores them"
            words.append(f"{fold.configuration} fold {fold.name} was scored on other cases than it holds out now: {again}.")
        if fold.trained and now is not None and seen is not None:
            new = sorted(set(splits.folds[int(fold.name)].train) - set(seen))
            if new:
                words.append(f"{fold.configuration} fold {fold.name} was trained without {count(len(new), 'case')} that it has now.")
    return words


def _read(path: Path, reader: Callable[[Path], T], missing: list[str]) -> T | None:
    """What a reader makes of a file; None where it is not there or, which is noted, cannot be used."""
    if not path.exists():
        return None
    try:
        return reader(path)
    except ArtefactError as error:
        missing.append(f"{error}.".replace("..", "."))
        return None


def _object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: cannot be read", found=error) from None
    return content if isinstance(content, dict) else {}


def _commands(layout: RunLayout) -> tuple[Mapping[str, Any], ...]:
    """Entries of the manifest that have the form they should; a damaged one is as good as none."""
    try:
        entries = json.loads(read_text(layout.manifest))
    except (OSError, ValueError, RecursionError):
        return ()
    found = []
    for entry in entries if isinstance(entries, list) else ():
        command = entry.get("command") if isinstance(entry, dict) else None
        if isinstance(command, list) and len(command) > 1 and command[1] != "report":
            found.append({**entry, "command": [str(part) for part in command]})
    return tuple(found)
