"""Run folders as training leaves them, made without training: predictions are the truth, worn away or grown."""

import json
import math
from pathlib import Path

import numpy as np
from scipy import ndimage

from autounet.artefact import digest_of
from autounet.dataset import DatasetSpec, read_dataset
from autounet.evaluation import evaluate_cases
from autounet.images import read_labels, write_labels
from autounet.layout import RunLayout
from autounet.planners.extract import extract_fingerprint
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS
from autounet.runtime import Runtime
from autounet.splits import Splits, five_folds
from autounet.training.history import EpochRecord, write_history

ALONE = Runtime(device="cpu", workers=0)


def make_run(root: Path, runs: Path, configurations: dict[str, tuple[int, ...]], epochs: int = 12, seed: int = 0) -> RunLayout:
    """A run folder with these folds of these configurations trained and scored; with none of them, planned alone."""
    dataset = read_dataset(root)
    layout = RunLayout(runs / dataset.name)
    layout.root.mkdir(parents=True, exist_ok=True)
    fingerprint = extract_fingerprint(dataset, ALONE)
    fingerprint.save(layout.fingerprint)
    make_plan(fingerprint, PRESETS["small"], file_ending=dataset.file_ending).save(layout.plan)
    if configurations:
        ids = [case.id for case in dataset.cases]
        splits = Splits(made_from={"cases": digest_of(ids)}, folds=five_folds(ids))
        splits.save(layout.splits)
        for name, folds in configurations.items():
            for fold in folds:
                _train(layout, dataset, name, fold, splits.folds[fold].validation, epochs, seed)
    return layout


def _train(layout: RunLayout, dataset: DatasetSpec, name: str, fold: int, held_out: tuple[str, ...], epochs: int, seed: int) -> None:
    folder = layout.fold(name, str(fold))
    folder.validation.mkdir(parents=True)
    rng = np.random.default_rng((seed, fold, len(name)))
    files = {}
    for case in dataset.cases:
        if case.id in held_out:
            labels, grid = read_labels(case.label)
            path = folder.validation / f"{case.id}{dataset.file_ending}"
            write_labels(path, spoilt(labels, rng), grid)
            files[case.id] = (path, case.label)
    evaluate_cases(files, dataset.labels, ALONE).save(folder.scores)
    write_history(folder.history, [_epoch(number, epochs, dataset.labels.names, rng) for number in range(epochs)])
    folder.training.write_text(json.dumps({"length": f"{epochs} epochs of 250 steps", "seed": 1234}))
    folder.weights.touch()


def spoilt(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A label map as a network might give it: moved a little, and in one case in six a part is lost."""
    moved = ndimage.shift(labels, [0 if size == 1 else rng.normal(0, 0.02 * size) for size in labels.shape], order=0)
    lost = ndimage.gaussian_filter(rng.normal(size=labels.shape), [0 if size == 1 else size / 8 for size in labels.shape])
    share = 0.5 if rng.random() < 1 / 6 else 0.05
    moved[(lost < np.quantile(lost, share)) & (moved > 0)] = 0
    return moved.astype(labels.dtype)


def _epoch(number: int, epochs: int, names: tuple[str, ...], rng: np.random.Generator) -> EpochRecord:
    done = (number + 1) / epochs
    dice = {name: float(np.clip(0.9 * (1 - math.exp(-4 * done)) + rng.normal(0, 0.02), 0, 1)) for name in names}
    mean = sum(dice.values()) / len(dice)
    loss = -0.9 + 1.4 * math.exp(-3 * done)
    return EpochRecord(
        epoch=number, learning_rate=0.01 * (1 - number / epochs) ** 0.9, train_loss=loss + rng.normal(0, 0.02),
        validation_loss=loss + 0.08 + rng.normal(0, 0.04), dice=dice, mean_dice=mean, ema_dice=0.9 * (1 - math.exp(-4 * done)),
        seconds=60.0, trained_seconds=60.0 * (number + 1), iterations=250, data_wait_share=0.02,
    )  # fmt: skip
