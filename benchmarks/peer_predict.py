"""Runs in nnU-Net's environment: ``nnUNetv2_predict`` with its sums in float32 instead of float16; same arguments.

    PEER_PYTHON -m benchmarks.peer_predict -i IN -o OUT …

Where our labels and nnU-Net's differ, this says whether its rounding is to blame.
"""

from functools import partial

import torch
from nnunetv2.inference import predict_from_raw_data


def main() -> None:
    """The command."""
    weights = predict_from_raw_data.compute_gaussian
    predict_from_raw_data.compute_gaussian = partial(weights, dtype=torch.float32)
    predict_from_raw_data.compute_gaussian.cache_clear = weights.cache_clear
    torch.half = torch.float32
    predict_from_raw_data.predict_entry_point()


if __name__ == "__main__":
    main()
