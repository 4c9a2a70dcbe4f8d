"""One case through all stages of a model: prepared, scored tile by tile, and each finished slab of scores handed to those who want it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import check_finite
from autounet.inference.model import Model, Stage
from autounet.inference.postprocess import apply_postprocessing
from autounet.inference.restore import LabelRestorer
from autounet.inference.tiles import count_tiles, overlap_tiles
from autounet.inference.window import predict_slabs
from autounet.plan import Configuration
from autounet.preprocessing.case import PreparedCase, prepare_case, target_spacing
from autounet.preprocessing.previous import previous_indices

PASS_VOXELS = {"cpu": 130_000, "cuda": 2**23}
"""Voxels of the patches in one forward pass, about. On a CPU (measured on two cores) small patches gain from company until here, and
beyond it lose by memory that is asked for anew in every layer; a GPU wants more."""
MOST_IN_A_PASS = {"cpu": 8, "cuda": 32}


class Consumer(Protocol):
    """Takes the scores of a case."""

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows of the network's grid, (outputs, rows, y, x) float32."""


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How the window is moved; nothing of it changes what the model says, but for mirroring."""

    mirror: bool = True
    """Average over mirrored copies, as the plan allows it."""
    limit_bytes: int | None = None
    """Host memory for the rows in work; see ``predict_slabs``."""
    scratch: Path | None = None
    """Folder for a temporary file beyond it; None for the system's."""


def segment(
    model: Model,
    image_czyx: npt.NDArray[np.float32],
    grid: Grid,
    name: str,
    options: WindowOptions | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[Any]:
    """The label map of an image in memory: (z, y, x) on its own grid, in the dataset's label values.

    Args:
        model: With one stage or, for a cascade, two.
        image_czyx: As read, float32, one channel per channel of the plan; it is not changed.
        grid: Its grid.
        name: The case, for messages.
        options: Of the window.
        advance: Told the number of finished tiles and of all, per stage.

    Raises:
        ImageError: The image cannot be used with this model; see ``check_image``.
        MemoryError: Even a single patch does not fit.
    """
    chosen = options if options is not None else WindowOptions()
    prepared = last_prepared(model, first_prepared(model, image_czyx, grid, name), image_czyx, name, chosen, advance)
    restorer = restorer_of(model, model.stages[-1], prepared)
    for slab in stage_slabs(model, model.stages[-1], prepared, chosen, advance):
        restorer.add(slab)
    return apply_postprocessing(restorer.labels_zyx(), model.postprocessing, grid)


def check_image(model: Model, image_czyx: npt.NDArray[np.float32], grid: Grid, name: str) -> None:
    """Refuses what the model cannot segment.

    Raises:
        ImageError: NaN or infinite voxels, nothing but zeros, or a planar image for a model of volumes.
    """
    check_finite(image_czyx, name)
    if not image_czyx.any():
        raise ImageError(f"{name}: every voxel is zero", remedy="check how the image was made")
    ndim = max(stage.configuration.ndim for stage in model.stages)
    if grid.ndim < ndim or (grid.ndim == 2 and model.plan.transpose[0] != 0):
        raise ImageError(
            f"{name}: is a planar (2D) image",
            expected=f"a volume, as in {model.plan.dataset}, which the model has learnt from",
            remedy="use a model trained on planar images",
        )


def first_prepared(
    model: Model, image_czyx: npt.NDArray[np.float32], grid: Grid, name: str, previous_zyx: npt.NDArray[Any] | None = None
) -> PreparedCase:
    """The image on the grid of the model's first stage. Raises ImageError.

    ``previous_zyx`` for a model that is the second stage of a cascade alone: label indices of the first one, on the image's grid.
    """
    check_image(model, image_czyx, grid, name)
    return prepare_case(image_czyx, grid, model.plan, model.stages[0].configuration, None, name, previous_zyx)


def last_prepared(
    model: Model,
    prepared: PreparedCase,
    image_czyx: npt.NDArray[np.float32] | None,
    name: str,
    options: WindowOptions,
    advance: Callable[[int, int], None],
) -> PreparedCase:
    """Carries a case through all stages but the last, whose input is returned; of a model of one stage that is ``prepared`` itself.

    A stage's label map, on the image's own grid, becomes a further input of the next: cropped, marked outside the nonzero mask, and
    resampled as a label map. Source: nnunetv2 2.8.1, ``inference/data_iterators.py`` and ``default_preprocessor.py``.

    Args:
        model: What to go through.
        prepared: From ``first_prepared``.
        image_czyx: The image as it was read; needed where there are several stages.
        name: The case, for messages.
        options: Of the window.
        advance: As in ``segment``.
    """
    for stage, following in zip(model.stages, model.stages[1:], strict=False):
        assert image_czyx is not None
        restorer = restorer_of(model, stage, prepared)
        for slab in stage_slabs(model, stage, prepared, options, advance):
            restorer.add(slab)
        indices = previous_indices(restorer.labels_zyx(), model.plan.labels)
        prepared = prepare_case(image_czyx, prepared.trace.grid, model.plan, following.configuration, None, name, indices)
    return prepared


def restorer_of(model: Model, stage: Stage, prepared: PreparedCase) -> LabelRestorer:
    """Takes the scores of a stage and makes the label map."""
    return LabelRestorer(prepared.trace, target_spacing(prepared.trace, stage.configuration), model.plan.labels)


def stage_slabs(
    model: Model, stage: Stage, prepared: PreparedCase, options: WindowOptions, advance: Callable[[int, int], None]
) -> Iterator[Tensor]:
    """The scores of one stage for a prepared case, slab by slab (see ``predict_slabs``).

    Raises:
        MemoryError: Even a single patch does not fit.
    """
    configuration = stage.configuration
    overlap = overlap_tiles(configuration)
    total, done = count_tiles(prepared.image_czyx.shape[1:], configuration.patch_size, overlap), 0

    def tiles_done(tiles: int) -> None:
        nonlocal done
        done += tiles
        advance(done, total)

    yield from predict_slabs(
        stage.forward,
        torch.from_numpy(prepared.image_czyx),
        configuration.patch_size,
        mirror_axes=configuration.mirror_axes if options.mirror else (),
        batch_size=patches_per_pass(configuration, model.device),
        device=model.device,
        advance=tiles_done,
        overlap=overlap,
        labels_zyx=None if prepared.previous_zyx is None else torch.from_numpy(prepared.previous_zyx),
        foreground=0 if prepared.previous_zyx is None else len(model.plan.labels.foreground_values),
        limit_bytes=options.limit_bytes,
        scratch=options.scratch,
    )


def patches_per_pass(configuration: Configuration, device: torch.device) -> int:
    """Patches, mirrored copies counted, in one forward pass."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    return min(max(PASS_VOXELS[kind] // math.prod(configuration.patch_size), 1), MOST_IN_A_PASS[kind])
