"""Writes tests/golden/nnunet_preprocessing.json: resampled arrays and prepared cases as nnU-Net computes them.

Run it with a Python that has nnunetv2 2.8.1 and batchgenerators 0.25.5 (an environment of their own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_preprocessing.py tests/golden/nnunet_preprocessing.json

All inputs come from ``wave``, ``blobs`` and ``noise``, formulas that the tests repeat, so that no input is stored.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.augmentations.utils import resize_segmentation
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def wave(shape: Sequence[int], phase: float) -> np.ndarray:
    """Values from -1 to 1 without a period."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def blobs(shape: Sequence[int], labels: int) -> np.ndarray:
    """Smooth regions of the labels 0 .. labels - 1."""
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


def noise(shape: Sequence[int], labels: int) -> np.ndarray:
    """Every voxel another of the labels 0 .. labels - 1, so that many voxels are ties once resampled."""
    index = np.arange(math.prod(shape), dtype=np.uint64)
    return ((index * 2654435761 >> 9) % labels).astype(np.int16).reshape(shape)


def raw_image(shape: Sequence[int], channels: int) -> np.ndarray:
    """Intensities around 60 with an empty margin, more of it on one side, an empty corner within and an empty hole inside."""
    image = np.stack([60 + 50 * wave(shape, float(channel)) for channel in range(channels)]).astype(np.float32)
    image[:, :1] = image[:, :, -2:] = image[:, :, :, :3] = 0
    image[:, 1:4, :2, 3:6] = 0
    image[:, shape[0] // 2, shape[1] // 2 - 1, shape[2] // 2] = 0
    return image


SHAPES = (
    # shape, spacing, target; 5 · 0.5 and 7 · 0.5 are halves, rounded to the even neighbour
    ((5, 7, 9), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    ((35, 51, 35), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((10, 320, 260), (8.0, 0.7, 0.7), (5.0, 1.25, 1.3)),
    ((100, 33, 3), (0.8, 2.5, 2.5), (1.6, 1.0, 1.0)),
)

SPACINGS = (
    ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0)),
    ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0)),
    ((1.0, 1.0, 4.0), (6.0, 1.0, 1.0)),
    ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0)),
    ((1.0, 0.2, 0.9), (5.0, 1.0, 1.0)),
    ((2.0, 1.0, 1.0), (0.5, 2.0, 2.0)),
)

IMAGES = (
    # shape, new shape, spacing, target
    ((6, 7, 5), (9, 7, 8), (1.5, 1.0, 1.6), (1.0, 1.0, 1.0)),
    ((9, 8, 7), (5, 6, 4), (1.0, 1.0, 1.0), (1.8, 1.3, 1.7)),
    ((4, 8, 9), (6, 10, 7), (5.0, 1.0, 1.0), (3.3, 0.8, 1.3)),
    ((7, 5, 6), (9, 3, 8), (1.0, 4.0, 1.0), (0.8, 6.0, 0.7)),
    ((6, 8, 5), (6, 8, 3), (1.0, 1.0, 4.0), (1.0, 1.0, 7.0)),
    ((1, 6, 7), (1, 9, 5), (1.0, 1.0, 1.0), (1.0, 0.7, 1.4)),
)

LABELS = (
    # shape, new shape, labels
    ((6, 7, 5), (12, 14, 10), 2),
    ((8, 6, 6), (4, 3, 3), 3),
    ((5, 7, 6), (9, 5, 11), 4),
    ((6, 6, 6), (9, 9, 9), 5),
    ((1, 9, 10), (1, 15, 7), 5),
)

CASES = {
    "isotropic, z-score": {
        "shape": (9, 10, 11), "spacing": (1.0, 1.0, 1.0), "transpose": (0, 1, 2), "target": (0.8, 1.2, 0.9),
        "channels": ("MRI",), "schemes": ("ZScoreNormalization",), "mask": (False,),
    },
    "thick slices, CT and z-score in the mask": {
        "shape": (10, 6, 12), "spacing": (0.8, 4.0, 0.9), "transpose": (1, 0, 2), "target": (3.5, 1.0, 1.0),
        "channels": ("CT", "MRI"), "schemes": ("CTNormalization", "ZScoreNormalization"), "mask": (False, True),
    },
    "slices of a 2d configuration": {
        "shape": (6, 12, 11), "spacing": (4.0, 1.0, 1.2), "transpose": (0, 2, 1), "target": (0.9, 1.3),
        "channels": ("rescale", "RGB"), "schemes": ("RescaleTo01Normalization", "NoNormalization"), "mask": (False, False),
    },
}  # fmt: skip

