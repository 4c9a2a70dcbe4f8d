"""What a U-Net costs, counted from its NetworkSpec with integers: nothing is built, nothing is allocated, no torch.

Both counts equal nnU-Net's networks (dynamic-network-architectures 0.4.4, ``PlainConvUNet`` and ``ResidualEncoderUNet``).
"""

from collections.abc import Sequence
from math import prod

from autounet.plan import NetworkSpec


def stage_sizes(spec: NetworkSpec, patch_size: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Size of the feature maps of every stage, finest first, for an input of ``patch_size`` voxels."""
    sizes: list[tuple[int, ...]] = []
    size = tuple(int(edge) for edge in patch_size)
    for stride in spec.strides:
        size = tuple(edge // step for edge, step in zip(size, stride, strict=True))
        sizes.append(size)
    return tuple(sizes)


def activations(spec: NetworkSpec, patch_size: Sequence[int]) -> int:
    """Values that all convolutions put out for one sample: nnU-Net's measure of the memory that training needs.

    Equals ``compute_conv_feature_map_size`` of the network as nnU-Net's planner builds it: without deep supervision, so only
    the head at full resolution counts.

    Args:
        spec: The network.
        patch_size: Voxels of the input along each of the network's axes.
    """
    sizes = stage_sizes(spec, patch_size)
    maps = [features * prod(size) for features, size in zip(spec.features, sizes, strict=True)]
    if spec.kind == "plain":
        total = sum(convolutions * size for convolutions, size in zip(spec.blocks_encoder, maps, strict=True))
    else:
        total = spec.features[0] * prod(patch_size)
        before = tuple(patch_size)
        features_before = spec.features[0]
        for features, blocks, size, values in zip(spec.features, spec.blocks_encoder, sizes, maps, strict=True):
            # The skip of a stage's first block counts when it changes anything, be it only the size.
            total += (2 * blocks + (features != features_before or size != before)) * values
            before, features_before = size, features
    for convolutions, values in zip(spec.blocks_decoder, maps[-2::-1], strict=True):
        total += (convolutions + 1) * values
    if len(maps) > 1:
        total += spec.outputs * prod(sizes[0])
    return total


def parameters(spec: NetworkSpec) -> int:
    """Trainable weights, each counted once, with a deep supervision head at every stage of the decoder.

    Convolutions have a bias (but not the projections on residual skips), instance norms a scale and a shift,
    transposed convolutions a bias.
    """
    total = 0
    inputs = spec.in_channels
    if spec.kind == "residual":
        total += _convolution(inputs, spec.features[0], spec.kernel_sizes[0])
        inputs = spec.features[0]
    for features, kernel, blocks in zip(spec.features, spec.kernel_sizes, spec.blocks_encoder, strict=True):
        convolutions = blocks if spec.kind == "plain" else 2 * blocks
        total += _convolution(inputs, features, kernel) + (convolutions - 1) * _convolution(features, features, kernel)
        if spec.kind == "residual" and inputs != features:
            total += inputs * features + 2 * features
        inputs = features
    for position, convolutions in enumerate(spec.blocks_decoder):
        stage = len(spec.features) - 2 - position
        below, features, kernel = spec.features[stage + 1], spec.features[stage], spec.kernel_sizes[stage]
        total += below * features * prod(spec.strides[stage + 1]) + features
        total += _convolution(2 * features, features, kernel) + (convolutions - 1) * _convolution(features, features, kernel)
        total += features * spec.outputs + spec.outputs
    return total


def _convolution(inputs: int, outputs: int, kernel: Sequence[int]) -> int:
    """Weights and bias of a convolution, scale and shift of the instance norm behind it."""
    return inputs * outputs * prod(kernel) + outputs + 2 * outputs
