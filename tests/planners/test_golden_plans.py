"""Plans that nnU-Net 2.8.1 made of a dozen small fingerprints (benchmarks/golden/nnunet_plans.py), reproduced exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.networks.cost import parameters
from autounet.plan import Configuration, Plan
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "nnunet_plans.json").read_text(encoding="utf-8"))

PRESET_OF = {
    "ExperimentPlanner": "nnunet",
    "nnUNetPlannerResEncM": "resenc-m",
    "nnUNetPlannerResEncL": "resenc-l",
    "nnUNetPlannerResEncXL": "resenc-xl",
}
KINDS = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}

every_plan = pytest.mark.parametrize(
    ("name", "expected"),
    [(name, plan) for name, row in GOLDEN.items() for plan in row["plans"]],
    ids=[f"{name}, {plan['planner']} {plan['memory_gb']} GB" for name, row in GOLDEN.items() for plan in row["plans"]],
)


def ours(name: str, planner: str, memory_gb: float) -> Plan:
    row = GOLDEN[name]
    fingerprint = fingerprint_from_nnunet(row["fingerprint"], row["dataset"], name)
    return make_plan(fingerprint, PRESETS[PRESET_OF[planner]], file_ending=".nii.gz", gpu_memory_gb=memory_gb)


def trainable(configurations: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """nnU-Net's configurations, inheritance resolved, without those of one stage, whose network it cannot build."""
    whole = {name: {**configurations.get(entry.get("inherits_from"), {}), **entry} for name, entry in configurations.items()}
    kept = {name: entry for name, entry in whole.items() if entry["n_stages"] > 1}
    return {name: entry for name, entry in kept.items() if name != "3d_cascade_fullres" or "3d_lowres" in kept}


@every_plan
def test_plan_is_nnunets(name: str, expected: dict[str, Any], as_nnunet: Callable[[Configuration], dict[str, Any]]) -> None:
    plan, theirs = ours(name, expected["planner"], expected["memory_gb"]), trainable(expected["configurations"])
    assert list(plan.transpose) == expected["transpose_forward"]
    assert list(plan.configurations) == list(theirs)
    for key, configuration in plan.configurations.items():
        mine, reference = as_nnunet(configuration), theirs[key]
        assert mine == {word: reference[word] for word in mine}, key
        assert configuration.spacing_mm == pytest.approx(reference["spacing"], abs=1e-6), key
        assert configuration.previous_stage == reference.get("previous_stage"), key
        network = configuration.network
        assert KINDS[network.kind] == reference["network"]
        assert (network.in_channels, network.outputs) == (reference["inputs"], expected["outputs"]), key
        assert parameters(network) == reference["weights"], key


@every_plan
def test_ct_is_normalised_with_the_datasets_numbers(name: str, expected: dict[str, Any]) -> None:
    plan, row = ours(name, expected["planner"], expected["memory_gb"]), GOLDEN[name]
    for configuration in plan.configurations.values():
        for position, scheme in enumerate(configuration.normalization):
            if scheme.scheme == "ct":
                numbers = row["fingerprint"]["foreground_intensity_properties_per_channel"][str(position)]
                expected_numbers = [numbers[key] for key in ("percentile_00_5", "percentile_99_5", "mean", "std")]
                assert [scheme.lower, scheme.upper, scheme.mean, scheme.std] == expected_numbers


def test_golden_plans_cover_every_kind_of_plan() -> None:
    """What the fingerprints were chosen for is in their plans; another choice must not lose it."""
    plans = [(GOLDEN[name], plan) for name in GOLDEN for plan in GOLDEN[name]["plans"]]
    assert {plan["planner"] for _, plan in plans} == set(PRESET_OF)
    assert {plan["memory_gb"] for _, plan in plans} >= {4, 8, 11, 12, 24, 40, 80}
    assert {tuple(plan["transpose_forward"]) for _, plan in plans} == {(0, 1, 2), (1, 0, 2), (2, 0, 1)}
    configurations = {tuple(plan["configurations"]) for _, plan in plans}
    assert configurations == {("2d",), ("2d", "3d_fullres"), ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")}
    single = {name for _, plan in plans for name, entry in plan["configurations"].items() if entry.get("n_stages") == 1}
    assert single == {"2d", "3d_lowres"}
    assert any(True in plan["configurations"]["2d"]["use_mask_for_norm"] for _, plan in plans)
    assert any("ignore" in row["dataset"]["labels"] for row, _ in plans)
    assert any("regions_class_order" in row["dataset"] for row, _ in plans)
    assert any(size % 1 for _, plan in plans for size in plan["configurations"]["2d"]["median_image_size_in_voxels"])
