"""A short training and prediction on this machine, through the code that real ones go through: does it learn, how fast, is it right."""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.device import autocast, pick_device, pick_precision
from autounet.evaluation.overlap import overlap
from autounet.geometry import Grid
from autounet.inference.model import Ensemble, Model, Stage
from autounet.inference.segment import segment
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import FoldLayout
from autounet.machine.facts import SelfTest
from autounet.networks.build import memory_format
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preprocessing.case import prepare_case
from autounet.preprocessing.store import Store, StoredCase
from autounet.runtime import Runtime
from autounet.training.job import FoldJob
from autounet.training.learner import Learner
from autounet.training.loader import BatchLoader
from autounet.training.patches import patch_sizes
from autounet.training.schedule import Length

LABELS = LabelSpec(classes=(StructureClass(name="ball", values=(1,)), StructureClass(name="shell", values=(2,))))
NAME = "3d_fullres"
SIDE, PATCH = 32, 24
CASES = 4
RATE = 0.01

TRAIN_SECONDS = 3.0
MOST_STEPS, FEWEST_STEPS, WARM_UP = 60, 8, 3
SAME_STEPS = 2

GRADIENT_SCALE = 64.0
"""Keeps the gradient of some thousand voxels within float16's range."""

TOLERANCE = {torch.float32: 0.001, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Of numbers that are sums of some hundred products, in standard deviations: about ten times the usual rounding."""


def run_self_test(folder: Path | None, runtime: Runtime) -> SelfTest:
    """Trains and predicts for some seconds.

    Args:
        folder: Where a temporary folder is made; None for the system's own.
        runtime: Device, precision, threads, seed.

    Raises:
        AutounetError: The device is not there, or the disk refuses.
        RuntimeError: The device fails.
    """
    began = time.perf_counter()
    device = pick_device(runtime)
    dtype = pick_precision(runtime, device)
    plan = tiny_plan()
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder, ignore_cleanup_errors=True) as place:
        store = Store(Path(place), "self-test")
        loader = _loader(store, [_stored(store, plan, number) for number in range(CASES)], plan, runtime, device)
        batch_seconds = _batch_seconds(loader)
        learner = Learner(_job(plan, loader, Path(place)), runtime)
        repeatable = _repeatable(learner, loader) if device.type == "cpu" else None
        losses, step_seconds = _train(learner, loader)
        weights = learner.weights()
    configuration = plan.configurations[NAME]
    model = Model(plan, (Stage(configuration, Ensemble(configuration.network, [("self-test", weights)], runtime)),), device)
    image, truth, grid = ball_in_shell(CASES)
    asked = time.perf_counter()
    labels = segment(model, image, grid, "self-test")
    predict_seconds = time.perf_counter() - asked
    dice = [score.dice or 0.0 for score in overlap(labels, truth, LABELS).values()]
    deviation = deviation_of(device, dtype)
    quarter = max(1, len(losses) // 4)
    return SelfTest(
        steps=len(losses),
        first_loss=_finite(float(np.mean(losses[:quarter]))),
        last_loss=_finite(float(np.mean(losses[-quarter:]))),
        dice=_finite(float(np.mean(dice))),
        step_seconds=step_seconds,
        batch_seconds=batch_seconds,
        predict_seconds=predict_seconds,
        deviation=_finite(deviation),
        tolerance=tolerance_of(device, dtype),
        repeatable=repeatable,
        seconds=time.perf_counter() - began,
    )


def tiny_plan() -> Plan:
    """A U-Net of three resolutions for cubes of 24 voxels, with the recipe of the preset ``small``."""
    preset = PRESETS["small"]
    network = NetworkSpec(
        kind="plain", ndim=3, in_channels=1, outputs=3, features=(8, 16, 32), strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3),) * 3, blocks_encoder=(1, 1, 1), blocks_decoder=(1, 1),
    )  # fmt: skip
    configuration = Configuration(
        name=NAME, spacing_mm=(1.0, 1.0, 1.0), median_shape=(float(SIDE),) * 3, patch_size=(PATCH,) * 3, batch_size=2, batch_dice=False,
        normalization=(Normalization(scheme="zscore"),), network=network, mirror_axes=(), decisions=(),
    )  # fmt: skip
    return Plan(
        made_from={}, dataset="self-test", request=PlanRequest(preset=preset), epochs=1, kind=Plan.KIND, schema_version=Plan.VERSION,
        optimizer=preset.optimizer, augmentation=preset.augmentation, loss=LossSpec(), ndim=3,
        channels=("MRI",), labels=LABELS, file_ending=".nii.gz", transpose=(0, 1, 2), configurations={NAME: configuration}, decisions=(),
    )  # fmt: skip


def ball_in_shell(number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], Grid]:
    """Image (1, z, y, x) and labels (z, y, x) of case ``number``: noise with a bright ball (1) in a less bright shell (2)."""
    rng = np.random.default_rng([77, number])
    centre = SIDE / 2 + rng.uniform(-3, 3, 3)
    radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(np.indices((SIDE,) * 3), centre, strict=True)))
    labels = np.where(radius < 6, 1, np.where(radius < 10, 2, 0)).astype(np.uint8)
    image = rng.normal(0, 0.3, (1, *labels.shape)) + np.array([0.0, 3.0, 1.5])[labels]
    return image.astype(np.float32), labels, Grid(shape_zyx=labels.shape, spacing_mm_zyx=(1.0, 1.0, 1.0))


def deviation_of(device: torch.device, dtype: torch.dtype) -> float:
    """How far a 3D convolution and the gradient of its weights on a device are from float64 on the CPU, in standard deviations."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 16, 20, 20, 20, generator=generator, dtype=torch.float64)
    weight = torch.randn(16, 16, 3, 3, 3, generator=generator, dtype=torch.float64)
    # Both ways get what is left of the numbers in the lower precision.
    image, weight = image.to(dtype).double(), weight.to(dtype).double()
    exact = _convolution(image, weight, torch.device("cpu"), torch.float64)
    found = _convolution(image.float().to(device, memory_format=memory_format(3, device)), weight.float().to(device), device, dtype)
    return max(float((got.cpu().double() - true).abs().max() / true.std()) for got, true in zip(found, exact, strict=True))


def tolerance_of(device: torch.device, dtype: torch.dtype) -> float:
    """What is usual. CUDA's float32 convolutions take TF32 where they can, which has float16's digits."""
    return TOLERANCE[torch.float16 if device.type == "cuda" and dtype == torch.float32 else dtype]


def _convolution(image: Tensor, weight: Tensor, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    weight = weight.clone().requires_grad_()
    with autocast(device, dtype if dtype != torch.float64 else torch.float32):
        result = torch.nn.functional.conv3d(image, weight, padding=1)
    (gradient,) = torch.autograd.grad(result, weight, result.detach() / GRADIENT_SCALE)
    return result.detach(), gradient


def _stored(store: Store, plan: Plan, number: int) -> StoredCase:
    image, labels, grid = ball_in_shell(number)
    prepared = prepare_case(image, grid, plan, plan.configurations[NAME], labels, f"case_{number}")
    assert prepared.labels_zyx is not None
    arrays = prepared.image_czyx, prepared.labels_zyx
    return store.write(f"case_{number}", *arrays, prepared.trace, LABELS, (), (PATCH, PATCH, PATCH))


def _loader(store: Store, cases: Sequence[StoredCase], plan: Plan, runtime: Runtime, device: torch.device) -> BatchLoader:
    entry = plan.configurations[NAME]
    sizes = patch_sizes(entry, plan.augmentation)
    return BatchLoader(
        store, cases, batch_size=entry.batch_size, loaded=sizes.loaded, patch_size=sizes.scored, workers=runtime.workers, stream=0,
        seed=runtime.seed, device=device, mirrored=sizes.mirrored,
    )  # fmt: skip


def _job(plan: Plan, loader: BatchLoader, folder: Path) -> FoldJob:
    return FoldJob(
        configuration=plan.configurations[NAME], labels=LABELS, train=loader, validation=None, layout=FoldLayout(folder), about={},
        length=Length(epochs=1, iterations=MOST_STEPS), reserve=lambda seconds: 0.0, on_epoch=lambda history, left: None,
        optimizer=plan.optimizer, loss=plan.loss, augmentation=plan.augmentation,
    )  # fmt: skip


def _batch_seconds(loader: BatchLoader) -> float:
    count = 16
    began = time.perf_counter()
    for _ in loader.batches(0, count):
        pass
    return (time.perf_counter() - began) / count


def _repeatable(learner: Learner, loader: BatchLoader) -> bool:
    """Whether the same steps from the same beginning give the same weights."""
    found = []
    for _ in range(2):
        learner.begin()
        for step, batch in enumerate(loader.batches(0, SAME_STEPS)):
            learner.step(batch, 0, step, RATE)
        found.append(learner.weights())
    learner.begin()
    return all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def _train(learner: Learner, loader: BatchLoader) -> tuple[list[float], float]:
    """Loss of each step, and seconds of a usual one. Reading a loss waits for the device."""
    losses, times = [], []
    began = time.perf_counter()
    batches = loader.batches(0, MOST_STEPS)
    for step, batch in enumerate(batches):
        asked = time.perf_counter()
        loss, _ = learner.step(batch, 0, step, RATE)
        losses.append(float(loss))
        times.append(time.perf_counter() - asked)
        if len(losses) >= FEWEST_STEPS and time.perf_counter() - began > TRAIN_SECONDS:
            break
    batches.close()
    return losses, float(np.median(times[WARM_UP:]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
