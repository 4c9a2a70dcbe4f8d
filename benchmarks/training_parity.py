"""Our training recipe against nnU-Net's: the same weights and batch give the same loss, gradients and steps; the rest number by number.

``python -m benchmarks.training_parity --peer DIR [--seed S] [--json FILE]``
"""

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from autounet.dataset_json import channels_and_labels
from autounet.errors import ArtefactError
from autounet.geometry import Triple
from autounet.interop.nnunet_checkpoint import NnunetCheckpoint, our_weights
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.labels import LabelSpec
from autounet.networks.build import build_network, memory_format
from autounet.plan import Configuration, LossSpec, NetworkSpec
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER
from autounet.rotation import rotation_rule
from autounet.training.loop import EMA, VALIDATION_SHARE
from autounet.training.losses import build_loss, confusion_counts
from autounet.training.optim import GRADIENT_NORM, build_optimizer, careful_step
from autounet.training.patches import patch_sizes
from autounet.training.sampler import FOREGROUND_SHARE, CaseSummary, draw_batch, draw_start, initial_patch_size
from autounet.training.schedule import POLYNOMIAL, Length, Position, Schedule
from benchmarks.activation_signs import activation_signs, flipped
from benchmarks.measure import CommandFailed, machine, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer
from benchmarks.random_datasets import random_dataset

SAME = 1e-5
"""Loss: absolute. Gradients and weights: largest difference over all parameters, by the largest of them all in size."""
KINKS = 1e-2
"""Gradients in float32 where, in either program, rounding puts a value on the other side of a leaky ReLU's kink: there its gradient is 100
times larger or smaller, and so all that comes before it is changed. One of 300 000 values is enough."""
EXACT = 1e-12
"""Numbers that are computed in double precision by the same formula, by their size."""
DEVIATIONS = 4.5
"""Spreads of two samples of one distribution differ by more standard errors once in 150 000 layers."""
KOLMOGOROV = 2.4
"""Two samples of one distribution are further apart, in units of (1/n + 1/m)^½, once in 50 000 layers."""
STEP_EPOCHS = (0, 400, 999)
"""Of 1000: at the highest rate, on the way, at the lowest."""

