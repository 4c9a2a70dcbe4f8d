"""Runs in nnU-Net's environment, for ``benchmarks/nnunet_models.py``: trains real nnU-Net models for a few steps each.

    PEER_PYTHON -m benchmarks.peer_models [NAME ...]

nnU-Net's three folders come from the environment (``Peer.environment``); the raw datasets are there already. What is there is not
made again. Everything is done by nnU-Net's own code, with small batches and few steps: enough for an output with objects in it.
"""

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Plans = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """One dataset's plans and what is trained of them."""

    dataset: str
    folds: dict[str, tuple[int, ...]]
    """By configuration, in the order of training."""
    iterations: dict[str, int]
    batch: dict[str, int]
    planner: str = "ExperimentPlanner"
    change: Callable[[Plans], None] | None = None
    """What is done to the plans by hand."""
    predict_all: tuple[str, ...] = ()
    """Configurations whose folds predict all cases, as later stages and the choice of postprocessing want it."""


def small_cascade(plans: Plans) -> None:
    """A 3d_lowres of 2 mm before a 3d_cascade_fullres, for images of 1 mm that are too small to get one by nnU-Net's rules."""
    full = plans["configurations"]["3d_fullres"]
    half = [int(size) // 2 for size in full["median_image_size_in_voxels"]]
    names = {"data_identifier": full["data_identifier"].replace("3d_fullres", "3d_lowres"), "next_stage": "3d_cascade_fullres"}
    patch = {"spacing": [2.0, 2.0, 2.0], "median_image_size_in_voxels": half, "patch_size": [24, 32, 24]}
    plans["configurations"]["3d_lowres"] = full | names | patch
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def small_patch(plans: Plans) -> None:
    """Patches of a quarter of the size, so that a CPU trains in minutes and images take several tiles."""
    plans["configurations"]["3d_fullres"]["patch_size"] = [10, 128, 128]


TRAININGS = {
    "hippocampus": Training(
        "Dataset004_Hippocampus", {"3d_fullres": (0, 1), "2d": (0,)}, {"3d_fullres": 150, "2d": 80}, {"3d_fullres": 2, "2d": 24}
    ),
    "regions": Training("Dataset904_HippocampusRegions", {"3d_fullres": (0,)}, {"3d_fullres": 40}, {"3d_fullres": 2}),
    "resenc": Training(
        "Dataset004_Hippocampus", {"3d_fullres": (0,)}, {"3d_fullres": 40}, {"3d_fullres": 2}, planner="nnUNetPlannerResEncM"
    ),
    "cascade": Training(
        "Dataset905_HippocampusCascade",
        {"3d_lowres": (0,), "3d_cascade_fullres": (0,)},
        {"3d_lowres": 60, "3d_cascade_fullres": 30},
        {"3d_lowres": 4, "3d_cascade_fullres": 2},
        change=small_cascade,
        predict_all=("3d_lowres",),
    ),
    "em": Training("Dataset101_EM", {"2d": (0,)}, {"2d": 30}, {"2d": 2}),
    "cardiac": Training(
        "Dataset102_Cardiac", {"2d": (0,), "3d_fullres": (0,)}, {"2d": 60, "3d_fullres": 40}, {"2d": 4, "3d_fullres": 2}, change=small_patch
    ),
}

EPOCHS = 2


def folder_of(stage: str) -> Path:
    """One of nnU-Net's three folders."""
    return Path(os.environ[f"nnUNet_{stage}"])


def plan(training: Training) -> str:
    """Plans and prepares a dataset unless that is done; returns the name of the plans."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    number = int(training.dataset[7:10])
    prepared = folder_of("preprocessed") / training.dataset
    if not (prepared / "dataset_fingerprint.json").exists():
        api.extract_fingerprints([number], num_processes=2, show_progress_bar=False)
    name = {"ExperimentPlanner": "nnUNetPlans", "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans"}[training.planner]
    path = prepared / f"{name}.json"
    done = prepared / f"{name}.done"
    if done.exists():
        return name
    api.plan_experiments([number], training.planner)
    plans = json.loads(path.read_text())
    if training.change is not None:
        training.change(plans)
    for configuration, batch in training.batch.items():
        plans["configurations"][configuration]["batch_size"] = batch
    path.write_text(json.dumps(plans, indent=1))
    for configuration in training.folds:
        if "data_identifier" in plans["configurations"][configuration]:
            api.preprocess_dataset(number, name, (configuration,), (2,), show_progress_bar=False)
    if "previous_stage" in str(plans["configurations"]):
        api.preprocess_dataset(number, name, ("3d_fullres",), (2,), show_progress_bar=False)
    if training.predict_all:  # validation of the only fold then sees all cases
        cases = sorted(path.name.partition(".")[0] for path in (prepared / "gt_segmentations").iterdir())
        (prepared / "splits_final.json").write_text(json.dumps([{"train": cases, "val": cases}]))
    done.touch()
    return name


def train(training: Training, plans: str, configuration: str, fold: int) -> None:
    """Trains one fold unless it is there."""
    from nnunetv2.run.run_training import get_trainer_from_args

    folder = folder_of("results") / training.dataset / f"nnUNetTrainer__{plans}__{configuration}" / f"fold_{fold}"
    predicted = configuration in training.predict_all
    if (folder / ("predicted" if predicted else "checkpoint_final.pth")).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    random.seed(fold)
    np.random.seed(fold)  # noqa: NPY002  (the generator that nnU-Net draws from)
    torch.manual_seed(fold)
    began = time.perf_counter()
    trainer: Any = get_trainer_from_args(training.dataset, configuration, fold, plans_identifier=plans, device=torch.device("cpu"))
    trainer.configure_optimizers = lambda: adam(trainer)
    trainer.num_epochs = EPOCHS
    trainer.num_iterations_per_epoch = training.iterations[configuration] // EPOCHS
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    if predicted:
        trainer.perform_actual_validation(save_probabilities=False)
        choose_postprocessing(folder.parent, training.dataset)
        (folder / "predicted").touch()
    print(f"{training.dataset} {plans} {configuration} fold {fold}: {time.perf_counter() - began:.0f} s", flush=True)


def adam(trainer: Any) -> tuple[Any, Any]:
    """Learns in dozens of steps what nnU-Net's SGD with momentum 0.99 learns in hundreds; the network is the same."""
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    optimizer = torch.optim.Adam(trainer.network.parameters(), 1e-3)
    return optimizer, PolyLRScheduler(optimizer, 1e-3, trainer.num_epochs)


def choose_postprocessing(model: Path, dataset: str) -> None:
    """What ``nnUNetv2_find_best_configuration`` does for one model: postprocessing.pkl from the predictions of its folds."""
    from nnunetv2.evaluation.accumulate_cv_results import accumulate_cv_results
    from nnunetv2.postprocessing.remove_connected_components import determine_postprocessing

    merged = model / "crossval_results_folds_0"
    accumulate_cv_results(str(model), str(merged), [0], 2)
    truth = folder_of("preprocessed") / dataset / "gt_segmentations"
    determine_postprocessing(
        str(merged), str(truth), str(model / "plans.json"), str(model / "dataset.json"), 2, keep_postprocessed_files=False
    )


def main(names: Sequence[str]) -> None:
    """Trains what is asked for, or all."""
    for name in names or TRAININGS:
        training = TRAININGS[name]
        plans = plan(training)
        for configuration, folds in training.folds.items():
            for fold in folds:
                train(training, plans, configuration, fold)


if __name__ == "__main__":
    main(sys.argv[1:])
