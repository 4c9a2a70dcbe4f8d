"""A trained nnU-Net v2 model in our terms: its plan, its weights and its postprocessing. Nothing of it is executed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor

from autounet.artefact import digest_of
from autounet.dataset_json import channels_and_labels, load_description
from autounet.errors import ArtefactError, UsageError
from autounet.interop.nnunet_checkpoint import NnunetCheckpoint, our_weights, read_checkpoint
from autounet.interop.nnunet_folder import ModelFolder, find_models, opened
from autounet.interop.nnunet_limits import refuse_what_differs
from autounet.interop.nnunet_plans import NnunetConfiguration, NnunetPlans, inherited, nnunet_plans
from autounet.interop.nnunet_postprocessing import read_nnunet_postprocessing
from autounet.labels import LabelSpec
from autounet.plan import Configuration, Decision, LossSpec, Normalization, Plan, PlanRequest
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


@dataclass(frozen=True, slots=True)
class _Part:
    """One configuration as it lies on disk."""

    folder: ModelFolder
    plans: NnunetPlans
    configuration: Configuration
    channels: tuple[str, ...]
    labels: LabelSpec
    file_ending: str
    digests: dict[str, str]
    trainer: str
    folds: dict[str, dict[str, Tensor]]
    previous: str | None


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
            parts = _parts(found, checkpoint, folds)
            steps, notes = _postprocessing(parts)
        except ArtefactError as error:
            raise _without_temporary(error, root, path) from None
    first = next(iter(parts.values()))
    return ImportedModel(
        plan=_plan(parts),
        weights={key: part.folds for key, part in parts.items()},
        postprocessing=Postprocessing(made_from=first.digests, steps=steps) if steps else None,
        notes=(*_trainer_notes(parts), *notes),
    )


def _without_temporary(error: ArtefactError, root: Path, path: Path) -> ArtefactError:
    """The error with the path that was given in place of a temporary folder's."""
    what = error.what.replace(str(root), str(path))
    return ArtefactError(what, found=error.found, expected=error.expected, remedy=error.remedy)


def _parts(found: Sequence[ModelFolder], checkpoint: str, folds: Sequence[str] | None) -> dict[str, _Part]:
    """All configurations, stages before the ones that need them."""
    parts: dict[str, _Part] = {}
    todo = list(found)
    while todo:
        folder = todo.pop(0)
        part = _part(folder, checkpoint, folds)
        if part.configuration.name in parts:
            other = parts[part.configuration.name].folder.path
            raise ArtefactError(f"{folder.path}: is of the same configuration as {other.name}", remedy="name one of them")
        parts[part.configuration.name] = part
        known = {*parts, *(entry.path.name.rpartition("__")[2] for entry in todo)}
        if part.previous is not None and part.previous not in known:
            beside = folder.sibling(part.previous)
            if not (beside / "plans.json").is_file():
                raise ArtefactError(
                    f"{folder.path}: is the second stage of a cascade, and the model of the first is missing",
                    found=f"no folder '{beside.name}' beside it",
                    remedy=f"put the trained model of {part.previous} there, or give the dataset's folder",
                )
            todo.append(ModelFolder(beside, folder.group))
    for part in parts.values():
        if part.previous is not None and part.previous not in parts:
            raise ArtefactError(f"{part.folder.path}: needs {part.previous}, which is not there", found=", ".join(parts))
        _check_same(next(iter(parts.values())), part)
    return dict(sorted(parts.items(), key=lambda item: (item[1].previous is not None, item[0])))


def _check_same(one: _Part, other: _Part) -> None:
    """Raises ArtefactError when two configurations are not of one dataset and its plans."""
    shared = [(part.channels, part.labels, part.plans.transpose, part.plans.dataset, part.file_ending) for part in (one, other)]
    if shared[0] != shared[1]:
        raise ArtefactError(
            f"{other.folder.path}: is of another dataset or other plans than {one.folder.path.name}", remedy="give the folder of one model"
        )