CPU = torch.device("cpu")
Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing compared."""

    what: str
    compared: int
    difference: float
    """The largest."""
    bar: float

    @property
    def holds(self) -> bool:
        """Something was compared, and the difference is a number within the bar."""
        return self.compared > 0 and self.difference <= self.bar


# --- What is asked -------------------------------------------------------------------------------------------------------------------

PLAIN_2D: Case = {
    "kind": "plain", "ndim": 2, "in_channels": 1, "features": (8, 16, 24, 32), "strides": ((1, 1), (2, 2), (2, 2), (2, 2)),
    "kernel_sizes": ((3, 3),) * 4, "blocks_encoder": (2, 2, 2, 2), "blocks_decoder": (2, 2, 2),
}  # fmt: skip
PLAIN_3D: Case = {
    "kind": "plain", "ndim": 3, "in_channels": 2, "features": (8, 16, 24, 24), "strides": ((1, 1, 1), (1, 2, 2), *((2, 2, 2),) * 2),
    "kernel_sizes": ((1, 3, 3), *((3, 3, 3),) * 3), "blocks_encoder": (2, 2, 2, 2), "blocks_decoder": (2, 2, 2),
}  # fmt: skip
TWO_STAGES: Case = {
    "kind": "plain", "ndim": 2, "in_channels": 1, "features": (8, 16), "strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3),) * 2,
    "blocks_encoder": (2, 2), "blocks_decoder": (2,),
}  # fmt: skip
HIPPOCAMPUS: Case = {
    "kind": "plain", "ndim": 3, "in_channels": 1, "features": (32, 64, 128, 256), "strides": ((1, 1, 1), *((2, 2, 2),) * 3),
    "kernel_sizes": ((3, 3, 3),) * 4, "blocks_encoder": (2, 2, 2, 2), "blocks_decoder": (2, 2, 2),
}  # fmt: skip
RESIDUAL_2D: Case = PLAIN_2D | {"kind": "residual", "blocks_encoder": (1, 3, 4, 2), "blocks_decoder": (1, 1, 1)}
RESIDUAL_3D: Case = PLAIN_3D | {"kind": "residual", "blocks_encoder": (1, 3, 2, 2), "blocks_decoder": (1, 1, 1)}
RESIDUAL_WIDE: Case = HIPPOCAMPUS | {"kind": "residual", "blocks_encoder": (1, 3, 4, 6), "blocks_decoder": (1, 1, 1)}

LABELS: Mapping[str, Mapping[str, Any]] = {
    "labels": {"labels": {"background": 0, "a": 1, "b": 2, "c": 3}},
    "labels and ignore": {"labels": {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}},
    "regions": {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3}, "regions_class_order": [1, 2, 3]},
    "regions and ignore": {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "tip": 3, "ignore": 4},
        "regions_class_order": [1, 2, 3],
    },
}


def case_of(network: Case, labels: str, patch: Sequence[int], batch_size: int = 2, batch_dice: bool = False) -> Case:
    """What both programs are to build."""
    dataset = {"channel_names": {str(channel): "MRI" for channel in range(network["in_channels"])}, **LABELS[labels]}
    outputs = 3 if "regions" in labels else 4
    return {
        "network": network | {"outputs": outputs},
        "patch_size": list(patch),
        "batch_size": batch_size,
        "batch_dice": batch_dice,
        "dataset": dataset,
        "deep_supervision": len(network["features"]) > 2,
    }


def learning_cases(seed: int) -> dict[str, Case]:
    """Networks, labels and batches of every kind."""
    cases: dict[str, Case] = {}
    for labels in LABELS:
        for batch_dice in (False, True):
            dice = ", batch Dice" if batch_dice else ""
            cases[f"2D, {labels}{dice}"] = case_of(PLAIN_2D, labels, (48, 40), 3, batch_dice)
            cases[f"3D, residual, {labels}{dice}"] = case_of(RESIDUAL_3D, labels, (8, 24, 16), 2, batch_dice)
    cases |= {
        "3D, labels": case_of(PLAIN_3D, "labels", (8, 24, 16)),
        "2D, residual, labels": case_of(RESIDUAL_2D, "labels", (48, 40), 3),
        "2D, single resolution, labels": case_of(TWO_STAGES, "labels", (24, 20)),
        "2D, single resolution, regions and ignore": case_of(TWO_STAGES, "regions and ignore", (24, 20)),
        "2D, labels, gradients beyond the clip": case_of(PLAIN_2D, "labels", (48, 40)) | {"head_scale": 30.0},
        "3D, labels, Hippocampus' network and patch": case_of(HIPPOCAMPUS, "labels", (40, 56, 40), 1),
    }
    generator = torch.Generator().manual_seed(seed)
    for number, case in enumerate(cases.values()):
        size, channels = (case["batch_size"], *case["patch_size"]), case["network"]["in_channels"]
        labels = torch.randint(0, 4 + ("ignore" in case["dataset"]["labels"]), size, generator=generator, dtype=torch.int16)
        labels[0].masked_fill_(labels[0] == 1, 0)  # a class that one sample lacks
        case["image"] = torch.randn(size[0], channels, *size[1:], generator=generator)
        case |= {"labels": labels, "epochs": list(STEP_EPOCHS), "seed": seed + number}
    return cases


def fresh_cases(seed: int) -> dict[str, Case]:
    """Networks whose fresh weights are compared."""
    networks = {"2D, plain": PLAIN_2D, "2D, residual": RESIDUAL_2D, "3D, plain": HIPPOCAMPUS, "3D, residual": RESIDUAL_WIDE}
    return {
        name: case_of(network, "labels", (16,) * network["ndim"]) | {"seed": seed + 100 + number}
        for number, (name, network) in enumerate(networks.items())
    }


def planned(seed: int, datasets: int) -> list[Configuration]:
    """Configurations of random datasets, as our planner makes them with nnU-Net's preset."""
    found = []
    for number in range(datasets):
        drawn = random_dataset(seed, number)
        fingerprint = fingerprint_from_nnunet(drawn.fingerprint, drawn.dataset, f"Dataset{drawn.number}")
        with contextlib.suppress(ArtefactError):  # images too small for a U-Net are among them
            found += make_plan(fingerprint, PRESETS["nnunet"], file_ending=".nii.gz", gpu_memory_gb=drawn.memory_gb).configurations.values()
    return found


