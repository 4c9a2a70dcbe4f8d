"""nnU-Net's evaluation of two folders. Runs in the peer's environment: ``PEER_PYTHON benchmarks/peer_metrics.py TRUTHS PREDICTIONS OUT``.

Writes its summary, whose classes are label values, to OUT (JSON).
"""

import sys
from pathlib import Path

from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

if __name__ == "__main__":
    truths, predictions, out = sys.argv[1:4]
    values = [int(value) for value in sys.argv[4:]]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    compute_metrics_on_folder(truths, predictions, out, SimpleITKIO(), ".nii.gz", values, num_processes=2)
