"""The tables of the page that are written as HTML, as frozen values for the template."""

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autounet.evaluation.statistics import SAMPLES, SEED
from autounet.fingerprint import Fingerprint
from autounet.planners.words import count
from autounet.report.data_section import DataSection, data_section, figure
from autounet.report.evidence import Evidence, Fold
from autounet.report.progress import best_epoch
from autounet.report.results import Interval, Metric, Results
from autounet.splits import FOLDS, in_words

MOST_COMMANDS = 40
"""So many of the latest commands are listed."""

LOW_DICE = 0.5
"""Cases below this mean Dice are counted as failures in the overview."""

NO_DICE = 0.01
"""A model none of whose classes has a higher mean Dice has learnt nothing."""

NOT_REPEATED = {"--dry-run", "--help"}
"""Commands with these flags lead nowhere."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the overview."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A mean and its interval, ready to be shown."""

    mean: str
    interval: str
    cases: str = ""
    """Over how many cases, where they are not those of the row."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Cross-validation of one configuration."""

    configuration: str
    cases: int
    folds: str
    metrics: tuple[Metric, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    """Class (empty for the mean over all), cases where it is defined, and a cell per metric."""
    fold_rows: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Fold, its cases, and the mean Dice of each class and of all."""
    undefined: str
    """Metrics that have no column, as they are defined in no case."""


@dataclass(frozen=True, slots=True)
class FoldRow:
    """How one fold was trained."""

    configuration: str
    fold: str
    state: str
    length: str
    epochs: str
    loss: str
    best: str
    time: str
    dice: str


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command that wrote into the run folder."""

    when: str
    command: str
    status: str
    seconds: str
    memory: str
    version: str


@dataclass(frozen=True, slots=True)
class Sections:
    """Everything the template prints."""

    tiles: tuple[Tile, ...]
    failures: tuple[str, ...]
    """What says that the shown model is of no use yet, in words."""
    data: DataSection
    intensities: tuple[tuple[str, tuple[str, ...]], ...]
    """Channel, and its mean, standard deviation, median, and two ranges inside the classes."""
    folds: tuple[FoldRow, ...]
    tables: tuple[ScoreTable, ...]
    method: str
    """How the intervals were made."""
    commands: tuple[CommandRow, ...]
    versions: tuple[tuple[str, str], ...]
    recipe: str
    """The commands that lead here, one a line."""
    predict: tuple[tuple[str, str], ...]
    """What for, and the command."""


def make_sections(evidence: Evidence, results: Sequence[Results], main: Results | None) -> Sections:
    """All tables of the page."""
    commands = evidence.commands[-MOST_COMMANDS:]
    return Sections(
        _tiles(evidence, main),
        () if main is None else _failures(main),
        data_section(evidence.fingerprint),
        _intensities(evidence.fingerprint),
        tuple(_fold_row(fold) for fold in evidence.folds),
        tuple(_score_table(entry) for entry in sorted(results, key=lambda entry: entry is not main)),
        f"Means over cases; in brackets 95 % intervals: percentiles of {SAMPLES} means over cases drawn with "
        f"replacement (bootstrap, seed {SEED}). They say how much the mean depends on which cases there are, not how much training varies. "
        "Where it says of how many cases a mean is, the others have no such value: distances need the class in truth and prediction.",
        tuple(_command_row(entry) for entry in commands),
        _versions(commands),
        _recipe(evidence.commands),
        _predict(evidence, main),
    )


def _tiles(evidence: Evidence, main: Results | None) -> tuple[Tile, ...]:
    fingerprint = evidence.fingerprint
    tiles = [
        Tile("Cases", str(len(fingerprint.cases)), _size(fingerprint)),
        Tile("Classes", str(len(fingerprint.labels.names)), f"in {count(len(fingerprint.channels), 'channel')}"),
    ]
    if evidence.folds:
        done = [fold for fold in evidence.folds if fold.trained]
        names = dict.fromkeys(fold.configuration for fold in evidence.folds)
        each = len(evidence.splits.folds) if evidence.splits else FOLDS
        tiles.append(Tile("Folds trained", f"{len(done)} of {each * len(names)}", ", ".join(names)))
    if main is not None:
        overall = main.summary("dice")[-1]
        means = [mean for mean in main.case_dice.values() if mean is not None]
        cell = _cell(overall, 3, overall.cases)
        tiles.append(Tile("Mean Dice", cell.mean, f"{cell.interval} over {count(len(main.rows), 'held-out case')}, {main.configuration}"))
        if means:
            worst = min((mean, case) for case, mean in main.case_dice.items() if mean is not None)
            tiles.append(Tile("Worst case", f"{worst[0]:.3f}", worst[1]))
            low = sum(mean < LOW_DICE for mean in means)
            tiles.append(Tile(f"Mean Dice below {LOW_DICE:g}", str(low), f"of {count(len(means), 'case')}"))
    return tuple(tiles)


def _failures(main: Results) -> tuple[str, ...]:
    """Empty predictions, though there is something in the truth; and a model that finds no class at all."""
    empty = main.empty
    where = f"in {len(empty)} of {count(len(main.rows), 'held-out case')} of {main.configuration}"
    means = [interval.mean for interval in main.summary("dice")[:-1] if interval.mean is not None]
    failures = []
    if empty:
        advice = "train longer" if len(empty) == len(main.rows) else f"look at {_in_short(empty)} below"
        failures.append(f"Nothing but background is predicted {where}: {advice}.")
    if means and max(means) < NO_DICE and len(empty) < len(main.rows):
        which = f"No class of {main.configuration} has a mean Dice of {NO_DICE:g} or more"
        failures.append(f"{which}: train longer, and look at the slices, whether truth and image lie on each other.")
    return tuple(failures)


def _in_short(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _intensities(fingerprint: Fingerprint) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows = []
    for name, entry in zip(fingerprint.channels, fingerprint.intensities, strict=True):
        ranges = ((entry.percentile_00_5, entry.percentile_99_5), (entry.min, entry.max))
        middles = tuple(figure(value) for value in (entry.mean, entry.std, entry.median))
        rows.append((name, (*middles, *(f"{figure(low)} to {figure(high)}" for low, high in ranges))))
    return tuple(rows)


def _size(fingerprint: Fingerprint) -> str:
    first = 3 - fingerprint.ndim
    middle = [sorted(case.shape_zyx[axis] for case in fingerprint.cases)[len(fingerprint.cases) // 2] for axis in range(first, 3)]
    return f"median {' × '.join(map(str, middle))} {'pixels' if first else 'voxels'}" if fingerprint.cases else ""


def _score_table(results: Results) -> ScoreTable:
    summaries = [results.summary(metric.key) for metric in results.metrics]
    rows = []
    for place, name in enumerate((*results.classes, "")):
        cases = summaries[0][place].cases
        cells = tuple(_cell(summary[place], metric.digits, cases) for metric, summary in zip(results.metrics, summaries, strict=True))
        rows.append((name, cases, cells))
    fold_rows = []
    for fold in results.folds:
        values = [_number(value) for value in results.fold_means("dice", fold).tolist()]
        fold_rows.append((fold, sum(row.fold == fold for row in results.rows), tuple(values)))
    return ScoreTable(
        results.configuration, len(results.rows), in_words(results.folds), results.metrics, tuple(rows), tuple(fold_rows),
        ", ".join(metric.label for metric in results.undefined),
    )  # fmt: skip


def _cell(interval: Interval, digits: int, cases: int) -> Cell:
    if interval.mean is None:
        return Cell("–", "")
    bounds = "" if interval.low is None or interval.high is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return Cell(f"{interval.mean:.{digits}f}", bounds, "" if interval.cases == cases else f"of {interval.cases}")


def _fold_row(fold: Fold) -> FoldRow:
    history = fold.history
    best = best_epoch([record.model_dump() for record in history])
    mean = None if fold.scores is None else fold.scores.mean.dice
    return FoldRow(
        fold.configuration,
        fold.name,
        "trained" if fold.trained else "begun",
        str(fold.training.get("length", "–")),
        str(len(history)),
        f"{history[-1].train_loss:.3f}" if history else "–",
        "–" if best is None else f"{history[best].ema_dice:.3f} in epoch {history[best].epoch + 1}",
        _duration(sum(record.seconds for record in history)) if history else "–",
        _number(mean),
    )


def _command_row(entry: Mapping[str, Any]) -> CommandRow:
    seconds, memory, versions = entry.get("seconds"), entry.get("peak_memory_mb"), entry.get("versions")
    version = versions.get("autounet", "–") if isinstance(versions, dict) else "–"
    git = f" ({entry['git']})" if entry.get("git") else ""
    return CommandRow(
        str(entry.get("started", "–")).replace("T", " ").removesuffix("+00:00"),
        shlex.join(entry["command"]),
        str(entry.get("status", "–")),
        _duration(seconds) if isinstance(seconds, (int, float)) else "–",
        f"{memory:,.0f} MB" if isinstance(memory, (int, float)) else "–",
        f"{version}{git}",
    )


def _versions(commands: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Versions that the latest command ran with."""
    for entry in reversed(commands):
        versions = entry.get("versions")
        if isinstance(versions, dict):
            return (*((str(name), str(value)) for name, value in versions.items()), ("system", str(entry.get("platform", "–"))))
    return ()


def _recipe(commands: Sequence[Mapping[str, Any]]) -> str:
    """Commands that ended well, in order, each once: the last time that it was given.

    A command of several stages (``run``) has an entry for each, one after the other; it ended as the last of them did.
    """
    lines = []
    for command, entries in itertools.groupby(commands, key=lambda entry: entry["command"]):
        *_, last = entries
        if last.get("status") == "done" and not NOT_REPEATED & set(command):
            lines.append(shlex.join(command))
    return "\n".join(reversed(dict.fromkeys(reversed(lines))))


def _predict(evidence: Evidence, main: Results | None) -> tuple[tuple[str, str], ...]:
    """Commands; after a selection no configuration is named, as the selected one is taken."""
    if main is None:
        return ()
    name = shlex.quote(evidence.fingerprint.dataset)
    which = "" if evidence.selection else f" -c {main.configuration}"
    return (
        ("Predict a folder of images", f"autounet predict -i images/ -o predictions/ -d {name}{which}"),
        ("Make one file of the model, for another machine", f"autounet export -d {name}{which} -o {name}.zip"),
        ("Predict there", f"autounet predict -i images/ -o predictions/ -m {name}.zip"),
    )


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{figure(round(seconds, 1))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