def random_patches(rng: np.random.Generator, count: int) -> list[list[int]]:
    """Of both dimensions, near the edges of the rules now and then."""
    patches: list[list[int]] = [[128, 128, 128], [40, 120, 120], [40, 121, 40], [60, 40], [61, 40], [40, 61], [16, 48, 47], [16, 49, 8]]
    while len(patches) < count:
        patches.append(np.exp(rng.uniform(math.log(4), math.log(600), int(rng.integers(2, 4)))).astype(int).tolist())
    return patches


def random_box(rng: np.random.Generator) -> dict[str, Any]:
    """A case, a patch, and the draws of one sample."""
    shape, ndim = rng.integers(1, 60, 3), int(rng.integers(2, 4))
    patch = rng.integers(1, 40, ndim)
    loaded = patch + rng.integers(0, 20, ndim)
    voxels = [(rng.random((int(rng.integers(0, 4)), 3)) * shape).astype(int).tolist() for _ in range(4)]
    return {
        "shape": shape.tolist(),
        "patch": patch.tolist(),
        "loaded": loaded.tolist(),
        "foreground": voxels[: int(rng.integers(0, 4))],
        "annotated": voxels[3] if rng.random() < 0.5 else None,
        "forced": bool(rng.random() < 0.5),
        "draws": rng.random(5).tolist(),
    }


def dice_cases(seed: int) -> dict[str, Case]:
    """Scores and labels of validation batches over epochs; in the second a class is missing in truth and prediction."""
    generator, cases = torch.Generator().manual_seed(seed), dict[str, Case]()
    for name in LABELS:
        case = case_of(TWO_STAGES, name, (24, 20))
        outputs, ignore = case["network"]["outputs"], "ignore" in name
        epochs = []
        for epoch in range(8):
            batches = []
            for _ in range(3):
                scores = torch.randn(2, outputs, 24, 20, generator=generator)
                labels = torch.randint(0, 4 + ignore, (2, 24, 20), generator=generator, dtype=torch.int16)
                if epoch == 1:
                    scores[:, -1] = -10.0
                    labels.masked_fill_(labels == 3, 0)
                batches.append({"scores": scores, "labels": labels})
            epochs.append(batches)
        cases[name] = {"case": case, "epochs": epochs}
    return cases


# --- What we answer ------------------------------------------------------------------------------------------------------------------


class Told:
    """Answers like numpy's generator by given numbers from 0 to 1, one after the other; where there is no choice, by none."""

    def __init__(self, draws: Iterable[float]) -> None:
        self._left = iter(draws)

    def integers(self, low: int, high: int | None = None) -> int:
        """From ``low``, or 0, to below ``high``, or ``low``."""
        first, end = (0, low) if high is None else (low, high)
        return first + (int(next(self._left) * (end - first)) if end - first > 1 else 0)

    def random(self) -> float:
        """The next number."""
        return next(self._left)


def told(draws: Iterable[float]) -> np.random.Generator:
    """The same, for the type checker."""
    return cast(np.random.Generator, Told(draws))


def labels_of(case: Case) -> LabelSpec:
    """From dataset.json."""
    return channels_and_labels(case["dataset"], Path("dataset.json"))[1]


def spec_of(case: Case) -> NetworkSpec:
    """Our network in numbers."""
    return NetworkSpec(**case["network"])


