"""The label map of a cascade's first stage as further inputs of the second stage's network."""

import torch
from torch import Tensor


def one_hot(previous: Tensor, labels: int, dtype: torch.dtype) -> Tensor:
    """Label indices (n, *space) → one channel for each of the ``labels`` foreground labels, 1 and up: (n, labels, *space).

    Indices below 1 (background, outside the case) are 0 in all channels.

    Source: nnunetv2 2.8.1, ``utilities/label_handling/label_handling.py``, convert_labelmap_to_one_hot, with ``foreground_labels``.
    """
    indices = torch.arange(1, labels + 1, device=previous.device, dtype=previous.dtype).reshape(-1, *(1,) * (previous.ndim - 1))
    return (previous[:, None] == indices).to(dtype)


def insert_channels(image: Tensor, channels: Tensor, after: int) -> Tensor:
    """(n, c, *space) with further channels (n, k, *space) behind the first ``after``, those of the image: (n, c + k, *space)."""
    return torch.cat((image[:, :after], channels, image[:, after:]), 1)
