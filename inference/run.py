"""Predict many cases: reading and preparing, the network, and restoring and writing overlap; memory stays bounded."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from autounet.errors import AutounetError, ImageError, Problem
from autounet.images import check_finite, read_channels, write_labels
from autounet.inference.restore import restore_labels
from autounet.inference.window import Forward, count_tiles, predict_scores
from autounet.parallel import map_ordered
from autounet.plan import Configuration, Plan
from autounet.preprocessing.case import PreparedCase, prepare_case, target_spacing
from autounet.runtime import Advance, Runtime

log = logging.getLogger(__name__)

TILE_BATCH = 2
"""Tiles in one forward pass on the CPU; GPUs take more."""
TILE_BATCH_GPU = 4


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """One case to predict."""

    case: str
    images: tuple[Path, ...]
    output: Path


def predict_cases(
    forward: Forward,
    device: torch.device,
    plan: Plan,
    configuration: Configuration,
    jobs: Sequence[PredictionJob],
    runtime: Runtime,
    mirror: bool = True,
    on_done: Callable[[PredictionJob], None] = lambda job: None,
) -> list[Problem]:
    """Predicts and writes every case; returns the failures, each with its own reason, after all others are done.

    Args:
        forward: The network or ensemble.
        device: Where it computes.
        plan: Its plan.
        configuration: Its configuration.
        jobs: Cases; each output file is written atomically.
        runtime: Workers and progress.
        mirror: Average over mirrored copies.
        on_done: Called for each written case.
    """
    problems: list[Problem] = []

    def fail(job: PredictionJob, error: AutounetError) -> None:
        problems.append(Problem(job.case, str(error), "correct the image and run the command again"))

    def prepare(job: PredictionJob) -> PreparedCase:
        image, grid = read_channels(job.images, len(plan.channels))
        check_finite(image, job.case)
        if grid.ndim < configuration.ndim:
            raise ImageError(
                f"{job.images[0]}: is a planar (2D) image",
                expected=f"a volume, as in {plan.dataset}, which the model has learnt from",
                remedy="use a model trained on planar images",
            )
        return prepare_case(image, grid, plan, configuration, None, job.case)

    def finish(job: PredictionJob, prepared: PreparedCase, scores: torch.Tensor) -> None:
        target = target_spacing(prepared.trace, configuration)
        restored = restore_labels(scores, prepared.trace, target, plan.labels)
        write_labels(job.output, restored, prepared.trace.grid, like=job.images[0])
        on_done(job)

    with runtime.progress("predict", len(jobs)) as advance, ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        pending: list[tuple[PredictionJob, Future[None]]] = []

        def collect(keep: int) -> Iterator[tuple[PredictionJob, Future[None]]]:
            while len(pending) > keep:
                yield pending.pop(0)

        def settle(keep: int) -> None:
            for job, future in collect(keep):
                try:
                    future.result()
                except AutounetError as error:
                    fail(job, error)
                advance(1, job.case)

        for job, prepared in map_ordered(prepare, jobs, min(runtime.workers, 1), ahead=1):
            if isinstance(prepared, AutounetError):
                fail(job, prepared)
                advance(1, job.case)
                continue
            scores = _scores(forward, device, configuration, prepared, mirror, advance)
            pending.append((job, writer.submit(finish, job, prepared, scores)))
            settle(1)
        settle(0)
    return problems


def validation_seconds(
    shapes: Sequence[tuple[int, ...]], configuration: Configuration, forward_seconds: float, mirror: bool = True
) -> float:
    """Estimate of the time to predict prepared cases of these shapes, from one patch's forward pass."""
    copies = 2**configuration.ndim if mirror else 1
    tiles = sum(count_tiles(shape, configuration.patch_size) for shape in shapes)
    return tiles * copies * forward_seconds


def _scores(
    forward: Forward, device: torch.device, configuration: Configuration, prepared: PreparedCase, mirror: bool, advance: Advance
) -> torch.Tensor:
    total = count_tiles(prepared.image_czyx.shape[1:], configuration.patch_size)
    done = 0

    def tiles_done(tiles: int) -> None:
        nonlocal done
        done += tiles
        if total > TILE_BATCH_GPU:
            advance(0, f"tile {done} of {total}")

    with torch.inference_mode():
        return predict_scores(
            forward,
            torch.from_numpy(prepared.image_czyx),
            configuration.patch_size,
            mirror_axes=tuple(range(configuration.ndim)) if mirror else (),
            batch_size=TILE_BATCH if device.type == "cpu" else TILE_BATCH_GPU,
            device=device,
            advance=tiles_done,
        )
