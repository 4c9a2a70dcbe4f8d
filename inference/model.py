"""Trained folds as one function from patches to scores."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from autounet.bundle_check import faults_of_plan
from autounet.checkpoint import load_weights, read_about
from autounet.device import autocast, pick_device, pick_precision
from autounet.errors import ArtefactError, UsageError
from autounet.inference.passes import Forward
from autounet.layout import RunLayout
from autounet.networks.build import trained_network
from autounet.plan import Configuration, NetworkSpec, Plan
from autounet.postprocessing import Step
from autounet.runtime import Runtime
from autounet.selection import configurations_of


@dataclass(frozen=True, slots=True)
class TrainedFold:
    """One trained fold on disk."""

    configuration: str
    fold: str
    weights: Path


def find_trained(layout: RunLayout) -> list[TrainedFold]:
    """All folds whose training has ended, sorted by configuration and fold."""
    found = []
    for path in sorted(layout.models.glob("*/fold_*/weights.safetensors")):
        found.append(TrainedFold(path.parent.parent.name, path.parent.name.removeprefix("fold_"), path))
    return found


def choose_trained(layout: RunLayout, configuration: str | None, folds: Sequence[str] | None) -> list[TrainedFold]:
    """The folds to predict with: of one configuration, or of several joined by ``+``, all cross-validation folds unless some are named.

    The model on all cases (``all``) is used where there are no others, or when named.

    Raises:
        UsageError: Nothing is trained, or not what was asked for.
    """
    trained = find_trained(layout)
    if not trained:
        raise UsageError(f"{layout.root}: no trained model", remedy="run `autounet train` for this dataset first")
    there = sorted({entry.configuration for entry in trained})
    names = configurations_of(configuration or ("3d_fullres" if "3d_fullres" in there else there[0]), there)
    return [entry for name in names for entry in _chosen_folds(name, folds, trained)]


def choose_before(layout: RunLayout, plan: Plan, trained: Sequence[TrainedFold], folds: Sequence[str] | None) -> list[TrainedFold]:
    """The folds of the first stages of the cascades whose second stages are in ``trained``; empty where there are no cascades.

    Folds that are named hold for both stages; ``all`` where the first one has it. Else all its folds of cross-validation are taken.

    Raises:
        UsageError: The first stage is not trained.
    """
    planned = (plan.configurations.get(entry.configuration) for entry in trained)
    names = dict.fromkeys(entry.previous_stage for entry in planned if entry is not None and entry.previous_stage is not None)
    there = find_trained(layout)
    chosen: list[TrainedFold] = []
    for name in names:
        has_all = any((entry.configuration, entry.fold) == (name, "all") for entry in there)
        chosen += _chosen_folds(name, None if folds is not None and "all" in folds and not has_all else folds, there)
    return chosen


def _chosen_folds(chosen: str, folds: Sequence[str] | None, trained: Sequence[TrainedFold]) -> list[TrainedFold]:
    usable = [entry for entry in trained if entry.configuration == chosen]
    if not usable:
        raise UsageError(f"-c {chosen}: not trained", found=", ".join(sorted({entry.configuration for entry in trained})))
    if folds is None:
        return [entry for entry in usable if entry.fold != "all"] or usable
    missing = [fold for fold in folds if fold not in {entry.fold for entry in usable}]
    if missing:
        raise UsageError(f"fold {', '.join(missing)} of {chosen}: not trained", found=f"folds {', '.join(entry.fold for entry in usable)}")
    return [entry for entry in usable if entry.fold in folds]


class Ensemble:
    """The mean of the scores of several trained folds; call it with a batch of patches.

    Args:
        network: What they have in common.
        states: Per fold its name, for messages, and its weights; read one after the other.
        runtime: Device and precision.

    Raises:
        ArtefactError: Weights do not fit the network.
    """

    def __init__(self, network: NetworkSpec, states: Iterable[tuple[str, dict[str, Tensor]]], runtime: Runtime) -> None:
        self.device = pick_device(runtime)
        self._dtype = pick_precision(runtime, self.device)
        # Measured on a CPU with avx512_bf16: a third less time in bf16, a fifth in float32. On GPUs the norm would turn it back every time.
        channels_last = torch.channels_last_3d if network.ndim == 3 else torch.channels_last
        self._layout = channels_last if self.device.type == "cpu" else torch.contiguous_format
        self._networks = []
        for name, weights in states:
            try:
                module = trained_network(network, weights)
            except RuntimeError as error:
                raise ArtefactError(f"{name}: weights do not fit the plan's network", found=str(error).split("\n")[0]) from None
            self._networks.append(module.to(self.device).to(memory_format=self._layout).eval())  # type: ignore[call-overload]

    def __call__(self, patches: Tensor) -> Tensor:
        """(n, c, *patch) → mean scores (n, outputs, *patch), float32; of the patch's middle where the network is unpadded."""
        with torch.inference_mode(), autocast(self.device, self._dtype):
            patches = patches.to(self.device, memory_format=self._layout)
            total: Tensor = self._networks[0](patches)[0].to(torch.float32, memory_format=torch.contiguous_format)
            for network in self._networks[1:]:
                total += network(patches)[0]
            return total.div_(len(self._networks))


