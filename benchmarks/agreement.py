"""Do two plans, and two sets of prepared arrays, agree: ours and nnU-Net's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autounet.dataset import DatasetSpec
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan
from autounet.planners.configurations import CASCADE, FULL, LOW
from autounet.preprocessing.run import open_cases

IMAGE_TOLERANCE = 1e-3
"""Largest difference of a prepared voxel, in units of the normalised intensity."""
LABEL_AGREEMENT = 0.9999
SPACING_TOLERANCE = 1e-6


SCHEMES = {
    "zscore": "ZScoreNormalization",
    "ct": "CTNormalization",
    "none": "NoNormalization",
    "rescale": "RescaleTo01Normalization",
    "rgb": "RGBTo01Normalization",
}
NETWORKS = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}


@dataclass(frozen=True, slots=True)
class Compared:
    """A decision of both plans."""

    configuration: str
    """Empty for what holds for the whole plan."""
    decision: str
    ours: Any
    peers: Any

    @property
    def what(self) -> str:
        """The decision's full name."""
        return f"{self.configuration}: {self.decision}" if self.configuration else self.decision

    @property
    def differs(self) -> bool:
        """Whether the plans disagree."""
        return not _same(self.ours, self.peers)


def compare_plans(plan: Plan, peer: Mapping[str, Any], networks: Mapping[str, Sequence[int]] | None = None) -> list[Compared]:
    """Every decision of our plan beside nnU-Net's.

    Args:
        plan: Ours.
        peer: Content of nnU-Net's plans file. What it could not build a network for is left out (``buildable``).
        networks: Inputs and outputs of nnU-Net's networks by configuration, which its plans file does not hold.
    """
    theirs, ours = buildable(peer), plan.configurations
    found = [
        Compared("", "configurations", sorted(ours), sorted(theirs)),
        Compared("", "transpose", list(plan.transpose), peer["transpose_forward"]),
    ]
    for name in sorted(ours.keys() & theirs.keys()):
        mine = _our_decisions(plan, ours[name])
        other = _peer_decisions(peer, theirs, name, networks)
        found += [Compared(name, key, mine[key], other[key]) for key in other]
    return found


