"""Writes tests/golden/nnunet_augmentation.json: what nnU-Net's own list of transforms draws, and what it makes of patches.

Run it with a Python that has nnunetv2 2.8.1 and batchgeneratorsv2 0.3.6 (an environment of their own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_augmentation.py tests/golden/nnunet_augmentation.json

The list comes from ``nnUNetTrainer.get_training_transforms``, in whole; only seeds are set, and for the images probabilities to 1, so that
everything is done. Inputs come from formulas that the tests repeat (tests/training/conftest.py).
"""

import argparse
import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# ruff: noqa: E402  the variables come first: nnunetv2 wants them on import, and reads nothing from there.
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(variable, "unused")

import numpy as np
import torch
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import (
    ApplyRandomBinaryOperatorTransform,
    binary_closing_torch,
    binary_dilation_torch,
    binary_erosion_torch,
    binary_opening_torch,
)
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import RemoveRandomConnectedComponentFromOneHotEncodingTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

NAMES = ("noise", "blur", "brightness", "contrast", "low resolution", "gamma of the negative", "gamma")
KEYS = {"blur": "sigmas", "brightness": "multipliers", "contrast": "multipliers", "low resolution": "scales"}
CHANNELS = 2
LEVELS = np.linspace(0, 1, 21)
GEOMETRIES = (
    # name, loaded, patch, largest angle in degrees, dummy 2D, seed
    ("3d", (14, 12, 13), (8, 8, 8), 30, False, 1),
    ("3d", (14, 12, 13), (8, 8, 8), 30, False, 2),
    ("thick slices", (4, 17, 16), (4, 10, 12), 180, True, 3),
    ("thick slices", (4, 17, 16), (4, 10, 12), 180, True, 4),
    ("2d", (26, 25), (18, 16), 180, False, 5),
    ("2d", (26, 25), (18, 16), 180, False, 6),
)


def wave(shape: Sequence[int], phase: float) -> np.ndarray:
    """Values from -1 to 1 without a period."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def label_map(shape: Sequence[int], labels: int) -> np.ndarray:
    """Blobs of the labels 0 .. labels - 1."""
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


def rounded(values: Any, digits: int = 6) -> Any:
    """Nested lists of numbers with few digits."""
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()


def the_list(patch: tuple[int, ...], degrees: float, dummy_2d: bool) -> list[Any]:
    """nnU-Net's transforms, without those for the network's targets."""
    limit = degrees / 360 * 2.0 * np.pi
    axes = tuple(range(len(patch)))
    transforms = nnUNetTrainer.get_training_transforms(patch, (-limit, limit), None, axes, dummy_2d)
    return list(transforms.transforms)


def values_of(name: str, parameters: dict[str, Any]) -> tuple[list[int], list[list[float]]]:
    """Changed channels, and the numbers for each of them, in the form of autounet's draws."""
    if name == "noise":
        channels = parameters["apply_idx"].tolist()
        return channels, [[float(parameters["sigmas"])] for _ in channels]
    changed = parameters["apply_to_channel"]
    channels = np.flatnonzero(changed).tolist() if changed.dtype == torch.bool else changed.tolist()
    found = parameters["gamma" if "gamma" in name else KEYS[name]]
    values = [] if found is None else [np.atleast_1d(np.asarray(row, dtype=np.float64)).tolist() for row in found]
    return channels, values[: len(channels)]


