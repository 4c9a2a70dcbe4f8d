"""Fingerprints to plan from."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from autounet.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration

INTENSITIES = Intensities(mean=100.0, std=20.0, min=-1000.0, max=3000.0, median=90.0, percentile_00_5=-50.0, percentile_99_5=250.0)


@pytest.fixture
def make_fingerprint() -> Callable[..., Fingerprint]:
    """Builds a fingerprint of equal cases: ``make_fingerprint(spacing, shape, cases=20, classes=2, …)``."""

    def make(
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        shape: Sequence[int] = (64, 64, 64),
        *,
        cases: int = 20,
        classes: int = 2,
        channels: Sequence[str] = ("MRI",),
        ndim: int = 3,
        relative_size: float = 1.0,
        ignore: bool = False,
    ) -> Fingerprint:
        z, y, x = shape
        a, b, c = (float(value) for value in spacing)
        return Fingerprint(
            made_from={},
            dataset="Dataset001_Test",
            ndim=ndim,
            channels=tuple(channels),
            labels=LabelSpec(
                classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in range(1, classes + 1)),
                ignore_value=classes + 1 if ignore else None,
            ),
            cases=tuple(
                CaseFingerprint(
                    case=f"case_{number:04d}",
                    shape_zyx=(z, y, x),
                    shape_after_crop_zyx=(z, y, x),
                    spacing_mm_zyx=(a, b, c),
                    class_voxels={},
                )
                for number in range(cases)
            ),
            intensities=(INTENSITIES,) * len(channels),
            median_relative_size_after_crop=relative_size,
        )

    return make


SCHEMES = {
    "zscore": "ZScoreNormalization",
    "ct": "CTNormalization",
    "none": "NoNormalization",
    "rescale": "RescaleTo01Normalization",
    "rgb": "RGBTo01Normalization",
}


@pytest.fixture
def as_nnunet() -> Callable[[Configuration], dict[str, Any]]:
    """Puts a configuration into nnU-Net's words, all but its spacing; lists where JSON has them."""

    def words(configuration: Configuration) -> dict[str, Any]:
        network = configuration.network
        said = {
            "patch_size": configuration.patch_size,
            "batch_size": configuration.batch_size,
            "median_image_size_in_voxels": configuration.median_shape,
            "batch_dice": configuration.batch_dice,
            "normalization_schemes": [SCHEMES[entry.scheme] for entry in configuration.normalization],
            "use_mask_for_norm": [entry.use_mask for entry in configuration.normalization],
            "n_stages": len(network.features),
            "features_per_stage": network.features,
            "strides": network.strides,
            "kernel_sizes": network.kernel_sizes,
            "blocks": network.blocks_encoder,
            "n_conv_per_stage_decoder": network.blocks_decoder,
        }
        made: dict[str, Any] = json.loads(json.dumps(said))
        return made

    return words
