"""Writes tests/golden/nnunet_inference.json: tiles, weights and stitched scores of nnU-Net's sliding window.

Run it with a Python that has nnunetv2 2.8.1 (an environment of its own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_inference.py tests/golden/nnunet_inference.json

Images come from ``wave`` and the network is ``Edges``; the tests repeat both.
"""

import argparse
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor, nn

LINES = ((64, 64), (65, 64), (110, 64), (96, 64), (97, 64), (128, 64), (57, 40), (40, 40), (201, 33), (20, 7), (19, 6), (512, 5))
"""Size of an image and of a tile along one axis."""

PATCHES = ((8,), (5, 7), (4, 6, 5), (2, 16, 12))

WINDOWS = {
    "3d": {"shape": (2, 9, 10, 12), "patch": (6, 6, 8), "mirror": (0, 1, 2)},
    "3d, smaller than the patch": {"shape": (1, 3, 11, 6), "patch": (8, 6, 7), "mirror": (0, 2)},
    "3d, not mirrored": {"shape": (1, 12, 7, 9), "patch": (6, 4, 6), "mirror": None},
    "2d over slices": {"shape": (2, 3, 11, 6), "patch": (6, 7), "mirror": (0, 1)},
}


def wave(shape: Sequence[int], phase: float) -> np.ndarray:
    """Values from -1 to 1 without a period."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


class Edges(nn.Module):
    """Differences along the patch's axes, zero beyond its faces: it is neither symmetric nor blind to where a tile ends."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *patch) → (n, 2, *patch)."""
        first = x.sum(1)
        ahead, behind = first.clone(), first.clone()
        for axis in range(1, first.ndim):
            size = first.shape[axis]
            ahead.narrow(axis, 0, size - 1).sub_(first.narrow(axis, 1, size - 1) * 0.5 * axis)
            behind.narrow(axis, 1, size - 1).add_(first.narrow(axis, 0, size - 1) ** 2)
        return torch.stack((ahead, behind), 1)


def stitched(shape: tuple[int, ...], patch: tuple[int, ...], mirror: tuple[int, ...] | None) -> list[float]:
    """Scores of a whole image, added up in float32: nnU-Net's float16 would hide differences at the corners of tiles."""
    predictor = nnUNetPredictor(
        use_mirroring=mirror is not None, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.network, predictor.allowed_mirroring_axes = Edges(), mirror
    predictor.configuration_manager = SimpleNamespace(patch_size=list(patch))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
    image = torch.from_numpy(wave(shape, 0.3).astype(np.float32))
    predict_from_raw_data.compute_gaussian = partial(compute_gaussian, dtype=torch.float32)
    torch.half = torch.float32
    return np.round(predictor.predict_sliding_window_return_logits(image).double().numpy().ravel(), 5).tolist()


def gaussian(patch: tuple[int, ...]) -> dict[str, Any]:
    """The weights, before nnU-Net rounds them to float16."""
    exact = compute_gaussian(patch, value_scaling_factor=1, dtype=torch.float64, device=torch.device("cpu"))
    return {"patch": patch, "weights": [float(f"{value:.8g}") for value in exact.ravel().tolist()]}


def main() -> None:
    """Computes everything and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    golden = {
        "made_by": "benchmarks/golden/nnunet_inference.py with nnunetv2 2.8.1",
        "starts": [
            {"size": size, "tile": tile, "starts": compute_steps_for_sliding_window((size,), (tile,), 0.5)[0]} for size, tile in LINES
        ],
        "gaussians": [gaussian(patch) for patch in PATCHES],
        "windows": {name: {**window, "scores": stitched(**window)} for name, window in WINDOWS.items()},
    }
    rows = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    parser.parse_args().output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
