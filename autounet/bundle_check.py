"""Whether the parts of a bundle belong together and can be carried out: found out before anything is made of them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from autounet.archive import shown
from autounet.errors import ArtefactError
from autounet.geometry import LARGEST_MM, SMALLEST_MM
from autounet.networks.check import fault_of, tensors_of
from autounet.plan import Plan
from autounet.postprocessing import MOST_STEPS, Postprocessing

REMEDY = "do not use this file; ask for it again where it came from"
LARGEST_LABEL = 2**31 - 1


def faults_of_plan(plan: Plan) -> Iterator[str]:
    """What is wrong with a plan to predict with, in words; each fault may follow from the one before."""
    if sorted(plan.transpose) != [0, 1, 2]:
        yield f"axes in the order {plan.transpose}"
    words = (plan.dataset, *plan.channels, *plan.labels.names, plan.labels.background_name, plan.file_ending)
    if not all(word.isprintable() and len(word) <= 500 for word in words):
        yield "names that cannot be shown"
    if max(*plan.labels.allowed_values, *plan.labels.paint_order) > LARGEST_LABEL or min(plan.labels.paint_order, default=0) < 0:
        yield "label values that no label map can hold"
    for key, configuration in plan.configurations.items():
        network, before = configuration.network, configuration.previous_stage
        if (fault := fault_of(configuration)) is not None:
            yield f"{key}: {fault}"
        if configuration.name != key:
            yield f"{key} under another name, {shown(configuration.name)}"
        if any(scheme.lower > scheme.upper or scheme.std < 0 for scheme in configuration.normalization):
            yield f"{key}: a normalisation that cannot be carried out"
        if not all(SMALLEST_MM <= spacing <= LARGEST_MM for spacing in configuration.spacing_mm):
            yield f"{key}: a spacing of {configuration.spacing_mm}"
        # A second stage sees the labels of the first; a third there is none.
        if before is not None and (before not in plan.configurations or plan.configurations[before].previous_stage is not None):
            yield f"{key}, which needs {shown(before)}; that is not there or no first stage"
        inputs = len(plan.channels) + (0 if before is None else len(plan.labels.foreground_values))
        found = (network.in_channels, network.outputs, len(configuration.normalization))
        if found != (inputs, plan.labels.outputs, len(plan.channels)):
            yield f"{key}: a network that does not fit its channels and labels"


def fault_of_postprocessing(postprocessing: Postprocessing, plan: Plan) -> str | None:
    """What is wrong with the steps, in words."""
    if len(postprocessing.steps) > MOST_STEPS:
        return f"{len(postprocessing.steps)} steps, more than {MOST_STEPS}"
    known = {*plan.labels.foreground_values, *plan.labels.paint_order}  # a region may be painted with a value that is no label
    unknown = {value for step in postprocessing.steps for value in step.values} - known
    return f"label values that the plan does not have: {sorted(unknown)[:5]}" if unknown else None


def check_weights(state: dict[str, Tensor], plan: Plan, configuration: str, what: str) -> None:
    """Raises ArtefactError unless the tensors are those of the network in the plan, by name, shape and number format, and finite."""
    if configuration not in plan.configurations:
        raise ArtefactError(f"{what}: not in the plan", found=configuration, expected=", ".join(plan.configurations))
    if (fault := fault_of(plan.configurations[configuration])) is not None:
        raise ArtefactError(f"{what}: the plan cannot be carried out", found=fault, remedy=REMEDY)
    expected = tensors_of(plan.configurations[configuration].network)
    other = f"{what}: weights do not fit the plan's network"
    if odd := sorted(state.keys() ^ expected.keys()):
        raise ArtefactError(other, found=f"{'no' if odd[0] in expected else 'a'} tensor {shown(odd[0])}", remedy=REMEDY)
    for name, tensor in state.items():
        found, wanted = (f"{tuple(one.shape)} {str(one.dtype).removeprefix('torch.')}" for one in (tensor, expected[name]))
        if found != wanted:
            raise ArtefactError(other, found=f"{name} {found}", expected=wanted, remedy=REMEDY)
        if not torch.isfinite(tensor).all():
            raise ArtefactError(f"{what}: {name} holds NaN or infinity", remedy="train it again; nothing can be predicted with it")
