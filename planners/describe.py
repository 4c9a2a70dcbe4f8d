"""Decisions as people read them: how a network, a spacing or a normalisation is shown in plans and comparisons."""

from math import log2, prod

from autounet.plan import NetworkSpec
from autounet.planners.words import times


def halvings(network: NetworkSpec) -> str:
    """How often each axis is halved: ``3×5×5``."""
    return times([round(log2(prod(stride[axis] for stride in network.strides))) for axis in range(network.ndim)])


def kernels(network: NetworkSpec) -> str:
    """``3×3×3``, or which stages have flatter ones: ``1×3×3 in stages 0 to 1, then 3×3×3``."""
    full = (3,) * network.ndim
    flat = sum(kernel != full for kernel in network.kernel_sizes)
    if not flat:
        return times(full)
    if all(kernel == network.kernel_sizes[0] for kernel in network.kernel_sizes[:flat]):
        return f"{times(network.kernel_sizes[0])} in stage{f's 0 to {flat - 1}' if flat > 1 else ' 0'}, then {times(full)}"
    return ", ".join(times(kernel) for kernel in network.kernel_sizes)


def features(network: NetworkSpec) -> str:
    """Feature maps per stage."""
    return ", ".join(map(str, network.features))


def blocks(network: NetworkSpec) -> str:
    """Convolutions or residual blocks per stage."""
    unit = "residual blocks" if network.kind == "residual" else "convolutions"
    down, up = (", ".join(map(str, numbers)) for numbers in (network.blocks_encoder, network.blocks_decoder))
    return f"{unit} {down} down, convolutions {up} up" if network.kind == "residual" else f"{unit} {down} down, {up} up"


def yes_or_no(value: bool) -> str:
    """A switch."""
    return "yes" if value else "no"
