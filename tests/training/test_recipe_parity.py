"""The recipe is nnU-Net's: what its own trainer and loader answered is in golden/nnunet_recipe.json (benchmarks/golden/nnunet_recipe.py).

Losses for given scores are in test_losses.py, and more loaded sizes in test_sampler.py.
"""

import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autounet.dataset_json import channels_and_labels
from autounet.labels import LabelSpec
from autounet.networks.build import build_network, memory_format
from autounet.plan import LossSpec, NetworkSpec
from autounet.preset import NNUNET_OPTIMIZER
from autounet.rotation import rotation_rule
from autounet.training.loop import EMA, VALIDATION_SHARE
from autounet.training.losses import build_loss, confusion_counts
from autounet.training.optim import GRADIENT_NORM, build_optimizer, careful_step
from autounet.training.sampler import FOREGROUND_SHARE, CaseSummary, draw_batch, draw_start, initial_patch_size
from autounet.training.schedule import POLYNOMIAL, Length, Position, Schedule

RECIPE = json.loads((Path(__file__).parents[1] / "golden" / "nnunet_recipe.json").read_text(encoding="utf-8"))
CPU = torch.device("cpu")


def _labels(dataset: dict[str, Any]) -> LabelSpec:
    return channels_and_labels(dataset, Path("dataset.json"))[1]


def _network(row: dict[str, Any]) -> NetworkSpec:
    return NetworkSpec.model_validate_json(json.dumps(row["network"]))


