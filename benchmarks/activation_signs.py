"""On which side of the leaky ReLU's kink the values of a network lie. Needs torch alone: both programs use it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from torch import Tensor
from torch.nn import functional


@contextlib.contextmanager
def activation_signs() -> Iterator[list[Tensor]]:
    """Within, the signs (bool, in order) of what goes into every leaky ReLU are put into the list."""
    found: list[Tensor] = []
    activate = functional.leaky_relu

    def noting(x: Tensor, *others: Any, **named: Any) -> Tensor:
        found.append((x > 0).contiguous())
        return activate(x, *others, **named)

    with mock.patch.object(functional, "leaky_relu", noting):
        yield found


def flipped(one: Sequence[Tensor], other: Sequence[Tensor]) -> int:
    """How many values are on different sides."""
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
