"""What the user decides instead of the rules: checked, and refused with the nearest choice that works."""

import math
from collections.abc import Callable, Sequence
from itertools import product

from autounet.errors import UsageError
from autounet.networks.cost import activations, output_size, parameters
from autounet.plan import NetworkSpec
from autounet.planners.budget import FEWEST_VOXELS, Budget, DoesNotFit, FittedPatch, fit_patch, network_for
from autounet.planners.topology import Topology, topology
from autounet.planners.unpadded import describe_unpadded, edges, fit_unpadded_patch, shrink_unpadded, unpadded_network
from autounet.planners.words import at_least, large, percent, times
from autounet.preset import Unpadded

LONGEST_UNPADDED = 4096
"""Up to here the nearest input without padding is looked for."""

BYTES_PER_WEIGHT = 12
"""A weight, its gradient and its momentum, in 32 bits each."""

FEWEST_PIXELS = 32**2
"""A planar patch that was shrunk for the sake of the batch keeps so many."""

LARGEST_PATCH = 2**31
"""Voxels: beyond all memory, and beyond what indices of 32 bits can count."""


def chosen_patch(
    name: str,
    wanted: tuple[int, ...],
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    budget: Budget,
    in_channels: int,
    outputs: int,
    batch: int,
) -> FittedPatch:
    """The patch that was asked for, with its network.

    Args:
        name: The configuration.
        wanted: Its patch, in the network's axis order.
        spacing_mm: Target spacing.
        median_shape: Size of the typical image.
        budget: What fits.
        in_channels: Channels of the images.
        outputs: Outputs to reckon with.
        batch: So many patches must fit.

    Raises:
        UsageError: The network cannot take it or it does not fit into memory; the message names the nearest that can and does.
    """
    if math.prod(wanted) > LARGEST_PATCH:
        raise UsageError(f"patch size {times(wanted)} of {name}", expected=f"at most {LARGEST_PATCH} voxels in all")
    if budget.preset.unpadded is not None:
        return _chosen_unpadded(name, wanted, median_shape, budget, budget.preset.unpadded, in_channels, outputs)
    nearest = _nearest_skeleton(wanted, spacing_mm, budget.preset.min_edge)
    network = network_for(nearest, budget.preset, budget.target, in_channels, outputs)
    features, size = activations(network, nearest.patch_size), nearest.patch_size
    if budget.share(features, batch) > 1:
        smaller = fit_patch(spacing_mm, size, budget, in_channels, outputs, batch=batch, start=size).topology.patch_size
        if size == wanted:
            raise _too_large(name, wanted, features, batch, budget, smaller)
        size = smaller
    if size != wanted:
        halvings = times(tuple(multiple.bit_length() - 1 for multiple in nearest.multiple_of))
        raise _refused(name, wanted, f"sizes that cannot be halved evenly, {halvings} times", size)
    covered = percent(min(1.0, math.prod(wanted) / math.prod(median_shape)))
    part = percent(budget.share(features, 1))
    reason = f"{large(features)} activations, {part} of {budget.gpu_memory_gb:g} GB; covers {covered} of a typical image"
    return FittedPatch(nearest, network, features, False, reason)


def patch_for_batch(
    name: str, wanted: int, spacing_mm: Sequence[float], median_shape: Sequence[float], budget: Budget, in_channels: int, outputs: int
) -> FittedPatch:
    """The largest patch of which as many fit as were asked for.

    Raises:
        UsageError: So many patches would be too small to see anything; the message names the nearest batch size that works.
    """

    def fitted(batch: int) -> FittedPatch | None:
        try:
            patch = fit_patch(spacing_mm, median_shape, budget, in_channels, outputs, batch=batch)
        except UsageError:
            return None
        least = FEWEST_VOXELS if len(spacing_mm) == 3 else FEWEST_PIXELS
        return patch if not patch.shrunk or math.prod(patch.topology.patch_size) >= least else None

    found = fitted(wanted)
    if found is not None or wanted <= budget.target.patch_batch:
        return found or fit_patch(spacing_mm, median_shape, budget, in_channels, outputs)
    most, too_many = 1, wanted
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (most, middle) if fitted(middle) is None else (middle, too_many)
    raise UsageError(
        f"batch size {wanted} of {name} does not fit into {budget.gpu_memory_gb:g} GB with patches that see anything",
        expected=f"at most {most}, the nearest that can",
        remedy=f"--batch-size {name}={most}, or more --gpu-memory",
    )


def chosen_batch(name: str, wanted: int, patch: FittedPatch, budget: Budget) -> tuple[int, str]:
    """The batch size that was asked for, and what is to be said of it. Raises UsageError when it does not fit into memory."""
    fits = int(budget.features * budget.target.batch / patch.features)
    if wanted > fits:
        need = at_least(budget.memory_gb(patch.features, wanted))
        raise UsageError(
            f"batch size {wanted} of {name} does not fit into {budget.gpu_memory_gb:g} GB",
            found=f"{large(patch.features)} activations for each patch of {times(patch.topology.patch_size)}",
            expected=f"at most {max(fits, 1)}, the nearest that fits" if fits else "a smaller patch",
            remedy=f"--batch-size {name}={max(fits, 1)}, a smaller --patch-size, or --gpu-memory {need}",
        )
    return wanted, f"{fits} would fit into {budget.gpu_memory_gb:g} GB"