def _picked(values: dict[str, Tensor]) -> dict[str, list[float]]:
    """Some values of every parameter, as the golden file has them."""
    return {name: (flat := value.detach().flatten())[:: max(1, len(flat) // 5)].tolist() for name, value in values.items()}


def _assert_close(ours: dict[str, list[float]], theirs: dict[str, list[float]], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=atol, err_msg=name)


@pytest.fixture
def weights(wave: Callable[[Sequence[int], float], np.ndarray]) -> Callable[..., dict[str, Tensor]]:
    """Values of every parameter by its name, as in benchmarks/golden/nnunet_networks.py; those of the heads by a factor."""

    def of(network: torch.nn.Module, head_scale: float) -> dict[str, Tensor]:
        found = {}
        for name, parameter in network.named_parameters():
            values = wave(parameter.shape, zlib.crc32(name.encode()) % 1000)
            found[name] = torch.from_numpy((1 + 0.3 * values if name.endswith("norm.weight") else 0.5 * values).astype(np.float32))
            if name.startswith("heads."):
                found[name] *= head_scale
        return found

    return of


@pytest.mark.parametrize("case", RECIPE["learning"], ids=lambda case: case["name"])
def test_loss_gradients_and_steps_equal_nnunet(case, wave, label_map, weights) -> None:
    """The same weights and batch, in float64: the loss, the gradient of every parameter, and what three steps make of them."""
    labels, spec = _labels(case["dataset"]), _network(case)
    layout = memory_format(spec.ndim, CPU)
    network = build_network(spec)
    before = {name: value.double() for name, value in weights(network, case["head_scale"]).items()}
    network.load_state_dict(before)
    network.double().to(memory_format=layout).train()
    image = torch.from_numpy(wave((2, spec.in_channels, *case["patch_size"]), 0.1)).float().double()
    truth = torch.from_numpy(label_map((2, *case["patch_size"]), 4 + (labels.ignore_index is not None)))
    loss_of = build_loss(LossSpec(), labels, case["batch_dice"], len(spec.blocks_decoder))
    optimizer, scaler = build_optimizer(network, NNUNET_OPTIMIZER, CPU), torch.amp.GradScaler("cpu", enabled=False)
    schedule = Schedule(Length())
    for number, step in enumerate(case["steps"]):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(network(image.contiguous(memory_format=layout)), truth)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(step["loss"], rel=1e-6)
        if number == 0:
            gradients = {key: torch.zeros_like(one) if one.grad is None else one.grad for key, one in network.named_parameters()}
            _assert_close(_picked(gradients), case["gradients"], atol=2e-7 * max(1.0, case["norm"]))
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(Position(step["epoch"], 0.0, 0.0))
        careful_step(optimizer, loss, scaler)
        change = {name: value - before[name] for name, value in network.state_dict().items()}
        _assert_close(_picked(change), step["change"], atol=2e-8 * max(1.0, case["head_scale"]))


def test_one_of_these_gradients_is_clipped() -> None:
    assert [case["norm"] > GRADIENT_NORM for case in RECIPE["learning"]] == [False, False, True]


def test_the_recipes_numbers() -> None:
    network = build_network(_network(RECIPE["learning"][0]))
    (group,) = build_optimizer(network, NNUNET_OPTIMIZER, CPU).param_groups
    assert RECIPE["numbers"] == [
        {
            "learning rate": group["lr"],
            "exponent of its decay": POLYNOMIAL,
            "momentum": group["momentum"],
            "Nesterov": group["nesterov"],
            "dampening": group["dampening"],
            "weight decay": group["weight_decay"],
            "epochs": Length().epochs,
            "steps per epoch": Length().iterations,
            "validation patches' batches per step": VALIDATION_SHARE,
            "share around foreground": FOREGROUND_SHARE,
            "groups of parameters": 1,
        }
    ]


@pytest.mark.parametrize("row", RECIPE["rates"], ids=lambda row: f"{row['epochs']} epochs")
def test_learning_rates(row) -> None:
    schedule = Schedule(Length(epochs=row["epochs"]))
    ours = {epoch: schedule.learning_rate(Position(int(epoch), 0.0, 0.0)) for epoch in row["rates"]}
    assert ours == pytest.approx(row["rates"], rel=1e-12)


def test_the_same_samples_of_a_batch_are_around_foreground() -> None:
    # A case so large that a free patch never meets its only foreground voxel.
    side = 10**6
    case, rng = CaseSummary((side,) * 3, (np.array([[side - 1] * 3], np.int32),)), np.random.default_rng(0)
    for batch_size, forced in RECIPE["forced"]:
        requests = draw_batch(rng, [case], batch_size, (4, 4, 4), (4, 4, 4))
        assert [request.start == (side - 3,) * 3 for request in requests] == forced


@pytest.mark.parametrize("row", RECIPE["geometry"], ids=lambda row: "×".join(map(str, row["patch"])))
def test_rotation_and_loaded_size(row) -> None:
    rule = rotation_rule(row["patch"])
    assert [-rule.max_angle_rad, rule.max_angle_rad] == pytest.approx(row["angles_rad"], rel=1e-12)
    assert rule.within_slices == row["within_slices"]
    assert list(initial_patch_size(row["patch"], rule)) == row["loaded"]


class Told:
    """Draws given numbers from 0 to 1 in place of random ones; where there is no choice, none."""

    def __init__(self, draws: Sequence[float]) -> None:
        self._left: Iterator[float] = iter(draws)

    def integers(self, low: int, high: int | None = None) -> int:
        first, end = (0, low) if high is None else (low, high)
        return first + (int(next(self._left) * (end - first)) if end - first > 1 else 0)


def _voxels(places: list[list[int]]) -> np.ndarray:
    return np.array(places, np.int32).reshape(-1, 3)


def test_patches_begin_at_the_same_voxels() -> None:
    """Any place, a voxel of a class, an annotated voxel; with and without any; 2D and 3D: by the same draws the same start."""
    for row in RECIPE["boxes"]:
        annotated = None if row["annotated"] is None else _voxels(row["annotated"])
        case = CaseSummary(tuple(row["shape"]), tuple(map(_voxels, row["foreground"])), annotated)
        loaded, patch = ((1, *size) if len(size) == 2 else tuple(size) for size in (row["loaded"], row["patch"]))
        start = draw_start(Told(row["draws"]), case, loaded, patch, row["forced"])  # type: ignore[arg-type]
        assert list(start) == row["start"], row
    kinds = {(row["forced"], row["annotated"] is None, any(row["foreground"])) for row in RECIPE["boxes"]}
    assert len(kinds) == 8


@pytest.mark.parametrize("row", RECIPE["dice"], ids=["labels", "regions and ignore"])
def test_online_dice(row, wave, label_map) -> None:
    """Of each class over an epoch's batches, None for one that is nowhere; the mean of the others; and its smoothed mean."""
    labels, smoothed = _labels(row["dataset"]), None
    for epoch, theirs in enumerate(row["epochs"]):
        counts = torch.zeros(3, 3, dtype=torch.int64)
        for number in range(2):
            scores = 3 * wave((2, labels.outputs, 16, 12), 10 * epoch + number)
            truth = np.roll(label_map((2, 16, 12), 4 + (labels.ignore_index is not None)), 3 * epoch + number, axis=1)
            if epoch == 1:
                scores[:, -1], truth[truth == 3] = -10, 0
            counts += confusion_counts(torch.from_numpy(scores).float(), torch.from_numpy(truth), labels)
        dice = [2 * hit / (2 * hit + extra + missed) if hit + extra + missed else None for hit, extra, missed in counts.T.tolist()]
        known = [value for value in dice if value is not None]
        mean = sum(known) / len(known)
        smoothed = mean if smoothed is None else EMA * smoothed + (1 - EMA) * mean
        assert dice == pytest.approx(theirs["dice"], abs=1e-6)
        assert [mean, smoothed] == pytest.approx([theirs["mean"], theirs["smoothed"]], abs=1e-6)


@pytest.mark.parametrize("row", RECIPE["fresh"], ids=lambda row: row["name"])
def test_fresh_weights_have_the_same_distribution(row) -> None:
    """Constants are equal. Others: a normal distribution of the same width, by the spread and by the share within one deviation."""
    parameters = dict(build_network(_network(row)).named_parameters())
    assert parameters.keys() == row["constants"].keys() | row["deviations"].keys()
    for name, value in row["constants"].items():
        assert bool((parameters[name] == value).all()), name
    for name, deviation in row["deviations"].items():
        values = parameters[name].detach().double()
        count = values.numel()
        # The spread of n normal numbers has a standard error of 1/√2n of it; two such samples, five standard errors.
        assert float(values.std()) == pytest.approx(deviation, rel=5 / math.sqrt(count)), name
        within = float((values.abs() < values.std()).double().mean())
        assert within == pytest.approx(0.6827, abs=5 * math.sqrt(0.6827 * 0.3173 / count)), name
