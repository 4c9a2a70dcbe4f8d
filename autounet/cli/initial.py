"""What ``--init`` names, as weights to begin a training with: a bundle, a trained fold, or a run folder with trained folds."""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from autounet.bundle import Bundle
from autounet.bundle_check import check_weights
from autounet.checkpoint import load_weights
from autounet.errors import UsageError
from autounet.inference.model import check_plan, find_trained
from autounet.layout import FoldLayout, RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, Plan
from autounet.training.adapt import Terms, adapt_weights

EXPECTED = "a bundle (.zip), or the folder of a trained fold (autounet_runs/…/models/3d_fullres/fold_0)"
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".bin")


class InitialWeights(NamedTuple):
    """Weights to begin with."""

    weights: dict[str, Tensor]
    """All tensors of the network that is to be trained, on the CPU."""
    notes: list[str]
    """What was done to make them fit, in plain sentences."""
    source: str
    """Where they are from, in words."""


@dataclass(frozen=True, slots=True)
class _Model:
    """Trained weights that have not been read yet."""

    path: Path
    plan: Plan
    folds: dict[str, tuple[str, ...]]
    """By configuration."""
    read: Callable[[str, str], dict[str, Tensor]]
    """Configuration, fold → tensors; they are known to be those of the plan's network."""


def initial_weights(path: Path, plan: Plan, configuration: Configuration, seed: int) -> InitialWeights:
    """Weights for a new training, made from a model that is trained already; nothing of a file is executed.

    Args:
        path: A bundle, the folder or the ``weights.safetensors`` of a trained fold, or a run folder.
        plan: What is to be trained.
        configuration: Which network of it.
        seed: Draws what the model has nothing for; with the training's own seed, as it would be without ``--init``.

    Raises:
        UsageError: There is nothing of that kind, or the networks have nothing in common.
        ArtefactError: The model is damaged.
    """
    model = _open(path)
    name, notes = _choose(model, configuration)
    folds = model.folds[name]
    if len(folds) > 1:
        notes.append(f"fold {folds[0]} is taken, the first of {len(folds)} ({', '.join(folds)})")
    fresh = build_network(configuration.network, seed).state_dict()
    source = _terms(model.plan, model.plan.configurations[name])
    try:
        weights, changes = adapt_weights(model.read(name, folds[0]), source, _terms(plan, configuration), fresh)
    except UsageError as error:
        raise UsageError(f"--init {path}: {error.what}", found=error.found, expected=error.expected, remedy=error.remedy) from None
    return InitialWeights(weights, [*notes, *changes], f"{model.plan.dataset}, {name}, fold {folds[0]} ({path})")


def _terms(plan: Plan, configuration: Configuration) -> Terms:
    """The second stage of a cascade also sees the first one's label map, one channel for each label."""
    labels = () if configuration.previous_stage is None else plan.labels.foreground_values
    names = {entry.values: entry.name for entry in plan.labels.classes}
    return Terms(configuration, plan.labels, (*plan.channels, *(f"label map of {names.get((value,), value)}" for value in labels)))


def _choose(model: _Model, wanted: Configuration) -> tuple[str, list[str]]:
    """The configuration of the same name, else another with as many axes, 3d_fullres first; and that in words."""
    if wanted.name in model.folds:
        return wanted.name, []
    fitting = [name for name in model.folds if model.plan.configurations[name].ndim == wanted.ndim]
    if not fitting:
        raise UsageError(
            f"--init {model.path}: has no {wanted.ndim}D network",
            found=", ".join(model.folds),
            expected=wanted.name,
            remedy="train another configuration with -c, or begin from another model",
        )
    chosen = "3d_fullres" if "3d_fullres" in fitting else fitting[0]
    return chosen, [f"there is no {wanted.name} in it, {chosen} is taken"]


