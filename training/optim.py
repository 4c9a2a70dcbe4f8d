"""The optimizer, a running mean of the weights, and the step that leaves out what is not finite."""

import torch
from torch import Tensor, nn

from autounet.preset import OptimizerSpec

GRADIENT_NORM = 12.0
"""Longer gradients are shortened to this (nnUNetTrainer.py, train_step)."""


def build_optimizer(network: nn.Module, spec: OptimizerSpec, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer, with all of its state there from the beginning, fused into one kernel where the device has such."""
    fused = device.type in ("cpu", "cuda")
    parameters = list(network.parameters())
    if spec.kind == "adamw":
        return torch.optim.AdamW(parameters, lr=spec.learning_rate, betas=(0.9, 0.999), weight_decay=spec.weight_decay, fused=fused)
    optimizer = torch.optim.SGD(
        parameters, lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.momentum > 0, fused=fused
    )
    if spec.momentum > 0:
        # Made by the first step otherwise, which may be one that is left out.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def careful_step(optimizer: torch.optim.Optimizer, loss: Tensor, scaler: torch.amp.GradScaler) -> Tensor:
    """Shortens the gradients and takes a step, unless loss or gradients are not finite; the host waits for nothing.

    Args:
        optimizer: Its parameters have gradients, scaled by ``scaler``.
        loss: Of this step, a scalar.
        scaler: In use for fp16 only, where gradients overflow now and then and steps are left out without further notice, until the
            scale that made them overflow has come down to 1.

    Returns:
        A bool scalar on the device: whether the step was left out for a reason other than the scaler's.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
    bad = ~(norm.isfinite() & loss.detach().isfinite())
    if scaler.is_enabled():
        overflow = loss.detach().isfinite() & (scaler.scale(torch.ones_like(norm)) > 1)
        scaler.step(optimizer)
        scaler.update()
        return bad & ~overflow
    if optimizer.param_groups[0]["fused"]:
        optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]  # what GradScaler sets as well
    else:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(bad, 0.0)
    optimizer.step()
    return bad


class AveragedWeights:
    """Exponential mean of a network's weights over the steps, which forgets with a rate that falls as steps go by.

    Args:
        network: Whose weights; they are the first mean.
        decay: Of the mean per step in the long run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights = list(network.parameters())
        self._decay = decay
        self.means = [weight.detach().clone() for weight in self._weights]

    def update(self, steps: int) -> None:
        """Takes in the weights after ``steps`` steps; early ones are forgotten faster."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self.means, [weight.detach() for weight in self._weights], 1 - decay)

    def swap(self) -> None:
        """Exchanges the network's weights and the means."""
        with torch.no_grad():
            for weight, mean in zip(self._weights, self.means, strict=True):
                kept = weight.detach().clone()
                weight.copy_(mean)
                mean.copy_(kept)