def in_our_names(values: dict[str, Tensor], spec: NetworkSpec) -> dict[str, Tensor]:
    """nnU-Net's tensors under our names, as importing a model gives them."""
    return our_weights(NnunetCheckpoint(Path("peer"), "given", "nnUNetTrainer", (), values), spec)


def learn(case: Case, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Loss, gradients and steps, as ``training/learner.py`` makes them, without augmentation; steps in float64."""
    spec, labels = spec_of(case), case["labels"]
    layout = memory_format(spec.ndim, CPU)
    network = build_network(spec)
    network.load_state_dict(weights)
    network.to(memory_format=layout).train()  # type: ignore[call-overload]
    loss_of = build_loss(LossSpec(), labels_of(case), case["batch_dice"], len(spec.blocks_decoder))
    schedule, image = Schedule(Length()), case["image"].contiguous(memory_format=layout)

    def backward(of: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        network.zero_grad(set_to_none=True)
        loss = loss_of(network(of), labels)
        torch.autograd.backward(loss)
        parameters = network.named_parameters()
        return loss.detach(), {name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in parameters}

    network.double()
    with activation_signs() as exact_signs:
        _, exact = backward(image.double())
    network.float()
    with activation_signs() as signs:
        loss, gradients = backward(image)
    network.double()
    optimizer, scaler, steps = build_optimizer(network, NNUNET_OPTIMIZER, CPU), torch.amp.GradScaler("cpu", enabled=False), []
    for epoch in case["epochs"]:
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(Position(epoch, 0.0, 0.0))
        now, _ = backward(image.double())
        careful_step(optimizer, now, scaler)
        steps.append({"loss": float(now), "weights": {name: tensor.clone() for name, tensor in network.state_dict().items()}})
    return {
        "loss": float(loss), "gradients": gradients, "exact": exact, "steps": steps, "flipped": flipped(signs, exact_signs)
    }  # fmt: skip


def pseudo_dice(asked: Case) -> list[dict[str, Any]]:
    """As ``Learner.validate`` counts and ``FoldTraining`` smooths."""
    labels, found, smoothed = labels_of(asked["case"]), list[dict[str, Any]](), math.nan
    for batches in asked["epochs"]:
        counts = sum(confusion_counts(batch["scores"], batch["labels"], labels) for batch in batches)
        assert isinstance(counts, Tensor)
        dice = [2 * hit / total if (total := 2 * hit + extra + missed) else math.nan for hit, extra, missed in counts.T.tolist()]
        mean = float(np.nanmean(dice))
        smoothed = EMA * smoothed + (1 - EMA) * mean if found else mean
        found.append({"dice": dice, "mean": mean, "smoothed": smoothed})
    return found


def numbers() -> dict[str, float]:
    """The recipe's, by the names that ``peer_training.py`` gives them."""
    network = build_network(spec_of(case_of(TWO_STAGES, "labels", (24, 20))))
    optimizer = build_optimizer(network, NNUNET_OPTIMIZER, CPU)
    (group,), length = optimizer.param_groups, Length()
    return {
        "learning rate": group["lr"],
        "exponent of its decay": POLYNOMIAL,
        "momentum": group["momentum"],
        "Nesterov": float(group["nesterov"]),
        "dampening": group["dampening"],
        "weight decay": group["weight_decay"],
        "epochs": length.epochs,
        "steps per epoch": length.iterations,
        "validation patches' batches per step": VALIDATION_SHARE,
        "share around foreground": FOREGROUND_SHARE,
        "groups of parameters": 1,
    }


# --- Compared ------------------------------------------------------------------------------------------------------------------------


def apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[float, int]:
    """Largest difference over all tensors by the largest value of nnU-Net's, and how many values were compared."""
    size = max(float(tensor.abs().max()) for tensor in theirs.values())
    differences = [float((ours[name] - tensor).abs().max()) for name, tensor in theirs.items()]
    wrong = len(ours) != len(theirs) or any(map(math.isnan, differences))
    return math.inf if wrong else max(differences) / size, sum(tensor.numel() for tensor in theirs.values())


def learning_rows(cases: dict[str, Case], answers: Sequence[dict[str, Any]]) -> list[Row]:
    """Loss, gradients, and weights after each step."""
    rows: list[Row] = []
    for (name, case), theirs in zip(cases.items(), answers, strict=True):
        spec = spec_of(case)
        ours = learn(case, in_our_names(theirs["weights"], spec))
        losses = [ours["loss"], *(step["loss"] for step in ours["steps"])]
        their_losses = [theirs["loss"], *(step["loss"] for step in theirs["steps"])]
        loss = max(abs(a - b) / max(abs(b), 1) for a, b in zip(losses, their_losses, strict=True))
        exact, count = apart(ours["exact"], in_our_names(theirs["exact"], spec))
        single, _ = apart(ours["gradients"], in_our_names(theirs["gradients"], spec))
        found = [apart(a["weights"], in_our_names(b["weights"], spec))[0] for a, b in zip(ours["steps"], theirs["steps"], strict=True)]
        over = ours["flipped"] + theirs["flipped"]
        note = f", {ours['flipped']} + {theirs['flipped']} values over a kink" if over else ""
        rows += [
            Row(f"loss: {name}", len(losses), loss, SAME),
            Row(f"gradients: {name}", count, exact, SAME),
            Row(f"gradients in float32{note}: {name}", count, single, KINKS if over else SAME),
            Row(f"weights after {len(found)} steps: {name}", count, max(found), SAME),
        ]
        if case.get("head_scale") and theirs["norm"] <= GRADIENT_NORM:
            raise CommandFailed(f"{name}: its gradient's norm is {theirs['norm']:.1f}, so that nothing is clipped")
    return rows


def rate_rows(epochs: Sequence[int], answers: Sequence[Sequence[float]]) -> list[Row]:
    """Learning rate of every epoch."""
    rows = []
    for count, theirs in zip(epochs, answers, strict=True):
        schedule = Schedule(Length(epochs=count))
        differences = [abs(schedule.learning_rate(Position(epoch, 0.0, 0.0)) / rate - 1) for epoch, rate in enumerate(theirs)]
        rows.append(Row(f"learning rate of {count} epochs", len(differences), max(differences), EXACT))
    return rows


def number_rows(theirs: Mapping[str, float]) -> list[Row]:
    """The numbers of the recipe."""
    ours = numbers()
    return [Row("numbers of the recipe", len(theirs), max(abs(ours[name] - value) for name, value in theirs.items()), EXACT)]


def forced_rows(batches: Sequence[int], answers: Sequence[Sequence[bool]], draws: Sequence[float], by_chance: Sequence[bool]) -> list[Row]:
    """Which samples are around foreground: the case is so large that others never meet its only voxel."""
    side = 10**6
    case = CaseSummary((side, side, side), (np.array([[side - 1] * 3], np.int32),))
    rng, patch = np.random.default_rng(0), (4, 4, 4)

    def found(rng: np.random.Generator, count: int) -> list[bool]:
        return [request.start == (side - 3,) * 3 for request in draw_batch(rng, [case], count, patch, patch)]

    wrong = sum(a != b for count, theirs in zip(batches, answers, strict=True) for a, b in zip(found(rng, count), theirs, strict=True))
    alone = sum(found(told([draw, 0.0, 0.0, 0.0]), 1) != [theirs] for draw, theirs in zip(draws, by_chance, strict=True))
    return [
        Row(f"samples around foreground, batches of {batches[0]} to {batches[-1]}", sum(batches), wrong, 0),
        Row("the same of a batch of one, by chance in both", len(draws), alone, 0),
    ]


def geometry_rows(configurations: Sequence[Configuration], patches: Sequence[Sequence[int]], answers: Sequence[Case]) -> list[Row]:
    """Rotation, loaded size, dummy 2D, mirroring: for planned configurations, then for other patches."""
    asked = [*(entry.patch_size for entry in configurations), *patches]
    rules = [rotation_rule(patch) for patch in asked]
    angles = max(
        max(abs(rule.max_angle_rad - theirs["angles_rad"][1]), abs(rule.max_angle_rad + theirs["angles_rad"][0]))
        for rule, theirs in zip(rules, answers, strict=True)
    )
    loaded = [*(patch_sizes(entry, "nnunet").loaded for entry in configurations)]
    loaded += [initial_patch_size(patch, rotation_rule(patch)) for patch in patches]
    planar = sum(len(patch) == 2 for patch in asked)
    of = f"{planar} patches in 2D, {len(asked) - planar} in 3D"
    within = sum(rule.within_slices != theirs["within_slices"] for rule, theirs in zip(rules, answers, strict=True))
    sizes = sum(list(size) != theirs["loaded"] for size, theirs in zip(loaded, answers, strict=True))
    mirrored = sum(list(entry.mirror_axes) != theirs["mirrored"] for entry, theirs in zip(configurations, answers, strict=False))
    return [
        Row(f"range of rotation, rad: {of}", len(asked), angles, EXACT),
        Row("rotation and scaling within slices (dummy 2D)", len(asked), within, 0),
        Row("size of the loaded patch", len(asked), sizes, 0),
        Row("mirrored axes of planned configurations", len(configurations), mirrored, 0),
    ]


def our_box(asked: dict[str, Any]) -> list[int]:
    """First voxel of the patch."""
    foreground = tuple(_voxels(voxels) for voxels in asked["foreground"])
    case = CaseSummary(tuple(asked["shape"]), foreground, None if asked["annotated"] is None else _voxels(asked["annotated"]))
    return list(draw_start(told(asked["draws"]), case, _with_slice(asked["loaded"]), _with_slice(asked["patch"]), asked["forced"]))


def _voxels(places: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array(places, np.int32).reshape(-1, 3)


def _with_slice(size: Sequence[int]) -> Triple:
    z, y, x = (1, *size) if len(size) == 2 else size
    return z, y, x


def box_rows(asked: Sequence[dict[str, Any]], answers: Sequence[list[int]]) -> list[Row]:
    """Where patches begin, for the same draws: any place, a foreground voxel, an annotated one."""
    kinds: dict[str, list[bool]] = {}
    for box, theirs in zip(asked, answers, strict=True):
        kind = "around foreground" if box["forced"] else "anywhere" if box["annotated"] is None else "around annotated voxels"
        kinds.setdefault(kind, []).append(our_box(box) != theirs)
    return [Row(f"first voxel of patches {kind}, equal draws", len(wrong), sum(wrong), 0) for kind, wrong in sorted(kinds.items())]


def fresh_rows(cases: dict[str, Case], answers: Sequence[dict[str, Tensor]]) -> list[Row]:
    """Fresh weights: constants are the same, others have the same spread and distribution."""
    rows = []
    for (name, case), theirs in zip(cases.items(), answers, strict=True):
        spec = spec_of(case)
        ours, others = dict(build_network(spec, case["seed"]).named_parameters()), in_our_names(theirs, spec)
        constants, errors, distances = [], [], []
        for key, other in others.items():
            mine, yours = ours[key].detach().double().flatten(), other.double().flatten()
            if bool((yours == yours[0]).all()):
                constants.append(float((mine - yours).abs().max()))
                continue
            shares = 1 / len(mine) + 1 / len(yours)
            errors.append(abs(math.log(float(mine.std() / yours.std()))) / math.sqrt(shares / 2))
            distances.append(float(stats.ks_2samp(mine.numpy(), yours.numpy()).statistic) / math.sqrt(shares))
        rows += [
            Row(f"fresh biases and norms: {name}", len(constants), max(constants), 0),
            Row(f"fresh weights' spread per layer, standard errors: {name}", len(errors), max(errors), DEVIATIONS),
            Row(f"fresh weights' Kolmogorov-Smirnov distance per layer: {name}", len(distances), max(distances), KOLMOGOROV),
        ]
    return rows


def dice_rows(cases: dict[str, Case], answers: Sequence[Sequence[Case]]) -> list[Row]:
    """Dice of the validation patches, and its smoothed mean."""
    rows = []
    for (name, asked), theirs in zip(cases.items(), answers, strict=True):
        ours = [[*epoch["dice"], epoch["mean"], epoch["smoothed"]] for epoch in pseudo_dice(asked)]
        others = [[*epoch["dice"], epoch["mean"], epoch["smoothed"]] for epoch in theirs]
        missing = np.isnan(ours) != np.isnan(others)
        difference = np.nanmax(np.abs(np.array(ours) - others))
        rows.append(Row(f"online Dice and its smoothed mean: {name}", missing.size, math.inf if missing.any() else float(difference), 1e-6))
    return rows


def compare(peer: Peer, seed: int, scratch: Path) -> list[Row]:
    """Asks the peer everything in one process, then answers the same."""
    rng = np.random.default_rng(seed)
    learning, new, dice = learning_cases(seed), fresh_cases(seed), dice_cases(seed)
    configurations = planned(seed, 60)
    patches, boxes = random_patches(rng, 400), [random_box(rng) for _ in range(3000)]
    epochs, batches, draws = [1000, 50], list(range(2, 25)), rng.random(200).tolist()
    any_case = case_of(PLAIN_2D, "labels", (48, 40))
    everything = [*(list(entry.patch_size) for entry in configurations), *patches]
    by_ndim = {ndim: [patch for patch in everything if len(patch) == ndim] for ndim in (2, 3)}
    questions = {
        "learn": list(learning.values()),
        "fresh": list(new.values()),
        "rates": [{"case": any_case, "epochs": count} for count in epochs],
        "numbers": [any_case],
        "geometry": [
            {"case": case_of(network, "labels", (8,) * network["ndim"]), "patch_sizes": by_ndim[network["ndim"]]}
            for network in (PLAIN_2D, PLAIN_3D)
        ],
        "forced": batches,
        "forced_by_chance": draws,
        "box": boxes,
        "pseudo_dice": list(dice.values()),
    }
    asked, answered = scratch / "questions.pt", scratch / "answers.pt"
    torch.save(questions, asked)
    peer.run(["python", "-m", "benchmarks.peer_training", asked, answered], scratch, scratch / "peer.log")
    answers = torch.load(answered, weights_only=True)
    geometry = {2: iter(answers["geometry"][0]), 3: iter(answers["geometry"][1])}
    return [
        *learning_rows(learning, answers["learn"]),
        *rate_rows(epochs, answers["rates"]),
        *number_rows(answers["numbers"][0]),
        *forced_rows(batches, answers["forced"], draws, answers["forced_by_chance"]),
        *geometry_rows(configurations, patches, [next(geometry[len(patch)]) for patch in everything]),
        *box_rows(boxes, answers["box"]),
        *fresh_rows(new, answers["fresh"]),
        *dice_rows(dice, answers["pseudo_dice"]),
    ]


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_parity", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and cases (default: 0)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/training_parity.json"), help="where the result goes")
    arguments = parser.parse_args()
    about = machine()
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_parity_") as folder:
            rows = compare(peer, arguments.seed, Path(folder).resolve())
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shown = [(row.what, f"{row.compared:,}", f"{row.difference:.2g}", f"{row.bar:g}", verdict(row.holds)) for row in rows]
    show_table(f"Training, ours and nnU-Net's, seed {arguments.seed}", ("what", "compared", "largest difference", "bar", "holds"), shown)
    holds = all(row.holds for row in rows)
    print(f"the recipes are the same: {verdict(holds)}")
    listed = [{**asdict(row), "holds": row.holds} for row in rows]
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED, "seed": arguments.seed, "rows": listed, "holds": holds})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
