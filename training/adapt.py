"""Weights of one trained network as the beginning of another: of other channels, classes, kernels or depth.

What both networks have is taken as it is. What differs is carried over so that the new network computes, as far as it can, what the
old one did; the rest keeps its fresh weights. Stages are counted from the finest, which is where two networks of other depth agree.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autounet.errors import UsageError
from autounet.labels import LabelSpec
from autounet.plan import Configuration, NetworkSpec
from autounet.preset import NetworkKind

KINDS_IN_WORDS: dict[NetworkKind, str] = {
    "plain": "a plain U-Net",
    "residual": "a U-Net with a residual encoder",
    "unet2015": "the U-Net of 2015",
}

FIRST_LAYER: dict[NetworkKind, str] = {"plain": "encoder.stages.0.0", "residual": "encoder.stem", "unet2015": "encoder.0.convs.0"}
"""The layer that sees the image."""

LAYER = re.compile(r"(.+?)(?:\.conv|\.norm)?\.(?:weight|bias)")
"""A convolution and its norm are one layer: neither is of use without the other."""

SAME_SPACING = 0.1
"""Spacings that differ by less than this share are not spoken of."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the numbers of a network mean."""

    configuration: Configuration
    labels: LabelSpec
    inputs: tuple[str, ...]
    """Names of the network's input channels, in order."""

    @property
    def spec(self) -> NetworkSpec:
        """The network in numbers."""
        return self.configuration.network


