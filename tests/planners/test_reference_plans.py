"""Every plan that nnU-Net 2.8.1 made for the reference fingerprints, reproduced exactly."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.plan import Configuration
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

PLANNERS: dict[str, tuple[str, float | None]] = {
    "plain_8": ("nnunet", 8.0),
    "plain_24": ("nnunet", 24.0),
    "resenc_m": ("resenc-m", None),
    "resenc_l": ("resenc-l", None),
    "resenc_xl": ("resenc-xl", None),
}
"""nnU-Net's planners, as the reference names them: our preset and memory."""


def rows(shared: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Name, dataset.json, dataset_fingerprint.json and plans of every reference dataset."""
    for row in json.loads((shared / "reference" / "nnunet_plans.json").read_text()):
        yield row["name"], row["dataset"], row["fingerprint"], row["plans"]
    for folder in sorted((shared / "reference" / "msd").iterdir()):
        files = ("dataset.json", "dataset_fingerprint.json", "plans_2.8.1.json")
        dataset, fingerprint, plans = (json.loads((folder / file).read_text()) for file in files)
        yield folder.name, dataset, fingerprint, plans


def flattened(plan: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's configuration with the architecture beside the rest; both of the reference's layouts."""
    architecture = plan["architecture"].get("arch_kwargs", plan["architecture"])
    flat = {**plan, **architecture}
    flat["blocks"] = flat.get("n_conv_per_stage", flat.get("n_blocks_per_stage"))
    return flat


def test_every_reference_plan_is_reproduced(shared: Path, as_nnunet: Callable[[Configuration], dict[str, Any]]) -> None:
    compared = 0
    for name, dataset, raw, plans in rows(shared):
        fingerprint = fingerprint_from_nnunet(raw, dataset, name)
        for planner, expected in plans.items():
            preset, memory = PLANNERS[planner]
            plan = make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz", gpu_memory_gb=memory)
            assert list(plan.transpose) == expected["transpose_forward"], (name, planner)
            assert list(plan.configurations) == list(expected["configurations"]), (name, planner)
            for key, configuration in plan.configurations.items():
                cascade = key == "3d_cascade_fullres"
                assert configuration.previous_stage == ("3d_lowres" if cascade else None)
                # nnU-Net's cascade inherits everything from the full resolution.
                reference = flattened(expected["configurations"]["3d_fullres" if cascade else key])
                ours = as_nnunet(configuration)
                assert ours == {word: reference[word] for word in ours}, (name, planner, key)
                assert configuration.spacing_mm == pytest.approx(reference["spacing"], abs=1e-6), (name, planner, key)
                compared += 1
    assert compared >= 200


def test_planning_takes_well_under_a_second(shared: Path) -> None:
    """Also where nnU-Net takes longest: low resolutions are tried one by one."""
    name, dataset, raw, _ = next(row for row in rows(shared) if row[0] == "lightsheet")
    fingerprint = fingerprint_from_nnunet(raw, dataset, name)
    start = time.process_time()  # of this process alone, whatever else the machine does
    make_plan(fingerprint, PRESETS["resenc-xl"], file_ending=".tif")
    assert time.process_time() - start < 1.0
