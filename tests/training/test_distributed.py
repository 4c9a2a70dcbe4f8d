"""How several processes share a batch: who takes which samples, and that sums over parts give the loss of the whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autounet.errors import UsageError
from autounet.labels import LabelSpec
from autounet.plan import LossSpec
from autounet.runtime import ALONE, Processes
from autounet.training.distributed import agreed, anywhere, own_samples, totals
from autounet.training.losses import build_loss


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [5, 6, 9])
def test_every_sample_is_somebodys_and_nobody_has_two_more_than_another(batch: int, processes: int) -> None:
    parts = [own_samples(batch, Processes(processes, rank)) for rank in range(processes)]
    assert [sample for part in parts for sample in part] == list(range(batch))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 2"):
        own_samples(2, Processes(3, 0))


def test_alone_nothing_is_exchanged() -> None:
    sums = torch.ones(3)
    assert totals(ALONE)(sums) is sums
    assert agreed([1.5, 2.0], ALONE) == [1.5, 2.0]
    assert anywhere(True, ALONE) is True


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("spec", [LossSpec(), LossSpec(class_weights=(1.0, 3.0, 0.5)), LossSpec(kind="border_ce")])
def test_parts_that_add_up_their_sums_have_the_loss_and_the_gradients_of_the_whole(
    spec: LossSpec, batch_dice: bool, two_labels: LabelSpec, wave: Callable, label_map: Callable
) -> None:
    """Three samples on two processes; what a process gets from the other is a number to it, not something to derive by."""
    scores = torch.from_numpy(wave((3, 3, 6, 5, 4), 0.3)).requires_grad_()
    labels = torch.from_numpy(label_map((3, 6, 5, 4), 3))
    known = torch.tensor([[True, True], [True, False], [True, True]])
    whole = build_loss(spec, two_labels, batch_dice, 1)([scores], labels, known=known)
    (expected,) = torch.autograd.grad(whole, scores)

    sums: list[Tensor] = []

    def collect(part: Tensor) -> Tensor:
        sums.append(part)
        return part

    parts = [slice(0, 1), slice(1, 3)]
    for part in parts:
        build_loss(spec, two_labels, batch_dice, 1, collect)([scores[part]], labels[part], known=known[part])
    gradients = []
    for part, others in zip(parts, reversed(sums), strict=True):
        loss = build_loss(spec, two_labels, batch_dice, 1, lambda own, others=others: own + others.detach())
        value = loss([scores[part]], labels[part], known=known[part])
        assert value.item() == pytest.approx(whole.item(), rel=1e-6)
        gradients.append(torch.autograd.grad(value, scores)[0])
    torch.testing.assert_close(gradients[0] + gradients[1], expected, rtol=1e-5, atol=1e-8)
