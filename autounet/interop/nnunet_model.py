"""A trained nnU-Net v2 model in our terms: its plan, its weights and its postprocessing. Nothing of it is executed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from torch import Tensor

from autounet.errors import ArtefactError, AutounetError
from autounet.interop.nnunet_folder import find_models, opened
from autounet.interop.nnunet_parts import Part, read_parts
from autounet.interop.nnunet_postprocessing import read_nnunet_postprocessing
from autounet.plan import Decision, LossSpec, Plan, PlanRequest
from autounet.postprocessing import KeepLargest, Postprocessing
from autounet.preset import NNUNET_OPTIMIZER, Preset, Target

OWN_TRAINER = "nnUNetTrainer"
"""nnU-Net's own trainer; others may do anything, also to the network."""


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """What nnU-Net has trained."""

    plan: Plan
    """With the configurations that have weights, and no others."""
    weights: dict[str, dict[str, dict[str, Tensor]]]
    """By configuration, by fold (``0``, ``all``), by our name of the tensor; float32."""
    postprocessing: Postprocessing | None
    """As nnU-Net chose it; its own predict command does not apply it."""
    notes: tuple[str, ...]
    """What a user should know, in full sentences."""


def read_nnunet_model(
    path: Path, checkpoint: Literal["final", "best"] = "final", folds: Sequence[str] | None = None, name: str | None = None
) -> ImportedModel:
    """Reads a trained nnU-Net v2 model.

    Args:
        path: Folder ``trainer__plans__configuration``; a dataset's folder with several of them; a zip of either, as
            ``nnUNetv2_export_model_to_zip`` makes it; or any folder with plans.json, dataset.json and ``fold_0/checkpoint_final.pth``.
            A cascade needs the folder of the stage before it beside its own.
        checkpoint: Which weights of each fold.
        folds: Such as ``("0", "1")``; by default all of cross-validation, or ``all`` where there are no others.
        name: Which model, where the folder has several: ``trainer__plans``, or one model folder's name.

    Raises:
        ArtefactError: Something is missing, damaged, dangerous, or what autounet cannot do the same way; the message names it.
        DatasetError: dataset.json is wrong.
        UsageError: A choice is due, or what was chosen is not there.
    """
    with opened(path) as root:
        try:
            found = find_models(root, name, path)
            parts = read_parts(found, checkpoint, folds)
            steps, notes = _postprocessing(parts)
        except AutounetError as error:
            raise _without_temporary(error, root, path) from None
    first = next(iter(parts.values()))
    return ImportedModel(
        plan=_plan(parts),
        weights={key: part.folds for key, part in parts.items()},
        postprocessing=Postprocessing(made_from=first.digests, steps=steps) if steps else None,
        notes=(*_trainer_notes(parts), *notes),
    )


def _without_temporary(error: AutounetError, root: Path, path: Path) -> AutounetError:
    """The error with the path that was given in place of a temporary folder's."""
    what = error.what.replace(str(root), str(path))
    return type(error)(what, found=error.found, expected=error.expected, remedy=error.remedy)


def _plan(parts: Mapping[str, Part]) -> Plan:
    first = next(iter(parts.values()))
    names = ", ".join(f"{part.folder.path.name} ({', '.join(part.folds)})" for part in parts.values())
    try:
        return Plan(
            made_from=first.digests,
            dataset=first.plans.dataset,
            request=PlanRequest(preset=_preset(first)),
            epochs=1000,
            optimizer=NNUNET_OPTIMIZER,
            augmentation="nnunet",
            loss=LossSpec(),
            ndim=max(part.configuration.ndim for part in parts.values()),
            channels=first.channels,
            labels=first.labels,
            file_ending=first.file_ending,
            transpose=first.plans.transpose,
            configurations={key: part.configuration for key, part in parts.items()},
            decisions=(Decision(name="imported", value=first.plans.dataset, reason=f"trained by nnU-Net: {names}"),),
        )
    except ValidationError as error:
        raise _malformed(first, error) from None


def _preset(part: Part) -> Preset:
    """nnU-Net's targets; training goes on from the numbers in the plan, never from these."""
    network = part.configuration.network
    return Preset(
        name="imported",
        summary=f"imported from nnU-Net: {part.plans.name}, trained by {part.trainer}",
        kind=network.kind,
        gpu_memory_gb=8.0,
        features=network.features,
        blocks_encoder=network.blocks_encoder,
        blocks_decoder=network.blocks_decoder,
        max_dataset_fraction=0.05,
        planar=Target(features=85_000_000, batch=12, patch_batch=2, max_features=512),
        volumetric=Target(features=560_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    )


def _malformed(part: Part, error: ValidationError) -> ArtefactError:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    return ArtefactError(f"{part.folder.path / 'plans.json'}: cannot be a plan of autounet at '{where}'", found=first["msg"])


def _trainer_notes(parts: Mapping[str, Part]) -> list[str]:
    others = sorted({part.trainer for part in parts.values()} - {OWN_TRAINER})
    return [
        f"trained by {trainer}, which autounet does not know; every tensor fits the network in plans.json, which is what predicts here"
        for trainer in others
    ]


def _postprocessing(parts: Mapping[str, Part]) -> tuple[tuple[KeepLargest, ...], list[str]]:
    """The steps of the configurations that are not just a stage before another, if they agree; and notes on the rest."""
    before = {part.previous for part in parts.values()}
    notes: list[str] = []
    chosen: dict[str, tuple[KeepLargest, ...]] = {}
    for key, part in parts.items():
        file = _postprocessing_file(part)
        if key in before or file is None:
            continue
        shown = f"{part.folder.path.name}/{file.relative_to(part.folder.path).as_posix()}"
        try:
            chosen[key] = read_nnunet_postprocessing(file)
        except ArtefactError as error:
            notes.append(f"{shown} was left out: {error.what.partition(': ')[2]}, found {error.found}")
            continue
        if chosen[key] and file.parent.name not in _crossval_names(part):
            notes.append(f"postprocessing is from {shown}, which was chosen with other folds than the imported ones")
    if len(set(chosen.values())) > 1 or (chosen and len(chosen) < len(set(parts) - before) and any(chosen.values())):
        differs = ", ".join(chosen)
        return (), [
            *notes,
            f"postprocessing was left out, because it is not the same for all configurations; import one of {differs} alone",
        ]
    return next(iter(chosen.values()), ()), notes


def _crossval_names(part: Part) -> set[str]:
    return {f"crossval_results_folds_{'_'.join(part.folds)}"}


def _postprocessing_file(part: Part) -> Path | None:
    """What was chosen with the same folds, else with the most; None where nothing was."""
    root = part.folder.path
    exact = [root / name / "postprocessing.pkl" for name in _crossval_names(part)]
    others = sorted(
        root.glob("crossval_results_folds_*/postprocessing.pkl"), key=lambda path: (-path.parent.name.count("_"), path.parent.name)
    )
    return next((path for path in (*exact, *others, root / "postprocessing.pkl") if path.is_file()), None)
