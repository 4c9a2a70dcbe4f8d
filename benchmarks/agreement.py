"""Do two plans, and two sets of prepared arrays, agree: ours and nnU-Net's."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autounet.dataset import DatasetSpec
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan
from autounet.preprocessing.run import open_cases

IMAGE_TOLERANCE = 1e-3
"""Largest difference of a prepared voxel, in units of the normalised intensity."""
LABEL_AGREEMENT = 0.9999
SPACING_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision on which the two plans differ."""

    what: str
    ours: Any
    peers: Any


def plan_differences(plan: Plan, peer_plans: Path) -> list[Difference]:
    """What differs between our plan and nnU-Net's plans file, decision by decision; lowres and cascade are left out."""
    peer = json.loads(peer_plans.read_text(encoding="utf-8"))
    theirs = {name: entry for name, entry in peer["configurations"].items() if name in ("2d", "3d_fullres")}
    ours = {name: entry for name, entry in plan.configurations.items() if name in ("2d", "3d_fullres")}
    found = [Difference("transpose", list(plan.transpose), peer["transpose_forward"])]
    found.append(Difference("configurations", sorted(ours), sorted(theirs)))
    for name in sorted(ours.keys() & theirs.keys()):
        mine, other = _our_decisions(ours[name]), _peer_decisions(theirs[name])
        found += [Difference(f"{name}: {key}", mine[key], other[key]) for key in mine]
    return [entry for entry in found if not _same(entry.ours, entry.peers)]


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


def _our_decisions(entry: Configuration) -> dict[str, Any]:
    network = entry.network
    return {
        "spacing": list(entry.spacing_mm),
        "median shape": list(entry.median_shape),
        "patch": list(entry.patch_size),
        "batch": entry.batch_size,
        "batch Dice": entry.batch_dice,
        "stages": len(network.features),
        "features": list(network.features),
        "strides": [list(stride) for stride in network.strides],
        "kernels": [list(kernel) for kernel in network.kernel_sizes],
        "mask for normalisation": [scheme.use_mask for scheme in entry.normalization],
    }


def _peer_decisions(entry: dict[str, Any]) -> dict[str, Any]:
    network = entry["architecture"]["arch_kwargs"]
    return {
        "spacing": entry["spacing"],
        "median shape": entry["median_image_size_in_voxels"],
        "patch": entry["patch_size"],
        "batch": entry["batch_size"],
        "batch Dice": entry["batch_dice"],
        "stages": network["n_stages"],
        "features": network["features_per_stage"],
        "strides": network["strides"],
        "kernels": network["kernel_sizes"],
        "mask for normalisation": entry["use_mask_for_norm"],
    }


def _same(ours: Any, peers: Any) -> bool:
    if isinstance(ours, list) and isinstance(peers, list) and any(isinstance(value, float) for value in (*ours, *peers)):
        return len(ours) == len(peers) and bool(np.allclose(ours, peers, rtol=SPACING_TOLERANCE))
    return bool(ours == peers)
