"""MONAI's surface metrics of two folders. Runs where MONAI is installed: ``PYTHON benchmarks/peer_monai.py TRUTHS PREDICTIONS OUT VALUE…``.

Writes {case: {value: {"hd95", "assd", "nsd_voxels", "nsd_elements"}}} to OUT (JSON); NSD at 1 mm. Undefined scores are left out.
"""

import json
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice


def scores(prediction: np.ndarray, truth: np.ndarray, spacing_mm: list[float]) -> dict[str, float]:
    """All of two masks."""
    found, true = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    options: dict[str, Any] = {"include_background": True, "spacing": spacing_mm}
    values = {
        "hd95": compute_hausdorff_distance(found, true, percentile=95, **options),
        "assd": compute_average_surface_distance(found, true, symmetric=True, **options),
        "nsd_voxels": compute_surface_dice(found, true, class_thresholds=[1.0], **options),
        "nsd_elements": compute_surface_dice(found, true, class_thresholds=[1.0], use_subvoxels=True, **options),
    }
    return {name: float(value) for name, value in values.items() if torch.isfinite(value).all()}


if __name__ == "__main__":
    truths, predictions, out = (Path(text) for text in sys.argv[1:4])
    result: dict[str, dict[str, dict[str, float]]] = {}
    for file in sorted(truths.glob("[!.]*.nii.gz")):
        images: list[Any] = [nibabel.load(folder / file.name) for folder in (predictions, truths)]
        maps = [np.asarray(image.dataobj) for image in images]
        spacing = [float(value) for value in images[1].header.get_zooms()]
        result[file.name.removesuffix(".nii.gz")] = {
            value: scores(maps[0] == int(value), maps[1] == int(value), spacing)
            for value in sys.argv[4:]
            if (maps[0] == int(value)).any() and (maps[1] == int(value)).any()
        }
    out.write_text(json.dumps(result))
