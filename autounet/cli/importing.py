"""``autounet import``: a trained nnU-Net v2 model becomes a bundle of ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from torch import Tensor

from autounet.bundle import write_bundle
from autounet.cli.exporting import about_model, check_target, show_bundle
from autounet.cli.session import Session
from autounet.errors import UsageError
from autounet.interop.nnunet_model import ImportedModel, read_nnunet_model
from autounet.plan import Plan
from autounet.splits import split_names


def run_import(
    session: Session,
    model: Path,
    output: Path,
    checkpoint: str,
    folds: str | None,
    name: str | None,
    words: tuple[str, str],
    overwrite: bool,
) -> None:
    """Reads a model of nnU-Net's and writes a bundle.

    Args:
        session: What the command works with.
        model: Folder or zip.
        output: The file.
        checkpoint: ``final`` or ``best``.
        folds: As on the command line; None for all of cross-validation.
        name: Which model, where there are several.
        words: Licence and description.
        overwrite: Whether a file that is there may be replaced.
    """
    if not model.exists():
        raise UsageError(f"{model}: no such file or folder", expected="a trained nnU-Net v2 model")
    wanted = None if folds is None else split_names(folds)
    if output.exists() and model.exists() and output.resolve() == model.resolve():
        raise UsageError(f"-o {output}: is the model itself", remedy="choose another name")
    check_target(output, overwrite)
    imported = read_nnunet_model(model, _checkpoint(checkpoint), wanted, name)
    plan = imported.plan
    trainer = plan.request.preset.summary.removeprefix("imported from nnU-Net: ")
    about = about_model(plan.dataset, _selected(plan), f"nnU-Net v2 ({trainer})", *words)
    manifest = write_bundle(output, about, plan, imported.postprocessing, _weights(imported))
    for note in imported.notes:
        session.screen.warn(note)
    show_bundle(session, output, manifest)


def _checkpoint(text: str) -> Literal["final", "best"]:
    if text == "final":
        return "final"
    if text == "best":
        return "best"
    raise UsageError(f"--checkpoint {text}: no such checkpoint", expected="final or best")


def _selected(plan: Plan) -> str:
    """What predicts by default: 3d_fullres, else the first that is not just the stage before another."""
    before = {configuration.previous_stage for configuration in plan.configurations.values()}
    last = [key for key in plan.configurations if key not in before]
    return "3d_fullres" if "3d_fullres" in last else last[0]


def _weights(imported: ImportedModel) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    for configuration, folds in imported.weights.items():
        for fold, state in folds.items():
            yield configuration, fold, state