def images() -> list[dict[str, Any]]:
    """The whole list at work, everything applied: parameters as drawn, and the patch at the end."""
    found = []
    for name, loaded, patch, degrees, dummy_2d, seed in GEOMETRIES:
        np.random.seed(seed)  # noqa: NPY002  batchgeneratorsv2 draws from the global states
        torch.manual_seed(seed)
        data = {
            "image": torch.from_numpy(wave((CHANNELS, *loaded), 0.3)).float(),
            "segmentation": torch.from_numpy(label_map(loaded, 3))[None],
        }
        entry: dict[str, Any] = {"name": name, "loaded": loaded, "patch": patch, "intensity": {}}
        names = iter(NAMES)
        for transform in the_list(patch, degrees, dummy_2d):
            kind = type(transform).__name__
            if isinstance(transform, RandomTransform):
                inner, which = transform.transform, next(names)
                parameters = inner.get_parameters(**data)
                channels, values = values_of(which, parameters)
                before = data["image"].clone()
                data = inner.apply(data, **parameters)
                entry["intensity"][which] = {"channels": channels, "values": rounded(values, 9)}
                if which == "noise":
                    entry["noise"] = rounded((data["image"] - before).flatten(), 6)
                continue
            if kind == "SpatialTransform":
                transform.p_rotation = transform.p_scaling = 1
            parameters = transform.get_parameters(**data)
            data = transform.apply(data, **parameters)
            if kind == "SpatialTransform":
                entry["matrix"] = rounded(parameters["affine"], 12)
            if kind == "MirrorTransform":
                entry["flips"] = parameters["axes"]
        entry["image"] = rounded(data["image"].flatten(), 5)
        entry["labels"] = data["segmentation"].flatten().tolist()
        found.append(entry)
    return found


def summary(values: Sequence[float]) -> dict[str, Any]:
    """How many numbers there are, and their quantiles at LEVELS."""
    return {"count": len(values), "quantiles": rounded(np.quantile(values, LEVELS))}


def draws(samples: int) -> list[dict[str, Any]]:
    """How often each transform is applied to how many channels, and how its numbers are spread."""
    found = []
    for name, shape, degrees, dummy_2d in (
        ("3d", (4, 4, 4), 30, False),
        ("thick slices", (2, 8, 8), 180, True),
        ("2d", (4, 4), 180, False),
    ):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        image = torch.zeros(CHANNELS, *shape)
        spatial = {"rotated": 0, "scaled": 0, "both": 0}
        angles: list[float] = []
        scales: list[float] = []
        flips = np.zeros((2,) * len(shape), int)
        intensity = {each: {"channels": [0] * (CHANNELS + 1), "shared": 0, "values": []} for each in NAMES}
        transforms = the_list(shape, degrees, dummy_2d)
        for _ in range(samples):
            names = iter(NAMES)
            for transform in transforms:
                kind = type(transform).__name__
                if isinstance(transform, RandomTransform):
                    which = next(names)
                    counts = intensity[which]
                    if not transform.get_parameters()["apply_transform"]:
                        counts["channels"][0] += 1
                        continue
                    channels, values = values_of(which, transform.transform.get_parameters(image=image))
                    counts["channels"][len(channels)] += 1
                    counts["shared"] += len(channels) == CHANNELS and values[0] == values[1]
                    # A scale for all axes, or all but one, is one number.
                    counts["values"] += [number for row in values for number in (row[-1:] if which == "low resolution" else row)]
                elif kind == "SpatialTransform":
                    plane = image[:, 0] if dummy_2d else image
                    matrix = transform.get_parameters(image=plane)["affine"]
                    if matrix is None:
                        continue
                    scale = float(np.linalg.det(matrix)) ** (1 / len(matrix))
                    turn = matrix / scale
                    rotated, scaled = not np.allclose(turn, np.eye(len(turn))), not np.isclose(scale, 1)
                    spatial["rotated"] += rotated
                    spatial["scaled"] += scaled
                    spatial["both"] += rotated and scaled
                    scales += [scale] * scaled
                    if rotated:
                        angles += angles_of(turn)
                elif kind == "MirrorTransform":
                    axes = transform.get_parameters(image=image)["axes"]
                    flips[tuple(int(axis in axes) for axis in range(len(shape)))] += 1
        found.append(
            {
                "name": name,
                "shape": shape,
                "samples": samples,
                **spatial,
                "angles_rad": summary(angles),
                "scales": summary(scales),
                "flips": flips.flatten().tolist(),
                "intensity": {
                    each: {"channels": counts["channels"], "shared": counts["shared"], **summary(counts["values"])}
                    for each, counts in intensity.items()
                },
            }
        )
    return found


