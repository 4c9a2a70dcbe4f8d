"""From a NetworkSpec to a network with fresh weights."""

from collections.abc import Callable

import torch
from torch import nn

from autounet.networks.unet import UNet, initialise
from autounet.networks.unet2015 import UNet2015, initialise_2015
from autounet.plan import NetworkSpec
from autounet.preset import NetworkKind

Network = UNet | UNet2015

KINDS: dict[NetworkKind, tuple[Callable[[NetworkSpec], Network], Callable[[nn.Module], None]]] = {
    "plain": (UNet, initialise),
    "residual": (UNet, initialise),
    "unet2015": (UNet2015, initialise_2015),
}
"""How a network of each kind is made, and how its weights are drawn."""


def build_network(spec: NetworkSpec, seed: int = 0) -> Network:
    """The network of a plan on the CPU, in float32, with weights drawn from ``seed``.

    The global torch generator is left as it was.
    """
    make, draw_weights = KINDS[spec.kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(spec)
        draw_weights(network)
    return network


def memory_format(ndim: int, device: torch.device) -> torch.memory_format:
    """How features lie in memory during training: channels last on CPUs, where convolutions are a fifth faster for it.

    On GPUs as they are: instance normalisation would copy channels-last features.
    """
    if device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def trained_network(spec: NetworkSpec, weights: dict[str, torch.Tensor]) -> Network:
    """The network of a plan with these weights, on their device; no others are drawn for it.

    Raises:
        RuntimeError: Weights are missing, surplus or of other shapes.
    """
    with torch.device("meta"):
        network = KINDS[spec.kind][0](spec)
    network.load_state_dict(weights, assign=True)
    return network
