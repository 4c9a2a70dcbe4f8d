"""Writes tests/golden/nnunet_recipe.json: how nnU-Net's trainer learns from a batch, and the numbers of its recipe.

Run it from the repository's root with a Python that has nnunetv2 2.8.1 (an environment of its own; autounet is not needed):

    PEER_PYTHON -m benchmarks.golden.nnunet_recipe tests/golden/nnunet_recipe.json

The questions are put by ``benchmarks/peer_training.py`` to nnU-Net's own trainer and loader. Weights, images and labels come from formulas
that the tests repeat, and networks learn in float64, so that no value lies on the other side of a leaky ReLU's kink by rounding.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

# ruff: noqa: E402  the variables come first: nnunetv2 wants them on import.
FOLDER = tempfile.TemporaryDirectory()
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[variable] = FOLDER.name

import numpy as np
import torch

from benchmarks import peer_training
from benchmarks.golden.nnunet_networks import our_name, wave, weight
from benchmarks.golden.nnunet_training import label_map

PLAIN_2D: dict[str, Any] = {
    "kind": "plain", "ndim": 2, "in_channels": 1, "features": (4, 6, 8, 8), "strides": ((1, 1), *((2, 2),) * 3),
    "kernel_sizes": ((3, 3),) * 4, "blocks_encoder": (2, 2, 1, 1), "blocks_decoder": (2, 1, 1),
}  # fmt: skip
RESIDUAL_3D: dict[str, Any] = {
    "kind": "residual", "ndim": 3, "in_channels": 2, "features": (4, 6, 8), "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "blocks_encoder": (1, 2, 1), "blocks_decoder": (1, 1),
}  # fmt: skip
TWO_STAGES: dict[str, Any] = PLAIN_2D | {
    "features": (4, 6), "strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3),) * 2, "blocks_encoder": (2, 1), "blocks_decoder": (1,)
}  # fmt: skip
LABELS: dict[str, Any] = {"labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
LABELS_IGNORE: dict[str, Any] = {"labels": {**LABELS["labels"], "ignore": 4}}
REGIONS: dict[str, Any] = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}, "regions_class_order": [1, 2, 3]}
REGIONS_IGNORE: dict[str, Any] = REGIONS | {"labels": {**REGIONS["labels"], "ignore": 4}}

LEARNING = (
    # name, network, patch, dataset.json, batch Dice, factor of the heads' weights: large ones make gradients that are clipped
    ("plain 2D, regions and ignore, batch Dice", PLAIN_2D, (16, 24), REGIONS_IGNORE, True, 1.0),
    ("residual 3D, labels", RESIDUAL_3D, (4, 12, 8), LABELS, False, 1.0),
    ("plain 2D of one resolution, labels and ignore, clipped", TWO_STAGES, (16, 12), LABELS_IGNORE, False, 100.0),
)
EPOCHS = (0, 400, 999)
FRESH = {"plain": PLAIN_2D | {"features": (16, 32, 64, 64)}, "residual": RESIDUAL_3D | {"features": (16, 32, 64)}}
PATCHES = (
    (128, 128, 128), (40, 120, 120), (40, 121, 40), (20, 320, 256), (120, 40, 40), (16, 48, 47), (16, 49, 8), (40, 56, 40),
    (512, 512), (60, 40), (61, 40), (40, 61), (56, 40), (17, 17),
)  # fmt: skip


def case_of(network: dict[str, Any], patch: tuple[int, ...], dataset: dict[str, Any], batch_dice: bool = False) -> dict[str, Any]:
    """A case as ``peer_training`` wants it."""
    channels = {str(channel): "MRI" for channel in range(network["in_channels"])}
    outputs = 3 if "regions_class_order" in dataset else 4
    return {
        "network": network | {"outputs": outputs},
        "patch_size": patch,
        "batch_size": 2,
        "batch_dice": batch_dice,
        "dataset": dataset | {"channel_names": channels},
        "deep_supervision": len(network["features"]) > 2,
    }


ANY = case_of(PLAIN_2D, (16, 12), LABELS)


def picked(values: dict[str, torch.Tensor], digits: int) -> dict[str, list[float]]:
    """Some of every parameter's values, by our names: those the tests look at."""
    found = {}
    for name, tensor in values.items():
        flat = tensor.flatten().double().numpy()
        found[our_name(name)] = np.round(flat[:: max(1, len(flat) // 5)], digits).tolist()
    return found


def learning() -> list[dict[str, Any]]:
    """Loss, gradients, and by how much three steps have changed the weights."""
    rows = []
    for name, network, patch, dataset, batch_dice, head_scale in LEARNING:
        case = case_of(network, patch, dataset, batch_dice)
        fresh = peer_training.named(peer_training.trainer_of(case).network)
        labels = label_map((2, *patch), 4 + ("ignore" in dataset["labels"]))
        answer = peer_training.learn(
            case
            | {
                "weights": {key: torch.from_numpy(weight(our_name(key), tuple(value.shape))) for key, value in fresh.items()},
                "image": torch.from_numpy(wave((2, network["in_channels"], *patch), 0.1)).float(),
                "labels": torch.from_numpy(labels),
                "head_scale": head_scale,
                "epochs": EPOCHS,
                "double": True,
            }
        )
        steps = []
        for epoch, step in zip(EPOCHS, answer["steps"], strict=True):
            change = {key: value - answer["weights"][key] for key, value in step["weights"].items()}
            steps.append({"epoch": epoch, "rate": step["rate"], "loss": round(step["loss"], 7), "change": picked(change, 9)})
        rows.append(
            {
                "name": name, **{key: case[key] for key in ("network", "patch_size", "batch_dice", "dataset")}, "head_scale": head_scale,
                "loss": round(answer["loss"], 7), "norm": round(answer["norm"], 6),
                "gradients": picked(answer["gradients"], 8), "steps": steps,
            }
        )  # fmt: skip
    return rows


def boxes() -> list[dict[str, Any]]:
    """First voxels of patches, for given draws."""
    rng, rows = np.random.default_rng(1), []
    for _ in range(150):
        shape, ndim = rng.integers(1, 30, 3), int(rng.integers(2, 4))
        patch = rng.integers(1, 20, ndim)
        voxels = [(rng.random((int(rng.integers(0, 3)), 3)) * shape).astype(int).tolist() for _ in range(3)]
        asked = {
            "shape": shape.tolist(),
            "patch": patch.tolist(),
            "loaded": (patch + rng.integers(0, 10, ndim)).tolist(),
            "foreground": voxels[: int(rng.integers(0, 3))],
            "annotated": voxels[2] if rng.random() < 0.5 else None,
            "forced": bool(rng.random() < 0.5),
            "draws": np.round(rng.random(5), 4).tolist(),
        }
        rows.append({**asked, "start": peer_training.box(asked)})
    return rows


def dice() -> list[dict[str, Any]]:
    """Online Dice over epochs of two batches; in the second epoch the last class is nowhere. Scores and labels are formulas."""
    rows = []
    for dataset in (LABELS, REGIONS_IGNORE):
        case, epochs = case_of(TWO_STAGES, (16, 12), dataset), []
        for epoch in range(5):
            batches = []
            for number in range(2):
                scores = 3 * wave((2, case["network"]["outputs"], 16, 12), 10 * epoch + number)
                labels = label_map((2, 16, 12), 4 + ("ignore" in dataset["labels"]))
                labels = np.roll(labels, 3 * epoch + number, axis=1)
                if epoch == 1:
                    scores[:, -1], labels[labels == 3] = -10, 0
                batches.append({"scores": torch.from_numpy(scores).float(), "labels": torch.from_numpy(labels)})
            epochs.append(batches)
        found = peer_training.pseudo_dice({"case": case, "epochs": epochs})
        # JSON has no NaN: a class that is nowhere has no Dice.
        listed = [{**epoch, "dice": [None if np.isnan(value) else value for value in epoch["dice"]]} for epoch in found]
        rows.append({"dataset": case["dataset"], "epochs": listed})
    return rows


def fresh() -> list[dict[str, Any]]:
    """Of fresh networks: the value of parameters that are constant, the standard deviation of others."""
    rows = []
    for name, network in FRESH.items():
        case = case_of(network, (16,) * network["ndim"], LABELS)
        constants, deviations = {}, {}
        for key, value in peer_training.fresh(case | {"seed": 0}).items():
            if bool((value == value.flatten()[0]).all()):
                constants[our_name(key)] = value.flatten()[0].item()
            else:
                deviations[our_name(key)] = round(value.double().std().item(), 7)
        rows.append({"name": name, "network": case["network"], "constants": constants, "deviations": deviations})
    return rows


def geometry() -> list[dict[str, Any]]:
    """Rotation, loaded size and mirroring by patch."""
    rows = []
    for network in (PLAIN_2D, RESIDUAL_3D):
        patches = [patch for patch in PATCHES if len(patch) == network["ndim"]]
        case = case_of(network, (16,) * network["ndim"], LABELS)
        answers = peer_training.geometry({"case": case, "patch_sizes": patches})
        rows += [{"patch": patch, **answer} for patch, answer in zip(patches, answers, strict=True)]
    return rows


def main() -> None:
    """Computes everything and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    target = parser.parse_args().output
    torch.set_num_threads(1)
    with peer_training.quietly():
        rates = {count: peer_training.rates({"case": ANY, "epochs": count}) for count in (50, 1000)}
        parts: dict[str, list[Any]] = {
            "learning": learning(),
            "numbers": [peer_training.numbers(ANY)],
            "rates": [{"epochs": count, "rates": {epoch: found[epoch] for epoch in range(0, count, 7)}} for count, found in rates.items()],
            "forced": [[batch, peer_training.forced(batch)] for batch in range(2, 25)],
            "geometry": geometry(),
            "boxes": boxes(),
            "dice": dice(),
            "fresh": fresh(),
        }
    # One line per entry, so that differences can be read.
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for name, entries in parts.items())
    target.write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
