"""The U-Net of Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597): unpadded convolutions, no norm, one head.

What the paper's text leaves open is as in the authors' Caffe release, known from ports of it to other libraries: a ReLU behind
every up-convolution too, dropout behind the last two stages of the contracting path, which the skip connection sees as well.
"""

from math import prod

import torch
from torch import Tensor, cat, nn

from autounet.networks.blocks import CONV, UP
from autounet.plan import NetworkSpec

MAX_POOL = {2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}

DROPOUT = 0.5
DROPOUT_STAGES = 2
"""Dropout lies behind so many stages, the coarsest."""


class Dropout(nn.Module):
    """Dropout whose choice depends on a seed given beforehand (see ``reseed``) and not on torch's global generator.

    The same seed drops the same features, so that a resumed training equals one that was not interrupted.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability, self.seed = probability, 0

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same; in training, values are zeroed with the probability and the others enlarged to make up for them."""
        if not self.training:
            return x
        generator = torch.Generator(x.device).manual_seed(self.seed)
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.probability
        return x * kept / (1 - self.probability)


def reseed(network: nn.Module, seed: int) -> None:
    """Tells every dropout of a network what to draw in the next forward pass; a network without dropout is left alone."""
    for position, module in enumerate(module for module in network.modules() if isinstance(module, Dropout)):
        module.seed = seed + position


class Convolutions(nn.Module):
    """Unpadded convolutions, each followed by a ReLU."""

    def __init__(self, spec: NetworkSpec, stage: int, channels: int, count: int) -> None:
        super().__init__()
        features, kernel = spec.features[stage], spec.kernel_sizes[stage]
        widths = [channels] + [features] * (count - 1)
        self.convs = nn.ModuleList(CONV[spec.ndim](width, features, kernel) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, *space) → (n, features, *space less a margin)."""
        for conv in self.convs:
            x = nn.functional.relu(conv(x), inplace=True)
        return x


class UNet2015(nn.Module):
    """The paper's network for any number of stages; with features 64 to 1024, 572×572 pixels become 388×388 scores.

    Args:
        spec: The network in numbers; ``networks.cost.output_size`` says which patches fit it.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        stages, channels = len(spec.features), (spec.in_channels, *spec.features)
        self.encoder = nn.ModuleList(Convolutions(spec, stage, channels[stage], spec.blocks_encoder[stage]) for stage in range(stages))
        self.dropouts = nn.ModuleList(Dropout(DROPOUT) for _ in range(min(DROPOUT_STAGES, stages)))
        levels = range(stages - 2, -1, -1)
        self.ups = nn.ModuleList(
            UP[spec.ndim](spec.features[level + 1], spec.features[level], spec.strides[level + 1], spec.strides[level + 1])
            for level in levels
        )
        self.decoder = nn.ModuleList(
            Convolutions(spec, level, 2 * spec.features[level], count) for level, count in zip(levels, spec.blocks_decoder, strict=True)
        )
        self.head = CONV[spec.ndim](spec.features[0], spec.outputs, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, in_channels, *space) → scores (n, outputs, *space less a margin) of the finest resolution, alone in a list."""
        skips = []
        first_dropout = len(self.encoder) - len(self.dropouts)
        for stage, convolutions in enumerate(self.encoder):
            stride = self.spec.strides[stage]
            x = convolutions(MAX_POOL[self.spec.ndim](x, stride, stride) if max(stride) > 1 else x)
            if stage >= first_dropout:
                x = self.dropouts[stage - first_dropout](x)
            skips.append(x)
        for position, (up, convolutions) in enumerate(zip(self.ups, self.decoder, strict=True)):
            raised = nn.functional.relu(up(x), inplace=True)
            x = convolutions(cat((crop_to(skips[-(position + 2)], raised.shape[2:]), raised), 1))
        return [self.head(x)]


def crop_to(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The middle of (n, ..., *space), of ``size`` voxels along the last axes; a view."""
    for axis, side in enumerate(size, start=x.ndim - len(size)):
        x = x.narrow(axis, (x.shape[axis] - side) // 2, side)
    return x


def initialise_2015(network: nn.Module) -> None:
    """Gaussian weights of standard deviation sqrt(2 / N), N the inputs of one output (the paper's section 3), and zero biases.

    An up-convolution's output voxel is reached by one input voxel, so there N is the number of channels. Draws from torch's
    global generator (seed it before).
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            transposed = isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d))
            inputs = module.in_channels * (1 if transposed else prod(module.kernel_size))
            nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
