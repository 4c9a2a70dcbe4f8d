"""Whether a network that somebody else's file describes can be built and run, found out before anything is allocated."""

from math import prod

import torch
from torch import Tensor

from autounet.networks.build import KINDS
from autounet.networks.cost import output_size, parameters
from autounet.plan import Configuration, NetworkSpec

MOST_STAGES = 20
MOST_BLOCKS = 100
"""Per stage."""
MOST_FEATURES = 100_000
LARGEST_KERNEL = 31
LARGEST_STRIDE = 64
MOST_PARAMETERS = 10**10
MOST_PATCH_VOXELS = 2**28


def fault_of(configuration: Configuration) -> str | None:
    """What is wrong with a configuration's network and patch, in words; None where it can be built and run."""
    spec, patch = configuration.network, configuration.patch_size
    fault = _lengths(spec) or _numbers(spec)
    if fault is not None:
        return fault
    if parameters(spec) > MOST_PARAMETERS:
        return f"a network of {parameters(spec)} parameters, more than {MOST_PARAMETERS}"
    if len(patch) != spec.ndim or min(patch) < 1 or prod(patch) > MOST_PATCH_VOXELS:
        return f"a patch of {patch} for a network of {spec.ndim} axes"
    mirrored = configuration.mirror_axes
    if len(configuration.spacing_mm) != spec.ndim or not set(range(spec.ndim)) >= set(mirrored) or len(set(mirrored)) < len(mirrored):
        return f"spacing {configuration.spacing_mm} or mirror axes {configuration.mirror_axes} for a network of {spec.ndim} axes"
    return _patch(spec, patch)


def tensors_of(spec: NetworkSpec) -> dict[str, Tensor]:
    """Names, shapes and number formats of a network's tensors, none of which has memory."""
    make, _ = KINDS[spec.kind]
    with torch.device("meta"):
        return make(spec).state_dict()


def _lengths(spec: NetworkSpec) -> str | None:
    stages = len(spec.features)
    if not 1 < stages <= MOST_STAGES:
        return f"a network of {stages} stages"
    for name in ("strides", "kernel_sizes", "blocks_encoder"):
        if len(getattr(spec, name)) != stages:
            return f"{len(getattr(spec, name))} {name} for {stages} stages"
    if len(spec.blocks_decoder) != stages - 1:
        return f"{len(spec.blocks_decoder)} blocks_decoder for {stages} stages"
    if any(len(row) != spec.ndim for row in (*spec.strides, *spec.kernel_sizes)):
        return f"strides or kernels of other than {spec.ndim} axes"
    return None


def _numbers(spec: NetworkSpec) -> str | None:
    for name, values, most in (
        ("features", (*spec.features, spec.in_channels, spec.outputs), MOST_FEATURES),
        ("blocks", (*spec.blocks_encoder, *spec.blocks_decoder), MOST_BLOCKS),
        ("kernel_sizes", [edge for row in spec.kernel_sizes for edge in row], LARGEST_KERNEL),
        ("strides", [step for row in spec.strides for step in row], LARGEST_STRIDE),
    ):
        if min(values) < 1 or max(values) > most:
            return f"{name} beyond 1 to {most}"
    if any(edge % 2 == 0 for row in spec.kernel_sizes for edge in row):
        return "kernels of even size"
    if set(spec.strides[0]) != {1}:
        return "a first stage that is not at full resolution"
    return None


def _patch(spec: NetworkSpec, patch: tuple[int, ...]) -> str | None:
    total = [prod(stride[axis] for stride in spec.strides) for axis in range(spec.ndim)]
    if spec.kind == "unet2015":
        try:
            output_size(spec, patch)
        except ValueError as error:
            return f"a patch of {patch}: {error}"
    elif any(edge % step for edge, step in zip(patch, total, strict=True)):
        return f"a patch of {patch}, which strides of {tuple(total)} in all do not divide"
    elif list(patch) == total:
        return f"a patch of {patch}, of which strides of {tuple(total)} leave a single voxel"
    return None