def angles_of(turn: np.ndarray) -> list[float]:
    """The angles that a rotation was made of."""
    if len(turn) == 2:
        return [float(np.arctan2(turn[1, 0], turn[0, 0]))]
    return [float(np.arctan2(turn[2, 1], turn[2, 2])), float(-np.arcsin(turn[2, 0])), float(np.arctan2(turn[1, 0], turn[0, 0]))]


OPERATORS = {"dilate": binary_dilation_torch, "erode": binary_erosion_torch, "close": binary_closing_torch, "open": binary_opening_torch}


def one_hot(shape: Sequence[int]) -> torch.Tensor:
    """Two foreground labels of ``label_map``."""
    labels = label_map(shape, 3)
    return torch.from_numpy(np.stack([labels == 1, labels == 2])).float()


def packed(mask: torch.Tensor) -> str:
    """Zeros and ones, eight to a byte, as hexadecimal digits."""
    return np.packbits(mask.numpy() > 0).tobytes().hex()


def cascade() -> dict[str, Any]:
    """Operators by given parameters; every outcome that the removal of a component may have; how often both are done."""
    operators = []
    for shape in ((11, 12, 10), (19, 18)):
        for name, operator in OPERATORS.items():
            for radius in (1.0, 1.7, 2.5, 3.2):
                transform = ApplyRandomBinaryOperatorTransform([-2, -1])
                parameters = {"apply_to_channels": [-2], "operators": [operator], "strel_size": [radius]}
                result = transform.apply({"image": one_hot(shape)}, **parameters)["image"]
                operators.append({"shape": shape, "operator": name, "radius": radius, "mask": packed(result)})
    removals = []
    for shape in ((11, 12, 10), (19, 18)):
        outcomes = set()
        for seed in range(200):
            np.random.seed(seed)  # noqa: NPY002
            transform = RemoveRandomConnectedComponentFromOneHotEncodingTransform([-2, -1], 0, 0.15)
            result = transform.apply({"image": one_hot(shape)}, apply_to_channels=[-1])["image"]
            outcomes.add(packed(result[1]))
        removals.append({"shape": shape, "outcomes": sorted(outcomes)})
    return {"operators": operators, "removals": removals, "draws": cascade_draws(8000)}


def cascade_draws(samples: int) -> dict[str, Any]:
    """Counts over the samples, with three foreground labels."""
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    transforms = nnUNetTrainer.get_training_transforms((4, 4, 4), (0, 1), None, (), False, is_cascaded=True, foreground_labels=[1, 2, 3])
    operator, removal = [transform for transform in transforms.transforms if isinstance(transform, RandomTransform)][-2:]
    operations, removed = [0] * 4, [0] * 4
    radii: list[float] = []
    kinds = dict.fromkeys(OPERATORS, 0)
    for _ in range(samples):
        drawn = operator.transform.get_parameters(image=None) if operator.get_parameters()["apply_transform"] else None
        operations[len(drawn["operators"]) if drawn else 0] += 1
        if drawn:
            radii += drawn["strel_size"]
            for each in drawn["operators"]:
                kinds[next(name for name, known in OPERATORS.items() if known is each)] += 1
        drawn = removal.transform.get_parameters(image=None) if removal.get_parameters()["apply_transform"] else None
        removed[len(drawn["apply_to_channels"]) if drawn else 0] += 1
    return {"samples": samples, "operations": operations, "removals": removed, "operators": kinds, "radii": summary(radii)}


def main() -> None:
    """Computes everything and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    target = parser.parse_args().output
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # One line per entry, so that differences can be read.
    lists = {"images": images(), "draws": draws(8000)}
    parts = [f'"{name}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for name, entries in lists.items()]
    parts.append(f'"cascade": {json.dumps(cascade())}')
    target.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
