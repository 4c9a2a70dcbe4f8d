"""nnU-Net's own list of transforms against ours: the same parameters give the same patches, and the parameters are drawn alike.

The numbers are nnU-Net's, made by benchmarks/golden/nnunet_augmentation.py.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autounet.networks.previous import one_hot
from autounet.rotation import RotationRule
from autounet.training.augmentation.cascade import OPERATORS, Cascade, CascadeDraw, Operation, Removal, apply_cascade, draw_cascade
from autounet.training.augmentation.intensity import IntensityDraw
from autounet.training.augmentation.policy import POLICIES
from autounet.training.augmentation.spatial import Affine, SpatialDraw, apply_mirror, apply_spatial, draw_spatial

NNUNET = POLICIES["nnunet"]
CHANNELS = 2
LIMITS = {"3d": math.radians(30), "thick slices": math.pi, "2d": math.pi}
LEVELS = np.linspace(0, 1, 21)


@pytest.fixture(scope="module")
def theirs(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "nnunet_augmentation.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", range(6))
def test_the_whole_list_makes_the_same_patch(theirs, wave, label_map, case: int) -> None:
    """Turned, scaled, every change of intensity, mirrored: one after the other, in two channels, with their parameters."""
    expected = theirs["images"][case]
    loaded, patch = expected["loaded"], tuple(expected["patch"])
    matrix = np.eye(len(patch))
    turned = len(expected["matrix"])
    matrix[-turned:, -turned:] = expected["matrix"]  # two of three axes in thick slices
    image = torch.from_numpy(wave((1, CHANNELS, *loaded), 0.3)).float()
    labels = torch.from_numpy(label_map(loaded, 3))[None]
    image, labels = apply_spatial(image, labels, SpatialDraw(matrix[None], np.array([True])), patch)
    noise = torch.tensor(expected["noise"]).reshape(image.shape)
    assert list(expected["intensity"]) == [transform.name for transform in NNUNET.intensity]
    for transform in NNUNET.intensity:
        drawn = expected["intensity"][transform.name]
        count = len(drawn["channels"])
        draw = IntensityDraw(np.zeros(count, int), np.array(drawn["channels"], int), np.array(drawn["values"]), np.zeros(count, int))
        image = image + noise if transform.name == "noise" else transform.apply(image, draw)
    flips = np.zeros((1, len(patch)), bool)
    flips[0, expected["flips"]] = True
    image, labels = apply_mirror(image, labels, flips)
    np.testing.assert_allclose(image.flatten(), expected["image"], atol=5e-5)
    np.testing.assert_array_equal(labels.clamp(min=0).flatten(), expected["labels"])


def test_their_noise_has_the_deviation_that_was_drawn(theirs) -> None:
    """What nnU-Net calls a variance: the field that it adds has it as its standard deviation, in all channels the same."""
    for expected in theirs["images"]:
        field, drawn = np.array(expected["noise"]), expected["intensity"]["noise"]
        assert drawn["channels"] == [0, 1]
        assert drawn["values"][0] == drawn["values"][1]
        assert field.std() == pytest.approx(drawn["values"][0][0], rel=5 / math.sqrt(2 * len(field)))


def _distance(numbers: np.ndarray, quantiles: list[float]) -> float:
    """Largest difference of two distribution functions, at the quantiles of the one (Kolmogorov and Smirnov)."""
    ours = np.searchsorted(np.sort(numbers), quantiles) / len(numbers)
    return float(np.abs(ours - LEVELS)[1:-1].max())


def _alike(numbers: np.ndarray, expected: dict[str, Any]) -> bool:
    """Not told apart at the level of 1 in 1000, and nothing far beyond their range."""
    limit = 1.95 * math.sqrt(1 / len(numbers) + 1 / expected["count"])
    low, high = expected["quantiles"][0], expected["quantiles"][-1]
    margin = 0.02 * (high - low)
    return _distance(numbers, expected["quantiles"]) < limit and low - margin < numbers.min() and numbers.max() < high + margin


def _same_counts(ours: list[int], expected: list[int]) -> bool:
    """Two lists of counts over the same number of samples: chi squared below its 1 in 1000."""
    limit = {1: 10.8, 2: 13.8, 3: 16.3, 7: 24.3}
    a, b = np.array(ours, float), np.array(expected, float)
    seen = a + b > 0
    assert a.sum() == b.sum()
    assert (a[~seen] == 0).all()
    return bool(((a - b)[seen] ** 2 / (a + b)[seen]).sum() < limit[max(1, int(seen.sum()) - 1)])


@pytest.mark.parametrize("case", range(3))
def test_turns_and_scales_are_drawn_as_theirs(theirs, case: int) -> None:
    expected = theirs["draws"][case]
    ndim, samples = len(expected["shape"]), expected["samples"]
    rule = RotationRule(LIMITS[expected["name"]], expected["name"] == "thick slices")
    assert isinstance(NNUNET.spatial, Affine)
    matrices = draw_spatial(np.random.default_rng(1), samples, ndim, NNUNET.spatial, rule).matrices
    turned = matrices[:, 1:, 1:] if rule.within_slices else matrices
    scales = np.linalg.det(turned) ** (1 / turned.shape[1])
    turns = turned / scales[:, None, None]
    rotated, scaled = ~np.isclose(turns, np.eye(turned.shape[1])).all((1, 2)), ~np.isclose(scales, 1)
    both = int((rotated & scaled).sum())
    counts = [int(rotated.sum()) - both, int(scaled.sum()) - both, both]
    theirs_counts = [expected["rotated"] - expected["both"], expected["scaled"] - expected["both"], expected["both"]]
    assert _same_counts([*counts, samples - sum(counts)], [*theirs_counts, samples - sum(theirs_counts)])
    assert _alike(scales[scaled], expected["scales"])
    turns = turns[rotated]
    angles = [np.arctan2(turns[:, -1, -2], turns[:, -1, -1])]
    if turns.shape[1] == 3:
        angles += [-np.arcsin(turns[:, 2, 0]), np.arctan2(turns[:, 1, 0], turns[:, 0, 0])]
    assert _alike(np.concatenate(angles), expected["angles_rad"])


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("transform", NNUNET.intensity, ids=lambda transform: transform.name)
def test_changes_of_intensity_are_drawn_as_theirs(theirs, transform, case: int) -> None:
    """How many channels of a sample are changed, whether they share their numbers, and how these are spread."""
    geometry = theirs["draws"][case]
    expected, samples = geometry["intensity"][transform.name], geometry["samples"]
    within_slices = geometry["name"] == "thick slices"
    draw = transform.draw(np.random.default_rng(1), samples, CHANNELS, len(geometry["shape"]), within_slices)
    changed = np.bincount(np.bincount(draw.samples, minlength=samples), minlength=CHANNELS + 1)
    assert _same_counts(changed.tolist(), expected["channels"])
    values = draw.values
    if transform.name == "low resolution":  # a scale for all axes, or all but the first, is one number
        assert (values[:, 1:] == values[:, -1:]).all()
        assert (values[:, 0] == (1 if within_slices else values[:, -1])).all()
        values = values[:, -1:]
    assert _alike(values.flatten(), expected)
    pairs = np.flatnonzero(np.diff(draw.samples) == 0)
    same = int((draw.values[pairs] == draw.values[pairs + 1]).all(1).sum())
    assert (same, expected["shared"]) == ((len(pairs), expected["channels"][2]) if transform.shared else (0, 0))


@pytest.mark.parametrize("case", range(3))
def test_mirroring_is_drawn_as_theirs(theirs, configuration, case: int) -> None:
    from autounet.training.augmentation.pipeline import Augmentation

    expected = theirs["draws"][case]
    ndim = len(expected["shape"])
    flips = Augmentation(configuration(ndim), tuple(range(ndim))).draw(np.random.default_rng(1), expected["samples"], 1).flips
    ours = np.bincount(flips @ 2 ** np.arange(ndim)[::-1], minlength=2**ndim)
    assert _same_counts(ours.tolist(), expected["flips"])


def _unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[: math.prod(shape)].reshape(shape)


def _two_labels(label_map, shape: tuple[int, ...]) -> torch.Tensor:
    return one_hot(torch.from_numpy(label_map(shape, 3))[None], 2, torch.float32)


@pytest.mark.parametrize("case", range(32))
def test_operators_on_the_previous_stage(theirs, label_map, case: int) -> None:
    """Dilation, erosion, closing, opening by balls and disks, whole radii and others; what one label gains the other loses."""
    expected = theirs["cascade"]["operators"][case]
    shape = tuple(expected["shape"])
    draw = CascadeDraw(((Operation(0, expected["operator"], expected["radius"]),),), ((),))
    changed = apply_cascade(_two_labels(label_map, shape), draw, Cascade())
    np.testing.assert_array_equal(changed[0].numpy(), _unpacked(expected["mask"], (2, *shape)))


@pytest.mark.parametrize("case", range(2))
def test_removal_of_a_component_has_the_same_outcomes(theirs, label_map, case: int) -> None:
    """200 of their draws and 100 of ours reach every component below 15 % of the patch, and no other."""
    expected = theirs["cascade"]["removals"][case]
    shape = tuple(expected["shape"])
    outcomes = set()
    for pick in np.linspace(0, 1, 100, endpoint=False):
        changed = apply_cascade(_two_labels(label_map, shape), CascadeDraw(((),), ((Removal(1, float(pick)),),)), Cascade())
        outcomes.add(np.packbits(changed[0, 1].numpy() > 0).tobytes().hex())
    assert len(outcomes) > 5
    assert outcomes == set(expected["outcomes"])


def test_changes_of_the_previous_stage_are_drawn_as_theirs(theirs) -> None:
    expected = theirs["cascade"]["draws"]
    draw = draw_cascade(np.random.default_rng(0), expected["samples"], 3, NNUNET.cascade)
    assert _same_counts(np.bincount([len(each) for each in draw.operations], minlength=4).tolist(), expected["operations"])
    assert _same_counts(np.bincount([len(each) for each in draw.removals], minlength=4).tolist(), expected["removals"])
    every = [operation for each in draw.operations for operation in each]
    assert _alike(np.array([operation.radius for operation in every]), expected["radii"])
    shares = [sum(operation.operator == name for operation in every) / len(every) for name in OPERATORS]
    total = sum(expected["operators"].values())
    limit = 5 * math.sqrt(0.25 * 0.75 * (1 / len(every) + 1 / total))
    assert shares == pytest.approx([expected["operators"][name] / total for name in OPERATORS], abs=limit)
    first = [each[0].label for each in draw.operations if len(each) == 3]
    assert np.abs(np.bincount(first, minlength=3) / len(first) - 1 / 3).max() < 5 * math.sqrt(2 / 9 / len(first))  # in random order