def buildable(peer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """nnU-Net's configurations, inheritance resolved, without those it cannot train.

    It plans networks of one single stage for images that are too small to be halved, and then fails to build them. autounet
    leaves such a configuration out, and with a low resolution its cascade. Whatever else is left is compared.
    """
    entries = peer["configurations"]
    whole = {name: {**entries.get(entry.get("inherits_from"), {}), **entry} for name, entry in entries.items()}
    kept = {name: entry for name, entry in whole.items() if stages(entry) > 1}
    if FULL not in kept or LOW not in kept:
        kept = {name: entry for name, entry in kept.items() if name not in (LOW, CASCADE)}
    return kept


def stages(entry: Mapping[str, Any]) -> int:
    """Resolution stages of a configuration of nnU-Net."""
    number: int = entry["architecture"]["arch_kwargs"]["n_stages"]
    return number


def plan_differences(plan: Plan, peer_plans: Path) -> list[Compared]:
    """What differs between our plan and nnU-Net's plans file."""
    peer = json.loads(peer_plans.read_text(encoding="utf-8"))
    return [entry for entry in compare_plans(plan, peer) if entry.differs]


@dataclass(frozen=True, slots=True)
class ArrayAgreement:
    """How near a prepared case is to nnU-Net's."""

    configuration: str
    case: str
    same_shape: bool
    image_difference: float
    """Largest over all voxels; infinite when the shapes differ."""
    labels_equal: float
    """Share of the voxels."""

    @property
    def holds(self) -> bool:
        """Within the tolerances."""
        return self.same_shape and self.image_difference <= IMAGE_TOLERANCE and self.labels_equal >= LABEL_AGREEMENT


def array_agreement(dataset: DatasetSpec, layout: RunLayout, peer_preprocessed: Path, count: int) -> list[ArrayAgreement]:
    """Compares ``count`` cases, spread over the dataset, in every configuration that both have prepared.

    Args:
        dataset: What was prepared.
        layout: Our run folder.
        peer_preprocessed: nnU-Net's folder of this dataset.
        count: Of cases.
    """
    import blosc2

    plan = Plan.load(layout.plan)
    positions = np.unique(np.linspace(0, len(dataset.cases) - 1, min(count, len(dataset.cases))).round().astype(int))
    cases = [dataset.cases[position].id for position in positions]
    found = []
    for name, entry in plan.configurations.items():
        theirs = peer_preprocessed / f"nnUNetPlans_{name}"
        if not (theirs.is_dir() and layout.prepared(name).is_dir()):
            continue
        store, stored = open_cases(plan, entry, layout.prepared(name), cases)
        for case in stored:
            opened = store.open(case)
            image = blosc2.open(str(theirs / f"{case.case}.b2nd"), mode="r")[:]
            labels = blosc2.open(str(theirs / f"{case.case}_seg.b2nd"), mode="r")[:][0]
            found.append(_compare(name, case.case, plan, (opened.image[:], opened.labels[:]), (image, labels)))
    return found


def _compare(name: str, case: str, plan: Plan, ours: tuple[Any, Any], peers: tuple[Any, Any]) -> ArrayAgreement:
    if ours[0].shape != peers[0].shape or ours[1].shape != peers[1].shape:
        return ArrayAgreement(name, case, False, float("inf"), 0.0)
    # nnU-Net marks voxels outside the nonzero mask with -1 always, we only where a channel is normalised inside it; both
    # train on them as background. It keeps label values where we keep indices.
    truth = plan.labels.encode(np.maximum(peers[1], 0), case)
    return ArrayAgreement(
        name, case, True, float(np.abs(ours[0] - peers[0]).max()), float((np.maximum(ours[1], 0) == truth).mean(dtype=np.float64))
    )


def _our_decisions(plan: Plan, entry: Configuration) -> dict[str, Any]:
    network = entry.network
    return {
        "spacing": list(entry.spacing_mm),
        "median shape": list(entry.median_shape),
        "patch": list(entry.patch_size),
        "batch": entry.batch_size,
        "batch Dice": entry.batch_dice,
        "network": NETWORKS.get(network.kind, network.kind),
        "stages": len(network.features),
        "features": list(network.features),
        "strides": [list(stride) for stride in network.strides],
        "kernels": [list(kernel) for kernel in network.kernel_sizes],
        "blocks of the encoder": list(network.blocks_encoder),
        "convolutions of the decoder": list(network.blocks_decoder),
        "normalisation": [SCHEMES[scheme.scheme] for scheme in entry.normalization],
        "mask for normalisation": [scheme.use_mask for scheme in entry.normalization],
        "numbers for CT": [
            [scheme.lower, scheme.upper, scheme.mean, scheme.std] for scheme in entry.normalization if scheme.scheme == "ct"
        ],
        "previous stage": entry.previous_stage,
        "next stage": next((name for name, other in plan.configurations.items() if other.previous_stage == entry.name), None),
        "inputs of the network": network.in_channels,
        "outputs of the network": network.outputs,
    }


def _peer_decisions(
    peer: Mapping[str, Any], configurations: Mapping[str, Any], name: str, networks: Mapping[str, Sequence[int]] | None
) -> dict[str, Any]:
    entry = configurations[name]
    network = entry["architecture"]["arch_kwargs"]
    intensities = peer["foreground_intensity_properties_per_channel"]
    numbers = [
        [intensities[str(channel)][word] for word in ("percentile_00_5", "percentile_99_5", "mean", "std")]
        for channel, scheme in enumerate(entry["normalization_schemes"])
        if scheme == "CTNormalization"
    ]
    found = {
        "spacing": entry["spacing"],
        "median shape": entry["median_image_size_in_voxels"],
        "patch": entry["patch_size"],
        "batch": entry["batch_size"],
        "batch Dice": entry["batch_dice"],
        "network": entry["architecture"]["network_class_name"].rpartition(".")[2],
        "stages": network["n_stages"],
        "features": network["features_per_stage"],
        "strides": network["strides"],
        "kernels": network["kernel_sizes"],
        "blocks of the encoder": network.get("n_conv_per_stage", network.get("n_blocks_per_stage")),
        "convolutions of the decoder": network["n_conv_per_stage_decoder"],
        "normalisation": entry["normalization_schemes"],
        "mask for normalisation": entry["use_mask_for_norm"],
        "numbers for CT": numbers,
        "previous stage": entry.get("previous_stage"),
        # A cascade inherits the full resolution, which never has a next stage.
        "next stage": entry.get("next_stage") if entry.get("next_stage") in configurations else None,
    }
    if networks is not None:
        found["inputs of the network"], found["outputs of the network"] = networks[name]
    return found


def _same(ours: Any, peers: Any) -> bool:
    if isinstance(ours, list) and isinstance(peers, list) and any(isinstance(value, float) for value in (*ours, *peers)):
        return len(ours) == len(peers) and bool(np.allclose(ours, peers, rtol=SPACING_TOLERANCE))
    return bool(ours == peers)
