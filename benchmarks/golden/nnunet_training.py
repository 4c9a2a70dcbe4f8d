"""Writes tests/golden/nnunet_training.json: losses, loaded patch sizes and augmented images as nnU-Net computes them.

Run it with a Python that has nnunetv2 2.8.1 and batchgeneratorsv2 0.3.6 (an environment of their own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_training.py tests/golden/nnunet_training.json

All inputs come from ``wave`` and ``label_map``, formulas that the tests repeat, so that no input is stored.
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
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

DIGITS = 6


def wave(shape: Sequence[int], phase: float) -> np.ndarray:
    """Values from -1 to 1 without a period."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def label_map(shape: Sequence[int], labels: int) -> np.ndarray:
    """Blobs of the labels 0 .. labels - 1."""
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


def rounded(values: Any) -> Any:
    """Nested lists of numbers with few digits."""
    return np.round(np.asarray(values, dtype=np.float64), DIGITS).tolist()


LOSS_CASES = (
    # name, shape, foreground labels, ignore, regions, all voxels ignored
    ("labels 2d", (2, 6, 8), 3, False, None, False),
    ("labels 3d", (2, 4, 4, 4), 2, False, None, False),
    ("labels and ignore", (2, 6, 8), 3, True, None, False),
    ("everything ignored", (2, 6, 8), 3, True, None, True),
    ("regions", (2, 6, 8), 3, False, [[1, 2, 3], [2, 3], [3]], False),
    ("regions and ignore", (2, 6, 8), 3, True, [[1, 2, 3], [2, 3], [3]], False),
)


def losses() -> list[dict[str, Any]]:
    """Value and gradients of the deep supervision loss for every case, with and without batch_dice."""
    found = []
    for name, shape, foreground, ignore, regions, all_ignored in LOSS_CASES:
        for batch_dice in (False, True):
            outputs = len(regions) if regions else foreground + 1
            ignore_label = foreground + 1 if ignore else None
            labels = np.full(shape, ignore_label) if all_ignored else label_map(shape, foreground + 1 + ignore)
            scales = [[0.5**level] * (len(shape) - 1) for level in range(3)]
            targets = []
            for sample in labels:
                target = torch.from_numpy(sample)[None]
                if regions:
                    every = [tuple(region) for region in regions] + ([ignore_label] if ignore else [])
                    target = ConvertSegmentationToRegionsTransform(every)(segmentation=target)["segmentation"]
                targets.append(DownsampleSegForDSTransform(scales)(segmentation=target)["segmentation"])
            stacked = [torch.stack(level) for level in zip(*targets, strict=True)]
            scores = [
                torch.tensor(3 * wave((shape[0], outputs, *target.shape[2:]), level), dtype=torch.float32, requires_grad=True)
                for level, target in enumerate(stacked)
            ]
            dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": regions is not None, "ddp": False}
            if regions:
                loss = DC_and_BCE_loss({}, dice, use_ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)
            else:
                loss = DC_and_CE_loss(dice, {}, ignore_label=ignore_label, dice_class=MemoryEfficientSoftDiceLoss)
            weights = np.array([1.0, 0.5, 0.0])
            value = DeepSupervisionWrapper(loss, weights / weights.sum())(scores, stacked)
            value.backward()
            found.append(
                {
                    "name": name,
                    "shape": shape,
                    "foreground": foreground,
                    "ignore": ignore,
                    "regions": regions,
                    "all_ignored": all_ignored,
                    "batch_dice": batch_dice,
                    "value": rounded(value.item()),
                    "gradients": [rounded(score.grad.flatten()) for score in scores[:2]],
                }
            )
    return found


