"""A bundle as a model that predicts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from autounet.bundle import Bundle
from autounet.inference.model import Ensemble, Model, Stage
from autounet.plan import Configuration
from autounet.runtime import Runtime


def load_bundle(
    bundle: Bundle | Path, runtime: Runtime, configuration: str | None = None, folds: Sequence[str] | None = None, postprocess: bool = True
) -> Model:
    """The model in a bundle, of two stages where the configuration is the second of a cascade.

    Args:
        bundle: The file, or what ``Bundle.open`` made of it.
        runtime: Device and precision.
        configuration: By default the one that the bundle itself selects.
        folds: Of every stage; by default all.
        postprocess: Whether the model has the bundle's postprocessing, where there is one.

    Raises:
        UsageError: There is no such file, or not the configuration or the folds in it.
        ArtefactError: The bundle is damaged or refused.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    chosen, _ = bundle.choose(configuration, folds)
    last = bundle.plan.configurations[chosen]
    before = () if last.previous_stage is None else (bundle.plan.configurations[last.previous_stage],)
    # Chosen before any is read: a fold that is missing is told at once.
    stages = [(stage, bundle.choose(stage.name, folds)[1]) for stage in (*before, last)]
    ensembles = [_ensemble(bundle, stage, used, runtime) for stage, used in stages]
    steps = bundle.postprocessing.steps if bundle.postprocessing is not None and postprocess else ()
    return Model(
        bundle.plan,
        tuple(Stage(stage, ensemble) for (stage, _), ensemble in zip(stages, ensembles, strict=True)),
        ensembles[-1].device,
        steps,
    )


def _ensemble(bundle: Bundle, configuration: Configuration, folds: Sequence[str], runtime: Runtime) -> Ensemble:
    def states() -> Iterator[tuple[str, dict[str, Tensor]]]:
        for fold in folds:
            yield f"{bundle.path}: {configuration.name}, fold {fold}", bundle.weights(configuration.name, fold)

    return Ensemble(configuration.network, states(), runtime)