INTENSITIES = {"mean": 70.0, "std": 25.0, "percentile_00_5": 20.0, "percentile_99_5": 100.0}


def plans(case: dict[str, Any]) -> PlansManager:
    """As much of a plans file as preparing and restoring a case need."""
    resample = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "spacing": list(case["target"]), "normalization_schemes": list(case["schemes"]), "use_mask_for_norm": list(case["mask"]),
        "architecture": {},
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": resample,
        "resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_seg_kwargs": {**resample, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape", "resampling_fn_probabilities_kwargs": {**resample, "order": 1},
    }  # fmt: skip
    return PlansManager(
        {
            "configurations": {"chosen": configuration},
            "transpose_forward": list(case["transpose"]),
            "transpose_backward": np.argsort(case["transpose"]).tolist(),
            "foreground_intensity_properties_per_channel": {str(channel): INTENSITIES for channel in range(len(case["channels"]))},
            "label_manager": "LabelManager",
        }
    )


def prepared(case: dict[str, Any]) -> dict[str, Any]:
    """The case as nnU-Net prepares it, and label maps it restores from scores on the prepared grid."""
    manager = plans(case)
    configuration = manager.get_configuration("chosen")
    dataset = {"labels": {"background": 0, "one": 1, "two": 2}}
    image = raw_image(case["shape"], len(case["channels"]))
    labels = np.where(image.any(0), blobs(case["shape"], 3), 0)
    properties = {"spacing": list(case["spacing"])}
    image, labels, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, labels[None], properties, manager, configuration, dataset
    )
    scores = np.stack([wave(image.shape[1:], 2.0 + 5 * channel) for channel in range(3)]).astype(np.float32)
    restored = convert_predicted_logits_to_segmentation_with_correct_shape(
        scores, manager, configuration, manager.get_label_manager(dataset), properties, num_threads_torch=1
    )
    return {
        **case,
        "box": np.array(properties["bbox_used_for_cropping"]).tolist(),
        "shape_prepared": list(image.shape),
        "image": flat(image),
        "labels": digits(labels[0] + 1),
        "restored": digits(restored),
    }


def flat(values: Any) -> list[float]:
    """Numbers in one list, with few digits."""
    return np.round(np.asarray(values, dtype=np.float64).ravel(), 6).tolist()


def digits(labels: Any) -> str:
    """A label map as one digit per voxel."""
    return "".join(str(int(value)) for value in np.asarray(labels).ravel())


def resampled_images() -> list[dict[str, Any]]:
    """Images, and labels where an axis is resampled on its own."""
    found = []
    for shape, new_shape, spacing, target in IMAGES:
        rest = {"order_z": 0, "force_separate_z": None}
        image = resample_data_or_seg_to_shape(wave(shape, 0.5)[None], new_shape, spacing, target, is_seg=False, order=3, **rest)
        labels = resample_data_or_seg_to_shape(noise(shape, 4)[None], new_shape, spacing, target, is_seg=True, order=1, **rest)
        found.append(
            {"shape": shape, "new_shape": new_shape, "spacing": spacing, "target": target, "image": flat(image), "labels": digits(labels)}
        )
    return found


def resampled_labels() -> list[dict[str, Any]]:
    """Label maps through ``resize_segmentation`` alone: noise and smooth regions."""
    return [
        {
            "shape": shape,
            "new_shape": new_shape,
            "count": count,
            "noise": digits(resize_segmentation(noise(shape, count), new_shape, order=1)),
            "blobs": digits(resize_segmentation(blobs(shape, count), new_shape, order=1)),
        }
        for shape, new_shape, count in LABELS
    ]


def axis_of(spacing: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis resampled on its own."""
    _, axis = determine_do_sep_z_and_axis(None, spacing, target)
    return None if axis is None else int(axis)


def main() -> None:
    """Computes everything and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    golden = {
        "made_by": "benchmarks/golden/nnunet_preprocessing.py with nnunetv2 2.8.1, batchgenerators 0.25.5",
        "shapes": [{"shape": a, "spacing": b, "target": c, "new_shape": compute_new_shape(a, b, c).tolist()} for a, b, c in SHAPES],
        "axes": [{"spacing": a, "target": b, "axis": axis_of(a, b)} for a, b in SPACINGS],
        "images": resampled_images(),
        "labels": resampled_labels(),
        "cases": {name: prepared(case) for name, case in CASES.items()},
    }
    rows = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    parser.parse_args().output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
