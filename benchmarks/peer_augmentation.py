"""Runs in nnU-Net's environment, for ``benchmarks/augmentation.py``: times its list of transforms on given patches, one after the other.

The only argument is a JSON object; the last line printed is a JSON list of [wall seconds, CPU seconds] of each batch. As in nnU-Net's
loader (``training/dataloading/data_loader.py``): one thread, sample by sample, then stacked.
"""

import json
import os
import sys
import time

# ruff: noqa: E402  the variables come first: nnunetv2 wants them on import, and reads nothing from there.
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "unused")

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def main() -> None:
    """Times the batches."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002  batchgeneratorsv2 draws from the global states
    torch.manual_seed(0)
    limit = job["degrees"] / 360 * 2.0 * np.pi
    axes = tuple(range(len(job["patch"])))
    transforms = nnUNetTrainer.get_training_transforms(job["patch"], (-limit, limit), None, axes, False)
    stored = np.load(job["patches"])
    images, labels = torch.from_numpy(stored["image"]), torch.from_numpy(stored["labels"])
    seconds = []
    for _ in range(job["warm_up"] + job["batches"]):
        wall, cpu = time.perf_counter(), time.process_time()
        done = [transforms(image=image.clone(), segmentation=label[None].clone()) for image, label in zip(images, labels, strict=True)]
        torch.stack([each["image"] for each in done])
        torch.stack([each["segmentation"] for each in done])
        seconds.append([time.perf_counter() - wall, time.process_time() - cpu])
    print(json.dumps(seconds[job["warm_up"] :]))


if __name__ == "__main__":
    main()
