"""A plan to prepare with, and what nnU-Net made of the same inputs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER

GOLDEN = Path(__file__).parents[1] / "golden" / "nnunet_preprocessing.json"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Results of nnU-Net, made by benchmarks/golden/nnunet_preprocessing.py."""
    loaded: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def make_plan() -> Callable[..., tuple[Plan, Configuration]]:
    """Builds a plan with one configuration; its network is the smallest there is: ``make_plan((1.0, 1.0, 1.0), …)``."""

    def make(
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        *,
        transpose: tuple[int, int, int] = (0, 1, 2),
        schemes: Sequence[Normalization] = (Normalization(scheme="none"),),
        patch: Sequence[int] = (8, 8, 8),
        values: Sequence[int] = (1, 2),
    ) -> tuple[Plan, Configuration]:
        ndim = len(spacing)
        network = NetworkSpec(
            kind="plain",
            ndim=ndim,  # type: ignore[arg-type]
            in_channels=len(schemes),
            outputs=len(values) + 1,
            features=(4, 4),
            strides=((1,) * ndim, (2,) * ndim),
            kernel_sizes=((3,) * ndim,) * 2,
            blocks_encoder=(1, 1),
            blocks_decoder=(1,),
        )
        configuration = Configuration(
            name="2d" if ndim == 2 else "3d_fullres",
            spacing_mm=tuple(spacing),
            median_shape=(8.0,) * ndim,
            patch_size=tuple(patch[-ndim:]),
            batch_size=2,
            batch_dice=False,
            normalization=tuple(schemes),
            network=network,
            mirror_axes=tuple(range(network.ndim)),
            decisions=(),
        )
        plan = Plan(
            made_from={},
            dataset="Dataset001_Test",
            request=PlanRequest(preset=PRESETS["nnunet"]),
            epochs=10,
            optimizer=NNUNET_OPTIMIZER,
            augmentation="nnunet",
            loss=LossSpec(),
            ndim=3,
            channels=tuple(f"channel{number}" for number in range(len(schemes))),
            labels=LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in values)),
            file_ending=".nii.gz",
            transpose=transpose,
            configurations={configuration.name: configuration},
            decisions=(),
        )
        return plan, configuration

    return make
