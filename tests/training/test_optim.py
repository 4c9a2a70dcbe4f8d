"""The step that leaves out what is not finite, and the running mean of the weights."""

import math

import pytest
import torch
from torch import nn

from autounet.preset import NNUNET_OPTIMIZER, OptimizerSpec
from autounet.training.optim import GRADIENT_NORM, AveragedWeights, build_optimizer, careful_step

CPU = torch.device("cpu")
SCALER = torch.amp.GradScaler("cpu", enabled=False)


def _network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def _copies(network: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def test_nnunets_step_by_hand() -> None:
    """Nesterov: v = m v + (g + decay w), w = w - rate (g + decay w + m v); the gradient, longer than 12, is shortened before."""
    network = _network()
    before = _copies(network)
    optimizer = build_optimizer(network, NNUNET_OPTIMIZER, CPU)
    gradients = [torch.full_like(weight, 10.0) for weight in before]
    for weight, gradient in zip(network.parameters(), gradients, strict=True):
        weight.grad = gradient.clone()
    assert not careful_step(optimizer, torch.tensor(1.0), SCALER)
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    assert length > GRADIENT_NORM
    for weight, old, gradient in zip(network.parameters(), before, gradients, strict=True):
        down = gradient * GRADIENT_NORM / length + 3e-5 * old
        torch.testing.assert_close(weight.detach(), old - 0.01 * (down + 0.99 * down))


@pytest.mark.parametrize("spec", [NNUNET_OPTIMIZER, OptimizerSpec(momentum=0.0), OptimizerSpec(kind="adamw", learning_rate=1e-3)])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_the_next_one_does(spec: OptimizerSpec, where: str) -> None:
    network = _network()
    optimizer = build_optimizer(network, spec, CPU)

    def step(value: float, loss: float) -> bool:
        for weight in network.parameters():
            weight.grad = torch.full_like(weight, value)
        return bool(careful_step(optimizer, torch.tensor(loss), SCALER))

    before = _copies(network)
    assert step(math.nan if where == "gradient" else 1.0, math.inf if where == "loss" else 1.0)
    assert all(weight.equal(old) for weight, old in zip(network.parameters(), before, strict=True))
    assert not step(1.0, 1.0)
    assert not any(weight.equal(old) for weight, old in zip(network.parameters(), before, strict=True))
    other = _network()
    optimizer = build_optimizer(other, spec, CPU)
    for weight in other.parameters():
        weight.grad = torch.ones_like(weight)
    careful_step(optimizer, torch.tensor(1.0), SCALER)
    assert all(one.equal(two) for one, two in zip(network.parameters(), other.parameters(), strict=True))  # no trace of the first


def test_the_mean_forgets_fast_at_first_and_swaps_with_the_weights() -> None:
    network = _network()
    first = _copies(network)
    average = AveragedWeights(network, 0.9)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0)
    average.update(1)  # decay is the smaller one of 0.9 and (1 + 1) / (10 + 1)
    expected = [old * 2 / 11 + 9 / 11 for old in first]
    for mean, value in zip(average.means, expected, strict=True):
        torch.testing.assert_close(mean, value)
    average.update(1000)
    average.swap()
    for weight, value in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.detach(), 0.9 * value + 0.1)
    average.swap()
    assert all(bool((weight == 1.0).all()) for weight in network.parameters())