def _part(folder: ModelFolder, checkpoint: str, folds: Sequence[str] | None) -> _Part:
    raw, about = _json(folder.path / "plans.json"), load_description(folder.path / "dataset.json")
    plans = nnunet_plans(raw, str(folder.path / "plans.json"))
    channels, labels = channels_and_labels(about, folder.path / "dataset.json")
    if not labels.overlapping and labels.foreground_values != tuple(range(1, len(labels.classes) + 1)):
        raise ArtefactError(f"{folder.path / 'dataset.json'}: label values with gaps, which nnU-Net does not have", found=labels.names)
    ending = about.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith(".") or "/" in ending or "\\" in ending:
        raise ArtefactError(f"{folder.path / 'dataset.json'}: 'file_ending' is missing or malformed", found=repr(ending)[:100])
    read = [(fold, read_checkpoint(file)) for fold, file in _chosen(folder, checkpoint, folds).items()]
    first = read[0][1]
    for _, other in read[1:]:
        if (other.configuration, other.trainer, other.mirror_axes) != (first.configuration, first.trainer, first.mirror_axes):
            raise ArtefactError(f"{other.file}: is of another configuration, trainer or mirroring than {first.file}")
    if first.configuration not in plans.configurations:
        raise ArtefactError(f"{first.file}: of a configuration that plans.json does not have", found=first.configuration)
    refuse_what_differs(raw, inherited(raw["configurations"], first.configuration), str(folder.path / "plans.json"))
    configuration = _configuration(plans, raw, first, channels, labels, folder)
    return _Part(
        folder=folder,
        plans=plans,
        configuration=configuration,
        channels=channels,
        labels=labels,
        file_ending=ending,
        digests={"nnunet_plans": digest_of(raw), "nnunet_dataset": digest_of(about)},
        trainer=first.trainer,
        folds={fold: our_weights(one, configuration.network) for fold, one in read},
        previous=configuration.previous_stage,
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is not valid JSON", found=error) from None


def _chosen(folder: ModelFolder, checkpoint: str, folds: Sequence[str] | None) -> dict[str, Path]:
    there = folder.checkpoints(checkpoint)
    if not there:
        others = sorted(path.name for path in folder.path.glob("fold_*/checkpoint_*.pth"))
        found = f"only {', '.join(sorted(set(others)))}" if others else "no checkpoint at all"
        raise ArtefactError(f"{folder.path}: no fold with checkpoint_{checkpoint}.pth", found=found)
    if folds is None:
        return {fold: path for fold, path in there.items() if fold != "all"} or there
    missing = [fold for fold in folds if fold not in there]
    if missing or not folds:
        shown = f"fold {', '.join(missing)} is not there" if missing else "no fold is asked for"
        raise UsageError(f"{folder.path.name}: {shown}", found=f"folds {', '.join(there)}")
    return {fold: there[fold] for fold in folds}


def _configuration(
    plans: NnunetPlans,
    raw: Mapping[str, Any],
    checkpoint: NnunetCheckpoint,
    channels: tuple[str, ...],
    labels: LabelSpec,
    folder: ModelFolder,
) -> Configuration:
    key = checkpoint.configuration
    theirs, name = plans.configurations[key], str(folder.path / "plans.json")
    if len(theirs.normalization) != len(channels):
        raise ArtefactError(
            f"{name}: normalises another number of channels than dataset.json names",
            found=len(theirs.normalization),
            expected=len(channels),
        )
    if checkpoint.mirror_axes and max(checkpoint.mirror_axes) >= theirs.network.ndim:
        raise ArtefactError(f"{checkpoint.file}: mirrors axes that its patches do not have", found=checkpoint.mirror_axes)
    inputs = len(channels) + (len(labels.foreground_values) if theirs.previous_stage is not None else 0)
    return Configuration(
        name=key,
        spacing_mm=theirs.spacing_mm,
        median_shape=theirs.median_shape,
        patch_size=theirs.patch_size,
        batch_size=theirs.batch_size,
        batch_dice=theirs.batch_dice,
        normalization=_normalizations(theirs, raw, name),
        network=theirs.network.model_copy(update={"in_channels": inputs, "outputs": labels.outputs}),
        mirror_axes=checkpoint.mirror_axes,
        previous_stage=theirs.previous_stage,
        decisions=(Decision(name="configuration", value=key, reason=f"imported from nnU-Net: {plans.name}, {checkpoint.trainer}"),),
    )


def _normalizations(theirs: NnunetConfiguration, raw: Mapping[str, Any], name: str) -> tuple[Normalization, ...]:
    known: Any = raw.get("foreground_intensity_properties_per_channel", raw.get("foreground_intensity_properties_by_modality"))
    schemes = []
    for channel, (scheme, masked) in enumerate(zip(theirs.normalization, theirs.use_mask, strict=True)):
        if scheme != "ct":
            schemes.append(Normalization(scheme=scheme, use_mask=masked and scheme == "zscore"))
            continue
        try:
            lower, upper, mean, std = (float(known[str(channel)][key]) for key in ("percentile_00_5", "percentile_99_5", "mean", "std"))
            schemes.append(Normalization(scheme=scheme, lower=lower, upper=upper, mean=mean, std=std))
        except (KeyError, TypeError, ValueError) as error:
            what = f"{name}: the intensities that CT normalisation needs are missing or malformed"
            raise ArtefactError(what, found=f"channel {channel}: {str(error)[:100]}") from None
    return tuple(schemes)


def _plan(parts: Mapping[str, _Part]) -> Plan:
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


def _preset(part: _Part) -> Preset:
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


def _malformed(part: _Part, error: ValidationError) -> ArtefactError:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    return ArtefactError(f"{part.folder.path / 'plans.json'}: cannot be a plan of autounet at '{where}'", found=first["msg"])


def _trainer_notes(parts: Mapping[str, _Part]) -> list[str]:
    others = sorted({part.trainer for part in parts.values()} - {OWN_TRAINER})
    return [
        f"trained by {trainer}, which autounet does not know; every tensor fits the network in plans.json, which is what predicts here"
        for trainer in others
    ]


def _postprocessing(parts: Mapping[str, _Part]) -> tuple[tuple[KeepLargest, ...], list[str]]:
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


def _crossval_names(part: _Part) -> set[str]:
    return {f"crossval_results_folds_{'_'.join(part.folds)}"}


def _postprocessing_file(part: _Part) -> Path | None:
    """What was chosen with the same folds, else with the most; None where nothing was."""
    root = part.folder.path
    exact = [root / name / "postprocessing.pkl" for name in _crossval_names(part)]
    others = sorted(
        root.glob("crossval_results_folds_*/postprocessing.pkl"), key=lambda path: (-path.parent.name.count("_"), path.parent.name)
    )
    return next((path for path in (*exact, *others, root / "postprocessing.pkl") if path.is_file()), None)
