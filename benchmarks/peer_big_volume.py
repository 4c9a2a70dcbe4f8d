"""Runs in nnU-Net's environment, for ``benchmarks/big_volume.py``: its window and export for a volume, with a network that costs nothing.

The only argument is a JSON object; the last line printed is a JSON object: how far it came and what it took at most. Steps as in
nnunetv2 2.8.1, ``inference/predict_from_raw_data.py`` and ``export_prediction.py``, without reading and preparing.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn


class Stub(nn.Module):
    """Scores without work: every class is the image, shifted."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.shifts = nn.Parameter(torch.linspace(-1, 1, outputs)[None, :, None, None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, *patch) → (n, outputs, *patch)."""
        return x * self.shifts


def main() -> None:
    """Predicts and exports, and says where it ended."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(2)
    step, failure = "window", None
    try:
        manager = _plans(job)
        configuration = manager.get_configuration("chosen")
        labels = {"background": 0, **{f"class {number}": number for number in range(1, job["outputs"])}}
        predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.network, predictor.allowed_mirroring_axes = Stub(job["outputs"]), None
        predictor.configuration_manager = SimpleNamespace(patch_size=job["patch"])
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=job["outputs"])
        with torch.inference_mode():
            logits = predictor.predict_sliding_window_return_logits(torch.randn(1, *job["prepared"]))
        step = "export"
        properties = {
            "spacing": job["spacing"],
            "shape_before_cropping": job["shape"],
            "shape_after_cropping_and_before_resampling": job["shape"],
            "bbox_used_for_cropping": [[0, size] for size in job["shape"]],
        }
        convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, manager, configuration, manager.get_label_manager({"labels": labels}), properties, num_threads_torch=2
        )
        step = "done"
    except (MemoryError, RuntimeError) as error:
        failure = str(error).split("\n")[0][:300]
    with open("/proc/self/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) / 1e6 for line in status if line.startswith("VmHWM:"))
    print(json.dumps({"reached": step, "failure": failure, "peak_gb": peak}))


def _plans(job: dict[str, Any]) -> PlansManager:
    """As much of a plans file as restoring a case needs."""
    resample = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "spacing": job["target"],
        "architecture": {},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resample,
    }
    return PlansManager(
        {
            "configurations": {"chosen": configuration},
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "label_manager": "LabelManager",
        }
    )


if __name__ == "__main__":
    main()
