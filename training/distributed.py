"""Several processes that train one network: each takes its part of every batch, and sums are added up over all of them.

The batch, the order of cases and the augmentation are those of one process with the same seed. The loss is a formula on sums over the
batch (``losses``), so each process has the loss of the whole batch, and the gradient is the sum of what each finds for its own samples.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from autounet.device import is_out_of_memory
from autounet.errors import AutounetError, UsageError
from autounet.runtime import Processes

PATIENCE = timedelta(hours=24)
"""Others may have to wait while the first process predicts the held-out cases; one that dies is noticed by what started them."""


@contextmanager
def together(processes: Processes, device: torch.device) -> Iterator[None]:
    """Connects the processes; who and where they are is read from what torchrun has set.

    They are parted only where all went well: with an error in one, the others may be waiting for it, and it would wait for them. Whoever
    gets the error must end the process; torchrun then ends the others.

    Raises:
        UsageError: They cannot be connected.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if processes.count == 1:
        yield
        return
    try:
        # Decisions and clocks are exchanged between the hosts, so that no GPU is waited for.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            "the processes cannot be connected", found=str(error).split("\n")[0], remedy="start them with torchrun --nproc-per-node N"
        ) from None
    yield
    distributed.destroy_process_group()


def wait_for_all(processes: Processes) -> None:
    """Returns when every process has come here. Raises AutounetError when one never will."""
    agreed([], processes)


@contextmanager
def first_alone(processes: Processes) -> Iterator[None]:
    """The first process does the work within before the others do, which find it done on the disk that all share."""
    if not processes.writes:
        wait_for_all(processes)
    yield
    if processes.writes:
        wait_for_all(processes)


def own_samples(batch_size: int, processes: Processes) -> range:
    """Which samples of a batch are this process's; the parts differ by at most one.

    Raises:
        UsageError: There are fewer samples than processes.
    """
    if batch_size < processes.count:
        raise UsageError(
            f"{processes.count} processes cannot share a batch of {batch_size}",
            remedy=f"start at most {batch_size}, or plan a larger batch: autounet plan --batch-size {processes.count}",
        )
    first, last = (batch_size * at // processes.count for at in (processes.rank, processes.rank + 1))
    return range(first, last)


def _added_up(tensor: Tensor) -> None:
    """Replaces a tensor by its sum over all processes. Raises AutounetError when one has ended."""
    try:
        distributed.all_reduce(tensor)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise AutounetError("another process of this training has ended", remedy="look at its messages") from None


class _Sum(torch.autograd.Function):
    """Adds up over all processes; the gradient goes back to each as it is, for gradients are added up at the end."""

    @staticmethod
    def forward(context: Any, sums: Tensor) -> Tensor:
        result = sums.clone()
        _added_up(result)
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def totals(processes: Processes) -> Callable[[Tensor], Tensor]:
    """What adds a tensor up over all processes."""

    def total(sums: Tensor) -> Tensor:
        if processes.count == 1:
            return sums
        result: Tensor = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        return result

    return total


def add_up_gradients(parameters: Iterable[Tensor], processes: Processes) -> None:
    """Replaces every gradient by its sum over all processes, in one exchange."""
    if processes.count == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    _added_up(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)])


def agreed(values: Iterable[float], processes: Processes) -> list[float]:
    """The first process's numbers, in every process: clocks, disks and wishes differ, decisions must not."""
    if processes.count == 1:
        return list(values)
    # The others add nothing. One number more, so that there is something to wait for where there are none.
    shared = torch.tensor([*values, 0.0], dtype=torch.float64) * processes.writes
    _added_up(shared)
    return [float(value) for value in shared[:-1].tolist()]


def anywhere(wish: bool, processes: Processes) -> bool:
    """Whether any process wishes so."""
    if processes.count == 1:
        return wish
    shared = torch.tensor([float(wish)])
    _added_up(shared)
    return bool(shared.item() > 0)
