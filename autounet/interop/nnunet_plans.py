"""nnU-Net v2's plans.json: what it decides, in our terms. Nothing in it is imported or executed."""

from collections.abc import Mapping, Set
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from autounet.artefact import Frozen
from autounet.errors import ArtefactError
from autounet.geometry import Triple
from autounet.plan import NetworkSpec, Scheme

T = TypeVar("T")

SCHEMES: dict[str, Scheme] = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}
"""nnU-Net's classes and our schemes (``normalization/default_normalization_schemes.py``)."""

KINDS: dict[str, Literal["plain", "residual"]] = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
"""Networks of dynamic-network-architectures and ours."""


MOST_BLOCKS, MOST_FEATURES = 100, 10**5
MOST_STAGES = 30
"""Halved more often, no axis that fits a computer is left."""


class Unknown(Exception):
    """Something that autounet has no word for."""


class NnunetConfiguration(Frozen):
    """One configuration. Per-axis values are in nnU-Net's transposed order, which is ours, too."""

    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int = Field(gt=0)
    batch_dice: bool
    normalization: tuple[Scheme, ...]
    use_mask: tuple[bool, ...]
    network: NetworkSpec
    """With one channel per normalisation, and one output: nnU-Net's plans do not know the outputs."""
    previous_stage: str | None = None


class NnunetPlans(Frozen):
    """The plans of one dataset."""

    dataset: str
    name: str
    """Of the plans, such as ``nnUNetPlans``."""
    transpose: Triple
    configurations: dict[str, NnunetConfiguration] = Field(min_length=1)


def nnunet_plans(raw: Any, name: str) -> NnunetPlans:
    """Reads nnU-Net v2's plans of any release.

    Args:
        raw: Content of plans.json.
        name: Stands for it in messages.

    Raises:
        ArtefactError: They are malformed, or have a network or a normalisation that autounet does not have.
    """
    try:
        configurations = {key: _configuration(raw["configurations"], key, set()) for key in raw["configurations"]}
        return NnunetPlans(
            dataset=str(raw["dataset_name"]),
            name=str(raw["plans_name"]),
            transpose=_triple(raw["transpose_forward"]),
            configurations=configurations,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtefactError(f"{name}: these plans are malformed at '{where}'", found=first["msg"]) from None
    except Unknown as error:
        raise ArtefactError(f"{name}: these plans use what autounet does not have", found=error) from None
    except KeyError as error:
        raise ArtefactError(f"{name}: are not plans of nnU-Net v2", found=f"no {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise ArtefactError(f"{name}: are not plans of nnU-Net v2", found="a value of the wrong kind") from None


def _configuration(table: Mapping[str, Any], key: str, seen: Set[str]) -> NnunetConfiguration:
    merged = inherited(table, key, seen)
    schemes = [_known(SCHEMES, name) for name in merged["normalization_schemes"]]
    network = _network(merged["architecture"] if "architecture" in merged else _older_architecture(merged), len(schemes))
    for axes in (merged["spacing"], merged["median_image_size_in_voxels"], merged["patch_size"]):
        if len(axes) != network.ndim or not all(0 < value < 1e15 for value in axes):
            raise ValueError
    if len(merged["use_mask_for_norm"]) != len(schemes):
        raise ValueError
    return NnunetConfiguration(
        spacing_mm=tuple(float(value) for value in merged["spacing"]),
        median_shape=tuple(float(value) for value in merged["median_image_size_in_voxels"]),
        patch_size=tuple(int(value) for value in merged["patch_size"]),
        batch_size=int(merged["batch_size"]),
        batch_dice=bool(merged["batch_dice"]),
        normalization=tuple(schemes),
        use_mask=tuple(bool(value) for value in merged["use_mask_for_norm"]),
        network=network,
        previous_stage=merged.get("previous_stage"),
    )


def inherited(table: Mapping[str, Any], key: str, seen: Set[str] = frozenset()) -> dict[str, Any]:
    """A configuration of plans' ``configurations`` with all that it inherits. Raises KeyError or ValueError."""
    own = dict(table[key])
    parent = own.pop("inherits_from", None)
    if parent is None:
        return own
    if parent in seen:
        raise ValueError(f"'{parent}' inherits from itself")
    return inherited(table, parent, {*seen, key}) | own


def _network(architecture: Mapping[str, Any], channels: int) -> NetworkSpec:
    kind = _known(KINDS, str(architecture["network_class_name"]).rpartition(".")[2])
    values = architecture["arch_kwargs"]
    strides = tuple(tuple(int(step) for step in stride) for stride in values["strides"])
    ndim, kernels = len(strides[0]), tuple(tuple(int(size) for size in kernel) for kernel in values["kernel_sizes"])
    rows = (*strides, *kernels)
    features = tuple(values["features_per_stage"])
    blocks = tuple(values["n_conv_per_stage" if kind == "plain" else "n_blocks_per_stage"]), tuple(values["n_conv_per_stage_decoder"])
    if not 1 < len(strides) <= MOST_STAGES or not all(0 < number <= MOST_BLOCKS for row in blocks for number in row):
        raise ValueError
    if not all(0 < number <= MOST_FEATURES for number in features) or not len(features) == len(blocks[0]) == len(blocks[1]) + 1:
        raise ValueError
    if ndim not in (2, 3) or len(kernels) != len(strides) or not all(len(row) == ndim and 0 < min(row) <= max(row) < 1000 for row in rows):
        raise ValueError
    return NetworkSpec(
        kind=kind,
        ndim=2 if ndim == 2 else 3,
        in_channels=channels,
        outputs=1,
        features=features,
        strides=strides,
        kernel_sizes=kernels,
        blocks_encoder=blocks[0],
        blocks_decoder=blocks[1],
    )


def _older_architecture(merged: Mapping[str, Any]) -> dict[str, Any]:
    """The network as releases before 2.5 describe it, in the newer form. Source: nnunetv2 2.8.1, ``plans_handler.py``."""
    name, blocks = merged["UNet_class_name"], merged["n_conv_per_stage_encoder"]
    if len(blocks) > MOST_STAGES:
        raise ValueError
    first, most = int(merged["UNet_base_num_features"]), int(merged["unet_max_num_features"])
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "features_per_stage": [min(first * 2**stage, most) for stage in range(len(blocks))],
            "strides": merged["pool_op_kernel_sizes"],
            "kernel_sizes": merged["conv_kernel_sizes"],
            "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": blocks,
            "n_conv_per_stage_decoder": merged["n_conv_per_stage_decoder"],
        },
    }


def _triple(values: Any) -> Triple:
    a, b, c = (int(value) for value in values)
    if sorted((a, b, c)) != [0, 1, 2]:
        raise ValueError
    return a, b, c


def _known(table: Mapping[str, T], name: object) -> T:
    if name not in table:
        raise Unknown(f"{name!r}")
    return table[str(name)]
