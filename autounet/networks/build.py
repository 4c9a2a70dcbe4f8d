"""From a NetworkSpec to a network with fresh weights."""

import torch

from autounet.networks.unet import UNet, initialise
from autounet.plan import NetworkSpec


def build_network(spec: NetworkSpec, seed: int = 0) -> UNet:
    """The network of a plan on the CPU, in float32, with weights drawn from ``seed``.

    The global torch generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(spec)
        initialise(network)
    return network