@dataclass(frozen=True, slots=True)
class Stage:
    """One configuration with its trained networks."""

    configuration: Configuration
    forward: Forward


@dataclass(frozen=True, slots=True)
class Model:
    """What turns an image into a label map; loaded once, for many images."""

    plan: Plan
    stages: tuple[Stage, ...]
    """One; or of a cascade first the one whose label maps are further inputs of the next."""
    device: torch.device
    """Where the networks compute."""
    postprocessing: tuple[Step, ...] = ()
    """Done to every label map before it is written."""
    averaged_with: tuple["Model", ...] = ()
    """Further models of the same plan, whose probabilities are averaged with this one's on the image's own grid."""

    weight: float = 1.0
    """What it counts beside those that it is averaged with."""

    @property
    def shares(self) -> tuple[float, ...]:
        """What each member counts of the mean."""
        total = sum(member.weight for member in self.members)
        return tuple(member.weight / total for member in self.members)

    @property
    def members(self) -> tuple["Model", ...]:
        """This one and those that it is averaged with."""
        return (self, *self.averaged_with)


def averaged(models: Sequence[Model], postprocessing: tuple[Step, ...] = (), weights: Sequence[float] = ()) -> Model:
    """One model whose probabilities are the mean of several's, weighted where weights are given; a single one stays what it is."""
    first, *others = (replace(model, weight=weight) for model, weight in zip(models, weights or (1.0,) * len(models), strict=True))
    return replace(first, averaged_with=tuple(others), postprocessing=postprocessing)


def load_folds(plan: Plan, trained: Sequence[TrainedFold], runtime: Runtime, before: Sequence[TrainedFold] = ()) -> Model:
    """The model of some trained folds: of each configuration among them the mean scores, of several the mean probabilities.

    Args:
        plan: That they were trained with.
        trained: The folds.
        runtime: Device and precision.
        before: Of the second stage of a cascade, those of the first (``choose_before``). Without them it is a model of one stage, which
            is given the first one's label maps.

    Raises:
        ArtefactError: Weights are damaged or of another plan.
    """
    names = dict.fromkeys(entry.configuration for entry in trained)
    groups = [[entry for entry in trained if entry.configuration == name] for name in names]
    stages = [_load_stage(plan, group, runtime) for group in groups]
    first: dict[str, Stage] = {}
    for stage in stages:
        name = stage.configuration.previous_stage
        group = [entry for entry in before if entry.configuration == name]
        if name is not None and group and name not in first:
            first[name] = _load_stage(plan, group, runtime)
    device = pick_device(runtime)
    chains = [(first[name], stage) if (name := stage.configuration.previous_stage) in first else (stage,) for stage in stages]
    return averaged([Model(plan, chain, device) for chain in chains])


def _load_stage(plan: Plan, trained: Sequence[TrainedFold], runtime: Runtime) -> Stage:
    if trained[0].configuration not in plan.configurations:
        raise ArtefactError(
            f"{trained[0].weights}: trained with a configuration that is not in plan.json",
            found=trained[0].configuration,
            expected=" or ".join(plan.configurations),
            remedy="choose another configuration, or train it again",
        )
    if (fault := next(faults_of_plan(plan), None)) is not None:  # before a network of any size is made
        raise ArtefactError(f"{trained[0].weights}: its plan.json cannot be carried out", found=fault, remedy=Plan.REMEDY)
    configuration = plan.configurations[trained[0].configuration]

    def states() -> Iterator[tuple[str, dict[str, Tensor]]]:
        for fold in trained:
            check_plan(fold.weights, plan, configuration.name)
            yield str(fold.weights), load_weights(fold.weights)[0]

    return Stage(configuration, Ensemble(configuration.network, states(), runtime))


def check_plan(weights: Path, plan: Plan, configuration: str) -> None:
    """Raises ArtefactError when the weights were trained with another plan."""
    found, expected = read_about(weights).get("plan"), plan.recipe(configuration)
    if found != expected:
        raise ArtefactError(
            f"{weights}: trained with another plan than plan.json",
            found=found,
            expected=expected,
            remedy="restore that plan.json, or train again with --overwrite",
        )
