"""Patch of the U-Net of 2015: convolutions without padding, so that only some input sizes work and the output is smaller.

Source: Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597): the input tile must let every pooling halve an even size, large tiles
are better than a large batch, and the tile is 572 pixels wide at most.
"""

from collections.abc import Sequence

from autounet.errors import UsageError
from autounet.networks.cost import activations, output_size
from autounet.plan import NetworkSpec
from autounet.planners.budget import Budget, FittedPatch, features_per_stage, repeated, too_little_memory
from autounet.planners.topology import Topology
from autounet.planners.words import large, percent, times
from autounet.preset import Unpadded


def unpadded_network(budget: Budget, size: Unpadded, in_channels: int, outputs: int) -> NetworkSpec:
    """The network; its input may have any size that ``edges`` names."""
    stages = size.stages
    return NetworkSpec(
        kind="unet2015",
        ndim=2,
        in_channels=in_channels,
        outputs=outputs,
        features=features_per_stage(budget.preset.features, budget.target.max_features, stages),
        strides=((1, 1), *[(2, 2)] * (stages - 1)),
        kernel_sizes=((3, 3),) * stages,
        blocks_encoder=repeated(budget.preset.blocks_encoder, stages),
        blocks_decoder=repeated(budget.preset.blocks_decoder, stages - 1),
    )


def edges(network: NetworkSpec, longest: int) -> dict[int, int]:
    """Edges of an input that the network can take, ascending, each with the edge of its output."""
    found = {}
    for edge in range(1, longest + 1):
        try:
            found[edge] = output_size(network, (edge, edge))[0]
        except ValueError:
            continue
    return found


def fit_unpadded_patch(median_shape: Sequence[float], budget: Budget, size: Unpadded, in_channels: int, outputs: int) -> FittedPatch:
    """The largest input that fits into memory, no wider than its output needs to be for a typical image.

    Args:
        median_shape: Size of the typical image.
        budget: What fits.
        size: Of the network.
        in_channels: Channels of the images.
        outputs: Outputs to reckon with.

    Raises:
        UsageError: Not even the smallest input fits, or no input suits the network.
    """
    network = unpadded_network(budget, size, in_channels, outputs)
    allowed = edges(network, size.edge)
    if not allowed:
        raise UsageError(
            f"preset '{budget.preset.name}': no input of up to {size.edge} pixels survives {size.stages} stages without padding",
            remedy="give it a longer 'edge', fewer 'stages' or fewer convolutions per stage",
        )
    enough = [next((edge for edge, out in allowed.items() if out >= extent), max(allowed)) for extent in median_shape]
    patch = shrink_unpadded(network, enough, list(allowed), budget, budget.target.patch_batch)
    shrunk = list(patch) != enough
    why = f"as much as fits into {budget.gpu_memory_gb:g} GB" if shrunk else "large tiles see more context than a large batch"
    return describe_unpadded(network, patch, budget, median_shape, shrunk, why)


def shrink_unpadded(network: NetworkSpec, patch: Sequence[int], allowed: Sequence[int], budget: Budget, batch: int) -> tuple[int, ...]:
    """The patch, or the largest smaller one of which ``batch`` fit: the longer edge gives way first. Raises DoesNotFit.

    Args:
        network: The network.
        patch: Where to begin.
        allowed: Edges that the network can take, ascending.
        budget: What fits.
        batch: So many must fit.
    """
    left = list(patch)
    while budget.share(activations(network, left), batch) > 1:
        axis = max(range(2), key=lambda candidate: (left[candidate], candidate))
        smaller = [edge for edge in allowed if edge < left[axis]]
        if not smaller:
            raise too_little_memory(budget, activations(network, left), batch, left)
        left[axis] = smaller[-1]
    return tuple(left)


def describe_unpadded(
    network: NetworkSpec, patch: Sequence[int], budget: Budget, median_shape: Sequence[float], shrunk: bool, why: str
) -> FittedPatch:
    """A patch that the network can take, with its cost and the reason for it."""
    multiple = 2 ** (len(network.features) - 1)
    skeleton = Topology(tuple(patch), network.strides, network.kernel_sizes, (multiple, multiple))
    out, features = output_size(network, patch), activations(network, patch)
    seen = percent(min(1.0, out[0] * out[1] / (median_shape[0] * median_shape[1])))
    reason = (
        f"without padding {times(patch)} pixels in give {times(out)} out, {seen} of a typical image of {times(median_shape)}; "
        f"{why} ({large(features)} activations)"
    )
    return FittedPatch(skeleton, network, features, shrunk, reason)
