"""Predict many cases: reading and preparing, the network, and restoring and writing overlap; memory stays bounded."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from autounet.errors import AutounetError, ImageError, Problem
from autounet.geometry import Trace
from autounet.images import check_finite, read_channels, write_labels
from autounet.inference.model import Model
from autounet.inference.restore import restore_labels
from autounet.inference.window import Forward, count_tiles, overlap_tiles, predict_scores
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


@dataclass(slots=True)
class _Scored:
    """A case on its way to the writer, which takes the scores out: whoever still holds this holds little memory."""

    job: PredictionJob
    trace: Trace
    scores: torch.Tensor | None

    def take(self) -> torch.Tensor:
        """The scores, once."""
        scores, self.scores = self.scores, None
        assert scores is not None
        return scores


def predict_cases(model: Model, jobs: Sequence[PredictionJob], runtime: Runtime, mirror: bool = True) -> list[Problem]:
    """Predicts and writes every case; returns the failures, each with its own reason, after all others are done.

    Args:
        model: Of one stage.
        jobs: Cases; each output file is written atomically.
        runtime: Workers and progress; one thread reads ahead and one writes behind, whatever their number, and none with 0.
        mirror: Average over mirrored copies.
    """
    problems: list[Problem] = []
    plan, device, (stage,) = model.plan, model.device, model.stages
    configuration, forward = stage.configuration, stage.forward

    def done(job: PredictionJob, error: AutounetError | None) -> None:
        if error is not None:
            problems.append(Problem.of(job.case, error, "correct the image and run the command again"))
        advance(1, job.case)

    def scored() -> Iterator[_Scored]:
        """The middle of the chain; what fails before or in it ends here."""
        for job, prepared in map_ordered(lambda job: _prepare(job, plan, configuration), jobs, min(runtime.workers, 1), ahead=1):
            if isinstance(prepared, AutounetError):
                done(job, prepared)
                continue
            try:
                with _memory_of(job.case):
                    result = _Scored(job, prepared.trace, _scores(forward, device, configuration, prepared, mirror, advance))
            except AutounetError as error:
                done(job, error)
                continue
            yield result

    def finish(case: _Scored) -> None:
        with _memory_of(case.job.case):
            restored = restore_labels(case.take(), case.trace, target_spacing(case.trace, configuration), plan.labels)
            write_labels(case.job.output, restored, case.trace.grid, like=case.job.images[0])

    with runtime.progress("predict", len(jobs)) as advance:
        for case, result in map_ordered(finish, scored(), min(runtime.workers, 1), ahead=1):
            done(case.job, result)
    return problems


def _prepare(job: PredictionJob, plan: Plan, configuration: Configuration) -> PreparedCase:
    """Reads a case and brings it to the network's grid. Raises ImageError."""
    with _memory_of(job.case):
        image, grid = read_channels(job.images, len(plan.channels))
        check_finite(image, job.case)
        if not image.any():
            raise ImageError(f"{job.images[0]}: every voxel is zero", remedy="check how the image was made")
        if grid.ndim < configuration.ndim or (grid.ndim == 2 and plan.transpose[0] != 0):
            raise ImageError(
                f"{job.images[0]}: is a planar (2D) image",
                expected=f"a volume, as in {plan.dataset}, which the model has learnt from",
                remedy="use a model trained on planar images",
            )
        return prepare_case(image, grid, plan, configuration, None, job.case)


@contextmanager
def _memory_of(case: str) -> Iterator[None]:
    """Makes running out of memory the failure of one case, not of all."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "can't allocate memory" not in str(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise ImageError(
            f"{case}: not enough memory",
            found=str(error).split("\n")[0] or None,
            remedy="check the spacing in its header; if that is right, predict it on a machine with more memory, or with --device cpu",
        ) from None


def validation_seconds(
    shapes: Sequence[tuple[int, ...]], configuration: Configuration, forward_seconds: float, mirror: bool = True
) -> float:
    """Estimate of the time to predict prepared cases of these shapes, from one patch's forward pass."""
    copies = 2 ** len(configuration.mirror_axes) if mirror else 1
    overlap = overlap_tiles(configuration)
    tiles = sum(count_tiles(shape, configuration.patch_size, overlap) for shape in shapes)
    return tiles * copies * forward_seconds


def _scores(
    forward: Forward, device: torch.device, configuration: Configuration, prepared: PreparedCase, mirror: bool, advance: Advance
) -> torch.Tensor:
    overlap = overlap_tiles(configuration)
    total = count_tiles(prepared.image_czyx.shape[1:], configuration.patch_size, overlap)
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
            mirror_axes=configuration.mirror_axes if mirror else (),
            batch_size=TILE_BATCH if device.type == "cpu" else TILE_BATCH_GPU,
            device=device,
            advance=tiles_done,
            overlap=overlap,
        )
