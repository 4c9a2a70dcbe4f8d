"""The U-Net: an encoder of stages, a decoder that mirrors it, and a segmentation head at every resolution."""

from torch import Tensor, cat, nn

from autounet.networks.blocks import CONV, LEAKINESS, UP, ConvBlock, ResidualBlock
from autounet.plan import NetworkSpec


class Encoder(nn.Module):
    """Stages of growing features and falling resolution; a residual encoder starts with a stem convolution."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        ndim, channels = spec.ndim, spec.in_channels
        self.stem: ConvBlock | None = None
        if spec.kind == "residual":
            self.stem = ConvBlock(ndim, channels, spec.features[0], spec.kernel_sizes[0], (1,) * ndim)
            channels = spec.features[0]
        block = ConvBlock if spec.kind == "plain" else ResidualBlock
        stages = []
        for features, kernel, stride, blocks in zip(spec.features, spec.kernel_sizes, spec.strides, spec.blocks_encoder, strict=True):
            layers: list[nn.Module] = [block(ndim, channels, features, kernel, stride)]
            layers += [block(ndim, features, features, kernel, (1,) * ndim) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*layers))
            channels = features
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, channels, *space) → features of every stage, full resolution first."""
        if self.stem is not None:
            x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderStage(nn.Module):
    """Upsample by transposed convolution, join the encoder's features of that resolution, convolve."""

    def __init__(self, spec: NetworkSpec, level: int, blocks: int) -> None:
        super().__init__()
        below, here, stride = spec.features[level + 1], spec.features[level], spec.strides[level + 1]
        self.up = UP[spec.ndim](below, here, stride, stride)
        kernel, ones = spec.kernel_sizes[level], (1,) * spec.ndim
        layers: list[nn.Module] = [ConvBlock(spec.ndim, 2 * here, here, kernel, ones)]
        layers += [ConvBlock(spec.ndim, here, here, kernel, ones) for _ in range(blocks - 1)]
        self.convs = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features of the stage below and of the encoder at this resolution → features at this resolution."""
        joined: Tensor = self.convs(cat((self.up(x), skip), 1))
        return joined


class UNet(nn.Module):
    """U-Net with nnU-Net's layers. In training mode it returns the scores of every decoder resolution, else the finest only.

    Args:
        spec: The network in numbers.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        levels = range(len(spec.features) - 2, -1, -1)
        self.decoder = nn.ModuleList(DecoderStage(spec, level, blocks) for level, blocks in zip(levels, spec.blocks_decoder, strict=True))
        self.heads = nn.ModuleList(CONV[spec.ndim](spec.features[level], spec.outputs, 1) for level in levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, in_channels, *space) → scores, finest first: all decoder resolutions in training mode, else just one.

        Each is (n, outputs, *space / strides so far); no softmax or sigmoid is applied.
        """
        features = self.encoder(x)
        x, scores = features[-1], []
        for position, (stage, head) in enumerate(zip(self.decoder, self.heads, strict=True)):
            x = stage(x, features[-(position + 2)])
            if self.training or position == len(self.decoder) - 1:
                scores.append(head(x))
        return scores[::-1]


def initialise(network: nn.Module) -> None:
    """He initialisation of all convolutions, zero biases; draws from torch's global generator (seed it before).

    Residual blocks start as their shortcut: the last norm's scale is zero. Source: dynamic-network-architectures,
    ``initialization/weight_init.py``.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, a=LEAKINESS)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)
