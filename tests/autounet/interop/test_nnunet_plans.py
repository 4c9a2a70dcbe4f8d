"""nnU-Net's plans.json in our terms."""

import copy
from typing import Any

import pytest

from autounet.errors import ArtefactError
from autounet.interop.nnunet_plans import nnunet_plans

RAW: dict[str, Any] = {
    "dataset_name": "Dataset001_Test",
    "plans_name": "nnUNetPlans",
    "transpose_forward": [2, 0, 1],
    "configurations": {
        "3d_fullres": {
            "spacing": [3.0, 1.0, 1.0],
            "median_image_size_in_voxels": [20.0, 64.5, 64.0],
            "patch_size": [16, 64, 64],
            "batch_size": 3,
            "batch_dice": True,
            "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, True],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "features_per_stage": [32, 64],
                    "strides": [[1, 1, 1], [1, 2, 2]],
                    "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
                    "n_conv_per_stage": [2, 2],
                    "n_conv_per_stage_decoder": [2],
                },
            },
        },
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres", "batch_size": 2},
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    """The plans with some keys of 3d_fullres replaced; None removes one."""
    raw = copy.deepcopy(RAW)
    full = raw["configurations"]["3d_fullres"] | changes
    raw["configurations"]["3d_fullres"] = {key: value for key, value in full.items() if value is not None}
    return raw


def with_strides(strides: Any) -> dict[str, Any]:
    architecture: dict[str, Any] = copy.deepcopy(RAW["configurations"]["3d_fullres"]["architecture"])
    architecture["arch_kwargs"]["strides"] = strides
    return architecture


def test_everything_is_read() -> None:
    plans = nnunet_plans(RAW, "plans.json")
    assert (plans.dataset, plans.name, plans.transpose) == ("Dataset001_Test", "nnUNetPlans", (2, 0, 1))
    full = plans.configurations["3d_fullres"]
    assert (full.spacing_mm, full.median_shape, full.patch_size) == ((3.0, 1.0, 1.0), (20.0, 64.5, 64.0), (16, 64, 64))
    assert (full.normalization, full.use_mask) == (("ct", "zscore"), (False, True))
    assert (full.network.kind, full.network.ndim, full.network.in_channels) == ("plain", 3, 2)
    assert full.network.strides == ((1, 1, 1), (1, 2, 2))


def test_a_cascade_inherits() -> None:
    cascade = nnunet_plans(RAW, "plans.json").configurations["3d_cascade_fullres"]
    assert (cascade.patch_size, cascade.batch_size, cascade.previous_stage) == ((16, 64, 64), 2, "3d_lowres")


def test_residual_encoders_count_blocks() -> None:
    architecture = copy.deepcopy(RAW["configurations"]["3d_fullres"]["architecture"])
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    architecture["arch_kwargs"]["n_blocks_per_stage"] = [1, 3]
    network = nnunet_plans(changed(architecture=architecture), "plans.json").configurations["3d_fullres"].network
    assert (network.kind, network.blocks_encoder) == ("residual", (1, 3))


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {**RAW, "transpose_forward": [0, 1]},
        {**RAW, "configurations": []},
        changed(patch_size=None),
        changed(batch_size=0),
        changed(batch_size="many"),
        changed(normalization_schemes=["MyNormalization"]),
        changed(architecture={"network_class_name": "os.system", "arch_kwargs": {}}),
        changed(inherits_from="3d_cascade_fullres"),
        {**RAW, "transpose_forward": [0, 1, 7]},
        changed(use_mask_for_norm=[False]),
        changed(median_image_size_in_voxels=[10**400, 1, 1]),
        changed(spacing=[0.0, 1.0, 1.0]),
        *(changed(architecture=with_strides(strides)) for strides in ([[0, 1, 1], [2, 2, 2]], [[]], [[1, 1, float("-inf")]], [[1, 1, 1]])),
    ],
)
def test_anything_else_is_an_error(raw: Any) -> None:
    with pytest.raises(ArtefactError, match=r"^plans\.json: "):
        nnunet_plans(raw, "plans.json")
