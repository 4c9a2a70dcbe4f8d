"""The building blocks of the U-Nets: convolution + instance norm + leaky ReLU, plain or residual; 2D and 3D."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Typed loosely: torch's stubs want a fixed number of sides per dimension.
CONV: dict[int, type[Any]] = {2: nn.Conv2d, 3: nn.Conv3d}
UP: dict[int, type[Any]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE_POOL: dict[int, type[Any]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

LEAKINESS = 0.01
EPSILON = 1e-5


class InstanceNorm(nn.Module):
    """Instance normalisation with a scale and shift per channel (statistics over space, per sample and channel).

    On CPUs the same function under other names is faster in bf16. Contiguous features: group normalisation with one channel a group.
    Channels-last features: batch normalisation of one sample at a time; group normalisation's gradient takes ten times as long there.
    On GPUs autocast would compute either in float32, at twice the memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *space) → the same shape."""
        if x.device.type != "cpu":
            # torch.nn.functional's refuses a single voxel.
            return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, EPSILON, torch.backends.cudnn.enabled)
        # Batch normalisation refuses a single voxel.
        if not torch.is_grad_enabled() or x.is_contiguous() or x[0, 0].numel() == 1:
            return nn.functional.group_norm(x, x.shape[1], self.weight, self.bias, EPSILON)
        samples = [nn.functional.batch_norm(sample, None, None, self.weight, self.bias, True, 0.0, EPSILON) for sample in torch.split(x, 1)]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


class ConvBlock(nn.Module):
    """Convolution (same padding, with bias), instance norm and, unless ``activate`` is off, leaky ReLU."""

    def __init__(
        self, ndim: int, channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int], activate: bool = True
    ) -> None:
        super().__init__()
        padding = tuple((size - 1) // 2 for size in kernel)
        self.conv = CONV[ndim](channels_in, channels_out, tuple(kernel), tuple(stride), padding)
        self.norm = InstanceNorm(channels_out)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, *space) → (n, channels_out, *space / stride)."""
        x = self.norm(self.conv(x))
        return nn.functional.leaky_relu(x, LEAKINESS, inplace=True) if self.activate else x


class Shortcut(nn.Module):
    """The way round a residual block: average pooling where it strides, 1x1 convolution and norm where channels change."""

    def __init__(self, ndim: int, channels_in: int, channels_out: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.pool = AVERAGE_POOL[ndim](tuple(stride), tuple(stride)) if max(stride) > 1 else None
        self.conv = CONV[ndim](channels_in, channels_out, 1, bias=False) if channels_in != channels_out else None
        self.norm = InstanceNorm(channels_out) if channels_in != channels_out else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, *space) → (n, channels_out, *space / stride)."""
        if self.pool is not None:
            x = self.pool(x)
        if self.conv is not None and self.norm is not None:
            x = self.norm(self.conv(x))
        return x


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, activated after the sum (ResNet-D's basic block, as in nnU-Net's residual encoder)."""

    def __init__(self, ndim: int, channels_in: int, channels_out: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.first = ConvBlock(ndim, channels_in, channels_out, kernel, stride)
        self.second = ConvBlock(ndim, channels_out, channels_out, kernel, (1,) * ndim, activate=False)
        self.shortcut = Shortcut(ndim, channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, *space) → (n, channels_out, *space / stride)."""
        return nn.functional.leaky_relu(self.second(self.first(x)) + self.shortcut(x), LEAKINESS, inplace=True)
