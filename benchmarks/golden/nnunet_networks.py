"""Writes tests/golden/nnunet_networks.json: outputs of nnU-Net's networks for weights that a formula gives.

Run it with a Python that has dynamic-network-architectures 0.4.4 (an environment of its own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_networks.py tests/golden/nnunet_networks.json

Weights come from ``weight`` and the name of the parameter *in autounet*, inputs from ``wave``; the tests repeat both. So the
names below are also the correspondence between the two networks.
"""

import argparse
import json
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

SPECS: dict[str, dict[str, Any]] = {
    "plain 2D": {
        "kind": "plain", "ndim": 2, "in_channels": 1, "outputs": 2, "features": (4, 6, 8),
        "strides": ((1, 1), (2, 2), (2, 2)), "kernel_sizes": ((3, 3), (3, 3), (3, 3)),
        "blocks_encoder": (2, 2, 2), "blocks_decoder": (2, 2), "patch": (12, 16),
    },
    "plain 3D": {
        "kind": "plain", "ndim": 3, "in_channels": 2, "outputs": 3, "features": (4, 6, 8, 8),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 1)), "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        "blocks_encoder": (1, 2, 3, 1), "blocks_decoder": (3, 1, 2), "patch": (4, 16, 12),
    },
    "residual 2D": {
        "kind": "residual", "ndim": 2, "in_channels": 3, "outputs": 2, "features": (4, 6, 6),
        "strides": ((1, 1), (2, 2), (2, 2)), "kernel_sizes": ((3, 3), (3, 3), (3, 3)),
        "blocks_encoder": (1, 2, 2), "blocks_decoder": (1, 1), "patch": (16, 12),
    },
    "residual 3D": {
        "kind": "residual", "ndim": 3, "in_channels": 1, "outputs": 3, "features": (4, 6, 8),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)), "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "blocks_encoder": (1, 3, 2), "blocks_decoder": (1, 2), "patch": (4, 12, 8),
    },
    # Two coarse axes, so that the finest is halved alone at first; an image and what a stage before it said of 3 labels.
    "plain 3D, cascade": {
        "kind": "plain", "ndim": 3, "in_channels": 4, "one_hot": 3, "outputs": 4, "features": (4, 6, 8, 8),
        "strides": ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 1, 1)), "kernel_sizes": ((1, 1, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "blocks_encoder": (2, 2, 2, 2), "blocks_decoder": (2, 2, 2), "patch": (6, 8, 20),
    },
    "residual 3D, cascade": {
        "kind": "residual", "ndim": 3, "in_channels": 4, "one_hot": 2, "outputs": 3, "features": (4, 6, 6, 8),
        "strides": ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 1, 1)), "kernel_sizes": ((1, 1, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "blocks_encoder": (1, 3, 4, 2), "blocks_decoder": (1, 1, 1), "patch": (6, 8, 20),
    },
}  # fmt: skip

NAMES = (
    (r"encoder\.stem\.convs\.0\.", "encoder.stem."),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", r"encoder.stages.\1.\2."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.", r"encoder.stages.\1.\2.first."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.", r"encoder.stages.\1.\2.second."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.\d+\.", r"encoder.stages.\1.\2.shortcut."),
    (r"decoder\.transpconvs\.(\d+)\.", r"decoder.\1.up."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.convs.\2."),
    (r"decoder\.seg_layers\.(\d+)\.", r"heads.\1."),
)
"""What a parameter of nnU-Net's network is called in autounet's."""


def wave(shape: Sequence[int], phase: float) -> np.ndarray:
    """Values from -1 to 1 without a period."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def network_input(spec: dict[str, Any]) -> np.ndarray:
    """Two samples; the last ``one_hot`` channels are the labels 1, 2, … of a label map, as a cascade's are."""
    values, labels = wave((2, spec["in_channels"], *spec["patch"]), 0.1), spec.get("one_hot", 0)
    label_map = ((wave((2, *spec["patch"]), 0.3) + 1) / 2 * (labels + 1)).astype(int)
    for label in range(1, labels + 1):
        values[:, spec["in_channels"] - labels + label - 1] = label_map == label
    return values.astype(np.float32)


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """A parameter's values, by its name: the scales of norms around 1, all others around 0."""
    values = wave(shape, zlib.crc32(name.encode()) % 1000)
    return (1 + 0.3 * values if name.endswith("norm.weight") else 0.5 * values).astype(np.float32)


def our_name(name: str) -> str:
    """A parameter's name in autounet."""
    for pattern, replacement in NAMES:
        changed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return changed
    raise ValueError(name)


def outputs(spec: dict[str, Any]) -> dict[str, Any]:
    """What the network puts out at every resolution, finest first: 60 values of each, and their mean square."""
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[spec["ndim"]]
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[spec["ndim"]]
    network_class, blocks = {"plain": (PlainConvUNet, "n_conv_per_stage"), "residual": (ResidualEncoderUNet, "n_blocks_per_stage")}[
        spec["kind"]
    ]
    network = network_class(
        input_channels=spec["in_channels"], n_stages=len(spec["features"]), features_per_stage=spec["features"], conv_op=conv,
        kernel_sizes=spec["kernel_sizes"], strides=spec["strides"], num_classes=spec["outputs"],
        n_conv_per_stage_decoder=spec["blocks_decoder"], conv_bias=True, norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True, **{blocks: spec["blocks_encoder"]},
    )  # fmt: skip
    shapes = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weight(our_name(name), tuple(parameter.shape))))
            shapes[our_name(name)] = list(parameter.shape)
        found = network(torch.from_numpy(network_input(spec)))
    rows = []
    for scores in found:
        values = scores.double().numpy().ravel()
        picked = values[:: max(1, len(values) // 60)]
        rows.append(
            {"shape": list(scores.shape), "mean_square": round(float((values**2).mean()), 7), "picked": np.round(picked, 7).tolist()}
        )
    return {**spec, "parameters": shapes, "scores": rows}


def main() -> None:
    """Computes everything and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    rows = [f"{json.dumps(name)}: {json.dumps(outputs(spec))}" for name, spec in SPECS.items()]
    parser.parse_args().output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
