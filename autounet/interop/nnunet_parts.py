"""The configurations of a trained nnU-Net model, each read from its folder and checked."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from autounet.artefact import digest_of
from autounet.dataset_json import channels_and_labels, load_description
from autounet.errors import ArtefactError, UsageError
from autounet.interop.nnunet_checkpoint import NnunetCheckpoint, our_weights, read_checkpoint
from autounet.interop.nnunet_folder import ModelFolder
from autounet.interop.nnunet_limits import refuse_what_differs
from autounet.interop.nnunet_plans import NnunetConfiguration, NnunetPlans, inherited, nnunet_plans
from autounet.labels import LabelSpec
from autounet.plan import Configuration, Decision, Normalization
from autounet.text_files import read_text


@dataclass(frozen=True, slots=True)
class Part:
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


def read_parts(found: Sequence[ModelFolder], checkpoint: str, folds: Sequence[str] | None) -> dict[str, Part]:
    """All configurations of a model, stages before the ones that need them.

    Args:
        found: Folders of one group; the stage that a cascade needs is looked for beside them.
        checkpoint: ``final`` or ``best``.
        folds: None for all of cross-validation, or ``all`` where there are no others.

    Raises:
        ArtefactError, DatasetError, UsageError: As ``read_nnunet_model`` says.
    """
    parts: dict[str, Part] = {}
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


def _check_same(one: Part, other: Part) -> None:
    """Raises ArtefactError when two configurations are not of one dataset and its plans."""
    shared = [(part.channels, part.labels, part.plans.transpose, part.plans.dataset, part.file_ending) for part in (one, other)]
    if shared[0] != shared[1]:
        raise ArtefactError(
            f"{other.folder.path}: is of another dataset or other plans than {one.folder.path.name}", remedy="give the folder of one model"
        )


def _part(folder: ModelFolder, checkpoint: str, folds: Sequence[str] | None) -> Part:
    raw = _json(folder.path / "plans.json")
    if not (folder.path / "dataset.json").is_file():
        raise ArtefactError(f"{folder.path}: no dataset.json", remedy="copy the one that nnU-Net wrote beside plans.json, or the dataset's")
    about = load_description(folder.path / "dataset.json")
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
    for key in (first.configuration, plans.configurations[first.configuration].previous_stage or "none"):
        if not re.fullmatch(r"[\w.+-]{1,100}", key) or key.startswith("."):
            raise ArtefactError(f"{folder.path / 'plans.json'}: a configuration's name is no file name", found=repr(key)[:200])
    refuse_what_differs(raw, inherited(raw["configurations"], first.configuration), str(folder.path / "plans.json"))
    configuration = _configuration(plans, raw, first, channels, labels, folder)
    return Part(
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
        return json.loads(read_text(path))
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is not valid JSON", found=error) from None


def _chosen(folder: ModelFolder, checkpoint: str, folds: Sequence[str] | None) -> dict[str, Path]:
    there = folder.checkpoints(checkpoint)
    if not there:
        others = sorted(f"{path.parent.name}/{path.name}" for path in folder.path.glob("fold_*/checkpoint_*.pth"))
        raise ArtefactError(
            f"{folder.path}: no fold with checkpoint_{checkpoint}.pth",
            found=", ".join(others[:5]) or "no checkpoint at all",
            expected=f"fold_0/checkpoint_{checkpoint}.pth or others up to fold_4, or fold_all",
            remedy="name the folders so, or take another checkpoint with --checkpoint",
        )
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