def adapt_weights(
    source: Mapping[str, Tensor], source_terms: Terms, target_terms: Terms, fresh: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Pretrained weights for a new training.

    Input channels of the same name keep their filters, and new ones begin at zero, so that they change nothing at first. Where no name
    is known, channels are matched by position if there are as many; else each gets an equal share of the sum of all filters, which is
    what the old network computes of an image that is given in every channel. Outputs of the same class keep their filters at every
    resolution. Kernels that grow are put into the middle of zeros, kernels that shrink are summed up; up-convolutions are repeated or
    averaged. Layers of other width, further stages and further blocks stay fresh.

    Args:
        source: All tensors of the trained network, by name.
        source_terms: What they were trained for.
        target_terms: What is to be trained.
        fresh: All tensors of the new network, freshly drawn.

    Returns:
        All tensors of the new network, and what was done in plain sentences.

    Raises:
        UsageError: The networks have nothing in common that would help: another kind, 2D and 3D, or another width from the first layer on.
    """
    old, new = source_terms.spec, target_terms.spec
    _refuse_other_kinds(old, new)
    shares, channel_notes = _match_inputs(source_terms.inputs, target_terms.inputs)
    outputs, class_notes = _match_outputs(source_terms, target_terms)
    weights, taken, first = dict(fresh), 0, FIRST_LAYER[new.kind]
    for layer, names in _layers(fresh).items():
        fitting: dict[str, Tensor] = {}
        for name in names:
            tensor, drawn = source.get(_name_in_source(name, new, old)), fresh[name]
            if tensor is not None and layer == first and tensor.ndim > 1:
                tensor = torch.einsum("oi...,ni->on...", tensor, shares)
            if tensor is not None and layer.startswith("head"):
                tensor = _picked(tensor, outputs, drawn)
            tensor = None if tensor is None else _reshaped(tensor, drawn, transposed=layer.endswith(".up") or layer.startswith("ups."))
            if tensor is not None:
                fitting[name] = tensor.to(drawn.dtype)
        if len(fitting) == len(names):
            weights |= fitting
            taken += sum(tensor.numel() for tensor in fitting.values())
        elif layer == first:
            raise UsageError(
                "the pretrained weights do not fit from the first layer on",
                found=f"{old.features[0]} feature maps in it",
                expected=f"{new.features[0]}, as in the plan",
                remedy=f"plan with --features {','.join(map(str, old.features))}, or begin from another model",
            )
    share = taken / sum(tensor.numel() for tensor in fresh.values())
    summary = f"{100 * share:.1f} % of the network's numbers come from the pretrained weights"
    return weights, [summary, *channel_notes, *class_notes, *_notes_of_stages(old, new), *_notes_of_images(source_terms, target_terms)]


def _refuse_other_kinds(old: NetworkSpec, new: NetworkSpec) -> None:
    if old.ndim != new.ndim:
        raise UsageError(
            "the pretrained weights are of a network with other axes",
            found=f"{old.ndim}D",
            expected=f"{new.ndim}D, as the configuration that is to be trained",
            remedy=f"train a {old.ndim}D configuration with -c, or begin from another model",
        )
    if old.kind != new.kind:
        raise UsageError(
            "the pretrained weights are of another kind of network",
            found=KINDS_IN_WORDS[old.kind],
            expected=f"{KINDS_IN_WORDS[new.kind]}, as in the plan",
            remedy="plan with the preset that the model was trained with, or begin from another model",
        )


def _layers(weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Names of the tensors of each layer."""
    layers: dict[str, list[str]] = {}
    for name in weights:
        found = LAYER.fullmatch(name)
        layers.setdefault(name if found is None else found[1], []).append(name)
    return layers


def _name_in_source(name: str, new: NetworkSpec, old: NetworkSpec) -> str:
    """What the tensor of the same resolution is called in the other network: decoders are counted from the coarsest stage."""
    part, position, *rest = name.split(".")
    if part not in ("decoder", "heads", "ups"):
        return name
    return ".".join((part, str(int(position) + len(old.features) - len(new.features)), *rest))


def _reshaped(tensor: Tensor, drawn: Tensor, transposed: bool) -> Tensor | None:
    """A tensor with the kernel of another; None where they differ in more than that."""
    if tensor.shape == drawn.shape:
        return tensor
    if tensor.ndim != drawn.ndim or tensor.shape[:2] != drawn.shape[:2]:
        return None
    kernel = drawn.shape[2:]
    return _repeated(tensor, kernel) if transposed else _centred(tensor, kernel)


def _centred(weight: Tensor, kernel: Sequence[int]) -> Tensor:
    """(out, in, *kernel) of odd sizes → other odd sizes, middle on middle; what is beyond the new edge is added to it.

    Growing changes no output. Shrinking changes none where the image is the same along that axis.
    """
    for axis, size in enumerate(kernel, start=2):
        place = torch.arange(weight.shape[axis]) - weight.shape[axis] // 2 + size // 2
        shape = [*weight.shape[:axis], size, *weight.shape[axis + 1 :]]
        weight = weight.new_zeros(shape).index_add(axis, place.clamp(0, size - 1), weight)
    return weight


def _repeated(weight: Tensor, kernel: Sequence[int]) -> Tensor:
    """(in, out, *kernel) of an up-convolution, whose kernel is its stride: every new voxel is the mean of the old ones in its place."""
    pool = nn.AdaptiveAvgPool3d if len(kernel) == 3 else nn.AdaptiveAvgPool2d
    means: Tensor = pool(tuple(kernel))(weight)
    return means


def _picked(tensor: Tensor, outputs: Sequence[int | None], drawn: Tensor) -> Tensor | None:
    """Weights or biases of a head with the outputs that are known; the others as drawn. None where all are new."""
    if tensor.shape[1:] != drawn.shape[1:] or all(index is None for index in outputs):
        return None
    return torch.stack([row if index is None else tensor[index] for row, index in zip(drawn, outputs, strict=True)])


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[int | None]:
    """For each new name the position of the same old one, in upper or lower case; one that comes twice is taken in order."""
    free = [name.strip().casefold() for name in old]
    found: list[int | None] = []
    for name in new:
        key = name.strip().casefold()
        found.append(free.index(key) if key in free else None)
        if found[-1] is not None:
            free[found[-1]] = "\0"  # taken
    return found


def _match_inputs(old: Sequence[str], new: Sequence[str]) -> tuple[Tensor, list[str]]:
    """How much of each old channel's filters each new channel gets, (new, old), and that in words."""
    pairs = _pairs(old, new)
    if all(pair is None for pair in pairs) and len(old) == len(new):
        taken = ", ".join(f"'{name}' from '{before}'" for name, before in zip(new, old, strict=True))
        return torch.eye(len(new)), [f"first layer: no channel has a known name, so they are matched by position: {taken}"]
    if all(pair is None for pair in pairs):
        filters = f"the filters of {_list(old)}" if len(old) == 1 else f"the sum of the filters of {_list(old)}"
        words = f"{_list(new)} gets {filters}" if len(new) == 1 else f"each of {_list(new)} gets 1/{len(new)} of {filters}"
        return torch.full((len(new), len(old)), 1 / len(new)), [f"first layer: no channel has a known name: {words}"]
    shares = torch.zeros(len(new), len(old))
    words_of_each = []
    for row, (name, pair) in enumerate(zip(new, pairs, strict=True)):
        if pair is not None:
            shares[row, pair] = 1
        words_of_each.append(f"'{name}' is new and begins at zero" if pair is None else f"'{name}' is taken from '{old[pair]}'")
    words_of_each += [f"'{name}' of the pretrained network is left out" for position, name in enumerate(old) if position not in pairs]
    changed = pairs != list(range(len(old)))
    return shares, [f"first layer: channel {', '.join(words_of_each)}"] if changed else []


def _match_outputs(source: Terms, target: Terms) -> tuple[list[int | None], list[str]]:
    """For each new output the old one that goes on in it, or None, and that in words."""
    fresh: list[int | None] = [None] * len(target.labels.output_names)
    if source.labels.overlapping != target.labels.overlapping:
        ways = {True: "overlapping regions", False: "classes that exclude each other"}
        old, new = ways[source.labels.overlapping], ways[target.labels.overlapping]
        return fresh, [f"heads: new, since the pretrained network has {old} and this one {new}"]
    classes = _pairs(source.labels.names, target.labels.names)
    known = [name for name, pair in zip(target.labels.names, classes, strict=True) if pair is not None]
    if not known:
        return fresh, [f"heads: new, since no class has a known name (pretrained: {', '.join(source.labels.names)})"]
    shift = len(source.labels.output_names) - len(source.labels.names)  # 1 for the background
    outputs = [*range(shift), *(None if pair is None else pair + shift for pair in classes)]
    added = [name for name in target.labels.names if name not in known]
    gone = [name for position, name in enumerate(source.labels.names) if position not in classes]
    groups = [f"{_list(names)} {word}" for names, word in ((known, "kept"), (added, "new"), (gone, "left out")) if names]
    return outputs, [f"heads: {', '.join(groups)}"] if added or gone else []


def _list(names: Sequence[str]) -> str:
    """Names in quotes."""
    return ", ".join(f"'{name}'" for name in names)


def _size(values: Sequence[float]) -> str:
    return "×".join(f"{value:g}" for value in values)


def _notes_of_stages(old: NetworkSpec, new: NetworkSpec) -> Iterator[str]:
    """Where the networks differ, stage by stage from the finest, which is stage 1."""
    shared = min(len(old.features), len(new.features))
    if len(new.features) > shared:
        yield f"depth: {len(new.features)} stages in place of {len(old.features)}; the coarsest are new"
    if len(old.features) > shared:
        yield f"depth: {len(new.features)} stages in place of {len(old.features)}; the coarsest are left out"
    for stage in range(shared):
        name = f"stage {stage + 1}"
        if old.features[stage] != new.features[stage]:
            yield f"{name}: {new.features[stage]} feature maps in place of {old.features[stage]}; what sees or makes them is new"
        if old.kernel_sizes[stage] != new.kernel_sizes[stage]:
            yield f"{name}: kernels of {_size(new.kernel_sizes[stage])} made from {_size(old.kernel_sizes[stage])}"
        if old.strides[stage] != new.strides[stage]:
            yield f"{name}: reached by strides of {_size(new.strides[stage])} in place of {_size(old.strides[stage])}"
        blocks, before = new.blocks_encoder[stage], old.blocks_encoder[stage]
        if blocks != before:
            rest = "those beyond are new" if blocks > before else "the last are left out"
            yield f"{name}: {blocks} blocks in place of {before}; {rest}"


def _notes_of_images(source: Terms, target: Terms) -> Iterator[str]:
    """In what the images differ that the network sees."""
    old, new = source.configuration, target.configuration
    if any(abs(after / before - 1) > SAME_SPACING for before, after in zip(old.spacing_mm, new.spacing_mm, strict=True)):
        yield f"spacing: {_size(old.spacing_mm)} → {_size(new.spacing_mm)} mm; the filters see structures in another size"
    schemes = ["+".join(dict.fromkeys(entry.scheme for entry in each.normalization)) for each in (old, new)]
    if schemes[0] != schemes[1]:
        yield f"normalisation: {schemes[0]} → {schemes[1]}; the filters see other intensities"