def nearest_that_works(
    values: Sequence[float], works: Callable[[tuple[float, ...]], bool], directions: Sequence[int] = (1, -1)
) -> tuple[float, ...] | None:
    """The values, all multiplied by about the factor nearest to 1 with which they work; None where up to a billionfold none does.

    Args:
        values: What does not work.
        works: Whether others do.
        directions: 1 to look for larger values, -1 for smaller ones.
    """

    def scaled(exponent: float) -> tuple[float, ...]:
        return tuple(float(f"{value * 2**exponent:.3g}") for value in values)

    for octave in range(1, 31):
        for sign in directions:
            if works(scaled(sign * octave)):
                near, far = sign * (octave - 1.0), sign * float(octave)
                while abs(far - near) > 0.03:
                    middle = (near + far) / 2
                    near, far = (near, middle) if works(scaled(middle)) else (middle, far)
                return scaled(far)
    return None


def check_weights(network: NetworkSpec, memory_gb: float) -> None:
    """Raises DoesNotFit when weights, gradients and momentum alone exceed the memory: nnU-Net's measure counts activations only."""
    needed = BYTES_PER_WEIGHT * parameters(network) / 1e9
    if needed > memory_gb:
        raise DoesNotFit(
            f"a network with {large(parameters(network))} weights cannot be trained in {memory_gb:g} GB",
            found=f"{needed:.3g} GB for weights, gradients and momentum",
            remedy=f"ask for fewer features, or for more than {at_least(needed)} GB",
        )


def _chosen_unpadded(
    name: str, wanted: tuple[int, ...], median_shape: Sequence[float], budget: Budget, size: Unpadded, in_channels: int, outputs: int
) -> FittedPatch:
    network = unpadded_network(budget, size, in_channels, outputs)
    try:
        output_size(network, wanted)
    except ValueError:
        allowed = edges(network, max(min(max(wanted), LONGEST_UNPADDED) + 2 ** len(network.features), size.edge))
        if not allowed:
            fit_unpadded_patch(median_shape, budget, size, in_channels, outputs)  # says so
        nearest = tuple(min(allowed, key=lambda edge: (abs(edge - asked), edge)) for asked in wanted)
        nearest = shrink_unpadded(network, nearest, list(allowed), budget, 1)
        raise _refused(name, wanted, "without padding some feature map has an odd size or vanishes", nearest) from None
    features = activations(network, wanted)
    if budget.share(features, 1) > 1:
        smaller = shrink_unpadded(network, wanted, list(edges(network, min(max(wanted), LONGEST_UNPADDED))), budget, 1)
        raise _too_large(name, wanted, features, 1, budget, smaller)
    return describe_unpadded(network, wanted, budget, median_shape, False, "as asked for")


def _nearest_skeleton(wanted: tuple[int, ...], spacing_mm: Sequence[float], min_edge: int) -> Topology:
    """The skeleton of a patch of this size or, where it cannot be halved evenly or at all, of the nearest size that can."""
    above = topology(spacing_mm, wanted, min_edge)
    if above.patch_size == wanted and above.stages > 1:
        return above
    sides = [
        {max(edge, min_edge) for edge in (wish, _even_below(wanted, axis, spacing_mm, min_edge), high, 2 * min_edge, 3 * min_edge)}
        for axis, (wish, high) in enumerate(zip(wanted, above.patch_size, strict=True))
    ]
    candidates = {topology(spacing_mm, size, min_edge) for size in product(*sides)}

    def distance(candidate: Topology) -> tuple[int, int, tuple[int, ...]]:
        size = candidate.patch_size
        return sum(abs(edge - wish) for edge, wish in zip(size, wanted, strict=True)), max(size), size

    return min((candidate for candidate in candidates if candidate.stages > 1), key=distance)


def _even_below(wanted: tuple[int, ...], axis: int, spacing_mm: Sequence[float], min_edge: int) -> int:
    """The largest edge up to the wanted one that its own halvings divide: a shorter one is halved as often or less."""
    trial, even = list(wanted), []
    multiple = topology(spacing_mm, wanted, min_edge).multiple_of[axis]
    while multiple:
        trial[axis] = edge = wanted[axis] // multiple * multiple
        if edge and topology(spacing_mm, trial, min_edge).patch_size[axis] == edge:
            even.append(edge)
        multiple //= 2
    return max(even, default=1)


def _refused(name: str, wanted: Sequence[int], found: str, nearest: Sequence[int]) -> UsageError:
    flag = ",".join(map(str, nearest))
    return UsageError(
        f"patch size {times(wanted)} of {name} cannot work",
        found=found,
        expected=f"{times(nearest)}, the nearest that can",
        remedy=f"--patch-size {name}={flag}",
    )


def _too_large(name: str, wanted: Sequence[int], features: int, batch: int, budget: Budget, nearest: Sequence[int]) -> UsageError:
    need = at_least(budget.memory_gb(features, batch))
    return UsageError(
        f"patch size {times(wanted)} of {name} does not fit {'' if batch == 1 else f'{batch} times '}into {budget.gpu_memory_gb:g} GB",
        found=f"{large(features)} activations each",
        expected=f"{times(nearest)}, the nearest that fits",
        remedy=f"--patch-size {name}={','.join(map(str, nearest))}, --gpu-memory {need}, or fewer --features",
    )
