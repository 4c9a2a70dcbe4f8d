"""What a U-Net costs, counted from its NetworkSpec with integers: nothing is built, nothing is allocated, no torch.

Everything is summed over one list of layers. Counts equal nnU-Net's networks (dynamic-network-architectures 0.4.4,
``PlainConvUNet`` and ``ResidualEncoderUNet``) and, for ``unet2015``, the network of Ronneberger et al. 2015.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from autounet.plan import NetworkSpec


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose result has to be kept for the backward pass."""

    maps: int
    """Feature maps it puts out."""
    voxels: int
    """Of each of them."""
    weights: int
    """Trainable weights, with its bias and the norm behind it."""
    work: int
    """Multiplications and additions of one forward pass, counted as pairs."""
    is_side_head: bool = False
    """A deep supervision head: it exists in training, but nnU-Net's planner does not count it."""


def stage_sizes(spec: NetworkSpec, patch_size: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Size of the feature maps that every encoder stage puts out, finest first, for an input of ``patch_size`` voxels.

    Raises:
        ValueError: Unpadded convolutions leave nothing of a map, or one that cannot be halved.
    """
    sizes: list[tuple[int, ...]] = []
    size = tuple(int(edge) for edge in patch_size)
    for stride, kernel, blocks in zip(spec.strides, spec.kernel_sizes, spec.blocks_encoder, strict=True):
        if spec.kind == "unet2015" and any(edge % step for edge, step in zip(size, stride, strict=True)):
            raise ValueError(f"a feature map of {size} cannot be halved by {stride}")
        size = tuple(edge // step for edge, step in zip(size, stride, strict=True))
        size = _after(spec, size, kernel, blocks)
        sizes.append(size)
    return tuple(sizes)


def output_size(spec: NetworkSpec, patch_size: Sequence[int]) -> tuple[int, ...]:
    """Size of the scores for an input of ``patch_size`` voxels: the same, but smaller by a margin without padding (572 → 388).

    Raises:
        ValueError: Unpadded convolutions leave nothing of a map, or one that cannot be halved.
    """
    sizes = stage_sizes(spec, patch_size)
    return _decoder_sizes(spec, sizes)[-1] if len(sizes) > 1 else sizes[0]


def layers(spec: NetworkSpec, patch_size: Sequence[int]) -> Iterator[Layer]:
    """Every layer of the network, in the order of the forward pass.

    Args:
        spec: The network.
        patch_size: Voxels of the input along each of the network's axes.

    Raises:
        ValueError: The patch does not fit a network without padding.
    """
    sizes = stage_sizes(spec, patch_size)
    norm = 0 if spec.kind == "unet2015" else 2
    inputs, before = spec.in_channels, tuple(patch_size)
    if spec.kind == "residual":
        yield _convolution(inputs, spec.features[0], spec.kernel_sizes[0], prod(before), norm)
        inputs = spec.features[0]
    for features, kernel, blocks, size in zip(spec.features, spec.kernel_sizes, spec.blocks_encoder, sizes, strict=True):
        convolutions = 2 * blocks if spec.kind == "residual" else blocks
        for position in range(convolutions):
            voxels = prod(_after(spec, size, kernel, position + 1 - convolutions))
            yield _convolution(features if position else inputs, features, kernel, voxels, norm)
        if spec.kind == "residual" and inputs != features:
            # The projection of a stage's first skip has no bias.
            yield Layer(features, prod(size), inputs * features + 2 * features, inputs * features * prod(size))
        elif spec.kind == "residual" and size != before:
            yield Layer(features, prod(size), 0, 0)  # a pooled skip: nothing to learn, but nnU-Net counts its map
        inputs, before = features, size
    decoded = _decoder_sizes(spec, sizes)
    for position, convolutions in enumerate(spec.blocks_decoder):
        stage = len(spec.features) - 2 - position
        features, kernel, stride = spec.features[stage], spec.kernel_sizes[stage], spec.strides[stage + 1]
        raised = prod(_after(spec, decoded[position], kernel, -convolutions))
        yield Layer(
            features, raised, inputs * features * prod(stride) + features, inputs * features * raised
        )  # a transposed convolution: each output voxel is reached by one input voxel
        for number in range(convolutions):
            voxels = prod(_after(spec, decoded[position], kernel, number + 1 - convolutions))
            yield _convolution(features if number else 2 * features, features, kernel, voxels, norm)
        voxels = prod(decoded[position])
        if stage == 0 or spec.kind != "unet2015":
            yield Layer(spec.outputs, voxels, (features + 1) * spec.outputs, features * spec.outputs * voxels, is_side_head=stage > 0)
        inputs = features


def activations(spec: NetworkSpec, patch_size: Sequence[int]) -> int:
    """Values that all convolutions put out for one sample: nnU-Net's measure of the memory that training needs.

    Equals ``compute_conv_feature_map_size`` of the network as nnU-Net's planner builds it: without deep supervision, so only
    the head at full resolution counts.

    Args:
        spec: The network.
        patch_size: Voxels of the input along each of the network's axes.
    """
    return sum(layer.maps * layer.voxels for layer in layers(spec, patch_size) if not layer.is_side_head)


def multiply_adds(spec: NetworkSpec, patch_size: Sequence[int]) -> int:
    """Multiplications with additions in the convolutions of one forward pass of one sample, without deep supervision."""
    return sum(layer.work for layer in layers(spec, patch_size) if not layer.is_side_head)


def parameters(spec: NetworkSpec) -> int:
    """Trainable weights, each counted once, with a deep supervision head at every stage of the decoder (``unet2015`` has one head)."""
    # Their number does not depend on the patch; any size will do that every network can halve.
    return sum(layer.weights for layer in layers(spec, _some_size(spec)))


def _convolution(inputs: int, outputs: int, kernel: Sequence[int], voxels: int, norm: int) -> Layer:
    """A convolution with bias, and with ``norm`` numbers per feature map for the norm behind it."""
    pairs = inputs * outputs * prod(kernel)
    return Layer(outputs, voxels, pairs + (1 + norm) * outputs, pairs * voxels)


def _decoder_sizes(spec: NetworkSpec, sizes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Size of the feature maps that every decoder stage puts out, coarsest first."""
    if spec.kind != "unet2015":
        return list(sizes[-2::-1])
    size, found = sizes[-1], []
    for position, convolutions in enumerate(spec.blocks_decoder):
        stage = len(sizes) - 2 - position
        size = tuple(edge * step for edge, step in zip(size, spec.strides[stage + 1], strict=True))
        size = _after(spec, size, spec.kernel_sizes[stage], convolutions)
        found.append(size)
    return found


def _after(spec: NetworkSpec, size: Sequence[int], kernel: Sequence[int], convolutions: int) -> tuple[int, ...]:
    """Size of a map after some convolutions, or before them where the number is negative."""
    if spec.kind != "unet2015":
        return tuple(size)
    left = tuple(edge - convolutions * (width - 1) for edge, width in zip(size, kernel, strict=True))
    if min(left) < 1:
        raise ValueError(f"nothing is left of a feature map of {tuple(size)} after {convolutions} convolutions")
    return left


def _some_size(spec: NetworkSpec) -> tuple[int, ...]:
    """A patch that fits: grown from the smallest bottom, one stage at a time."""
    size = (2,) * spec.ndim
    for stage in range(len(spec.features) - 1, -1, -1):
        size = _after(spec, size, spec.kernel_sizes[stage], -spec.blocks_encoder[stage])
        size = tuple(edge * step for edge, step in zip(size, spec.strides[stage], strict=True))
    while True:
        try:
            output_size(spec, size)
        except ValueError:
            size = tuple(edge + prod(stride[axis] for stride in spec.strides) for axis, edge in enumerate(size))
        else:
            return size
