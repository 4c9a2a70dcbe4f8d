"""Writes tests/golden/nnunet_plans.json: small fingerprints, and the plans that nnU-Net's planners make of them.

Run it with a Python that has nnunetv2 2.8.1 (an environment of its own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_plans.py tests/golden/nnunet_plans.json

Of a plan, only decisions are kept: no names of folders and functions, and nothing that is the same in every plan.
"""

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

PLAIN, RESENC_M, RESENC_L, RESENC_XL = "ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL"
NAME = "Dataset999_Golden"


def plain_labels(count: int, **more: Any) -> dict[str, Any]:
    """Background, so many classes, and more entries."""
    return {"background": 0, **{f"c{value}": value for value in range(1, count + 1)}, **more}


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}

# Each: planners with their memory, channels, labels, relative size after cropping, and the cases' spacings (z, y, x) and shapes.
DATASETS: dict[str, dict[str, Any]] = {
    "pixels, many classes": {
        "planners": ((PLAIN, 8), (PLAIN, 11), (RESENC_L, 24)), "channels": ("gray",), "labels": plain_labels(60), "relative": 1.0,
        "spacings": [(999.0, 1.0, 1.0)] * 3, "shapes": [(1, 512, 512), (1, 700, 533), (1, 401, 655)],
    },
    "planar, spacings and three channels": {
        "planners": ((PLAIN, 8), (RESENC_M, 8)), "channels": ("rgb_to_0_1",) * 3, "labels": plain_labels(1), "relative": 1.0,
        "spacings": [(999 * 0.7, 0.35, 0.7), (999 * 0.72, 0.36, 0.72)], "shapes": [(1, 900, 450), (1, 901, 451)],
    },
    "isotropic, regions and the mask": {
        "planners": ((PLAIN, 8), (RESENC_M, 8), (RESENC_XL, 40)), "channels": ("T1", "FLAIR", "noNorm", "CT"), "labels": REGIONS,
        "relative": 0.7499, "spacings": [(1.0, 1.0, 1.0)] * 4,
        "shapes": [(138, 170, 137), (139, 171, 140), (128, 160, 129), (150, 180, 150)],
    },
    "thick slices along the last axis, ignore": {
        "planners": ((PLAIN, 8), (RESENC_M, 8)), "channels": ("MRI",), "labels": plain_labels(3, ignore=4), "relative": 0.75,
        "spacings": [(1.25, 1.25, 10.0), (1.5625, 1.5625, 10.0), (1.5625, 1.5625, 5.0), (1.7, 1.7, 6.5), (1.4, 1.4, 10.0)],
        "shapes": [(256, 216, 8), (232, 256, 9), (256, 224, 10), (320, 320, 12), (216, 256, 10)],
    },
    "thick slices, thin ones in between": {
        "planners": ((PLAIN, 4), (PLAIN, 8)), "channels": ("zscore", "rescale_to_0_1"), "labels": plain_labels(2), "relative": 0.5,
        "spacings": [(6.0, 0.8, 0.9), (6.0, 0.8, 0.9), (0.5, 0.8, 0.9), (0.5, 0.8, 0.9), (6.0, 0.8, 0.9)],
        "shapes": [(20, 240, 200), (24, 256, 230), (18, 300, 260), (22, 280, 256), (30, 256, 256)],
    },
    "slices not quite three times as thick": {
        "planners": ((PLAIN, 8),), "channels": ("MRI",), "labels": plain_labels(1), "relative": 1.0,
        "spacings": [(2.8, 1.0, 1.0), (2.8, 1.0, 1.0), (1.2, 1.0, 1.0)], "shapes": [(40, 200, 200), (40, 210, 190), (80, 200, 200)],
    },
    "large CT": {
        "planners": ((PLAIN, 8), (PLAIN, 80), (RESENC_L, 24), (RESENC_XL, 12)), "channels": ("CT",), "labels": plain_labels(2),
        "relative": 1.0, "spacings": [(1.0, 0.78125, 0.78125), (0.8, 0.7, 0.7), (5.0, 0.9, 0.9)],
        "shapes": [(420, 512, 512), (500, 512, 512), (91, 512, 512)],
    },
    "large CT of slices, many classes": {
        "planners": ((PLAIN, 8), (RESENC_M, 8)), "channels": ("CT",), "labels": plain_labels(117), "relative": 0.9,
        "spacings": [(3.0, 0.75, 0.75), (2.5, 0.8, 0.8), (3.0, 0.7, 0.7)], "shapes": [(250, 512, 512), (300, 512, 512), (280, 512, 512)],
    },
    "low resolution not worth it": {
        "planners": ((PLAIN, 8), (RESENC_M, 8)), "channels": ("MRI", "MRI"), "labels": plain_labels(1), "relative": 1.0,
        "spacings": [(0.6, 0.6, 0.6)] * 2, "shapes": [(224, 224, 224), (225, 223, 230)],
    },
    "low resolution of a single stage": {
        "planners": ((PLAIN, 4), (PLAIN, 24)), "channels": ("ct",), "labels": plain_labels(14), "relative": 1.0,
        "spacings": [(0.068, 0.34, 5.4)] * 2, "shapes": [(12, 121, 124), (12, 122, 123)],
    },
    "half voxels, small": {
        "planners": ((PLAIN, 8), (RESENC_M, 8)), "channels": ("CT", "PET"), "labels": plain_labels(2), "relative": 0.9,
        "spacings": [(1.0, 1.0, 1.0)] * 2, "shapes": [(35, 50, 11), (36, 51, 12)],
    },
    "two coarse axes": {
        "planners": ((PLAIN, 8), (PLAIN, 4)), "channels": ("MRI",), "labels": plain_labels(2), "relative": 1.0,
        "spacings": [(4.0, 0.6, 3.5), (4.2, 0.6, 3.6), (4.0, 0.5, 3.4)], "shapes": [(60, 400, 70), (66, 380, 80), (58, 420, 75)],
    },
    "one slice": {
        "planners": ((PLAIN, 8),), "channels": ("MRI",), "labels": plain_labels(1), "relative": 1.0,
        "spacings": [(1.0, 8.0, 1.0)] * 2, "shapes": [(300, 1, 320), (280, 1, 300)],
    },
    "slices too small for a network of their own": {
        "planners": ((PLAIN, 8),), "channels": ("MRI",), "labels": plain_labels(1), "relative": 1.0,
        "spacings": [(2.0, 1.0, 1.0)] * 2, "shapes": [(100, 7, 7), (110, 7, 7)],
    },
}  # fmt: skip


