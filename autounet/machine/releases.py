"""Releases that are known to be slow or wrong with networks like ours, each with the report that says so."""

import re
from collections.abc import Iterator

from autounet.machine.facts import Advice, Torch

FAST_AGAIN = 91500
"""cuDNN 9.15: 3D convolutions in half precision are fast again with torch 2.9.1."""


def known_problems(torch: Torch) -> Iterator[Advice]:
    """What is known about this build. Only where it computes on NVIDIA's GPUs."""
    if torch.cuda is None or not torch.gpus:
        return
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", torch.version)
    release = tuple(map(int, found.groups())) if found else (0, 0, 0)
    cudnn = torch.cudnn or 0
    if release[:2] == (2, 9) and (release[2] == 0 or cudnn < FAST_AGAIN):
        # pytorch/pytorch#166122 (4 times slower, by nnU-Net's author), #166643 (memory; gone with cuDNN 9.15 and torch 2.9.1).
        yield Advice(
            severity="warning",
            about="torch",
            what=f"torch {torch.version} with cuDNN {cudnn_words(cudnn)} computes 3D convolutions in half precision several times slower, "
            "and with more memory, than others (pytorch issues 166122 and 166643)",
            advice="install torch 2.10 or later, or 2.8",
        )


def cudnn_words(number: int) -> str:
    """91002 → 9.10.2."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
