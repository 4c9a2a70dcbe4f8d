"""nnU-Net's export of scores to a label map, timed. Runs in the peer's environment: ``PEER_PYTHON benchmarks/peer_export.py JOB``.

JOB is JSON with ``scores`` (npy), ``shape``, ``spacing``, ``target``, ``classes``, ``labels`` (npy to write). Prints seconds and memory.
"""

import json
import sys
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager


def status_mb(name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))


def main() -> None:
    """One export."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    scores = torch.from_numpy(np.load(job["scores"]))
    labels = LabelManager({"background": 0, **{f"c{value}": value for value in range(1, job["classes"])}}, None)
    plans = SimpleNamespace(transpose_forward=[0, 1, 2], transpose_backward=[0, 1, 2])
    resample = partial(resample_data_or_seg_to_shape, is_seg=False, order=1, order_z=0, force_separate_z=None)
    configuration = SimpleNamespace(spacing=job["target"], resampling_fn_probabilities=resample)
    shape = tuple(job["shape"])
    properties = {
        "spacing": job["spacing"],
        "shape_after_cropping_and_before_resampling": shape,
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
    }
    before = status_mb("VmRSS")
    began = time.perf_counter()
    found = convert_predicted_logits_to_segmentation_with_correct_shape(
        scores, plans, configuration, labels, properties, num_threads_torch=torch.get_num_threads()
    )
    seconds = time.perf_counter() - began
    np.save(job["labels"], np.asarray(found))
    print(json.dumps({"seconds": seconds, "above_mb": status_mb("VmHWM") - before, "whole_mb": status_mb("VmHWM")}))


if __name__ == "__main__":
    main()