def patch_sizes() -> list[list[list[int]]]:
    """Pairs of patch size and loaded size, by the rule of nnUNetTrainer for the angles."""
    rng = np.random.RandomState(0)
    patches = [
        [20, 320, 256],
        [40, 56, 40],
        [128, 128, 128],
        [10, 256, 224],
        [14, 256, 256],
        [56, 40],
        [512, 512],
        [17, 17],
        [64, 96],
        [64, 97],
    ]
    patches += [[16 * int(side) for side in rng.randint(1, 16, 3)] for _ in range(60)]
    patches += [[int(first), *(32 * int(side) for side in rng.randint(3, 12, 2))] for first in rng.randint(4, 40, 30)]
    patches += [[8 * int(side) for side in rng.randint(2, 90, 2)] for _ in range(40)]
    pairs = []
    for patch in patches:
        if len(patch) == 2:
            within_slices, degrees = False, 15 if max(patch) / min(patch) > 1.5 else 180
        else:
            within_slices = max(patch) / patch[0] > 3
            degrees = 180 if within_slices else 30
        angles = (-degrees / 360 * 2.0 * np.pi, degrees / 360 * 2.0 * np.pi)
        loaded = get_patch_size(patch, angles, angles, angles, (0.85, 1.25))
        if within_slices:
            loaded[0] = patch[0]
        pairs.append([patch, loaded.tolist()])
    return pairs


SPATIAL_CASES = (
    # loaded, patch, angles in radians, scale
    ((12, 11, 13), (6, 6, 6), (0.3, -0.2, 0.5), 1.2),
    ((12, 11, 13), (6, 6, 6), (0.0, 0.0, 0.0), 0.8),
    ((10, 10, 10), (6, 6, 6), (-0.5, 0.4, 0.1), 1.4),
    ((16, 15), (10, 8), (2.5,), 1.0),
    ((12, 20), (8, 12), (-0.25,), 1.4),
)


def spatial() -> list[dict[str, Any]]:
    """Images and labels after rotation and scaling by given amounts."""
    found = []
    for loaded, patch, angles, scale in SPATIAL_CASES:
        # In 2D batchgeneratorsv2 turns by the last of its angles.
        each = angles if len(angles) == 3 else (0.0, *angles)
        transform = SpatialTransform(
            patch,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=1,
            rotation=lambda image, dim, each=each: each[dim],
            p_scaling=1,
            scaling=scale,
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=-1,
        )
        image = torch.from_numpy(wave((1, *loaded), 0.0)).float()
        labels = torch.from_numpy(label_map(loaded, 3))[None]
        result = transform(image=image, segmentation=labels)
        found.append(
            {
                "loaded": loaded,
                "patch": patch,
                "angles_rad": angles,
                "scale": scale,
                "image": rounded(result["image"].flatten()),
                "labels": result["segmentation"].flatten().tolist(),
            }
        )
    return found


INTENSITY_SHAPES = ((6, 7, 5), (9, 8))


def intensity() -> list[dict[str, Any]]:
    """Images after each deterministic change of intensity."""
    found = []
    for shape in INTENSITY_SHAPES:
        sigmas = [0.6, 0.9, 0.75][: len(shape)]
        changes = (
            ("contrast", [0.8], ContrastTransform(0.8, True, False)),
            ("contrast", [1.2], ContrastTransform(1.2, True, False)),
            ("gamma", [0.75], GammaTransform(0.75, 0, False, 1, 1)),
            ("gamma of the negative", [1.4], GammaTransform(1.4, 1, False, 1, 1)),
            ("blur", sigmas, GaussianBlurTransform(lambda image_shape, dim, sigmas=sigmas: sigmas[dim - 1])),
            ("low resolution", [0.6], SimulateLowResolutionTransform(0.6, False, True, None)),
        )
        for name, values, transform in changes:
            image = torch.from_numpy(wave((1, *shape), 1.0)).float()
            result = transform(image=image)["image"]
            found.append({"name": name, "shape": shape, "values": values, "image": rounded(result.flatten())})
    return found


def main() -> None:
    """Computes everything and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    target = parser.parse_args().output
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parts = {"losses": losses(), "patch_sizes": patch_sizes(), "spatial": spatial(), "intensity": intensity()}
    # One line per entry, so that differences can be read.
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for name, entries in parts.items())
    target.write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
