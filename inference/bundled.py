"""A bundle as a model that predicts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from autounet.bundle import Bundle
from autounet.inference.model import Ensemble, Model, Stage, averaged
from autounet.plan import Configuration
from autounet.runtime import Runtime


def load_bundle(
    bundle: Bundle | Path, runtime: Runtime, configuration: str | None = None, folds: Sequence[str] | None = None, postprocess: bool = True
) -> Model:
    """The model in a bundle, of two stages where the configuration is the second of a cascade.

    Args:
        bundle: The file, or what ``Bundle.open`` made of it.
        runtime: Device and precision.
        configuration: One, or several joined by ``+``; by default what the bundle itself selects.
        folds: Of every stage; by default all.
        postprocess: Whether the model has the bundle's postprocessing, where there is one.

    Raises:
        UsageError: There is no such file, or not the configuration or the folds in it.
        ArtefactError: The bundle is damaged or refused.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    names = bundle.choose(configuration, folds)
    steps = bundle.postprocessing.steps if bundle.postprocessing is not None and postprocess else ()
    # Chosen before any is read: a fold that is missing is told at once.
    chains = [_chain(bundle, name, folds) for name in names]
    return averaged([_load(bundle, chain, runtime) for chain in chains], steps)


Chain = Sequence[tuple[Configuration, Sequence[str]]]
"""Configurations with their folds, each but the first fed with the label maps of the one before."""


def _chain(bundle: Bundle, name: str, folds: Sequence[str] | None) -> Chain:
    last = bundle.plan.configurations[name]
    before = () if last.previous_stage is None else (bundle.plan.configurations[last.previous_stage],)
    return [(stage, bundle.choose(stage.name, folds)[stage.name]) for stage in (*before, last)]


def _load(bundle: Bundle, chain: Chain, runtime: Runtime) -> Model:
    ensembles = [_ensemble(bundle, stage, used, runtime) for stage, used in chain]
    stages = tuple(Stage(stage, ensemble) for (stage, _), ensemble in zip(chain, ensembles, strict=True))
    return Model(bundle.plan, stages, ensembles[-1].device)


def _ensemble(bundle: Bundle, configuration: Configuration, folds: Sequence[str], runtime: Runtime) -> Ensemble:
    def states() -> Iterator[tuple[str, dict[str, Tensor]]]:
        for fold in folds:
            yield f"{bundle.path}: {configuration.name}, fold {fold}", bundle.weights(configuration.name, fold)

    return Ensemble(configuration.network, states(), runtime)
