"""Model folders as nnU-Net writes them, made on the spot from networks of ours."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autounet.networks.build import build_network
from autounet.plan import NetworkSpec

PLAIN = NetworkSpec(
    kind="plain", ndim=3, in_channels=1, outputs=3, features=(4, 6), strides=((1, 1, 1), (1, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3)), blocks_encoder=(1, 2), blocks_decoder=(2,),
)  # fmt: skip

THEIR_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": ((r"encoder\.stages\.(\d+)\.(\d+)\.", r"encoder.stages.\1.0.convs.\2."),),
    "residual": (
        (r"encoder\.stem\.", r"encoder.stem.convs.0."),
        (r"encoder\.stages\.(\d+)\.(\d+)\.first\.", r"encoder.stages.\1.blocks.\2.conv1."),
        (r"encoder\.stages\.(\d+)\.(\d+)\.second\.", r"encoder.stages.\1.blocks.\2.conv2."),
        (r"encoder\.stages\.(\d+)\.(\d+)\.shortcut\.", r"encoder.stages.\1.blocks.\2.skip.1."),
    ),
    "both": (
        (r"decoder\.(\d+)\.up\.", r"decoder.transpconvs.\1."),
        (r"decoder\.(\d+)\.convs\.(\d+)\.", r"decoder.stages.\1.convs.\2."),
        (r"heads\.(\d+)\.", r"decoder.seg_layers.\1."),
    ),
}


def their_weights(spec: NetworkSpec, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under nnU-Net's names: under several each, as its decoder holds the encoder and blocks list their parts twice."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        theirs = name
        for pattern, replacement in (*THEIR_NAMES[spec.kind], *THEIR_NAMES["both"]):
            theirs, count = re.subn("^" + pattern, replacement, name)
            if count:
                break
        for first in (theirs, f"decoder.{theirs}") if theirs.startswith("encoder.") else (theirs,):
            found[first] = tensor
            found[re.sub(r"\.conv\.(\w+)$", r".all_modules.0.\1", re.sub(r"\.norm\.(\w+)$", r".all_modules.1.\1", first))] = tensor
    return found


def architecture(spec: NetworkSpec) -> dict[str, Any]:
    """A network as nnU-Net's plans describe it."""
    blocks = "n_conv_per_stage" if spec.kind == "plain" else "n_blocks_per_stage"
    name = "PlainConvUNet" if spec.kind == "plain" else "ResidualEncoderUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": len(spec.features), "features_per_stage": list(spec.features), "strides": [list(row) for row in spec.strides],
            "kernel_sizes": [list(row) for row in spec.kernel_sizes], blocks: list(spec.blocks_encoder),
            "n_conv_per_stage_decoder": list(spec.blocks_decoder), "conv_op": f"torch.nn.modules.conv.Conv{spec.ndim}d",
            "conv_bias": True, "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{spec.ndim}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip


def configuration(spec: NetworkSpec, channels: int = 1) -> dict[str, Any]:
    """One configuration of nnU-Net's plans."""
    return {
        "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [4, 8, 8], "spacing": [3.0, 1.0, 1.0],
        "median_image_size_in_voxels": [8.0, 20.0, 20.0], "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [True] * channels, "batch_dice": True, "architecture": architecture(spec),
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
    }  # fmt: skip


PLANS: dict[str, Any] = {
    "dataset_name": "Dataset001_Test", "plans_name": "nnUNetPlans", "transpose_forward": [2, 0, 1], "image_reader_writer": "SimpleITKIO",
    "label_manager": "LabelManager", "configurations": {"3d_fullres": configuration(PLAIN)},
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 12.5, "percentile_00_5": -100.0, "percentile_99_5": 300.0, "min": -1000.0, "max": 2000.0}
    },
}  # fmt: skip

DATASET: dict[str, Any] = {
    "channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 9, "file_ending": ".nii.gz",
}  # fmt: skip


def checkpoint(
    weights: dict[str, Any], name: str = "3d_fullres", mirror: Any = (0, 1, 2), trainer: str = "nnUNetTrainer"
) -> dict[str, Any]:
    """What nnU-Net saves, its log with numpy's numbers included."""
    return {
        "network_weights": weights, "optimizer_state": {"state": {0: torch.zeros(3)}}, "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.4), np.float32(0.6)]]},
        "_best_ema": np.float64(0.5), "current_epoch": 1000, "trainer_name": trainer, "inference_allowed_mirroring_axes": mirror,
        "init_args": {"plans": PLANS, "configuration": name, "fold": 0, "dataset_json": DATASET, "device": torch.device("cpu")},
    }  # fmt: skip


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes one model folder of nnU-Net's and returns it; by default plain, one fold, two labels."""

    def write(
        name: str = "nnUNetTrainer__nnUNetPlans__3d_fullres",
        key: str = "3d_fullres",
        spec: NetworkSpec = PLAIN,
        folds: tuple[str, ...] = ("0",),
        plans: dict[str, Any] | None = None,
        dataset: dict[str, Any] | None = None,
        change: Callable[[dict[str, Any]], object] = lambda content: None,
        **of_checkpoint: Any,
    ) -> Path:
        folder = tmp_path / "results" / "Dataset001_Test" / name
        for fold in folds:
            (folder / f"fold_{fold}").mkdir(parents=True)
            weights = build_network(spec, seed=sum(fold.encode())).state_dict()
            content = checkpoint(their_weights(spec, weights), key, **of_checkpoint)
            change(content)
            torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
        usual = copy.deepcopy(PLANS)
        usual["configurations"][key] = configuration(spec)
        (folder / "plans.json").write_text(json.dumps(usual if plans is None else plans), encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps(DATASET if dataset is None else dataset), encoding="utf-8")
        return folder

    return write
