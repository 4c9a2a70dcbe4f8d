"""``autounet export``: trained folds of a run folder as one file that can be given away."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from autounet import __version__
from autounet.bundle import Manifest, example_command, write_bundle
from autounet.bundle_text import About
from autounet.checkpoint import load_weights
from autounet.cli.models import named_folds, planned
from autounet.cli.selecting import selected
from autounet.cli.session import Session, check_writable
from autounet.errors import UsageError
from autounet.inference.model import TrainedFold, check_plan, choose_before, choose_trained
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.planners.words import count
from autounet.postprocessing import Postprocessing
from autounet.selection import JOIN


def run_export(
    session: Session,
    layout: RunLayout,
    output: Path | None,
    configurations: Sequence[str],
    folds: str | None,
    words: tuple[str, str],
    overwrite: bool,
) -> None:
    """Writes a bundle of trained folds.

    Args:
        session: What the command works with.
        layout: The run folder.
        output: The file; by default the dataset's name, in the current folder.
        configurations: The first, or several joined by ``+``, is predicted with by default; empty for what ``predict`` would choose, with
            the postprocessing that was selected for it.
        folds: Of each configuration, as on the command line; None for all of cross-validation.
        words: Licence and description.
        overwrite: Whether a file that is there may be replaced.
    """
    selection = None if configurations else selected(layout)
    wanted = (selection.chosen,) if selection is not None else dict.fromkeys(configurations) or (None,)
    chosen = [choose_trained(layout, name, named_folds(folds)) for name in wanted]
    plan = Plan.load(layout.plan)
    first = dict.fromkeys(fold.configuration for fold in chosen[0])
    trained = list(dict.fromkeys(fold for group in chosen for fold in group))
    for name in dict.fromkeys(fold.configuration for fold in trained):
        planned(plan, name, layout)
    there = {fold.configuration for fold in trained}
    trained += [fold for fold in choose_before(layout, plan, trained, named_folds(folds)) if fold.configuration not in there]
    for fold in trained:
        check_plan(fold.weights, plan, fold.configuration)
    path = output or Path(f"{file_name(plan.dataset)}.zip")
    check_target(path, overwrite)
    about = about_model(plan.dataset, JOIN.join(first), f"autounet {__version__}", *words)
    steps = () if selection is None else selection.postprocessing
    postprocessing = Postprocessing(made_from={"selection": selection.digest()}, steps=steps) if selection is not None and steps else None
    manifest = write_bundle(path, about, plan, postprocessing, _weights(trained))
    show_bundle(session, path, manifest)


def file_name(dataset: str) -> str:
    """A dataset's name as that of a file here, whatever plan.json says it is."""
    return re.sub(r"[/\\:]|[^ -~\w]", "_", dataset)[:100]


def about_model(name: str, selection: str, origin: str, licence: str, description: str) -> About:
    """What people should know about a model, with today's date. Raises UsageError for text that cannot be shown."""
    try:
        created = datetime.now(UTC).date().isoformat()
        return About(name=name, selection=selection, created=created, origin=origin, licence=licence, description=description)
    except ValueError:
        raise UsageError(
            "--licence or --description cannot be written", expected="plain text of at most 20000 characters, without control characters"
        ) from None


def check_target(path: Path, overwrite: bool) -> None:
    """Raises an error where a bundle cannot be written, before any work is done."""
    if path.is_dir():
        raise UsageError(f"-o {path}: is a folder", expected="a file, such as model.zip")
    if path.exists() and not overwrite:
        raise UsageError(f"-o {path}: is there already", remedy="choose another name, or replace it with --overwrite")
    check_writable(path.parent, "-o")


def show_bundle(session: Session, path: Path, manifest: Manifest) -> None:
    """Says what was written, how large it is and how to use it."""
    size = path.stat().st_size
    parts = ", ".join(f"{name} with {count(len(folds), 'fold')}" for name, folds in manifest.configurations.items())
    session.screen.result(f"{path}: {parts}, {size / 1e6:.1f} MB")
    command = example_command(str(path))
    session.screen.result(f"predict with it: {command}")
    if not manifest.about.licence:
        session.screen.say("it says nothing about its licence; --licence TEXT does, for those who get the file")
    session.screen.json(
        {
            "bundle": str(path),
            "bytes": size,
            "configurations": {name: list(folds) for name, folds in manifest.configurations.items()},
            "selection": manifest.about.selection,
            "command": command,
        }
    )


def _weights(trained: Sequence[TrainedFold]) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    for fold in trained:
        yield fold.configuration, fold.fold, load_weights(fold.weights)[0]