def dataset_json(dataset: dict[str, Any]) -> dict[str, Any]:
    """The dataset's dataset.json."""
    content = {
        "channel_names": {str(position): name for position, name in enumerate(dataset["channels"])},
        "labels": dataset["labels"],
        "numTraining": len(dataset["shapes"]),
        "file_ending": ".nii.gz",
    }
    return {**content, "regions_class_order": [1, 2, 3]} if dataset["labels"] is REGIONS else content


def fingerprint(dataset: dict[str, Any]) -> dict[str, Any]:
    """The dataset's dataset_fingerprint.json; intensities are some numbers."""
    numbers = {"mean": 80.5, "median": 79.0, "std": 41.25, "min": -900.0, "max": 1800.0, "percentile_00_5": -40.0, "percentile_99_5": 190.0}
    return {
        "spacings": dataset["spacings"],
        "shapes_after_crop": dataset["shapes"],
        "median_relative_size_after_cropping": dataset["relative"],
        "foreground_intensity_properties_per_channel": {str(position): numbers for position in range(len(dataset["channels"]))},
    }


def decisions(entry: dict[str, Any]) -> dict[str, Any]:
    """What a configuration of nnU-Net says, without nesting; of one that inherits, only what it adds."""
    if "inherits_from" in entry:
        return entry
    network = entry["architecture"]["arch_kwargs"]
    kept = (
        "patch_size",
        "batch_size",
        "median_image_size_in_voxels",
        "spacing",
        "batch_dice",
        "normalization_schemes",
        "use_mask_for_norm",
    )
    return {
        **{key: entry[key] for key in kept},
        **{key: network[key] for key in ("n_stages", "features_per_stage", "strides", "kernel_sizes", "n_conv_per_stage_decoder")},
        "blocks": network.get("n_conv_per_stage", network.get("n_blocks_per_stage")),
        "network": entry["architecture"]["network_class_name"].rpartition(".")[2],
        **{key: entry[key] for key in ("next_stage",) if key in entry},
    }


def weights(configuration: Any, inputs: int, outputs: int) -> int:
    """Trainable numbers of a configuration's network, with deep supervision as in training."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    names = (configuration.network_arch_class_name, configuration.network_arch_init_kwargs)
    with torch.device("meta"):
        network = get_network_from_plans(
            *names, configuration.network_arch_init_kwargs_req_import, inputs, outputs, allow_init=False, deep_supervision=True
        )
    return sum(parameter.numel() for parameter in network.parameters())


def plans(dataset: dict[str, Any], planners: Sequence[tuple[str, float]], root: Path) -> list[dict[str, Any]]:
    """The decisions of every planner."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    content = dataset_json(dataset)
    # Named reader and listed case: it looks for no image.
    written = {**content, "overwrite_image_reader_writer": "SimpleITKIO", "dataset": {"case": {"images": ["none"], "label": "none"}}}
    made = []
    for folder, name, value in (("raw", "dataset", written), ("preprocessed", "dataset_fingerprint", fingerprint(dataset))):
        (root / folder / NAME).mkdir(parents=True, exist_ok=True)
        (root / folder / NAME / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    for planner, memory in planners:
        planner_class = ExperimentPlanner if planner == PLAIN else getattr(residual_encoder_unet_planners, planner)
        chosen = planner_class(NAME, gpu_memory_target_in_gb=memory)
        file = root / "preprocessed" / NAME / f"{chosen.plans_identifier}.json"
        file.unlink(missing_ok=True)  # it would keep configurations of an older plan
        # Networks without weights: their sizes, all that it asks them for, are the same.
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), torch.device("meta"):
            chosen.plan_experiment()
        found = json.loads(file.read_text(encoding="utf-8"))
        manager = PlansManager(found)
        outputs = manager.get_label_manager(content).num_segmentation_heads
        configurations = {}
        for name, entry in found["configurations"].items():
            resolved = manager.get_configuration(name)
            inputs = determine_num_input_channels(manager, resolved, content)
            configurations[name] = {**decisions(entry), "inputs": inputs, "weights": weights(resolved, inputs, outputs)}
        made.append(
            {
                "planner": planner,
                "memory_gb": memory,
                "transpose_forward": found["transpose_forward"],
                "outputs": outputs,
                "configurations": configurations,
            }
        )
    return made


def main() -> None:
    """Plans everything and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(Path(folder) / name)
        for name, dataset in DATASETS.items():
            row = {"dataset": dataset_json(dataset), "fingerprint": fingerprint(dataset)}
            row["plans"] = plans(dataset, dataset["planners"], Path(folder))
            rows.append(f"{json.dumps(name)}: {json.dumps(row)}")
            print(name, *(f"{made['planner']}: {', '.join(made['configurations'])}" for made in row["plans"]), sep="\n  ")
    output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