def _open(path: Path) -> _Model:
    if not path.exists():
        raise UsageError(f"--init {path}: no such file or folder", expected=EXPECTED, remedy="check the path")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix == ".safetensors":
        return _open_weights(path)
    _refuse_pickles(path)
    bundle = Bundle.open(path)
    return _Model(path, bundle.plan, bundle.manifest.configurations, bundle.weights)


def _open_folder(path: Path) -> _Model:
    """A fold's folder, or a run folder with all its trained folds."""
    fold = FoldLayout(path)
    if fold.weights.exists():
        return _open_weights(fold.weights)
    if fold.weights_best.exists() or fold.resume.exists():
        raise UsageError(
            f"--init {path}: training of this fold has not ended",
            found=f"no {fold.weights.name}",
            remedy=f"let it end, or name {fold.weights_best} where that is there",
        )
    layout = RunLayout(path)
    if not layout.plan.exists():
        if any(path.glob("*.pth")) or any(path.glob("*/*.pth")) or any(path.glob("*/*/*.pth")):
            raise _pickled(path, "a model of nnU-Net's", path)
        raise UsageError(f"--init {path}: is no model", expected=EXPECTED, remedy="check the path")
    folds: dict[str, tuple[str, ...]] = {}
    for trained in find_trained(layout):
        folds[trained.configuration] = (*folds.get(trained.configuration, ()), trained.fold)
    plan = Plan.load(layout.plan)
    folds = {name: each for name, each in folds.items() if name in plan.configurations}
    if not folds:
        raise UsageError(f"--init {path}: nothing is trained in this run folder", expected=EXPECTED, remedy="train it first")
    return _Model(path, plan, folds, lambda name, fold: _read(layout.fold(name, fold).weights, plan, name))


def _open_weights(path: Path) -> _Model:
    """One file of weights, in the folder of its fold in a run folder."""
    fold, *above = path.absolute().parents
    layout = RunLayout(above[2]) if len(above) > 2 else RunLayout(fold)
    if not layout.plan.exists():
        raise UsageError(
            f"--init {path}: there is no plan.json beside these weights, so nobody knows what network they are of",
            expected=f"{path.name} in its run folder, or a bundle",
            remedy="make a bundle with `autounet export` where they were trained, and begin from that",
        )
    plan, name = Plan.load(layout.plan), above[0].name
    if name not in plan.configurations:
        raise UsageError(
            f"--init {path}: is of a configuration that is not in the plan", found=name, expected=", ".join(plan.configurations)
        )
    return _Model(path, plan, {name: (fold.name.removeprefix("fold_"),)}, lambda name, _: _read(path, plan, name))


def _read(path: Path, plan: Plan, configuration: str) -> dict[str, Tensor]:
    check_plan(path, plan, configuration)
    weights, _ = load_weights(path)
    check_weights(weights, plan, configuration, str(path))
    return weights


def _refuse_pickles(path: Path) -> None:
    """Raises UsageError for files of pickled Python objects, known by their name or by what is in them; a bundle checks itself."""
    members: list[str] = []
    begins = b""
    with suppress(OSError, zipfile.BadZipFile, NotImplementedError, ValueError), path.open("rb") as file:
        begins = file.read(1)
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    fold = FoldLayout(path.parent)
    if path.name == fold.resume.name and fold.weights.exists():
        raise UsageError(f"--init {path}: is what training goes on from, no model", remedy=f"name {fold.weights}")
    if any(name.endswith(".pth") for name in members):
        raise _pickled(path, "a model of nnU-Net's", path)
    if path.suffix in PICKLES or begins == b"\x80" or any(name.endswith("data.pkl") for name in members):
        raise _pickled(path, "a pickled checkpoint", path.parent)


def _pickled(path: Path, what: str, model: Path) -> UsageError:
    return UsageError(
        f"--init {path}: is {what}; reading a pickle can run any code that somebody has put into it",
        expected=EXPECTED,
        remedy=f"make a bundle of a model of nnU-Net's with `autounet import {model} -o model.zip` and begin from that",
    )
