"""Datasets that do not exist, as nnU-Net's dataset.json and dataset_fingerprint.json: every kind of image that a planner may meet.

A dataset follows from a seed and its number alone, so that one that makes trouble can be made again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rng = np.random.Generator

PLANAR_SPACING = 999.0
"""What nnU-Net gives planar images along their missing axis, times their own spacing."""
PLAIN = "ExperimentPlanner"
PLANNERS: dict[str, tuple[str, float]] = {
    PLAIN: ("nnunet", 8.0),
    "nnUNetPlannerResEncM": ("resenc-m", 8.0),
    "nnUNetPlannerResEncL": ("resenc-l", 24.0),
    "nnUNetPlannerResEncXL": ("resenc-xl", 40.0),
}
"""nnU-Net's planners: our preset, and the GPU memory in GB they are meant for."""
MEMORIES = (2.0, 4.0, 8.0, 11.0, 24.0, 40.0, 80.0)
CHANNELS = ("CT", "ct", "MRI", "T1", "FLAIR", "PET", "noNorm", "zscore", "ZScore", "rescale_to_0_1", "rgb_to_0_1", "R", "CT_contrast", "")
RELATIVE_SIZES = (1.0, 0.35, 0.7499999, 0.75, 0.7500001)
"""Some sizes after cropping; the mask rule asks for less than 0.75."""
USUAL_MM = (0.5, 0.7, 0.78125, 0.9765625, 1.0, 1.25, 1.5, 1.5625, 0.4882810115814209, 0.3645833432674408, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class RandomDataset:
    """One dataset and how it is to be planned."""

    number: int
    kind: str
    dataset: dict[str, Any]
    """dataset.json."""
    fingerprint: dict[str, Any]
    """dataset_fingerprint.json."""
    planner: str
    memory_gb: float


@dataclass(frozen=True, slots=True)
class _Images:
    spacings: np.ndarray
    """(cases, 3), in mm."""
    shapes: np.ndarray
    """(cases, 3), in voxels."""


def random_dataset(seed: int, number: int) -> RandomDataset:
    """The dataset of a number: the kinds of images take turns, everything else is drawn."""
    rng = np.random.default_rng((seed, number))
    kind = tuple(KINDS)[number % len(KINDS)]
    images = KINDS[kind](rng, _cases(rng))
    labels, order = _labels(rng)
    channels = [str(rng.choice(CHANNELS)) for _ in range(rng.choice([1, 1, 1, 2, 3, 4, 8]))]
    dataset: dict[str, Any] = {
        "channel_names": {str(position): name for position, name in enumerate(channels)},
        "labels": labels,
        "numTraining": len(images.shapes),
        "file_ending": ".nii.gz",
    }
    if order:
        dataset["regions_class_order"] = order
    planner = str(rng.choice([PLAIN, PLAIN, PLAIN, *PLANNERS]))
    usual = PLANNERS[planner][1]
    memory = float(rng.choice(MEMORIES)) if planner == PLAIN or rng.random() < 0.3 else usual
    fingerprint = {
        "spacings": images.spacings.tolist(),
        "shapes_after_crop": images.shapes.tolist(),
        "foreground_intensity_properties_per_channel": {str(position): _intensities(rng) for position in range(len(channels))},
        "median_relative_size_after_cropping": float(rng.choice([*RELATIVE_SIZES, float(rng.uniform(0.1, 1.0))])),
    }
    return RandomDataset(number, kind, dataset, fingerprint, planner, memory)


def _cases(rng: Rng) -> int:
    return int(rng.choice([1, 2, 3, 4, int(np.exp(rng.uniform(0, np.log(60)))), int(np.exp(rng.uniform(0, np.log(600))))]))


def _labels(rng: Rng) -> tuple[dict[str, Any], list[int]]:
    """The entry ``labels`` of dataset.json, and regions_class_order or nothing."""
    count = int(np.exp(rng.uniform(0, np.log(120.99))))
    labels: dict[str, Any] = {"background": 0}
    order: list[int] = []
    if rng.random() < 0.2:
        # Nested regions: each holds the labels from its own to the last.
        labels |= {f"region{first}": list(range(first, count + 1)) for first in range(1, count + 1)}
        order = list(range(1, count + 1))
        if count == 1:
            labels, order = {"background": 0, "whole": [1, 2], "core": [2]}, [1, 2]
            count = 2
    else:
        labels |= {f"class{value}": value for value in range(1, count + 1)}
    if rng.random() < 0.2:
        labels["ignore"] = count + 1
    return labels, order


def _intensities(rng: Rng) -> dict[str, float]:
    low, middle, high = sorted(rng.uniform(-1000, 3000, 3).tolist())
    return {
        "mean": middle + 1, "median": middle, "std": float(rng.uniform(0.1, 500)), "min": low - 10, "max": high + 10,
        "percentile_00_5": low, "percentile_99_5": high,
    }  # fmt: skip


def _edge(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _mm(rng: Rng, low: float = 0.3, high: float = 4.0) -> float:
    """A spacing such as scanners use, or any."""
    usual = [value for value in USUAL_MM if low <= value <= high]
    return float(rng.choice(usual)) if usual and rng.random() < 0.6 else _edge(rng, low, high)


def _spread(rng: Rng, spacing_mm: list[float], cases: int) -> np.ndarray:
    """Spacings of all cases: all alike, a few protocols, or every case its own."""
    base = np.array(spacing_mm)
    way = rng.integers(4)
    if way == 0:
        return np.tile(base, (cases, 1))
    if way == 1:
        protocols = base * np.exp(rng.normal(0, 0.3, (3, 3)))
        return protocols[rng.integers(0, 3, cases)]
    if way == 2:
        return base * np.exp(rng.normal(0, rng.choice([0.01, 0.1, 0.5]), (cases, 3)))
    return base * np.exp(rng.normal(0, 0.3, (cases, 1)))


def _sizes(rng: Rng, shape: list[float], cases: int, planar: bool = False) -> np.ndarray:
    """Sizes of all cases around a shape; an even number of unlike cases makes medians of half voxels."""
    wobble = rng.choice([0.0, 0.01, 0.1, 0.4])
    sizes = np.maximum(1, np.rint(np.array(shape) * np.exp(rng.normal(0, wobble, (cases, 3))))).astype(int)
    if planar:
        sizes[:, 0] = 1
    return sizes


def _turned(rng: Rng, images: _Images) -> _Images:
    """The same images with their axes in any order."""
    order = rng.permutation(3)
    return _Images(images.spacings[:, order], images.shapes[:, order])


def _pixels(rng: Rng, cases: int) -> _Images:
    """Microscopy and photographs: files without a spacing."""
    shape = [1.0, _edge(rng, 16, 1500), _edge(rng, 16, 1500)]
    return _Images(np.tile([PLANAR_SPACING, 1.0, 1.0], (cases, 1)), _sizes(rng, shape, cases, planar=True))


def _planar(rng: Rng, cases: int) -> _Images:
    """Planar images that know their spacing, much the same in all of them."""
    spacing = [_mm(rng, 0.1, 4.0), _mm(rng, 0.1, 4.0)] if rng.random() < 0.3 else [_mm(rng, 0.1, 4.0)] * 2
    in_plane = np.array(spacing) * np.exp(rng.normal(0, rng.choice([0.0, 0.05]), (cases, 1)))
    spacings = np.column_stack([PLANAR_SPACING * in_plane.max(1), in_plane])
    return _Images(spacings, _sizes(rng, [1.0, _edge(rng, 16, 1500), _edge(rng, 16, 1500)], cases, planar=True))


def _planar_unlike(rng: Rng, cases: int) -> _Images:
    """Planar images of several devices, with pixels of unlike sizes."""
    images = _planar(rng, cases)
    return _Images(images.spacings * rng.choice([0.2, 0.5, 1.0, 1.0, 1.0, 1.5], (cases, 1)), images.shapes)


def _isotropic(rng: Rng, cases: int) -> _Images:
    return _Images(_spread(rng, [_mm(rng)] * 3, cases), _sizes(rng, [_edge(rng, 20, 700) for _ in range(3)], cases))


def _nearly_isotropic(rng: Rng, cases: int) -> _Images:
    return _Images(_spread(rng, [_mm(rng, 0.6, 1.6) for _ in range(3)], cases), _sizes(rng, [_edge(rng, 20, 500)] * 3, cases))


def _thick_slices(rng: Rng, cases: int) -> _Images:
    fine = _mm(rng, 0.3, 2.0)
    shape = [_edge(rng, 6, 120), *[_edge(rng, 64, 700)] * 2]
    return _Images(_spread(rng, [fine * rng.uniform(1.5, 12), fine, fine], cases), _sizes(rng, shape, cases))


def _percentile_rule(rng: Rng, cases: int) -> _Images:
    """Around the rule's edges: about 3 times as coarse, about 3 times fewer voxels."""
    fine = _mm(rng, 0.5, 2.0)
    slices = _edge(rng, 12, 100)
    ratios = rng.choice([2.9, 3.0, 3.0000001, 3.1, 5.0], 2)
    shape = [slices, *[max(8.0, round(slices) * ratios[1] + rng.integers(-1, 2))] * 2]
    spacings = np.tile([fine * ratios[0], fine, fine], (cases, 1))
    if rng.random() < 0.7:
        spacings[:, 0] *= rng.choice([0.2, 0.5, 0.9, 1.0, 1.0, 1.0, 1.2], cases)
    return _turned(rng, _Images(spacings, _sizes(rng, shape, cases)))


def _two_coarse_axes(rng: Rng, cases: int) -> _Images:
    fine = _mm(rng, 0.3, 1.5)
    coarse = fine * rng.uniform(1.5, 8)
    shape = [_edge(rng, 60, 900), _edge(rng, 12, 200), _edge(rng, 12, 200)]
    return _turned(rng, _Images(_spread(rng, [fine, coarse, coarse * rng.uniform(0.8, 1.3)], cases), _sizes(rng, shape, cases)))


def _turned_slices(rng: Rng, cases: int) -> _Images:
    return _turned(rng, _thick_slices(rng, cases))


def _anything(rng: Rng, cases: int) -> _Images:
    spacings = _spread(rng, [_edge(rng, 0.05, 10) for _ in range(3)], cases)
    return _Images(spacings, _sizes(rng, [_edge(rng, 8, 1500) for _ in range(3)], cases))


def _extreme(rng: Rng, cases: int) -> _Images:
    """Far beyond what scanners make: rods, leaves, voxels of a decimetre."""
    spacings = _spread(rng, [_edge(rng, 0.001, 100) for _ in range(3)], cases)
    return _Images(spacings, _sizes(rng, [_edge(rng, 2, 1500) for _ in range(3)], cases))


def _low_resolution_edge(rng: Rng, cases: int) -> _Images:
    """Where a patch covers about a quarter of an image, or the low resolution about half the voxels."""
    edge = 128 * (1 / (rng.choice([0.25, 0.125]) * rng.uniform(0.8, 1.2))) ** (1 / 3) * rng.choice([0.8, 1.0, 1.2, 1.5])
    shape = (edge * np.exp(rng.normal(0, 0.05, 3))).tolist()
    return _Images(np.tile(_mm(rng), (cases, 3)), _sizes(rng, shape, cases))


def _huge(rng: Rng, cases: int) -> _Images:
    spacing = [_mm(rng, 0.1, 1.0)] * 3 if rng.random() < 0.5 else [_mm(rng, 0.3, 5.0), *[_mm(rng, 0.3, 1.0)] * 2]
    return _Images(_spread(rng, spacing, cases), _sizes(rng, [_edge(rng, 200, 1500) for _ in range(3)], cases))


def _small(rng: Rng, cases: int) -> _Images:
    """Near the sizes below which nothing can be halved: 8 voxels, or 12 along a lone axis."""
    shape = [float(rng.integers(5, 40)) for _ in range(3)]
    return _Images(_spread(rng, [_mm(rng) for _ in range(3)], cases), _sizes(rng, shape, cases))


def _half_voxels(rng: Rng, cases: int) -> _Images:
    """Two cases of sizes that differ by one: every median lies between two voxels."""
    low = np.array([rng.integers(5, 200) for _ in range(3)])
    spacing = [_mm(rng)] * 3 if rng.random() < 0.5 else [_mm(rng) for _ in range(3)]
    return _Images(np.tile(spacing, (2, 1)), np.stack([low, low + 1]))


def _single_slice(rng: Rng, cases: int) -> _Images:
    fine = _mm(rng, 0.3, 2.0)
    shapes = _sizes(rng, [1.0, _edge(rng, 20, 700), _edge(rng, 20, 700)], cases, planar=True)
    return _turned(rng, _Images(np.tile([fine * rng.uniform(1.0, 10), fine, fine], (cases, 1)), shapes))


KINDS: dict[str, Callable[[Rng, int], _Images]] = {
    "pixels": _pixels,
    "planar": _planar,
    "planar, unlike pixels": _planar_unlike,
    "isotropic": _isotropic,
    "nearly isotropic": _nearly_isotropic,
    "thick slices": _thick_slices,
    "turned slices": _turned_slices,
    "percentile rule": _percentile_rule,
    "two coarse axes": _two_coarse_axes,
    "anything": _anything,
    "extreme": _extreme,
    "edge of the low resolution": _low_resolution_edge,
    "huge": _huge,
    "small": _small,
    "half voxels": _half_voxels,
    "single slice": _single_slice,
}
